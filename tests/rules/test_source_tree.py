"""The reader that all import rules stand on sees every kind of import."""

from __future__ import annotations

from pathlib import Path

import pytest

from rules.source_tree import functions, write_tree


@pytest.mark.parametrize(
    ("source", "target", "at_start"),
    [
        ("import torch.nn", "torch.nn", True),
        ("from pelton.wire import limits", "pelton.wire.limits", True),
        ("from pelton.wire.limits import Limits", "pelton.wire.limits", True),
        ("from pelton import wire", "pelton.wire", True),
        ("from .limits import Limits", "pelton.wire.limits", True),
        ("from . import limits", "pelton.wire.limits", True),
        ("from ..clock import Clock", "pelton.clock", True),
        ("def f():\n    import torch", "torch", False),
        ("class A:\n    import torch", "torch", True),
        ("class A:\n    async def f(self):\n        import torch", "torch", False),
        ("try:\n    import torch\nexcept ImportError:\n    pass", "torch", True),
        ("if TYPE_CHECKING:\n    import torch", "torch", False),
        ("if typing.TYPE_CHECKING:\n    import torch", "torch", False),
        ("import importlib\nm = importlib.import_module('torch')", "torch", True),
        ("def f():\n    return __import__('torch')", "torch", False),
    ],
)
def test_every_kind_of_import_is_seen(
    tmp_path: Path, source: str, target: str, at_start: bool
) -> None:
    files = {"clock.py": "", "wire/__init__.py": "", "wire/limits.py": "", "wire/a.py": source}
    found = write_tree(tmp_path, files).imports()
    assert (target, at_start) in {(each.target, each.at_start) for each in found}
    assert {each.importer for each in found} == {"pelton.wire.a"}


def test_relative_import_in_a_package_counts_from_the_package(tmp_path: Path) -> None:
    tree = write_tree(tmp_path, {"wire/__init__.py": "from . import a", "wire/a.py": ""})
    assert [found.target for found in tree.imports()] == ["pelton.wire.a"]


def test_functions_are_named_by_where_they_are(tmp_path: Path) -> None:
    source = "class A:\n    def m(self):\n        def inner(): ...\nasync def f(): ...\n"
    module = write_tree(tmp_path, {"a.py": source}).modules["pelton.a"]
    assert [name for name, _ in functions(module)] == ["A.m", "A.m.inner", "f"]
