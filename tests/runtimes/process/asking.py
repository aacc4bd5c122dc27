"""What the tests of worker processes share."""

from __future__ import annotations

import asyncio
import math
from typing import Any

from pelton.runtimes.contract import Run
from pelton.runtimes.process.instance import ProcessInstance

ECHO = "def model_inference(obs):\n    return obs\n"


async def ask(instance: ProcessInstance, log_ids: tuple[str, ...] = (), **inputs: Any) -> Any:
    """Run the model once."""
    return await instance.run(Run(inputs, math.inf, log_ids))


async def until_alive(instance: ProcessInstance, alive: bool = True) -> None:
    """Wait until a worker is there, or is gone."""
    changed = asyncio.Event()
    instance.on_change(changed.set)
    while instance.alive is not alive:
        await changed.wait()
        changed.clear()
