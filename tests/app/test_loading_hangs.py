"""A model that hangs while it is loaded, or runs first, is given up; the others are loaded."""

from __future__ import annotations

import logging
import sys
import threading
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest

from app.test_loading import Loading, loader
from e2e.versions import onnx_bytes
from pelton import loading
from pelton.engine.model import Model
from pelton.errors import LoadFailed
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.specs import ModelSpec
from support_server import until, write_identity, write_python_model

PATIENCE_S = 60.0
LIMIT_S = 3.0

MODEL = """
import time

def load_model(model_path, device):
    {at_load}

def model_inference(obs):
    {at_run}
    return obs
"""
TOML = """
isolation = "{isolation}"
instances = 2

[[inputs]]
name = "x"
datatype = "FP32"
shape = [2]
"""


def write(folder: Path, isolation: str, at_load: str = "pass", at_run: str = "pass") -> None:
    write_python_model(folder, MODEL.format(at_load=at_load, at_run=at_run))
    (folder / "model.toml").write_text(TOML.format(isolation=isolation))


def test_the_others_are_loaded(tmp_path: Path, monkeypatch) -> None:
    this_test = ModuleType("this_test")
    this_test.may_end = threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "this_test", this_test)
    write(tmp_path / "a_asleep", "process", at_load="time.sleep(3600)")
    write(tmp_path / "b_cold", "process", at_run="time.sleep(3600)")
    write(tmp_path / "c_inline", "inline", at_load="import this_test; this_test.may_end.wait()")
    write(tmp_path / "d_apart", "process")
    write(tmp_path / "e_inline", "inline")
    before = set(psutil.Process().children())
    try:
        outcomes = loader().load_each(scan(tmp_path, registry.claims()), LIMIT_S)
    finally:
        this_test.may_end.set()
    told = [each.name if isinstance(each, Model) else each.message for each in outcomes]
    assert told[3:] == ["d_apart", "e_inline"]
    for name, sentence in zip(("a_asleep", "b_cold", "c_inline"), told, strict=False):
        assert sentence == (
            f"version 1 of model {name!r} was not ready within 3 s and is given up; "
            "if it is slow and does not hang, raise start_timeout_s"
        )
    for each in outcomes:
        if isinstance(each, Model):
            each.close()
    until(lambda: set(psutil.Process().children()) <= before)  # others may end meanwhile


def test_one_that_comes_too_late_is_closed(tmp_path: Path, monkeypatch) -> None:
    fakes, may_end = Loading(quick=True), threading.Event()

    def slow(*said: Any) -> Any:
        may_end.wait(PATIENCE_S)
        return fakes(*said)

    monkeypatch.setattr(loading.registry, "load", slow)
    spec = ModelSpec("m", 1, write_identity(tmp_path / "m.onnx"), "onnx")
    (refused,) = loader().load_each([spec], 0.01)
    assert isinstance(refused, LoadFailed)
    assert fakes.closed() == []
    may_end.set()
    until(lambda: fakes.closed() == [("m", 1)])


def test_an_endless_first_run_is_ended(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(onnx_bytes(1, "hang"))
    (refused,) = loader().load_each([ModelSpec("endless", 1, path, "onnx")], 1.0)
    assert isinstance(refused, LoadFailed)
    until(lambda: "loading-endless" not in {one.name for one in threading.enumerate()})


@pytest.mark.parametrize(("slow_s", "told"), [(0.01, True), (PATIENCE_S, False)])
def test_the_log_says_which_are_waited_for(
    tmp_path: Path, monkeypatch, caplog, slow_s: float, told: bool
) -> None:
    monkeypatch.setattr(loading, "SLOW_S", slow_s)
    monkeypatch.setattr(loading.registry, "load", lambda *_: time.sleep(PATIENCE_S))
    spec = ModelSpec("m", 7, write_identity(tmp_path / "m.onnx"), "onnx")
    with caplog.at_level(logging.INFO, "pelton.app"):
        loader().load_each([spec], 0.5)
    line = (
        f"not loaded after {slow_s:g} s: m 7; the server starts when they are, or are given up, "
        "each 0.5 s after it was begun (start_timeout_s)"
    )
    assert (line in caplog.text) is told
