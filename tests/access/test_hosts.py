"""By which names the server may be called, so that no page can give it another one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.access.hosts import Hosts, is_loopback
from pelton.errors import AccessDenied, Code

LOOPBACK = [
    "localhost",
    "LocalHost:50000",
    "localhost.",
    "127.0.0.1",
    "127.0.0.1:50000",
    "127.3.2.1:1",
    "[::1]",
    "[::1]:50000",
]

STRANGE = [
    "evil.example",
    "evil.example:50000",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "evil.example.localhost.evil",
    "0x7f.1",
    "2130706433",
    "127.1",
    "",
    ":",
    ":50000",
    "[",
    "localhost:x",
    "localhost:50000:1",
    "localhost@evil.example",
    "evil.example/localhost",
    "10.0.0.5",
    "[fe80::1]",
]


@pytest.mark.parametrize("host", [*LOOPBACK, None])
def test_this_machine_may_always_be_called_so(host: str | None) -> None:
    Hosts("10.1.1.1").check(host)


@pytest.mark.parametrize("host", STRANGE)
def test_no_other_name_passes(host: str) -> None:
    hosts = Hosts("127.0.0.1", ["pelton.example"])
    for _ in range(2):
        with pytest.raises(AccessDenied, match="is not called") as refused:
            hosts.check(host)
    assert refused.value.code is Code.FORBIDDEN
    assert "allowed_hosts" in refused.value.message


@pytest.mark.parametrize(
    ("bound", "host"),
    [
        ("10.0.0.5", "10.0.0.5:50000"),
        ("gpu-box", "GPU-Box.:50000"),
        ("2001:db8::7", "[2001:DB8:0::7]:80"),
        ("0.0.0.0", "10.0.0.5:50000"),
        ("::", "192.0.2.1"),
        ("::", "[2001:db8::7]:80"),
    ],
)
def test_what_was_bound_passes_and_any_address_where_all_are(bound: str, host: str) -> None:
    Hosts(bound).check(host)


@pytest.mark.parametrize("bound", ["0.0.0.0", "::", "10.0.0.5"])
def test_a_strange_name_does_not_pass_wherever_the_server_listens(bound: str) -> None:
    with pytest.raises(AccessDenied):
        Hosts(bound).check("evil.example")


def test_configured_names_pass_whatever_port_and_capitals() -> None:
    hosts = Hosts("127.0.0.1", ["Pelton.Example", "192.0.2.7"])
    for host in ("pelton.example", "PELTON.EXAMPLE:443", "192.0.2.7:1"):
        hosts.check(host)
    with pytest.raises(AccessDenied):
        hosts.check("x.pelton.example")


def test_many_spellings_do_not_fill_the_memory() -> None:
    hosts = Hosts("127.0.0.1")
    for port in range(3000):
        hosts.check(f"localhost:{port}")
    assert len(hosts._good) <= 1024
    hosts.check("localhost:1")


def test_a_long_name_is_not_repeated_in_full() -> None:
    with pytest.raises(AccessDenied) as refused:
        Hosts("127.0.0.1").check("a" * 5000)
    assert len(refused.value.message) < 300


@given(st.text())
def test_any_text_passes_or_is_refused_and_nothing_else(host: str) -> None:
    try:
        Hosts("0.0.0.0").check(host)
    except AccessDenied:
        return
    plain = host.strip().lower()
    assert "localhost" in plain or any(
        character.isdigit() or character == ":" for character in plain
    )


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("localhost", True),
        ("Localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("", False),
        ("0", False),
        ("10.0.0.5", False),
        ("localhost.evil.example", False),
        ("gpu-box", False),
    ],
)
def test_which_addresses_only_this_machine_reaches(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected
