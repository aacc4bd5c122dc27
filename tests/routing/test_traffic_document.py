"""The policies that the documents show are read as they stand."""

from __future__ import annotations

import json

import pytest

from pelton.routing.labels import checked_labels
from pelton.routing.plain import as_plain, from_plain
from rules.documents import code_blocks, read

PAGES = ["docs/traffic.md", "docs/zh/traffic.md"]


def policies(page: str) -> list[dict]:
    return [json.loads(block) for block in code_blocks(read(page), "json")]


@pytest.mark.parametrize("page", PAGES)
def test_policies_are_read(page) -> None:
    shown = policies(page)
    kinds = {one["policy"] for one in shown if "policy" in one}
    assert kinds == {"latest", "pinned", "split"}
    for one in shown:
        if "policy" in one:
            kept = as_plain(from_plain("digits", one))
            assert {key: kept[key] for key in one} == one
        else:
            assert checked_labels("digits", one) == one


def test_both_languages_show_the_same_ones() -> None:
    english, chinese = map(policies, PAGES)
    assert english == chinese
