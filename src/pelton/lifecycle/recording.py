"""Keeps a few of a model's recent requests, as golden requests for its next version.

Which ones: every request while there is room, then one of `one_in` by chance, each in the place of
one taken by chance. So a request is forgotten with the same probability each time another is
taken, and the sample's ages are distributed exponentially: C. C. Aggarwal, On Biased Reservoir
Sampling in the Presence of Stream Evolution, VLDB 2006, section 3. A uniform sample (J. S. Vitter,
Random Sampling with a Reservoir, ACM TOMS 11, 1985) would hold ever older requests the longer the
server runs. How many requests are passed over is drawn once per taken request and then only counted
down, as in Vitter's algorithms, so that a request that is not taken costs next to nothing.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from pelton.messages import Value
from pelton.specs import Golden
from pelton.tensors import Array

MAX_REQUESTS = 32
MAX_BYTES = 64 * 1024 * 1024
ONE_IN = 100

_OBJECT_BYTES = 33
"""What CPython adds to the bytes of one text of an array."""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Inputs of one request.

    Attributes:
        inputs: read-only copies by name.
        bytes: memory that they take.
    """

    inputs: Mapping[str, Array]
    bytes: int


class Recording:
    """A bounded sample of the requests of one model. To be used in one thread.

    Attributes:
        bytes: what the sample takes, never more than its bound.
    """

    def __init__(
        self,
        chance: random.Random,
        max_requests: int = MAX_REQUESTS,
        max_bytes: int = MAX_BYTES,
        one_in: int = ONE_IN,
    ) -> None:
        """Start with nothing.

        Args:
            chance: source of chance.
            max_requests: most requests that are kept, at least 1.
            max_bytes: most bytes that they may take; a larger request is never kept.
            one_in: one of how many requests is taken once there is no room.
        """
        self.bytes = 0
        self._chance = chance
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._one_in = one_in
        self._pass_over = 0
        self._kept: list[Recorded] = []

    def put(self, inputs: Mapping[str, Value]) -> bool:
        """Offer the inputs of one request, once it has been answered well.

        Args:
            inputs: checked inputs by name. What is taken is copied, so that the memory in which
                the request was received is free again. Inputs that are not all arrays are never
                taken.

        Returns:
            Whether they were taken.
        """
        if self._pass_over:
            self._pass_over -= 1
            return False
        size = _bytes_of(inputs)
        if size is None or size > self._max_bytes:
            self._pass_over = self._draw()
            return False
        if self._is_full(size):
            self._make_room(size)
            self._pass_over = self._draw()
        self._kept.append(Recorded({name: _copied(inputs[name]) for name in inputs}, size))
        self.bytes += size
        return True

    def goldens(
        self, atol: float, rtol: float, agreement: float, latency_factor: float
    ) -> tuple[Golden, ...]:
        """Return the sample as golden requests without expected outputs.

        Args:
            atol: as in `Golden`, and so are the others.
            rtol: see there.
            agreement: see there.
            latency_factor: see there.
        """
        return tuple(
            Golden(
                name=f"recorded-{number}",
                inputs=recorded.inputs,
                expected=None,
                atol=atol,
                rtol=rtol,
                agreement=agreement,
                latency_factor=latency_factor,
            )
            for number, recorded in enumerate(self._kept, 1)
        )

    def __len__(self) -> int:
        return len(self._kept)

    def _is_full(self, size: int) -> bool:
        return len(self._kept) >= self._max_requests or self.bytes + size > self._max_bytes

    def _make_room(self, size: int) -> None:
        """Forget requests by chance; each was taken once, so it costs O(1) for each that was."""
        while self._is_full(size):
            place = self._chance.randrange(len(self._kept))
            self._kept[place], self._kept[-1] = self._kept[-1], self._kept[place]
            self.bytes -= self._kept.pop().bytes

    def _draw(self) -> int:
        """Return how many requests to pass over, if each is taken with 1 / `one_in`: geometric."""
        if self._one_in <= 1:
            return 0
        luck = 1.0 - self._chance.random()  # above 0
        return int(math.log(luck) / math.log1p(-1.0 / self._one_in))


def _bytes_of(inputs: Mapping[str, Value]) -> int | None:
    """Return the memory that a copy would take; None where an input is no array."""
    total = 0
    for value in inputs.values():
        if not isinstance(value, np.ndarray):
            return None
        total += value.nbytes
        if value.dtype.kind == "O":
            texts = [each for each in value.flat if isinstance(each, bytes)]
            if len(texts) != value.size:
                return None
            total += sum(_OBJECT_BYTES + len(text) for text in texts)
    return total


def _copied(array: Array) -> Array:
    copied = np.array(array, order="C")
    copied.setflags(write=False)
    return copied
