"""A model for objects, pickles that do harm, and what is left of them afterwards."""

from __future__ import annotations

import math
import pickle
from pathlib import Path
from typing import Any

from pelton.runtimes.process.single_use import SingleUse

MODEL = """
import os, sys
from shapes import Point

runs = 0

def load_model(path, device):
    print("loaded")

def model_inference(obs):
    global runs
    runs += 1
    point = obs.get("point")
    if point is not None:
        assert isinstance(point, Point)
        return {"sum": point.x + point.y, "runs": runs, "pid": os.getpid()}
    return {"told": obs["told"], "runs": runs}
"""

SHAPES = """
class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
"""


class Does:
    """An object that runs code when it is unpickled, and becomes the value of `told`."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        run = (
            "(lambda names: (__import__('builtins').exec(names['code'], names), "
            "names.get('told'))[1])({'code': %r})"
        )
        return eval, (run % self.code,)


def does(code: str) -> memoryview:
    return memoryview(pickle.dumps({"told": Does(code)}))


def answer(workers: SingleUse, code: str, deadline_s: float = math.inf, log_id: str = "") -> Any:
    """Run code in a single-use worker, and return what it calls `told`."""
    return workers.run([does(code)], deadline_s, log_id)[1]["told"]


def processes_with(mark: str) -> list[str]:
    """Return the command lines of all processes of the machine that hold a mark."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in line:
            found.append(line)
    return found
