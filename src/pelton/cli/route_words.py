"""A route's policy on one line, for people."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def in_words(policy: Mapping[str, Any]) -> str:
    """Return a policy, as the server tells it, in a few words.

    >>> in_words({"model": "m", "policy": "pinned", "version": 3, "shadow": None})
    'm: version 3'
    """
    try:
        return _in_words(policy)
    except (KeyError, TypeError, ZeroDivisionError):  # as another version of Pelton writes it
        return json.dumps(policy)


def _in_words(policy: Mapping[str, Any]) -> str:
    told = f"{policy['model']}: {_answering(policy)}"
    shadow = policy.get("shadow")
    if shadow:
        told += f"; copies of {_percent(shadow['share'])} to {shadow['version']}"
    return told


def _answering(policy: Mapping[str, Any]) -> str:
    kind = policy["policy"]
    if kind == "latest":
        return "the latest version"
    if kind == "pinned":
        return f"version {policy['version']}"
    total = sum(arm["weight"] for arm in policy["arms"])
    shares = [f"{arm['version']} ({_percent(arm['weight'] / total)})" for arm in policy["arms"]]
    told = f"split among {', '.join(shares)}"
    if policy["enrolled"] != 1:
        main = policy["arms"][0]["version"]
        told += f" of {_percent(policy['enrolled'])} of all, the rest by {main}"
    if policy["sticky"]:
        told += f"; by the field {policy['sticky']}"
    return f"{told}; salt {policy['salt']}"


def _percent(share: Any) -> str:
    return f"{100 * share:.6g} %"
