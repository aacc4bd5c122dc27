"""Triton's repository extension: what its own client sends, and what others may."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any

import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from servers.publishing_site import PublishingSite

INDEX = "/v2/repository/index"
LOAD = "/v2/repository/models/digits/load"
UNLOAD = "/v2/repository/models/digits/unload"


@pytest.fixture
def client(site: PublishingSite) -> Iterator[Any]:
    client = triton.InferenceServerClient(f"127.0.0.1:{site.port}")
    yield client
    client.close()


def test_tritonclient_reads_the_index(client: Any) -> None:
    assert client.get_model_repository_index() == [
        {"name": "digits", "version": "1", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "digits", "version": "2", "state": "READY", "reason": ""},
        {"name": "torn", "reason": ""},
    ]


def test_tritonclient_loads_and_unloads(site: PublishingSite, client: Any) -> None:
    client.load_model("digits")
    client.load_model("digits", config='{"max_batch_size": 4}')
    files = {"file:1/model.onnx": b"\x00\xff" * 20_000}
    client.load_model("digits", config="{}", files=files)
    client.unload_model("digits")
    client.unload_model("digits", unload_dependents=True)
    assert site.control.calls == [
        ("load", "digits", None, {}, ""),
        ("load", "digits", '{"max_batch_size": 4}', {}, ""),
        ("load", "digits", "{}", {"1/model.onnx": b"\x00\xff" * 20_000}, ""),
        ("unload", "digits", ""),
        ("unload", "digits", ""),
    ]


def test_tritonclient_is_told_why_not(site: PublishingSite, client: Any) -> None:
    with pytest.raises(InferenceServerException, match="no model nowhere") as refused:
        client.load_model("nowhere")
    assert refused.value.status() == "404"
    site.control.allowed = False
    for call in (client.load_model, client.unload_model):
        with pytest.raises(InferenceServerException, match="--explicit-models") as refused:
            call("digits")
        assert refused.value.status() == "403"


@pytest.mark.parametrize(("body", "rows"), [(b"", 3), (b"{}", 3), (b'{"ready": true}', 1)])
def test_the_index_may_be_of_ready_versions_only(
    site: PublishingSite, body: bytes, rows: int
) -> None:
    status, said = site.ask("POST", INDEX, body)
    assert (status, len(said)) == (200, rows)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        (INDEX, {"ready": 1}, '"ready" must be'),
        (INDEX, {"reday": True}, 'did you mean "ready"'),
        (INDEX, [], "must be a JSON object"),
        (LOAD, {"parameters": []}, '"parameters" must be'),
        (LOAD, {"parameters": {"config": {}}}, '"config" must be'),
        (LOAD, {"parameters": {"confg": "{}"}}, 'did you mean "config"'),
        (LOAD, {"parameters": {"file:a": "YQ=="}}, 'together with a "config"'),
        (LOAD, {"parameters": {"config": "{}", "file:a": "Y!=="}}, "base64"),
        (LOAD, {"parameters": {"config": "{}", "file:a": 5}}, "base64"),
        (LOAD, {"parameters": {"config": "{}", "file:a": "\u00e9"}}, "base64"),
        (UNLOAD, {"parameters": {"unload_dependents": "yes"}}, "true or false"),
        (UNLOAD, {"parameters": {"unload": True}}, "unknown key"),
    ],
)
def test_a_body_that_is_not_as_it_must_be_is_refused(
    site: PublishingSite, path: str, body: Any, words: str
) -> None:
    status, said = site.ask("POST", path, json.dumps(body).encode())
    assert (status, words in said["error"]) == (400, True), said
    assert not [call for call in site.control.calls if call[0] != "index"]


def test_bodies_that_are_broken_or_compressed_are_refused(site: PublishingSite) -> None:
    for path in (INDEX, LOAD, UNLOAD):
        assert site.ask("POST", path, b'{"a": 1,}')[0] == 400
        assert site.ask("POST", path, b"{}", {"Content-Encoding": "gzip"})[0] == 415


def test_a_large_file_is_read(site: PublishingSite) -> None:
    data = bytes(100_000)
    order = {"parameters": {"config": "{}", "file:1/x": base64.b64encode(data).decode()}}
    assert site.ask("POST", LOAD, json.dumps(order).encode()) == (200, None)
    assert site.control.calls == [("load", "digits", "{}", {"1/x": data}, "")]
