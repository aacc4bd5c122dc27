"""Sends a model as a new version: from disk to the wire, never whole in memory."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pelton.client.described_versions import Published, published_from_json
from pelton.client.http1 import Reply
from pelton.client.replies import read_json
from pelton.errors import Code, ConnectionFailed, InvalidRequest, from_code
from pelton.wire.limits import Limits

PUSH_TIMEOUT_S = 3600.0
"""For a push whose caller says no other time: models are large, and gates take theirs."""

RECEIVE = "receive"
"""The first gate: passed while the bytes are sent."""

_CHUNK_BYTES = 1 << 20
_EVENTS = "text/event-stream"
_DATA = b"data:"


class PushProgress(NamedTuple):
    """How far a push has come.

    Attributes:
        gate: which one the version has come to: `receive` while it is sent, then those that the
            server tells: `check`, `load`, `warm`, `golden`, `swap`.
        sent_bytes: how much has been sent.
        size_bytes: how much there is to send.
    """

    gate: str
    sent_bytes: int
    size_bytes: int


OnProgress = Callable[[PushProgress], None]


@dataclass(frozen=True, slots=True)
class Cargo:
    """What is pushed.

    Attributes:
        size_bytes: how much it is.
        digest: SHA-256 of it, as `sha256:HEX`.
        chunks: gives it out, from its beginning at each call.
    """

    size_bytes: int
    digest: str
    chunks: Callable[[], Iterator[bytes]]


def load_cargo(path: Path) -> Cargo:
    """Look at what shall be pushed, and read it once for its digest.

    Args:
        path: the folder of one version of a model, a model's single file, or a `.tar` of either,
            which goes as it is.

    Raises:
        InvalidRequest: there is nothing there, or nothing that a server would take.
    """
    if path.suffix.lower() == ".tar" and path.is_file():
        try:
            size_bytes = path.stat().st_size
        except OSError as error:
            raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error
        return Cargo(size_bytes, _digest(path), functools.partial(_chunks_of, path))
    from pelton.repository.packing import pack

    package = pack(path)
    return Cargo(package.size_bytes, package.digest(), package.chunks)


def _chunks_of(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise InvalidRequest(f"{path} cannot be read: {error.strerror}") from error


def _digest(path: Path) -> str:
    sha256 = hashlib.sha256()
    for chunk in _chunks_of(path):
        sha256.update(chunk)
    return "sha256:" + sha256.hexdigest()


class Push:
    """One push under way: gives out the bytes, listens to the answer, and tells of both."""

    def __init__(self, cargo: Cargo, on_progress: OnProgress | None) -> None:
        """Begin before the first byte.

        Args:
            cargo: what is pushed.
            on_progress: told while the bytes leave, and of each gate.
        """
        self._cargo = cargo
        self._on_progress = on_progress
        self._heard = 0  # bytes of the answer that have been looked at

    def body(self) -> Iterator[bytes]:
        """Give out the bytes; a further try begins again.

        Raises:
            InvalidRequest: the files cannot be read, or are shorter than they were.
        """
        self._heard = sent_bytes = 0
        self._tell(RECEIVE, 0)
        for chunk in self._cargo.chunks():
            # What a file has grown by is left out; the digest tells whether the rest is the same.
            part = chunk[: self._cargo.size_bytes - sent_bytes]
            if not part:
                return
            sent_bytes += len(part)
            yield part
            self._tell(RECEIVE, sent_bytes)
        if sent_bytes < self._cargo.size_bytes:
            raise InvalidRequest("what is pushed changed while it was sent; try again")

    def hear(self, so_far: bytes | bytearray) -> None:
        """Look at what has come of the answer's body; called whenever there is more."""
        end = so_far.rfind(b"\n\n") + 2
        if end <= max(self._heard, 1):
            return
        for event in _events(bytes(so_far[self._heard : end])):
            gate = event.get("gate")
            if isinstance(gate, str):
                self._tell(gate, self._cargo.size_bytes)
        self._heard = end

    def read(self, reply: Reply, limits: Limits) -> Published:
        """Read the whole answer.

        Raises:
            PeltonError: the version was refused; the message says at which gate and why.
            ConnectionFailed: the answer cannot be read.
        """
        kind = reply.headers.get("content-type", "").partition(";")[0].strip().lower()
        if reply.status != 200 or kind != _EVENTS:
            return published_from_json(read_json(reply, limits))
        last = (_events(bytes(reply.body)) or [{}])[-1]
        if isinstance(message := last.get("error"), str):
            raise from_code(_code(last.get("code")), message)
        if "model" not in last:
            raise ConnectionFailed(
                "the server's answer ended before it told whether the version was published; "
                "`pelton models` shows it"
            )
        return published_from_json(last)

    def _tell(self, gate: str, sent_bytes: int) -> None:
        if self._on_progress is not None:
            self._on_progress(PushProgress(gate, sent_bytes, self._cargo.size_bytes))


def _events(text: bytes) -> list[dict[str, object]]:
    """Read server-sent events that are JSON objects on a line each; comments are passed over."""
    found = []
    for line in text.splitlines():
        if line.startswith(_DATA):
            try:
                event = json.loads(line[len(_DATA) :])
            except ValueError as problem:
                raise ConnectionFailed(
                    "the server's answer cannot be read: an event is no JSON"
                ) from problem
            if isinstance(event, dict):
                found.append(event)
    return found


def _code(said: object) -> Code:
    try:
        return Code(str(said))
    except ValueError:
        return Code.INTERNAL
