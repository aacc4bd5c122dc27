"""Which names of this server a request may have in its Host header.

A page of an attacker may have its own name resolved to the address of this server. To the browser
it then asks its own site, and may read the answers, so the server itself has to notice that it is
called by a name that is not its own (DNS rebinding). An address cannot be rebound, only a name.

The answer is 403 and not 421: 421 invites the client to send the same again over a new connection
(RFC 9110, 15.5.20), which would be refused again.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from pelton.access.client_address import address_of
from pelton.errors import AccessDenied

_PORT = re.compile(r":[0-9]{0,5}\Z")

_REMEMBERED = 1024


class Hosts:
    """The names and addresses by which the server may be called, whatever the port."""

    def __init__(self, bound: str, names: Iterable[str] = ()) -> None:
        """Take in the names.

        Args:
            bound: address or name that is listened on. Where that is every address of the machine
                (`0.0.0.0`, `::`), any address will do, though no name.
            names: further names and addresses.
        """
        own = address_of(_plain(bound))
        self._every_address = own is not None and own.is_unspecified
        self._names = {"localhost", _plain(bound), *map(_plain, names)} - {""}
        self._good: set[str] = set()

    def check(self, host: str | None) -> None:
        """Let a request pass whose Host names this server.

        Args:
            host: the header's value; None where there is none, as only HTTP/1.0 allows. No browser
                speaks that.

        Raises:
            AccessDenied: it names another.
        """
        if host is None or host in self._good:
            return
        if not self._is_own(_plain(host)):
            raise AccessDenied(
                f"this server is not called {host!r:.100}; "
                "if it should be, say so with the setting `allowed_hosts`"
            )
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
        self._good.add(host)

    def _is_own(self, name: str) -> bool:
        if name in self._names:
            return True
        address = address_of(name)
        return address is not None and (address.is_loopback or self._every_address)


def is_loopback(host: str) -> bool:
    """Tell whether only this machine itself can reach what listens on `host`.

    Names other than `localhost` are not looked up: what they stand for may change.
    """
    name = _plain(host)
    address = address_of(name)
    return name == "localhost" or (address is not None and address.is_loopback)


def _plain(host: str) -> str:
    """Return a name or address in one spelling: without port, brackets, final dot and capitals."""
    text = host.strip().lower()
    address = address_of(text)
    if address is None:
        text = _PORT.sub("", text).removeprefix("[").removesuffix("]").removesuffix(".")
        address = address_of(text)
    return text if address is None else str(address)
