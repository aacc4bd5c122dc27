from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from pelton.errors import InvalidRequest, LoadFailed
from pelton.runtimes.contract import LoadedModel, RuntimeOptions
from pelton.runtimes.onnx import devices
from pelton.runtimes.onnx.model import load
from pelton.runtimes.onnx.session import runner, session_settings
from pelton.specs import ModelSpec, TensorSpec
from pelton.tensors import DATATYPES
from runtimes.onnx_files import external, identity, linear, model_of, value, weights

X = np.array([[1, 2]], np.float32)
Y = np.array([[6, 9, 12]], np.float32)


def opened(
    folder: Path, model: onnx.ModelProto | bytes, server: RuntimeOptions | None = None, **spec: Any
) -> LoadedModel:
    path = folder / "m.onnx"
    path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
    return load(ModelSpec("m", 1, path, "onnx", **spec), server or RuntimeOptions())


def test_metadata_comes_from_the_file(tmp_path: Path) -> None:
    told = opened(tmp_path, linear({"labels": '["a", "b", "c"]'})).metadata
    assert told.platform == "onnxruntime_onnx"
    assert told.inputs == (TensorSpec("x", "FP32", (-1, 2)),)
    assert told.outputs == (TensorSpec("y", "FP32", (-1, 3)),)
    assert told.labels_of("y") == ("a", "b", "c")
    assert told.parameters == 6
    assert told.device == "cpu"
    assert told.size_bytes == (tmp_path / "m.onnx").stat().st_size


def test_labels_of_model_toml_come_before_those_of_the_file(tmp_path: Path) -> None:
    model = opened(tmp_path, linear({"labels": '["a"]'}), labels={"": ("z",)})
    assert model.metadata.labels_of("y") == ("z",)


@pytest.mark.parametrize("text", ["cat,dog", "[1]", '["\\ud800"]', "{}", "[" * 100_000])
def test_labels_of_another_form_are_passed_over(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert opened(tmp_path, linear({"labels": text})).metadata.labels == {}
    assert "its metadata entry 'labels' is no JSON list of texts" in caplog.text


@pytest.mark.parametrize("datatype", sorted(DATATYPES))
def test_every_datatype_goes_in_and_comes_out(tmp_path: Path, datatype: str) -> None:
    kinds = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
    kind = TensorProto.DataType.Value(kinds.get(datatype, datatype.replace("BF16", "BFLOAT16")))
    model = opened(tmp_path, identity(kind))
    assert model.metadata.inputs == (TensorSpec("x", datatype, (-1,)),)
    row = DATATYPES[datatype]
    for length in (3, 0):
        array = np.array([0, 1, 1][:length]).astype(row.dtype)
        if datatype == "BYTES":
            array = np.array([b"", b"a\0b", "\u00fc".encode()][:length], np.object_)
        given = model.run({"x": array})["y"]
        assert given.dtype == row.dtype
        assert given.tolist() == array.tolist()
    model.close()


def test_bfloat16_is_rounded_and_computed(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["wide", "wide"], ["sum"]),
        helper.make_node("Cast", ["sum"], ["y"], to=TensorProto.BFLOAT16),
    ]
    ends = [value(name, TensorProto.BFLOAT16, ["n", 2]) for name in "xy"]
    model = opened(tmp_path, model_of(nodes, ends[:1], ends[1:]))
    given = model.run({"x": np.array([[1.0, 1.00390625], [3.1415927, -0.0]], np.float32)})["y"]
    assert given.tolist() == [[2.0, 2.0], [6.28125, -0.0]]
    assert model.run({"x": np.zeros((0, 2), np.float32)})["y"].shape == (0, 2)


def test_bfloat16_beside_other_types(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
        helper.make_node("Cast", ["i"], ["text"], to=TensorProto.STRING),
    ]
    ins = [value("x", TensorProto.BFLOAT16, ["n"]), value("i", TensorProto.INT64, ["n"])]
    outs = [value("wide", TensorProto.FLOAT, ["n"]), value("text", TensorProto.STRING, ["n"])]
    model = opened(tmp_path, model_of(nodes, ins, outs))
    given = model.run({"x": np.array([0.5], np.float32), "i": np.array([7])})
    assert given["wide"].tolist() == [0.5]
    assert given["text"].tolist() == [b"7"]


