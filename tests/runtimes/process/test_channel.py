"""Two sides in one process: where arrays travel, who holds what, and what is no message."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from pelton.arena import Arena
from pelton.buffers import BufferPool
from pelton.runtimes.process import channel as channel_module
from pelton.runtimes.process.channel import (
    BODIES,
    MESSAGE_BYTES,
    OUTBOX,
    SMALL_ARRAY_BYTES,
    Channel,
    Message,
)
from pelton.runtimes.process.values import CannotCarry, Malformed

MIB = 1024 * 1024
BIG = SMALL_ARRAY_BYTES + 8


class Pair:
    """A server's channel and a worker's."""

    def __init__(self) -> None:
        self.sockets = socket.socketpair()
        self.arenas = [Arena.create(8 * MIB) for _ in range(3)]
        server_out, worker_out, self.bodies = self.arenas
        readable = {OUTBOX: server_out, BODIES: self.bodies}
        self.server = Channel(self.sockets[0], server_out, MIB, {OUTBOX: worker_out})
        self.worker = Channel(self.sockets[1], worker_out, MIB, readable)

    def close(self) -> None:
        self.server.close()
        self.worker.close()
        self.bodies.close()

    def to_worker(self, value: Any) -> Any:
        return said(self.server, self.worker, value, self.bodies)

    def to_server(self, value: Any) -> Any:
        return said(self.worker, self.server, value)


def said(sender: Channel, receiver: Channel, value: Any, bodies: Arena | None = None) -> Any:
    sender.send("say", sender.pack(value, bodies))
    del value
    message = heard(receiver)
    assert message.kind == "say"
    return message.value


def heard(receiver: Channel) -> Message:
    while (message := receiver.receive()) is None:
        pass
    return message


@pytest.fixture
def pair() -> Iterator[Pair]:
    pair = Pair()
    yield pair
    pair.close()


DTYPES = [
    *("?", "u1", "i1", "<u2", "<i2", "<u4", "<i4", "<u8", "<i8", "<f2", "<f4", "<f8"),
    *(">f4", ">i2", "<c8", "<c16", "g", "<U5", "S3", "V7", "<M8[ms]", "<m8[D]"),
    *("U0", "S0", [("a", "<f4"), ("b", "u1", (2,))], [("p", [("x", "<i8")]), ("n", "S4")]),
]


@pytest.mark.parametrize("size", [0, 3, 60_000])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_an_array_of_any_dtype_comes_as_it_was(pair: Pair, dtype: Any, size: int) -> None:
    array = np.empty((size, 2), dtype)
    raw = np.random.default_rng(1).integers(0, 2, array.nbytes, np.uint8)
    array.reshape(-1).view(np.uint8)[:] = raw if array.dtype.kind != "U" else 0
    for go in (pair.to_worker, pair.to_server):
        came = go({"x": array})["x"]
        assert came.dtype == array.dtype
        assert came.shape == array.shape
        assert came.tobytes() == array.tobytes()
        assert not came.flags.writeable or not came.nbytes


@pytest.mark.parametrize(
    "array",
    [
        np.array(5.5),
        np.zeros((0, 3)),
        np.zeros((1,) * 30),
        np.arange(24).reshape(2, 3, 4).T,
        np.asfortranarray(np.arange(60_000).reshape(200, 300)),
        np.arange(100_000)[::3],
        np.broadcast_to(np.arange(5), (10_000, 5)),
        np.frombuffer(b"\0" * 80_001, np.uint8)[1:].view("<f8"),
    ],
    ids=lambda array: f"{array.shape}",
)
def test_an_array_of_any_layout_comes_as_it_was(pair: Pair, array: np.ndarray) -> None:
    for go in (pair.to_worker, pair.to_server):
        came = go(array)
        np.testing.assert_array_equal(came, array)
        assert (came.dtype, came.shape) == (array.dtype, array.shape)


def test_many_small_arrays_and_a_long_text_come_too(pair: Pair) -> None:
    value = {
        "arrays": [np.full(4000, index, np.int16) for index in range(50)],
        "text": "long " * 100_000,
        "numbers": list(range(50_000)),
    }
    for go in (pair.to_worker, pair.to_server):
        came = go(value)
        assert [array[7] for array in came["arrays"]] == list(range(50))
        assert came["text"] == value["text"]
        assert came["numbers"] == value["numbers"]


def test_an_array_in_the_memory_of_bodies_is_read_where_it_lies(pair: Pair) -> None:
    block = BufferPool(MIB, pair.bodies).take(BIG)
    array = np.frombuffer(block, np.uint8)
    came = pair.to_worker([array])[0]
    array[5] = 77
    assert came[5] == 77
    assert pair.worker.lent_frames == 0


def test_an_array_elsewhere_is_copied_once(pair: Pair) -> None:
    array = np.zeros(BIG, np.uint8)
    came = pair.to_worker([array])[0]
    array[5] = 77
    assert came[5] == 0
    assert pair.arenas[0].offset_of(came) is not None


def test_a_frame_is_held_until_the_receiver_has_let_go_of_it(pair: Pair) -> None:
    came = pair.to_worker({"x": np.zeros(BIG), "y": np.ones(BIG)})
    assert pair.server.lent_frames == 2
    kept = came["x"][5:10]
    del came
    pair.to_server("thanks")
    assert pair.server.lent_frames == 1
    pair.to_server("still looking")
    assert pair.server.lent_frames == 1
    del kept
    pair.to_server("done")
    assert pair.server.lent_frames == 0


def test_blocks_are_used_again(pair: Pair) -> None:
    for _ in range(50):
        pair.to_worker(np.zeros(MIB, np.uint8))
        pair.to_server(np.zeros(MIB, np.uint8))
    assert pair.server.lent_frames <= 1
    assert pair.worker.lent_frames <= 1


def test_what_has_no_room_is_refused_and_nothing_stays_lent(pair: Pair) -> None:
    with pytest.raises(CannotCarry, match="no room"):
        pair.server.pack([np.zeros(BIG), np.zeros(9 * MIB, np.uint8)])
    with pytest.raises(CannotCarry, match="object"):
        pair.server.pack([np.zeros(BIG), object()])
    assert pair.server.lent_frames == 0
    assert pair.to_worker("well") == "well"


def test_a_text_that_is_too_long_is_refused(pair: Pair, monkeypatch) -> None:
    monkeypatch.setattr(channel_module, "MAX_TEXT_BYTES", MIB)
    packed = pair.server.pack(["x" * MIB, np.zeros(BIG)])
    with pytest.raises(CannotCarry, match="plain values"):
        pair.server.send("say", packed)
    assert pair.server.lent_frames == 0
    assert pair.to_worker("well") == "well"


def test_a_message_may_come_in_pieces(pair: Pair) -> None:
    ours, theirs = socket.socketpair()
    late = Channel(theirs, Arena.create(MIB), MIB, {OUTBOX: pair.arenas[0]})
    pair.server.send("say", pair.server.pack([1, np.arange(5)]))
    message = pair.sockets[1].recv(MESSAGE_BYTES)
    for index in range(len(message) - 1):
        ours.send(message[index : index + 1])
        assert late.receive() is None
    ours.send(message[-1:])
    came = late.receive()
    assert came is not None
    assert came.value[1].tolist() == [0, 1, 2, 3, 4]
    ours.close()
    with pytest.raises(EOFError):
        late.receive()
    late.close()


# -- what is no message --------------------------------------------------------------------------


def raw(text: bytes, small: bytes = b"", start: int = 0, length: int | None = None) -> bytes:
    shown = b"" if start else text + bytes(-len(text) % 16)
    whole = 16 + len(shown) + len(small)
    return (
        struct.pack("<IIQ", whole if length is None else length, len(text), start) + shown + small
    )


def framed(*frame: Any, value: Any = None) -> bytes:
    return raw(json.dumps(["done", [], [frame], value or {"a": 0}]).encode(), bytes(64))


HOSTILE = {
    "garbage": b"hello, this is not what you think",
    "length of nothing": raw(b"[]", length=0),
    "length too small": raw(b"[]", length=17),
    "length too large": raw(b"[]", length=MESSAGE_BYTES + 1),
    "two messages": raw(b'["done",[],[],1]') * 2,
    "no JSON": raw(b"]["),
    "no text": raw(b""),
    "not UTF-8": raw(b'["\xff",[],[],1]'),
    "too few parts": raw(b'["done",[],[]]'),
    "more than one value": raw(b'["done",[],[],1] 2'),
    "an object": raw(b'{"a":1,"b":2,"c":3,"d":4}'),
    "no kind": raw(b"[1,[],[],1]"),
    "let go of no list": raw(b'["done",5,[],1]'),
    "deep": raw(b"[" * 30_000 + b"]" * 30_000),
    "huge number": raw(b'["done",[],[],' + b"9" * 5000 + b"]"),
    "text outside": raw(b"x" * 8, start=8 * MIB - 3),
    "text far outside": raw(b"x" * 8, start=2**63),
    "frame of nothing": raw(b'["done",[],[[]],1]'),
    "dtype of objects": framed("O", [1], 0, 0, 0),
    "dtype of nonsense": framed("nonsense", [1], 0, 0, 0),
    "dtype of a program": framed("u1,O", [1], 0, 0, 0),
    "dtype a number": framed(5, [1], 0, 0, 0),
    "dtype with objects inside": framed([{"t": ["a", "O"]}], [1], 0, 0, 0),
    "negative size": framed("u1", [-1], 0, 0, 0),
    "two negative sizes": framed("u1", [-1, -8], 0, 0, 0),
    "fractional size": framed("u1", [1.0], 0, 0, 0),
    "true size": framed("u1", [True], 0, 0, 0),
    "shape a text": framed("u1", "12", 0, 0, 0),
    "shape a number": framed("u1", 12, 0, 0, 0),
    "too many dimensions": framed("u1", [1] * 33, 0, 0, 0),
    "empty, but huge": framed("u1", [2**62, 2**62, 0], 0, 0, 0),
    "more than the message": framed("u1", [65], 0, 0, 0),
    "behind the message": framed("u1", [1], 0, 64, 0),
    "negative offset": framed("u1", [1], 0, -1, 0),
    "product overflows": framed("<f8", [2**32, 2**32], 1, 0, 1),
    "more than the memory": framed("u1", [8 * MIB + 1], 1, 0, 1),
    "behind the memory": framed("u1", [1], 1, 8 * MIB, 1),
    "offset overflows": framed("u1", [16], 1, 2**64 - 8, 1),
    "offset fractional": framed("u1", [16], 1, 0.5, 1),
    "memory of bodies": framed("u1", [16], 2, 0, 1),
    "unknown place": framed("u1", [16], 7, 0, 1),
    "place a list": framed("u1", [16], [1], 0, 1),
    "serial a text": framed("u1", [16], 1, 0, "1"),
    "frame that is not there": framed("u1", [16], 1, 0, 1, value={"a": 3}),
}


@pytest.mark.parametrize("message", HOSTILE.values(), ids=HOSTILE)
def test_the_server_believes_nothing(pair: Pair, message: bytes) -> None:
    pair.sockets[1].sendall(message)
    with pytest.raises(Malformed):
        heard(pair.server)


def test_a_serial_that_nobody_lent_is_no_harm(pair: Pair) -> None:
    pair.to_worker(np.zeros(BIG))
    pair.sockets[1].sendall(raw(b'["done",[7,-3],[],1]'))
    message = pair.server.receive()
    assert message is not None
    assert message.value == 1
    assert pair.server.lent_frames == 1
