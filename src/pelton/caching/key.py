"""The key of a question: equal for equal questions, and for no two others.

A key is the SHA-256 (FIPS 180-4) of the question in the form of `encoding.py`, in which no two
questions are alike, so whoever finds two with one key has broken SHA-256. A short question that is
kept in this process alone is its own key: to compare a few hundred bytes is quicker than to hash
them, and leaves nothing to be broken. The question is a list:

    format            what this list means, so that a later Pelton never takes it for its own
    model, version    their names
    identity          digest of the version's manifest, or what names this one load of it
    tenant            so that nobody learns from a hit, or from its time, what another one asked
    outputs           the wanted ones, in order
    parameters        pairs of name and value, sorted by name; 1, 1.0, true and "1" are four values
    inputs            by name, in order, each with its dtype, its shape and its elements

Where it is its own key, model, version and identity are left out: the memory that it is kept in
belongs to one load of one version.

Two byte orders of an array are two questions, and so are two orders of names: a model could tell
them apart. The price is a few hits.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import operator
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pelton.caching.encoding import NotPlain, Part, array_parts, encode, head
from pelton.messages import InferRequest, Parameter, Value

FORMAT = "pelton result cache 1"

JOIN_BYTES = 32 * 1024
"""Up to this size it is quicker to copy all pieces together than to hash one by one."""

REMEMBERED_CHARACTERS = 256
"""Up to this length, names are encoded once."""

REMEMBERED_FORMS = 256
"""Of each model; the next requests bring back what is forgotten."""

ON_LOOP_BYTES = 256 * 1024
"""Inputs of more bytes than this are hashed in a thread, where others need not wait for it."""

SHORT_BYTES = 1024
"""Up to this length a question is its own key; it is always longer than a hash."""

LEVELS = 3
FIRST_VALUES = 64
"""So deep, and so far into each container, is looked for large arrays and texts."""


class _Form(NamedTuple):
    """What questions of one form have in common.

    Attributes:
        begin: what is hashed first; empty where the question is its own key.
        heads: what comes before the elements of each input.
        sole: all that comes before the elements of the only input, where the model takes these as
            they came; else None.
    """

    begin: bytes
    heads: tuple[bytes, ...]
    sole: bytes | None


class Keys:
    """Makes the keys for one loaded version of a model."""

    def __init__(self, model: str, version: str, identity: str, *, told: bool = True) -> None:
        """Begin every key with what all questions to the version share.

        Args:
            model: its name.
            version: its version, as text.
            identity: what tells it from any other model that ever had this name and version: the
                digest of its manifest, or, where it has none, a name that no other load has.
            told: whether keys are told to others, who keep answers by them; then all are hashes.
        """
        parts: list[Part] = [head(b"l", 8)]
        for each in (FORMAT, model, version, identity):
            parts += encode(each)
        self._begin = b"".join(parts)
        self._told = told
        self._forms: dict[tuple[object, str, tuple[str, ...]], _Form] = {}

    def of_form(self, request: InferRequest, inputs: Mapping[str, Value]) -> bytes | None:
        """Return the key of a question without parameters, if its form is remembered, or None.

        Args:
            request: tells the form, the tenant and the wanted outputs.
            inputs: its inputs, checked.
        """
        form = self._forms.get((request.form, request.tenant, request.outputs))
        if form is None:
            return None
        begin, heads, sole = form
        if sole is not None and (elements := request.elements) is not None:
            question = sole + elements
        else:
            question = begin
            for before, value in zip(heads, inputs.values(), strict=True):
                question += before + value.tobytes()  # quicker than a view of so little
        return hashlib.sha256(question).digest() if begin else question

    def remember_form(self, request: InferRequest, inputs: Mapping[str, Value]) -> None:
        """Keep what is hashed before the elements of each input, for all questions of this form.

        Only for what is quick anyway: arrays that hold no objects, and are small.
        """
        if request.form is None or not inputs or weight_bytes(inputs) > JOIN_BYTES:
            return
        for value in inputs.values():
            if type(value) is not np.ndarray or value.dtype.kind == "O":
                return
            if not value.flags.c_contiguous:
                return
        heads: list[bytes] = []
        before = b""
        for part in self._question(request.tenant, inputs, request.outputs, {}) or ():
            if isinstance(part, memoryview):
                heads.append(before)
                before = b""
            else:
                before += part
        if len(heads) == len(inputs):
            if len(self._forms) >= REMEMBERED_FORMS:
                self._forms.clear()
            short = self._is_short(sum(map(len, heads)) + weight_bytes(inputs))
            begin = b"" if short else self._begin
            as_they_came = all(map(operator.is_, inputs.values(), request.inputs.values()))
            is_sole = len(heads) == 1 and as_they_came
            known = _Form(begin, tuple(heads), begin + heads[0] if is_sole else None)
            self._forms[request.form, request.tenant, request.outputs] = known

    def key(
        self,
        tenant: str,
        inputs: Mapping[str, Value],
        outputs: tuple[str, ...] = (),
        parameters: Mapping[str, Parameter] | None = None,
    ) -> bytes | None:
        """Return the key of a question.

        Args:
            tenant: who asks, in the sense in which tenants must not see each other's answers.
            inputs: checked inputs by name, as the model will see them.
            outputs: the names of the wanted outputs; empty for all.
            parameters: those that may change the answer.

        Returns:
            The key; None where the inputs hold something of which no key can be made: an object
            that is no plain value, or values of very many parts.
        """
        parts = self._question(tenant, inputs, outputs, parameters or {})
        if parts is None:
            return None
        if weight_bytes(inputs) <= JOIN_BYTES:
            question = b"".join(parts)
            if self._is_short(len(question)):
                return question
            return hashlib.sha256(self._begin + question).digest()
        hashing = hashlib.sha256(self._begin)
        for part in parts:
            hashing.update(part)
        return hashing.digest()

    def _is_short(self, length: int) -> bool:
        return not self._told and length <= SHORT_BYTES

    def parts(
        self,
        tenant: str,
        inputs: Mapping[str, Value],
        outputs: tuple[str, ...],
        parameters: Mapping[str, Parameter],
    ) -> list[Part] | None:
        """Return what is hashed, in pieces; None where there is no key."""
        parts = self._question(tenant, inputs, outputs, parameters)
        return None if parts is None else [self._begin, *parts]

    def _question(
        self,
        tenant: str,
        inputs: Mapping[str, Value],
        outputs: tuple[str, ...],
        parameters: Mapping[str, Parameter],
    ) -> list[Part] | None:
        """Return what is asked of this version, in pieces; None where there is no key."""
        parts: list[Part] = [_text(tenant), head(b"l", len(outputs)), *map(_text, outputs)]
        try:
            if parameters:
                parts += encode([list(pair) for pair in sorted(parameters.items())])
            else:
                parts.append(_NO_PAIRS)
            parts.append(head(b"m", len(inputs)))
            for name, value in inputs.items():
                parts.append(_text(name))
                if type(value) is np.ndarray and value.dtype.kind != "O":
                    parts += array_parts(value)
                else:
                    parts += encode(value)
        except NotPlain:
            return None
        return parts


def _text(text: str) -> Part:
    return _remembered(text) if len(text) <= REMEMBERED_CHARACTERS else encode(text)[0]


_NO_PAIRS = head(b"l", 0)


@functools.lru_cache(maxsize=1024)
def _remembered(text: str) -> Part:
    return encode(text)[0]


def weight_bytes(inputs: Mapping[str, Value]) -> int:
    """Return how many bytes of an array take as long to hash as these inputs, roughly."""
    weight = 0
    for value in inputs.values():
        weight += value.nbytes if type(value) is np.ndarray else _weight(value, LEVELS)
    return weight


def _weight(value: Value, levels: int) -> int:
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, str | bytes | bytearray):
        return len(value)
    if levels and isinstance(value, list | tuple | dict):
        inner = value.values() if isinstance(value, dict) else value
        return sum(_weight(each, levels - 1) for each in itertools.islice(inner, FIRST_VALUES))
    return 0
