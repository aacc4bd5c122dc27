"""Whatever the bytes are, a request is decoded or refused, and nothing else happens."""

from __future__ import annotations

import json
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelton.errors import InvalidRequest, PeltonError
from pelton.messages import InferResponse
from pelton.specs import ModelMetadata, TensorSpec
from pelton.tensors import datatype_name
from pelton.wire.oip_client import encode_request
from pelton.wire.oip_request import decode_request
from pelton.wire.oip_response import encode_response
from wire.oip_bodies import LIMITS, SAMPLES, json_input, model

MODEL = model(TensorSpec("x", "FP32", (-1, 3)), outputs=(TensorSpec("y", "FP32", (-1,)),))


def decode_or_refuse(
    body: bytes, header_bytes: int | None, metadata: ModelMetadata = MODEL
) -> None:
    try:
        request, plan = decode_request(memoryview(body), header_bytes, metadata, LIMITS)
    except InvalidRequest as refusal:
        told = refusal.message
        assert 0 < len(told) < 1500
        return
    for tensor in request.inputs.values():
        datatype_name(tensor)
        assert not tensor.flags.writeable
    try:
        reply = encode_response(InferResponse("m", "1", dict(request.inputs)), plan, metadata)
    except PeltonError:
        return
    assert sum(map(len, reply.chunks)) == reply.size


def valid_bodies() -> list[tuple[bytes, int | None]]:
    sent = encode_request(SAMPLES, ["y"], request_id="r", datatypes={"BF16": "BF16"})
    inputs = [
        json_input("a", "FP32", [2, 2], [[1, 2.5], ["NaN", -1e3]]),
        json_input("b", "BYTES", [2], ["a", "\u00e4\\"]),
        json_input("c", "UINT64", [1], [2**64 - 1]),
        json_input("d", "BOOL", [0, 2], []),
    ]
    outputs = [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}]
    written = json.dumps({"id": "r", "inputs": inputs, "outputs": outputs}).encode()
    return [(b"".join(sent.chunks), sent.header_bytes), (written, None), (bytes(24), 0)]


VALID = valid_bodies()
SNIPPETS = [
    b"", b"0", b"-1", b"1e9", b"null", b"true", b'""', b"[", b"]", b"{", b"}", b",", b'"', b"\\u",
    b"\\ud800", b"9223372036854775808", b"18446744073709551616", b"1.5", b"NaN", b"1e999",
    b'"data":[1]', b'"shape"', b'"BF16"', b'"BYTES"', b'"binary_data_size":4', b"\xff\xff\xff\xff",
]  # fmt: skip


@pytest.mark.parametrize(("body", "header_bytes"), VALID)
def test_the_seeds_are_valid(body: bytes, header_bytes: int | None) -> None:
    inputs = decode_request(memoryview(body), header_bytes, MODEL, LIMITS)[0].inputs
    assert all(isinstance(tensor, np.ndarray) for tensor in inputs.values())


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(VALID), st.randoms(use_true_random=False), st.integers(1, 6))
def test_mutated_bodies(
    seed: tuple[bytes, int | None], chance: random.Random, mutations: int
) -> None:
    body, header_bytes = bytearray(seed[0]), seed[1]
    for _ in range(mutations):
        at = chance.randrange(len(body) + 1)
        cut = chance.choice([0, 0, 1, 1, 4, 20])
        body[at : at + cut] = chance.choice([chance.randbytes(cut), chance.choice(SNIPPETS)])
    decode_or_refuse(bytes(body), header_bytes)
    if header_bytes:
        decode_or_refuse(bytes(body), header_bytes + len(body) - len(seed[0]))


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.sampled_from([*SAMPLES, "x", "y", "NaN", ""])
)
ANYTHING = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("xy"), inner)
)
TENSOR = st.fixed_dictionaries(
    {
        "name": st.sampled_from("abc") | ANYTHING,
        "datatype": st.sampled_from([*SAMPLES]) | ANYTHING,
        "shape": st.lists(st.integers(0, 3), max_size=3) | ANYTHING,
    },
    optional={
        "data": st.lists(SCALARS | st.lists(SCALARS, max_size=3), max_size=4) | ANYTHING,
        "parameters": st.fixed_dictionaries(
            {}, optional={"binary_data_size": st.integers(-1, 20) | ANYTHING, "x": ANYTHING}
        ),
    },
)
OUTPUT = st.fixed_dictionaries(
    {"name": st.sampled_from("xy")},
    optional={
        "parameters": st.fixed_dictionaries(
            {},
            optional={
                "binary_data": st.booleans() | ANYTHING,
                "classification": st.integers(-1, 3) | ANYTHING,
            },
        )
    },
)
REQUEST = st.fixed_dictionaries(
    {"inputs": st.lists(TENSOR, max_size=3)},
    optional={
        "outputs": st.lists(OUTPUT, max_size=2) | ANYTHING,
        "id": st.text(max_size=5) | ANYTHING,
        "parameters": st.dictionaries(st.text(max_size=5), SCALARS, max_size=2) | ANYTHING,
    },
)


@settings(max_examples=400, deadline=None)
@given(REQUEST, st.binary(max_size=24), st.integers(0, 40))
def test_requests_of_the_right_form_with_anything_in_them(
    request: dict[str, object], tail: bytes, more: int
) -> None:
    head = json.dumps(request).encode()
    decode_or_refuse(head + tail, len(head))
    decode_or_refuse(head, None, model())
    decode_or_refuse(head + tail, len(head) + more)
