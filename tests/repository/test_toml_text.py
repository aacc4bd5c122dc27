"""TOML of a stranger: whatever stands in it, it is refused in a sentence or read soon."""

from __future__ import annotations

import contextlib
import random
import time
import tracemalloc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from pelton.errors import LoadFailed
from pelton.repository.own_files import MAX_CONFIG_BYTES
from pelton.repository.toml_text import MAX_DEPTH, MAX_PARTS, MAX_WORD, read_toml


def read(folder: Path, text: str) -> Mapping[str, Any]:
    path = folder / "model.toml"
    path.write_text(text, encoding="utf-8")
    return read_toml(path, "net/model.toml")


def refusal(folder: Path, text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        read(folder, text)
    return error.value.message.removeprefix("net/model.toml ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (".".join(["a"] * 20_000) + "=1", "is no valid TOML: a name has more than 8 parts"),
        (" . ".join(["a"] * 9) + "=1", "a name has more than 8 parts (at line 1)"),
        ("\n[" + ".".join(["a"] * 9) + "]", "a name has more than 8 parts (at line 2)"),
        ("[[" + ".".join(["'a'"] * 9) + "]]", "a name has more than 8 parts"),
        ("x = {" + ".".join(['"a"'] * 9) + "=1}", "a name has more than 8 parts"),
        ("x = " + "[" * 17 + "]" * 17, "brackets lie more than 16 deep (at line 1)"),
        ("x = " + "{a=" * 17 + "1" + "}" * 17, "brackets lie more than 16 deep"),
        ("x = " + "9" * 5_000, "a word has more than 128 characters (at line 1)"),
        ("x = 0x" + "f" * 60_000, "a word has more than 128 characters"),
        ("x = -" + "9" * 100, "holds a whole number of more than 64 bits"),
        ("x = [{a = [18446744073709551616]}]", "holds a whole number of more than 64 bits"),
        ('x = "a', "is no valid TOML: a text is not closed (at line 1)"),
        ("x = '''a''", "is no valid TOML: a text is not closed (at line 1)"),
        ("x = 2026-02-31", "is no valid TOML: "),
        # Names that hide behind what may look like a text that goes on.
        ("x = {b='''a'''', " + ".".join(["a"] * 9) + "=1, c='d'}", "more than 8 parts"),
        ('x = {b="""a""""", ' + ".".join(["a"] * 9) + "=1, c='d'}", "more than 8 parts"),
        ('x = {b="""a\\""""", ' + ".".join(["a"] * 9) + "=1, c='d'}", "more than 8 parts"),
        ('x = "\\\\" #"\n' + ".".join(["a"] * 9) + "=1", "more than 8 parts (at line 2)"),
        ("x = 'a\\' #'\n" + ".".join(["a"] * 9) + "=1", "more than 8 parts (at line 2)"),
    ],
)
def test_what_would_take_much_is_refused(tmp_path: Path, text: str, said: str) -> None:
    assert said in refusal(tmp_path, text)


def test_what_only_looks_like_much_is_read(tmp_path: Path) -> None:
    dots, brackets = "a.b" * 50, "[{" * 50
    text = f"""
    # {dots} {brackets} "
    a = "{dots} {brackets} \\" ' # "  # '
    b = '{dots} {brackets} " # '
    c = \"\"\"{dots} {brackets}
    ""\\"\"\" ''' \"\"\"\"\"
    d = '''{dots} '' {brackets}
    \"\"\" '''''
    e = [{", ".join(["1.5"] * 1000)}]
    f = 18446744073709551615
    [{".".join(["g"] * MAX_PARTS)}]
    h = {"[" * MAX_DEPTH}{"]" * MAX_DEPTH}
    {"i" * MAX_WORD} = 2026-11-21T10:00:00.5Z
    """
    table = read(tmp_path, text)
    assert list(table) == ["a", "b", "c", "d", "e", "f", "g"]
    assert table["c"].endswith('""""" \'\'\' ""')
    assert table["d"].endswith('""" \'\'')


def repeated(piece: Callable[[int], str], before: str = "", after: str = "") -> str:
    """Return pieces between two texts, as many as a file may hold."""
    pieces, room = [], MAX_CONFIG_BYTES - len(before) - len(after)
    while len(one := piece(len(pieces))) <= room:
        pieces.append(one)
        room -= len(one)
    return before + "".join(pieces) + after


DEEP = ".a" * (MAX_PARTS - 1)

WORST = {
    "keys": repeated(lambda at: f"{at:x}={{}}\n"),
    "tables": repeated(lambda at: f"[{at:x}]\n"),
    "deep tables": repeated(lambda at: f"[{at:x}{DEEP}]\n"),
    "deep keys": repeated(lambda at: f"{at:x}{DEEP}={{}}\n"),
    "deep keys in a deep table": repeated(lambda at: f"{at:x}{DEEP}={{}}\n", f"[a{DEEP}]\n"),
    "arrays of tables": repeated(lambda at: f"[[a{DEEP}]]\n"),
    "tables in braces": repeated(lambda at: f"{{a{DEEP}=1}},", "a=[", "]"),
    "numbers": repeated(lambda at: "1,", "a=[", "]"),
    "arrays": repeated(lambda at: "[],", "a=[", "]"),
    "escapes": repeated(lambda at: "\\n", 'a="', '"'),
}


@pytest.mark.parametrize("text", WORST.values(), ids=WORST)
def test_the_worst_that_is_read_takes_little(tmp_path: Path, text: str) -> None:
    started_s = time.process_time()
    read(tmp_path, text)
    assert time.process_time() - started_s < 2.0, "usually 0.15 s at most"
    tracemalloc.start()
    try:
        read(tmp_path, text)
        assert tracemalloc.get_traced_memory()[1] < 50 << 20
    finally:
        tracemalloc.stop()


def test_no_text_does_more_than_be_refused(tmp_path: Path) -> None:
    chance = random.Random(0)
    pieces = ["a", ".", "=", "[", "]", "{", "}", ",", "\n", '"', "'", '"""', "'''", "\\", "#", " ",
              "1", "-", "0x", "9" * 60, "1e999", "inf", "2020-01-01", "T25:00:00", "\x00", "é"]  # fmt: skip
    for _ in range(1000):
        text = "a = " * chance.randint(0, 1) + "".join(chance.choices(pieces, k=30))
        with contextlib.suppress(LoadFailed):
            read(tmp_path, text)
