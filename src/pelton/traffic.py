"""Routes and labels of a running server: kept in the state, followed by the table.

    set_route(...) --> checked --> state, with its row of the audit trail
                                     |
    requests <-- table <-- take <-- Keeping, which reads what any server has changed

A change takes the same way whether it is made here or elsewhere, so the table never holds what is
not kept, and requests see a change as a whole: the table is swapped by reference.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from pelton.errors import Conflict, InvalidRequest, NotFound
from pelton.records import Change
from pelton.routing.labels import checked_labels
from pelton.routing.plain import as_plain, from_plain
from pelton.routing.policy import Route
from pelton.routing.table import Table
from pelton.routing.versions import Versions
from pelton.servers.traffic_control import RouteRow

if TYPE_CHECKING:
    from pelton.keeping import Keeping
    from pelton.state.routes import StoredPolicy
    from pelton.state.state import State

logger = logging.getLogger("pelton.traffic")

SUBJECTS = ("routes", "labels")
"""What of the state is followed."""

NO_STATE = (
    "this server keeps no state, so its traffic cannot be changed; "
    "start it with --state-dir FOLDER, or with --database-url for several servers"
)

MAX_ROUTES = 1000
"""Each change reads all of them again."""


Labels = Mapping[str, Mapping[str, int]]
"""Label -> version by the name of a model."""


class HasTable(Protocol):
    """The served models, as far as traffic is concerned."""

    table: Table


@dataclass(frozen=True, slots=True)
class Kept:
    """What the state holds of the traffic.

    Attributes:
        routes: policies by the name of their route.
        labels: label -> version by the name of a model.
    """

    routes: Mapping[str, StoredPolicy] = field(default_factory=dict)
    labels: Labels = field(default_factory=dict)


BringIn = Callable[[str, Collection[int]], Awaitable[None]]
"""Has versions of a model loaded that lie in its folder; what cannot be loaded is passed over."""


async def _bring_in_nothing(_model: str, _numbers: Collection[int]) -> None:
    pass


class Traffic:
    """What `TrafficControl` promises, over the state and the table of the served models.

    Attributes:
        bring_in: asked for versions that are about to be named.
    """

    def __init__(self, models: HasTable, now: Callable[[], float] = time.time) -> None:
        """Begin without a state: then there are no routes, and none can be set.

        Args:
            models: the served models; their `table` is swapped by what is changed.
            now: seconds since 1970, for the audit trail.
        """
        self._models = models
        self._now = now
        self.bring_in: BringIn = _bring_in_nothing
        self._state: State | None = None
        self._refresh: Callable[[], Awaitable[None]] | None = None
        self._kept = Kept()
        self._in_files: dict[str, Mapping[str, int]] = {}
        self._missing: dict[str, frozenset[int]] = {}  # what was named anew and is not loaded
        self._changed: set[str] = set()  # routes of which nobody was told yet
        self._begun = False
        self._catching_up: asyncio.Task[None] | None = None

    def keep_in(self, keeping: Keeping) -> None:
        """Follow a state, from now on; to be called once the models are loaded.

        What is named by now is loaded by whoever keeps the models, when it starts. A route that is
        kept and cannot be followed, since its version is not there or another version of Pelton
        wrote it, stays as it is; the log tells of it.

        Raises:
            Unavailable: the database is busy or away.
        """
        state = self._state = keeping.state
        self._refresh = keeping.refresh
        keeping.follow(SUBJECTS, lambda: Kept(state.routes.all(), state.labels.all()), self.take)
        self._missing.clear()

    async def begin(self) -> None:
        """Load what changes name from now on, also those of other servers; once all else is there.

        On the event loop. It takes as long as loading what was named since `keep_in`.
        """
        self._begun = True
        await self._catch_up()

    async def end(self) -> None:
        """Give up what is being loaded, and load no more."""
        self._begun = False
        if self._catching_up is not None:
            self._catching_up.cancel()
            await asyncio.wait({self._catching_up})

    def take(self, kept: Kept) -> None:
        """Have requests follow what is kept, and nothing else.

        A version that is not loaded yet is loaded behind it, so a change here waits for nothing.

        Args:
            kept: all routes and labels there are.
        """
        before, self._kept = self._kept, kept
        old = table = self._models.table
        touched = set()
        for model in {*before.labels, *kept.labels}:
            if before.labels.get(model) != kept.labels.get(model):
                table = table.with_labels(model, self._all_labels(model))
                touched.add(model)
        for name in before.routes.keys() - kept.routes.keys():
            table = table.without_route(name)
        for name, stored in kept.routes.items():
            if before.routes.get(name) != stored:
                table = _with(table, stored)
                touched.add(table.routes[name].model if name in table.routes else name)
                self._changed.add(name)
        self._models.table = table
        self._miss(old, touched)
        if self._begun and (self._catching_up is None or self._catching_up.done()):
            self._catching_up = asyncio.get_running_loop().create_task(self._catch_up())

    def _miss(self, old: Table, touched: Iterable[str]) -> None:
        table = self._models.table
        for model in touched:
            named = table.named_versions(model) - old.named_versions(model)
            missing = (named - _ready(table, model)) | self._missing.get(model, frozenset())
            if missing:
                self._missing[model] = missing

    async def _catch_up(self) -> None:
        """Have loaded what was named anew, and log what cannot be followed all the same."""
        while self._missing or self._changed:
            missing, self._missing = self._missing, {}
            changed, self._changed = self._changed, set()
            for model, numbers in missing.items():
                await self.bring_in(model, numbers)
            self._tell_problems(changed, missing)

    def _tell_problems(self, routes: set[str], named: Mapping[str, frozenset[int]]) -> None:
        table = self._models.table
        for name in sorted(routes & self._kept.routes.keys()):
            problem = _problem(table, self._kept.routes[name])
            if problem:
                logger.warning("a route that is kept cannot be followed: %s", problem)
        for model, numbers in named.items():
            left = numbers - _ready(table, model)
            for label, version in table.labels.get(model, {}).items():
                if version in left:
                    logger.warning(
                        "label %r of %r: version %d is not served", label, model, version
                    )

    def labels_in_files(self, model: str, labels: Mapping[str, int]) -> None:
        """Give a model the labels that its `model.toml` names; those that are kept go before.

        Args:
            model: the model's name.
            labels: label -> version, in place of those that were given before.
        """
        self._in_files[model] = MappingProxyType({**labels})
        self._models.table = self._models.table.with_labels(model, self._all_labels(model))

    def _all_labels(self, model: str) -> dict[str, int]:
        return {**self._in_files.get(model, {}), **self._kept.labels.get(model, {})}

    # -- routes ----------------------------------------------------------------------------------

    def routes(self) -> list[RouteRow]:
        """Return the routes that are set, in the order of their names."""
        return [self._row(self._kept.routes[name]) for name in sorted(self._kept.routes)]

    def route(self, name: str) -> RouteRow:
        """Return one route.

        Raises:
            NotFound: none of this name is set.
        """
        stored = self._kept.routes.get(name)
        if stored is None:
            raise _not_set(name, self._models.table)
        return self._row(stored)

    async def set_route(
        self, name: str, plain: Any, expected_revision: int | None, actor: str
    ) -> RouteRow:
        """Set a route; see `TrafficControl.set_route`."""
        state, refresh = self._changeable()
        route = from_plain(name, plain)
        await self.bring_in(route.model, self._models.table.numbers(route))
        self._models.table.check(route)
        if name not in self._kept.routes and len(self._kept.routes) >= MAX_ROUTES:
            raise InvalidRequest(f"there are {MAX_ROUTES} routes already; delete one before")
        policy = as_plain(route)

        def tell(before: StoredPolicy | None, labels: Labels) -> Change:
            self._check_labels_stay(route, labels.get(route.model, {}))
            old = None if before is None else before.policy
            return Change(self._now(), actor, "route.set", name, old, policy)

        stored = await asyncio.to_thread(state.routes.set, name, policy, expected_revision, tell)
        await refresh()
        return self._row(stored)

    async def delete_route(self, name: str, expected_revision: int | None, actor: str) -> RouteRow:
        """Delete a route; see `TrafficControl.delete_route`."""
        state, refresh = self._changeable()
        table = self._models.table

        def tell(before: StoredPolicy | None) -> Change:
            if before is None:
                raise _not_set(name, table)
            return Change(self._now(), actor, "route.delete", name, before.policy, None)

        stored = await asyncio.to_thread(state.routes.delete, name, expected_revision, tell)
        assert stored is not None, "a route that is not there is refused"
        await refresh()
        return self._row(stored)

    def _check_labels_stay(self, route: Route, kept: Mapping[str, int]) -> None:
        """Refuse a route whose label was deleted since it was looked for."""
        there = {*kept, *self._in_files.get(route.model, {})}
        for target in route.targets():
            if isinstance(target, str) and target not in there:
                raise InvalidRequest(
                    f"route {route.name!r}: the label {target!r} of {route.model!r:.80} was "
                    "deleted meanwhile"
                )

    def _row(self, stored: StoredPolicy) -> RouteRow:
        return RouteRow(
            stored.name, stored.revision, stored.policy, _problem(self._models.table, stored)
        )

    # -- labels ----------------------------------------------------------------------------------

    def labels(self, model: str) -> Mapping[str, int]:
        """Return the labels of a model: label -> version, in the order of the labels.

        Raises:
            NotFound: no such model.
        """
        return dict(sorted(self._known(model).labels.items()))

    async def set_label(self, model: str, label: str, version: Any, actor: str) -> None:
        """Have a label stand for a version; see `TrafficControl.set_label`."""
        state, refresh = self._changeable()
        checked_labels(model, {label: version})
        await self.bring_in(self._known(model).model, [version])
        known = self._known(model)
        if version not in known.ready:
            raise InvalidRequest(known.not_served(str(version)).message)

        def tell(kept: Mapping[str, int], _routes: object) -> Change:
            checked_labels(model, {**kept, label: version})
            before = kept.get(label)
            return self._label_change(actor, "label.set", model, label, before, version)

        await asyncio.to_thread(state.labels.set, model, label, version, tell)
        await refresh()

    async def delete_label(self, model: str, label: str, actor: str) -> None:
        """Delete a label; see `TrafficControl.delete_label`."""
        state, refresh = self._changeable()
        self._known(model)
        in_file = label in self._in_files.get(model, {})

        def tell(kept: Mapping[str, int], routes: Mapping[str, StoredPolicy]) -> Change:
            before = kept.get(label)
            if before is None:
                where = "; it stands in model.toml, so remove it there" if in_file else ""
                raise NotFound(f"no label {label!r:.60} of {model!r:.80} is set{where}")
            if not in_file:
                _refuse_if_named(routes, model, label)
            return self._label_change(actor, "label.delete", model, label, before, None)

        await asyncio.to_thread(state.labels.delete, model, label, tell)
        await refresh()

    def _known(self, model: str) -> Versions:
        known = self._models.table.models.get(model)
        if known is None:
            raise NotFound(f"unknown model {model!r:.80}; only models that are served have labels")
        return known

    def _label_change(
        self,
        actor: str,
        action: str,
        model: str,
        label: str,
        before: int | None,
        after: int | None,
    ) -> Change:
        old, new = (
            None if version is None else {"label": label, "version": version}
            for version in (before, after)
        )
        return Change(self._now(), actor, action, model, old, new)

    def _changeable(self) -> tuple[State, Callable[[], Awaitable[None]]]:
        if self._state is None or self._refresh is None:
            raise InvalidRequest(NO_STATE)
        return self._state, self._refresh


def _refuse_if_named(routes: Mapping[str, StoredPolicy], model: str, label: str) -> None:
    """Refuse to take away a label without which a route could not be followed."""
    for route in filter(None, map(_read, routes.values())):
        if route.model == model and label in route.targets():
            raise Conflict(
                f"the route {route.name!r} names the label {label!r:.60} of {model!r:.80}; "
                "change the route first"
            )


def _with(table: Table, stored: StoredPolicy) -> Table:
    """Return a table in which a stored route is followed, or left out where it cannot be read."""
    route = _read(stored)
    return table.without_route(stored.name) if route is None else table.with_route(route)


def _ready(table: Table, model: str) -> frozenset[int]:
    known = table.models.get(model)
    return frozenset() if known is None else known.ready


def _read(stored: StoredPolicy) -> Route | None:
    try:
        return from_plain(stored.name, stored.policy)
    except InvalidRequest:
        return None


def _problem(table: Table, stored: StoredPolicy) -> str:
    try:
        table.check(from_plain(stored.name, stored.policy))
    except InvalidRequest as error:
        return error.message
    return ""


def _not_set(name: str, table: Table) -> NotFound:
    if name in table.models:
        return NotFound(
            f"no route {name!r:.140} is set; the model of this name answers with its latest version"
        )
    return NotFound(f"no route {name!r:.140} is set")
