"""A connection to PostgreSQL that does not wait for ever.

A server that was shut down, or a machine that is gone, breaks its connections, and the driver tells
of it. One that is frozen, or swaps, does not: its kernel goes on taking what is sent. So whoever
waits here gives up after a while, and breaks the connection himself.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from typing import Any

import psycopg


class BoundedConnection(psycopg.Connection[Any]):
    """Gives up on a server that says nothing.

    Attributes:
        patience_s: how long it may say nothing after a statement, seconds.
    """

    patience_s = 60.0

    def wait(self, gen: Generator[Any, Any, Any], *arguments: Any, **options: Any) -> Any:
        """Carry on with what the driver has begun; it calls this for whatever it waits for.

        Raises:
            OperationalError: the server has said nothing for too long; the connection is closed.
        """
        return super().wait(self._bounded(gen), *arguments, **options)

    def _bounded(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        end_s = time.monotonic() + self.patience_s
        try:
            wanted = next(gen)
            while True:
                # The driver looks up now and then, with nothing that is ready.
                ready = yield wanted
                if ready:
                    end_s = time.monotonic() + self.patience_s
                elif time.monotonic() >= end_s:
                    self.close()
                    raise psycopg.OperationalError(f"no word for {self.patience_s:g} s")
                wanted = gen.send(ready)
        except StopIteration as done:
            return done.value
