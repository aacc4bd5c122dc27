"""The signals that end the server, as they reach it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import sys
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
import uvicorn

from pelton.servers import host
from pelton.servers.host import Hooks, Host
from pelton.servers.shutdown import ShutdownTimes
from pelton.time_slices import TURN_S


class Ended(BaseException):
    """Stands for the end of the process."""


@pytest.fixture
def server(monkeypatch) -> Host:
    def end(code: int) -> None:
        raise Ended(code)

    monkeypatch.setattr(host.os, "_exit", end)
    monkeypatch.setattr(host.logging, "shutdown", lambda: None)
    config = uvicorn.Config("none:app", log_config=None)
    return Host(
        config, SimpleNamespace(), SimpleNamespace(ready=True), ShutdownTimes(), Hooks(print)
    )


def test_the_first_signal_turns_not_ready_and_ends_in_order(server: Host, caplog) -> None:
    with caplog.at_level(logging.INFO, "pelton.server"):
        server.handle_exit(signal.SIGTERM, None)
    assert server.should_exit
    assert not server.force_exit
    assert not server._engine.ready
    assert [record.getMessage() for record in caplog.records] == [
        "SIGTERM: finishing what is running"
    ]


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_the_second_signal_ends_at_once(server: Host, second: int) -> None:
    server.handle_exit(signal.SIGTERM, None)
    with pytest.raises(Ended) as ended:
        server.handle_exit(second, None)
    assert ended.value.args == (128 + second,)


def test_a_second_signal_while_the_first_is_being_logged_ends_at_once(server: Host) -> None:
    """Python runs a signal's handler in the midst of another's; a terminal may send two."""

    class Second(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            logger.removeHandler(self)
            server.handle_exit(signal.SIGINT, None)

    logger = logging.getLogger("pelton.server")
    logger.addHandler(Second())
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with pytest.raises(Ended):
            server.handle_exit(signal.SIGTERM, None)
    finally:
        logger.setLevel(level)


def test_the_thread_is_told_to_run_promptly_only_while_it_serves(
    server: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    happened: list[str] = []

    @contextlib.contextmanager
    def promptly(_slice_ns: int) -> Iterator[bool]:
        happened.append("promptly")
        yield True
        happened.append("as usual")

    async def serve(_server: uvicorn.Server, sockets: object) -> None:
        happened.append(f"serves {sockets}")
        assert sys.getswitchinterval() == pytest.approx(TURN_S)

    usual_s = sys.getswitchinterval()
    monkeypatch.setattr(host, "promptly", promptly)
    monkeypatch.setattr(uvicorn.Server, "_serve", serve)
    asyncio.run(server.serve([]))
    assert happened == ["promptly", "serves []", "as usual"]
    assert sys.getswitchinterval() == usual_s
