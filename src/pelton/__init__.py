"""Pelton, a model server: arrays in, answers out, at nearly the speed of the wire.

`pip install pelton` is the client; `pip install 'pelton[server]'` adds the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelton.errors import PeltonError

if TYPE_CHECKING:
    from pelton.client import AsyncClient, Client, Timeouts, send_inference_request

__version__ = "0.1.0"

__all__ = [
    "AsyncClient",
    "Client",
    "PeltonError",
    "Timeouts",
    "__version__",
    "send_inference_request",
]

_FROM_CLIENT = {"AsyncClient", "Client", "Timeouts", "send_inference_request"}


def __getattr__(name: str) -> Any:
    """Load the client only when it is asked for, so that the server starts without it."""
    if name in _FROM_CLIENT:
        import pelton.client as client

        return getattr(client, name)
    raise AttributeError(f"module 'pelton' has no attribute {name!r}")
