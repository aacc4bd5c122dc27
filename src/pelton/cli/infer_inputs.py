"""What the person typed after `pelton infer MODEL`, as inputs of the model."""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import typer

from pelton.errors import InvalidRequest
from pelton.messages import Value
from pelton.specs import TensorSpec
from pelton.tensors import Array, datatype
from pelton.wire import strict_json
from pelton.wire.element_lists import flatten, typed_array
from pelton.wire.limits import Limits

_FROM_PEOPLE = Limits(max_body_bytes=2**30)


def read_inputs(given: Iterable[str], npy: Iterable[str], json_file: str | None) -> dict[str, Any]:
    """Gather the inputs, not yet typed.

    Args:
        given: `NAME=VALUE` each; a value is JSON, or text where it is none.
        npy: `NAME=FILE.npy` each.
        json_file: a file, or `-` for standard input, with a JSON object of inputs by name, or
            with a request of the Open Inference Protocol.

    Raises:
        typer.BadParameter: one of these cannot be read, or an input is there twice.
    """
    found: dict[str, Any] = {}
    pairs = [
        *((name, value, "--json") for name, value in _from_json(json_file).items()),
        *((name, _value(text), "--input") for name, text in _pairs(given, "--input")),
        *((name, _array(file), "--npy") for name, file in _pairs(npy, "--npy")),
    ]
    for name, value, option in pairs:
        if name in found:
            raise wrong(f"input {name!r:.60} is given twice", option)
        found[name] = value
    return found


def typed_inputs(values: Mapping[str, Any], specs: Iterable[TensorSpec]) -> dict[str, Array]:
    """Make the arrays that a model wants.

    Args:
        values: arrays, which stay as they are, and JSON values.
        specs: the inputs that the model declares.

    Raises:
        typer.BadParameter: the model has no input of a name, or a value does not fit its type.
    """
    by_name = {spec.name: spec for spec in specs}
    arrays: dict[str, Array] = {}
    for name, value in values.items():
        if name not in by_name:
            known = ", ".join(f"{spec.name} ({spec.datatype})" for spec in by_name.values())
            raise wrong(f"the model has no input {name!r:.60}; its inputs are {known}", "--input")
        try:
            arrays[name] = value if isinstance(value, np.ndarray) else _typed(value, by_name[name])
        except InvalidRequest as problem:
            raise wrong(problem.message, "--input") from None
    return arrays


def wrong(message: str, option: str) -> typer.BadParameter:
    """Return the error that names an option and ends the command with 2."""
    return typer.BadParameter(message, param_hint=option)


def _typed(value: Any, spec: TensorSpec) -> Array:
    row, what = datatype(spec.datatype), f"input {spec.name!r:.60}"
    if spec.datatype == "BYTES" and not isinstance(value, str | list):
        value = json.dumps(value)
    if isinstance(value, list):
        elements, shape = flatten(value, what)
        return typed_array(elements, row, what).reshape(shape)
    array = typed_array([value], row, what)
    return array if spec.shape in ((1,), (-1,)) else array.reshape(())


def _pairs(given: Iterable[str], option: str) -> Iterable[tuple[str, str]]:
    for text in given:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise wrong(f"{text!r:.60} is not of the form NAME=...", option)
        yield name, value


def _value(text: str) -> Value:
    try:
        return strict_json.loads(text.encode("utf-8", "surrogateescape"), _FROM_PEOPLE)
    except InvalidRequest:
        return text


def _array(file: str) -> Array:
    try:
        with Path(file).open("rb") as stream:
            loaded = np.load(stream, allow_pickle=False)
    except OSError as problem:
        raise wrong(f"cannot read {file}: {problem.strerror}", "--npy") from None
    except (ValueError, EOFError, MemoryError, zipfile.BadZipFile):
        raise wrong(f"{file} is no .npy file of plain numbers or text", "--npy") from None
    if not isinstance(loaded, np.ndarray):
        raise wrong(f"{file} holds several arrays; give a .npy file with one", "--npy")
    return loaded


def _from_json(file: str | None) -> dict[str, Any]:
    if file is None:
        return {}
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        said = strict_json.loads(raw, _FROM_PEOPLE)
    except OSError as problem:
        raise wrong(f"cannot read {file}: {problem.strerror}", "--json") from None
    except InvalidRequest as problem:
        raise wrong(problem.message, "--json") from None
    if not isinstance(said, dict):
        raise wrong("it has to be an object: input name -> value", "--json")
    entries = said.get("inputs")
    return _from_protocol(entries) if isinstance(entries, list) else said


def _from_protocol(entries: list[Any]) -> dict[str, Any]:
    """Read the inputs of a protocol request, each with its own shape."""
    try:
        return {
            entry["name"]: np.reshape(
                np.array(flatten(entry["data"], "x")[0], np.object_), entry["shape"]
            ).tolist()
            for entry in entries
        }
    except (KeyError, TypeError, ValueError, InvalidRequest):
        raise wrong(
            'each of "inputs" needs a name, a shape, and data of that shape', "--json"
        ) from None
