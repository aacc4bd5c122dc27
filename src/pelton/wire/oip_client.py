"""The Open Inference Protocol from the client's side: requests out, responses in.

A program asks the same thing again and again, and only the numbers differ. So the JSON parts of
requests that say nothing special are remembered, and what the JSON parts of answers mean.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np

from pelton.errors import ConnectionFailed, InvalidRequest
from pelton.messages import InferResponse, Parameter, Timing, Value
from pelton.tensors import Array, Datatype, datatype, datatype_name, element_count
from pelton.wire import strict_json
from pelton.wire.array_bytes import Buffer
from pelton.wire.limits import Limits
from pelton.wire.oip_message import (
    REMEMBERED_HEADER_BYTES,
    EncodedMessage,
    TensorEntry,
    check_not_reserved,
    check_unique,
    checked_list,
    checked_name,
    message,
    read_tensors,
    split,
)
from pelton.wire.oip_regions import Place
from pelton.wire.oip_tensors import decode_binary, encode_binary
from pelton.wire.timing import read_timing

_FEW = 4
"""With so few parameters, such as `priority`, requests are taken to be alike."""

_NOWHERE: Mapping[str, memoryview] = {}


@dataclass(frozen=True, slots=True)
class Sharing:
    """Which tensors of a request lie in shared memory instead of in the message.

    Attributes:
        inputs: input name -> where its bytes lie.
        outputs: name of every output that is wanted -> where its bytes shall go, None for those
            that shall come as binary data, as may any that turns out too big for its place.
            Empty where all outputs shall come as binary data.
    """

    inputs: Mapping[str, Place] = field(default_factory=dict)
    outputs: Mapping[str, Place | None] = field(default_factory=dict)


_NOTHING_SHARED = Sharing()


class _Sent(NamedTuple):
    """An input as the JSON part tells of it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int
    place: Place | None


class _Wanted(NamedTuple):
    """An output as the JSON part of a request asks for it."""

    name: str
    place: Place | None = None


class _Shared(NamedTuple):
    """An output of a response whose bytes lie in shared memory."""

    name: str
    row: Datatype
    shape: tuple[int, ...]
    size: int

    def array(self, places: Mapping[str, memoryview]) -> Array:
        """View the bytes in the place that the request named."""
        what = f"output {self.name!r:.60}"
        raw = places.get(self.name)
        if raw is None or len(raw) < self.size:
            raise InvalidRequest(f"{what} has no data, and no place in shared memory for it")
        return decode_binary(self.row, self.shape, raw[: self.size], what)


class _Answer(NamedTuple):
    """The JSON part of a response, checked."""

    model: str
    version: str
    id: str
    outputs: tuple[TensorEntry | _Shared, ...]
    timing: Timing | None
    digest: str


def encode_request(
    inputs: Mapping[str, Array],
    outputs: Sequence[str] = (),
    *,
    request_id: str = "",
    parameters: Mapping[str, Parameter] | None = None,
    datatypes: Mapping[str, str] | None = None,
    sharing: Sharing = _NOTHING_SHARED,
) -> EncodedMessage:
    """Write an inference request whose tensors go as binary data or through shared memory.

    Args:
        inputs: input name -> array; text and bytes arrays go as BYTES.
        outputs: names of the wanted outputs; empty means all.
        request_id: echoed in the response.
        parameters: passed to the server as they are.
        datatypes: input name -> datatype, where the array's dtype does not tell it: `BF16` for a
            float32 array.
        sharing: what lies in shared memory; where it names outputs, it names those of `outputs`.

    Returns:
        The message; its binary pieces are views of the arrays where these lie little-endian and
        row-major.

    Raises:
        InvalidRequest: an array has no datatype in the protocol or not the given one, or a
            parameter's name is reserved.
    """
    entries: list[_Sent] = []
    binaries: list[Buffer] = []
    for name, array in inputs.items():
        row = _row_for(name, array, datatypes.get(name) if datatypes else None)
        place = sharing.inputs.get(name)
        size = 0
        if place is None:
            binary = encode_binary(row, array, f"input {name!r:.60}")
            binaries.append(binary)
            size = len(binary)
        entries.append(_Sent(name, row.name, array.shape, size, place))
    asked = _asked(outputs, sharing)
    said = _said(parameters) if parameters else ()
    if request_id or said is None:
        header = _header(tuple(entries), asked, request_id, parameters or {})
    else:
        header = _usual_header(tuple(entries), asked, said)
    if sharing.inputs and not any(binaries):
        # Nothing follows the JSON, but a server that is told its length may remember it.
        return EncodedMessage(len(header), [header], len(header))
    return message(header, binaries)


def _asked(outputs: Sequence[str], sharing: Sharing) -> tuple[_Wanted, ...]:
    if sharing.outputs:
        return tuple(_Wanted(*each) for each in sharing.outputs.items())
    return tuple(_Wanted(name) for name in outputs) if outputs else ()


class _Said(NamedTuple):
    """A parameter; with its kind, since 1 and True are alike as keys, but not as JSON."""

    name: str
    kind: type
    value: Parameter


def _said(parameters: Mapping[str, Parameter]) -> tuple[_Said, ...] | None:
    """Return parameters as a key of the memory; None for those that are seldom said twice."""
    said = tuple(_Said(name, type(value), value) for name, value in parameters.items())
    usual = len(said) <= _FEW and all(each.kind in (bool, int, str) for each in said)
    return said if usual else None


