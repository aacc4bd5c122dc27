"""Connections of TLS whose handshake is not over: they count, and make room for others."""

from __future__ import annotations

import contextlib
import socket
import ssl
from collections.abc import Iterator

import pytest

from pelton.servers.certificates import Certificates
from pelton.servers.connections import ConnectionLimits
from servers.whole_server import WAIT_S, WholeServer, ask
from services.certificates import Files, needs_openssl
from support_server import until

pytestmark = needs_openssl

MOST = 4
LIVE = b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    made = Files(tmp_path_factory.mktemp("tls"))
    made.make("server")
    return made


def certificates(files: Files) -> Certificates:
    return Certificates(*(str(files.folder / f"server.{kind}") for kind in ("crt", "key")))


@pytest.fixture
def server(files: Files) -> Iterator[WholeServer]:
    limits = ConnectionLimits(max_connections=MOST)
    with WholeServer(certificates=certificates(files), limits=limits) as running:
        yield running


@pytest.fixture
def context(files: Files) -> ssl.SSLContext:
    return files.trusting("server")


@pytest.fixture
def silent(server: WholeServer) -> Iterator[list[socket.socket]]:
    """As many connections as there may be, on which the client says nothing."""
    with contextlib.ExitStack() as opened:
        said_nothing = []
        for count in range(1, MOST + 1):
            said_nothing.append(opened.enter_context(plain(server)))
            until(lambda count=count: len(server.gateway.connections) == count)
        yield said_nothing


def plain(server: WholeServer) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), WAIT_S)


def is_closed(connection: socket.socket) -> bool:
    """Wait for the end of a connection from the other side."""
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True


def test_who_says_nothing_counts_and_makes_room(server, context, silent) -> None:
    connection = server.connect(context)
    assert ask(connection, "GET", "/v2/health/live").status == 200
    assert is_closed(silent[0])
    assert len(server.gateway.connections) == MOST
    for each in silent[1:]:
        each.setblocking(False)
        with pytest.raises(BlockingIOError):
            each.recv(1)
    connection.close()


def test_however_many_come_no_more_are_open_than_may_be(server, context) -> None:
    with contextlib.ExitStack() as opened:
        every = [opened.enter_context(plain(server)) for _ in range(10 * MOST)]
        assert all(is_closed(each) for each in every[:-MOST])
        assert len(server.gateway.connections) == MOST
    until(lambda: len(server.gateway.connections) == 0)
    connection = server.connect(context)
    assert ask(connection, "GET", "/v2/health/live").status == 200
    connection.close()


def test_nobody_is_taken_in_while_all_are_busy(server, context) -> None:
    with contextlib.ExitStack() as opened:
        for _ in range(MOST):
            raw = opened.enter_context(plain(server))
            busy = opened.enter_context(context.wrap_socket(raw, server_hostname="127.0.0.1"))
            busy.sendall(LIVE[:9])
        until(lambda: not server.gateway.connections._idle)
        assert is_closed(opened.enter_context(plain(server)))
        busy.sendall(LIVE[9:])
        assert busy.recv(12) == b"HTTP/1.1 200"


@pytest.mark.parametrize(
    "said", [LIVE, b"\x16\x03\x01", b"", bytes(100)], ids=["http", "half", "nothing", "zeros"]
)
def test_who_does_not_shake_hands_is_forgotten(server, said: bytes) -> None:
    with plain(server) as connection:
        connection.sendall(said)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):  # the alert of TLS that says why
            pass
    until(lambda: len(server.gateway.connections) == 0)


@pytest.mark.parametrize("size", [len(LIVE), 200_000])
def test_what_comes_in_one_piece_with_the_end_of_the_handshake_is_answered(
    server, context, size: int
) -> None:
    body = b"x" * (size - len(LIVE))
    infer = b"POST /infer HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % len(body)
    read, write = ssl.MemoryBIO(), ssl.MemoryBIO()
    secure = context.wrap_bio(read, write, server_hostname="127.0.0.1")
    with plain(server) as connection:
        while True:
            try:
                secure.do_handshake()
            except ssl.SSLWantReadError:
                connection.sendall(write.read())
                read.write(connection.recv(65536))
            else:
                break
        # The client's last message of the handshake has not been sent yet.
        secure.write(infer + body if body else LIVE)
        connection.sendall(write.read())
        while True:
            read.write(connection.recv(65536))
            with contextlib.suppress(ssl.SSLWantReadError):
                answer = secure.read(65536)
                break
    assert answer.startswith(b"HTTP/1.1 4" if body else b"HTTP/1.1 200")


def test_a_server_that_ends_waits_for_nobody_who_says_nothing(files: Files) -> None:
    with WholeServer(certificates=certificates(files)) as running:
        connection = plain(running)
        until(lambda: len(running.gateway.connections) == 1)
    assert is_closed(connection)
    connection.close()
