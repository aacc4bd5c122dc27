"""Every route of the server as it is put together, at every door, asked by those who may not."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from pelton import app
from pelton.access.caller import effective
from pelton.access.keys import NewKey, make_key
from pelton.access.scopes import ROUTES, Open
from pelton.records import Change, Scope
from pelton.settings import load_settings
from pelton.state.sqlite import file_url
from pelton.state.state import State
from servers.whole_server import WAIT_S, ask, example, served_routes, unknown_routes
from support_server import write_identity

NOW_S = time.time()
KEYS = {scope: make_key(str(scope), [scope], NOW_S) for scope in Scope}
REVOKED = make_key("revoked", Scope, NOW_S)
OVER = make_key("over", Scope, NOW_S - 100, expires_s=NOW_S - 1)
STRANGER = make_key("stranger", Scope, NOW_S)

PRESENTED = {
    "no key": None,
    "an unknown key": STRANGER.text,
    "a wrong secret": KEYS[Scope.ADMIN].text[:-1] + "_",
    "a revoked key": REVOKED.text,
    "a key that is over": OVER.text,
}

GATED = [route for route, need in ROUTES.items() if need is not Open.PUBLIC]


class Assembled:
    """A server of this process, as `pelton serve` puts it together, with each kind of listener.

    Attributes:
        routes: the application with all routes.
        doors: name -> a new connection.
    """

    def __init__(self, folder: Path, keys: list[NewKey], **flags: str) -> None:
        path = folder / "models"
        write_identity(path / "echo" / "1" / "model.onnx")
        said = {"port": "0", "uds": str(folder / "s"), "state_dir": str(folder / "state"), **flags}
        settings = load_settings(said, {})
        (folder / "state").mkdir()
        state = State.open(file_url(folder / "state"))
        for new in keys:
            state.keys.add(new.key, _note(new))
        if REVOKED in keys:
            state.keys.revoke(REVOKED.key.id, NOW_S, _note(REVOKED))
        state.close()
        self._listeners = app.bind(settings)
        self._ready = threading.Event()
        self._app = app.build(path, settings, self._listeners, lambda *_told: self._ready.set())
        self._thread = threading.Thread(target=self._app.run, args=(self._listeners,))
        self.routes: Any = self._app.host.config.app._app
        port = self._listeners[0].getsockname()[1]
        self.doors: dict[str, Callable[[], HTTPConnection]] = {
            "tcp": lambda: HTTPConnection("127.0.0.1", port, timeout=WAIT_S),
            "unix": lambda: _ByFile(folder / "s"),
        }

    def __enter__(self) -> Assembled:
        self._thread.start()
        assert self._ready.wait(WAIT_S)
        return self

    def __exit__(self, *_raised: object) -> None:
        self._app.host.should_exit = True
        self._thread.join(WAIT_S)
        app.unbind(self._listeners)
        assert not self._thread.is_alive()


class _ByFile(HTTPConnection):
    def __init__(self, file: Path) -> None:
        super().__init__("localhost", timeout=WAIT_S)
        self._file = file

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(WAIT_S)
        self.sock.connect(str(self._file))


def _note(new: NewKey) -> Change:
    return Change(NOW_S, "local", "test", new.key.id, None, None)


@pytest.fixture(scope="module")
def assembled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Assembled]:
    every = [*KEYS.values(), REVOKED, OVER]
    flags = {"allow_publish": "yes", "explicit_models": "yes", "shutdown_grace_s": "1"}
    with Assembled(tmp_path_factory.mktemp("walk"), every, **flags) as running:
        yield running


@pytest.fixture(params=["tcp", "unix"])
def door(request, assembled: Assembled) -> Iterator[HTTPConnection]:
    connection = assembled.doors[request.param]()
    yield connection
    connection.close()


def test_the_table_knows_each_route_and_each_is_there(assembled: Assembled) -> None:
    assert unknown_routes(assembled.routes) == []
    served = {(method, route) for method, route in served_routes(assembled.routes)}
    assert {route for route in served if route[0] != "HEAD"} == set(ROUTES)


def test_a_route_without_a_rule_is_noticed_here_and_open_to_nobody(tmp_path: Path) -> None:
    ran = []
    with Assembled(tmp_path, [KEYS[Scope.ADMIN]]) as running:
        running.routes.add_api_route("/attic", lambda: ran.append(1), methods=["GET"])
        running.routes.add_api_route("/v2/keys", lambda: ran.append(1), methods=["PATCH"])
        assert unknown_routes(running.routes) == [("GET", "/attic"), ("PATCH", "/v2/keys")]
        for connect in running.doors.values():
            for key in (None, KEYS[Scope.ADMIN].text):
                connection = connect()
                assert ask(connection, "GET", "/attic", key).status == 404
                assert ask(connection, "PATCH", "/v2/keys", key, b"{}").status == 405
                connection.close()
    assert ran == []


@pytest.mark.parametrize("presented", PRESENTED.values(), ids=PRESENTED)
def test_nobody_gets_in_without_a_good_key(door: HTTPConnection, presented: str | None) -> None:
    for method, route in GATED:
        answer = ask(door, method, example(route), presented, b"{}")
        assert (method, route, answer.status) == (method, route, 401)
        assert answer.json()["code"] == "unauthenticated"
        assert answer.headers["www-authenticate"] == 'Bearer realm="pelton"'


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_opens_what_its_scope_says(door: HTTPConnection, scope: Scope) -> None:
    has = effective(frozenset([scope]))
    for method, route in GATED:
        need = ROUTES[method, route]
        answer = ask(door, method, example(route), KEYS[scope].text, b"not json")
        if isinstance(need, Open) or need in has:
            assert (method, route, answer.status) not in {
                (method, route, refused) for refused in (401, 403, 500)
            }
        else:
            assert (method, route, answer.status) == (method, route, 403)
            assert f"`{need}`" in answer.json()["error"]


def test_the_public_routes_tell_nothing_but_yes(door: HTTPConnection) -> None:
    for path, told in (("/v2/health/live", {"live": True}), ("/v2/health/ready", {"ready": True})):
        answer = ask(door, "GET", path)
        assert (answer.status, answer.json()) == (200, told)
        alone = ask(door, "HEAD", path)
        assert (alone.status, alone.body) == (200, b"")
        assert alone.headers["content-length"] == answer.headers["content-length"]


@pytest.mark.parametrize("path", ["/health", "/stats", "/v2", "/v2/keys", "/openapi.json"])
def test_who_is_told_by_get_is_told_by_head_and_nobody_else(
    door: HTTPConnection, path: str
) -> None:
    assert ask(door, "HEAD", path).status == 401
    for key in (KEYS[Scope.READ].text, KEYS[Scope.INFER].text, KEYS[Scope.ADMIN].text):
        got, told = ask(door, "GET", path, key), ask(door, "HEAD", path, key)
        assert (told.status, told.body) == (got.status, b"")


def test_who_was_turned_away_is_counted(assembled: Assembled) -> None:
    reader, robot = KEYS[Scope.READ].text, KEYS[Scope.INFER].text
    connection = assembled.doors["tcp"]()

    def counted() -> dict[str, int]:
        counts: dict[str, int] = ask(connection, "GET", "/stats", reader).json()["refused_requests"]
        return counts

    before = counted()
    infer = "/v2/models/echo/infer"
    for method, path, key, status in (
        ("POST", infer, None, 401),
        ("POST", infer, reader, 403),
        ("GET", "/v2/keys", robot, 403),
        ("GET", "/v2/keys", STRANGER.text, 401),
        ("POST", infer, robot, 400),
        ("GET", "/nowhere", reader, 404),
    ):
        assert ask(connection, method, path, key, b"{}").status == status
    after = counted()
    connection.close()
    assert {name: after[name] - before[name] for name in after} == {
        "unauthenticated": 2,
        "forbidden": 2,
        "rate_limited": 0,
    }
