"""Every library that is imported is asked for by name, and none is asked for in vain."""

from __future__ import annotations

import ast
import importlib.metadata
import sys
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from rules.source_tree import REPOSITORY, pelton_tree

PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))

USED_BY_NAME = {"uvloop": "uvicorn is told to run on it"}
"""Libraries that Pelton needs without importing them."""

COMES_ALONG = {
    "starlette": "fastapi is made of it, and gives its classes out",
    "pytest": "pelton.testing is for test suites, which have it",
}
"""Libraries that Pelton imports without asking for them."""


def asked_for(*lists: list[str]) -> set[str]:
    """Return the names of the distributions in lists of requirements."""
    return {canonicalize_name(Requirement(line).name) for lines in lists for line in lines}


def distributions(imported: set[str]) -> set[str]:
    """Return the distributions that top-level imports come from."""
    known = importlib.metadata.packages_distributions()
    found = {name for module in imported for name in known.get(module, [module])}
    return {canonicalize_name(name) for name in found} - {"pelton"}


def imported_below(folder: Path) -> set[str]:
    """Return what is imported from outside by the Python files of a folder, by top-level name."""
    names = set()
    files = list(folder.rglob("*.py"))
    for file in files:
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    own = {part for file in files for part in file.relative_to(folder).with_suffix("").parts}
    return names - sys.stdlib_module_names - own


def test_pelton_asks_for_what_it_imports_and_for_nothing_else() -> None:
    project = PROJECT["project"]
    asked = asked_for(project["dependencies"], *project["optional-dependencies"].values())
    targets = {found.target.split(".")[0] for found in pelton_tree().imports()}
    used = distributions(targets - sys.stdlib_module_names)
    assert used - asked == set(COMES_ALONG)
    assert asked - used == set(USED_BY_NAME)


def test_the_core_asks_for_what_the_client_imports() -> None:
    way = {"pelton.client", "pelton.wire", "pelton.errors", "pelton.tensors", "pelton.messages"}
    used = {
        found.target.split(".")[0]
        for found in pelton_tree().imports()
        if ".".join(found.importer.split(".")[:2]) in way
    }
    core = asked_for(PROJECT["project"]["dependencies"])
    assert distributions(used - sys.stdlib_module_names) == core


def test_tests_and_examples_import_only_what_is_asked_for() -> None:
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    asked = asked_for(
        project["dependencies"], *project["optional-dependencies"].values(), groups["test"]
    )
    imported = imported_below(REPOSITORY / "tests") | imported_below(REPOSITORY / "examples")
    assert distributions(imported) - asked - set(COMES_ALONG) == set()


def test_an_import_that_nobody_asked_for_is_found(tmp_path: Path) -> None:
    (tmp_path / "room").mkdir()
    (tmp_path / "room" / "own.py").write_text("import numpy.linalg, os\nfrom room import own")
    (tmp_path / "other.py").write_text("def f():\n    from sklearn.svm import SVC")
    assert imported_below(tmp_path) == {"numpy", "sklearn"}
    assert distributions({"numpy", "sklearn", "pelton"}) == {"numpy", "scikit-learn"}
