"""Routes on a real server: who is answered by which version, by every way to ask."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pytest

from e2e.asking import Asking
from e2e.scaled import who_answers, write_versions
from pelton.client import Client
from pelton.errors import InvalidRequest, NotFound
from pelton.state.sqlite import file_url
from pelton.state.state import State
from support_server import ServerProcess, run_pelton, until, write_python_model

USERS = [f"user-{number}" for number in range(60)] + ["用户", "ß x"]

ARM = """
def load_model(model_path, device):
    return None

def model_inference(obs):
    return {version}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    write_versions(root / "net", 1, 2, 3)
    (root / "net" / "model.toml").write_text('policy = "all"\n[version_labels]\nstable = 2\n')
    for version in (1, 2):
        write_python_model(root / "arm" / str(version), ARM.format(version=version))
    (root / "arm" / "model.toml").write_text('policy = "all"\n')
    return root


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def server(models: Path, state: Path) -> Iterator[ServerProcess]:
    with ServerProcess(models, "--state-dir", str(state)) as started:
        yield started


@pytest.fixture
def client(server: ServerProcess) -> Iterator[Client]:
    with Client(server.url) as connected:
        yield connected
        for row in connected.ask_json("GET", "/v2/routes")["routes"]:
            connected.ask_json("DELETE", f"/v2/routes/{row['name']}")


def typed(server: ServerProcess, *words: str) -> str:
    done = run_pelton(*words, "--url", server.url)
    assert done.returncode == 0, done.stderr
    return done.stdout


def draw(salt: str, purpose: str, unit: str) -> float:
    """The draw as the documents state it."""
    hashed = blake2b(f"{salt}.{purpose}:{unit}".encode(), digest_size=8)
    return int.from_bytes(hashed.digest(), "big") / 2**64


def post(server: ServerProcess, path: str, value: Any, **headers: str) -> http.client.HTTPResponse:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    with contextlib.closing(connection):
        told = {"Content-Type": "application/json"}
        told |= {name.replace("_", "-"): text for name, text in headers.items()}
        encoded = {name: text.encode() for name, text in told.items()}
        connection.request("POST", path, json.dumps(value), encoded)
        answer = connection.getresponse()
        answer.said = json.loads(answer.read())  # type: ignore[attr-defined]
        return answer


ONES = {"inputs": [{"name": "INPUT0", "shape": [1, 3], "datatype": "FP32", "data": [1, 1, 1]}]}


def by_header(server: ServerProcess, user: str) -> int:
    answer = post(server, "/v2/models/net/infer", ONES, X_Pelton_Key=user)
    said = answer.said  # type: ignore[attr-defined]
    assert answer.status == 200, said
    assert str(int(said["outputs"][0]["data"][0])) == said["model_version"]
    return int(said["model_version"])


def test_pinned_latest_and_by_label(server: ServerProcess, client: Client) -> None:
    assert who_answers(client, "net") == 3
    typed(server, "routes", "set", "net", "--pin", "1")
    assert who_answers(client, "net") == 1
    assert who_answers(client, "net", "2") == 2, "who names a version gets it"
    assert who_answers(client, "net", "stable") == 2
    typed(server, "routes", "set", "net", "--pin", "stable")
    assert who_answers(client, "net") == 2
    typed(server, "labels", "set", "net", "stable", "1")
    assert who_answers(client, "net") == 1
    typed(server, "labels", "delete", "net", "stable")
    assert who_answers(client, "net") == 2, "the label of the file holds again"
    typed(server, "routes", "set", "net", "--latest")
    assert who_answers(client, "net") == 3
    assert "net" in typed(server, "routes", "delete", "net")
    assert who_answers(client, "net") == 3


def test_a_change_fails_no_request(server: ServerProcess, client: Client) -> None:
    with Asking(server, "net") as one, Asking(server, "net") as other:
        for version in (1, 2, 3, 1, 2, 3):
            client.ask_json("PUT", "/v2/routes/net", {"policy": "pinned", "version": version})
            for asking in (one, other):
                asking.until_answered_by(version)
    assert one.failures + other.failures == []


