"""People's browsers with sessions, and pages of others that try to use them; a real Chromium."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from e2e.kept_keys import make_keys
from pelton.client import Client
from pelton.records import Scope
from pelton.state.sqlite import file_url
from services.certificates import Files, needs_openssl
from services.chromium import Chromium, Page
from services.chromium import start_chromium as start_chromium  # a fixture
from support_server import ServerProcess, write_identity

HOSTS = "MAP evil.example 127.0.0.1, MAP robot.local 127.0.0.1"

SIGN_IN = """
    const answer = await fetch('/v2/session', {
        method: 'POST', headers: {Authorization: 'Bearer ' + given[0]},
    });
    return {status: answer.status, ...await answer.json()};
"""

ASK = """
    const [method, path, body, headers] = given;
    const answer = await fetch(path, {method, body: body ?? undefined, headers: headers ?? {}});
    return {status: answer.status, text: await answer.text()};
"""

WISH = json.dumps({"label": "stolen", "scopes": ["admin"]})
INFER = json.dumps({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]})

CHANGES = [
    ("POST", "/v2/keys", WISH),
    ("POST", "/v2/repository/models/echo/unload", "{}"),
    ("PUT", "/v2/routes/evil", '{"model": "echo", "policy": "latest"}'),
    ("DELETE", "/v2/session", None),
    ("POST", "/v2/models/echo/infer", INFER),
    ("POST", "/update_model", "file"),
]


REACHING = 3 * sum(method == "POST" for method, _path, _body in CHANGES)
"""How many of the attempts of one page a browser sends at least, without asking first by OPTIONS:
two ways to fetch, and a form."""


class Pages(BaseHTTPRequestHandler):
    """Somebody else's web server: every address is an empty page."""

    def do_GET(self) -> None:
        page = b"<!doctype html><title>win a robot</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, *_told: Any) -> None:
        pass


@pytest.fixture(scope="module")
def stranger() -> Iterator[int]:
    """The port of somebody else's web server."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Pages) as server:
        running = threading.Thread(target=server.serve_forever)
        running.start()
        yield server.server_port
        server.shutdown()
        running.join()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[tuple[ServerProcess, dict[Scope, str]]]:
    """A server with keys, and these by their scope."""
    folder = tmp_path / "state"
    folder.mkdir()
    keys = make_keys(file_url(folder), Scope.ADMIN, Scope.READ)
    model = write_identity(tmp_path / "models" / "echo" / "1" / "model.onnx").parents[2]
    with ServerProcess(model, "--state-dir", str(folder), "--explicit-models") as server:
        yield server, keys


def signed_in(browser: Chromium, url: str, key: str) -> tuple[Page, str]:
    """Open a page of ours and begin a session; return both and the session's token."""
    page = browser.open(url + "/v2/health/live")
    opened = page.run(SIGN_IN, key)
    assert opened["status"] == 200
    return page, opened["csrf"]


def attack(page: Page, target: str) -> list[Any]:
    """Have a page try everything that a page can; return what it could read of the answers."""
    return [
        page.run(
            """
            const [target, changes] = given;
            const seen = [];
            const attempt = async (path, options) => {
                try {
                    const answer = await fetch(target + path, {credentials: 'include', ...options});
                    const text = await answer.text();
                    if (answer.status || text) seen.push([path, answer.status, text]);
                } catch (refused) { }
            };
            for (const path of ['/v2/keys', '/v2/session', '/v2/audit', '/v2/models', '/stats']) {
                await attempt(path, {});
                await attempt(path, {mode: 'no-cors'});
            }
            for (const [method, path, body] of changes) {
                await attempt(path, {method, body});
                await attempt(path, {method, body, headers: {'X-CSRF-Token': 'guess'}});
                await attempt(path, {
                    method, body, headers: {'Content-Type': 'application/json'},
                });
                if (method === 'POST') await attempt(path, {method, body, mode: 'no-cors'});
            }
            return seen;
            """,
            target,
            CHANGES,
        ),
        page.run(
            """
            const [target, changes] = given;
            for (const [method, path, body] of changes.filter(each => each[0] === 'POST')) {
                const frame = document.createElement('iframe');
                frame.name = 'f' + Math.random();
                document.body.append(frame);
                const form = document.createElement('form');
                Object.assign(form, {
                    method, action: target + path, enctype: 'text/plain', target: frame.name,
                });
                const field = document.createElement('textarea');
                field.name = body;
                form.append(field);
                document.body.append(form);
                const loaded = new Promise(done => frame.onload = done);
                form.submit();
                await loaded;
            }
            """,
            target,
            CHANGES,
        ),
        page.run(
            """
            return await new Promise(done => {
                const script = document.createElement('script');
                script.src = given[0] + '/v2/keys';
                script.onload = () => done('ran');
                script.onerror = () => done(null);
                document.head.append(script);
            });
            """,
            target,
        ),
    ]


