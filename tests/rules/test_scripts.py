"""The scripts of the front page, run in a copy of the clone with a Python that installs nothing.

The stand-in `python3` writes down how pip was called, so that what is installed, how often, and
what is served can be read without a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rules.source_tree import REPOSITORY

SCRIPTS = [
    path
    for pattern in ("*.sh", ".ci/run", "scripts/*.sh", "requirements/*.sh")
    for path in sorted(REPOSITORY.glob(pattern))
]

STAND_IN = """#!/bin/sh
case "$*" in
    "-c import sys"*) exec '{python}' "$@" ;;
    "-m venv"*)
        for folder; do :; done
        mkdir -p "$folder/bin"
        cp "$0" "$folder/bin/python"
        printf '#!/bin/sh\\nprintf "%%s\\\\n" "$@"\\n' >"$folder/bin/pelton"
        chmod +x "$folder/bin/pelton" ;;
    "-m pip"*) echo "$@" >>"$CALLS"; exit "${{PIP_EXIT:-0}}" ;;
    "-m pytest"*) echo "pytest in $PWD:"; printf '%s\\n' "$@" ;;
    --version) echo Python 3.11.0 ;;
esac
"""


class Clone:
    """A copy of what the scripts read, in a folder whose name has a space."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "my clone"
        self.calls = folder / "pip calls"
        for path in [*SCRIPTS, REPOSITORY / "pyproject.toml", *REPOSITORY.glob("requirements/*")]:
            copy = self.root / path.relative_to(REPOSITORY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, copy)
        (self.root / "examples" / "models").mkdir(parents=True)
        self.bin = folder / "bin"
        self.bin.mkdir()
        self._write_python(STAND_IN.format(python=sys.executable))

    def _write_python(self, text: str) -> None:
        for name in ("python3", "python3.11", "python3.12", "python3.13", "python3.14"):
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)

    def forget_python(self) -> None:
        self._write_python("#!/bin/sh\nexit 1\n")

    def run(self, script: str, *arguments: str, **environment: str):
        """Run a script from another folder, as CI would: no terminal, nothing on stdin."""
        inherited = {key: os.environ[key] for key in ("HOME", "LANG") if key in os.environ}
        path = f"{self.bin}:/usr/bin:/bin"
        return subprocess.run(
            ["bash", str(self.root / script), *arguments],
            cwd=self.root.parent,
            env={**inherited, "CI": "true", "PATH": path, "CALLS": str(self.calls), **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def pip_calls(self) -> list[str]:
        return self.calls.read_text().splitlines() if self.calls.exists() else []


@pytest.fixture
def clone(tmp_path: Path) -> Clone:
    return Clone(tmp_path)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_a_script_is_sound_bash(script: Path) -> None:
    checked = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (checked.returncode, checked.stderr) == (0, "")
    text = script.read_text(encoding="utf-8")
    sourced = script.name == "environment.sh"
    assert sourced or (text.startswith("#!/usr/bin/env bash\n") and os.access(script, os.X_OK))
    assert sourced or "\nset -euo pipefail\n" in text


def test_the_server_is_installed_by_hash_and_once(clone: Clone) -> None:
    first = clone.run("start_server.sh")
    assert first.returncode == 0, first.stderr
    assert "installing requirements/server.lock" in first.stderr
    dependencies, project = clone.pip_calls()
    assert "--require-hashes" in dependencies
    assert dependencies.endswith(f"--requirement {clone.root}/requirements/server.lock")
    assert "--no-deps" in project
    assert project.endswith(f"--no-build-isolation --editable {clone.root}")

    second = clone.run("start_server.sh")
    assert second.returncode == 0
    assert "installing" not in second.stderr
    assert second.stdout == first.stdout
    assert len(clone.pip_calls()) == 2


@pytest.mark.parametrize("changed", ["pyproject.toml", "requirements/server.lock"])
def test_a_changed_list_is_installed_again(clone: Clone, changed: str) -> None:
    clone.run("start_server.sh")
    with (clone.root / changed).open("a") as file:
        file.write("# changed\n")
    clone.run("start_server.sh")
    assert len(clone.pip_calls()) == 4


def test_a_failed_installation_is_tried_again(clone: Clone) -> None:
    failed = clone.run("start_server.sh", PIP_EXIT="1")
    assert failed.returncode == 2
    assert "pip could not install" in failed.stderr
    assert failed.stdout == ""
    assert clone.run("start_server.sh").returncode == 0
    assert len(clone.pip_calls()) == 3


@pytest.mark.parametrize(
    ("arguments", "environment", "served"),
    [
        ([], {}, ["{examples}"]),
        (["--port", "8000"], {}, ["{examples}", "--port", "8000"]),
        (["my model.onnx", "--device", "auto"], {}, ["my model.onnx", "--device", "auto"]),
        (["--model-path", "m.onnx"], {}, ["--model-path", "m.onnx"]),
        (["--port=1", "--model-path=m.onnx"], {}, ["--port=1", "--model-path=m.onnx"]),
        (["--config", "pelton.toml"], {}, ["--config", "pelton.toml"]),
        (["--port", "1"], {"PELTON_MODEL_PATH": "m.onnx"}, ["--port", "1"]),
    ],
)
def test_arguments_say_what_is_served(clone: Clone, arguments, environment, served) -> None:
    done = clone.run("start_server.sh", *arguments, **environment)
    examples = f"{clone.root}/examples/models"
    expected = ["serve", *(word.format(examples=examples) for word in served)]
    assert done.stdout.splitlines() == expected


def test_an_old_python_is_told_in_one_sentence(clone: Clone) -> None:
    clone.forget_python()
    done = clone.run("start_server.sh")
    assert done.returncode == 2
    assert done.stdout == ""
    (sentence,) = done.stderr.splitlines()
    assert "Python 3.11 or later" in sentence


def test_arguments_of_the_tests_go_to_pytest(clone: Clone) -> None:
    done = clone.run("setup_and_test.sh", "tests/wire", "-k", "json or binary")
    expected = [f"pytest in {clone.root}:", "-m", "pytest", "tests/wire", "-k", "json or binary"]
    assert done.stdout.splitlines() == expected
    lock, project, torch = clone.pip_calls()
    assert lock.endswith("requirements/test.lock")
    assert project.endswith(f"--editable {clone.root}")
    assert torch.endswith("requirements/torch.txt")


def test_ci_runs_every_check(clone: Clone) -> None:
    done = clone.run(".ci/run")
    steps = [line for line in done.stdout.splitlines() if line.startswith("== ")]
    assert steps == ["== ruff check", "== ruff format --check", "== mypy", "== pytest"]
    assert done.returncode == 0


def test_a_failing_check_fails_the_run_but_not_the_checks_after_it(clone: Clone) -> None:
    clone.run("setup_and_test.sh", "--version")
    python = clone.root / ".venv" / "bin" / "python"
    python.write_text('#!/bin/sh\n[ "$2" != mypy ]\n')
    done = clone.run("check.sh")
    assert done.returncode == 1
    assert "== pytest" in done.stdout
    assert done.stdout.rstrip().endswith("failed: mypy")


def install_tools(clone: Clone, dpkg_query: str, apt_get: str) -> None:
    for name, text in (("dpkg-query", dpkg_query), ("apt-get", apt_get)):
        (clone.bin / name).write_text(f"#!/bin/sh\n{text}\n")
        (clone.bin / name).chmod(0o755)


DPKG_QUERY = 'for name; do :; done; [ -e "$CALLS.$name" ] && echo installed'
APT_GET = (
    'for name; do :; done; echo "$@" >>"$CALLS.apt"; [ "$name" != postgresql ] && >"$CALLS.$name"'
)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root installs Debian's packages")
def test_missing_packages_are_installed_and_what_cannot_be_is_told(clone: Clone) -> None:
    install_tools(clone, DPKG_QUERY, APT_GET)
    Path(f"{clone.calls}.openssl").touch()
    first = clone.run("setup_and_test.sh", "--version")
    assert first.returncode == 0, first.stderr
    said = Path(f"{clone.calls}.apt").read_text().splitlines()
    assert said[0].startswith("update")
    assert [line.split()[-1] for line in said[1:]] == ["chromium", "redis-server", "postgresql"]
    assert "installing Debian's chromium redis-server postgresql" in first.stderr
    skipped = [line for line in first.stderr.splitlines() if "are skipped without" in line]
    assert skipped == [
        "pelton: tests of the state in PostgreSQL are skipped without: "
        "sudo apt-get install postgresql"
    ]


def test_nothing_is_said_of_packages_that_are_there(clone: Clone) -> None:
    install_tools(clone, "echo installed", "exit 1")
    done = clone.run("setup_and_test.sh", "--version")
    assert "skipped" not in done.stderr
    assert "Debian" not in done.stderr
