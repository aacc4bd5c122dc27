"""What a teller of publications does where things go otherwise than planned."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from pelton.errors import Code, PeltonError
from pelton.servers import publish_progress
from pelton.servers.model_control import PublishedRow
from pelton.servers.publish_progress import ProgressTeller
from servers.publishing_site import events_in

ROW = PublishedRow("digits", 7, "sha256:x", {"ratio": 1.5})


async def chunks_of(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def all_of(response: Any) -> bytes:
    return b"".join([part async for part in response.body_iterator])


async def test_a_sign_of_life_comes_while_a_gate_takes_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(publish_progress, "SIGN_OF_LIFE_S", 0.01)
    go_on = asyncio.Event()

    async def publish(
        chunks: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> PublishedRow:
        assert [chunk async for chunk in chunks] == [b"a", b"b"]
        progress("load")
        await go_on.wait()
        return ROW

    response = await ProgressTeller().answer(publish, chunks_of(b"a", b"b"), "r")
    parts = response.body_iterator  # type: ignore[attr-defined]
    assert await anext(parts) == b'data: {"gate":"load"}\n\n'
    assert await anext(parts) == b":\n\n"
    go_on.set()
    rest = b"".join([part async for part in parts])
    assert events_in(rest) == [
        {"model": "digits", "version": 7, "digest": "sha256:x", "numbers": {"ratio": 1.5}}
    ]


async def test_a_bug_after_the_upload_is_told_without_its_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def publish(
        chunks: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> PublishedRow:
        async for _ in chunks:
            pass
        await asyncio.sleep(0)
        raise KeyError("/secret/path")

    teller = ProgressTeller()
    raw = await all_of(await teller.answer(publish, chunks_of(b"a"), "r1"))
    (event,) = events_in(raw)
    assert event == {
        "error": "the server failed; its log tells more",
        "code": "internal",
        "request_id": "r1",
    }
    assert "/secret/path" in caplog.text
    assert not teller.running


async def test_a_server_that_ends_says_so() -> None:
    async def publish(
        chunks: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> PublishedRow:
        async for _ in chunks:
            pass
        await asyncio.Event().wait()
        raise AssertionError

    teller = ProgressTeller()
    response = await teller.answer(publish, chunks_of(b"a"), "r")
    (task,) = teller.running
    task.cancel()
    (event,) = events_in(await all_of(response))
    assert (event["error"], event["code"]) == ("the server is ending", str(Code.UNAVAILABLE))


async def test_an_upload_that_is_cancelled_has_ended_when_its_answer_has() -> None:
    asked, ended = asyncio.Event(), False

    async def slow() -> AsyncIterator[bytes]:
        asked.set()
        await asyncio.Event().wait()
        yield b""

    async def publish(
        chunks: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> PublishedRow:
        nonlocal ended
        try:
            async for _ in chunks:
                pass
        finally:
            await asyncio.sleep(0)
            ended = True
        raise AssertionError

    chunks = slow()
    answering = asyncio.create_task(ProgressTeller().answer(publish, chunks, "r"))
    await asked.wait()
    answering.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await answering
    assert ended
    await chunks.aclose()  # type: ignore[attr-defined]


async def test_what_is_refused_during_the_upload_is_raised() -> None:
    async def publish(
        chunks: AsyncIterator[bytes], progress: Callable[[str], None]
    ) -> PublishedRow:
        raise PeltonError("no")

    with pytest.raises(PeltonError, match="no"):
        await ProgressTeller().answer(publish, chunks_of(b"a"), "r")
