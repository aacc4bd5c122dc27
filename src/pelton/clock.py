"""Monotonic time as a plain callable, so that tests own it."""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], float]
"""Returns seconds that never go back, such as `time.perf_counter`."""
