"""Heads are read as RFC 9112 has them, and in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import Code, InvalidRequest
from pelton.servers.http_head import (
    MAX_TARGET_BYTES,
    MEMO_ENTRIES,
    MEMO_HEAD_BYTES,
    HeadReader,
    RequestHead,
    cut_head,
    has_begun,
    joined,
)

INVALID = "this is not a valid HTTP/1.1 request"
HOST = "send exactly one valid Host header"


def read(raw: bytes, max_headers: int = 100) -> RequestHead:
    return HeadReader(max_headers).read(raw)


def head_of(*lines: str, request: str = "POST /infer HTTP/1.1", host: str | None = "a") -> bytes:
    fields = [request, *([] if host is None else [f"Host: {host}"]), *lines]
    return "".join(f"{line}\r\n" for line in fields).encode("latin-1") + b"\r\n"


def refusal(raw: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        read(raw)
    return caught.value


# -- what is read --------------------------------------------------------------------------------


def test_a_plain_head() -> None:
    raw = head_of(
        "Content-Type: application/json",
        "Content-Length: 12",
        request="POST /v2/models/a%20b/infer?x=1?2&y HTTP/1.1",
        host="example.org:8080",
    )
    assert read(raw) == RequestHead(
        method="POST",
        path="/v2/models/a%20b/infer",
        query="x=1?2&y",
        headers={
            "host": "example.org:8080",
            "content-type": "application/json",
            "content-length": "12",
        },
        keep_alive=True,
        content_length=12,
        expects_continue=False,
        takes_interim=True,
    )


def test_names_are_lowered_and_values_kept_as_they_are() -> None:
    headers = read(head_of("X-Pelton-MODEL:  My Model", "ETag:")).headers
    assert headers == {"host": "a", "x-pelton-model": "My Model", "etag": ""}


def test_a_header_that_is_sent_twice_holds_both_values() -> None:
    assert read(head_of("X-A: 1", "Other: 0", "x-a: 2")).headers["x-a"] == "1, 2"


def test_bytes_beyond_ascii_are_read_as_latin_1() -> None:
    assert read(head_of("X-A: caf\xe9")).headers["x-a"] == "caf\xe9"


@pytest.mark.parametrize("host", ["a", "a-b_c.d~e", "127.0.0.1", "x:0", "[::1]", "[::1]:65535"])
def test_valid_hosts(host: str) -> None:
    assert read(head_of(host=host)).headers["host"] == host


@pytest.mark.parametrize(
    ("lines", "request_", "keep_alive"),
    [
        ([], "GET / HTTP/1.1", True),
        (["Connection: close"], "GET / HTTP/1.1", False),
        (["Connection: x, CLOSE"], "GET / HTTP/1.1", False),
        (["Connection: keep-alive", "Connection: close"], "GET / HTTP/1.1", False),
        (["Connection: closed, disclose"], "GET / HTTP/1.1", True),
        (["Close: close"], "GET / HTTP/1.1", True),
        (["Connection: close", "Content-Length: 5"], "POST / HTTP/1.1", False),
        (["Connection: close", "Transfer-Encoding: chunked"], "POST / HTTP/1.1", False),
        (["Content-Length: 5"], "POST / HTTP/1.1", True),
        (["Connection: Upgrade", "Upgrade: websocket"], "GET / HTTP/1.1", True),
        ([], "GET / HTTP/1.0", False),
        (["Connection: keep-alive"], "GET / HTTP/1.0", False),
    ],
)
def test_whether_the_connection_goes_on(lines, request_: str, keep_alive: bool) -> None:
    assert read(head_of(*lines, request=request_)).keep_alive is keep_alive


def test_http_1_0_needs_no_host() -> None:
    assert read(head_of(request="GET /health HTTP/1.0", host=None)).path == "/health"


@pytest.mark.parametrize(
    ("line", "length"),
    [
        (None, 0),
        ("Content-Length: 0", 0),
        ("Content-Length: 007", 7),
        ("Content-Length: 999999999999999", 999_999_999_999_999),
        ("Transfer-Encoding: chunked", None),
        ("transfer-encoding: CHUNKED", None),
    ],
)
def test_how_long_the_body_is(line: str | None, length: int | None) -> None:
    assert read(head_of(*([line] if line else []))).content_length == length


@pytest.mark.parametrize(
    ("lines", "request_", "expects"),
    [
        (["Expect: 100-continue"], "POST / HTTP/1.1", True),
        (["Expect: 100-Continue"], "POST / HTTP/1.1", True),
        ([], "POST / HTTP/1.1", False),
        (["Expect: 200-ok"], "POST / HTTP/1.1", False),
        # RFC 9110 10.1.1: in an HTTP/1.0 request the expectation must be ignored.
        (["Expect: 100-continue"], "POST / HTTP/1.0", False),
    ],
)
def test_who_waits_before_sending_the_body(lines, request_: str, expects: bool) -> None:
    assert read(head_of(*lines, request=request_)).expects_continue is expects


@pytest.mark.parametrize("space", ["", " ", "\t", " \t "])
def test_white_space_around_a_value_is_no_part_of_it(space: str) -> None:
    """RFC 9110 5.5 and RFC 9112 5.1."""
    assert read(head_of(f"Content-Length:{space}5{space}")).content_length == 5
    spaces = space.replace("\t", " ")  # beside this name llhttp takes no tab
    assert read(head_of(f"Transfer-Encoding:{spaces}chunked{spaces}")).content_length is None
    assert read(head_of(f"Expect:{space}100-continue{space}")).expects_continue
    assert read(head_of(f"X:{space}a b{space}", host=f"a{space}")).headers == {
        "host": "a",
        "x": "a b",
    }


# -- what is refused -----------------------------------------------------------------------------

LENGTH = "Content-Length must be one plain decimal number"
CODING = "the only Transfer-Encoding understood is chunked"

HOSTILE = {
    # two framings, or a doubtful one: what smuggling lives on
    "CL and TE": (head_of("Content-Length: 5", "Transfer-Encoding: chunked"), INVALID),
    "TE and CL": (head_of("Transfer-Encoding: chunked", "Content-Length: 5"), INVALID),
    "empty TE and CL": (head_of("Transfer-Encoding:", "Content-Length: 5"), INVALID),
    "two CL": (head_of("Content-Length: 5", "Content-Length: 6"), INVALID),
    "two equal CL": (head_of("Content-Length: 5", "Content-Length: 5"), INVALID),
    "CL list": (head_of("Content-Length: 5, 5"), INVALID),
    "CL +5": (head_of("Content-Length: +5"), INVALID),
    "CL -1": (head_of("Content-Length: -1"), INVALID),
    "CL 1_0": (head_of("Content-Length: 1_0"), INVALID),
    "CL 0x10": (head_of("Content-Length: 0x10"), INVALID),
    "CL 5.0": (head_of("Content-Length: 5.0"), INVALID),
    "CL empty": (head_of("Content-Length:"), INVALID),
    "CL 10^20": (head_of("Content-Length: 100000000000000000000"), INVALID),
    "CL 10^15": (head_of("Content-Length: 1000000000000000"), LENGTH),
    "TE xchunked": (head_of("Transfer-Encoding: xchunked"), INVALID),
    "TE identity": (head_of("Transfer-Encoding: identity"), INVALID),
    "TE gzip": (head_of("Transfer-Encoding: gzip"), INVALID),
    "TE empty": (head_of("Transfer-Encoding:"), INVALID),
    "TE gzip, chunked": (head_of("Transfer-Encoding: gzip, chunked"), CODING),
    "TE chunked, gzip": (head_of("Transfer-Encoding: chunked, gzip"), INVALID),
    "TE twice": (head_of("Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), INVALID),
    "TE with VT": (head_of("Transfer-Encoding:\x0bchunked"), INVALID),
    "TE behind a space": (head_of("Transfer-Encoding : chunked"), INVALID),
    # for whom the request is
    "no Host": (head_of(host=None), HOST),
    "two Hosts": (head_of("Host: a"), HOST),
    "Host empty": (head_of(host=""), HOST),
    "Host with a slash": (head_of(host="a/admin"), HOST),
    "Host with a query": (head_of(host="a?admin"), HOST),
    "Host with a user": (head_of(host="me@a"), HOST),
    "Host list": (head_of(host="a,b"), HOST),
    "Host with a space": (head_of(host="a b"), HOST),
    "Host with a long port": (head_of(host="a:123456"), HOST),
    "Host with no port": (head_of(host="a:"), HOST),
    # lines that two readers might split differently
    "bare LF behind the request": (b"GET / HTTP/1.1\nHost: a\r\n\r\n", INVALID),
    "bare LF behind a field": (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", INVALID),
    "bare CR": (b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", INVALID),
    "folded line": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n c\r\n\r\n", INVALID),
    "folded with a tab": (b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\tc\r\n\r\n", INVALID),
    "space before the first field": (b"GET / HTTP/1.1\r\n Host: a\r\n\r\n", INVALID),
    "space before the colon": (b"GET / HTTP/1.1\r\nHost : a\r\n\r\n", INVALID),
    "no colon": (head_of("nothing"), INVALID),
    "no name": (head_of(": nothing"), INVALID),
    "name with a bracket": (head_of("X(: b"), INVALID),
    "name beyond ASCII": (head_of("\xe9: b"), INVALID),
    "NUL in a name": (head_of("X\0: b"), INVALID),
    "NUL in a value": (head_of("X: b\0c"), INVALID),
    "NUL in the path": (head_of(request="GET /\0 HTTP/1.1"), INVALID),
    "control character in a value": (head_of("X: \x01"), INVALID),
    "DEL in a value": (head_of("X: \x7f"), INVALID),
    # the request line
    "unknown method": (head_of(request="BREW / HTTP/1.1"), INVALID),
    "method in small letters": (head_of(request="get / HTTP/1.1"), INVALID),
    "no path": (head_of(request="GET HTTP/1.1"), INVALID),
    "space in the path": (head_of(request="GET /a b HTTP/1.1"), INVALID),
    "path beyond ASCII": (head_of(request="GET /\xc3\xa9 HTTP/1.1"), INVALID),
    "tabs": (head_of(request="GET\t/ HTTP/1.1"), INVALID),
    "fragment in the path": (head_of(request="GET /a#b HTTP/1.1"), INVALID),
    "no version": (b"GET /\r\n\r\n", INVALID),
    "HTTP/0.9": (head_of(request="GET / HTTP/0.9"), INVALID),
    "HTTP/2.0": (head_of(request="GET / HTTP/2.0"), INVALID),
    "HTTP/1.2": (head_of(request="GET / HTTP/1.2"), INVALID),
    "HTTP/11": (head_of(request="GET / HTTP/11"), INVALID),
    "FTP/1.1": (head_of(request="GET / FTP/1.1"), INVALID),
    "preface of HTTP/2": (b"PRI * HTTP/2.0\r\n\r\n", INVALID),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", INVALID),
    "not a whole head": (b"GET / HTTP/1.1\r\nHost: a\r\n", INVALID),
    "nothing": (b"\r\n\r\n", INVALID),
}


@pytest.mark.parametrize(("raw", "message"), HOSTILE.values(), ids=HOSTILE)
def test_hostile_heads_are_refused(raw: bytes, message: str) -> None:
    error = refusal(raw)
    assert error.message == message
    assert error.code is Code.MALFORMED_REQUEST


@pytest.mark.parametrize("request_", ["TRACE / HTTP/1.1", "CONNECT a:80 HTTP/1.1"])
def test_methods_that_a_server_must_not_offer(request_: str) -> None:
    error = refusal(head_of(request=request_))
    assert (error.code, error.message) == (Code.METHOD_NOT_ALLOWED, "Method Not Allowed")


def test_the_target_is_bounded() -> None:
    fits = "/" + "a" * (MAX_TARGET_BYTES - 1)
    assert read(head_of(request=f"GET {fits} HTTP/1.1")).path == fits
    error = refusal(head_of(request=f"GET {fits}a HTTP/1.1"))
    assert error.code is Code.URI_TOO_LONG
    assert error.message == "the path is longer than 8192 bytes"
    assert refusal(head_of(request=f"GET /?{fits} HTTP/1.1")).code is Code.URI_TOO_LONG


def test_the_number_of_headers_is_bounded() -> None:
    ten = head_of(*[f"X-{index}: v" for index in range(9)])  # and Host
    assert len(read(ten, max_headers=10).headers) == 10
    with pytest.raises(InvalidRequest) as caught:
        read(ten, max_headers=9)
    assert caught.value.code is Code.HEAD_TOO_LARGE
    assert caught.value.message == "more than 9 headers; send fewer"


def test_repeated_names_count_each_time() -> None:
    with pytest.raises(InvalidRequest, match="more than 9 headers"):
        read(head_of(*["X: v"] * 9), max_headers=9)


# -- where a head ends ---------------------------------------------------------------------------

HEAD = head_of("X: 1")


def cut(received: bytes, max_bytes: int = 1000) -> tuple[bytes | None, bytes]:
    waiting = bytearray(received)
    return cut_head(waiting, max_bytes), bytes(waiting)


@pytest.mark.parametrize("behind", [b"", b"{}", HEAD, b"\r\n\r\n"])
@pytest.mark.parametrize("before", [b"", b"\r\n", b"\r\n\r\n\r\n"])
def test_a_head_is_cut_off_and_what_is_behind_it_stays(before: bytes, behind: bytes) -> None:
    assert cut(before + HEAD + behind) == (HEAD, behind)


def test_a_head_that_comes_byte_by_byte_is_taken_when_it_is_complete() -> None:
    waiting = bytearray()
    for at, byte in enumerate(b"\r\n" + HEAD):
        assert cut_head(waiting, 1000) is None
        assert has_begun(waiting) == (at > 2)
        waiting.append(byte)
    assert cut_head(waiting, 1000) == HEAD
    assert waiting == b""


def test_the_longest_head_does_not_count_its_empty_line() -> None:
    size = len(HEAD) - len(b"\r\n\r\n")
    assert cut(HEAD, size) == (HEAD, b"")
    with pytest.raises(InvalidRequest, match=f"longer than {size - 1} bytes") as caught:
        cut(HEAD, size - 1)
    assert caught.value.code is Code.HEAD_TOO_LARGE


def test_a_head_without_end_is_refused_once_it_is_too_long() -> None:
    assert cut(b"GET /" + b"a" * 995) == (None, b"GET /" + b"a" * 995)
    with pytest.raises(InvalidRequest, match="longer than 1000 bytes"):
        cut(b"GET /" + b"a" * 996)


def test_empty_lines_without_end_are_not_kept() -> None:
    assert cut(b"\r\n" * 100_000) == (None, b"")
    assert cut(b"\r\n" * 100_000 + b"\r") == (None, b"\r")
    assert not has_begun(bytearray(b"\r"))


@pytest.mark.parametrize(
    "received", [b"get /", b"\x16\x03\x01", b" ", b"\0", b"{", b"\n", b"GET /\n\n"]
)
def test_what_can_become_no_request_is_refused_before_it_ends(received: bytes) -> None:
    with pytest.raises(InvalidRequest, match=INVALID) as caught:
        cut(received)
    assert caught.value.code is Code.MALFORMED_REQUEST


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ([], {}),
        ([(b"A", b"1"), (b"a", b"2"), (b"B", b" 3 ")], {"a": "1, 2", "b": "3"}),
        ([(b"x", b"caf\xe9")], {"x": "caf\xe9"}),
        ([(b"x", b""), (b"x", b"")], {"x": ", "}),
    ],
)
def test_how_repeated_headers_are_joined(headers, told) -> None:
    assert joined(headers) == told


# -- what is remembered --------------------------------------------------------------------------


def test_the_same_bytes_give_the_same_record() -> None:
    reader = HeadReader(100)
    first = reader.read(head_of("X: 1"))
    assert reader.read(bytes(bytearray(head_of("X: 1")))) is first


@pytest.mark.parametrize(
    "other",
    [
        head_of("X: 2"),
        head_of("x: 1"),
        head_of("X: 1", host="b"),
        head_of("X: 1", request="PUT /infer HTTP/1.1"),
        head_of("X: 1", request="POST /infer HTTP/1.0"),
        head_of("X: 1", request="POST /infer? HTTP/1.1"),
    ],
)
def test_other_bytes_never_give_a_remembered_record(other: bytes) -> None:
    reader = HeadReader(100)
    first = reader.read(head_of("X: 1"))
    second = reader.read(other)
    assert second is not first
    assert second == read(other)


@given(st.lists(st.text("abcXYZ01-", min_size=1, max_size=6), min_size=2, max_size=20))
def test_what_is_remembered_is_what_would_be_read(values: list[str]) -> None:
    reader = HeadReader(100)
    for value in values + values:
        raw = head_of(f"X-Pelton-Model: {value}", request=f"POST /{value} HTTP/1.1")
        assert reader.read(raw) == read(raw)


def test_a_refused_head_is_refused_again() -> None:
    reader = HeadReader(100)
    for _ in range(2):
        with pytest.raises(InvalidRequest, match="valid Host"):
            reader.read(head_of(host=None))


def test_a_long_head_is_read_and_not_remembered() -> None:
    reader = HeadReader(100)
    room = MEMO_HEAD_BYTES - len(head_of("X: "))
    longest, longer = head_of("X: " + "a" * room), head_of("X: " + "a" * (room + 1))
    assert reader.read(longest) is reader.read(longest)
    assert reader.read(longer) is not reader.read(longer)
    assert reader.read(longer) == read(longer)


def test_the_memory_is_bounded() -> None:
    reader = HeadReader(100)
    first = reader.read(head_of("X: first"))
    for index in range(MEMO_ENTRIES - 1):
        reader.read(head_of(f"X: {index}"))
    assert reader.read(head_of("X: first")) is first
    reader.read(head_of("X: one too many"))
    assert reader.read(head_of("X: first")) is not first


def test_a_signed_head_is_read_and_not_kept() -> None:
    """No two are the same, so keeping them would only push out those that come again."""
    heads = HeadReader(100)
    target = "/infer?model=a%20b&x="
    raw = (
        f"POST {target} HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nX-Pelton-Signature: v1\r\n\r\n"
    )
    head = heads.read(raw.encode())
    assert head.call is not None
    assert head.call.signed == ("v1", target)
    assert heads.whole(raw.encode())[0] is None
    unsigned = raw.replace("X-Pelton-Signature: v1\r\n", "").encode()
    plain = heads.read(unsigned)
    assert plain.call is not None
    assert plain.call.signed is None
    assert heads.whole(unsigned)[0] is plain
