"""The two ways to sign: a secret that both sides know, or a pair of keys."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable

MIN_SECRET_BYTES = 32
"""Shortest secret of an HMAC key: as long as its result (RFC 2104, section 3)."""

Check = Callable[[bytes, bytes], bool]
"""Tells whether a signature (second) is that of a message (first)."""


def hmac_signer(secret: bytes) -> Callable[[bytes], bytes]:
    """Return what signs with HMAC-SHA256 (RFC 2104).

    Args:
        secret: at least 32 random bytes.

    Raises:
        ValueError: it is shorter.
    """
    if len(secret) < MIN_SECRET_BYTES:
        raise ValueError(f"a secret of {len(secret)} bytes is too short; take {MIN_SECRET_BYTES}")
    return lambda message: hmac.digest(secret, message, hashlib.sha256)


def hmac_check(secret: bytes) -> Check:
    """Return what checks a signature by HMAC-SHA256, in constant time.

    Args:
        secret: at least 32 random bytes.

    Raises:
        ValueError: it is shorter.
    """
    signer = hmac_signer(secret)
    return lambda message, signature: hmac.compare_digest(signer(message), signature)
