"""Which model answers where the path names none."""

from __future__ import annotations

import pytest

from pelton.errors import Code, InvalidRequest
from pelton.servers.model_choice import chosen_model


@pytest.mark.parametrize(
    ("asked", "default", "served", "chosen"),
    [
        ("b", "a", ["a", "b"], "b"),
        ("b", None, ["a", "b"], "b"),
        ("unknown", "a", ["a"], "unknown"),  # the engine says that it is not there
        (None, "a", ["a", "b"], "a"),
        ("", "a", ["a", "b"], "a"),
        (None, None, ["a"], "a"),
        ("", None, ["a"], "a"),
    ],
)
def test_the_first_that_is_said_decides(asked, default, served, chosen: str) -> None:
    assert chosen_model(asked, default, served) == chosen


@pytest.mark.parametrize(
    ("served", "told"),
    [
        (["a", "b"], "served are: a, b"),
        ([], "served are: none"),
        ([f"m{index:02}" for index in range(50)], "m18, m19"),
    ],
)
def test_where_nothing_decides_the_caller_is_told_how_to_say_it(served, told: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chosen_model(None, None, served)
    assert caught.value.code is Code.INVALID_INPUT
    assert caught.value.message.startswith(
        "say which model: add ?model=NAME or the header X-Pelton-Model; "
    )
    assert caught.value.message.endswith(told)
