"""Labels: what may be one, and what one may point to."""

from __future__ import annotations

import pytest

from pelton.errors import InvalidRequest
from pelton.routing.labels import MAX_LABELS, checked_labels, is_label


@pytest.mark.parametrize("label", ["stable", "canary", "a", "blue-2", "a_b", "a" * 32])
def test_a_label(label) -> None:
    assert is_label(label)


@pytest.mark.parametrize(
    "label", ["", "Stable", "2", "-a", "a" * 33, "a b", "a\n", "latest", "é", 3, None]
)
def test_no_label(label) -> None:
    assert not is_label(label)


def test_labels_are_copied_in_order() -> None:
    given = {"stable": 3, "canary": 4}
    read = checked_labels("digits", given)
    assert list(read.items()) == [("canary", 4), ("stable", 3)]
    assert read is not given
    assert checked_labels("digits", {}) == {}


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        (
            ["stable"],
            "the labels of 'digits' are ['stable']; they must be an object of label to version, "
            'such as {"stable": 3}',
        ),
        (
            {"Stable": 3},
            "'Stable' is no label of 'digits'; a label has 1 to 32 small letters, digits, _ and "
            '-, begins with a letter, and is not "latest"',
        ),
        (
            {"stable": "3"},
            "label 'stable' of 'digits' points to '3'; it must be a whole number from 1 to "
            "999999999",
        ),
        (
            {f"l{number}": 1 for number in range(MAX_LABELS + 1)},
            "the labels of 'digits' are 65; there may be 64",
        ),
    ],
)
def test_a_fault_is_named_with_its_cure(plain, told) -> None:
    with pytest.raises(InvalidRequest) as caught:
        checked_labels("digits", plain)
    assert caught.value.message == told
