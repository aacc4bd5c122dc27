"""The Open Inference Protocol from the client's side: requests out, responses in.

A program asks the same thing again and again, and only the numbers differ. So the JSON parts of
requests that say nothing special are remembered, and what the JSON parts of answers mean.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pelton.errors import ConnectionFailed, InvalidRequest
from pelton.messages import InferResponse, Parameter
from pelton.tensors import Array, Datatype, datatype, datatype_name
from pelton.wire import strict_json
from pelton.wire.array_bytes import Buffer
from pelton.wire.limits import Limits
from pelton.wire.oip_message import (
    REMEMBERED_HEADER_BYTES,
    EncodedMessage,
    TensorEntry,
    check_not_reserved,
    message,
    read_tensors,
    split,
)
from pelton.wire.oip_tensors import encode_binary


class _Sent(NamedTuple):
    """An input as the JSON part tells of it."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size: int


class _Answer(NamedTuple):
    """The JSON part of a response, checked."""

    model: str
    version: str
    id: str
    outputs: tuple[TensorEntry, ...]


def encode_request(
    inputs: Mapping[str, Array],
    outputs: Sequence[str] = (),
    *,
    request_id: str = "",
    parameters: Mapping[str, Parameter] | None = None,
    datatypes: Mapping[str, str] | None = None,
) -> EncodedMessage:
    """Write an inference request whose tensors go as binary data, both ways.

    Args:
        inputs: input name -> array; text and bytes arrays go as BYTES.
        outputs: names of the wanted outputs; empty means all.
        request_id: echoed in the response.
        parameters: passed to the server as they are.
        datatypes: input name -> datatype, where the array's dtype does not tell it: `BF16` for a
            float32 array.

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
        binary = encode_binary(row, array, f"input {name!r:.60}")
        binaries.append(binary)
        entries.append(_Sent(name, row.name, array.shape, len(binary)))
    if request_id or parameters:
        own = dict(parameters or {})
        check_not_reserved(own)
        header = _header(tuple(entries), tuple(outputs), request_id, own)
    else:
        header = _usual_header(tuple(entries), tuple(outputs))
    return message(header, binaries)


def _header(
    inputs: tuple[_Sent, ...],
    outputs: tuple[str, ...],
    request_id: str,
    parameters: Mapping[str, Parameter],
) -> bytes:
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    header["inputs"] = [
        {
            "name": each.name,
            "shape": each.shape,
            "datatype": each.datatype,
            "parameters": {"binary_data_size": each.size},
        }
        for each in inputs
    ]
    own = dict(parameters)
    if outputs:
        binary_data = {"binary_data": True}
        header["outputs"] = [{"name": name, "parameters": binary_data} for name in outputs]
    else:
        own["binary_data_output"] = True
    if own:
        header["parameters"] = own
    return strict_json.dumps(header)


@functools.lru_cache(maxsize=256)
def _usual_header(inputs: tuple[_Sent, ...], outputs: tuple[str, ...]) -> bytes:
    return _header(inputs, outputs, "", {})


def decode_response(body: memoryview, header_bytes: int | None, limits: Limits) -> InferResponse:
    """Read an inference response.

    Args:
        body: the whole body, uncompressed. Arrays are views of it.
        header_bytes: value of `Inference-Header-Content-Length`, or None where it is missing.
        limits: what may come.

    Returns:
        The response, without timing.

    Raises:
        ConnectionFailed: the body is no response of the protocol.
    """
    try:
        head, tail = split(body, header_bytes)
        if header_bytes is not None and header_bytes <= REMEMBERED_HEADER_BYTES:
            answer = _remembered_answer(bytes(head), len(tail), limits)
        else:
            answer = _read_answer(head, len(tail), limits)
        outputs = {entry.name: entry.array(tail) for entry in answer.outputs}
    except InvalidRequest as error:
        raise ConnectionFailed(f"the server's answer cannot be read: {error}") from error
    return InferResponse(answer.model, answer.version, outputs, answer.id)


def _read_answer(head: bytes | memoryview, tail_bytes: int, limits: Limits) -> _Answer:
    fields = strict_json.loads(head, limits)
    if not isinstance(fields, dict):
        raise InvalidRequest("it is no JSON object")
    return _Answer(
        model=str(fields.get("model_name", "")),
        version=str(fields.get("model_version", "")),
        id=str(fields.get("id", "")),
        outputs=read_tensors(fields.get("outputs"), "output", tail_bytes, limits),
    )


_remembered_answer = functools.lru_cache(maxsize=256)(_read_answer)


def _row_for(name: str, array: Array, given: str | None) -> Datatype:
    found = datatype_name(array)
    row = datatype(given or found)
    if not given:
        return row
    fits = row.dtype == np.dtype(np.float32) if found == "FP32" else row.name == found
    if not fits:
        raise InvalidRequest(f"input {name!r:.60} is {found}, so it cannot be sent as {row.name}")
    return row
