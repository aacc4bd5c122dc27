"""A real Redis for tests, on a free port of the loopback address, ended with the test.

A test file takes the fixtures by importing them from here: `redis_server` is one, and `start_redis`
starts as many as are needed.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

START_TRIES = 20
START_TIMEOUT_S = 10.0


class RedisProcess:
    """One `redis-server` that keeps nothing on disk.

    Attributes:
        port: where it listens, on 127.0.0.1.
        url: how clients reach it, with the password where there is one.
    """

    def __init__(self, folder: Path, password: str = "") -> None:
        self._folder = folder
        self._password = password
        self._process: subprocess.Popen[bytes] | None = None
        for _ in range(START_TRIES):
            # Below the ports that the system hands out by itself, so that nobody gets it by chance.
            self.port = random.randrange(20000, 32000)
            if self._start():
                break
        else:
            raise RuntimeError("redis-server found no free port")
        secret = f":{password}@" if password else ""
        self.url = f"redis://{secret}127.0.0.1:{self.port}/0"

    def command(self, *words: str | bytes) -> bytes:
        """Send one command past any client library, and return the first bytes of the reply."""
        with socket.create_connection(("127.0.0.1", self.port), START_TIMEOUT_S) as connection:
            if self._password:
                connection.sendall(_line("AUTH", self._password))
                assert connection.recv(64) == b"+OK\r\n"
            connection.sendall(_line(*words))
            return connection.recv(65536)

    def freeze(self) -> None:
        """Have it answer nothing, as a machine that swaps; connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Have it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """End it, with all that it keeps; also when it is frozen, or has ended already."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def start_again(self) -> None:
        """Start it on the same port, empty."""
        assert self._process is None, "stop it first"
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while not self._start():
            assert time.monotonic() < deadline_s, "its port was not free again"

    def _start(self) -> bool:
        command = ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self._folder)]
        if self._password:
            command += ["--requirepass", self._password]
        self._process = subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        if self._answers():
            return True
        self.stop()
        return False

    def _answers(self) -> bool:
        """Wait until it answers, or has ended, as it does where the port is another one's."""
        assert self._process is not None
        deadline_s = time.monotonic() + START_TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline_s:
            with contextlib.suppress(OSError, AssertionError):
                if f"process_id:{self._process.pid}".encode() in self.command("INFO", "server"):
                    return True
            time.sleep(0.01)
        return False


def _line(*words: str | bytes) -> bytes:
    raw = [word.encode() if isinstance(word, str) else word for word in words]
    return b"*%d\r\n" % len(raw) + b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in raw)


Start = Callable[..., RedisProcess]


@pytest.fixture
def start_redis(tmp_path: Path) -> Iterator[Start]:
    """Start Redis servers, `start_redis(password="...")`; all are ended with the test."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    with contextlib.ExitStack() as endings:

        def start(password: str = "") -> RedisProcess:
            server = RedisProcess(tmp_path, password)
            endings.callback(server.stop)
            return server

        yield start


@pytest.fixture
def redis_server(start_redis: Start) -> RedisProcess:
    """A Redis without a password."""
    return start_redis()