def test_a_split_is_the_hash_that_the_documents_state(
    server: ServerProcess, client: Client
) -> None:
    typed(server, "routes", "set", "net", "--split", "3=3,1=1", "--salt", "june")
    wanted = {user: 3 if draw("june", "arm", user) < 0.75 else 1 for user in USERS}
    assert set(wanted.values()) == {1, 3}
    assert {user: by_header(server, user) for user in USERS} == wanted
    for user in USERS:
        assert who_answers(client, "net", parameters={"pelton_key": user}) == wanted[user]
    assert who_answers(client, "net", "2", parameters={"pelton_key": USERS[0]}) == 2
    typed(server, "routes", "set", "net", "--enrolled", "0.5")
    some = {user for user in USERS if draw("june", "enrolled", user) < 0.5}
    assert {user: by_header(server, user) for user in USERS} == {
        user: wanted[user] if user in some else 3 for user in USERS
    }


def test_an_answer_tells_how_it_was_chosen(server: ServerProcess, client: Client) -> None:
    typed(server, "routes", "set", "net", "--split", "stable=1,1=1", "--salt", "june")
    user = next(user for user in USERS if draw("june", "arm", user) < 0.5)
    answer = post(server, "/v2/models/net/infer", ONES, X_Pelton_Key=user)
    assert answer.headers["X-Pelton-Choice"] == (
        "route=net, version=2, arm=2, probability=0.5, enrolled=yes, forced=no, unit=key"
    )
    answer = post(server, "/v2/models/net/versions/1/infer", ONES, X_Pelton_Key=user)
    assert "version=1" in answer.headers["X-Pelton-Choice"]
    assert "forced=yes" in answer.headers["X-Pelton-Choice"]
    answer = post(server, "/v2/models/net/infer", ONES)
    assert "unit=request" in answer.headers["X-Pelton-Choice"]
    answer = post(server, "/infer?model=net", [[1, 1, 1]], X_Pelton_Key=user)
    assert answer.said["output"] == [[2.0, 2.0, 2.0]]  # type: ignore[attr-defined]
    assert (answer.headers["X-Pelton-Model"], answer.headers["X-Pelton-Version"]) == ("net", "2")
    with pytest.raises(InvalidRequest, match="printable characters"):
        who_answers(client, "net", parameters={"pelton_key": "x" * 300})


def test_a_field_of_the_request_tells_the_unit(server: ServerProcess, client: Client) -> None:
    typed(server, "routes", "set", "arm", "--split", "2=1,1=1", "--salt", "s", "--sticky", "user")
    wanted = {user: 2 if draw("s", "arm", user) < 0.5 else 1 for user in USERS[:20]}
    assert set(wanted.values()) == {1, 2}
    for user, arm in wanted.items():
        answer = post(server, "/infer?model=arm", {"user": user, "value": 0}, X_Pelton_Key="other")
        assert answer.said["output"] == arm  # type: ignore[attr-defined]
        assert answer.headers["X-Pelton-Version"] == str(arm)
    typed(server, "routes", "set", "net", "--split", "3=1,1=1", "--salt", "s", "--sticky", "user")
    for user, arm in wanted.items():
        version = {2: 3, 1: 1}[arm]
        assert who_answers(client, "net", parameters={"user": user}) == version


def test_a_shadow_sees_copies_and_never_answers(server: ServerProcess, client: Client) -> None:
    assert "shadows" not in client.stats()
    typed(server, "routes", "set", "net", "--pin", "3", "--shadow", "1=1")
    before = client.stats()["models"]["net"]
    for _ in range(20):
        assert who_answers(client, "net") == 3
    until(lambda: sum(client.stats()["shadows"].values()) == 20)
    told = client.stats()["models"]["net"]
    assert told["total_requests"] - before["total_requests"] == 20, "copies are counted apart"
    answered = client.stats()["shadows"]["answered"]
    assert answered > 0
    assert told["versions"]["1"]["copies"]["successful_requests"] == answered
    assert "copies" not in told["versions"]["3"]


def test_what_cannot_be_followed_is_refused_and_changes_nothing(
    server: ServerProcess, client: Client
) -> None:
    for words, why in (
        (("--pin", "9"), "9"),
        (("--pin", "canary"), "canary"),
        (("--split", "3=1,9=1"), "9"),
        (("--pin", "3", "--model", "nowhere"), "nowhere"),
    ):
        done = run_pelton("routes", "set", "net", *words, "--url", server.url)
        assert done.returncode == 1
        assert why in done.stderr
    assert client.ask_json("GET", "/v2/routes") == {"routes": []}
    with pytest.raises(NotFound, match="labels: stable"):
        who_answers(client, "net", "canary")


