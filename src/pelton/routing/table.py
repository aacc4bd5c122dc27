"""All names that requests may ask for, as one immutable snapshot that is swapped by reference.

    request -> the route of that name, else the model of that name with its latest version -> Choice

A change makes a new table, and works out only the routes that it touches. Who holds the old one
goes on with it undisturbed; so a request sees one state from beginning to end, without a lock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from types import MappingProxyType

from pelton.errors import InvalidRequest, NotFound
from pelton.messages import InferRequest
from pelton.routing.choice import Choice
from pelton.routing.policy import Route
from pelton.routing.versions import MOST_TOLD, Versions
from pelton.routing.way import Way


class Table:
    """Chooses a version of a model for each request.

    Attributes:
        routes: the routes that were set, by name; a model without one is served all the same.
        models: what is known of each model, by name.
        labels: label -> version by the name of a model, also of one that is not there now.
    """

    __slots__ = ("_ways", "labels", "models", "routes")

    def __init__(self, routes: Iterable[Route] = (), models: Iterable[Versions] = ()) -> None:
        """Make a table.

        Args:
            routes: one for each name at the most.
            models: likewise.
        """
        self.routes: Mapping[str, Route] = MappingProxyType({one.name: one for one in routes})
        self.models: Mapping[str, Versions] = MappingProxyType({one.model: one for one in models})
        self.labels: Mapping[str, Mapping[str, int]] = MappingProxyType(
            {one.model: one.labels for one in self.models.values()}
        )
        self._ways: dict[str, Way] = {}
        for name in {*self.routes, *self.models}:
            self._work_out(name)

    # The request's way

    def choose(self, request: InferRequest, key: str = "") -> Choice:
        """Choose who answers a request.

        Args:
            request: `model` is the name that was asked for, and `version`, if any, a number or a
                label as text; `log_id` tells it from others.
            key: whom it is for, as the caller says in a header; at most 256 characters.

        Raises:
            NotFound: no such route or model, not that version, or not that label.
            Unavailable: the version that answers for the name is not ready.
            InvalidRequest: the key is none.
        """
        way = self._ways.get(request.model)
        if way is None:
            raise self._unknown(request.model)
        if request.version is not None:
            return way.forced(request, request.version, key)
        return way.settled or way.choose(request, key)

    def speaker(self, name: str, version: str | None = None) -> tuple[str, int]:
        """Return the model and the version whose metadata stand for a name.

        By them a request is decoded, before it can be said what is chosen for it.

        Args:
            name: of a route or a model.
            version: a number or a label that the request names.

        Raises:
            NotFound: no such route or model, not that version, or not that label.
            Unavailable: the version that answers for the name is not ready.
        """
        way = self._ways.get(name)
        if way is None:
            raise self._unknown(name)
        return way.route.model, way.main() if version is None else way.named(version)

    # Questions

    def names(self) -> list[str]:
        """Return all names that may be asked for, in order."""
        return sorted(self._ways)

    def route(self, name: str) -> Route:
        """Return the route of a name: the one that was set, or a model's own.

        Raises:
            NotFound: no such route or model.
        """
        way = self._ways.get(name)
        if way is None:
            raise self._unknown(name)
        return way.route

    def named_versions(self, model: str) -> frozenset[int]:
        """Return the versions of a model that routes or labels name, which so must stay loaded."""
        of_routes = (self.numbers(one) for one in self.routes.values() if one.model == model)
        return frozenset(self.labels.get(model, {}).values()).union(*of_routes)

    def numbers(self, route: Route) -> frozenset[int]:
        """Return the versions that a route names by number or label, ready or not."""
        labels = self.labels.get(route.model, {})
        targets = route.targets()
        of_labels = (labels[one] for one in targets if isinstance(one, str) and one in labels)
        return frozenset({*(one for one in targets if isinstance(one, int)), *of_labels})

    def check(self, route: Route) -> None:
        """Check that a route which somebody is about to set would be followed to the letter.

        Raises:
            InvalidRequest: its model is not known, or a version or label in it cannot answer now.
        """
        known = self.models.get(route.model)
        if known is None:
            raise InvalidRequest(f"route {route.name!r}: {self._unknown(route.model).message}")
        can = known.by_text()
        for target in route.targets():
            if str(target) not in can:
                said = known.not_served(str(target)).message
                raise InvalidRequest(f"route {route.name!r}: {said}")

    # Changes

    def with_route(self, route: Route) -> Table:
        """Return a table with a route set, in place of one of the same name."""
        return self._changed({**self.routes, route.name: route}, self.models, {route.name})

    def without_route(self, name: str) -> Table:
        """Return a table without a route; a model of that name answers with its latest again."""
        routes = {key: route for key, route in self.routes.items() if key != name}
        return self._changed(routes, self.models, {name})

    def with_versions(self, model: str, ready: Iterable[int], active: int | None = None) -> Table:
        """Return a table in which these versions of a model can answer, and no others.

        Args:
            model: the model's name; its labels stay.
            ready: versions that are loaded, or are loaded again when one is asked for.
            active: the one that answers for the model; None for the largest.
        """
        known = self.models.get(model) or Versions(model, labels=self.labels.get(model, {}))
        return self._with_model(replace(known, ready=frozenset(ready), active=active))

    def with_labels(self, model: str, labels: Mapping[str, int]) -> Table:
        """Return a table in which a model has these labels, and no others.

        A model that is not there has them as soon as it comes.
        """
        kept = MappingProxyType({**labels})
        known = self.models.get(model)
        models = (
            self.models if known is None else {**self.models, model: replace(known, labels=kept)}
        )
        all_labels = {**self.labels, model: kept}
        return self._changed(self.routes, models, self._names_for(model), all_labels)

    def without_model(self, model: str) -> Table:
        """Return a table that does not know a model; routes to it stay, and cannot be followed."""
        models = {name: known for name, known in self.models.items() if name != model}
        return self._changed(self.routes, models, self._names_for(model))

    def _with_model(self, known: Versions) -> Table:
        models = {**self.models, known.model: known}
        return self._changed(self.routes, models, self._names_for(known.model))

    def _names_for(self, model: str) -> set[str]:
        return {model, *(name for name, route in self.routes.items() if route.model == model)}

    def _changed(
        self,
        routes: Mapping[str, Route],
        models: Mapping[str, Versions],
        touched: set[str],
        labels: Mapping[str, Mapping[str, int]] | None = None,
    ) -> Table:
        table = Table()
        table.routes, table.models = MappingProxyType({**routes}), MappingProxyType({**models})
        table.labels = self.labels if labels is None else MappingProxyType(labels)
        table._ways = dict(self._ways)
        for name in touched:
            table._work_out(name)
        return table

    def _work_out(self, name: str) -> None:
        route = self.routes.get(name)
        if route is None and name not in self.models:
            self._ways.pop(name, None)
            return
        route = route or Route(name, name)
        labels = self.labels.get(route.model, {})
        known = self.models.get(route.model) or Versions(route.model, labels=labels)
        self._ways[name] = Way(route, known)

    def _unknown(self, name: str) -> NotFound:
        models = self.models
        names = [one for one in self.names() if one not in models or models[one].ready]
        if not names:
            return NotFound(f"unknown model {name!r:.80}; no model is served")
        more = ", ..." if len(names) > MOST_TOLD else ""
        told = ", ".join(names[:MOST_TOLD])
        return NotFound(f"unknown model {name!r:.80}; served are: {told}{more}")
