"""Requests and tables for the tests of this room."""

from __future__ import annotations

from typing import Any

from pelton.messages import InferRequest
from pelton.routing.plain import from_plain
from pelton.routing.table import Table
from pelton.routing.versions import Versions


def request(name: str = "digits", version: str | None = None, log_id: str = "r-1", **fields: Any):
    """Make a request; `fields` are its parameters."""
    return InferRequest(name, {}, version, parameters=fields, log_id=log_id)


def split(*weights: float, **more: Any) -> dict[str, Any]:
    """Return a split over the versions 1, 2, ... as plain values."""
    arms = [{"version": number, "weight": weight} for number, weight in enumerate(weights, 1)]
    return {"policy": "split", "arms": arms, **more}


def table(plain: dict[str, Any] | None = None, *ready: int, **more: Any) -> Table:
    """Make a table with the model `digits`, and a route of that name if one is given."""
    routes = [] if plain is None else [from_plain("digits", plain)]
    return Table(routes, [Versions("digits", frozenset(ready or (1, 2, 3)), **more)])
