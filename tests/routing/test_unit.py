"""Whom a request is for: a key where there is one, else the request itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import InvalidRequest
from pelton.messages import InferRequest
from pelton.routing.unit import unit_of
from routing.asked import request

# Without a named field


def test_the_header_comes_before_the_parameter_and_that_before_the_id() -> None:
    both = request(pelton_key="p")
    assert unit_of(both, "h", None) == ("h", True)
    assert unit_of(both, "", None) == ("p", True)
    assert unit_of(request(), "", None) == ("r-1", False)
    assert unit_of(request(log_id=""), "", None) == ("", False)


def test_a_number_is_the_same_key_as_its_text() -> None:
    assert unit_of(request(pelton_key=7), "", None) == unit_of(request(pelton_key="7"), "", None)


@pytest.mark.parametrize("key", ["a\nb", "\0", "x" * 257, "\ud800"])
def test_a_header_that_is_no_key_is_refused(key) -> None:
    with pytest.raises(InvalidRequest) as caught:
        unit_of(request(), key, None)
    assert caught.value.message == (
        f"the header X-Pelton-Key is {key!r:.60}; a key has 1 to 256 printable characters"
    )


@pytest.mark.parametrize("key", [True, 1.5, "a\tb"])
def test_a_parameter_that_is_no_key_is_refused(key) -> None:
    with pytest.raises(InvalidRequest, match=r"^the parameter 'pelton_key' is "):
        unit_of(request(pelton_key=key), "", None)


# With a named field


def of_field(value: object) -> tuple[str, bool]:
    return unit_of(InferRequest("digits", {"user": value}, log_id="r-1"), "header", "user")


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        ("ann", "ann"),
        (7, "7"),
        (np.array([7]), "7"),
        (np.array(7, np.uint8), "7"),
        (np.int64(7), "7"),
        (np.array([["ann"]]), "ann"),
        (np.array(["ann"], object), "ann"),
        (np.array(["用户".encode()], object), "用户"),
        (b"ann", "ann"),
    ],
)
def test_a_field_of_one_text_or_whole_number_is_a_key(value, unit) -> None:
    assert of_field(value) == (unit, True)


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", 1.5, True, [7], {}, "x" * 257, "a\0b", b"\xff"),
        *(np.array([1.5]), np.array([True]), np.array([7, 8]), np.array([], int)),
    ],
)
def test_any_other_field_is_none_and_the_header_does_not_replace_it(value) -> None:
    assert of_field(value) == ("r-1", False)


def test_a_parameter_comes_before_an_input_of_the_same_name() -> None:
    asked = InferRequest("digits", {"user": "input"}, parameters={"user": "told"})
    assert unit_of(asked, "", "user") == ("told", True)
    assert unit_of(asked, "", "session") == ("", False)


@given(st.text() | st.integers() | st.floats() | st.binary() | st.none())
def test_a_field_can_be_anything(value) -> None:
    unit, by_key = of_field(value)
    assert (unit, by_key) == ("r-1", False) or (by_key and unit.isprintable() and unit)
