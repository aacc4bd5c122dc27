"""How many requests were refused for who sent them; `GET /stats` tells it.

They are counted by the status of the answer, where answers leave. So it makes no difference who
refused: the gate by the head alone, a limit that several nodes share, or a route.
"""

from __future__ import annotations

from pelton.errors import Code
from pelton.wire.status import http_status

_CODES = (Code.UNAUTHENTICATED, Code.FORBIDDEN, Code.RATE_LIMITED)


class RefusedCounts:
    """Counts refusals since the start; for the thread of the event loop."""

    def __init__(self) -> None:
        self._counts = {http_status(code): 0 for code in _CODES}

    def note(self, status: int) -> None:
        """Count an answer, if it is a refusal.

        Args:
            status: the answer's HTTP status.
        """
        if status in self._counts:
            self._counts[status] += 1

    def told(self) -> dict[str, int]:
        """Return how many there were of each code, such as `rate_limited`."""
        return {str(code): self._counts[http_status(code)] for code in _CODES}
