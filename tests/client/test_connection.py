"""One exchange, over a stream that does as it is told."""

from __future__ import annotations

import select
import socket
from collections import deque

import numpy as np
import pytest

from client.scripted_peer import reply
from pelton.client.connection import Connection, Outgoing
from pelton.client.failure import Again, NoReply
from pelton.client.http1 import Request
from pelton.client.stream import TURN_BYTES, YIELD, PatientStream, Wait
from pelton.errors import ConnectionFailed, DeadlineExceeded


class FakeStream:
    """Takes and gives what the test says: numbers of bytes, bytes, errors, or None for "wait"."""

    turn_bytes = TURN_BYTES

    def __init__(self, sends: list, receives: list) -> None:
        self._socket, self._other_end = socket.socketpair()
        self._sends = iter(sends)
        self._receives = deque(receives)
        self.sent = b""
        self.closed = False
        self._show_whether_readable()

    def fileno(self) -> int:
        return self._socket.fileno()

    def send(self, pieces) -> int | Wait:
        told = next(self._sends)
        if told is None:
            return Wait(self.fileno(), readable=False, writable=True)
        if isinstance(told, OSError):
            raise told
        self.sent += b"".join(pieces)[:told]
        return min(told, sum(map(len, pieces)))

    def receive(self, buffer) -> int | Wait:
        told = self._receives.popleft()
        self._show_whether_readable()
        if told is None:
            return Wait(self.fileno(), readable=True, writable=False)
        if isinstance(told, OSError):
            raise told
        buffer[: len(told)] = told
        return len(told)

    def close(self) -> None:
        self.closed = True
        self._socket.close()
        self._other_end.close()

    def _show_whether_readable(self) -> None:
        """Let `poll` see what `receive` will say next."""
        ready, _, _ = select.select([self._socket], [], [], 0)
        if ready:
            self._socket.recv(1)
        if self._receives and self._receives[0] is not None:
            self._other_end.send(b"!")


@pytest.fixture
def exchange():
    """Start an exchange of the request `head` + `body` over a fake stream."""
    made = []

    def start(sends: list, receives: list):
        stream = FakeStream(sends, receives)
        connection = Connection(stream, "http://robot")
        made.append(connection)
        request = Request(b"head", (memoryview(b"body"),))
        return connection, stream, connection.exchange(request, 1000)

    yield start
    for connection in made:
        connection.close()


def finish(steps):
    """Return the reply and the waits before it."""
    waits = []
    while True:
        try:
            waits.append(next(steps))
        except StopIteration as end:
            return end.value, waits


OK = reply(b"yes")


def test_what_is_not_taken_at_once_is_sent_later(exchange):
    connection, stream, steps = exchange([3, None, 2, 3], [None, OK])
    answer, waits = finish(steps)
    assert stream.sent == b"headbody"
    assert bytes(answer.body) == b"yes"
    assert connection.reusable
    # While sending, an early answer is waited for as well; afterwards only the answer is.
    fd = stream.fileno()
    assert waits == [
        Wait(fd, readable=True, writable=True),
        Wait(fd, readable=True, writable=False),
    ]


def test_an_early_answer_ends_the_sending(exchange):
    connection, stream, steps = exchange([3, None], [OK])
    answer, waits = finish(steps)
    assert bytes(answer.body) == b"yes"
    assert stream.sent == b"hea"
    assert waits == []
    assert not connection.reusable


def test_an_interim_head_does_not_end_the_sending(exchange):
    interim = b"HTTP/1.1 102 Processing\r\n\r\n"
    connection, stream, steps = exchange([3, None, None, 5], [interim, None, OK])
    _, waits = finish(steps)
    assert stream.sent == b"headbody"
    assert [wait.writable for wait in waits] == [True, False]
    assert connection.reusable


def test_what_came_before_the_hang_up_is_read(exchange):
    connection, _, steps = exchange([3, BrokenPipeError()], [OK[:9], OK[9:]])
    answer, _ = finish(steps)
    assert bytes(answer.body) == b"yes"
    assert not connection.reusable


