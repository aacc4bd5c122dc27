"""A version that a gate refuses changes nothing, is on record, and its number is never used again."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from lifecycle.keepers import (
    PLAN,
    Kept,
    in_chunks,
    python_scale,
    scale_bytes,
    started,
    tar_of,
    until,
    with_swap,
    write_scale,
)
from pelton.errors import AccessDenied, Code, Conflict, InvalidRequest
from pelton.lifecycle.gates import Gate, Refused
from pelton.lifecycle.swap_steps import SwapTimes
from pelton.records import VersionState
from pelton.servers.model_control import UploadRequest
from repository.uploads import hidden

GOLDEN = """
[[golden]]
name = "ones"
inputs = {x = [[1.0, 1.0]]}
outputs = {y = [[2.0, 2.0]]}
"""


@pytest.fixture
async def kept(tmp_path: Path):
    write_scale(tmp_path / "models/digits/1", 1.0)
    one = await started(tmp_path / "models")
    yield one
    await one.end()


async def refusal(kept: Kept, data: bytes, name: str = "digits", **said) -> Refused:
    with pytest.raises(Refused) as told:
        await kept.push(name, data, **said)
    assert await kept.ask("digits") == (1.0, "1")
    assert hidden(kept.keeper._parts.view.root) == {}
    return told.value


@pytest.mark.parametrize(
    ("files", "gate", "sentence"),
    [
        ({"model__onnx": b"no model"}, Gate.LOAD, "model.onnx is no ONNX model"),
        ({"notes__txt": b"nothing"}, Gate.CHECK, "there is no model file in digits/2"),
        ({"model__onnx": scale_bytes(float("nan"))}, Gate.GOLDEN, "golden request 'recorded-1'"),
        ({"model__onnx": scale_bytes(2.0, width=3)}, Gate.GOLDEN, "was not answered"),
        (
            {"model__onnx": scale_bytes(3.0), "model__toml": GOLDEN},
            Gate.GOLDEN,
            "golden request 'ones': 2 of 2 elements of output 'y' differ",
        ),
        (
            {"model__onnx": scale_bytes(3.0), "model__toml": f'digest = "sha256:{"0" * 64}"'},
            Gate.CHECK,
            "digits/2 has the digest sha256:",
        ),
        ({"model__onnx": scale_bytes(3.0), "model__toml": "polcy = 1"}, Gate.CHECK, "polcy"),
    ],
    ids=["broken", "empty", "nan", "shape", "golden", "digest", "toml"],
)
async def test_what_is_wrong_is_told_with_its_gate(kept: Kept, files, gate, sentence) -> None:
    assert await kept.ask("digits") == (1.0, "1")  # which is recorded
    error = await refusal(kept, tar_of(**files), file_name="")
    assert (error.gate, error.code) == (gate, Code.LOAD_FAILED)
    assert sentence in error.message
    assert str(kept.keeper._parts.view.root) not in error.message

    assert kept.state is not None
    row = kept.state.versions.find("digits", 2)
    assert row is not None
    assert (row.state, row.reason, row.actor) == (VersionState.REFUSED, error.message, "k1")
    (_, told) = await kept.keeper.versions("digits")
    assert (told.version, told.state, told.reason) == (2, "refused", error.message)
    assert [one.state for one in kept.keeper.index(False)] == ["READY", "UNAVAILABLE"]
    assert (await kept.push("digits", scale_bytes(2.0))).version == 3
    assert await kept.ask("digits") == (2.0, "3")


@pytest.mark.parametrize(
    "on_load",
    ["path", "os.path.dirname(path)", "os.getcwd()", "sys.path", "sys.executable", "__file__"],
)
async def test_no_path_of_the_server_is_told_to_strangers(
    kept: Kept, tmp_path: Path, on_load: str
) -> None:
    model = python_scale(2.0, on_load=f"import sys; raise ValueError({on_load})")
    archive = tar_of(model__py=model, model__toml='isolation = "inline"')
    error = await refusal(kept, archive, file_name="")
    rows = [*await kept.keeper.versions("digits"), *kept.keeper.index(False)]
    told = [error.message, *(row.reason for row in rows)]
    assert [one for one in told if "ValueError: " in one] == [error.message] * 3
    for place in (tmp_path, Path.cwd(), Path(sys.prefix), ".pelton", "staging"):
        assert str(place) not in " ".join(told)


async def test_golden_requests_that_are_answered_are_on_record(kept: Kept) -> None:
    data = tar_of(model__onnx=scale_bytes(2.0), model__toml=GOLDEN)
    row = await kept.push("digits", data, file_name="")
    assert row.numbers == {"golden_requests": 1}


@pytest.mark.parametrize(
    ("said", "code", "sentence"),
    [
        ({"digest": "sha256:" + "0" * 64}, Code.INVALID_INPUT, "it was changed on its way"),
        ({"file_name": ""}, Code.UNSUPPORTED_MEDIA, "refused at the gate 'check'"),
        ({"device": "tpu"}, Code.INVALID_INPUT, "the device 'tpu' must be"),
        ({"file_name": "a/b.onnx"}, Code.INVALID_INPUT, "is no name for a model's file"),
    ],
)
async def test_what_the_sender_said_wrongly_keeps_its_code(kept, said, code, sentence) -> None:
    error = await refusal(kept, scale_bytes(2.0), **said)
    assert error.code is code
    assert sentence in error.message


async def test_an_upload_that_is_too_large_ends_early(kept: Kept) -> None:
    error = await refusal(kept, bytes(3 << 20))
    assert (error.gate, error.code) == (Gate.RECEIVE, Code.TOO_LARGE)


async def test_a_number_is_used_once(kept: Kept) -> None:
    await refusal(kept, b"nothing", version=7)
    with pytest.raises(Refused, match="has had a version 7") as told:
        await kept.push("digits", scale_bytes(2.0), version=7)
    assert told.value.code is Code.CONFLICT
    with pytest.raises(Conflict, match="has a version 1 already"):
        await kept.push("digits", scale_bytes(2.0), version=1)
    assert (await kept.push("digits", scale_bytes(2.0))).version == 8


async def test_a_version_that_the_policy_leaves_out_is_refused(tmp_path: Path) -> None:
    write_scale(tmp_path / "models/digits/1", 1.0)
    (tmp_path / "models/digits/model.toml").write_text("policy = [1]")
    kept = await started(tmp_path / "models")
    error = await refusal(kept, scale_bytes(2.0))
    assert "the version policy of digits names 1, so version 2 would not be served" in error.message
    await kept.end()


async def test_a_stranger_name_leads_nowhere(kept: Kept) -> None:
    for name in ("../digits", "a/b", "", ".pelton", "12"):
        with pytest.raises(InvalidRequest, match="is no name for a model"):
            await kept.push(name, scale_bytes(2.0))


async def test_without_leave_nothing_is_taken(tmp_path: Path) -> None:
    write_scale(tmp_path / "models/digits/1", 1.0)
    plan = replace(PLAN, allow_publish=False, explicit_models=False)
    kept = await started(tmp_path / "models", plan)
    keeper = kept.keeper
    for refused in (
        kept.push("digits", scale_bytes(2.0)),
        keeper.rollback("digits", ""),
        keeper.load("digits", None, {}, ""),
        keeper.unload("digits", ""),
    ):
        with pytest.raises(AccessDenied, match="start it with --"):
            await refused
    with pytest.raises(AccessDenied, match="--allow-publish"):
        keeper.check_may_publish("digits", None)
    assert not (tmp_path / "models/.pelton").exists()
    await kept.end()


async def test_a_worker_that_hangs_while_it_loads_is_ended(tmp_path: Path) -> None:
    write_scale(tmp_path / "models/digits/1", 1.0)
    kept = await started(tmp_path / "models", with_swap(PLAN, times=SwapTimes(load_timeout_s=1.5)))
    pids = tmp_path / "pids"
    hang = f"import time, pathlib; pathlib.Path({str(pids)!r}).write_text(str(os.getpid())); time.sleep(600)"
    error = await refusal(kept, tar_of(model__py=python_scale(2.0, on_load=hang)), file_name="")
    assert (error.gate, error.sentence) == (Gate.LOAD, "it was not done within 1.5 s")
    pid = int(pids.read_text())
    await until(lambda: not Path(f"/proc/{pid}").exists())
    await kept.end()


async def test_one_that_hangs_inside_the_server_leaves_the_way_to_the_next(tmp_path: Path) -> None:
    write_scale(tmp_path / "models/digits/1", 1.0)
    kept = await started(tmp_path / "models", with_swap(PLAN, times=SwapTimes(load_timeout_s=1.5)))
    inline = 'isolation = "inline"'
    hanging = python_scale(2.0, on_load="import time; time.sleep(600)")
    error = await refusal(kept, tar_of(model__py=hanging, model__toml=inline), file_name="")
    assert (error.gate, error.sentence) == (Gate.LOAD, "it was not done within 1.5 s")
    good = tar_of(model__py=python_scale(3.0), model__toml=inline)
    assert (await kept.push("another", good, file_name="")).version == 1
    assert await kept.ask("another") == (3.0, "1")
    await kept.end()


def is_swept(root: Path) -> bool:
    """Tell whether nothing of an upload is left; one may look while it is being removed."""
    try:
        return hidden(root) == {}
    except FileNotFoundError:
        return False


@pytest.mark.parametrize("gate", ["receive", "check", "load", "warm", "golden"])
async def test_a_sender_who_leaves_changes_nothing(kept: Kept, gate: str) -> None:
    reached = asyncio.Event()

    def progress(told: str) -> None:
        if told == gate:
            reached.set()

    request = UploadRequest(file_name="model.onnx")
    chunks = in_chunks(scale_bytes(2.0), 10)
    publish = asyncio.create_task(kept.keeper.publish("digits", request, chunks, "k1", progress))
    await reached.wait()
    publish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publish
    await until(lambda: is_swept(kept.keeper._parts.view.root))
    await until(lambda: len(kept.keeper.shelf("digits").versions) == 1)
    assert await kept.ask("digits") == (1.0, "1")
    assert (await kept.push("digits", scale_bytes(3.0))).version in (2, 3)
    assert await kept.ask("digits") == (3.0, (await kept.ask("digits"))[1])


async def test_a_sender_who_leaves_at_the_swap_has_published(kept: Kept) -> None:
    reached = asyncio.Event()

    def progress(told: str) -> None:
        if told == "swap":
            reached.set()

    request = UploadRequest(file_name="model.onnx")
    publish = asyncio.create_task(
        kept.keeper.publish("digits", request, in_chunks(scale_bytes(2.0)), "k1", progress)
    )
    await reached.wait()
    publish.cancel()
    with pytest.raises(asyncio.CancelledError):
        await publish
    served = kept.keeper.shelf("digits")
    await until(lambda: served.served is not None and served.served.number == 2)
    assert await kept.ask("digits") == (2.0, "2")
    assert kept.state is not None
    row = kept.state.versions.find("digits", 2)
    assert row is not None
    assert row.state is VersionState.PUBLISHED
