"""Which requests are copied to a shadow: a hash of the request's id, so that it can be told again.

The draw has a salt of its own for each route. So the requests that a route samples are spread
evenly over the arms of its split, and two routes sample different ones.
"""

from __future__ import annotations

from pelton.routing.assignment import RANGE, bound_of, draw, prefix_of


class Sample:
    """A share of the requests of one route."""

    __slots__ = ("_below", "_prefix")

    def __init__(self, route: str, share: float) -> None:
        """Make the sample.

        Args:
            route: the route's name.
            share: from 0 to 1.
        """
        self._prefix = prefix_of(route, "shadow")
        self._below = bound_of(share)

    def takes(self, request_id: str) -> bool:
        """Tell whether a request is in it; one without an id only where all are.

        >>> Sample("digits", 1.0).takes(""), Sample("digits", 0.999).takes("")
        (True, False)
        """
        if self._below == RANGE:
            return True
        return request_id != "" and draw(self._prefix, request_id) < self._below
