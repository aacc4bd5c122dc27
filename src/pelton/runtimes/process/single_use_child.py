"""Starts one single-use worker, asks it once, and ends it with all that it has started."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import math
import os
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence

import numpy as np

from pelton.arena import Arena
from pelton.errors import InvalidRequest, LoadFailed
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.channel import OUTBOX, Channel, Message
from pelton.runtimes.process.child import handed_sockets
from pelton.runtimes.process.confinement import Bounds
from pelton.runtimes.process.environment import with_libraries_told
from pelton.runtimes.process.output import Output
from pelton.runtimes.process.records import metadata_of, spec_told, told
from pelton.runtimes.process.single_use_keeper import SIGNALLED
from pelton.runtimes.process.values import CannotCarry, Malformed
from pelton.specs import ModelMetadata, ModelSpec

ARENA_BYTES = 1024**3
"""Address space for an object, and likewise for its answer; sparse."""

PATIENCE_S = 10.0
"""How long the kernel may take to end all processes of a worker."""

HANDED_ON = (
    "PATH",
    "PYTHONPATH",
    "LD_LIBRARY_PATH",
    "LANG",
    "LC_ALL",
    "TZ",
    "CUDA_VISIBLE_DEVICES",
)
"""What a worker sees of the server's environment, in which there may be secrets."""


class WorkerDied(Exception):
    """The worker ended before it had answered."""


class SingleUseChild:
    """One worker. One thread uses it; `end_soon` may be called by any."""

    def __init__(
        self, spec: ModelSpec, options: RuntimeOptions, bounds: Bounds, hidden: Sequence[str]
    ) -> None:
        """Start it; `wait_loaded` comes next.

        Raises:
            OSError: the system cannot start another process.
        """
        self._spec = spec
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as handed:
            self._folder = tempfile.mkdtemp(prefix="pelton-")
            undo.callback(shutil.rmtree, self._folder, ignore_errors=True)
            ours, theirs = handed_sockets(undo, handed)
            self._lifeline, lifeline = handed_sockets(undo, handed)
            output, printed = os.pipe()
            undo.callback(os.close, output)
            handed.callback(os.close, printed)
            requests, self._replies = Arena.create(ARENA_BYTES), Arena.create(ARENA_BYTES)
            undo.callback(requests.close)
            undo.callback(self._replies.close)
            shared = [f"{arena.fd}:{arena.size_bytes}" for arena in (self._replies, requests)]
            orders = json.dumps([self._folder, list(hidden), dataclasses.asdict(_widened(bounds))])
            fds = [theirs.fileno(), lifeline.fileno()]
            self._process = subprocess.Popen(  # noqa: S603 -- this very interpreter, no shell
                [*_COMMAND, spec.name, *map(str, fds), *shared, orders],
                stdin=subprocess.DEVNULL,
                stdout=printed,
                stderr=printed,
                pass_fds=[*fds, self._replies.fd, requests.fd],
                start_new_session=True,
                cwd=self._folder,
                env=_environment(options, self._folder),
            )
            undo.pop_all()
        self._channel = Channel(ours, requests, 0, {OUTBOX: self._replies})
        self._output = Output(output, spec.name)
        self._orders = [spec_told(spec), told(options)]

    @property
    def alive(self) -> bool:
        """Whether the worker has not ended yet."""
        return self._process.poll() is None

    def wait_loaded(self, until_s: float) -> ModelMetadata:
        """Have the worker load the model.

        Args:
            until_s: how long that may take, on the monotonic clock.

        Raises:
            LoadFailed: it could not, in one sentence.
            WorkerDied: it ended, or said what makes no sense.
        """
        name = self._spec.name
        level = logging.getLogger().getEffectiveLevel()
        try:
            orders = self._channel.pack([*self._orders, list(sys.path), level])
            self._channel.send("load", orders)
            message = self._hear(until_s, ())
            if message.kind == "ready":
                return metadata_of(message.value)
            raise LoadFailed(f"{message.value!s:.1000}")
        except CannotCarry as error:
            raise LoadFailed(f"the options of model {name!r} hold {error}") from None
        except TimeoutError:
            raise LoadFailed(f"model {name!r} was not loaded in time") from None
        except (Malformed, OSError):
            raise WorkerDied from None

    def ask(self, parts: Sequence[memoryview], until_s: float, log_ids: tuple[str, ...]) -> Message:
        """Give the worker its object, and wait for what it answers.

        Args:
            parts: the pickle, then its out-of-band buffers.
            until_s: how long that may take, on the monotonic clock.
            log_ids: name of the request, for what is printed.

        Raises:
            InvalidRequest: the object is too large to be handed over.
            TimeoutError: there was no answer in time.
            WorkerDied: the worker has ended.
            Malformed: it answered nonsense.
        """
        try:
            packed = self._channel.pack([np.frombuffer(part, np.uint8) for part in parts])
            self._channel.send("run", packed)
        except CannotCarry as error:
            raise InvalidRequest(f"a worker cannot be given {error}") from None
        except OSError:
            raise WorkerDied from None
        return self._hear(until_s, log_ids)

    def _hear(self, until_s: float, log_ids: tuple[str, ...]) -> Message:
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ)
            selector.register(self._output.fd, selectors.EVENT_READ)
            while (left_s := until_s - time.monotonic()) > 0:
                for key, _ in selector.select(None if left_s == math.inf else left_s):
                    if key.fd == self._output.fd:
                        if not self._output.pump(log_ids):
                            selector.unregister(key.fd)  # nobody can print any more
                    elif message := self._receive(log_ids):
                        return message
        raise TimeoutError

    def _receive(self, log_ids: tuple[str, ...]) -> Message | None:
        try:
            return self._channel.receive()
        except BlockingIOError:
            return None
        except (EOFError, OSError):
            raise WorkerDied from None
        finally:
            # What was printed before the reply belongs to the same request in the log.
            self._output.pump(log_ids)

    def end_soon(self) -> None:
        """Have the worker killed; whoever waits for its answer is told that it has died."""
        with contextlib.suppress(OSError):
            self._lifeline.shutdown(socket.SHUT_RDWR)

    def finish(self) -> int:
        """End the worker, wait until nothing of it is left, and give everything back.

        Returns:
            Its exit code, or the negated number of the signal that ended it.
        """
        self.end_soon()
        try:
            code = self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            # The kernel then kills the worker too, which asked to end with its keeper.
            self._process.kill()
            code = self._process.wait()
        self._lifeline.close()
        self._channel.close()
        self._output.close()
        self._replies.close()
        shutil.rmtree(self._folder, ignore_errors=True)
        return SIGNALLED - code if code > SIGNALLED else code


_COMMAND = (sys.executable, "-P", "-m", "pelton.runtimes.process.single_use_keeper")


def _widened(bounds: Bounds) -> Bounds:
    """Return the bounds with room for the memory that is shared with the server."""
    if not bounds.memory_bytes:
        return bounds
    return dataclasses.replace(bounds, memory_bytes=bounds.memory_bytes + 2 * ARENA_BYTES)


def _environment(options: RuntimeOptions, folder: str) -> dict[str, str]:
    environment = {name: os.environ[name] for name in HANDED_ON if name in os.environ}
    environment |= {"HOME": folder, "TMPDIR": folder}
    return with_libraries_told(environment, options)
