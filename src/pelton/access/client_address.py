"""Which address a request came from, where a proxy passes it on.

Each proxy adds to the end of `X-Forwarded-For` the address that it was asked from. So the list is
read from the right, and only as far as known proxies wrote it: what stands further left, the
client may have made up.
"""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterable

from pelton.errors import SettingsError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address

LOCAL = "local"
"""Stands for whoever asks over the Unix socket."""

_IPV6_CUSTOMER_BITS = 64
"""A network that goes to one customer as a whole (RFC 6177), who may ask from any address in it."""

_MAX_HOPS = 32

_REMEMBERED = 4096


class ClientAddresses:
    """Tells the address under which those are counted who have no key."""

    def __init__(self, proxies: Iterable[str] = ()) -> None:
        """Take in the proxies.

        Args:
            proxies: addresses or networks, such as `10.0.0.0/8`, of which `X-Forwarded-For` is
                believed.

        Raises:
            SettingsError: one of them is neither.
        """
        self._proxies = [_network(text) for text in proxies]

    def counted_as(self, peer: str, forwarded: str | None) -> str:
        """Return the name under which a request is counted.

        Args:
            peer: address at the other end of the connection; empty for the Unix socket.
            forwarded: value of `X-Forwarded-For`, if there is any.
        """
        address = address_of(peer)
        if address is None:
            return LOCAL
        if self._proxies and forwarded:
            hops = forwarded.rsplit(",", _MAX_HOPS)
            while hops and self._is_proxy(address):
                said = address_of(hops.pop().strip())
                if said is None:
                    break
                address = said
        return _name(address)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)


def _name(address: Address) -> str:
    if address.version == 4:
        return str(address)
    return str(ipaddress.ip_network((address, _IPV6_CUSTOMER_BITS), strict=False))


@functools.lru_cache(maxsize=_REMEMBERED)
def address_of(text: str) -> Address | None:
    """Read an address; one of IPv4 that is written as IPv6 is of IPv4. None for what is none."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address
    return address


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise SettingsError(
            f"{text!r:.80} is neither an address nor a network such as 10.0.0.0/8"
        ) from None
