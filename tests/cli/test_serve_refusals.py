"""`pelton serve` used wrongly: one sentence, exit code 2, no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.serving import ask
from support_server import (
    run_pelton,
    taken_port,
    write_identity,
    write_matmul,
    write_python_model,
)


def refused(*arguments: object, env: dict[str, str] | None = None) -> str:
    """Return the one sentence with which `pelton serve` refuses."""
    said = run_pelton("serve", *map(str, arguments), env={"PELTON_PORT": "0"} | (env or {}))
    assert said.stdout == ""
    assert said.returncode == 2
    (line,) = said.stderr.splitlines()
    assert line.startswith("pelton serve: ")
    return line.removeprefix("pelton serve: ")


def test_nothing_to_serve() -> None:
    assert refused().startswith("say what to serve: `pelton serve PATH`, where PATH is ")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    assert refused(tmp_path / "nowhere.onnx") == f"{tmp_path}/nowhere.onnx does not exist"


def test_a_file_that_is_broken(tmp_path: Path) -> None:
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(write_matmul(tmp_path / "whole.onnx").read_bytes()[:300])
    assert "broken.onnx" in refused(broken)
    broken.write_bytes(b"not a model")
    assert "broken.onnx" in refused(broken)
    broken.write_bytes(b"")
    assert "broken.onnx" in refused(broken)


def test_a_file_of_an_unknown_kind(tmp_path: Path) -> None:
    file = tmp_path / "weights.h5"
    file.write_bytes(b"\x89HDF")
    assert ".onnx" in refused(file)


def test_a_folder_without_models(tmp_path: Path) -> None:
    assert refused(tmp_path).startswith(f"there is no model in {tmp_path}; expected is ")
    (tmp_path / "README.md").write_text("# Not a model\n")
    assert refused(tmp_path).startswith(f"there is no model in {tmp_path}; expected is ")
    (tmp_path / "src/lib").mkdir(parents=True)
    assert refused(tmp_path).startswith("there is no model in the folder 'src'; expected is ")


def test_a_model_whose_own_code_fails(tmp_path: Path) -> None:
    folder = write_python_model(tmp_path / "policy", "raise ValueError('no weights')")
    assert "no weights" in refused(folder)
    folder = write_python_model(tmp_path / "policy", "import sys\nsys.exit(0)")
    assert "SystemExit" in refused(folder)
    folder = write_python_model(tmp_path / "policy", "def load_model(:\n")
    assert "model.py" in refused(folder)


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    with taken_port() as port:
        assert refused(model, "--port", port) == (
            f"cannot listen on 127.0.0.1 port {port}: Address already in use; "
            "if another server runs there, choose another port with --port"
        )


def test_the_port_of_another_pelton(serve, tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    first = serve(model)
    assert "Address already in use" in refused(model, "--port", first.port)
    assert ask(first, "/health").status == 200


def test_an_address_that_is_not_ours(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    sentence = refused(model, "--host", "203.0.113.1", "--port", "0")
    assert sentence.startswith("cannot listen on 203.0.113.1 port 0: Cannot assign ")


def test_an_address_that_is_none(tmp_path: Path) -> None:
    model = write_identity(tmp_path / "echo.onnx")
    assert refused(model, "--host", "a..b") == "cannot listen on a..b: this is no address"


WRONG_SETTINGS = [
    (["a.onnx", "--model-path", "b.onnx"], {}, "give PATH or --model-path, not both"),
    (["a.onnx", "--port", "none"], {}, "--port is 'none'; it has to be a whole number"),
    (["a.onnx", "--device", "gpu"], {}, "--device is 'gpu'; it has to be cpu, auto, cuda"),
    (["a.onnx", "--max-body-bytes", "64MB"], {}, "--max-body-bytes is '64MB'; it has to be a size"),
    (["a.onnx"], {"PELTON_PORT": "-1"}, "PELTON_PORT is '-1'; it has to be a whole number"),
    (
        ["a.onnx"],
        {"PELTON_MAX_BODY": "1"},
        "unknown setting PELTON_MAX_BODY; did you mean PELTON_MAX_BODY_BYTES?",
    ),
    (["a.onnx", "--config", "no.toml"], {}, "cannot read the settings file no.toml: No such file"),
]


@pytest.mark.parametrize(("arguments", "env", "begins"), WRONG_SETTINGS)
def test_a_setting_that_is_wrong(arguments, env, begins: str) -> None:
    assert refused(*arguments, env=env).startswith(begins)


def test_an_unknown_key_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "pelton.toml"
    config.write_text("prot = 8080\n")
    assert refused("a.onnx", "--config", config).startswith(
        f"unknown setting 'prot' in {config}; did you mean port?"
    )


def test_an_unknown_flag_is_told_with_its_neighbours() -> None:
    said = run_pelton("serve", "a.onnx", "--prot", "8080")
    assert said.returncode == 2
    assert said.stdout == ""
    assert "No such option: --prot" in said.stderr
    assert "--port" in said.stderr
    assert "Traceback" not in said.stderr
