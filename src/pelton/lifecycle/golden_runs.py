"""Has a new version and the running one answer golden requests, side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping

import numpy as np

from pelton.errors import PeltonError
from pelton.lifecycle.gates import Gate, Refused
from pelton.lifecycle.golden import Answers, Verdict, judge
from pelton.messages import Value
from pelton.specs import Golden

WARM_RUNS = 2
"""Runs of each version before any is timed; the answer that is judged is that of the last."""

TIMED_RUNS = 11
"""Runs of each version that are timed, if the latency is to be judged."""

ON_LOOP_BYTES = 64 * 1024
"""Answers of at most this size are compared where they are: that takes some 10 microseconds, less
than to hand them to a thread, which would then keep the event loop from running meanwhile."""

Ask = Callable[[Mapping[str, Value]], Awaitable[tuple[Mapping[str, Value], float]]]
"""Has a version answer: inputs -> outputs, and how long it took, in seconds, without waiting for
others (the running version is in service meanwhile).

Raises:
    PeltonError: it did not answer.
"""

Offload = Callable[[Callable[[], Verdict]], Awaitable[Verdict]]
"""Calls a function off the event loop, such as `asyncio.to_thread`; comparing can take long."""


async def prove(
    goldens: Iterable[Golden], new: Ask, running: Ask | None, offload: Offload
) -> dict[str, float | str]:
    """Have a new version pass every golden request.

    The versions take turns, and so does which of them is first, so that whatever else the machine
    does meanwhile, it does to both.

    Args:
        goldens: the requests, one after the other.
        new: the new version.
        running: the one that answers now; None where there is none. Where it does not answer a
            golden request itself, the new one is judged as if there were none.
        offload: calls a function off the event loop; for large answers.

    Returns:
        What was measured, by `<golden request>.<name>`, for the record.

    Raises:
        Refused: by the gate `golden`, at the first request that is not answered as it should be.
    """
    measured: dict[str, float | str] = {"golden_requests": 0}
    for count, golden in enumerate(goldens, 1):
        verdict = await _verdict(golden, new, running, offload)
        if not verdict.passed:
            raise Refused(verdict.gate, verdict.sentence, verdict.numbers)
        measured["golden_requests"] = count
        numbers = {key: value for key, value in verdict.numbers.items() if key != "golden"}
        measured |= {f"{golden.name}.{key}": value for key, value in numbers.items()}
    return measured


async def _verdict(golden: Golden, new: Ask, running: Ask | None, offload: Offload) -> Verdict:
    for _ in range(WARM_RUNS):
        outputs, _ = await _ask(golden, new)
    answers, usual = Answers(outputs), None
    if running is not None:
        try:
            answers, usual = await _in_turns(golden, outputs, new, running)
        except Refused:
            raise
        except PeltonError:  # the running version's own
            usual = None
    if _is_small(answers.outputs):
        return judge(golden, answers, usual)
    return await offload(lambda: judge(golden, answers, usual))


def _is_small(outputs: Mapping[str, Value]) -> bool:
    arrays = [value for value in outputs.values() if isinstance(value, np.ndarray)]
    return len(arrays) == len(outputs) and sum(one.nbytes for one in arrays) <= ON_LOOP_BYTES


async def _in_turns(
    golden: Golden, outputs: Mapping[str, Value], new: Ask, running: Ask
) -> tuple[Answers, Answers]:
    for _ in range(WARM_RUNS):
        usual, _ = await running(golden.inputs)
    new_s: list[float] = []
    running_s: list[float] = []
    for turn in range(TIMED_RUNS if golden.latency_factor else 0):
        if turn % 2:
            new_s.append((await _ask(golden, new))[1])
        running_s.append((await running(golden.inputs))[1])
        if not turn % 2:
            new_s.append((await _ask(golden, new))[1])
    return Answers(outputs, new_s), Answers(usual, running_s)


async def _ask(golden: Golden, new: Ask) -> tuple[Mapping[str, Value], float]:
    try:
        return await new(golden.inputs)
    except PeltonError as error:
        raise Refused(
            Gate.GOLDEN,
            f"golden request {golden.name!r:.80} was not answered: {error.message}",
            {"golden": golden.name, "code": str(error.code)},
        ) from error
