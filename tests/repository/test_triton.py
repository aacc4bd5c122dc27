"""A repository of ONNX models as the Triton Inference Server has it."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

from pelton.errors import LoadFailed
from pelton.repository.scan import FoundModel, scan, survey
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.specs import ALL_VERSIONS, ModelSpec, TensorSpec, VersionPolicy
from repository.folders import CLAIMS, toml, tree
from support_server import matmul_weights, write_identity, write_matmul

TENSORS = """
    input [ { name: "x" data_type: TYPE_FP32 dims: [ 2 ] } ]
    output [ { name: "y" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""
ONNX = 'platform: "onnxruntime_onnx"\n'
BATCHED = ONNX + "max_batch_size: 8\n" + TENSORS


def repository(root: Path, text: str | None, *versions: int) -> Path:
    """Write a repository with the model `net` in some versions, whose files are empty."""
    tree(root, *(f"net/{version}/model.onnx" for version in versions or (1,)))
    if text is not None:
        (root / "net/config.pbtxt").write_text(text)
    return root


def spec_of(root: Path, text: str) -> ModelSpec:
    (spec,) = scan(repository(root, text), CLAIMS)
    return spec


def model_of(root: Path, text: str, *versions: int) -> FoundModel:
    (model,) = survey(repository(root, text, *versions), CLAIMS)
    return model


def refusal(root: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        scan(repository(root, text), CLAIMS)
    message = error.value.message
    assert message.isprintable()
    assert message.startswith("net/config.pbtxt")
    return message.removeprefix("net/config.pbtxt")


WHOLE = """
    # as people write it
    name: "net"
    platform: "onnxruntime_onnx"
    backend: "onnxruntime"
    max_batch_size: 16
    input [
      {
        name: "image"
        data_type: TYPE_UINT8
        format: FORMAT_NHWC
        dims: [ -1, 224, 3 ]
      },
      { name: "text" data_type: TYPE_STRING dims: 1 reshape: { shape: [ 1 ] } }
    ]
    output {
      name: "scores"
      data_type: TYPE_FP16
      dims: [ 3 ]
      label_filename: "labels.txt"
    }
    output { name: "box" data_type: TYPE_BF16, dims: [ 4, 2 ] }
    version_policy: { latest { num_versions: 2 } }
    dynamic_batching {
      preferred_batch_size: [ 8, 4 ]
      max_queue_delay_microseconds: 1500
    }
    instance_group [ { count: 2 kind: KIND_CPU }, { kind: KIND_CPU count: 1 } ]
    optimization { graph { level: 1 } }
    default_model_filename: "mine.onnx"
    model_transaction_policy { decoupled: false }
    parameters { key: "intra_op_thread_count" value: { string_value: "3" } }
    parameters { key: "inter_op_thread_count" value { string_value: "2" } }
"""


def test_every_field_has_its_meaning(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/mine.onnx", "net/1/model.onnx")
    (tmp_path / "net/labels.txt").write_text("cat\nsea lion\nowl")
    model = model_of(tmp_path, WHOLE)
    assert model.warnings == ()
    assert model.versions[1] == ModelSpec(
        name="net",
        version=1,
        path=tmp_path / "net/1/mine.onnx",
        runtime="onnx",
        inputs=(
            TensorSpec("image", "UINT8", (-1, -1, 224, 3)),
            TensorSpec("text", "BYTES", (-1, 1)),
        ),
        outputs=(TensorSpec("scores", "FP16", (-1, 3)), TensorSpec("box", "BF16", (-1, 4, 2))),
        labels={"scores": ("cat", "sea lion", "owl")},
        options={"inter_op_threads": 2, "device": "cpu", "graph_optimization": "extended"},
        serving={
            "threads": 3,
            "instances": 3,
            "batching": {
                "max_batch_rows": 16,
                "max_delay_ms": 1.5,
                "preferred_batch_rows": (4, 8),
            },
        },
        policy=VersionPolicy(2),
    )


@pytest.mark.parametrize("text", ["", 'name: "net"', 'backend: "onnxruntime"', ONNX, None])
def test_what_is_not_said_is_asked_of_the_model(tmp_path: Path, text: str | None) -> None:
    (spec,) = scan(repository(tmp_path, text), CLAIMS)
    assert spec == ModelSpec("net", 1, tmp_path / "net/1/model.onnx", "onnx")


@pytest.mark.parametrize(
    ("text", "batching"),
    [
        ("", None),
        ("max_batch_size: 0", {"max_batch_rows": 1}),
        (TENSORS, {"max_batch_rows": 1}),
        ("max_batch_size: 1", {"max_batch_rows": 1}),
        ("max_batch_size: 4", {"max_batch_rows": 4}),
        ("max_batch_size: 2000000", {"max_batch_rows": 65536}),
        ("max_batch_size: 4 dynamic_batching {}", {"max_batch_rows": 4}),
        ("dynamic_batching { max_queue_delay_microseconds: 100 }", {"max_delay_ms": 0.1}),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: 4 preferred_batch_size: 2 }",
            {"max_batch_rows": 4, "preferred_batch_rows": (2, 4)},
        ),
    ],
)
def test_how_requests_share_runs(
    tmp_path: Path, text: str, batching: dict[str, object] | None
) -> None:
    spec = spec_of(tmp_path, text)
    assert spec.serving == ({} if batching is None else {"batching": batching})


def test_without_a_batch_size_shapes_are_as_they_stand(tmp_path: Path) -> None:
    assert spec_of(tmp_path, TENSORS).inputs == (TensorSpec("x", "FP32", (2,)),)
    assert spec_of(tmp_path, BATCHED).inputs == (TensorSpec("x", "FP32", (-1, 2)),)


def test_batching_without_a_batch_size_is_told(tmp_path: Path) -> None:
    model = model_of(tmp_path, "max_batch_size: 0\ndynamic_batching { }")
    assert [spec.serving for spec in model.specs()] == [{"batching": {"max_batch_rows": 1}}]
    assert model.warnings == (
        "net/config.pbtxt, line 2: `dynamic_batching` is passed over: `max_batch_size` is 0, "
        "so requests run alone",
    )


@pytest.mark.parametrize(
    ("text", "policy", "chosen"),
    [
        ("", VersionPolicy(), (10,)),
        ("version_policy { latest { } }", VersionPolicy(1), (10,)),
        ("version_policy: { latest: { num_versions: 2 } }", VersionPolicy(2), (9, 10)),
        ("version_policy: { all { } }", ALL_VERSIONS, (1, 9, 10)),
        ("version_policy: { specific: { versions: [9, 1] } }", VersionPolicy(None, (1, 9)), (1, 9)),
    ],
)
def test_which_versions_are_loaded(
    tmp_path: Path, text: str, policy: VersionPolicy, chosen: tuple[int, ...]
) -> None:
    model = model_of(tmp_path, text, 1, 9, 10)
    assert model.chosen == chosen
    assert {spec.policy for spec in model.specs()} == {policy}


@pytest.mark.parametrize(
    ("groups", "instances", "device"),
    [
        ("", 0, None),
        ("instance_group { }", 0, None),
        ("instance_group { kind: KIND_CPU }", 0, "cpu"),
        ("instance_group { kind: KIND_GPU count: 2 }", 2, "auto"),
        ("instance_group { kind: KIND_GPU gpus: [ 1 ] }", 0, "cuda:1"),
        ("instance_group { kind: KIND_AUTO count: 1 }", 1, None),
        ("instance_group [ { kind: KIND_MODEL count: 1 }, { count: 3 } ]", 4, None),
    ],
)
def test_where_instances_are(
    tmp_path: Path, groups: str, instances: int, device: str | None
) -> None:
    spec = spec_of(tmp_path, groups)
    assert spec.serving.get("instances", 0) == instances
    assert spec.options.get("device") == device


@pytest.mark.parametrize(
    ("level", "word"), [(-1, "basic"), (0, "all"), (1, "extended"), (2, "none")]
)
def test_how_far_graphs_are_rewritten(tmp_path: Path, level: int, word: str) -> None:
    spec = spec_of(tmp_path, f"optimization {{ graph {{ level: {level} }} }}")
    assert spec.options == {"graph_optimization": word}


# What is said by name.

PASSED_OVER = {
    "model_warmup": 'model_warmup [ { name: "a" batch_size: 1 } ]',
    "metric_tags": 'metric_tags { key: "a" value: "b" }',
    "model_metrics": "model_metrics { }",
    "response_cache": "response_cache { enable: true }",
    "optimization.priority": "optimization { priority: PRIORITY_MAX }",
    "optimization.cuda": "optimization { cuda { graphs: true } }",
    "optimization.execution_accelerators": """optimization { execution_accelerators {
        gpu_execution_accelerator : [ { name : "tensorrt"
            parameters { key: "precision_mode" value: "FP16" } } ] } }""",
    "optimization.input_pinned_memory": "optimization { input_pinned_memory { enable: true } }",
    "optimization.eager_batching": "optimization { eager_batching: true }",
    "dynamic_batching.preserve_ordering": "dynamic_batching { preserve_ordering: true }",
    "dynamic_batching.priority_levels": "dynamic_batching { priority_levels: 2 }",
    "dynamic_batching.default_queue_policy": (
        "dynamic_batching { default_queue_policy { max_queue_size: 4 } }"
    ),
    "instance_group.host_policy": 'instance_group { host_policy: "a" }',
    "instance_group.rate_limiter": "instance_group { rate_limiter { priority: 2 } }",
    "instance_group.passive": "instance_group { passive: true }",
    "instance_group.gpus": "instance_group { kind: KIND_GPU gpus: [ 0, 1 ] }",
    "instance_group": "instance_group [ { kind: KIND_CPU }, { kind: KIND_GPU } ]",
    "parameters": 'parameters { key: "execution_mode" value { string_value: "1" } }',
}


@pytest.mark.parametrize("field", PASSED_OVER)
def test_what_only_costs_speed_is_told(
    tmp_path: Path, field: str, caplog: pytest.LogCaptureFixture
) -> None:
    text = "max_batch_size: 2\n\n" + PASSED_OVER[field]
    model = model_of(tmp_path, text)
    (warning,) = model.warnings
    assert warning.startswith(f"net/config.pbtxt, line 3: `{field}` is passed over: ")
    assert len(model.specs()) == 1
    with caplog.at_level(logging.WARNING, "pelton.repository"):
        scan(tmp_path, CLAIMS)
    assert [record.getMessage() for record in caplog.records] == [warning]


@pytest.mark.parametrize(
    "text",
    [
        "response_cache { enable: false }",
        "optimization { eager_batching: false cuda: [] }",
        "dynamic_batching { preserve_ordering: False }",
        "optimization { input_pinned_memory { enable: false } }",
        "model_warmup: []",
        'runtime: ""',
        "instance_group { passive: false }",
    ],
)
def test_what_is_off_anyway_is_not_told(tmp_path: Path, text: str) -> None:
    assert model_of(tmp_path, "max_batch_size: 2 " + text).warnings == ()


def tensor(inner: str, field: str = "input") -> str:
    return f'{field} {{ name: "x" data_type: TYPE_FP32 dims: [ 2 ] {inner} }}'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ensemble_scheduling { step [ ] }", "`ensemble_scheduling` is not supported: a model ma"),
        ("sequence_batching { }", "`sequence_batching` is not supported: requests that belong"),
        ("batch_input { kind: BATCH_ELEMENT_COUNT }", "`batch_input` is not supported"),
        ("batch_output { target_name: 'y' }", "`batch_output` is not supported"),
        ('cc_model_filenames { key: "8.0" value: "a" }', "`cc_model_filenames` is not supported"),
        ("model_operations { op_library_filename: 'a.so' }", "`model_operations` is not supported"),
        ("model_repository_agents { }", "`model_repository_agents` is not supported"),
        ('runtime: "libmine.so"', "`runtime` is not supported"),
        (
            "model_transaction_policy { decoupled: true }",
            "`model_transaction_policy.decoupled` is not supported: each request has one answer",
        ),
        *(
            (
                f'platform: "{platform}"',
                f"`platform` is '{platform}', which is not supported; 'onnxruntime_onnx' is",
            )
            for platform in (
                "tensorflow_savedmodel", "tensorrt_plan", "pytorch_libtorch", "ensemble", "onnx",
            )
        ),
        *(
            (
                f'backend: "{backend}"',
                f"`backend` is '{backend}', which is not supported; 'onnxruntime' is",
            )
            for backend in ("python", "tensorrt", "dali", "onnxruntime_onnx")
        ),
        (tensor("is_shape_tensor: true"), "`input.is_shape_tensor` is not supported"),
        (tensor("allow_ragged_batch: true"), "`input.allow_ragged_batch` is not supported"),
        (tensor("optional: true"), "`input.optional` is not supported"),
        (tensor("is_non_linear_format_io: true"), "`input.is_non_linear_format_io` is not supp"),
        (tensor("reshape { shape: [ ] }"), "`input.reshape` of 'x' is not supported: arrays keep"),
        (tensor("reshape { shape: [ 1, 2 ] }", "output"), "`output.reshape` of 'x' is not suppor"),
        (tensor("optional: true", "output"), "`output.optional` is no field that is known here"),
    ],
)  # fmt: skip
def test_what_changes_answers_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, "\n" + text).startswith(", line 2: " + said)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('name: "other"', "`name` is 'other', and the folder is called 'net'; make them one"),
        ("name: net", "`name` must be a text in quotes"),
        ('name: "net" name: "net"', "`name` is given 2 times; give it once"),
        ("max_batchsize: 4", "`max_batchsize` is no field that is known here; did you mean `max_b"),
        ("max_batch_size: -1", "`max_batch_size` must be a whole number from 0 to 2147483647"),
        ("max_batch_size: 1.0", "`max_batch_size` must be a whole number"),
        ('max_batch_size: "4"', "`max_batch_size` must be a whole number"),
        ("max_batch_size: 99999999999", "`max_batch_size` must be a whole number"),
        ("input: 3", "`input` must be written in braces"),
        ("input { data_type: TYPE_FP32 dims: 1 }", "`input.name` '' must be there, and no other"),
        ('input { name: "x" dims: 1 }', "`input.data_type` of 'x' is missing"),
        ('input { name: "x" data_type: TYPE_FP32 }', "`input.dims` of 'x' must be 1 to 31 sizes"),
        (tensor("") + tensor(""), "`input.name` 'x' must be there, and no other input may"),
        (tensor("").replace("[ 2 ]", "[ 0 ]"), "`input.dims` of 'x' must be 1 to 31 sizes"),
        (tensor("").replace("[ 2 ]", "[ -2 ]"), "`input.dims` must be a whole number from -1"),
        (tensor("").replace("FP32", "FP31"), "`input.data_type` is TYPE_FP31, which is not known"),
        (tensor("").replace("TYPE_FP32", '"FP32"'), "`input.data_type` must be a name without qu"),
        (tensor("format: NHWC"), "`input.format` is NHWC, which is not known; known are FORMAT_N"),
        (tensor("label_filename: 'a'"), "`input.label_filename` is no field that is known here"),
        ("dynamic_batching { preferred_batch_size: 4 }", "`dynamic_batching.preferred_batch_size`"),
        (
            "max_batch_size: 4 dynamic_batching { preferred_batch_size: [ 2, 8 ] }",
            "`dynamic_batching.preferred_batch_size` is 8, above `max_batch_size`, 4",
        ),
        (
            "dynamic_batching { max_queue_delay: 4 }",
            "`dynamic_batching.max_queue_delay` is no field that is known here; did you mean `max",
        ),
        ("instance_group { kind: KIND_TPU }", "`instance_group.kind` is KIND_TPU, which is not"),
        ("instance_group { count: 1000 }", "`instance_group.count` must be a whole number from 0"),
        (
            "instance_group [ {count: 200}, {count: 200} ]",
            "`instance_group` asks for more than 256",
        ),
        ("instance_group { passive: 2 }", "`instance_group.passive` must be true or false"),
        ("version_policy { }", "`version_policy` must be one of latest, all, specific"),
        ("version_policy { all { } latest { } }", "`version_policy` must be one of latest, all, s"),
        ("version_policy { newest { } }", "`version_policy.newest` is no field that is known here"),
        ("version_policy { specific { } }", "`version_policy.specific` must have 1 to 1024 versi"),
        ("version_policy { specific { versions: 0 } }", "`version_policy.specific.versions` must"),
        ("optimization { graph { level: 7 } }", "`optimization.graph.level` must be a whole numb"),
        ("optimization { speed: 1 }", "`optimization.speed` is no field that is known here"),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "many" } }',
            "`parameters` give intra_op_thread_count as 'many'; it must be a number to 1024",
        ),
        ("name: 'n", "a text is not closed on its line"),
    ],
)
def test_what_is_not_as_it_must_be_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert refusal(tmp_path, "\n\n" + text).startswith(", line 3: " + said)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    repository(tmp_path, "")
    for data, said in (
        (b"\xff\xfe\x00", "is not UTF-8 text"),
        (bytes(100), "line 1: '\\x00"),
        (b"#" * (64 << 10) + b"#", "is larger than 65536 bytes"),
    ):
        (tmp_path / "net/config.pbtxt").write_bytes(data)
        with pytest.raises(LoadFailed) as error:
            scan(tmp_path, CLAIMS)
        assert said in error.value.message


