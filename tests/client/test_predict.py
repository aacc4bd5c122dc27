"""`POST /infer` with a pickle of data, through `predict` and through the robot's one function."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, json_reply, reply
from pelton import errors
from pelton.client import Retries, robot, send_inference_request
from pelton.wire import pickled
from pelton.wire.limits import Limits

OBSERVATION = {
    "instruction": "look at the red cube",
    "state": np.arange(6, dtype=np.float32),
    "image": np.arange(480 * 640 * 3, dtype=np.uint32).astype(np.uint8).reshape(480, 640, 3),
}
ACTION = np.linspace(0, 1, 12, dtype=np.float32).reshape(2, 6)
STYLE = pickled.PickleStyle(protocol=5, old_numpy=False, out_of_band=True)
PICKLE = "application/octet-stream"


def framed(value: object, status: str = "200 OK") -> bytes:
    body = b"".join(pickled.encode(value, STYLE))
    return reply(body, status, content_type=PICKLE)


OK = framed({"status": "ok", "output": ACTION})


def busy(**headers: object) -> bytes:
    said = {"status": "error", "message": "queue full", "error": "queue full"}
    body = b"".join(pickled.encode(said | {"code": "unavailable", "request_id": "r"}, STYLE))
    return reply(body, "503 Service Unavailable", content_type=PICKLE, **headers)


@pytest.fixture(autouse=True)
def fresh_connections(monkeypatch):
    """Keep the connections that one test leaves behind from the next."""
    servers: dict = {}
    monkeypatch.setattr(robot, "_servers", servers)
    yield
    robot._close()


def assert_is_the_observation(body: bytes) -> None:
    value, style = pickled.decode(body, Limits())
    assert style.out_of_band
    assert list(value) == list(OBSERVATION)
    assert value["instruction"] == OBSERVATION["instruction"]
    for name in ("state", "image"):
        np.testing.assert_array_equal(value[name], OBSERVATION[name])
        assert value[name].dtype == OBSERVATION[name].dtype


@pytest.mark.parametrize(
    "answer",
    [
        OK,
        reply(pickle.dumps({"status": "ok", "output": ACTION}, 5)),
        reply(pickle.dumps({"status": "ok", "output": ACTION}, 2)),
    ],
    ids=["frame", "protocol 5", "protocol 2"],
)
def test_an_observation_becomes_an_action(make_client, answer):
    with ScriptedPeer([Answer([answer]), Answer([answer])]) as peer:
        client = make_client(peer.url)
        for action in (client.predict(OBSERVATION), client.predict(OBSERVATION, "a policy")):
            np.testing.assert_array_equal(action, ACTION)
            assert action.dtype == np.float32
            assert not action.flags.writeable
    assert peer.lines == ["POST /infer HTTP/1.1", "POST /infer?model=a%20policy HTTP/1.1"]
    for request in peer.received:
        assert request.headers["content-type"] == PICKLE
        assert_is_the_observation(request.body)


def test_what_is_no_data_is_refused_before_it_is_sent(make_client):
    with pytest.raises(errors.InvalidRequest, match="cannot be sent"):
        make_client("http://127.0.0.1:1").predict({"policy": object()})


ERRORS = {
    "a refusal in the format of the request": (
        framed(
            {"status": "error", "message": "no image", "code": "invalid_input"}, "400 Bad Request"
        ),
        errors.InvalidRequest,
        "no image",
    ),
    "a refusal in JSON": (
        json_reply({"error": "no such model", "code": "not_found", "request_id": ""}, "404 No"),
        errors.NotFound,
        "no such model",
    ),
    "an error under 200": (
        framed({"status": "error", "message": "division by zero"}),
        errors.ModelFailed,
        "division by zero",
    ),
    "no status": (framed({"output": 1}), errors.ConnectionFailed, 'has no "status"'),
    "no dict": (framed([1]), errors.ConnectionFailed, 'has no "status"'),
    "no pickle": (reply(b"hello"), errors.ConnectionFailed, "cannot be read"),
    "code": (
        reply(b"cos\nsystem\n(S'touch marker'\ntR."),
        errors.ConnectionFailed,
        "cannot be read: pickle: ",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_goes_wrong_is_a_typed_error(make_client, case):
    raw, kind, said = ERRORS[case]
    with ScriptedPeer([Answer([raw])]) as peer, pytest.raises(errors.PeltonError) as caught:
        make_client(peer.url, retries=Retries(first_delay_s=0)).predict(OBSERVATION)
    assert type(caught.value) is kind
    assert said in caught.value.message


@pytest.mark.parametrize(
    ("tail", "path"),
    [
        ("", "/infer"),
        ("/", "/infer"),
        ("/infer", "/infer"),
        ("/infer/", "/infer"),
        ("/infer?model=policy", "/infer?model=policy"),
        ("/behind/a/proxy", "/behind/a/proxy/infer"),
        ("/behind/infer", "/behind/infer"),
    ],
)
def test_the_function_takes_a_server_or_its_endpoint(tail, path):
    with ScriptedPeer([Answer([OK])]) as peer:
        action = send_inference_request(OBSERVATION, peer.url + tail)
    np.testing.assert_array_equal(action, ACTION)
    assert peer.lines == [f"POST {path} HTTP/1.1"]
    assert_is_the_observation(peer.received[0].body)


def test_the_function_keeps_its_connection():
    with ScriptedPeer([Answer([OK])] * 3) as peer:
        for _ in range(3):
            send_inference_request(OBSERVATION, peer.url)
    assert peer.connections == [0, 0, 0]


LOST = Answer(then="close")
LATER = Answer([busy()])


@pytest.mark.parametrize(
    "script",
    [([LOST], [LOST], [LOST], [Answer([OK])]), ([LATER, LATER, LATER, Answer([OK])],)],
    ids=["lost", "busy"],
)
def test_the_function_tries_again(script):
    with ScriptedPeer(*script) as peer:
        action = send_inference_request(OBSERVATION, peer.url, max_retries=3, retry_delay=0)
    np.testing.assert_array_equal(action, ACTION)
    assert len(peer.received) == 4


def test_the_function_gives_up_in_the_end():
    with ScriptedPeer(*[[LOST]] * 5) as peer:
        with pytest.raises(RuntimeError, match="hung up before it answered"):
            send_inference_request(OBSERVATION, peer.url, max_retries=2, retry_delay=0)
        assert len(peer.received) == 3
        with pytest.raises(RuntimeError, match="hung up before it answered"):
            send_inference_request(OBSERVATION, peer.url, max_retries=0, retry_delay=0)
        assert len(peer.received) == 4


@pytest.mark.parametrize("case", ERRORS)
def test_the_function_does_not_repeat_what_was_refused(case):
    raw, _, said = ERRORS[case]
    with ScriptedPeer([Answer([raw])], [Answer([OK])]) as peer:
        with pytest.raises(RuntimeError) as caught:
            send_inference_request(OBSERVATION, peer.url, retry_delay=0)
        assert len(peer.received) == 1
    assert said in str(caught.value)
    assert isinstance(caught.value.__cause__, errors.PeltonError)


def test_the_function_does_not_repeat_what_may_still_be_running():
    with ScriptedPeer([Answer(holds=True)], [Answer([OK])]) as peer:
        with pytest.raises(RuntimeError, match="time ran out while waiting for the answer"):
            send_inference_request(OBSERVATION, peer.url, timeout=0.25, retry_delay=0)
        assert len(peer.received) == 1


@pytest.mark.parametrize(("asked_s", "delay_s", "paused_s"), [(2, 0.5, 2), (1, 3.0, 3.0)])
def test_the_function_waits_as_long_as_the_server_asks(monkeypatch, asked_s, delay_s, paused_s):
    pauses = []
    monkeypatch.setattr(robot.time, "sleep", pauses.append)
    with ScriptedPeer([Answer([busy(retry_after=asked_s)]), Answer([OK])]) as peer:
        send_inference_request(OBSERVATION, peer.url, retry_delay=delay_s)
    assert pauses == [paused_s]


@pytest.mark.parametrize(
    "url", ["robot:50000", "http://a/infer?x= y", "http://a/infer?x\r\n", "ftp://a/infer"]
)
def test_the_function_says_what_is_wrong_with_its_url(url):
    with pytest.raises(RuntimeError, match=r"http://|no query may hold"):
        send_inference_request(OBSERVATION, url)


def test_kept_connections_are_closed_when_the_program_ends():
    program = (
        "import sys; from pelton import send_inference_request;"
        "print(send_inference_request({'a': 1}, sys.argv[1]).shape)"
    )
    with ScriptedPeer([Answer([OK])]) as peer:
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", "-c", program, peer.url],
            capture_output=True,
            text=True,
            check=False,
        )
    assert (done.stdout, done.stderr, done.returncode) == ("(2, 6)\n", "", 0)


def test_nobody_there_is_a_runtime_error():
    with ScriptedPeer() as peer:
        url = peer.url
    with pytest.raises(RuntimeError, match=r"connection refused; is the server running there\?"):
        send_inference_request(OBSERVATION, url, max_retries=1, retry_delay=0)