def test_text_inputs_beside_bfloat16_are_refused(tmp_path: Path) -> None:
    both = [value("x", TensorProto.BFLOAT16, ["n"]), value("t", TensorProto.STRING, ["n"])]
    outs = [value("y", TensorProto.BFLOAT16, ["n"]), value("u", TensorProto.STRING, ["n"])]
    nodes = [helper.make_node("Identity", [a], [b]) for a, b in (("x", "y"), ("t", "u"))]
    with pytest.raises(LoadFailed, match="takes text and has bfloat16"):
        opened(tmp_path, model_of(nodes, both, outs))


def test_text_that_is_not_utf8_is_the_callers_fault(tmp_path: Path) -> None:
    model = opened(tmp_path, identity(TensorProto.STRING, ["n", "m"]))
    with pytest.raises(InvalidRequest, match="input 'x': element 1 is not UTF-8 text"):
        model.run({"x": np.array([[b"fine", b"\xff"]], np.object_)})
    with pytest.raises(InvalidRequest, match="element 0 is not UTF-8"):
        model.run({"x": np.array([[5]], np.object_)})
    assert model.run({"x": np.array([["text"]])})["y"].tolist() == [[b"text"]]


def test_onnxruntime_gets_aligned_arrays_and_no_needless_copies(tmp_path: Path) -> None:
    model: Any = opened(tmp_path, linear())
    seen: list[np.ndarray] = []

    def compute(names: list[str], feed: dict[str, np.ndarray], how: object) -> list[np.ndarray]:
        seen.append(feed["x"])
        return [Y]

    model._compute = compute
    raw = np.zeros(X.nbytes + 4, np.uint8)
    unaligned = raw[1 : 1 + X.nbytes].view(np.float32).reshape(X.shape)
    unaligned[:] = X
    assert not unaligned.flags.aligned
    model.run({"x": unaligned})
    model.run({"x": X})
    assert seen[0].flags.aligned
    assert seen[0].tolist() == X.tolist()
    assert seen[1] is X


def test_a_session_that_hides_nothing_is_run_as_it_is() -> None:
    class Session:
        def run(self, names: list[str], feed: dict[str, np.ndarray], how: object) -> list[str]:
            return names

    assert runner(Session())(["y"], {}, None) == ["y"]


def test_a_refused_shape_is_told_without_inner_names(tmp_path: Path) -> None:
    model = opened(tmp_path, linear())
    with pytest.raises(InvalidRequest) as refusal:
        model.run({"x": np.zeros((1, 5), np.float32)})
    assert refusal.value.message == (
        "the model refuses its inputs: Got invalid dimensions for input: x for the following "
        "indices index: 1 Got: 5 Expected: 2"
    )
    assert model.run({"x": X})["y"].tolist() == Y.tolist()


def test_a_refused_value_is_told_without_inner_names(tmp_path: Path) -> None:
    gather = model_of(
        [helper.make_node("Gather", ["w", "i"], ["y"], name="secret_node")],
        [value("i", TensorProto.INT64, ["n"])],
        [value("y", TensorProto.FLOAT, ["n", 3])],
        [weights("w", [4, 3])],
    )
    with pytest.raises(InvalidRequest) as refusal:
        opened(tmp_path, gather).run({"i": np.array([99])})
    assert refusal.value.message == (
        "the model refuses its inputs: indices element out of data bounds, idx=99 must be within "
        "the inclusive range [-4,3]"
    )


