"""A worker process for one request: loads a model, unpickles one object, runs, and is over.

Everything here runs shut off from the machine (`confinement.py`), in a process that exists for
this one request. Only so the standard library's unpickler is of use: it is told by whoever wrote
the pickle what to import and what to call.

    server -> worker    load  [spec, options, search path, log level]
                        run   [the pickle, its out-of-band buffers ...]
    worker -> server    ready, failed, done, error, raised, cannot: as those of `worker.py`

Replies are data, never pickles. What the object does to this process it does to its own request.
"""

from __future__ import annotations

import contextlib
import faulthandler
import importlib.abc
import importlib.machinery
import io
import logging
import pickle
import socket
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from pelton.arena import Arena
from pelton.errors import InvalidRequest, LoadFailed, PeltonError
from pelton.messages import Value
from pelton.runtimes import registry
from pelton.runtimes.contract import LoadedModel
from pelton.runtimes.process.channel import OUTBOX, Channel, Packed
from pelton.runtimes.process.confinement import limit_computing
from pelton.runtimes.process.records import options_of, spec_of, told
from pelton.runtimes.process.values import CannotCarry

MAX_TRACEBACK = 16 * 1024
"""Characters; the end of a traceback tells more than its beginning."""

logger = logging.getLogger("pelton.worker")


def main(sock: str, replies: str, requests: str, trouble: str, cpu_s: int) -> None:
    """Serve one request.

    Args:
        sock: descriptor of the connected socket.
        replies: shared memory that is written to, as `fd:bytes`.
        requests: shared memory that is read.
        trouble: why this process could not be shut off; then it serves nothing.
        cpu_s: seconds of computing that the request may take.
    """
    faulthandler.enable()
    channel = Channel(
        socket.socket(fileno=int(sock)),
        _attached(replies, writable=True),
        0,
        {OUTBOX: _attached(requests, writable=False)},
    )
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(channel, trouble, cpu_s)


def _attached(told: str, writable: bool) -> Arena:
    fd, _, size = told.partition(":")
    return Arena.attach(int(fd), int(size), writable)


def _serve(channel: Channel, trouble: str, cpu_s: int) -> None:
    spec, options, sys.path[:], level = _next(channel)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        if trouble:
            raise LoadFailed(f"no worker for signed objects can be started: {trouble}")
        with _Beside(Path(spec["path"]).resolve()):
            loaded = registry.load(spec_of(spec), options_of(options))
        if not loaded.metadata.takes_objects:
            raise LoadFailed(f"model {spec['name']!r} takes arrays, not objects")
    except LoadFailed as error:
        channel.send("failed", channel.pack(error.message))
        return
    channel.send("ready", channel.pack(told(loaded.metadata)))
    parts = _next(channel)
    limit_computing(cpu_s)
    kind, packed = _answer(loaded, channel, parts)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    try:
        channel.send(kind, packed)
    except CannotCarry as error:
        channel.send("cannot", channel.pack(str(error)))
    _next(channel)  # until the server ends this process


def _next(channel: Channel) -> Any:
    while (message := channel.receive()) is None:
        pass
    return message.value


def _answer(loaded: LoadedModel, channel: Channel, parts: Sequence[Any]) -> tuple[str, Packed]:
    try:
        inputs = _unpickled(*parts)
        started_s = time.monotonic()
        outputs = loaded.run(inputs)
        return "done", channel.pack([time.monotonic() - started_s, outputs])
    except CannotCarry as error:
        return "cannot", channel.pack(str(error))
    except PeltonError as error:
        return "error", channel.pack([str(error.code), error.message])
    # Border: object and model are foreign code; whatever they raise is their failure.
    except BaseException as error:  # noqa: BLE001
        trace = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
        return "raised", channel.pack([type(error).__name__, trace])


def _unpickled(stream: Any, *buffers: Any) -> dict[str, Value]:
    try:
        value = _Unpickler(io.BytesIO(stream), buffers=buffers).load()
    except (pickle.UnpicklingError, EOFError) as error:
        logger.warning("the signed object cannot be unpickled", exc_info=error)
        raise InvalidRequest("pickle: the signed object cannot be unpickled") from error
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise InvalidRequest(
            f"pickle: the signed object is a {type(value).__name__:.80}; send a dict by input name"
        )
    return value


class _Unpickler(pickle.Unpickler):
    """The standard one, which says in a sentence what cannot be imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Import whatever the pickle names."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError) as error:
            logger.warning("the signed object names what is not there", exc_info=error)
            raise InvalidRequest(
                f"pickle: there is no {module:.80}.{name:.80} here; put its module into the "
                "model's folder, or install its package into the server's environment"
            ) from error


class _Beside(importlib.abc.MetaPathFinder):
    """Keeps the modules that lie beside a model importable, also after it has been loaded.

    A server takes them out of the table of modules, so that two models may each have a
    `preprocess.py`. Here there is one model, and the object's classes have to be the very ones
    that the model knows, not a second import of the same file.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._kept: dict[str, ModuleType] = {}

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module as the import system would; those of the folder are noted when they run."""
        found = importlib.machinery.PathFinder.find_spec(name, path, target)
        if found is not None and found.loader is not None and self._holds(found.origin):
            run = found.loader.exec_module

            def noted(module: ModuleType) -> None:
                self._kept[name] = module
                run(module)

            vars(found.loader)["exec_module"] = noted
        return found

    def _holds(self, file: str | None) -> bool:
        return file is not None and Path(file).is_relative_to(self._folder)

    def __enter__(self) -> None:
        sys.meta_path.insert(0, self)

    def __exit__(self, *raised: object) -> None:
        sys.meta_path.remove(self)
        sys.path.insert(0, str(self._folder))
        for module in list(sys.modules.values()):
            # Clients import the file that the server imports under a name of its own.
            if vars(module).get("__file__") == str(self._folder / "model.py"):
                self._kept.setdefault("model", module)
        for name, module in self._kept.items():
            sys.modules.setdefault(name, module)
