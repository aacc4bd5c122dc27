"""Objects of any class reach the model, each in a process of its own that is gone afterwards."""

from __future__ import annotations

import importlib.util
import math
import os
import pickle
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.errors import DeadlineExceeded, InvalidRequest, LoadFailed, ModelFailed, Unavailable
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.runtimes.process.single_use import SingleUse, SingleUseTerms
from pelton.specs import ModelSpec
from runtimes.process.single_use_models import MODEL, SHAPES, answer, does, processes_with

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")

Start = Callable[..., SingleUse]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.py").write_text(MODEL)
    (folder / "shapes.py").write_text(SHAPES)
    return folder


@pytest.fixture
def start(folder: Path) -> Iterator[Start]:
    started: list[SingleUse] = []

    def begin(terms: SingleUseTerms | None = None, **fields: Any) -> SingleUse:
        spec = ModelSpec("tiny", 1, folder, "python", **fields)
        started.append(SingleUse(spec, RuntimeOptions(), terms))
        return started[-1]

    yield begin
    for workers in started:
        workers.close()


@pytest.fixture
def shapes(folder: Path, monkeypatch) -> Any:
    """The client's own import of the module that lies beside the model."""
    spec = importlib.util.spec_from_file_location("shapes", folder / "shapes.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "shapes", module)
    spec.loader.exec_module(module)
    return module


def parts(value: Any, protocol: int = 5) -> list[memoryview]:
    return [memoryview(pickle.dumps(value, protocol))]


@pytest.mark.parametrize("protocol", range(2, 6))
def test_an_instance_of_a_class_reaches_the_model(start: Start, shapes, protocol: int) -> None:
    workers = start()
    compute_s, outputs = workers.run(parts({"point": shapes.Point(3, 4)}, protocol), math.inf)
    assert compute_s >= 0
    assert outputs["sum"] == 7
    assert outputs["pid"] == 1, "it runs as the first process of a namespace"


def test_a_class_of_the_models_own_file_is_found(start: Start, folder: Path) -> None:
    (folder / "model.py").write_text(
        "class Obs:\n    x = 5\n"
        "def load_model(path, device): pass\n"
        "def model_inference(obs): return obs['o'].x if isinstance(obs['o'], Obs) else -1\n"
    )
    pickled = b"\x80\x02}X\x01\x00\x00\x00ocmodel\nObs\n)\x81s."
    assert start().run([memoryview(pickled)], math.inf)[1] == {"output": 5}


def test_nothing_of_one_request_is_there_in_the_next(start: Start, shapes) -> None:
    workers = start()
    runs = [workers.run(parts({"point": shapes.Point(1, 1)}), math.inf)[1] for _ in range(3)]
    assert [outputs["runs"] for outputs in runs] == [1, 1, 1]


def test_arrays_beside_the_pickle_arrive(start: Start) -> None:
    arrays = [np.arange(200_000, dtype=np.float64), np.empty(0, np.uint8), np.eye(2)]
    buffers: list[pickle.PickleBuffer] = []
    pickled = pickle.dumps({"told": arrays}, 5, buffer_callback=buffers.append)
    told = start().run([memoryview(pickled), *(each.raw() for each in buffers)], math.inf)[1]
    for sent, came in zip(arrays, told["told"], strict=True):
        np.testing.assert_array_equal(came, sent)


def test_the_first_worker_says_what_the_model_is(start: Start) -> None:
    metadata = start().start()
    assert metadata.takes_objects
    assert metadata.platform == "python"


def test_a_class_that_is_not_there_is_the_callers_mistake(start: Start) -> None:
    with pytest.raises(InvalidRequest, match=r"there is no nowhere\.Thing here; put its module"):
        start().run([memoryview(b"\x80\x02cnowhere\nThing\n.")], math.inf)


@pytest.mark.parametrize("body", [b"", b"no pickle", b"\x80\x05N", b"\x80\x02cos\nsystem\n"])
def test_bytes_that_are_no_pickle_are_the_callers_mistake(start: Start, body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="cannot be unpickled"):
        start().run([memoryview(body)], math.inf)


def test_a_hidden_path_may_be_relative(start: Start, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "key").touch()
    workers = start(SingleUseTerms(hidden=("secrets",)))
    assert answer(workers, f"import os; told = os.listdir({str(tmp_path / 'secrets')!r})") == []


@pytest.mark.parametrize("value", [5, [1], {1: 2}])
def test_an_object_has_to_come_by_input_name(start: Start, value: Any) -> None:
    with pytest.raises(InvalidRequest, match=f"is a {type(value).__name__}; send a dict"):
        start().run(parts(value), math.inf)


def test_what_the_model_returns_has_to_be_data(start: Start) -> None:
    with pytest.raises(ModelFailed, match="returned a value of the type object"):
        answer(start(), "told = object()")


def test_what_the_model_refuses_is_told_to_the_caller(start: Start) -> None:
    code = "from pelton.errors import InvalidRequest\nraise InvalidRequest('too bright')"
    with pytest.raises(InvalidRequest, match=r"^too bright$"):
        answer(start(), code)


def test_what_is_raised_stays_in_the_log(start: Start) -> None:
    with pytest.raises(ModelFailed, match="raised KeyError; the server's log tells more") as failed:
        answer(start(), "raise KeyError('secret')")
    assert "secret" in str(failed.value.__cause__)
    assert "secret" not in failed.value.message


def test_what_is_printed_is_in_the_log_under_the_request(start: Start, caplog) -> None:
    caplog.set_level("INFO", "pelton.worker")
    answer(start(), "print('from the object')", log_id="r-17")
    assert "model tiny (request r-17): from the object" in caplog.messages


def test_a_model_for_arrays_takes_no_objects(start: Start) -> None:
    from pelton.specs import TensorSpec

    with pytest.raises(LoadFailed, match="takes arrays, not objects"):
        start(inputs=(TensorSpec("x", "FP32", (1,)),)).start()


def test_a_model_that_cannot_be_loaded_is_tried_again(start: Start, folder: Path) -> None:
    good = (folder / "model.py").read_text()
    (folder / "model.py").write_text("raise ValueError('no weights')")
    workers = start()
    with pytest.raises(LoadFailed, match="raised ValueError: no weights"):
        workers.start()
    with pytest.raises(Unavailable, match="no worker for signed objects can be started") as failed:
        answer(workers, "told = 1")
    assert "weights" not in failed.value.message
    assert failed.value.retry_after_s == 1.0
    (folder / "model.py").write_text(good)
    assert answer(workers, "told = 1") == 1


def test_a_model_that_ends_its_process_while_it_loads_is_told(start: Start, folder: Path) -> None:
    (folder / "model.py").write_text("import os\nos._exit(3)")
    with pytest.raises(LoadFailed, match="ended by itself with exit code 3 while it loaded"):
        start().start()


def test_a_model_that_hangs_while_it_loads_is_given_up(start: Start, folder: Path) -> None:
    (folder / "model.py").write_text("import time\ntime.sleep(1000)")
    with pytest.raises(LoadFailed, match="was not loaded in time"):
        start(SingleUseTerms(load_timeout_s=0.5)).start()


def test_a_worker_that_is_ready_too_late_serves_the_next_request(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    wait = f"open({str(gate)!r}).close()\n"
    (folder / "model.py").write_text(wait + (folder / "model.py").read_text())
    workers = start()
    with pytest.raises(DeadlineExceeded):
        answer(workers, "told = 1", deadline_s=time.monotonic() + 0.2)
    with gate.open("w"):  # held open: whichever worker comes to the gate may pass
        assert answer(workers, "told = 2") == 2
        workers.close()


def test_a_request_that_comes_too_late_takes_no_worker(start: Start) -> None:
    workers = start()
    workers.start()
    (spare,) = workers._ready
    with pytest.raises(DeadlineExceeded):
        answer(workers, "told = 1", deadline_s=time.monotonic() - 1)
    assert workers._ready == [spare]


def test_a_worker_that_loads_while_it_is_closed_is_ended(
    start: Start, folder: Path, tmp_path: Path
) -> None:
    entered = tmp_path / "entered"
    os.mkfifo(entered)
    hangs = f"import time\nopen({str(entered)!r}, 'w').close()\ntime.sleep(1000)"
    (folder / "model.py").write_text(hangs)
    workers = start()
    failed: list[Exception] = []

    def wait() -> None:
        try:
            workers.start()
        except Unavailable as error:
            failed.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    entered.open().close()
    workers.close()
    thread.join()
    assert len(failed) == 1
    assert processes_with("single_use_keeper tiny") == []
    assert (workers._starting, workers._loading, workers._running) == (0, set(), set())


def test_a_spare_that_has_died_is_replaced(start: Start) -> None:
    workers = start()
    workers.start()
    (spare,) = workers._ready
    os.kill(spare.child._process.pid, signal.SIGKILL)
    os.waitid(os.P_PID, spare.child._process.pid, os.WEXITED | os.WNOWAIT)
    assert answer(workers, "told = 6") == 6


def test_only_so_many_are_worked_on_at_once(start: Start, tmp_path: Path) -> None:
    entered, gate = tmp_path / "entered", tmp_path / "gate"
    os.mkfifo(entered)
    os.mkfifo(gate)
    workers = start(SingleUseTerms(most_at_once=1))
    waits = f"open({str(entered)!r}, 'w').close(); open({str(gate)!r}).close(); told = 1"
    told: list[Any] = []
    first = threading.Thread(target=lambda: told.append(answer(workers, waits)))
    first.start()
    entered.open().close()
    with pytest.raises(Unavailable, match="too many signed objects") as refused:
        answer(workers, "told = 2")
    assert refused.value.retry_after_s == 1.0
    gate.open("w").close()
    first.join()
    assert told == [1]
    assert answer(workers, "told = 3") == 3


def test_a_caller_that_leaves_ends_its_worker(start: Start) -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(ModelFailed, match="SIGKILL"):
        start().run([does("import time; time.sleep(1000)")], math.inf, stop=stop)


def test_closing_ends_what_is_under_way_and_refuses_what_comes(
    start: Start, tmp_path: Path
) -> None:
    entered = tmp_path / "entered"
    os.mkfifo(entered)
    workers = start()
    failed: list[Exception] = []

    def hang() -> None:
        try:
            answer(workers, f"import time; open({str(entered)!r}, 'w').close(); time.sleep(1000)")
        except ModelFailed as error:
            failed.append(error)

    thread = threading.Thread(target=hang)
    thread.start()
    entered.open().close()
    workers.close()
    thread.join()
    assert len(failed) == 1
    with pytest.raises(Unavailable, match="is being closed"):
        answer(workers, "told = 1")


def test_nothing_is_left_behind(start: Start, monkeypatch, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    fds = len(list(Path("/proc/self/fd").iterdir()))
    workers = start(SingleUseTerms(time_limit_s=20))
    for code in ("told = 1", "open('left', 'w').write('x'); told = 1"):
        assert answer(workers, code) == 1
    with pytest.raises(ModelFailed):
        answer(workers, "import os; os._exit(1)")
    workers.close()
    assert list(temporary.iterdir()) == []
    assert len(list(Path("/proc/self/fd").iterdir())) == fds
    assert processes_with(str(temporary)) == []
