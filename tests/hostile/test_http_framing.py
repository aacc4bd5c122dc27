"""Heads and framings that two servers could read in two ways: refused, and the connection closed."""

from __future__ import annotations

import pytest

from hostile.conditions import Conditions, assert_error, assert_users_error
from raw_http import Wire, get, head_bytes, plain
from support_server import ServerProcess

INFER = "/v2/models/matmul/infer"
HIDDEN = b"GET /v2/health/live HTTP/1.1\r\nHost: test\r\n\r\n"
"""A request that a lenient parser would find behind the attack, and answer too."""


def request(*lines: bytes, body: bytes = b"") -> bytes:
    return b"\r\n".join([b"POST " + INFER.encode() + b" HTTP/1.1", *lines, b"", b""]) + body


HOST = b"Host: test"
LENGTH = b"Content-Length: 5"
CHUNKED = b"Transfer-Encoding: chunked"
NO_BODY = b"0\r\n\r\n"

REFUSED = {
    "content-length and chunked": request(HOST, b"Content-Length: 6", CHUNKED, body=NO_BODY),
    "chunked and content-length": request(HOST, CHUNKED, b"Content-Length: 6", body=NO_BODY),
    "two lengths that differ": request(HOST, LENGTH, b"Content-Length: 6", body=b"12345"),
    "two lengths that agree": request(HOST, LENGTH, LENGTH, body=b"12345"),
    "a list of lengths": request(HOST, b"Content-Length: 5, 5", body=b"12345"),
    "xchunked": request(HOST, b"Transfer-Encoding: xchunked", body=NO_BODY),
    "gzip, chunked": request(HOST, b"Transfer-Encoding: gzip, chunked", body=NO_BODY),
    "chunked, gzip": request(HOST, b"Transfer-Encoding: chunked, gzip", body=NO_BODY),
    "chunked, chunked": request(HOST, b"Transfer-Encoding: chunked, chunked", body=NO_BODY),
    "chunked twice": request(HOST, CHUNKED, CHUNKED, body=NO_BODY),
    "identity": request(HOST, b"Transfer-Encoding: identity", LENGTH, body=b"12345"),
    "empty transfer-encoding": request(HOST, b"Transfer-Encoding:", LENGTH, body=b"12345"),
    "vertical tab": request(HOST, b"Transfer-Encoding: \x0bchunked", LENGTH, body=b"12345"),
    "a tab behind chunked": request(HOST, b"Transfer-Encoding: chunked\t", body=NO_BODY),
    "quoted chunked": request(HOST, b'Transfer-Encoding: "chunked"', LENGTH, body=b"12345"),
    "space before the colon": request(HOST, b"Transfer-Encoding : chunked", body=NO_BODY),
    "space in a name": request(HOST, b"Content Length: 5", body=b"12345"),
    "obs-fold": request(HOST, b"X-Note: a\r\n b", LENGTH, body=b"12345"),
    "obs-fold hides chunked": request(HOST, b"Transfer-Encoding:\r\n chunked", body=NO_BODY),
    "NUL in a value": request(HOST, b"X-Note: a\0b", LENGTH, body=b"12345"),
    "NUL in a name": request(HOST, b"X-No\0te: a", LENGTH, body=b"12345"),
    "CR in a value": request(HOST, b"X-Note: a\rb", LENGTH, body=b"12345"),
    "LF between headers": request(HOST, b"X-Note: a\nContent-Length: 5", body=b"12345"),
    "LF behind the request line": request(HOST, LENGTH, body=b"12345").replace(b"\r\n", b"\n", 1),
    "LF everywhere": request(HOST, LENGTH, body=b"12345").replace(b"\r\n", b"\n"),
    "no name": request(HOST, b": nothing", LENGTH, body=b"12345"),
    "no colon": request(HOST, b"nothing", LENGTH, body=b"12345"),
    "length -1": request(HOST, b"Content-Length: -1", body=b"12345"),
    "length +5": request(HOST, b"Content-Length: +5", body=b"12345"),
    "length 1_0": request(HOST, b"Content-Length: 1_0", body=b"1234567890"),
    "length 0x5": request(HOST, b"Content-Length: 0x5", body=b"12345"),
    "length 5.0": request(HOST, b"Content-Length: 5.0", body=b"12345"),
    "length 1e1": request(HOST, b"Content-Length: 1e1", body=b"1234567890"),
    "length empty": request(HOST, b"Content-Length:", body=b"12345"),
    "length of Arabic digits": request(HOST, "Content-Length: ٥".encode(), body=b"12345"),
    "length 10^20": request(HOST, b"Content-Length: 1" + b"0" * 20, body=b"12345"),
    "length 2^64+5": request(HOST, b"Content-Length: 18446744073709551621", body=b"12345"),
    "no host": request(LENGTH, body=b"12345"),
    "two hosts": request(HOST, b"Host: other", LENGTH, body=b"12345"),
    "the same host twice": request(HOST, HOST, LENGTH, body=b"12345"),
    "an empty host": request(b"Host:", LENGTH, body=b"12345"),
    "a slash in the host": request(b"Host: a/admin?", LENGTH, body=b"12345"),
    "credentials in the host": request(b"Host: user@a", LENGTH, body=b"12345"),
    "a comma in the host": request(b"Host: a, b", LENGTH, body=b"12345"),
    "a port of letters": request(b"Host: a:http", LENGTH, body=b"12345"),
    "a space in the target": b"GET /v2 /v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: test\r\n\r\n",
    "no version": b"GET /v2\r\nHost: test\r\n\r\n",
    "HTTP/1.2": b"GET /v2 HTTP/1.2\r\nHost: test\r\n\r\n",
    "HTTP/2.0": b"GET /v2 HTTP/2.0\r\nHost: test\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "SHTTP": b"GET /v2 SHTTP/1.1\r\nHost: test\r\n\r\n",
    "a method in small letters": b"get /v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a method of our own": b"BREW /v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a control character in the target": b"GET /v2\x01 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a byte over 127 in the target": b"GET /v2\xff HTTP/1.1\r\nHost: test\r\n\r\n",
    "a fragment in the target": b"GET /v2#live HTTP/1.1\r\nHost: test\r\n\r\n",
    "an address without a name": b"GET http:///v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "an address without a path": b"GET http://test HTTP/1.1\r\nHost: test\r\n\r\n",
    "an address with a port of letters": b"GET http://a:b/v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a target that is no path": b"GET v2 HTTP/1.1\r\nHost: test\r\n\r\n",
    "a TLS hello": bytes.fromhex("16030100c8010000c40303") + b"\x5a" * 190,
    "an SSH greeting": b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
    "a redis command": b"*1\r\n$4\r\nPING\r\n\r\n",
    "zeros": bytes(500),
    "JSON": b'{"inputs": []}\r\n\r\n',
}


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED.keys())
def test_an_ambiguous_request_has_one_answer_and_is_the_last(
    target: ServerProcess, conditions: Conditions, attack: bytes
) -> None:
    def send() -> None:
        with Wire(target.port) as wire:
            wire.send_while_taken(attack + HIDDEN)
            replies = wire.all_replies()
        assert len(replies) == 1
        assert_error(replies[0], 400)
        assert replies[0].headers["connection"] == "close"

    with conditions.unharmed():
        send()
        conditions.memory_settles(send)


