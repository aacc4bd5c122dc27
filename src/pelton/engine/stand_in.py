"""Who answers a request that a version has failed which had yet to prove itself.

While a new version is on probation the one before it is loaded and warm. A request that the new
one was to answer, and failed, is not lost then: the version before answers it, as it would have an
hour ago. The failure counts against the new version all the same.

That is done only where it is what the caller wants and cannot do harm:

* The caller asked for the model, and not for a version, by number, by label, or by a route.
* The version failed: its code raised, its worker ended during the request, it answered NaN or
  infinity where that is not usual, or it took ten times as long as is usual, and a second. A
  request that is wrong itself, one whose own time is over, and one that found the line full, are
  told as ever.
* The inputs are untouched. Foreign code in this process may have written to them.
"""

from __future__ import annotations

from pelton.engine.model import Model
from pelton.errors import Code, PeltonError, Unavailable
from pelton.messages import InferRequest
from pelton.routing.choice import Choice

HEADER = "x-pelton-instead-of"
"""The header in which an answer names the version that has failed the request, in lower case."""

_FAILED = frozenset({Code.MODEL_FAILED, Code.INTERNAL})


def stand_in(
    model: Model, request: InferRequest, choice: Choice, error: PeltonError | None
) -> Choice | None:
    """Say who may answer a request now.

    Args:
        model: the version that has failed it.
        request: the request.
        choice: by which that version was asked.
        error: how it failed; None where its answer is of no use.

    Returns:
        Another version, with the one that failed as its arm; None where nobody may.
    """
    other = model.stand_in_for(request) if _has_failed(error) else None
    return None if other is None else choice._replace(version=other.version, arm=str(model.version))


def _has_failed(error: PeltonError | None) -> bool:
    if error is None:
        return True
    # What was not begun is told when to come again; what was lost on the way is not.
    lost = isinstance(error, Unavailable) and error.retry_after_s is None
    return error.code in _FAILED or lost
