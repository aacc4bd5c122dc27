"""One table: who answers for a name, what stands in, what an old snapshot still says."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import InvalidRequest, NotFound, PeltonError, Unavailable
from pelton.routing.choice import Choice
from pelton.routing.plain import from_plain
from pelton.routing.policy import Latest, Pinned, Route
from pelton.routing.table import Table
from pelton.routing.versions import Versions
from routing.asked import request, split, table

UNITS = [f"robot-{number}" for number in range(300)]


def chosen(routes: Table, name: str = "digits", version: str | None = None, key: str = "ann"):
    return routes.choose(request(name, version), key)


def pinned(version: int | str) -> dict:
    return {"policy": "pinned", "version": version}


def arms(first: int | str, second: int | str, **more) -> dict:
    listed = [{"version": first, "weight": 1}, {"version": second, "weight": 1}]
    return {"policy": "split", "arms": listed, **more}


# Latest


def test_the_largest_version_answers_for_a_model() -> None:
    assert chosen(table(None, 2, 10, 9)) == Choice("digits", "digits", 10, "10")


def test_the_active_version_answers_whatever_its_number() -> None:
    assert chosen(table(None, 1, 2, 3, active=2)).version == 2


def test_nothing_stands_in_for_the_active_version() -> None:
    with pytest.raises(Unavailable) as caught:
        chosen(table(None, 1, 3, active=2))
    assert caught.value.message == (
        "version 2 of model 'digits' is not ready; ready are: 1, 3; the repository's index says why"
    )


def test_a_model_none_of_whose_versions_is_ready() -> None:
    with pytest.raises(Unavailable) as caught:
        chosen(Table((), [Versions("digits")]))
    assert caught.value.message == (
        "no version of model 'digits' is ready; the repository's index says why"
    )


def test_all_requests_of_a_settled_route_get_the_same_object() -> None:
    routes = table()
    assert chosen(routes, key="ann") is chosen(routes, key="bob")


# Pinned


@pytest.mark.parametrize("version", [2, "stable"])
def test_a_pinned_version_answers(version) -> None:
    routes = table(pinned(version), labels={"stable": 2})
    assert chosen(routes) == Choice("digits", "digits", 2, "2")


def test_a_pinned_version_that_is_not_ready_is_not_replaced() -> None:
    with pytest.raises(Unavailable) as caught:
        chosen(table(pinned("stable"), 1, 3, labels={"stable": 2}))
    assert caught.value.message == (
        "version 2 ('stable') of model 'digits' is not ready; ready are: 1, 3; "
        "the repository's index says why"
    )


def test_an_unknown_label_lists_those_there_are() -> None:
    with pytest.raises(NotFound) as caught:
        chosen(table(pinned("canary"), labels={"stable": 2, "blue": 1}))
    assert caught.value.message == (
        "model 'digits' has no label 'canary'; its labels are: blue (1), stable (2)"
    )


def test_an_error_is_a_new_one_each_time() -> None:
    routes = table(pinned(9))
    caught = []
    for _ in range(2):
        with pytest.raises(Unavailable) as one:
            chosen(routes)
        caught.append(one.value)
    assert caught[0] is not caught[1]


# Splits


def test_a_unit_keeps_its_arm_and_both_arms_are_used() -> None:
    routes = table(split(1, 1))
    first = {unit: chosen(routes, key=unit) for unit in UNITS}
    assert Counter(one.arm for one in first.values()).keys() == {"1", "2"}
    for unit, choice in first.items():
        again = routes.choose(request(log_id="another"), unit)
        assert again == choice
        assert choice == Choice(
            "digits",
            "digits",
            int(choice.arm),
            choice.arm,
            0.5,
            enrolled=True,
            unit=unit,
            by_key=True,
            salt="digits",
        )


def test_without_a_key_each_request_is_a_unit() -> None:
    routes = table(split(1, 1))
    choices = [routes.choose(request(log_id=unit)) for unit in UNITS]
    assert {one.version for one in choices} == {1, 2}
    assert [one.unit for one in choices] == UNITS
    assert not any(one.by_key for one in choices)


def test_a_request_that_nothing_tells_from_others_goes_to_the_main_arm() -> None:
    choice = table(split(0, 1)).choose(request(log_id=""))
    assert choice == Choice("digits", "digits", 1, "1", salt="digits")


def test_who_is_not_enrolled_is_served_by_the_main_arm() -> None:
    choice = chosen(table(split(0, 1, enrolled=0.0)))
    assert choice == Choice("digits", "digits", 1, "1", 1.0, unit="ann", by_key=True, salt="digits")


def test_a_field_of_the_request_tells_the_unit() -> None:
    routes = table(split(1, 1, sticky="user"))
    choice = routes.choose(request(user="bob"), "ann")
    assert (choice.unit, choice.by_key) == ("bob", True)
    assert choice.arm == chosen(table(split(1, 1)), key="bob").arm


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from(UNITS))
def test_under_a_ramp_nobody_enrolled_changes_versions(one, other, unit) -> None:
    few = chosen(table(split(3, 1, enrolled=min(one, other))), key=unit)
    many = chosen(table(split(3, 1, enrolled=max(one, other))), key=unit)
    if few.enrolled:
        assert many == few
    if not many.enrolled:
        assert many == few


@pytest.mark.parametrize("missing", [9, "canary", "lost"])
def test_the_main_arm_stands_in_and_the_assigned_arm_is_recorded(missing) -> None:
    routes = table(arms(2, missing), labels={"canary": 9})
    whole = table(arms(2, 3))
    recorded = {9: "9", "canary": "9", "lost": "lost"}[missing]
    for unit in UNITS:
        intended, choice = chosen(whole, key=unit), chosen(routes, key=unit)
        assert choice.version == 2
        assert choice.arm == (recorded if intended.arm == "3" else "2")
        assert (choice.enrolled, choice.probability) == (True, 0.5)


def test_nothing_stands_in_for_the_main_arm() -> None:
    with pytest.raises(Unavailable, match="version 9 of model 'digits' is not ready"):
        chosen(table(arms(9, 1)))
    with pytest.raises(NotFound, match="has no label 'lost'"):
        chosen(table(arms("lost", 1)))


def test_a_label_that_moves_moves_the_arm_and_what_is_recorded() -> None:
    before = table(arms(1, "canary"), labels={"canary": 2})
    after = before.with_labels("digits", {"canary": 3})
    treated = next(unit for unit in UNITS if chosen(before, key=unit).arm == "2")
    assert chosen(after, key=treated)._replace(version=2, arm="2") == chosen(before, key=treated)
    assert chosen(after, key=treated).version == 3


def test_arms_that_mean_one_version_have_the_sum_of_their_probabilities() -> None:
    three = arms(1, "stable")
    three["arms"].append({"version": 2, "weight": 2})
    routes = table(three, labels={"stable": 1})
    likely = {one.arm: one.probability for one in (chosen(routes, key=unit) for unit in UNITS)}
    assert likely == {"1": 0.5, "2": 0.5}


def test_a_split_needs_a_key_that_is_one_and_other_routes_do_not_look() -> None:
    with pytest.raises(InvalidRequest, match="X-Pelton-Key"):
        chosen(table(split(1, 1)), key="a\nb")
    assert chosen(table(), key="a\nb").version == 3


# Versions that requests name


@pytest.mark.parametrize("version", ["2", "stable"])
@pytest.mark.parametrize("plain", [None, {"policy": "latest"}, pinned(3), pinned(9)])
def test_a_named_version_is_forced(version, plain) -> None:
    choice = chosen(table(plain, labels={"stable": 2}), version=version)
    assert choice == Choice("digits", "digits", 2, "2", forced=True)


def test_a_forced_choice_of_a_split_tells_the_unit() -> None:
    choice = chosen(table(split(1, 0, salt="june")), version="2")
    assert choice == Choice(
        "digits", "digits", 2, "2", forced=True, unit="ann", by_key=True, salt="june"
    )


@pytest.mark.parametrize("version", ["9", "02", " 2", "2.0", "-1", "", "canary", "late", "٢"])
def test_a_version_that_is_not_there(version) -> None:
    with pytest.raises(NotFound) as caught:
        chosen(table(labels={"stable": 2, "late": 9}), version=version)
    assert caught.value.message == (
        f"version {version!r} of model 'digits' is not served; ready are: 1, 2, 3; "
        "labels: late (9), stable (2)"
    )


def test_a_forced_choice_of_a_split_takes_the_unit_from_its_field() -> None:
    routes = table(split(1, 0, sticky="user"))
    assert routes.choose(request(version="2", user="bob"), "ann").unit == "bob"


# Names


def test_routes_lead_to_other_models_and_models_without_one_are_served() -> None:
    routes = table().with_route(Route("scan", "digits", Pinned(1)))
    assert chosen(routes, "scan") == Choice("scan", "digits", 1, "1")
    assert chosen(routes, "scan", "3").model == "digits"
    assert chosen(routes).version == 3
    assert routes.names() == ["digits", "scan"]
    assert routes.route("digits") == Route("digits", "digits", Latest())


def test_an_unknown_name_lists_those_there_are() -> None:
    with pytest.raises(NotFound) as caught:
        chosen(table(), "digit")
    assert caught.value.message == "unknown model 'digit'; served are: digits"
    with pytest.raises(NotFound, match=r"^unknown model 'digit'; no model is served$"):
        chosen(Table(), "digit")
    broken = table().with_versions("broken", (), 1)
    with pytest.raises(NotFound, match=r"served are: digits$"):
        chosen(broken, "digit")
    many = Table((), [Versions(f"m{number:02}", frozenset({1})) for number in range(21)])
    with pytest.raises(NotFound, match=r"m18, m19, \.\.\.$"):
        chosen(many, "x" * 1000)


@pytest.mark.parametrize("ask", [Table.speaker, Table.route])
def test_an_unknown_name_is_not_found_by_any_question(ask) -> None:
    with pytest.raises(NotFound, match="unknown model 'digit'"):
        ask(table(), "digit")


def test_who_speaks_for_a_name() -> None:
    routes = table(split(1, 1), labels={"new": 3}).with_route(Route("scan", "digits"))
    assert routes.speaker("digits") == ("digits", 1)
    assert routes.speaker("digits", "new") == ("digits", 3)
    assert routes.speaker("scan") == ("digits", 3)
    with pytest.raises(NotFound, match="version '7' of model 'digits' is not served"):
        routes.speaker("digits", "7")
    with pytest.raises(Unavailable):
        table(pinned(9)).speaker("digits")


def test_a_route_to_a_model_that_is_unloaded_says_so_and_not_that_its_label_is_gone() -> None:
    routes = table(pinned("stable"), labels={"stable": 2})
    said = r"version 2 \('stable'\) of model 'digits' is not ready; ready are: none"
    gone = routes.without_model("digits")
    with pytest.raises(Unavailable, match=said):
        chosen(gone, "digits")
    moved = gone.with_labels("digits", {"stable": 3})
    with pytest.raises(Unavailable, match=said.replace("2", "3")):
        chosen(moved, "digits")
    with pytest.raises(NotFound, match=r"ready are: none; labels: stable \(3\)"):
        moved.speaker("digits", "stable")
    assert chosen(moved.with_versions("digits", [3]), "digits").version == 3


# What must stay loaded, and what may be set


def test_versions_that_routes_and_labels_name_are_told() -> None:
    plain = {**arms(1, "canary"), "shadow": {"version": 5, "share": 0}}
    shadow = {"shadow": {"version": 7, "share": 1}}
    routes = table(plain, labels={"canary": 8, "by_hand": 6})
    routes = routes.with_route(from_plain("other", {"model": "digits", **pinned(4), **shadow}))
    routes = routes.with_route(from_plain("lost", {"model": "digits", **pinned("lost")}))
    assert routes.named_versions("digits") == {1, 8, 5, 4, 7, 6}
    assert routes.without_model("digits").named_versions("digits") == {1, 8, 5, 4, 7, 6}
    assert routes.named_versions("nobody") == frozenset()


def test_a_route_that_can_be_followed_may_be_set() -> None:
    plain = {**arms(1, "canary"), "shadow": {"version": 3, "share": 0}}
    table(labels={"canary": 2}).check(from_plain("new", {"model": "digits", **plain}))


@pytest.mark.parametrize(
    ("plain", "told"),
    [
        ({"policy": "latest", "model": "digit"}, "unknown model 'digit'; served are: digits"),
        (
            arms(1, 9),
            "version '9' of model 'digits' is not served; ready are: 1, 2, 3; labels: none",
        ),
        (
            {"policy": "latest", "shadow": {"version": "canary", "share": 1}},
            "version 'canary' of model 'digits' is not served; ready are: 1, 2, 3; labels: none",
        ),
    ],
)
def test_a_route_that_cannot_be_followed_may_not(plain, told) -> None:
    with pytest.raises(InvalidRequest) as caught:
        table().check(from_plain("digits", plain))
    assert caught.value.message == f"route 'digits': {told}"
    assert type(caught.value) is InvalidRequest


# Snapshots


def test_a_route_is_set_and_taken_back() -> None:
    plain = table()
    routed = plain.with_route(Route("digits", "digits", Pinned(1)))
    again = routed.without_route("digits")
    assert [chosen(one).version for one in (plain, routed, again)] == [3, 1, 3]
    assert [dict(one.routes) for one in (plain, again)] == [{}, {}]
    assert routed.without_route("nobody").routes == routed.routes


def test_a_route_without_a_model_disappears_with_its_name() -> None:
    routed = table().with_route(Route("scan", "digits"))
    with pytest.raises(NotFound):
        chosen(routed.without_route("scan"), "scan")
    assert chosen(routed, "scan").version == 3


def test_a_swap_moves_every_route_to_the_model_and_no_other() -> None:
    old = table().with_versions("other", [1]).with_route(Route("scan", "digits"))
    new = old.with_versions("digits", [3, 4])
    assert [chosen(new, name).version for name in ("digits", "scan", "other")] == [4, 4, 1]
    assert [chosen(old, name).version for name in ("digits", "scan", "other")] == [3, 3, 1]
    back = new.with_versions("digits", [3, 4], active=3)
    assert [chosen(back, name).version for name in ("digits", "scan", "other")] == [3, 3, 1]


def test_labels_stay_when_versions_change_and_move_when_told() -> None:
    old = table(pinned("stable"), labels={"stable": 1})
    assert chosen(old.with_versions("digits", [1, 5])).version == 1
    moved = old.with_labels("digits", {"stable": 2})
    assert [chosen(one).version for one in (old, moved)] == [1, 2]


def test_a_model_goes_and_its_routes_wait_for_it() -> None:
    old = table().with_route(Route("scan", "digits"))
    gone = old.without_model("digits")
    with pytest.raises(NotFound, match="unknown model 'digits'; served are: scan"):
        chosen(gone)
    with pytest.raises(Unavailable, match="no version of model 'digits' is ready"):
        chosen(gone, "scan")
    assert chosen(old, "scan") == chosen(gone.with_versions("digits", [3]), "scan")


def test_a_snapshot_cannot_be_changed_from_outside() -> None:
    labels = {"stable": 1}
    routes = Table().with_versions("digits", [1, 2]).with_labels("digits", labels)
    labels["stable"] = 2
    assert chosen(routes, version="stable").version == 1
    with pytest.raises(TypeError):
        routes.routes["digits"] = Route("digits", "digits")
    with pytest.raises(TypeError):
        routes.models["digits"].labels["stable"] = 2


steps = st.lists(
    st.one_of(
        st.builds(
            lambda v, a: ("versions", v, a), st.sets(st.integers(1, 4)), st.none() | st.just(2)
        ),
        st.builds(lambda v: ("labels", {"stable": v}), st.integers(1, 4)),
        st.builds(
            lambda plain: ("route", plain),
            st.sampled_from(
                [{"policy": "latest"}, pinned(2), pinned("stable"), split(1, 2), arms(3, "stable")]
            ),
        ),
        st.just(("unroute",)),
        st.just(("unmodel",)),
    ),
    max_size=8,
)


def outcome(routes: Table, version: str | None) -> object:
    try:
        return chosen(routes, version=version)
    except PeltonError as error:
        return type(error), error.message


def stepped(routes: Table, step: tuple) -> Table:
    kind, *of = step
    if kind == "versions":
        return routes.with_versions("digits", *of)
    if kind == "labels":
        return routes.with_labels("digits", *of)
    if kind == "route":
        return routes.with_route(from_plain("digits", *of))
    return routes.without_route("digits") if kind == "unroute" else routes.without_model("digits")


@given(steps, st.sampled_from([None, "1", "2", "stable"]))
def test_changes_one_by_one_give_the_table_made_at_once_and_touch_no_other(
    changes, version
) -> None:
    routes, seen = Table(), []
    for step in changes:
        seen.append((routes, outcome(routes, version)))
        routes = stepped(routes, step)
        made = Table(routes.routes.values(), routes.models.values())
        if not routes.models and "digits" in routes.labels:
            made = made.with_labels("digits", routes.labels["digits"])
        assert outcome(routes, version) == outcome(made, version)
        assert routes.names() == made.names()
    assert [outcome(old, version) for old, _ in seen] == [then for _, then in seen]
