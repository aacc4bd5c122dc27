"""Which model is meant where the path does not name one."""

from __future__ import annotations

from collections.abc import Sequence

from pelton.errors import InvalidRequest


def chosen_model(asked: str | None, default: str | None, served: Sequence[str]) -> str:
    """Return the model that a request is for.

    Args:
        asked: what the query `model` or the header `X-Pelton-Model` says, if anything.
        default: the server's default model, if it has one.
        served: names of the served models.

    Raises:
        InvalidRequest: nothing was asked for, there is no default, and more than one is served.
    """
    name = asked or default
    if name:
        return name
    if len(served) == 1:
        return served[0]
    raise InvalidRequest(
        "say which model: add ?model=NAME or the header X-Pelton-Model; "
        f"served are: {', '.join(served[:20]) or 'none'}"
    )
