"""A model repository that was made for the Triton Inference Server, served as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from e2e.scaled import write_scaled, write_versions
from support_server import ServerProcess, run_pelton

BATCHED = """
name: "batched"
platform: "onnxruntime_onnx"
max_batch_size: 8
input [
  {
    name: "INPUT0"
    data_type: TYPE_FP32
    dims: [ 3 ]
  }
]
output [
  {
    name: "OUTPUT0"
    data_type: TYPE_FP32
    dims: [ 3 ]
    label_filename: "animals.txt"
  }
]
# Up to eight at once.
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 100
}
instance_group [
  {
    count: 2
    kind: KIND_CPU
  }
]
"""

ROWS = """
backend: "onnxruntime"
max_batch_size: 4
input { name: "INPUT0" data_type: TYPE_FP32 dims: 3 }
output { name: "OUTPUT0" data_type: TYPE_FP32 dims: 3 }
version_policy: """

WHOLE = """
name: "whole"
backend: "onnxruntime"
max_batch_size: 0
input [ { name: "INPUT0", data_type: TYPE_FP32, dims: [ -1, 3 ] } ]
output [ { name: "OUTPUT0", data_type: TYPE_FP32, dims: [ -1, 3 ] } ]
version_policy: { all: { } }
"""

TENSORS = """
input [ { name: "INPUT0" data_type: TYPE_FP32 dims: [ 3 ] } ]
output [ { name: "OUTPUT0" data_type: TYPE_FP32 dims: [ 3 ] } ]
"""

NOT_SERVED = {
    "pipeline": (
        'platform: "ensemble"\n' + TENSORS + "ensemble_scheduling { step [ { model_name: "
        '"batched" model_version: -1 input_map { key: "INPUT0" value: "INPUT0" } } ] }',
        "`ensemble_scheduling` is not supported: a model made of other models is not served",
    ),
    "preprocess": (
        'name: "preprocess"\nbackend: "python"\n' + TENSORS,
        "line 2: `backend` is 'python', which is not supported; 'onnxruntime' is",
    ),
    "engine": (
        'platform: "tensorrt_plan"\n' + TENSORS,
        "`platform` is 'tensorrt_plan', which is not supported; 'onnxruntime_onnx' is",
    ),
    "column": (
        'backend: "onnxruntime"\nmax_batch_size: 4\n'
        'input { name: "INPUT0" data_type: TYPE_FP32 dims: [ 1 ] reshape { shape: [ ] } }',
        "`input.reshape` of 'INPUT0' is not supported: arrays keep their shapes",
    ),
    "speech": (
        'backend: "onnxruntime"\nmax_batch_size: 4\n' + TENSORS + "sequence_batching { }",
        "`sequence_batching` is not supported",
    ),
    "renamed": ('name: "other"\nbackend: "onnxruntime"\n', "make them one"),
}
"""Model -> its `config.pbtxt`, and what is said of it."""

SERVED = {
    "batched": (BATCHED, [1, 2, 10], [10]),
    "whole": (WHOLE, [1, 2, 10], [1, 2, 10]),
    "chosen": (ROWS + "{ specific: { versions: [ 1, 3 ] } }", [1, 2, 3], [1, 3]),
    "lately": (ROWS + "{ latest { num_versions: 2 } }", [1, 2, 9, 10], [9, 10]),
    "silent": ("", [1, 2], [2]),
    "bare": (None, [1, 2], [2]),
}
"""Model -> its `config.pbtxt`, the versions that are there, and those that are loaded."""


def write_repository(root: Path) -> Path:
    for name, (config, versions, _) in SERVED.items():
        write_versions(root / name, *versions)
        if config is not None:
            (root / name / "config.pbtxt").write_text(config)
    (root / "batched" / "animals.txt").write_text("cat\nsea lion\nowl\n")
    (root / "batched" / "configs").mkdir()
    for name, (config, _) in NOT_SERVED.items():
        write_scaled(root / name / "1" / "model.onnx", 1)
        (root / name / "config.pbtxt").write_text(config)
    (root / "README.md").write_text("Ours.")
    return root


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = write_repository(tmp_path_factory.mktemp("repository"))
    with ServerProcess(root, "--explicit-models") as started:
        yield started


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Any]:
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as connected:
        yield connected


def ask(client: Any, model: str, version: str = "", rows: int = 2) -> tuple[str, float]:
    """Ask a model, and return the version that it names and the one that its numbers tell."""
    ones = np.ones((rows, 3), np.float32)
    tensor = triton.InferInput("INPUT0", list(ones.shape), "FP32")
    tensor.set_data_from_numpy(ones)
    answer = client.infer(model, [tensor], model_version=version)
    numbers = answer.as_numpy("OUTPUT0")
    assert np.array_equal(numbers, ones * numbers[0, 0])
    return answer.get_response()["model_version"], float(numbers[0, 0])


def refusal(call: Any, *arguments: Any) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as raised:
        call(*arguments)
    return raised.value.status(), raised.value.message()


@pytest.mark.parametrize("model", SERVED)
def test_the_versions_of_the_policy_answer_and_no_others(client: Any, model: str) -> None:
    _, versions, loaded = SERVED[model]
    assert ask(client, model) == (str(loaded[-1]), loaded[-1])
    for version in versions:
        if version in loaded:
            assert ask(client, model, str(version)) == (str(version), version)
            assert client.is_model_ready(model, str(version))
        else:
            status, why = refusal(ask, client, model, str(version))
            assert status == "404"
            assert f"ready are: {', '.join(map(str, loaded))}" in why
    assert client.get_model_metadata(model)["versions"] == [str(one) for one in loaded]
    assert client.get_model_metadata(model, str(loaded[0]))["inputs"][0]["shape"] == [-1, 3]


def test_the_index_has_every_version_and_says_what_is_not_served(client: Any) -> None:
    rows = client.get_model_repository_index()
    of_model = {name: [row for row in rows if row["name"] == name] for name in SERVED}
    for name, (_, versions, loaded) in SERVED.items():
        assert [int(row["version"]) for row in of_model[name]] == versions
        ready = [int(row["version"]) for row in of_model[name] if row.get("state") == "READY"]
        assert ready == loaded
        left_out = {row["reason"] for row in of_model[name] if int(row["version"]) not in loaded}
        assert left_out <= {"the model's version policy leaves it out"}
    for name, (_, why) in NOT_SERVED.items():
        (row,) = (row for row in rows if row["name"] == name)
        assert (row["version"], row["state"]) == ("1", "UNAVAILABLE")
        assert row["reason"].startswith(f"{name}/config.pbtxt")
        assert why in row["reason"]
        assert refusal(ask, client, name)[0] == "503"
        assert not client.is_model_ready(name)


def test_the_log_and_the_command_line_say_it_as_well(server: ServerProcess) -> None:
    log, told = server.log(), run_pelton("models", "--url", server.url).stdout
    joined = " ".join(told.split())
    for name, (_, why) in NOT_SERVED.items():
        assert f"model {name} is not served: {name}/config.pbtxt" in log
        assert why in log
        assert why in joined
    assert "chosen 2: the model's version policy leaves it out" in told


def test_clients_read_the_batches_that_were_configured(client: Any) -> None:
    config = client.get_model_config("batched")
    assert config["max_batch_size"] == 8
    assert config["input"] == [{"name": "INPUT0", "data_type": "TYPE_FP32", "dims": [3]}]
    assert config["output"] == [{"name": "OUTPUT0", "data_type": "TYPE_FP32", "dims": [3]}]
    config = client.get_model_config("whole")
    assert config["max_batch_size"] == 0
    assert config["input"][0]["dims"] == [-1, 3]
    told = client.get_model_metadata("batched")
    assert [told[side][0]["shape"] for side in ("inputs", "outputs")] == [[-1, 3], [-1, 3]]


def test_instances_and_batches_are_those_of_the_configuration(server: ServerProcess) -> None:
    log = server.log()
    assert "model batched version 10 (onnx on cpu, inline, instances 2," in log
    line = next(line for line in log.splitlines() if "model batched version 10" in line)
    assert "batches up to 8 rows" in line
    line = next(line for line in log.splitlines() if "model whole version 10" in line)
    assert "no batches" in line


def test_classes_have_the_names_of_the_label_file(client: Any) -> None:
    tensor = triton.InferInput("INPUT0", [1, 3], "FP32")
    tensor.set_data_from_numpy(np.array([[1, 3, 2]], np.float32))
    wanted = triton.InferRequestedOutput("OUTPUT0", class_count=2)
    answer = client.infer("batched", [tensor], outputs=[wanted])
    assert answer.as_numpy("OUTPUT0").tolist() == [[b"30.0:1:sea lion", b"20.0:2:owl"]]


def test_models_are_unloaded_and_loaded_again(client: Any) -> None:
    client.unload_model("lately")
    status, why = refusal(ask, client, "lately")
    assert status == "404"
    assert "lately" in why
    assert not client.is_model_ready("lately")
    states = {
        row["version"]: (row["state"], row["reason"])
        for row in client.get_model_repository_index()
        if row["name"] == "lately" and int(row["version"]) >= 9
    }
    assert states == dict.fromkeys(("9", "10"), ("UNAVAILABLE", "unloaded"))
    assert ask(client, "chosen") == ("3", 3), "the others go on"
    client.load_model("lately")
    assert ask(client, "lately") == ("10", 10)
    assert ask(client, "lately", "9") == ("9", 9)
    client.load_model("lately")  # again, in its own place
    assert ask(client, "lately") == ("10", 10)


def test_what_cannot_be_loaded_is_said_to_who_asks_for_it(client: Any) -> None:
    for name, (_, why) in NOT_SERVED.items():
        status, told = refusal(client.load_model, name)
        assert status == "400"
        assert why in told
    for call in (client.load_model, client.unload_model):
        assert refusal(call, "nowhere") == ("404", "unknown model 'nowhere'")
    status, told = refusal(lambda: client.load_model("batched", config='{"max_batch_size": 2}'))
    assert status == "400"
    assert "publish a new version instead" in told


def test_loading_by_request_is_off_unless_it_is_switched_on(tmp_path: Path, serve: Any) -> None:
    write_versions(tmp_path / "net", 1)
    server = serve(tmp_path)
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        assert [row["state"] for row in client.get_model_repository_index()] == ["READY"]
        for call in (client.load_model, client.unload_model):
            status, why = refusal(call, "net")
            assert status == "403"
            assert "start it with --explicit-models" in why
        assert ask(client, "net") == ("1", 1)


def test_what_was_laid_in_since_the_start_is_loaded_on_request(tmp_path: Path, serve: Any) -> None:
    write_versions(tmp_path / "net", 1)
    server = serve(tmp_path, "--explicit-models")
    with triton.InferenceServerClient(f"127.0.0.1:{server.port}") as client:
        write_versions(tmp_path / "net", 2)
        write_versions(tmp_path / "later", 5)
        assert ask(client, "net") == ("1", 1), "nobody looks by himself"
        client.load_model("net")
        assert ask(client, "net") == ("2", 2)
        client.load_model("later")
        assert ask(client, "later") == ("5", 5)
        (tmp_path / "net" / "3").mkdir()
        (tmp_path / "net" / "3" / "model.onnx").write_bytes(b"no model")
        status, why = refusal(client.load_model, "net")
        assert status == "400"
        assert "model.onnx is no ONNX model" in why
        assert str(tmp_path) not in why
        assert ask(client, "net") == ("2", 2), "what is broken changes nothing"
        client.unload_model("later")
        client.load_model("later")
        assert ask(client, "later") == ("5", 5)
