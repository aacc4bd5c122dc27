"""A worker that dies, hangs or lies costs its own request, and is started again."""

from __future__ import annotations

import asyncio
import math
import os
import select
import signal
import subprocess
import sys

import pytest

from pelton.errors import DeadlineExceeded, LoadFailed, Unavailable
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process import backoff as backoff_module
from pelton.runtimes.process.starting import start_instances
from runtimes.process.asking import ECHO, ask, until_alive

DYING = """
    import ctypes, signal, time
    def model_inference(obs):
        match obs["how"]:
            case "exit": os._exit(7)
            case "segfault": ctypes.string_at(0)
            case "kill": os.kill(os.getpid(), signal.SIGKILL)
            case "close": os.closerange(3, 1000)
            case "hang": time.sleep(1000)
            case "pid": return os.getpid()
    """


@pytest.fixture(autouse=True)
def _start_again_at_once(monkeypatch) -> None:
    monkeypatch.setattr(backoff_module, "FIRST_DELAY_S", 0.001)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ("exit", "ended by itself with exit code 7"),
        ("segfault", r"crashed \(SIGSEGV\)"),
        ("kill", r"was killed \(SIGKILL\)"),
        ("close", r"was killed \(SIGKILL\)"),
    ],
)
async def test_a_worker_that_dies_costs_one_request(start, how: str, told: str) -> None:
    instance = start(DYING)
    before = await ask(instance, how="pid")
    sentence = f"^the worker process of model 'tiny' {told}.* during the request$"
    with pytest.raises(Unavailable, match=sentence) as died:
        await ask(instance, how=how)
    assert died.value.retry_after_s is None, "a client would repeat what may have been done"
    assert not instance.alive
    await until_alive(instance)
    assert instance.restarts == 1
    assert await ask(instance, how="pid") != before


async def test_an_idle_worker_that_dies_is_noticed_and_started_again(start) -> None:
    instance = start(DYING)
    pid = (await ask(instance, how="pid"))["output"]
    os.kill(pid, signal.SIGKILL)
    await until_alive(instance, alive=False)
    await until_alive(instance)
    assert (await ask(instance, how="pid"))["output"] != pid


def test_a_worker_that_died_before_the_event_loop_ran_is_started_again(start) -> None:
    instance = start(DYING)
    os.kill(instance._worker._child._process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, instance._worker._child._process.pid, os.WEXITED | os.WNOWAIT)

    async def use() -> int:
        with pytest.raises(Unavailable):
            await ask(instance, how="pid")
        await until_alive(instance)
        return (await ask(instance, how="pid"))["output"]

    assert asyncio.run(use()) > 0


async def test_a_worker_that_hangs_is_given_up(start) -> None:
    instance = start(DYING)
    running = asyncio.ensure_future(ask(instance, how="hang"))
    await asyncio.sleep(0)
    instance.give_up()
    with pytest.raises(Unavailable, match="did not answer in time and was ended"):
        await running
    await until_alive(instance)
    assert (await ask(instance, how="pid"))["output"] > 0


async def test_the_wait_before_a_new_start_doubles(start, monkeypatch, caplog) -> None:
    instance = start(DYING)
    for _ in range(3):
        await until_alive(instance)
        with pytest.raises(Unavailable):
            await ask(instance, how="exit")
    assert instance._backoff.delay_s == 8 * 0.001
    told = [record.getMessage() for record in caplog.records if "starting again" in record.message]
    assert len(told) == 3
    assert all("ended by itself with exit code 7" in line for line in told)


async def test_a_worker_that_was_well_for_long_starts_again_soon(start, monkeypatch) -> None:
    instance = start(DYING)
    instance._backoff.delay_s = 30.0
    monkeypatch.setattr(backoff_module, "GOOD_WHILE_S", 0.0)
    with pytest.raises(Unavailable):
        await ask(instance, how="exit")
    assert instance._backoff.delay_s == 2 * 0.001, "the first delay was taken, not a long one"
    await until_alive(instance)


async def test_a_model_that_cannot_be_loaded_again_is_tried_again(start, tmp_path, caplog) -> None:
    mark = tmp_path / "mark"
    instance = start(
        f"if os.path.exists({str(mark)!r}):\n"
        f"    os.unlink({str(mark)!r})\n"
        "    raise ValueError('gone')\n"
        "def model_inference(obs):\n    os._exit(1)\n"
    )
    mark.touch()
    with pytest.raises(Unavailable):
        await ask(instance)
    await until_alive(instance)
    assert instance.restarts == 1
    assert any("raised ValueError: gone; starting again" in line for line in caplog.messages)


async def test_all_that_a_worker_has_started_ends_with_it(start) -> None:
    instance = start(
        """
        import subprocess
        def model_inference(obs):
            return subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE).pid
        """
    )
    helper = os.pidfd_open((await ask(instance))["output"])
    instance.give_up()
    await until_alive(instance, alive=False)
    assert await asyncio.to_thread(select.select, [helper], [], [], 30) == ([helper], [], [])
    os.close(helper)


async def test_ctrl_c_and_sigterm_are_the_servers_alone(start) -> None:
    instance = start(DYING)
    pid = (await ask(instance, how="pid"))["output"]
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert (await ask(instance, how="pid"))["output"] == pid


