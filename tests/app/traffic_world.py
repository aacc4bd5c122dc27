"""Traffic over a real state, without models: the table alone says which versions there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pelton.keeping import Keeping
from pelton.messages import InferRequest
from pelton.routing.table import Table
from pelton.state.state import State
from pelton.traffic import Traffic

NOW_S = 1.75e9


class Served:
    """Models with versions 1 to 4 of `digits`, as far as traffic knows them."""

    def __init__(self) -> None:
        self.table = Table().with_versions("digits", [1, 2, 3, 4])

    def version(self, name: str = "digits", asked: str | None = None) -> int:
        """Return the version that answers a request."""
        request = InferRequest(name, {}, version=asked)
        return self.table.choose(request).version


class Server:
    """One of several servers over one database."""

    def __init__(self, url: str, look_s: float = 0.005) -> None:
        self.served = Served()
        self.keeping = Keeping(State.open(url), 60.0, look_s)
        self.traffic = Traffic(self.served, lambda: NOW_S)
        self.traffic.keep_in(self.keeping)

    @property
    def state(self) -> State:
        return self.keeping.state

    def changes(self) -> list[tuple[Any, ...]]:
        """Return the audit trail, the newest first, without the time."""
        rows = [row.change for row in self.state.audit.list(limit=100_000)]
        assert {row.at_s for row in rows} <= {NOW_S}
        return [(row.actor, row.action, row.subject, row.before, row.after) for row in rows]


Start = Callable[..., Server]


def pinned(version: int | str) -> dict[str, Any]:
    return {"policy": "pinned", "version": version}


def kept(version: int | str, model: str = "digits") -> dict[str, Any]:
    """The same as it is kept: everything written out."""
    return {"model": model, **pinned(version), "shadow": None}
