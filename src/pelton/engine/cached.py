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
_HIT, _MISS = _NOTES[How.HIT], _NOTES[How.MISS]

Asked = tuple[Checked, Mapping[str, Parameter]]
"""What is asked: inputs that fit the model, and the parameters that may change the answer."""


def asked_parameters(request: InferRequest, route: Route | None) -> Mapping[str, Parameter]:
    """Return the parameters of a request that may change its answer.

    What only says whom it is for is left out, else every caller had answers of its own.

    Args:
        request: the request.
        route: by which it came, if that was set.
    """
    keys = {PARAMETER}
    if route is not None and isinstance(route.policy, Split) and route.policy.sticky is not None:
        keys.add(route.policy.sticky)
    return {name: value for name, value in request.parameters.items() if name not in keys}


def answer_at_once(
    request: InferRequest, model: Model, cache: ResultCache, asked: Asked
) -> tuple[InferResponse, int] | None:
    """Answer a request to a model that is quick enough for the event loop.

    Args:
        request: the request.
        model: the version that was chosen.
        cache: its cache.
        asked: inputs that fit the model, and the parameters that may change the answer; nobody but
            the server can write to the inputs.

    Returns:
        What `answer_cached` returns; None where there is something to wait for.

    Raises:
        PeltonError: as the model's own `answer`.
    """
    checked, parameters = asked
    if not model.is_quick(checked):
        return None
    key, kept, alone = cache.look(request, checked[0], parameters)
    if kept is not None:
        kept.notes = _HIT
        return kept, 0
    if key is None or not alone:
        return None
    cache.counts.misses += 1
    outputs, rows, timing = model.answer_at_once(request, checked)
    response = reply(request, model, outputs, timing)
    cache.keep(key, response)
    response.notes = _MISS
    return response, rows


async def answer_cached(
    request: InferRequest, model: Model, cache: ResultCache, asked: Asked
) -> tuple[InferResponse, int]:
    """Answer a request by way of the version's cache; the arguments are those of `answer_at_once`.

    Returns:
        The answer, and the rows of the batch that it was run in; 0 where the model did not run
        for this request.

    Raises:
        PeltonError: as the model's own `answer`.
    """
    checked, parameters = asked
    key, kept, alone = cache.look(request, checked[0], parameters)
    if kept is not None:
        kept.notes = _HIT
        return kept, 0
    if key is None or not alone:
        return await _answer_after_waiting(request, model, cache, asked)
    cache.counts.misses += 1
    with cache.lead(key) as leading:
        answer, timing = await model.answer(request, checked)
        response = reply(request, model, answer.outputs, timing)
        leading.result = cache.keep_for_all(key, response)
    response.notes = _MISS
    return response, answer.batch_rows


async def _answer_after_waiting(
    request: InferRequest, model: Model, cache: ResultCache, asked: Asked
) -> tuple[InferResponse, int]:
    """Answer a request for which others are asked before the model is."""
    checked, parameters = asked
    rows = 0

    async def compute() -> InferResponse:
        nonlocal rows
        answer, timing = await model.answer(request, checked)
        rows = answer.batch_rows
        return reply(request, model, answer.outputs, timing)

    response, how = await cache.answer(request, checked[0], parameters, compute)
    response.notes = _NOTES[how]
    return response, rows