def test_a_version_that_is_named_is_loaded_for_that(serve, tmp_path: Path) -> None:
    write_versions(tmp_path / "models" / "net", 1, 2, 3)
    (tmp_path / "models" / "net" / "2" / "model.onnx").write_bytes(b"no model")
    server = serve(tmp_path / "models", "--state-dir", str(tmp_path / "state"))
    with Asking(server, "net") as asking, Client(server.url) as client:
        with pytest.raises(NotFound, match="ready are: 3"):
            who_answers(client, "net", "1")
        typed(server, "routes", "set", "net", "--pin", "1")
        asking.until_answered_by(1)
        done = run_pelton("routes", "set", "net", "--pin", "2", "--url", server.url)
        assert done.returncode == 1
        assert "ready are: 1, 3" in done.stderr
        reasons = [row.reason for row in client.versions("net") if row.version == 2]
        assert "model.onnx is no ONNX model" in reasons[0]
        assert who_answers(client, "net") == 1
    assert asking.failures == []


def test_a_version_that_hangs_holds_nothing_up_for_ever(serve, tmp_path: Path) -> None:
    hangs = (
        "import threading\n\ndef load_model(model_path, device):\n    threading.Event().wait()\n"
    )
    write_python_model(tmp_path / "models" / "arm" / "1", hangs)
    write_python_model(tmp_path / "models" / "arm" / "2", ARM.format(version=2))
    flags = ("--state-dir", str(tmp_path / "state"), "--load-timeout-s=0.5")
    server = serve(tmp_path / "models", *flags)
    done = run_pelton("routes", "set", "arm", "--pin", "1", "--url", server.url)
    assert done.returncode == 1
    assert "ready are: 2" in done.stderr
    assert "refused at the gate 'load'" in run_pelton("models", "--url", server.url).stdout
    assert post(server, "/infer?model=arm", {}).said["output"] == 2  # type: ignore[attr-defined]


def test_a_new_version_is_seen_by_a_few_before_the_others(serve, tmp_path: Path) -> None:
    write_versions(tmp_path / "models" / "net", 1)
    new = write_versions(tmp_path / "new", 2) / "2"
    flags = ("--allow-publish", "--state-dir", str(tmp_path / "state"), "--keep-warm-s=0")
    server = serve(tmp_path / "models", *flags, "--probation-s=0.05")
    with Asking(server, "net") as asking, Client(server.url) as client:
        typed(server, "routes", "set", "net", "--pin", "1")
        assert client.push(new, "net").version == 2
        until(lambda: not any(row.kept for row in client.versions("net")))
        assert who_answers(client, "net", "2") == 2
        asking.until_answered_by(1)
        assert set(asking.versions) == {1}
        typed(server, "routes", "set", "net", "--split", "1=3,2=1", "--salt", "few")
        told = {user: by_header(server, user) for user in USERS}
        assert told == {user: 1 if draw("few", "arm", user) < 0.75 else 2 for user in USERS}
        typed(server, "routes", "delete", "net")
        asking.until_answered_by(2)
    assert asking.failures == []


def test_routes_labels_and_units_are_there_after_a_restart(
    serve, models: Path, tmp_path: Path
) -> None:
    flags = ("--state-dir", str(tmp_path))
    first = serve(models, *flags)
    typed(first, "labels", "set", "net", "canary", "1")
    typed(first, "routes", "set", "net", "--split", "stable=1,canary=1", "--salt", "june")
    typed(first, "routes", "set", "lab", "--pin", "canary", "--model", "net")
    before = {user: by_header(first, user) for user in USERS}
    assert set(before.values()) == {1, 2}
    with Client(first.url) as client:
        written = {"written": len(USERS), "waiting": 0, "dropped": 0}
        until(lambda: client.ask_json("GET", "/stats")["exposures"] == written)
    first.stop()
    again = serve(models, *flags)
    assert {user: by_header(again, user) for user in USERS} == before
    with Client(again.url) as client:
        assert who_answers(client, "lab") == 1
        typed(again, "labels", "set", "net", "canary", "3")
        assert who_answers(client, "lab") == 3
    again.stop()
    kept = State.open(file_url(tmp_path))
    arms = kept.exposures.count("net", 0.0)
    kept.close()
    numbers = list(before.values())
    assert arms == {str(arm): numbers.count(arm) for arm in (1, 2)}, "each unit once"
