"""A kept answer as bytes for a place that others can write to, and back.

    magic      what these bytes are, 16 bytes
    seal       SHA-256 of the magic, the key and the content, 32 bytes
    content    [digest, outputs] as in `encoding.py`

So bytes that were cut, changed, or moved to another key are no answer. The seal holds against
accidents; whoever may write there could also seal, so the password of that place is worth as much
as the models themselves.
"""

from __future__ import annotations

import hashlib

from pelton.caching.encoding import Malformed, decode, encode
from pelton.caching.entry import Entry, entry_of

MAGIC = b"pelton answer 1\n"

SEAL_BYTES = len(MAGIC) + 32
"""What stands before the content."""


def sealed(key: bytes, entry: Entry) -> bytes:
    """Return an entry as Redis keeps it.

    Raises:
        NotPlain: it has no form as data.
    """
    content = b"".join(encode([entry.digest, entry.outputs]))
    return MAGIC + _seal(key, content) + content


def unsealed(key: bytes, sealed: bytes) -> Entry:
    """Return the entry that was kept under a key.

    Raises:
        Malformed: the bytes are not what `sealed` makes for this key.
    """
    content = sealed[SEAL_BYTES:]
    if sealed[:SEAL_BYTES] != MAGIC + _seal(key, content):
        raise Malformed("no seal, or that of something else")
    value = decode(content)
    if type(value) is not list or [type(each) for each in value] != [str, dict]:
        raise Malformed("no answer")
    digest, outputs = value
    if any(type(name) is not str for name in outputs):
        raise Malformed("an output without a name")
    return entry_of(outputs, digest)


def _seal(key: bytes, content: bytes) -> bytes:
    hashing = hashlib.sha256(MAGIC + key)
    hashing.update(content)
    return hashing.digest()
