"""Two hundred changes by four people at once, through every door that changes anything."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import pytest

from e2e.kept_keys import make_keys
from e2e.scaled import write_scaled, write_versions
from pelton.access.keys import read_key
from pelton.client import Client
from pelton.errors import Conflict
from pelton.records import Scope
from services.databases import database_url as database_url
from support_server import run_pelton, until

PEOPLE = 4
ROUNDS = 13
CHANGES_PER_ROUND = 4


DONE = {
    ("version.publish", 3),
    ("model.switch", 3),
    ("version.publish", 4),
    ("model.switch", 4),
    ("model.rollback", 2),
    ("version.withdraw", 4),
    ("model.unload", None),
    ("model.load", 2),
}
"""What is done to the model in the end: action, version."""


def key_id(text: str) -> str:
    presented = read_key(text)
    assert presented is not None
    return presented.id


class Person(threading.Thread):
    """Changes one thing after the other with a key of their own.

    Attributes:
        did: (action, subject, what it is afterwards), in order.
    """

    def __init__(self, url: str, key: str, number: int) -> None:
        super().__init__()
        self.id = key_id(key)
        self.did: list[tuple[str, str, Any]] = []
        self.trouble: Exception | None = None
        self._end = url, key
        self._number = number

    def run(self) -> None:
        url, key = self._end
        try:
            with Client(url, api_key=key) as client:
                for turn in range(ROUNDS):
                    self._turn(client, turn)
        except Exception as error:  # noqa: BLE001 -- the test tells it
            self.trouble = error

    def _turn(self, client: Client, turn: int) -> None:
        route = f"lab-{self._number}"
        policy = {
            "model": "net",
            "policy": "latest",
            "shadow": {"version": 1, "share": (turn + 1) / 100},
        }
        client.ask_json("PUT", f"/v2/routes/{route}", policy)
        self.did.append(("route.set", route, policy))
        label = f"mine-{self._number}"
        version = 1 + turn % 2
        client.ask_json("PUT", f"/v2/repository/models/net/labels/{label}", {"version": version})
        self.did.append(("label.set", "net", {"label": label, "version": version}))
        made = client.ask_json("POST", "/v2/keys", {"label": label, "scopes": ["read"]})
        self.did.append(("keys.create", made["id"], label))
        gone = client.ask_json("DELETE", f"/v2/keys/{made['id']}")
        self.did.append(("keys.revoke", made["id"], gone["revoked_s"]))


def told_of(row: dict[str, Any]) -> Any:
    """Return of a row what a `Person` remembers of the change."""
    after = row["after"]
    if row["action"] == "keys.create":
        return after["label"]
    return after["revoked_s"] if row["action"] == "keys.revoke" else after


def whole_trail(client: Client, page: int) -> list[dict[str, Any]]:
    """Return all changes, the oldest first, read page by page."""
    rows: list[dict[str, Any]] = []
    before: int | None = None
    while True:
        beyond = "" if before is None else f"&before={before}"
        answer = client.ask_json("GET", f"/v2/audit?limit={page}{beyond}")
        rows += answer["changes"]
        before = answer["before"]
        if before is None:
            return rows[::-1]


def done_to_the_model(rows: list[dict[str, Any]]) -> set[tuple[str, int | None]]:
    """Return what a trail tells of changes of versions, and which those were."""
    return {
        (row["action"], (row["after"] or {}).get("version"))
        for row in rows
        if row["action"].partition(".")[0] in ("model", "version")
    }


def test_each_change_is_in_the_trail_once_with_who_and_what(
    serve, tmp_path: Path, database_url: str
) -> None:
    keys = [make_keys(database_url, Scope.ADMIN)[Scope.ADMIN] for _ in range(PEOPLE)]
    folder = write_versions(tmp_path / "models" / "net", 1, 2)
    (folder / "model.toml").write_text('policy = "all"\n')
    server = serve(
        folder.parent, "--allow-publish", "--explicit-models", "--database-url", database_url
    )
    people = [Person(server.url, key, number) for number, key in enumerate(keys)]
    for person in people:
        person.start()
    for person in people:
        person.join(60.0)
    assert [person.trouble for person in people] == [None] * PEOPLE

    with Client(server.url, api_key=keys[0]) as client:
        # Versions too, and what is refused and changes nothing.
        for number in (3, 4):
            client.push(write_scaled(tmp_path / f"{number}.onnx", number), "net", number)
        assert client.rollback("net") == 2  # 3 was on probation when 4 came
        with pytest.raises(Conflict):
            client.rollback("net")
        client.unload_model("net")
        client.load_model("net")
        # What was taken back is put on record beside the answer, which need not wait for it.
        until(lambda: done_to_the_model(whole_trail(client, page=1000)) == DONE)
        rows = whole_trail(client, page=37)
        assert rows == whole_trail(client, page=1000)
        only = client.ask_json("GET", f"/v2/audit?limit=1000&actor={people[1].id}")["changes"]
    changes = PEOPLE * ROUNDS * CHANGES_PER_ROUND
    assert len([row for row in rows if row["actor"] != "local"]) == changes + len(DONE) > 200

    numbers = [row["number"] for row in rows]
    assert numbers == sorted(set(numbers))
    for person in people:
        mine = [row for row in rows if row["actor"] == person.id]
        told = [(row["action"], row["subject"], told_of(row)) for row in mine]
        assert told[: len(person.did)] == person.did
    assert only == [row for row in rows[::-1] if row["actor"] == people[1].id]
    assert len(only) == ROUNDS * CHANGES_PER_ROUND

    # What was there before a change is what the change before it left.
    for number in range(PEOPLE):
        mine = [row for row in rows if row["subject"] == f"lab-{number}"]
        assert [row["before"] for row in mine] == [None, *(row["after"] for row in mine[:-1])]

    assert done_to_the_model(rows) == DONE
    printed = run_pelton(
        "audit", "--limit", "1000", "--json", "--url", server.url, env={"PELTON_API_KEY": keys[0]}
    )
    assert [json.loads(line) for line in printed.stdout.splitlines()] == rows[::-1]
