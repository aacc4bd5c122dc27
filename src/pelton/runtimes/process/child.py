"""Starts and ends one worker process, and holds what the server shares with it."""

from __future__ import annotations

import contextlib
import mmap
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from pelton.arena import Arena
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.channel import MESSAGE_BYTES, OUTBOX, Channel
from pelton.runtimes.process.environment import with_libraries_told
from pelton.runtimes.process.output import Output

ARENA_BYTES = 4 * 1024**3
"""Address space for what one side sends that lies in no other shared memory; sparse."""

KEEP_BYTES = 256 * 1024 * 1024
"""How much of it stays in memory for reuse."""

END_S = 1.0
"""How long a worker that was asked to end may take."""

_OURS = "PELTON_"


class Child:
    """A worker process that was started, with its socket, its output and its end.

    Attributes:
        channel: the talk with it; its socket does not block.
        output: what it prints.
        end_fd: readable once it has ended; -1 where the system has no such thing.
    """

    def __init__(self, model: str, options: RuntimeOptions, bodies: Arena | None) -> None:
        """Start a worker.

        Args:
            model: the model's name.
            options: how it is run; the number of threads must be known before it is imported.
            bodies: memory of the server that the worker may read.

        Raises:
            OSError: the system cannot start another process.
        """
        with contextlib.ExitStack() as undo, contextlib.ExitStack() as handed:
            ours, theirs = handed_sockets(undo, handed)
            lifeline, self._lifeline = os.pipe()
            output, printed = os.pipe()
            for fd in (self._lifeline, output):
                undo.callback(os.close, fd)
            for fd in (lifeline, printed):
                handed.callback(os.close, fd)
            requests, self._replies = Arena.create(ARENA_BYTES), Arena.create(ARENA_BYTES)
            undo.callback(requests.close)
            undo.callback(self._replies.close)
            shared = [self._replies, requests, *([bodies] if bodies else [])]
            self._process = _spawn(model, options, [theirs.fileno(), lifeline], shared, printed)
            undo.pop_all()
        self.channel = Channel(ours, requests, KEEP_BYTES, {OUTBOX: self._replies})
        self.output = Output(output, model)
        self.end_fd = -1
        with contextlib.suppress(AttributeError, OSError):
            self.end_fd = os.pidfd_open(self._process.pid)

    def sources(
        self,
        on_message: Callable[[], None],
        on_output: Callable[[], None],
        on_end: Callable[[], None],
    ) -> list[tuple[int, Callable[[], None]]]:
        """Return what an event loop has to watch for reading, and what it then shall call."""
        told = [(self.channel.fileno(), on_message), (self.output.fd, on_output)]
        return told + ([(self.end_fd, on_end)] if self.end_fd >= 0 else [])

    def own_bytes(self) -> int | None:
        """Return the memory that it has for itself, shared memory left out.

        Of processes that it has started nothing is known. None where the system has no `/proc`,
        or the process has ended.

        Source: proc(5), `/proc/pid/statm`.
        """
        try:
            _, resident, shared, *_ = Path(f"/proc/{self._process.pid}/statm").read_text().split()
        except (OSError, ValueError):
            return None
        return (int(resident) - int(shared)) * mmap.PAGESIZE

    def kill(self) -> None:
        """End the process, and what it has started, at once."""
        # Only while it is no reaped one, whose number may belong to somebody else by now.
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)

    def finish(self, patience_s: float = 0.0) -> int:
        """End the process, if it has not ended, and give everything back. Called once.

        Args:
            patience_s: how long it may take to end by itself, now that the socket is closed.

        Returns:
            Its exit code, or the negated number of the signal that ended it.
        """
        self.channel.close()
        if (patience_s and not _ends_within(self._process, patience_s)) or not patience_s:
            self.kill()
        code = self._process.wait()
        self.output.close()
        self._replies.close()
        os.close(self._lifeline)
        if self.end_fd >= 0:
            os.close(self.end_fd)
        return code


def handed_sockets(
    undo: contextlib.ExitStack, handed: contextlib.ExitStack
) -> tuple[socket.socket, socket.socket]:
    """Make a pair of sockets for messages with a child.

    Args:
        undo: closes ours if starting the child fails.
        handed: closes the child's in this process, once it was handed on.

    Returns:
        Ours, which does not block, and the child's.
    """
    ours, theirs = socket.socketpair()
    undo.callback(ours.close)
    handed.callback(theirs.close)
    for sock in (ours, theirs):
        # One message must fit, else a send of it would be cut in two.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * MESSAGE_BYTES)
    ours.setblocking(False)
    return ours, theirs


def _spawn(
    model: str, options: RuntimeOptions, fds: list[int], shared: list[Arena], printed: int
) -> subprocess.Popen[bytes]:
    memory = [f"{arena.fd}:{arena.size_bytes}" for arena in shared]
    module = "pelton.runtimes.process.worker"
    return subprocess.Popen(  # noqa: S603 -- this very interpreter, and no shell
        [sys.executable, "-P", "-m", module, model, *map(str, fds), *memory],
        stdin=subprocess.DEVNULL,
        stdout=printed,
        stderr=printed,
        pass_fds=[*fds, *(arena.fd for arena in shared)],
        # In a session of its own: a terminal's signals are the server's, and all that the worker
        # starts can be ended with it.
        start_new_session=True,
        env=_environment(options),
    )


def _ends_within(process: subprocess.Popen[bytes], patience_s: float) -> bool:
    try:
        process.wait(patience_s)
    except subprocess.TimeoutExpired:
        return False
    return True


def _environment(options: RuntimeOptions) -> dict[str, str]:
    # The server's own settings, in which there may be passwords, are no model's business.
    theirs = {name: said for name, said in os.environ.items() if not name.startswith(_OURS)}
    return with_libraries_told(theirs, options)


def cause_of_death(code: int) -> str:
    """Say in plain words how a process ended.

    Args:
        code: as `Child.finish` returns it.
    """
    if code >= 0:
        return f"ended by itself with exit code {code}"
    if -code == signal.SIGKILL:
        return "was killed (SIGKILL), as the system does when memory runs out"
    crashes = {signal.SIGSEGV, signal.SIGBUS, signal.SIGILL, signal.SIGFPE, signal.SIGABRT}
    how = "crashed" if -code in crashes else "was ended"
    try:
        return f"{how} ({signal.Signals(-code).name})"
    except ValueError:
        return f"{how} (signal {-code})"
