"""What the doors may ask of whoever keeps the traffic: which routes there are, and to set them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class RouteRow:
    """A route as it is kept.

    Attributes:
        name: its name.
        revision: grows with each change of it.
        policy: plain values, as `pelton.routing.plain` writes them.
        problem: why it cannot be followed at the moment; empty where it is.
    """

    name: str
    revision: int
    policy: Mapping[str, Any]
    problem: str = ""


class TrafficControl(Protocol):
    """Keeps routes and labels, and has requests follow them.

    All of it is called on the event loop. A change that has returned is in force here; other
    servers over the same database notice it within a second or two. Who makes it is named by
    `actor`, the id of a key, empty where no keys are used.
    """

    def routes(self) -> list[RouteRow]:
        """Return the routes that are set, in the order of their names."""
        ...

    def route(self, name: str) -> RouteRow:
        """Return one route.

        Raises:
            NotFound: none of this name is set.
        """
        ...

    async def set_route(
        self, name: str, plain: Any, expected_revision: int | None, actor: str
    ) -> RouteRow:
        """Set a route, in place of one of the same name.

        Args:
            name: its name.
            plain: its policy, as it came from JSON; not checked yet.
            expected_revision: that of the route which is replaced, `NEW` where there must be
                none, None for whatever there is.
            actor: who does it.

        Returns:
            The route as it is kept now.

        Raises:
            InvalidRequest: it is wrong, names a version or label that cannot answer, or nothing
                can be kept here.
            Conflict: the route has another revision.
            Unavailable: the database is busy, away or full.
        """
        ...

    async def delete_route(self, name: str, expected_revision: int | None, actor: str) -> RouteRow:
        """Delete a route; a model of its name answers with its latest version again.

        Args:
            name: its name.
            expected_revision: the revision that it must have; None for any.
            actor: who does it.

        Returns:
            The route as it was.

        Raises:
            NotFound: none of this name is set.
            InvalidRequest: nothing can be kept here.
            Conflict: the route has another revision.
            Unavailable: the database is busy, away or full.
        """
        ...

    def labels(self, model: str) -> Mapping[str, int]:
        """Return the labels of a model: label -> version, in the order of the labels.

        Raises:
            NotFound: no such model.
        """
        ...

    async def set_label(self, model: str, label: str, version: Any, actor: str) -> None:
        """Have a label stand for a version, and every route that names it follow.

        Args:
            model: the model's name.
            label: which of its labels.
            version: as it came from JSON; not checked yet.
            actor: who does it.

        Raises:
            NotFound: no such model.
            InvalidRequest: the label or the version is none, that version cannot answer, or
                nothing can be kept here.
            Conflict: others move the same label all the time.
            Unavailable: the database is busy, away or full.
        """
        ...

    async def delete_label(self, model: str, label: str, actor: str) -> None:
        """Delete a label.

        Args:
            model: the model's name.
            label: which of its labels.
            actor: who does it.

        Raises:
            NotFound: no such model, or no such label of it.
            InvalidRequest: nothing can be kept here.
            Conflict: a route names it.
            Unavailable: the database is busy, away or full.
        """
        ...
