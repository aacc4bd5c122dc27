"""TLS of `pelton serve`: certificates that change under load, clients with their own, silence."""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
from pathlib import Path

import numpy as np
import pytest

from e2e.kept_keys import make_keys
from pelton.client import Bounds, Client
from pelton.client.options import Retries
from pelton.errors import AccessDenied, ConnectionFailed, PeltonError
from pelton.records import Scope
from pelton.state.sqlite import file_url
from raw_http import Wire
from services.certificates import Files, needs_openssl, shown
from support_server import ServerProcess, until, write_identity

pytestmark = needs_openssl

X = {"x": np.arange(3, dtype=np.float32)}
ONE_TRY = Retries(attempts=1)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Files:
    """Certificates for servers, and for clients one that is vouched for and one that is not."""
    files = Files(tmp_path_factory.mktemp("made"))
    for name in ("old", "new", "authority", "stranger"):
        files.make(name)
    files.make("robot", signer="authority")
    return files


@pytest.fixture
def used(made: Files, tmp_path: Path) -> Files:
    """The certificate that the server uses, where a test may replace it."""
    files = Files(tmp_path)
    files.put("used", *_of(made, "old"))
    return files


def _of(files: Files, name: str) -> tuple[Path, Path]:
    return files.folder / f"{name}.crt", files.folder / f"{name}.key"


def flags_of(used: Files) -> list[str]:
    certificate, key = used.used("used")
    return ["--tls-certificate", str(certificate), "--tls-key", str(key)]


def test_a_certificate_is_replaced_and_no_request_fails(
    serve, made: Files, used: Files, tmp_path: Path
) -> None:
    server = serve(write_identity(tmp_path / "echo.onnx"), *flags_of(used))
    context = made.trusting("old", "new")
    enough = threading.Event()
    answered, failed = [0, 0], []

    def ask(place: int, kept: bool) -> None:
        client = Client(server.url, tls=context, retries=ONE_TRY)
        while not enough.is_set():
            try:
                np.testing.assert_array_equal(client.infer("echo", X).outputs["y"], X["x"])
            except PeltonError as error:
                failed.append(error)
            answered[place] += 1
            if not kept:
                client.close()
                client = Client(server.url, tls=context, retries=ONE_TRY)
        client.close()

    # One goes on with its connection, the other shakes hands each time.
    asking = [threading.Thread(target=ask, args=(place, not place)) for place in range(2)]
    for thread in asking:
        thread.start()
    try:
        assert shown(server.port) == "old"
        used.put("used", *_of(made, "new"))
        until(lambda: shown(server.port) == "new")
        # What cannot be used leaves the one before in use: here the halves do not belong together.
        certificate, key = used.used("used")
        certificate.write_bytes(_of(made, "old")[0].read_bytes())
        server.wait_for_log("the new TLS certificate cannot be used")
        assert shown(server.port) == "new"
        key.write_bytes(_of(made, "old")[1].read_bytes())
        until(lambda: shown(server.port) == "old")
        before = list(answered)
        until(lambda: all(now > then for now, then in zip(answered, before, strict=True)))
    finally:
        enough.set()
        for thread in asking:
            thread.join(20.0)
    assert failed == []
    assert server.log().count("a new TLS certificate is in use") == 2


def test_who_has_no_certificate_of_their_own_is_not_spoken_to(
    serve, made: Files, used: Files, tmp_path: Path
) -> None:
    (tmp_path / "state").mkdir()
    key = make_keys(file_url(tmp_path / "state"), Scope.INFER)[Scope.INFER]
    authority = str(_of(made, "authority")[0])
    flags = ("--tls-client-ca", authority, "--state-dir", str(tmp_path / "state"))
    server = serve(write_identity(tmp_path / "echo.onnx"), *flags_of(used), *flags)

    def context(name: str | None) -> ssl.SSLContext:
        trusting = made.trusting("old")
        if name is not None:
            trusting.load_cert_chain(*_of(made, name))
        return trusting

    for name in (None, "stranger"):
        with (
            Client(server.url, tls=context(name), api_key=key, retries=ONE_TRY) as client,
            pytest.raises(ConnectionFailed),
        ):
            client.infer("echo", X)
    with Client(server.url, tls=context("robot"), api_key=key) as client:
        np.testing.assert_array_equal(client.infer("echo", X).outputs["y"], X["x"])
    # A certificate opens the door, and is no key.
    with (
        Client(server.url, tls=context("robot"), retries=ONE_TRY) as client,
        pytest.raises(AccessDenied),
    ):
        client.infer("echo", X)


def test_those_who_only_connect_keep_nobody_out(
    serve, made: Files, used: Files, tmp_path: Path
) -> None:
    most = 8
    model = write_identity(tmp_path / "echo.onnx")
    server: ServerProcess = serve(model, *flags_of(used), "--max-connections", str(most))
    with contextlib.ExitStack() as opened:
        for _ in range(5 * most):
            opened.enter_context(Wire(server.port))
        until(lambda: server.connections() <= most)
        one = Bounds(max_connections=1)
        with Client(server.url, tls=made.trusting("old"), bounds=one, retries=ONE_TRY) as client:
            for _ in range(3):
                np.testing.assert_array_equal(client.infer("echo", X).outputs["y"], X["x"])
            # It is busy or the youngest, so further ones who say nothing do not drive it out.
            opened.enter_context(socket.create_connection(("127.0.0.1", server.port), 20.0))
            np.testing.assert_array_equal(client.infer("echo", X).outputs["y"], X["x"])
        until(lambda: server.connections() <= most)
