"""`POST /update_model`: the users' form, as their programs send it and as nobody should."""

from __future__ import annotations

import random

import pytest

from pelton.errors import LoadFailed
from servers.publishing_site import PublishingSite

TAR = bytes(range(256)) * 2048
TYPE = {"Content-Type": "multipart/form-data; boundary=q9"}


def part(name: str, value: bytes, file: str = "") -> bytes:
    named = f'; filename="{file}"\r\nContent-Type: application/x-tar' if file else ""
    head = f'--q9\r\nContent-Disposition: form-data; name="{name}"{named}\r\n\r\n'
    return head.encode() + value + b"\r\n"


def form(*parts: bytes) -> bytes:
    return b"".join(parts) + b"--q9--\r\n"


FILE = part("file", TAR, "policy.tar")


@pytest.mark.parametrize(
    ("body", "device"),
    [
        (form(FILE), ""),
        (form(part("device", b"cuda:1"), FILE), "cuda:1"),
        (form(FILE, part("device", b"cpu")), "cpu"),
        (form(FILE, part("device", b"")), ""),
    ],
)
def test_the_form_becomes_a_version_of_the_default_model(
    site: PublishingSite, body: bytes, device: str
) -> None:
    assert site.ask("POST", "/update_model", body, TYPE) == (
        200,
        {"message": "Policy updated successfully"},
    )
    (taken,) = site.control.taken
    assert (taken.model, taken.data, taken.upload.device) == ("scale", TAR, device)
    assert taken.upload.file_name == ""
    assert site.control.biggest_chunk < len(TAR)


def test_another_model_may_be_named(site: PublishingSite) -> None:
    assert site.ask("POST", "/update_model?model=robot", form(FILE), TYPE)[0] == 200
    named = TYPE | {"X-Pelton-Model": "words"}
    assert site.ask("POST", "/update_model", form(FILE), named)[0] == 200
    assert [taken.model for taken in site.control.taken] == ["robot", "words"]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (form(part("device", b"cpu")), 'no field "file"'),
        (form(), 'no field "file"'),
        (form(FILE, FILE), 'field "file" twice'),
        (form(FILE, part("device", b"cpu"), part("device", b"cpu")), 'field "device" twice'),
        (form(FILE, part("colour", b"red")), "unknown field 'colour'"),
        (form(FILE, part("device", b"tpu")), "cpu, auto, cuda or cuda:N"),
        (form(FILE, part("device", b"cuda:1\n")), "cpu, auto, cuda or cuda:N"),
        (form(FILE, part("device", b"\xff\xfe")), "cpu, auto, cuda or cuda:N"),
        (form(FILE)[:-6], "ends before its last boundary"),
        (TAR, "does not begin with its boundary"),
        (b"", "ends before its last boundary"),
    ],
)
def test_what_is_no_such_form_is_refused_in_the_users_shape(
    site: PublishingSite, body: bytes, words: str
) -> None:
    status, said = site.ask("POST", "/update_model", body, TYPE)
    assert status == 400
    assert said["status"] == "error"
    assert words in said["message"]
    assert said["error"] == said["message"]
    assert set(said) == {"status", "message", "error", "code", "request_id"}
    assert not site.control.taken


def test_a_long_field_and_other_bodies_are_refused(site: PublishingSite) -> None:
    assert site.ask("POST", "/update_model", form(FILE, part("device", b"c" * 999)), TYPE)[0] == 413
    for kind in ({}, {"Content-Type": "application/x-tar"}):
        status, said = site.ask("POST", "/update_model", TAR, kind)
        assert (status, said["code"]) == (415, "unsupported_media")
    assert site.ask("POST", "/update_model", TAR, TYPE | {"Content-Encoding": "gzip"})[0] == 415


def test_a_gate_that_refuses_is_told_in_the_users_shape(site: PublishingSite) -> None:
    site.control.refusals["scale"] = LoadFailed("refused at the gate 'load': \ud800 it is torn")
    status, said = site.ask("POST", "/update_model", form(FILE), TYPE)
    assert (status, said["status"], said["code"]) == (400, "error", "load_failed")
    assert said["message"] == "refused at the gate 'load': ? it is torn"


def test_nonsense_is_refused_and_the_server_goes_on(site: PublishingSite) -> None:
    draw = random.Random(5)
    whole = form(part("device", b"cpu"), part("file", b"abc", "a.tar"))
    for _ in range(400):
        body = bytearray(whole)
        for _ in range(draw.randint(1, 4)):
            at = draw.randrange(len(body))
            body[at : at + draw.randint(0, 9)] = draw.randbytes(draw.randint(0, 9))
        status, said = site.ask("POST", "/update_model", bytes(body), TYPE)
        assert (status == 200) == ("status" not in said), said
        assert status in (200, 400, 413), said
    site.control.taken.clear()
    assert site.ask("POST", "/update_model", form(FILE), TYPE)[0] == 200
