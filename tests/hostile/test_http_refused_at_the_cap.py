"""A connection that is refused at the cap may still be read from; that must cost nothing."""

from __future__ import annotations

import contextlib
from pathlib import Path

from raw_http import Wire
from support_server import write_identity

HALF_A_HEAD = b"GET /v2/health/live HTTP/1.1\r\n"
GET = HALF_A_HEAD + b"Host: test\r\n\r\n"


def test_what_a_refused_client_says_is_not_looked_at(serve, tmp_path: Path) -> None:
    model = tmp_path / "echo.onnx"
    write_identity(model, "FP32", [1])
    server = serve(model, "--max-connections=1", "--head-timeout-s=60s")
    with Wire(server.port) as busy:
        busy.send(HALF_A_HEAD)  # in the middle of a head, so it is not idle and keeps its place
        for said in (b"\n\n", GET, b"\x16\x03\x01", b"X" * 100_000) * 5:
            with Wire(server.port) as refused:
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    refused.send(said)
                    refused.rest()
        busy.send(b"Host: test\r\n\r\n")
        assert busy.reply().status == 200
