"""Every route of every door, asked by those who may not, over real sockets."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from fastapi import APIRouter

from pelton.access.caller import effective
from pelton.access.keys import make_key, revoked
from pelton.access.scopes import ROUTES, Open
from pelton.records import Scope
from pelton.servers.control_protocol import ControlProtocol
from servers.whole_server import WholeServer, ask, example, served_routes, unknown_routes

NOW_S = time.time()
KEYS = {scope: make_key(str(scope), [scope], NOW_S) for scope in Scope}
REVOKED = make_key("revoked", Scope, NOW_S)
OVER = make_key("over", Scope, NOW_S - 100, expires_s=NOW_S - 1)
STRANGER = make_key("stranger", Scope, NOW_S)

PRESENTED = {
    "no key": None,
    "an unknown key": STRANGER.text,
    "a wrong secret": KEYS[Scope.ADMIN].text[:-1] + "_",
    "another secret": KEYS[Scope.ADMIN].text[:20] + STRANGER.text[20:],
    "a revoked key": REVOKED.text,
    "a key that is over": OVER.text,
    "no key at all": "letmein",
    "nothing": "",
}

GATED = [route for route, need in ROUTES.items() if need is not Open.PUBLIC]


@pytest.fixture(scope="module")
def server() -> Iterator[WholeServer]:
    every = [new.key for new in KEYS.values()]
    with WholeServer([*every, revoked(REVOKED.key, NOW_S), OVER.key]) as running:
        yield running


def test_every_route_of_the_whole_application_is_in_the_table_and_the_other_way_round(server):
    served = served_routes(server.app)
    assert unknown_routes(server.app) == []
    # HEAD comes with the pages of the framework; the table knows it by GET.
    assert {route for route in served if route[0] != "HEAD"} == set(ROUTES)


def test_a_route_that_was_added_and_forgotten_is_found_and_does_not_run() -> None:
    ran = []
    attic = APIRouter()
    attic.add_api_route("/attic", lambda: ran.append(1), methods=["GET"])
    attic.add_api_route("/v2/models/{model}/burn", lambda: ran.append(1), methods=["POST"])
    attic.add_api_route("/stats", lambda: ran.append(1), methods=["DELETE"])
    with WholeServer(further=[attic]) as running:
        assert unknown_routes(running.app) == [
            ("GET", "/attic"),
            ("POST", "/v2/models/{model}/burn"),
            ("DELETE", "/stats"),
        ]
        assert running.ask("GET", "/attic").status == 404
        assert running.ask("POST", "/v2/models/m/burn", body=b"").status == 404
        answer = running.ask("DELETE", "/stats")
        assert (answer.status, answer.headers["allow"]) == (405, "GET")
        assert answer.json()["code"] == "method_not_allowed"
    assert ran == []


@pytest.mark.parametrize("presented", PRESENTED.values(), ids=PRESENTED)
def test_nobody_without_a_good_key_gets_anywhere(server: WholeServer, presented) -> None:
    connection = server.connect()
    for method, route in GATED:
        answer = ask(connection, method, example(route), presented, body=b"{}")
        assert (route, answer.status) == (route, 401)
        assert answer.headers["www-authenticate"] == 'Bearer realm="pelton"'
        assert answer.headers["content-type"] == "application/json"
        assert answer.json()["code"] == "unauthenticated"
        assert "API key" in answer.json()["error"]
        assert not presented or presented not in answer.body.decode()
    connection.close()


@pytest.mark.parametrize(
    "headers",
    [
        {"X_API_Key": STRANGER.text},
        {"Authorization": f"Basic {KEYS[Scope.ADMIN].text}"},
        {"Authorization": f"Bearer {KEYS[Scope.ADMIN].text}", "X_API_Key": KEYS[Scope.READ].text},
        {"Cookie": f"pelton_session={KEYS[Scope.ADMIN].text}"},
    ],
)
def test_no_other_way_to_show_a_key_gets_anywhere(server: WholeServer, headers) -> None:
    for method, route in GATED:
        assert server.ask(method, example(route), None, b"{}", **headers).status == 401


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_opens_what_its_scope_says_and_nothing_else(server: WholeServer, scope) -> None:
    has = effective(frozenset([scope]))
    for method, route in GATED:
        need = ROUTES[method, route]
        key = KEYS[scope].text
        if not isinstance(need, Open) and need not in has:
            answer = server.ask(method, example(route), key, b"{}")
            assert (route, answer.status) == (route, 403)
            assert answer.json()["code"] == "forbidden"
            assert f"`{need}`" in answer.json()["error"]
            assert key not in answer.body.decode()
        else:
            answer = server.ask(method, example(route), key, b"not json")
            assert (route, answer.status) not in {(route, 401), (route, 403)}


@pytest.mark.parametrize("path", ["/v2/health/live", "/v2/health/ready"])
def test_health_is_told_to_anybody_and_nothing_with_it(server: WholeServer, path: str) -> None:
    for key in (None, "letmein", REVOKED.text):
        answer = server.ask("GET", path, key)
        assert answer.status == 200
        assert answer.json() in ({"live": True}, {"ready": True})


@pytest.mark.parametrize(
    "path",
    [
        "/v2/keys/",
        "//v2/keys",
        "/v2//keys",
        "/v2/./keys",
        "/V2/keys",
        "/v2/keys%2f",
        "/v2/health/live/../../keys",
        "/v2/health/live/..%2f..%2fkeys",
        "/v2/keys;live",
        "/v2/keys%00",
    ],
)
def test_an_address_in_another_spelling_leads_nowhere(server: WholeServer, path: str) -> None:
    for key in (None, KEYS[Scope.READ].text):
        assert server.ask("GET", path, key).status in (404, 401, 403)
    assert server.ask("GET", path, KEYS[Scope.ADMIN].text).status == 404


@pytest.mark.parametrize(
    "target",
    ["/v2/%6beys", "http://127.0.0.1/v2/keys", "/v2/keys?x=/v2/health/live", "/v2/%6Beys?"],
)
def test_one_address_in_two_spellings_has_one_lock(server: WholeServer, target: str) -> None:
    assert server.ask("GET", target).status == 401
    assert server.ask("GET", target, KEYS[Scope.READ].text).status == 403
    answer = server.ask("GET", target, KEYS[Scope.ADMIN].text)
    assert answer.status == 200
    assert {each["label"] for each in answer.json()["keys"]} >= {"admin", "over"}


def test_what_runs_is_what_the_gate_has_let_in(server, monkeypatch) -> None:
    """A second reader of the address that differs from the first gets nothing to run."""
    begin = ControlProtocol.begin

    def otherwise(self, head, *others):
        begin(self, head.replace(b"GET /v2/health/live", b"GET /v2/keys"), *others)

    monkeypatch.setattr(ControlProtocol, "begin", otherwise)
    assert server.ask("GET", "/v2/health/live").status == 404
