"""A gate that lets everybody in, for tests of what is behind it."""

from __future__ import annotations

import time

from pelton.access.client_address import ClientAddresses
from pelton.access.gate import Gate
from pelton.access.hosts import Hosts
from pelton.access.keyring import Keyring
from pelton.access.rate_limit import RateLimiter
from pelton.access.sessions import Sessions
from pelton.servers.access import Access


class _AnyHost(Hosts):
    def check(self, host: str | None) -> None:
        """Let every request pass."""


def unguarded() -> Access:
    """Return a gate that lets in everybody who may do without a key, by whatever name."""
    gate = Gate(
        Keyring(),
        _AnyHost(""),
        Sessions(tls=False),
        RateLimiter(time.monotonic),
        ClientAddresses(),
    )
    return Access(gate, required=False, shared_limit=None)
