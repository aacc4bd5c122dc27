"""One route, worked out for the versions that are there, so that a request finds little to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

from pelton.errors import NotFound, PeltonError, Unavailable, from_code
from pelton.messages import InferRequest
from pelton.routing.assignment import Assignment
from pelton.routing.choice import Choice
from pelton.routing.policy import Latest, Pinned, Route, Split, Target
from pelton.routing.shadowing import Sample
from pelton.routing.unit import unit_of
from pelton.routing.versions import Versions


class _Arm(NamedTuple):
    """What an arm comes to: who answers, what is recorded."""

    version: int
    name: str
    probability: float


class Way:
    """Chooses for the requests of one route; immutable.

    Attributes:
        route: the route.
        settled: the choice for all requests that name no version, where they all get the same;
            else None.
    """

    __slots__ = (
        "_arms",
        "_assignment",
        "_by_text",
        "_fault",
        "_main",
        "_salt",
        "_sample",
        "_shadow",
        "_sticky",
        "_versions",
        "route",
        "settled",
    )

    def __init__(self, route: Route, versions: Versions) -> None:
        """Work a route out.

        Args:
            route: the route.
            versions: of the model that it leads to.
        """
        self.route = route
        self._versions = versions
        self._by_text = versions.by_text()
        self._fault: PeltonError | None = None
        self._main = 0
        try:
            self._main = _main(route, versions)
        except PeltonError as error:
            self._fault = error.with_traceback(None)  # else it holds this very frame
        self._shadow = _shadow(route, versions)
        self._sample = None
        if route.shadow is not None and self._shadow not in (None, self._main_alone()):
            self._sample = Sample(route.name, route.shadow.share)
        self._salt = ""
        self._sticky: str | None = None
        self._assignment: Assignment | None = None
        self._arms: tuple[_Arm, ...] = ()
        if isinstance(route.policy, Split):
            self._salt, self._sticky = route.policy.salt, route.policy.sticky
            self._assignment = Assignment(route.policy)
            self._arms = tuple(self._worked_out(route.policy, self._assignment))
        fixed = self._assignment is None and self._sample is None and self._fault is None
        self.settled = self._of_main() if fixed else None

    def main(self) -> int:
        """Return the version that speaks for the route: its metadata, its readiness.

        Raises:
            NotFound: the policy names a label that the model does not have.
            Unavailable: that version is not ready.
        """
        if self._fault is not None:
            raise from_code(self._fault.code, self._fault.message)
        return self._main

    def named(self, asked: str) -> int:
        """Return the version that a request names, by its number or a label.

        Raises:
            NotFound: there is none such, or it is not ready.
        """
        version = self._by_text.get(asked)
        if version is None:
            raise self._versions.not_served(asked)
        return version

    def forced(self, request: InferRequest, asked: str, key: str) -> Choice:
        """Choose what the request names; no shadow sees it.

        Raises:
            NotFound: there is none such, or it is not ready.
            InvalidRequest: the route is a split, and the caller's key is none.
        """
        version = self.named(asked)
        unit, by_key = "", False
        if self._assignment is not None:
            unit, by_key = unit_of(request, key, self._sticky)
        name, model = self.route.name, self.route.model
        arm, salt = str(version), self._salt
        return Choice(name, model, version, arm, 1.0, False, True, unit, by_key, None, salt)

    def choose(self, request: InferRequest, key: str) -> Choice:
        """Choose for a request that names no version.

        Raises:
            NotFound: the policy names a label that the model does not have.
            Unavailable: the version that answers for the route is not ready.
            InvalidRequest: the route is a split, and the caller's key is none.
        """
        main = self.main()
        sampled = self._sample is not None and self._sample.takes(request.log_id)
        shadow = self._shadow if sampled else None
        if self._assignment is None:
            return self._of_main(shadow)
        unit, by_key = unit_of(request, key, self._sticky)
        name, model, salt = self.route.name, self.route.model, self._salt
        # Who cannot be told from others is not assigned: it would be all of them to one arm.
        if not unit or not self._assignment.enrolled(unit):
            shadow = None if shadow == main else shadow
            first = self._arms[0].name
            return Choice(name, model, main, first, 1.0, False, False, unit, by_key, shadow, salt)
        version, arm, probability = self._arms[self._assignment.arm(unit)]
        shadow = None if shadow == version else shadow
        told = (unit, by_key, shadow, salt)
        return Choice(name, model, version, arm, probability, True, False, *told)

    def _of_main(self, shadow: int | None = None) -> Choice:
        name, model = self.route.name, self.route.model
        return Choice(name, model, self._main, str(self._main), shadow=shadow)

    def _main_alone(self) -> int | None:
        return None if isinstance(self.route.policy, Split) else self._main

    def _worked_out(self, split: Split, assignment: Assignment) -> Iterator[_Arm]:
        names = [_arm_name(arm.version, self._versions) for arm in split.arms]
        likely = list(zip(names, assignment.probabilities, strict=True))
        for arm, name in zip(split.arms, names, strict=True):
            version = self._main
            with suppress(NotFound, Unavailable):
                version = self._versions.ready_one(arm.version)
            # A number and a label, or two labels, may have come to mean one version.
            yield _Arm(version, name, sum(chance for other, chance in likely if other == name))


def _main(route: Route, versions: Versions) -> int:
    policy = route.policy
    if isinstance(policy, Latest):
        return versions.latest()
    if isinstance(policy, Pinned):
        return versions.ready_one(policy.version)
    return versions.ready_one(policy.arms[0].version)


def _shadow(route: Route, versions: Versions) -> int | None:
    if route.shadow is not None:
        with suppress(NotFound, Unavailable):
            return versions.ready_one(route.shadow.version)
    return None


def _arm_name(target: Target, versions: Versions) -> str:
    try:
        return str(versions.number(target))
    except NotFound:
        return str(target)
