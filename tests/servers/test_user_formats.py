"""The media type of a request to `/infer` decides how it is read, and how it is answered."""

from __future__ import annotations

import json
import pickle
import struct

import msgpack
import numpy as np
import pytest

from pelton.errors import Code, InvalidRequest
from pelton.servers.user_formats import JSON, MSGPACK, PICKLE, Format, format_of
from pelton.wire.limits import Limits


@pytest.mark.parametrize(
    ("content_type", "form"),
    [
        ("application/json", JSON),
        ("application/json; charset=utf-8", JSON),
        ("Application/JSON ;charset=utf-8", JSON),
        ("application/octet-stream", PICKLE),
        ("application/msgpack", MSGPACK),
        ("application/x-msgpack", MSGPACK),
        (" application/vnd.msgpack", MSGPACK),
    ],
)
def test_known_media_types(content_type: str, form) -> None:
    assert format_of(content_type) is form


@pytest.mark.parametrize(
    "content_type",
    [None, "", "text/plain", "application/x-www-form-urlencoded", "application/jsonx", "json", "*"],
)
def test_any_other_is_refused_with_those_that_are_known(content_type: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        format_of(content_type)
    assert caught.value.code is Code.UNSUPPORTED_MEDIA
    assert caught.value.message == (
        f"Content-Type {content_type or ''!r} is not understood here; send one of "
        "application/json, application/octet-stream (pickle), application/msgpack"
    )


def test_a_long_media_type_is_cut_in_the_message() -> None:
    with pytest.raises(InvalidRequest) as caught:
        format_of("x" * 10_000)
    assert len(caught.value.message) < 250


WRITTEN = {
    "json": (JSON, lambda value: json.dumps(value).encode(), json.loads),
    "pickle": (PICKLE, pickle.dumps, pickle.loads),
    "msgpack": (MSGPACK, msgpack.packb, msgpack.unpackb),
}


@pytest.mark.parametrize(("form", "dumps", "loads"), WRITTEN.values(), ids=WRITTEN)
def test_what_the_usual_library_writes_is_read_and_the_other_way_round(form, dumps, loads) -> None:
    said = {"instruction": "öffne", "state": [1, 2.5, None, True], "nested": {"a": []}}
    value, style = form.decode(memoryview(dumps(said)), Limits())
    assert value == said
    assert loads(b"".join(form.encode(value, style))) == said


@pytest.mark.parametrize("form", [JSON, PICKLE, MSGPACK], ids=["json", "pickle", "msgpack"])
def test_what_cannot_be_read_is_the_callers_fault(form) -> None:
    for body in (b"", b"\xc1 nonsense", b'{"a": '):
        with pytest.raises(InvalidRequest):
            form.decode(memoryview(body), Limits())


def test_each_format_answers_with_an_array_as_its_clients_expect_it() -> None:
    output = np.array([[1.5, 2.0]], np.float32)
    assert json.loads(b"".join(JSON.encode({"output": output}, None))) == {"output": [[1.5, 2.0]]}
    _, style = PICKLE.decode(memoryview(pickle.dumps({"x": output}, 5)), Limits())
    answer = pickle.loads(b"".join(PICKLE.encode({"output": output}, style)))
    np.testing.assert_array_equal(answer["output"], output, strict=True)


def framed(array: np.ndarray) -> bytes:
    """Return a frame (docs/wire.md) with one buffer."""
    buffers: list[pickle.PickleBuffer] = []
    raw = pickle.dumps(array, 5, buffer_callback=buffers.append)
    head = struct.pack("<8sHHIQQ", b"PELTON5B", 1, 0, 1, len(raw), array.nbytes) + raw
    return head + bytes(-len(head) % 64) + array.tobytes()


@pytest.mark.parametrize(
    ("form", "body", "quick"),
    [
        pytest.param(JSON, b"[" + b"1," * 8000 + b"1]", True, id="short JSON"),
        pytest.param(JSON, b"[" + b"1," * 9000 + b"1]", False, id="long JSON"),
        pytest.param(PICKLE, framed(np.zeros(10**6)), True, id="a picture beside its pickle"),
        pytest.param(PICKLE, pickle.dumps(list(range(10**5)), 5), False, id="a pickled list"),
        pytest.param(MSGPACK, msgpack.packb([1] * 16_000), True, id="short MessagePack"),
        pytest.param(MSGPACK, msgpack.packb([1] * 17_000), False, id="long MessagePack"),
    ],
)
def test_what_is_read_element_by_element_is_quick_only_when_it_is_short(
    form: Format, body: bytes, quick: bool
) -> None:
    assert form.is_quick(memoryview(body)) is quick
