"""`docs/map.md` names every package and module, and nothing that is not there."""

from __future__ import annotations

import re
from pathlib import Path

from rules.documents import read
from rules.source_tree import REPOSITORY


def named_files(text: str) -> set[str]:
    """Return what a document names in backticks that looks like a Python file or a folder."""
    return set(re.findall(r"`([\w./-]*(?:\.py|/))`", text))


def map_faults(text: str, sources: Path, repository: Path) -> list[str]:
    """List modules and packages that the map forgets, and what it names that is not there.

    Args:
        text: the map; it names modules from the package's folder, anything else from the root's.
        sources: the package's folder.
        repository: the root.
    """
    files = {path.relative_to(sources).as_posix() for path in sources.rglob("*.py")}
    real = {re.sub(r"/__init__\.py$", "/", file) for file in files}
    named = named_files(text)
    missing = [f"not on the map: {name}" for name in sorted(real - named)]
    invented = [name for name in sorted(named - real) if not (repository / name).exists()]
    return missing + [f"does not exist: {name}" for name in invented]


def test_the_map_is_true() -> None:
    assert map_faults(read("docs/map.md"), REPOSITORY / "src" / "pelton", REPOSITORY) == []


def test_a_false_map_is_found(tmp_path: Path) -> None:
    sources = tmp_path / "src"
    for name in ("__init__.py", "clock.py", "wire/__init__.py", "wire/a.py"):
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        (sources / name).touch()
    text = "`__init__.py` `wire/a.py` `wire/b.py` `src/` `attic/` `clock.py` and `Client`"
    assert map_faults(text, sources, tmp_path) == [
        "not on the map: wire/",
        "does not exist: attic/",
        "does not exist: wire/b.py",
    ]
