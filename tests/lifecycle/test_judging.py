"""How a version is asked while others answer their callers on the same event loop."""

from __future__ import annotations

import asyncio

import numpy as np

from engine.fake_models import FakeClock, FakeModel, model_of
from pelton.lifecycle.judging import asking


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
