"""https: the same exchange, and a certificate that has to be right."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
import threading
from pathlib import Path

import numpy as np
import pytest

from client.scripted_peer import Answer, ScriptedPeer, infer_reply, json_reply
from pelton import errors
from pelton.client import Retries, Timeouts

BIG = np.random.default_rng(3).integers(0, 256, (3, 1080, 1920), np.uint8)
LIVE = json_reply({"live": True})

pytestmark = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the command openssl to make a certificate"
)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate for 127.0.0.1, signed by itself, with its key in one file."""
    file = tmp_path_factory.mktemp("tls") / "both.pem"
    command = (
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
        "-subj /CN=pelton-test -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", file, "-out", file.with_suffix(".crt")], check=True
    )
    with file.open("ab") as both:
        both.write(file.with_suffix(".crt").read_bytes())
    return file


@pytest.fixture
def server_side(certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


@pytest.fixture
def trusting(certificate) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificate))


def test_big_arrays_and_small_questions_on_one_connection(make_client, server_side, trusting):
    answer = infer_reply(("y", "UINT8", list(BIG.shape), BIG.tobytes()))
    script = [Answer([LIVE]), Answer([answer]), Answer([LIVE])]
    with ScriptedPeer(script, tls=server_side) as peer:
        client = make_client(peer.url, tls=trusting)
        assert client.server_live()
        response = client.infer("m", {"x": BIG, "tail": np.arange(5)})
        assert client.server_live()
    np.testing.assert_array_equal(response.outputs["y"], BIG)
    assert peer.received[1].tensors[1] == BIG.tobytes() + np.arange(5).tobytes()
    assert set(peer.connections) == {0}


def test_many_small_pieces_arrive_in_order(make_client, server_side, trusting):
    inputs = {f"x{number}": np.full(number, number % 256, np.uint8) for number in range(400)}
    with ScriptedPeer([Answer([infer_reply()])], tls=server_side) as peer:
        make_client(peer.url, tls=trusting).infer("m", inputs)
    assert peer.received[0].tensors[1] == b"".join(each.tobytes() for each in inputs.values())


def test_a_stranger_is_not_spoken_to(make_client, server_side):
    with ScriptedPeer([Answer([LIVE])], [Answer([LIVE])], tls=server_side) as peer:
        client = make_client(peer.url, retries=Retries(first_delay_s=0))
        with pytest.raises(errors.ConnectionFailed, match=r"is not trusted: self.signed"):
            client.server_live()
        assert not peer.closed[1].is_set()
    assert peer.received == []


def test_a_certificate_for_another_name_is_not_accepted(make_client, server_side, trusting):
    with ScriptedPeer([Answer([LIVE])], tls=server_side) as peer:
        url = peer.url.replace("127.0.0.1", "localhost")
        with pytest.raises(errors.ConnectionFailed, match="is not trusted: Hostname mismatch"):
            make_client(url, tls=trusting).server_live()
    assert peer.received == []


def test_a_server_without_tls_is_one_clear_sentence(make_client, trusting):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def speak_plainly() -> None:
            connection, _ = listener.accept()
            # The client hangs up without reading all: that may come as an error.
            with connection, contextlib.suppress(OSError):
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                while connection.recv(4096):
                    pass

        thread = threading.Thread(target=speak_plainly)
        thread.start()
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        with pytest.raises(errors.ConnectionFailed, match=f"^no TLS connection to {url}: "):
            make_client(url, tls=trusting).server_live()
        thread.join()


def test_a_handshake_that_never_ends_runs_out_of_time(make_client, trusting):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        client = make_client(
            url, tls=trusting, timeouts=Timeouts(connect_s=0.1), retries=Retries(attempts=1)
        )
        with pytest.raises(errors.DeadlineExceeded, match="while agreeing on TLS with"):
            client.server_live()


def test_an_answer_that_was_cut_off_is_not_taken_for_whole(make_client, server_side, trusting):
    # Without a length, the end of the connection is the end of the answer; but only the TLS
    # goodbye proves that it was the server who ended it, and the peer's close sends none.
    cut = b'HTTP/1.1 200 OK\r\n\r\n{"live":true}'
    with ScriptedPeer([Answer([cut], "close")], tls=server_side) as peer:
        client = make_client(peer.url, tls=trusting, retries=Retries(attempts=1))
        with pytest.raises(errors.ConnectionFailed, match="in the middle of its answer"):
            client.stats()
