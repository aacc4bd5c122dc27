"""Starts peers, and remembers why one could not be started."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import environments
from peers.launch import Launch, Start
from processes import Server


@dataclass
class Started:
    """Which peers run.

    Attributes:
        ports: where each listens.
        absent: why the others do not, in one sentence each.
    """

    ports: dict[str, int] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)


def start(launch: Launch, log: Path) -> Server:
    """Start one server and return it as soon as it is ready.

    Raises:
        RuntimeError: it ended, or was not ready in time.
    """
    server = Server(launch.command, log, launch.environment)
    try:
        if launch.ready_path:
            server.wait_for_ready(launch.port, launch.ready_path)
        else:
            server.wait_for_port(launch.port)
    except BaseException:
        server.stop()
        raise
    return server


def start_all(
    stack: ExitStack, peers: Iterable[tuple[str, Start]], model: Path, scenario: str
) -> Started:
    """Start every peer that can be started; all end with the stack.

    Args:
        stack: ends them.
        peers: names, and how to start them.
        model: the ONNX file.
        scenario: names the logs.
    """
    started = Started()
    for name, launch_of in peers:
        log = environments.home() / "logs" / f"{scenario}-{name}.log"
        try:
            launch = launch_of(model)
            stack.enter_context(start(launch, log))
        except (environments.Missing, OSError, RuntimeError) as error:
            started.absent[name] = reason(error)
            print(f"{scenario}: {name} is not measured: {started.absent[name]}", flush=True)
        else:
            started.ports[name] = launch.port
    return started


def reason(error: Exception) -> str:
    """Return what an error says first, and what the log said last, without this machine's paths."""
    lines = [line for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = lines[0]
    if len(lines) > 1:
        said = f"{said.partition(';')[0]}: {lines[-1].strip()[:300]}"
    return said.replace(str(environments.home()), "$BENCH_HOME")
