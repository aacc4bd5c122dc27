"""Puts the access gate together, by the settings and the keys that there are."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pelton.access.binding import check_binding
from pelton.access.client_address import ClientAddresses
from pelton.access.gate import Gate
from pelton.access.hosts import Hosts, is_loopback
from pelton.access.keyring import Keyring
from pelton.access.keys import Rate, checked_rate
from pelton.access.rate_limit import RateLimiter
from pelton.access.sessions import SESSION_S, Sessions
from pelton.errors import InvalidRequest, SettingsError
from pelton.records import Key
from pelton.trusted.keys_file import KeysFile
from pelton.trusted.verification import TrustedGate

if TYPE_CHECKING:
    from pelton.access.redis_limit import RedisLimiter

logger = logging.getLogger("pelton.access")


@dataclass(frozen=True, slots=True)
class AccessOptions:
    """Who is let in.

    Attributes:
        host: name or address that the server was told to listen on.
        require_keys: whether to refuse to start without a usable key.
        insecure: whether anybody who can reach the server may use it, without keys.
        allowed_hosts: further names by which the server may be called.
        trusted_proxies: addresses or networks whose `X-Forwarded-For` is believed.
        anonymous_requests_per_s: how often each address without a key may ask each route; None
            for as often as it likes.
        anonymous_burst: how many of those requests may come at once; None for those of a second.
        rate_limit_redis: URL of a Redis that counts requests over all nodes; None for none.
        session_s: how long a session of the dashboard lasts, seconds.
        allow_unsafe_pickle: whether signed objects of any class are taken.
        trusted_keys_file: file with the keys that they are signed with.
    """

    host: str = "127.0.0.1"
    require_keys: bool = False
    insecure: bool = False
    allowed_hosts: tuple[str, ...] = ()
    trusted_proxies: tuple[str, ...] = ()
    anonymous_requests_per_s: float | None = None
    anonymous_burst: int | None = None
    rate_limit_redis: str | None = None
    session_s: float = SESSION_S
    allow_unsafe_pickle: bool = False
    trusted_keys_file: str | None = None


class Access:
    """The gate, and what belongs to it.

    Attributes:
        gate: lets requests through.
        shared_limit: counts requests over all nodes; None where each counts by itself.
        trusted: decides on signed objects.
    """

    def __init__(
        self,
        gate: Gate,
        required: bool,
        shared_limit: RedisLimiter | None,
        trusted: TrustedGate | None = None,
    ) -> None:
        """Take in the parts.

        Args:
            gate: lets requests through.
            required: whether callers need a key even if there is none.
            shared_limit: counts requests over all nodes.
            trusted: decides on signed objects; None for none from anybody.
        """
        self.gate = gate
        self.shared_limit = shared_limit
        self.trusted = trusted or TrustedGate(None, 0.0)
        self._required = required

    def renew(self, keys: Iterable[Key]) -> None:
        """Go by other keys from the next request on; for the thread of the event loop.

        Args:
            keys: all that are kept, the revoked ones too.
        """
        self.gate.keyring = Keyring(keys, self._required)

    async def close(self) -> None:
        """Let go of what is shared with other nodes."""
        if self.shared_limit is not None:
            await self.shared_limit.close()


def make_access(
    options: AccessOptions, keys: Iterable[Key], bound_address: str, tls: bool
) -> Access:
    """Put the gate together, and refuse what would lie open by oversight.

    Args:
        options: who is let in.
        keys: all that are kept, the revoked ones too.
        bound_address: the address that is listened on, as `getsockname` tells it.
        tls: whether it is reached by TLS.

    Raises:
        SettingsError: without keys it would listen where others can reach it; a key is required
            and none is good; or an option makes no sense.
    """
    ring = Keyring(keys, options.require_keys)
    check_binding(bound_address, ring, time.time(), options.insecure)
    if not ring.in_use and not is_loopback(bound_address):
        logger.warning("no keys are used: anybody who can reach %s may use it", bound_address)
    gate = Gate(
        ring,
        Hosts(bound_address, (options.host, *options.allowed_hosts)),
        Sessions(tls, options.session_s),
        RateLimiter(time.monotonic),
        ClientAddresses(options.trusted_proxies),
        _anonymous_rate(options),
    )
    limit = _shared_limit(options.rate_limit_redis)
    return Access(gate, options.require_keys, limit, _trusted(options))


def _anonymous_rate(options: AccessOptions) -> Rate | None:
    per_s = options.anonymous_requests_per_s
    if per_s is None:
        if options.anonymous_burst is not None:
            raise SettingsError("anonymous_burst says nothing without anonymous_requests_per_s")
        return None
    try:
        return checked_rate(per_s, options.anonymous_burst)
    except InvalidRequest as error:
        raise SettingsError(f"anonymous_requests_per_s: {error.message}") from None


def _trusted(options: AccessOptions) -> TrustedGate:
    if not options.allow_unsafe_pickle:
        return TrustedGate(None, 0.0)
    if options.trusted_keys_file is None:
        raise SettingsError(
            "allow_unsafe_pickle is on, and nothing says whose objects are taken; name the file "
            "of signing keys by trusted_keys_file"
        )
    return TrustedGate(KeysFile(Path(options.trusted_keys_file)), time.time())


def _shared_limit(url: str | None) -> RedisLimiter | None:
    if url is None:
        return None
    from pelton.access.redis_limit import RedisLimiter

    return RedisLimiter(url, time.monotonic)
