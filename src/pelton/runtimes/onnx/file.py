"""Reads of an ONNX file what must be known before onnxruntime may open it.

An ONNX file can name other files that hold its weights. Anyone who can write such a name could
have the server read any file of the machine, so every name in the file is checked first. The
`onnx` package could list them too, but it takes long to import and would hold the whole model a
second time; this walks over the bytes of the protocol buffer in place.

Field numbers are those of `onnx.proto`; the encoding is that of
https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import math
import mmap
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from pelton.errors import LoadFailed

MAX_DEPTH = 100
"""Deepest nesting of messages that is followed; the protobuf library allows no more."""

MAX_RANK = 64
"""Most dimensions that a tensor in the file may have."""

CHILDREN: dict[str, dict[int, str]] = {
    "model": {7: "main_graph", 14: "property", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "main_graph": {
        1: "node",
        5: "initializer",
        11: "value",
        12: "value",
        15: "sparse_initializer",
    },
    "graph": {1: "node", 5: "initializer", 15: "sparse_initializer"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse_tensor",
        23: "sparse_tensor",
    },
    "sparse_initializer": {1: "initializer", 2: "tensor"},
    "sparse_tensor": {1: "tensor", 2: "tensor"},
}
"""Kind of message -> number of a field that holds a message -> that message's kind.

These are all the ways from the model to a tensor, plus what else is of interest.
"""

_FLOATING = frozenset({1, 10, 11, 16, 17, 18, 19, 20, 23})
"""`TensorProto.DataType` of float, float16, double, bfloat16, the float8 kinds and float4."""

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(slots=True)
class OnnxFacts:
    """What a file says.

    Attributes:
        locations: the files that its tensors are kept in, as they are written.
        parameters: how many elements its floating-point initialisers have.
        properties: the model's own metadata.
        unranked: inputs and outputs that are declared without any shape.
        zip_maps: for each output of a `ZipMap` node, its classes in order.
        loops: whether there are loops in it.
    """

    locations: set[str] = field(default_factory=set)
    parameters: int = 0
    properties: dict[str, str] = field(default_factory=dict)
    unranked: set[str] = field(default_factory=set)
    zip_maps: dict[str, tuple[str, ...]] = field(default_factory=dict)
    loops: bool = False


_NOTED = (b"ZipMap", b"Loop", b"Scan")
"""Kinds of nodes that are looked at."""


class _Broken(Exception):
    """The bytes are no protocol buffer of a model."""


def read_facts(path: Path) -> OnnxFacts:
    """Walk over an ONNX file.

    Args:
        path: the file.

    Raises:
        LoadFailed: the file cannot be read or is no well-formed ONNX file.
    """
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _walk(data)
    except _Broken as error:
        raise LoadFailed(
            f"{path.name} is no ONNX model ({error}); export it again, or copy it again if the "
            "copy was cut short"
        ) from None
    except ValueError:
        raise LoadFailed(f"{path.name} is empty; export or copy it again") from None
    except OSError as error:
        raise LoadFailed(f"{path.name} cannot be read: {error.strerror}") from error


# A field as its number, its wire type, and either (value, 0) or the (start, stop) of its bytes.
_Field = tuple[int, int, int, int]


def _walk(data: mmap.mmap) -> OnnxFacts:
    facts = OnnxFacts()
    # A stack of half-read messages, so that no nesting in the file becomes recursion here.
    stack: list[tuple[str, Iterator[_Field]]] = [("model", _fields(data, 0, len(data)))]
    while stack:
        kind, fields = stack[-1]
        children = CHILDREN[kind]
        for number, wire, start, stop in fields:
            child = children.get(number) if wire == _LENGTH else None
            if child is None:
                continue
            if child in CHILDREN:
                if len(stack) == MAX_DEPTH:
                    raise _Broken(f"messages are nested more than {MAX_DEPTH} deep")
                if child == "node":
                    _note_node(data, start, stop, facts)
                stack.append((child, _fields(data, start, stop)))
                break
            _take(child, data, start, stop, facts)
        else:
            stack.pop()
    return facts


def _take(kind: str, data: mmap.mmap, start: int, stop: int, facts: OnnxFacts) -> None:
    if kind == "property":
        key, value = _entry(data, start, stop)
        facts.properties[key] = value
    elif kind == "value":
        _take_value(data, start, stop, facts)
    else:
        elements = _take_tensor(data, start, stop, facts)
        if kind == "initializer":
            facts.parameters += elements


def _take_tensor(data: mmap.mmap, start: int, stop: int, facts: OnnxFacts) -> int:
    """Note where a TensorProto is kept; return its number of floating-point elements."""
    dims: list[int] = []
    data_type = 0
    for number, wire, first, last in _fields(data, start, stop):
        if number == 1 and wire == _VARINT:
            dims.append(first)
        elif number == 1 and wire == _LENGTH:
            while first < last and len(dims) <= MAX_RANK:
                dim, first = _varint(data, first, last)
                dims.append(dim)
        elif number == 2 and wire == _VARINT:
            data_type = first
        elif number == 13 and wire == _LENGTH:
            key, value = _entry(data, first, last)
            if key == "location":
                facts.locations.add(value)
        if len(dims) > MAX_RANK:
            raise _Broken(f"a tensor has more than {MAX_RANK} dimensions")
    return math.prod(dims) if data_type in _FLOATING else 0


def _take_value(data: mmap.mmap, start: int, stop: int, facts: OnnxFacts) -> None:
    """Note a ValueInfoProto whose tensor type has no shape."""
    name, ranked = "", True
    for number, wire, first, last in _fields(data, start, stop):
        if number == 1 and wire == _LENGTH:
            name = _text(data, first, last)
        elif number == 2 and wire == _LENGTH:
            for kind, wire_, begin, end in _fields(data, first, last):
                if kind == 1 and wire_ == _LENGTH:
                    ranked = any(one[0] == 2 for one in _fields(data, begin, end))
    if not ranked:
        facts.unranked.add(name)


def _note_node(data: mmap.mmap, start: int, stop: int, facts: OnnxFacts) -> None:
    """Note that a node is a loop, or the classes if it turns a row of scores into a map."""
    if all(data.find(op_type, start, stop) < 0 for op_type in _NOTED):
        return
    op_type = output = ""
    classes: tuple[str, ...] = ()
    for number, wire, first, last in _fields(data, start, stop):
        if wire != _LENGTH:
            continue
        if number == 2:
            output = _text(data, first, last)
        elif number == 4:
            op_type = _text(data, first, last)
        elif number == 5:
            classes = _classes(data, first, last) or classes
    if op_type == "ZipMap":
        facts.zip_maps[output] = classes
    facts.loops |= op_type in ("Loop", "Scan")


def _classes(data: mmap.mmap, start: int, stop: int) -> tuple[str, ...]:
    """Return the values of an AttributeProto that lists integers or strings."""
    values: list[str] = []
    for number, wire, first, last in _fields(data, start, stop):
        if number == 8 and wire == _VARINT:
            values.append(str(_signed(first)))
        elif number == 8 and wire == _LENGTH:
            while first < last:
                value, first = _varint(data, first, last)
                values.append(str(_signed(value)))
        elif number == 9 and wire == _LENGTH:
            values.append(_text(data, first, last))
    return tuple(values)


def _entry(data: mmap.mmap, start: int, stop: int) -> tuple[str, str]:
    """Read a StringStringEntryProto."""
    key = value = ""
    for number, wire, first, last in _fields(data, start, stop):
        if number == 1 and wire == _LENGTH:
            key = _text(data, first, last)
        elif number == 2 and wire == _LENGTH:
            value = _text(data, first, last)
    return key, value


def _text(data: mmap.mmap, start: int, stop: int) -> str:
    return data[start:stop].decode(errors="surrogateescape")


def _fields(data: mmap.mmap, at: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message that lies in `data[at:end]`."""
    while at < end:
        tag, at = _varint(data, at, end)
        # Other readers may cut a tag to 32 bits, and then see a field that was passed over here.
        if not 8 <= tag < 1 << 32:
            raise _Broken("a field has no proper number")
        wire = tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at, end)
            yield tag >> 3, wire, value, 0
            continue
        if wire == _LENGTH:
            size, at = _varint(data, at, end)
        elif wire == _FIXED64:
            size = 8
        elif wire == _FIXED32:
            size = 4
        else:
            raise _Broken(f"a field has the unknown wire type {wire}")
        if size > end - at:
            raise _Broken("a field is longer than what holds it")
        yield tag >> 3, wire, at, at + size
        at += size


