"""More connections than the server keeps."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.conditions import Conditions, assert_error
from raw_http import Wire, get, head_bytes, plain
from support_server import ServerProcess, WaitingModel, until

LIVE = get("/v2/health/live")
CAP_LINE = "connections are open, which is max_connections"


@contextlib.contextmanager
def opened(port: int, count: int, say: bytes = b"") -> Iterator[list[Wire]]:
    """Open connections, each with the same first words."""
    with contextlib.ExitStack() as open_ones:
        wires = []
        for _ in range(count):
            wire = open_ones.enter_context(Wire(port))
            wire.send_while_taken(say)
            wires.append(wire)
        yield wires


@pytest.fixture
def many_files() -> Iterator[int]:
    """Let this process have as many sockets as it may, and say how many that is."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield hard if hard != resource.RLIM_INFINITY else 1 << 20
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_five_thousand_idle_connections(models: Path, many_files: int, serve) -> None:
    count = min(5000, many_files - 300)
    server: ServerProcess = serve(models)
    conditions = Conditions(server)
    conditions.close()
    with opened(server.port, count):
        for _ in range(20):
            with Wire(server.port) as wire:
                assert wire.ask(LIVE).status == 200
        assert server.connections() <= 4096
        if count > 4096:
            server.wait_for_log(f"4096 {CAP_LINE}")
            assert server.log().count(CAP_LINE) == 1, "the log itself is not flooded"
    until(lambda: server.connections() == 0)
    conditions.neighbour = Wire(server.port)
    conditions.check()
    conditions.close()


def test_a_small_cap_makes_room_for_the_new(models: Path, serve) -> None:
    server: ServerProcess = serve(models, "--max-connections=8")
    with opened(server.port, 40) as idle:
        for _ in range(20):
            with Wire(server.port) as wire:
                assert wire.ask(LIVE).status == 200
        until(lambda: server.connections() <= 8)
        server.wait_for_log(f"8 {CAP_LINE}")
        # The longest idle one goes first.
        assert idle[0].rest() == b""
        assert idle[-1].ask(LIVE).status == 200


def test_one_that_has_been_used_goes_after_those_that_have_not(models: Path, serve) -> None:
    server: ServerProcess = serve(models, "--max-connections=3")
    with opened(server.port, 3) as (used, first, second):
        for wire in (first, second, used):
            assert wire.ask(LIVE).status == 200
        with Wire(server.port) as new:
            assert new.ask(LIVE).status == 200
            assert first.rest() == b""
            assert used.ask(LIVE).status == 200
            assert second.ask(LIVE).status == 200


BUSY = {
    "half a head": b"GET /v2 HTT",
    "half a body": head_bytes("POST", "/v2/models/matmul/infer", {"Content-Length": "10"}) + b"{",
    "half a chunk": head_bytes("POST", "/v2/models/matmul/infer", {"Transfer-Encoding": "chunked"})
    + b"5\r\n{",
}


@pytest.mark.parametrize("begun", BUSY.values(), ids=BUSY.keys())
def test_when_all_are_busy_the_new_one_is_told(models: Path, serve, begun: bytes) -> None:
    server: ServerProcess = serve(models, "--max-connections=8")
    with opened(server.port, 8) as busy:
        for wire in busy:
            assert wire.ask(LIVE).status == 200
            wire.send(begun)
        until(lambda: _is_full(server))
        with Wire(server.port) as refused:
            reply = refused.reply()
            assert_error(reply, 503)
            assert int(reply.headers["retry-after"]) >= 1
            assert reply.headers["connection"] == "close"
            assert refused.rest() == b""
        # Who is told, and does not go, does not stay either.
        with opened(server.port, 200):
            until(lambda: server.connections() <= 8)
    until(lambda: server.connections() == 0)
    with Wire(server.port) as wire:
        assert wire.ask(LIVE).status == 200


def _is_full(server: ServerProcess) -> bool:
    """Tell whether a new connection is refused; one that is let in is closed again."""
    with Wire(server.port) as probe:
        probe.socket.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            return probe.reply().status == 503
    return False


def test_a_connection_whose_answer_is_awaited_is_not_closed_to_make_room(
    tmp_path: Path, serve
) -> None:
    with WaitingModel(tmp_path / "model") as model:
        server: ServerProcess = serve(model.folder, "--max-connections=2")
        with Wire(server.port) as waiting:
            headers = {"Content-Type": "application/json"}
            waiting.send(plain("/infer", b'{"value": 5}', headers))
            run = model.next_run()
            with opened(server.port, 20):
                with Wire(server.port) as other:
                    assert other.ask(LIVE).status == 200
                model.release(run)
                assert waiting.reply().json() == {"status": "ok", "output": 5}


def test_fewer_files_than_connections(models: Path, serve, many_files: int) -> None:
    """The system's own limit comes first; the server lives through it and recovers."""
    server: ServerProcess = serve(models)
    limit = server.open_files() + 50
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, limit))
    with Wire(server.port) as kept:
        assert kept.ask(LIVE).status == 200
        with opened(server.port, 300):
            assert kept.ask(LIVE).status == 200
        until(lambda: server.connections() <= 1)
        assert kept.ask(LIVE).status == 200
    with Wire(server.port) as wire:
        assert wire.ask(LIVE).status == 200
