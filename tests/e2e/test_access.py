"""Keys, hosts and TLS of `pelton serve`, as those meet them who run it and those who ask it."""

from __future__ import annotations

import json
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pelton.client import Client
from pelton.errors import AccessDenied, PeltonError
from raw_http import Wire
from support_server import run_pelton, until, write_identity

X = {"x": np.arange(3, dtype=np.float32)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_identity(tmp_path / "echo.onnx")


def make_key(folder: Path, *scopes: str, **options: str) -> dict[str, Any]:
    said = [part for scope in scopes for part in ("--scope", scope)]
    said += [part for name, value in options.items() for part in (f"--{name}", value)]
    where = ["--state-dir", str(folder), "--label", "test", "--json"]
    done = run_pelton("keys", "create", *said, *where)
    assert done.returncode == 0, done.stderr
    made: dict[str, Any] = json.loads(done.stdout)
    return made


def may(url: str, key: str) -> bool:
    with Client(url, api_key=key) as client:
        try:
            client.infer("echo", X)
        except AccessDenied:
            return False
    return True


def test_keys_come_and_go_while_the_server_runs(model: Path, tmp_path: Path, serve) -> None:
    folder = tmp_path / "state"
    server = serve(model, "--state-dir", str(folder), "--log-level", "debug")
    assert may(server.url, "")
    robot = make_key(folder, "infer", "read")
    until(lambda: not may(server.url, ""))
    until(lambda: may(server.url, robot["key"]))
    asked = run_pelton("health", "--url", server.url, env={"PELTON_API_KEY": robot["key"]})
    assert "echo" in asked.stdout
    refused = run_pelton("health", "--url", server.url)
    assert (refused.returncode, refused.stderr.count("API key")) == (1, 1)
    done = run_pelton("keys", "revoke", robot["id"], "--state-dir", str(folder))
    assert done.returncode == 0
    until(lambda: not may(server.url, robot["key"]))
    assert not may(server.url, "")
    assert server.stop() == 0
    assert robot["key"][20:] not in server.log()


def test_keys_are_made_over_http_by_who_may(model: Path, tmp_path: Path, serve) -> None:
    folder = tmp_path / "state"
    admin = make_key(folder, "admin", expires="1h")
    server = serve(model, "--state-dir", str(folder), "--require-keys")
    with Client(server.url, api_key=admin["key"]) as client:
        wish = {"label": "robot", "scopes": ["infer"], "requests_per_s": 1000}
        made = client.ask_json("POST", "/v2/keys", wish)
        assert may(server.url, made["key"])
        labels = {row["label"] for row in client.ask_json("GET", "/v2/keys")["keys"]}
        assert labels == {"test", "robot"}
        client.ask_json("DELETE", f"/v2/keys/{made['id']}")
    assert not may(server.url, made["key"])


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (["--host", "0.0.0.0"], "without keys, anybody who can reach 0.0.0.0"),
        (["--require-keys"], "make one with `pelton keys create`"),
        (["--tls-key", "key.pem"], "name its file with --tls-certificate"),
        (["--tls-certificate", "none.pem"], "cannot use the certificate of none.pem"),
        (["--trusted-proxies", "proxy"], "'proxy' is neither an address nor a network"),
    ],
)
def test_what_would_lie_open_or_shut_does_not_start(model: Path, flags, told: str) -> None:
    done = run_pelton("serve", str(model), "--port", "0", *flags)
    assert done.returncode == 2
    assert told in done.stderr
    assert "Traceback" not in done.stderr


def test_other_addresses_are_served_with_keys_or_insecure(model: Path, tmp_path: Path, serve):
    every = ("--host", "0.0.0.0")
    assert may(serve(model, *every, "--insecure").url.replace("0.0.0.0", "127.0.0.1"), "")
    key = make_key(tmp_path / "state", "infer")["key"]
    server = serve(model, *every, "--state-dir", str(tmp_path / "state"))
    assert may(server.url.replace("0.0.0.0", "127.0.0.1"), key)


def test_a_name_that_is_not_the_servers_is_refused(model: Path, serve) -> None:
    server = serve(model, env={"PELTON_ALLOWED_HOSTS": "robot.local"})
    for name, status in (("evil.example", 403), ("robot.local", 200), ("localhost", 200)):
        with Wire(server.port) as wire:
            wire.send(f"GET /v2/models HTTP/1.1\r\nHost: {name}\r\n\r\n".encode())
            assert wire.reply().status == status


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl for a certificate")
def test_https_is_served_and_said(model: Path, tmp_path: Path, serve) -> None:
    file = tmp_path / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        f"-subj /CN=pelton -addext subjectAltName=IP:127.0.0.1 -keyout {tmp_path}/key -out {file}"
    )
    subprocess.run(command.split(), check=True, capture_output=True)
    server = serve(model, "--tls-certificate", str(file), "--tls-key", str(tmp_path / "key"))
    assert server.url.startswith("https://127.0.0.1:")
    trusted = ssl.create_default_context(cafile=str(file))
    with Client(server.url, tls=trusted) as client:
        big = {"x": np.arange(5_000_000, dtype=np.float32)}
        np.testing.assert_array_equal(client.infer("echo", big).outputs["y"], big["x"])
    with Client(server.url.replace("https", "http")) as client, pytest.raises(PeltonError):
        client.server_live()
