"""What importing the client loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys

import pytest

import pelton.client


def loaded_by(statement: str) -> set[str]:
    program = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    return set(done.stdout.split())


def test_the_client_for_threads_loads_little():
    heavy = {
        "asyncio",
        "ssl",
        "http.client",
        "email",
        "msgspec",
        "typer",
        "rich",
        "fastapi",
        "uvicorn",
        "onnxruntime",
        "torch",
    }
    modules = loaded_by("from pelton.client import Client, send_inference_request; Client()")
    assert heavy & modules == set()
    assert {name for name in modules if name.startswith("pelton.")} >= {"pelton.client.http1"}
    server_side = ("engine", "servers", "runtimes", "repository", "monitoring", "app", "cli")
    assert {f"pelton.{room}" for room in server_side} & modules == set()


def test_asyncio_is_loaded_for_those_who_want_it():
    assert "asyncio" in loaded_by("from pelton import AsyncClient")


def test_every_public_name_can_be_had():
    for name in pelton.client.__all__:
        assert getattr(pelton.client, name).__doc__
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = pelton.client.Nothing


def test_both_clients_offer_the_same():
    def public(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert public(pelton.client.Client) == public(pelton.client.AsyncClient)
