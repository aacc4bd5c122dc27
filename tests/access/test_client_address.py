"""Which address is counted: never one that the client made up."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.access.client_address import LOCAL, ClientAddresses
from pelton.errors import SettingsError

PROXIES = ["10.0.0.0/8", "192.0.2.1", "2001:db8:1::/48"]


@pytest.mark.parametrize(
    ("peer", "forwarded", "counted_as"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "1.1.1.1", "203.0.113.9"),  # no proxy: made up
        ("10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", "1.1.1.1,203.0.113.9 , 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", "10.9.9.9, 203.0.113.9, 192.0.2.1", "203.0.113.9"),
        ("10.0.0.1", "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", "203.0.113.9, nonsense", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, ", "10.0.0.1"),
        ("10.0.0.1", "203.0.113.9, unknown, 10.0.0.2", "10.0.0.2"),
        ("::ffff:10.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("2001:db8:1::5", "2001:db8:7:8:9::a", "2001:db8:7:8::/64"),
        ("2001:db8:7:8::1", None, "2001:db8:7:8::/64"),
        ("2001:db8:7:8:ffff::2", None, "2001:db8:7:8::/64"),
        ("fe80::1%eth0", None, "fe80::/64"),
        ("", None, LOCAL),
        ("", "203.0.113.9", LOCAL),
    ],
)
def test_the_list_is_read_from_the_right_and_as_far_as_proxies_wrote_it(
    peer: str, forwarded: str | None, counted_as: str
) -> None:
    assert ClientAddresses(PROXIES).counted_as(peer, forwarded) == counted_as


@given(st.lists(st.ip_addresses().map(str) | st.text(max_size=9), max_size=50))
def test_what_a_client_sends_itself_changes_nothing(made_up: list[str]) -> None:
    addresses = ClientAddresses(PROXIES)
    for peer, through in (("203.0.113.9", ""), ("10.0.0.1", "203.0.113.9")):
        forwarded = ", ".join([*made_up, through])
        assert addresses.counted_as(peer, forwarded) == "203.0.113.9"


def test_a_long_list_ends_the_search() -> None:
    forwarded = ", ".join(["10.0.0.2"] * 5000)
    assert ClientAddresses(PROXIES).counted_as("10.0.0.1", forwarded) == "10.0.0.2"


@pytest.mark.parametrize("text", ["proxy.example", "10.0.0.0/33", "", "10.0.0"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="neither an address nor a network"):
        ClientAddresses([text])
