"""Certificates for tests, made by openssl."""

from __future__ import annotations

import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest

needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="needs the command openssl to make a certificate"
)

WAIT_S = 20.0


class Files:
    """Certificates and keys, made by openssl in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self, name: str, signer: str | None = None) -> tuple[Path, Path]:
        """Make a certificate for 127.0.0.1 and its key; signed by itself, or by another."""
        certificate, key = self.folder / f"{name}.crt", self.folder / f"{name}.key"
        command = (
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 "
            f"-subj /CN={name} -addext subjectAltName=IP:127.0.0.1"
        ).split()
        if signer is not None:
            by = self.folder / f"{signer}.crt", self.folder / f"{signer}.key"
            command += ["-CA", str(by[0]), "-CAkey", str(by[1])]
        run = [*command, "-keyout", str(key), "-out", str(certificate)]
        subprocess.run(run, check=True, capture_output=True)
        return certificate, key

    def put(self, name: str, certificate: Path, key: Path) -> None:
        """Put another certificate in the place of the one in use."""
        for made, used in zip((certificate, key), self.used(name), strict=True):
            beside = used.with_suffix(".new")
            shutil.copy(made, beside)
            beside.replace(used)

    def used(self, name: str) -> tuple[Path, Path]:
        """Return where the certificate in use is, and its key."""
        return self.folder / f"{name}.pem", self.folder / f"{name}.secret"

    def trusting(self, *names: str) -> ssl.SSLContext:
        """Return a client's context that trusts these certificates."""
        context = ssl.create_default_context()
        for name in names:
            context.load_verify_locations(str(self.folder / f"{name}.crt"))
        return context


def shown(port: int) -> str:
    """Return the common name in the certificate that a server shows: `old`, `new` or `?`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    plain = socket.create_connection(("127.0.0.1", port), WAIT_S)
    with plain, context.wrap_socket(plain) as secure:
        raw = secure.getpeercert(binary_form=True)
    assert raw is not None
    return "old" if b"old" in raw else "new" if b"new" in raw else "?"
