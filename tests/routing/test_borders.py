"""The room turns values into values: it speaks words, and touches neither clock nor peer."""

from __future__ import annotations

import sys

from rules.source_tree import pelton_tree

WORDS = {"pelton.errors", "pelton.messages", "pelton.records"}
LIBRARIES = {"numpy"}
NOT_HERE = {"asyncio", "os", "random", "secrets", "selectors", "socket", "ssl", "subprocess"} | {
    "threading",
    "time",
    "datetime",
}


def test_the_room_imports_words_numpy_and_what_is_pure() -> None:
    ours = [one for one in pelton_tree().imports() if one.importer.startswith("pelton.routing")]
    assert len(ours) > 20
    wrong = [
        str(found)
        for found in ours
        if found.target not in WORDS
        and not found.target.startswith("pelton.routing.")
        and found.target.split(".")[0] not in (LIBRARIES | sys.stdlib_module_names) - NOT_HERE
    ]
    assert wrong == []