def _header(
    inputs: tuple[_Sent, ...],
    outputs: tuple[_Wanted, ...],
    request_id: str,
    parameters: Mapping[str, Parameter],
) -> bytes:
    own = dict(parameters)
    check_not_reserved(own)
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    header["inputs"] = [
        {
            "name": each.name,
            "shape": each.shape,
            "datatype": each.datatype,
            "parameters": _placed(each.place) or {"binary_data_size": each.size},
        }
        for each in inputs
    ]
    if outputs:
        header["outputs"] = [
            {"name": each.name, "parameters": {"binary_data": True} | _placed(each.place)}
            for each in outputs
        ]
    else:
        own["binary_data_output"] = True
    if own:
        header["parameters"] = own
    return strict_json.dumps(header)


def _placed(place: Place | None) -> dict[str, Parameter]:
    return {} if place is None else place.parameters(place.size)


@functools.lru_cache(maxsize=256)
def _usual_header(
    inputs: tuple[_Sent, ...], outputs: tuple[_Wanted, ...], said: tuple[_Said, ...]
) -> bytes:
    return _header(inputs, outputs, "", {each.name: each.value for each in said})


def decode_response(
    body: memoryview,
    header_bytes: int | None,
    limits: Limits,
    places: Mapping[str, memoryview] = _NOWHERE,
) -> InferResponse:
    """Read an inference response.

    Args:
        body: the whole body, uncompressed. Arrays are views of it.
        header_bytes: value of `Inference-Header-Content-Length`, or None where it is missing.
        limits: what may come.
        places: output name -> the memory in which the request wanted it; its array is a view.

    Returns:
        The response, with timing and digest where the server tells them.

    Raises:
        ConnectionFailed: the body is no response of the protocol.
    """
    try:
        head, tail = split(body, header_bytes)
        repeats = header_bytes is not None or bool(places)
        if repeats and len(head) <= REMEMBERED_HEADER_BYTES:
            answer = _remembered_answer(bytes(head), len(tail), limits)
        else:
            answer = _read_answer(head, len(tail), limits)
        outputs: dict[str, Value] = {}
        for entry in answer.outputs:
            if isinstance(entry, _Shared):
                outputs[entry.name] = entry.array(places)
            else:
                outputs[entry.name] = entry.array(tail)
    except InvalidRequest as error:
        raise ConnectionFailed(f"the server's answer cannot be read: {error}") from error
    response = InferResponse(answer.model, answer.version, outputs, answer.id)
    response.digest = answer.digest
    if answer.timing is not None:
        response.timing = replace(answer.timing)
    return response


def _read_answer(head: bytes | memoryview, tail_bytes: int, limits: Limits) -> _Answer:
    fields = strict_json.loads(head, limits)
    if not isinstance(fields, dict):
        raise InvalidRequest("it is no JSON object")
    told = fields.get("parameters")
    parameters = told if isinstance(told, dict) else {}
    return _Answer(
        model=str(fields.get("model_name", "")),
        version=str(fields.get("model_version", "")),
        id=str(fields.get("id", "")),
        outputs=_read_outputs(fields.get("outputs"), tail_bytes, limits),
        timing=read_timing(parameters),
        digest=str(parameters.get("digest", "")),
    )


_remembered_answer = functools.lru_cache(maxsize=256)(_read_answer)


def _read_outputs(
    told: object, tail_bytes: int, limits: Limits
) -> tuple[TensorEntry | _Shared, ...]:
    """Read the outputs in their order; one without any data is in shared memory."""
    items = checked_list(told, "outputs", limits.max_tensors)
    shared = {id(item): _read_shared(item) for item in items if _lacks_data(item)}
    sent = [item for item in items if id(item) not in shared]
    entries = iter(read_tensors(sent, "output", tail_bytes, limits, shared=False))
    outputs = tuple(shared.get(id(item)) or next(entries) for item in items)
    check_unique((each.name for each in outputs), "output")
    return outputs


def _lacks_data(item: object) -> bool:
    if not isinstance(item, dict) or "data" in item:
        return False
    parameters = item.get("parameters")
    return not (isinstance(parameters, dict) and "binary_data_size" in parameters)


def _read_shared(item: object) -> _Shared:
    assert isinstance(item, dict)
    name = checked_name(item.get("name"), "an output")
    what = f"output {name!r:.60}"
    row = datatype(item.get("datatype"))
    dims = item.get("shape")
    if not isinstance(dims, list):
        raise InvalidRequest(f'{what}: "shape" must be a list of integers')
    count = element_count(dims, what)
    if row.wire_bytes is None:
        raise InvalidRequest(f"{what}: BYTES has no place in shared memory")
    return _Shared(name, row, tuple(dims), count * row.wire_bytes)


def _row_for(name: str, array: Array, given: str | None) -> Datatype:
    found = datatype_name(array)
    row = datatype(given or found)
    if not given:
        return row
    fits = row.dtype == np.dtype(np.float32) if found == "FP32" else row.name == found
    if not fits:
        raise InvalidRequest(f"input {name!r:.60} is {found}, so it cannot be sent as {row.name}")
    return row