def refused(client: Client) -> dict[str, int]:
    counts: dict[str, int] = client.ask_json("GET", "/stats")["refused_requests"]
    return counts


def test_two_browsers_have_a_session_each_and_no_more_than_its_key(
    guarded, start_chromium: Callable[..., Chromium]
) -> None:
    server, keys = guarded
    boss, boss_token = signed_in(start_chromium(), server.url, keys[Scope.ADMIN])
    guest, guest_token = signed_in(start_chromium(), server.url, keys[Scope.READ])
    assert boss.run("return document.cookie") == guest.run("return document.cookie") == ""
    assert boss.run(ASK, "GET", "/v2/keys")["status"] == 200
    assert guest.run(ASK, "GET", "/v2/keys")["status"] == 403
    assert guest.run(ASK, "GET", "/v2/models")["status"] == 200
    # The token belongs to one session, and is needed in it.
    wish = json.dumps({"label": "made", "scopes": ["read"]})
    for token in (None, {"X-CSRF-Token": guest_token}):
        assert boss.run(ASK, "POST", "/v2/keys", wish, token)["status"] == 403
    made = boss.run(ASK, "POST", "/v2/keys", wish, {"X-CSRF-Token": boss_token})
    assert (made["status"], json.loads(made["text"])["label"]) == (200, "made")
    assert guest.run(ASK, "POST", "/v2/keys", wish, {"X-CSRF-Token": guest_token})["status"] == 403
    # One ends, and the other goes on.
    ended = guest.run(ASK, "DELETE", "/v2/session", None, {"X-CSRF-Token": guest_token})
    assert ended["status"] == 200
    assert guest.run(ASK, "GET", "/v2/models")["status"] == 401
    assert boss.run(ASK, "GET", "/v2/models")["status"] == 200


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost", "evil.example"])
def test_a_page_of_others_gets_nowhere_with_a_session(
    guarded, stranger: int, start_chromium: Callable[..., Chromium], name: str
) -> None:
    """Pages of another port of this machine are the hard case: they do get the cookie sent."""
    server, keys = guarded
    browser = start_chromium(HOSTS)
    ours, _token = signed_in(browser, server.url, keys[Scope.ADMIN])
    with Client(server.url, api_key=keys[Scope.ADMIN]) as client:
        before = client.ask_json("GET", "/v2/keys"), client.ask_json("GET", "/v2/audit")
        assert refused(client) == {"unauthenticated": 0, "forbidden": 0, "rate_limited": 0}
        assert attack(browser.open(f"http://{name}:{stranger}/"), server.url) == [[], None, None]
        assert (client.ask_json("GET", "/v2/keys"), client.ask_json("GET", "/v2/audit")) == before
        assert client.ask_json("GET", "/v2/models/echo/ready")["ready"]
        assert client.ask_json("GET", "/v2/routes") == {"routes": []}
        assert client.stats()["total_requests"] == 0
        told = refused(client)
        # The same machine gets the cookie and is refused for the page; others come without it.
        assert told["forbidden" if name == "127.0.0.1" else "unauthenticated"] >= REACHING
    assert ours.run(ASK, "GET", "/v2/keys")["status"] == 200  # the session has not been ended


