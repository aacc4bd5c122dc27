"""Routes of the control application whose answer depends on a model's state or on the caller."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pelton.servers.control import control_app
from pelton.servers.origin import Origin
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.wire.limits import Limits
from servers.fake_engine import SCALE, FakeEngine, door_to


class Facts(FakeEngine):
    """An engine whose models come and go."""

    ready = True
    without_instance: tuple[str, ...] = ()

    def model_ready(self, name: str, version: str | None = None) -> bool:
        self.metadata(name, version)
        return name not in self.without_instance


def app_for(facts: Facts, regions: SharedRegions) -> Any:
    status = ServerStatus(facts, "9.9", lambda model: {})
    return control_app(status, UnusualInference(door_to(facts), Limits()), regions)


async def call(
    app: Any,
    method: str,
    path: str,
    body: bytes = b"",
    *,
    same_user: bool = False,
    gone: bool = False,
) -> tuple[int, bytes]:
    """Ask the application as the gate's protocol does."""
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "headers": [(b"host", b"a")],
        "scheme": "http",
        "server": ("a", 80),
        "client": None,
        "root_path": "",
        "state": {"origin": Origin(0.0, same_user)},
    }
    received = {"type": "http.disconnect"} if gone else {"type": "http.request", "body": body}
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return received

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


async def test_a_model_without_an_instance_is_not_ready_and_the_server_is() -> None:
    facts = Facts()
    app = app_for(facts, SharedRegions(for_all=False))
    for without, status, state in (((), 200, "READY"), (("scale",), 503, "UNAVAILABLE")):
        facts.without_instance = without
        for path in ("/v2/models/scale/ready", "/v2/models/scale/versions/3/ready"):
            told, body = await call(app, "GET", path)
            assert (told, json.loads(body)) == (status, {"name": "scale", "ready": not without})
        assert (await call(app, "GET", "/v2/models/robot/ready"))[0] == 200
        assert (await call(app, "GET", "/v2/health/ready"))[0] == 200
        _, body = await call(app, "GET", "/v2/models")
        states = {each["name"]: each["state"] for each in json.loads(body)["models"]}
        assert states == {"robot": "READY", "scale": state, "words": "READY"}
    assert (await call(app, "GET", "/v2/models/nobody/ready"))[0] == 404


@pytest.mark.parametrize("writable", [None, True, False])
async def test_health_tells_whether_changes_are_kept_and_being_ready_does_not_hang_on_it(
    writable: bool | None,
) -> None:
    facts, regions = Facts(), SharedRegions(for_all=False)
    tells = None if writable is None else lambda: writable
    status = ServerStatus(facts, "9.9", lambda model: {"uptime_seconds": 1.0}, None, tells)
    app = control_app(status, UnusualInference(door_to(facts), Limits()), regions)
    code, body = await call(app, "GET", "/health")
    told = json.loads(body)
    assert (code, told["status"]) == (200, "healthy")
    assert told.get("state") == (None if writable is None else {"writable": writable})
    assert (await call(app, "GET", "/v2/health/ready"))[0] == 200


async def test_no_model_is_ready_when_the_server_is_not() -> None:
    facts = Facts(SCALE)
    facts.ready = False
    app = app_for(facts, SharedRegions(for_all=False))
    assert (await call(app, "GET", "/v2/models/scale/ready"))[0] == 503


@pytest.mark.parametrize("for_all", [False, True])
@pytest.mark.parametrize("same_user", [False, True])
async def test_who_is_told_that_shared_memory_is_there(for_all: bool, same_user: bool) -> None:
    app = app_for(Facts(), SharedRegions(for_all))
    _, body = await call(app, "GET", "/v2", same_user=same_user)
    usable = for_all or same_user
    assert ("system_shared_memory" in json.loads(body)["extensions"]) is usable
    status, body = await call(app, "GET", "/v2/systemsharedmemory/status", same_user=same_user)
    assert status == (200 if usable else 400)
    assert (json.loads(body) == []) is usable


async def test_a_client_that_leaves_while_it_registers_is_no_bug(caplog) -> None:
    app = app_for(Facts(), SharedRegions(for_all=True))
    path = "/v2/systemsharedmemory/region/r/register"
    assert (await call(app, "POST", path, gone=True))[0] == 400
    assert caplog.records == []


async def test_the_first_request_finds_the_routes_worked_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = app_for(Facts(), SharedRegions(for_all=False))

    def late(*_: Any, **__: Any) -> None:
        raise AssertionError("a route is worked out while models answer")

    monkeypatch.setattr("fastapi.routing.get_dependant", late)
    assert (await call(app, "GET", "/v2/health/live"))[0] == 200
