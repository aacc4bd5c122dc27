"""What a server tells about itself and its models."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pelton.errors import ConnectionFailed
from pelton.specs import TensorSpec


@dataclass(frozen=True, slots=True)
class ServerDescription:
    """A server.

    Attributes:
        name: the software, such as `pelton`.
        version: its version.
        extensions: names of the protocol extensions that it offers.
    """

    name: str
    version: str
    extensions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelDescription:
    """A model as its server describes it.

    Attributes:
        name: the model's name.
        versions: versions that can be asked for.
        platform: framework and format, such as `onnxruntime_onnx`.
        inputs: what it takes; empty for an object model that declares nothing.
        outputs: what it gives; likewise.
        state: `READY` and the like, in the list of all models; otherwise empty.
    """

    name: str
    versions: tuple[str, ...] = ()
    platform: str = ""
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    state: str = ""


def server_from_json(said: Mapping[str, Any]) -> ServerDescription:
    """Read the answer of `GET /v2`.

    Raises:
        ConnectionFailed: it lacks what the protocol demands.
    """
    return ServerDescription(
        _text(said, "name"), _text(said, "version"), _texts(said, "extensions")
    )


def model_from_json(said: object) -> ModelDescription:
    """Read the answer of `GET /v2/models/NAME`, or one row of `GET /v2/models`.

    Raises:
        ConnectionFailed: it lacks what the protocol demands.
    """
    if not isinstance(said, dict):
        raise _unreadable("a model is no JSON object")
    return ModelDescription(
        name=_text(said, "name"),
        versions=_texts(said, "versions"),
        platform=_text(said, "platform"),
        inputs=_tensors(said, "inputs"),
        outputs=_tensors(said, "outputs"),
        state=_text(said, "state") if "state" in said else "",
    )


def models_from_json(said: Mapping[str, Any]) -> tuple[ModelDescription, ...]:
    """Read the answer of `GET /v2/models`.

    Raises:
        ConnectionFailed: it is no list of models.
    """
    return tuple(model_from_json(row) for row in _rows(said, "models"))


def _tensors(said: Mapping[str, Any], key: str) -> tuple[TensorSpec, ...]:
    return tuple(_tensor(row) for row in _rows(said, key))


def _tensor(said: object) -> TensorSpec:
    if not isinstance(said, dict):
        raise _unreadable("a tensor is no JSON object")
    shape = _rows(said, "shape")
    if not all(type(dim) is int for dim in shape):
        raise _unreadable("a shape holds something else than integers")
    return TensorSpec(_text(said, "name"), _text(said, "datatype"), tuple(shape))


def _text(said: Mapping[str, Any], key: str) -> str:
    value = said.get(key)
    if not isinstance(value, str):
        raise _unreadable(f'"{key}" is missing or no text')
    return value


def _texts(said: Mapping[str, Any], key: str) -> tuple[str, ...]:
    return tuple(str(value) for value in _rows(said, key))


def _rows(said: Mapping[str, Any], key: str) -> list[Any]:
    value = said.get(key, [])
    if not isinstance(value, list):
        raise _unreadable(f'"{key}" is no list')
    return value


def _unreadable(why: str) -> ConnectionFailed:
    return ConnectionFailed(f"the server's answer cannot be read: {why}")
