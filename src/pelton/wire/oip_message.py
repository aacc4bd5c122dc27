"""What requests and responses of the Open Inference Protocol have in common.

    +---------------+----------------------------------------------+
    | JSON, N bytes | binary data, tensor after tensor, no padding |
    +---------------+----------------------------------------------+

N is told by the HTTP header `Inference-Header-Content-Length`; without it the whole body is
JSON. A tensor's entry in the JSON holds its elements as `data`, or says in the parameter
`binary_data_size` how many of the binary bytes are its own. Before binary data Pelton ends its
own JSON with spaces, up to a multiple of 64 bytes, so that a reader whose block is aligned need
not copy the first tensor.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pelton.errors import Code, InvalidRequest
from pelton.messages import Parameter
from pelton.tensors import Array, Datatype, check_byte_count, datatype, element_count
from pelton.wire.array_bytes import Buffer, array_of
from pelton.wire.element_lists import flatten
from pelton.wire.limits import Limits
from pelton.wire.oip_regions import NOT_ENABLED, PREFIX, Place, Regions, Write, read_place
from pelton.wire.oip_tensors import decode_binary, decode_json, expanded_bytes

REMEMBERED_HEADER_BYTES = 2048
"""JSON parts up to this size are remembered; longer ones are parsed each time."""

REMEMBERED_HEADERS = 256
"""So many are, of all clients together."""

_LENGTH_DIGITS = 15
_ALIGNMENT = 64
"""Bytes of a cache line, and of the widest vectors that a processor loads at once."""

_TENSOR_KEYS = ("name", "shape", "datatype", "parameters", "data")


@dataclass(slots=True)
class EncodedMessage:
    """A request or response, ready to be written.

    Attributes:
        header_bytes: size of the JSON part; None where there is nothing else.
        chunks: the pieces, to be written one after the other.
        size: bytes of all pieces.
    """

    header_bytes: int | None
    chunks: list[Buffer]
    size: int


@dataclass(frozen=True, slots=True)
class WantedOutput:
    """One output that a request asked for.

    Attributes:
        name: the output's name.
        binary: whether it is sent as binary data.
        classification: send this many of the highest classes instead; 0 sends the tensor.
        place: where in shared memory its bytes are written; None where they are sent.
    """

    name: str
    binary: bool
    classification: int = 0
    place: Place | None = None


@dataclass(frozen=True, slots=True)
class ReplyPlan:
    """How a response shall be written.

    Attributes:
        outputs: the outputs that were asked for; empty means all.
        binary: whether outputs that are not named there are sent as binary data.
        timing: whether it shall tell where the time went.
        writers: what writes the outputs that go to shared memory, by name.
        memory: of the writer of responses, for the next one: empty before the first.
    """

    outputs: tuple[WantedOutput, ...] = ()
    binary: bool = False
    timing: bool = False
    writers: Mapping[str, Write] = field(default_factory=dict, compare=False)
    memory: list[Any] = field(default_factory=list, compare=False, repr=False)

    @property
    def all_binary(self) -> bool:
        """Whether every output is sent or written as it lies in memory."""
        if not self.outputs:
            return self.binary
        for output in self.outputs:
            if output.classification or not (output.binary or output.place):
                return False
        return True


@dataclass(frozen=True, slots=True)
class TensorEntry:
    """One tensor as the JSON part describes it; all its sizes agree.

    Attributes:
        name: its name.
        what: how errors name it.
        row: its datatype.
        shape: its dimensions.
        start: where its bytes begin in the binary part.
        size: how many they are.
        data: its elements in row-major order, or None where they are bytes.
        place: where in shared memory its bytes are; None where they are in the message.
    """

    name: str
    what: str
    row: Datatype
    shape: tuple[int, ...]
    start: int
    size: int
    data: list[Any] | None = None
    place: Place | None = None

    def array(self, tail: memoryview, regions: Regions | None = None) -> Array:
        """Build the tensor.

        Args:
            tail: the binary part of the message.
            regions: finds what lies in shared memory.

        Raises:
            InvalidRequest: an element does not belong to the datatype, or the place in shared
                memory does not exist.
        """
        if self.data is not None:
            return decode_json(self.row, self.shape, self.data, self.what)
        if self.place is not None:
            assert regions is not None, "places are read only where regions are"
            raw = regions.view(self.place, self.what)
            if self.row.name == "BOOL":  # it is checked, and must not be changed after that
                raw = memoryview(bytes(raw))
        elif self.row.as_it_lies:
            return array_of(tail, self.row.dtype, self.shape, self.what, self.start)
        else:
            raw = tail[self.start : self.start + self.size]
        return decode_binary(self.row, self.shape, raw, self.what)


def parse_header_length(value: bytes | str) -> int:
    """Read the value of `Inference-Header-Content-Length`.

    Raises:
        InvalidRequest: it is anything but 1 to 15 ASCII digits.
    """
    text = value.decode("latin-1") if isinstance(value, bytes) else value
    if len(text) > _LENGTH_DIGITS or not (text.isascii() and text.isdigit()):
        raise malformed(f"Inference-Header-Content-Length is {text!r:.40}, which is no length")
    return int(text)


def message(header: bytes, binaries: Sequence[Buffer]) -> EncodedMessage:
    """Put the parts of a message together.

    Args:
        header: the JSON part.
        binaries: the bytes of each binary tensor; where all are empty, the body is all JSON.
    """
    binary_bytes = sum(map(len, binaries))
    if not binary_bytes:
        return EncodedMessage(None, [header], len(header))
    header += b" " * (-len(header) % _ALIGNMENT)
    return EncodedMessage(len(header), [header, *binaries], len(header) + binary_bytes)


def split(body: memoryview, header_bytes: int | None) -> tuple[memoryview, memoryview]:
    """Cut a body into its JSON part and its binary part.

    Raises:
        InvalidRequest: the JSON part would be longer than the body.
    """
    if header_bytes is None:
        return body, body[len(body) :]
    if header_bytes > len(body):
        raise malformed(
            f"Inference-Header-Content-Length is {header_bytes}, but the body has {len(body)} bytes"
        )
    return body[:header_bytes], body[header_bytes:]


def read_tensors(
    items: object, kind: str, tail_bytes: int, limits: Limits, shared: bool = False
) -> tuple[TensorEntry, ...]:
    """Read the entries of `inputs` or `outputs`, and check all their sizes.

    Args:
        items: the JSON value.
        kind: "input" or "output", for the errors.
        tail_bytes: size of the binary part, which the tensors must use up exactly.
        limits: `max_tensors`, and `max_body_bytes` for the arrays that will be made.
        shared: whether tensors may lie in shared memory.

    Raises:
        InvalidRequest: an entry is wrong by itself, has the name of another, or its sizes do
            not fit; `TOO_LARGE` where the arrays would take more memory than a body may.
    """
    entries: list[TensorEntry] = []
    start = 0
    for item in checked_list(items, f"{kind}s", limits.max_tensors):
        entry = _read_tensor(item, kind, start, tail_bytes, shared)
        start += entry.size
        entries.append(entry)
    check_unique((entry.name for entry in entries), kind)
    if start != tail_bytes:
        raise malformed(
            f"the {kind}s name {start} bytes of binary data, but {tail_bytes} follow the JSON"
        )
    _check_expansion(entries, kind, limits.max_body_bytes)
    return tuple(entries)


def checked_list(items: object, key: str, most: int) -> list[object]:
    """Check that a value is a list of at most `most` items."""
    if not isinstance(items, list):
        raise InvalidRequest(f'"{key}" must be a list')
    if len(items) > most:
        raise InvalidRequest(f'"{key}" has {len(items)} items; at most {most} are allowed')
    return items


def checked_object(value: object, known: tuple[str, ...], what: str) -> dict[str, Any]:
    """Check that a value is a JSON object with known keys only.

    A key that nobody reads would silently change nothing, so it is refused.
    """
    if not isinstance(value, dict):
        raise InvalidRequest(f"{what} must be a JSON object")
    for key in value:
        if key not in known:
            near = difflib.get_close_matches(key[:60], known, 1)
            cure = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
            raise InvalidRequest(f"{what} has the unknown key {key!r:.60}; {cure}")
    return value


def checked_name(value: object, what: str) -> str:
    """Check that a value is a tensor's name."""
    if not isinstance(value, str) or not value:
        raise InvalidRequest(f"{what} has no name")
    return value


