"""A server that ends while something is published leaves the old version or the new, whole."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from lifecycle.keepers import PLAN, TextLoader, in_chunks, started, write_text
from pelton.errors import Unavailable
from pelton.repository import manifest
from pelton.repository.publishing import published
from pelton.servers.model_control import UploadRequest


@pytest.mark.parametrize("gate", ["load", "warm", "golden", "swap"])
async def test_an_end_at_any_gate(tmp_path: Path, gate: str) -> None:
    root = tmp_path / "models"
    write_text(root / "digits/1", 1.0)
    loader = TextLoader()
    kept = await started(root, PLAN, loader=loader)
    reached = asyncio.Event()

    def progress(told: str) -> None:
        if told == gate:
            reached.set()

    request = UploadRequest(file_name="model.onnx")
    publish = asyncio.create_task(
        kept.keeper.publish("digits", request, in_chunks(b"2.0"), "", progress)
    )
    await reached.wait()
    await kept.keeper.close()
    new = gate == "swap"
    assert await kept.ask("digits") == ((2.0, "2") if new else (1.0, "1"))
    if new:
        assert (await publish).version == 2
    else:
        with pytest.raises(Unavailable, match="nothing was published"):
            await publish
    with pytest.raises(Unavailable, match="shutting down"):
        await kept.push("digits", b"3.0")
    await kept.end()
    assert loader.open() == []
    assert published(root) == ([("digits", 2)] if new else [])
    assert list((root / ".pelton/work").iterdir()) == []

    kept = await started(root, PLAN, loader=loader)
    assert await kept.ask("digits") == ((2.0, "2") if new else (1.0, "1"))
    if new:
        manifest.verify(root / "digits/2")
    await kept.end()


async def test_what_was_taken_back_is_on_record_at_the_end(tmp_path: Path) -> None:
    write_text(tmp_path / "models/digits/1", 1.0)
    kept = await started(tmp_path / "models", PLAN, loader=TextLoader())
    await kept.push("digits", b"2.0")
    await kept.keeper.rollback("digits", "k2")
    await kept.end()
    kept = await started(tmp_path / "models", PLAN, loader=TextLoader())
    assert await kept.ask("digits") == (1.0, "1")
    await kept.end()