def test_a_failure_of_the_model_is_not_the_callers_fault(tmp_path: Path) -> None:
    reshape = model_of(
        [helper.make_node("Reshape", ["x", "to"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, [2, 3])],
        [helper.make_tensor("to", TensorProto.INT64, [2], [2, 3])],
    )
    model = opened(tmp_path, reshape)
    with pytest.raises(Exception, match="cannot be reshaped") as failure:
        model.run({"x": np.zeros(5, np.float32)})
    assert not isinstance(failure.value, InvalidRequest)


# Shapes and types that the protocol knows no word for.


def test_an_input_without_shape_must_be_declared(tmp_path: Path) -> None:
    shapeless = identity(TensorProto.FLOAT, None)
    with pytest.raises(LoadFailed, match="the input 'x' has no declared shape"):
        opened(tmp_path, shapeless)
    declared = TensorSpec("x", "FP32", (-1, 4))
    told = opened(tmp_path, shapeless, inputs=(declared,)).metadata
    assert told.inputs == (declared,)
    assert told.outputs == (TensorSpec("y", "FP32", (-1,)),)


def test_a_scalar_is_no_tensor_without_shape(tmp_path: Path) -> None:
    model = opened(tmp_path, identity(TensorProto.FLOAT, ()))
    assert model.metadata.inputs == (TensorSpec("x", "FP32", ()),)
    assert model.run({"x": np.array(3, np.float32)})["y"].shape == ()


def test_a_map_from_class_to_score_becomes_a_labelled_table(tmp_path: Path) -> None:
    kinds = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None)
    )
    scores = helper.make_value_info("scores", helper.make_sequence_type_proto(kinds))
    node = helper.make_node(
        "ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", classlabels_strings=["zebra", "ant"]
    )
    ends = [value("x", TensorProto.FLOAT, ["n", 2])]
    model = opened(tmp_path, model_of([node], ends, [scores]))
    assert model.metadata.outputs == (TensorSpec("scores", "FP32", (-1, 2)),)
    assert model.metadata.labels_of("scores") == ("zebra", "ant")
    given = model.run({"x": np.array([[0.25, 0.75], [1, 0]], np.float32)})["scores"]
    assert (given.dtype, given.tolist()) == (np.float32, [[0.25, 0.75], [1.0, 0.0]])
    assert model.run({"x": np.zeros((0, 2), np.float32)})["scores"].shape == (0, 2)


def test_sequences_are_refused_by_name(tmp_path: Path) -> None:
    parts = helper.make_tensor_sequence_value_info("parts", TensorProto.FLOAT, None)
    split = helper.make_node("SplitToSequence", ["x"], ["parts"])
    with pytest.raises(LoadFailed, match=r"the output 'parts' is a seq\(tensor\(float\)\)"):
        opened(tmp_path, model_of([split], [value("x", TensorProto.FLOAT, ["n"])], [parts]))
    at = helper.make_node("SequenceAt", ["parts", "i"], ["y"])
    index = value("i", TensorProto.INT64, [])
    with pytest.raises(LoadFailed, match=r"the input 'parts' is a seq\(tensor\(float\)\)"):
        opened(tmp_path, model_of([at], [parts, index], [value("y", TensorProto.FLOAT, ["n"])]))


def test_declared_shapes_narrow_those_of_the_file(tmp_path: Path) -> None:
    declared = TensorSpec("x", "FP32", (1, 2))
    assert opened(tmp_path, linear(), inputs=(declared,)).metadata.inputs == (declared,)
    wrong = TensorSpec("x", "FP16", (1, 2))
    with pytest.raises(LoadFailed, match="declares the input 'x' as FP16"):
        opened(tmp_path, linear(), inputs=(wrong,))


# Files that are broken or unsafe.


def test_a_broken_file_says_nothing_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    unknown = model_of(
        [helper.make_node("NoSuchOperator", ["x"], ["y"])],
        [value("x", TensorProto.FLOAT, ["n"])],
        [value("y", TensorProto.FLOAT, ["n"])],
    )
    with pytest.raises(LoadFailed) as refusal:
        opened(tmp_path, unknown)
    assert refusal.value.message.startswith("onnxruntime cannot load m.onnx: ")
    assert "NoSuchOperator" in refusal.value.message
    assert str(tmp_path) not in refusal.value.message
    assert len(refusal.value.message) < 400
    model = opened(tmp_path, linear())
    with pytest.raises(InvalidRequest):
        model.run({"x": np.zeros((1, 5), np.float32)})
    assert capfd.readouterr() == ("", "")


def test_weights_beside_the_model_are_loaded(tmp_path: Path) -> None:
    path = external(tmp_path, "weights.bin")
    model = load(ModelSpec("m", 1, path, "onnx"), RuntimeOptions())
    assert model.run({"x": X})["y"].tolist() == Y.tolist()
    assert model.metadata.size_bytes == path.stat().st_size + 24


