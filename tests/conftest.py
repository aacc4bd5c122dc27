"""Fixtures for all tests."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from services.postgres import postgres as postgres  # a fixture
from support_server import ServerProcess

Serve = Callable[..., ServerProcess]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers, `serve(path, *flags, env=..., ends_well=True)`; all are stopped at the end.

    One that shall end well has to exit with code 0 at SIGTERM and to have logged no traceback.
    """
    with contextlib.ExitStack() as endings:

        def start(
            path: Path | str | None,
            *flags: str,
            env: Mapping[str, str] | None = None,
            ends_well: bool = True,
        ) -> ServerProcess:
            server = ServerProcess(path, *flags, env=env)
            endings.callback(_end, server, ends_well)
            return server

        yield start


def _end(server: ServerProcess, well: bool) -> None:
    code = server.stop()
    if well:
        assert code == 0, f"exit code {code}; log:\n{server.log()}"
        assert "Traceback" not in server.log(), server.log()
