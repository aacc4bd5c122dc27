"""Routes in and out of JSON: nothing lost, every fault named with its cure."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import Code, InvalidRequest
from pelton.routing.plain import as_plain, from_plain
from pelton.routing.policy import Arm, Latest, Pinned, Route, Shadow, Split
from routing.asked import split

LABEL = "1 to 32 small letters, digits, _ and -, begins with a letter"

# What is read


def test_a_name_is_a_model_with_its_latest_version() -> None:
    assert from_plain("digits", {"policy": "latest"}) == Route("digits", "digits", Latest(), None)


def test_a_route_may_lead_to_another_model_and_have_a_shadow() -> None:
    plain = {"policy": "pinned", "version": "stable", "model": "digits-big"}
    route = from_plain("digits", {**plain, "shadow": {"version": 7, "share": 0.25}})
    assert route == Route("digits", "digits-big", Pinned("stable"), Shadow(7, 0.25))


def test_a_split_has_its_defaults() -> None:
    policy = from_plain("digits", split(95, 5)).policy
    assert policy == Split((Arm(1, 95.0), Arm(2, 5.0)), "digits", 1.0, None)


def test_defaults_are_written_out() -> None:
    assert as_plain(from_plain("digits", split(1, 1))) == {
        "model": "digits",
        "policy": "split",
        "arms": [{"version": 1, "weight": 1.0}, {"version": 2, "weight": 1.0}],
        "salt": "digits",
        "enrolled": 1.0,
        "sticky": None,
        "shadow": None,
    }


targets = st.integers(1, 999_999_999) | st.from_regex(r"[a-z][a-z0-9_-]{0,31}", fullmatch=True)
targets = targets.filter(lambda target: target != "latest")
names = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}", fullmatch=True)
shares = st.floats(0, 1)
arms = st.lists(
    st.builds(Arm, targets, st.floats(0, 1e9)),
    min_size=1,
    max_size=16,
    unique_by=lambda arm: arm.version,
).filter(lambda listed: any(arm.weight for arm in listed))
fields = st.none() | st.text(min_size=1, max_size=128)
splits = st.builds(Split, arms.map(tuple), names, shares, fields)
policies = st.just(Latest()) | st.builds(Pinned, targets) | splits
shadows = st.none() | st.builds(Shadow, targets, shares)


@given(st.builds(Route, names, names, policies, shadows))
def test_a_route_comes_back_as_it_was_even_through_json(route) -> None:
    assert from_plain(route.name, json.loads(json.dumps(as_plain(route)))) == route


plain_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
keys = st.sampled_from(["policy", "model", "version", "arms", "salt", "enrolled", "shadow"])
kinds = st.sampled_from(["latest", "pinned", "split"])


@given(st.text(max_size=5), st.dictionaries(keys, plain_values | kinds) | plain_values)
def test_whatever_comes_is_read_or_refused(name, plain) -> None:
    try:
        route = from_plain(name, plain)
    except InvalidRequest as error:
        assert len(error.message) < 600  # noqa: PT017
    else:
        assert from_plain(route.name, as_plain(route)) == route


# What is refused


def refused(plain: object, name: str = "digits") -> str:
    with pytest.raises(InvalidRequest) as caught:
        from_plain(name, plain)
    assert caught.value.code is Code.INVALID_INPUT
    return caught.value.message


@pytest.mark.parametrize("name", ["", "a/b", "-a", "a" * 129, "é", "a\n"])
def test_names_are_like_those_of_models(name) -> None:
    told = refused({"policy": "latest"}, name)
    assert told.startswith(f"{name!r:.140} is no name of a route; it must have 1 to 128 letters")


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ([1], "route 'digits' is [1]; it must be an object"),
        ({}, "route 'digits': `policy` is missing; it must be one of latest, pinned, split"),
        (
            {"policy": "newest"},
            "route 'digits': `policy` is 'newest'; it must be one of latest, pinned, split",
        ),
        (
            {"policy": ["latest"]},
            "route 'digits': `policy` is ['latest']; it must be one of latest, pinned, split",
        ),
        (
            {"policy": "latest", "verison": 3},
            "route 'digits': `verison` is not known here; known are model, policy, shadow",
        ),
        (
            {"policy": "pinned", "verison": 3},
            "route 'digits': `verison` is not known here; did you mean `version`?",
        ),
        (
            {"policy": "latest", "model": "a/b"},
            "route 'digits': `model` is 'a/b'; it must be a model's name: 1 to 128 letters, "
            "digits, dots, dashes and underscores, a letter or digit first",
        ),
        (
            {"policy": "pinned", "version": "3"},
            "route 'digits': `version` is '3'; it must be a number, without quotes, or a label",
        ),
        (
            split(1, 1, enrolled=1.5),
            "route 'digits': `enrolled` is 1.5; it must be a number from 0 to 1",
        ),
        (
            split(1, 1, enrolled=None),
            "route 'digits': `enrolled` is None; it must be a number from 0 to 1",
        ),
        (
            split(1, 1, salt="a:b"),
            "route 'digits': `salt` is 'a:b'; it must be 1 to 128 letters, digits, dots, dashes "
            "and underscores, a letter or digit first",
        ),
        (
            split(1, 1, sticky=""),
            "route 'digits': `sticky` is ''; it must be the name of a parameter or an input, "
            "of at most 128 characters",
        ),
        (
            split(),
            "route 'digits': `arms` is []; it must be a list of 1 to 16 arms, the main one first",
        ),
        (split(0, 0), "route 'digits': every `weight` is 0; at least one must be more"),
        (
            split(1, -1),
            "route 'digits', arms[1]: `weight` is -1; it must be a number from 0 to 1000000000",
        ),
        (
            {"policy": "split", "arms": [{"version": 1, "weight": 1}, {"version": 1, "weight": 2}]},
            "route 'digits', arms[1]: `version` 1 stands twice; "
            "give it one arm with the sum of the weights",
        ),
        (
            {"policy": "split", "arms": [{"version": 1, "weigth": 1}]},
            "route 'digits', arms[0]: `weigth` is not known here; did you mean `weight`?",
        ),
        (
            {"policy": "split", "arms": [{"version": 1}]},
            "route 'digits', arms[0]: `weight` is missing; "
            "it must be a number from 0 to 1000000000",
        ),
        (
            {"policy": "split", "arms": [3]},
            "route 'digits', arms[0] is 3; it must be an object",
        ),
        (
            {"policy": "latest", "shadow": {"version": 1, "share": "all"}},
            "route 'digits', shadow: `share` is 'all'; it must be a number from 0 to 1",
        ),
        (
            {"policy": "latest", "shadow": 0.1},
            "route 'digits', shadow is 0.1; it must be an object",
        ),
    ],
)
def test_a_fault_is_named_with_its_cure(plain, told) -> None:
    assert refused(plain) == told


@pytest.mark.parametrize(
    "version", [0, -1, 1.0, True, None, 10**9, 10**400, "Stable", "latest", ""]
)
def test_no_version_and_no_label(version) -> None:
    told = refused({"policy": "pinned", "version": version})
    wanted = f"it must be the number of a version, from 1, or a label; a label has {LABEL}"
    assert told == (
        f"route 'digits': `version` is {version!r:.60}; {wanted}, and is not \"latest\""
    )


@pytest.mark.parametrize("weight", [float("nan"), float("inf"), -0.1, 10**400, 1e9 + 1, True, "1"])
def test_no_weight(weight) -> None:
    assert f"`weight` is {weight!r:.60}; it must be a number" in refused(split(weight, 1))


@pytest.mark.parametrize("share", [float("nan"), -0.1, 1.1, True, None])
def test_no_share(share) -> None:
    shadow = {"version": 1, "share": share}
    assert "shadow: `share` is" in refused({"policy": "latest", "shadow": shadow})


def test_at_most_sixteen_arms() -> None:
    assert len(from_plain("digits", split(*[1] * 16)).policy.arms) == 16
    assert "`arms` is [{" in refused(split(*[1] * 17))


def test_a_huge_value_is_not_repeated() -> None:
    assert len(refused({"policy": "x" * 100_000})) < 200
    assert len(refused({"policy": "latest", "y" * 100_000: 1})) < 200
