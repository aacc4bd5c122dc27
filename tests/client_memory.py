"""Shared memory as a client makes it: by the standard library, as `tritonclient` does."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from multiprocessing.shared_memory import SharedMemory


@contextlib.contextmanager
def client_memory(size: int, key: str | None = None) -> Iterator[SharedMemory]:
    """Make a shared memory object of the client's, gone at the end."""
    memory = SharedMemory(key or f"pelton-test-{secrets.token_hex(6)}", create=True, size=size)
    try:
        yield memory
    finally:
        memory.close()
        with contextlib.suppress(FileNotFoundError):
            memory.unlink()
