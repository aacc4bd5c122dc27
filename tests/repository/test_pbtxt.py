"""The text format of protocol buffers: what is written comes back, and nothing else is taken."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pelton.errors import LoadFailed
from pelton.repository.pbtxt import MAX_DEPTH, MAX_TEXT_CHARACTERS, Message, Word, parse
from repository.pbtxt_printer import printed


def plain(value: Any) -> Any:
    """Return a message as dicts and lists; a float that is no number as its text."""
    if isinstance(value, Message):
        return {name: [plain(each) for each in values] for name, values in value.fields.items()}
    if isinstance(value, float):
        return repr(value)
    return value


def refusal(text: str) -> str:
    with pytest.raises(LoadFailed) as error:
        parse(text, "net/config.pbtxt")
    assert error.value.message.startswith("net/config.pbtxt")
    assert len(error.value.message) < 300
    assert error.value.message.isprintable()
    return error.value.message.removeprefix("net/config.pbtxt, ")


def outcome(text: str) -> str:
    """Return why a text is refused; empty if it is not."""
    try:
        parse(text, "test")
    except LoadFailed as error:
        return error.message
    return ""


names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)
scalars = st.one_of(
    st.text(max_size=6),
    st.integers(-(2**63), 2**64 - 1),
    st.floats().filter(lambda value: not math.isnan(value) and value != math.inf),
    names.map(Word),
)
messages = st.recursive(
    st.just(Message()),
    lambda inner: st.dictionaries(
        names, st.lists(scalars, max_size=3) | st.lists(inner, min_size=1, max_size=3), max_size=4
    ).map(Message),
    max_leaves=12,
)


@given(messages, st.data())
def test_what_is_printed_comes_back(message: Message, data: st.DataObject) -> None:
    text = printed(message, lambda ways: data.draw(st.sampled_from(ways)))
    assert plain(parse(text, "test")) == plain(message)


def test_every_form_of_a_value() -> None:
    text = r"""
        a: 'it' "'s" '\n\t\\\"\'\?\a\b\f\r\v'   # adjacent texts are one
        b: "\303\251\xe2\x82\xac\u00e9\U0001F600 \0 \7x"
        c: [1, -2, 0x1F, 017, 0, 18446744073709551615]
        d: [1.5, .5, 1., 1e3, 1E-3, 2f, 1.5F, -0.0]
        e: [true, False, TYPE_FP32, inf, nan, -inf, - infinity, -nan]
        f { g <h: 1> g: {h: 2}; g: [{h: 3}, <h: 4>], i: [] j [] }
    """
    assert plain(parse(text, "test")) == {
        "a": ["it's\n\t\\\"'?\a\b\f\r\v"],
        "b": ["\u00e9\u20ac\u00e9\U0001f600 \0 \7x"],
        "c": [1, -2, 31, 15, 0, 2**64 - 1],
        "d": ["1.5", "0.5", "1.0", "1000.0", "0.001", "2.0", "1.5", "-0.0"],
        "e": [Word("true"), Word("False"), Word("TYPE_FP32"), Word("inf"), Word("nan"), "-inf", "-inf", "nan"],
        "f": [{"g": [{"h": [1]}, {"h": [2]}, {"h": [3]}, {"h": [4]}], "i": [], "j": []}],
    }  # fmt: skip


def test_nothing_is_a_message_too() -> None:
    for text in ("", " \n", "# only a remark", "\n\n#\n"):
        assert parse(text, "test") == Message()


def test_a_field_knows_its_line() -> None:
    message = parse('a: 1\n\nb {\n  c: "x"\n  d: [\n 1,\n 2]\n  c: "y"\n}\ne: 2\n', "test")
    (inner,) = message.fields["b"]
    assert message.lines == {"a": 1, "b": 3, "e": 10}
    assert isinstance(inner, Message)
    assert (inner.lines, inner.line) == ({"c": 4, "d": 5}, 4)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb 3", "line 2: expected is ':' or '{', and there is '3'"),
        ("a 'x'", "line 1: expected is ':' or '{', and there is"),
        ("a [1]", "line 1: expected is ':' or '{', and there is '1'"),
        ("a: [1,]", "line 1: expected is a value, and there is ']'"),
        ("a: [1 2]", "line 1: expected is ',' or ']', and there is '2'"),
        ("a: [[1]]", "line 1: expected is a value, and there is '['"),
        ("a: [,1]", "line 1: expected is a value, and there is ','"),
        ("a {\n b: 1", "line 2: expected is a name of a field or '}', and there is the end"),
        ("a { b: 1 >", "line 1: expected is a name of a field or '}', and there is '>'"),
        ("a: 1 }", "line 1: expected is a name of a field, and there is '}'"),
        ("a: 1,,b: 2", "line 1: expected is a name of a field, and there is ','"),
        ("a:", "line 1: expected is a value, and there is the end"),
        ("a: :", "line 1: expected is a value, and there is ':'"),
        ("'a': 1", "line 1: expected is a name of a field, and there is"),
        ("[a.b]: 1", "line 1: expected is a name of a field, and there is '['"),
        ("a.b: 1", "line 1: '.b:' is no value, name or mark"),
        ("a: 08", "line 1: '08' is no value, name or mark"),
        ("a: 1x", "line 1: '1x' is no value, name or mark"),
        ("a: 1.2.3", "line 1: '1.2.3' is no value, name or mark"),
        ("a: 0x", "line 1: '0x' is no value, name or mark"),
        ("a: 01f", "line 1: '01f' is no value, name or mark"),
        ("a: +1", "line 1: '+1' is no value, name or mark"),
        ("a: --1", "line 1: expected is a value, and there is '-'"),
        ("a: -x", "line 1: '-' stands before 'x'"),
        ("a: - 'x'", "line 1: expected is a value, and there is"),
        ("a: " + "9" * 100_000, "line 1: the number 999999999999... has too many digits"),
        ("\n\na: 'x", "line 3: a text is not closed on its line"),
        ("a: 'x\ny'", "line 1: a text is not closed on its line"),
        ("a: 'x\\", "line 1: a text is not closed on its line"),
        ("a: '\x00'", "line 1: a text is not closed on its line, or holds a null"),
        (r"a: '\q'", r"line 1: '\\q' is no escape that a text may hold"),
        (r"a: '\8'", "is no escape that a text may hold"),
        (r"a: '\400'", "is no escape that a text may hold"),
        (r"a: '\x'", "is no escape that a text may hold"),
        (r"a: '\u12'", "is no escape that a text may hold"),
        (r"a: '\ud800'", "is no escape that a text may hold"),
        (r"a: '\U00110000'", "is no escape that a text may hold"),
        (r"a: '\xff'", "line 1: a text is not UTF-8"),
        ("\x00", "line 1: '\\x00' is no value, name or mark"),
        ("\ufeffa: 1", "is no value, name or mark"),
        ("\u00e9: 1", "is no value, name or mark"),
        ("/* a */", "is no value, name or mark"),
    ],
)
def test_what_is_no_such_text_is_refused(text: str, said: str) -> None:
    assert said in refusal(text)


def test_depth_is_bounded() -> None:
    assert parse("a{" * MAX_DEPTH + "}" * MAX_DEPTH, "test").fields.keys() == {"a"}
    for opening in ("a{", "a<", "a:{", "a:[{", "a{b:1 "):
        said = refusal("\n" + opening * 50_000)
        assert said == f"line 2: messages lie more than {MAX_DEPTH} deep in one another"


def test_length_is_bounded() -> None:
    text = "#" * MAX_TEXT_CHARACTERS
    assert parse(text, "test") == Message()
    assert refusal(text + "#") == (
        f"net/config.pbtxt is longer than {MAX_TEXT_CHARACTERS} characters"
    )


@pytest.mark.parametrize(
    "piece", ["a:1 ", "a:[1]", "a{}", "'x' ", "#\n", "\n", "a: 'x' 'y'\n", "[", "-", "\\", "a"]
)
def test_long_texts_take_no_longer_per_character(piece: str) -> None:
    """Each ends, in an error or not, in time that the test run would otherwise notice."""
    assert len(outcome("a: " + piece * (200_000 // len(piece)))) < 200


@given(st.text(max_size=30) | st.text(alphabet="a1:{}<>[],;-.'\"\\#\nx0f ", max_size=30))
def test_any_text_is_read_or_refused(text: str) -> None:
    said = outcome(text)
    if said:
        assert said.startswith("test, line ")
        return
    message = parse(text, "test")
    assert plain(parse(printed(message, lambda ways: ways[0]), "test")) == plain(message)


def test_a_cut_off_text_is_refused_wherever_it_is_cut() -> None:
    text = 'name: "net" input [ { dims: [ 1, 2 ] } ] policy { all { } }'
    whole = [at for at in range(len(text)) if not outcome(text[:at])]
    # Whole are only: nothing; after the name; after the list of inputs; spaces behind them.
    assert [text[:at].rstrip() for at in whole if text[at - 1 : at] != " "] == [
        "",
        'name: "net"',
        text[: text.index(" policy")],
    ]
