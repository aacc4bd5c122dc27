"""TLS over a non-blocking socket; loaded only for `https://`."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence

from pelton.client.address import Address
from pelton.client.failure import Again, NoReply
from pelton.client.stream import TURN_BYTES, Steps, Wait
from pelton.errors import ConnectionFailed, DeadlineExceeded

_JOIN_BYTES = 16 * 1024
"""Pieces up to the size of one TLS record are joined: each piece costs at least a record."""


class TlsStream:
    """A TLS connection over a non-blocking socket, as a `stream.Stream`."""

    turn_bytes = TURN_BYTES

    def __init__(self, sock: ssl.SSLSocket) -> None:
        self._sock = sock
        self._to_read = Wait(sock.fileno(), readable=True, writable=False)
        self._to_write = Wait(sock.fileno(), readable=False, writable=True)

    def fileno(self) -> int:
        """See `Stream`."""
        return self._sock.fileno()

    def send(self, pieces: Sequence[bytes | memoryview]) -> int | Wait:
        """See `Stream`; encrypts straight from a big piece."""
        data = pieces[0]
        if len(data) < _JOIN_BYTES and len(pieces) > 1:
            data = b"".join(_small(pieces))
        try:
            return self._sock.send(data)
        except ssl.SSLWantReadError:
            return self._to_read
        except ssl.SSLWantWriteError:
            return self._to_write

    def receive(self, buffer: memoryview) -> int | Wait:
        """See `Stream`."""
        try:
            return self._sock.recv_into(buffer)
        except ssl.SSLWantReadError:
            return self._to_read
        except ssl.SSLWantWriteError:
            return self._to_write

    def close(self) -> None:
        """See `Stream`."""
        self._sock.close()


def _small(pieces: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
    """Return the leading pieces that fit one record together; at least the first."""
    total, count = len(pieces[0]), 1
    while count < len(pieces) and total + len(pieces[count]) <= _JOIN_BYTES:
        total += len(pieces[count])
        count += 1
    return list(pieces[:count])


def default_context() -> ssl.SSLContext:
    """Return a context that trusts the system's certificate authorities."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(["http/1.1"])
    return context


def handshake(
    sock: socket.socket, context: ssl.SSLContext, server: Address, until_s: float
) -> Steps[TlsStream]:
    """Agree on TLS with the server, checking its certificate as `context` says.

    Args:
        sock: connected and non-blocking; owned by the result, closed on failure.
        context: what to trust.
        server: its host is what the certificate must be made out to.
        until_s: when to give up, on `time.monotonic`.

    Raises:
        NoReply: there is no agreement, or time ran out.
    """
    secure = None
    agreed = False
    try:
        # A truncated answer must not look like a whole one, so an end without a TLS goodbye
        # is an error.
        secure = context.wrap_socket(
            sock,
            server_hostname=server.host,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
        while not agreed:
            try:
                secure.do_handshake()
                agreed = True
            except ssl.SSLWantReadError:
                yield Wait(secure.fileno(), True, False, until_s)
            except ssl.SSLWantWriteError:
                yield Wait(secure.fileno(), False, True, until_s)
        return TlsStream(secure)
    except TimeoutError:
        raise NoReply(
            DeadlineExceeded(f"time ran out while agreeing on TLS with {server}"), Again.SAFE
        ) from None
    except ssl.SSLCertVerificationError as cause:
        problem = f"the certificate of {server} is not trusted: {cause.verify_message}"
        raise NoReply(ConnectionFailed(problem), Again.POINTLESS) from cause
    except OSError as cause:
        reason = getattr(cause, "reason", None) or cause.strerror or type(cause).__name__
        problem = f"no TLS connection to {server}: {reason!s:.200}"
        raise NoReply(ConnectionFailed(problem), Again.POINTLESS) from cause
    finally:
        if not agreed:
            (secure or sock).close()
