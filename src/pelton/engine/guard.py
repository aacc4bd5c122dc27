"""A model in this process is foreign code: whatever it raises becomes an error of ours."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pelton.errors import ModelFailed, PeltonError
from pelton.messages import Value


def guarded(name: str, run: Callable[..., dict[str, Value]], *args: Any) -> dict[str, Value]:
    """Call a model.

    Args:
        name: the model's name.
        run: the model's `run`, or another way to run it.
        args: what it takes.

    Returns:
        Every output by name.

    Raises:
        PeltonError: what the model itself wants to tell its caller.
        ModelFailed: it raised anything else, SystemExit and all, which is the `__cause__`.
    """
    try:
        return run(*args)
    except PeltonError:
        raise
    except BaseException as error:
        raise ModelFailed(
            f"model {name!r} raised {type(error).__name__}; "
            "the server's log tells more under this request's id"
        ) from error
