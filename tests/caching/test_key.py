"""Equal questions have one key; questions that differ in anything have two."""

from __future__ import annotations

import hashlib
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caching.plain_values import VALUES, bits
from pelton.caching.encoding import decode, encode
from pelton.caching.key import FORMAT, JOIN_BYTES, REMEMBERED_FORMS, SHORT_BYTES, Keys, weight_bytes
from pelton.messages import InferRequest

X = np.arange(4, dtype="<f4")
DIGEST = "sha256:" + 64 * "0"


def key(
    model="m",
    version="1",
    identity=DIGEST,
    tenant="t",
    outputs=(),
    parameters=None,
    inputs=None,
):
    inputs = {"x": X} if inputs is None else inputs
    return Keys(model, version, identity).key(tenant, inputs, outputs, parameters)


DIFFERENT = [
    {},
    {"model": "n"},
    {"version": "2"},
    {"identity": "sha256:" + 63 * "0" + "1"},
    {"tenant": ""},
    {"tenant": "u"},
    {"model": "mt", "tenant": ""},
    {"model": "", "version": "m1"},
    {"outputs": ("y",)},
    {"outputs": ("z",)},
    {"outputs": ("y", "z")},
    {"outputs": ("z", "y")},
    {"outputs": ("yz",)},
    {"parameters": {"p": 1}},
    {"parameters": {"p": 1.0}},
    {"parameters": {"p": True}},
    {"parameters": {"p": "1"}},
    {"parameters": {"q": 1}},
    {"parameters": {"p": 1, "q": 1}},
    {"inputs": {}},
    {"inputs": {"y": X}},
    {"inputs": {"x": X, "y": X}},
    {"inputs": {"y": X, "x": X}},
    {"inputs": {"x": X.view("<i4")}},
    {"inputs": {"x": X.view("u1")}},
    {"inputs": {"x": X.astype(">f4")}},
    {"inputs": {"x": X.reshape(2, 2)}},
    {"inputs": {"x": X.reshape(1, 4)}},
    {"inputs": {"x": -X}},
    {"inputs": {"x": X.tolist()}},
    {"inputs": {"x": X.tobytes()}},
    {"inputs": {"x": {"a": 1, "b": 2}}},
    {"inputs": {"x": {"b": 2, "a": 1}}},
]


def test_questions_that_differ_in_anything_have_different_keys() -> None:
    for one, other in itertools.combinations(DIFFERENT, 2):
        assert key(**one) != key(**other), (one, other)


@pytest.mark.parametrize("question", DIFFERENT)
def test_the_same_question_has_the_same_key(question) -> None:
    assert key(**question) == key(**question)
    assert len(key(**question)) == 32


def test_the_order_of_parameters_does_not_matter() -> None:
    assert key(parameters={"p": 1, "q": 2}) == key(parameters={"q": 2, "p": 1})


def test_a_remembered_text_is_not_taken_for_its_equal() -> None:
    """1, 1.0 and true are equal to Python, so whatever remembers them has to look twice."""
    keys = [key(parameters={"p": value}) for value in (1, 1.0, True, 1, True, 1.0)]
    assert keys[:3] == [keys[3], keys[5], keys[4]]
    assert len(set(keys)) == 3


def test_what_is_hashed_is_the_question_as_one_value() -> None:
    parts = Keys("m", "1", DIGEST).parts("t", {"x": X}, ("y",), {"q": True, "p": 1})
    assert bits(decode(b"".join(parts))) == bits(
        [FORMAT, "m", "1", DIGEST, "t", ["y"], [["p", 1], ["q", True]], {"x": X}]
    )


@pytest.mark.parametrize("size", [0, JOIN_BYTES - 1, JOIN_BYTES, JOIN_BYTES + 1, 300_000])
def test_the_key_is_the_sha256_of_that_at_every_size(size) -> None:
    inputs = {"x": np.arange(size, dtype="u1"), "y" * 300: X}
    question = [FORMAT, "m", "1", DIGEST, "t", [], [], inputs]
    assert key(inputs=inputs) == hashlib.sha256(b"".join(encode(question))).digest()


