"""What one call may say of itself: how long it may take, how urgent it is, what it wants told."""

from __future__ import annotations

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, infer_reply, json_reply
from pelton.client import Timeouts
from pelton.errors import DeadlineExceeded, InvalidRequest
from pelton.messages import Timing

X = np.zeros(3, np.float32)
Y = ("y", "FP32", [3], X.tobytes())
ANSWER = Answer([infer_reply(Y)])
PARTS = {"receive_us": 120, "queue_us": 7, "batch_wait_us": 0, "compute_us": 85, "encode_us": 14}


def test_a_call_without_options_says_nothing_of_them(make_client):
    with ScriptedPeer([ANSWER]) as peer:
        response = make_client(peer.url).infer("m", {"x": X})
    (request,) = peer.received
    assert "x-request-timeout-ms" not in request.headers
    assert request.tensors[0]["parameters"] == {"binary_data_output": True}
    assert (response.timing, response.digest) == (Timing(), "")


@pytest.mark.parametrize(("timeout_s", "told"), [(2, "2000"), (5.25, "5250"), (9.0004, "9001")])
def test_the_server_is_told_how_long_it_may_take(make_client, timeout_s, told):
    with ScriptedPeer([ANSWER, Answer([json_reply({})])]) as peer:
        client = make_client(peer.url)
        client.infer("m", {"x": X}, timeout_s=timeout_s)
        with pytest.raises(Exception, match="cannot be read"):
            client.predict(X, timeout_s=timeout_s)
    assert [each.headers["x-request-timeout-ms"] for each in peer.received] == [told, told]


def test_a_call_ends_in_its_own_time(make_client):
    with ScriptedPeer([Answer(holds=True)], [Answer(holds=True)]) as peer:
        client = make_client(peer.url, timeouts=Timeouts(request_s=1000))
        with pytest.raises(DeadlineExceeded, match="time ran out while waiting for the answer"):
            client.infer("m", {"x": X}, timeout_s=0.05)
        with pytest.raises(DeadlineExceeded, match="time ran out while waiting for the answer"):
            client.predict(X, timeout_s=0.05)


def test_a_call_may_take_longer_than_others(make_client):
    with ScriptedPeer([ANSWER]) as peer:
        client = make_client(peer.url, timeouts=Timeouts(request_s=1e-9))
        np.testing.assert_array_equal(client.infer("m", {"x": X}, timeout_s=20).outputs["y"], X)


def test_a_server_that_was_too_late_says_so(make_client):
    late = json_reply({"error": "too late", "code": "deadline_exceeded"}, "504 Gateway Timeout")
    with ScriptedPeer([Answer([late])]) as peer, pytest.raises(DeadlineExceeded, match="too late"):
        make_client(peer.url).infer("m", {"x": X}, timeout_s=20)


@pytest.mark.parametrize("wrong", [0, -1, float("nan"), float("inf"), "5"])
def test_a_time_is_a_positive_number(make_client, wrong):
    client = make_client("http://127.0.0.1:1")
    for ask in (lambda: client.infer("m", {"x": X}, timeout_s=wrong), _predict(client, wrong)):
        with pytest.raises(InvalidRequest, match="timeout_s must be a positive number, not"):
            ask()


def _predict(client, timeout_s):
    return lambda: client.predict(X, timeout_s=timeout_s)


def test_priority_and_the_callers_own_parameters_go_together(make_client):
    mine = {"temperature": 0.5, "priority": 9}
    with ScriptedPeer([ANSWER, ANSWER]) as peer:
        client = make_client(peer.url)
        client.infer("m", {"x": X}, priority=1, parameters=mine)
        client.infer("m", {"x": X}, parameters=mine)
    told = [each.tensors[0]["parameters"] for each in peer.received]
    rest = {"temperature": 0.5, "binary_data_output": True}
    assert told == [{"priority": 1, **rest}, {"priority": 9, **rest}]
    assert mine == {"temperature": 0.5, "priority": 9}


@pytest.mark.parametrize("wrong", [-1, 1.5, "1", True])
def test_a_priority_is_a_whole_number(make_client, wrong):
    with pytest.raises(InvalidRequest, match="priority must be a whole number from 0 on"):
        make_client("http://127.0.0.1:1").infer("m", {"x": X}, priority=wrong)


def test_parameters_of_another_kind_are_not_confused(make_client):
    said = [1, True, 1.0, "1", 0.0, -0.0]
    with ScriptedPeer([ANSWER] * len(said)) as peer:
        client = make_client(peer.url)
        for each in said:
            client.infer("m", {"x": X}, parameters={"a": each})
    texts = [repr(each.tensors[0]["parameters"]["a"]) for each in peer.received]
    assert texts == [repr(each) for each in said]


def test_where_the_time_went_is_told(make_client):
    with ScriptedPeer([Answer([infer_reply(Y, parameters=PARTS)])] * 2) as peer:
        client = make_client(peer.url)
        first, second = (client.infer("m", {"x": X}, timing=True) for _ in range(2))
    assert peer.received[0].tensors[0]["parameters"]["timing"] is True
    assert first.timing == Timing(120e-6, 7e-6, 0.0, 85e-6, 14e-6)
    first.timing.queue_s = 1.0
    assert second.timing.queue_s == 7e-6


@pytest.mark.parametrize("told", [{"queue_us": 1}, [], "x", {**PARTS, "queue_us": "1"}])
def test_a_timing_that_is_none_is_not_told(make_client, told):
    with ScriptedPeer([Answer([infer_reply(Y, parameters=told)])]) as peer:
        response = make_client(peer.url).infer("m", {"x": X}, timing=True)
    assert response.timing == Timing()


def test_the_digest_of_the_outputs_is_told(make_client):
    answer = infer_reply(Y, parameters={"digest": "sha256:ab"})
    with ScriptedPeer([Answer([answer])]) as peer:
        assert make_client(peer.url).infer("m", {"x": X}).digest == "sha256:ab"
