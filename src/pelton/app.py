"""The composition root: the only place that builds the rooms and hands them to each other."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pelton
from pelton.buffers import BufferPool
from pelton.engine.infer import Engine
from pelton.engine.models import Models
from pelton.errors import SettingsError
from pelton.loading import Loader
from pelton.monitoring.counters import Counters
from pelton.runtimes.contract import RuntimeOptions
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Host, make_host
from pelton.servers.inference import InferenceDoor
from pelton.servers.listening import UnixListener, bind_tcp, bind_unix, listen
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.settings import Settings
from pelton.stats import Statistics
from pelton.wire.limits import Limits

logger = logging.getLogger("pelton.app")

clock = time.monotonic
"""The one clock of the server: deadlines, times and the event loop are on it."""

KEPT_BODIES = 4
"""How many bodies of the largest size the pool keeps memory for."""

ARENA_OVER_BOUND = 2
"""A block of the pool is a power of two, so bodies up to the bound take up to twice as much; what
is not touched takes no memory."""

CLOSING_S = 5.0
"""For the models to be closed at the end; one that hangs in a thread never is."""


@dataclass(frozen=True, slots=True)
class App:
    """A server that is built and not yet running.

    Attributes:
        host: runs until a signal ends it.
        models: the loaded models.
    """

    host: Host
    models: Models

    def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve until a signal comes, drain, and close the models.

        Args:
            listeners: bound sockets.

        Raises:
            LoadFailed: another server has begun to listen there meanwhile.
        """
        try:
            for listener in listeners:
                listen(listener)
            self.host.run(sockets=list(listeners))
        finally:
            closing = threading.Thread(target=self.models.close, name="closing", daemon=True)
            closing.start()
            closing.join(CLOSING_S)
            if closing.is_alive():
                logger.warning("a model is still running after %g s and is left", CLOSING_S)


def make_loader(settings: Settings) -> Loader:
    """Make what loads the models, by the settings in force.

    Raises:
        SettingsError: the bound of memory is smaller than one body.
    """
    if settings["max_buffered_bytes"] < settings["max_body_bytes"]:
        raise SettingsError(
            f"max_buffered_bytes is {settings['max_buffered_bytes']}, which is less than one body "
            f"may have: max_body_bytes is {settings['max_body_bytes']}"
        )
    arena_bytes = ARENA_OVER_BOUND * settings["max_buffered_bytes"]
    return Loader(settings.serving(), settings.record(RuntimeOptions), arena_bytes, clock)


def build(models: Models, loader: Loader, settings: Settings, on_ready: Callable[[], None]) -> App:
    """Put a server together.

    Args:
        models: the loaded models.
        loader: what loaded them, for what it shares with their worker processes.
        settings: the settings in force.
        on_ready: called once requests are answered.

    Raises:
        SettingsError: the default model is not among the models.
    """
    default_model = settings["default_model"]
    if default_model is not None and default_model not in models.names():
        raise SettingsError(
            f"default_model is {default_model!r}, but served are: {', '.join(models.names())}"
        )
    counters = Counters(clock)
    for name in models.names():
        counters.know(name)
    limits = settings.record(Limits)
    engine = Engine(models, counters.observe)
    regions = SharedRegions(for_all=settings["allow_shared_memory"])
    door = InferenceDoor(engine, limits, default_model, regions, clock)
    budget = MemoryBudget(settings["max_buffered_bytes"])
    keep_bytes = min(KEPT_BODIES * limits.max_body_bytes, budget.limit_bytes)
    pool = BufferPool(keep_bytes, loader.arena)
    connections = settings.record(ConnectionLimits)
    gateway = Gateway(door, connections, limits.max_body_bytes, pool, budget)
    statistics = Statistics(counters, models, budget)
    status = ServerStatus(engine, pelton.__version__, statistics.told, default_model)

    def ready() -> None:
        loader.watch()
        on_ready()

    control = control_app(status, UnusualInference(door, limits), regions)
    host = make_host(control, gateway, engine, settings.record(ShutdownTimes), ready)
    return App(host, models)


def bind(settings: Settings) -> list[socket.socket]:
    """Bind the addresses to serve on, before anything slow is done: TCP, and the Unix socket.

    Raises:
        LoadFailed: one of them is taken, or cannot be had.
    """
    listeners: list[socket.socket] = [bind_tcp(settings["host"], settings["port"])]
    if settings["uds"] is not None:
        try:
            listeners.append(bind_unix(settings["uds"]))
        except BaseException:
            listeners[0].close()
            raise
    return listeners


def unbind(listeners: Sequence[socket.socket]) -> None:
    """Close the sockets, and remove the Unix socket's file."""
    for listener in listeners:
        if isinstance(listener, UnixListener):
            listener.remove()
        listener.close()
