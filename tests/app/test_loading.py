"""Models are loaded where and as often as was planned, and closed when one cannot be."""

from __future__ import annotations

import logging
import os
import re
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from engine.fake_models import FakeModel, described
from pelton import loading
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.placement import SAMPLES
from pelton.errors import LoadFailed
from pelton.loading import Loader
from pelton.messages import InferRequest
from pelton.repository import manifest
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.serving_plan import usable_cores, with_safe_batches
from pelton.specs import Batching, ModelSpec, Serving, TensorSpec
from support_server import until, write_identity, write_matmul, write_python_model

PATIENCE_S = 60.0


def loader(**serving: Any) -> Loader:
    return Loader(Serving(**serving), RuntimeOptions(), 1 << 20, time.monotonic)


def load(path: Path, one: Loader) -> Models:
    """Load every model under a path; the first that cannot be loaded is raised."""
    loaded = one.load_each(scan(path, registry.claims()), PATIENCE_S)
    models = Models([each for each in loaded if isinstance(each, Model)])
    for each in loaded:
        if isinstance(each, LoadFailed):
            models.close()
            raise each
    return models


def test_models_are_loaded_and_logged_one_by_one(tmp_path: Path, caplog) -> None:
    write_matmul(tmp_path / "scorer/2/model.onnx", 4, 3)
    write_matmul(tmp_path / "scorer/10/model.onnx", 5, 3)
    write_identity(tmp_path / "echo/model.onnx", "INT64", (-1,), inputs=2)
    (tmp_path / "scorer/model.toml").write_text(
        "deterministic = true\nthreads = 2\n[batching]\nmax_batch_rows = 4"
    )
    (tmp_path / "echo/model.toml").write_text("instances = 3\n[batching]\nmax_batch_rows = 4")
    threads = max(1, usable_cores() // 3)
    with caplog.at_level(logging.INFO, "pelton.app"):
        models = load(tmp_path, loader())
    try:
        told = [(each.name, each.version) for each in models.metadata()]
        assert told == [("echo", "1"), ("scorer", "10")]
        lines = [re.sub(r"\d+ ms", "N ms", record.getMessage()) for record in caplog.records]
        assert lines == [
            f"model echo version 1 (onnx on cpu, inline, instances 3, threads {threads}, "
            "batches up to 4 rows; loaded in N ms): "
            "x0 INT64 [-1], x1 INT64 [-1] -> y0 INT64 [-1], y1 INT64 [-1]",
            "model scorer version 10 (onnx on cpu, inline, instances 1, threads 2, no batches, "
            "deterministic; loaded in N ms): x FP32 [-1, 5] -> y FP32 [-1, 3]",
        ]
    finally:
        models.close()


class Loading:
    """Stands for the registry: loads fakes, and fails at the model that is called `broken`."""

    def __init__(self, **about_models: Any) -> None:
        self.loaded: list[FakeModel] = []
        self.options: list[RuntimeOptions] = []
        self.runs = 0
        self.fails_after = 100
        self._about_models = about_models

    def __call__(self, spec: ModelSpec, options: RuntimeOptions, stop: Stop) -> FakeModel:
        if spec.name == "broken" or len(self.loaded) == self.fails_after:
            raise LoadFailed(f"model {spec.name!r} is broken")
        metadata = described(TensorSpec("x", "FP32", (2,)), name=spec.name)
        self.options.append(options)
        self.loaded.append(FakeModel(self._run, metadata, **self._about_models))
        return self.loaded[-1]

    def _run(self, inputs: Any) -> dict[str, Any]:
        self.runs += 1
        return dict(inputs)

    def closed(self) -> list[tuple[str, int]]:
        return [(each.metadata.name, each.closed) for each in self.loaded]


def instances_of(models: Models, name: str) -> int:
    return models.find(name).statistics().instances


def test_each_model_is_loaded_whatever_becomes_of_the_others(tmp_path, monkeypatch) -> None:
    fakes = Loading()
    monkeypatch.setattr(loading.registry, "load", fakes)
    specs = [
        ModelSpec(name, 1, write_identity(tmp_path / f"{name}.onnx"), "onnx")
        for name in ("a", "broken", "c")
    ]
    outcomes = loader().load_each(specs, PATIENCE_S)
    assert [getattr(one, "name", str(one)) for one in outcomes] == [
        "a",
        "model 'broken' is broken",
        "c",
    ]
    assert fakes.closed() == [("a", 0), ("c", 0)]
    for one in outcomes:
        if isinstance(one, Model):
            one.close()
    assert fakes.closed() == [("a", 1), ("c", 1)]


HOLDING = """
import os, pathlib, time

class Holding:
    def load(self, path, device):
        pathlib.Path({here!r}, str(os.getpid())).touch()
        while len(list(pathlib.Path({here!r}).iterdir())) < {wanted}:
            time.sleep(0.01)

    def predict(self, inputs):
        return inputs
"""


def held(tmp_path: Path, wanted: int, count: int) -> list[ModelSpec]:
    here = tmp_path / "here"
    here.mkdir()
    specs = []
    for number in range(count):
        folder = tmp_path / f"m{number}"
        write_python_model(folder, HOLDING.format(here=str(here), wanted=wanted))
        specs.append(ModelSpec(folder.name, 1, folder, "python"))
    return specs


def test_models_in_worker_processes_are_loaded_at_the_same_time(tmp_path: Path) -> None:
    outcomes = loader().load_each(held(tmp_path, wanted=3, count=3), PATIENCE_S)
    assert [one.name for one in outcomes if isinstance(one, Model)] == ["m0", "m1", "m2"]
    for one in outcomes:
        if isinstance(one, Model):
            one.close()


def test_who_is_interrupted_ends_the_workers(tmp_path: Path, monkeypatch) -> None:
    specs = held(tmp_path, wanted=100, count=2)
    here = tmp_path / "here"

    def interrupted(*_: object) -> None:
        deadline_s = time.monotonic() + 20.0
        while len(list(here.iterdir())) < 2 and time.monotonic() < deadline_s:
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(loading.registry, "load", interrupted)
    onnx = ModelSpec("m", 1, write_identity(tmp_path / "m.onnx"), "onnx")
    with pytest.raises(KeyboardInterrupt):
        loader().load_each([*specs, onnx], PATIENCE_S)
    pids = [one.name for one in here.iterdir()]
    assert len(pids) == 2
    until(lambda: not any(Path("/proc", pid).exists() for pid in pids))


def test_a_load_that_was_given_up_before_leaves_nothing(tmp_path: Path) -> None:
    (spec,) = held(tmp_path, wanted=100, count=1)
    stop = Stop()
    stop.ask()
    with pytest.raises(LoadFailed, match="loading 'm0' was given up"):
        loader().load_one(spec, stop)


@pytest.mark.parametrize(("cache", "kept"), [("true", True), ("false", False)])
def test_a_model_has_the_cache_that_it_asks_for(tmp_path: Path, cache: str, kept: bool) -> None:
    write_identity(tmp_path / "m/model.onnx")
    (tmp_path / "m/model.toml").write_text(f"cache = {cache}")
    models = load(tmp_path, loader())
    assert (models.find("m").cache is not None) is kept
    models.close()


@pytest.mark.parametrize("far", [False, True])
def test_other_servers_are_told_of_a_version_what_its_files_are(
    tmp_path: Path, monkeypatch, far: bool
) -> None:
    path = write_identity(tmp_path / "m" / "1" / "m.onnx")
    told: list[str] = []

    def note(metadata, serving, digest, clock, far):
        told.append(digest)

    monkeypatch.setattr(loading, "cache_for", note)
    digest = manifest.measure(path.parent).digest
    one = loader(cache=True)
    one.far = object() if far else None
    one.load_one(ModelSpec("m", 1, path, "onnx", digest=digest)).close()
    assert told[0].startswith(digest) is far
    assert bool(told[0]) is far


def test_one_that_may_be_shared_is_loaded_once_for_all_instances(tmp_path, monkeypatch) -> None:
    fakes = Loading(concurrent=True)
    monkeypatch.setattr(loading.registry, "load", fakes)
    models = load(write_identity(tmp_path / "m.onnx"), loader(instances=3))
    assert instances_of(models, "m") == 3
    models.close()
    assert fakes.closed() == [("m", 1)]


def test_one_that_may_not_be_shared_is_loaded_for_each_instance(tmp_path, monkeypatch) -> None:
    fakes = Loading(concurrent=False)
    monkeypatch.setattr(loading.registry, "load", fakes)
    models = load(write_identity(tmp_path / "m.onnx"), loader(instances=3))
    assert instances_of(models, "m") == 3
    models.close()
    assert fakes.closed() == [("m", 1)] * 3


def test_one_that_may_not_be_shared_has_one_instance_by_itself(tmp_path, monkeypatch) -> None:
    fakes = Loading(concurrent=False)
    monkeypatch.setattr(loading.registry, "load", fakes)
    models = load(write_identity(tmp_path / "m.onnx"), loader())
    assert instances_of(models, "m") == 1
    models.close()


def test_a_copy_that_cannot_be_loaded_closes_the_others(tmp_path, monkeypatch) -> None:
    fakes = Loading(concurrent=False)
    fakes.fails_after = 2
    monkeypatch.setattr(loading.registry, "load", fakes)
    with pytest.raises(LoadFailed, match="model 'm' is broken"):
        load(write_identity(tmp_path / "m.onnx"), loader(instances=3))
    assert fakes.closed() == [("m", 1), ("m", 1)]


def test_models_are_warmed_up_with_the_options_that_were_planned(tmp_path, monkeypatch) -> None:
    fakes = Loading(quick=True)
    monkeypatch.setattr(loading.registry, "load", fakes)
    models = load(write_identity(tmp_path / "m.onnx"), loader(threads=3))
    assert models.names() == ["m"]
    assert fakes.options == [RuntimeOptions(threads=3)]
    assert fakes.runs == SAMPLES + 1
    models.close()


def test_without_worker_processes_there_is_no_arena(tmp_path: Path) -> None:
    one = loader()
    load(write_identity(tmp_path / "m.onnx"), one).close()
    assert one.arena is None


COUNTING = """
import os

class Counting:
    def load(self, path, device):
        self.runs = 0

    def predict(self, inputs):
        self.runs += 1
        return {"pid": os.getpid(), "runs": self.runs}
"""


async def test_python_lives_in_a_worker_process(tmp_path: Path) -> None:
    write_python_model(tmp_path, COUNTING)
    one = loader()
    models = load(tmp_path, one)
    try:
        one.watch()
        (name,) = models.names()
        told = [
            (await models.find(name).answer(InferRequest(name, {})))[0].outputs for _ in range(2)
        ]
    finally:
        models.close()
    assert told[0]["pid"] == told[1]["pid"] != os.getpid()
    assert [each["runs"] for each in told] == [1, 2]
    assert one.arena is not None


async def test_python_may_be_told_to_live_in_the_server(tmp_path: Path) -> None:
    write_python_model(tmp_path, COUNTING)
    (tmp_path / "model.toml").write_text('isolation = "inline"')
    one = loader(isolation="process")
    models = load(tmp_path, one)
    (name,) = models.names()
    answer, _ = await models.find(name).answer(InferRequest(name, {}))
    models.close()
    assert answer.outputs["pid"] == os.getpid()
    assert one.arena is None


async def test_onnx_may_live_in_worker_processes(tmp_path: Path) -> None:
    one = loader(isolation="process", instances=2)
    models = load(write_identity(tmp_path / "m.onnx"), one)
    try:
        one.watch()
        x = np.array([1.5, -2.0], np.float32)
        answer, _ = await models.find("m").answer(InferRequest("m", {"x": x}))
        assert models.find("m").statistics().alive == 2
    finally:
        models.close()
    assert answer.outputs["y"].tolist() == [1.5, -2.0]


# -- batches -------------------------------------------------------------------------------------

ROWS = TensorSpec("x", "FP32", (-1, 3))
FIXED = TensorSpec("x", "FP32", (3,))


@pytest.mark.parametrize(
    ("tensors", "own", "rows"),
    [
        ((ROWS, ROWS), {}, 16),
        ((ROWS, FIXED), {}, 1),
        ((), {}, 1),
        ((FIXED,), {"max_batch_rows": 16}, 16),
        ((), {"max_batch_rows": 16}, 16),
    ],
)
def test_the_servers_bound_holds_where_first_sizes_are_open(tensors, own, rows) -> None:
    spec = ModelSpec("m", 1, Path("m"), "python", serving={"batching": own} if own else {})
    serving = Serving(batching=Batching(max_batch_rows=16, max_delay_ms=2.0))
    safe = with_safe_batches(serving, spec, described(*tensors))
    assert safe.batching == Batching(max_batch_rows=rows, max_delay_ms=2.0)
