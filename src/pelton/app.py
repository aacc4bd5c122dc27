"""The composition root: the only place that builds the rooms and hands them to each other.

open the state -> let whoever has a key in -> load the models -> build the doors -> serve
and back: doors closed, requests answered, publishes given up, models closed, state closed
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pelton
from pelton.buffers import BufferPool
from pelton.engine.infer import Engine
from pelton.engine.models import Models
from pelton.engine.shadowing import Shadows, make_chosen
from pelton.errors import SettingsError
from pelton.keeping import Keeping, open_keeping
from pelton.lifecycle.boot import Kept, Told, open_keeper
from pelton.lifecycle.keeper import Keeper
from pelton.lifecycle.keeper_plan import plan_of
from pelton.loading import Loader
from pelton.monitoring.counters import Counters
from pelton.result_cache import far_store
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.memory import share_heaps
from pelton.servers import (
    audit_routes,
    key_routes,
    publish_routes,
    repository_routes,
    session_routes,
    traffic_routes,
)
from pelton.servers.access import Access, AccessOptions, make_access
from pelton.servers.certificates import Certificates, TlsOptions, open_certificates
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import Routes, control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Hooks, Host, make_host
from pelton.servers.inference import InferenceDoor
from pelton.servers.key_control import KeyControl, Keys
from pelton.servers.listening import UnixListener, bind_tcp, bind_unix, listen
from pelton.servers.memory_budget import MemoryBudget
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.settings import Settings
from pelton.stats import Copies, Statistics, Tell
from pelton.traffic import Traffic
from pelton.wire.limits import Limits

if TYPE_CHECKING:
    from pelton.caching.redis_store import RedisStore

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
class _Lives:
    """What is there besides the doors.

    Attributes:
        keeping: the state; None where nothing is kept.
        counters: of requests.
        loader: loads models.
        models: the loaded ones.
        keeper: changes them.
        traffic: who is given which of them.
        far: Redis for kept answers, or None.
    """

    keeping: Keeping | None
    counters: Counters
    loader: Loader
    models: Models
    keeper: Keeper
    traffic: Traffic
    far: RedisStore | None

    async def open(self) -> None:
        """Begin what needs the event loop; before the first request."""
        self.loader.watch()
        if self.far is not None:
            await self.far.check()
        if self.keeping is not None:
            self.keeping.start()
        await self.keeper.start()
        await self.traffic.begin()

    async def close(self) -> None:
        """End what needs the event loop; after the last request."""
        await self.traffic.end()
        await self.keeper.close()
        if self.far is not None:
            await self.far.close()

    def finish(self) -> None:
        """Close the models, and then what they are kept by."""
        closing = threading.Thread(target=self.models.close, name="closing", daemon=True)
        closing.start()
        closing.join(CLOSING_S)
        if closing.is_alive():
            logger.warning("a model is still running after %g s and is left", CLOSING_S)
        self.keeper.finish()
        if self.keeping is not None:
            self.keeping.close()


@dataclass(frozen=True, slots=True)
class App:
    """A server that is built and not yet running.

    Attributes:
        host: runs until a signal ends it.
        models: the loaded models.
        finish: gives everything back; once `run` is over, or in its place.
    """

    host: Host
    models: Models
    finish: Callable[[], None]

    def run(self, listeners: Sequence[socket.socket]) -> None:
        """Serve until a signal comes, drain, and give everything back.

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
            self.finish()


def build(
    path: Path,
    settings: Settings,
    listeners: Sequence[socket.socket],
    on_ready: Callable[[Models, bool], None],
) -> App:
    """Load the models and put a server together.

    Args:
        path: a model's file, a model's folder, or a folder of models.
        settings: the settings in force.
        listeners: bound sockets, the one of TCP first.
        on_ready: called once requests are answered, with the models and whether a key is wanted.

    Raises:
        SettingsError: settings that do not go together, or with what is there.
        LoadFailed: nothing can be served.
        Unavailable: the database is busy or away.
    """
    loader = make_loader(settings)
    certificates = open_certificates(settings.record(TlsOptions))
    with ExitStack() as undone:
        keeping = open_keeping(settings)
        if keeping is not None:
            undone.callback(keeping.close)
        keys = () if keeping is None else keeping.state.keys.list()
        bound = listeners[0].getsockname()[0]
        access = make_access(settings.record(AccessOptions), keys, bound, certificates is not None)
        lives = _load(path, settings, loader, keeping)
        undone.pop_all()
        undone.callback(lives.finish)
        _follow(lives, access)
        _check_default(settings, lives.models)
        host = _doors(
            settings,
            lives,
            access,
            certificates,
            lambda: on_ready(lives.models, access.gate.keyring.in_use),
        )
        undone.pop_all()
    return App(host, lives.models, lives.finish)


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


