"""A worker process: loads one model, then answers one run after the other.

Started with the arguments NAME SOCKET LIFELINE REPLIES REQUESTS [BODIES]:
the model's name, for whoever lists processes, and inherited descriptors, those of shared memory
as `fd:bytes`; BODIES may be left out. It ends when the server does, or closes the socket.

    server -> worker    load  [spec, options, search path, log level]
                        run   [deadline or None, inputs]
    worker -> server    ready   metadata
                        failed  why the model cannot be loaded
                        done    [seconds of computing, outputs]
                        error   [code, message], for the caller
                        raised  [type, traceback], for the log
                        cannot  what the model returned that has no form
"""

from __future__ import annotations

import contextlib
import faulthandler
import fcntl
import logging
import os
import signal
import socket
import sys
import threading
import time
import traceback
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from pelton.arena import Arena
from pelton.errors import DeadlineExceeded, LoadFailed, PeltonError
from pelton.runtimes import registry
from pelton.runtimes.contract import LoadedModel
from pelton.runtimes.process.channel import BODIES, OUTBOX, Channel, Packed
from pelton.runtimes.process.records import options_of, spec_of, told
from pelton.runtimes.process.values import CannotCarry
from pelton.runtimes.warm_up import zeros_for
from pelton.time_slices import WORKER_NS, promptly

KEEP_BYTES = 256 * 1024 * 1024
"""How much of the memory of replies stays in memory for reuse."""

MAX_TRACEBACK = 16 * 1024
"""Characters; the end of a traceback tells more than its beginning."""

OOM_SCORE = 500
"""Out of 1000 for the machine's whole memory; comes on top of what the process takes itself."""

WARM_UP_RUNS = 3
WARM_UP_S = 1.0
"""No further warm-up run is begun after this time."""

logger = logging.getLogger("pelton.worker")


def main(arguments: list[str]) -> None:
    """Serve one model until the server closes the socket.

    Args:
        arguments: as the head of this file says.
    """
    _, sock, lifeline, replies, requests, *bodies = arguments
    faulthandler.enable()
    _end_before_the_server()
    _end_with_the_server(int(lifeline))
    _leave_signals_to_the_server()
    readable = {OUTBOX: _attached(requests, writable=False)}
    if bodies:
        readable[BODIES] = _attached(bodies[0], writable=False)
    os.set_inheritable(int(sock), False)
    channel = Channel(
        socket.socket(fileno=int(sock)), _attached(replies, writable=True), KEEP_BYTES, readable
    )
    with contextlib.suppress(EOFError, ConnectionError):
        _serve(channel)


def _attached(told: str, writable: bool) -> Arena:
    fd, _, size = told.partition(":")
    # What the model starts shall not inherit it.
    os.set_inheritable(int(fd), False)
    return Arena.attach(int(fd), int(size), writable)


def _serve(channel: Channel) -> None:
    spec, options, sys.path[:], level = _next(channel)
    logging.basicConfig(level=level, format="%(levelname)s %(name)s: %(message)s")
    try:
        loaded = registry.load(spec_of(spec), options_of(options))
    except LoadFailed as error:
        channel.send("failed", channel.pack(error.message))
        return
    # What it imports from its folder only now must not be left there, where all is only ever read.
    sys.dont_write_bytecode = True
    _warm_up(loaded)
    with promptly(WORKER_NS):
        channel.send("ready", channel.pack(told(loaded.metadata)))
        _run_for_ever(loaded, channel)


def _run_for_ever(loaded: LoadedModel, channel: Channel) -> NoReturn:
    """Answer one message after another; the server's end of the socket ends it (`EOFError`)."""
    while True:
        kind, packed = _answer(loaded, channel, *_next(channel))
        _flush()
        try:
            channel.send(kind, packed)
        except CannotCarry as error:
            channel.send("cannot", channel.pack(str(error)))


def _next(channel: Channel) -> Any:
    """Return what the next message says; an end of the socket is an `EOFError`."""
    while (message := channel.receive()) is None:
        pass
    return message.value


def _answer(
    loaded: LoadedModel, channel: Channel, deadline_s: float | None, inputs: Any
) -> tuple[str, Packed]:
    """Run the model once; when this returns, only the model itself may still hold an input."""
    try:
        started_s = time.monotonic()
        if deadline_s is not None and started_s >= deadline_s:
            raise DeadlineExceeded("the time allowed for the request was over before it was run")
        outputs = loaded.run(inputs)
        return "done", channel.pack([time.monotonic() - started_s, outputs])
    except CannotCarry as error:
        return "cannot", channel.pack(str(error))
    except PeltonError as error:
        return "error", channel.pack([str(error.code), error.message])
    # Border: the model is foreign code; whatever it raises, SystemExit and all, is its failure.
    except BaseException as error:  # noqa: BLE001
        return "raised", channel.pack([type(error).__name__, _traceback(error)])


def _traceback(error: BaseException) -> str:
    if error.__traceback__ is not None:
        error.__traceback__ = error.__traceback__.tb_next  # the first step is this file's
    return "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]


def _flush() -> None:
    """Write what was printed, so that it is in the log before the reply, under the right id."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


def _warm_up(loaded: LoadedModel) -> None:
    """Run the model on zeros a few times, so that the first request meets a warm model.

    A refusal is no harm: requests may have a shape that zeros of the smallest one have not.
    """
    zeros = zeros_for(loaded.metadata)
    until_s = time.monotonic() + WARM_UP_S
    for _ in range(WARM_UP_RUNS if zeros else 0):
        try:
            loaded.run(zeros)
        # Border: the model is foreign code.
        except BaseException as error:  # noqa: BLE001
            logger.debug("warm-up of %s was refused: %s", loaded.metadata.name, error)
            return
        if time.monotonic() > until_s:
            return


def _leave_signals_to_the_server() -> None:
    """Ignore Ctrl-C and SIGTERM, which service managers send to every process of a group.

    By a handler: what the model starts would inherit a signal that is ignored.
    """
    for sig in (signal.SIGINT, signal.SIGTERM):
        signal.signal(sig, _ignore)
    os.register_at_fork(after_in_child=_heed_signals)


def _ignore(sig: int, frame: FrameType | None) -> None:
    pass


def _heed_signals() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _end_before_the_server() -> None:
    """Have Linux end this process, and not the server, where memory runs out (proc(5))."""
    said = Path("/proc/self/oom_score_adj")
    with contextlib.suppress(OSError):
        said.write_text(str(max(OOM_SCORE, int(said.read_text()))))


def _end_with_the_server(lifeline: int) -> None:
    """End this process as soon as the server has, even if the model hangs in foreign code.

    The server holds the other end of a pipe and never writes to it. On Linux the kernel itself
    sends SIGKILL when that end closes (fcntl(2), F_SETSIG). The usual PR_SET_PDEATHSIG would tie
    this process to the one thread that started it, which may well end before the server.
    """
    os.set_inheritable(lifeline, False)
    if hasattr(fcntl, "F_SETSIG"):
        fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
        fcntl.fcntl(lifeline, fcntl.F_SETSIG, signal.SIGKILL)
        flags = fcntl.fcntl(lifeline, fcntl.F_GETFL)
        fcntl.fcntl(lifeline, fcntl.F_SETFL, flags | os.O_ASYNC)
    else:
        threading.Thread(target=_watch, args=(lifeline,), daemon=True).start()


def _watch(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(1)


if __name__ == "__main__":
    main(sys.argv[1:])
