"""From a server's address to an open connection."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pelton.client.address import Address, parse_url
from pelton.client.connection import Connection
from pelton.client.failure import Again, NoReply
from pelton.client.stream import PlainStream, Steps, Stream, Wait
from pelton.errors import ConnectionFailed, DeadlineExceeded, SettingsError

if TYPE_CHECKING:
    import ssl

Resolved = tuple[Any, Any, int, str, Any]
"""One answer of `getaddrinfo`: family, type, protocol, canonical name, address."""


@dataclass(frozen=True, slots=True)
class Peer:
    """Whom to connect to, and how.

    Attributes:
        address: the server.
        tls: whom to trust; None for plain TCP.
        connect_s: how long connecting may take, in seconds, TLS included.
    """

    address: Address
    tls: ssl.SSLContext | None
    connect_s: float


def peer_of(url: str, tls: ssl.SSLContext | None, connect_s: float) -> Peer:
    """Read a URL, and choose whom to trust where that is not said.

    Args:
        url: the server's base URL.
        tls: whom to trust; None for the system's certificate authorities.
        connect_s: how long connecting may take, in seconds.

    Raises:
        SettingsError: the URL is none, or needs no `tls`.
    """
    address = parse_url(url)
    if address.scheme == "https":
        if tls is None:
            from pelton.client.tls import default_context

            tls = default_context()
    elif tls is not None:
        raise SettingsError(
            f"tls was given, but {address} starts with {address.scheme}:, not https://"
        )
    return Peer(address, tls, connect_s)


def known_addresses(address: Address) -> list[Resolved] | None:
    """Return where to connect, if that needs no look-up of a name: to a Unix socket."""
    if not address.file:
        return None
    return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", address.file)]


def open_connection(
    peer: Peer, resolved: Sequence[Resolved], plain: type[PlainStream] = PlainStream
) -> Steps[Connection]:
    """Connect to the first address that answers.

    Args:
        peer: the server.
        resolved: its addresses; each gets an equal share of the time that is left, so that one
            that swallows packets does not hide the others.
        plain: carries the bytes where there is no TLS.

    Raises:
        NoReply: none answers, or TLS fails.
    """
    until_s = time.monotonic() + peer.connect_s
    failure = unreachable(peer.address, OSError(0, "the name has no address"))
    for index, one in enumerate(resolved):
        now_s = time.monotonic()
        share_s = (until_s - now_s) / (len(resolved) - index)
        try:
            sock = yield from _connect(peer.address, one, now_s + share_s)
        except NoReply as lost:
            failure = lost
        else:
            stream = plain(sock) if peer.tls is None else (yield from _secure(peer, sock, until_s))
            return Connection(stream, str(peer.address))
    raise failure


def unreachable(address: Address, cause: OSError) -> NoReply:
    """Tell that no connection could be made."""
    reason = (cause.strerror or type(cause).__name__).lower()
    nobody = isinstance(cause, ConnectionRefusedError | FileNotFoundError)
    hint = "; is the server running there?" if nobody else ""
    return NoReply(ConnectionFailed(f"cannot connect to {address}: {reason}{hint}"), Again.SAFE)


def _connect(address: Address, resolved: Resolved, until_s: float) -> Steps[socket.socket]:
    family, kind, protocol, _, where = resolved
    connected = False
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setblocking(False)
        if not address.file:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(where)
        if code == errno.EINPROGRESS:
            yield Wait(sock.fileno(), readable=False, writable=True, until_s=until_s)
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code != 0:
            raise OSError(code, os.strerror(code))
        connected = True
        return sock
    except TimeoutError:
        message = f"time ran out while connecting to {address}"
        raise NoReply(DeadlineExceeded(message), Again.SAFE) from None
    except OSError as cause:
        raise unreachable(address, cause) from cause
    finally:
        if not connected:
            sock.close()


def _secure(peer: Peer, sock: socket.socket, until_s: float) -> Steps[Stream]:
    from pelton.client.tls import handshake

    assert peer.tls is not None
    return (yield from handshake(sock, peer.tls, peer.address, until_s))
