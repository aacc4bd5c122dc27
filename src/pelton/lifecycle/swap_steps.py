"""What a swap of versions is made of, as whoever wires it hands it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from pelton.lifecycle.gates import Gate
from pelton.lifecycle.probation import Probation

S = TypeVar("S", contravariant=True)
V = TypeVar("V")
W = TypeVar("W")

Numbers = Mapping[str, Any]


def _untold(gate: Gate) -> None:
    pass


@dataclass(frozen=True, slots=True)
class Switched(Generic[V]):
    """One change of the version that answers.

    Attributes:
        before: the version that answered; None for the first.
        after: the one that answers now.
        cause: `publish`, `rollback`, `probation` or `load`.
        numbers: what was measured that led to it.
        actor: whose doing it was; empty for the server's own.
    """

    before: V | None
    after: V
    cause: str
    numbers: Numbers
    actor: str = ""


class Steps(Protocol[S, V]):
    """What a swap is made of. `S` says what is to be published, `V` is a version that is loaded.

    All are called on the event loop and must not hold it up. Those that wait may be cancelled.
    """

    async def load(self, source: S) -> V:
        """Load a version beside the others; if it fails or is cancelled, nothing of it is left."""
        ...

    async def warm(self, candidate: V) -> None:
        """Have it run before anybody waits for its answers."""
        ...

    async def judge(self, candidate: V, running: V | None) -> Numbers:
        """Have it answer golden requests; return what was measured, or raise `Refused`."""
        ...

    async def commit(self, switched: Switched[V]) -> None:
        """Put on record what is about to answer, so that a restart finds it. Never cancelled."""
        ...

    def switch(self, version: V) -> None:
        """Give all requests from now on to this version: set one reference. Must not fail."""
        ...

    def switched_back(self, switched: Switched[V]) -> None:
        """Have it recorded, soon and elsewhere, that the version before answers again."""
        ...

    def probation(self, before: V) -> Probation:
        """Start the probation of a version that comes after this one."""
        ...

    def worker_bytes(self, version: V) -> int:
        """Return the memory that its worker processes have for themselves, as far as known."""
        ...

    async def drain(self, version: V) -> None:
        """Wait until all requests that it has taken are answered."""
        ...

    async def close(self, version: V) -> None:
        """Give its memory back."""
        ...


@dataclass(frozen=True, slots=True)
class Order(Generic[W]):
    """An order to publish a version.

    Attributes:
        source: what is to be loaded.
        cause: `publish`, `load` or `rollback`, for the record.
        actor: whose order it is.
        proven: whether it has answered before, so that the golden requests are passed over: they
            would compare it to the version that it is to save people from.
        progress: told of each gate when it is reached; must be quick and must not raise.
    """

    source: W
    cause: str = "publish"
    actor: str = ""
    proven: bool = False
    progress: Callable[[Gate], None] = field(default=_untold, repr=False)


@dataclass(frozen=True, slots=True)
class SwapTimes:
    """How long the parts of a swap may take.

    Attributes:
        load_timeout_s: for loading a version.
        warm_timeout_s: for its first runs.
        golden_timeout_s: for all golden requests.
        drain_timeout_s: how long an old version may go on with what it has taken.
        keep_warm_s: how long it is kept after it was replaced, to go back to.
    """

    load_timeout_s: float = 120.0
    warm_timeout_s: float = 60.0
    golden_timeout_s: float = 60.0
    drain_timeout_s: float = 60.0
    keep_warm_s: float = 600.0
