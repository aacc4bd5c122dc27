"""Uploads that break off, are too large, too slow or not read: nothing of them is taken for whole."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import Iterator

import pytest

from pelton.errors import Code, Conflict
from pelton.servers.body_bounds import UPLOAD_HELD_BYTES
from servers.publishing_site import MAX_UPLOAD_BYTES, PublishingSite
from support_server import until

VERSIONS = "/v2/repository/models/digits/versions"
SIZE = 1024 * 1024


@pytest.fixture
def site() -> Iterator[PublishingSite]:
    with PublishingSite() as site:
        yield site


def begun(site: PublishingSite, *lines: str, path: str = VERSIONS) -> socket.socket:
    """Open a connection and send the head of an upload."""
    raw = socket.create_connection(("127.0.0.1", site.port), timeout=20)
    head = [f"POST {path} HTTP/1.1", "Host: a", *lines, "", ""]
    raw.sendall("\r\n".join(head).encode())
    return raw


def answer_of(raw: socket.socket) -> bytes:
    """Read until the server hangs up."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while data := raw.recv(65536):
            answer += data
    return answer


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("progress", ["", "?progress=1"])
def test_an_upload_that_breaks_off_is_no_version(
    site: PublishingSite, share: float, framing: str, progress: str
) -> None:
    sent = int(SIZE * share)
    line = f"Content-Length: {SIZE}" if framing == "length" else "Transfer-Encoding: chunked"
    with begun(site, line, path=VERSIONS + progress) as raw:
        part = bytes(sent)
        raw.sendall(part if framing == "length" else b"%x\r\n" % SIZE + part)
        until(lambda: site.control.received_bytes >= sent - 400_000)
    site.control.wait_until(lambda: site.control.broken)
    (error,) = site.control.broken
    assert error.code is Code.MALFORMED_REQUEST
    assert "broke off" in error.message
    assert not site.control.taken
    until(lambda: site.gateway.budget.buffered_bytes == 0)
    until(lambda: len(site.gateway.connections) == 0)


def test_one_that_is_said_to_be_too_large_is_refused_at_once(site: PublishingSite) -> None:
    with begun(site, f"Content-Length: {MAX_UPLOAD_BYTES + 1}") as raw:
        answer = answer_of(raw)
    assert answer.startswith(b"HTTP/1.1 413")
    assert not site.control.broken


def test_one_that_turns_out_too_large_in_chunks_is_refused(site: PublishingSite) -> None:
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    with begun(site, "Transfer-Encoding: chunked") as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(MAX_UPLOAD_BYTES // 0x10000 + 1):
                raw.sendall(chunk)
        answer = answer_of(raw)
    assert answer.startswith(b"HTTP/1.1 413")
    site.control.wait_until(lambda: site.control.broken)
    assert not site.control.taken


def test_other_bodies_keep_their_bound(site: PublishingSite) -> None:
    for path in ("/v2/repository/index", "/v2/repository/models/a/load", "/infer"):
        assert site.ask("POST", path, bytes(300_000))[0] == 413
    spelled = "/v2/repository/models/digits/%76ersions"
    assert site.ask("POST", spelled, bytes(300_000))[0] == 413


def test_only_a_window_of_an_upload_is_charged(site: PublishingSite) -> None:
    with begun(site, f"Content-Length: {MAX_UPLOAD_BYTES}") as raw:
        raw.sendall(bytes(MAX_UPLOAD_BYTES - SIZE))
        until(lambda: site.control.received_bytes >= MAX_UPLOAD_BYTES // 2)
        assert site.gateway.budget.buffered_bytes == UPLOAD_HELD_BYTES < MAX_UPLOAD_BYTES
        raw.sendall(bytes(SIZE))
        until(lambda: site.control.taken)
    until(lambda: site.gateway.budget.buffered_bytes == 0)


def test_a_client_waits_while_nobody_takes_its_bytes(
    site: PublishingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Back-pressure: what the application does not ask for stays in the kernel and the client."""
    go_on = asyncio.Event()
    received = site.control._publish

    async def late(*arguments: object) -> object:
        await go_on.wait()
        return await received(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(site.control, "_publish", late)
    with begun(site, f"Content-Length: {MAX_UPLOAD_BYTES}") as raw:
        raw.setblocking(False)
        sent, quiet_since = 0, time.monotonic()
        while time.monotonic() - quiet_since < 0.5:
            try:
                sent += raw.send(bytes(min(65536, MAX_UPLOAD_BYTES - sent)))
                quiet_since = time.monotonic()
            except BlockingIOError:
                time.sleep(0.01)
            if sent == MAX_UPLOAD_BYTES:
                pytest.skip("the kernel's buffers take all of it")
        assert site.gateway.budget.buffered_bytes == UPLOAD_HELD_BYTES
        raw.setblocking(True)
        site._host.servers[0].get_loop().call_soon_threadsafe(go_on.set)
        raw.sendall(bytes(MAX_UPLOAD_BYTES - sent))
        until(lambda: site.control.taken)


def test_an_upload_that_comes_too_slowly_is_given_up() -> None:
    with PublishingSite(body_timeout_s=0.5) as site, begun(site, f"Content-Length: {SIZE}") as raw:
        raw.sendall(b"x" * 1000)
        answer = answer_of(raw)
        assert answer.startswith(b"HTTP/1.1 408")
        site.control.wait_until(lambda: site.control.broken)
        assert not site.control.taken


def test_an_upload_that_goes_on_may_take_longer_than_any_other_body() -> None:
    piece = 128 * 1024
    with PublishingSite(body_timeout_s=0.6) as site:
        with begun(site, f"Content-Length: {8 * piece}") as raw:
            for _ in range(8):
                raw.sendall(bytes(piece))
                time.sleep(0.15)  # what makes it a slow one
            assert raw.recv(12) == b"HTTP/1.1 200"
        (taken,) = site.control.taken
        assert len(taken.data) == 8 * piece


def test_what_is_refused_without_being_read_ends_the_connection(site: PublishingSite) -> None:
    site.control.before_reading["digits"] = Conflict("digits is being changed")
    with begun(site, f"Content-Length: {MAX_UPLOAD_BYTES}") as raw:
        raw.sendall(bytes(1000))
        answer = answer_of(raw)
    assert answer.startswith(b"HTTP/1.1 409")
    assert answer.endswith(b"}")


def test_many_tiny_chunks_are_refused_or_read(site: PublishingSite) -> None:
    with begun(site, "Transfer-Encoding: chunked") as raw:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(70):
                raw.sendall(b"1\r\nx\r\n" * 1000)
        answer = answer_of(raw)
    assert answer.startswith(b"HTTP/1.1 413")
    assert b"chunks" in answer


def test_a_client_that_hangs_up_after_its_upload_does_not_stop_it(site: PublishingSite) -> None:
    site.control.slow.clear()
    with begun(site, f"Content-Length: {SIZE}", path=f"{VERSIONS}?progress=1") as raw:
        raw.sendall(bytes(SIZE))
        assert raw.recv(12) == b"HTTP/1.1 200"
    until(lambda: len(site.gateway.connections) == 0)
    assert not site.control.taken
    site.control.slow.set()
    site.control.wait_until(lambda: site.control.taken)
