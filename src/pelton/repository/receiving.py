"""An upload while it comes in: counted, hashed, bounded, and gone without a trace if it breaks off.

All of it blocks, so it is called in threads.
"""

from __future__ import annotations

import hashlib
import os
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from pelton.errors import Code, InvalidRequest
from pelton.repository.durable import disk_errors_told, write_all
from pelton.repository.names import shown

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Upload:
    """An upload that came in whole.

    Attributes:
        path: where it lies.
        size_bytes: its size.
        digest: of all its bytes, as `sha256:HEX`.
    """

    path: Path
    size_bytes: int
    digest: str


class Incoming:
    """The file into which one upload is received.

    As a context it removes the file at its end, whatever happened; so the upload is put to use
    within the context.

    Args:
        path: the file, which must not be there.
        max_bytes: the most that is taken.

    Raises:
        Unavailable: the disk is full.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._sha256 = hashlib.sha256()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        with disk_errors_told("receiving the upload"):
            self._file = os.fdopen(os.open(path, flags, 0o600), "wb", buffering=0)

    def __enter__(self) -> Incoming:
        """Return itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove the file."""
        self.abort()

    def write(self, chunk: bytes | memoryview) -> None:
        """Take the next bytes.

        Raises:
            InvalidRequest: it is more than may come; its code is `TOO_LARGE`.
            Unavailable: the disk is full; its code is `DISK_FULL`.
        """
        size_bytes = self._size_bytes + len(chunk)
        if size_bytes > self._max_bytes:
            self.abort()
            raise InvalidRequest(
                f"the upload has more than the {self._max_bytes} bytes that this server takes",
                Code.TOO_LARGE,
            )
        try:
            with disk_errors_told("receiving the upload"):
                write_all(self._file.fileno(), chunk)
        except BaseException:
            self.abort()
            raise
        self._sha256.update(chunk)
        self._size_bytes = size_bytes

    def finish(self, expected_digest: str = "") -> Upload:
        """Say that all of it came.

        Args:
            expected_digest: `sha256:HEX` of the upload as its sender has it; empty if unknown.

        Raises:
            InvalidRequest: nothing came, the digest is none, or it is that of other bytes.
            Unavailable: the disk is full.
        """
        digest = "sha256:" + self._sha256.hexdigest()
        try:
            with disk_errors_told("receiving the upload"):
                self._file.close()
            self._check(digest, expected_digest.strip().lower())
        except BaseException:
            self.abort()
            raise
        return Upload(self._path, self._size_bytes, digest)

    def _check(self, digest: str, expected: str) -> None:
        if not self._size_bytes:
            raise InvalidRequest("the upload is empty; send the archive as the body")
        if not expected:
            return
        if not _DIGEST.fullmatch(expected):
            raise InvalidRequest(
                f"the digest {shown(expected)} is none; write sha256: and 64 hexadecimal digits"
            )
        if digest != expected:
            raise InvalidRequest(
                f"what came has the digest {digest}, not {expected}; it was changed on its way, "
                "send it again"
            )

    def abort(self) -> None:
        """Remove the file; may be called again. What cannot be removed now is swept later."""
        with suppress(OSError):
            self._file.close()
        with suppress(OSError):
            self._path.unlink()
