"""What the doctor looks at, and what it says of it."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import tomllib
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from pelton.cli import doctor
from pelton.cli.doctor import Finding, examine

app = typer.Typer()
app.command()(doctor.command)

INSTALLED = dict.fromkeys(("pelton", *doctor.NEEDED, *doctor.OPTIONAL), "1.2.3")


@pytest.fixture
def installed(monkeypatch) -> dict[str, str]:
    """Distributions and their versions, as the doctor is made to see them."""
    known = dict(INSTALLED)

    def version(name: str) -> str:
        if name not in known:
            raise importlib.metadata.PackageNotFoundError(name)
        return known[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    return known


def found() -> dict[str, Finding]:
    return {finding.what: finding for finding in examine()}


def test_this_installation_is_well() -> None:
    result = CliRunner().invoke(app)
    assert result.exit_code == 0
    lines = {line.split()[1]: line for line in result.output.splitlines() if line.strip()}
    assert platform.python_version() in lines["python"]
    for name in ("pelton", *doctor.NEEDED):
        assert lines[name].split()[0] == "ok"
    assert "usable of" in lines["cores"]
    assert "CPU" in result.output.split("onnx devices")[1].splitlines()[0]


def test_versions_are_told(installed) -> None:
    assert found()["uvicorn"] == Finding("ok", "uvicorn", "1.2.3")
    assert CliRunner().invoke(app).exit_code == 0


@pytest.mark.parametrize("name", ["pelton", *doctor.NEEDED])
def test_a_missing_package_is_bad_and_told_with_its_cure(installed, name: str) -> None:
    del installed[name]
    assert found()[name] == Finding("bad", name, "missing; pip install 'pelton[server]'")
    assert CliRunner().invoke(app).exit_code == 1


def test_everything_that_the_server_is_installed_with_is_looked_at() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    wanted = project["dependencies"] + project["optional-dependencies"]["server"]
    names = {re.split(r"[^\w-]", requirement)[0] for requirement in wanted}
    assert names - set(doctor.NEEDED) == {"rich", "typer"}  # the doctor itself runs on them


@pytest.mark.parametrize("name", doctor.OPTIONAL)
def test_a_missing_extra_is_only_noted(installed, name: str) -> None:
    del installed[name]
    told = f"not installed; {doctor.OPTIONAL[name]}"
    assert found()[name] == Finding("note", name, told)
    assert CliRunner().invoke(app).exit_code == 0


def test_every_extra_is_looked_at_and_told_by_its_name() -> None:
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    cures = {f"pip install 'pelton[{extra}]'" for extra in extras if extra != "server"}
    assert set(doctor.OPTIONAL.values()) == cures


@pytest.mark.parametrize(
    ("name", "cure"),
    [("uvloop", "pip install 'pelton[server]'"), *doctor.OPTIONAL.items()],
)
def test_the_cure_is_printed_as_it_must_be_typed(installed, name: str, cure: str) -> None:
    del installed[name]
    assert cure in CliRunner().invoke(app).output


def test_the_build_of_onnxruntime_for_gpus_is_an_onnxruntime(installed) -> None:
    del installed["onnxruntime"]
    installed["onnxruntime-gpu"] = "1.2.3"
    assert found()["onnxruntime"] == Finding("ok", "onnxruntime", "1.2.3")
    assert "onnx devices" in found()


def test_without_onnxruntime_its_devices_are_not_asked_for(installed) -> None:
    del installed["onnxruntime"]
    assert "onnx devices" not in found()


@pytest.mark.parametrize(
    ("hard", "state", "told"),
    [
        (-1, "ok", "256, at most unlimited"),
        (4096, "ok", "256, at most 4096"),
        (1024, "note", "256, at most 1024; raise it with `ulimit -Hn 4096` for many clients"),
    ],
)
def test_a_low_limit_of_open_files_is_noted(monkeypatch, hard, state: str, told: str) -> None:
    monkeypatch.setattr("resource.RLIM_INFINITY", -1)
    monkeypatch.setattr("resource.getrlimit", lambda which: (256, hard))
    assert found()["open files"] == Finding(state, "open files", told)


@pytest.mark.parametrize(
    ("cpuinfo", "state", "told"),
    [
        ("processor: 0\nflags\t\t: fpu avx2 sse avx512f\n", "ok", "avx2, avx512f"),
        ("Features\t: fp asimd evtstrm\n", "ok", "asimd"),
        ("flags : fpu xavx2\n", "note", "none of the vector extensions that make models fast"),
        ("nothing\n", "note", "none of the vector extensions that make models fast"),
    ],
)
def test_the_processors_flags(monkeypatch, tmp_path, cpuinfo: str, state: str, told: str) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(cpuinfo)
    monkeypatch.setattr(doctor, "Path", lambda path: file)
    assert found()["cpu flags"] == Finding(state, "cpu flags", told)


def test_a_machine_without_cpuinfo_says_nothing_of_flags(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(doctor, "Path", lambda path: tmp_path / "missing")
    assert "cpu flags" not in found()


@pytest.mark.parametrize(
    ("free_mib", "state", "told"),
    [
        (512, "ok", "1024 MiB in /dev/shm, 512 MiB free"),
        (
            63,
            "note",
            "1024 MiB in /dev/shm, 63 MiB free; give a container more with --shm-size, for "
            "shared_memory=True",
        ),
    ],
)
def test_the_room_for_shared_memory_is_told(monkeypatch, tmp_path, free_mib, state, told) -> None:
    room = os.statvfs(tmp_path)
    facts = list(room)
    facts[1], facts[2], facts[4] = 4096, 1024 * 256, free_mib * 256
    monkeypatch.setattr(doctor, "SHM", tmp_path)
    monkeypatch.setattr(os, "statvfs", lambda _: os.statvfs_result(facts))
    assert found()["client memory"] == Finding(state, "client memory", told)


def test_a_system_without_a_folder_for_it_says_nothing(monkeypatch, tmp_path) -> None:
    monkeypatch.setattr(doctor, "SHM", tmp_path / "nowhere")
    assert "client memory" not in found()


@pytest.mark.parametrize("has_memfd", [True, False])
def test_what_carries_bodies_to_workers_is_told(monkeypatch, has_memfd: bool) -> None:
    if has_memfd:
        monkeypatch.setattr(os, "memfd_create", lambda *_: -1, raising=False)
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
    finding = found()["worker memory"]
    assert finding.state == "ok"
    assert finding.told.startswith("memfd_create" if has_memfd else "unlinked files")
