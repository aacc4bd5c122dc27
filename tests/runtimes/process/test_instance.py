"""A model in a worker process answers as one in the server does, and copies nothing it need not."""

from __future__ import annotations

import asyncio
import gc
import math
import os
import sys
import time

import numpy as np
import pytest

from pelton.arena import Arena
from pelton.buffers import BufferPool
from pelton.errors import (
    Code,
    DeadlineExceeded,
    InvalidRequest,
    LoadFailed,
    ModelFailed,
    Unavailable,
)
from pelton.runtimes.contract import Run, RuntimeOptions
from pelton.runtimes.process.starting import start_instances
from pelton.specs import TensorSpec
from runtimes.process.asking import ECHO, ask

MIB = 1024 * 1024


def image(arena: Arena, fill: int = 0) -> np.ndarray:
    """A picture in the memory of request bodies, as the gate receives one."""
    pool = BufferPool(16 * MIB, arena)
    picture = np.frombuffer(pool.take(6 * MIB), np.uint8).reshape(1024, 2048, 3)
    picture[:] = fill
    return picture


# -- values there and back -----------------------------------------------------------------------


async def test_objects_come_back_as_they_were(start) -> None:
    instance = start(ECHO)
    said = {
        "text": "zw\u00f6lf",
        "raw": b"\x00\xff",
        "numbers": [1, 2.5, True, None, 2**80, math.inf],
        "by number": {1: "one", (2, 3): [4]},
        "state": np.arange(6, dtype="<f4").reshape(2, 3),
        "big": np.arange(100_000),
    }
    came = await ask(instance, **said)
    assert list(came) == list(said)
    for name in ("text", "raw", "numbers", "by number"):
        assert came[name] == said[name]
    assert [type(one) for one in came["numbers"]] == [int, float, bool, type(None), int, float]
    np.testing.assert_array_equal(came["state"], said["state"])
    np.testing.assert_array_equal(came["big"], said["big"])
    assert came["state"].dtype == np.float32


async def test_metadata_is_the_models_own(start) -> None:
    x = TensorSpec("x", "FP32", (-1, 2))
    code = "def model_inference(obs):\n    return obs['x']\n"
    labels = {"": ("cat", "dog")}
    instance = start(code, inputs=(x,), outputs=(x,), labels=labels, name="seen", version=7)
    told = instance.metadata
    assert (told.name, told.version, told.platform) == ("seen", "7", "python")
    assert (told.inputs, told.outputs, told.labels) == ((x,), (x,), labels)
    assert not told.takes_objects
    assert (await ask(instance, x=np.ones((1, 2), np.float32)))["x"].tolist() == [[1, 1]]


async def test_the_time_of_the_model_itself_is_told(start) -> None:
    instance = start("import time\ndef model_inference(obs):\n    time.sleep(0.02)\n")
    run = Run({"x": 1}, math.inf)
    await instance.run(run)
    assert run.compute_s >= 0.02


# -- memory --------------------------------------------------------------------------------------


async def test_an_image_in_the_arena_is_read_where_it_lies(start, arena) -> None:
    instance = start(
        """
        seen = []
        def model_inference(obs):
            if "image" in obs:
                seen.append(obs["image"])
            return {"first": int(seen[-1][0, 0, 0]), "writeable": seen[-1].flags.writeable}
        """,
        arena,
    )
    picture = image(arena, 7)
    assert await ask(instance, image=picture) == {"first": 7, "writeable": False}
    picture[0, 0, 0] = 99  # the model kept its view, and sees what is written now
    assert (await ask(instance, again=True))["first"] == 99


async def test_an_array_elsewhere_is_copied_for_the_worker(start, arena) -> None:
    instance = start("def model_inference(obs):\n    return int(obs['x'].sum())\n", arena)
    assert await ask(instance, x=np.ones(200_000, np.uint8)) == {"output": 200_000}


async def test_blocks_are_let_go_of_after_the_run(start, arena) -> None:
    instance = start("def model_inference(obs):\n    return int(obs['x'][0])\n", arena)
    pool = BufferPool(16 * MIB, arena)
    for index in range(20):
        array = np.frombuffer(pool.take(MIB), np.uint8)
        array[:] = index
        assert await ask(instance, x=array) == {"output": index}
        del array
        assert pool.in_use_bytes == 0


