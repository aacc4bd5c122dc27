"""Writes the answers of one connection, and has them paid for that its client is slow to take."""

from __future__ import annotations

import asyncio

from uvicorn.server import ServerState

from pelton.errors import PeltonError
from pelton.servers.gateway import Gateway
from pelton.servers.http_reply import header_lines, response_pieces
from pelton.servers.memory_budget import SMALL_BYTES
from pelton.servers.refusals import no_memory_for_answer
from pelton.servers.replies import Reply, error_reply, new_request_id, request_id

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

LINGER_S = 2.0
"""How long a refused client is listened to: it reads why before the reset."""

GOODBYE_S = 0.5
"""How long the other side of an idle connection of TLS may take to agree that it ends."""

PROBE_S = 0.1
"""Between two probes of a client that may be gone; as coarse as all deadlines."""


class AnswerWriter:
    """The way out of one connection.

    Attributes:
        paused: whether the client has yet to take some of what was written.
    """

    __slots__ = (
        "_budget",
        "_of_all",
        "_of_all_lines",
        "_refused",
        "_server_state",
        "_tls",
        "_transport",
        "_untaken_bytes",
        "paused",
    )

    def __init__(
        self, transport: asyncio.Transport, gateway: Gateway, server_state: ServerState
    ) -> None:
        self.paused = False
        self._transport = transport
        self._budget = gateway.budget
        self._refused = gateway.refused
        self._server_state = server_state
        self._untaken_bytes = 0
        # What every response carries, such as the date: the server makes a new list each second.
        self._of_all: list[tuple[bytes, bytes]] | None = None
        self._of_all_lines = b""
        self._tls = transport.get_extra_info("sslcontext") is not None

    def bound_buffer(self) -> None:
        """Have the transport tell when there is anything that the client has not taken.

        So an answer counts as taken only when the kernel has all of it: the last byte keeps as
        much memory as the first. It may call back at once.
        """
        # With TLS the bound itself counts as beyond it.
        self._transport.set_write_buffer_limits(high=1 if self._tls else 0)

    def write(self, reply: Reply, keep_alive: bool, sent_id: str | None = None) -> None:
        """Write an answer; one that is too much for the memory is replaced by a refusal.

        Args:
            reply: the answer.
            keep_alive: whether the connection goes on.
            sent_id: the caller's own id of the request, which a refusal repeats.
        """
        if reply.size > SMALL_BYTES and not self._budget.answer_fits(reply.size):
            reply = error_reply(no_memory_for_answer(), sent_id or new_request_id())
        if reply.status > 400:
            self._refused.note(reply.status)
        of_all = self._server_state.default_headers
        if of_all is not self._of_all:
            self._of_all, self._of_all_lines = of_all, header_lines(of_all)
        pieces = response_pieces(reply, keep_alive, self._of_all_lines)
        if self._tls and reply.size > SMALL_BYTES:
            self._write_in_two(pieces)
        else:
            self._transport.writelines(pieces)
        if self.paused:
            self._charge(reply.size)

    def tell(
        self, error: PeltonError, keep_alive: bool = False, sent_id: str | None = None
    ) -> None:
        """Write an error as the answer; `sent_id` is the id that the caller sent, if it did."""
        self.write(error_reply(error, request_id(sent_id)), keep_alive)

    def end(self) -> None:
        """Say no more; what the client still says may be read as far as the transport can."""
        if self._transport.can_write_eof():
            self._transport.write_eof()
        else:
            self._transport.close()

    def ask_for_body(self) -> None:
        """Tell a client that waits for it to go on with the body."""
        self._transport.write(_CONTINUE)

    def probe(self) -> None:
        """Have the transport fail if the client, which sends no more, is gone altogether.

        One that closed looks like one that has said all and listens, until something is sent:
        the kernel of the first refuses it, and the next write fails. The second passes over an
        interim response, as any client of HTTP/1.1 must (RFC 9110 15.2).
        """
        self._transport.write(_CONTINUE)

    def pause(self, others: bool) -> None:
        """The client takes what is written more slowly than it comes.

        Args:
            others: whether it was written by somebody else, whose answers are charged here.
        """
        self.paused = True
        if others:
            self._charge(self._transport.get_write_buffer_size())

    def resume(self) -> None:
        """The client has taken everything, or never will."""
        self.paused = False
        if self._untaken_bytes:
            self._budget.answer_gone(self._untaken_bytes)
            self._untaken_bytes = 0

    def _write_in_two(self, pieces: list[bytes | memoryview]) -> None:
        """Write an answer such that the transport tells when it is taken.

        A transport of TLS hands on all that it is given at once, however much that is. Only what
        comes when that was too much stays with it: so the last byte comes by itself.
        """
        *first, last = [piece for piece in pieces if len(piece)]
        self._transport.writelines([*first, last[:-1]] if len(last) > 1 else first)
        self._transport.write(last[-1:])

    def _charge(self, size: int) -> None:
        self._budget.answer_waits(size)
        self._untaken_bytes += size
