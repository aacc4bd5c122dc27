"""What the documents show works, against the examples being served: code, `curl`, `pelton`."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator

import pytest

from rules.documents import DOCUMENTS, code_blocks
from rules.source_tree import REPOSITORY
from support_server import ServerProcess

SHOWN = "http://127.0.0.1:50000"
"""The address that the documents show."""


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Serve the examples at a free port, as `./start_server.sh` does."""
    with ServerProcess(REPOSITORY / "examples" / "models") as server:
        yield server.url


def _blocks(*languages: str) -> list[str]:
    texts = (path.read_text(encoding="utf-8") for path in DOCUMENTS)
    blocks = {block for text in texts for block in code_blocks(text, *languages)}
    return sorted(block for block in blocks if SHOWN.removeprefix("http://") in block)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True)


@pytest.mark.parametrize("block", _blocks("python"))
def test_code_in_the_documents_runs(address: str, block: str) -> None:
    code = block.replace(SHOWN.removeprefix("http://"), address.removeprefix("http://"))
    done = _run([sys.executable, "-W", "error", "-c", code])
    assert done.returncode == 0, done.stderr


CURL = sorted(
    {line for block in _blocks("sh") for line in re.findall(r"(?m)^curl (?:.*\\\n)*.*", block)}
)


@pytest.mark.parametrize("line", CURL)
def test_curl_lines_in_the_documents_are_answered(address: str, line: str) -> None:
    done = _run(["bash", "-c", line.replace(SHOWN, address).replace("curl ", "curl --fail ", 1)])
    assert done.returncode == 0, done.stderr
    assert done.stdout[0] in "{["
    if "digits/sample.json" in line:
        assert ":7:7" in done.stdout


ASKING = sorted(
    {
        line.partition("#")[0].rstrip()
        for path in DOCUMENTS
        for block in code_blocks(path.read_text(encoding="utf-8"), "sh")
        for line in re.findall(r"(?m)^pelton (?:health|models|infer (?:digits|policy)) ?.*", block)
    }
)


@pytest.mark.parametrize("line", ASKING)
def test_commands_in_the_documents_are_answered(address: str, line: str) -> None:
    done = _run(["bash", "-c", f"{shlex.quote(sys.executable)} -m {line} --url {address}"])
    assert done.returncode == 0, done.stderr
    if "infer" in line:
        assert "probabilities" in done.stdout
    else:
        assert "digits" in done.stdout
        assert "policy" in done.stdout
