"""What goes over the wire and what comes back, with a peer that follows a script."""

from __future__ import annotations

import json
import socket

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, infer_reply, json_reply, reply
from pelton import errors
from pelton.client import Bounds, Retries, Timeouts

IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
SCORES = np.array([[0.25, 0.75]], dtype=np.float32)
ANSWER = infer_reply(("scores", "FP32", [1, 2], SCORES.tobytes()), id="a-1")


def chunked(body: bytes, size: int, head: str, end: bytes = b"0\r\n\r\n") -> bytes:
    cut = (body[at : at + size] for at in range(0, len(body), size))
    return head.encode() + b"".join(b"%x\r\n%b\r\n" % (len(one), one) for one in cut) + end


def test_a_request_is_exactly_these_bytes(make_client):
    with ScriptedPeer([Answer([ANSWER])]) as peer:
        make_client(peer.url, headers={"Authorization": "Bearer x"}).infer(
            "m",
            {"image": IMAGE, "gain": np.float64(2.0)},
            outputs=["scores"],
            version=3,
            request_id="a-1",
            parameters={"priority": 1},
        )
    (request,) = peer.received
    length = request.headers["inference-header-content-length"]
    assert request.head.decode() == (
        "POST /v2/models/m/versions/3/infer HTTP/1.1\r\n"
        f"Host: 127.0.0.1:{peer.port}\r\n"
        "User-Agent: pelton\r\n"
        "Authorization: Bearer x\r\n"
        "Content-Type: application/octet-stream\r\n"
        f"Inference-Header-Content-Length: {length}\r\n"
        f"Content-Length: {int(length) + 32}\r\n"
        "\r\n"
    )
    header, tensors = request.tensors
    assert header["id"] == "a-1"
    assert header["parameters"] == {"priority": 1}
    assert [one["name"] for one in header["outputs"]] == ["scores"]
    assert [(one["name"], one["datatype"], one["shape"]) for one in header["inputs"]] == [
        ("image", "UINT8", [2, 3, 4]),
        ("gain", "FP64", []),
    ]
    assert tensors == IMAGE.tobytes() + np.float64(2.0).tobytes()


def test_a_request_without_binary_data_is_all_json(make_client):
    with ScriptedPeer([Answer([ANSWER])]) as peer:
        make_client(peer.url).infer("m", {"x": np.empty((0, 3), np.float32)})
    (request,) = peer.received
    assert request.headers["content-type"] == "application/json"
    assert "inference-header-content-length" not in request.headers
    assert json.loads(request.body)["inputs"][0]["shape"] == [0, 3]


def test_a_question_has_no_body(make_client):
    with ScriptedPeer([Answer([json_reply({"live": True})])]) as peer:
        assert make_client(peer.url).server_live() is True
    (request,) = peer.received
    assert request.head.decode() == (
        f"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1:{peer.port}\r\nUser-Agent: pelton\r\n\r\n"
    )


FRAMINGS = {
    "whole": [ANSWER],
    "byte by byte": [ANSWER[at : at + 1] for at in range(len(ANSWER))],
    "after interim heads": [
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nA: b\r\n\r\n",
        ANSWER,
    ],
    "interim head in the same packet": [b"HTTP/1.1 102 Processing\r\n\r\n" + ANSWER],
    "in odd case": [ANSWER.replace(b"content-length", b"cOnTeNt-LeNgTh")],
}


def _infer_body() -> tuple[bytes, str]:
    head, body = ANSWER.split(b"\r\n\r\n", 1)
    kept = [line for line in head.decode().split("\r\n") if not line.startswith("content-length")]
    return body, "\r\n".join(kept)


_BODY, _HEAD = _infer_body()
_CHUNKED_HEAD = f"{_HEAD}\r\ntransfer-encoding: chunked\r\n\r\n"
FRAMINGS |= {
    "one chunk": [chunked(_BODY, len(_BODY), _CHUNKED_HEAD)],
    "chunks of one byte": [chunked(_BODY, 1, _CHUNKED_HEAD)],
    "chunks with a trailer": [
        chunked(_BODY, 7, _CHUNKED_HEAD, b"0\r\ninference-header-content-length: 0\r\n\r\n")
    ],
    "chunks byte by byte": [
        bytes([each]) for each in chunked(_BODY, 9, _CHUNKED_HEAD.replace("chunked", "Chunked"))
    ],
}


