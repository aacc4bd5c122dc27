"""`pelton push`, `pelton rollback` and `pelton models`, as they are typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from client.scripted_peer import Answer, ScriptedPeer, json_reply
from pelton.cli import models, push, rollback
from pelton.cli.push import name_of
from pelton.cli.version_table import ListedModel, show
from pelton.client import VersionDescription
from pelton.errors import LoadFailed
from servers.publishing_site import PublishingSite

app = typer.Typer(pretty_exceptions_enable=False)
app.command("push")(push.command)
app.command("rollback")(rollback.command)
app.command("models")(models.command)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    version = tmp_path / "digits" / "3"
    version.mkdir(parents=True)
    (version / "model.onnx").write_bytes(bytes(100_000))
    return version


def run(*arguments: str) -> Result:
    return CliRunner(env={"COLUMNS": "160", "PELTON_API_KEY": ""}).invoke(app, list(arguments))


def test_push_shows_each_gate_and_what_answers_now(site: PublishingSite, folder: Path) -> None:
    result = run("push", str(folder), "--url", site.url, "--version", "9")
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines() == [
        "digits: version 9 answers now",
        "  digest  sha256:" + "ab" * 32,
        "  golden  0.5",
    ]
    passed = [line.split()[:2] for line in result.stderr.splitlines() if "passed" in line]
    gates = ("receive", "check", "load", "warm", "golden", "swap")
    assert passed == [[gate, "passed"] for gate in gates]
    assert site.control.taken[0].model == "digits"
    assert site.control.taken[0].upload.version == 9


def test_a_refused_push_says_which_gate_and_why(site: PublishingSite, folder: Path) -> None:
    site.control.refusals["policy"] = LoadFailed("refused at the gate 'load': 3 of 10 differ")
    result = run("push", str(folder), "--model", "policy", "--url", site.url)
    assert result.exit_code == 1
    assert result.stdout == ""
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert lines[-1] == "pelton push: refused at the gate 'load': 3 of 10 differ"
    assert any(line.split()[:3] == ["load", "not", "passed"] for line in lines)


def test_what_cannot_be_pushed_is_one_sentence(site: PublishingSite, tmp_path: Path) -> None:
    result = run("push", str(tmp_path / "nothing"), "--url", site.url)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].startswith("pelton push: ")
    assert "nothing" in result.stderr
    result = run("push", str(tmp_path), "--url", site.url, "--timeout", "soon")
    assert result.exit_code == 2
    assert "--timeout is 'soon'" in result.stderr
    assert run("push", str(tmp_path), "--version", "0").exit_code == 2


def test_the_key_goes_with_a_push(folder: Path) -> None:
    said = {"model": "digits", "version": 4, "digest": "sha256:x", "numbers": {}}
    with ScriptedPeer([Answer([json_reply(said)])]) as peer:
        result = run("push", str(folder), "--url", peer.url, "--api-key", "pelton_a_b")
    assert result.exit_code == 0, result.output
    assert peer.received[0].headers["authorization"] == "Bearer pelton_a_b"
    assert peer.received[0].line == "POST /v2/repository/models/digits/versions?progress=1 HTTP/1.1"


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("digits/3", "digits"),
        ("digits", "digits"),
        ("digits/model.onnx", "model"),
        ("policy.tar", "policy"),
        ("digits/03", "03"),
    ],
)
def test_a_model_is_called_like_its_folder_or_file(tmp_path: Path, path: str, name: str) -> None:
    whole = tmp_path / path
    if whole.suffix:
        whole.parent.mkdir(exist_ok=True)
        whole.touch()
    else:
        whole.mkdir(parents=True)
    assert name_of(whole) == name


def test_rollback_says_which_version_answers(site: PublishingSite) -> None:
    result = run("rollback", "digits", "--url", site.url)
    assert (result.exit_code, result.stdout) == (0, "digits: version 2 answers now\n")
    result = run("rollback", "new", "--url", site.url)
    assert (result.exit_code, result.stderr) == (
        1,
        "pelton rollback: new has no version to go back to\n",
    )


def test_models_is_a_table_that_a_person_can_read(site: PublishingSite) -> None:
    result = run("models", "--url", site.url)
    assert result.exit_code == 0, result.output
    table, reasons = result.stdout.split("\n\n")
    lines = [line.rstrip() for line in table.splitlines()]
    assert lines[0].split() == ["model", "version", "state", "labels", "published", "digest"]
    assert lines[1].startswith("digits  1        refused                        2001-09-0")
    assert lines[1].endswith("  11111111")
    assert lines[3] == "digits  3        ready    on probation  stable"
    assert lines[2].startswith("digits  2        ready    kept")
    assert [line.split()[0] for line in lines[4:]] == ["torn"] * 3
    assert reasons.splitlines()[0] == "digits 1: refused at the gate 'load': no"


def long_version(number: int, reason: str, **further: Any) -> VersionDescription:
    digest, state = "sha256:" + "ab" * 32, "failed" if reason else "ready"
    return VersionDescription(number, state, reason, digest, 1e9, **further)


def test_words_stay_whole_in_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    left_out = "the model's version policy leaves it out"
    broken = (
        "digits/config.pbtxt, line 6: `ensemble_scheduling` is not supported: a model made " * 2
    )
    versions = [
        long_version(1, left_out),
        long_version(2, left_out),
        long_version(3, broken),
        long_version(4, "", active=True, on_probation=True, labels=("stable", "canary")),
    ]
    models = [ListedModel("digits", versions), ListedModel("empty", (), "there is no file in it")]
    show(models, Console(width=80))
    table, reasons = capsys.readouterr().out.split("\n\n")
    words = "model version state labels published digest digits failed ready on probation empty"
    assert set(words.split()) <= set(table.split())
    assert all(len(line.rstrip()) <= 80 for line in [*table.splitlines(), *reasons.splitlines()])
    assert len(table.splitlines()) == 7, "only the labels needed two lines"
    lines = reasons.splitlines()
    assert lines[0] == f"digits 1, 2: {left_out}"
    assert "".join(lines[1:-1]).replace(" ", "") == f"digits3:{broken}".replace(" ", "")
    assert lines[-1] == "empty: there is no file in it"


def test_where_nobody_looks_a_version_is_a_line(
    site: PublishingSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    name = "a-rather-long-name-" * 5
    row = {"version": 1, "state": "failed", "reason": "so " * 60, "labels": ["a" * 30, "b" * 30]}
    answers = [Answer([json_reply([{"name": name}])]), Answer([json_reply({"versions": [row]})])]
    with ScriptedPeer(answers) as peer:
        result = CliRunner().invoke(app, ["models", "--url", peer.url])
    lines = result.stdout.splitlines()
    assert len(lines) == 4
    assert lines[1].split()[:3] == [name, "1", "failed"]
    assert lines[3] == f"{name} 1: {'so ' * 60}".rstrip()


def test_one_model_is_shown_with_what_it_takes(site: PublishingSite) -> None:
    result = run("models", "scale", "--url", site.url)
    assert result.exit_code == 0, result.output
    assert result.stdout.splitlines()[-3:] == [
        "platform  fake",
        "inputs    x: FP32 [?]",
        "outputs   y: FP32 [?]",
    ]
    assert "platform" not in run("models", "digits", "--url", site.url).stdout
    assert run("models", "nowhere", "--url", site.url).exit_code == 1


def test_models_as_json(site: PublishingSite) -> None:
    rows = json.loads(run("models", "--json", "--url", site.url).stdout)
    assert [row["model"] for row in rows] == ["digits", "torn"]
    assert rows[0]["versions"][2]["active"] is True
    assert rows[0]["versions"][1]["digest"] == "sha256:" + "2" * 64


def test_no_models_is_said(site: PublishingSite) -> None:
    with ScriptedPeer([Answer([json_reply([])])]) as peer:
        result = run("models", "--url", peer.url)
    assert (result.exit_code, result.stdout) == (0, f"no model is there at {peer.url}\n")


def test_a_server_cannot_steer_the_terminal() -> None:
    evil = "a\x1b[2J\r\nb\u202e"
    row = {"version": 1, "state": evil, "reason": evil, "digest": evil, "labels": ["[red]"]}
    answers = [
        Answer([json_reply([{"name": evil}])]),
        Answer([json_reply({"versions": [row | {"published_s": 1e300}]})]),
    ]
    with ScriptedPeer(answers) as peer:
        told = run("models", "--url", peer.url).stdout
    assert "[2J" in told
    assert "[red]" in told  # which is no markup
    assert not {"\x1b", "\r", "\u202e"} & set(told)
