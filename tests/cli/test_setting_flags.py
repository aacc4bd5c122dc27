"""Every setting is a flag of `pelton serve`, and `pelton settings` lists them all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from pelton.cli import serve, show_settings
from pelton.cli.setting_flags import FLAGGED, with_setting_flags
from pelton.setting_values import YES_NO, Setting
from pelton.settings import SETTINGS
from pelton.settings_docs import render, shown

WIDE = {"COLUMNS": "200"}


def app_of(command) -> typer.Typer:
    app = typer.Typer()
    app.command()(command)
    return app


@pytest.fixture
def said():
    """Return a command with all flags, and the list of what it was called with."""
    calls: list[tuple[Path | None, dict[str, str | None]]] = []

    def command(
        path: Annotated[Path | None, typer.Argument()] = None, *, flags: dict[str, str | None]
    ) -> None:
        """Tell."""
        calls.append((path, flags))

    return app_of(with_setting_flags(command)), calls


@pytest.mark.parametrize("setting", FLAGGED, ids=lambda setting: setting.name)
def test_each_flag_hands_on_what_was_typed(said, setting: Setting) -> None:
    app, calls = said
    typed = ["true"] if setting.form is YES_NO else ["as typed"]
    words = [] if setting.form is YES_NO else typed
    assert CliRunner().invoke(app, [setting.flag, *words, "here"]).exit_code == 0
    ((path, flags),) = calls
    assert path == Path("here")
    assert flags == {each.name: None for each in FLAGGED} | {setting.name: typed[0]}


def test_what_is_said_in_the_file_only_has_no_flag(said) -> None:
    app, calls = said
    (hidden,) = set(SETTINGS) - set(FLAGGED)
    for flag in (hidden.flag, f"--no-{hidden.flag[2:]}"):
        assert CliRunner().invoke(app, [flag]).exit_code == 2
    assert hidden.flag not in CliRunner().invoke(app, ["--help"], env=WIDE).output
    assert not calls


def test_a_switch_can_be_turned_off(said) -> None:
    app, calls = said
    assert CliRunner().invoke(app, ["--no-deterministic"]).exit_code == 0
    assert calls[0][1]["deterministic"] == "false"


def test_flags_that_are_not_given_are_none(said) -> None:
    app, calls = said
    assert CliRunner().invoke(app).exit_code == 0
    assert calls == [(None, {each.name: None for each in FLAGGED})]


def test_a_value_may_begin_with_a_dash(said) -> None:
    app, calls = said
    assert CliRunner().invoke(app, ["--port=-1"]).exit_code == 0
    assert calls[0][1]["port"] == "-1"


def test_the_help_of_serve_tells_every_flag_with_its_default() -> None:
    result = CliRunner().invoke(app_of(serve.command), ["--help"], env=WIDE)
    assert result.exit_code == 0
    options = result.output.partition("─ Serving ─")[2]
    text = re.sub(r"[\s│]+", " ", options)
    for setting in FLAGGED:
        assert f" {setting.flag} " in text
        assert setting.help in text
    for setting in FLAGGED:
        line = text[text.index(f" {setting.flag} ") :]
        default = re.search(r"[(\[]default: (.*?)[)\]]", line)
        assert default is not None, setting.flag
        assert default[1] == shown(setting, setting.default)


def test_the_help_of_serve_shows_examples() -> None:
    lines = CliRunner().invoke(app_of(serve.command), ["--help"], env=WIDE).output.splitlines()
    examples = [line.strip() for line in lines if line.strip().startswith("pelton serve ")]
    assert examples[0] == "pelton serve classifier.onnx"
    assert len(examples) == 3


def test_all_settings_are_listed() -> None:
    result = CliRunner().invoke(app_of(show_settings.command), env=WIDE)
    assert result.exit_code == 0
    rows = [
        [cell.strip() for cell in line.split("│")[1:-1]]
        for line in result.output.splitlines()
        if line.startswith("│")
    ]
    assert [row[:3] for row in rows if row[0]] == [
        [
            setting.name,
            "in the file only" if setting.file_only else setting.variable,
            shown(setting, setting.default),
        ]
        for setting in SETTINGS
    ]


def test_the_document_is_printed_as_it_is_kept() -> None:
    result = CliRunner().invoke(app_of(show_settings.command), ["--markdown"])
    assert (result.exit_code, result.output) == (0, render())
