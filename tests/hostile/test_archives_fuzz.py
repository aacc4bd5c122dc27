"""Thousands of archives that are almost right: each is taken and stays inside, or is refused."""

from __future__ import annotations

import itertools
import random
import stat
import tarfile
from collections import Counter
from pathlib import Path

from pelton.errors import Code, InvalidRequest
from repository.archives import BLOCK, END, entry, pax, signed, tarred, unpacked


def seeds() -> list[bytes]:
    """Archives that are taken, of every kind there is."""
    members = [
        ("digits/model.onnx", b"w" * 1500),
        ("digits/data", None),
        ("digits/data/ü" + "x" * 120, b"1"),
    ]
    return [
        tarred(*members, format=tarfile.GNU_FORMAT),
        tarred(*members, format=tarfile.PAX_FORMAT),
        pax([(b"path", b"a/b"), (b"size", b"7"), (b"mtime", b"1.5")])
        + entry()
        + entry(b"c", prefix=b"p/q")
        + END,
    ]


def mutated(archive: bytes, chance: random.Random) -> bytes:
    """Change an archive in a few places, mostly with the checksums made right again."""
    changed = bytearray(archive)
    for _ in range(chance.randint(1, 4)):
        what, at = chance.random(), chance.randrange(len(changed))
        if what < 0.6:
            field = chance.choice([0, 100, 124, 135, 156, 257, 263, 345, 520, 530])
            at = min(at // BLOCK * BLOCK + field + chance.randrange(12), len(changed) - 1)
            changed[at] = chance.choice(
                [0, 0x20, 0x2E, 0x2F, 0x30, 0x35, 0x37, 0x78, 0x80, 0xFF, chance.randrange(256)]
            )
        elif what < 0.75:
            del changed[at : at + chance.choice([1, BLOCK, 2 * BLOCK])]
        elif what < 0.9:
            start = at // BLOCK * BLOCK
            changed[start:start] = archive[start : start + chance.choice([BLOCK, 2 * BLOCK])]
        else:
            changed[at] ^= 1 << chance.randrange(8)
        if not changed:
            break
    for start in range(0, len(changed) - BLOCK, BLOCK):
        if changed[start + 257 : start + 262] == b"ustar" and chance.random() < 0.95:
            changed[start : start + BLOCK] = signed(changed[start : start + BLOCK])
    return bytes(changed)


def test_changed_archives_end_in_our_errors_and_stay_inside(tmp_path: Path) -> None:
    chance = random.Random(20_240_229)
    taken, refusals = 0, Counter[Code]()
    for number, seed in zip(range(4000), itertools.cycle(seeds()), strict=False):
        archive = mutated(seed, chance)
        jail = tmp_path / str(number)
        jail.mkdir()
        try:
            found = unpacked(archive, jail / "out")
        except InvalidRequest as error:
            refusals[error.code] += error.message.isprintable()
            assert [path.name for path in jail.rglob("*")] == ["out"]
            continue
        taken += 1
        assert [path.name for path in jail.iterdir()] == ["out"]
        assert sum(map(len, found.values())) <= len(archive)
        for path in (jail / "out").rglob("*"):
            mode = path.lstat().st_mode
            assert stat.S_ISREG(mode) or stat.S_ISDIR(mode)
    assert len(list(tmp_path.iterdir())) == 4000
    assert refusals.keys() <= {Code.MALFORMED_REQUEST, Code.TOO_LARGE}
    assert refusals.total() == 4000 - taken
    assert 200 < taken < 3000
