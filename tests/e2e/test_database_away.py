"""PostgreSQL that is stopped and started under a server that is being asked all the time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.kept_keys import make_keys
from e2e.scaled import who_answers, write_scaled, write_versions
from pelton.client import Client
from pelton.client.options import Retries
from pelton.errors import PeltonError, Unavailable
from pelton.records import Scope
from raw_http import Wire
from services.postgres import Postgres
from support_server import ServerProcess, until

ONE_TRY = Retries(attempts=1)


@pytest.fixture
def own_postgres(postgres: Postgres) -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop; it runs again afterwards."""
    yield postgres
    try:
        postgres.execute("SELECT 1")
    except AssertionError:
        postgres.start()


class Robots:
    """Several clients that ask a model all the time, each on a connection of its own.

    Attributes:
        answered: how many answers there were.
        failed: what was no answer.
    """

    def __init__(self, server: ServerProcess, key: str, count: int = 3) -> None:
        self.answered = 0
        self.failed: list[PeltonError] = []
        self._enough = threading.Event()
        self._ends = server.url, key
        self._threads = [threading.Thread(target=self._ask) for _ in range(count)]

    def __enter__(self) -> Robots:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_raised: object) -> None:
        self._enough.set()
        for thread in self._threads:
            thread.join(20.0)
            assert not thread.is_alive()

    def go_on(self) -> None:
        """Return once there were further answers."""
        before = self.answered
        until(lambda: self.answered > before + 50)

    def _ask(self) -> None:
        url, key = self._ends
        x = np.ones((1, 3), np.float32)
        with Client(url, api_key=key, retries=ONE_TRY) as client:
            while not self._enough.is_set():
                try:
                    client.infer("net", {"INPUT0": x})
                    self.answered += 1
                except PeltonError as error:
                    self.failed.append(error)


def route(number: int) -> dict[str, Any]:
    """A policy that differs from all others."""
    return {"model": "net", "policy": "latest", "shadow": {"version": 1, "share": number / 1000}}


def refused(change: Callable[[], Any]) -> str:
    """Return what somebody is told whose change cannot be kept."""
    with pytest.raises(Unavailable) as caught:
        change()
    return caught.value.message


