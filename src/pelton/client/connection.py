"""One connection to a server: a request out of it, a reply into it, nothing copied on the way.

A body leaves from the caller's own memory (`sendmsg` over all its pieces) and arrives in its
final memory (`recv_into`), so between an array and the kernel there is no copy.
"""

from __future__ import annotations

import select
import time
from collections.abc import Iterator

from pelton.client.failure import Again, NoReply
from pelton.client.http1 import MAX_HEAD_BYTES, BadReply, Hear, Reply, ReplyReader, Request
from pelton.client.stream import YIELD, Steps, Stream, Wait
from pelton.errors import ConnectionFailed, DeadlineExceeded

_MAX_PIECES = 1024
"""Buffers that one `sendmsg` takes: IOV_MAX of Linux and macOS."""


class Outgoing:
    """The bytes of a request that have not left yet."""

    def __init__(self, request: Request) -> None:
        head = request.head if request.sign is None else request.sign()
        self._pieces = [piece for piece in (head, *request.chunks) if piece]
        self._size = sum(map(len, self._pieces))
        self._stream = None if request.stream is None else request.stream()

    @property
    def finished(self) -> bool:
        """Whether the kernel has taken everything."""
        return not self._pieces

    def pieces(self) -> list[bytes | memoryview]:
        """Return what is to be sent next: the request's own memory."""
        return self._pieces[:_MAX_PIECES]

    def left(self, count: int) -> None:
        """Take note that the first `count` bytes have left."""
        if count == self._size:
            self._pieces.clear()
            if self._stream is not None:
                self._read_on(self._stream)
            return
        self._size -= count
        whole = 0
        for piece in self._pieces:
            if count < len(piece):
                break
            count -= len(piece)
            whole += 1
        del self._pieces[:whole]
        if count:
            self._pieces[0] = memoryview(self._pieces[0])[count:]

    def _read_on(self, stream: Iterator[bytes]) -> None:
        """Take the next chunk of a body that is not in memory."""
        chunk = next(stream, None)
        if chunk is None:
            self._stream = None
        else:
            self._pieces.append(chunk)
            self._size = len(chunk)


class Connection:
    """An open connection, used by one request at a time.

    Attributes:
        reusable: whether another request may follow.
        last_used_s: when the last reply was complete, on `time.monotonic`.
    """

    def __init__(self, stream: Stream, server: str) -> None:
        """Take over a connected stream.

        Args:
            stream: closed by `close`.
            server: how errors name the other side.
        """
        self.reusable = False
        self.last_used_s = time.monotonic()
        self._stream = stream
        self._server = server
        self._scratch = bytearray(MAX_HEAD_BYTES)
        self._unasked = select.poll()
        self._unasked.register(stream.fileno(), select.POLLIN)

    def is_quiet(self) -> bool:
        """Say whether the server has neither hung up nor spoken; what it said waits to be read."""
        return not self._unasked.poll(0)

    def close(self) -> None:
        """Hang up."""
        self.reusable = False
        self._stream.close()

    def exchange(self, request: Request, max_reply_bytes: int) -> Steps[Reply]:
        """Send a request and receive its reply.

        Raises:
            NoReply: time ran out, the server hung up, or what it sent is no reply.
        """
        self.reusable = False
        outgoing = Outgoing(request)
        reader = ReplyReader(self._scratch, max_reply_bytes)
        try:
            yield from self._send(outgoing, reader)
            yield from self._receive(reader, request.hear)
        except TimeoutError:
            raise self._late(outgoing, reader) from None
        except OSError as cause:
            raise self._lost(outgoing, reader) from cause
        except BadReply as problem:
            error = ConnectionFailed(f"the answer of {self._server} cannot be used: {problem}")
            raise NoReply(error, Again.POINTLESS) from None
        self.reusable = reader.keep_alive and outgoing.finished
        self.last_used_s = time.monotonic()
        return reader.reply

    def _send(self, outgoing: Outgoing, reader: ReplyReader) -> Steps[None]:
        """Send until everything has left, or an answer comes before that.

        A server that refuses a request may answer and hang up before it has taken all of it
        (RFC 9112, section 9.5); its answer says more than the broken connection.
        """
        moved = 0
        while not (outgoing.finished or reader.answered):
            try:
                sent = self._stream.send(outgoing.pieces())
            except (BrokenPipeError, ConnectionResetError):
                return
            if isinstance(sent, Wait):
                if self.is_quiet() or isinstance(self._receive_some(reader), Wait):
                    yield sent._replace(readable=True)
                continue
            outgoing.left(sent)
            moved += sent
            if moved >= self._stream.turn_bytes and not outgoing.finished:
                moved = 0
                yield YIELD

    def _receive(self, reader: ReplyReader, hear: Hear | None) -> Steps[None]:
        moved = 0
        while not reader.done:
            received = self._receive_some(reader)
            if isinstance(received, Wait):
                yield received
                continue
            if hear is not None:
                hear(reader.body_so_far())
            moved += received
            if moved >= self._stream.turn_bytes and not reader.done:
                moved = 0
                yield YIELD

    def _receive_some(self, reader: ReplyReader) -> int | Wait:
        received = self._stream.receive(reader.buffer())
        if isinstance(received, Wait):
            return received
        if received:
            reader.received(received)
        elif not reader.ended():
            raise ConnectionResetError
        return received

    def _late(self, outgoing: Outgoing, reader: ReplyReader) -> NoReply:
        if not outgoing.finished:
            phase, again = "sending the request to", Again.SAFE
        elif not reader.started:
            phase, again = "waiting for the answer of", Again.IF_IDEMPOTENT
        else:
            phase, again = "receiving the answer of", Again.IF_IDEMPOTENT
        return NoReply(DeadlineExceeded(f"time ran out while {phase} {self._server}"), again)

    def _lost(self, outgoing: Outgoing, reader: ReplyReader) -> NoReply:
        if not outgoing.finished:
            phase, again = "while the request was being sent", Again.SAFE
        elif not reader.started:
            phase, again = "before it answered", Again.IF_IDEMPOTENT
        else:
            phase, again = "in the middle of its answer", Again.IF_IDEMPOTENT
        return NoReply(ConnectionFailed(f"{self._server} hung up {phase}"), again)
