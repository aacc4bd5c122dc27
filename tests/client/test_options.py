"""The client's settings refuse what would silently do something else."""

from __future__ import annotations

import ssl

import pytest

from pelton.client import Bounds, Client, Retries, Timeouts
from pelton.errors import SettingsError


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5"])
@pytest.mark.parametrize("name", ["connect_s", "attempt_s", "request_s", "idle_s"])
def test_a_time_out_is_a_positive_number(name, value):
    with pytest.raises(SettingsError, match=f"Timeouts.{name} must be a positive number"):
        Timeouts(**{name: value})


def test_only_a_try_may_have_no_limit_of_its_own():
    assert Timeouts(attempt_s=None).attempt_s is None
    with pytest.raises(SettingsError, match="request_s"):
        Timeouts(request_s=None)


@pytest.mark.parametrize(
    "wrong", [{"attempts": 0}, {"first_delay_s": -0.1}, {"max_delay_s": float("nan")}]
)
def test_retries_are_in_range(wrong):
    (name,) = wrong
    with pytest.raises(SettingsError, match=f"Retries.{name}"):
        Retries(**wrong)


@pytest.mark.parametrize("name", ["max_connections", "max_reply_bytes"])
def test_bounds_are_at_least_one(name):
    assert getattr(Bounds(**{name: 1}), name) == 1
    with pytest.raises(SettingsError, match=f"Bounds.{name} must be at least 1"):
        Bounds(**{name: 0})


def test_a_try_ends_with_the_call_at_the_latest():
    assert Timeouts(request_s=9).attempt_end_s(100.0, 109.0) == 109.0
    assert Timeouts(attempt_s=4).attempt_end_s(100.0, 109.0) == 104.0
    assert Timeouts(attempt_s=4).attempt_end_s(107.0, 109.0) == 109.0


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "robot"}, "does not start with http://"),
        ({"headers": {"Content-Length": "3"}}, "is set by the client itself"),
        ({"headers": {"transfer-encoding": "chunked"}}, "is set by the client itself"),
        ({"headers": {"A": "b\r\nC: d"}}, "the value of the header A"),
        ({"tls": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, "starts with http:, not https://"),
    ],
)
def test_a_client_says_what_is_wrong_with_its_settings(wrong, said):
    with pytest.raises(SettingsError) as caught:
        Client(**{"url": "http://127.0.0.1:1"} | wrong)
    assert said in caught.value.message
