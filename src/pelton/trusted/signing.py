"""The signature of a request that holds any Python object; what a client needs of it.

What is signed is eight fields, each behind its own length, so that no two requests give the same
bytes (`docs/trusted-objects.md` has the layout). The header that carries it:

    X-Pelton-Signature: v1; key=robot-7; time=1789000000; nonce=32 hex digits; sig=hex digits

Pickles are code, so the body itself is never looked at here: only its SHA-256 counts.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from pelton.trusted.algorithms import hmac_signer

HEADER = "X-Pelton-Signature"

CONTEXT = b"pelton trusted object v1"
"""First signed field: nothing that is signed for another purpose can be taken for a request."""

NONCE_BYTES = 16

KEY_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")

MAX_HEADER = 512
"""Characters; a longer header is no signature."""

_HEADER = re.compile(
    rf"v1; key=({KEY_ID.pattern}); time=(0|[1-9][0-9]{{0,11}}); "
    rf"nonce=([0-9a-f]{{{2 * NONCE_BYTES}}}); sig=([0-9a-f]{{64}}|[0-9a-f]{{128}})"
)
_LENGTH = struct.Struct(">I")

Sign = Callable[[bytes], bytes]
"""Turns the signed bytes into a signature; `hmac_signer` or `ed25519.signer` makes one."""


@dataclass(frozen=True, slots=True)
class SignedFields:
    """What a signature holds for.

    Attributes:
        key: id of the signing key.
        method: of HTTP, in capitals.
        path: the request's target as it stands in the request line, query included.
        model: name of the model that shall be given the object.
        time_s: whole seconds since 1970, UTC, when it was signed.
        nonce: 32 lower-case hex digits that this key has never signed with.
        body_digest: SHA-256 of the body as it is sent, 32 bytes.
    """

    key: str
    method: str
    path: str
    model: str
    time_s: int
    nonce: str
    body_digest: bytes

    def to_bytes(self) -> bytes:
        """Return the bytes that are signed; other fields never give the same ones."""
        fields = [CONTEXT]
        fields += [each.encode() for each in (self.key, self.method, self.path, self.model)]
        fields += [str(self.time_s).encode(), self.nonce.encode(), self.body_digest]
        return b"".join(_LENGTH.pack(len(field)) + field for field in fields)


@dataclass(frozen=True, slots=True)
class Signature:
    """What the header says; nothing of it is checked but its form.

    Attributes:
        key: id of the signing key.
        time_s: when it was signed, in whole seconds since 1970, UTC.
        nonce: 32 hex digits.
        value: the signature itself.
    """

    key: str
    time_s: int
    nonce: str
    value: bytes

    @classmethod
    def parse(cls, header: str) -> Signature | None:
        """Read the header's value.

        Returns:
            What it says; None if it is written in any other way than `sign` writes it.
        """
        found = _HEADER.fullmatch(header) if len(header) <= MAX_HEADER else None
        if found is None:
            return None
        key, time_s, nonce, value = found.groups()
        return cls(key, int(time_s), nonce, bytes.fromhex(value))


def sign(
    key: str,
    signer: Sign | bytes,
    method: str,
    path: str,
    model: str,
    body: Iterable[bytes | memoryview],
    now_s: float,
) -> dict[str, str]:
    """Sign one request; another try of the same request has to be signed again.

    Args:
        key: id of the signing key, as the server's keys file has it.
        signer: what signs; or the secret of an HMAC key.
        method: such as `POST`.
        path: the target as it will stand in the request line, query included.
        model: name of the model, also where the path does not hold it.
        body: the body's parts in order.
        now_s: seconds since 1970, UTC.

    Returns:
        The header to send along.

    Raises:
        ValueError: the key's id is none, or the secret is too short.
    """
    if not KEY_ID.fullmatch(key):
        raise ValueError(f"{key!r:.80} cannot be the id of a signing key")
    if isinstance(signer, bytes):
        signer = hmac_signer(signer)
    nonce = secrets.token_hex(NONCE_BYTES)
    fields = SignedFields(key, method, path, model, int(now_s), nonce, digest_of(body))
    value = signer(fields.to_bytes()).hex()
    return {HEADER: f"v1; key={key}; time={fields.time_s}; nonce={nonce}; sig={value}"}


def digest_of(body: Iterable[bytes | memoryview]) -> bytes:
    """Return the SHA-256 of a body, 32 bytes, from its parts in order."""
    digest = hashlib.sha256()
    for part in body:
        digest.update(part)
    return digest.digest()
