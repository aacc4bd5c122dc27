"""Whether a server with these keys may listen where it was told to."""

from __future__ import annotations

from pelton.access.hosts import is_loopback
from pelton.access.keyring import Keyring
from pelton.errors import SettingsError


def check_binding(host: str, keyring: Keyring, now_s: float, insecure: bool) -> None:
    """Let a server start that does not lie open by oversight, nor shut to everybody.

    Args:
        host: what it is to listen on.
        keyring: the keys that there are.
        now_s: seconds since 1970.
        insecure: whether somebody said that anybody who can reach it may use it.

    Raises:
        SettingsError: without keys it would listen on an address that others can reach; or
            callers need a key, and no key is good.
    """
    if keyring.in_use:
        if not keyring.has_usable(now_s):
            raise SettingsError(
                "callers need a key, and there is none that is neither revoked nor over; "
                "make one with `pelton keys create`"
            )
        return
    if not insecure and not is_loopback(host):
        raise SettingsError(
            f"without keys, anybody who can reach {host} could use this server; "
            "make a key with `pelton keys create`, or listen on 127.0.0.1, "
            "or say --insecure if everybody there may"
        )