def is_public_ready(server: ServerProcess) -> bool:
    with Wire(server.port) as wire:
        wire.send(b"GET /v2/health/ready HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return wire.reply().status == 200


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_requests_go_on_and_changes_wait_for_the_database(
    serve, tmp_path: Path, own_postgres: Postgres, mode: str
) -> None:
    url = own_postgres.new_database()
    keys = make_keys(url, Scope.ADMIN, Scope.INFER)
    models = write_versions(tmp_path / "models" / "net", 1).parent
    new = write_scaled(tmp_path / "new.onnx", 2)
    flags = ("--database-wait-s", "0.2s", "--allow-publish", "--explicit-models")
    server = serve(models, *flags, env={"PELTON_DATABASE_URL": url})
    with (
        Client(server.url, api_key=keys[Scope.ADMIN], retries=ONE_TRY) as boss,
        Robots(server, keys[Scope.INFER]) as robots,
    ):
        made = boss.ask_json("PUT", "/v2/routes/lab", route(1))
        assert boss.ask_json("GET", "/health")["state"] == {"writable": True}
        robots.go_on()

        own_postgres.stop(mode)
        for change in (
            lambda: boss.ask_json("PUT", "/v2/routes/lab", route(2)),
            lambda: boss.ask_json("DELETE", "/v2/routes/lab"),
            lambda: boss.ask_json("POST", "/v2/keys", {"label": "x", "scopes": ["read"]}),
            lambda: boss.ask_json("DELETE", "/v2/keys/abcdefghijkl"),
            lambda: boss.ask_json("PUT", "/v2/repository/models/net/labels/good", {"version": 1}),
            lambda: boss.push(new, "net"),
            lambda: boss.unload_model("net"),
            lambda: boss.ask_json("GET", "/v2/audit"),
        ):
            assert "database" in refused(change)
        until(lambda: boss.ask_json("GET", "/health")["state"] == {"writable": False})
        assert is_public_ready(server)
        assert boss.ask_json("GET", "/health")["status"] == "healthy"
        assert boss.ask_json("GET", "/v2/routes/lab")["policy"] == made["policy"]
        assert who_answers(boss, "net") == 1
        robots.go_on()

        own_postgres.start()
        until(lambda: boss.ask_json("GET", "/health")["state"] == {"writable": True})
        assert boss.ask_json("PUT", "/v2/routes/lab", route(3))["policy"] == route(3)
        published = boss.push(new, "net")
        assert who_answers(boss, "net") == published.version
        robots.go_on()
        trail = boss.ask_json("GET", "/v2/audit?limit=1000")["changes"][::-1]
    assert robots.failed == []
    told = [row["action"] for row in trail]
    assert told == ["keys.create", "keys.create", "route.set", "route.set", *told[4:]]
    assert [row["after"] for row in trail[2:4]] == [route(1), route(3)]
    assert {row["subject"] for row in trail[4:]} == {"net"}


def test_a_server_that_starts_while_the_database_is_away_says_so(
    tmp_path: Path, own_postgres: Postgres
) -> None:
    url = own_postgres.new_database()
    models = write_versions(tmp_path / "models" / "net", 1).parent
    own_postgres.stop()
    env = {"PELTON_DATABASE_URL": url, "PELTON_DATABASE_WAIT_S": "0.2"}
    with pytest.raises(AssertionError, match=r"pelton serve: the database .* cannot be used"):
        ServerProcess(models, env=env)


def test_versions_are_published_across_restarts_of_the_database(
    serve, tmp_path: Path, own_postgres: Postgres
) -> None:
    """Wherever the database goes away: a version is published and on record, or it is not."""
    url = own_postgres.new_database()
    key = make_keys(url, Scope.ADMIN)[Scope.ADMIN]
    models = write_versions(tmp_path / "models" / "net", 1).parent
    flags = ("--allow-publish", "--database-wait-s", "0.1s")
    server = serve(models, *flags, env={"PELTON_DATABASE_URL": url})
    acknowledged: list[int] = []
    told: list[PeltonError] = []
    enough = threading.Event()

    def publish() -> None:
        with Client(server.url, api_key=key, retries=ONE_TRY) as client:
            number = 1
            while not enough.is_set():
                number += 1
                try:
                    new = write_scaled(tmp_path / f"{number}.onnx", number)
                    acknowledged.append(client.push(new, "net", number).version)
                except PeltonError as error:
                    told.append(error)

    publishing = threading.Thread(target=publish)
    with Client(server.url, api_key=key) as client, Robots(server, key) as robots:
        publishing.start()
        for mode in ("immediate", "fast", "immediate"):
            before = len(acknowledged)
            until(lambda before=before: len(acknowledged) > before + 1)
            seen = len(told)
            own_postgres.stop(mode)
            until(lambda seen=seen: len(told) > seen + 1)
            own_postgres.start()
        before = len(acknowledged)
        until(lambda: len(acknowledged) > before + 1)
        enough.set()
        publishing.join(20.0)
        robots.go_on()
        assert {type(error) for error in told} == {Unavailable}, told
        assert who_answers(client, "net") == acknowledged[-1]
        rows = client.ask_json("GET", "/v2/audit?limit=1000&action=version.publish")["changes"]
        on_record = [row["after"]["version"] for row in rows][::-1]
        index = {row.version: row for row in client.versions("net")}
    assert robots.failed == []
    assert set(acknowledged) <= set(on_record)
    assert len(on_record) == len(set(on_record))
    server.stop()
    again = serve(models, *flags, env={"PELTON_DATABASE_URL": url})
    with Client(again.url, api_key=key) as client:
        assert who_answers(client, "net") == acknowledged[-1]
        assert {row.version for row in client.versions("net")} <= set(index)
