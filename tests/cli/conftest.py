"""Fixtures for the tests of the commands."""

from __future__ import annotations

from servers.publishing_site import running_site, site

__all__ = ["running_site", "site"]