TEXTS = st.text(max_size=3)
QUESTIONS = st.tuples(
    TEXTS,
    TEXTS,
    TEXTS,
    TEXTS,
    st.lists(TEXTS, max_size=2).map(tuple),
    st.dictionaries(TEXTS, TEXTS | st.integers(0, 1) | st.booleans() | st.floats(), max_size=2),
    st.dictionaries(TEXTS, VALUES, max_size=2),
)


@given(QUESTIONS, QUESTIONS)
def test_different_questions_are_different_before_they_are_hashed(one, other) -> None:
    def hashed(question) -> bytes:
        model, version, identity, tenant, outputs, parameters, inputs = question
        return b"".join(Keys(model, version, identity).parts(tenant, inputs, outputs, parameters))

    def sorted_bits(question):
        return bits([*question[:5], sorted(question[5].items()), question[6]])

    assert (hashed(one) == hashed(other)) == (sorted_bits(one) == sorted_bits(other))


@pytest.mark.parametrize("inputs", [{"x": object()}, {"x": [{1}]}, {"x": [0] * 10_000}])
def test_there_is_no_key_of_what_has_no_form(inputs) -> None:
    assert key(inputs=inputs) is None


@pytest.mark.parametrize(
    ("value", "weight"),
    [
        (X, 16),
        (b"abc", 3),
        (None, 0),
        (np.array([b"a"] * 10, object), 80),
        ([X, {"a": (X, "ab")}], 34),
        ([[[[X]]]], 0),
        ([X] * 1000, 64 * 16),
    ],
)
def test_the_weight_says_roughly_how_long_hashing_takes(value, weight) -> None:
    assert weight_bytes({"x": value, "y": X}) == weight + 16


# -- forms ---------------------------------------------------------------------------------------


FORM = object()


def asked(tenant="t", outputs=(), form=FORM) -> InferRequest:
    return InferRequest("m", {}, outputs=outputs, tenant=tenant, form=form)


def remembering(request, inputs) -> Keys:
    keys = Keys("m", "3", "load 1")
    keys.remember_form(request, inputs)
    return keys


@given(
    hnp.arrays(np.float32, hnp.array_shapes(min_dims=0, max_dims=3, min_side=0)),
    st.lists(st.sampled_from(["<i8", ">f2", "|b1", "<c8"]), max_size=2),
    st.sampled_from([(), ("y",), ("y", "z")]),
)
def test_of_a_remembered_form_the_key_is_the_same(x, others, outputs) -> None:
    inputs = {"x": x} | {name: np.ones(3, name) for name in others}
    keys = remembering(asked(outputs=outputs), inputs)
    other = {name: np.array(value + 1, value.dtype) for name, value in inputs.items()}
    for each in (inputs, other):
        found = keys.of_form(asked(outputs=outputs), each)
        assert found == keys.key("t", each, outputs)
        assert found is not None


def test_what_differs_beside_the_elements_is_another_form() -> None:
    inputs = {"x": np.ones(2)}
    keys = remembering(asked(), inputs)
    for request in (asked(tenant="u"), asked(outputs=("y",)), asked(form=object())):
        assert keys.of_form(request, inputs) is None


@pytest.mark.parametrize(
    "value",
    [np.ones(JOIN_BYTES, np.uint16), np.array([b"a"], object), np.ones((2, 2)).T, "text", [1]],
    ids=["large", "objects", "layout", "text", "list"],
)
def test_only_small_arrays_have_their_form_remembered(value) -> None:
    keys = remembering(asked(), {"a": np.ones(1), "x": value})
    assert keys.of_form(asked(), {"a": np.ones(1), "x": value}) is None


def test_a_request_whose_form_is_not_known_has_none_remembered() -> None:
    keys = remembering(asked(form=None), {"x": np.ones(1)})
    assert keys.of_form(asked(form=None), {"x": np.ones(1)}) is None


