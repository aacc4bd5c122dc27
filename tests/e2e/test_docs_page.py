"""`GET /docs` in a real browser that has no network but this machine."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import pelton
from raw_http import Wire, get
from support_server import ServerProcess

BROWSERS = ("chromium", "chromium-browser", "google-chrome")

OPERATIONS = {
    ("GET", "/v2"),
    ("GET", "/v2/health/live"),
    ("GET", "/v2/health/ready"),
    ("GET", "/v2/models"),
    ("GET", "/v2/models/{model}"),
    ("GET", "/v2/models/{model}/ready"),
    ("GET", "/v2/models/{model}/config"),
    ("POST", "/v2/models/{model}/infer"),
    ("GET", "/v2/systemsharedmemory/status"),
    ("GET", "/v2/systemsharedmemory/region/{region}/status"),
    ("POST", "/v2/systemsharedmemory/region/{region}/register"),
    ("POST", "/v2/systemsharedmemory/region/{region}/unregister"),
    ("POST", "/v2/systemsharedmemory/unregister"),
    ("POST", "/infer"),
    ("GET", "/health"),
    ("GET", "/stats"),
    ("GET", "/model/info"),
    ("POST", "/v2/repository/index"),
    ("POST", "/v2/repository/models/{model}/load"),
    ("POST", "/v2/repository/models/{model}/unload"),
    ("GET", "/v2/repository/models/{model}/versions"),
    ("POST", "/v2/repository/models/{model}/versions"),
    ("POST", "/v2/repository/models/{model}/rollback"),
    ("GET", "/v2/repository/models/{model}/labels"),
    ("PUT", "/v2/repository/models/{model}/labels/{label}"),
    ("DELETE", "/v2/repository/models/{model}/labels/{label}"),
    ("POST", "/update_model"),
    ("GET", "/v2/routes"),
    ("GET", "/v2/routes/{route}"),
    ("PUT", "/v2/routes/{route}"),
    ("DELETE", "/v2/routes/{route}"),
    ("GET", "/v2/audit"),
    ("GET", "/v2/session"),
    ("POST", "/v2/session"),
    ("DELETE", "/v2/session"),
}


@dataclass(frozen=True)
class Page:
    """What a browser made of an address.

    Attributes:
        text: what can be read there.
        console: what its scripts complained of.
        asked_for: addresses that the page itself made the browser fetch.
        picture: a PNG.
    """

    text: str
    console: list[str]
    asked_for: set[str]
    picture: bytes


@pytest.fixture(scope="module")
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"none of {', '.join(BROWSERS)} is installed; on Debian: apt install chromium")
    return found


def look_at(browser: str, address: str, folder: Path) -> Page:
    """Open an address, let its scripts run, and tell what came of it."""
    folder.mkdir(parents=True)
    picture, log = folder / "page.png", folder / "network.json"
    done = subprocess.run(
        [
            browser,
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--no-first-run",
            f"--user-data-dir={folder / 'profile'}",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            "--enable-logging=stderr",
            "--log-level=0",
            f"--log-net-log={log}",
            "--window-size=1280,2200",
            "--virtual-time-budget=10000",
            f"--screenshot={picture}",
            "--dump-dom",
            address,
        ],
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        timeout=90,
        check=True,
    )
    text = re.sub(r"<(script|style)\b.*?</\1>|</?wbr>", "", done.stdout, flags=re.DOTALL)
    text = html.unescape(re.sub(r"<[^>]*>", " ", text))
    return Page(
        text=re.sub(r"\s+", " ", text.replace("\u200b", "")),
        console=[line for line in done.stderr.splitlines() if ":CONSOLE" in line],
        asked_for=_asked_for(json.loads(log.read_text())),
        picture=picture.read_bytes(),
    )


def _asked_for(log: dict[str, Any]) -> set[str]:
    """Return what the page fetched; what the browser asks for itself has no origin."""
    started = log["constants"]["logEventTypes"]["URL_REQUEST_START_JOB"]
    details = [each.get("params", {}) for each in log["events"] if each["type"] == started]
    return {
        each["url"] for each in details if each.get("initiator", "not an origin") != "not an origin"
    }


def test_the_page_shows_every_operation_and_needs_nobody_else(
    served: ServerProcess, browser: str, tmp_path: Path
) -> None:
    page = look_at(browser, f"{served.url}/docs", tmp_path / "docs")
    assert page.console == []
    assert {address.removeprefix(served.url) for address in page.asked_for} == {
        "/openapi.json",
        "/static-offline-docs/favicon.png",
        "/static-offline-docs/swagger-ui-bundle.js",
        "/static-offline-docs/swagger-ui.css",
    }
    assert f"Pelton {pelton.__version__}" in page.text
    for method, path in OPERATIONS:
        assert f"{method} {path} " in page.text, (method, path)
    assert len(page.picture) > 50_000, "an empty page is a small picture"


def test_an_operation_opens(served: ServerProcess, browser: str, tmp_path: Path) -> None:
    page = look_at(browser, f"{served.url}/docs#/Server/infer_infer_post", tmp_path / "docs")
    for told in (
        "application/msgpack",
        "application/octet-stream",
        "X-Pelton-Model",
        "X-Pelton-Timing",
        "Try it out",
    ):
        assert told in page.text


def test_the_browser_would_have_noticed(browser: str, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text('<script>nosuch()</script><img src="http://example.com/a.png">')
    page = look_at(browser, broken.as_uri(), tmp_path / "broken")
    assert any("nosuch is not defined" in line for line in page.console)
    assert page.asked_for == {"http://example.com/a.png"}


def test_what_is_described_is_what_is_there(served: ServerProcess) -> None:
    with Wire(served.port) as wire:
        described = wire.ask(get("/openapi.json")).json()
        told = {
            (method.upper(), path)
            for path, methods in described["paths"].items()
            for method in methods
        }
        assert told == OPERATIONS
        assert described["info"]["version"] == pelton.__version__
        for method, path in sorted(told):
            wire.send(
                f"{method} {path.replace('{model}', 'matmul')} HTTP/1.1\r\n"
                "Host: test\r\nContent-Length: 0\r\n\r\n".encode()
            )
            reply = wire.reply()
            assert reply.status in (200, 400, 403, 404, 409, 415), (method, path)
            assert b"Not Found" not in reply.body, (method, path)
