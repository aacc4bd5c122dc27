"""The walk over an ONNX file: what it finds, and what it refuses."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import DecodeError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from pelton.errors import LoadFailed
from pelton.runtimes.onnx.file import CHILDREN, OnnxFacts, check_external, read_facts
from runtimes.onnx_files import identity, linear, model_of, point_outside, value, weights


def facts_of(folder: Path, model: onnx.ModelProto | bytes) -> OnnxFacts:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return read_facts(path)


def outside(name: str) -> onnx.TensorProto:
    tensor = weights(name, [2])
    point_outside(tensor, name)
    return tensor


def in_initializer(model: onnx.ModelProto, name: str) -> None:
    model.graph.initializer.append(outside(name))


def in_sparse_initializer(model: onnx.ModelProto, name: str) -> None:
    model.graph.sparse_initializer.add().values.CopyFrom(outside(name))


def in_sparse_indices(model: onnx.ModelProto, name: str) -> None:
    model.graph.sparse_initializer.add().indices.CopyFrom(outside(name))


def in_attribute(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.add().attribute.add().t.CopyFrom(outside(name))


def in_attribute_list(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.add().attribute.add().tensors.append(outside(name))


def in_sparse_attribute(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.add().attribute.add().sparse_tensor.values.CopyFrom(outside(name))


def in_sparse_attribute_list(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.add().attribute.add().sparse_tensors.add().indices.CopyFrom(outside(name))


def in_subgraph(model: onnx.ModelProto, name: str) -> None:
    model.graph.node.add().attribute.add().g.initializer.append(outside(name))


def in_subgraph_of_subgraph(model: onnx.ModelProto, name: str) -> None:
    inner = model.graph.node.add().attribute.add().graphs.add().node.add()
    inner.attribute.add().g.node.add().attribute.add().t.CopyFrom(outside(name))


def in_function(model: onnx.ModelProto, name: str) -> None:
    model.functions.add().node.add().attribute.add().t.CopyFrom(outside(name))


def in_function_default(model: onnx.ModelProto, name: str) -> None:
    model.functions.add().attribute_proto.add().t.CopyFrom(outside(name))


def in_training(model: onnx.ModelProto, name: str) -> None:
    model.training_info.add().initialization.initializer.append(outside(name))


def in_training_algorithm(model: onnx.ModelProto, name: str) -> None:
    model.training_info.add().algorithm.node.add().attribute.add().t.CopyFrom(outside(name))


PLACES: list[Callable[[onnx.ModelProto, str], None]] = [
    in_initializer,
    in_sparse_initializer,
    in_sparse_indices,
    in_attribute,
    in_attribute_list,
    in_sparse_attribute,
    in_sparse_attribute_list,
    in_subgraph,
    in_subgraph_of_subgraph,
    in_function,
    in_function_default,
    in_training,
    in_training_algorithm,
]


@pytest.mark.parametrize("place", PLACES)
def test_every_place_of_external_data_is_found(
    tmp_path: Path, place: Callable[[onnx.ModelProto, str], None]
) -> None:
    model = linear()
    place(model, "../secret")
    assert facts_of(tmp_path, model).locations == {"../secret"}


def test_the_table_holds_every_way_to_a_tensor() -> None:
    """Compare it with the schema of the `onnx` package, in which a new field may appear."""
    kinds = {
        "ModelProto": {"model"},
        "TrainingInfoProto": {"training"},
        "GraphProto": {"graph", "main_graph"},
        "FunctionProto": {"function"},
        "NodeProto": {"node"},
        "AttributeProto": {"attribute"},
        "SparseTensorProto": {"sparse_initializer", "sparse_tensor"},
        "TensorProto": {"initializer", "tensor"},
    }

    def messages(start: Descriptor) -> Iterator[Descriptor]:
        found, waiting = {start.name: start}, [start]
        while waiting:
            for field in waiting.pop().fields:
                inner = field.message_type
                if inner is not None and inner.name not in found:
                    found[inner.name] = inner
                    waiting.append(inner)
        yield from found.values()

    def holds_tensor(message: Descriptor) -> bool:
        return any(one.name == "TensorProto" for one in messages(message))

    checked = 0
    for message in messages(onnx.ModelProto.DESCRIPTOR):
        for field in message.fields:
            inner = field.message_type
            if message.name == "TensorProto" or inner is None or not holds_tensor(inner):
                continue
            for kind in kinds[message.name]:
                assert CHILDREN[kind].get(field.number) in kinds[inner.name], field.full_name
                checked += 1
    assert checked >= 20


def test_external_data_of_a_tensor_that_says_it_is_internal_is_found(tmp_path: Path) -> None:
    model = linear()
    model.graph.initializer[0].external_data.add(key="location", value="x")
    model.graph.initializer[0].external_data.add(key="offset", value="y")
    assert facts_of(tmp_path, model).locations == {"x"}


def test_a_location_written_twice_is_found_twice(tmp_path: Path) -> None:
    model = linear()
    for name in ("inside", "../outside"):
        model.graph.initializer[0].external_data.add(key="location", value=name)
    assert facts_of(tmp_path, model).locations == {"inside", "../outside"}


def test_parameters_are_the_floating_elements_of_initializers(tmp_path: Path) -> None:
    model = linear()
    model.graph.initializer.append(weights("h", [5], TensorProto.FLOAT16))
    model.graph.initializer.append(weights("d", [2, 2, 2], TensorProto.DOUBLE))
    model.graph.initializer.append(weights("i", [100], TensorProto.INT64))
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [1.0]))
    in_attribute(model, "x")
    assert facts_of(tmp_path, model).parameters == 6 + 5 + 8 + 1


def test_dimensions_are_read_packed_and_unpacked(tmp_path: Path) -> None:
    # ModelProto.graph{initializer{dims: 3, dims: 4, data_type: FLOAT}}, then the same packed.
    unpacked = bytes([0x3A, 8, 0x2A, 6, 0x08, 3, 0x08, 4, 0x10, 1])
    packed = bytes([0x3A, 8, 0x2A, 6, 0x0A, 2, 3, 4, 0x10, 1])
    assert facts_of(tmp_path, unpacked).parameters == 12
    assert facts_of(tmp_path, packed).parameters == 12
    assert onnx.ModelProto.FromString(packed).graph.initializer[0].dims == [3, 4]


def test_properties_and_missing_shapes_are_found(tmp_path: Path) -> None:
    facts = facts_of(tmp_path, linear({"labels": '["a"]', "author": "\u00e4"}))
    assert facts.properties == {"labels": '["a"]', "author": "\u00e4"}
    assert facts.unranked == set()
    assert facts_of(tmp_path, identity(TensorProto.FLOAT, None)).unranked == {"x", "y"}
    assert facts_of(tmp_path, identity(TensorProto.FLOAT, ())).unranked == set()


def zip_map(**classes: object) -> onnx.ModelProto:
    node = helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", **classes)
    return model_of([node], [value("x", TensorProto.FLOAT, ["n", 2])], [])


def test_the_classes_of_a_zip_map_are_found(tmp_path: Path) -> None:
    named = zip_map(classlabels_strings=["cat", "dog"])
    assert facts_of(tmp_path, named).zip_maps == {"scores": ("cat", "dog")}
    numbered = zip_map(classlabels_int64s=[-1, 7])
    assert facts_of(tmp_path, numbered).zip_maps == {"scores": ("-1", "7")}


# What is no model.


def nested(levels: int) -> bytes:
    """A graph in an attribute of a node of a graph, and so on."""
    model = b""
    for _ in range(levels):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            size = len(model)
            varint = bytearray()
            while size >= 0x80:
                varint.append(size & 0x7F | 0x80)
                size >>= 7
            model = bytes([tag]) + bytes(varint) + bytes([size]) + model
    return model


def as_graph(inner: bytes) -> bytes:
    assert len(inner) < 2**14
    return bytes([0x3A, len(inner) & 0x7F | 0x80, len(inner) >> 7]) + inner


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "is empty"),
        (b"hello world", "unknown wire type|longer than|in the middle"),
        (b"\x3a\x05\x0a", "a field is longer than what holds it"),
        (b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\x7f", "a field is longer than what holds it"),
        (b"\x3a\x80", "it ends in the middle of a number"),
        (b"\x08" + b"\xff" * 11, "a number in it is too long"),
        (b"\x09\x00", "a field is longer than what holds it"),
        (b"\x02\x00", "a field has no proper number"),
        (b"\xba\x80\x80\x80\x10\x00", "a field has no proper number"),
        (b"\x0b\x0c", "unknown wire type 3"),
        (as_graph(nested(40)), "nested more than 100 deep"),
        (as_graph(b"\x2a\x84\x01" + b"\x08\x01" * 66), "more than 64 dimensions"),
        (as_graph(b"\x2a\x43\x0a\x41" + b"\x01" * 65), "more than 64 dimensions"),
    ],
)
def test_what_is_no_model_is_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    with pytest.raises(LoadFailed, match=reason) as refusal:
        facts_of(tmp_path, data)
    assert refusal.value.message.startswith("m.onnx is ")


def test_nesting_that_protobuf_allows_is_followed(tmp_path: Path) -> None:
    assert facts_of(tmp_path, as_graph(nested(32))).parameters == 0


def test_every_truncation_is_refused_or_read(tmp_path: Path) -> None:
    whole = linear({"labels": "[]"}).SerializeToString()
    refused = 0
    for length in range(1, len(whole)):
        try:
            facts_of(tmp_path, whole[:length])
        except LoadFailed:
            refused += 1
    assert refused > len(whole) // 2


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_model_never_crashes_the_walk(tmp_path: Path, data: st.DataObject) -> None:
    model = linear({"labels": "[]"})
    for place in PLACES:
        place(model, "w")
    damaged = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(LoadFailed):
        facts = facts_of(tmp_path, bytes(damaged))
        # Whatever protobuf finds in the same bytes, the walk must have found as well.
        with contextlib.suppress(DecodeError):
            for tensor in onnx.ModelProto.FromString(bytes(damaged)).graph.initializer:
                for entry in tensor.external_data:
                    name = os.fsdecode(entry.value)
                    assert entry.key != "location" or name in facts.locations


def test_a_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="cannot be read: Is a directory"):
        read_facts(tmp_path)


# Where external data may lie.


def test_files_beside_the_model_are_allowed(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.bin").write_bytes(b"12345")
    (tmp_path / "sub" / "b.bin").write_bytes(b"123")
    names = {"a.bin", "sub/b.bin"}
    assert check_external(tmp_path / "m.onnx", names) == 8
    assert check_external(tmp_path / "m.onnx", set()) == 0


@pytest.mark.parametrize(
    "name",
    ["/etc/passwd", "../secret", "sub/../../secret", "sub/..", "", ".", "a\\b", "a\0b", "\udcff"],
)
def test_names_that_lead_elsewhere_are_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    with pytest.raises(LoadFailed, match="no name inside the model's folder"):
        check_external(folder / "m.onnx", {name})


def test_a_memory_address_of_onnxruntime_is_refused(tmp_path: Path) -> None:
    with pytest.raises(LoadFailed, match="cannot be read"):
        check_external(tmp_path / "m.onnx", {"*/_ORT_MEM_ADDR_/*"})


def test_what_is_no_plain_file_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    secret = tmp_path / "secret"
    secret.write_text("secret")
    (folder / "link").symlink_to(secret)
    (folder / "linked").symlink_to(tmp_path)
    (folder / "hard").hardlink_to(secret)
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    for name, reason in {
        "link": "is a link",
        "linked/secret": "is a link",
        "hard": "is a hard link",
        "folder": "is no regular file",
        "pipe": "is no regular file",
        "missing": r"cannot be read \(No such file or directory\)",
    }.items():
        with pytest.raises(LoadFailed, match=f"m.onnx keeps weights in '{name}', which {reason}"):
            check_external(folder / "m.onnx", {name})


def test_bfloat16_rounds_to_nearest_even() -> None:
    from pelton.bfloat16 import narrow, widen

    ties = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x7F7FFFFF], np.uint32).view(np.float32)
    assert narrow(ties).tolist() == [0x3F80, 0x3F82, 0x3F81, 0x7F80]
    odd = np.array([np.inf, -np.inf, -0.0, 1e-40], np.float32)
    assert narrow(odd).tolist() == [0x7F80, 0xFF80, 0x8000, 0x0001]
    nans = np.array([0x7F800001, 0xFFFFFFFF], np.uint32).view(np.float32)
    assert np.isnan(widen(narrow(nans))).all()
    every = np.arange(2**16, dtype=np.uint16)
    kept = ~np.isnan(widen(every))
    assert np.array_equal(narrow(widen(every))[kept], every[kept])
    assert narrow(np.zeros((), np.float32)).shape == ()


@pytest.mark.parametrize("op_type", ["Loop", "Scan", "Identity"])
def test_loops_are_found_however_deep(tmp_path: Path, op_type: str) -> None:
    inner = helper.make_node(op_type, ["x"], ["y"], name="Loopy Scanner")
    branch = helper.make_graph([inner], "branch", [], [])
    outer = helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch)
    graph = helper.make_graph([outer], "graph", [], [])
    assert facts_of(tmp_path, helper.make_model(graph)).loops is (op_type != "Identity")
