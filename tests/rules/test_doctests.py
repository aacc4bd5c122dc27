"""Examples in docstrings give what they say."""

from __future__ import annotations

import doctest
import importlib

import pytest

from rules.source_tree import pelton_tree

WITH_EXAMPLES = [name for name, module in pelton_tree().modules.items() if ">>> " in module.text]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_docstrings_give_what_they_say(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0
