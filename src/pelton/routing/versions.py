"""The versions of one model that can answer now, which of them does, and what they are called."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pelton.errors import NotFound, Unavailable
from pelton.routing.policy import Target

MOST_TOLD = 20
"""So many names an error lists."""

_WHY = "; the repository's index says why"


@dataclass(frozen=True, slots=True)
class Versions:
    """What is known of one model.

    Attributes:
        model: its name.
        ready: the versions that can answer: loaded, or loaded again when one is asked for.
        active: the version that answers for the model whatever its number, as after a rollback;
            None leaves it to the largest that is ready.
        labels: label -> version, ready or not.
    """

    model: str
    ready: frozenset[int] = frozenset()
    active: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)

    def latest(self) -> int:
        """Return the version that answers for the model.

        Raises:
            Unavailable: the active one is not ready, or none is. Another does not stand in for
                the active one: it may be the very version that was taken back.
        """
        if self.active is not None:
            return self.ready_one(self.active)
        if not self.ready:
            raise Unavailable(f"no version of model {self.model!r} is ready{_WHY}")
        return max(self.ready)

    def number(self, target: Target) -> int:
        """Return the version that is meant, ready or not.

        Raises:
            NotFound: there is no such label.
        """
        if isinstance(target, int):
            return target
        version = self.labels.get(target)
        if version is None:
            raise NotFound(
                f"model {self.model!r} has no label {target!r}; its labels are: {self._labels()}"
            )
        return version

    def ready_one(self, target: Target) -> int:
        """Return the version that is meant, which can answer.

        Raises:
            NotFound: there is no such label.
            Unavailable: it is not ready.
        """
        version = self.number(target)
        if version not in self.ready:
            called = f" ({target!r})" if isinstance(target, str) else ""
            raise Unavailable(
                f"version {version}{called} of model {self.model!r} is not ready; "
                f"ready are: {self._ready()}{_WHY}"
            )
        return version

    def by_text(self) -> dict[str, int]:
        """Return what a request may name: numbers and labels of ready versions -> the number."""
        labels = {label: version for label, version in self.labels.items() if version in self.ready}
        return {str(version): version for version in self.ready} | labels

    def not_served(self, asked: str) -> NotFound:
        """Return the error for a request that names none of `by_text`."""
        return NotFound(
            f"version {asked!r:.40} of model {self.model!r} is not served; "
            f"ready are: {self._ready()}; labels: {self._labels()}"
        )

    def _ready(self) -> str:
        return _listed([str(version) for version in sorted(self.ready)])

    def _labels(self) -> str:
        return _listed([f"{label} ({self.labels[label]})" for label in sorted(self.labels)])


def _listed(names: list[str]) -> str:
    more = ", ..." if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more or "none"
