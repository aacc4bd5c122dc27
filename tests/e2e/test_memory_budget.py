"""More models than memory: some of them sleep, and all of them answer."""

from __future__ import annotations

import re
import threading
from pathlib import Path

import numpy as np
import pytest

from e2e.asking import Asking
from e2e.scaled import who_answers, write_versions
from pelton.client import Client
from pelton.client.options import Retries
from pelton.errors import PeltonError, Unavailable
from support_server import ServerProcess, until

MODELS = tuple(f"net{number}" for number in range(1, 7))
FILE_BYTES = 400_000
ROOM = f"--max-models-bytes={FILE_BYTES * 5 // 2}"
"""For two of the models."""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number, name in enumerate(MODELS, 1):
        write_versions(tmp_path / "models" / name, number, padding_bytes=FILE_BYTES)
    return tmp_path / "models"


def states(client: Client) -> dict[str, str]:
    return {row.name: row.reason or row.state for row in client.repository_index()}


ASLEEP = "it is not in memory, and is loaded again when it is asked for"


def test_models_take_turns_in_memory(serve, root: Path) -> None:
    server = serve(root, ROOM)
    with Client(server.url) as client:
        assert sorted(states(client).values()) == ["READY"] * 2 + [ASLEEP] * 4
        for _ in range(2):
            for number, name in enumerate(MODELS, 1):
                assert who_answers(client, name) == number
                assert states(client)[name] == "READY"
                assert sorted(states(client).values()) == ["READY"] * 2 + [ASLEEP] * 4
        assert states(client)["net5"] == "READY", (
            "the one before the last is asked for last but one"
        )
        assert all(client.model_ready(name) for name in MODELS), "for they answer when asked"
        assert [model.name for model in client.models()] == list(MODELS)


def test_many_who_ask_for_all_models_at_once_all_get_answers(serve, root: Path) -> None:
    server = serve(root, ROOM)
    wrong: list[object] = []

    def ask(seed: int) -> None:
        with Client(server.url, retries=Retries(attempts=1)) as client:
            for number in np.random.default_rng(seed).integers(1, len(MODELS) + 1, 50):
                try:
                    answered = who_answers(client, f"net{number}")
                    if answered != number:
                        wrong.append((number, answered))
                except PeltonError as error:
                    wrong.append(error)

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60.0)
    assert wrong == []
    loads = len(re.findall(r"model net\d version", server.log()))
    assert loads > len(MODELS), "some were loaded several times"
    with Client(server.url) as client:
        assert sorted(states(client).values()).count("READY") <= 2


def test_what_is_pinned_stays(serve, root: Path) -> None:
    (root / "net3" / "model.toml").write_text("pinned = true\n")
    server = serve(root, ROOM)
    with Client(server.url) as client:
        for number, name in enumerate(MODELS, 1):
            assert who_answers(client, name) == number
            assert states(client)["net3"] == "READY"
    assert len(re.findall("model net3 version", server.log())) == 1


def test_new_versions_are_published_while_models_take_turns(
    serve, root: Path, tmp_path: Path
) -> None:
    state = ("--allow-publish", "--state-dir", str(tmp_path / "state"))
    room = f"--max-models-bytes={FILE_BYTES * 7 // 2}"
    server: ServerProcess = serve(root, room, *state, "--probation-requests=20")
    with Asking(server, "net1") as one, Asking(server, "net2") as two, Client(server.url) as client:
        for version in (7, 8, 9):
            path = write_versions(tmp_path / "new", version, padding_bytes=FILE_BYTES)
            assert client.push(path / str(version), "net1", version).version == version
            one.until_answered_by(version)
            two.until_answered_by(2)
            until(lambda: not any(row.on_probation for row in client.versions("net1")))
        assert who_answers(client, "net1", "9") == 9
    assert [str(error) for error in one.failures + two.failures] == []
    assert sorted(set(one.versions)) == [1, 7, 8, 9]
    assert one.versions == sorted(one.versions)
    assert set(two.versions) == {2}


def test_a_version_that_is_only_kept_gives_way_and_comes_back_from_disk(
    serve, root: Path, tmp_path: Path
) -> None:
    state = ("--allow-publish", "--state-dir", str(tmp_path / "state"))
    server = serve(root, ROOM, *state, "--probation-requests=5")
    path = write_versions(tmp_path / "new", 7, padding_bytes=FILE_BYTES)
    with Client(server.url, retries=Retries(attempts=1)) as client:
        client.push(path / "7", "net1", 7)
        with pytest.raises(Unavailable, match="busy"):
            who_answers(client, "net2")  # on probation both versions are needed
        for _ in range(5):
            assert who_answers(client, "net1") == 7
        assert [row.version for row in client.versions("net1") if row.kept] == [1]
        assert who_answers(client, "net2") == 2
        assert [row.version for row in client.versions("net1") if row.kept] == []
        assert client.rollback("net1") == 1
        assert who_answers(client, "net1") == 1


def test_what_does_not_fit_at_all_is_told(serve, root: Path) -> None:
    write_versions(root / "big", 1, padding_bytes=3 * FILE_BYTES)
    server = serve(root, ROOM)
    with Client(server.url) as client:
        with pytest.raises(Unavailable, match="the server's log says why"):
            who_answers(client, "big", timeout_s=5.0)
        server.wait_for_log("'big/1' needs 1200")
        assert who_answers(client, "net1") == 1
