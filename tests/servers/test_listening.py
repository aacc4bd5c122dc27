"""Sockets to listen on: whose they are, what is replaced, and what is refused."""

from __future__ import annotations

import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest.mock import Mock

import pytest

from pelton.errors import LoadFailed
from pelton.servers import listening
from pelton.servers.listening import bind_tcp, bind_unix, is_same_user, listen


@pytest.fixture
def path() -> Iterator[Path]:
    """A short path: the kernel keeps about a hundred bytes of it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder) / "s"


# -- TCP -----------------------------------------------------------------------------------------


def test_a_bound_address_answers_once_it_listens() -> None:
    with bind_tcp("127.0.0.1", 0) as listener:
        address = listener.getsockname()
        with socket.socket() as early, pytest.raises(ConnectionRefusedError):
            early.connect(address)
        listen(listener)
        socket.create_connection(address).close()


def test_a_taken_port_is_named_with_the_cure() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(LoadFailed, match=f"127.0.0.1 port {port}: .*--port"):
            bind_tcp("127.0.0.1", port)


def test_a_port_that_another_takes_meanwhile_is_named_too() -> None:
    with bind_tcp("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        with bind_tcp("127.0.0.1", port) as second:
            listen(first)
            with pytest.raises(LoadFailed, match=f"port {port}"):
                listen(second)


@pytest.mark.parametrize("host", ["192.0.2.1", "no such name", "a" * 300])
def test_an_address_that_is_not_ours(host: str) -> None:
    with pytest.raises(LoadFailed, match=host):
        bind_tcp(host, 0)


# -- Unix ----------------------------------------------------------------------------------------


def test_only_its_owner_may_connect_and_it_listens_at_once(path: Path) -> None:
    with bind_unix(str(path)) as listener:
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
        listen(listener)  # as for any other
        listener.remove()
    assert not path.exists()


def test_a_file_left_by_a_server_that_was_killed_is_replaced(path: Path) -> None:
    bind_unix(str(path)).close()
    assert path.exists()
    with bind_unix(str(path)), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))


def test_a_socket_on_which_a_server_listens_is_left_alone(path: Path) -> None:
    with bind_unix(str(path)) as first:
        with pytest.raises(LoadFailed, match=r"another server listens there; .*--uds"):
            bind_unix(str(path))
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))
            first.accept()[0].close()


def test_a_socket_whose_backlog_is_full_is_left_alone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening, "_PROBE_TIMEOUT_S", 0.05)
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(str(path))
        busy.listen(0)
        client.connect(str(path))
        with pytest.raises(LoadFailed, match="another server listens there"):
            bind_unix(str(path))


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_anything_but_a_socket_is_left_alone(path: Path, kind: str) -> None:
    if kind == "file":
        path.write_text("mine")
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(path.with_name("elsewhere"))
    with pytest.raises(LoadFailed, match=r"something else has this name; .*--uds"):
        bind_unix(str(path))
    assert os.path.lexists(path)


@pytest.mark.parametrize("name", ["no-such-folder/s", "a" * 120])
def test_a_file_that_cannot_be_made_is_one_sentence(path: Path, name: str) -> None:
    with pytest.raises(LoadFailed, match=r"cannot listen on the Unix socket .*--uds"):
        bind_unix(str(path.parent / name))
    assert list(path.parent.iterdir()) == []


def test_a_file_that_took_its_place_is_not_removed(path: Path) -> None:
    with bind_unix(str(path)) as first:
        path.unlink()
        with bind_unix(str(path)):
            first.remove()
            assert path.exists()
            path.unlink()
            first.remove()  # there is nothing


# -- who is at the other end ---------------------------------------------------------------------


def _transport(connection: socket.socket) -> Mock:
    return Mock(get_extra_info=lambda name: connection if name == "socket" else None)


def test_a_process_of_the_same_user_is_known(path: Path) -> None:
    with bind_unix(str(path)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        connection, _ = listener.accept()
        with connection:
            assert is_same_user(_transport(connection))
            connection.send(b"x")  # it is still open
            assert client.recv(1) == b"x"


def test_another_user_is_not(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with bind_unix(str(path)) as listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
        connection, _ = listener.accept()
        with connection:
            monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
            assert not is_same_user(_transport(connection))


def test_one_who_is_gone_or_came_over_tcp_is_not() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with socket.create_connection(listener.getsockname()) as client:
            assert not is_same_user(_transport(client))
        assert not is_same_user(_transport(client))  # closed
