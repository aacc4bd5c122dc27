"""Has a server kill itself right before the n-th step of a publish.

To be loaded when its interpreter starts, as a `sitecustomize`; the variable says which step.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

VARIABLE = "TEST_KILL_AT_STEP"

_steps = 0


def _count() -> None:
    global _steps
    _steps += 1
    if _steps == int(os.environ[VARIABLE]):
        os.kill(os.getpid(), signal.SIGKILL)


def _counting(owner: Any, name: str) -> None:
    """Count a call as two steps, as it is entered and once it has come back."""
    original: Callable[..., Any] = getattr(owner, name)

    @functools.wraps(original)
    def counted(*args: Any, **more: Any) -> Any:
        _count()
        try:
            return original(*args, **more)
        finally:
            _count()

    setattr(owner, name, counted)


def install() -> None:
    """Count what a publish does, in a server; other processes are left alone."""
    if VARIABLE not in os.environ or "serve" not in sys.orig_argv:
        return
    from pelton.lifecycle.model_steps import ModelSteps
    from pelton.repository.publishing import Publisher
    from pelton.state.versions import VersionStore

    for name in ("stage", "publish"):
        _counting(Publisher, name)
    for name in ("next_version", "publish"):
        _counting(VersionStore, name)
    for name in ("load", "warm", "judge", "commit", "switch"):
        _counting(ModelSteps, name)
