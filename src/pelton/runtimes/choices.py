"""What a model is to be run with: its own `model.toml` over the server's settings."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from typing import Any

from pelton.errors import LoadFailed
from pelton.specs import ModelSpec

_CUDA = re.compile(r"cuda(?::([0-9]{1,3}))?")


def own_options(spec: ModelSpec, known: Mapping[str, type]) -> dict[str, Any]:
    """Return the options that the model's `model.toml` sets, checked.

    Args:
        spec: the model.
        known: option name -> the type of its value.

    Raises:
        LoadFailed: an option is unknown to the runtime, of another type, or negative.
    """
    for name, value in spec.options.items():
        wanted = known.get(name)
        if wanted is None:
            raise LoadFailed(
                f"the {spec.runtime} runtime has no option {name!r:.60}; {_near(name, known)}"
            )
        if type(value) is not wanted:
            raise LoadFailed(
                f"option {name!r} of model {spec.name!r} is {value!r:.40}; "
                f"it must be {_TYPE_NAMES[wanted]}"
            )
        if isinstance(value, int) and value < 0:
            raise LoadFailed(f"option {name!r} of model {spec.name!r} is {value}, below 0")
    return dict(spec.options)


_TYPE_NAMES = {bool: "true or false", int: "a whole number", str: "text in quotes"}


def _near(name: str, known: Mapping[str, type]) -> str:
    nearest = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {nearest[0]!r}?" if nearest else f"it knows {', '.join(sorted(known))}"


def choose_device(asked: str, cuda_devices: float, cure: str) -> str:
    """Return the device to run on, `cpu` or `cuda:N`.

    Args:
        asked: `cpu`, `cuda`, `cuda:N` or `auto`.
        cuda_devices: how many CUDA devices the framework can use here; infinite where it can
            use them but does not say how many there are.
        cure: what helps where there is none, as the end of a sentence.

    Raises:
        LoadFailed: the device is not there, or its name means nothing.
    """
    if asked == "auto":
        return "cuda:0" if cuda_devices else "cpu"
    if asked == "cpu":
        return asked
    found = _CUDA.fullmatch(asked)
    if found is None:
        raise LoadFailed(
            f"unknown device {asked!r:.40}; known are cpu, cuda:0, cuda:1, ... and auto"
        )
    index = int(found[1] or 0)
    if index >= cuda_devices:
        there = f"only {cuda_devices} of them here" if cuda_devices else "no such device here"
        raise LoadFailed(f"the model is to run on cuda:{index}, but there is {there}; {cure}")
    return f"cuda:{index}"
