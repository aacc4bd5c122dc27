"""New versions over HTTP: what is taken, what is refused and how it is said."""

from __future__ import annotations

import hashlib
import json

import pytest

from pelton.errors import Code, Conflict, LoadFailed, Unavailable
from servers.publishing_site import (
    GATES,
    MAX_BODY_BYTES,
    MAX_UPLOAD_BYTES,
    PublishingSite,
    events_in,
)

VERSIONS = "/v2/repository/models/digits/versions"
TAR = bytes(range(256)) * 4096  # 1 MiB: larger than other bodies may be
DIGEST = "sha256:" + hashlib.sha256(TAR).hexdigest()


def test_an_upload_larger_than_any_other_body_is_published(site: PublishingSite) -> None:
    assert len(TAR) > MAX_BODY_BYTES
    status, said = site.ask("POST", VERSIONS, TAR, {"X-Pelton-Digest": DIGEST})
    assert (status, said) == (
        200,
        {
            "model": "digits",
            "version": 7,
            "digest": "sha256:" + "ab" * 32,
            "numbers": {"golden": 0.5},
        },
    )
    (taken,) = site.control.taken
    assert taken.data == TAR
    assert (taken.model, taken.upload.version, taken.upload.digest) == ("digits", None, DIGEST)
    assert site.control.biggest_chunk < len(TAR) / 2


def test_an_upload_in_chunks_is_published(site: PublishingSite) -> None:
    pieces = (TAR[at : at + 5000] for at in range(0, len(TAR), 5000))
    headers = {
        "X-Pelton-File": "model.onnx",
        "X-Pelton-Digest": DIGEST.upper().replace("SHA", "sha"),
    }
    status, said = site.ask("POST", f"{VERSIONS}?version=12", pieces, headers)
    assert (status, said["version"]) == (200, 12)
    (taken,) = site.control.taken
    assert taken.data == TAR
    assert taken.upload.file_name == "model.onnx"
    assert taken.upload.digest == DIGEST


def test_progress_is_told_gate_by_gate(site: PublishingSite) -> None:
    reply, raw = site.ask_raw("POST", f"{VERSIONS}?progress=1", TAR)
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/event-stream")
    *gates, result = events_in(raw)
    assert gates == [{"gate": gate} for gate in ("receive", *GATES)]
    assert result["version"] == 7
    assert result["numbers"] == {"golden": 0.5}


def test_a_gate_is_told_while_it_goes_on(site: PublishingSite) -> None:
    import http.client

    site.control.slow.clear()
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=20)
    connection.request("POST", f"{VERSIONS}?progress=true", TAR)
    reply = connection.getresponse()
    lines = [reply.readline() for _ in range(6)]
    assert lines[4] == b'data: {"gate":"load"}\n'
    assert not site.control.taken
    site.control.slow.set()
    assert json.loads(reply.read().split(b"\n\n")[-2].removeprefix(b"data: "))["version"] == 7
    connection.close()


def test_a_refusal_after_the_upload_ends_the_progress(site: PublishingSite) -> None:
    site.control.refusals["digits"] = LoadFailed("refused at the gate 'load': no input named x")
    *gates, last = events_in(site.ask_raw("POST", f"{VERSIONS}?progress=1", TAR)[1])
    assert gates == [{"gate": "receive"}, {"gate": "check"}, {"gate": "load"}]
    assert last["error"] == "refused at the gate 'load': no input named x"
    assert last["code"] == "load_failed"
    assert last["request_id"]


