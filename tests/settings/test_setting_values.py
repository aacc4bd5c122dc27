"""How sizes, durations, numbers and words are written in settings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.setting_values import (
    DEVICE,
    MILLISECONDS,
    YES_NO,
    choice,
    integer,
    or_auto,
    parse_duration,
    parse_size,
    text,
)

A_SIZE = "a size such as 64MiB, 512KiB or 1000000"
A_DURATION = "a duration such as 30s, 250ms or 1h30m"


def refusal(parse, written: str) -> str:
    with pytest.raises(ValueError) as caught:
        parse(written)
    return str(caught.value)


@pytest.mark.parametrize(
    ("written", "size"),
    [
        ("0", 0),
        ("1", 1),
        ("67108864", 67_108_864),
        ("7B", 7),
        ("1KiB", 1024),
        ("64MiB", 64 * 1024 * 1024),
        ("64 MiB", 64 * 1024 * 1024),
        (" 2GiB ", 2 * 1024**3),
        ("007KiB", 7 * 1024),
        ("999999999999999", 999_999_999_999_999),
    ],
)
def test_sizes(written: str, size: int) -> None:
    assert parse_size(written) == size
    assert type(parse_size(written)) is int


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "-1", "+1", "1.5MiB", "64MB", "64M", "64mib", "64kB", "MiB", "1_000", "1e6"),
        *("0x10", "1 000", "1MiB2", "64MiBs", "1000000000000000", "\u0661", "inf"),
    ],
)
def test_what_is_no_size(written: str) -> None:
    assert refusal(parse_size, written) == A_SIZE


@given(st.integers(0, 10**12), st.sampled_from([("", 1), ("KiB", 1024), ("GiB", 1024**3)]))
def test_a_size_is_the_number_times_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert parse_size(f"{number}{unit[0]}") == number * unit[1]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("0", 0.0),
        ("90", 90.0),
        ("1.5", 1.5),
        (".5", 0.5),
        ("30s", 30.0),
        ("1.5s", 1.5),
        ("0s", 0.0),
        ("250ms", 0.25),
        ("0.5ms", 0.0005),
        ("2m", 120.0),
        ("1h", 3600.0),
        ("1h30m", 5400.0),
        ("1h30m15s", 5415.0),
        ("1h15s", 3615.0),
        ("1m500ms", 60.5),
        ("1s500ms", 1.5),
        ("90m", 5400.0),
        (" 30s ", 30.0),
    ],
)
def test_durations(written: str, seconds: float) -> None:
    assert parse_duration(written) == seconds
    assert type(parse_duration(written)) is float


@pytest.mark.parametrize(
    "written",
    [
        *("", " ", "s", "ms", "-1s", "30 s", "1h 30m", "30m1h", "1.5h", "30S", "30sec", "1d"),
        *("1m2ms3s", "1:30", "1h30", "1_0", "1_0s", "soon"),
    ],
)
def test_what_is_no_duration(written: str) -> None:
    assert refusal(parse_duration, written) == A_DURATION


@pytest.mark.parametrize(
    "written", ["-1", "-0.001", "inf", "-inf", "nan", "1e999", "9" * 400 + "h", "9" * 400 + "s"]
)
def test_a_duration_has_an_end_and_is_not_negative(written: str) -> None:
    assert refusal(parse_duration, written) == "a duration that is not negative"


@given(st.integers(0, 99), st.integers(0, 99), st.integers(0, 99), st.integers(0, 999))
def test_the_parts_of_a_duration_add_up(hours: int, minutes: int, whole: int, milli: int) -> None:
    seconds = parse_duration(f"{hours}h{minutes}m{whole}s{milli}ms")
    assert seconds == hours * 3600 + minutes * 60 + whole + milli / 1000


@pytest.mark.parametrize(
    ("written", "value"),
    [
        *[(written, True) for written in ("true", "TRUE", "1", "yes", " on ")],
        *[(written, False) for written in ("false", "False", "0", "no", "off")],
    ],
)
def test_yes_and_no(written: str, value: bool) -> None:
    assert YES_NO.parse(written) is value


@pytest.mark.parametrize("written", ["", "2", "y", "t", "none", "truefalse", "-1"])
def test_what_is_neither_yes_nor_no(written: str) -> None:
    assert refusal(YES_NO.parse, written) == "true or false"


@pytest.mark.parametrize("written", ["cpu", "auto", "cuda", "cuda:0", "cuda:15"])
def test_devices(written: str) -> None:
    assert DEVICE.parse(written) == written


@pytest.mark.parametrize("written", ["", "CPU", "gpu", "cuda:", "cuda:-1", "cuda:x", "cpu ", "mps"])
def test_what_is_no_device(written: str) -> None:
    assert refusal(DEVICE.parse, written) == "cpu, auto, cuda or cuda:N"


@pytest.mark.parametrize(("written", "value"), [("0", 0), ("65535", 65535), (" 080 ", 80)])
def test_whole_numbers(written: str, value: int) -> None:
    assert integer(0, 65535).parse(written) == value


@pytest.mark.parametrize("written", ["", "-1", "65536", "1.0", "1e3", "0x1", "1_0", "٣", "9" * 13])
def test_what_is_no_such_number(written: str) -> None:
    assert refusal(integer(0, 65535).parse, written) == "a whole number from 0 to 65535"


def test_a_number_may_have_no_upper_bound() -> None:
    assert integer(1).parse("999999999999") == 999_999_999_999
    assert refusal(integer(1).parse, "0") == "a whole number of at least 1"


def test_choices_are_taken_letter_by_letter() -> None:
    form = choice("text", "json")
    assert form.told == "text | json"
    assert form.parse("json") == "json"
    assert refusal(form.parse, "JSON") == "text or json"
    assert refusal(form.parse, "") == "text or json"


def test_text_may_be_anything_but_empty() -> None:
    form = text("path")
    assert form.told == "path"
    assert form.parse(" a b ") == " a b "
    assert refusal(form.parse, "") == "something, not empty"
    assert refusal(form.parse, " \t") == "something, not empty"


@pytest.mark.parametrize(
    ("written", "milliseconds"),
    [("2", 2.0), ("0.5", 0.5), ("0", 0.0), ("2ms", 2.0), ("1s", 1000.0), ("1m", 60_000.0)],
)
def test_milliseconds(written: str, milliseconds: float) -> None:
    assert MILLISECONDS.parse(written) == milliseconds


@pytest.mark.parametrize("written", ["", "-1", "nan", "inf", "fast", "1_0"])
def test_what_are_no_milliseconds(written: str) -> None:
    with pytest.raises(ValueError, match=r"^milliseconds such as 2 or 0\.5, or a duration"):
        MILLISECONDS.parse(written)


def test_auto_is_0() -> None:
    form = or_auto(integer(0, 8))
    assert [form.parse(written) for written in ("auto", "0", "8")] == [0, 0, 8]
    with pytest.raises(ValueError, match=r"^auto or a whole number from 0 to 8$"):
        form.parse("9")
