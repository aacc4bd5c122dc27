"""Commands and code in the documents name scripts, subcommands, options and modules that exist."""

from __future__ import annotations

import functools
import os
import re
import shlex
import subprocess
import sys
from itertools import dropwhile

import pytest

from rules.documents import DOCUMENTS, code_blocks, relative
from rules.source_tree import REPOSITORY

TEXTS = {relative(path): path.read_text(encoding="utf-8") for path in DOCUMENTS}


def commands(text: str) -> list[list[str]]:
    """Return the command lines of a document's shell blocks, without comments and variables."""
    lines = "".join(code_blocks(text, "sh", "bash")).replace("\\\n", " ").splitlines()
    split = (shlex.split(line, comments=True) for line in lines)
    return [list(dropwhile(_sets_a_variable, words)) for words in split if words]


def _sets_a_variable(word: str) -> bool:
    return re.match(r"[A-Z_]+=", word) is not None


COMMANDS = [(name, command) for name, text in TEXTS.items() for command in commands(text)]


def test_a_command_line_is_read_as_the_shell_reads_it() -> None:
    shell = "  ```sh\n  PORT=1 pelton serve 'a b' \\\n  --port 1 # why\n  ```\n"
    text = f"{shell}```python\npelton x\n```\n"
    assert commands(text) == [["pelton", "serve", "a b", "--port", "1"]]


def test_scripts_in_the_documents_exist() -> None:
    programs = {command[0] for _, command in COMMANDS if "/" in command[0]}
    ours = {program for program in programs if not program.startswith(".venv/")}
    assert "./start_server.sh" in ours
    assert [program for program in sorted(ours) if not (REPOSITORY / program).is_file()] == []


def test_every_subcommand_is_documented_and_has_the_options_that_documents_give_it() -> None:
    called = {
        (name, word.partition("=")[0])
        for _, command in COMMANDS
        if command[0] == "pelton"
        for name in [_called(command[1:])]
        for word in command[1:]
    }
    assert {name for name, _ in called} == _leaves()
    wrong = [
        pair for pair in called if pair[1].startswith("--") and pair[1] not in _options(pair[0])
    ]
    assert wrong == []


def _called(words: list[str]) -> tuple[str, ...]:
    """Return which command is called: one word, or two where commands are grouped."""
    return tuple(words[:2] if len(words) > 1 and words[1] in _subcommands(words[0]) else words[:1])


def _leaves() -> set[tuple[str, ...]]:
    groups = {name: _subcommands(name) for name in _subcommands()}
    assert "serve" in groups
    return {(name, inner) for name, inners in groups.items() for inner in inners} | {
        (name,) for name, inners in groups.items() if not inners
    }


def _subcommands(*group: str) -> set[str]:
    listed = _help(*group).partition("Commands")[2]
    return set(re.findall(r"(?m)^\W*([a-z]+)  ", listed))


def _options(command: tuple[str, ...]) -> set[str]:
    return {"--help", *re.findall(r"--[a-z0-9-]+", _help(*command))}


@functools.cache
def _help(*command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "pelton", *command, "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "COLUMNS": "160", "NO_COLOR": "1", "TERM": "dumb"},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


PYTHON = [
    pytest.param(block, id=f"{name}-{number}")
    for name, text in TEXTS.items()
    for number, block in enumerate(code_blocks(text, "python"))
]


@pytest.mark.parametrize("block", PYTHON)
def test_python_in_the_documents_imports_what_exists(block: str) -> None:
    compile(block, "document", "exec", dont_inherit=True)
    imports = re.findall(r"(?m)^(?:from|import) pelton.*(?:\n[ )].*)*", block)
    exec("\n".join(imports), {})


def test_both_languages_show_the_same_commands_and_json() -> None:
    pairs = [
        (name, f"docs/{name.removeprefix('docs/zh/')}") for name in TEXTS if "docs/zh/" in name
    ]
    assert len(pairs) > 5
    for chinese, english in pairs:
        assert commands(TEXTS[chinese]) == commands(TEXTS[english]), chinese
        assert [*code_blocks(TEXTS[chinese], "json")] == [*code_blocks(TEXTS[english], "json")]
