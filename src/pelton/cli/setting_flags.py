"""Gives a command a flag for every row of the table of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import typer

from pelton.setting_values import YES_NO, Setting
from pelton.settings import SETTINGS
from pelton.settings_docs import shown

Command = Callable[..., None]

FLAGGED = tuple(setting for setting in SETTINGS if not setting.file_only)


def with_setting_flags(command: Command) -> Command:
    """Extend a command's signature by the settings.

    Args:
        command: takes its own parameters and `flags`, a dict of setting name -> text or None.

    Returns:
        A function that typer sees with one option per setting in the place of `flags`.
    """
    signature = inspect.signature(command, eval_str=True)
    own = [p for p in signature.parameters.values() if p.name != "flags"]

    def run(**given: Any) -> None:
        flags = {setting.name: _text(given.pop(setting.name)) for setting in FLAGGED}
        command(**given, flags=flags)

    parameters = own + [_parameter(setting) for setting in FLAGGED]
    run.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    run.__doc__ = command.__doc__
    return run


def _text(given: str | bool | None) -> str | None:
    return str(given).lower() if isinstance(given, bool) else given


def _parameter(setting: Setting) -> inspect.Parameter:
    told = setting.form.told
    switch = setting.form is YES_NO
    option = typer.Option(
        None,
        f"{setting.flag}/--no-{setting.flag[2:]}" if switch else setting.flag,
        # A choice is shown as it is to be typed, anything else as the name of its kind.
        metavar=None if switch else told.replace(" ", "") if "|" in told else told.upper(),
        help=f"{setting.help} (default: {shown(setting, setting.default)})",
        rich_help_panel=setting.group,
        show_default=False,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=option,
        annotation=(bool if switch else str) | None,
    )
