"""A server starts neither open by oversight nor shut to everybody."""

from __future__ import annotations

import pytest

from pelton.access.binding import check_binding
from pelton.access.keyring import Keyring
from pelton.access.keys import make_key, revoked
from pelton.errors import SettingsError
from pelton.records import Scope

NOW_S = 1_000.0

KEY = make_key("robot", [Scope.INFER], NOW_S, expires_s=2_000.0).key

NO_KEYS = Keyring()
KEYS = Keyring([KEY])
REVOKED = Keyring([revoked(KEY, NOW_S)])
REQUIRED = Keyring(required=True)

HERE = ["127.0.0.1", "localhost", "::1"]
EVERYWHERE = ["0.0.0.0", "::", "10.0.0.5", "gpu-box", ""]


@pytest.mark.parametrize("host", HERE)
def test_without_keys_this_machine_may_be_served(host: str) -> None:
    check_binding(host, NO_KEYS, NOW_S, insecure=False)


@pytest.mark.parametrize("host", EVERYWHERE)
def test_without_keys_others_may_be_served_only_if_somebody_says_so(host: str) -> None:
    with pytest.raises(SettingsError, match=r"without keys, anybody who can reach .* --insecure"):
        check_binding(host, NO_KEYS, NOW_S, insecure=False)
    check_binding(host, NO_KEYS, NOW_S, insecure=True)


@pytest.mark.parametrize("host", HERE + EVERYWHERE)
def test_with_a_key_any_address_will_do(host: str) -> None:
    check_binding(host, KEYS, NOW_S, insecure=False)


@pytest.mark.parametrize("insecure", [False, True])
@pytest.mark.parametrize(("ring", "now_s"), [(REQUIRED, NOW_S), (REVOKED, NOW_S), (KEYS, 2_000.0)])
def test_where_keys_are_wanted_one_has_to_be_good(
    ring: Keyring, now_s: float, insecure: bool
) -> None:
    with pytest.raises(SettingsError, match="pelton keys create"):
        check_binding("127.0.0.1", ring, now_s, insecure)
