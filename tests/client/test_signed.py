"""Signed objects from the client's side: whatever can be pickled, signed anew for each try."""

from __future__ import annotations

import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.scripted_peer import Answer, Received, ScriptedPeer, json_reply, reply
from pelton import errors
from pelton.access.caller import Caller
from pelton.client import Retries, SigningKey
from pelton.records import Scope
from pelton.trusted import ed25519
from pelton.trusted.keys_file import KeysFile
from pelton.trusted.signing import HEADER
from pelton.trusted.verification import TrustedGate
from pelton.wire import pickle_frame, pickled

SECRET = bytes(range(32))
KEY = SigningKey("robot-7", SECRET)
STYLE = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=True)
OK = Answer(
    [reply(b"".join(pickled.encode({"status": "ok", "output": 7}, STYLE)))],
)
ROBOT = Caller("key7", frozenset({Scope.PICKLE_UNSAFE}), "key7")


class Point:
    def __init__(self, x: Any) -> None:
        self.x = x


@pytest.fixture
def gate(tmp_path: Path) -> TrustedGate:
    """Admits by the same secret, as a server does."""
    file = tmp_path / "keys.toml"
    file.touch(mode=0o600)
    file.write_text(f'[robot-7]\nclient = "key7"\nhmac_sha256 = "{SECRET.hex()}"\n')
    return TrustedGate(KeysFile(file), time.time() - 3600)


def admit(gate: TrustedGate, received: Received, target: str) -> None:
    signature = received.headers[HEADER.lower()]
    gate.admit(ROBOT, signature, "POST", target, "an arm", received.body)


def test_any_object_is_sent_as_it_was_signed(make_client, gate: TrustedGate) -> None:
    with ScriptedPeer([OK]) as peer:
        client = make_client(f"{peer.url}/behind/a/proxy")
        said = client.predict_signed({"point": Point(np.arange(5000))}, "an arm", KEY, timeout_s=9)
    assert said == 7
    (received,) = peer.received
    assert received.line == "POST /behind/a/proxy/infer?model=an%20arm HTTP/1.1"
    assert received.headers["content-type"] == "application/octet-stream"
    assert received.headers["x-request-timeout-ms"] == "9000"
    admit(gate, received, "/infer?model=an%20arm")  # what the server sees behind the proxy
    stream, buffers = pickle_frame.split(memoryview(received.body))
    assert len(stream) < 1000
    point = pickle.loads(stream, buffers=buffers)["point"]
    np.testing.assert_array_equal(point.x, np.arange(5000))


def test_each_try_is_signed_anew(make_client, gate: TrustedGate) -> None:
    busy = json_reply(
        {"error": "busy", "code": "unavailable", "request_id": ""},
        "503 Service Unavailable",
        **{"Retry-After": "0"},
    )
    with ScriptedPeer([Answer([busy]), Answer([busy]), OK]) as peer:
        client = make_client(peer.url, retries=Retries(first_delay_s=0))
        assert client.predict_signed({"x": 1}, "an arm", KEY) == 7
    assert len(peer.received) == 3
    for received in peer.received:
        admit(gate, received, "/infer?model=an%20arm")  # which takes no signature twice
    assert len({received.body for received in peer.received}) == 1


def test_it_is_not_repeated_once_the_server_may_have_run_it(make_client) -> None:
    with ScriptedPeer([Answer(then="close")], [OK]) as peer, pytest.raises(errors.ConnectionFailed):
        make_client(peer.url, retries=Retries(first_delay_s=0)).predict_signed({}, "an arm", KEY)
    with ScriptedPeer([Answer(then="close")], [OK]) as peer:
        client = make_client(peer.url, retries=Retries(first_delay_s=0))
        assert client.predict_signed({}, "an arm", KEY, idempotent=True) == 7


def test_arrays_that_are_not_contiguous_and_very_many(make_client) -> None:
    values = {f"x{number}": np.full(2, number) for number in range(pickle_frame.MAX_BUFFERS + 5)}
    values["strided"] = np.arange(100)[::3]
    with ScriptedPeer([OK]) as peer:
        make_client(peer.url).predict_signed(values, "an arm", KEY)
    stream, buffers = pickle_frame.split(memoryview(peer.received[0].body))
    assert len(buffers) == pickle_frame.MAX_BUFFERS
    got = pickle.loads(stream, buffers=buffers)
    assert got.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_array_equal(got[name], value)


def test_a_pair_of_keys_will_do(make_client) -> None:
    private = pytest.importorskip(
        "cryptography.hazmat.primitives.asymmetric.ed25519"
    ).Ed25519PrivateKey.generate()
    key = SigningKey("robot-8", ed25519.signer(private.private_bytes_raw()))
    with ScriptedPeer([OK]) as peer:
        make_client(peer.url).predict_signed({}, "an arm", key)
    assert len(peer.received[0].headers[HEADER.lower()].partition("sig=")[2]) == 128


class Wayward:
    def __reduce__(self) -> Any:
        raise KeyError("no")


@pytest.mark.parametrize("value", [lambda: 1, Wayward()], ids=["no name", "raises"])
def test_what_cannot_be_pickled_is_said_before_anything_is_sent(make_client, value) -> None:
    with pytest.raises(errors.InvalidRequest, match="cannot be pickled"):
        make_client("http://127.0.0.1:1").predict_signed({"x": value}, "an arm", KEY)


@pytest.mark.parametrize(
    ("name", "secret", "told"),
    [("", SECRET, "cannot be the id"), ("a b", SECRET, "cannot be the id"), ("a", b"s", "short")],
)
def test_a_key_that_cannot_be_used(name: str, secret: bytes, told: str) -> None:
    with pytest.raises(errors.SettingsError, match=told):
        SigningKey(name, secret)
    assert "0102" not in repr(KEY)


def test_the_signature_is_not_a_callers_to_set(make_client) -> None:
    with pytest.raises(errors.SettingsError, match="set by the client itself"):
        make_client("http://127.0.0.1:1", headers={HEADER: "v1"})
