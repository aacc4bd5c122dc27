"""What `docs/publishing.md` tells people to type works, in its order, against a server of its own."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rules.documents import code_blocks, read
from rules.source_tree import REPOSITORY
from support_server import ServerProcess

SHOWN = "http://127.0.0.1:50001"
"""The address that the document shows for a server that takes new versions."""

LINES = [
    line
    for block in code_blocks(read("docs/publishing.md"), "sh")
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with a copy of an example's model, and a new version of it beside."""
    folder = tmp_path_factory.mktemp("place")
    digits = REPOSITORY / "examples" / "models" / "digits"
    shutil.copytree(digits, folder / "models" / "digits")
    shutil.copy(digits / "1" / "model.onnx", folder / "digits-2.onnx")
    return folder


@pytest.fixture(scope="module")
def address(place: Path) -> Iterator[str]:
    (serve,) = [line for line in LINES if "--allow-publish" in line]
    flags = shlex.split(serve.replace("--state-dir state", f"--state-dir {place / 'state'}"))[3:]
    with ServerProcess(place / "models", *flags) as server:
        yield server.url


def typed(line: str, place: Path, address: str) -> str:
    """Run one line in the folder; return what it prints."""
    command = line.replace(SHOWN, address)
    if command.startswith("pelton "):
        ours = f"{shlex.quote(sys.executable)} -m pelton "
        command = f"{ours}{command.removeprefix('pelton ')} --url {address}"
    done = subprocess.run(["bash", "-c", command], cwd=place, capture_output=True, text=True)
    assert done.returncode == 0, f"{line}: {done.stdout}{done.stderr}"
    return done.stdout


def answering(place: Path, address: str) -> list[int]:
    """Return the versions that the server tells of, the one that answers first."""
    (line,) = [line for line in LINES if line.endswith("/models/digits/versions") and "-s " in line]
    shown = re.sub(r"http://127\.0\.0\.1:\d+", SHOWN, line)
    rows = json.loads(typed(shown, place, address))["versions"]
    return [row["version"] for row in sorted(rows, key=lambda row: not row["active"])]


def test_a_version_is_pushed_published_and_rolled_back_as_it_is_shown(place, address) -> None:
    push, rollback = (
        next(line for line in LINES if line.startswith(f"pelton {word} "))
        for word in ("push", "rollback")
    )
    assert answering(place, address) == [1]
    typed(push, place, address)
    assert answering(place, address)[0] == 2

    (publish,) = [line for line in LINES if "--data-binary" in line]
    reply = json.loads(typed(publish, place, address))
    assert (reply["model"], reply["version"]) == ("digits", 3)
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", reply["digest"])
    assert answering(place, address)[0] == 3

    typed(rollback, place, address)
    assert answering(place, address)[0] in {1, 2}
    assert "digits" in typed("pelton models", place, address)
