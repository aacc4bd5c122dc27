"""Reads the fields of one message of a `config.pbtxt`, each as what it must be."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from typing import NoReturn, TypeVar

from pelton.errors import LoadFailed
from pelton.repository.pbtxt import Message, Value, Word

_TRUE, _FALSE = ("true", "True", "t"), ("false", "False", "f")

_Kind = TypeVar("_Kind", str, Word, Message)


class Section:
    """One message; every fault is told with its line and the way to the field.

    Attributes:
        warnings: what was passed over, shared by all sections of a file.
    """

    def __init__(self, message: Message, told: str, way: str, warnings: list[str]) -> None:
        """Make a section.

        Args:
            message: the message as it was parsed.
            told: how messages shall name the file.
            way: names of the fields that lead to it, each with a dot behind; empty for the top.
            warnings: takes what is passed over.
        """
        self.warnings = warnings
        self._message = message
        self._told = told
        self._way = way

    def has(self, name: str) -> bool:
        """Return whether a field is there, be it an empty list."""
        return name in self._message.fields

    def check_known(self, known: Collection[str]) -> None:
        """Refuse fields of other names.

        Raises:
            LoadFailed: there is one; the nearest known name is told.
        """
        for name in self._message.fields:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                hint = f"; did you mean `{near[0]}`?" if near else ""
                self.fail(name, f"is no field that is known here{hint}")

    def pass_over(self, fields: Mapping[str, str]) -> None:
        """Warn of fields that are there and have no effect.

        Args:
            fields: name -> why it does no harm, or what does its work here.
        """
        for name, why in fields.items():
            if self.has(name) and not self._says_no(name):
                self.warn(name, why)

    def refuse(self, fields: Mapping[str, str]) -> None:
        """Refuse fields without which the model would answer something else.

        Args:
            fields: name -> what cannot be done here.

        Raises:
            LoadFailed: one of them is there, and says something else than `false`.
        """
        for name, why in fields.items():
            if self.has(name) and not self._says_no(name):
                self.fail(name, f"is not supported: {why}")

    def warn(self, name: str, why: str) -> None:
        """Tell that a field is passed over."""
        self.warnings.append(f"{self._place(name)} is passed over: {why}")

    def fail(self, name: str, what: str) -> NoReturn:
        """Refuse a field.

        Raises:
            LoadFailed: always.
        """
        raise LoadFailed(f"{self._place(name)} {what}")

    def text(self, name: str) -> str:
        """Return a text; empty where it is not said."""
        value = self._one(name)
        return "" if value is None else self._as(str, name, value, "a text in quotes")

    def flag(self, name: str) -> bool:
        """Return what is true or false; false where it is not said."""
        value = self._one(name)
        if value is None:
            return False
        said = value.text if isinstance(value, Word) else {"0": "f", "1": "t"}.get(repr(value))
        if said not in (*_TRUE, *_FALSE):
            self.fail(name, "must be true or false")
        return said in _TRUE

    def whole(self, name: str, low: int, high: int) -> int | None:
        """Return a whole number within bounds; None where it is not said."""
        value = self._one(name)
        return None if value is None else self._whole(name, value, low, high)

    def wholes(self, name: str, low: int, high: int) -> list[int]:
        """Return a list of whole numbers within bounds."""
        return [self._whole(name, value, low, high) for value in self._values(name)]

    def word(self, name: str, known: Collection[str]) -> str:
        """Return one of the names of an enumeration; empty where it is not said."""
        value = self._one(name)
        if value is None:
            return ""
        said = self._as(Word, name, value, "a name without quotes").text
        if said not in known:
            self.fail(name, f"is {said:.60}, which is not known; known are {', '.join(known)}")
        return said

    def section(self, name: str) -> Section | None:
        """Return the message in a field; None where it is not said."""
        value = self._one(name)
        return None if value is None else self._section(name, value)

    def sections(self, name: str) -> list[Section]:
        """Return the messages in a field that may come several times."""
        return [self._section(name, value) for value in self._values(name)]

    def _values(self, name: str) -> list[Value]:
        return self._message.fields.get(name, [])

    def _one(self, name: str) -> Value | None:
        values = self._values(name)
        if len(values) > 1:
            self.fail(name, f"is given {len(values)} times; give it once")
        return values[0] if values else None

    def _section(self, name: str, value: Value) -> Section:
        message = self._as(Message, name, value, "written in braces")
        return Section(message, self._told, f"{self._way}{name}.", self.warnings)

    def _whole(self, name: str, value: Value, low: int, high: int) -> int:
        if type(value) is not int or not low <= value <= high:
            self.fail(name, f"must be a whole number from {low} to {high}")
        return value

    def _as(self, kind: type[_Kind], name: str, value: Value, wanted: str) -> _Kind:
        if not isinstance(value, kind):
            self.fail(name, f"must be {wanted}")
        return value

    def _says_no(self, name: str) -> bool:
        """Return whether a field only says that something is off, as it is anyway."""
        return all(
            value == ""
            or (isinstance(value, Word) and value.text in _FALSE)
            or (isinstance(value, Message) and value.fields == {"enable": [Word("false")]})
            for value in self._values(name)
        )

    def _place(self, name: str) -> str:
        line = self._message.lines.get(name, self._message.line)
        return f"{self._told}, line {line}: `{self._way}{name:.60}`"
