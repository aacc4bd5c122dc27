"""What is signed, bit by bit, and the header that carries it."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import astuple, replace

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from pelton.trusted.algorithms import hmac_signer
from pelton.trusted.signing import HEADER, Signature, SignedFields, digest_of, sign

SECRET = bytes(range(32))
TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)

FIELDS = st.builds(
    SignedFields,
    key=TEXT,
    method=TEXT,
    path=TEXT,
    model=TEXT,
    time_s=st.integers(0, 10**12),
    nonce=TEXT,
    body_digest=st.binary(max_size=12),
)

SHIFTED = SignedFields("ab", "c", "/", "m", 1, "n", b"")


@given(FIELDS, FIELDS)
@example(SHIFTED, replace(SHIFTED, key="a", method="bc"))
@example(SHIFTED, replace(SHIFTED, time_s=12, nonce=""))
@example(replace(SHIFTED, model="\0\0\0\1"), replace(SHIFTED, model="", path="/\0\0\0\1"))
def test_other_fields_never_give_the_same_bytes(one: SignedFields, other: SignedFields) -> None:
    assume(astuple(one) != astuple(other))
    assert one.to_bytes() != other.to_bytes()


@given(FIELDS)
def test_the_fields_can_be_read_back_from_the_bytes(fields: SignedFields) -> None:
    """So the framing loses nothing: it has an inverse."""
    rest, parts = fields.to_bytes(), []
    while rest:
        length = int.from_bytes(rest[:4], "big")
        parts.append(rest[4 : 4 + length])
        rest = rest[4 + length :]
    assert parts == [
        b"pelton trusted object v1",
        fields.key.encode(),
        fields.method.encode(),
        fields.path.encode(),
        fields.model.encode(),
        str(fields.time_s).encode(),
        fields.nonce.encode(),
        fields.body_digest,
    ]


def test_the_signed_bytes_are_those_of_the_document() -> None:
    digest = hashlib.sha256(b"body").digest()
    nonce = "000102030405060708090a0b0c0d0e0f"
    fields = SignedFields("robot-7", "POST", "/infer?model=arm", "arm", 1789000000, nonce, digest)
    expected = (
        b"\0\0\0\x18pelton trusted object v1\0\0\0\x07robot-7\0\0\0\x04POST"
        b"\0\0\0\x10/infer?model=arm\0\0\0\x03arm\0\0\0\x0a1789000000"
        b"\0\0\0\x20000102030405060708090a0b0c0d0e0f\0\0\0\x20" + digest
    )
    assert fields.to_bytes() == expected
    assert len(expected) == 160
    signature = hmac_signer(SECRET)(expected).hex()
    assert signature == "a4b9822c33e1352d4faee0b7dfe4c3862d721d14b013c796818de28fde690efb"


def test_a_request_is_signed_over_all_that_was_given() -> None:
    headers = sign("robot-7", SECRET, "POST", "/infer", "arm", [b"bo", memoryview(b"dy")], 99.9)
    assert list(headers) == [HEADER]
    found = Signature.parse(headers[HEADER])
    assert found is not None
    fields = SignedFields(
        "robot-7", "POST", "/infer", "arm", 99, found.nonce, hashlib.sha256(b"body").digest()
    )
    assert found.value == hmac.new(SECRET, fields.to_bytes(), "sha256").digest()
    assert (found.key, found.time_s) == ("robot-7", 99)


def test_no_two_signatures_share_a_nonce() -> None:
    headers = [sign("k", SECRET, "POST", "/", "m", [], 1)[HEADER] for _ in range(50)]
    assert len({header.split("nonce=")[1][:32] for header in headers}) == 50


def test_a_weak_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="31 bytes is too short"):
        sign("k", SECRET[:31], "POST", "/", "m", [], 1)


@pytest.mark.parametrize("key", ["", "a b", "a;b", "-a", "k" * 65, "ké", "a\n"])
def test_what_cannot_be_the_id_of_a_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="cannot be the id"):
        sign(key, SECRET, "POST", "/", "m", [], 1)


GOOD = f"v1; key=robot-7; time=1789000000; nonce={'0a' * 16}; sig={'1b' * 32}"


def test_the_header_is_read() -> None:
    assert Signature.parse(GOOD) == Signature(
        "robot-7", 1789000000, "0a" * 16, bytes.fromhex("1b" * 32)
    )
    assert Signature.parse(GOOD.replace("1b" * 32, "1b" * 64)) is not None, "as Ed25519 signs"


@pytest.mark.parametrize(
    "header",
    [
        "",
        "v1",
        GOOD + " ",
        GOOD + "\n",
        " " + GOOD,
        GOOD.replace("v1", "v2"),
        GOOD.replace("; ", ";"),
        GOOD.replace("; ", ";  "),
        GOOD.replace("0a", "0A"),
        GOOD.replace("1b", "1B"),
        GOOD.replace("1789000000", "+1789000000"),
        GOOD.replace("1789000000", "01789000000"),
        GOOD.replace("1789000000", "1_789000000"),
        GOOD.replace("1789000000", "1789000000.0"),
        GOOD.replace("1789000000", "-1"),
        GOOD.replace("1789000000", "١٧٨٩"),
        GOOD.replace("1789000000", "1" * 13),
        GOOD.replace("robot-7", "robot 7"),
        GOOD.replace("robot-7", ""),
        GOOD[:-2],
        GOOD + "1b",
        GOOD + "; sig=" + "1b" * 32,
        GOOD + "; x=1",
        GOOD * 100,
        "v1; " + "; ".join(reversed(GOOD[4:].split("; "))),
    ],
)
def test_a_header_in_any_other_form_is_none(header: str) -> None:
    assert Signature.parse(header) is None


@given(st.text(max_size=200))
def test_any_text_is_read_or_is_none(header: str) -> None:
    assert Signature.parse(header) is None


def test_a_body_has_one_digest_however_it_is_cut() -> None:
    assert digest_of([b"a", b"", b"bc"]) == digest_of([b"abc"]) == hashlib.sha256(b"abc").digest()
