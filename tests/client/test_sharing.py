"""Many threads or tasks with one client, and tasks that go away."""

from __future__ import annotations

import asyncio
import socket
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from client.scripted_peer import Answer, Received, ScriptedPeer, infer_reply, json_reply
from pelton.client import AsyncClient, Bounds, Client, blocking
from pelton.client.blocking import Transport
from pelton.client.failure import NoReply
from pelton.client.http1 import Request
from pelton.client.looping import AsyncTransport, drive
from pelton.client.opening import peer_of
from pelton.client.stream import YIELD, Wait

LIVE = json_reply({"live": True})
QUESTION = Request(b"GET / HTTP/1.1\r\n\r\n")
BOUNDS = {"idle_s": 1.0, "max_connections": 1, "max_reply_bytes": 1000}


def echo(request: Received) -> list[bytes]:
    """Answer with the tensor that was sent."""
    raw = request.tensors[1]
    return [infer_reply(("y", "INT64", [len(raw) // 8], raw))]


def test_threads_share_the_connections_that_there_may_be():
    script = [[Answer([LIVE])] * 400 for _ in range(3)]
    with (
        ScriptedPeer(*script) as peer,
        Client(peer.url, bounds=Bounds(max_connections=3)) as client,
    ):
        with ThreadPoolExecutor(12) as pool:
            lives = list(pool.map(lambda _: client.server_live(), range(400)))
        assert all(lives)
        assert len(peer.received) == 400
        assert set(peer.connections) <= {0, 1, 2}


def test_threads_do_not_get_each_others_answers():
    with (
        ScriptedPeer(*[[Answer(echo)] * 300] * 4) as peer,
        Client(peer.url, bounds=Bounds(max_connections=4)) as client,
    ):

        def ask(number: int) -> bool:
            sent = np.arange(number, number + 50)
            return np.array_equal(client.infer("m", {"x": sent}).outputs["y"], sent)

        with ThreadPoolExecutor(8) as pool:
            assert all(pool.map(ask, range(300)))


async def test_tasks_do_not_get_each_others_answers():
    with ScriptedPeer(*[[Answer(echo)] * 300] * 4) as peer:
        async with AsyncClient(peer.url, bounds=Bounds(max_connections=4)) as client:

            async def ask(number: int) -> bool:
                sent = np.arange(number, number + 50)
                response = await client.infer("m", {"x": sent})
                return np.array_equal(response.outputs["y"], sent)

            assert all(await asyncio.gather(*map(ask, range(100))))
    assert set(peer.connections) <= {0, 1, 2, 3}


def test_a_thread_that_finds_all_connections_busy_waits_only_so_long():
    with ScriptedPeer([Answer(holds=True)]) as peer:
        transport = Transport(peer_of(peer.url, None, 5.0), **BOUNDS)
        with ThreadPoolExecutor(1) as pool:
            first = pool.submit(transport.perform, QUESTION, time.monotonic() + 0.5)
            peer.wait_received(1)
            with pytest.raises(NoReply, match="all 1 connections were busy"):
                transport.perform(QUESTION, time.monotonic() + 0.05)
            with pytest.raises(NoReply, match="waiting for the answer"):
                first.result()
    assert len(peer.received) == 1


def test_a_failed_request_leaves_its_place_to_the_next():
    with ScriptedPeer([Answer(holds=True)], [Answer([LIVE])]) as peer:
        transport = Transport(peer_of(peer.url, None, 5.0), **BOUNDS)
        with pytest.raises(NoReply, match="waiting for the answer"):
            transport.perform(QUESTION, time.monotonic() + 0.05)
        assert transport.perform(QUESTION, time.monotonic() + 5.0).status == 200
        transport.close()


def test_any_number_of_connections_may_be_allowed():
    with ScriptedPeer([Answer([LIVE])]) as peer:
        bounds = {**BOUNDS, "max_connections": 2**62}
        transport = Transport(peer_of(peer.url, None, 5.0), **bounds)
        assert transport.perform(QUESTION, time.monotonic() + 5.0).status == 200
        transport.close()


async def test_a_task_that_finds_all_connections_busy_waits_only_so_long():
    with ScriptedPeer([Answer(holds=True)]) as peer:
        transport = AsyncTransport(peer_of(peer.url, None, 5.0), **BOUNDS)
        first = asyncio.create_task(transport.perform(QUESTION, time.monotonic() + 0.5))
        await asyncio.to_thread(peer.wait_received, 1)
        with pytest.raises(NoReply, match="all 1 connections were busy"):
            await transport.perform(QUESTION, time.monotonic() + 0.05)
        with pytest.raises(NoReply, match="waiting for the answer"):
            await first
    assert len(peer.received) == 1


async def test_a_cancelled_task_hangs_up_and_leaves_its_place_to_the_next():
    with ScriptedPeer([Answer(holds=True)], [Answer([LIVE])]) as peer:
        async with AsyncClient(peer.url, bounds=Bounds(max_connections=1)) as client:
            task = asyncio.create_task(client.infer("m", {"x": np.zeros(3)}))
            await asyncio.to_thread(peer.wait_received, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await client.server_live()
    assert peer.connections == [0, 1]


async def test_a_task_that_is_cancelled_while_it_waits_for_a_connection_takes_none():
    with ScriptedPeer([Answer([LIVE], holds=True)]) as peer:
        async with AsyncClient(peer.url, bounds=Bounds(max_connections=1)) as client:
            first = asyncio.create_task(client.server_live())
            second = asyncio.create_task(client.server_live())
            await asyncio.sleep(0)
            second.cancel()
            assert await first
            with pytest.raises(asyncio.CancelledError):
                await second
            assert client._transport._free._value == 1


async def test_others_on_the_loop_get_their_turn_within_a_long_transfer():
    order: list[str] = []

    def transfer():
        for _ in range(3):
            order.append("transfer")
            yield YIELD
        return "done"

    async def other() -> None:
        for _ in range(3):
            order.append("other")
            await asyncio.sleep(0)

    done, _ = await asyncio.gather(drive(transfer(), float("inf")), other())
    assert done == "done"
    assert order == ["transfer", "other"] * 3


class Begun:
    """Steps that wait for a socket, and know when they are ended."""

    def __init__(self, sock: socket.socket) -> None:
        self.ended = False
        self._sock = sock

    def steps(self):
        try:
            yield Wait(self._sock.fileno(), readable=True, writable=False)
        finally:
            self.ended = True


@pytest.fixture
def silent():
    """A socket that nothing comes out of."""
    one, other = socket.socketpair()
    with one, other:
        yield one


async def test_what_a_cancelled_task_had_begun_ends_at_once(silent):
    begun = Begun(silent)
    steps = begun.steps()
    task = asyncio.create_task(drive(steps, float("inf")))
    await asyncio.sleep(0)
    assert not begun.ended
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert begun.ended


def test_what_an_interrupted_thread_had_begun_ends_at_once(silent, monkeypatch):
    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    begun = Begun(silent)
    steps = begun.steps()
    monkeypatch.setattr(blocking, "_await_ready", interrupted)
    with pytest.raises(KeyboardInterrupt):
        blocking.drive(steps, float("inf"))
    assert begun.ended
