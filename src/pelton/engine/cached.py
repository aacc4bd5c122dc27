"""Requests to a version whose answers are kept: from the cache, or computed and kept."""

from __future__ import annotations

from collections.abc import Mapping

from pelton.caching.cache import How, ResultCache
from pelton.engine.model import Checked, Model
from pelton.engine.reply import reply
from pelton.messages import InferRequest, InferResponse, Parameter
from pelton.routing.policy import Route, Split
from pelton.routing.unit import PARAMETER

HEADER = "x-pelton-cache"
"""The header in which an answer tells whether it was kept, in lower case."""

_NOTES = {how: ((HEADER, str(how)),) for how in How}


async def answer_cached(
    request: InferRequest, model: Model, cache: ResultCache, route: Route | None
) -> tuple[InferResponse, int]:
    """Answer a request by way of the version's cache.

    Args:
        request: what is asked; nobody but the server can write to its inputs.
        model: the version that was chosen.
        cache: its cache.
        route: by which it was chosen, if one was set.

    Returns:
        The answer, and the rows of the batch that it was run in; 0 where the model did not run
        for this request.

    Raises:
        PeltonError: as the model's own `answer`.
    """
    checked = model.checked(request)
    parameters = request.parameters
    if parameters:
        parameters = _without_keys(parameters, route)
    key = cache.key_at_once(request, checked[0], parameters)
    if key is not None:
        kept = cache.kept(key, request)
        if kept is not None:
            kept.notes = _NOTES[How.HIT]
            return kept, 0
        leading = cache.lead(key)
        if leading is not None:
            with leading:
                answer, timing = await model.answer(request, checked)
                response = reply(request, model, answer.outputs, timing)
                leading.result = cache.keep(key, response)
            response.notes = _NOTES[How.MISS]
            return response, answer.batch_rows
    return await _answer_after_waiting(request, model, cache, checked, parameters)


async def _answer_after_waiting(
    request: InferRequest,
    model: Model,
    cache: ResultCache,
    checked: Checked,
    parameters: Mapping[str, Parameter],
) -> tuple[InferResponse, int]:
    """Answer a request for which others are asked before the model is."""
    rows = 0

    async def compute() -> InferResponse:
        nonlocal rows
        answer, timing = await model.answer(request, checked)
        rows = answer.batch_rows
        return reply(request, model, answer.outputs, timing)

    response, how = await cache.answer(request, checked[0], parameters, compute)
    response.notes = _NOTES[how]
    return response, rows


def _without_keys(
    parameters: Mapping[str, Parameter], route: Route | None
) -> Mapping[str, Parameter]:
    """Leave out what only says whom a request is for, else every caller had answers of its own."""
    keys = {PARAMETER}
    if route is not None and isinstance(route.policy, Split) and route.policy.sticky is not None:
        keys.add(route.policy.sticky)
    return {name: value for name, value in parameters.items() if name not in keys}
