"""Lost connections, refusals and lack of time: what is told, and what is tried again."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, infer_reply, json_reply, reply
from pelton import errors
from pelton.client import Retries, Timeouts

SMALL = np.zeros(3, np.float32)
BIG = np.zeros(32 * 1024 * 1024, np.uint8)
"""More than the two sockets between client and peer hold."""

ANSWER = infer_reply(("y", "FP32", [3], SMALL.tobytes()))
LIVE = json_reply({"live": True})
AT_ONCE = Retries(attempts=3, first_delay_s=0.0)
SOON = Timeouts(request_s=0.25)


def test_nobody_there_is_one_clear_sentence(make_client):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    client = make_client(f"http://127.0.0.1:{port}", retries=AT_ONCE)
    with pytest.raises(errors.ConnectionFailed) as caught:
        client.server_live()
    assert caught.value.message == (
        f"cannot connect to http://127.0.0.1:{port}: connection refused; "
        "is the server running there?"
    )


def test_an_unknown_host_is_one_clear_sentence(make_client):
    client = make_client("http://no-such-host.invalid:1", retries=Retries(attempts=1))
    with pytest.raises(errors.ConnectionFailed, match=r"cannot connect to http://no-such-host\."):
        client.server_live()


@pytest.mark.parametrize("then", ["close", "reset"])
def test_an_inference_that_may_have_run_is_not_sent_again(make_client, then):
    with ScriptedPeer([Answer(then=then)], [Answer([ANSWER])]) as peer:
        client = make_client(peer.url, retries=AT_ONCE)
        with pytest.raises(errors.ConnectionFailed, match="hung up before it answered"):
            client.infer("m", {"x": SMALL})
    assert len(peer.received) == 1


def test_an_idempotent_inference_is_sent_again(make_client):
    script = ([Answer(then="close")], [Answer([ANSWER[:-5]], "close")], [Answer([ANSWER])])
    with ScriptedPeer(*script) as peer:
        response = make_client(peer.url, retries=AT_ONCE).infer("m", {"x": SMALL}, idempotent=True)
    np.testing.assert_array_equal(response.outputs["y"], SMALL)
    assert peer.connections == [0, 1, 2]


def test_a_question_is_asked_again(make_client):
    with ScriptedPeer([Answer(then="reset")], [Answer([LIVE])]) as peer:
        assert make_client(peer.url, retries=AT_ONCE).server_live()
    assert peer.connections == [0, 1]


def test_the_number_of_tries_is_kept(make_client):
    with ScriptedPeer(*[[Answer(then="close")]] * 4) as peer:
        client = make_client(peer.url, retries=AT_ONCE)
        with pytest.raises(errors.ConnectionFailed, match="hung up before it answered"):
            client.server_live()
    assert len(peer.received) == 3


def test_an_inference_that_never_arrived_whole_is_sent_again(make_client):
    lost = Answer(then="reset", reads_body=False)
    with ScriptedPeer([lost], [lost], [Answer([ANSWER])]) as peer:
        response = make_client(peer.url, retries=AT_ONCE).infer("m", {"x": BIG})
    np.testing.assert_array_equal(response.outputs["y"], SMALL)
    assert peer.connections == [0, 1, 2]
    assert len(peer.received[2].body) > len(BIG)


def test_a_hang_up_while_sending_says_so(make_client):
    with ScriptedPeer([Answer(then="reset", reads_body=False)]) as peer:
        client = make_client(peer.url, retries=Retries(attempts=1))
        with pytest.raises(errors.ConnectionFailed, match="while the request was being sent"):
            client.infer("m", {"x": BIG})


def test_a_hang_up_within_the_answer_says_so(make_client):
    with ScriptedPeer([Answer([ANSWER[:-5]], "close")]) as peer:
        client = make_client(peer.url)
        with pytest.raises(errors.ConnectionFailed, match="in the middle of its answer"):
            client.infer("m", {"x": SMALL})
    assert len(peer.received) == 1


def test_an_early_refusal_is_heard_although_the_body_was_not_taken(make_client):
    said = {"error": "64 MiB at most", "code": "too_large", "request_id": "r"}
    refusal = json_reply(said, "413 Too Large")
    early = Answer([refusal], reads_body=False, holds=True)
    with ScriptedPeer([early], [Answer([ANSWER])]) as peer:
        client = make_client(peer.url, timeouts=Timeouts(request_s=5))
        with pytest.raises(errors.InvalidRequest) as caught:
            client.infer("m", {"x": BIG})
        assert caught.value.message == "64 MiB at most"
        assert caught.value.code is errors.Code.TOO_LARGE
        # What is left of the first body must not be read as a request.
        client.infer("m", {"x": SMALL})
    assert peer.connections == [0, 1]


def test_an_early_refusal_is_heard_although_the_server_hung_up(make_client):
    refusal = json_reply({"error": "no", "code": "too_large", "request_id": "r"}, "413 Too Large")
    with ScriptedPeer([Answer([refusal], "close", reads_body=False)]) as peer:
        client = make_client(peer.url, retries=Retries(attempts=1))
        with pytest.raises(errors.PeltonError) as caught:
            client.infer("m", {"x": BIG})
    assert caught.value.code is errors.Code.TOO_LARGE


def busy(**headers: object) -> bytes:
    said = {"error": "the queue is full", "code": "unavailable", "request_id": "r"}
    return json_reply(said, "503 Service Unavailable", **headers)


def test_a_busy_server_that_says_when_is_asked_again(make_client):
    with ScriptedPeer([Answer([busy(retry_after=0)]), Answer([ANSWER])]) as peer:
        response = make_client(peer.url, retries=AT_ONCE).infer("m", {"x": SMALL})
    np.testing.assert_array_equal(response.outputs["y"], SMALL)
    assert peer.connections == [0, 0]


@pytest.mark.parametrize("when", [{}, {"retry_after": "Wed, 21 Oct 2026 07:28:00 GMT"}])
def test_a_busy_server_that_does_not_say_when_is_left_alone(make_client, when):
    with ScriptedPeer([Answer([busy(**when)]), Answer([ANSWER])]) as peer:
        client = make_client(peer.url, retries=AT_ONCE)
        with pytest.raises(errors.Unavailable, match="the queue is full") as caught:
            client.infer("m", {"x": SMALL})
    assert caught.value.retry_after_s is None
    assert len(peer.received) == 1


def test_a_server_that_wants_more_time_than_there_is_is_not_waited_for(make_client):
    with ScriptedPeer([Answer([busy(retry_after=3600)])]) as peer:
        client = make_client(peer.url, retries=AT_ONCE)
        with pytest.raises(errors.Unavailable) as caught:
            client.infer("m", {"x": SMALL})
    assert caught.value.retry_after_s == 3600


def test_a_probe_is_answered_at_once_by_a_busy_server(make_client):
    with ScriptedPeer([Answer([busy(retry_after=1)])]) as peer:
        assert make_client(peer.url).server_ready() is False


@pytest.mark.parametrize(
    ("pieces", "reads_body", "array", "phase"),
    [
        ([], False, BIG, "sending the request to"),
        ([], True, SMALL, "waiting for the answer of"),
        ([ANSWER[:3]], True, SMALL, "receiving the answer of"),
        ([ANSWER[:-5]], True, SMALL, "receiving the answer of"),
        ([b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n"], True, SMALL, "receiving"),
    ],
)
def test_the_error_says_what_took_too_long(make_client, pieces, reads_body, array, phase):
    slow = Answer(pieces, reads_body=reads_body, holds=True)
    with ScriptedPeer([slow], [Answer([ANSWER])]) as peer:
        client = make_client(peer.url, timeouts=SOON, retries=AT_ONCE)
        with pytest.raises(errors.DeadlineExceeded) as caught:
            client.infer("m", {"x": array})
    assert caught.value.message.startswith(f"time ran out while {phase}")
    assert peer.url in caught.value.message
    assert len(peer.received) == 1


@pytest.mark.parametrize(
    ("start", "drips"),
    [
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"a: b\r\n"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n", b"x"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"1\r\nx\r\n"),
        (b"HTTP/1.1 200 OK\r\n\r\n", b"x"),
    ],
)
def test_an_answer_that_comes_in_drips_does_not_stretch_the_time(make_client, start, drips):
    with ScriptedPeer([Answer([start], drips=drips)]) as peer:
        client = make_client(peer.url, timeouts=SOON)
        with pytest.raises(errors.DeadlineExceeded, match="receiving the answer of"):
            client.infer("m", {"x": SMALL})


def test_a_try_that_took_too_long_is_repeated_only_if_that_is_harmless(make_client):
    patient = Timeouts(attempt_s=0.25)
    script = ([Answer(holds=True)], [Answer(holds=True)], [Answer([ANSWER])])
    with ScriptedPeer(*script) as peer:
        client = make_client(peer.url, timeouts=patient, retries=AT_ONCE)
        with pytest.raises(errors.DeadlineExceeded, match="waiting for the answer"):
            client.infer("m", {"x": SMALL})
        assert peer.connections == [0]
        response = client.infer("m", {"x": SMALL}, idempotent=True)
    np.testing.assert_array_equal(response.outputs["y"], SMALL)
    assert peer.connections == [0, 1, 2]


def test_a_late_answer_is_not_taken_for_the_next_one(make_client):
    late = Answer([ANSWER[:40]], holds=True)
    with ScriptedPeer([late, late], [Answer([LIVE])]) as peer:
        client = make_client(peer.url, timeouts=SOON)
        with pytest.raises(errors.DeadlineExceeded):
            client.infer("m", {"x": SMALL})
        assert client.server_live() is True
    assert peer.connections == [0, 1]


def test_a_closed_client_says_so(make_client):
    with ScriptedPeer([Answer([LIVE])]) as peer:
        client = make_client(peer.url)
        assert client.server_live()
        client.close()
        with pytest.raises(errors.ConnectionFailed, match="this client is closed"):
            client.server_live()


def test_what_was_said_unasked_is_not_an_answer(make_client):
    # The first connection offers a reply that nobody asked for; it must not be taken.
    extra = reply(b"{}", "404 Not Found")
    with ScriptedPeer([Answer([LIVE, extra], "close")], [Answer([LIVE])]) as peer:
        client = make_client(peer.url)
        assert client.server_live() is True
        peer.wait_closed(0)
        assert client.server_live() is True
    assert peer.connections == [0, 1]