def _varint(data: mmap.mmap, at: int, end: int) -> tuple[int, int]:
    """Read a base-128 number; return it and the place after it."""
    value = shift = 0
    while at < end:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _Broken("a number in it is too long")
    raise _Broken("it ends in the middle of a number")


def _signed(value: int) -> int:
    return value - (1 << 64) if value >> 63 else value


def check_external(path: Path, locations: set[str]) -> int:
    """Check that the files which an ONNX file names lie beside it and are nothing but files.

    Args:
        path: the ONNX file, with links resolved.
        locations: what it names.

    Returns:
        Size of those files in bytes.

    Raises:
        LoadFailed: a name leads out of the folder, or to a link, or to no regular file.
    """
    total_bytes = 0
    for location in sorted(locations):
        told = f"{path.name} keeps weights in {location!r:.120}"
        target = PurePosixPath(location)
        inside = not target.is_absolute() and ".." not in target.parts and target.parts
        if not inside or "\\" in location or not location.isprintable():
            raise LoadFailed(
                f"{told}, which is no name inside the model's folder; export it again with its "
                "weights beside it"
            )
        total_bytes += _file_bytes(path.parent, target, told)
    return total_bytes


def _file_bytes(folder: Path, target: PurePosixPath, told: str) -> int:
    step = folder
    try:
        for part in target.parts:
            step = step / part
            found = step.lstat()
            if stat.S_ISLNK(found.st_mode):
                raise LoadFailed(f"{told}, which is a link; put a copy of the file there instead")
    except OSError as error:
        raise LoadFailed(
            f"{told}, which cannot be read ({error.strerror}); copy it beside the model"
        ) from None
    if not stat.S_ISREG(found.st_mode):
        raise LoadFailed(f"{told}, which is no regular file; copy the weights there")
    if found.st_nlink > 1:
        raise LoadFailed(
            f"{told}, which is a hard link to a file that is also elsewhere; "
            "put a copy of the file there instead"
        )
    return found.st_size
