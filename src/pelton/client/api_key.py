"""The API key that a client shows to its server."""

from __future__ import annotations

import os
from collections.abc import Mapping

from pelton.errors import SettingsError

VARIABLE = "PELTON_API_KEY"
"""Environment variable with the key of clients that are told none."""

_OF_KEYS = {"authorization", "x-api-key"}


def with_key(headers: Mapping[str, str] | None, api_key: str | None) -> Mapping[str, str]:
    """Add a key to the headers that go with every request.

    Args:
        headers: what the caller sends; None for nothing. A key in them is not overruled by the
            environment.
        api_key: the key; None for that of the environment, and empty for none.

    Raises:
        SettingsError: there is a key in the headers as well.
    """
    own = dict(headers or {})
    has_key = any(name.lower() in _OF_KEYS for name in own if isinstance(name, str))
    if api_key and has_key:
        raise SettingsError("give api_key or a header with the key, not both")
    key = key_of_environment() if api_key is None and not has_key else api_key
    return {**own, "Authorization": f"Bearer {key}"} if key else own


def key_of_environment() -> str:
    """Return the key in the environment; empty where there is none."""
    return os.environ.get(VARIABLE, "").strip()
