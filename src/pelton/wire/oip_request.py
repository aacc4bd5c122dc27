"""A request of the Open Inference Protocol, as the server reads it.

    body -> JSON part, binary part -> entries of the inputs -> arrays that are views of the body

A client that asks the same thing again sends the same JSON part again, byte for byte, and only
the tensors differ. So the entries of short JSON parts are remembered. They are a function of
these bytes, the size of the binary part, the limits, and whether shared memory is allowed, and of
nothing else: what lies in shared memory is looked up each time.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from pelton.errors import InvalidRequest
from pelton.messages import InferRequest, Parameter
from pelton.specs import ModelMetadata, TensorSpec
from pelton.tensors import MAX_DIM, Array, check_byte_count, datatype
from pelton.wire import strict_json
from pelton.wire.element_lists import object_array
from pelton.wire.limits import Limits
from pelton.wire.oip_message import (
    REMEMBERED_HEADER_BYTES,
    REMEMBERED_HEADERS,
    ReplyPlan,
    TensorEntry,
    WantedOutput,
    check_not_reserved,
    check_unique,
    checked_list,
    checked_name,
    checked_object,
    checked_parameters,
    read_tensors,
    split,
)
from pelton.wire.oip_regions import Regions, read_place
from pelton.wire.oip_tensors import decode_binary

_KEYS = ("id", "parameters", "inputs", "outputs", "model_name", "model_version")


@dataclass(slots=True, eq=False)
class _Header:
    """The JSON part, checked as far as it can be without the model.

    Attributes:
        limits: by which it was checked.
        changeable: whether an input lies in memory of the client's own.
        is_one_piece: whether the binary part is the only input, as it lies in memory.
        fits: the model that it was compared with last, and fits.
    """

    id: str
    model_name: str | None
    model_version: str | None
    timeout_s: float
    priority: int
    parameters: Mapping[str, Parameter]
    inputs: tuple[TensorEntry, ...]
    outputs: tuple[str, ...]
    plan: ReplyPlan
    limits: Limits
    changeable: bool
    is_one_piece: bool
    fits: ModelMetadata | None = None


def decode_request(
    body: memoryview,
    header_bytes: int | None,
    metadata: ModelMetadata,
    limits: Limits,
    arrived_s: float = 0.0,
    regions: Regions | None = None,
) -> tuple[InferRequest, ReplyPlan]:
    """Read an inference request.

    Args:
        body: the whole body, uncompressed. Arrays are views of it, so it must stay as it is
            for as long as they live.
        header_bytes: value of `Inference-Header-Content-Length`; None where the header is
            missing; 0 for a raw request, whose body is the only input's bytes.
        metadata: of the model that is asked. Whether the inputs are those that it takes is the
            engine's check.
        limits: what may come.
        arrived_s: when the request came, on the clock of its deadline.
        regions: finds tensors in shared memory; None where the caller may not use any.

    Returns:
        The request, for whichever version the server picks; and how to write its response.

    Raises:
        InvalidRequest: the message cannot be taken apart (`MALFORMED_REQUEST`), its arrays would
            be too large (`TOO_LARGE`), or something in it is wrong (`INVALID_INPUT`).
    """
    if header_bytes == 0:
        return _raw_request(body, metadata)
    head, tail = split(body, header_bytes)
    shared = regions is not None
    # What lies in shared memory leaves nothing in the body that differs from one to the next.
    remembered = (header_bytes is not None or shared) and len(head) <= REMEMBERED_HEADER_BYTES
    header = (_remembered_header if remembered else _read_header)(head, len(tail), limits, shared)
    if header.fits is not metadata:
        _check_against_model(header, metadata)
    request = InferRequest(
        metadata.name,
        _arrays(header.inputs, tail, regions),
        None,
        header.outputs,
        header.id,
        dict(header.parameters) if header.parameters else header.parameters,
        arrived_s + header.timeout_s,
        header.priority,
    )
    request.changeable, request.form = header.changeable, header if remembered else None
    request.elements = tail if header.is_one_piece else None
    return request, header.plan if regions is None else _with_writers(header.plan, regions)


def _arrays(
    entries: tuple[TensorEntry, ...], tail: memoryview, regions: Regions | None
) -> dict[str, Array]:
    arrays = {}
    for entry in entries:
        arrays[entry.name] = entry.array(tail, regions)
    return arrays


def _with_writers(plan: ReplyPlan, regions: Regions) -> ReplyPlan:
    """Find the places of the outputs before the model is run for nothing."""
    writers = {
        output.name: regions.writer(output.place, f"output {output.name!r:.60}")
        for output in plan.outputs
        if output.place is not None
    }
    return replace(plan, writers=writers) if writers else plan


def _read_header(
    head: bytes | memoryview, tail_bytes: int, limits: Limits, shared: bool
) -> _Header:
    fields = checked_object(strict_json.loads(head, limits), _KEYS, "the request")
    if "inputs" not in fields:
        raise InvalidRequest('the request has no "inputs"')
    parameters = checked_parameters(fields.get("parameters"), "the request")
    check_not_reserved(parameters)
    binary = parameters.pop("binary_data_output", False)
    if not isinstance(binary, bool):
        raise InvalidRequest('the parameter "binary_data_output" must be a boolean')
    timing = parameters.pop("timing", False)
    if not isinstance(timing, bool):
        raise InvalidRequest('the parameter "timing" must be a boolean')
    timeout_us = _pop_count(parameters, "timeout", "of microseconds")
    outputs = _wanted_outputs(fields.get("outputs", []), binary, limits, shared)
    inputs = read_tensors(fields["inputs"], "input", tail_bytes, limits, shared)
    return _Header(
        id=_text(fields, "id") or "",
        model_name=_text(fields, "model_name"),
        model_version=_text(fields, "model_version"),
        timeout_s=timeout_us / 1e6 if timeout_us else math.inf,
        priority=_pop_count(parameters, "priority", "from 0 on"),
        parameters=parameters,
        inputs=inputs,
        outputs=tuple(output.name for output in outputs),
        plan=ReplyPlan(outputs, binary, timing),
        limits=limits,
        changeable=any(entry.place is not None for entry in inputs),
        is_one_piece=len(inputs) == 1 and inputs[0].size > 0 and inputs[0].row.as_it_lies,
    )


_remembered: dict[tuple[bytes, int, bool], _Header] = {}


def _remembered_header(head: memoryview, tail_bytes: int, limits: Limits, shared: bool) -> _Header:
    key = (bytes(head), tail_bytes, shared)
    header = _remembered.get(key)
    # Hashing the limits each time would cost more than the rest of this.
    if header is None or header.limits is not limits:
        header = _read_header(key[0], tail_bytes, limits, shared)
        if len(_remembered) >= REMEMBERED_HEADERS:
            _remembered.clear()
        _remembered[key] = header
    return header


def _text(fields: Mapping[str, object], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise InvalidRequest(f'"{key}" must be a string')
    return value


def _pop_count(parameters: dict[str, Parameter], key: str, told: str) -> int:
    value = parameters.pop(key, 0)
    if type(value) is not int or not 0 <= value <= MAX_DIM:
        raise InvalidRequest(
            f'the parameter "{key}" must be a whole number {told}, not {value!r:.40}'
        )
    return value


def _wanted_outputs(
    items: object, binary: bool, limits: Limits, shared: bool
) -> tuple[WantedOutput, ...]:
    outputs = tuple(
        _wanted_output(item, binary, shared)
        for item in checked_list(items, "outputs", limits.max_tensors)
    )
    check_unique((output.name for output in outputs), "output")
    return outputs


def _wanted_output(item: object, binary: bool, shared: bool) -> WantedOutput:
    fields = checked_object(item, ("name", "parameters"), "an output")
    name = checked_name(fields.get("name"), "an output")
    what = f"output {name!r:.60}"
    parameters = checked_parameters(fields.get("parameters"), what, shared)
    own_binary = parameters.get("binary_data", binary)
    if not isinstance(own_binary, bool):
        raise InvalidRequest(f'{what}: "binary_data" must be a boolean')
    classes = parameters.get("classification", 0)
    if type(classes) is not int or classes < 0:
        raise InvalidRequest(f'{what}: "classification" must be a number of classes')
    return WantedOutput(name, own_binary, classes, read_place(parameters, what))


def _check_against_model(header: _Header, metadata: ModelMetadata) -> None:
    if header.model_name not in (None, metadata.name):
        raise InvalidRequest(
            f"the request is for model {header.model_name!r:.60}, "
            f"but it was sent to {metadata.name!r}"
        )
    if header.model_version not in (None, "", metadata.version):
        raise InvalidRequest(
            f"the request is for version {header.model_version!r:.60}, "
            f"but it was sent to {metadata.version!r}"
        )
    known = [spec.name for spec in metadata.outputs]
    for name in header.outputs:
        if known and name not in known:
            raise InvalidRequest(
                f"model {metadata.name!r} has no output {name!r:.60}; "
                f"it gives {', '.join(known)!s:.400}"
            )
    header.fits = metadata


def _raw_request(body: memoryview, metadata: ModelMetadata) -> tuple[InferRequest, ReplyPlan]:
    """Read a body that is nothing but the bytes of a model's only input.

    Triton's binary tensor data extension, "Raw Binary Request": the shape follows from what the
    model declares and from the number of bytes, a whole BYTES body is one element, and all
    outputs are sent as binary data.
    """
    if len(metadata.inputs) != 1:
        raise InvalidRequest(
            "a raw request (Inference-Header-Content-Length: 0) needs a model with one input; "
            f"{metadata.name!r} declares {len(metadata.inputs)}"
        )
    (spec,) = metadata.inputs
    what = f"input {spec.name!r}"
    row = datatype(spec.datatype)
    if row.wire_bytes is None:
        if any(dim not in (-1, 1) for dim in spec.shape):
            raise InvalidRequest(
                f"{what}: a raw request holds one element, "
                f"but the model wants shape {list(spec.shape)}"
            )
        array = object_array([bytes(body)]).reshape([1] * len(spec.shape))
    else:
        shape = _raw_shape(spec, len(body) // row.wire_bytes, what)
        check_byte_count(row, math.prod(shape), len(body), what)
        array = decode_binary(row, shape, body, what)
    return InferRequest(metadata.name, {spec.name: array}), ReplyPlan(binary=True)


def _raw_shape(spec: TensorSpec, count: int, what: str) -> tuple[int, ...]:
    """Fill in the dimensions that a model leaves open.

    One open dimension follows from the number of elements. Of two, the first is the batch, and
    a raw request is a batch of one.
    """
    shape = list(spec.shape)
    if shape.count(-1) == 2 and shape[0] == -1:
        shape[0] = 1
    if shape.count(-1) > 1:
        raise InvalidRequest(
            f"{what}: its shape {list(spec.shape)} is too open for a raw request; send a header"
        )
    if -1 in shape:
        at = shape.index(-1)
        others = math.prod(shape[:at] + shape[at + 1 :])
        shape[at] = count // others if others else 0
    return tuple(shape)
