"""Both clients behind one face, so that every case is tested with each of them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import uvloop

from pelton.client import AsyncClient, Client

KINDS = ("threads", "asyncio", "uvloop")

MakeClient = Callable[..., Any]


class Waiting:
    """An `AsyncClient` whose methods wait, on an event loop of its own."""

    def __init__(self, runner: asyncio.Runner, client: AsyncClient) -> None:
        self._runner = runner
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def wait(*args: object, **options: object) -> Any:
            method = getattr(self._client, name)

            async def call() -> Any:
                return await method(*args, **options)

            return self._runner.run(call())

        return wait


@contextlib.contextmanager
def clients(kind: str) -> Iterator[MakeClient]:
    """Give what makes clients of one of the `KINDS`; they are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(url: str, **options: Any) -> Any:
            if kind == "threads":
                client: Any = Client(url, **options)
            else:
                loops = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}
                runner = stack.enter_context(asyncio.Runner(loop_factory=loops[kind]))
                client = Waiting(runner, AsyncClient(url, **options))
            stack.callback(client.close)
            return client

        yield make
