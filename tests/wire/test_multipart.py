"""Forms: read in any pieces to the same fields, and refused where senders of forms do otherwise."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pelton.errors import Code, InvalidRequest
from pelton.wire import multipart
from pelton.wire.multipart import MultipartReader, PartBegins, PartEnds, boundary_of

BOUNDARY = b"xY7"


def part(name: bytes, value: bytes, *lines: bytes) -> bytes:
    head = [b'Content-Disposition: form-data; name="' + name + b'"', *lines]
    return b"--" + BOUNDARY + b"\r\n" + b"\r\n".join(head) + b"\r\n\r\n" + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--" + BOUNDARY + b"--\r\n"


def fields_of(pieces: list[bytes], boundary: bytes = BOUNDARY) -> list[tuple[str, bytes]]:
    """Read a whole form, and check that parts begin and end in turn."""
    reader = MultipartReader(boundary)
    found: list[tuple[str, bytes]] = []
    is_open = False
    for piece in pieces:
        for event in reader.feed(piece):
            if isinstance(event, PartBegins):
                assert not is_open
                is_open = True
                found.append((event.name, b""))
            elif isinstance(event, PartEnds):
                assert is_open
                is_open = False
            else:
                assert is_open
                assert event
                found[-1] = (found[-1][0], found[-1][1] + event)
    reader.end()
    assert not is_open
    return found


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_form_reads_the_same_in_all_pieces(data: st.DataObject) -> None:
    bits = st.sampled_from(
        [b"\r", b"\n", b"-", b"--", b"xY", b"\r\n--xY", b"a", b"\0\xff", b"\r\n"]
    )
    values = data.draw(st.lists(st.lists(bits, max_size=12).map(b"".join), max_size=4))
    values = [value for value in values if b"\r\n--xY7" not in b"\r\n" + value + b"\r\n"]
    whole = form(*(part(b"n%d" % index, value) for index, value in enumerate(values)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(whole)), max_size=8)))
    pieces = [whole[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(whole)], strict=True)]
    expected = [(f"n{index}", value) for index, value in enumerate(values)]
    if values:
        assert fields_of(pieces) == expected
        assert fields_of([whole[at : at + 1] for at in range(len(whole))]) == expected


def test_what_is_held_of_a_large_file_is_small() -> None:
    reader = MultipartReader(BOUNDARY)
    reader.feed(part(b"file", b"")[:-2])
    for _ in range(50):
        assert sum(map(len, reader.feed(b"\r\n--xY" * 1000))) >= 5000
        assert len(reader._held) <= len(BOUNDARY) + 4


@pytest.mark.parametrize(
    "lines",
    [
        (b"Content-Type: application/x-tar",),
        (b"Content-Type: application/octet-stream", b"Content-Transfer-Encoding: binary"),
        (b"X-Whatever:",),
    ],
)
def test_headers_that_senders_add_are_passed_over(lines: tuple[bytes, ...]) -> None:
    assert fields_of([form(part(b"file", b"abc", *lines))]) == [("file", b"abc")]


@pytest.mark.parametrize(
    "disposition",
    [
        b'form-data; name="file"; filename="a\\"b; name=x.tar"',
        b"form-data; name=file; filename=a.tar",
        b"Form-Data;name=\"file\"; filename*=UTF-8''%e2%82%ac.tar",
        b'form-data; filename="C:\\\\temp\\\\a.tar"; name="file"',
    ],
)
def test_a_field_is_known_by_its_name_however_its_file_is_called(disposition: bytes) -> None:
    body = b"--xY7\r\nContent-Disposition: " + disposition + b"\r\n\r\nabc\r\n--xY7--"
    assert fields_of([body]) == [("file", b"abc")]


DISPOSITION = b'Content-Disposition: form-data; name="file"'

BROKEN = {
    "nothing": b"",
    "something before the first boundary": b"hello\r\n" + form(part(b"file", b"")),
    "an empty line before the first boundary": b"\r\n" + form(part(b"file", b"")),
    "no end": form(part(b"file", b"abc"))[:-4],
    "half a boundary": part(b"file", b"abc") + b"--xY",
    "something behind the end": form(part(b"file", b"")) + b"x",
    "two line ends behind the end": form(part(b"file", b"")) + b"\r\n",
    "spaces behind a boundary": b"--xY7  \r\n" + DISPOSITION + b"\r\n\r\n\r\n--xY7--",
    "a longer boundary": b"--xY77\r\n" + DISPOSITION + b"\r\n\r\n\r\n--xY7--",
    "no header": b"--xY7\r\n\r\nabc\r\n--xY7--",
    "no disposition": b"--xY7\r\nContent-Type: a/b\r\n\r\nabc\r\n--xY7--",
    "no name": b"--xY7\r\nContent-Disposition: form-data\r\n\r\nabc\r\n--xY7--",
    "another disposition": b'--xY7\r\nContent-Disposition: file; name="file"\r\n\r\n\r\n--xY7--',
    "two names": b"--xY7\r\n" + DISPOSITION + b'; name="x"\r\n\r\n\r\n--xY7--',
    "two dispositions": b"--xY7\r\n" + DISPOSITION + b"\r\n" + DISPOSITION + b"\r\n\r\n\r\n--xY7--",
    "an open quote": b'--xY7\r\nContent-Disposition: form-data; name="file\r\n\r\n\r\n--xY7--',
    "a folded line": b"--xY7\r\n" + DISPOSITION + b'\r\n ; filename="x"\r\n\r\n\r\n--xY7--',
    "a bare line feed": b"--xY7\n" + DISPOSITION + b"\n\nabc\n--xY7--",
    "a control character": b"--xY7\r\n" + DISPOSITION + b"\0\r\n\r\n\r\n--xY7--",
    "no UTF-8": b'--xY7\r\nContent-Disposition: form-data; name="\xff"\r\n\r\n\r\n--xY7--',
    "base64": b"--xY7\r\n"
    + DISPOSITION
    + b"\r\nContent-Transfer-Encoding: base64\r\n\r\nYQ==\r\n--xY7--",
    "the end at once": b"--xY7--\r\nx",
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN.keys())
def test_what_no_sender_of_forms_writes_is_refused(body: bytes) -> None:
    for pieces in ([body], [body[at : at + 1] for at in range(len(body))]):
        with pytest.raises(InvalidRequest, match="the form cannot be read: ") as refused:
            fields_of(pieces)
        assert refused.value.code is Code.MALFORMED_REQUEST


@pytest.mark.parametrize(
    "body",
    [
        form(*[part(b"a", b"")] * (multipart.MAX_PARTS + 1)),
        form(part(b"a", b"", *[b"X-%d: y" % n for n in range(multipart.MAX_PART_HEADERS)])),
        form(part(b"a", b"", b"X: " + b"y" * multipart.MAX_PART_HEAD_BYTES)),
        b"--xY7\r\n" + b"y" * multipart.MAX_PART_HEAD_BYTES,
    ],
    ids=["parts", "headers", "head", "head without end"],
)
def test_parts_and_their_heads_are_bounded(body: bytes) -> None:
    with pytest.raises(InvalidRequest) as refused:
        fields_of([body])
    assert refused.value.code is Code.TOO_LARGE


READ_OR_REFUSED = (None, Code.MALFORMED_REQUEST, Code.TOO_LARGE)


def code_of(body: bytes) -> Code | None:
    """Read a form, and return the code with which it was refused, if it was."""
    try:
        fields_of([body])
    except InvalidRequest as refused:
        return refused.code
    return None


@given(st.binary(max_size=300))
@settings(max_examples=1000, deadline=None)
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    for start in (b"", b"--xY7\r\n", b"--xY7\r\n" + DISPOSITION):
        assert code_of(start + body) in READ_OR_REFUSED


@given(st.data())
@settings(max_examples=1500, deadline=None)
def test_a_form_with_bytes_changed_is_read_or_refused(data: st.DataObject) -> None:
    whole = bytearray(form(part(b"device", b"cpu"), part(b"file", b"\r\n--abc" * 5)))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        whole[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert code_of(bytes(whole)) in READ_OR_REFUSED


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ("multipart/form-data; boundary=abc", b"abc"),
        ('Multipart/Form-Data;boundary="a b=c"', b"a b=c"),
        ("multipart/form-data; boundary=----WebKitFormBoundaryx0", b"----WebKitFormBoundaryx0"),
    ],
)
def test_a_boundary_is_found(content_type: str, boundary: bytes) -> None:
    assert boundary_of(content_type) == boundary


@pytest.mark.parametrize(
    ("content_type", "code"),
    [
        (None, Code.UNSUPPORTED_MEDIA),
        ("application/x-tar", Code.UNSUPPORTED_MEDIA),
        ("multipart/mixed; boundary=abc", Code.UNSUPPORTED_MEDIA),
        ("multipart/form-data", Code.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=", Code.MALFORMED_REQUEST),
        ('multipart/form-data; boundary="abc ', Code.MALFORMED_REQUEST),
        ('multipart/form-data; boundary="abc "', Code.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=" + "a" * 71, Code.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=abc; boundary=abd", Code.MALFORMED_REQUEST),
        ("multipart/form-data; boundary=a\u00e9", Code.MALFORMED_REQUEST),
    ],
)
def test_what_names_no_boundary_is_refused(content_type: str | None, code: Code) -> None:
    with pytest.raises(InvalidRequest) as refused:
        boundary_of(content_type)
    assert refused.value.code is code
