"""Bytes to replies, without any socket."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.client.http1 import (
    MAX_HEAD_BYTES,
    BadReply,
    ReplyReader,
    build_head,
    check_headers,
)
from pelton.errors import SettingsError

LENGTH = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\nX: 1\r\nx:  2 \r\n\r\n0123456789"
CHUNKED = (
    b"HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 404 No\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;a=b\r\n012\r\n7\r\n3456789\r\n0\r\nT: x\r\n\r\n"
)
UNTIL_CLOSE = b"HTTP/1.1 500 No\r\nA:\r\n\r\n0123456789"


def reader(limit: int = 1000) -> ReplyReader:
    return ReplyReader(bytearray(MAX_HEAD_BYTES), limit)


def feed(target: ReplyReader, data: bytes) -> None:
    """Hand over bytes as a socket does: no more than fit into the buffer."""
    while data and not target.done:
        buffer = target.buffer()
        assert len(buffer) > 0
        count = min(len(buffer), len(data))
        buffer[:count] = data[:count]
        target.received(count)
        data = data[count:]


@st.composite
def cuts(draw, raw):
    places = sorted(draw(st.sets(st.integers(1, len(raw) - 1), max_size=8)))
    return [raw[a:b] for a, b in zip([0, *places], [*places, len(raw)], strict=True)]


@pytest.mark.parametrize("raw", [LENGTH, CHUNKED, UNTIL_CLOSE])
def test_byte_by_byte_is_the_same_as_at_once(raw):
    at_once, slowly = reader(), reader()
    feed(at_once, raw)
    for at in range(len(raw)):
        assert not slowly.done
        feed(slowly, raw[at : at + 1])
    for each in (at_once, slowly):
        assert each.ended()
        assert bytes(each.reply.body) == b"0123456789"
    assert at_once.reply.headers == slowly.reply.headers
    assert at_once.reply.status == slowly.reply.status
    assert at_once.keep_alive == slowly.keep_alive == (raw is not UNTIL_CLOSE)


@given(st.data())
def test_cut_anywhere_is_the_same_as_at_once(data):
    raw = data.draw(st.sampled_from([LENGTH, CHUNKED]))
    target = reader()
    for piece in data.draw(cuts(raw)):
        feed(target, piece)
    assert target.done
    assert bytes(target.reply.body) == b"0123456789"


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(noise):
    target = reader()
    try:
        feed(target, b"HTTP/1.1 200 OK\r\n" + noise)
    except BadReply:
        return
    assert not target.ended() or len(target.reply.body) <= 300


@given(st.integers(0, len(CHUNKED) - 1), st.integers(0, 255))
def test_one_wrong_byte_is_read_or_refused(place, byte):
    target = reader()
    try:
        feed(target, CHUNKED[:place] + bytes([byte]) + CHUNKED[place + 1 :])
    except BadReply:
        return
    assert not target.ended() or len(target.reply.body) <= 1000


def test_repeated_fields_are_joined_and_names_lowered():
    target = reader()
    feed(target, LENGTH)
    assert target.reply.headers == {"content-length": "10", "x": "1, 2"}


def test_a_trailer_is_not_part_of_the_head():
    target = reader()
    feed(target, CHUNKED)
    assert target.reply.headers == {"transfer-encoding": "chunked"}


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
@pytest.mark.parametrize(
    "field", [b"content-length: 5\r\n", b"", b"transfer-encoding: chunked\r\n"]
)
def test_some_answers_never_have_a_body(status, field):
    target = reader()
    feed(target, b"HTTP/1.1 " + status + b"\r\n" + field + b"\r\n")
    assert target.done
    assert target.keep_alive
    assert bytes(target.reply.body) == b""


def test_a_head_of_the_largest_size_is_read_and_one_byte_more_is_not():
    def head(size: int) -> bytes:
        start, end = b"HTTP/1.1 200 OK\r\na: ", b"\r\ncontent-length: 0\r\n\r\n"
        return start + b"x" * (size - len(start) - len(end)) + end

    largest = reader()
    feed(largest, head(MAX_HEAD_BYTES))
    assert largest.done
    with pytest.raises(BadReply, match="larger than 65536 bytes"):
        feed(reader(), head(MAX_HEAD_BYTES + 1))


def test_a_body_of_the_largest_size_is_read_and_one_byte_more_is_not():
    feed(reader(10), LENGTH)
    for raw in (LENGTH, CHUNKED, UNTIL_CLOSE):
        with pytest.raises(BadReply, match="larger than the 9 bytes"):
            feed(reader(9), raw)


def test_a_huge_length_takes_no_memory_before_it_is_refused():
    with pytest.raises(BadReply, match="larger than"):
        feed(reader(), b"HTTP/1.1 200 OK\r\ncontent-length: 18446744073709551615\r\n\r\n")


def test_an_end_in_the_middle_is_not_taken_for_the_end():
    for raw in (LENGTH[:-1], CHUNKED[:-1], LENGTH[:20], b""):
        target = reader()
        feed(target, raw)
        assert not target.ended()


@pytest.mark.parametrize(("size", "alignment"), [(300, 16), (40_000, 64)])
@pytest.mark.parametrize("lead", [0, 1, 63, 64, 77, 200])
def test_the_arrays_behind_the_json_are_aligned(lead, size, alignment):
    body = (bytes(range(200)) * size)[:size]
    head = b"HTTP/1.1 200 OK\r\ninference-header-content-length: %d\r\ncontent-length: %d\r\n\r\n"
    held = []  # so that each lies elsewhere
    for _ in range(20):
        target = reader(size)
        feed(target, head % (lead, size) + body)
        held.append(np.frombuffer(target.reply.body, np.uint8))
        assert held[-1].tobytes() == body
        assert (held[-1].__array_interface__["data"][0] + lead) % alignment == 0


def test_a_head_is_written_as_the_standard_says():
    head = build_head("POST", "/v2?a=b", (("Host", "x:1"), ("Content-Length", "0")))
    assert head == b"POST /v2?a=b HTTP/1.1\r\nHost: x:1\r\nContent-Length: 0\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("", "x"),
        ("A b", "x"),
        ("A:", "x"),
        ("A\r\nB", "x"),
        ("Ä", "x"),
        ("A", "x\r\nB: y"),
        ("A", "x\ny"),
        ("A", "x\0"),
        ("A", "\u20ac"),
        ("A", 3),
        (None, "x"),
    ],
)
def test_a_field_that_would_break_the_head_is_refused(name, value):
    with pytest.raises(SettingsError, match="header"):
        check_headers([(name, value)])


def test_ordinary_fields_pass():
    check_headers(
        [("Authorization", "Bearer a b"), ("X-Ä".encode("ascii", "ignore").decode(), "é")]
    )