@pytest.mark.parametrize("attack", REFUSED.values(), ids=REFUSED.keys())
def test_it_is_refused_behind_a_good_request_too(
    target: ServerProcess, conditions: Conditions, attack: bytes
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        assert wire.ask(get("/v2/health/live")).status == 200
        wire.send_while_taken(attack + HIDDEN)
        replies = wire.all_replies()
        assert [reply.status for reply in replies] == [400]


@pytest.mark.parametrize("value", [b"chunked", b"Chunked", b" CHUNKED", b"\t chunked"])
def test_chunked_in_any_letters_is_understood(target: ServerProcess, value: bytes) -> None:
    with Wire(target.port) as wire:
        reply = wire.ask(request(HOST, b"Transfer-Encoding:" + value, body=b"2\r\n{}\r\n0\r\n\r\n"))
        assert 'no "inputs"' in assert_error(reply, 400)["error"]
        assert wire.ask(HIDDEN).status == 200


CHUNKS = {
    "a size that is no number": b"x\r\n12345\r\n0\r\n\r\n",
    "a size with a sign": b"+5\r\n12345\r\n0\r\n\r\n",
    "a negative size": b"-5\r\n12345\r\n0\r\n\r\n",
    "a size of 2^64+5": b"10000000000000005\r\n12345\r\n0\r\n\r\n",
    "0x": b"0x5\r\n12345\r\n0\r\n\r\n",
    "no size": b"\r\n12345\r\n0\r\n\r\n",
    "a space before the size": b" 5\r\n12345\r\n0\r\n\r\n",
    "LF behind the size": b"5\n12345\r\n0\r\n\r\n",
    "more than the size": b"5\r\n123456\r\n0\r\n\r\n",
    "less than the size": b"6\r\n12345\r\n0\r\n\r\n",
    "a trailer that is none": b"5\r\n12345\r\n0\r\nno trailer\r\n\r\n",
    "a NUL in a trailer": b"5\r\n12345\r\n0\r\nX: \0\r\n\r\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
@pytest.mark.parametrize("first", [b"", HIDDEN], ids=["fresh", "kept"])
def test_broken_chunks(
    target: ServerProcess, conditions: Conditions, chunks: bytes, first: bytes
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        if first:
            assert wire.ask(first).status == 200
        wire.send_while_taken(request(HOST, CHUNKED, body=chunks) + HIDDEN)
        replies = wire.all_replies()
        assert len(replies) == 1
        assert_error(replies[0], 400)


def test_one_terabyte_is_refused_before_any_of_it(
    target: ServerProcess, conditions: Conditions
) -> None:
    def send() -> None:
        with Wire(target.port) as wire:
            reply = wire.ask(head_bytes("POST", INFER, {"Content-Length": str(10**12)}))
            assert "67108864" in assert_error(reply, 413)["error"]
            assert wire.rest() == b""

    with conditions.unharmed():
        send()
        conditions.memory_settles(send)


def test_one_byte_over_the_limit(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed():
        for path in (INFER, "/infer", "/v2", "/nowhere"):
            with Wire(target.port) as wire:
                head = head_bytes("POST", path, {"Content-Length": str(64 * 1024 * 1024 + 1)})
                assert_error(wire.ask(head), 413)


def test_long_heads(target: ServerProcess, conditions: Conditions) -> None:
    heads = {
        "one header of 1 MB": get("/v2", {"X-Note": "a" * 1_000_000}),
        "100 000 headers": get("/v2", [(f"X-{index}", "a") for index in range(100_000)]),
        "101 headers": get("/v2", [(f"X-{index}", "a") for index in range(100)]),
        "no end in sight": b"GET /v2 HTTP/1.1\r\nHost: test\r\nX-Note: " + b"a" * 1_000_000,
    }

    def send() -> None:
        for name, head in heads.items():
            with Wire(target.port) as wire:
                wire.send_while_taken(head)
                replies = wire.all_replies()
                assert len(replies) == 1, name
                assert_error(replies[0], 431)

    with conditions.unharmed():
        send()
        conditions.memory_settles(send, repeats=10)


def test_a_head_of_the_longest_length_and_one_with_the_most_headers_are_read(
    target: ServerProcess,
) -> None:
    empty = len(get("/v2", {"X-Note": ""}))
    with Wire(target.port) as wire:
        note = "a" * (64 * 1024 - empty)
        assert wire.ask(get("/v2", {"X-Note": note})).status == 200
        assert wire.ask(get("/v2", [(f"X-{index}", "a") for index in range(99)])).status == 200


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_methods_that_reach_behind_a_server(
    target: ServerProcess, conditions: Conditions, method: str
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        target_of = "test:80" if method == "CONNECT" else "/v2"
        wire.send_while_taken(head_bytes(method, target_of) + HIDDEN)
        replies = wire.all_replies()
        assert len(replies) == 1
        assert_error(replies[0], 405)


@pytest.mark.parametrize("path", ["/v2", "/infer", INFER, "/v2/health/live", "/docs"])
def test_a_wrong_verb_is_told_and_the_connection_goes_on(
    target: ServerProcess, conditions: Conditions, path: str
) -> None:
    allowed = "POST" if path.endswith("infer") else "GET"
    with conditions.unharmed(), Wire(target.port) as wire:
        for method in ("GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PURGE"):
            if method == allowed:
                continue
            reply = wire.ask(head_bytes(method, path))
            assert "Method Not Allowed" in assert_error(reply, 405)["error"], method
            assert reply.headers["allow"] == allowed
        wire.send(head_bytes("HEAD", "/infer"))
        assert wire.reply("HEAD").status == 405
        assert wire.ask(HIDDEN).status == 200


PATHS = [
    "/nowhere",
    "/",
    "//v2",
    "/v2/",
    "/v2/models/",
    "/v2/models//infer",
    "/v2/models/./infer",
    "/v2/models/../infer",
    "/v2/models/..%2f..%2fetc%2fpasswd/infer",
    "/v2/models/..%5c..%5cetc/infer",
    "/v2/models/%2e%2e/infer",
    "/v2/models/matmul%00/infer",
    "/v2/models/matmul%0a/infer",
    "/v2/models/matmul%20/infer",
    "/v2/models/%c0%ae%c0%ae/infer",
    "/v2/models/%ff%fe/infer",
    "/v2/models/%zz/infer",
    "/v2/models/%/infer",
    "/v2/models/%25/infer",
    "/v2/models/matmul/infer/",
    "/v2/models/matmul/versions//infer",
    "/v2/models/matmul/versions/2/infer",
    "/v2/models/matmul/versions/-1/infer",
    "/v2/models/matmul/versions/01/infer",
    "/v2/models/matmul/versions/%31%00/infer",
    "/v2/models/matmul/versions/latest/infer",
    "/V2/models/matmul/infer",
    "/v2/models/Matmul/infer",
    "/v2/models/" + "m" * 5000 + "/infer",
    "/infer/",
    "/infer%00",
    "/static-offline-docs/..%2f..%2f..%2fetc%2fpasswd",
    "/static-offline-docs/../../../etc/passwd",
    "/static-offline-docs/%00",
    "/static-offline-docs/",
    "/openapi.json/",
]


@pytest.mark.parametrize("path", PATHS, ids=[path[:60] for path in PATHS])
def test_a_strange_path_names_nothing(
    target: ServerProcess, conditions: Conditions, path: str
) -> None:
    def send() -> None:
        for method in ("GET", "POST"):
            with Wire(target.port) as wire:
                reply = wire.ask(plain(path, b"", method=method))
                wrong_verb = {"GET": "infer", "POST": "static"}[method]
                said = assert_error(reply, 404, 405 if wrong_verb in path else 404)
                assert "\0" not in said["error"]
                assert wire.ask(HIDDEN).status == 200

    with conditions.unharmed():
        send()
        conditions.memory_settles(send, repeats=50)


def test_long_paths(target: ServerProcess, conditions: Conditions) -> None:
    with conditions.unharmed():
        for path, statuses in (
            ("/" + "a" * 8191, (404,)),
            ("/" + "a" * 8192, (414,)),
            ("/v2/models/" + "a" * 60_000 + "/infer", (414,)),
            ("/" + "a" * 65_536, (431,)),
            ("/v2?" + "a" * 60_000, (414,)),
        ):
            with Wire(target.port) as wire:
                assert_error(wire.ask(get(path)), *statuses)


def test_many_ranges_of_a_static_file(target: ServerProcess, conditions: Conditions) -> None:
    path = "/static-offline-docs/swagger-ui.css"
    ranges = {
        "one": "bytes=0-9",
        "many": "bytes=" + ",".join(f"{at}-" for at in range(9000)),
        "all the same": "bytes=" + ",".join(["0-"] * 15_000),
        "none": "bytes=9999999999-",
        "garbage": "bytes=" + "-" * 60_000,
    }

    def send() -> None:
        for told in ranges.values():
            with Wire(target.port) as wire:
                wire.send(get(path, {"Range": told}))
                reply = wire.reply()
                assert reply.status in (200, 206, 400, 416)
                assert len(reply.body) < 2_000_000

    with conditions.unharmed():
        send()
        conditions.memory_settles(send, repeats=10)


def test_the_host_header_changes_nothing_but_whether_it_is_ours(target: ServerProcess) -> None:
    def told(host: str) -> tuple[int, bytes]:
        with Wire(target.port) as wire:
            reply = wire.ask(f"GET /v2 HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        return reply.status, reply.body

    ours = {told(host) for host in ("test", "127.0.0.1:50000", "[::1]:50000", "localhost")}
    assert len(ours) == 1
    assert ours.pop()[0] == 200
    # A name can be bent to this address, so that a page of strangers asks "its own" server.
    assert {told(host)[0] for host in ("a_b.example", "evil.example", "10.0.0.1")} == {403}


def test_absolute_targets_go_where_their_path_goes(target: ServerProcess) -> None:
    with Wire(target.port) as wire:
        assert wire.ask(get("http://test/v2/health/live")).status == 200
        assert_error(wire.ask(get("http://test/nowhere")), 404)
        assert wire.ask(get("http://test/v2/health/live")).status == 200


def test_wishes_to_switch_protocols_are_passed_over(
    target: ServerProcess, conditions: Conditions
) -> None:
    with conditions.unharmed(), Wire(target.port) as wire:
        for headers in (
            {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13"},
            {"Connection": "Upgrade, HTTP2-Settings", "Upgrade": "h2c", "HTTP2-Settings": "AAMA"},
        ):
            assert wire.ask(get("/v2/health/live", headers)).status == 200
            reply = wire.ask(plain(INFER, b"{}", headers))
            assert 'no "inputs"' in assert_error(reply, 400)["error"]
            chunks = {**headers, "Transfer-Encoding": "chunked"}
            reply = wire.ask(head_bytes("POST", INFER, chunks) + b"2\r\n{}\r\n0\r\n\r\n")
            assert 'no "inputs"' in assert_error(reply, 400)["error"]
        assert wire.ask(HIDDEN).status == 200


def test_blanks_around_a_value_are_not_part_of_it(target: ServerProcess) -> None:
    with Wire(target.port) as wire:
        head = b"POST /infer HTTP/1.1\r\nHost: \t test \t\r\nContent-Length: \t2 \t\r\n"
        reply = wire.ask(
            head + b"Content-Type:application/json \r\nX-Pelton-Model: rows \r\n\r\n{}"
        )
        assert "'rows' takes" in assert_users_error(reply, 400)["error"]


def test_http_1_0_is_answered_and_closed(target: ServerProcess) -> None:
    for head in (
        b"GET /v2/health/live HTTP/1.0\r\n\r\n",
        b"GET /v2/health/live HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /v2/models/matmul/infer HTTP/1.0\r\nContent-Length: 2\r\n\r\n{}",
    ):
        with Wire(target.port) as wire:
            wire.send(head + HIDDEN)
            assert wire.reply().status == (200 if head.startswith(b"GET") else 400)
            assert wire.rest() == b""
