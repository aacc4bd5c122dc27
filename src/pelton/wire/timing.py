"""Where a request's time went, as the wire tells it: integer microseconds.

As a header of the response, `receive=120, queue=0, batch_wait=0, compute=85, encode=14`, and as
parameters of a response of the Open Inference Protocol, `{"receive_us": 120, ...}`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from pelton.messages import Parameter, Timing

PARTS = ("receive", "queue", "batch_wait", "compute", "encode")
"""The parts in their order, which is also that of the fields of `Timing`."""

_TOLD = re.compile(r"([a-z_]{1,20})=([0-9]{1,15})")


def timing_header(timing: Timing) -> str:
    """Return the value of `X-Pelton-Timing`."""
    return ", ".join(f"{part}={us}" for part, us in zip(PARTS, _microseconds(timing), strict=True))


def timing_parameters(timing: Timing) -> dict[str, Parameter]:
    """Return the parameters that tell it in a response of the Open Inference Protocol."""
    return {f"{part}_us": us for part, us in zip(PARTS, _microseconds(timing), strict=True)}


def read_timing_header(value: str) -> Timing | None:
    """Read the value of `X-Pelton-Timing`; None where it is anything but that."""
    found = dict(_TOLD.findall(value))
    return read_timing({f"{part}_us": int(us) for part, us in found.items()})


def read_timing(parameters: Mapping[str, Parameter]) -> Timing | None:
    """Read the parameters of a response; None where they do not hold every part."""
    told = [parameters.get(f"{part}_us") for part in PARTS]
    seconds = [us / 1e6 for us in told if isinstance(us, int | float)]
    return Timing(*seconds) if len(seconds) == len(PARTS) else None


def _microseconds(timing: Timing) -> list[int]:
    parts = (
        timing.receive_s,
        timing.queue_s,
        timing.batch_wait_s,
        timing.compute_s,
        timing.encode_s,
    )
    return [round(part * 1e6) for part in parts]
