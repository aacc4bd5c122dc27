"""Fixtures for the tests of the state."""

from __future__ import annotations

from services.databases import database_url as database_url
from services.databases import state as state
