"""Starts models in worker processes, and sees that nothing of them is left."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pelton.arena import Arena
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.instance import ProcessInstance
from pelton.runtimes.process.starting import start_instances
from pelton.specs import ModelSpec

HEAD = "import os, sys\nimport numpy as np\ndef load_model(path, device):\n    pass\n"


@pytest.fixture
def arena() -> Iterator[Arena]:
    arena = Arena.create(64 * 1024 * 1024)
    yield arena
    arena.close()


@pytest.fixture
def spec_of(tmp_path: Path) -> Callable[..., ModelSpec]:
    """Write a `model.py`: the given code behind a plain `load_model`, or all of it."""
    numbers = itertools.count(1)

    def write(code: str, *, head: str = HEAD, **fields: Any) -> ModelSpec:
        folder = tmp_path / f"model-{next(numbers)}"
        folder.mkdir()
        (folder / "model.py").write_text(head + textwrap.dedent(code))
        return replace(ModelSpec("tiny", 1, folder, "python"), **fields)

    return write


@pytest.fixture
def start(spec_of) -> Iterator[Callable[..., ProcessInstance]]:
    """Start one worker for the code of a model; it is closed in the end."""
    started: list[ProcessInstance] = []

    def begin(
        code: str,
        arena: Arena | None = None,
        options: RuntimeOptions | None = None,
        **fields: Any,
    ) -> ProcessInstance:
        spec = spec_of(code, **fields)
        started.extend(start_instances(spec, options or RuntimeOptions(), arena, 1))
        return started[-1]

    yield begin
    for instance in started:
        instance.close()
    for instance in started:
        instance.wait_closed()
