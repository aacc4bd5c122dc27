"""Routes and labels on real servers: changed while requests run, kept, shared, never torn."""

from __future__ import annotations

import json
import signal
import threading
from http.client import HTTPConnection
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.client import Client
from pelton.errors import Code, ConnectionFailed, InvalidRequest, NotFound, PeltonError, Unavailable
from pelton.state.state import State
from services.databases import database_url as database_url
from support_server import ServerProcess, run_pelton, until, write_identity

LATEST = {"model": "digits", "policy": "latest", "shadow": None}


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write_identity(tmp_path / "models" / "digits" / "1" / "model.onnx")
    return tmp_path / "models"


def shadowed(number: int) -> dict[str, Any]:
    """A policy that differs from all others."""
    return {**LATEST, "shadow": {"version": 1, "share": number / 1_000_000}}


def pelton_at(server: ServerProcess, *arguments: str) -> str:
    done = run_pelton(*arguments, "--url", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_traffic_is_changed_by_hand_and_outlives_the_server(serve, models, tmp_path) -> None:
    state = ("--state-dir", str(tmp_path / "state"))
    first = serve(models, *state)
    assert pelton_at(first, "labels", "set", "digits", "stable", "1").startswith("stable  1")
    told = pelton_at(first, "routes", "set", "lab", "--pin", "stable", "--model", "digits")
    assert told.splitlines()[2] == "  now    digits: version stable"
    first.stop()
    again = serve(models, *state)
    shown = json.loads(pelton_at(again, "routes", "show", "lab"))
    assert shown == {**LATEST, "policy": "pinned", "version": "stable"}
    with Client(again.url) as client:
        assert client.infer("lab", {"x": np.ones(1, np.float32)}).version == "1"
        assert client.ask_json("GET", "/health")["ready"]
        assert [each.name for each in client.models()] == ["digits"]
        assert client.stats()["models"]["digits"]["total_requests"] == 1
    refused = run_pelton("labels", "delete", "digits", "stable", "--url", again.url)
    assert refused.returncode == 1
    assert "the route 'lab' names the label 'stable'" in refused.stderr
    assert pelton_at(again, "routes", "delete", "lab").startswith("lab\n  before digits: version")
    assert "deleted" in pelton_at(again, "labels", "delete", "digits", "stable")


def test_without_a_state_the_cure_is_told(serve, models) -> None:
    with Client(serve(models).url) as client:
        assert client.ask_json("GET", "/v2/routes") == {"routes": []}
        with pytest.raises(InvalidRequest, match="start it with --state-dir FOLDER"):
            client.ask_json("PUT", "/v2/routes/digits", LATEST)


def test_a_body_that_is_too_long_is_refused_before_it_is_in(serve, models, tmp_path) -> None:
    server = serve(models, "--state-dir", str(tmp_path))
    connection = HTTPConnection("127.0.0.1", server.port, timeout=20)
    connection.putrequest("PUT", "/v2/routes/digits")
    connection.putheader("Content-Length", str(1 << 20))
    connection.endheaders(b" " * 20_000)  # and no more
    answer = connection.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["code"] == Code.TOO_LARGE
    connection.close()


def test_two_servers_share_one_database(serve, models, postgres) -> None:
    url = postgres.new_database()
    one, other = (serve(models, env={"PELTON_DATABASE_URL": url}) for _ in range(2))
    with Client(one.url) as here, Client(other.url) as there:
        row = here.ask_json("PUT", "/v2/routes/digits", LATEST)
        until(lambda: there.ask_json("GET", "/v2/routes")["routes"] == [row])
        revision = {"If-Match": str(row["revision"])}
        there.ask_json("PUT", "/v2/routes/digits", shadowed(1), headers=revision)
        with pytest.raises(PeltonError) as late:
            here.ask_json("PUT", "/v2/routes/digits", shadowed(2), headers=revision)
        assert late.value.code == Code.CONFLICT
        until(lambda: here.ask_json("GET", "/v2/routes/digits")["policy"] == shadowed(1))
    assert url not in one.log() + other.log()


def test_a_version_that_one_server_names_is_loaded_by_all(serve, models, postgres) -> None:
    for version in ("2", "3"):  # which alone is loaded by itself
        write_identity(models / "digits" / version / "model.onnx")
    url, ones = postgres.new_database(), np.ones(1, np.float32)
    one, other = (serve(models, env={"PELTON_DATABASE_URL": url}) for _ in range(2))

    def answered(client: Client, version: str | None, by: str) -> bool:
        try:
            return client.infer("digits", {"x": ones}, version=version).version == by
        except (NotFound, Unavailable):
            return False

    with Client(one.url) as here, Client(other.url) as there:
        here.ask_json("PUT", "/v2/routes/digits", {"policy": "pinned", "version": 1})
        assert answered(here, None, "1")
        until(lambda: answered(there, None, "1"))
        there.ask_json("PUT", "/v2/repository/models/digits/labels/old", {"version": 2})
        assert answered(there, "old", "2")
        until(lambda: answered(here, "old", "2"))


def test_a_kill_while_routes_are_set_leaves_the_old_or_the_new(
    serve, models, database_url: str
) -> None:
    flags = ("--database-url", database_url)
    server = serve(models, *flags, ends_well=False)
    told: list[dict[str, Any]] = []
    enough = threading.Event()

    def set_routes() -> None:
        with Client(server.url) as client:
            for number in count(1):
                try:
                    row = client.ask_json("PUT", "/v2/routes/digits", shadowed(number))
                except ConnectionFailed:
                    return
                told.append(row)
                if number == 25:
                    enough.set()

    setting = threading.Thread(target=set_routes)
    setting.start()
    assert enough.wait(30)
    server.signal(signal.SIGKILL)
    setting.join(30)
    server.wait()
    with Client(serve(models, *flags).url) as client:
        row = client.ask_json("GET", "/v2/routes/digits")
    assert row in (
        told[-1],
        {**told[-1], "policy": shadowed(len(told) + 1), "revision": row["revision"]},
    )
    assert row["revision"] - told[-1]["revision"] in (0, 1)
    state = State.open(database_url)
    trail = [each.change for each in state.audit.list(limit=10_000)][::-1]
    state.close()
    assert [each.after for each in trail] == [shadowed(n) for n in range(1, len(trail) + 1)]
    assert [each.before for each in trail] == [None, *(each.after for each in trail[:-1])]
    assert len(trail) == row["revision"]
