"""The composition root: the only place that builds the rooms and hands them to each other."""

from __future__ import annotations

import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pelton
from pelton.engine.infer import Engine
from pelton.engine.model import Model
from pelton.engine.models import Models
from pelton.errors import LoadFailed, PeltonError, SettingsError
from pelton.monitoring.counters import Counters, Totals
from pelton.repository.scan import scan
from pelton.runtimes import registry
from pelton.runtimes.contract import RuntimeOptions
from pelton.servers.connections import ConnectionLimits
from pelton.servers.control import control_app
from pelton.servers.gateway import Gateway
from pelton.servers.host import Host, make_host
from pelton.servers.inference import InferenceDoor
from pelton.servers.shutdown import ShutdownTimes
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.settings import Settings
from pelton.specs import ModelMetadata
from pelton.wire.limits import Limits

logger = logging.getLogger("pelton.app")

clock = time.perf_counter

BACKLOG = 2048
"""Connections that the kernel keeps until they are taken in."""


@dataclass(frozen=True, slots=True)
class App:
    """A server that is built and not yet running.

    Attributes:
        host: runs until a signal ends it.
        models: the loaded models.
    """

    host: Host
    models: Models

    def run(self, listener: socket.socket) -> None:
        """Serve until a signal comes, then drain.

        Args:
            listener: a bound socket.

        Raises:
            LoadFailed: another server has begun to listen there meanwhile.
        """
        try:
            listener.listen(BACKLOG)
        except OSError as error:
            host, port = listener.getsockname()[:2]
            raise _address_taken(host, port, error) from None
        self.host.run(sockets=[listener])


def load_models(path: Path, options: RuntimeOptions) -> Models:
    """Load the models that lie under a path.

    Raises:
        LoadFailed: nothing there can be served, or a model is broken.
    """
    loaded = []
    try:
        for spec in scan(path, registry.claims()):
            started_s = clock()
            model = Model(registry.load(spec, options), clock)
            loaded.append(model)
            model.warm_up()
            _log_model(model.metadata, spec.runtime, clock() - started_s)
    except PeltonError:
        for model in loaded:
            model.close()
        raise
    return Models(loaded)


def build(models: Models, settings: Settings, on_ready: Callable[[], None]) -> App:
    """Put a server together.

    Args:
        models: the loaded models.
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
    door = InferenceDoor(engine, limits, default_model)
    status = ServerStatus(
        engine, pelton.__version__, lambda name: statistics(counters, name), default_model
    )
    gateway = Gateway(door, settings.record(ConnectionLimits), limits.max_body_bytes)
    control = control_app(status, UnusualInference(door, limits))
    host = make_host(control, gateway, engine, settings.record(ShutdownTimes), on_ready)
    return App(host, models)


def bind(host: str, port: int) -> socket.socket:
    """Bind the address to serve on, before anything slow is done.

    Raises:
        LoadFailed: the address is taken or not this machine's.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        # A name such as localhost may stand for both; clients try the older kind at least.
        family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
        listener = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or "this is no address"
        raise LoadFailed(f"cannot listen on {host}: {reason}") from None
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise _address_taken(host, port, error) from None
    return listener


def _address_taken(host: str, port: int, error: OSError) -> LoadFailed:
    return LoadFailed(
        f"cannot listen on {host} port {port}: {error.strerror}; "
        "if another server runs there, choose another port with --port"
    )


def statistics(counters: Counters, model: str | None) -> dict[str, Any]:
    """Return totals under the users' names.

    Args:
        counters: what has been counted.
        model: one model's name, or None for all, which lists each model too.
    """
    uptime_s = counters.uptime_s()
    if model is not None:
        return _told(counters.by_model()[model], uptime_s)
    by_model = {name: _told(totals, uptime_s) for name, totals in counters.by_model().items()}
    return _told(counters.totals(), uptime_s) | {"models": by_model}


def _told(totals: Totals, uptime_s: float) -> dict[str, Any]:
    total = totals.succeeded + totals.failed
    return {
        "total_requests": total,
        "successful_requests": totals.succeeded,
        "failed_requests": totals.failed,
        "total_inference_time": totals.compute_s,
        "avg_inference_time": totals.compute_s / totals.succeeded if totals.succeeded else 0.0,
        "uptime_seconds": uptime_s,
        "requests_per_second": total / uptime_s if uptime_s else 0.0,
        "success_rate": totals.succeeded / total if total else 0.0,
    }


def _log_model(metadata: ModelMetadata, runtime: str, seconds: float) -> None:
    inputs = ", ".join(
        f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in metadata.inputs
    )
    outputs = ", ".join(
        f"{spec.name} {spec.datatype} {list(spec.shape)}" for spec in metadata.outputs
    )
    logger.info(
        "model %s version %s (%s on %s, loaded in %.0f ms): %s -> %s",
        metadata.name,
        metadata.version,
        runtime,
        metadata.device,
        seconds * 1000,
        inputs or "any values",
        outputs or "any values",
    )