def _load(path: Path, settings: Settings, loader: Loader, keeping: Keeping | None) -> _Lives:
    plan = plan_of(settings)
    if plan.changes:
        share_heaps()
        loader.make_arena()  # a model that needs it may come when bodies are received already
    loader.far = far = far_store(settings, clock)
    if settings["allow_unsafe_pickle"]:
        from pelton.signed_objects import signed_starter

        loader.start_signed = signed_starter(settings, clock)
    counters, models = Counters(clock), Models()
    traffic = Traffic(models)
    told = Told(known=counters.know, label=traffic.labels_in_files)
    kept = Kept() if keeping is None else Kept(keeping.state.versions, keeping.state.audit)
    keeper = open_keeper(path, plan, loader, models, kept, told)
    return _Lives(keeping, counters, loader, models, keeper, traffic, far)


def _follow(lives: _Lives, access: Access) -> None:
    """Have changes that others make in the state noticed; once the models are there."""
    if lives.keeping is None:
        return
    lives.traffic.bring_in = lives.keeper.bring_in
    lives.traffic.keep_in(lives.keeping)
    lives.keeping.follow(("keys",), lives.keeping.state.keys.list, access.renew)


def _check_default(settings: Settings, models: Models) -> None:
    default = settings["default_model"]
    if default is not None and default not in models.names():
        raise SettingsError(
            f"default_model is {default!r}, but served are: {', '.join(models.names())}"
        )


def _engine(lives: _Lives, shadows: Shadows) -> Engine:
    put = None if lives.keeping is None else lives.keeping.exposures.put
    chosen = make_chosen(shadows, put, time.time)
    return Engine(lives.models, lives.counters.observe, chosen, lives.keeper.lender)


def _doors(
    settings: Settings,
    lives: _Lives,
    access: Access,
    certificates: Certificates | None,
    on_ready: Callable[[], None],
) -> Host:
    limits = settings.record(Limits)
    copies = Counters(clock)
    shadows = Shadows(lives.models, clock, copies.observe)
    engine = _engine(lives, shadows)
    regions = SharedRegions(for_all=settings["allow_shared_memory"])
    default = settings["default_model"]
    door = InferenceDoor(engine, limits, default, regions, clock, access.trusted)
    budget = MemoryBudget(settings["max_buffered_bytes"])
    keep_bytes = min(KEPT_BODIES * limits.max_body_bytes, budget.limit_bytes)
    pool = BufferPool(keep_bytes, lives.loader.arena)
    connections = settings.record(ConnectionLimits)
    uploads = settings["max_upload_bytes"] if settings["allow_publish"] else None
    gateway = Gateway(door, connections, limits.max_body_bytes, pool, budget, access, uploads)
    seen = Copies(shadows.counts, copies)
    refused, told = gateway.refused, _told(lives)
    statistics = Statistics(lives.counters, lives.models, budget, refused, seen, told)
    keeping = lives.keeping
    writable = None if keeping is None else lambda: keeping.writable
    status = ServerStatus(engine, pelton.__version__, statistics.told, default, writable)
    further = _further(lives, access, limits, status)
    control = control_app(status, UnusualInference(door, limits), regions, further)
    times = settings.record(ShutdownTimes)
    hooks = Hooks(on_ready, lives.open, lives.close)
    return make_host(control, gateway, engine, times, hooks, certificates)


def _told(lives: _Lives) -> dict[str, Tell]:
    """Return what tells the numbers of what not every server has."""
    told: dict[str, Tell] = {}
    keeping, far = lives.keeping, lives.far
    if keeping is not None:
        told["exposures"] = keeping.exposures.counts
    if far is not None:
        told["cache_redis"] = lambda: asdict(far.counts)
    return told


def _further(lives: _Lives, access: Access, limits: Limits, status: ServerStatus) -> list[Routes]:
    keeping = lives.keeping
    routers = [
        session_routes.router(access.gate),
        repository_routes.router(lives.keeper, limits),
        publish_routes.router(lives.keeper, status),
        traffic_routes.router(lives.traffic),
        audit_routes.router(None if keeping is None else keeping.state.audit.list),
    ]
    if keeping is not None:
        routers.append(key_routes.router(KeyControl(Keys(keeping.state.keys), keeping.refresh)))
    return routers


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
