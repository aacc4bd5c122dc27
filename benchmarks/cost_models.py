"""Folders for Pelton with the model of known cost, `peers/cost.py`, set up in several ways."""

from __future__ import annotations

import shutil
from pathlib import Path

import environments
from environments import HERE

RUN_S = 1e-3
ROW_S = 1e-4

CONFIG = """\
isolation = "process"
instances = 1
max_queue_rows = {queue_rows}

[batching]
max_batch_rows = {batch_rows}

[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 8]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 8]
"""


def folder(scenario: str) -> Path:
    """Return an empty folder for a scenario's models."""
    found = environments.home() / "models" / scenario
    shutil.rmtree(found, ignore_errors=True)
    found.mkdir(parents=True)
    return found


def write(models: Path, name: str, *, batch_rows: int, queue_rows: int = 4096) -> None:
    """Add one model: one worker process, one instance.

    Args:
        models: the folder of models.
        name: of the model.
        batch_rows: most rows of one run.
        queue_rows: rows that may wait.
    """
    version = models / name / "1"
    version.mkdir(parents=True)
    shutil.copyfile(HERE / "peers" / "cost.py", version / "model.py")
    config = CONFIG.format(batch_rows=batch_rows, queue_rows=queue_rows)
    (models / name / "model.toml").write_text(config)


def ideal_rows_per_s(batch_rows: int) -> float:
    """Return what one instance could do if every batch were full and nothing else cost time."""
    return batch_rows / (RUN_S + ROW_S * batch_rows)
