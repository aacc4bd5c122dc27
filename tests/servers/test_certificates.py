"""TLS: who is spoken to, and certificates that are replaced while the server runs."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pelton.access.keys import make_key
from pelton.client import Bounds, Client, Timeouts
from pelton.errors import AccessDenied, ConnectionFailed, SettingsError
from pelton.records import Scope
from pelton.servers.certificates import Certificates, TlsOptions, open_certificates
from pelton.servers.connections import ConnectionLimits
from servers.fake_engine import FakeEngine
from servers.whole_server import WAIT_S, WholeServer, ask
from services.certificates import Files, needs_openssl, shown
from support_server import until

pytestmark = needs_openssl

ROBOT = make_key("robot", Scope, 1.0)
BIG = np.random.default_rng(5).standard_normal(4_000_000).astype(np.float32)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Files:
    files = Files(tmp_path_factory.mktemp("tls"))
    for name in ("old", "new", "authority", "stranger"):
        files.make(name)
    return files


@pytest.fixture
def files(made: Files, tmp_path: Path) -> Files:
    files = Files(tmp_path)
    for file in made.folder.iterdir():
        shutil.copy(file, tmp_path)
    files.put("used", tmp_path / "old.crt", tmp_path / "old.key")
    return files


def certificates(files: Files, client_ca: str | None = None) -> Certificates:
    certificate, key = files.used("used")
    return Certificates(str(certificate), str(key), client_ca)


def tls_client(port: int, context: ssl.SSLContext, **options: object) -> Client:
    return Client(f"https://127.0.0.1:{port}", tls=context, **options)


# -- serving ---------------------------------------------------------------------------------------


def test_small_and_big_bodies_both_ways_on_one_connection(files: Files) -> None:
    engine = FakeEngine()
    with WholeServer(engine=engine, certificates=certificates(files)) as server:
        with tls_client(
            server.port, files.trusting("old"), bounds=Bounds(max_connections=1)
        ) as client:
            for values in (BIG[:3], BIG, BIG[:20_000], BIG, BIG[:3]):
                answer = client.infer("scale", {"x": values})
                np.testing.assert_array_equal(answer.outputs["y"], values * 2)
                assert [model.name for model in client.models()] == ["robot", "scale", "words"]
            assert client.predict({"x": BIG[:5]}, "scale") is not None
        engine.requests.clear()  # which hold the bodies
        until(lambda: server.gateway.budget.buffered_bytes == 0)


def test_keys_are_asked_for_over_tls_too(files: Files) -> None:
    with WholeServer([ROBOT.key], certificates=certificates(files)) as server:
        context = files.trusting("old")
        with tls_client(server.port, context) as client, pytest.raises(AccessDenied):
            client.infer("scale", {"x": BIG})
        with tls_client(server.port, context, api_key=ROBOT.text) as client:
            np.testing.assert_array_equal(client.infer("scale", {"x": BIG}).outputs["y"], BIG * 2)
        connection = server.connect(context)
        opened = ask(connection, "POST", "/v2/session", ROBOT.text)
        connection.close()
        assert opened.headers["set-cookie"].startswith("__Host-pelton_session=")
        assert opened.headers["set-cookie"].endswith("; Secure")


def test_pipelined_and_chunked_requests(files: Files) -> None:
    with WholeServer(certificates=certificates(files)) as server:
        connection = server.connect(files.trusting("old"))
        body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[2]}]}'
        sent = {"Content-Type": "application/json"}
        path = "/v2/models/scale/infer"
        connection.request("POST", path, (body[:20], body[20:]), sent, encode_chunked=True)
        assert connection.getresponse().read().endswith(b"}")
        connection.sock.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50)
        received = b""
        while received.count(b"HTTP/1.1 200") < 50 or not received.endswith(b"}"):
            received += connection.sock.recv(65536)
        connection.close()


def test_who_does_not_speak_tls_is_hung_up_on_and_nobody_else_notices(files: Files, caplog) -> None:
    limits = ConnectionLimits(head_timeout_s=0.3)
    with WholeServer(certificates=certificates(files), limits=limits) as server:
        for said in (
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02",
            b"\x00" * 1000,
            b"",
        ):
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S) as plain:
                plain.sendall(said)
                answer = b""
                try:
                    while piece := plain.recv(4096):
                        answer += piece
                except ConnectionResetError:
                    pass
                assert b"HTTP/1.1" not in answer
        with tls_client(server.port, files.trusting("old")) as client:
            assert client.server_live()
    assert "Traceback" not in caplog.text


def test_an_idle_connection_does_not_hold_up_the_end(files: Files, caplog) -> None:
    with caplog.at_level(logging.ERROR):
        with WholeServer(certificates=certificates(files)) as server:
            connection = server.connect(files.trusting("old"))
            assert ask(connection, "GET", "/v2").status == 200
        connection.close()
    assert caplog.records == []


def test_an_answer_that_is_not_taken_is_charged_until_it_is(files: Files) -> None:
    with WholeServer(certificates=certificates(files)) as server:
        context = files.trusting("old")
        with socket.socket() as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            plain.settimeout(WAIT_S)
            plain.connect(("127.0.0.1", server.port))
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                body = BIG.tobytes()
                tensor = {"name": "x", "shape": [len(BIG)], "datatype": "FP32"}
                tensor["parameters"] = {"binary_data_size": len(body)}
                wanted = {"binary_data_output": True}
                head = json.dumps({"inputs": [tensor], "parameters": wanted}).encode()
                secure.sendall(
                    b"POST /v2/models/scale/infer HTTP/1.1\r\nHost: localhost\r\n"
                    b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
                    % (len(head), len(head) + len(body))
                    + head
                    + body
                )
                until(lambda: server.gateway.budget._answer_bytes >= len(body))
                received = 0
                while received < len(body):
                    received += len(secure.recv(1 << 20))
                until(lambda: server.gateway.budget._answer_bytes == 0)
                secure.sendall(b"GET /v2 HTTP/1.1\r\nHost: localhost\r\n\r\n")
                while b"HTTP/1.1 200" not in (rest := secure.recv(1 << 20)):
                    assert rest


def test_a_refused_body_over_tls_is_told_why(files: Files) -> None:
    with WholeServer([ROBOT.key], certificates=certificates(files)) as server:
        connection = server.connect(files.trusting("old"))
        connection.putrequest("POST", "/v2/models/scale/infer")
        connection.putheader("Content-Length", "60000000")
        connection.endheaders()
        response = connection.getresponse()
        assert response.status == 401
        assert b"API key" in response.read()
        connection.close()


# -- replacing -------------------------------------------------------------------------------------


def test_a_new_certificate_is_shown_and_open_connections_go_on(files: Files, caplog) -> None:
    caplog.set_level(logging.INFO, "pelton.tls")
    with WholeServer(certificates=certificates(files)) as server:
        old = server.connect(files.trusting("old"))
        assert ask(old, "GET", "/v2").status == 200
        assert shown(server.port) == "old"
        files.put("used", files.folder / "new.crt", files.folder / "new.key")
        until(lambda: shown(server.port) == "new")
        assert ask(old, "GET", "/v2").status == 200
        new = server.connect(files.trusting("new"))
        assert ask(new, "GET", "/v2").status == 200
        old.close()
        new.close()
    assert [record.getMessage() for record in caplog.records] == ["a new TLS certificate is in use"]


def test_connections_come_and_go_while_certificates_change(files: Files) -> None:
    both = files.trusting("old")
    both.load_verify_locations(str(files.folder / "new.crt"))
    with WholeServer(certificates=certificates(files)) as server:
        certificates_of = server._host._certificates
        for turn in range(20):
            name = ("new", "old")[turn % 2]
            files.put("used", files.folder / f"{name}.crt", files.folder / f"{name}.key")
            server.on_loop(lambda: (certificates_of.look(), certificates_of.look()))
            connection = server.connect(both)
            assert ask(connection, "GET", "/v2").status == 200
            connection.close()
            assert shown(server.port) == name


@pytest.mark.parametrize("broken", ["garbage", "empty", "another key", "no file", "half"])
def test_a_broken_certificate_leaves_the_old_one_and_is_told_once(
    files: Files, broken: str, caplog
) -> None:
    kept = certificates(files)
    certificate, key = files.used("used")
    if broken == "garbage":
        certificate.write_text("garbage")
    elif broken == "empty":
        certificate.write_bytes(b"")
    elif broken == "another key":
        shutil.copy(files.folder / "new.crt", certificate)
    elif broken == "no file":
        key.unlink()
    else:
        certificate.write_bytes((files.folder / "new.crt").read_bytes()[:300])
    with caplog.at_level(logging.INFO, "pelton.tls"):
        assert [kept.look() for _ in range(5)] == [False] * 5
    (told,) = caplog.records
    assert told.levelno == logging.ERROR
    assert "the old one stays in use" in told.getMessage()
    with WholeServer(certificates=kept) as server:
        assert shown(server.port) == "old"
        files.put("used", files.folder / "new.crt", files.folder / "new.key")
        until(lambda: shown(server.port) == "new")


def test_files_are_read_once_they_stand_still(files: Files, caplog) -> None:
    kept = certificates(files)
    certificate, key = files.used("used")
    with caplog.at_level(logging.INFO, "pelton.tls"):
        shutil.copy(files.folder / "new.crt", certificate)
        assert not kept.look()
        shutil.copy(files.folder / "new.key", key)
        assert not kept.look()
        assert kept.look()
        assert not kept.look()
    assert len(caplog.records) == 1


# -- clients with certificates ---------------------------------------------------------------------


def test_only_clients_with_a_certificate_of_the_authority_are_spoken_to(files: Files) -> None:
    client_files = files.make("client", signer="authority")
    authority = str(files.folder / "authority.crt")
    with WholeServer(certificates=certificates(files, authority)) as server:
        known = files.trusting("old")
        known.load_cert_chain(*client_files)
        with tls_client(server.port, known) as client:
            np.testing.assert_array_equal(client.infer("scale", {"x": BIG}).outputs["y"], BIG * 2)
        stranger = files.trusting("old")
        stranger.load_cert_chain(files.folder / "stranger.crt", files.folder / "stranger.key")
        for context in (stranger, files.trusting("old")):
            with (
                tls_client(server.port, context, timeouts=Timeouts(request_s=3)) as client,
                pytest.raises(ConnectionFailed),
            ):
                client.server_live()


# -- settings --------------------------------------------------------------------------------------


def test_without_a_certificate_there_is_no_tls() -> None:
    assert open_certificates(TlsOptions()) is None
    for options in (TlsOptions(tls_key="k"), TlsOptions(tls_client_ca="c")):
        with pytest.raises(SettingsError, match="--tls-certificate"):
            open_certificates(options)


def test_key_and_certificate_may_share_a_file(files: Files) -> None:
    both = files.folder / "both.pem"
    both.write_bytes(
        (files.folder / "new.key").read_bytes() + (files.folder / "new.crt").read_bytes()
    )
    kept = open_certificates(TlsOptions(tls_certificate=str(both)))
    with WholeServer(certificates=kept) as server:
        assert shown(server.port) == "new"


def test_what_cannot_be_used_is_told_at_the_start(files: Files) -> None:
    certificate, key = map(str, files.used("used"))
    locked = files.folder / "locked.key"
    command = f"openssl ec -in {key} -out {locked} -aes128 -passout pass:secret"
    subprocess.run(command.split(), check=True, capture_output=True)
    wrong = [
        (str(files.folder / "none.pem"), key, "no such file"),
        (certificate, str(files.folder / "new.key"), "key values mismatch"),
        (certificate, str(locked), "without a password"),
        (key, key, "cannot use the certificate"),
    ]
    for first, second, told in wrong:
        with pytest.raises(SettingsError, match=told):
            Certificates(first, second)
    with pytest.raises(SettingsError, match="tls_client_ca"):
        Certificates(certificate, key, str(files.folder / "none.pem"))