# -- short questions -----------------------------------------------------------------------------


def near(question) -> bytes | None:
    """Return the key of a question to a version whose keys are told to nobody."""
    asked_of = {"tenant": "t", "outputs": (), "parameters": None, "inputs": {"x": X}} | question
    keys = Keys("m", "1", DIGEST, told=False)
    told = (asked_of["tenant"], asked_of["inputs"], asked_of["outputs"], asked_of["parameters"])
    return keys.key(*told)


def test_a_short_question_is_its_own_key() -> None:
    encoded = [encode(part) for part in ("t", ["y"], [["p", 1]], {"x": X})]
    question = b"".join(b"".join(parts) for parts in encoded)
    assert near({"outputs": ("y",), "parameters": {"p": 1}}) == question


def test_short_questions_that_differ_in_anything_have_different_keys() -> None:
    of_one_version = [one for one in DIFFERENT if not {"model", "version", "identity"} & one.keys()]
    assert len({near(one) for one in of_one_version}) == len(of_one_version)


@pytest.mark.parametrize("length", [SHORT_BYTES - 1, SHORT_BYTES, SHORT_BYTES + 1])
def test_a_longer_one_is_hashed_with_all_that_names_the_version(length) -> None:
    empty = near({"inputs": {"x": np.zeros(0, "u1")}})
    assert empty is not None
    inputs = {"x": np.zeros(length - len(empty), "u1")}
    assert len(near({"inputs": inputs})) == (length if length <= SHORT_BYTES else 32)
    if length > SHORT_BYTES:
        assert near({"inputs": inputs}) == key(inputs=inputs)


def test_no_short_question_is_as_short_as_a_hash() -> None:
    assert len(near({"tenant": "", "inputs": {}})) > hashlib.sha256().digest_size


@pytest.mark.parametrize("size", [1, 200, 300, 2000])
@pytest.mark.parametrize("others", [[], ["<i8"], ["<i8", ">f2"]])
def test_a_remembered_form_makes_no_other_key_of_a_short_question(size, others) -> None:
    inputs = {"x": np.ones(size, "f4")} | {name: np.ones(3, name) for name in others}
    keys = Keys("m", "3", "load 1", told=False)
    keys.remember_form(asked(), inputs)
    other = {name: np.array(value + 1, value.dtype) for name, value in inputs.items()}
    for each in (inputs, other):
        found = keys.of_form(asked(), each)
        assert found is not None
        assert found == keys.key("t", each)


@pytest.mark.parametrize("told", [True, False])
@pytest.mark.parametrize("size", [1, 300, 2000])
def test_elements_that_came_in_one_piece_make_no_other_key(size, told) -> None:
    keys = Keys("m", "3", "load 1", told=told)
    for value in range(3):
        came = np.full(size, value, "<f4")
        request = asked()
        request.inputs, request.elements = {"x": came}, memoryview(came.tobytes())
        if not value:
            keys.remember_form(request, request.inputs)
        found = keys.of_form(request, request.inputs)
        assert found is not None
        assert found == keys.key("t", {"x": came})
        request.elements = None
        assert found == keys.of_form(request, request.inputs)


def test_elements_are_passed_over_where_the_model_takes_others() -> None:
    keys, request = Keys("m", "3", "load 1", told=False), asked()
    came = np.arange(4, dtype=">f4")
    request.inputs, request.elements = {"x": came}, memoryview(came.tobytes())
    taken = {"x": came.astype("<f4")}
    keys.remember_form(request, taken)
    assert keys.of_form(request, taken) == keys.key("t", taken)


def test_remembered_forms_are_bounded() -> None:
    keys = Keys("m", "3", "load 1")
    inputs = {"x": np.ones(1)}
    every = [asked(form=object()) for _ in range(REMEMBERED_FORMS + 1)]
    for request in every:
        keys.remember_form(request, inputs)
    assert [keys.of_form(each, inputs) is not None for each in every].count(True) == 1
