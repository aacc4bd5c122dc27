"""Bodies that are more than they seem: bombs, crumbs, layers, and what stands around the chunks."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable

import pytest

from hostile.conditions import MIB, Conditions, assert_error
from oip_messages import json_body, tensor
from raw_http import RawReply, Wire, as_chunks, chunked, get, head_bytes, plain
from support_server import ServerProcess

INFER = "/v2/models/matmul/infer"
CHUNKED = {"Transfer-Encoding": "chunked"}
LIVE = get("/v2/health/live")
GOOD = json_body(tensor("x", "FP32", [1, 64], [0] * 64))
LIMIT = 64 * MIB


def ask(server: ServerProcess, request: bytes) -> RawReply:
    with Wire(server.port) as wire:
        return wire.ask(request)


def test_a_million_chunks_of_one_byte(target: ServerProcess, conditions: Conditions) -> None:
    crumbs = head_bytes("POST", INFER, CHUNKED) + b"1\r\n \r\n" * 1_000_000 + b"0\r\n\r\n"

    def send() -> None:
        assert "65536 chunks" in assert_error(ask(target, crumbs), 413)["error"]

    with conditions.unharmed():
        conditions.memory_settles(send, repeats=20)


def test_exactly_as_many_chunks_as_are_allowed(target: ServerProcess) -> None:
    # The last, empty chunk is one too.
    for chunks, status in ((65_535, 400), (65_536, 413)):
        crumbs = head_bytes("POST", INFER, CHUNKED) + b"1\r\n \r\n" * chunks + b"0\r\n\r\n"
        assert_error(ask(target, crumbs), status)


def test_chunks_that_add_up_to_too_much(target: ServerProcess, conditions: Conditions) -> None:
    head = head_bytes("POST", INFER, CHUNKED)
    body = b" " * (LIMIT + 1)
    with conditions.unharmed():
        for size in (1 << 20, LIMIT, LIMIT + 1):
            reply = ask(target, head + as_chunks(body, size))
            assert "67108864" in assert_error(reply, 413)["error"]
        # One chunk says so before it comes, and is believed only by the byte.
        reply = ask(target, head + b"fffffffffffffff\r\n" + body)
        assert_error(reply, 413)


@pytest.mark.parametrize(
    "framing",
    [
        b"2;" + b"a" * 4_000_000 + b"\r\n{}\r\n0\r\n\r\n",
        b"2\r\n{}\r\n0;" + b"a" * 4_000_000 + b"\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Note: " + b"a" * 4_000_000 + b"\r\n\r\n",
        b"2\r\n{}\r\n0\r\n" + b"a" * 4_000_000 + b": b\r\n\r\n",
        b"2\r\n{}\r\n0\r\nX-Note: b" + b" " * 4_000_000 + b"\r\n\r\n",
        b"0" * 4_000_000 + b"2\r\n{}\r\n0\r\n\r\n",
    ],
    ids=["extension", "last extension", "trailer", "trailer's name", "blanks", "zeros"],
)
def test_much_around_the_chunks(
    target: ServerProcess, conditions: Conditions, framing: bytes
) -> None:
    def send() -> None:
        assert_error(ask(target, head_bytes("POST", INFER, CHUNKED) + framing), 400, 413)

    with conditions.unharmed():
        conditions.memory_settles(send, repeats=20)


def test_many_trailers(target: ServerProcess, conditions: Conditions) -> None:
    trailers = b"".join(b"X-%d: a\r\n" % index for index in range(100_000))
    request = head_bytes("POST", INFER, CHUNKED) + b"2\r\n{}\r\n0\r\n" + trailers + b"\r\n"

    def send() -> None:
        assert_error(ask(target, request), 431)

    with conditions.unharmed():
        conditions.memory_settles(send, repeats=20)


@pytest.mark.parametrize(
    "trailer",
    [
        b"X-Pelton-Model: echo_int8",
        b"Content-Type: application/msgpack",
        b"Content-Encoding: gzip",
        b"Inference-Header-Content-Length: 1",
        b"Accept-Encoding: gzip",
        b"X-Request-Id: from-a-trailer",
        b"Content-Length: 5",
        b"Transfer-Encoding: gzip",
        b"Connection: close",
        b"Host: other",
    ],
)
def test_a_trailer_is_no_header(
    target: ServerProcess, conditions: Conditions, trailer: bytes
) -> None:
    """However it arrives: what a proxy in front let pass as a trailer must change nothing."""
    head = head_bytes(
        "POST", "/infer", {**CHUNKED, "Content-Type": "application/json", "X-Pelton-Model": "rows"}
    )
    with conditions.unharmed(), Wire(target.port) as wire:
        for _ in range(3):
            wire.send(head + b"9\r\n[[1,2,3]]\r\n0\r\n" + trailer + b"\r\n\r\n")
            reply = wire.reply()
            if trailer.startswith((b"Content-Length", b"Transfer-Encoding")):
                assert reply.status in (200, 400)
                if reply.status == 400:
                    return
            assert reply.json() == {"status": "ok", "output": [[1.0, 2.0, 3.0]]}
            if trailer == b"Connection: close":
                assert wire.rest() == b""
                return
        assert wire.ask(LIVE).status == 200


# -- compressed ----------------------------------------------------------------------------------

COMPRESS = {"gzip": gzip.compress, "deflate": zlib.compress}


def bomb(coding: str, mib: int) -> bytes:
    """Compress zeros; the end, which nobody comes to see, is left away."""
    deflater = zlib.compressobj(9, wbits={"gzip": 31, "deflate": 15}[coding])
    first = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    each = deflater.compress(bytes(MIB)) + deflater.flush(zlib.Z_FULL_FLUSH)
    return first + each * (mib - 1)


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("way", [plain, chunked], ids=["plain", "chunked"])
def test_a_bomb_goes_off_at_the_limit(
    target: ServerProcess, conditions: Conditions, coding: str, way: Callable[..., bytes]
) -> None:
    two_gb = bomb(coding, 2048)
    assert len(two_gb) < 3 * MIB
    request = way(INFER, two_gb, {"Content-Encoding": coding})

    def send() -> None:
        said = assert_error(ask(target, request), 413)
        assert "67108864 bytes when decompressed" in said["error"]

    with conditions.unharmed():
        conditions.memory_settles(send, repeats=3)


def test_a_bomb_at_the_users_endpoint(target: ServerProcess, conditions: Conditions) -> None:
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
    with conditions.unharmed():
        reply = ask(target, plain("/infer?model=matmul", bomb("gzip", 256), headers))
        assert_error(reply, 413)


@pytest.mark.parametrize(
    "coding",
    [
        "zstd",
        "br",
        "compress",
        "x-gzip",
        "gzip, gzip",
        "deflate, gzip",
        "gzip,",
        "GZIP GZIP",
        "a" * 900,
    ],
)
@pytest.mark.parametrize("path", [INFER, "/infer?model=matmul"])
def test_codings_that_are_not_read(
    target: ServerProcess, conditions: Conditions, coding: str, path: str
) -> None:
    body = gzip.compress(gzip.compress(GOOD))
    headers = {"Content-Type": "application/json", "Content-Encoding": coding}

    def send() -> None:
        with Wire(target.port) as wire:
            assert_error(wire.ask(plain(path, body, headers)), 415)
            assert wire.ask(LIVE).status == 200

    with conditions.unharmed():
        send()
        conditions.memory_settles(send)


def test_the_coding_said_twice_is_two_layers(target: ServerProcess) -> None:
    headers = [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    for way in (plain, chunked):
        assert_error(ask(target, way(INFER, gzip.compress(GOOD), headers)), 415)


@pytest.mark.parametrize("coding", COMPRESS)
def test_broken_compression(target: ServerProcess, conditions: Conditions, coding: str) -> None:
    whole = COMPRESS[coding](GOOD)
    flipped = whole[:-6] + bytes([whole[-6] ^ 1]) + whole[-5:]
    broken = [whole[:cut] for cut in (0, 1, 5, 11, len(whole) // 2, len(whole) - 1)]
    broken += [whole + b"\0", whole + whole, flipped, GOOD, b"\x1f\x8b" * 100]

    def send() -> None:
        with Wire(target.port) as wire:
            for body in broken:
                reply = wire.ask(plain(INFER, body, {"Content-Encoding": coding}))
                assert_error(reply, 400)

    with conditions.unharmed():
        send()
        conditions.memory_settles(send, repeats=20)


def test_gzip_named_deflate(target: ServerProcess, conditions: Conditions) -> None:
    raw_deflate = zlib.compressobj(wbits=-15)
    body = raw_deflate.compress(GOOD) + raw_deflate.flush()
    with conditions.unharmed():
        for wrong in (gzip.compress(GOOD), body):
            assert_error(ask(target, plain(INFER, wrong, {"Content-Encoding": "deflate"})), 400)
        reply = ask(target, plain(INFER, zlib.compress(GOOD), {"Content-Encoding": "gzip"}))
        assert_error(reply, 400)


def test_compressed_chunks_with_a_header_length(target: ServerProcess) -> None:
    """The length of the JSON part is that of the uncompressed one."""
    for coding, compress in COMPRESS.items():
        headers = {
            "Content-Encoding": coding,
            "Inference-Header-Content-Length": str(len(GOOD)),
        }
        for way in (plain, chunked):
            assert ask(target, way(INFER, compress(GOOD), headers)).status == 200
        wrong = {**headers, "Inference-Header-Content-Length": str(len(GOOD) + 1)}
        assert_error(ask(target, plain(INFER, compress(GOOD), wrong)), 400)


@pytest.mark.parametrize("path", [INFER, "/infer", "/nowhere"])
def test_a_body_that_breaks_before_it_was_asked_for(
    target: ServerProcess, conditions: Conditions, path: str
) -> None:
    """The application that would say `100 Continue` now comes too late, and stays quiet."""
    head = head_bytes("POST", path, {**CHUNKED, "Expect": "100-continue"})
    log = len(target.log())
    with conditions.unharmed():
        for broken in (b"zz\r\n", b"1;" + b"a" * 4_000_000, b"1\r\na\r\n" * 70_000):
            with Wire(target.port) as wire:
                wire.send_while_taken(head + broken)
                assert [reply.status // 100 for reply in wire.all_replies()] == [4]
    assert "Traceback" not in target.log()[log:]


# -- answered before they are in -----------------------------------------------------------------


@pytest.mark.parametrize("close", [False, True], ids=["kept", "connection: close"])
@pytest.mark.parametrize("way", [plain, chunked])
@pytest.mark.parametrize("path", ["/nowhere", "/v2/health/live", "/v2/models/matmul"])
def test_the_answer_to_a_big_body_at_a_wrong_address_is_read(
    target: ServerProcess, conditions: Conditions, path: str, way: Callable[..., bytes], close: bool
) -> None:
    headers = {"Connection": "close"} if close else {}
    request = way(path, bytes(8 * MIB), headers)
    with conditions.unharmed(), Wire(target.port) as wire:
        for _ in range(3):
            wire.send(request)  # the whole of it, before a look at what comes back
            assert_error(wire.reply(), 404, 405)
            if close:
                assert wire.rest() == b""
                return
            if way is chunked:
                return  # the next request might come while the chunks are still read


def test_a_big_body_is_refused_in_a_way_that_can_be_read(
    target: ServerProcess, conditions: Conditions
) -> None:
    """The server stops listening, but not so soon that a client fails while it still sends."""
    with conditions.unharmed():
        for request in (
            plain(INFER, bytes(LIMIT + 1)),
            chunked(INFER, bytes(LIMIT + 1)),
            head_bytes("POST", INFER, {"Content-Length": "x"}) + bytes(16 * MIB),
        ):
            with Wire(target.port) as wire:
                wire.send(request)
                assert_error(wire.reply(), 400, 413)


def test_many_who_announce_much_and_send_little(
    target: ServerProcess, conditions: Conditions
) -> None:
    """Memory is taken for what has come, not for what was announced."""
    before = target.rss_bytes()
    wires = []
    for _ in range(200):
        wire = Wire(target.port)
        wire.send(head_bytes("POST", INFER, {"Content-Length": str(60 * MIB)}) + b"{")
        wires.append(wire)
    try:
        conditions.neighbour.ask(LIVE)
        assert target.rss_bytes() - before < 100 * MIB
    finally:
        for wire in wires:
            wire.close()
    conditions.check()
