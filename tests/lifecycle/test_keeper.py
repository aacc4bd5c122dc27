"""Versions come, answer, are taken back and go: with real models, in threads and in workers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lifecycle.keepers import (
    PLAN,
    Kept,
    python_scale,
    scale_bytes,
    started,
    tar_of,
    until,
    with_swap,
    write_scale,
)
from pelton.errors import Conflict
from pelton.lifecycle.probation import ProbationPlan
from pelton.lifecycle.swap_steps import SwapTimes


@pytest.fixture
async def kept(tmp_path: Path):
    write_scale(tmp_path / "models/digits/1", 1.0)
    write_scale(tmp_path / "models/other/1", 10.0)
    one = await started(tmp_path / "models")
    yield one
    await one.end()


async def test_a_published_version_answers_and_a_rollback_takes_it_back(kept: Kept) -> None:
    assert await kept.ask("digits") == (1.0, "1")
    row = await kept.push("digits", scale_bytes(2.0))
    assert (row.model, row.version) == ("digits", 2)
    assert row.digest.startswith("sha256:")
    assert kept.gates == ["receive", "check", "load", "warm", "golden", "swap"]
    assert await kept.ask("digits") == (2.0, "2")
    assert await kept.ask("digits", version="1") == (1.0, "1"), "kept to go back to"
    assert await kept.ask("other") == (10.0, "1")

    assert await kept.keeper.rollback("digits", "k2") == 1
    assert await kept.ask("digits") == (1.0, "1")
    with pytest.raises(Conflict, match="no version of model 'digits' to go back to"):
        await kept.keeper.rollback("digits", "k2")
    assert await kept.ask("digits") == (1.0, "1")

    assert (await kept.push("digits", scale_bytes(3.0))).version == 3
    assert await kept.ask("digits") == (3.0, "3")
    rows = await kept.keeper.versions("digits")
    assert [(one.version, one.state, one.active, one.kept) for one in rows] == [
        (1, "ready", False, True),
        (2, "withdrawn", False, False),
        (3, "ready", True, False),
    ]
    assert [one.on_probation for one in rows] == [False, False, True]
    assert kept.state is not None
    swaps = kept.state.versions.list_swaps("digits")
    assert [(one.before, one.after, one.cause, one.actor) for one in reversed(swaps)] == [
        (1, 2, "publish", "k1"),
        (2, 1, "rollback", "k2"),
        (1, 3, "publish", "k1"),
    ]
    actions = [row.change.action for row in kept.state.audit.list(subject="digits")]
    assert actions[::-1] == [
        "version.publish",
        "model.switch",
        "model.rollback",
        "version.withdraw",
        "version.publish",
        "model.switch",
    ]


async def test_versions_in_worker_processes_are_exchanged_and_ended(tmp_path: Path) -> None:
    (tmp_path / "models/net/1").mkdir(parents=True)
    (tmp_path / "models/net/1/model.py").write_text(python_scale(1.0))
    plan = with_swap(PLAN, times=SwapTimes(keep_warm_s=0.0), probation=ProbationPlan(time_s=0.001))
    kept = await started(tmp_path / "models", plan)
    try:
        first = await pid_of(kept)
        row = await kept.push("net", tar_of(model__py=python_scale(2.0)), file_name="")
        assert row.version == 2
        assert await kept.ask("net") == (2.0, "2")
        second = await pid_of(kept)
        await until(lambda: not is_running(first))
        assert kept.keeper.shelf("net").versions[0].number == 2

        # Its worker is started again from where it was received, which leads to where it lies.
        import os
        import signal

        os.kill(second, signal.SIGKILL)
        await until(lambda: not kept.models.find("net").ready)
        await until(lambda: kept.models.find("net").ready)
        assert await kept.ask("net") == (2.0, "2")
        assert await pid_of(kept) != second
    finally:
        await kept.end()
    assert list((tmp_path / "models/.pelton/work").iterdir()) == []


async def pid_of(kept: Kept) -> int:
    from pelton.messages import InferRequest

    request = InferRequest("net", {"x": np.ones(2, np.float32)})
    return int((await kept.engine.infer(request)).outputs["pid"])


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").exists()
