"""One subject per file, one thought per function, and names that say which."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from rules.source_tree import Function, SourceTree, functions, pelton_tree, write_tree

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50
MAX_CONSTRUCTOR_ARGUMENTS = 8
"""Of a written `__init__`. The fields of a record are its subject and are not counted."""

NAMES_OF_NOTHING = {"util", "utils", "common", "helper", "helpers", "misc"}


def file_faults(tree: SourceTree) -> list[str]:
    """List files that are too long."""
    sizes = {module.path: len(module.text.splitlines()) for module in tree.modules.values()}
    return [f"{path}: {lines} lines" for path, lines in sizes.items() if lines > MAX_FILE_LINES]


def function_faults(tree: SourceTree) -> list[str]:
    """List functions that are too long, docstring and all."""
    return [
        f"{module.path}:{function.lineno}: {name} has {_lines(function)} lines"
        for module in tree.modules.values()
        for name, function in functions(module)
        if _lines(function) > MAX_FUNCTION_LINES
    ]


def constructor_faults(tree: SourceTree) -> list[str]:
    """List constructors that take too many arguments."""
    return [
        f"{module.path}:{function.lineno}: {name} takes {_arguments(function)} arguments"
        for module in tree.modules.values()
        for name, function in functions(module)
        if function.name == "__init__" and _arguments(function) > MAX_CONSTRUCTOR_ARGUMENTS
    ]


def name_faults(tree: SourceTree) -> list[str]:
    """List files and rooms whose name says nothing."""
    return [
        str(module.path)
        for name, module in tree.modules.items()
        if name.rpartition(".")[2].strip("_") in NAMES_OF_NOTHING
    ]


def _lines(function: Function) -> int:
    assert function.end_lineno is not None
    return function.end_lineno - function.lineno + 1


def _arguments(function: Function) -> int:
    arguments: ast.arguments = function.args
    positional = [*arguments.posonlyargs, *arguments.args]
    return len(positional) - 1 + len(arguments.kwonlyargs)  # without self


@pytest.mark.parametrize("rule", [file_faults, function_faults, constructor_faults, name_faults])
def test_pelton_keeps(rule) -> None:
    assert rule(pelton_tree()) == []


def test_a_long_file_is_found(tmp_path: Path) -> None:
    files = {"long.py": "x = 1\n" * 401, "fits.py": "x = 1\n" * 400}
    assert file_faults(write_tree(tmp_path, files)) == ["pelton/long.py: 401 lines"]


def test_a_long_function_is_found(tmp_path: Path) -> None:
    fits = "class A:\n    def fits(self):\n" + "        x = 1\n" * 49
    long = "    async def long(self):\n" + "        x = 1\n" * 50
    faults = function_faults(write_tree(tmp_path, {"a.py": fits + long}))
    assert faults == ["pelton/a.py:52: A.long has 51 lines"]


def test_a_crowded_constructor_is_found(tmp_path: Path) -> None:
    fits = "class A:\n    def __init__(self, a, b, c, d, *, e, f, g, h): ...\n"
    crowded = "class B:\n    def __init__(self, a, b, c, d, /, e, *, f, g, h, i): ...\n"
    free = "def f(a, b, c, d, e, f, g, h, i): ...\n"
    faults = constructor_faults(write_tree(tmp_path, {"a.py": fits + crowded + free}))
    assert faults == ["pelton/a.py:4: B.__init__ takes 9 arguments"]


@pytest.mark.parametrize("name", ["utils.py", "wire/_helpers.py", "common/__init__.py"])
def test_a_name_that_says_nothing_is_found(tmp_path: Path, name: str) -> None:
    assert name_faults(write_tree(tmp_path, {name: ""})) == [f"pelton/{name}"]
