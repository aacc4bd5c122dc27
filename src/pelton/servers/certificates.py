"""The certificate by which the server is reached with TLS, and its replacement while it runs.

One context serves all connections. When the files change, the new certificate is put into it, so
that the next handshake uses it; connections that are open stay as they are. A certificate and its
key are two files, which nobody can replace in one step: so they are read only once they have stood
still for a look, and what cannot be read leaves the old certificate in use.

Modes follow Mozilla's "intermediate" configuration (https://wiki.mozilla.org/Security/Server_Side_TLS):
TLS 1.2 and later, which are also the defaults of Python's server contexts.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from pelton.errors import SettingsError

logger = logging.getLogger("pelton.tls")

LOOK_S = 0.5
"""Between two looks at the files."""

Stamp = tuple[tuple[int, int, int] | None, ...]
"""When each file was changed, in nanoseconds, its size and number; None where there is none."""


@dataclass(frozen=True, slots=True)
class TlsOptions:
    """The files that TLS needs; all PEM.

    Attributes:
        tls_certificate: the server's certificate, and behind it those that vouch for it; None for
            plain TCP.
        tls_key: its private key; None if that is in the same file.
        tls_client_ca: certificates of those who may vouch for clients, which then have to show
            a certificate; None for clients without.
    """

    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None


def open_certificates(options: TlsOptions) -> Certificates | None:
    """Read the files; None where no TLS is wanted.

    Raises:
        SettingsError: a file cannot be read, or one that is needed is not named.
    """
    if options.tls_certificate is not None:
        return Certificates(options.tls_certificate, options.tls_key, options.tls_client_ca)
    if options.tls_key is not None or options.tls_client_ca is not None:
        raise SettingsError("TLS needs a certificate: name its file with --tls-certificate")
    return None


class Certificates:
    """A TLS context that follows its files.

    Attributes:
        context: what connections are made with.
    """

    def __init__(
        self, certificate: str, key: str | None = None, client_ca: str | None = None
    ) -> None:
        """Read the files.

        Args:
            certificate: file with the certificate, and those that vouch for it.
            key: file with its private key; None if that is in the same file.
            client_ca: file with those who may vouch for clients; it is read only here.

        Raises:
            SettingsError: one of them cannot be read, or they do not belong together.
        """
        self._certificate = certificate
        self._key = key
        self._used = self._seen = self._stamp()
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        try:
            self._load(self.context)
        except OSError as error:
            both = f"{certificate} and {key}" if key is not None else certificate
            raise SettingsError(
                f"cannot use the certificate of {both}: {_reason(error)}; both have to be PEM, "
                "the key without a password, and they have to belong together"
            ) from None
        if client_ca is not None:
            self._ask_clients(client_ca)

    async def watch(self) -> None:
        """Follow the files for good."""
        while True:
            await asyncio.sleep(LOOK_S)
            self.look(await asyncio.to_thread(self._stamp))

    def look(self, stamp: Stamp | None = None) -> bool:
        """Use the files if they have changed, and stood still since the last look.

        Args:
            stamp: how they are; None to have them looked at here.

        Returns:
            Whether there is a new certificate in use.
        """
        now = self._stamp() if stamp is None else stamp
        settled, self._seen = now == self._seen, now
        if now == self._used or not settled:
            return False
        self._used = now
        try:
            # A context that could not take all of it would be left with half.
            self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
            self._load(self.context)
        except OSError as error:
            logger.error(
                "the new TLS certificate cannot be used, so the old one stays in use: %s",
                _reason(error),
            )
            return False
        logger.info("a new TLS certificate is in use")
        return True

    def _load(self, context: ssl.SSLContext) -> None:
        # Without a password OpenSSL would ask the terminal for one.
        context.load_cert_chain(self._certificate, self._key, password=lambda: "")

    def _ask_clients(self, client_ca: str) -> None:
        try:
            self.context.load_verify_locations(client_ca)
        except OSError as error:
            raise SettingsError(
                f"cannot use tls_client_ca {client_ca}: {_reason(error)}; it has to be PEM"
            ) from None
        self.context.verify_mode = ssl.CERT_REQUIRED

    def _stamp(self) -> Stamp:
        return tuple(
            _stamp_of(file) for file in (self._certificate, self._key or self._certificate)
        )


def _stamp_of(file: str) -> tuple[int, int, int] | None:
    try:
        found = Path(file).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: OSError) -> str:
    """Say what was wrong, in the words of the system or of OpenSSL."""
    said = getattr(error, "reason", None) or error.strerror or type(error).__name__
    return str(said).replace("_", " ").lower()
