"""No key, cookie, token or password gets out of the server, wherever somebody put it."""

from __future__ import annotations

import json
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.kept_keys import make_keys
from pelton.access.keys import make_key
from pelton.records import Scope
from raw_http import Wire
from services.postgres import PASSWORD, PASSWORD_USER
from services.redis import start_redis as start_redis  # a fixture
from support_server import ServerProcess, run_pelton, write_identity, write_python_model

LEAKY_MODEL = """
import logging, os, sys

def load_model(model_path, device):
    print("the environment:", dict(os.environ), flush=True)
    return None

def model_inference(obs):
    print("asked with", obs, file=sys.stderr, flush=True)
    raise ValueError("nobody knows " + obs["text"])
"""

REDIS_PASSWORD = "0pen-sesame"


class Site:
    """A server with everything that has a secret.

    Attributes:
        server: it.
        secrets: what has to stay.
        keys: texts of keys by scope.
        style: in which its log is written.
    """

    def __init__(
        self, server: ServerProcess, keys: dict[Scope, str], secrets: list[str], style: str
    ) -> None:
        self.server = server
        self.style = style
        self.keys = keys
        self.secrets = [*secrets, *(key.rpartition("_")[2] for key in keys.values())]

    def check(self, text: str | bytes) -> str:
        """Return a text that holds none of the secrets, nor the beginning of one."""
        told = text if isinstance(text, str) else text.decode("utf-8", "replace")
        for secret in self.secrets:
            assert secret[:12] not in told
        return told

    def ask(self, method: str, target: str, *headers: str, body: bytes = b"") -> Any:
        """Send one request as it is, and return the answer."""
        head = [f"{method} {target} HTTP/1.1", *headers, f"Content-Length: {len(body)}", "", ""]
        if not any(each.startswith("Host:") for each in headers):
            head.insert(1, "Host: localhost")
        with Wire(self.server.port) as wire:
            wire.send("\r\n".join(head).encode() + body)
            return wire.reply()

    def cli(self, *arguments: str) -> str:
        """Run a command with the admin's key, and return all that it prints."""
        env = {"PELTON_API_KEY": self.keys[Scope.ADMIN]}
        done = run_pelton(*arguments, "--url", self.server.url, env=env)
        return self.check(done.stdout + done.stderr)


@pytest.fixture(params=["text", "json"])
def site(request, tmp_path: Path, postgres, start_redis) -> Iterator[Site]:
    postgres.execute(f"CREATE DATABASE secrets_{request.param} OWNER {PASSWORD_USER}")
    login = f"{PASSWORD_USER}:{urllib.parse.quote(PASSWORD, safe='')}"
    database = postgres.url(f"secrets_{request.param}", login)
    cache, limits = start_redis(REDIS_PASSWORD), start_redis(REDIS_PASSWORD)
    keys = make_keys(database, Scope.ADMIN, Scope.INFER, requests_per_s=1000.0)
    write_identity(tmp_path / "models" / "echo" / "1" / "model.onnx", "BYTES")
    write_python_model(tmp_path / "models" / "leaky" / "1", LEAKY_MODEL)
    env = {
        "PELTON_DATABASE_URL": database,
        "PELTON_CACHE_REDIS_URL": cache.url,
        "PELTON_RATE_LIMIT_REDIS": limits.url,
        "PELTON_API_KEY": keys[Scope.ADMIN],
    }
    flags = ("--log-level", "debug", "--log-format", request.param, "--cache")
    with ServerProcess(tmp_path / "models", *flags, env=env, wait=False) as server:
        if request.param == "text":
            server.wait_ready()
        else:
            _wait_ready_by_json(server)
        passwords = [PASSWORD, urllib.parse.quote(PASSWORD, safe=""), REDIS_PASSWORD]
        yield Site(server, keys, passwords, request.param)


def _wait_ready_by_json(server: ServerProcess) -> None:
    server.wait_for_log("try it: ", 30.0)
    said = [json.loads(line)["message"] for line in server.log().splitlines()]
    serving = next(each for each in said if each.startswith("serving "))
    server.url = serving.partition(" at ")[2].split()[0]
    server.port = int(server.url.rpartition(":")[2])


