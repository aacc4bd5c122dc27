"""What a worker prints, line by line into the server's log, at a bounded rate."""

from __future__ import annotations

import logging
import os
import time

from pelton.clock import Clock

logger = logging.getLogger("pelton.worker")

MAX_LINE = 2000
"""Bytes of a line that are logged."""

LINES_PER_S = 200
"""Most lines of one worker that are logged within one second."""

READ_BYTES = 64 * 1024
LAST_READS = 16
"""Most reads at the end; a pipe holds less, unless what the worker started goes on printing."""


class Output:
    """The standard output and error of one worker, native writes included."""

    def __init__(self, fd: int, model: str, clock: Clock = time.monotonic) -> None:
        """Take over the reading end of a pipe.

        Args:
            fd: the descriptor; it is made non-blocking.
            model: the model's name, for the log.
            clock: seconds that never go back.
        """
        os.set_blocking(fd, False)
        self.fd = fd
        self._model = model
        self._clock = clock
        self._rest = b""
        self._since_s = clock()
        self._lines = 0

    def pump(self, log_ids: tuple[str, ...] = ()) -> bool:
        """Log what has been printed since the last call, as far as one read takes it.

        Args:
            log_ids: the names of the requests of the run under way.

        Returns:
            Whether there was anything.
        """
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return False
        if self._lines > LINES_PER_S and self._clock() - self._since_s < 1:
            # Too much is printed, so it must not cost the server time either.
            self._lines += data.count(b"\n")
            self._rest = b""
            return bool(data)
        *lines, rest = (self._rest + data).split(b"\n")
        self._rest = rest[: MAX_LINE + 1]
        for line in lines:
            self._log(line, log_ids)
        return bool(data)

    def close(self) -> None:
        """Log what is left, and close the pipe."""
        for _ in range(LAST_READS):
            if not self.pump():
                break
        if self._rest:
            self._log(self._rest, ())
        self._tell_of_dropped()
        os.close(self.fd)

    def _log(self, line: bytes, log_ids: tuple[str, ...]) -> None:
        now_s = self._clock()
        if now_s - self._since_s >= 1:
            self._tell_of_dropped()
            self._since_s, self._lines = now_s, 0
        self._lines += 1
        if self._lines > LINES_PER_S:
            return
        text = line[:MAX_LINE].decode(errors="replace")
        cut = " ..." if len(line) > MAX_LINE else ""
        ids = f" (request {', '.join(log_ids[:4])})" if log_ids else ""
        logger.info("model %s%s: %s%s", self._model, ids, text, cut)

    def _tell_of_dropped(self) -> None:
        dropped = self._lines - LINES_PER_S
        if dropped > 0:
            logger.warning("model %s: %d more lines of output were dropped", self._model, dropped)