SERVER = """
import asyncio, logging, math, sys
from pathlib import Path
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process.starting import start_instances
from pelton.specs import ModelSpec

async def main():
    await instance.run(Run({{"x": 1}}, math.inf))

logging.basicConfig(level="INFO")
(instance,) = start_instances(ModelSpec("m", 1, Path({folder!r}), "python"), RuntimeOptions(), None, 1)
print(instance._worker._child._process.pid, flush=True)
if {run}:
    asyncio.run(main())
sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="waits for a process that is no child")
@pytest.mark.parametrize(
    ("code", "run"),
    [
        (ECHO, False),
        # No byte of Python is run in the worker while it hangs, and no lock is let go of.
        (
            "import ctypes\ndef model_inference(obs):\n"
            "    os.write(1, b'hangs\\n')\n    ctypes.PyDLL(None).sleep(1000)\n",
            True,
        ),
    ],
    ids=["idle", "hanging"],
)
def test_a_server_that_is_killed_takes_its_workers_with_it(spec_of, code: str, run: bool) -> None:
    source = SERVER.format(folder=str(spec_of(code).path), run=run)
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as server:
        worker = os.pidfd_open(int(server.stdout.readline()))
        if run:
            assert b"model m: hangs" in server.stderr.readline()
        assert select.select([worker], [], [], 0)[0] == []
        server.kill()
        server.wait()
        assert select.select([worker], [], [], 30)[0] == [worker]
        os.close(worker)


LYING = """
    import json, struct
    def raw(text, small=b""):
        shown = text + bytes(-len(text) % 16)
        return struct.pack("<IIQ", 16 + len(shown) + len(small), len(text), 0) + shown + small
    def done(frame, value):
        return raw(json.dumps(["done", [], [frame] if frame else [], value]).encode(), bytes(64))
    def out(value):
        return [0.1, {"d": {"output": value}}]
    LIES = {
        "garbage": b"garbage " * 100,
        "frame outside": done(["u1", [2**40], 1, 0, 1], out({"a": 0})),
        "objects": done(["O", [2], 1, 0, 1], out({"a": 0})),
        "no outputs": done(None, [0.1, 5]),
        "no time": done(None, ["soon", {"d": {}}]),
        "negative time": done(None, [-1.0, {"d": {}}]),
        "number for a name": done(None, [0.1, {"m": [[1, 2]]}]),
        "unknown kind": raw(b'["other",[],[],1]'),
        "ready again": raw(b'["ready",[],[],1]'),
        "no error": raw(b'["error",[],[],["no_such_code","x"]]'),
        "no message": raw(b'["error",[],[],["invalid_input",5]]'),
        "no trace": raw(b'["raised",[],[],["ValueError"]]'),
    }
    def model_inference(obs):
        if obs["lie"]:
            os.write(int(sys.argv[2]), LIES[obs["lie"]])
        return "truth"
    """

LIES = [line.split('"')[1] for line in LYING.splitlines() if line.startswith(" " * 8 + '"')]


@pytest.mark.parametrize("lie", LIES)
async def test_a_worker_that_lies_is_ended(start, lie: str) -> None:
    instance = start(LYING)
    with pytest.raises(Unavailable, match="a reply that makes no sense"):
        await ask(instance, lie=lie)
    await until_alive(instance)
    assert await ask(instance, lie="") == {"output": "truth"}


async def test_a_worker_that_speaks_unasked_is_ended(start) -> None:
    instance = start(
        """
        import threading
        def model_inference(obs):
            if obs["then"]:
                threading.Timer(0.01, os.write, (int(sys.argv[2]), b"unasked" * 9)).start()
            return 1
        """
    )
    await ask(instance, then=True)
    await until_alive(instance, alive=False)
    await until_alive(instance)
    assert await ask(instance, then=False) == {"output": 1}


async def test_a_deadline_far_away_is_no_deadline(start) -> None:
    instance = start(ECHO)
    assert await instance.run(Run({"x": 1}, math.inf)) == {"x": 1}
    with pytest.raises(DeadlineExceeded):
        await instance.run(Run({"x": 1}, 0.0))


class TestWithoutPidfd:
    """As on a system that tells the end of a process only by the end of its socket."""

    @pytest.fixture(autouse=True)
    def _no_pidfd(self, monkeypatch) -> None:
        monkeypatch.delattr(os, "pidfd_open", raising=False)

    @pytest.mark.parametrize("how", ["exit", "segfault", "kill", "close"])
    async def test_a_worker_that_dies_costs_one_request(self, start, how: str) -> None:
        instance = start(DYING)
        with pytest.raises(Unavailable, match="during the request"):
            await ask(instance, how=how)
        await until_alive(instance)
        assert (await ask(instance, how="pid"))["output"] > 0

    async def test_a_worker_that_hangs_is_given_up(self, start) -> None:
        instance = start(DYING)
        running = asyncio.ensure_future(ask(instance, how="hang"))
        await asyncio.sleep(0)
        instance.give_up()
        with pytest.raises(Unavailable, match="did not answer in time"):
            await running
        await until_alive(instance)

    async def test_a_worker_that_lies_is_ended(self, start) -> None:
        instance = start(LYING)
        with pytest.raises(Unavailable, match="makes no sense"):
            await ask(instance, lie="garbage")
        await until_alive(instance)

    def test_a_model_that_cannot_be_loaded_is_a_sentence(self, spec_of) -> None:
        with pytest.raises(LoadFailed, match="exit code 3 while it loaded the model"):
            start_instances(spec_of("", head="import os\nos._exit(3)\n"), RuntimeOptions(), None, 1)