async def test_a_view_that_the_model_keeps_keeps_the_block(start, arena) -> None:
    instance = start(
        """
        kept = []
        def model_inference(obs):
            if "x" in obs:
                kept.append(obs["x"][10:20])
            elif obs.get("drop"):
                kept.clear()
            return [int(view[0]) for view in kept]
        """,
        arena,
    )
    pool = BufferPool(16 * MIB, arena)
    array = np.frombuffer(pool.take(MIB), np.uint8)
    array[:] = 5
    await ask(instance, x=array)
    del array
    assert pool.in_use_bytes > 0
    other = np.frombuffer(pool.take(MIB), np.uint8)
    other[:] = 9
    assert (await ask(instance, look=True))["output"] == [5]
    assert (await ask(instance, drop=True))["output"] == []
    del other
    assert pool.in_use_bytes == 0


async def test_what_a_model_imports_late_leaves_nothing_in_its_folder(start) -> None:
    instance = start(
        """
        def model_inference(obs):
            folder = os.path.dirname(__file__)
            with open(os.path.join(folder, "late.py"), "w") as file:
                file.write("WORD = 7")
            sys.path.insert(0, folder)
            import late
            return {"said": late.WORD, "files": sorted(os.listdir(folder))}
        """
    )
    assert await ask(instance) == {"said": 7, "files": ["late.py", "model.py"]}


async def test_big_outputs_are_views_and_are_not_overwritten(start) -> None:
    instance = start("def model_inference(obs):\n    return np.full(300_000, obs['n'])\n")
    held = [(await ask(instance, n=n))["output"] for n in range(8)]
    assert [set(array.tolist()) for array in held] == [{n} for n in range(8)]
    assert not any(array.flags.writeable or array.flags.owndata for array in held)


async def test_outputs_outlive_the_worker(start) -> None:
    instance = start("def model_inference(obs):\n    return np.full(300_000, 3)\n")
    output = (await ask(instance))["output"]
    instance.give_up()
    with pytest.raises(Unavailable):
        await ask(instance)
    assert set(output.tolist()) == {3}


async def test_a_failing_model_lets_go_of_its_inputs(start, arena) -> None:
    instance = start("def model_inference(obs):\n    raise ValueError(obs['x'].shape)\n", arena)
    picture = image(arena)
    for _ in range(2):
        with pytest.raises(ModelFailed):
            await ask(instance, x=picture)
    assert instance._worker._child.channel.lent_frames == 0


# -- errors --------------------------------------------------------------------------------------


async def test_a_raising_model_is_told_in_the_log_only(start) -> None:
    instance = start("def model_inference(obs):\n    secret = 1 / obs['n']\n    return secret\n")
    with pytest.raises(ModelFailed) as failed:
        await ask(instance, n=0)
    assert failed.value.message == (
        "model 'tiny' raised ZeroDivisionError; the server's log tells more under this request's id"
    )
    trace = str(failed.value.__cause__)
    assert "secret = 1 / obs['n']" in trace
    assert "ZeroDivisionError: division by zero" in trace
    assert await ask(instance, n=2) == {"output": 0.5}


@pytest.mark.parametrize("what", ["SystemExit(3)", "KeyboardInterrupt()", "MemoryError()"])
async def test_whatever_a_model_raises_is_its_own_failure(start, what: str) -> None:
    instance = start(
        f"def model_inference(obs):\n    if obs['bad']:\n        raise {what}\n    return 1\n"
    )
    with pytest.raises(ModelFailed):
        await ask(instance, bad=True)
    assert instance.alive
    assert await ask(instance, bad=False) == {"output": 1}


async def test_what_the_model_says_to_its_caller_reaches_him(start) -> None:
    instance = start(
        """
        from pelton.errors import InvalidRequest, Code
        def model_inference(obs):
            raise InvalidRequest("the picture is upside down", Code.UNSUPPORTED_MEDIA)
        """
    )
    with pytest.raises(InvalidRequest, match=r"^the picture is upside down$") as refused:
        await ask(instance)
    assert refused.value.code is Code.UNSUPPORTED_MEDIA


