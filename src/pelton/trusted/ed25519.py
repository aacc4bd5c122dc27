"""Signatures by Ed25519 (RFC 8032), where the package `cryptography` is installed.

The server then holds public keys only: who reads its keys file cannot sign anything.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

from pelton.errors import SettingsError
from pelton.trusted.algorithms import Check

KEY_BYTES = 32


def signer(private_key: bytes) -> Callable[[bytes], bytes]:
    """Return what signs.

    Args:
        private_key: the raw private key, 32 bytes.

    Raises:
        SettingsError: the package is not installed.
        ValueError: the key is none.
    """
    key = _ed25519().Ed25519PrivateKey.from_private_bytes(private_key)
    sign: Callable[[bytes], bytes] = key.sign
    return sign


def check(public_key: bytes) -> Check:
    """Return what checks a signature.

    Args:
        public_key: the raw public key, 32 bytes.

    Raises:
        SettingsError: the package is not installed.
        ValueError: the key is none.
    """
    key = _ed25519().Ed25519PublicKey.from_public_bytes(public_key)
    invalid: type[Exception] = importlib.import_module("cryptography.exceptions").InvalidSignature

    def holds(message: bytes, signature: bytes) -> bool:
        try:
            key.verify(signature, message)
        except invalid:
            return False
        return True

    return holds


def _ed25519() -> Any:
    try:
        return importlib.import_module("cryptography.hazmat.primitives.asymmetric.ed25519")
    except ImportError as error:
        raise SettingsError(
            "keys of the kind ed25519 need the package cryptography; "
            "install it: pip install cryptography"
        ) from error
