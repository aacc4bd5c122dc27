"""Puts on record which version answers, and the version itself into its place, in the right order.

    rename into place -> rows of the version and of the swap -> (the caller switches)

A server that is killed between two of these steps begins again with the version before: the swaps
say who answers. What was renamed and has no row is set aside at the next start. If a row cannot be
written, the version is set aside at once.

All of it blocks, so it is called in threads.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from pelton.errors import Conflict, NotFound, PeltonError
from pelton.records import Change, PublishedVersion, Swap, VersionState
from pelton.repository.publishing import Publisher, Staged

logger = logging.getLogger("pelton.lifecycle")

TAKEN_BACK = ("rollback", "probation")
"""Causes of a swap after which the version before is not to answer again by itself."""

_ACTIONS = {
    "publish": "model.switch",
    "load": "model.load",
    "rollback": "model.rollback",
    "probation": "model.take_back",
}

_STATE_ACTIONS = {
    VersionState.PUBLISHED: "version.publish",
    VersionState.REFUSED: "version.refuse",
    VersionState.WITHDRAWN: "version.withdraw",
}


class VersionStore(Protocol):
    """Keeps versions and swaps across restarts; see `state.versions`."""

    def next_version(self, model: str, above: int = 0) -> int:
        """Promise a number that the model never had."""
        ...

    def take_number(self, model: str, number: int) -> None:
        """Never promise a number to anybody; Conflict where the model had it already."""
        ...

    def add(self, version: PublishedVersion, change: Change) -> None:
        """Keep a new version; Conflict where the model had it already."""
        ...

    def publish(
        self, version: PublishedVersion, change: Change, swap: Swap, swap_change: Change
    ) -> None:
        """Keep a new version and that it answers now: both or neither; Conflict as `add`."""
        ...

    def set_state(
        self, model: str, version: int, state: VersionState, reason: str, change: Change
    ) -> PublishedVersion:
        """Change how far a version came; NotFound where there is none."""
        ...

    def find(self, model: str, version: int) -> PublishedVersion | None:
        """Return a version."""
        ...

    def list(self, model: str | None = None) -> list[PublishedVersion]:
        """Return the versions of one model, or of all."""
        ...

    def add_swap(self, swap: Swap, change: Change) -> None:
        """Keep that another version answers now."""
        ...

    def latest_swaps(self) -> dict[str, Swap]:
        """Return the last swap of each model."""
        ...


class AuditTrail(Protocol):
    """Keeps changes that leave no other row; see `state.audit`."""

    def append(self, change: Change) -> None:
        """Append a change."""
        ...


class VersionRecords:
    """Writes what becomes of versions; where nothing is kept, most of it does nothing."""

    def __init__(
        self,
        store: VersionStore | None = None,
        publisher: Publisher | None = None,
        audit: AuditTrail | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        """Make one.

        Args:
            store: where it is kept; None where nothing is.
            publisher: puts versions into their places; needed where any are received.
            audit: takes what has no row of its own.
            now: seconds since 1970.
        """
        self._store = store
        self._publisher = publisher
        self._audit = audit
        self.now = now

    @property
    def keeps(self) -> bool:
        """Whether anything is kept."""
        return self._store is not None

    def versions(self, model: str | None = None) -> list[PublishedVersion]:
        """Return what was published, of one model or of all."""
        return [] if self._store is None else self._store.list(model)

    def latest_swaps(self) -> dict[str, Swap]:
        """Return the last swap of each model."""
        return {} if self._store is None else self._store.latest_swaps()

    def new_number(self, model: str, wanted: int | None, above: int) -> int:
        """Return the number of a version that is to be published.

        Args:
            model: the model's name.
            wanted: the number that its sender gave it; None for the next one.
            above: the largest that is there.

        Raises:
            Conflict: the model had that version before; what was refused counts.
        """
        if self._store is None:
            return wanted or above + 1
        if wanted is None:
            return self._store.next_version(model, above)
        self._store.take_number(model, wanted)
        return wanted

    def check_unused(self, model: str, number: int) -> None:
        """Check what can be told of a number before the bytes have come.

        Raises:
            Conflict: the model had that version before; what was refused counts.
        """
        if self._store is not None and self._store.find(model, number) is not None:
            raise Conflict(
                f"{model} has had a version {number}; numbers are never used twice, not even "
                "after a refusal, so take another or leave it out"
            )

    def put_in_place(self, staged: Staged, swap: Swap) -> None:
        """Publish a staged version, and put on record that it is about to answer.

        Raises:
            PeltonError: it could not be done; nothing of it is left to be seen.
        """
        assert self._publisher is not None, "only publishing servers have staged versions"
        self._publisher.publish(staged)
        row, change = self._row(staged, swap.actor, VersionState.PUBLISHED, "")
        try:
            if self._store is not None:
                self._store.publish(row, change, swap, self._switch_change(swap))
        except PeltonError as error:
            with contextlib.suppress(PeltonError):
                self._publisher.quarantine(staged.model, staged.version)
            with contextlib.suppress(PeltonError):
                self._disown(row, error.message)
            raise

    def refused(self, staged: Staged, actor: str, reason: str) -> None:
        """Put on record that a version was refused, so that its number is never used again.

        Where there is a row of that number it stays as it is: it may be that of a version which
        another server has published meanwhile.
        """
        if self._store is not None:
            with contextlib.suppress(Conflict):
                self._store.add(*self._row(staged, actor, VersionState.REFUSED, reason))

    def switched(self, swap: Swap) -> None:
        """Put on record that another version is about to answer, or does already."""
        if self._store is None:
            return
        self._store.add_swap(swap, self._switch_change(swap))
        if swap.cause in TAKEN_BACK and swap.before not in (None, swap.after):
            assert swap.before is not None
            state, why = VersionState.WITHDRAWN, why_taken_back(swap)
            self._set_state(swap.model, swap.before, state, why, swap.actor)

    def unloaded(self, model: str, versions: list[int], actor: str) -> None:
        """Put on record that a model was unloaded by request."""
        if self._audit is not None:
            before = {"versions": versions}
            self._audit.append(Change(self.now(), actor, "model.unload", model, before, None))

    def quarantine_strangers(self, found: list[tuple[str, int]]) -> list[tuple[str, int]]:
        """Set aside versions that came by being published and that nothing is known of.

        They are what a server was about to publish when it was killed. Where no version of a model
        is known, its folder has come from elsewhere as it is, and stays.

        Args:
            found: model and version of all that have a manifest.

        Returns:
            Those that were set aside.
        """
        if self._store is None or self._publisher is None:
            return []
        rows = self._store.list()
        models = {row.model for row in rows}
        known = {(row.model, row.version) for row in rows if row.state is not VersionState.REFUSED}
        strangers = [one for one in found if one[0] in models and one not in known]
        for model, version in strangers:
            place = self._publisher.quarantine(model, version)
            logger.warning(
                "version %d of model %s was not published to the end; it lies in %s now",
                version,
                model,
                place,
            )
        return strangers

    # -- rows ------------------------------------------------------------------------------------

    def _disown(self, row: PublishedVersion, reason: str) -> None:
        """Set a row to refused that may have been kept, though its commit was not heard to end."""
        if self._store is not None and self._store.find(row.model, row.version) == row:
            self._set_state(row.model, row.version, VersionState.REFUSED, reason, row.actor)

    def _row(
        self, staged: Staged, actor: str, state: VersionState, reason: str
    ) -> tuple[PublishedVersion, Change]:
        model, number, digest = staged.model, staged.version, staged.manifest.digest
        row = PublishedVersion(model, number, digest, state, reason, self.now(), actor)
        after = {"version": number, "digest": digest, "state": str(state)}
        if reason:
            after["reason"] = reason
        return row, self._change(model, _STATE_ACTIONS[state], None, after, actor)

    def _set_state(
        self, model: str, version: int, state: VersionState, reason: str, actor: str
    ) -> None:
        assert self._store is not None
        after = {"version": version, "state": str(state), "reason": reason}
        change = self._change(model, _STATE_ACTIONS[state], {"version": version}, after, actor)
        with contextlib.suppress(NotFound):  # it was laid there by hand
            self._store.set_state(model, version, state, reason, change)

    def _switch_change(self, swap: Swap) -> Change:
        before = None if swap.before is None else {"version": swap.before}
        after = {"version": swap.after, "numbers": dict(swap.numbers)}
        return self._change(swap.model, _ACTIONS[swap.cause], before, after, swap.actor)

    def _change(
        self,
        model: str,
        action: str,
        before: Mapping[str, Any] | None,
        after: Mapping[str, Any] | None,
        actor: str,
    ) -> Change:
        return Change(self.now(), actor, action, model, before, after)


def why_taken_back(swap: Swap) -> str:
    """Return why the version before a swap does not answer any more."""
    return str(swap.numbers.get("reason") or f"taken back by {swap.cause}")
