"""Judges what a new version answers to golden requests, which have been answered before.

Checks, in this order, each output in turn:

1. Every float is finite, unless the reference is not at the same place either.
2. Shapes and dtypes are those of the reference. Every output that it has is there; and if it is
   the running version's answer, no other.
3. Values are within the tolerance of the expected ones, where such are given.
4. Enough rows agree with the running version, where that is asked for.
5. The median latency is within the factor of the running version's, where that is asked for.

The reference is what the golden request expects, else what the running version answers (for 1,
output by output). 4 and 5 need a running version. Where there is neither, only 1 is checked.

Pure; `golden_runs.py` has the versions run.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pelton.lifecycle.gates import Gate
from pelton.messages import Value
from pelton.specs import Golden
from pelton.tensors import Array

LEAST_DIFFERENCE_S = 0.0005
"""A version that is slower by less than this is not slower: so much is the machine's doing."""

MOST_NAMES = 8
"""Tensor names that a sentence lists at most."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a version gave the right answers.

    Attributes:
        passed: whether it did.
        sentence: for people: which golden request, which check, what was wrong.
        numbers: what was measured, for the record.
        gate: the gate that this is about.
    """

    passed: bool
    sentence: str
    numbers: Mapping[str, float | str] = field(default_factory=dict)
    gate: Gate = Gate.GOLDEN


@dataclass(frozen=True, slots=True)
class Answers:
    """What one version did with one golden request.

    Attributes:
        outputs: of one run.
        latencies_s: of the runs that were timed; may be empty.
    """

    outputs: Mapping[str, Value]
    latencies_s: Sequence[float] = ()


def judge(golden: Golden, new: Answers, running: Answers | None) -> Verdict:
    """Judge what a new version did with one golden request.

    Args:
        golden: the request, with what it allows.
        new: what the new version did.
        running: what the running version did; None where there is none.

    Returns:
        The verdict; its sentence tells of the first check that was not passed.
    """
    numbers: dict[str, float | str] = {"golden": golden.name}
    wrong = next(filter(None, _faults(golden, new, running, numbers)), "")
    if wrong:
        return Verdict(False, f"golden request {golden.name!r:.80}: {wrong}", numbers)
    return Verdict(True, f"golden request {golden.name!r:.80} was answered as it should", numbers)


def _faults(
    golden: Golden, new: Answers, running: Answers | None, numbers: dict[str, float | str]
) -> Iterator[str]:
    """Make one check after the other; give what is wrong, or an empty text."""
    expected = golden.expected
    usual = {} if running is None else running.outputs
    yield _nonfinite(new.outputs, {**usual, **(expected or {})}, numbers)
    if expected is not None:
        yield _unlike(new.outputs, expected, "the expected outputs")
        yield _off(golden, new.outputs, expected, numbers)
    if running is None:
        return
    if expected is None or golden.agreement:
        yield _unlike(new.outputs, running.outputs, "the running version's")
    if expected is None:
        yield _extra(new.outputs, running.outputs)
    if golden.agreement:
        yield _disagreement(golden, new.outputs, running.outputs, numbers)
    yield _slowness(golden, new.latencies_s, running.latencies_s, numbers)


def _nonfinite(
    outputs: Mapping[str, Value], reference: Mapping[str, Value], numbers: dict[str, float | str]
) -> str:
    for name, array in _floats(outputs):
        wrong = ~np.isfinite(array)
        excuse: Value = reference.get(name)
        if _is_float(excuse) and excuse.shape == array.shape:
            wrong &= np.isfinite(excuse)
        count = int(np.count_nonzero(wrong))
        if count:
            numbers["nonfinite_elements"] = count
            return f"{count} of {array.size} elements of output {name!r:.80} are NaN or infinite"
    return ""


def _unlike(outputs: Mapping[str, Value], reference: Mapping[str, Value], whose: str) -> str:
    if missing := sorted(set(reference) - set(outputs)):
        return f"it gives no output {_listed(missing)}, which is among {whose}"
    for name, value in reference.items():
        got, wanted = _kind(outputs[name]), _kind(value)
        if got != wanted:
            return f"output {name!r:.80} is {got}, and {wanted} among {whose}"
    return ""


def _extra(outputs: Mapping[str, Value], running: Mapping[str, Value]) -> str:
    if extra := sorted(set(outputs) - set(running)):
        return f"it gives the output {_listed(extra)}, which the running version does not"
    return ""


