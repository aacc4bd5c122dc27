"""One server for the end-to-end tests that only ask: the small models and the examples' own."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import tritonclient.http
import tritonclient.http.aio

from e2e.triton_calls import Sync
from served_models import write_models
from support_server import ServerProcess

EXAMPLES = Path(__file__).parents[2] / "examples" / "models"


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server of `served_models.write_models` and of the models under `examples/models`."""
    folder = write_models(tmp_path_factory.mktemp("served"))
    shutil.copytree(EXAMPLES, folder, dirs_exist_ok=True)
    with ServerProcess(folder) as server:
        yield server


@pytest.fixture(params=["sync", "aio"])
async def triton(request: pytest.FixtureRequest, served: ServerProcess) -> AsyncIterator[Any]:
    """The real `tritonclient`, blocking and asyncio, each to be awaited."""
    address = f"127.0.0.1:{served.port}"
    if request.param == "sync":
        with tritonclient.http.InferenceServerClient(address) as blocking:
            yield Sync(blocking)
    else:
        async with tritonclient.http.aio.InferenceServerClient(address) as asynchronous:
            yield asynchronous
