"""The gates that a new version passes, in order, before it answers the first request.

    receive -> check -> load -> warm -> golden -> swap

A version that is refused at any of them has changed nothing: the one that answered before still
does. Whoever published it is told which gate refused it and why, with the numbers.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from pelton.errors import Code, LoadFailed, PeltonError
from pelton.own_paths import without_paths


class Gate(enum.StrEnum):
    """A step at which a new version may be refused; declared in the order in which they come."""

    RECEIVE = "receive"
    CHECK = "check"
    LOAD = "load"
    WARM = "warm"
    GOLDEN = "golden"
    SWAP = "swap"


TASKS: dict[Gate, str] = {
    Gate.RECEIVE: "take the files in, within their bounds",
    Gate.CHECK: "check the files, their digest and what they declare",
    Gate.LOAD: "load the model beside the one that answers",
    Gate.WARM: "run it on made-up inputs",
    Gate.GOLDEN: "compare its answers to golden requests",
    Gate.SWAP: "have it answer from now on",
}
"""What is done at each gate, as a progress display tells it."""

ORDER = tuple(Gate)
"""The gates in the order in which a version passes them."""


NOT_OF_THE_MODEL = frozenset({Gate.RECEIVE, Gate.CHECK, Gate.SWAP})
"""Gates that judge what was sent, or keep it: so a refusal keeps the code that says what was wrong,
such as a database that is away. At all others it is the model that was found wanting."""


class Refused(LoadFailed):
    """A version did not pass a gate; callers see `LOAD_FAILED` and the sentence.

    Attributes:
        gate: which one.
        sentence: why, for people, and what would cure it where that is known.
        numbers: what was measured, for the record.
    """

    def __init__(
        self,
        gate: Gate,
        sentence: str,
        numbers: Mapping[str, float | str] | None = None,
        code: Code | None = None,
    ) -> None:
        # A runtime is foreign code too, and whoever publishes need not know where it lives.
        sentence = without_paths(sentence)
        super().__init__(f"refused at the gate '{gate}': {sentence}", code)
        self.gate = gate
        self.sentence = sentence
        self.numbers = dict(numbers or {})


@contextmanager
def at_gate(gate: Gate) -> Iterator[None]:
    """Have what is refused within be refused by this gate.

    Raises:
        Refused: in place of any `PeltonError` that is none yet, which is its `__cause__`; with
            its code, unless the gate judges the model.
    """
    try:
        yield
    except Refused:
        raise
    except PeltonError as error:
        code = error.code if gate in NOT_OF_THE_MODEL else None
        raise Refused(gate, error.message, code=code) from error
