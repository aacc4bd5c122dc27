"""One server for all hostile tests, and one that loses patience soon."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from hostile.conditions import Conditions
from raw_http import Wire
from served_models import write_models
from support_server import ServerProcess

LOSES_PATIENCE = (
    "--head-timeout-s=0.5s",
    "--body-timeout-s=0.5s",
    "--send-timeout-s=0.5s",
    "--idle-timeout-s=1s",
)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models; `served_models.write_models` says which."""
    return write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def target(models: Path) -> Iterator[ServerProcess]:
    """A server with the limits that come with it."""
    with ServerProcess(models) as server:
        yield server
        _check_log(server)


@pytest.fixture(scope="session")
def conditions(target: ServerProcess) -> Iterator[Conditions]:
    """The post-condition of `target`."""
    with contextlib.closing(Conditions(target)) as conditions:
        yield conditions


@pytest.fixture(scope="module")
def impatient(models: Path) -> Iterator[ServerProcess]:
    """A server whose time-outs are short."""
    with ServerProcess(models, *LOSES_PATIENCE) as server:
        yield server
        _check_log(server)


@pytest.fixture
def impatient_conditions(impatient: ServerProcess) -> Iterator[Conditions]:
    """The post-condition of the impatient server, which closes idle connections."""
    conditions = Conditions(impatient)
    conditions.neighbour.close()
    yield conditions
    conditions.neighbour = Wire(impatient.port)
    conditions.check()
    conditions.close()


def _check_log(server: ServerProcess) -> None:
    assert server.stop() == 0, server.log()
    # The models `raises` and `exits` fail on purpose; nothing else may.
    for record in re.split(r"^(?=\d\d:\d\d:\d\d )", server.log(), flags=re.MULTILINE):
        assert "Traceback" not in record or "on purpose" in record, record