def checked_parameters(value: object, what: str, shared: bool = False) -> dict[str, Parameter]:
    """Check a `parameters` object: strings, numbers and booleans by name.

    Args:
        value: the JSON value; None where there is none.
        what: how the error shall name its owner.
        shared: whether it may tell of shared memory.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise InvalidRequest(f'"parameters" of {what} must be a JSON object')
    for key, parameter in value.items():
        if not isinstance(parameter, str | int | float):
            raise InvalidRequest(
                f"parameter {key!r:.60} of {what} must be a string, a number or a boolean"
            )
        if not shared and key.startswith(PREFIX):
            raise InvalidRequest(f"{what}: {NOT_ENABLED}")
    return value


def check_unique(names: Iterable[str], kind: str) -> None:
    """Check that no tensor is named twice."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise InvalidRequest(f"{kind} {name!r:.60} is there twice")
        seen.add(name)


def check_not_reserved(parameters: Mapping[str, Parameter]) -> None:
    """Check that a request's own parameters leave the protocol's reserved names alone."""
    for key in parameters:
        if key == "headers" or key.startswith("triton_"):
            raise InvalidRequest(f"the parameter name {key!r:.60} is reserved")


def malformed(message: str) -> InvalidRequest:
    """Return the error for a message that cannot be taken apart."""
    return InvalidRequest(message, Code.MALFORMED_REQUEST)