def test_secrets_stay_where_they_are(site: Site, postgres) -> None:
    admin, stranger = site.keys[Scope.ADMIN], make_key("stranger", [Scope.ADMIN], 1.0).text
    site.secrets.append(stranger.rpartition("_")[2])
    bearer = f"Authorization: Bearer {admin}"

    # A session, whose cookie and token are secrets from then on.
    opened = site.ask("POST", "/v2/session", bearer)
    cookie = opened.headers["set-cookie"].partition(";")[0]
    token = opened.json()["csrf"]
    site.secrets += [cookie.partition("=")[2], token]

    # Good and bad keys in every place in which somebody may put one.
    for key in (admin, stranger, admin[:-1], admin + "x", admin[:40]):
        requests = [
            ("GET", "/v2/models", f"Authorization: Bearer {key}"),
            ("GET", "/v2/models", f"Authorization: bearer  {key}"),
            ("GET", "/v2/models", f"Authorization: Basic {key}"),
            ("GET", "/v2/models", f"Authorization: {key}"),
            ("GET", "/v2/keys", f"X-API-Key: {key}", f"Authorization: Bearer {stranger}"),
            ("GET", "/v2/models", f"Cookie: pelton_session={key}; other={key}"),
            ("GET", f"/v2/models?api_key={key}", "User-Agent: " + key),
            ("GET", f"/v2/models/{key}", bearer),
            ("GET", f"/{key}", bearer),
            ("GET", f"/v2/routes/{key}", bearer),
            ("GET", f"/v2/audit?actor={key}", bearer),
            ("GET", f"/v2/audit?limit={key}", bearer),
            ("GET", "/v2/models/none", bearer, f"X-Request-Id: {key}"),
            ("GET", "/v2/models", f"Host: {key}", f"Cookie: {cookie}"),
            ("POST", f"/v2/models/{key}/infer", bearer),
            ("POST", f"/infer?model={key}", bearer),
            ("POST", f"/v2/repository/models/{key}/load", bearer),
            ("DELETE", f"/v2/keys/{key}", f"X-API-Key: {stranger}"),
            ("DELETE", f"/v2/keys/-{key}", bearer),
            (key, f"/{key}", bearer),
        ]
        for method, target, *headers in requests:
            site.check(site.ask(method, target, *headers).body)
        bodies = [
            ("POST", "/v2/keys", {"label": key, "scopes": ["infer"]}),
            ("POST", "/v2/keys", {"label": "x", "scopes": [key]}),
            ("POST", "/v2/keys", {key: 1, "label": "x", "scopes": ["infer"]}),
            ("PUT", "/v2/routes/mine", {"model": key, "policy": "latest"}),
            ("PUT", "/v2/routes/mine", {"model": "echo", "policy": key}),
            ("POST", "/v2/models/echo/infer", {"inputs": [{"name": key}]}),
            ("POST", "/infer?model=leaky", {"text": key}),
        ]
        for method, target, value in bodies:
            sent = json.dumps(value).encode()
            answer = site.ask(method, target, bearer, "Content-Type: application/json", body=sent)
            if target == "/v2/keys" and answer.status == 200:
                site.secrets.append(answer.json()["key"].rpartition("_")[2])
            else:
                site.check(answer.body)

    # What is told to those who may know all.
    for path in ("/stats", "/health", "/v2", "/v2/keys", "/v2/audit", "/model/info?model=leaky"):
        assert site.check(site.ask("GET", path, bearer).body)
    assert "keys.create" in site.cli("audit")
    assert "leaky" in site.cli("models")
    assert "echo 1 READY" in site.cli("health")
    settings = run_pelton("settings", env={"PELTON_DATABASE_URL": postgres.url("x", PASSWORD)})
    site.check(settings.stdout)

    # What is kept, and what was logged, tracebacks of models and their prints included.
    name = f"secrets_{site.style}"
    tables = postgres.execute("SELECT tablename FROM pg_tables WHERE schemaname='public'", name)
    for table in tables.split():
        site.check(postgres.execute(f"SELECT t::text FROM {table} t", name))
    assert site.server.stop() == 0
    log = site.check(site.server.log())
    assert "the environment:" in log
    assert "nobody knows" in log
    assert "Traceback" in log
    assert f"{admin.rpartition('_')[0]}_***" in log