# Files and folders.


def test_a_model_may_be_a_folder(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/model.onnx/model.onnx", "net/1/model.onnx/weights.bin")
    (tmp_path / "net/config.pbtxt").write_text(ONNX)
    (spec,) = scan(tmp_path, CLAIMS)
    assert spec.path == tmp_path / "net/1/model.onnx/model.onnx"
    tree(tmp_path, "net/1/parts/model.onnx")
    (tmp_path / "net/config.pbtxt").write_text('default_model_filename: "parts"')
    (spec,) = scan(tmp_path, CLAIMS)
    assert spec.path == tmp_path / "net/1/parts/model.onnx"


def test_the_usual_name_comes_before_others_and_any_other_will_do(tmp_path: Path) -> None:
    tree(tmp_path, "net/1/model.onnx", "net/1/other.onnx", "net/1/model.py", "only/1/mine.onnx")
    for name in ("net", "only"):
        (tmp_path / name / "config.pbtxt").write_text(ONNX)
    assert [spec.path.name for spec in scan(tmp_path, CLAIMS)] == ["model.onnx", "mine.onnx"]


@pytest.mark.parametrize("name", ["../../secret.onnx", "gone.onnx"])
def test_a_file_must_be_in_its_folder(tmp_path: Path, name: str) -> None:
    tree(tmp_path, "secret.onnx")
    with pytest.raises(LoadFailed, match=r"^net/1: .*(leads out of|there is no 'gone.onnx')"):
        scan(repository(tmp_path, f'default_model_filename: "{name}"') / "net", CLAIMS)


def test_labels_may_not_lie_elsewhere(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("secret")
    text = tensor('label_filename: "../secret"', "output")
    assert "'../secret' leads out of the model's folder" in refusal(tmp_path, text)


def test_folders_that_are_no_versions_are_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "net/configs/h100.pbtxt", "net/0/model.onnx", "net/01/model.onnx", "net/a/b")
    tree(tmp_path, "net/labels.onnx")
    assert list(model_of(tmp_path, ONNX, 2, 10).versions) == [2, 10]


def test_a_version_that_is_too_large_is_not_passed_over(tmp_path: Path) -> None:
    tree(tmp_path, "net/20240101123000/model.onnx")
    with pytest.raises(LoadFailed, match=r"net/20240101123000 is no version; .* to 999999999"):
        scan(repository(tmp_path, ONNX), CLAIMS)


def test_a_model_without_versions_is_told_what_is_wrong_with_it(tmp_path: Path) -> None:
    tree(tmp_path, "net/")
    (tmp_path / "net/config.pbtxt").write_text(ONNX)
    with pytest.raises(LoadFailed, match=r"has a config\.pbtxt and no folder of a version"):
        scan(tmp_path, CLAIMS)
    (tmp_path / "net/config.pbtxt").write_text('platform: "ensemble"\nensemble_scheduling { }')
    with pytest.raises(LoadFailed, match="`ensemble_scheduling` is not supported"):
        scan(tmp_path, CLAIMS)


def test_a_model_that_is_not_supported_leaves_the_others(tmp_path: Path) -> None:
    tree(tmp_path, "chain/1/", "plain/1/model.onnx")
    (tmp_path / "chain/config.pbtxt").write_text("ensemble_scheduling { }")
    models = {model.name: model for model in survey(repository(tmp_path, BATCHED), CLAIMS)}
    assert list(models) == ["chain", "net", "plain"]
    assert "`ensemble_scheduling` is not supported" in models["chain"].reason(1)
    assert [len(model.specs()) for model in models.values()] == [0, 1, 1]


def test_a_model_toml_comes_first(tmp_path: Path) -> None:
    toml(tmp_path / "net", "pinned = true\ninstances = 5\n[batching]\nmax_batch_rows = 2")
    toml(tmp_path / "net/1", "[options]\ndevice = 'cuda:3'")
    spec = spec_of(tmp_path, BATCHED + "instance_group { count: 2 kind: KIND_CPU }")
    assert spec.pinned
    assert spec.serving == {"instances": 5, "batching": {"max_batch_rows": 2}}
    assert spec.options == {"device": "cuda:3"}
    assert spec.inputs == (TensorSpec("x", "FP32", (-1, 2)),)


# With real models.


def test_a_repository_of_real_models_is_served(tmp_path: Path) -> None:
    write_matmul(tmp_path / "net/1/model.onnx", 2, 3)
    write_matmul(tmp_path / "net/2/model.onnx", 2, 3)
    write_identity(tmp_path / "echo/1/model.onnx/model.onnx", "BYTES", (-1, 2))
    write_identity(tmp_path / "auto/7/model.onnx", "INT8", (4,))
    (tmp_path / "net/config.pbtxt").write_text(
        BATCHED + "version_policy { specific { versions: 1 } }"
    )
    (tmp_path / "echo/config.pbtxt").write_text(
        'backend: "onnxruntime" max_batch_size: 0\n'
        'input { name: "x" data_type: TYPE_STRING dims: [ -1, 2 ] }\n'
        'output { name: "y" data_type: TYPE_STRING dims: [ -1, 2 ] }\n'
    )
    specs = scan(tmp_path, registry.claims())
    assert [(spec.name, spec.version) for spec in specs] == [("auto", 7), ("echo", 1), ("net", 1)]
    models = {spec.name: registry.load(spec, RuntimeOptions()) for spec in specs}
    assert models["net"].metadata.inputs == (TensorSpec("x", "FP32", (-1, 2)),)
    assert models["auto"].metadata.inputs == (TensorSpec("x", "INT8", (4,)),)
    x = np.array([[1, 2], [3, 4]], np.float32)
    got = models["net"].run({"x": x})["y"]
    np.testing.assert_array_equal(got, x @ matmul_weights(2, 3), strict=True)
    for model in models.values():
        model.close()


@pytest.mark.parametrize(
    ("old", "new"),
    [("dims: [ 2 ]", "dims: [ 4 ]"), ("FP32 dims: [ 2", "FP64 dims: [ 2"), ('"x"', '"z"')],
)
def test_a_configuration_that_does_not_fit_the_file_is_refused(
    tmp_path: Path, old: str, new: str
) -> None:
    write_matmul(tmp_path / "net/1/model.onnx", 2, 3)
    (tmp_path / "net/config.pbtxt").write_text(BATCHED.replace(old, new))
    (spec,) = scan(tmp_path, registry.claims())
    with pytest.raises(LoadFailed, match="the input '"):
        registry.load(spec, RuntimeOptions())


@pytest.mark.parametrize(
    ("own", "kind", "file"),
    [
        ("", "input", "config.pbtxt"),
        ("", "output", "config.pbtxt"),
        ('[[inputs]]\nname = "x"\ndatatype = "FP16"\nshape = [-1, 2]\n', "input", "model.toml"),
        ('[[inputs]]\nname = "x"\ndatatype = "FP32"\nshape = [-1, 2]\n', "output", "config.pbtxt"),
    ],
)
def test_the_file_is_named_whose_declaration_does_not_fit(
    tmp_path: Path, own: str, kind: str, file: str
) -> None:
    wrong = BATCHED.replace("TYPE_FP32 dims: [ 3 ]", "TYPE_FP16 dims: [ 3 ]")
    if kind == "input":
        wrong = BATCHED.replace("TYPE_FP32 dims: [ 2 ]", "TYPE_FP16 dims: [ 2 ]")
    repository(tmp_path, wrong)
    toml(tmp_path / "net", own)
    write_matmul(tmp_path / "net/1/model.onnx", 2, 3)
    (spec,) = scan(tmp_path, CLAIMS)
    with pytest.raises(LoadFailed, match=rf"^{file} declares the {kind} '[xy]' as FP16"):
        registry.load(spec, RuntimeOptions())
