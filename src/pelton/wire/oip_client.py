"""The Open Inference Protocol from the client's side: requests out, responses in."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pelton.errors import ConnectionFailed, InvalidRequest
from pelton.messages import InferResponse, Parameter
from pelton.tensors import Array, Datatype, datatype, datatype_name
from pelton.wire import strict_json
from pelton.wire.array_bytes import Buffer
from pelton.wire.limits import Limits
from pelton.wire.oip_message import EncodedMessage, check_not_reserved, message, read_tensors, split
from pelton.wire.oip_tensors import encode_binary


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
    own = dict(parameters or {})
    check_not_reserved(own)
    header: dict[str, Any] = {"id": request_id} if request_id else {}
    entries: list[dict[str, Any]] = []
    binaries: list[Buffer] = []
    for name, array in inputs.items():
        row = _row_for(name, array, (datatypes or {}).get(name))
        binary = encode_binary(row, array, f"input {name!r:.60}")
        binaries.append(binary)
        size = {"binary_data_size": len(binary)}
        entry = {"name": name, "shape": array.shape, "datatype": row.name, "parameters": size}
        entries.append(entry)
    header["inputs"] = entries
    if outputs:
        binary_data = {"binary_data": True}
        header["outputs"] = [{"name": name, "parameters": binary_data} for name in outputs]
    else:
        own["binary_data_output"] = True
    if own:
        header["parameters"] = own
    return message(strict_json.dumps(header), binaries)


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
        fields = strict_json.loads(head, limits)
        if not isinstance(fields, dict):
            raise InvalidRequest("it is no JSON object")
        entries = read_tensors(fields.get("outputs"), "output", len(tail), limits)
        return InferResponse(
            model=str(fields.get("model_name", "")),
            version=str(fields.get("model_version", "")),
            outputs={entry.name: entry.array(tail) for entry in entries},
            id=str(fields.get("id", "")),
        )
    except InvalidRequest as error:
        raise ConnectionFailed(f"the server's answer cannot be read: {error}") from error


def _row_for(name: str, array: Array, given: str | None) -> Datatype:
    found = datatype_name(array)
    row = datatype(given or found)
    fits = row.dtype == np.dtype(np.float32) if found == "FP32" else row.name == found
    if not fits:
        raise InvalidRequest(f"input {name!r:.60} is {found}, so it cannot be sent as {row.name}")
    return row