def _read_tensor(item: object, kind: str, start: int, tail_bytes: int, shared: bool) -> TensorEntry:
    fields = checked_object(item, _TENSOR_KEYS, f"an {kind}")
    name = checked_name(fields.get("name"), f"an {kind}")
    what = f"{kind} {name!r:.60}"
    row = datatype(fields.get("datatype"))
    dims = fields.get("shape")
    if not isinstance(dims, list):
        raise InvalidRequest(f'{what}: "shape" must be a list of integers')
    count = element_count(dims, what)
    parameters = checked_parameters(fields.get("parameters"), what, shared)
    size = parameters.get("binary_data_size")
    place = read_place(parameters, what)
    if place is not None:
        if size is not None or "data" in fields:
            raise InvalidRequest(f"{what} lies in shared memory, so leave out its other data")
        _check_size(row, count, place.size, what)
        return TensorEntry(name, what, row, tuple(dims), start, 0, place=place)
    if (size is None) == ("data" not in fields):
        raise InvalidRequest(f'{what} needs either "data" or the parameter "binary_data_size"')
    if size is None:
        elements = _checked_data(fields["data"], dims, count, what)
        return TensorEntry(name, what, row, tuple(dims), start, 0, elements)
    if type(size) is not int or not 0 <= size <= tail_bytes - start:
        raise malformed(
            f'{what}: "binary_data_size" is {size!r:.40}, but {tail_bytes - start} bytes are left'
        )
    _check_size(row, count, size, what)
    return TensorEntry(name, what, row, tuple(dims), start, size)


def _checked_data(data: object, dims: list[int], count: int, what: str) -> list[Any]:
    if not isinstance(data, list):
        raise InvalidRequest(f'{what}: "data" must be a list')
    elements, _ = flatten(data, what)
    if len(elements) != count:
        raise InvalidRequest(
            f'{what}: shape {dims!r:.80} needs {count} elements, but "data" has {len(elements)}'
        )
    return elements


def _check_size(row: Datatype, count: int, size: int, what: str) -> None:
    if row.wire_bytes is not None:
        check_byte_count(row, count, size, what)
    elif 4 * count > size:
        raise InvalidRequest(f"{what}: {count} elements of BYTES need more than {size} bytes")


def _check_expansion(entries: list[TensorEntry], kind: str, most: int) -> None:
    total = 0
    for each in entries:
        size = each.size if each.place is None else each.place.size
        total += expanded_bytes(each.row, math.prod(each.shape), size)
    if total > most:
        raise InvalidRequest(
            f"the {kind}s would take {total} bytes of memory; at most {most} are allowed",
            Code.TOO_LARGE,
        )
