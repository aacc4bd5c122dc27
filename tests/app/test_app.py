"""The composition root: binding, putting together, ending."""

from __future__ import annotations

import re
import socket
import sys
import threading
from pathlib import Path

import pytest

from pelton import app
from pelton.errors import LoadFailed, SettingsError
from pelton.settings import Settings, load_settings
from support_server import taken_port, write_identity


def said(**flags: str) -> Settings:
    return load_settings({"port": "0", **flags}, {})


def built(tmp_path: Path, listener: socket.socket, **flags: str) -> app.App:
    model = write_identity(tmp_path / "m.onnx")
    return app.build(model, said(**flags), [listener], lambda _models, _key: None)


def bound_to(port: int, host: str = "127.0.0.1") -> socket.socket:
    (listener,) = app.bind(said(host=host, port=str(port)))
    return listener


# -- binding -------------------------------------------------------------------------------------


def test_port_0_takes_a_free_one() -> None:
    with bound_to(0) as one, bound_to(0) as two:
        ports = one.getsockname()[1], two.getsockname()[1]
        assert 0 not in ports
        assert ports[0] != ports[1]


def test_nothing_is_answered_before_the_models_are_loaded() -> None:
    with (
        bound_to(0) as listener,
        pytest.raises(ConnectionRefusedError),
        socket.create_connection(listener.getsockname(), timeout=10),
    ):
        pass


def test_a_port_is_free_again_right_after_a_server_ended() -> None:
    """Connections that it closed linger in TIME_WAIT; a restart must not wait for them."""
    with bound_to(0) as listener:
        address = listener.getsockname()
        listener.listen(1)
        with socket.create_connection(address, timeout=10):
            accepted, _ = listener.accept()
            accepted.close()
    bound_to(address[1]).close()


def test_a_taken_port_is_told_with_the_cure() -> None:
    with taken_port() as port, pytest.raises(LoadFailed) as caught:
        bound_to(port)
    assert re.fullmatch(
        rf"cannot listen on 127\.0\.0\.1 port {port}: Address already in use; "
        "if another server runs there, choose another port with --port",
        caught.value.message,
    )


def test_a_foreign_address_is_told() -> None:
    with pytest.raises(LoadFailed, match=r"^cannot listen on 203\.0\.113\.1 port 0: "):
        bound_to(0, "203.0.113.1")


@pytest.mark.parametrize("host", ["a..b", "x" * 70, "[::1]"])
def test_what_is_no_address_is_told(host: str) -> None:
    with pytest.raises(LoadFailed, match=r"^cannot listen on "):
        bound_to(0, host)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the second bind fails already")
def test_a_port_that_was_taken_while_the_models_were_loaded_is_told(tmp_path: Path) -> None:
    with bound_to(0) as first:
        port = first.getsockname()[1]
        with bound_to(port) as second:
            first.listen(1)
            server = built(tmp_path, second)
            with pytest.raises(LoadFailed, match=f"^cannot listen on 127.0.0.1 port {port}: "):
                server.run([second])


def test_a_unix_socket_is_bound_beside_the_port_and_removed_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pelton.sock"
    listeners = app.bind(said(uds=str(path)))
    assert [each.family for each in listeners] == [socket.AF_INET, socket.AF_UNIX]
    assert path.is_socket()
    app.unbind(listeners)
    assert not path.exists()
    assert [each.fileno() for each in listeners] == [-1, -1]


def test_a_unix_socket_that_cannot_be_had_leaves_the_port_free(tmp_path: Path) -> None:
    with bound_to(0) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(LoadFailed, match=r"^cannot listen on the Unix socket "):
        app.bind(said(port=str(port), uds=str(tmp_path / "nowhere" / "pelton.sock")))
    bound_to(port).close()


# -- putting together ----------------------------------------------------------------------------


def test_a_default_model_has_to_be_served(tmp_path: Path) -> None:
    with (
        bound_to(0) as listener,
        pytest.raises(SettingsError, match=r"^default_model is 'robot', but served are: m$"),
    ):
        built(tmp_path, listener, default_model="robot")


def test_the_bound_of_memory_has_to_hold_one_body() -> None:
    with pytest.raises(SettingsError) as caught:
        app.make_loader(said(max_buffered_bytes="1MiB", max_body_bytes="2MiB"))
    assert caught.value.message == (
        "max_buffered_bytes is 1048576, which is less than one body may have: max_body_bytes is "
        "2097152"
    )


def test_the_settings_reach_what_they_are_about(tmp_path: Path) -> None:
    told = {"max_buffered_bytes": "64MiB", "max_body_bytes": "1MiB", "allow_shared_memory": "yes"}
    with bound_to(0) as listener:
        server = built(tmp_path, listener, **told)
    gateway = server.host._gateway
    assert gateway.budget.limit_bytes == 64 * 1024**2
    assert gateway.max_body_bytes == 1024**2
    assert gateway.door._regions.for_all
    server.finish()


@pytest.mark.parametrize(
    ("flags", "why"),
    [
        ({"default_model": "robot"}, r"^default_model is 'robot'"),
        ({"allow_publish": "yes"}, r"is one model; for models to come and go"),
        ({"tls_certificate": "/nowhere/cert.pem"}, r"^cannot use the certificate of /nowhere/"),
        ({"require_keys": "yes"}, r"^callers need a key, and there is none"),
    ],
)
def test_what_was_opened_is_closed_where_the_settings_do_not_go_together(
    tmp_path: Path, flags: dict[str, str], why: str
) -> None:
    state = tmp_path / "state"
    with bound_to(0) as listener, pytest.raises(SettingsError, match=why):
        built(tmp_path, listener, state_dir=str(state), **flags)
    # Nobody holds the database any more, nor a thread of it.
    assert not [each.name for each in threading.enumerate() if each.name.startswith("pelton")]
    with bound_to(0) as listener:
        built(tmp_path, listener, state_dir=str(state)).finish()


def test_another_address_than_this_machine_needs_keys(tmp_path: Path) -> None:
    with bound_to(0, "0.0.0.0") as listener, pytest.raises(SettingsError, match="--insecure"):
        built(tmp_path, listener, host="0.0.0.0")
