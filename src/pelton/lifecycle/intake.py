"""Takes a new version in: received within its bounds, checked, staged to be loaded from there."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterator

from pelton.errors import Conflict, InvalidRequest, LoadFailed, PeltonError
from pelton.lifecycle.gates import Gate, Refused, at_gate
from pelton.lifecycle.repository_view import check_digest
from pelton.lifecycle.unhurried import Offload, unhurried
from pelton.lifecycle.version import Source
from pelton.lifecycle.version_records import VersionRecords
from pelton.repository.names import MAX_VERSION
from pelton.repository.publishing import Publisher, Staged
from pelton.repository.receiving import Incoming, Upload
from pelton.servers.model_control import UploadRequest
from pelton.specs import ModelSpec

logger = logging.getLogger("pelton.lifecycle")

WRITE_BYTES = 1 << 20
"""So much is gathered before a thread writes it."""

_DEVICE = re.compile(r"cpu|auto|cuda(:[0-9]{1,3})?")


class Intake:
    """Makes staged versions of uploads."""

    def __init__(
        self,
        publisher: Publisher,
        records: VersionRecords,
        spec_of: Callable[[Staged], ModelSpec],
        max_bytes: int,
        offload: Offload = unhurried,
    ) -> None:
        """Make one.

        Args:
            publisher: has the disk.
            records: has the numbers.
            spec_of: tells how a staged version would be loaded; blocks.
            max_bytes: the most that one upload may have.
            offload: calls what blocks.
        """
        self._publisher = publisher
        self._records = records
        self._spec_of = spec_of
        self._max_bytes = max_bytes
        self._offload = offload
        self._numbers: dict[tuple[str, int], UploadRequest] = {}  # whose each one is just now

    def check_free(self, name: str, version: int | None) -> None:
        """Check what can be told before the bytes have come.

        Raises:
            InvalidRequest: name or version is none.
            Conflict: the version is there already, or is being published.
        """
        self._publisher.check_free(name, version or MAX_VERSION)
        if version is not None and (name, version) in self._numbers:
            raise Conflict(
                f"{name} is getting a version {version} just now; take another number or leave it "
                "out"
            )

    @contextlib.contextmanager
    def numbered(self, name: str, upload: UploadRequest) -> Iterator[None]:
        """Have an upload's number be its own, from before its bytes until it answers or is refused.

        Two that want the same one would both get through to the last gate otherwise.

        Raises:
            InvalidRequest: name or version is none.
            Conflict: the version is there already, or is being published.
        """
        self.check_free(name, upload.version)
        if upload.version is not None:
            self._numbers[name, upload.version] = upload
        try:
            yield
        finally:
            self._numbers = {key: one for key, one in self._numbers.items() if one is not upload}

    async def take(
        self,
        name: str,
        upload: UploadRequest,
        chunks: AsyncIterator[bytes],
        above: int,
        actor: str,
        progress: Callable[[str], None],
    ) -> Source:
        """Receive a version and check it; to be called while it is `numbered`.

        Args:
            name: the model's name.
            upload: what its sender says of it.
            chunks: its bytes; each is asked for once those before are written.
            above: the largest version that is there.
            actor: who sends it, for the record.
            progress: told of each gate.

        Returns:
            The version, staged.

        Raises:
            Refused: it is not as it must be; nothing of it is left. Its numbers hold the version,
                if it had got so far as to have one.
        """
        opened: list[Incoming] = []
        staged: list[Staged] = []

        try:
            progress(Gate.RECEIVE)
            with at_gate(Gate.RECEIVE):
                incoming = await self._offload(self._open, name, upload, opened)
                received = await self._received(incoming, chunks, upload.digest)
            progress(Gate.CHECK)
            with at_gate(Gate.CHECK):
                number = await self._number(name, upload, above)
                await self._offload(self._stage, received, name, number, upload, staged)
                spec = await self._offload(self._checked, staged[0], upload.device)
        except BaseException as error:
            if staged:
                await self._drop(staged[0], actor, error)
            raise
        finally:
            for one in opened:
                await self._offload(one.abort)
        return Source(spec, staged[0])

    # What these make goes into a list, to be cleared away where the caller was cancelled meanwhile.

    def _open(self, name: str, upload: UploadRequest, opened: list[Incoming]) -> Incoming:
        if upload.version is not None:
            self._records.check_unused(name, upload.version)
        opened.append(self._publisher.receive(self._max_bytes))
        return opened[0]

    def _stage(
        self, received: Upload, name: str, number: int, upload: UploadRequest, staged: list[Staged]
    ) -> None:
        self._publisher.check_free(name, number)
        staged.append(self._publisher.stage(received, name, number, upload.file_name))

    def _checked(self, staged: Staged, device: str) -> ModelSpec:
        return _checked(self._spec_of(staged), staged, device)

    async def _number(self, name: str, upload: UploadRequest, above: int) -> int:
        """Return the upload's number; one that is counted up to may be wanted by another upload."""
        while True:
            number = await self._offload(self._records.new_number, name, upload.version, above)
            if self._numbers.setdefault((name, number), upload) is upload:
                return number

    async def _received(
        self, incoming: Incoming, chunks: AsyncIterator[bytes], digest: str
    ) -> Upload:
        gathered = bytearray()
        async for chunk in chunks:
            gathered += chunk
            if len(gathered) >= WRITE_BYTES:
                await self._offload(incoming.write, bytes(gathered))
                gathered.clear()
        return await self._offload(_finish, incoming, bytes(gathered), digest)

    async def _drop(self, staged: Staged, actor: str, error: BaseException) -> None:
        if isinstance(error, PeltonError):
            await self.refused(staged, actor, error.message)
        if isinstance(error, Refused):
            error.numbers["version"] = staged.version
        try:
            await self._offload(self._publisher.discard, staged)
        except PeltonError as trouble:
            logger.warning("version %d of %s: %s", staged.version, staged.model, trouble.message)

    async def refused(self, staged: Staged, actor: str, reason: str) -> None:
        """Put on record that a version was refused."""
        try:
            await self._offload(self._records.refused, staged, actor, reason)
        except PeltonError as error:
            logger.error(
                "model %s: that version %d was refused is not on record: %s",
                staged.model,
                staged.version,
                error.message,
            )


def _finish(incoming: Incoming, rest: bytes, digest: str) -> Upload:
    incoming.write(rest)
    return incoming.finish(digest)


def _checked(spec: ModelSpec, staged: Staged, device: str) -> ModelSpec:
    """Return how a staged version is to be loaded, unless it is not what it should be."""
    check_digest(spec, staged.manifest.digest)
    if spec.policy.only and spec.version not in spec.policy.only:
        listed = ", ".join(map(str, spec.policy.only))
        raise LoadFailed(
            f"the version policy of {spec.name} names {listed:.200}, so version {spec.version} "
            "would not be served; change `policy` in its model.toml, or `version_policy` in its "
            "config.pbtxt"
        )
    spec = dataclasses.replace(spec, digest=staged.manifest.digest)
    if not device:
        return spec
    if not _DEVICE.fullmatch(device):
        raise InvalidRequest(f"the device {device!r:.40} must be cpu, auto, cuda or cuda:N")
    return dataclasses.replace(spec, options={**spec.options, "device": device})
