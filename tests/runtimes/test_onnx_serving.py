"""What the engine asks of an ONNX model: batch axis, ending a run, the same bits."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from pelton.runtimes.contract import RuntimeOptions, Stop, Stoppable
from pelton.runtimes.onnx.model import has_batch_axis, load
from pelton.runtimes.onnx.session import session_settings
from pelton.specs import ModelSpec, TensorSpec
from runtimes.onnx_files import linear, model_of, value, weights


def opened(folder: Path, model: onnx.ModelProto, **spec: Any) -> Any:
    path = folder / "m.onnx"
    onnx.save(model, path)
    return load(ModelSpec("m", 1, path, "onnx", **spec), RuntimeOptions(threads=1))


# -- the batch axis ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shapes", "batch"),
    [
        ([["batch", 3], ["batch"]], True),
        ([["batch_size", 3, "w"], ["batch_size", "w"]], True),
        ([["N", 3], ["N", 4]], True),
        ([["N", 3], ["M", 4]], False),
        ([["batch", 3], ["batch", "batch"]], False),
        ([["batch", 3], []], False),
        ([["batch", 3], [1, 3]], False),
        ([["batch", 3], [None, 3]], False),
        ([[None, 3], [None, 3]], False),
        ([[4, 3], [4, 3]], False),
        ([["seq", 3], ["seq", 3]], False),
        ([["time", 3], ["time", 3]], False),
        ([["unk__7", 3], ["unk__7", 3]], False),
        ([[], []], False),
    ],
)
def test_only_a_first_size_that_is_called_so_is_a_batch(
    shapes: Sequence[Sequence[int | str | None]], batch: bool
) -> None:
    assert has_batch_axis(shapes) is batch


def test_the_batch_axis_is_told_by_the_file(tmp_path: Path) -> None:
    assert opened(tmp_path, linear()).metadata.batch_axis
    node = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    total = model_of(
        [node], [value("x", TensorProto.FLOAT, ["n", 2])], [value("y", TensorProto.FLOAT, [])]
    )
    assert not opened(tmp_path, total).metadata.batch_axis


def test_a_declared_number_of_rows_is_no_batch_axis(tmp_path: Path) -> None:
    declared = (TensorSpec("x", "FP32", (1, 2)),)
    assert not opened(tmp_path, linear(), inputs=declared).metadata.batch_axis


# -- ending a run --------------------------------------------------------------------------------


def endless() -> onnx.ModelProto:
    """x [1] -> x + 2 ** 60 times 1, one by one."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["before", "one"], ["after"]),
            helper.make_node("Identity", ["go"], ["go_on"]),
        ],
        "body",
        [
            value("i", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("before", TensorProto.FLOAT, [1]),
        ],
        [value("go_on", TensorProto.BOOL, []), value("after", TensorProto.FLOAT, [1])],
        [helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0])],
    )
    return model_of(
        [helper.make_node("Loop", ["times", "true", "x"], ["y"], body=body)],
        [value("x", TensorProto.FLOAT, [1])],
        [value("y", TensorProto.FLOAT, [1])],
        [
            helper.make_tensor("times", TensorProto.INT64, [], [2**60]),
            helper.make_tensor("true", TensorProto.BOOL, [], [True]),
        ],
    )


class Noted(Stop):
    """A stop that tells when a run has taken it."""

    def __init__(self) -> None:
        super().__init__()
        self.taken = threading.Event()

    def on_ask(self, act: Any) -> None:
        super().on_ask(act)
        self.taken.set()


def test_a_run_that_nobody_waits_for_is_ended(tmp_path: Path) -> None:
    model = opened(tmp_path, endless())
    assert isinstance(model, Stoppable)
    stop = Noted()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(model.run_until, {"x": np.zeros(1, np.float32)}, stop)
        assert stop.taken.wait(60)
        stop.ask()
        assert "terminate" in str(run.exception(60))


def test_a_run_that_was_given_up_before_does_not_begin(tmp_path: Path) -> None:
    stop = Stop()
    stop.ask()
    with pytest.raises(Exception, match="terminate"):
        opened(tmp_path, endless()).run_until({"x": np.zeros(1, np.float32)}, stop)


def test_a_run_that_is_waited_for_ends_as_any_other(tmp_path: Path) -> None:
    model, stop = opened(tmp_path, linear()), Stop()
    x = np.array([[1, 2]], np.float32)
    assert model.run_until({"x": x}, stop)["y"].tolist() == model.run({"x": x})["y"].tolist()
    stop.ask()  # too late to end anything
    assert model.run({"x": x})["y"].tolist() == [[6, 9, 12]]


# -- the same bits -------------------------------------------------------------------------------


def test_deterministic_sessions_are_asked_for(tmp_path: Path) -> None:
    plain, strict = (
        session_settings(RuntimeOptions(threads=1, deterministic=each)) for each in (False, True)
    )
    assert (plain.use_deterministic_compute, plain.enable_mem_pattern) == (False, True)
    assert (strict.use_deterministic_compute, strict.enable_mem_pattern) == (True, False)
    assert strict.intra_op_num_threads == 1


def test_many_threads_may_be_in_one_session(tmp_path: Path) -> None:
    side = 64
    square = model_of(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n", side])],
        [value("y", TensorProto.FLOAT, ["n", side])],
        [weights("w", [side, side])],
    )
    model = opened(tmp_path, square)
    rng = np.random.default_rng(7)
    inputs = [rng.random((rows, side), np.float32) for rows in range(1, 33)]
    wanted = [model.run({"x": each})["y"].tobytes() for each in inputs]
    given: dict[int, bytes] = {}

    def run(place: int) -> None:
        given[place] = model.run({"x": inputs[place]})["y"].tobytes()

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [given[place] for place in range(len(inputs))] == wanted
