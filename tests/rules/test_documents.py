"""What the documents say of errors and versions is so, and their links lead somewhere."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest

import pelton
from pelton.errors import Code
from pelton.settings_docs import render
from pelton.wire.status import grpc_status, http_status
from rules.documents import DOCUMENTS, anchors, read, relative
from rules.source_tree import REPOSITORY


def error_rows(text: str) -> dict[str, tuple[str, str]]:
    """Return code -> (HTTP status, gRPC status) as a document's table has them."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| (\d+) \| `(\w+)` \|", text)
    return {code: (http, grpc) for code, http, grpc in rows}


def test_every_error_code_is_told_with_its_statuses() -> None:
    table = {str(code): (str(http_status(code)), grpc_status(code)) for code in Code}
    assert error_rows(read("docs/errors.md")) == table


def test_the_table_of_settings_is_the_one_in_the_code() -> None:
    assert read("docs/settings.md") == render(), "pelton settings --markdown > docs/settings.md"


def test_the_change_log_has_an_entry_for_this_version() -> None:
    headings = re.findall(r"(?m)^## \[(.+?)\]", read("CHANGELOG.md"))
    assert pelton.__version__ in headings
    assert headings[0] in {"Unreleased", pelton.__version__}
    assert tomllib.loads(read("pyproject.toml"))["project"]["version"] == pelton.__version__


def link_faults(document: Path) -> list[str]:
    """List links to files or headings that are not there."""
    text = document.read_text(encoding="utf-8")
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    inside = [target for target in targets if not re.match(r"[a-z]+:", target)]
    return [target for target in inside if not _leads_somewhere(document, target)]


def _leads_somewhere(document: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    path = document.parent / name if name else document
    if not path.exists():
        return False
    return not anchor or anchor in anchors(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("document", DOCUMENTS, ids=relative)
def test_links_lead_somewhere(document: Path) -> None:
    assert link_faults(document) == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    links = "[a](#one-thing) [b](b.md#no) [c](c.md) [d](b.md) [e](https://example.org) [f](#no)"
    (tmp_path / "a.md").write_text(f"# One `thing`\n{links}")
    (tmp_path / "b.md").write_text("# Two")
    assert link_faults(tmp_path / "a.md") == ["b.md#no", "c.md", "#no"]


MACHINE_PATH = re.compile(r"(?<![\w.])/(?:work|root|tmp|home/\w+|Users/\w+)/")

PUBLISHED = [
    *(path for path in REPOSITORY.glob("*.*") if path.name != ".git"),  # a file in a worktree
    *(
        path
        for place in ("src", "docs", "examples", "scripts", "requirements", ".ci", "benchmarks")
        for path in (REPOSITORY / place).rglob("*")
        if path.suffix in {"", ".py", ".sh", ".md", ".toml", ".txt", ".lock", ".json"}
        and path.is_file()
    ),
]


def test_nothing_published_holds_a_path_of_someones_machine() -> None:
    found = {
        relative(path): MACHINE_PATH.findall(path.read_text(encoding="utf-8"))
        for path in PUBLISHED
        if path.is_file()
    }
    assert {name: paths for name, paths in found.items() if paths} == {}


@pytest.mark.parametrize("path", ["/work/main/x", "at /root/.cache", "(/tmp/a)", "/home/ann/x"])
def test_a_path_of_a_machine_is_found(path: str) -> None:
    assert MACHINE_PATH.search(path)
    assert not MACHINE_PATH.search(path.replace("/", "/v2/"))