def test_a_refusal_during_the_upload_is_a_status_with_or_without_progress(
    site: PublishingSite,
) -> None:
    for query in ("", "?progress=1"):
        status, said = site.ask(
            "POST", VERSIONS + query, TAR, {"X-Pelton-Digest": "sha256:" + "0" * 64}
        )
        assert (status, said["code"]) == (400, "invalid_input")
        assert "digest" in said["error"]
    assert not site.control.taken


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (LoadFailed("refused at the gate 'golden': 3 of 10 differ"), 400),
        (Conflict("digits has got a version 7 just now"), 409),
        (Unavailable("the disk is full", code=Code.DISK_FULL), 507),
    ],
)
def test_what_refuses_a_version_is_told(
    site: PublishingSite, error: LoadFailed, status: int
) -> None:
    site.control.refusals["digits"] = error
    told, said = site.ask("POST", VERSIONS, TAR)
    assert (told, said["error"], said["code"]) == (status, error.message, str(error.code))


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        (f"{VERSIONS}?version=1", {}, 409, "has a version 1 already"),
        (f"{VERSIONS}?version=0", {}, 400, "from 1 on"),
        (f"{VERSIONS}?version=-1", {}, 400, "from 1 on"),
        (f"{VERSIONS}?version=1e3", {}, 400, "from 1 on"),
        (f"{VERSIONS}?version=9999999999", {}, 400, "from 1 on"),
        (f"{VERSIONS}?version=%D9%A3", {}, 400, "from 1 on"),
        (f"{VERSIONS}?version=2&version=3", {}, 400, "say it once"),
        (f"{VERSIONS}?progress=yes", {}, 400, "progress"),
        (VERSIONS, {"X-Pelton-Digest": "sha256:abc"}, 400, "64 hexadecimal"),
        (VERSIONS, {"X-Pelton-Digest": "md5:" + "0" * 32}, 400, "64 hexadecimal"),
        (VERSIONS, {"Content-Encoding": "gzip"}, 415, "send it plain"),
        (VERSIONS, {"Content-Type": "multipart/form-data; boundary=x"}, 415, "/update_model"),
        (VERSIONS.replace("digits", ".hidden"), {}, 400, "no name for a model"),
        (VERSIONS.replace("digits", "a%2Fb"), {}, 404, "Not Found"),
        (VERSIONS.replace("digits", ".."), {}, 400, "no name"),
    ],
)
def test_what_can_be_told_before_the_upload_is(
    site: PublishingSite, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    told, said = site.ask("POST", path, TAR[:1000], headers)
    assert (told, words in said["error"]) == (status, True), said
    assert not site.control.received_bytes


def test_one_that_is_refused_before_its_bytes_is_not_listened_to(site: PublishingSite) -> None:
    """The client has sent next to nothing and gets the answer; the connection ends."""
    import socket

    with socket.create_connection(("127.0.0.1", site.port), timeout=20) as raw:
        raw.sendall(
            f"POST {VERSIONS}?version=1 HTTP/1.1\r\nHost: a\r\n"
            f"Content-Length: {MAX_UPLOAD_BYTES}\r\n\r\nabc".encode()
        )
        answer = b""
        while data := raw.recv(65536):
            answer += data
    assert answer.startswith(b"HTTP/1.1 409")
    assert b"has a version 1 already" in answer


def test_publishing_that_is_off_is_refused_with_the_cure(site: PublishingSite) -> None:
    site.control.allowed = False
    for path, headers in (
        (VERSIONS, {}),
        ("/update_model", {"Content-Type": "multipart/form-data; boundary=x"}),
    ):
        status, said = site.ask("POST", path, b"x", headers)
        assert (status, said["code"]) == (403, "forbidden")
        assert "--allow-publish" in said["error"]


def test_versions_are_listed_with_their_history(site: PublishingSite) -> None:
    status, said = site.ask("GET", VERSIONS)
    assert status == 200
    assert said["model"] == "digits"
    assert [row["version"] for row in said["versions"]] == [1, 2, 3]
    assert said["versions"][0]["reason"] == "refused at the gate 'load': no"
    assert said["versions"][1] == {
        "version": 2,
        "state": "ready",
        "reason": "",
        "digest": "sha256:" + "2" * 64,
        "published_s": 1.7e9,
        "active": False,
        "kept": True,
        "on_probation": False,
        "labels": [],
    }
    assert said["versions"][2]["labels"] == ["stable"]
    assert site.ask("GET", VERSIONS.replace("digits", "nowhere"))[0] == 404


def test_rollback_says_which_version_answers(site: PublishingSite) -> None:
    path = "/v2/repository/models/digits/rollback"
    assert site.ask("POST", path) == (200, {"model": "digits", "version": 2})
    assert site.control.calls == [("rollback", "digits", "")]
    assert site.ask("POST", path.replace("digits", "new"))[0] == 409


def test_the_description_of_the_api_tells_of_them(site: PublishingSite) -> None:
    paths = site.ask("GET", "/openapi.json")[1]["paths"]
    publish = paths["/v2/repository/models/{model}/versions"]["post"]
    assert {each["name"] for each in publish["parameters"]} == {
        "model",
        "version",
        "progress",
        "X-Pelton-Digest",
        "X-Pelton-File",
    }
    assert "application/x-tar" in publish["requestBody"]["content"]
    assert "multipart/form-data" in paths["/update_model"]["post"]["requestBody"]["content"]
    assert "/v2/repository/index" in paths
