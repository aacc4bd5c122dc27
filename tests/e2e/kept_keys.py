"""Keys in the state of a server that is about to be started, without a command for each."""

from __future__ import annotations

import time

from pelton.records import Scope
from pelton.servers.key_control import LOCAL, Keys, KeyWish
from pelton.state.state import State


def make_keys(database_url: str, *scopes: Scope, **terms: float) -> dict[Scope, str]:
    """Keep a key for each scope, and return their texts.

    Args:
        database_url: where the server keeps its state.
        scopes: what they may do.
        terms: further fields of `KeyWish`.
    """
    state = State.open(database_url)
    try:
        keys = Keys(state.keys, time.time)
        wishes = {scope: KeyWish(f"test {scope}", frozenset([scope]), **terms) for scope in scopes}
        return {scope: keys.create(wish, LOCAL).text for scope, wish in wishes.items()}
    finally:
        state.close()
