"""Kinds of column that keep the same values in every database."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Dialect, Text, TypeDecorator

from pelton.errors import InvalidRequest, PeltonError
from pelton.state.failures import UNREADABLE


class PlainText(TypeDecorator[str]):
    """Text that every database can keep: valid Unicode without NUL."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: Dialect) -> str | None:
        """Refuse what one of the databases could not keep.

        Raises:
            InvalidRequest: the text holds a NUL or half of a surrogate pair.
        """
        if value is not None and not keepable(value):
            raise InvalidRequest(
                f"the text {value[:40]!a} holds a character that cannot be kept: "
                "NUL, or half of a surrogate pair"
            )
        return value


class PlainJson(TypeDecorator[Mapping[str, Any]]):
    """Plain values as JSON text; unlike the databases' own JSON it keeps NaN and infinities."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Mapping[str, Any] | None, dialect: Dialect) -> str | None:
        """Write the values as ASCII."""
        return None if value is None else json.dumps(dict(value), separators=(",", ":"))

    def process_result_value(self, value: str | None, dialect: Dialect) -> dict[str, Any] | None:
        """Read them.

        Raises:
            PeltonError: they were not written by us.
        """
        if value is None:
            return None
        try:
            loaded = json.loads(value)
        except (ValueError, TypeError, RecursionError) as error:
            raise PeltonError(UNREADABLE) from error
        if not isinstance(loaded, dict):
            raise PeltonError(UNREADABLE)
        return loaded


def keepable(text: str) -> bool:
    """Whether every database can keep the text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return "\0" not in text