def _off(
    golden: Golden,
    outputs: Mapping[str, Value],
    expected: Mapping[str, Array],
    numbers: dict[str, float | str],
) -> str:
    for name, wanted in expected.items():
        close = _close(outputs[name], wanted, golden)
        if not close.all():
            off = int(close.size - np.count_nonzero(close))
            numbers |= {"elements_off": off, "elements": close.size}
            largest = _largest_difference(outputs[name], wanted)
            if largest is not None:
                numbers["largest_difference"] = largest
            told = "" if largest is None else f", by up to {largest:.3g}"
            return (
                f"{off} of {close.size} elements of output {name!r:.80} differ from the expected "
                f"ones by more than atol {golden.atol:g} and rtol {golden.rtol:g} allow{told}"
            )
    return ""


def _disagreement(
    golden: Golden,
    outputs: Mapping[str, Value],
    running: Mapping[str, Value],
    numbers: dict[str, float | str],
) -> str:
    for name, usual in running.items():
        agree = rows_that_agree(outputs[name], usual, golden)
        share = float(np.mean(agree)) if agree.size else 1.0
        numbers["agreement"] = min(share, float(numbers.get("agreement", 1.0)))
        if share < golden.agreement:
            return (
                f"output {name!r:.80} agrees with the running version's in {100 * share:.4g} % of "
                f"{agree.size} rows; at least {100 * golden.agreement:.4g} % are asked for"
            )
    return ""


def rows_that_agree(new: Value, running: Value, golden: Golden) -> np.ndarray[Any, Any]:
    """Tell for each row whether two versions agree.

    An array of floats with two axes and several columns is taken for scores of classes, and its
    rows agree where their largest is in the same column (or all are within the tolerance, so that
    ties do no harm). A row of any other array agrees if all its elements are within the tolerance.
    Where a table of floats is no table of scores, a golden request should have expected outputs.

    Args:
        new: the new version's output; of the same shape and dtype as the other.
        running: the running version's.
        golden: has the tolerance.

    Returns:
        Booleans [rows]; one for all of a value that has no rows.
    """
    close = _close(new, running, golden)
    rows = close.all(axis=tuple(range(1, close.ndim))) if close.ndim else close.reshape(1)
    if _is_float(new) and new.ndim == 2 and new.shape[1] > 1:
        rows = rows | (new.argmax(axis=1) == running.argmax(axis=1))
    return np.asarray(rows)


def _slowness(
    golden: Golden,
    new_s: Sequence[float],
    running_s: Sequence[float],
    numbers: dict[str, float | str],
) -> str:
    if not new_s or not running_s:
        return ""
    median_s, usual_s = statistics.median(new_s), statistics.median(running_s)
    numbers |= {"latency_ms": 1000 * median_s, "running_latency_ms": 1000 * usual_s}
    if not golden.latency_factor:
        return ""
    if median_s <= max(golden.latency_factor * usual_s, usual_s + LEAST_DIFFERENCE_S):
        return ""
    return (
        f"it takes {1000 * median_s:.3g} ms (median of {len(new_s)} runs), the running version "
        f"{1000 * usual_s:.3g} ms; {golden.latency_factor:g} times as long is allowed"
    )


def _floats(outputs: Mapping[str, Value]) -> Iterator[tuple[str, Array]]:
    return ((name, value) for name, value in outputs.items() if _is_float(value))


def _is_float(value: Value) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind == "f"


def _close(value: Value, reference: Value, golden: Golden) -> np.ndarray[Any, Any]:
    """Tell for each element whether it is within the tolerance, or equal if it is no number."""
    if not isinstance(value, np.ndarray):
        return np.array(_equal(value, reference))
    if value.dtype.kind not in "fiu":
        return np.asarray(value == reference)
    with np.errstate(all="ignore"):
        return np.isclose(value, reference, golden.rtol, golden.atol, equal_nan=True)


def _equal(value: Value, reference: Value) -> bool:
    """Tell whether two values of an object model are equal, arrays within them included."""
    if type(value) is not type(reference):
        return False
    if isinstance(value, np.ndarray):
        return np.array_equal(value, reference)
    if isinstance(value, dict):
        return value.keys() == reference.keys() and all(
            _equal(each, reference[key]) for key, each in value.items()
        )
    if isinstance(value, list | tuple):
        return len(value) == len(reference) and all(map(_equal, value, reference))
    return bool(value == reference)


def _largest_difference(value: Value, reference: Value) -> float | None:
    if not isinstance(value, np.ndarray) or value.dtype.kind not in "fiu":
        return None
    with np.errstate(all="ignore"):
        difference = np.abs(value.astype(np.float64) - np.asarray(reference, np.float64))
    return float(np.nanmax(difference, initial=0.0))


def _kind(value: Value) -> str:
    """Say what a value is: dtype and shape of an array, else its type."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype}{list(value.shape)}"
    return type(value).__name__


def _listed(names: Sequence[str]) -> str:
    told = ", ".join(f"{name!r:.80}" for name in names[:MOST_NAMES])
    return told + (", ..." if len(names) > MOST_NAMES else "")