@needs_openssl
def test_with_tls_the_cookie_belongs_to_this_host_alone(
    serve, tmp_path: Path, stranger: int, start_chromium: Callable[..., Chromium]
) -> None:
    (tmp_path / "state").mkdir()
    key = make_keys(file_url(tmp_path / "state"), Scope.ADMIN)[Scope.ADMIN]
    certificate, secret = Files(tmp_path).make("server")
    tls = ("--tls-certificate", str(certificate), "--tls-key", str(secret))
    model = write_identity(tmp_path / "echo.onnx")
    server = serve(model, *tls, "--state-dir", str(tmp_path / "state"))
    browser = start_chromium(HOSTS)
    page, token = signed_in(browser, server.url, key)
    (cookie,) = page.call("Network.getCookies")["cookies"]
    assert cookie["name"] == "__Host-pelton_session"
    assert cookie["secure"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert page.run(ASK, "GET", "/v2/keys")["status"] == 200
    made = page.run(ASK, "POST", "/v2/keys", WISH, {"X-CSRF-Token": token})
    assert made["status"] == 200
    assert attack(browser.open(f"http://127.0.0.1:{stranger}/"), server.url) == [[], None, None]
    keys = json.loads(page.run(ASK, "GET", "/v2/keys")["text"])["keys"]
    assert [each["label"] for each in keys] == ["test admin", "stolen"]


def test_a_name_that_was_bent_to_this_server_gets_nowhere(
    guarded, start_chromium: Callable[..., Chromium]
) -> None:
    """To the browser the attacker's page and this server are one site then, answers and all."""
    server, keys = guarded
    browser = start_chromium(HOSTS)
    signed_in(browser, server.url, keys[Scope.ADMIN])
    page = browser.open(f"http://evil.example:{server.port}/v2/health/live")
    for path in ("/v2/keys", "/v2/models", "/v2/session", "/stats"):
        assert page.run(ASK, "GET", path)["status"] == 401
    # Even who signs in there, being fooled, gets nothing by the cookie.
    opened = page.run(SIGN_IN, keys[Scope.ADMIN])
    assert opened["status"] == 200
    assert page.run(ASK, "GET", "/v2/keys")["status"] == 403
    token = {"X-CSRF-Token": opened["csrf"]}
    assert page.run(ASK, "POST", "/v2/keys", WISH, token)["status"] == 403


def test_without_keys_pages_of_others_get_nowhere_either(
    tmp_path: Path, stranger: int, start_chromium: Callable[..., Chromium]
) -> None:
    model = write_identity(tmp_path / "models" / "echo" / "1" / "model.onnx").parents[2]
    browser = start_chromium(HOSTS)
    with contextlib.ExitStack() as closing:
        flags = ("--explicit-models", "--allowed-hosts", "robot.local")
        server = closing.enter_context(ServerProcess(model, *flags))
        client = closing.enter_context(Client(server.url))
        for name in ("127.0.0.1", "evil.example"):
            page = browser.open(f"http://{name}:{stranger}/")
            assert attack(page, server.url) == [[], None, None]
        bent = browser.open(f"http://evil.example:{server.port}/v2/health/live")
        for method, path, body in [("GET", "/v2/models", None), *CHANGES]:
            answer = bent.run(ASK, method, path, body)
            assert (path, answer["status"]) == (path, 403)
            assert "allowed_hosts" in answer["text"]
        assert client.stats()["total_requests"] == 0
        assert client.ask_json("GET", "/v2/models/echo/ready")["ready"]
        assert refused(client)["forbidden"] >= 2 * REACHING + 1 + len(CHANGES)
        # Pages of ours do what anybody may, by each name that is ours.
        for name in ("127.0.0.1", "localhost", "robot.local"):
            page = browser.open(f"http://{name}:{server.port}/v2/health/live")
            answer = page.run(ASK, "POST", "/v2/models/echo/infer", INFER)
            assert (name, answer["status"]) == (name, 200)
            page.go(f"http://{name}:{server.port}/docs")
            shown = page.run("return document.title")
            assert "Pelton" in shown
