"""Routes as plain JSON values, as the API takes and shows them and the state keeps them.

    {"policy": "latest"}
    {"policy": "pinned", "version": 3}
    {"policy": "split", "arms": [{"version": 3, "weight": 1}, {"version": "canary", "weight": 1}],
     "enrolled": 0.1, "salt": "digits-june", "sticky": "user_id"}

and in any of them `"model": "digits"` and `"shadow": {"version": 5, "share": 0.1}`. A `version` is
a number, or a label as text. What is left out has a default, and is written out again by
`as_plain`: what is kept must not change its meaning with a later default.

>>> as_plain(from_plain("digits", {"policy": "pinned", "version": "stable"}))
{'model': 'digits', 'policy': 'pinned', 'version': 'stable', 'shadow': None}
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from typing import Any

from pelton.errors import InvalidRequest
from pelton.routing.labels import RULE, is_label, is_version
from pelton.routing.policy import Arm, Latest, Pinned, Policy, Route, Shadow, Split, Target

MAX_ARMS = 16
"""Most versions of one split."""

MAX_WEIGHT = 1e9
"""The largest weight; only proportions count."""

MAX_FIELD_CHARS = 128
"""Longest name of a field that tells the unit."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")

_NAME_RULE = "1 to 128 letters, digits, dots, dashes and underscores, a letter or digit first"

_KEYS: Mapping[str, tuple[str, ...]] = {
    "latest": (),
    "pinned": ("version",),
    "split": ("arms", "salt", "enrolled", "sticky"),
}
"""Policy -> the keys that only it has."""


def as_plain(route: Route) -> dict[str, Any]:
    """Return a route without its name as values that JSON can hold, every default written out."""
    shadow = route.shadow
    return {
        "model": route.model,
        **_policy_as_plain(route.policy),
        "shadow": shadow and {"version": shadow.version, "share": shadow.share},
    }


def _policy_as_plain(policy: Policy) -> dict[str, Any]:
    if isinstance(policy, Latest):
        return {"policy": "latest"}
    if isinstance(policy, Pinned):
        return {"policy": "pinned", "version": policy.version}
    return {
        "policy": "split",
        "arms": [{"version": arm.version, "weight": arm.weight} for arm in policy.arms],
        "salt": policy.salt,
        "enrolled": policy.enrolled,
        "sticky": policy.sticky,
    }


def from_plain(name: str, plain: Any) -> Route:
    """Read a route.

    Args:
        name: the route's name, under which it is kept.
        plain: what was parsed from JSON; `model` and a split's `salt` default to the name.

    Raises:
        InvalidRequest: the name or a field is wrong, missing, or not known.
    """
    if not _NAME.fullmatch(name):
        raise InvalidRequest(f"{name!r:.140} is no name of a route; it must have {_NAME_RULE}")
    told = f"route {name!r}"
    kind = _mapping(plain, told).get("policy")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise _wrong(told, "policy", plain, "one of latest, pinned, split")
    _check_keys(plain, ("model", "policy", *_KEYS[kind], "shadow"), told)
    model = plain.get("model", name)
    if not isinstance(model, str) or not _NAME.fullmatch(model):
        raise _wrong(told, "model", plain, f"a model's name: {_NAME_RULE}")
    return Route(name, model, _policy(kind, plain, told, name), _shadow(plain, told))


def _policy(kind: str, plain: Mapping[str, Any], told: str, name: str) -> Policy:
    if kind == "latest":
        return Latest()
    if kind == "pinned":
        return Pinned(_target(plain, told))
    salt = plain.get("salt", name)
    if not isinstance(salt, str) or not _NAME.fullmatch(salt):
        raise _wrong(told, "salt", plain, _NAME_RULE)
    enrolled = _number(plain, "enrolled", told, 1.0) if "enrolled" in plain else 1.0
    return Split(_arms(plain, told), salt, enrolled, _sticky(plain, told))


def _arms(plain: Mapping[str, Any], told: str) -> tuple[Arm, ...]:
    listed = plain.get("arms")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_ARMS:
        raise _wrong(told, "arms", plain, f"a list of 1 to {MAX_ARMS} arms, the main one first")
    arms: list[Arm] = []
    for number, item in enumerate(listed):
        of_arm = f"{told}, arms[{number}]"
        _check_keys(_mapping(item, of_arm), ("version", "weight"), of_arm)
        arm = Arm(_target(item, of_arm), _number(item, "weight", of_arm, MAX_WEIGHT))
        if any(arm.version == other.version for other in arms):
            raise InvalidRequest(
                f"{of_arm}: `version` {arm.version!r} stands twice; "
                "give it one arm with the sum of the weights"
            )
        arms.append(arm)
    if not any(arm.weight for arm in arms):
        raise InvalidRequest(f"{told}: every `weight` is 0; at least one must be more")
    return tuple(arms)


def _sticky(plain: Mapping[str, Any], told: str) -> str | None:
    field = plain.get("sticky")
    if field is None:
        return None
    if not isinstance(field, str) or not 1 <= len(field) <= MAX_FIELD_CHARS:
        wanted = f"the name of a parameter or an input, of at most {MAX_FIELD_CHARS} characters"
        raise _wrong(told, "sticky", plain, wanted)
    return field


def _shadow(plain: Mapping[str, Any], told: str) -> Shadow | None:
    shadow = plain.get("shadow")
    if shadow is None:
        return None
    of_shadow = f"{told}, shadow"
    _check_keys(_mapping(shadow, of_shadow), ("version", "share"), of_shadow)
    return Shadow(_target(shadow, of_shadow), _number(shadow, "share", of_shadow, 1.0))


def _target(plain: Mapping[str, Any], told: str) -> Target:
    value = plain.get("version")
    if is_version(value) or is_label(value):
        return value
    if isinstance(value, str) and value.isdecimal():
        raise _wrong(told, "version", plain, "a number, without quotes, or a label")
    raise _wrong(told, "version", plain, f"the number of a version, from 1, or a label; {RULE}")


def _number(plain: Mapping[str, Any], field: str, told: str, most: float) -> float:
    value: Any = plain.get(field)
    if type(value) not in (int, float) or not 0 <= value <= most:
        raise _wrong(told, field, plain, f"a number from 0 to {most:.0f}")
    return float(value)


def _mapping(plain: Any, told: str) -> Mapping[str, Any]:
    if not isinstance(plain, Mapping):
        raise InvalidRequest(f"{told} is {plain!r:.60}; it must be an object")
    return plain


def _check_keys(plain: Mapping[str, Any], known: Sequence[str], told: str) -> None:
    for key in plain:
        if key not in known:
            near = difflib.get_close_matches(str(key)[:60], known, 1)
            meant = f"; did you mean `{near[0]}`?" if near else f"; known are {', '.join(known)}"
            raise InvalidRequest(f"{told}: `{key!s:.60}` is not known here{meant}")


def _wrong(told: str, field: str, plain: Mapping[str, Any], wanted: str) -> InvalidRequest:
    if field not in plain:
        return InvalidRequest(f"{told}: `{field}` is missing; it must be {wanted}")
    return InvalidRequest(f"{told}: `{field}` is {plain[field]!r:.60}; it must be {wanted}")
