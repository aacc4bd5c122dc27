"""What a request's headers say of its time: when it is over, and whether it shall be told.

`X-Request-Timeout-Ms: 250` asks for an answer within so many milliseconds of the request's first
byte. `X-Pelton-Timing: 1` asks for a header of the same name, which tells where the time went.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from pelton.clock import Clock
from pelton.errors import DeadlineExceeded, InvalidRequest
from pelton.messages import Parameter, Timing
from pelton.servers.origin import Origin
from pelton.wire.timing import timing_header, timing_parameters

_MILLISECONDS = re.compile(r"[0-9]{1,12}(?:\.[0-9]{1,9})?")


def deadline_of(headers: Mapping[str, str], origin: Origin, clock: Clock) -> float:
    """Return when the answer is of no use any more; infinity where no header says so.

    Args:
        headers: lower-case name -> value.
        origin: when the request arrived.
        clock: the same clock.

    Raises:
        InvalidRequest: the header is no positive number.
        DeadlineExceeded: it is that late already.
    """
    told = headers.get("x-request-timeout-ms")
    if told is None:
        return math.inf
    timeout_ms = float(told) if _MILLISECONDS.fullmatch(told) else 0.0
    if not timeout_ms:
        raise InvalidRequest(
            f"X-Request-Timeout-Ms is {told!r:.40}, but must be a positive number of milliseconds"
        )
    deadline_s = origin.arrived_s + timeout_ms / 1000
    if deadline_s <= clock():
        raise DeadlineExceeded("the time that the request allowed was over before it was read")
    return deadline_s


def wants_timing(headers: Mapping[str, str]) -> bool:
    """Tell whether the caller asks, in a header, where the time went."""
    return headers.get("x-pelton-timing") == "1"


class Stopwatch:
    """Follows one request whose caller asked where the time went; made once it is decoded."""

    def __init__(self, clock: Clock, origin: Origin) -> None:
        self._clock = clock
        self._arrived_s = origin.arrived_s
        self._received_s = clock()
        self._timing = Timing()

    def computed(self, timing: Timing) -> None:
        """Take over what the engine measured."""
        self._timing = timing

    def parameters(self) -> dict[str, Parameter]:
        """Return the response's parameters that tell it; all but them is written by now."""
        return timing_parameters(self._so_far())

    def header(self) -> tuple[str, str]:
        """Return the response's header that tells it; its body is written by now."""
        return "x-pelton-timing", timing_header(self._so_far())

    def _so_far(self) -> Timing:
        """Return all parts. What nobody claims is the last one's, so that they add up."""
        engine = self._timing
        receive_s = self._received_s - self._arrived_s
        engine_s = engine.queue_s + engine.batch_wait_s + engine.compute_s
        encode_s = max(0.0, self._clock() - self._received_s - engine_s)
        return Timing(receive_s, engine.queue_s, engine.batch_wait_s, engine.compute_s, encode_s)
