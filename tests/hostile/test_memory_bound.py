"""Floods of large bodies, and clients that take no answers, stay within max_buffered_bytes.

The resident memory of the server is measured, with room for what is not in the bound: the
interpreter, the threads' stacks, what the C library keeps for later.
"""

from __future__ import annotations

import contextlib
import gzip
import pickle
import select
import threading
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from hostile.conditions import MIB, Conditions
from raw_http import RawReply, Wire, as_chunks, chunked, get, head_bytes, plain
from support_server import ServerProcess, until, write_matmul, write_python_model

BOUND = 96 * MIB
MARGIN = 64 * MIB
LARGE = 32 * MIB
CLIENTS = 16

_MODEL = """
import numpy as np

def load_model(model_path, device):
    return None

def model_inference(obs):
    # Says how much it got, or gives as much as it is asked for.
    if "wanted" in obs:
        return np.ones(obs["wanted"], np.uint8)
    return int(np.asarray(obs["value"]).nbytes)
"""


@pytest.fixture(scope="module")
def bounded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with little memory for what is on its way."""
    models = tmp_path_factory.mktemp("bounded")
    write_matmul(models / "matmul/1/model.onnx")
    write_python_model(models / "sizes/1", _MODEL)
    flags = ("--isolation=inline", f"--max-buffered-bytes={BOUND}", f"--max-body-bytes={LARGE}")
    with ServerProcess(models, *flags, "--send-timeout-s=30s") as server:
        yield server
        assert server.stop() == 0, server.log()
        assert "Traceback" not in server.log(), server.log()


@pytest.fixture
def conditions(bounded: ServerProcess) -> Iterator[Conditions]:
    """Its post-condition, and that nothing is held any more."""
    with contextlib.closing(Conditions(bounded)) as conditions:
        yield conditions
        until(lambda: nothing_held(bounded))
        conditions.check()


class Peak:
    """The most memory that the server has while this is open."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self._before = self._most = server.rss_bytes()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    @property
    def grown_bytes(self) -> int:
        """By how much it grew, at most."""
        return self._most - self._before

    def __enter__(self) -> Peak:
        self._thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.005):
            self._most = max(self._most, self._server.rss_bytes())


def stats(server: ServerProcess) -> dict[str, int]:
    with Wire(server.port) as wire:
        reply = wire.ask(get("/stats"))
    assert reply.status == 200
    said: dict[str, int] = reply.json()
    return said


def nothing_held(server: ServerProcess) -> bool:
    now = stats(server)
    return now["buffered_bytes"] == now["waiting_for_memory"] == 0


def with_array(size: int) -> bytes:
    """Write the body of a request to `sizes`, `size` bytes or a little less."""
    return pickle.dumps({"value": np.zeros(size - 1024, np.uint8)}, protocol=4)


def infer(body: bytes) -> bytes:
    return plain("/infer?model=sizes", body, {"Content-Type": "application/octet-stream"})


def wanted(size: int) -> bytes:
    return infer(pickle.dumps({"wanted": size}))


def push_all(wires: list[Wire], data: bytes, quiet_s: float = 0.5) -> int:
    """Send to all as much as the server takes, until it takes nothing for a while."""
    left = {wire: memoryview(data) for wire in wires}
    for wire in wires:
        wire.socket.setblocking(False)
    while left:
        _, writable, _ = select.select([], [wire.socket for wire in left], [], quiet_s)
        if not writable:
            break
        for wire in [wire for wire in left if wire.socket in writable]:
            try:
                left[wire] = left[wire][wire.socket.send(left[wire]) :]
            except ConnectionError:
                left[wire] = left[wire][:0]
            if not left[wire]:
                del left[wire]
    return len(data) * len(wires) - sum(map(len, left.values()))


# -- bodies --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("conditions")
@pytest.mark.parametrize("way", ["plain", "chunked", "compressed", "elsewhere"])
def test_a_flood_of_bodies_that_never_end(bounded: ServerProcess, way: str) -> None:
    body = bytes(LARGE)
    sent = {
        "plain": infer(body)[:-1],
        "chunked": head_bytes("POST", "/infer", {"Transfer-Encoding": "chunked"})
        + as_chunks(body, MIB)[:-5],
        "compressed": plain("/infer", body, {"Content-Encoding": "gzip"})[:-1],
        "elsewhere": plain("/v2", body)[:-1],
    }[way]
    with contextlib.ExitStack() as stack, Peak(bounded) as peak:
        wires = [stack.enter_context(Wire(bounded.port)) for _ in range(CLIENTS)]
        push_all(wires, sent)
        now = stats(bounded)
        assert now["max_buffered_bytes"] == BOUND
        assert now["buffered_bytes"] <= BOUND + MIB
        if way != "elsewhere":  # nobody wants that body, so it is answered before it is in
            assert now["buffered_bytes"] > BOUND // 2
            assert now["waiting_for_memory"] > 0
        with Wire(bounded.port) as neighbour:
            assert neighbour.ask(get("/v2/health/live")).status == 200
    assert peak.grown_bytes < BOUND + MARGIN


@pytest.mark.usefixtures("conditions")
@pytest.mark.parametrize(("way", "copies"), [(plain, 1), (chunked, 2)])
def test_everybody_gets_a_turn(
    bounded: ServerProcess, way: Callable[..., bytes], copies: int
) -> None:
    """The pieces of a chunked body are joined, so for a moment it is there twice."""
    headers = {"Content-Type": "application/octet-stream"}
    request = way("/infer?model=sizes", with_array(LARGE), headers)
    replies: list[RawReply] = []

    def ask() -> None:
        with Wire(bounded.port) as wire:
            replies.extend(wire.ask(request) for _ in range(2))

    threads = [threading.Thread(target=ask) for _ in range(CLIENTS)]
    with Peak(bounded) as peak:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [reply.status for reply in replies] == [200] * 2 * CLIENTS
    assert {pickle.loads(reply.body)["output"] for reply in replies} == {LARGE - 1024}
    assert peak.grown_bytes < copies * BOUND + MARGIN


@pytest.mark.usefixtures("conditions")
def test_a_compressed_body_is_still_answered(bounded: ServerProcess) -> None:
    body = gzip.compress(with_array(LARGE // 2), 1)
    with Wire(bounded.port) as wire:
        reply = wire.ask(
            plain(
                "/infer?model=sizes",
                body,
                {"Content-Type": "application/octet-stream", "Content-Encoding": "gzip"},
            )
        )
        assert reply.status == 200


# -- answers -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("conditions")
def test_answers_that_nobody_takes(bounded: ServerProcess) -> None:
    with contextlib.ExitStack() as stack, Peak(bounded) as peak:
        wires = [
            stack.enter_context(Wire(bounded.port, receive_buffer_bytes=4096)) for _ in range(30)
        ]
        for wire in wires:
            wire.send(wanted(16 * MIB))
        until(lambda: stats(bounded)["buffered_bytes"] >= BOUND - 16 * MIB)
        settled_s = time.monotonic() + 1.0
        while time.monotonic() < settled_s:
            assert stats(bounded)["buffered_bytes"] <= BOUND + 16 * MIB
    # One run per core may be computing an answer that is in nobody's count yet.
    assert peak.grown_bytes < BOUND + MARGIN + 4 * 16 * MIB
