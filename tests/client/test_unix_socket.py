"""A server on the same machine, reached through the file of its Unix socket."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

import numpy as np
import pytest

from client.scripted_peer import Answer, Received, ScriptedPeer, infer_reply, json_reply
from pelton import errors
from pelton.client import Retries, send_inference_request
from pelton.wire import pickled

LIVE = Answer([json_reply({"live": True})])
ONCE = Retries(attempts=1)


def echo(request: Received) -> list[bytes]:
    raw = request.tensors[1]
    return [infer_reply(("y", "UINT8", [len(raw)], raw))]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "pelton.sock"


def test_the_server_is_asked_as_localhost_and_the_connection_is_kept(file, make_client):
    with ScriptedPeer([LIVE, Answer(echo)], path=file) as peer:
        client = make_client(f"unix:{file}")
        assert client.server_live()
        client.infer("m", {"x": np.zeros(3, np.uint8)})
    assert peer.received[0].head.decode() == (
        "GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\nUser-Agent: pelton\r\n\r\n"
    )
    assert peer.connections == [0, 0]


def test_a_path_may_be_relative(file, make_client, monkeypatch):
    monkeypatch.chdir(file.parent)
    with ScriptedPeer([LIVE], path=file):
        assert make_client(f"unix:{file.name}").server_live()


def test_a_picture_arrives_whole_both_ways(file, make_client):
    image = np.random.default_rng(1).integers(0, 256, 6_000_000, np.uint8)
    with ScriptedPeer([Answer(echo)], path=file):
        answer = make_client(f"unix:{file}").infer("m", {"x": image})
    np.testing.assert_array_equal(answer.outputs["y"], image)


def test_a_server_that_is_not_there_is_named_by_its_file(file, make_client):
    with pytest.raises(errors.ConnectionFailed) as caught:
        make_client(f"unix:{file}", retries=ONCE).server_live()
    assert caught.value.message == (
        f"cannot connect to unix:{file}: no such file or directory; is the server running there?"
    )


def test_a_file_that_nobody_listens_on_any_more_is_refused(file, make_client):
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(file))
    with pytest.raises(errors.ConnectionFailed) as caught:
        make_client(f"unix:{file}", retries=ONCE).server_live()
    assert caught.value.message == (
        f"cannot connect to unix:{file}: connection refused; is the server running there?"
    )


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(file, make_client):
    closing = Answer([json_reply({"live": True})], "close")
    with ScriptedPeer([closing], [LIVE], path=file) as peer:
        client = make_client(f"unix:{file}", retries=ONCE)
        assert client.server_live()
        peer.wait_closed(0)
        assert client.server_live()
    assert peer.connections == [0, 1]


def test_tls_is_for_others(file, make_client):
    with pytest.raises(errors.SettingsError, match="starts with unix:, not https://"):
        make_client(f"unix:{file}", tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT))


def test_the_robots_function_takes_it_too(file):
    style = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=False)
    said = b"".join(pickled.encode({"status": "ok", "output": 7}, style))
    head = f"HTTP/1.1 200 OK\r\nContent-Length: {len(said)}\r\n\r\n".encode()
    with ScriptedPeer([Answer([head + said])], path=file) as peer:
        assert send_inference_request({"x": 1}, f"unix:{file}/infer?model=m") == 7
    assert peer.lines == ["POST /infer?model=m HTTP/1.1"]