async def test_what_cannot_be_carried_is_a_sentence(start) -> None:
    instance = start(
        "def model_inference(obs):\n    return [range(3)] if obs['bad'] is True else obs['bad']\n"
    )
    with pytest.raises(ModelFailed, match=r"^model 'tiny' returned a value of the type range, "):
        await ask(instance, bad=True)
    with pytest.raises(
        InvalidRequest, match=r"^model 'tiny' cannot be given a value of the type object"
    ):
        await ask(instance, bad=object())
    assert await ask(instance, bad="good") == {"output": "good"}


async def test_what_is_over_is_not_started(start) -> None:
    instance = start(
        "runs = []\ndef model_inference(obs):\n    runs.append(1)\n    return len(runs)\n"
    )
    with pytest.raises(DeadlineExceeded):
        await instance.run(Run({}, time.monotonic() - 1))
    assert await instance.run(Run({}, time.monotonic() + 60)) == {"output": 1}


async def test_a_cancelled_run_goes_on_and_the_next_one_waits_for_it(start, tmp_path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    instance = start(
        """
        def model_inference(obs):
            if "pipe" in obs:
                open(obs["pipe"]).read()
            return obs["n"]
        """
    )
    first = asyncio.ensure_future(ask(instance, n=1, pipe=str(pipe)))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    second = asyncio.ensure_future(ask(instance, n=2))
    await asyncio.sleep(0)
    assert not second.done()
    await asyncio.to_thread(pipe.write_text, "go on")
    assert await second == {"output": 2}


# -- loading -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("head", "sentence"),
    [
        ("import no_such_package\n", "No module named 'no_such_package'; install it"),
        ("raise ValueError('no weights')\n", "model.py line 1 raised ValueError: no weights"),
        ("raise SystemExit(3)\n", "model.py line 1 raised SystemExit: 3"),
        ("x = 1\n", "model.py holds no model"),
        ("import os\nos._exit(3)\n", "ended by itself with exit code 3 while it loaded the model"),
        ("import ctypes\nctypes.string_at(0)\n", "crashed (SIGSEGV) while it loaded the model"),
    ],
)
def test_a_model_that_cannot_be_loaded_is_a_sentence(spec_of, head: str, sentence: str) -> None:
    with pytest.raises(LoadFailed) as failed:
        start_instances(spec_of("", head=head), RuntimeOptions(), None, 2)
    assert sentence in failed.value.message
    assert "\n" not in failed.value.message


def test_options_that_are_no_plain_values_are_a_sentence(spec_of) -> None:
    spec = spec_of(ECHO, options={"device": object()})
    with pytest.raises(LoadFailed, match="'tiny' hold a value of the type object"):
        start_instances(spec, RuntimeOptions(), None, 1)


async def test_several_workers_are_processes_of_their_own(spec_of) -> None:
    spec = spec_of("def model_inference(obs):\n    return os.getpid()\n")
    instances = start_instances(spec, RuntimeOptions(), None, 3)
    answers = await asyncio.gather(*[ask(instance) for instance in instances])
    assert len({answer["output"] for answer in answers} | {os.getpid()}) == 4
    for instance in instances:
        instance.close()
    for instance in instances:
        instance.wait_closed()


async def test_threads_and_seeds_are_set_before_the_model_is_imported(start) -> None:
    code = "def model_inference(obs):\n    return [os.environ['OMP_NUM_THREADS'], hash('text')]\n"
    options = RuntimeOptions(threads=3, deterministic=True)
    one, two = start(code, options=options), start(code, options=options)
    first = (await ask(one))["output"]
    assert first[0] == "3"
    assert (await ask(two))["output"] == first


async def test_the_servers_own_settings_are_not_handed_to_a_model(start, monkeypatch) -> None:
    monkeypatch.setenv("PELTON_DATABASE_URL", "postgresql://me:word@db/x")
    monkeypatch.setenv("ROBOT_ARMS", "2")
    worker = start("def model_inference(obs):\n    return sorted(os.environ)\n")
    names = (await ask(worker))["output"]
    assert "ROBOT_ARMS" in names
    assert not [name for name in names if name.startswith("PELTON_")]


