"""Two publishes of one number at once: one gets it, and the other touches nothing of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lifecycle.keepers import PLAN, Kept, TextLoader, in_chunks, started, write_text
from pelton.errors import Code, Conflict, LoadFailed, PeltonError, Unavailable
from pelton.lifecycle.gates import Gate, Refused
from pelton.records import VersionState
from pelton.repository.publishing import published
from pelton.servers.model_control import PublishedRow, UploadRequest
from repository.uploads import hidden


@pytest.fixture
async def kept(tmp_path: Path):
    write_text(tmp_path / "models/digits/1", 1.0)
    one = await started(tmp_path / "models", PLAN, loader=TextLoader())
    yield one
    await one.end()


def publish(kept: Kept, chunks: AsyncIterator[bytes], **said) -> asyncio.Task[PublishedRow]:
    request = UploadRequest(file_name="model.onnx", **said)
    publishing = kept.keeper.publish("digits", request, chunks, "k1", lambda _: None)
    return asyncio.create_task(publishing)


async def slowly(data: bytes, go_on: asyncio.Event, begun: asyncio.Event) -> AsyncIterator[bytes]:
    begun.set()
    await go_on.wait()
    yield data


async def never() -> AsyncIterator[bytes]:
    pytest.fail("its bytes are not asked for")
    yield b""


def state_of(kept: Kept, version: int) -> VersionState | None:
    assert kept.state is not None
    row = kept.state.versions.find("digits", version)
    return None if row is None else row.state


async def test_who_comes_second_is_told_before_its_bytes_are_read(kept: Kept) -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()
    first = publish(kept, slowly(b"2.0", go_on, begun), version=2)
    await begun.wait()
    with pytest.raises(Conflict, match="digits is getting a version 2 just now"):
        await publish(kept, never(), version=2)
    with pytest.raises(Conflict, match="is getting a version 2"):
        kept.keeper.check_may_publish("digits", 2)
    kept.keeper.check_may_publish("digits", 3)
    go_on.set()
    assert (await first).version == 2
    assert await kept.ask("digits") == (2.0, "2")


async def test_of_many_at_once_one_answers_and_still_does_after_a_restart(kept: Kept) -> None:
    root = kept.keeper._parts.view.root
    publishes = [publish(kept, in_chunks(f"{n}.0".encode()), version=2) for n in range(2, 8)]
    outcomes = await asyncio.gather(*publishes, return_exceptions=True)
    rows = [one for one in outcomes if isinstance(one, PublishedRow)]
    losers = [one for one in outcomes if isinstance(one, PeltonError)]
    assert len(rows) == 1
    assert [one.code for one in losers] == [Code.CONFLICT] * 5
    answer = await kept.ask("digits")
    assert answer[1] == "2"
    assert state_of(kept, 2) is VersionState.PUBLISHED
    assert kept.keeper.shelf("digits").failed == {}
    assert hidden(root) == {}
    await kept.end()
    again = await started(root, PLAN, loader=TextLoader())
    assert await again.ask("digits") == answer
    assert published(root) == [("digits", 2)]
    await again.end()


async def test_a_number_that_is_counted_up_to_passes_over_one_that_is_taken(kept: Kept) -> None:
    go_on, begun = asyncio.Event(), asyncio.Event()
    first = publish(kept, slowly(b"2.0", go_on, begun), version=2)
    await begun.wait()
    assert (await kept.push("digits", b"3.0")).version == 3
    go_on.set()
    assert (await first).version == 2


async def test_a_number_is_free_again_where_nothing_was_kept(kept: Kept) -> None:
    async def breaks() -> AsyncIterator[bytes]:
        yield b"2"
        raise Unavailable("the sender has gone")

    with pytest.raises(Refused, match="the sender has gone"):
        await publish(kept, breaks(), version=2)
    assert (await publish(kept, in_chunks(b"2.0"), version=2)).version == 2


async def test_a_folder_that_was_laid_there_meanwhile_is_left_as_it_is(kept: Kept) -> None:
    def lay(gate: str) -> None:
        if gate == Gate.GOLDEN:
            write_text(kept.keeper._parts.view.root / "digits/2", 5.0)

    request = UploadRequest(file_name="model.onnx", version=2)
    with pytest.raises(Refused, match="refused at the gate 'swap'") as told:
        await kept.keeper.publish("digits", request, in_chunks(b"2.0"), "k1", lay)
    assert told.value.code is Code.CONFLICT
    assert state_of(kept, 2) is None, "who laid it there knows nothing of the upload"
    assert kept.keeper.shelf("digits").failed == {}
    await kept.keeper.load("digits", None, {}, "")
    assert await kept.ask("digits") == (5.0, "2")


class TestTwoServers:
    """Of one database, each with a folder of its own."""

    @pytest.fixture
    async def both(self, kept: Kept, tmp_path: Path):
        write_text(tmp_path / "elsewhere/models/digits/1", 1.0)
        folder = tmp_path / "elsewhere/models"
        other = await started(folder, PLAN, loader=TextLoader(), state_dir=tmp_path / "state")
        yield kept, other
        await other.end()

    async def test_the_second_is_told_before_its_bytes_are_read(self, both) -> None:
        one, other = both
        await publish(one, in_chunks(b"2.0"), version=2)
        with pytest.raises(Refused, match="digits has had a version 2") as told:
            await publish(other, never(), version=2)
        assert (told.value.gate, told.value.code) == (Gate.RECEIVE, Code.CONFLICT)

    async def test_the_loser_touches_nothing_of_the_winner(self, both) -> None:
        one, other = both
        go_on, begun = asyncio.Event(), asyncio.Event()
        losing = publish(other, slowly(b"2.0", go_on, begun), version=2)
        await begun.wait()
        await publish(one, in_chunks(b"2.0"), version=2)
        go_on.set()
        with pytest.raises(Refused, match="digits has or had a version 2 already") as told:
            await losing
        assert (told.value.gate, told.value.code) == (Gate.CHECK, Code.CONFLICT)
        assert state_of(one, 2) is VersionState.PUBLISHED
        assert await one.ask("digits") == (2.0, "2")
        assert await other.ask("digits") == (1.0, "1")

    @pytest.mark.parametrize(
        ("found_wanting", "gate"), [(False, Gate.SWAP), (True, Gate.GOLDEN)], ids=["late", "bad"]
    )
    async def test_who_is_overtaken_at_the_last_gates(self, both, found_wanting, gate) -> None:
        one, other = both

        async def judge(*_: object) -> dict[str, float | str]:
            await publish(one, in_chunks(b"2.0"), version=2)
            if found_wanting:
                raise LoadFailed("on purpose")
            return {}

        other.keeper.steps("digits").judge = judge
        with pytest.raises(Refused) as told:
            await publish(other, in_chunks(b"2.0"), version=2)
        assert told.value.gate is gate
        assert state_of(one, 2) is VersionState.PUBLISHED
        assert await one.ask("digits") == (2.0, "2")
        assert await other.ask("digits") == (1.0, "1")
        assert published(other.keeper._parts.view.root) == []

    async def test_numbers_that_are_counted_up_never_meet(self, both) -> None:
        pushes = [kept.push("digits", b"2.0") for kept in both for _ in range(3)]
        rows = await asyncio.gather(*pushes)
        assert sorted(row.version for row in rows) == [2, 3, 4, 5, 6, 7]
