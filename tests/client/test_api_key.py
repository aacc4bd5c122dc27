"""Which key a client shows, and that it shows no other."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pelton.client import AsyncClient, Client, send_inference_request
from pelton.errors import AccessDenied, Code, SettingsError

REFUSAL = b'{"error":"this needs a valid API key","code":"unauthenticated","request_id":"x"}'


class Listener:
    """Refuses every request, and notes the headers in which a key may come."""

    def __init__(self) -> None:
        noted = self.noted = []

        class Refusing(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                noted.append((self.headers["Authorization"], self.headers["X-API-Key"]))
                self.rfile.read(int(self.headers["Content-Length"] or 0))
                self.send_response(401)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(REFUSAL)))
                self.end_headers()
                self.wfile.write(REFUSAL)

            do_POST = do_GET  # noqa: N815

            def log_message(self, *_said: Any) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Refusing)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    listening = Listener()
    yield listening
    listening.close()


def by_client(url: str, **options: Any) -> None:
    with Client(url, **options) as client:
        client.models()


def by_async_client(url: str, **options: Any) -> None:
    async def asked() -> None:
        async with AsyncClient(url, **options) as client:
            await client.models()

    asyncio.run(asked())


each_client = pytest.mark.parametrize("asking", [by_client, by_async_client])


@each_client
@pytest.mark.parametrize(
    ("options", "environment", "shown"),
    [
        ({}, None, (None, None)),
        ({"api_key": "mine"}, None, ("Bearer mine", None)),
        ({}, "theirs\n", ("Bearer theirs", None)),
        ({"api_key": "mine"}, "theirs", ("Bearer mine", None)),
        ({"api_key": ""}, "theirs", (None, None)),
        ({"headers": {"X-Api-Key": "own"}}, "theirs", (None, "own")),
        ({"headers": {"authorization": "Basic x"}}, "theirs", ("Basic x", None)),
        ({"headers": {"X-Other": "y"}}, "theirs", ("Bearer theirs", None)),
        ({}, "", (None, None)),
    ],
)
def test_which_key_is_shown(
    listener: Listener, monkeypatch, asking, options, environment, shown
) -> None:
    monkeypatch.delenv("PELTON_API_KEY", raising=False)
    if environment is not None:
        monkeypatch.setenv("PELTON_API_KEY", environment)
    with pytest.raises(AccessDenied) as refused:
        asking(listener.url, **options)
    assert refused.value.code is Code.UNAUTHENTICATED
    assert listener.noted == [shown]


@each_client
def test_two_keys_are_one_too_many(asking) -> None:
    with pytest.raises(SettingsError, match="not both"):
        asking("http://127.0.0.1:1", api_key="mine", headers={"Authorization": "Bearer x"})


@each_client
@pytest.mark.parametrize("key", ["a\r\nX-Evil: 1", "a\x00", "schl\u0119ssel"])
def test_a_key_that_no_header_can_hold_is_not_quoted(asking, key: str) -> None:
    with pytest.raises(SettingsError) as refused:
        asking("http://127.0.0.1:1", api_key=key)
    assert key not in refused.value.message


def test_the_robots_function_shows_its_key(listener: Listener, monkeypatch) -> None:
    monkeypatch.delenv("PELTON_API_KEY", raising=False)
    url = f"{listener.url}/infer"
    for options in ({"api_key": "one"}, {}, {"api_key": "two"}, {"api_key": "one"}):
        with pytest.raises(RuntimeError, match="needs a valid API key"):
            send_inference_request({"x": 1}, url, **options)
    monkeypatch.setenv("PELTON_API_KEY", "three")
    with pytest.raises(RuntimeError):
        send_inference_request({"x": 1}, url)
    assert [key for key, _ in listener.noted] == [
        "Bearer one",
        None,
        "Bearer two",
        "Bearer one",
        "Bearer three",
    ]