def test_weights_are_found_beside_what_a_link_points_to(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    path = external(tmp_path / "real", "weights.bin")
    (tmp_path / "link.onnx").symlink_to(path)
    model = load(ModelSpec("m", 1, tmp_path / "link.onnx", "onnx"), RuntimeOptions())
    assert model.run({"x": X})["y"].tolist() == Y.tolist()


@pytest.mark.parametrize("location", ["../weights.bin", "{folder}/weights.bin", "link", "hard"])
def test_weights_elsewhere_are_never_opened(
    tmp_path: Path, location: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = external(folder, location.format(folder=tmp_path), keep="../weights.bin")
    (folder / "link").symlink_to(tmp_path / "weights.bin")
    (folder / "hard").hardlink_to(tmp_path / "weights.bin")
    monkeypatch.setattr(onnxruntime, "InferenceSession", lambda *_, **__: pytest.fail("opened"))
    with pytest.raises(LoadFailed, match="keeps weights in"):
        load(ModelSpec("m", 1, path, "onnx"), RuntimeOptions())


# Settings.


def test_options_reach_the_session() -> None:
    options = RuntimeOptions(
        threads=3, inter_op_threads=2, allow_spinning=True, graph_optimization="basic"
    )
    settings = session_settings(options)
    assert settings.intra_op_num_threads == 3
    assert settings.inter_op_num_threads == 2
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "1"
    assert settings.get_session_config_entry("session.inter_op.allow_spinning") == "1"
    level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    assert settings.graph_optimization_level == level


def test_idle_threads_do_not_spin_by_default() -> None:
    settings = session_settings(RuntimeOptions())
    assert settings.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    assert settings.get_session_config_entry("session.inter_op.allow_spinning") == "0"


def test_model_toml_overrides_the_servers_options(tmp_path: Path) -> None:
    model: Any = opened(
        tmp_path,
        linear(),
        RuntimeOptions(inter_op_threads=4, graph_optimization="all"),
        options={"inter_op_threads": 1, "graph_optimization": "none"},
    )
    settings = model._session.get_session_options()
    assert settings.inter_op_num_threads == 1
    level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    assert settings.graph_optimization_level == level


def test_an_unknown_level_of_optimization_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        LoadFailed, match="unknown graph_optimization 'most'; known are none, basic"
    ):
        opened(tmp_path, linear(), RuntimeOptions(graph_optimization="most"))


# Devices. This machine need not have any but the CPU: what onnxruntime offers is made up.


class CudaSession:
    """A session as it is on a machine with CUDA; `provides` is what then really runs it."""

    provides: list[str]

    def __init__(self, path: str, settings: Any, providers: list[Any], **_: Any) -> None:
        self._real = _REAL(path, settings, providers=["CPUExecutionProvider"])
        self._asked = providers

    def get_providers(self) -> list[str]:
        return self.provides if len(self._asked) > 1 else ["CPUExecutionProvider"]

    def get_provider_options(self) -> Any:
        name, options = self._asked[0]
        return {name: {key: str(one) for key, one in options.items()}}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


_REAL = onnxruntime.InferenceSession
BOTH = ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> type[CudaSession]:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: BOTH)
    monkeypatch.setattr(onnxruntime, "InferenceSession", CudaSession)
    monkeypatch.setattr(CudaSession, "provides", BOTH, raising=False)
    return CudaSession


def device_of(folder: Path, asked: str) -> str:
    return opened(folder, linear(), RuntimeOptions(device=asked)).metadata.device


def test_cuda_is_used_where_it_is(tmp_path: Path, cuda: type[CudaSession]) -> None:
    assert device_of(tmp_path, "cuda:1") == "cuda:1"
    assert device_of(tmp_path, "auto") == "cuda:0"
    assert device_of(tmp_path, "cpu") == "cpu"


def test_cuda_without_its_libraries(
    tmp_path: Path,
    cuda: type[CudaSession],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(cuda, "provides", ["CPUExecutionProvider"])
    with pytest.raises(LoadFailed, match="CUDA or cuDNN libraries or the device itself"):
        device_of(tmp_path, "cuda:0")
    with caplog.at_level(logging.WARNING, "pelton.runtimes"):
        assert device_of(tmp_path, "auto") == "cpu"
    assert "the CPU is used: onnxruntime cannot use CUDA" in caplog.text


def test_cuda_is_refused_where_onnxruntime_is_built_for_the_cpu(tmp_path: Path) -> None:
    assert device_of(tmp_path, "auto") == "cpu"
    with pytest.raises(LoadFailed, match=r"no such device here; .* pip install onnxruntime-gpu"):
        device_of(tmp_path, "cuda:0")


def test_devices_are_listed() -> None:
    assert "CPU" in devices()
