"""A server that is killed, or a database that is restarted, while routes are being set."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys

import pytest

from app.traffic_world import Server, kept, pinned
from pelton.errors import Unavailable
from pelton.state.state import State
from services.postgres import Postgres

SET = """
import asyncio, itertools, json, sys
from app.traffic_world import Server, pinned
async def work():
    server = Server(sys.argv[1])
    server.keeping.start()
    for number in itertools.count():
        row = await server.traffic.set_route("digits", pinned(1 + number % 4), None, "k")
        print(json.dumps([row.revision, row.policy]), flush=True)
asyncio.run(work())
"""


def chain_of(state: State) -> list[dict]:
    """Return what a route was, one after the other, as the trail tells it; it must have no gap."""
    rows = [row.change for row in state.audit.list(limit=100_000)][::-1]
    assert [row.before for row in rows] == [None, *(row.after for row in rows[:-1])]
    return [row.after for row in rows]


@pytest.mark.parametrize("sets", [1, 20])
def test_a_kill_while_a_route_is_set_leaves_the_old_or_the_new(
    database_url: str, sets: int, monkeypatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "tests")
    command = [sys.executable, "-c", SET, database_url]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        told = [json.loads(server.stdout.readline()) for _ in range(sets)]
        server.send_signal(signal.SIGKILL)
        told += [json.loads(line) for line in server.stdout.read().split("\n") if line]
    again = Server(database_url)
    chain = chain_of(again.state)
    row = again.traffic.route("digits")
    assert [policy for _, policy in told] == chain[: len(told)]
    assert len(chain) <= len(told) + 1  # of the last one nobody was told
    assert (row.revision, row.policy, row.problem) == (len(chain), chain[-1], "")
    assert again.served.version() == chain[-1]["version"]
    again.keeping.close()


@pytest.mark.parametrize("mode", ["fast", "immediate"])
async def test_routes_are_set_through_restarts_of_postgresql(postgres: Postgres, mode: str) -> None:
    url = postgres.new_database()
    servers = [Server(url) for _ in range(2)]
    for each in servers:
        each.keeping.start()
    done: dict[str, list[int]] = {}
    going, progress = True, asyncio.Condition()

    async def set_one(number: int, each: Server) -> None:
        name = f"r{number}"
        done[name] = []
        while going:
            version = 1 + len(done[name]) % 4
            policy = {"model": "digits", **pinned(version)}
            try:
                await each.traffic.set_route(name, policy, None, "k")
            except Unavailable:
                continue
            assert each.served.version(name) == version
            async with progress:
                done[name].append(version)
                progress.notify_all()

    async def all_set(more: int) -> None:
        goals = {name: len(versions) + more for name, versions in done.items()}
        async with asyncio.timeout(60), progress:
            await progress.wait_for(
                lambda: all(len(done[name]) >= goal for name, goal in goals.items())
            )

    tasks = [asyncio.create_task(set_one(n, each)) for n, each in enumerate(servers * 2)]
    await asyncio.sleep(0)
    for _ in range(3):
        await all_set(more=5)
        await asyncio.to_thread(postgres.stop, mode)
        await asyncio.to_thread(postgres.start)
    await all_set(more=5)
    going = False
    await asyncio.gather(*tasks)

    for each in servers:
        await each.keeping.refresh()
    trail = [row.change for row in servers[0].state.audit.list(limit=100_000)][::-1]
    for name, versions in done.items():
        afters = [row.after["version"] for row in trail if row.subject == name]
        befores = [row.before and row.before["version"] for row in trail if row.subject == name]
        assert befores == [None, *afters[:-1]]
        # One that was answered with 503 may have been kept as well, and was set once more.
        assert [v for v, w in zip(afters, [0, *afters], strict=False) if v != w] == versions
        for each in servers:
            assert each.traffic.route(name).policy == kept(versions[-1])
            assert each.served.version(name) == versions[-1]
    for each in servers:
        each.keeping.close()
