"""From addresses to a connection, step by step."""

from __future__ import annotations

import os
import socket
import time

import pytest

from pelton.client import opening
from pelton.client.address import parse_url
from pelton.client.blocking import drive
from pelton.client.failure import Again, NoReply
from pelton.client.opening import Peer, open_connection
from pelton.errors import ConnectionFailed, DeadlineExceeded


@pytest.fixture
def listener():
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def peer(listening: socket.socket) -> Peer:
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    return Peer(parse_url(url), None, connect_s=8.0)


def resolved(listening: socket.socket):
    where = listening.getsockname()
    return (socket.AF_INET, socket.SOCK_STREAM, 0, "", where)


def test_small_pieces_do_not_wait_for_each_other(listener):
    steps = open_connection(peer(listener), [resolved(listener)])
    connection = drive(steps, time.monotonic() + 5)
    sock = connection._stream._sock
    no_delay = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    blocking = os.get_blocking(sock.fileno())
    connection.close()
    assert no_delay != 0
    assert not blocking


def test_an_address_that_swallows_packets_does_not_hide_the_next(listener, monkeypatch):
    now_s = [100.0]
    monkeypatch.setattr(opening.time, "monotonic", lambda: now_s[0])
    steps = open_connection(peer(listener), [resolved(listener)] * 3)
    first = next(steps)
    assert first.writable
    assert first.until_s == pytest.approx(100 + 8 / 3)
    now_s[0] = 104.0
    second = steps.throw(TimeoutError())
    assert second.until_s == pytest.approx(104 + 4 / 2)
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert end.value.value.is_quiet()
    end.value.value.close()


def test_the_last_failure_is_told(listener):
    steps = open_connection(peer(listener), [resolved(listener)] * 2)
    next(steps)
    steps.throw(TimeoutError())
    with pytest.raises(NoReply) as caught:
        steps.throw(TimeoutError())
    assert type(caught.value.error) is DeadlineExceeded
    assert caught.value.error.message.startswith("time ran out while connecting to http://127.0.0")
    assert caught.value.again is Again.SAFE


def test_a_name_without_an_address_is_an_error(listener):
    with pytest.raises(NoReply) as caught:
        next(open_connection(peer(listener), []))
    assert type(caught.value.error) is ConnectionFailed


def test_no_socket_is_left_when_nobody_waits_any_more(listener):
    # An unclosed socket would be a ResourceWarning, which fails the test.
    steps = open_connection(peer(listener), [resolved(listener)])
    next(steps)
    steps.close()
