"""What the stores promise, whichever database they are kept in."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from pelton.errors import Conflict, InvalidRequest, NotFound
from pelton.records import (
    NEW,
    Change,
    Exposure,
    Key,
    PublishedVersion,
    Scope,
    Swap,
    VersionState,
)
from pelton.state import exposures
from pelton.state.exposures import MAX_UNIT_CHARACTERS
from pelton.state.state import State
from services.databases import change, tell

KEY = Key(
    id="k1",
    digest=bytes(range(32)),
    label="the robot's, 机器人",
    scopes=frozenset({Scope.INFER, Scope.MODELS_WRITE}),
    created_s=1.7e9 + 0.123456,
    expires_s=1.8e9,
    revoked_s=None,
    requests_per_s=0.5,
    burst=7,
)
FOREVER = Key("k2", b"\xff" * 32, "", frozenset(), 5.0)
VERSION = PublishedVersion("digits", 3, "sha256:ab", VersionState.PUBLISHED, "", 12.5, "k1")
SWAP = Swap("digits", None, 3, "publish", {"p99_ms": 1.5, "worst": math.inf}, 13.0, "k1")
SEEN = Exposure("route", "unit", True, "3", 0.25, True, False, 20.0, salt="june")


def changes(state: State) -> list[Change]:
    return [row.change for row in state.audit.list()]


class TestKeys:
    def test_a_key_comes_back_as_it_was(self, state: State) -> None:
        for key in (KEY, FOREVER):
            state.keys.add(key, change())
            assert state.keys.find(key.id) == key
        assert state.keys.list() == [FOREVER, KEY]
        assert state.keys.find("k3") is None

    @pytest.mark.parametrize(
        "twin", [replace(FOREVER, id="k1"), replace(FOREVER, digest=KEY.digest)]
    )
    def test_neither_id_nor_digest_is_used_twice(self, state: State, twin: Key) -> None:
        state.keys.add(KEY, change())
        with pytest.raises(Conflict, match="already"):
            state.keys.add(twin, change("again"))
        assert state.keys.list() == [KEY]
        assert changes(state) == [change()]

    def test_a_revoked_key_stays_and_is_not_active(self, state: State) -> None:
        state.keys.add(KEY, change())
        state.keys.add(FOREVER, change())
        revoked = state.keys.revoke("k2", 9.0, change("revoke"))
        assert revoked == replace(FOREVER, revoked_s=9.0) == state.keys.find("k2")
        assert state.keys.active(now_s=10.0) == [KEY]
        with pytest.raises(Conflict, match="'k2' is revoked already"):
            state.keys.revoke("k2", 11.0, change("twice"))
        assert state.keys.find("k2") == revoked
        with pytest.raises(NotFound, match="no key with the id 'k3'"):
            state.keys.revoke("k3", 11.0, change("unknown"))
        assert [each.action for each in changes(state)] == ["revoke", "test", "test"]

    def test_a_key_is_active_until_it_expires(self, state: State) -> None:
        state.keys.add(KEY, change())
        assert state.keys.active(now_s=1.8e9 - 0.001) == [KEY]
        assert state.keys.active(now_s=1.8e9) == []

    def test_a_scope_that_is_not_known_here_gives_no_right(self, state: State) -> None:
        state.keys.add(KEY, change())
        newer = "UPDATE keys SET scopes = 'infer fly'"
        state.database.write(lambda connection: connection.exec_driver_sql(newer))
        assert state.keys.list()[0].scopes == {Scope.INFER}

    def test_each_change_is_noticed_by_another_server(self, state: State, database_url) -> None:
        other = State.open(database_url)
        seen = [other.keys.generation()]
        state.keys.add(KEY, change())
        seen.append(other.keys.generation())
        state.keys.revoke("k1", 2.0, change())
        seen.append(other.keys.generation())
        with pytest.raises(NotFound):
            state.keys.revoke("k9", 2.0, change())
        state.routes.set("r", {}, None, tell())
        seen.append(other.keys.generation())
        other.close()
        assert seen == [0, 1, 2, 2]

    @pytest.mark.parametrize("label", ["a\0b", "half \ud800 pair"])
    def test_text_that_not_every_database_keeps_is_refused(self, state: State, label: str) -> None:
        with pytest.raises(InvalidRequest, match="holds a character that cannot be kept"):
            state.keys.add(replace(KEY, label=label), change())
        assert (state.keys.list(), changes(state)) == ([], [])


class TestRoutes:
    def test_a_policy_comes_back_as_it_was(self, state: State) -> None:
        policy = {"kind": "split", "arms": [{"version": 3, "weight": 0.1}], "salt": "\0é\ud800"}
        made = state.routes.set("digits", policy, None, tell())
        assert state.routes.find("digits") == made
        assert state.routes.all() == {"digits": made}
        assert (made.name, made.policy) == ("digits", policy)
        assert state.routes.find("other") is None

    def test_a_change_needs_the_revision_that_it_is_based_on(self, state: State) -> None:
        first = state.routes.set("r", {"to": 1}, None, tell("1"))
        second = state.routes.set("r", {"to": 2}, first.revision, tell("2"))
        assert second.revision > first.revision
        with pytest.raises(Conflict, match=f"is at revision {second.revision}, and"):
            state.routes.set("r", {"to": 3}, first.revision, tell("3"))
        with pytest.raises(Conflict, match="wants it to be new"):
            state.routes.set("r", {"to": 3}, NEW, tell("3"))
        with pytest.raises(Conflict, match="is at revision"):
            state.routes.delete("r", first.revision, tell("3"))
        with pytest.raises(Conflict, match="'s' is not set, and"):
            state.routes.set("s", {"to": 3}, first.revision, tell("3"))
        assert state.routes.all() == {"r": second}
        assert [each.action for each in changes(state)] == ["2", "1"]

    def test_a_route_made_again_has_another_revision(self, state: State) -> None:
        first = state.routes.set("r", {"to": 1}, None, tell())
        state.routes.delete("r", first.revision, tell())
        assert state.routes.all() == {}
        again = state.routes.set("r", {"to": 1}, None, tell())
        assert again.revision > first.revision
        with pytest.raises(Conflict, match="is at revision"):
            state.routes.set("r", {"to": 2}, first.revision, tell())

    def test_of_many_who_saw_the_same_revision_one_wins(self, state: State) -> None:
        first = state.routes.set("r", {"to": -1}, None, tell("first"))

        def attempt(number: int) -> bool:
            try:
                state.routes.set("r", {"to": number}, first.revision, tell(f"{number}"))
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            (winner,) = [n for n, won in enumerate(threads.map(attempt, range(16))) if won]
        assert state.routes.all()["r"].policy == {"to": winner}
        assert [each.action for each in changes(state)] == [f"{winner}", "first"]


class TestLabels:
    def test_labels_come_back_by_model_and_in_order(self, state: State) -> None:
        for model, label, version in [("b", "stable", 3), ("b", "canary", 4), ("a", "stable", 1)]:
            state.labels.set(model, label, version, tell())
        assert state.labels.all() == {"a": {"stable": 1}, "b": {"canary": 4, "stable": 3}}
        assert list(state.labels.all()["b"]) == ["canary", "stable"]

    def test_a_label_is_moved_and_deleted_by_whoever_is_told_what_it_was(
        self, state: State
    ) -> None:
        seen: list[Any] = []

        def saw(labels: Any, routes: Any) -> Change:
            seen.append((dict(labels), list(routes)))
            return change(str(len(seen)))

        state.labels.set("m", "stable", 3, saw)
        state.routes.set("r", {}, None, tell("route"))
        state.labels.set("m", "stable", 4, saw)
        state.labels.delete("m", "stable", saw)
        assert seen == [({}, []), ({"stable": 3}, ["r"]), ({"stable": 4}, ["r"])]
        assert state.labels.all() == {}
        assert [each.action for each in changes(state)] == ["3", "2", "route", "1"]

    def test_a_change_that_is_refused_leaves_nothing(self, state: State) -> None:
        state.labels.set("m", "stable", 3, tell("1"))
        before = state.generations()

        def refuse(*_: Any) -> Change:
            raise Conflict("on purpose")

        for attempt in (
            lambda: state.labels.set("m", "stable", 4, refuse),
            lambda: state.labels.delete("m", "stable", refuse),
            lambda: state.routes.set("r", {}, None, refuse),
            lambda: state.routes.delete("r", None, refuse),
        ):
            with pytest.raises(Conflict, match="on purpose"):
                attempt()
        assert (state.labels.all(), state.routes.all()) == ({"m": {"stable": 3}}, {})
        assert [each.action for each in changes(state)] == ["1"]
        assert state.generations() == before


def test_many_who_change_the_same_at_once_come_one_after_the_other(state: State) -> None:
    def attempt(number: int) -> None:
        def of_route(before: Any, labels: Any) -> Change:
            return change("route", before=before and before.policy, after={"to": number})

        def of_label(labels: Any, routes: Any) -> Change:
            return change("label", before={"to": labels.get("stable")}, after={"to": number})

        state.routes.set("r", {"to": number}, None, of_route)
        state.labels.set("m", "stable", number, of_label)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(attempt, range(1, 17)))
    for action in ("route", "label"):
        rows = [each for each in changes(state)[::-1] if each.action == action]
        assert len(rows) == 16
        assert [each.before for each in rows[1:]] == [each.after for each in rows[:-1]]


def test_one_look_tells_what_has_changed(state: State) -> None:
    assert state.generations() == {}
    state.keys.add(KEY, change())
    state.labels.set("m", "stable", 1, tell())
    state.labels.set("m", "stable", 2, tell())
    first = state.routes.set("r", {}, None, tell())
    with pytest.raises(Conflict):
        state.routes.set("r", {}, NEW, tell())
    state.versions.add(VERSION, change())
    assert state.generations() == {"keys": 1, "labels": 2, "routes": first.revision, "versions": 1}


class TestVersions:
    def test_a_version_comes_back_as_it_was(self, state: State) -> None:
        earlier = replace(VERSION, version=2, state=VersionState.REFUSED, reason="golden: 3 of 7")
        other = replace(VERSION, model="a")
        for version in (VERSION, earlier, other):
            state.versions.add(version, change())
        assert state.versions.find("digits", 3) == VERSION
        assert state.versions.find("digits", 4) is None
        assert state.versions.list("digits") == [earlier, VERSION]
        assert state.versions.list() == [other, earlier, VERSION]

    def test_a_version_changes_its_state(self, state: State) -> None:
        state.versions.add(VERSION, change())
        withdrawn = replace(VERSION, state=VersionState.WITHDRAWN, reason="errors: 7 %")
        assert withdrawn == state.versions.set_state(
            "digits", 3, VersionState.WITHDRAWN, "errors: 7 %", change("withdraw")
        )
        assert state.versions.list() == [withdrawn]
        with pytest.raises(NotFound, match="no version 4 of 'digits'"):
            state.versions.set_state("digits", 4, VersionState.REFUSED, "", change("unknown"))
        assert [each.action for each in changes(state)] == ["withdraw", "test"]

    def test_of_many_who_add_the_same_version_one_wins(self, state: State) -> None:
        def attempt(number: int) -> bool:
            mine = replace(VERSION, digest=f"sha256:{number}")
            try:
                state.versions.add(mine, change(f"{number}"))
            except Conflict:
                return False
            return True

        with ThreadPoolExecutor(8) as threads:
            (winner,) = [n for n, won in enumerate(threads.map(attempt, range(16))) if won]
        assert [kept.digest for kept in state.versions.list()] == [f"sha256:{winner}"]
        assert [each.action for each in changes(state)] == [f"{winner}"]
        with pytest.raises(Conflict, match="digits has or had a version 3 already"):
            state.versions.add(VERSION, change())

    def test_a_number_is_promised_once(self, state: State) -> None:
        with ThreadPoolExecutor(8) as threads:
            promised = list(threads.map(lambda _: state.versions.next_version("m"), range(20)))
        assert sorted(promised) == list(range(1, 21))
        assert state.versions.next_version("another") == 1

    def test_a_number_that_was_used_is_not_promised(self, state: State) -> None:
        assert state.versions.next_version("digits") == 1
        state.versions.add(replace(VERSION, version=7), change())
        assert state.versions.next_version("digits") == 8
        state.versions.add(VERSION, change())  # 3, which was skipped
        assert state.versions.next_version("digits") == 9
        assert state.versions.next_version("digits", above=4) == 10
        assert state.versions.next_version("digits", above=10) == 11
        assert state.versions.next_version("digits", above=20) == 21

    def test_a_number_that_is_taken_is_promised_to_nobody(self, state: State) -> None:
        state.versions.take_number("digits", 2)
        assert state.versions.next_version("digits") == 3
        state.versions.take_number("digits", 2)  # nothing was kept of it
        state.versions.add(VERSION, change())
        with pytest.raises(Conflict, match="digits has or had a version 3 already"):
            state.versions.take_number("digits", 3)
        assert state.versions.next_version("digits") == 4

    def test_swaps_come_back_in_their_order(self, state: State) -> None:
        back = replace(SWAP, before=3, after=2, cause="probation", at_s=12.0)
        other = replace(SWAP, model="a")
        for swap in (SWAP, back, other):
            state.versions.add_swap(swap, change())
        assert state.versions.list_swaps() == [other, back, SWAP]
        assert state.versions.list_swaps("digits") == [back, SWAP]
        assert state.versions.list_swaps("digits", limit=1) == [back]
        assert state.versions.latest_swaps() == {"digits": back, "a": other}

    def test_a_version_and_its_swap_come_together_or_not_at_all(self, state: State) -> None:
        state.versions.publish(VERSION, change("publish"), SWAP, change("switch"))
        assert state.versions.find("digits", 3) == VERSION
        assert state.versions.latest_swaps() == {"digits": SWAP}
        assert [each.action for each in changes(state)] == ["switch", "publish"]
        with pytest.raises(Conflict, match="digits has or had a version 3 already"):
            state.versions.publish(VERSION, change(), replace(SWAP, after=4), change())
        assert state.versions.list_swaps() == [SWAP]
        assert len(changes(state)) == 2
        assert state.versions.generation() == 1

    def test_versions_and_swaps_are_noticed(self, state: State) -> None:
        assert state.versions.generation() == 0
        state.versions.add(VERSION, change())
        state.versions.set_state("digits", 3, VersionState.WITHDRAWN, "", change())
        state.versions.add_swap(SWAP, change())
        assert state.versions.generation() == 3


class TestAudit:
    def test_a_change_comes_back_as_it_was(self, state: State) -> None:
        told = Change(1.5, "k1", "route.set", "r", None, {"to": [1, {"x": None}], "y": "\0 ü"})
        gone = Change(1.0, "local", "route.delete", "r", {"to": 2}, None)
        state.audit.append(told)
        state.audit.append(gone)
        assert changes(state) == [gone, told]  # in the order of their coming, whatever the clock

    def test_what_is_too_long_is_cut_so_that_each_row_is_bounded(self, state: State) -> None:
        from pelton.state.audit import KEPT_CHARACTERS, MAX_VALUES_CHARACTERS

        fits = {"x": "y" * (MAX_VALUES_CHARACTERS - len('{"x": ""}'))}
        long = {"x": "机" * MAX_VALUES_CHARACTERS}
        state.audit.append(change(before=fits, after=long))
        (kept,) = changes(state)
        assert kept.before == fits
        assert kept.after == {
            "begins": '{"x": "' + ("\\u673a" * 1000)[: KEPT_CHARACTERS - 7],
            "characters": len('{"x": ""}') + 6 * MAX_VALUES_CHARACTERS,
        }

    def test_pages_follow_each_other(self, state: State) -> None:
        for number in range(7):
            state.audit.append(change(subject=f"{number}"))
        pages, before = [], None
        while page := state.audit.list(limit=3, before=before):
            pages.append([row.change.subject for row in page])
            before = page[-1].number
        assert pages == [["6", "5", "4"], ["3", "2", "1"], ["0"]]

    def test_what_is_asked_for_is_found(self, state: State) -> None:
        for actor, action, subject in [("a", "x", "1"), ("b", "x", "2"), ("a", "y", "2")]:
            state.audit.append(Change(1.0, actor, action, subject, None, None))

        def found(**wanted: str) -> list[tuple[str, str, str]]:
            rows = [row.change for row in state.audit.list(**wanted)]
            return [(row.actor, row.action, row.subject) for row in rows]

        assert found(actor="a") == [("a", "y", "2"), ("a", "x", "1")]
        assert found(action="x") == [("b", "x", "2"), ("a", "x", "1")]
        assert found(subject="2", actor="a") == [("a", "y", "2")]
        assert found(subject="3") == []

    def test_a_change_that_fails_half_way_leaves_nothing(self, state: State) -> None:
        def half(connection) -> None:
            connection.exec_driver_sql("INSERT INTO routes VALUES ('half', '{}', 1)")
            raise ArithmeticError("stopped")

        with pytest.raises(ArithmeticError, match="stopped"):
            state.audit.along(change(), half)
        assert (state.routes.all(), changes(state)) == ({}, [])

    def test_a_change_that_cannot_be_told_is_not_made(self, state: State) -> None:
        with pytest.raises(InvalidRequest, match="cannot be kept"):
            state.keys.add(KEY, change(subject="a\0b"))
        assert (state.keys.list(), changes(state)) == ([], [])
        assert state.keys.generation() == 0

    def test_a_transaction_that_was_committed_is_not_run_again(
        self, state: State, monkeypatch
    ) -> None:
        """As after a connection that was lost between the commit and its answer."""
        runs = []
        write = state.database.write
        monkeypatch.setattr(
            type(state.database), "write", lambda self, work: (write(work), write(work))[1]
        )
        assert state.audit.along(change(), lambda _connection: runs.append(1) or "done") == "done"
        assert (runs, changes(state)) == ([1], [change()])
        made = state.routes.set("r", {}, NEW, tell("made"))
        assert state.routes.delete("r", made.revision, tell("gone")) == made
        assert [each.action for each in changes(state)] == ["gone", "made", "test"]


class TestExposures:
    def test_the_first_exposure_of_a_unit_is_kept(self, state: State) -> None:
        later = replace(SEEN, arm="4", at_s=21.0)
        elsewhere = replace(SEEN, route="another")
        state.exposures.add([SEEN, later])
        state.exposures.add([later, elsewhere])
        state.exposures.add([])
        assert state.exposures.list("route") == [SEEN]
        assert state.exposures.list("another") == [elsewhere]

    def test_one_that_does_not_count_hides_none_that_does(self, state: State) -> None:
        forced = replace(SEEN, arm="9", forced=True, at_s=1.0)
        outside = replace(SEEN, arm="1", enrolled=False, at_s=2.0)
        state.exposures.add([forced, outside])
        assert state.exposures.count("route") == {}
        state.exposures.add([SEEN])
        assert state.exposures.list("route") == [forced, outside, SEEN]
        assert state.exposures.count("route") == {"3": 1}

    def test_units_are_counted_by_arm(self, state: State) -> None:
        state.exposures.add(
            [replace(SEEN, unit=f"u{n}", arm=f"{n % 3}", at_s=float(n)) for n in range(10)]
        )
        assert state.exposures.count("route") == {"0": 4, "1": 3, "2": 3}
        assert state.exposures.count("route", since_s=8.0) == {"2": 1, "0": 1}
        assert state.exposures.count("another") == {}

    def test_a_new_salt_is_a_new_experiment(self, state: State) -> None:
        july = replace(SEEN, salt="july", arm="4", at_s=30.0)
        state.exposures.add([SEEN, july, replace(july, arm="3", at_s=31.0)])
        assert state.exposures.list("route") == [SEEN, july]
        assert state.exposures.count("route") == {"3": 1, "4": 1}
        assert state.exposures.count("route", salt="june") == {"3": 1}
        assert state.exposures.count("route", salt="may") == {}

    def test_old_ones_are_deleted(self, state: State) -> None:
        seen = [replace(SEEN, unit=f"u{n}", at_s=float(n)) for n in range(5)]
        state.exposures.add(seen)
        assert state.exposures.delete_older(than_s=3.0) == 3
        assert state.exposures.list("route") == seen[3:]
        assert state.exposures.delete_older(than_s=3.0) == 0

    def test_many_old_ones_are_deleted_in_portions(self, state: State, monkeypatch) -> None:
        monkeypatch.setattr(exposures, "_PORTION_ROWS", 4)
        times = [1.0] * 6 + [float(n) for n in range(2, 12)]  # one portion is all of one moment
        seen = [replace(SEEN, unit=f"u{n}", at_s=at_s) for n, at_s in enumerate(times)]
        state.exposures.add(seen)
        assert state.exposures.delete_older(than_s=10.0) == 14
        assert state.exposures.list("route") == seen[14:]

    @pytest.mark.parametrize("unit", ["", "a\0b", "\ud800", "x" * 100_000, "机" * 256, "'; --"])
    def test_whatever_a_stranger_calls_the_unit_is_one_unit(self, state: State, unit: str) -> None:
        state.exposures.add([replace(SEEN, unit=unit), SEEN, replace(SEEN, unit=unit)])
        (kept,) = {each.unit for each in state.exposures.list("route")} - {"unit"}
        plain = len(unit) <= MAX_UNIT_CHARACTERS and unit.isprintable()
        assert kept == unit if plain else kept.startswith("sha256:")
        assert state.exposures.count("route") == {"3": 2}

    def test_many_are_kept_at_once_by_several_servers(self, state: State) -> None:
        def add(server: int) -> None:
            units = [f"u{n}" for n in range(500)]
            ordered = units if server % 2 else reversed(units)
            state.exposures.add([replace(SEEN, unit=u, arm=f"{server}") for u in ordered])

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(add, range(8)))
        assert sum(state.exposures.count("route").values()) == 500


def test_a_state_that_was_closed_and_opened_is_the_same(state: State, database_url: str) -> None:
    state.keys.add(KEY, change())
    state.routes.set("r", {"to": 1}, None, tell())
    state.close()
    again = State.open(database_url)
    assert (again.keys.list(), list(again.routes.all())) == ([KEY], ["r"])
    assert again.writable()
    again.close()
