"""Fakes for our tests and yours; `pelton.testing.runtime_contract` tests a runtime."""

from __future__ import annotations

from pelton.testing.fakes import (
    EchoRuntime,
    FailingRuntime,
    FakeClock,
    FakeInstance,
    SlowRuntime,
    echo_metadata,
)

__all__ = [
    "EchoRuntime",
    "FailingRuntime",
    "FakeClock",
    "FakeInstance",
    "SlowRuntime",
    "echo_metadata",
]
