"""Fixtures for the client's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from client.both_clients import KINDS, MakeClient, clients
from servers.publishing_site import running_site, site

__all__ = ["make_client", "running_site", "site"]


@pytest.fixture(params=KINDS)
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Make a client of either kind; closed at the end."""
    with clients(request.param) as make:
        yield make
