"""Which requests are copied: a share, told again by the id, evenly over the arms."""

from __future__ import annotations

from collections import Counter

import pytest

from pelton.routing.shadowing import Sample
from routing.asked import request, split, table

IDS = [f"robot-{number}" for number in range(20_000)]


def shadowed(plain: dict, share: float, version: int | str = 3) -> dict:
    return {**plain, "shadow": {"version": version, "share": share}}


def test_samples_are_those_of_every_release() -> None:
    sample = Sample("digits", 0.25)
    taken = "".join(str(int(sample.takes(each))) for each in IDS[:40])
    assert taken == "0000001000001000110000000011100000000010"


def test_a_share_is_kept() -> None:
    taken = sum(Sample("digits", 0.05).takes(each) for each in IDS)
    assert abs(taken - 1000) < 3.29 * (20_000 * 0.05 * 0.95) ** 0.5  # two-sided p = 0.001


def test_all_none_and_a_larger_sample_holds_the_smaller() -> None:
    small, large = Sample("digits", 0.1), Sample("digits", 0.3)
    for each in IDS[:1000]:
        assert Sample("digits", 1.0).takes(each)
        assert not Sample("digits", 0.0).takes(each)
        assert large.takes(each) or not small.takes(each)


def test_a_request_without_an_id_is_in_the_sample_of_all_only() -> None:
    assert Sample("digits", 1.0).takes("")
    assert not Sample("digits", 0.999999).takes("")


def test_a_latest_version_is_shadowed() -> None:
    routes = table(shadowed({"policy": "latest"}, 0.25, 1))
    sample = Sample("digits", 0.25)
    for each in IDS[:100]:
        choice = routes.choose(request(log_id=each), "ann")
        assert (choice.version, choice.shadow) == (3, 1 if sample.takes(each) else None)


def test_a_split_is_shadowed_evenly_over_its_arms() -> None:
    routes = table(shadowed(split(1, 1), 0.5))
    choices = [routes.choose(request(log_id=each)) for each in IDS[:8000]]
    cells = Counter((choice.arm, choice.shadow) for choice in choices)
    assert set(cells) == {("1", None), ("1", 3), ("2", None), ("2", 3)}
    assert sum((count - 2000) ** 2 / 2000 for count in cells.values()) < 16.27  # df 3, p = 0.001


def test_no_version_shadows_itself() -> None:
    latest = table(shadowed({"policy": "latest"}, 1.0))
    assert latest.choose(request()).shadow is None
    halves = table(shadowed(split(1, 1), 1.0, 2))
    for each in IDS[:50]:
        choice = halves.choose(request(log_id=each))
        assert choice.shadow == (2 if choice.version == 1 else None)
    nobody = table(shadowed(split(1, 1, enrolled=0.0), 1.0, 1))
    assert nobody.choose(request()).shadow is None


@pytest.mark.parametrize("version", [9, "nobody"])
def test_a_shadow_that_is_not_there_costs_nothing_else(version) -> None:
    choice = table(shadowed({"policy": "latest"}, 1.0, version)).choose(request())
    assert (choice.version, choice.shadow) == (3, None)


def test_a_request_that_names_its_version_has_no_shadow() -> None:
    routes = table(shadowed({"policy": "latest"}, 1.0, 1))
    assert routes.choose(request(version="2")).shadow is None
    assert routes.choose(request()).shadow == 1