def test_a_model_is_warm_before_it_is_ready(start) -> None:
    x = TensorSpec("x", "FP32", (-1, 2))
    code = """
        runs = []
        def model_inference(obs):
            runs.append(obs["x"].shape)
            if len(runs) == 1:
                raise ValueError("cold")
            return np.full((1, 2), len(runs), np.float32)
        """
    instance = start(code, inputs=(x,), outputs=(TensorSpec("y", "FP32", (-1, 2)),))

    async def first() -> float:
        return float((await ask(instance, x=np.zeros((1, 2), np.float32)))["y"][0, 0])

    assert asyncio.run(first()) == 2


def test_it_works_on_one_event_loop_after_the_other(start) -> None:
    instance = start(ECHO)
    for n in range(3):
        assert asyncio.run(ask(instance, n=n)) == {"n": n}


# -- the end -------------------------------------------------------------------------------------


def _resources() -> tuple[int, int, int]:
    import threading

    import psutil

    me = psutil.Process()
    return me.num_fds(), len(me.children(recursive=True)), threading.active_count()


@pytest.mark.skipif(sys.platform != "linux", reason="counts open files as Linux does")
def test_nothing_is_left_after_the_end(spec_of) -> None:
    spec, bad = spec_of(ECHO), spec_of("", head="raise ValueError\n")

    def once() -> None:
        (instance,) = start_instances(spec, RuntimeOptions(), None, 1)
        asyncio.run(ask(instance, x=np.zeros(100_000)))
        instance.close()
        instance.wait_closed()
        with pytest.raises(LoadFailed):
            start_instances(bad, RuntimeOptions(), None, 2)
        gc.collect()

    once()
    before = _resources()
    once()
    assert _resources() == before


async def test_closing_ends_what_is_under_way(start, tmp_path) -> None:
    instance = start("import time\ndef model_inference(obs):\n    time.sleep(1000)\n")
    running = asyncio.ensure_future(ask(instance))
    await asyncio.sleep(0)
    instance.close()
    with pytest.raises(Unavailable, match="was closed"):
        await running
    assert not instance.alive
    with pytest.raises(Unavailable):
        await ask(instance)
    instance.close = lambda: None  # the fixture closes, too


def test_a_model_may_clear_up_at_the_end(spec_of, tmp_path) -> None:
    left = tmp_path / "left"
    spec = spec_of(
        f"import atexit\natexit.register(lambda: open({str(left)!r}, 'w').write('bye'))\n" + ECHO
    )
    (instance,) = start_instances(spec, RuntimeOptions(), None, 1)
    instance.close()
    instance.wait_closed()
    assert left.read_text() == "bye"


# -- waiting in one place ------------------------------------------------------------------------


async def test_a_hot_run_gives_way_to_nothing_else_before_its_answer_is_there(start) -> None:
    instance = start(ECHO)
    await ask(instance, x=0)
    others = []
    asyncio.get_running_loop().call_soon(others.append, "ran")
    answer = await instance.run(Run({"x": 1}, math.inf, hot_s=60.0))
    assert (answer, others) == ({"x": 1}, [])


async def test_a_hot_run_that_takes_longer_goes_the_usual_way(start) -> None:
    instance = start("import time\ndef model_inference(obs):\n    time.sleep(0.05)\n    return 7\n")
    others = []
    asyncio.get_running_loop().call_soon(others.append, "ran")
    answer = await instance.run(Run({"x": 1}, math.inf, hot_s=1e-6))
    assert (list(answer.values()), others) == ([7], ["ran"])


async def test_a_worker_that_dies_in_a_hot_run_fails_it_and_comes_back(start) -> None:
    instance = start("import os\ndef model_inference(obs):\n    os._exit(3)\n")
    with pytest.raises(Unavailable, match="during the request"):
        await instance.run(Run({"x": 1}, math.inf, hot_s=0.2))
    back = asyncio.Event()
    instance.on_change(back.set)
    await back.wait()
    assert instance.alive
