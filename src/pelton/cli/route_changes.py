"""What was typed after `pelton routes set`, as a policy in JSON."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pelton.errors import InvalidRequest, SettingsError
from pelton.wire import strict_json
from pelton.wire.limits import Limits

Policy = dict[str, Any]

_LIMITS = Limits(max_json_bytes=16 * 1024)

_OF_A_SPLIT = ("enrolled", "salt", "sticky")


class RouteChange(NamedTuple):
    """The options, as they were typed; None for what was not.

    Attributes:
        latest: `--latest`
        pin: `--pin`, a version or a label.
        split: `--split`, such as `2=90,3=10`.
        enrolled: `--enrolled`
        salt: `--salt`
        sticky: `--sticky`
        shadow: `--shadow`, such as `4=0.05`, or `none`.
        model: `--model`
    """

    latest: bool = False
    pin: str | None = None
    split: str | None = None
    enrolled: float | None = None
    salt: str | None = None
    sticky: str | None = None
    shadow: str | None = None
    model: str | None = None


NOTHING = RouteChange()


def changed(before: Mapping[str, Any] | None, change: RouteChange) -> Policy:
    """Return the policy that a change makes of the one before; what is not said stays.

    Args:
        before: the policy that is set, as the server tells it; None where there is none.
        change: what was typed.

    Raises:
        SettingsError: options contradict each other, or cannot be read.
    """
    if change == NOTHING:
        raise SettingsError(
            "say how: --latest, --pin 3, --split 2=90,3=10, --shadow 4=0.05, or a FILE"
        )
    policy = dict(before or {"policy": "latest"})
    answering = _answering(policy, change)
    kept = {key: policy[key] for key in ("model", "shadow") if key in policy}
    if change.model is not None:
        kept["model"] = change.model
    if change.shadow is not None:
        kept["shadow"] = None if change.shadow == "none" else _shadow(change.shadow)
    return answering | kept


def read_policy(file: Path, change: RouteChange) -> Policy:
    """Read a whole policy from a file, or from the standard input where it is `-`.

    Raises:
        SettingsError: it cannot be read, is no JSON object, or options were given as well.
    """
    if change != NOTHING:
        raise SettingsError("give a FILE or options; the file holds the whole policy")
    try:
        raw = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        policy = strict_json.loads(raw, _LIMITS)
    except OSError as error:
        raise SettingsError(f"cannot read {file}: {error.strerror}") from None
    except InvalidRequest as error:
        raise SettingsError(f"cannot read {file}: {error.message}") from None
    if not isinstance(policy, dict) or not policy:
        raise SettingsError(f'{file} has to hold an object, such as {{"policy": "latest"}}')
    return policy


def _answering(policy: Policy, change: RouteChange) -> Policy:
    """Return the part of the policy that says which version answers."""
    kinds = [bool(change.latest), change.pin is not None, change.split is not None]
    if sum(kinds) > 1:
        raise SettingsError("--latest, --pin and --split exclude each other")
    of_split = {key: getattr(change, key) for key in _OF_A_SPLIT}
    said = {key: value for key, value in of_split.items() if value is not None}
    is_split = policy["policy"] == "split"
    if said and not (change.split or (is_split and not any(kinds))):
        raise SettingsError(f"--{min(said)} is of a split; say --split as well, such as 2=90,3=10")
    if change.latest:
        return {"policy": "latest"}
    if change.pin is not None:
        return {"policy": "pinned", "version": _version(change.pin)}
    if change.split is not None:
        draw = {key: policy[key] for key in _OF_A_SPLIT if is_split and key in policy}
        return {"policy": "split", "arms": _arms(change.split)} | draw | said
    return {key: each for key, each in policy.items() if key not in ("model", "shadow")} | said


def _version(written: str) -> int | str:
    """Read a number, or a label, which the server checks."""
    return int(written) if written.isdecimal() and len(written) < 10 else written


def _arms(written: str) -> list[Policy]:
    wanted = f"--split is {written!r:.80}; it has to be versions and weights, such as 2=90,3=10"
    return [
        {"version": version, "weight": weight}
        for version, weight in (_pair(each, wanted) for each in written.split(","))
    ]


def _shadow(written: str) -> Policy:
    wanted = f"--shadow is {written!r:.80}; it has to be a version and a share, such as 4=0.05"
    version, share = _pair(written, wanted)
    return {"version": version, "share": share}


def _pair(written: str, wanted: str) -> tuple[int | str, float]:
    version, equals, number = written.strip().partition("=")
    try:
        if not (version and equals):
            raise ValueError
        return _version(version), float(number)
    except ValueError:
        raise SettingsError(wanted) from None
