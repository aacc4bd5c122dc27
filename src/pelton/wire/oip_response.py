"""A response of the Open Inference Protocol, as the server writes it.

The JSON part is put together from pieces that depend only on names, datatypes and shapes; those
are remembered, since a model gives the same ones again and again. And where a client asks the same
thing again, and the model's outputs look as they did before, the whole JSON part is that of before.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from pelton.errors import InvalidRequest, ModelFailed
from pelton.messages import InferResponse, Parameter, Value
from pelton.specs import ModelMetadata
from pelton.tensors import DATATYPES, Array, Datatype, datatype_name
from pelton.wire import strict_json
from pelton.wire.array_bytes import COPIED_BYTES, Buffer
from pelton.wire.classification import classify
from pelton.wire.element_lists import bytes_array
from pelton.wire.oip_message import EncodedMessage, ReplyPlan, WantedOutput, message
from pelton.wire.oip_regions import Place
from pelton.wire.oip_tensors import encode_binary, encode_json

_SLICE = 1 << 16
"""Elements of a tensor that are written as JSON in one step: some 10 ms."""


def encode_response(
    response: InferResponse,
    plan: ReplyPlan,
    metadata: ModelMetadata,
    told_last: Callable[[], Mapping[str, Parameter]] | None = None,
) -> EncodedMessage:
    """Write an inference response.

    Args:
        response: what the model gave.
        plan: how the request wanted it written.
        metadata: of the model that answered: class names, and which float32 outputs are BF16.
        told_last: gives parameters of the response; called when all its tensors are written, so
            that it can tell how long that took.

    Returns:
        The message; its binary pieces are views of the outputs where these lie little-endian
        and row-major.

    Raises:
        InvalidRequest: an output cannot be written as it was asked for: FP16, BF16 or bytes that
            are no text as JSON, the classes of something that holds no scores, or into shared
            memory that has no room for it.
        ModelFailed: an output is nothing that the protocol can carry.
    """
    if plan.memory and told_last is None:
        again = _written_again(plan.memory[0], response, metadata)
        if again is not None:
            return again
    written = _write(response, plan, metadata, told_last)
    # Most plans are used once or very often, and the first time does not tell.
    repeats = bool(plan.memory)
    plan.memory[:] = [_remembered(response, plan, metadata, written) if repeats else None]
    return written


def _write(
    response: InferResponse,
    plan: ReplyPlan,
    metadata: ModelMetadata,
    told_last: Callable[[], Mapping[str, Parameter]] | None,
) -> EncodedMessage:
    wanted = {output.name: output for output in plan.outputs} if plan.outputs else {}
    usual = _USUAL[plan.binary]
    entries: list[bytes] = []
    binaries: list[Buffer] = []
    for name, value in response.outputs.items():
        want = wanted.get(name, usual)
        row, array = _as_tensor(name, value, metadata)
        what = f"output {name!r:.60}"
        if want.classification:
            array = classify(array, want.classification, metadata.labels_of(name), what)
            row = DATATYPES["BYTES"]
        if not want.binary and want.place is None:
            entries.append(_json_entry(name, row, array, what))
            continue
        binary = encode_binary(row, array, what)
        if want.place is None or (want.binary and len(binary) > want.place.size):
            entries.append(_binary_entry(name, row.name, array.shape, len(binary)))
            binaries.append(binary)
        else:
            plan.writers[name](binary)
            entries.append(_placed_entry(name, row.name, array.shape, len(binary), want.place))
    return message(_header(response, _parameters(response, told_last), entries), binaries)


class _Written(NamedTuple):
    """A response whose outputs were all sent as they lay in memory.

    Attributes:
        response: the model's name and version, the request's id.
        metadata: of the model that answered.
        outputs: name, dtype and shape of each.
        header: the JSON part.
        size: bytes of the whole message.
    """

    response: tuple[str, str, str]
    metadata: ModelMetadata
    outputs: tuple[tuple[str, np.dtype[Any], tuple[int, ...]], ...]
    header: Buffer
    size: int


def _remembered(
    response: InferResponse, plan: ReplyPlan, metadata: ModelMetadata, written: EncodedMessage
) -> _Written | None:
    """Return the record of a response, or None where the next one might not be the same."""
    if response.digest or plan.timing or written.header_bytes is None or not plan.all_binary:
        return None
    for name, value in response.outputs.items():
        row = _as_tensor(name, value, metadata)[0]
        plain = type(value) is np.ndarray and row.as_it_lies and value.dtype == row.dtype
        if not plain or not value.size:
            return None
    if len(written.chunks) != 1 + len(response.outputs):
        return None  # some went to shared memory
    asked = (response.model, response.version, response.id)
    outputs = tuple((name, value.dtype, value.shape) for name, value in response.outputs.items())
    return _Written(asked, metadata, outputs, written.chunks[0], written.size)


def _written_again(
    last: _Written | None, response: InferResponse, metadata: ModelMetadata
) -> EncodedMessage | None:
    """Return the message of a response that differs from the last one in its values only."""
    if last is None or metadata is not last.metadata or response.digest:
        return None
    values = response.outputs
    asked = (response.model, response.version, response.id)
    if asked != last.response or len(values) != len(last.outputs):
        return None
    chunks = [last.header]
    is_small = last.size <= COPIED_BYTES
    for name, dtype, shape in last.outputs:
        value = values.get(name)
        if type(value) is not np.ndarray or value.dtype != dtype or value.shape != shape:
            return None
        if is_small:
            chunks.append(value.tobytes())
        elif value.flags.c_contiguous:
            chunks.append(value.data.cast("B"))
        else:
            return None
    return EncodedMessage(len(last.header), chunks, last.size)


_USUAL = {binary: WantedOutput("", binary) for binary in (False, True)}
"""How an output is written that the request did not name."""


def _parameters(
    response: InferResponse, told_last: Callable[[], Mapping[str, Parameter]] | None
) -> dict[str, Parameter]:
    parameters: dict[str, Parameter] = {}
    if told_last is not None:
        parameters |= told_last()
    if response.digest:
        parameters["digest"] = response.digest
    return parameters


def _header(
    response: InferResponse, parameters: Mapping[str, Parameter], entries: list[bytes]
) -> bytes:
    opening = _opening(response.model, response.version)
    if response.id:
        opening += b'"id":' + strict_json.dumps(response.id) + b","
    if parameters:
        opening += b'"parameters":' + strict_json.dumps(parameters) + b","
    return opening + b'"outputs":[' + b",".join(entries) + b"]}"


@functools.lru_cache(maxsize=256)
def _opening(model: str, version: str) -> bytes:
    return strict_json.dumps({"model_name": model, "model_version": version})[:-1] + b","


@functools.lru_cache(maxsize=1024)
def _binary_entry(name: str, datatype: str, shape: tuple[int, ...], size: int) -> bytes:
    entry = _entry(name, datatype, shape)
    return strict_json.dumps(entry | {"parameters": {"binary_data_size": size}})


@functools.lru_cache(maxsize=1024)
def _placed_entry(
    name: str, datatype: str, shape: tuple[int, ...], size: int, place: Place
) -> bytes:
    entry = _entry(name, datatype, shape)
    return strict_json.dumps(entry | {"parameters": place.parameters(size)})


def _json_entry(name: str, row: Datatype, array: Array, what: str) -> bytes:
    entry = _entry(name, row.name, array.shape)
    # In slices, since each is one long step that holds up every other request.
    flat = array.reshape(-1)
    slices = [
        strict_json.dumps(encode_json(row, flat[start : start + _SLICE], what))[1:-1]
        for start in range(0, flat.size or 1, _SLICE)
    ]
    return strict_json.dumps(entry)[:-1] + b',"data":[' + b",".join(slices) + b"]}"


def _entry(name: str, datatype: str, shape: tuple[int, ...]) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape}


def _as_tensor(name: str, value: Value, metadata: ModelMetadata) -> tuple[Datatype, Array]:
    """Find a value's datatype; what is no array yet becomes one, if it cleanly does."""
    array = value if type(value) is np.ndarray else _made_array(name, value)
    try:
        row = DATATYPES[datatype_name(array)]
        if row.wire_bytes is None:
            array = bytes_array(array.ravel().tolist(), "its data").reshape(array.shape)
    except InvalidRequest as error:
        raise ModelFailed(f"the model's output {name!r:.60} cannot be sent: {error}") from error
    if row.name == "FP32":
        for spec in metadata.outputs:
            if spec.datatype == "BF16" and spec.name == name:
                return DATATYPES["BF16"], array
    return row, array


def _made_array(name: str, value: Value) -> Array:
    """Make a plain array of a number, a text, evenly nested lists, or of a subclass of arrays."""
    if isinstance(value, np.ndarray):
        return np.asarray(value)
    try:
        array = np.asarray(value)
        # Numpy writes numbers beside a text as text, and cuts zeros off the end of bytes.
        return array if array.dtype.kind in "biuf" else np.asarray(value, np.object_)
    except (ValueError, TypeError, OverflowError) as error:
        raise ModelFailed(
            f"the model's output {name!r:.60} is no array and cannot be made one"
        ) from error
