"""What a runtime must offer: a loader that turns a `ModelSpec` into a `LoadedModel`.

`pelton.testing.runtime_contract` is the test suite that every runtime passes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from pelton.messages import Value
from pelton.specs import ModelMetadata, ModelSpec


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """How models are to be run, from the server's settings.

    A model's own `model.toml` may override those that mean something to its runtime, by the same
    name, under `[options]`.

    Attributes:
        device: `cpu`, `cuda:0`, ... or `auto` for the best that is there.
        intra_op_threads: threads within one operator; 0 lets the framework choose.
        inter_op_threads: threads across operators; 0 lets the framework choose.
        allow_spinning: whether idle threads burn cycles to wake faster.
        graph_optimization: `none`, `basic`, `extended` or `all`.
    """

    device: str = "cpu"
    intra_op_threads: int = 0
    inter_op_threads: int = 0
    allow_spinning: bool = False
    graph_optimization: str = "all"


class LoadedModel(Protocol):
    """A model in memory, ready to run.

    Attributes:
        metadata: what it says of itself; constant while it is loaded.
        concurrent: whether `run` may be entered by several threads at once.
        quick: whether `run` is bounded and releases the interpreter lock, so that the engine may
            call it on the event loop once it has measured it to be fast. False for user code.
    """

    @property
    def metadata(self) -> ModelMetadata: ...

    @property
    def concurrent(self) -> bool: ...

    @property
    def quick(self) -> bool: ...

    def run(self, inputs: Mapping[str, Value]) -> dict[str, Value]:
        """Compute every output.

        Args:
            inputs: exactly the declared inputs, with checked dtypes and shapes (arrays are
                C-contiguous, possibly read-only, possibly not aligned to their element size);
                for an object model, whatever the caller sent.

        Returns:
            Output name -> array (for an object model, any plain value), in declared order. No
            later run writes to these arrays.

        Raises:
            InvalidRequest: the inputs are wrong in a way that only the model could see.
            Exception: anything else counts as the model's failure, and the model stays usable.
        """
        ...

    def close(self) -> None:
        """Give back memory and devices. Called once, when no run is under way."""
        ...


Loader = Callable[[ModelSpec, RuntimeOptions], LoadedModel]
"""Loads one model.

Raises:
    LoadFailed: one sentence that says what is wrong with the file and what would cure it.
"""
