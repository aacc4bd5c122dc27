"""Slices are short for one thread, for a while, for nothing it starts; turns while anybody wants."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from pelton.time_slices import LOOP_NS, TURN_S, WORKER_NS, promptly, short_turns

HAS_SLICES = (
    Path("/proc/self/sched").exists() and "se.slice" in Path("/proc/self/sched").read_text()
)
needs_slices = pytest.mark.skipif(not HAS_SLICES, reason="needs Linux 6.12 that shows slices")


def slice_ns(task: str) -> int:
    """Return the slice that a thread or process has."""
    found = re.search(
        r"^se\.slice\s*:\s*(\d+)", Path(f"/proc/{task}/sched").read_text(), re.MULTILINE
    )
    assert found is not None
    return int(found[1])


def in_a_thread(work: Callable[[], None]) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def of_this_thread() -> int:
    return slice_ns(f"self/task/{threading.get_native_id()}")


@needs_slices
@pytest.mark.parametrize("slice_ns", [LOOP_NS, WORKER_NS])
def test_the_thread_that_asks_gets_it_and_no_other_does(slice_ns: int) -> None:
    usual_ns = of_this_thread()
    seen: list[object] = []

    def ask() -> None:
        with promptly(slice_ns) as taken:
            seen.extend([taken, of_this_thread()])
            in_a_thread(lambda: seen.append(of_this_thread()))
            started = subprocess.run(
                [sys.executable, "-c", "print(open('/proc/self/sched').read())"],
                capture_output=True,
                text=True,
                check=True,
            )
            seen.append(f"{usual_ns}" in started.stdout)
        seen.append(of_this_thread())

    in_a_thread(ask)
    assert usual_ns > slice_ns
    assert seen == [True, slice_ns, usual_ns, True, usual_ns]
    assert of_this_thread() == usual_ns


def test_a_machine_that_is_not_known_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "abacus")
    with promptly(LOOP_NS) as taken:
        assert taken is False


@needs_slices
def test_another_policy_is_left_alone() -> None:
    seen: list[object] = []

    def ask() -> None:
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
        with promptly(LOOP_NS) as taken:
            seen.extend([taken, os.sched_getscheduler(0)])

    in_a_thread(ask)
    assert seen == [False, os.SCHED_BATCH]


def test_a_worker_that_computes_goes_before_an_event_loop() -> None:
    assert WORKER_NS < LOOP_NS


def test_turns_are_short_until_the_last_has_left() -> None:
    usual_s = sys.getswitchinterval()

    def fail() -> None:
        with short_turns:
            assert sys.getswitchinterval() == pytest.approx(TURN_S)
            raise ZeroDivisionError

    with short_turns:
        with pytest.raises(ZeroDivisionError):
            fail()
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == usual_s
    with short_turns:
        assert sys.getswitchinterval() == pytest.approx(TURN_S)
    assert sys.getswitchinterval() == usual_s
