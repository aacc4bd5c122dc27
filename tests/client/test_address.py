"""URLs as people write them, and what is wrong with the others."""

from __future__ import annotations

import pytest

from pelton.client.address import Address, model_path, parse_url
from pelton.errors import SettingsError


@pytest.mark.parametrize(
    ("url", "address", "authority"),
    [
        ("http://127.0.0.1:50000", Address("http", "127.0.0.1", 50000), "127.0.0.1:50000"),
        ("http://robot.local/", Address("http", "robot.local", 80), "robot.local"),
        ("HTTPS://Robot.Local", Address("https", "robot.local", 443), "robot.local"),
        ("https://a:80/x/y//", Address("https", "a", 80, "/x/y"), "a:80"),
        ("http://[::1]:8000/p", Address("http", "::1", 8000, "/p"), "[::1]:8000"),
        ("http://[fe80::1%eth0]:8000", Address("http", "fe80::1%eth0", 8000), "[fe80::1]:8000"),
        ("unix:/run/p.sock", Address("unix", "localhost", 0, "", "/run/p.sock"), "localhost"),
        ("unix:///run/p.sock", Address("unix", "localhost", 0, "", "/run/p.sock"), "localhost"),
        ("unix:p.sock", Address("unix", "localhost", 0, "", "p.sock"), "localhost"),
        ("unix:/my #1 ä?.s", Address("unix", "localhost", 0, "", "/my #1 ä?.s"), "localhost"),
    ],
)
def test_a_url_is_taken_apart(url, address, authority):
    assert parse_url(url) == address
    assert address.authority == authority


def test_an_address_is_shown_as_its_url():
    assert str(parse_url("http://[::1]:8000/p/")) == "http://[::1]:8000/p"
    assert str(parse_url("unix:///run/p.sock")) == "unix:/run/p.sock"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("127.0.0.1:50000", "does not start with http://, https:// or unix:"),
        ("ftp://a", "does not start with http://, https:// or unix:"),
        ("localhost", "does not start with http://, https:// or unix:"),
        ("http:a", "does not start with http://, https:// or unix:"),
        ("http://", "names no host"),
        ("http://:80", "names no host"),
        ("http://a:0", "port 0"),
        ("http://a:70000", "is not a URL"),
        ("http://a:x", "is not a URL"),
        ("http://[::1", "is not a URL"),
        ("http://me:secret@a", "pass headers"),
        ("http://a/?x=1", "without '?' or '#'"),
        ("http://a/#x", "without '?' or '#'"),
        ("http://a/\r\nX: 1", "characters that no URL may hold"),
        ("http://a b", "characters that no URL may hold"),
        ("http://\u00e4", "characters that no URL may hold"),
        ("", "characters that no URL may hold"),
        ("unix:", "names no file"),
        ("unix://", "names no file"),
        ("unix://run/p.sock", "names the host 'run'"),
        ("unix:/run/p\0.sock", "characters that no URL may hold"),
        ("unix:/run/p\nX: 1", "characters that no URL may hold"),
        ("unix:/run/\ud800", "characters that no URL may hold"),
        ("unix:/" + "ä" * 60, "too long"),
        (None, "characters that no URL may hold"),
    ],
)
def test_what_is_wrong_with_a_url_is_said(url, said):
    with pytest.raises(SettingsError) as caught:
        parse_url(url)
    assert said in caught.value.message
    assert "secret" not in caught.value.message
    assert "\n" not in caught.value.message


def test_names_are_quoted():
    assert model_path("a/b ?#", 7, "/infer") == "/v2/models/a%2Fb%20%3F%23/versions/7/infer"
    assert model_path("digits", None) == "/v2/models/digits"
