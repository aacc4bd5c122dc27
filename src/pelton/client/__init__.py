"""The one verb from outside: `Client` for threads, `AsyncClient` for `asyncio`.

The way of a request: `calls` (what is asked) -> `retrying` (whether to try again) -> `blocking`
or `looping` (who waits) -> `connection` (one exchange) -> `http1` (bytes to reply) -> `replies`
(reply to answer or error).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pelton.client.described import ModelDescription, ServerDescription
from pelton.client.described_versions import IndexEntry, Published, VersionDescription
from pelton.client.options import Bounds, Retries, Timeouts
from pelton.client.pushing import PushProgress
from pelton.client.robot import send_inference_request
from pelton.client.sync_client import Client

if TYPE_CHECKING:
    from pelton.client.async_client import AsyncClient
    from pelton.client.signed_calls import SigningKey

__all__ = [
    "AsyncClient",
    "Bounds",
    "Client",
    "IndexEntry",
    "ModelDescription",
    "Published",
    "PushProgress",
    "Retries",
    "ServerDescription",
    "SigningKey",
    "Timeouts",
    "VersionDescription",
    "send_inference_request",
]


def __getattr__(name: str) -> Any:
    """Load what few want only for those: `asyncio` takes longer than all the rest here."""
    if name == "AsyncClient":
        from pelton.client.async_client import AsyncClient

        return AsyncClient
    if name == "SigningKey":
        from pelton.client.signed_calls import SigningKey

        return SigningKey
    raise AttributeError(f"module 'pelton.client' has no attribute {name!r}")
