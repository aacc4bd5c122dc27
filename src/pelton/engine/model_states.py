"""The states of one version of one model, and the moves between them.

    UNLOADED --> LOADING --> WARMING --> READY --> DRAINING --> UNLOADED
                  |   |       |   |                   |
                  |   +-------+---|-----> FAILED <----+
                  +---------------+-----> UNLOADED

Rules:

1. Requests are given to a version only while it is READY, those for another version's sake (golden
   requests) while it is WARMING.
2. Nothing but LOADING leads out of UNLOADED and FAILED: neither holds any memory.
3. A version leaves READY by DRAINING only, so that each request it has taken is answered. There
   is no way back from there: an old version that may be needed again is kept READY.
4. LOADING and WARMING may be given up (UNLOADED), or refused (FAILED). DRAINING ends in FAILED
   where the version was taken out of service for what it did.
5. FAILED has a reason, and no other state has one.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass


class State(enum.StrEnum):
    """How far a version has come."""

    LOADING = "LOADING"
    WARMING = "WARMING"
    READY = "READY"
    DRAINING = "DRAINING"
    UNLOADED = "UNLOADED"
    FAILED = "FAILED"


MOVES: dict[State, frozenset[State]] = {
    State.UNLOADED: frozenset({State.LOADING}),
    State.LOADING: frozenset({State.WARMING, State.FAILED, State.UNLOADED}),
    State.WARMING: frozenset({State.READY, State.FAILED, State.UNLOADED}),
    State.READY: frozenset({State.DRAINING}),
    State.DRAINING: frozenset({State.UNLOADED, State.FAILED}),
    State.FAILED: frozenset({State.LOADING}),
}
"""Where each state may lead."""

SERVING = frozenset({State.READY})
"""May be given requests."""

TERMINAL = frozenset({State.UNLOADED, State.FAILED})
"""Holds no memory, and stays as it is until somebody has it loaded."""

INDEX_NAME: dict[State, str] = {
    State.LOADING: "LOADING",
    State.WARMING: "LOADING",
    State.READY: "READY",
    State.DRAINING: "UNLOADING",
    State.UNLOADED: "UNAVAILABLE",
    State.FAILED: "UNAVAILABLE",
}
"""What the index of the protocol's model repository extension calls each."""


class IllegalTransition(RuntimeError):
    """A version was to make a move that is not in the table: a mistake in the server's code."""


def move(before: State, after: State) -> State:
    """Return `after`, if a version may go there from `before`.

    Raises:
        IllegalTransition: it may not.

    >>> move(State.WARMING, State.READY)
    <State.READY: 'READY'>
    """
    if after not in MOVES[before]:
        allowed = ", ".join(sorted(MOVES[before]))
        raise IllegalTransition(f"{before} does not lead to {after}, only to {allowed}")
    return after


@dataclass(frozen=True, slots=True)
class Standing:
    """The state of a version, with the reason where it has failed.

    Attributes:
        state: how far it has come.
        reason: one sentence for people; empty unless the state is `FAILED`.
    """

    state: State = State.UNLOADED
    reason: str = ""

    def __post_init__(self) -> None:
        if (self.state is State.FAILED) != bool(self.reason):
            raise IllegalTransition(f"{self.state} with the reason {self.reason!r}: FAILED has one")

    def moved(self, state: State, reason: str = "") -> Standing:
        """Return how it stands after a move.

        Args:
            state: where it goes.
            reason: why it failed; for `FAILED` only.

        Raises:
            IllegalTransition: the table has no such move, or the reason is missing or out of place.
        """
        return Standing(move(self.state, state), reason)

    @property
    def serving(self) -> bool:
        """Whether it may be given requests."""
        return self.state in SERVING

    @property
    def index_name(self) -> str:
        """What the protocol's repository index calls the state."""
        return INDEX_NAME[self.state]
