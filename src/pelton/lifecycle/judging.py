"""Has a loaded version answer golden requests: its author's, and some that came lately."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextlib import AsyncExitStack

from pelton.engine.model import Model
from pelton.errors import PeltonError
from pelton.lifecycle.golden_runs import Ask, prove
from pelton.lifecycle.memory import Memory
from pelton.lifecycle.swap_steps import Numbers
from pelton.lifecycle.unhurried import Offload
from pelton.lifecycle.version import Version
from pelton.messages import InferRequest, Value
from pelton.repository.golden import load_golden
from pelton.runtimes.warm_up import zeros_for
from pelton.specs import Golden, ModelMetadata, ModelSpec

BETWEEN_S = 0.001
"""Between two golden requests, so that callers hardly notice them. A quick model answers without
waiting, and would keep the event loop for all of them."""


async def judge(
    candidate: Version,
    running: Version | None,
    recorded: Iterable[Golden],
    memory: Memory,
    offload: Offload,
) -> Numbers:
    """Judge a version by what it answers.

    Args:
        candidate: the version, which nobody is given yet.
        running: the one that answers now; None where there is none.
        recorded: golden requests beside those of the candidate's author. Where there are none of
            either, the candidate has to answer zeros, provided that the running version does.
        memory: where both of them live.
        offload: reads files and compares answers off the event loop.

    Returns:
        What was measured.

    Raises:
        LoadFailed: a golden request of its author does not fit it.
        Refused: it did not answer as it should.
    """
    async with AsyncExitStack() as lent:
        new = await lent.enter_async_context(memory.lent(candidate))
        goldens = [*await offload(_of_author, candidate.spec, new.metadata), *recorded]
        usual = None
        if running is not None:
            usual = asking(await lent.enter_async_context(memory.lent(running)))
            goldens = goldens or await _made_up(new.metadata, usual)
        return await prove(goldens, asking(new), usual, offload)


def _of_author(spec: ModelSpec, metadata: ModelMetadata) -> list[Golden]:
    return [load_golden(source, metadata) for source in spec.golden]


async def _made_up(metadata: ModelMetadata, running: Ask) -> list[Golden]:
    """Return zeros as a golden request, if the running version answers them."""
    zeros = zeros_for(metadata)
    if not zeros:
        return []
    try:
        await running(zeros)
    except PeltonError:
        return []
    return [Golden("zeros", zeros)]


def asking(model: Model) -> Ask:
    """Return what has a model answer golden requests; callers' requests come in between."""

    async def ask(inputs: Mapping[str, Value]) -> tuple[Mapping[str, Value], float]:
        await asyncio.sleep(BETWEEN_S)
        answer, timing = await model.answer(InferRequest(model.name, inputs, log_id="golden"))
        return answer.outputs, timing.compute_s

    return ask