@pytest.mark.parametrize(
    ("sends", "receives", "phase", "again"),
    [
        ([3, BrokenPipeError()], [b""], "while the request was being sent", Again.SAFE),
        ([3, None], [ConnectionResetError()], "while the request was being sent", Again.SAFE),
        ([3, TimeoutError()], [], "time ran out while sending", Again.SAFE),
        ([8], [b""], "before it answered", Again.IF_IDEMPOTENT),
        ([8], [ConnectionResetError()], "before it answered", Again.IF_IDEMPOTENT),
        ([8], [OK[:9], b""], "in the middle of its answer", Again.IF_IDEMPOTENT),
        ([8], [b"what?\r\n\r\n"], "cannot be used", Again.POINTLESS),
    ],
)
def test_whether_it_is_safe_to_try_again(exchange, sends, receives, phase, again):
    connection, _, steps = exchange(sends, receives)
    with pytest.raises(NoReply, match=phase) as caught:
        finish(steps)
    assert caught.value.again is again
    assert not connection.reusable


@pytest.mark.parametrize(
    ("sends", "receives", "phase", "again"),
    [
        ([3, None], [None], "sending the request to http://robot", Again.SAFE),
        ([8], [None], "waiting for the answer of http://robot", Again.IF_IDEMPOTENT),
        ([8], [OK[:9], None], "receiving the answer of http://robot", Again.IF_IDEMPOTENT),
    ],
)
def test_what_took_too_long(exchange, sends, receives, phase, again):
    connection, _, steps = exchange(sends, receives)
    next(steps)
    with pytest.raises(NoReply) as caught:
        steps.throw(TimeoutError())
    assert type(caught.value.error) is DeadlineExceeded
    assert caught.value.error.message == f"time ran out while {phase}"
    assert caught.value.again is again
    assert not connection.reusable


def test_the_cause_of_a_lost_connection_is_kept(exchange):
    cause = ConnectionResetError("reset")
    _, _, steps = exchange([8], [cause])
    with pytest.raises(NoReply) as caught:
        finish(steps)
    assert type(caught.value.error) is ConnectionFailed
    assert caught.value.__cause__ is cause


def test_others_get_their_turn_after_every_mebibyte():
    big = np.zeros(3 * 2**20, np.uint8)
    answer = reply(big.tobytes())
    pieces = [answer[at : at + 4096] for at in range(0, len(answer), 4096)]
    stream = FakeStream([2**19] * 7, pieces)
    connection = Connection(stream, "http://robot")
    _, waits = finish(connection.exchange(Request(b"x", (big.data,)), 2**23))
    connection.close()
    assert waits == [YIELD] * 6


def test_where_a_call_may_have_blocked_the_driver_gets_its_turn_while_there_is_more_to_do(exchange):
    _, stream, steps = exchange([3, 1, 4], [OK[:9], OK[9:11], OK[11:]])
    stream.turn_bytes = 0
    answer, waits = finish(steps)
    assert bytes(answer.body) == b"yes"
    assert waits == [YIELD] * 4


def test_a_patient_stream_blocks_only_for_a_moment():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        stream = PatientStream(socket.create_connection(listener.getsockname()))
        assert stream.turn_bytes == 0
        waited = stream.receive(memoryview(bytearray(9)))
        assert waited == Wait(stream.fileno(), readable=True, writable=False)
        big = memoryview(bytes(2**24))
        sent = 0
        while isinstance(count := stream.send([big]), int):
            assert 0 < count < len(big)
            sent += count
        assert sent > 0
        assert count == Wait(stream.fileno(), readable=False, writable=True)
        stream.close()


def test_outgoing_pieces_are_views_and_leave_in_order():
    body = np.arange(10, dtype=np.uint8)
    outgoing = Outgoing(Request(b"head", (body.data, memoryview(b""), memoryview(b"tail"))))
    assert [bytes(piece) for piece in outgoing.pieces()] == [b"head", bytes(range(10)), b"tail"]
    outgoing.left(6)
    assert np.shares_memory(np.frombuffer(outgoing.pieces()[0], np.uint8), body)
    assert [bytes(piece) for piece in outgoing.pieces()] == [bytes(range(2, 10)), b"tail"]
    outgoing.left(12)
    assert outgoing.finished