@pytest.mark.parametrize("framing", FRAMINGS)
def test_an_answer_is_read_however_it_is_framed_and_the_connection_kept(make_client, framing):
    script = [Answer(FRAMINGS[framing]), Answer([json_reply({"live": True})])]
    with ScriptedPeer(script) as peer:
        client = make_client(peer.url)
        response = client.infer("m", {"image": IMAGE})
        assert client.server_live() is True
    assert (response.model, response.version, response.id) == ("m", "1", "a-1")
    assert list(response.outputs) == ["scores"]
    np.testing.assert_array_equal(response.outputs["scores"], SCORES)
    assert response.outputs["scores"].dtype == np.float32
    assert peer.connections == [0, 0]


ENDINGS = {
    "until close": [f"{_HEAD}\r\n\r\n".encode() + _BODY],
    "HTTP/1.0": [ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0")],
    "Connection: close": [ANSWER.replace(b"\r\n", b"\r\nConnection: x, Close\r\n", 1)],
    "an answer follows": [ANSWER + b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
    "noise follows the chunks": [chunked(_BODY, 50, _CHUNKED_HEAD) + b"zz"],
    "an answer follows the chunks": [chunked(_BODY, 50, _CHUNKED_HEAD) + ANSWER],
}


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_connection_that_cannot_be_used_again_is_not(make_client, ending):
    then = "close" if ending == "until close" else "keep"
    first = [Answer(ENDINGS[ending], then), Answer([reply(status="500 Not this one")])]
    with ScriptedPeer(first, [Answer([json_reply({"live": True})])]) as peer:
        client = make_client(peer.url)
        response = client.infer("m", {"image": IMAGE})
        assert client.server_live() is True
    np.testing.assert_array_equal(response.outputs["scores"], SCORES)
    assert peer.connections == [0, 1]


def test_a_connection_that_the_server_closed_meanwhile_is_replaced(make_client):
    with ScriptedPeer([Answer([ANSWER], "close")], [Answer([ANSWER])]) as peer:
        client = make_client(peer.url, retries=Retries(attempts=1))
        client.infer("m", {"image": IMAGE})
        peer.wait_closed(0)
        client.infer("m", {"image": IMAGE})
    assert peer.connections == [0, 1]


def test_an_old_connection_is_not_trusted(make_client):
    answer = Answer([json_reply({"live": True})])
    with ScriptedPeer([answer, answer], [answer]) as peer:
        client = make_client(peer.url, timeouts=Timeouts(idle_s=1e-9))
        assert client.server_live()
        assert client.server_live()
    assert peer.connections == [0, 1]


BAD_REPLIES = {
    "no HTTP": (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "does not speak HTTP/1.1"),
    "two lengths": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
        "does not speak HTTP/1.1",
    ),
    "length and chunks": (
        b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n{}",
        "does not speak HTTP/1.1",
    ),
    "negative length": (reply(b"{}", content_length=-2), "does not speak HTTP/1.1"),
    "too long": (reply(b"{}", content_length=10**14), "larger than the 1000 bytes"),
    "too many chunks": (chunked(bytes(2000), 500, _CHUNKED_HEAD), "larger than the 1000 bytes"),
    "too long until close": (f"{_HEAD}\r\n\r\n".encode() + bytes(2000), "than the 1000 bytes"),
    "broken chunk": (_CHUNKED_HEAD.encode() + b"zz\r\n", "its chunks are malformed"),
    "endless trailer": (
        _CHUNKED_HEAD.encode() + b"0\r\na: " + bytes([97]) * 100_000,
        "more framing than data",
    ),
    "other coding": (b"HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n", "coding 'gzip'"),
    "endless head": (b"HTTP/1.1 200 OK\r\na: " + bytes([97]) * 70_000, "larger than 65536 bytes"),
    "upgrade": (
        b"HTTP/1.1 101 Go\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "another protocol",
    ),
    "compressed": (reply(b"xx", content_encoding="gzip"), "compressed"),
    "no JSON": (reply(b"<html>"), "cannot be read"),
    "JSON of another kind": (json_reply([]), "cannot be read"),
    "header length": (reply(b"{}", inference_header_content_length="+2"), "cannot be read"),
    "header beyond body": (reply(b"{}", inference_header_content_length=3), "cannot be read"),
    "size beyond body": (
        infer_reply(("y", "UINT8", [9], bytes(4))),
        "cannot be read",
    ),
}


@pytest.mark.parametrize("case", BAD_REPLIES)
def test_an_answer_that_is_none_is_an_error_and_not_asked_for_again(make_client, case):
    raw, said = BAD_REPLIES[case]
    with ScriptedPeer([Answer([raw], "close")], [Answer([ANSWER])]) as peer:
        client = make_client(peer.url, bounds=Bounds(max_reply_bytes=1000))
        with pytest.raises(errors.ConnectionFailed) as caught:
            client.infer("m", {"image": IMAGE}, idempotent=True)
    assert said in caught.value.message
    assert len(peer.received) == 1


def error_body(code: str, message: str = "so it is") -> dict[str, str]:
    return {"error": message, "code": code, "request_id": "r"}


REFUSALS = [
    (400, "invalid_input", errors.InvalidRequest),
    (404, "not_found", errors.NotFound),
    (413, "too_large", errors.InvalidRequest),
    (500, "model_failed", errors.ModelFailed),
    (500, "internal", errors.PeltonError),
    (503, "unavailable", errors.Unavailable),
    (504, "deadline_exceeded", errors.DeadlineExceeded),
]


@pytest.mark.parametrize(("status", "code", "kind"), REFUSALS)
def test_a_refusal_comes_back_as_the_error_that_the_server_meant(make_client, status, code, kind):
    raw = json_reply(error_body(code), f"{status} No")
    with ScriptedPeer([Answer([raw]), Answer([ANSWER])]) as peer:
        client = make_client(peer.url)
        with pytest.raises(errors.PeltonError) as caught:
            client.infer("m", {"image": IMAGE})
        client.infer("m", {"image": IMAGE})
    assert type(caught.value) is kind
    assert caught.value.code == code
    assert caught.value.message == "so it is"
    assert peer.connections == [0, 0]


FOREIGN = [
    (502, "text/html", b"<html>Bad Gateway</html>", errors.ConnectionFailed, "502 Bad Gateway"),
    (404, "application/json", b'{"detail":"x"}', errors.NotFound, "404 Not Found"),
    (503, "application/json", b"not JSON", errors.Unavailable, "503 Service Unavailable"),
    (302, "text/plain", b"", errors.PeltonError, "302 Found"),
    (418, "application/json", b"[1]", errors.InvalidRequest, "418"),
    (599, "application/octet-stream", b"no pickle", errors.PeltonError, "599"),
    (400, "application/json", b'{"error":"plain words"}', errors.InvalidRequest, "plain words"),
]


@pytest.mark.parametrize(("status", "kind", "body", "error", "said"), FOREIGN)
def test_an_answer_from_something_in_between_tells_its_status(
    make_client, status, kind, body, error, said
):
    raw = reply(body, f"{status} ", content_type=kind)
    with ScriptedPeer([Answer([raw])]) as peer, pytest.raises(errors.PeltonError) as caught:
        make_client(peer.url).infer("m", {"image": IMAGE})
    assert type(caught.value) is error
    assert said in caught.value.message


def test_a_long_foreign_message_is_cut(make_client):
    raw = json_reply(error_body("invalid_input", "x" * 100_000), "400 Bad Request")
    with ScriptedPeer([Answer([raw])]) as peer, pytest.raises(errors.InvalidRequest) as caught:
        make_client(peer.url).infer("m", {"image": IMAGE})
    assert caught.value.message == "x" * 2000


def test_many_inputs_are_all_sent(make_client):
    inputs = {f"x{number}": np.full(3, number, np.int32) for number in range(1500)}
    with ScriptedPeer([Answer([ANSWER])]) as peer:
        make_client(peer.url).infer("m", inputs)
    header, tensors = peer.received[0].tensors
    assert [one["name"] for one in header["inputs"]] == list(inputs)
    assert tensors == np.repeat(np.arange(1500, dtype=np.int32), 3).tobytes()


def test_a_big_body_arrives_whole_both_ways(make_client):
    big = np.random.default_rng(7).integers(0, 256, (3, 1080, 1920), np.uint8)
    answer = infer_reply(("y", "UINT8", list(big.shape), big.tobytes()))
    with ScriptedPeer([Answer([answer])]) as peer:
        response = make_client(peer.url).infer("m", {"x": big})
    assert peer.received[0].tensors[1] == big.tobytes()
    np.testing.assert_array_equal(response.outputs["y"], big)
    assert not response.outputs["y"].flags.writeable


def test_a_prefix_and_odd_names_stay_in_the_path(make_client):
    with ScriptedPeer([Answer([reply()]), Answer([json_reply({})])]) as peer:
        client = make_client(f"{peer.url}/behind/pelton/")
        assert client.model_ready("a/../b?c#d e\r\nX: 1", "1/2") is True
        assert client.stats("a&b=c") == {}
    assert peer.lines == [
        "GET /behind/pelton/v2/models/a%2F..%2Fb%3Fc%23d%20e%0D%0AX%3A%201"
        "/versions/1%2F2/ready HTTP/1.1",
        "GET /behind/pelton/stats?model=a%26b%3Dc HTTP/1.1",
    ]


@pytest.mark.parametrize("name", ["", ".", "..", "\ud800", None])
def test_a_name_that_no_path_can_carry_is_refused_before_it_is_sent(make_client, name):
    client = make_client("http://127.0.0.1:1")
    with pytest.raises(errors.InvalidRequest, match="model name"):
        client.infer(name, {"image": IMAGE})


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6")
def test_an_ipv6_address_is_written_in_brackets(make_client):
    with ScriptedPeer([Answer([json_reply({})])], family=socket.AF_INET6) as peer:
        make_client(peer.url).server_ready()
    assert peer.received[0].headers["host"] == f"[::1]:{peer.port}"


def test_a_name_with_several_addresses_reaches_the_one_that_answers(make_client):
    # `localhost` is usually ::1 and 127.0.0.1; the peer listens on the second only.
    with ScriptedPeer([Answer([json_reply({})])]) as peer:
        assert make_client(f"http://localhost:{peer.port}").server_live()


def test_text_lists_and_numbers_are_inputs_too(make_client):
    with ScriptedPeer([Answer([ANSWER])]) as peer:
        make_client(peer.url).infer("m", {"text": ["ab", "c"], "n": [[1, 2]], "yes": True})
    header, tensors = peer.received[0].tensors
    assert [(one["datatype"], one["shape"]) for one in header["inputs"]] == [
        ("BYTES", [2]),
        ("INT64", [1, 2]),
        ("BOOL", []),
    ]
    assert tensors == b"\2\0\0\0ab\1\0\0\0c" + np.array([1, 2]).tobytes() + b"\1"


def test_a_datatype_that_numpy_does_not_have_can_be_named(make_client):
    with ScriptedPeer([Answer([ANSWER])]) as peer:
        make_client(peer.url).infer(
            "m", {"x": np.array([1.0, -2.0], np.float32)}, datatypes={"x": "BF16"}
        )
    header, tensors = peer.received[0].tensors
    assert header["inputs"][0]["datatype"] == "BF16"
    assert tensors == b"\x80\x3f\x00\xc0"


def test_a_ragged_list_is_refused_by_name(make_client):
    with pytest.raises(errors.InvalidRequest, match="input 'x' is no array"):
        make_client("http://127.0.0.1:1").infer("m", {"x": [[1], [1, 2]]})


def test_what_a_server_tells_about_itself(make_client):
    digits = {
        "name": "digits",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 8, 8]}],
        "outputs": [],
    }
    answers = [
        json_reply({"name": "pelton", "version": "0.1", "extensions": ["parameters"]}),
        json_reply(digits),
        json_reply({"models": [digits | {"state": "READY"}]}),
        json_reply({"total_requests": 3}),
        reply(status="503 Not now"),
        reply(status="400 No"),
        reply(status="404 Who"),
    ]
    with ScriptedPeer([Answer([each]) for each in answers]) as peer:
        client = make_client(peer.url)
        server = client.server_metadata()
        model = client.model_metadata("digits")
        (row,) = client.models()
        stats = client.stats()
        ready = [client.server_ready(), client.model_ready("m"), client.model_ready("x", 4)]
    assert (server.name, server.version, server.extensions) == ("pelton", "0.1", ("parameters",))
    assert (model.name, model.versions, model.state) == ("digits", ("1", "2"), "")
    assert model.inputs[0].shape == (-1, 8, 8)
    assert (row.name, row.platform, row.state) == ("digits", "onnxruntime_onnx", "READY")
    assert stats == {"total_requests": 3}
    assert ready == [False, False, False]
    assert [line.split()[1] for line in peer.lines] == [
        "/v2",
        "/v2/models/digits",
        "/v2/models",
        "/stats",
        "/v2/health/ready",
        "/v2/models/m/ready",
        "/v2/models/x/versions/4/ready",
    ]


@pytest.mark.parametrize(
    "said",
    [
        {"versions": []},
        {"name": "m", "platform": 3},
        {"name": "m", "platform": "p", "inputs": {}},
        {"name": "m", "platform": "p", "inputs": [3]},
        {"name": "m", "platform": "p", "inputs": [{"name": "x"}]},
        {"name": "m", "platform": "p", "outputs": [{"name": "x", "datatype": "U", "shape": [1.5]}]},
    ],
)
def test_metadata_that_is_none_is_an_error(make_client, said):
    with ScriptedPeer([Answer([json_reply(said)])]) as peer:
        client = make_client(peer.url)
        with pytest.raises(errors.ConnectionFailed, match="cannot be read"):
            client.model_metadata("m")
