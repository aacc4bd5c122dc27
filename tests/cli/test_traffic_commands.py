"""`pelton routes`, `pelton labels` and `pelton audit`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from client.scripted_peer import Answer, ScriptedPeer, json_reply
from pelton.cli import audit, labels, routes
from pelton.cli.route_words import in_words
from pelton.routing.plain import as_plain, from_plain

app = typer.Typer(pretty_exceptions_enable=False)
app.add_typer(routes.app, name="routes")
app.add_typer(labels.app, name="labels")
app.command("audit")(audit.command)


def policy(plain: dict[str, Any]) -> dict[str, Any]:
    """A policy as the server tells it."""
    return as_plain(from_plain("digits", plain))


def row(plain: dict[str, Any], revision: int = 7, problem: str | None = None) -> dict[str, Any]:
    told = {"name": "digits", "revision": revision, "policy": policy(plain)}
    return told | {"problem": problem}


PINNED = {"policy": "pinned", "version": 3}
SPLIT = {
    "policy": "split",
    "arms": [{"version": 2, "weight": 90}, {"version": "canary", "weight": 10}],
    "salt": "june",
    "enrolled": 0.1,
    "sticky": "user",
    "shadow": {"version": 5, "share": 0.05},
}
MISSING = json_reply({"error": "no route", "code": "not_found", "request_id": "r"}, "404 Not Found")


def run(peer: ScriptedPeer, *arguments: str, typed: str | None = None) -> Result:
    return CliRunner().invoke(app, [*arguments, "--url", peer.url], input=typed)


def peer_of(*replies: bytes) -> ScriptedPeer:
    return ScriptedPeer([Answer([each]) for each in replies])


def sent(peer: ScriptedPeer) -> Any:
    return json.loads(peer.received[-1].body)


def test_routes_are_listed_in_words() -> None:
    broken = {**row(PINNED, 9), "name": "lab", "problem": "version 3 is not served"}
    with peer_of(json_reply({"routes": [row(SPLIT), broken]})) as peer:
        result = run(peer, "routes", "list")
    assert result.exit_code == 0, result.stderr
    assert peer.lines == ["GET /v2/routes HTTP/1.1"]
    told = " ".join(result.stdout.replace("│", " ").split())
    for piece in ("digits", "digits: version 3", "version 3 is not served", "90 %", "salt june"):
        assert piece in told


def test_no_routes_are_told_too() -> None:
    with peer_of(json_reply({"routes": []})) as peer:
        result = run(peer, "routes", "list")
    assert result.stdout == "no route is set: each model is answered by its latest version\n"


def test_routes_are_listed_for_programs() -> None:
    with peer_of(json_reply({"routes": [row(SPLIT)]})) as peer:
        result = run(peer, "routes", "list", "--json")
    assert json.loads(result.stdout) == [row(SPLIT)]


def test_a_route_is_shown_as_it_can_be_set(tmp_path: Path) -> None:
    with peer_of(json_reply(row(SPLIT))) as peer:
        shown = run(peer, "routes", "show", "digits").stdout
    file = tmp_path / "digits.json"
    file.write_text(shown)
    with peer_of(json_reply(row(PINNED)), json_reply(row(SPLIT, 8))) as peer:
        result = run(peer, "routes", "set", "digits", str(file))
    assert result.exit_code == 0, result.stderr
    assert sent(peer) == policy(SPLIT)


LATEST = policy({"policy": "latest"})


@pytest.mark.parametrize(
    ("before", "typed", "after"),
    [
        (None, ["--latest"], {"policy": "latest"}),
        (None, ["--pin", "3"], PINNED),
        (None, ["--pin", "stable"], {"policy": "pinned", "version": "stable"}),
        (
            None,
            ["--split", "2=90, canary=10"],
            {"policy": "split", "arms": SPLIT["arms"]},
        ),
        (
            None,
            ["--shadow", "4=0.05", "--model", "m"],
            {"policy": "latest", "model": "m", "shadow": {"version": 4, "share": 0.05}},
        ),
        (
            PINNED,
            ["--shadow", "4=0.05"],
            policy(PINNED) | {"shadow": {"version": 4, "share": 0.05}},
        ),
        (SPLIT, ["--enrolled", "0.5"], policy(SPLIT) | {"enrolled": 0.5}),
        (
            SPLIT,
            ["--split", "2=1,4=1"],
            policy(SPLIT)
            | {"arms": [{"version": 2, "weight": 1.0}, {"version": 4, "weight": 1.0}]},
        ),
        (SPLIT, ["--shadow", "none"], policy(SPLIT) | {"shadow": None}),
        (
            SPLIT,
            ["--pin", "4"],
            {"model": "digits", "policy": "pinned", "version": 4, "shadow": SPLIT["shadow"]},
        ),
        (
            PINNED,
            ["--split", "2=1,4=1", "--salt", "july", "--sticky", "user", "--enrolled", "0.02"],
            {
                "model": "digits",
                "policy": "split",
                "arms": [{"version": 2, "weight": 1.0}, {"version": 4, "weight": 1.0}],
                "salt": "july",
                "sticky": "user",
                "enrolled": 0.02,
                "shadow": None,
            },
        ),
    ],
)
def test_what_is_typed_becomes_a_policy_and_the_rest_stays(before, typed, after) -> None:
    first = MISSING if before is None else json_reply(row(before))
    with peer_of(first, json_reply(row(after, 8))) as peer:
        result = run(peer, "routes", "set", "digits", *typed)
    assert result.exit_code == 0, result.stderr
    assert peer.lines == ["GET /v2/routes/digits HTTP/1.1", "PUT /v2/routes/digits HTTP/1.1"]
    assert sent(peer) == after
    headers = peer.received[-1].headers
    condition = (headers.get("if-match"), headers.get("if-none-match"))
    assert condition == ((None, "*") if before is None else ('"7"', None))


def test_before_and_after_are_shown() -> None:
    with peer_of(json_reply(row(SPLIT)), json_reply(row(PINNED, 8))) as peer:
        result = run(peer, "routes", "set", "digits", "--pin", "3")
    assert result.stdout.splitlines() == [
        "digits",
        "  before digits: split among 2 (90 %), canary (10 %) of 10 % of all, the rest by 2; "
        "by the field user; salt june; copies of 5 % to 5",
        "  now    digits: version 3",
    ]


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ([], "say how: --latest, --pin 3"),
        (["--pin", "3", "--latest"], "exclude each other"),
        (["--split", "2=90,3=x"], "--split is '2=90,3=x'; it has to be versions and weights"),
        (["--split", "2"], "it has to be versions and weights"),
        (["--shadow", "4"], "it has to be a version and a share"),
        (["--enrolled", "0.1"], "--enrolled is of a split; say --split as well"),
        (["--pin", "3", "--salt", "june"], "--salt is of a split"),
        (["no-such-file.json"], "cannot read no-such-file.json: No such file"),
        (["-", "--latest"], "give a FILE or options"),
        (["-"], "cannot read -: the JSON is broken"),
    ],
)
def test_what_makes_no_sense_is_not_sent(typed, said) -> None:
    with peer_of(json_reply(row(PINNED))) as peer:
        result = run(peer, "routes", "set", "digits", *typed, typed="{")
    assert result.exit_code == 2
    assert result.stderr.startswith("pelton routes set: ")
    assert said in result.stderr
    assert [line for line in peer.lines if line.startswith("PUT")] == []


def test_what_the_server_refuses_is_one_sentence() -> None:
    refusal = {"error": "the route 'digits' is at revision 8", "code": "conflict"}
    conflict = json_reply(refusal, "409 Conflict")
    with peer_of(json_reply(row(SPLIT)), conflict) as peer:
        result = run(peer, "routes", "set", "digits", "--pin", "3")
    assert result.exit_code == 1
    assert result.stderr == "pelton routes set: the route 'digits' is at revision 8\n"


def test_a_route_is_deleted() -> None:
    with peer_of(json_reply(row(PINNED))) as peer:
        result = run(peer, "routes", "delete", "digits")
    assert peer.lines == ["DELETE /v2/routes/digits HTTP/1.1"]
    assert result.stdout.splitlines() == [
        "digits",
        "  before digits: version 3",
        "  now    no route: the latest version",
    ]


@pytest.mark.parametrize(
    "command",
    [
        ["routes", "list"],
        ["routes", "show", "digits"],
        ["routes", "set", "digits", "--latest"],
        ["routes", "delete", "digits"],
        ["labels", "list", "digits"],
        ["labels", "set", "digits", "stable", "4"],
        ["labels", "delete", "digits", "stable"],
        ["audit"],
    ],
    ids=" ".join,
)
def test_every_command_shows_the_key_and_says_what_the_server_refuses(
    command: list[str], monkeypatch
) -> None:
    refusal = json_reply({"error": "needs another scope", "code": "forbidden"}, "403 Forbidden")
    monkeypatch.setenv("PELTON_API_KEY", "of-the-environment")
    for typed, shown in ((["--api-key", "plt_1"], "plt_1"), ([], "of-the-environment")):
        with peer_of(refusal) as peer:
            result = run(peer, *command, *typed)
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.endswith(": needs another scope\n")
        assert result.stderr.startswith(f"pelton {' '.join(command[:2])}".removesuffix(" digits"))
        assert peer.received[0].headers["authorization"] == f"Bearer {shown}"


def test_a_name_cannot_reach_another_path() -> None:
    with peer_of(json_reply(row(PINNED))) as peer:
        run(peer, "routes", "delete", "../keys/k1")
    assert peer.lines == ["DELETE /v2/routes/..%2Fkeys%2Fk1 HTTP/1.1"]


class TestLabels:
    PATH = "/v2/repository/models/digits/labels"

    @staticmethod
    def told(**found: int) -> bytes:
        return json_reply({"model": "digits", "labels": found})

    def test_they_are_listed(self) -> None:
        with peer_of(self.told(canary=4, stable=3)) as peer:
            result = run(peer, "labels", "list", "digits")
        assert result.stdout.splitlines() == ["canary  4", "stable  3"]
        with peer_of(self.told()) as peer:
            result = run(peer, "labels", "list", "digits")
        assert result.stdout == "digits has no labels\n"

    def test_one_is_moved_and_what_it_was_is_told(self) -> None:
        with peer_of(self.told(stable=3), self.told(canary=5, stable=4)) as peer:
            result = run(peer, "labels", "set", "digits", "stable", "4")
        assert peer.lines[-1] == f"PUT {self.PATH}/stable HTTP/1.1"
        assert sent(peer) == {"version": 4}
        assert result.stdout.splitlines() == ["canary  5  (was not set)", "stable  4  (was 3)"]

    def test_one_is_deleted(self) -> None:
        with peer_of(self.told(stable=3), self.told()) as peer:
            result = run(peer, "labels", "delete", "digits", "stable")
        assert peer.lines[-1] == f"DELETE {self.PATH}/stable HTTP/1.1"
        assert result.stdout.splitlines() == ["stable  deleted  (was 3)"]


class TestAudit:
    @staticmethod
    def change(number: int, **more: Any) -> dict[str, Any]:
        told = {"number": number, "at_s": 1.75e9, "actor": "k1", "action": "route.set"}
        return told | {"subject": "digits", "before": None, "after": policy(PINNED)} | more

    @staticmethod
    def page(*changes: dict[str, Any], before: int | None = None) -> bytes:
        return json_reply({"changes": list(changes), "before": before})

    def test_each_change_takes_three_lines(self, monkeypatch) -> None:
        monkeypatch.setenv("TZ", "UTC")
        long = {"label": "x", "reason": "y" * 1000}
        other = self.change(7, actor="", action="label.set", subject="evil\x1b[2J", before=long)
        with peer_of(self.page(self.change(8), other)) as peer:
            result = run(peer, "audit", "--actor", "k 1", "--before", "9")
        assert peer.lines == ["GET /v2/audit?limit=20&actor=k+1&before=9 HTTP/1.1"]
        lines = result.stdout.splitlines()
        assert lines[0].startswith("8  2025-06-15 ")
        assert lines[0].endswith("  route.set  digits  by k1")
        assert lines[1:3] == ["    before  -", "    after   digits: version 3"]
        assert lines[3].endswith(r"  label.set  evil\x1b[2J  by anybody")
        assert lines[4] == "    before  label: x, reason: " + "y" * (116 - 18) + " ..."
        assert len(lines) == 6

    def test_programs_get_all_of_it(self) -> None:
        rows = [self.change(8, after={"reason": "y" * 1000}), self.change(7)]
        with peer_of(self.page(*rows)) as peer:
            result = run(peer, "audit", "--json")
        assert [json.loads(line) for line in result.stdout.splitlines()] == rows

    def test_pages_are_asked_for_until_there_are_enough(self, monkeypatch) -> None:
        monkeypatch.setattr(audit, "PAGE_ROWS", 2)
        pages = [
            self.page(self.change(9), self.change(8), before=8),
            self.page(self.change(7), before=7),
        ]
        with peer_of(*pages) as peer:
            result = run(peer, "audit", "--limit", "3", "--json")
        assert peer.lines == [
            "GET /v2/audit?limit=2 HTTP/1.1",
            "GET /v2/audit?limit=1&before=8 HTTP/1.1",
        ]
        assert [json.loads(line)["number"] for line in result.stdout.splitlines()] == [9, 8, 7]

    def test_the_last_page_ends_it(self) -> None:
        with peer_of(self.page(self.change(8))) as peer:
            assert run(peer, "audit", "--limit", "3000").stdout.count("route.set") == 1
        with peer_of(self.page()) as peer:
            result = run(peer, "audit", "--subject", "x")
        assert result.stdout == "nothing was changed that fits\n"


@pytest.mark.parametrize("strange", [{}, {"policy": "oracle", "model": "m"}, {"policy": 3}])
def test_a_policy_that_is_not_known_is_told_as_it_is(strange) -> None:
    assert in_words(strange) == json.dumps(strange)
