"""Rates of keys and of strangers on real servers, alone and several over one Redis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from e2e.kept_keys import make_keys
from pelton.client import Client
from pelton.client.options import Retries
from pelton.errors import Code, Unavailable
from pelton.records import Scope
from raw_http import RawReply, Wire
from services.databases import database_url as database_url
from services.redis import start_redis as start_redis  # a fixture
from support_server import ServerProcess, until, write_identity

AT_ONCE = 4
SLOW = {"requests_per_s": 0.001, "burst": AT_ONCE}
INFER = json.dumps(
    {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]}
).encode()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_identity(tmp_path / "echo.onnx")


def ask(server: ServerProcess, key: str, target: str = "/v2/models/echo/infer") -> RawReply:
    """Ask once, and not again."""
    get = target in ("/v2/models", "/stats")
    head = [f"{'GET' if get else 'POST'} {target} HTTP/1.1", "Host: localhost"]
    head += [f"Authorization: Bearer {key}"] if key else []
    body = b"" if get else INFER
    with Wire(server.port) as wire:
        lines = [*head, "Content-Type: application/json", f"Content-Length: {len(body)}", "", ""]
        wire.send("\r\n".join(lines).encode() + body)
        return wire.reply()


def refusals(server: ServerProcess, key: str) -> Any:
    """Return how many were told to come later."""
    return ask(server, key, "/stats").json()["refused_requests"]["rate_limited"]


def check_refusal(reply: RawReply) -> None:
    assert (reply.status, reply.json()["code"]) == (429, "rate_limited")
    assert 900 <= int(reply.headers["retry-after"]) <= 1000
    assert "0.001 requests per second (4 at once)" in reply.json()["error"]


def test_a_key_may_ask_each_route_as_often_as_it_says(serve, model: Path, database_url) -> None:
    slow = make_keys(database_url, Scope.ADMIN, **SLOW)[Scope.ADMIN]
    other = make_keys(database_url, Scope.ADMIN, **SLOW)[Scope.ADMIN]
    free = make_keys(database_url, Scope.READ)[Scope.READ]
    server = serve(model, "--database-url", database_url)
    assert [ask(server, slow).status for _ in range(AT_ONCE)] == [200] * AT_ONCE
    for _ in range(3):
        check_refusal(ask(server, slow))
    # Another route of the same key, another key, and a key without a rate.
    assert ask(server, slow, "/v2/models").status == 200
    assert ask(server, other).status == 200
    assert all(ask(server, free, "/v2/models").status == 200 for _ in range(3 * AT_ONCE))
    assert refusals(server, free) == 3
    with (
        Client(server.url, api_key=slow, retries=Retries(attempts=1)) as client,
        pytest.raises(Unavailable) as caught,
    ):
        client.infer("echo", {"x": np.ones(1, np.float32)})
    assert caught.value.code == Code.RATE_LIMITED
    assert caught.value.retry_after_s is not None


def test_a_stranger_is_counted_by_the_address(serve, model: Path) -> None:
    flags = ("--anonymous-requests-per-s", "0.001", "--anonymous-burst", str(AT_ONCE))
    server = serve(model, *flags)
    assert [ask(server, "").status for _ in range(AT_ONCE)] == [200] * AT_ONCE
    check_refusal(ask(server, ""))
    assert refusals(server, "") == 1


def test_several_servers_count_together_as_long_as_redis_is_there(
    serve, model: Path, postgres, start_redis
) -> None:
    database, redis = postgres.new_database(), start_redis("s3cret-of-redis")
    slow = make_keys(database, Scope.INFER, **SLOW)[Scope.INFER]
    late = make_keys(database, Scope.INFER, **SLOW)[Scope.INFER]
    free = make_keys(database, Scope.READ, Scope.INFER)
    env = {"PELTON_DATABASE_URL": database, "PELTON_RATE_LIMIT_REDIS": redis.url}
    one, two = serve(model, env=env), serve(model, env=env)
    # Taken in turns, the sum is what counts.
    told = [ask(server, slow).status for _ in range(AT_ONCE) for server in (one, two)]
    assert told == [200] * AT_ONCE + [429] * AT_ONCE
    for server in (one, two):
        check_refusal(ask(server, slow))
        assert ask(server, slow, "/infer").status == 400  # another route: let in, and wrong there
        assert ask(server, free[Scope.INFER]).status == 200

    redis.stop()
    # Each counts for itself now, and nobody is refused because of Redis.
    for server in (one, two):
        assert [ask(server, late).status for _ in range(AT_ONCE)] == [200] * AT_ONCE
        assert ask(server, late).status == 429
        assert ask(server, free[Scope.INFER]).status == 200
        server.wait_for_log("each node limits rates by itself")

    redis.start_again()
    fresh = make_keys(database, Scope.INFER, requests_per_s=1000.0)[Scope.INFER]
    for server in (one, two):
        until(lambda server=server: ask(server, fresh).status == 200)
        until(lambda server=server: "Redis counts requests again" in _asked(server, fresh))
    assert "s3cret" not in one.log() + two.log()
    assert refusals(one, free[Scope.READ]) >= 1


def _asked(server: ServerProcess, key: str) -> str:
    ask(server, key, "/v2/models/echo/infer")
    return server.log()
