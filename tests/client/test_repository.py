"""The clients' questions about versions, against a server's real doors with a fake behind them."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from client.scripted_peer import Answer, ScriptedPeer, json_reply, reply
from pelton.client import IndexEntry, Published, PushProgress, Retries, VersionDescription
from pelton.client.pushing import load_cargo
from pelton.errors import (
    AccessDenied,
    Conflict,
    ConnectionFailed,
    InvalidRequest,
    LoadFailed,
    NotFound,
)
from servers.publishing_site import GATES, PublishingSite

BIG = bytes(range(256)) * 8192  # 2 MiB
DIGEST = "sha256:" + "ab" * 32


@pytest.fixture
def client(make_client: Any, site: PublishingSite) -> Any:
    return make_client(site.url)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    version = tmp_path / "digits" / "3"
    (version / "weights").mkdir(parents=True)
    (version / "model.onnx").write_bytes(BIG)
    (version / "weights" / "a.bin").write_bytes(b"abc")
    return version


def test_a_folder_is_pushed_as_a_tar_and_each_gate_is_told(
    site: PublishingSite, client: Any, folder: Path
) -> None:
    told: list[PushProgress] = []
    published = client.push(folder, "digits", 12, told.append)
    assert published == Published("digits", 12, DIGEST, {"golden": 0.5})
    (taken,) = site.control.taken
    with tarfile.open(fileobj=io.BytesIO(taken.data)) as tar:
        members = {one.name: one for one in tar.getmembers()}
        assert sorted(members) == ["model.onnx", "weights/a.bin"]
        assert tar.extractfile(members["model.onnx"]).read() == BIG
    assert taken.upload.digest == load_cargo(folder).digest
    size = len(taken.data)
    sent = [each for each in told if each.gate == "receive"]
    assert [each.gate for each in told[len(sent) - 1 :]] == ["receive", *GATES]
    assert sent[0] == PushProgress("receive", 0, size)
    assert sent[-1] == PushProgress("receive", size, size)
    counts = [each.sent_bytes for each in sent]
    assert counts == sorted(counts)


def test_a_tar_goes_as_it_is_and_a_single_file_is_packed(
    site: PublishingSite, client: Any, folder: Path
) -> None:
    tar = folder.parent / "digits.tar"
    tar.write_bytes(BIG)
    assert client.push(str(tar), "digits").version == 7
    assert client.push(folder / "model.onnx", "digits").version == 7
    whole, packed = site.control.taken
    assert whole.data == BIG
    with tarfile.open(fileobj=io.BytesIO(packed.data)) as opened:
        assert opened.getnames() == ["model.onnx"]


def test_a_refusal_is_raised_with_its_reason(
    site: PublishingSite, client: Any, folder: Path
) -> None:
    site.control.refusals["digits"] = LoadFailed("refused at the gate 'load': no input named x")
    told: list[str] = []
    with pytest.raises(LoadFailed, match="refused at the gate 'load': no input named x"):
        client.push(folder, "digits", on_progress=lambda progress: told.append(progress.gate))
    assert told[-1] == "load"
    with pytest.raises(Conflict, match="has a version 1 already"):
        client.push(folder, "digits", 1)
    site.control.allowed = False
    with pytest.raises(AccessDenied, match="--allow-publish"):
        client.push(folder, "digits")
    assert not site.control.taken


def test_a_refusal_before_the_upload_is_read_reaches_who_is_still_sending(
    site: PublishingSite, client: Any, tmp_path: Path
) -> None:
    site.control.before_reading["digits"] = Conflict("digits is being changed")
    tar = tmp_path / "a.tar"
    tar.write_bytes(bytes(7 * 1024 * 1024))
    with pytest.raises(Conflict, match="is being changed"):
        client.push(tar, "digits")


@pytest.mark.parametrize("change", [b"", BIG[:-1]])
def test_a_file_that_gets_shorter_meanwhile_is_no_version(
    site: PublishingSite, client: Any, tmp_path: Path, change: bytes
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(BIG)

    def meddle(_progress: PushProgress) -> None:
        tar.write_bytes(change)

    with pytest.raises(InvalidRequest, match="changed while it was sent"):
        client.push(tar, "digits", on_progress=meddle)
    site.control.wait_until(lambda: site.control.broken)
    assert not site.control.taken


@pytest.mark.parametrize("change", [BIG + b"x", BIG[:-1] + b"x", BIG[1:] + b"xy"])
def test_a_file_that_changes_otherwise_is_what_it_was_or_no_version(
    site: PublishingSite, client: Any, tmp_path: Path, change: bytes
) -> None:
    tar = tmp_path / "a.tar"
    tar.write_bytes(BIG)

    def meddle(_progress: PushProgress) -> None:
        tar.write_bytes(change)

    if change[: len(BIG)] == BIG:
        client.push(tar, "digits", on_progress=meddle)
        assert site.control.taken[0].data == BIG
    else:
        with pytest.raises(InvalidRequest, match="the digest is another one"):
            client.push(tar, "digits", on_progress=meddle)
        assert not site.control.taken


@pytest.mark.parametrize(
    ("model", "version"), [("", None), ("..", None), ("../a", None), ("a", 0), ("a", True)]
)
def test_a_wrong_name_or_number_is_refused_here(
    client: Any, folder: Path, model: str, version: int | None
) -> None:
    with pytest.raises(InvalidRequest):
        client.push(folder, model, version)


def test_what_is_not_there_is_refused_here(client: Any, tmp_path: Path) -> None:
    for path in (tmp_path / "nothing.tar", tmp_path / "nothing", tmp_path):
        with pytest.raises(InvalidRequest):
            client.push(path, "digits")


def test_versions_index_and_rollback(site: PublishingSite, client: Any) -> None:
    assert client.versions("digits")[1:] == (
        VersionDescription(2, "ready", "", "sha256:" + "2" * 64, 1.7e9, kept=True),
        VersionDescription(3, "ready", active=True, on_probation=True, labels=("stable",)),
    )
    with pytest.raises(NotFound):
        client.versions("nowhere")
    assert client.repository_index() == (
        IndexEntry("digits", "1", "UNAVAILABLE", "unloaded"),
        IndexEntry("digits", "2", "READY"),
        IndexEntry("torn"),
    )
    assert client.repository_index(ready_only=True) == (IndexEntry("digits", "2", "READY"),)
    assert client.rollback("digits") == 2
    with pytest.raises(Conflict):
        client.rollback("new")


def test_models_are_loaded_and_unloaded(site: PublishingSite, client: Any) -> None:
    client.load_model("digits")
    client.unload_model("digits")
    assert site.control.calls == [("load", "digits", None, {}, ""), ("unload", "digits", "")]
    site.control.allowed = False
    with pytest.raises(AccessDenied, match="--explicit-models"):
        client.unload_model("digits")


EVENTS = "text/event-stream"


def streamed(*events: bytes) -> Answer:
    body = b"".join(b"data: " + event + b"\n\n" for event in events)
    return Answer([reply(body, content_type=EVENTS)])


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (streamed(b'{"gate": "load"}'), "ended before it told whether"),
        (streamed(), "ended before it told whether"),
        (streamed(b"{]"), "no JSON"),
        (streamed(b"[1]"), "ended before it told whether"),
        (streamed(b'{"model": "a", "version": "7", "digest": ""}'), '"version"'),
        (streamed(b'{"model": "a", "version": 7}'), '"digest"'),
        (Answer([json_reply({"model": "a"})]), '"version"'),
    ],
)
def test_an_answer_that_tells_no_result_is_no_success(
    make_client: Any, folder: Path, answer: Answer, said: str
) -> None:
    with ScriptedPeer([answer]) as peer:
        client = make_client(peer.url, retries=Retries(attempts=1))
        with pytest.raises(ConnectionFailed, match=said):
            client.push(folder, "digits")


@pytest.mark.parametrize(
    "said", [{}, {"versions": {}}, {"versions": [1]}, {"versions": [{"version": 0, "state": ""}]}]
)
def test_a_list_of_versions_that_is_none_is_refused(make_client: Any, said: object) -> None:
    with ScriptedPeer([Answer([json_reply(said)])] * 2) as peer:
        client = make_client(peer.url)
        for ask in (lambda: client.versions("a"), client.repository_index):
            with pytest.raises(ConnectionFailed, match="cannot be read"):
                ask()
