"""Where a request's time went, for callers who ask."""

from __future__ import annotations

from pelton.clock import Clock
from pelton.messages import Parameter, Timing
from pelton.servers.origin import Origin
from pelton.wire.timing import timing_header, timing_parameters


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
