"""What a worker answered, as outputs or as an error; nothing of it is believed unseen."""

from __future__ import annotations

import numpy as np

from pelton.errors import Code, ModelFailed, PeltonError, from_code
from pelton.messages import Value
from pelton.runtimes.process.channel import Message
from pelton.runtimes.process.values import Malformed
from pelton.specs import ModelMetadata
from pelton.tensors import DATATYPES

MAX_NAME = 80
"""Characters of a type's name that a client is told."""


class RaisedInWorker(Exception):
    """What a model raised in its worker process; the message is the traceback, for the log."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


def outputs_of(value: Value, metadata: ModelMetadata) -> tuple[float, dict[str, Value]]:
    """Return the seconds that the model took, and its outputs.

    Raises:
        Malformed: these are no outputs, or not those which the model declares.
    """
    if type(value) is not list or len(value) != 2:
        raise Malformed("a result that is none")
    compute_s, outputs = value
    if type(compute_s) is not float or not compute_s >= 0:
        raise Malformed("a time that is none")
    if type(outputs) is not dict or not set(map(type, outputs)) <= {str}:
        raise Malformed("outputs without names")
    if metadata.outputs and len(outputs) != len(metadata.outputs):
        raise Malformed("other outputs than the model declares")
    for name, spec in zip(outputs, metadata.outputs, strict=False):
        array = outputs[name]
        if (
            name != spec.name
            or not isinstance(array, np.ndarray)
            or array.dtype != DATATYPES[spec.datatype].dtype
        ):
            raise Malformed("other outputs than the model declares")
    return compute_s, outputs


def failure(message: Message, model: str) -> PeltonError:
    """Return the error that a worker told.

    Args:
        message: what it sent.
        model: the model's name.

    Raises:
        Malformed: it is no error.
    """
    kind, value = message
    try:
        if kind == "error":
            code, said = value
            return from_code(Code(code), _text(said))
        if kind == "raised":
            name, trace = map(_text, value)
            failed = ModelFailed(
                f"model {model!r} raised {name[:MAX_NAME]}; "
                "the server's log tells more under this request's id"
            )
            failed.__cause__ = RaisedInWorker(trace)
            return failed
        if kind == "cannot":
            return ModelFailed(
                f"model {model!r} returned {_text(value)}, which cannot leave its worker process"
            )
    except (TypeError, ValueError) as error:
        raise Malformed("an error that is none") from error
    raise Malformed(f"{kind!r:.40} in place of a result")


def _text(value: Value) -> str:
    if type(value) is not str:
        raise TypeError("no text")
    return value
