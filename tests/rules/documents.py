"""The documents of the repository as data: their text, their code, their headings."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

from rules.source_tree import REPOSITORY

DOCUMENTS = [
    *sorted(REPOSITORY.glob("*.md")),
    *sorted((REPOSITORY / "docs").rglob("*.md")),
    *sorted((REPOSITORY / "examples").rglob("*.md")),
    *sorted((REPOSITORY / "benchmarks").rglob("*.md")),
]


def relative(path: Path) -> str:
    return path.relative_to(REPOSITORY).as_posix()


def read(document: str) -> str:
    return (REPOSITORY / document).read_text(encoding="utf-8")


def code_blocks(text: str, *languages: str) -> Iterator[str]:
    """Yield the fenced blocks of a document that are in one of the languages."""
    fenced = rf"(?ms)^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```"
    for _, block in re.findall(fenced, text):
        yield textwrap.dedent(block)


def anchors(text: str) -> set[str]:
    """Return the anchors of a document's headings, as code forges make them."""
    headings = re.findall(r"(?m)^#+ +(.*)$", text)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
