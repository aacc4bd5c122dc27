"""Every kind of database that the state may be kept in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pelton.records import Change
from pelton.state.sqlite import file_url
from pelton.state.state import State


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database; a test that asks for it runs once for each kind."""
    if request.param == "sqlite":
        return file_url(tmp_path)
    return request.getfixturevalue("postgres").new_database()


@pytest.fixture
def state(database_url: str) -> Iterator[State]:
    """An open state in an empty database of each kind."""
    opened = State.open(database_url)
    yield opened
    opened.close()


def change(action: str = "test", subject: str = "it", at_s: float = 1.0, **values) -> Change:
    """A row for the audit trail."""
    return Change(at_s, "local", action, subject, values.get("before"), values.get("after"))


def tell(*values: str) -> Callable[..., Change]:
    """Tell the row of a change whatever is kept."""
    return lambda *_: change(*values)
