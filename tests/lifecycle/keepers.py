"""A keeper over a folder of real models, with a real state, and an engine that asks them."""

from __future__ import annotations

import asyncio
import io
import tarfile
import textwrap
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from engine.fake_models import FakeModel, described
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.engine.thread_instance import thread_instances
from pelton.errors import LoadFailed
from pelton.lifecycle.boot import BootLoader, Told, open_keeper
from pelton.lifecycle.keeper import Keeper
from pelton.lifecycle.keeper_plan import KeeperPlan
from pelton.lifecycle.model_steps import SwapPlan
from pelton.lifecycle.observing import RecordingPlan
from pelton.lifecycle.probation import ProbationPlan
from pelton.lifecycle.swap_steps import SwapTimes
from pelton.loading import Loader
from pelton.messages import InferRequest
from pelton.runtimes.contract import RuntimeOptions, Stop
from pelton.servers.model_control import PublishedRow, UploadRequest
from pelton.specs import ModelSpec, Serving, TensorSpec
from pelton.state.sqlite import file_url
from pelton.state.state import State

PLAN = KeeperPlan(
    allow_publish=True,
    explicit_models=True,
    max_upload_bytes=1 << 20,
    swap=SwapPlan(
        SwapTimes(load_timeout_s=30.0, keep_warm_s=60.0),
        ProbationPlan(time_s=300.0, requests=100, latency_factor=0.0),
        RecordingPlan(latency_factor=0.0),
        observes=True,
    ),
)


def scale_bytes(factor: float, width: int = 2) -> bytes:
    """Return an ONNX model: `x` FP32 [-1, width] -> `y`, which is `x` times the factor."""
    constant = helper.make_tensor("factor", TensorProto.FLOAT, [1], [factor])
    shape = ["rows", width]
    graph = helper.make_graph(
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        "scale",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [constant],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def write_scale(folder: Path, factor: float) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(scale_bytes(factor))
    return folder


SCALE_IN_PYTHON = """
import os

class Scale:
    def load(self, path, device):
        {on_load}

    def predict(self, inputs):
        {on_predict}
        return {{"y": inputs["x"] * {factor}, "pid": os.getpid()}}
"""


def python_scale(factor: float, on_load: str = "pass", on_predict: str = "pass") -> str:
    return SCALE_IN_PYTHON.format(factor=factor, on_load=on_load, on_predict=on_predict)


def tar_of(**files: bytes | str) -> bytes:
    """Return an archive; in the names, `__` stands for a dot."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            data = textwrap.dedent(content).encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(name.replace("__", "."))
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return written.getvalue()


async def in_chunks(data: bytes, size: int = 1000) -> AsyncIterator[bytes]:
    for start in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[start : start + size]


@dataclass
class Kept:
    """A running keeper and all that is around it."""

    keeper: Keeper
    models: Models
    engine: Engine
    state: State | None
    gates: list[str] = field(default_factory=list)

    async def ask(
        self, name: str, value: float = 1.0, version: str | None = None
    ) -> tuple[float, str]:
        """Return the answer, over the value, and the version that it comes from."""
        inputs = {"x": np.full((1, 2), value, np.float32)}
        response = await self.engine.infer(InferRequest(name, inputs, version=version))
        return float(np.asarray(response.outputs["y"]).ravel()[0]) / value, response.version

    async def push(
        self, name: str, data: bytes, file_name: str = "model.onnx", **said: Any
    ) -> PublishedRow:
        request = UploadRequest(file_name=file_name, **said)
        return await self.keeper.publish(name, request, in_chunks(data), "k1", self.gates.append)

    async def end(self) -> None:
        await self.keeper.close()
        await asyncio.to_thread(self.models.close)
        self.keeper.finish()
        if self.state is not None:
            self.state.close()


def opened(
    root: Path,
    plan: KeeperPlan = PLAN,
    serving: Serving | None = None,
    state_dir: Path | None = None,
    told: Told | None = None,
    loader: BootLoader | None = None,
) -> Kept:
    """Load what lies there, without an event loop."""
    folder = root.parent / "state" if state_dir is None else state_dir
    folder.mkdir(exist_ok=True)
    state = State.open(file_url(folder))
    from pelton.lifecycle import boot

    models = Models()
    if loader is None:
        loader = Loader(serving or Serving(), RuntimeOptions(), 1 << 20, time.monotonic)
    try:
        keeper = open_keeper(
            root, plan, loader, models, boot.Kept(state.versions, state.audit), told
        )
    except BaseException:
        state.close()
        raise
    return Kept(keeper, models, Engine(models, lambda _: None, lender=keeper.lender), state)


async def started(root: Path, plan: KeeperPlan = PLAN, **options: Any) -> Kept:
    kept = await asyncio.to_thread(opened, root, plan, **options)
    await kept.keeper.start()
    return kept


def with_swap(plan: KeeperPlan, **parts: Any) -> KeeperPlan:
    return replace(plan, swap=replace(plan.swap, **parts))


async def until(reached: Callable[[], bool], patience_s: float = 20.0) -> None:
    ends_s = time.monotonic() + patience_s
    while not reached():
        assert time.monotonic() < ends_s, "it was never reached"
        await asyncio.sleep(0.01)


GOOD_RUNS = 20


class TextLoader:
    """Loads models without a framework: a file that holds a number is a model that multiplies.

    Behind the number there may stand what becomes of it after `GOOD_RUNS`: `fails`, `nan`.
    """

    def __init__(self) -> None:
        self.loaded: list[FakeModel] = []

    def load_one(self, spec: ModelSpec, stop: Stop | None = None) -> Model:
        try:
            text, _, then = spec.path.read_text().partition(" ")
            factor = float(text)
        except ValueError:
            raise LoadFailed(f"{spec.name}/{spec.version} holds no number") from None
        runs = 0

        def run(inputs: Mapping[str, Any]) -> dict[str, Any]:
            nonlocal runs
            runs += 1
            if runs > GOOD_RUNS and then.strip() == "fails":
                raise ValueError("on purpose")
            return {"y": inputs["x"] * (np.nan if runs > GOOD_RUNS and then == "nan" else factor)}

        tensors = (TensorSpec("x", "FP32", (-1, 2)),)
        metadata = described(*tensors, name=spec.name, version=str(spec.version))
        fake = FakeModel(run, metadata)
        self.loaded.append(fake)
        instances = thread_instances(fake, 1, time.monotonic)
        return Model(metadata, instances, Serving(), time.monotonic, inline=fake)

    def load_each(self, specs: Sequence[ModelSpec], timeout_s: float) -> list[Model | LoadFailed]:
        outcomes: list[Model | LoadFailed] = []
        for spec in specs:
            try:
                outcomes.append(self.load_one(spec))
            except LoadFailed as error:
                outcomes.append(error)
        return outcomes

    def watch(self) -> None:
        pass

    def open(self) -> list[tuple[str, str]]:
        """Return the name and version of each model that is in memory, in order."""
        return sorted(
            (one.metadata.name, one.metadata.version) for one in self.loaded if not one.closed
        )


def write_text(folder: Path, factor: float | str) -> Path:
    """Write a model for a `TextLoader`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_text(str(factor))
    return folder
