"""How a version is asked while others answer their callers on the same event loop, and what."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from engine.fake_models import FakeClock, FakeModel, described, model_of
from lifecycle.keepers import TextLoader, started, write_text
from pelton.errors import ModelFailed
from pelton.lifecycle.gates import Refused
from pelton.lifecycle.judging import _made_up, asking
from pelton.specs import TensorSpec


async def test_callers_come_in_between_golden_requests() -> None:
    """A quick model answers without waiting, so nobody else would have a turn."""
    turns: list[str] = []
    model = model_of(FakeModel(lambda _: turns.append("golden") or {}, quick=True), FakeClock())
    model.warm_up()
    turns.clear()
    ask = asking(model)
    loop = asyncio.get_running_loop()
    for _ in range(3):
        loop.call_soon(turns.append, "caller")
        await ask({"x": np.ones(1, np.float32)})
    assert turns == ["caller", "golden"] * 3
    model.close()


async def test_where_nobody_has_asked_yet_zeros_are_answered_as_the_running_version_does(
    tmp_path: Path,
) -> None:
    """Nothing else would tell a version that fails always from one that is good."""
    for name, factor in (("digits", "1.0"), ("boundless", "inf")):
        write_text(tmp_path / "models" / name / "1", factor)
    kept = await started(tmp_path / "models", loader=TextLoader())
    with pytest.raises(Refused, match="request 'zeros' was not answered"):  # 0 times infinity
        await kept.push("digits", b"inf")
    assert (await kept.push("digits", b"2.0")).version == 3
    assert (await kept.push("boundless", b"inf")).version == 2, "as its running version does"
    assert (await kept.push("new", b"inf")).version == 1, "there is nobody to compare it with"
    await kept.end()


async def test_zeros_prove_nothing_where_the_running_version_refuses_them() -> None:
    async def ask(_inputs: object) -> tuple[dict[str, np.ndarray], float]:
        raise ModelFailed("on purpose")

    tensors = (TensorSpec("x", "FP32", (-1, 2)),)
    assert await _made_up(described(*tensors), ask) == []


async def test_what_cannot_be_made_up_is_not_asked() -> None:
    async def ask(_inputs: object) -> tuple[dict[str, np.ndarray], float]:
        raise AssertionError

    tensors = (TensorSpec("x", "BYTES", (1,)),)
    assert await _made_up(described(*tensors), ask) == []
