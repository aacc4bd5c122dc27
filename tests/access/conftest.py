"""Fixtures for the tests of access."""

from __future__ import annotations

from services.redis import redis_server, start_redis

__all__ = ["redis_server", "start_redis"]
