"""Fixtures for the tests of the composition root."""

from __future__ import annotations

from services.databases import database_url as database_url
