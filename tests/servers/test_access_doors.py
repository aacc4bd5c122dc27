"""Who is let in, over real sockets: keys, rates, hosts, pages, sessions, and what stays of it."""

from __future__ import annotations

import gzip
import http.client
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, Request

from pelton.access.keys import make_key
from pelton.access.redaction import RedactSecrets
from pelton.records import Scope
from pelton.servers.access import AccessOptions
from raw_http import Wire
from servers.fake_engine import FakeEngine
from servers.whole_server import WholeServer, ask
from services.redis import redis_server as redis_server  # a fixture
from services.redis import start_redis as start_redis  # likewise

NOW_S = time.time()
ROBOT = make_key("robot", [Scope.INFER], NOW_S)
READER = make_key("reader", [Scope.READ], NOW_S)
ADMIN = make_key("admin", [Scope.ADMIN], NOW_S)
SLOW = make_key("slow", [Scope.INFER, Scope.READ], NOW_S, requests_per_s=0.001, burst=2)
OTHER_SLOW = make_key("other", [Scope.INFER], NOW_S, requests_per_s=0.001, burst=2)
KEYS = [each.key for each in (ROBOT, READER, ADMIN, SLOW, OTHER_SLOW)]

INFER = "/v2/models/scale/infer"
BODY = json.dumps(
    {"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [2]}]}
).encode()


@pytest.fixture
def server() -> Iterator[WholeServer]:
    with WholeServer(KEYS) as running:
        yield running


def head(path: str, key: str, *lines: str, method: str = "POST") -> bytes:
    every = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Authorization: Bearer {key}", *lines]
    return "\r\n".join([*every, "", ""]).encode()


# -- before the body -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", [INFER, "/infer?model=scale", "/v2/keys", "/update_model"])
@pytest.mark.parametrize("expects", [(), ("Expect: 100-continue",)])
def test_a_stranger_is_refused_before_the_body(server: WholeServer, path: str, expects) -> None:
    with Wire(server.port) as wire:
        wire.send(head(path, "letmein", "Content-Length: 60000000", *expects))
        reply = wire.reply()
    assert reply.status == 401
    assert reply.headers["connection"] == "close"
    assert server.gateway.budget.buffered_bytes == 0


@pytest.mark.parametrize("path", [INFER, "/infer?model=scale"])
@pytest.mark.parametrize(
    "way",
    [
        ("Transfer-Encoding: chunked",),
        ("Content-Length: 2", "Content-Encoding: gzip"),
        ("Content-Length: 2", "Accept-Encoding: gzip"),
    ],
)
def test_the_unusual_ways_to_infer_have_the_same_lock(server: WholeServer, path: str, way) -> None:
    for key, status in (("letmein", 401), (READER.text, 403)):
        with Wire(server.port) as wire:
            wire.send(head(path, key, *way))
            assert wire.reply().status == status


def test_the_unusual_ways_are_open_to_those_who_may(server: WholeServer) -> None:
    packed = gzip.compress(BODY)
    assert server.ask("POST", INFER, ROBOT.text, packed, Content_Encoding="gzip").status == 200
    assert server.ask("POST", INFER, ROBOT.text, BODY, Accept_Encoding="gzip").status == 200
    assert server.ask("POST", INFER, ROBOT.text, BODY).json()["outputs"][0]["data"] == [4.0]


def test_a_refused_request_that_is_here_whole_leaves_the_connection_open(server) -> None:
    bad = head(INFER, READER.text, f"Content-Length: {len(BODY)}", "X-Request-Id: mine") + BODY
    good = head(INFER, ROBOT.text, f"Content-Length: {len(BODY)}") + BODY
    with Wire(server.port) as wire:
        wire.send(bad + good + bad + bad)
        wire.send(good)
        replies = [wire.reply() for _ in range(5)]
        assert [reply.status for reply in replies] == [403, 200, 403, 403, 200]
        assert replies[0].json()["request_id"] == "mine"
        assert "connection" not in replies[0].headers
    assert server.gateway.budget.buffered_bytes == 0


def test_a_refused_head_without_a_body_to_it_ends_the_connection(server: WholeServer) -> None:
    with Wire(server.port) as wire:
        wire.send(head("/v2", "letmein", method="HEAD"))
        assert wire.reply().status == 401


# -- what is remembered of a head ------------------------------------------------------------------


def test_many_callers_on_one_connection_are_told_apart(server: WholeServer) -> None:
    """As behind a proxy: what was found of one head must not hold for another."""
    connection = server.connect()
    asked = [(ROBOT, 200), (SLOW, 200), (READER, 403), (SLOW, 200), (SLOW, 429), (ROBOT, 200)]
    asked += [(SLOW, 429), (SLOW, 429), (READER, 403), (ROBOT, 200), (ADMIN, 200), (ROBOT, 200)]
    for new, status in asked:
        assert ask(connection, "POST", INFER, new.text, BODY).status == status
    connection.close()


def test_who_asks_is_known_to_the_door() -> None:
    seen: list[Any] = []
    with WholeServer(KEYS) as running:
        answer = running.gateway.door.answer

        async def noted(call, body, origin):
            seen.append(origin)
            return await answer(call, body, origin)

        running.gateway.door.answer = noted
        connection = running.connect()
        for new in (ROBOT, ROBOT, ADMIN):
            assert ask(connection, "POST", INFER, new.text, BODY).status == 200
        connection.close()
    assert [origin.caller.key_id for origin in seen] == [ROBOT.key.id, ROBOT.key.id, ADMIN.key.id]
    assert {origin.peer for origin in seen} == {"127.0.0.1"}
    assert {origin.route for origin in seen} == {"/v2/models/{model}/infer"}
    assert {origin.same_user for origin in seen} == {False}


@pytest.mark.parametrize("path", [INFER, "/v2/models"])
def test_a_kept_connection_ends_with_its_key(server: WholeServer, path: str) -> None:
    method, body = ("POST", BODY) if path == INFER else ("GET", None)
    connection = server.connect()
    assert ask(connection, method, path, ADMIN.text, body).status == 200
    assert ask(connection, method, path, ADMIN.text, body).status == 200
    server.shelf.revoke(ADMIN.key.id, NOW_S, None)
    server.on_loop(lambda: server.access.renew(server.shelf.list()))
    assert ask(connection, method, path, ADMIN.text, body).status == 401
    connection.close()


def test_a_kept_connection_ends_when_its_key_is_over(server: WholeServer) -> None:
    brief = make_key("brief", [Scope.INFER], NOW_S, expires_s=NOW_S + 3600)
    server.shelf.add(brief.key, None)
    server.on_loop(lambda: server.access.renew(server.shelf.list()))
    connection = server.connect()
    for _ in range(3):
        assert ask(connection, "POST", INFER, brief.text, BODY).status == 200
    server.on_loop(lambda: setattr(server.access.gate, "_clock", lambda: NOW_S + 3600))
    assert ask(connection, "POST", INFER, brief.text, BODY).status == 401
    connection.close()


def test_the_first_key_shuts_a_server_that_was_open() -> None:
    with WholeServer() as running:
        connection = running.connect()
        for _ in range(2):
            assert ask(connection, "POST", INFER, None, BODY).status == 200
        running.shelf.add(ROBOT.key, None)
        running.on_loop(lambda: running.access.renew(running.shelf.list()))
        assert ask(connection, "POST", INFER, None, BODY).status == 401
        assert ask(connection, "POST", INFER, ROBOT.text, BODY).status == 200
        connection.close()


# -- how often -------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [INFER, "/infer?model=scale"])
def test_one_request_too_many_is_told_when_to_come_back(server: WholeServer, path: str) -> None:
    body = BODY if path == INFER else json.dumps({"x": [1.0]}).encode()
    sent = {"Content_Type": "application/json"}
    connection = server.connect()
    for _ in range(2):
        assert ask(connection, "POST", path, SLOW.text, body, **sent).status == 200
    for _ in range(3):
        answer = ask(connection, "POST", path, SLOW.text, body, **sent)
        assert answer.status == 429
        assert answer.json()["code"] == "rate_limited"
        assert 900 <= int(answer.headers["retry-after"]) <= 1000
    # Neither another key, nor the same one elsewhere, nor a key without a rate.
    assert ask(connection, "POST", path, OTHER_SLOW.text, body, **sent).status == 200
    assert ask(connection, "GET", "/v2/models", SLOW.text).status == 200
    assert ask(connection, "POST", path, ROBOT.text, body, **sent).status == 200
    connection.close()


def test_chunked_inference_is_counted_with_the_other() -> None:
    with WholeServer(KEYS) as running:
        for _ in range(2):
            assert running.ask("POST", INFER, SLOW.text, BODY).status == 200
        answer = running.ask("POST", INFER, SLOW.text, gzip.compress(BODY), Content_Encoding="gzip")
        assert answer.status == 429


def test_an_address_without_a_key_cannot_change_its_name() -> None:
    options = AccessOptions(anonymous_requests_per_s=0.001, anonymous_burst=2)
    with WholeServer(options=options) as running:
        told = [
            running.ask("POST", INFER, None, BODY, X_Forwarded_For=f"10.0.0.{each}").status
            for each in range(4)
        ]
        assert told == [200, 200, 429, 429]
        assert running.ask("GET", "/v2/health/live").status == 200


def test_behind_a_proxy_that_is_known_each_address_is_counted_by_itself() -> None:
    options = AccessOptions(
        anonymous_requests_per_s=0.001, anonymous_burst=1, trusted_proxies=("127.0.0.0/8",)
    )
    with WholeServer(options=options) as running:
        for each in range(3):
            forwarded = {"X_Forwarded_For": f"1.2.3.4, 10.0.0.{each}"}
            assert running.ask("POST", INFER, None, BODY, **forwarded).status == 200
            assert running.ask("POST", INFER, None, BODY, **forwarded).status == 429


def test_nodes_count_together_in_redis(redis_server) -> None:
    options = AccessOptions(rate_limit_redis=redis_server.url)
    with WholeServer(KEYS, options) as one, WholeServer(KEYS, options) as other:
        assert one.ask("POST", INFER, SLOW.text, BODY).status == 200
        assert other.ask("POST", INFER, SLOW.text, BODY).status == 200
        refused = one.ask("POST", INFER, SLOW.text, BODY)
        assert refused.status == 429
        assert int(refused.headers["retry-after"]) > 900
        packed = gzip.compress(BODY)
        refused = other.ask("POST", INFER, SLOW.text, packed, Content_Encoding="gzip")
        assert (refused.status, refused.json()["code"]) == (429, "rate_limited")
        assert one.ask("POST", INFER, ROBOT.text, BODY).status == 200


def test_a_redis_that_is_away_refuses_nobody() -> None:
    options = AccessOptions(rate_limit_redis="redis://127.0.0.1:1/0")
    with WholeServer(KEYS, options) as running:
        told = [running.ask("POST", INFER, SLOW.text, BODY).status for _ in range(3)]
        assert told == [200, 200, 429]


# -- browsers --------------------------------------------------------------------------------------

ATTACKS = {
    "a page of another site": {"Origin": "http://evil.example"},
    "a page of another port": {"Origin": "http://127.0.0.1:1"},
    "a form of another site": {"Sec_Fetch_Site": "cross-site"},
    "a page beside": {"Sec_Fetch_Site": "same-site"},
    "a page of nowhere": {"Origin": "null"},
}


@pytest.mark.parametrize("headers", ATTACKS.values(), ids=ATTACKS)
def test_a_page_of_strangers_changes_nothing_without_keys(headers: dict[str, str]) -> None:
    with WholeServer() as running:
        for method, path in (
            ("POST", INFER),
            ("POST", "/v2/repository/models/m/load"),
            ("PUT", "/v2/routes/r"),
            ("DELETE", "/v2/routes/r"),
        ):
            answer = running.ask(method, path, None, BODY, **headers)
            assert (path, answer.status, answer.json()["code"]) == (path, 403, "forbidden")


def test_a_name_that_was_bent_to_this_address_is_refused_without_keys() -> None:
    with WholeServer() as running:
        for method, path in (("GET", "/v2/models"), ("POST", INFER), ("GET", "/docs")):
            answer = running.ask(method, path, None, BODY, Host="evil.example")
            assert (path, answer.status) == (path, 403)
            assert "allowed_hosts" in answer.json()["error"]
            for good in ("localhost", "127.0.0.1:1", "LOCALHOST.", "[::1]:7"):
                assert running.ask(method, path, None, BODY, Host=good).status == 200


def test_further_names_of_the_server_can_be_said() -> None:
    with WholeServer(options=AccessOptions(allowed_hosts=("robot.local",))) as running:
        assert running.ask("GET", "/v2/models", Host="robot.local:50000").status == 200
        assert running.ask("GET", "/v2/models", Host="robot.example").status == 403


def cookie_of(answer: Any) -> str:
    return str(answer.headers["set-cookie"]).partition(";")[0]


def test_a_session_does_what_its_key_may_and_needs_its_token(server: WholeServer) -> None:
    opened = server.ask("POST", "/v2/session", ADMIN.text)
    assert opened.status == 200
    assert "HttpOnly; SameSite=Strict" in opened.headers["set-cookie"]
    assert opened.headers["cache-control"] == "no-store"
    cookie, csrf = cookie_of(opened), opened.json()["csrf"]
    told = server.ask("GET", "/v2/session", Cookie=cookie)
    assert told.json()["csrf"] == csrf
    assert told.json()["key_id"] == ADMIN.key.id
    assert "admin" in told.json()["scopes"]
    assert server.ask("GET", "/v2/keys", Cookie=cookie).status == 200
    wish = json.dumps({"label": "made", "scopes": ["read"]}).encode()
    for wrong in ({}, {"X_CSRF_Token": "x"}, {"X_CSRF_Token": csrf[:-1]}):
        refused = server.ask("POST", "/v2/keys", None, wish, Cookie=cookie, **wrong)
        assert (refused.status, refused.json()["code"]) == (403, "forbidden")
    for headers in ATTACKS.values():
        sent = {"Cookie": cookie, "X_CSRF_Token": csrf, **headers}
        assert server.ask("POST", "/v2/keys", None, wish, **sent).status == 403
    bent = {"Cookie": cookie, "X_CSRF_Token": csrf, "Host": "evil.example"}
    assert server.ask("POST", "/v2/keys", None, wish, **bent).status == 403
    good = {"Cookie": cookie, "X_CSRF_Token": csrf, "Sec_Fetch_Site": "same-origin"}
    assert server.ask("POST", "/v2/keys", None, wish, **good).status == 200
    assert len(server.shelf.kept) == len(KEYS) + 1
    ended = server.ask("DELETE", "/v2/session", **good)
    assert "Max-Age=0" in ended.headers["set-cookie"]
    assert server.ask("GET", "/v2/keys", Cookie=cookie).status == 401


def test_a_session_is_begun_with_a_key_and_nothing_less(server: WholeServer) -> None:
    cookie = cookie_of(server.ask("POST", "/v2/session", READER.text))
    assert server.ask("POST", "/v2/session", Cookie=cookie).status in (401, 403)
    assert server.ask("GET", "/v2/keys", Cookie=cookie).status == 403
    assert server.ask("GET", "/v2/session", READER.text).status == 404


def test_without_keys_there_is_no_session() -> None:
    with WholeServer() as running:
        assert running.ask("POST", "/v2/session").status == 400


# -- the Unix socket -------------------------------------------------------------------------------


def test_the_unix_socket_has_the_same_lock_and_no_host(tmp_path: Path) -> None:
    file = tmp_path / "pelton.sock"
    with WholeServer(KEYS, unix=file) as running:
        for key, status in (("letmein", 401), (ROBOT.text, 200), (READER.text, 403)):
            with Wire(file) as wire:
                wire.send(head(INFER, key, f"Content-Length: {len(BODY)}") + BODY)
                assert wire.reply().status == status
        del running
    with WholeServer(unix=file):
        with Wire(file) as wire:
            wire.send(b"GET /v2/models HTTP/1.1\r\nHost: anything\r\n\r\n")
            assert wire.reply().status == 200
        with Wire(file) as wire:
            wire.send(b"GET /v2/keys HTTP/1.1\r\nHost: anything\r\n\r\n")
            assert wire.reply().status == 403


# -- keys over HTTP --------------------------------------------------------------------------------


def make(server: WholeServer, new: Any = ADMIN, **wish: Any) -> Any:
    body = json.dumps({"label": "made", "scopes": ["infer"], **wish}).encode()
    return server.ask("POST", "/v2/keys", new.text, body)


def test_a_key_is_made_used_listed_and_revoked(server: WholeServer) -> None:
    made = make(server, requests_per_s=5, expires_s=NOW_S + 1000)
    assert made.headers["cache-control"] == "no-store"
    key, key_id = made.json()["key"], made.json()["id"]
    assert made.json()["burst"] == 5
    assert server.ask("POST", INFER, key, BODY).status == 200
    listed = server.ask("GET", "/v2/keys", ADMIN.text)
    rows = {row["id"]: row for row in listed.json()["keys"]}
    assert rows[key_id]["label"] == "made"
    assert rows[key_id]["state"] == "good"
    assert key[20:] not in listed.body.decode()
    assert "digest" not in listed.body.decode()
    gone = server.ask("DELETE", f"/v2/keys/{key_id}", ADMIN.text)
    assert (gone.status, gone.json()["state"]) == (200, "revoked")
    assert server.ask("POST", INFER, key, BODY).status == 401
    assert server.ask("DELETE", f"/v2/keys/{key_id}", ADMIN.text).status == 409
    made_change, gone_change = server.shelf.changes
    assert (made_change.actor, made_change.action) == (ADMIN.key.id, "keys.create")
    assert made_change.after["label"] == "made"
    assert (gone_change.actor, gone_change.subject) == (ADMIN.key.id, key_id)
    assert key[20:] not in repr(server.shelf.changes)


def test_nobody_gives_what_they_do_not_have(server: WholeServer) -> None:
    refused = make(server, scopes=["infer", "pickle:unsafe"])
    assert refused.status == 403
    assert "pickle:unsafe" in refused.json()["error"]
    assert len(server.shelf.kept) == len(KEYS)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({"label": ""}, "label"),
        ({"label": 5}, "label"),
        ({"scopes": []}, "scope"),
        ({"scopes": "infer"}, "scopes"),
        ({"scopes": ["inver"]}, "'inver' is no scope; there are: infer"),
        ({"expires_s": 5}, "later than now"),
        ({"expires_s": "tomorrow"}, "expires_s"),
        ({"requests_per_s": 0}, "requests per second"),
        ({"requests_per_s": 1, "burst": 1.5}, "burst"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wish_that_makes_no_sense_is_told(server: WholeServer, wish, told: str) -> None:
    refused = make(server, **wish)
    assert refused.status == 400
    assert told in refused.json()["error"]
    assert len(server.shelf.kept) == len(KEYS)


@pytest.mark.parametrize("name", ["x", "a" * 11, "a" * 13, "UPPERCASE012", f"{ROBOT.text[:40]}"])
def test_what_is_no_id_is_not_quoted(server: WholeServer, name: str) -> None:
    refused = server.ask("DELETE", f"/v2/keys/{name}", ADMIN.text)
    assert refused.status == 400
    assert name not in refused.body.decode()


def test_a_key_that_was_found_can_be_revoked_by_itself(server: WholeServer) -> None:
    assert server.ask("DELETE", f"/v2/keys/{ROBOT.text}", ADMIN.text).json()["state"] == "revoked"
    assert server.ask("DELETE", "/v2/keys/" + "a" * 12, ADMIN.text).status == 404


# -- what stays of it ------------------------------------------------------------------------------


def test_no_key_gets_into_the_log_or_an_error(caplog) -> None:
    class Telltale(FakeEngine):
        async def infer(self, request):
            raise RuntimeError(f"cannot go on with {ROBOT.text}")

    caplog.handler.addFilter(RedactSecrets())
    with caplog.at_level(logging.DEBUG), WholeServer(KEYS, engine=Telltale()) as running:
        bodies = [
            running.ask("POST", INFER, ROBOT.text, BODY).body,
            running.ask("POST", INFER, ROBOT.text + "x", BODY).body,
            running.ask("GET", f"/{ROBOT.text}", ROBOT.text).body,
            running.ask("POST", f"/v2/models/{ROBOT.key.id}/infer", ROBOT.text, b"{").body,
            running.ask("GET", "/stats", READER.text).body,
        ]
    secret = ROBOT.text.rpartition("_")[2]
    assert "RuntimeError" in caplog.text
    assert ROBOT.key.id in caplog.text
    assert secret not in caplog.text
    assert secret not in b"".join(bodies).decode()


# -- uploads ---------------------------------------------------------------------------------------


def reading_app() -> tuple[APIRouter, list[int]]:
    """A route that takes an upload as it comes, in the place of the real one."""
    routes, sizes = APIRouter(), []

    @routes.post("/update_model")
    async def take(request: Request) -> dict[str, int]:
        size = 0
        async for piece in request.stream():
            size += len(piece)
            sizes.append(len(piece))
        return {"size": size}

    return routes, sizes


@pytest.fixture
def taking(monkeypatch) -> Iterator[tuple[WholeServer, list[int]]]:
    routes, sizes = reading_app()
    monkeypatch.setattr("pelton.servers.publish_routes.router", lambda *_: routes)
    with WholeServer(KEYS, body_bytes=(1024 * 1024, 8 * 1024 * 1024)) as running:
        yield running, sizes


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_may_be_larger_than_any_body_and_is_never_held(taking, chunked: bool) -> None:
    running, sizes = taking
    connection = running.connect()
    pieces = (bytes(65536) for _ in range(96))
    headers = {"Authorization": f"Bearer {ADMIN.text}"}
    if not chunked:
        headers["Content-Length"] = str(96 * 65536)
    connection.request("POST", "/update_model", pieces, headers, encode_chunked=chunked)
    response = connection.getresponse()
    assert json.loads(response.read()) == {"size": 96 * 65536}
    assert max(sizes) <= 512 * 1024
    assert ask(connection, "POST", INFER, ADMIN.text, BODY).status == 200
    connection.close()
    assert running.gateway.budget.buffered_bytes == 0


def test_an_upload_has_its_own_bound_and_others_have_theirs(taking) -> None:
    running, _ = taking
    for path, size in (("/update_model", 9_000_000), ("/v2/keys", 2_000_000)):
        with Wire(running.port) as wire:
            wire.send(head(path, ADMIN.text, f"Content-Length: {size}"))
            assert wire.reply().status == 413


def test_an_upload_that_stands_still_is_given_up(monkeypatch) -> None:
    from pelton.servers.connections import ConnectionLimits

    routes, _ = reading_app()
    monkeypatch.setattr("pelton.servers.publish_routes.router", lambda *_: routes)
    limits = ConnectionLimits(body_timeout_s=0.2)
    with WholeServer(KEYS, limits=limits, body_bytes=(1024, 8_000_000)) as running:
        with Wire(running.port) as wire:
            wire.send(head("/update_model", ADMIN.text, "Content-Length: 5000000") + bytes(1000))
            assert wire.reply().status == 408
        connection = http.client.HTTPConnection("127.0.0.1", running.port)
        assert ask(connection, "POST", INFER, ADMIN.text, BODY).status == 200
        connection.close()
