"""When a worker process has grown so large that another has to take its place."""

from __future__ import annotations

import logging

LOOK_S = 1.0
"""From one look to the next."""

ROOM = 1.25
"""A worker may always grow to so many times what it took when it had loaded the model; else one
whose bound is too small would be replaced for ever."""

logger = logging.getLogger("pelton.worker")


class Growth:
    """Watches what the worker processes of one instance take, one after the other.

    >>> growth = Growth("m", most_bytes=100)
    >>> growth.begin(20)
    >>> growth.is_too_large(100), growth.is_too_large(101), growth.is_too_large(None)
    (False, True, False)
    >>> growth.begin(120)  # and a warning
    >>> growth.is_too_large(150), growth.is_too_large(151)
    (False, True)

    Attributes:
        bounded: whether there is any bound.
    """

    def __init__(self, model: str, most_bytes: int) -> None:
        """Begin without a worker.

        Args:
            model: its name, for the log.
            most_bytes: what a worker may take; 0 for as much as it likes.
        """
        self.bounded = most_bytes > 0
        self._model = model
        self._most_bytes = self._bound_bytes = most_bytes

    def begin(self, own_bytes: int | None) -> None:
        """Take in what a worker takes that has just loaded the model; None where nobody knows."""
        least_bytes = int(ROOM * (own_bytes or 0))
        self._bound_bytes = max(self._most_bytes, least_bytes)
        if self.bounded and least_bytes > self._most_bytes:
            logger.warning(
                "a worker process of model %s takes %s once it has loaded it, so it may take %s; "
                "raise worker_max_bytes, which is %s",
                self._model,
                _mib(own_bytes or 0),
                _mib(least_bytes),
                _mib(self._most_bytes),
            )

    def is_too_large(self, own_bytes: int | None) -> bool:
        """Tell whether another worker has to take the place of one that takes so much."""
        if own_bytes is None or own_bytes <= self._bound_bytes:
            return False
        logger.warning(
            "the worker process of model %s takes %s, and may take %s; another takes its place",
            self._model,
            _mib(own_bytes),
            _mib(self._bound_bytes),
        )
        return True


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:,.0f} MiB"
