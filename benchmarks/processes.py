"""Servers and clients as processes of their own, alive for as long as a scenario runs."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_S = 60.0
STOP_S = 10.0
POLL_S = 0.002


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port: int = probe.getsockname()[1]
    return port


class Process:
    """A running program; ended when the block that it was started for ends."""

    def __init__(
        self,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        *,
        piped: bool = False,
    ) -> None:
        """Start `command`, with its output in `log`.

        Args:
            command: program and arguments.
            log: the file for standard error, and for standard output too unless `piped`.
            environment: variables on top of this process's own.
            piped: whether standard input and output are pipes to this process.
        """
        self._log = log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [str(part) for part in command],
                stdin=subprocess.PIPE if piped else subprocess.DEVNULL,
                stdout=subprocess.PIPE if piped else output,
                stderr=output,
                env=os.environ | dict(environment or {}),
                cwd=log.parent,
                text=True,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The program's process; what it starts itself has the same process group."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the program and whatever it has started; once is enough, and twice does no harm."""
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        # Workers that outlive their server would take their part of the next scenario's cores.
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def fail(self, what: str) -> RuntimeError:
        """Return an error that ends with the last lines of the log."""
        tail = "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])
        return RuntimeError(f"{what}; {self._log} ends with:\n{tail}")

    def check_alive(self) -> None:
        """Raise RuntimeError if the program has ended."""
        if self._process.poll() is not None:
            raise self.fail(f"a program ended with code {self._process.returncode}")


class Server(Process):
    """A program that listens on a port."""

    def wait_for_port(self, port: int) -> None:
        """Return as soon as somebody accepts connections there."""
        self._wait(lambda: _accepts(port))

    def wait_for_ready(self, port: int, path: str) -> None:
        """Return as soon as a GET of `path` is answered with 200."""
        self._wait(lambda: _answers_ok(port, path))

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + START_S
        while not done():
            self.check_alive()
            if time.monotonic() > deadline_s:
                raise self.fail(f"a server was not ready within {START_S:.0f} s")
            time.sleep(POLL_S)


def _accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _answers_ok(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=1)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


class Client(Process):
    """A program of `load/` that takes orders (see `load/drive.py`)."""

    def measure(self, shape: Sequence[int], warm_up: int, count: int) -> list[int]:
        """Send requests with a picture of `shape` and return nanoseconds for `count` of them."""
        order = {"shape": list(shape), "warm_up": warm_up, "count": count}
        times_ns: list[int] = self.ask(order)
        return times_ns

    def ask(self, order: Mapping[str, Any]) -> Any:
        """Give an order and return the answer to it."""
        self.tell(order)
        return self.answer()

    def tell(self, order: Mapping[str, Any]) -> None:
        """Give an order and do not wait."""
        assert self._process.stdin is not None, "clients are started with pipes"
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self.fail("a client ended") from None

    def answer(self) -> Any:
        """Return the answer to the oldest order that has not been answered."""
        assert self._process.stdout is not None, "clients are started with pipes"
        line = self._process.stdout.readline()
        if not line:
            raise self.fail("a client ended")
        return json.loads(line)
