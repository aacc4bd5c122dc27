"""Signed objects on the assembled server: what is taken, what is not, and that nobody looks before.

Every object of this file prints a word of its own when it is unpickled, wherever that is; the
server's log then holds it. So for each refusal the log tells that no object was made.
"""

from __future__ import annotations

import contextlib
import gzip
import http.client
import itertools
import json
import pickle
import secrets
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
import psutil
import pytest

from pelton.client import AsyncClient, Client, SigningKey
from pelton.errors import AccessDenied, InvalidRequest
from pelton.trusted.signing import sign
from pelton.wire import pickle_frame, pickled
from pelton.wire.limits import Limits
from raw_http import Wire
from support_server import ServerProcess, run_pelton, until, write_identity

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")

TARGET = "/infer?model=arm"
AHEAD_S = 4.0
"""A server takes what was signed 5 s after its start or later; clients' clocks may be that much
ahead, and with one that is the tests need not wait."""
SECRET, OTHER_SECRET = secrets.token_bytes(32), secrets.token_bytes(32)
MODEL = """
import os
from shapes import Point

def load_model(path, device):
    print("loaded in", os.getpid())

def model_inference(obs):
    point = obs["point"]
    if isinstance(point, Point):
        return {"sum": point.x + point.y, "version": %d, "inside": os.getpid()}
    return {"told": point}
"""
SHAPES = """
class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y
"""
_words = (f"unpickled-{secrets.token_hex(4)}-{number}" for number in itertools.count())


class Does:
    """Runs code where it is unpickled, and becomes the value of `told`."""

    def __init__(self, code: str) -> None:
        self.code = code

    def __reduce__(self) -> Any:
        run = (
            "(lambda names: (__import__('builtins').exec(names['code'], names), names['told'])[1])"
        )
        return eval, (f"{run}({{'code': {self.code!r}, 'told': None}})",)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def said(self) -> Any:
        return pickle.loads(self.body)  # the server sends data only; tests trust it

    @property
    def error(self) -> Any:
        return json.loads(self.body)


@dataclass
class World:
    """A server that takes signed objects, with keys of three robots."""

    folder: Path
    server: ServerProcess
    robot: dict[str, str]
    other: dict[str, str]
    plain: dict[str, str]

    def post(self, body: Any, headers: dict[str, str], target: str = TARGET) -> Reply:
        return post(self.server.port, body, headers, target)

    def ask(self, body: bytes, target: str = TARGET, **changes: str) -> Reply:
        """Send a body as it should be sent, but for the changes to its headers."""
        headers = self.head(body, target) | changes
        return self.post(body, headers, target)

    def head(self, body: bytes, target: str = TARGET, **other: Any) -> dict[str, str]:
        signed = {"key": "robot-7", "signer": SECRET, "method": "POST", "path": target}
        signed |= {"model": "arm", "body": [body], "now_s": time.time() + AHEAD_S} | other
        return sign(**signed) | key_of(self.robot)


def key_of(made: dict[str, str]) -> dict[str, str]:
    return {
        "Authorization": f"Bearer {made['key']}",
        "Content-Type": "application/octet-stream",
    }


def post(port: int, body: Any, headers: dict[str, str], target: str = TARGET) -> Reply:
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as wire:
        wire.request("POST", target, body, headers)
        reply = wire.getresponse()
        told = {name.lower(): value for name, value in reply.getheaders()}
        return Reply(reply.status, told, reply.read())


def marked(code: str = "") -> tuple[str, bytes]:
    """Return a word, and a pickle of an object that prints it where it is made."""
    word = next(_words)
    return word, pickle.dumps({"point": Does(f"print({word!r}, flush=True); {code}")})


def write_arm(folder: Path, version: int = 1) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(MODEL % version)
    (folder / "shapes.py").write_text(SHAPES)
    return folder


