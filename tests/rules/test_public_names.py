"""The names that others build on, pinned: whoever adds or takes one does it on purpose."""

from __future__ import annotations

import importlib

import pytest

PUBLIC = {
    "pelton": {
        "AsyncClient",
        "Client",
        "PeltonError",
        "Timeouts",
        "__version__",
        "send_inference_request",
    },
    "pelton.client": {
        "AsyncClient",
        "Bounds",
        "Client",
        "IndexEntry",
        "ModelDescription",
        "Published",
        "PushProgress",
        "Retries",
        "ServerDescription",
        "SigningKey",
        "Timeouts",
        "VersionDescription",
        "send_inference_request",
    },
    "pelton.testing": {
        "EchoRuntime",
        "FailingRuntime",
        "FakeClock",
        "FakeInstance",
        "SlowRuntime",
        "echo_metadata",
    },
}


@pytest.mark.parametrize("module", sorted(PUBLIC))
def test_public_names_are_these_and_can_be_had(module: str) -> None:
    loaded = importlib.import_module(module)
    assert set(loaded.__all__) == PUBLIC[module]
    assert [name for name in loaded.__all__ if getattr(loaded, name, None) is None] == []
    assert len(loaded.__all__) == len(set(loaded.__all__))


def test_an_unknown_name_is_refused_as_python_does() -> None:
    with pytest.raises(ImportError, match="NoSuchName"):
        exec("from pelton import NoSuchName")
