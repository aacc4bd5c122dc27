"""A `model.py` that hangs while it is loaded, and is given up, is in no other model's way."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from pelton.errors import LoadFailed
from pelton.runtimes import registry
from pelton.runtimes.contract import LoadedModel, RuntimeOptions, Stop
from pelton.specs import ModelSpec
from runtimes.python_folders import written

PATIENCE_S = 30.0

GOOD = """
    from own_part import NAME

    def load_model(model_path, device): return None
    def model_inference(obs): return NAME
"""
HANGING = """
    import this_test
    from own_part import NAME

    def load_model(model_path, device):
        this_test.begun.set()
        this_test.may_end.wait()

    def model_inference(obs): return NAME
"""


class Load:
    """Loads a model in a thread of its own."""

    def __init__(self, folder: Path, code: str) -> None:
        files = {"model.py": code, "own_part.py": f"NAME = {folder.name!r}"}
        self._spec = ModelSpec(folder.name, 1, written(folder, files), "python")
        self._outcome: LoadedModel | LoadFailed | None = None
        self._thread = threading.Thread(target=self._load, daemon=True)
        self.stop = Stop()
        self._thread.start()

    def _load(self) -> None:
        try:
            self._outcome = registry.load(self._spec, RuntimeOptions(), self.stop)
        except LoadFailed as error:
            self._outcome = error

    @property
    def waits(self) -> bool:
        return self._thread.is_alive()

    def outcome(self) -> object:
        """Return what the model says, or why it could not be loaded."""
        self._thread.join(PATIENCE_S)
        assert self._outcome is not None, "it still waits"
        if isinstance(self._outcome, LoadFailed):
            return self._outcome.message
        return self._outcome.run({})["output"]


def process_state() -> tuple[list[str], bool, bool]:
    return list(sys.path), sys.dont_write_bytecode, "own_part" in sys.modules


@pytest.fixture
def may_end(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    module = ModuleType("this_test")
    module.begun, module.may_end = threading.Event(), threading.Event()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "this_test", module)
    return module.may_end


@pytest.fixture
def hanging(tmp_path: Path, may_end: threading.Event) -> Iterator[Load]:
    """A load that hangs when it has taken its turn."""
    before = process_state()
    load = Load(tmp_path / "hanging", HANGING)
    assert sys.modules["this_test"].begun.wait(PATIENCE_S)
    assert process_state() != before
    yield load
    may_end.set()
    load.outcome()
    assert process_state() == before


def test_the_next_model_is_loaded_as_soon_as_it_is_given_up(hanging: Load, tmp_path: Path) -> None:
    following = Load(tmp_path / "following", GOOD)
    assert following.waits
    hanging.stop.ask()
    assert following.outcome() == "following", "with its own modules"
    assert hanging.waits


def test_one_that_comes_back_late_takes_no_turn_from_another(
    hanging: Load, tmp_path: Path, may_end: threading.Event
) -> None:
    hanging.stop.ask()
    begun = sys.modules["this_test"].begun
    begun.clear()
    still_waits = threading.Event()
    sys.modules["this_test"].may_end = still_waits  # type: ignore[attr-defined]
    slow = Load(tmp_path / "slow", HANGING)
    assert begun.wait(PATIENCE_S)
    during = process_state()
    may_end.set()
    assert hanging.outcome() == "hanging", "for whoever has it to close"
    assert process_state() == during
    still_waits.set()
    assert slow.outcome() == "slow"


def test_one_that_is_given_up_before_its_turn_does_not_begin(
    hanging: Load, tmp_path: Path, may_end: threading.Event
) -> None:
    waiting = Load(tmp_path / "waiting", GOOD)
    waiting.stop.ask()
    may_end.set()
    assert waiting.outcome() == "loading 'waiting' was given up"