def write_settings(folder: Path, robot: dict[str, str], **more: Any) -> Path:
    keys = folder / "signing" / "keys.toml"
    keys.parent.mkdir(exist_ok=True)
    keys.touch(0o600)
    keys.write_text(
        f'[robot-7]\nclient = "{robot["id"]}"\nhmac_sha256 = "{SECRET.hex()}"\n'
        f'[robot-8]\nclient = "nobody"\nhmac_sha256 = "{OTHER_SECRET.hex()}"\n'
    )
    said = {"allow_unsafe_pickle": True, "trusted_keys_file": str(keys)}
    said |= {"state_dir": str(folder / "state")} | more
    file = folder / "pelton.toml"
    lines = (f"{name} = {json.dumps(value)}\n" for name, value in said.items() if value)
    file.write_text("".join(lines))
    return file


def make_key(folder: Path, *scopes: str) -> dict[str, str]:
    said = [part for scope in scopes for part in ("--scope", scope)]
    done = run_pelton(
        "keys", "create", *said, "--label", "t", "--json", "--state-dir", str(folder / "state")
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    write_arm(folder / "models" / "arm" / "1")
    write_identity(folder / "models" / "grid" / "1" / "model.onnx")
    robot = make_key(folder, "infer", "read", "models:write", "pickle:unsafe")
    other, plain = make_key(folder, "infer", "pickle:unsafe"), make_key(folder, "admin")
    file = write_settings(folder, robot, allow_publish=True)
    with ServerProcess(folder / "models", "--config", str(file)) as server:
        made = World(folder, server, robot, other, plain)
        # What was signed before the server's start, and shortly after it, it cannot judge.
        body = pickle.dumps({"point": "first"})
        until(lambda: made.ask(body).status != 503)
        yield made
        assert server.stop() == 0


@pytest.fixture
def point_class(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class that lies beside the model, as a client has it that imports the same file."""
    module = ModuleType("shapes")
    exec(SHAPES, vars(module))
    monkeypatch.setitem(sys.modules, "shapes", module)
    return module.Point


def test_an_object_of_any_class_is_answered_from_a_worker_of_its_own(
    world: World, point_class: Any
) -> None:
    for _ in range(2):
        reply = world.ask(pickle.dumps({"point": point_class(2, 3)}))
        assert (reply.status, reply.said["output"]["sum"]) == (200, 5), reply
        assert reply.headers["x-pelton-model"] == "arm"
        assert reply.headers["x-pelton-version"] == "1"
    word, body = marked("told = __import__('os').getpid()")
    assert world.ask(body).said["output"] == 1, "the first process of a namespace of its own"
    world.server.wait_for_log(word)


def test_without_a_signature_nothing_has_changed(world: World) -> None:
    word, body = marked()
    reply = world.post(body, key_of(world.robot))
    assert (reply.status, reply.error["code"]) == (400, "malformed_request")
    data = pickle.dumps({"point": "data"})
    assert world.post(data, key_of(world.plain)).said["output"] == "data"
    assert word not in world.server.log()


def later(seconds: float) -> Callable[[World, bytes], dict[str, str]]:
    return lambda world, body: world.head(body, now_s=time.time() + seconds)


REFUSED: dict[str, tuple[Callable[[World, bytes], dict[str, str]], int, str]] = {
    "no such key": (lambda w, b: w.head(b, key="robot-9"), 401, "signature"),
    "another secret": (lambda w, b: w.head(b, signer=OTHER_SECRET), 401, "signature"),
    "a key of another client": (
        lambda w, b: w.head(b, key="robot-8", signer=OTHER_SECRET),
        401,
        "signature",
    ),
    "by another client": (lambda w, b: w.head(b) | key_of(w.other), 401, "signature"),
    "too old": (later(-62), 401, "signature"),
    "from the future": (later(8), 401, "signature"),
    "another body": (lambda w, b: w.head(b + b"."), 401, "signature"),
    "another path": (lambda w, b: w.head(b, path="/infer?model=arm&n=1"), 401, "signature"),
    "another model": (lambda w, b: w.head(b, model="grid"), 401, "signature"),
    "another method": (lambda w, b: w.head(b, method="PUT"), 401, "signature"),
    "no form": (lambda w, b: w.head(b) | {"X-Pelton-Signature": "v1"}, 401, "signature"),
    "an empty one": (lambda w, b: w.head(b) | {"X-Pelton-Signature": ""}, 401, "signature"),
    "no key": (lambda w, b: w.head(b) | {"Authorization": ""}, 401, "key"),
    "no scope": (lambda w, b: w.head(b) | key_of(w.plain), 403, "scope pickle:unsafe"),
    "compressed": (lambda w, b: w.head(b) | {"Content-Encoding": "gzip"}, 415, "as it was signed"),
    "identity": (lambda w, b: w.head(b) | {"Content-Encoding": "identity"}, 415, "as it was"),
    "no pickle": (lambda w, b: w.head(b) | {"Content-Type": "application/json"}, 415, "pickle"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_is_refused_and_no_object_is_made(world: World, case: str) -> None:
    head, status, told = REFUSED[case]
    word, body = marked()
    reply = world.post(body, head(world, body))
    assert (reply.status, told in reply.error["error"]) == (status, True), reply
    assert_well(world)
    assert word not in world.server.log()


def assert_well(world: World) -> None:
    """Have a good object answered; what was printed before it is in the log then."""
    word, body = marked()
    assert world.ask(body).status == 200
    world.server.wait_for_log(word)


def test_what_was_signed_is_taken_once(world: World) -> None:
    word, body = marked()
    head = world.head(body)
    assert world.post(body, head).status == 200
    for _ in range(3):
        again = world.post(body, head)
        assert (again.status, again.error["code"]) == (401, "unauthenticated")
    assert_well(world)
    assert world.server.log().count(word) == 1


@pytest.mark.parametrize("target", ["/v2/models/arm/infer", "/v2/models/grid/infer"])
def test_only_infer_takes_signed_objects(world: World, target: str) -> None:
    word, body = marked()
    reply = world.post(body, world.head(body, target), target)
    assert (reply.status, reply.error["error"]) == (400, "signed objects are taken at /infer only")
    assert word not in world.server.log()


def test_a_model_that_takes_arrays_takes_no_objects(world: World) -> None:
    word, body = marked()
    target = "/infer?model=grid"
    reply = world.post(body, world.head(body, target, model="grid"), target)
    assert (reply.status, reply.said["message"]) == (
        400,
        "model 'grid' takes arrays, not signed objects",
    )
    assert word not in world.server.log()


def test_the_bytes_may_come_in_other_ways(world: World) -> None:
    _, body = marked("told = 1")
    pieces = (body[at : at + 7] for at in range(0, len(body), 7))
    chunked = world.post(pieces, world.head(body))
    assert chunked.said["output"] == 1
    packed = world.ask(body, **{"Accept-Encoding": "gzip"})
    assert pickle.loads(gzip.decompress(packed.body))["output"] == 1
    other = "/%69nfer?model=arm"  # what is signed is what was sent, undecoded
    assert world.ask(body, other).said["output"] == 1
    with_header = world.head(body, "/infer") | {"X-Pelton-Model": "arm"}
    assert world.post(body, with_header, "/infer").said["output"] == 1
    with Wire(world.server.port) as wire:  # byte by byte, so the body is received into a block
        lines = {"Host": "localhost", "Content-Length": str(len(body)), **world.head(body)}
        head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        wire.send(f"POST {TARGET} HTTP/1.1\r\n{head}\r\n".encode())
        wire.send(body[:9])
        wire.send(body[9:])
        assert wire.reply().status == 200


def test_arrays_travel_beside_the_pickle(world: World) -> None:
    picture = np.arange(480 * 640 * 3, dtype=np.uint8).reshape(480, 640, 3)
    buffers: list[Any] = []
    stream = pickle.dumps({"point": picture}, protocol=5, buffer_callback=buffers.append)
    frame = b"".join(pickle_frame.join([stream], [each.raw() for each in buffers]))
    assert len(stream) < 1000
    reply = world.ask(frame)
    assert reply.body.startswith(pickle_frame.MAGIC)
    output, _ = pickled.decode(reply.body, Limits())
    np.testing.assert_array_equal(output["output"], picture)
    cut = world.ask(frame[:-1])
    assert (cut.status, cut.error["code"]) == (400, "malformed_request")


@pytest.mark.parametrize(
    ("code", "status", "message"),
    [
        ("raise ValueError('secret')", 500, "raised ValueError"),
        ("import os; os._exit(3)", 500, "exit code 3"),
        ("import ctypes; ctypes.string_at(0)", 500, "SIGSEGV"),
        ("import socket; socket.create_connection(('127.0.0.1', {port}), 2)", 500, "raised"),
        ("open({keys!r}).read()", 500, "raised FileNotFoundError"),
        ("told = __import__('os').listdir({state!r})", 200, ""),
        ("told = open({settings!r}).read()", 200, ""),
    ],
)
def test_an_object_harms_only_its_own_request(
    world: World, code: str, status: int, message: str
) -> None:
    places = {
        "port": world.server.port,
        "keys": str(world.folder / "signing" / "keys.toml"),
        "state": str(world.folder / "state"),
        "settings": str(world.folder / "pelton.toml"),
    }
    _, body = marked(code.format(**places))
    reply = world.ask(body)
    said = reply.said
    assert reply.status == status, said
    if status == 200:
        assert not said["output"], "looks empty"
    else:
        assert message in said["message"]
        assert "secret" not in said["message"]
    assert_well(world)


def test_a_caller_who_leaves_takes_its_worker_along(world: World) -> None:
    word, body = marked("import time; time.sleep(1000)")
    lines = {"Host": "localhost", "Content-Length": str(len(body)), **world.head(body)}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with socket.create_connection(("127.0.0.1", world.server.port)) as wire:
        wire.sendall(f"POST {TARGET} HTTP/1.1\r\n{head}\r\n".encode() + body)
        world.server.wait_for_log(word)
        running = keepers(world.server)
    until(lambda: running - keepers(world.server))
    assert_well(world)


def keepers(server: ServerProcess) -> set[int]:
    """Return the processes that stand between the server and its single-use workers."""
    children = psutil.Process(server.process.pid).children()
    return {each.pid for each in children if any("single_use" in part for part in command(each))}


def command(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []


def test_more_at_once_than_allowed_are_refused(world: World) -> None:
    with contextlib.ExitStack() as open_wires:
        for _ in range(2):
            word, body = marked("import time; time.sleep(1000)")
            wire = open_wires.enter_context(contextlib.closing(hang(world, body)))
            world.server.wait_for_log(word)
            del wire
        word, body = marked()
        reply = world.ask(body)
        assert (reply.status, reply.headers["retry-after"]) == (503, "1")
        assert word not in world.server.log()
    until(lambda: world.ask(pickle.dumps({"point": 1})).status == 200)


def hang(world: World, body: bytes) -> http.client.HTTPConnection:
    wire = http.client.HTTPConnection("127.0.0.1", world.server.port, timeout=20)
    wire.request("POST", TARGET, body, world.head(body))
    return wire


def test_a_caller_may_say_how_long_it_waits(world: World) -> None:
    _, body = marked("import time; time.sleep(1000)")
    reply = world.ask(body, **{"X-Request-Timeout-Ms": "700"})
    assert (reply.status, reply.said["code"]) == (504, "deadline_exceeded")


async def test_the_clients_sign(world: World, point_class: Any) -> None:
    key = SigningKey("robot-7", SECRET)
    with Client(world.server.url, api_key=world.robot["key"]) as client:
        point = {"point": point_class(np.float32(1), 2)}
        assert client.predict_signed(point, "arm", key)["sum"] == 3
        assert client.predict_signed(point, "arm", key, timeout_s=10)["sum"] == 3
        wrong = SigningKey("robot-7", OTHER_SECRET)
        with pytest.raises(AccessDenied, match="signature of this request"):
            client.predict_signed(point, "arm", wrong)
        with pytest.raises(InvalidRequest, match="cannot be pickled"):
            client.predict_signed({"point": lambda: 1}, "arm", key)
    async with AsyncClient(world.server.url, api_key=world.robot["key"]) as client:
        array = np.arange(12).reshape(3, 4).T
        assert (await client.predict_signed({"point": array}, "arm", key)).shape == (4, 3)


def test_requests_are_counted(world: World) -> None:
    with Client(world.server.url, api_key=world.robot["key"]) as client:
        before = client.stats("arm")
        _, body = marked()
        assert world.ask(body).status == 200
        assert world.post(body, world.head(body, now_s=1)).status == 401
        after = client.stats("arm")
    assert after["successful_requests"] == before["successful_requests"] + 1
    assert after["failed_requests"] == before["failed_requests"] + 1


def test_the_version_that_answers_takes_the_objects(world: World, point_class: Any) -> None:
    """Last in this file, since it changes the model."""
    key = SigningKey("robot-7", SECRET)
    folder = write_arm(world.folder / "new", version=2)
    with Client(world.server.url, api_key=world.robot["key"]) as client:
        assert client.push(folder, "arm").version == 2
        for _ in range(3):  # also by workers that were started after the folder was renamed
            said = client.predict_signed({"point": point_class(4, 5)}, "arm", key)
            assert (said["sum"], said["version"]) == (9, 2)
        assert client.rollback("arm") == 1
        said = client.predict_signed({"point": point_class(4, 5)}, "arm", key)
        assert said["version"] == 1


# -- what does not switch it on -------------------------------------------------------------------


def test_who_may_not_is_told_before_the_body_comes(world: World) -> None:
    signature = world.head(b"") | key_of(world.plain)
    lines = {"Host": "localhost", "Content-Length": "50000000", **signature}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    with Wire(world.server.port) as wire:
        wire.send(f"POST {TARGET} HTTP/1.1\r\n{head}\r\n".encode())
        assert wire.reply().status == 403


def test_it_is_off_by_default(tmp_path: Path, serve) -> None:
    write_arm(tmp_path / "models" / "arm" / "1")
    robot = make_key(tmp_path, "infer", "pickle:unsafe")
    server = serve(tmp_path / "models", "--state-dir", str(tmp_path / "state"))
    word, body = marked()
    signed = sign("robot-7", SECRET, "POST", TARGET, "arm", [body], time.time())
    for more in ({}, {"Content-Encoding": "gzip"}, {"Content-Type": "application/json"}):
        reply = post(server.port, body, key_of(robot) | signed | more)
        assert (reply.status, reply.error["code"]) == (403, "forbidden")
        assert "settings file does not allow" in reply.error["error"]
    server.stop()
    assert word not in server.log()


def test_only_the_settings_file_can_switch_it_on(tmp_path: Path) -> None:
    model = str(write_arm(tmp_path / "arm"))
    flag = run_pelton("serve", model, "--port", "0", "--allow-unsafe-pickle")
    assert (flag.returncode, "--allow-unsafe-pickle" in flag.stderr) == (2, True)
    variable = {"PELTON_ALLOW_UNSAFE_PICKLE": "true"}
    said = run_pelton("serve", model, "--port", "0", env=variable)
    assert said.returncode == 2
    assert "PELTON_ALLOW_UNSAFE_PICKLE is not taken" in said.stderr
    assert "settings file" in said.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trusted_keys_file": None}, "name the file of signing keys by trusted_keys_file"),
        ({"trusted_keys_file": "none.toml"}, "cannot read the signing keys in none.toml"),
        ({"state_dir": None}, "nothing says where API keys are kept"),
    ],
)
def test_what_is_missing_is_said_at_the_start(tmp_path: Path, change: Any, told: str) -> None:
    model = write_arm(tmp_path / "arm")
    assert told in refused_start(tmp_path, model, change)


def test_a_keys_file_that_is_open_to_others_is_not_used(tmp_path: Path) -> None:
    model = write_arm(tmp_path / "arm")
    file = write_settings(tmp_path, {"id": "x"})
    (tmp_path / "signing" / "keys.toml").chmod(0o640)
    done = run_pelton("serve", str(model), "--port", "0", "--config", str(file))
    assert (done.returncode, "chmod 0600" in done.stderr) == (2, True), done.stderr


def test_a_model_does_not_lie_beside_the_keys(tmp_path: Path) -> None:
    model = write_arm(tmp_path / "signing" / "arm")
    assert "in folders of their own" in refused_start(tmp_path, model, {})


def refused_start(folder: Path, model: Path, change: dict[str, Any]) -> str:
    file = write_settings(folder, {"id": "x"}, **change)
    done = run_pelton("serve", str(model), "--port", "0", "--config", str(file))
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr
