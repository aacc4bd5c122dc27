"""What a server knows of one model: the versions on disk, those in memory, and how they stand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from pelton.lifecycle.swap import ModelSwap
from pelton.lifecycle.version import Source, Version
from pelton.lifecycle.version_records import TAKEN_BACK, why_taken_back
from pelton.records import PublishedVersion, Swap, VersionState
from pelton.repository.scan import FoundModel
from pelton.repository.versions import chosen_versions
from pelton.specs import ModelSpec, VersionPolicy


class Shelf:
    """One model.

    Attributes:
        name: its name.
        found: its versions on disk, as they were when somebody looked.
        swap: which version answers; None while the model is not loaded.
        versions: those that are in memory, about to be, or about to go.
        failed: version -> why it could not be loaded, was refused, or was taken back.
        withdrawn: versions that were taken back, which are not to answer again by themselves.
        latest: the last change of the version that answers; None before the first.
        were_loaded: versions that were in memory at some time.
        changing: held by whoever loads or unloads the model as a whole.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.found = FoundModel(name)
        self.swap: ModelSwap[Source, Version] | None = None
        self.versions: list[Version] = []
        self.failed: dict[int, str] = {}
        self.withdrawn: set[int] = set()
        self.latest: Swap | None = None
        self.were_loaded: set[int] = set()
        self.changing = asyncio.Lock()

    @property
    def served(self) -> Version | None:
        """The version that answers for the model."""
        return None if self.swap is None else self.swap.served

    @property
    def policy(self) -> VersionPolicy:
        """Which of the versions are to be loaded."""
        specs = (one for one in self.found.versions.values() if isinstance(one, ModelSpec))
        return next((spec.policy for spec in specs), VersionPolicy())

    def remember(self, rows: Iterable[PublishedVersion], latest: Swap | None) -> None:
        """Take in what was kept when the server ran before."""
        for row in rows:
            if row.state is VersionState.WITHDRAWN:
                self.withdrawn.add(row.version)
                self.failed[row.version] = row.reason
        if latest is not None:
            self.switched(latest)

    def switched(self, swap: Swap) -> None:
        """Take in that another version answers."""
        self.latest = swap
        self.withdrawn.discard(swap.after)
        self.failed.pop(swap.after, None)
        if swap.cause in TAKEN_BACK and swap.before not in (None, swap.after):
            assert swap.before is not None
            self.withdrawn.add(swap.before)
            self.failed[swap.before] = why_taken_back(swap)

    def chosen(self) -> tuple[int, ...]:
        """Return the versions that are to be loaded, ascending: those that the policy wants.

        What was taken back is passed over, unless there is nothing else; so are the versions in
        between, where the policy wants the latest.
        """
        there, passed_over = self.found.versions.keys(), self.withdrawn
        latest = self.latest
        if latest is not None and latest.cause in TAKEN_BACK and self.policy.latest is not None:
            between = range(latest.after + 1, latest.before or 0)
            passed_over = passed_over | {one for one in there if one in between}
        return chosen_versions(self.policy, there - passed_over or there)

    def active(self, known: Iterable[int] = ()) -> int | None:
        """Return the version that is to answer: the one that did, unless a newer one was laid in.

        Args:
            known: versions that the state knows, which do not become newer by lying there.

        Returns:
            The version; None where there is none.
        """
        chosen = self.chosen()
        newest = max(chosen, default=None)
        if self.latest is None or self.latest.after not in self.found.versions:
            return newest
        policy = self.policy
        if policy.only and self.latest.after not in policy.only:
            return newest
        seen = max((self.latest.after, self.latest.before or 0, *known))
        return newest if newest is not None and newest > seen else self.latest.after

    def before(self) -> int | None:
        """Return the version to go back to where none is kept in memory, if there is one."""
        latest = self.latest
        if latest is None or latest.cause in TAKEN_BACK or latest.before == latest.after:
            return None
        is_there = isinstance(self.found.versions.get(latest.before or 0), ModelSpec)
        return latest.before if is_there and latest.before not in self.withdrawn else None

    def live(self, number: int) -> Version | None:
        """Return the version of that number that has come furthest of those in memory."""
        same = [one for one in self.versions if one.number == number]
        return next((one for one in same if one.serving), same[-1] if same else None)


async def make_way(shelves: Iterable[Shelf]) -> bool:
    """Close a version that is only kept to go back to, and tell whether there was one."""
    for shelf in shelves:
        closing = None if shelf.swap is None else shelf.swap.let_kept_go()
        if closing is not None:
            await asyncio.wait({closing})
            return True
    return False
