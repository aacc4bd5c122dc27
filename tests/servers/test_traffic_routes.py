"""`/v2/routes`, the labels of a model, and `/v2/audit`: HTTP in, calls out, and back."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple
from unittest.mock import Mock

import pytest
from fastapi import FastAPI

from pelton.errors import Code, Conflict, NotFound, Unavailable
from pelton.records import NEW, Change
from pelton.servers import audit_routes, traffic_routes
from pelton.servers.control import _add_errors
from pelton.servers.small_bodies import MAX_BYTES
from pelton.servers.traffic_control import RouteRow
from pelton.state.audit import AuditRow
from pelton.wire.status import http_status

LATEST = {"model": "digits", "policy": "latest", "shadow": None}
ROW = RouteRow("digits", 7, LATEST)
TOLD = {"name": "digits", "revision": 7, "policy": LATEST, "problem": None}


class FakeTraffic:
    """Notes what it is asked; answers with `ROW`, or raises what it was given."""

    def __init__(self, raises: Exception | None = None) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.raises = raises

    def _note(self, *asked: Any) -> RouteRow:
        self.asked.append(asked)
        if self.raises is not None:
            raise self.raises
        return ROW

    def routes(self) -> list[RouteRow]:
        return [ROW, RouteRow("lab", 9, {"policy": "oracle"}, "cannot be read")]

    def route(self, name: str) -> RouteRow:
        return self._note("route", name)

    async def set_route(self, *asked: Any) -> RouteRow:
        return self._note("set", *asked)

    async def delete_route(self, *asked: Any) -> RouteRow:
        return self._note("delete", *asked)

    def labels(self, model: str) -> Mapping[str, int]:
        return {"stable": 3} if model == "digits" else {}

    async def set_label(self, *asked: Any) -> None:
        self._note("label", *asked)

    async def delete_label(self, *asked: Any) -> None:
        self._note("unlabel", *asked)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    body: Any


async def call(
    app: Any, method: str, path: str, body: Any = None, *, pieces: int = 1, **headers: str
) -> Reply:
    """Ask an application as the gate does, for the key `k1`."""
    path, _, query = path.partition("?")
    raw = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    size = -(-len(raw) // pieces) or 1
    parts = [raw[at : at + size] for at in range(0, len(raw), size)] or [b""]
    messages = [
        {"type": "http.request", "body": part, "more_body": part is not parts[-1]} for part in parts
    ]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()
        ],
        "scheme": "http",
        "server": ("a", 80),
        "client": None,
        "root_path": "",
        "state": {"origin": SimpleNamespace(caller=SimpleNamespace(key_id="k1"))},
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    fields = {name.decode(): value.decode() for name, value in sent[0]["headers"]}
    answer = b"".join(message.get("body", b"") for message in sent[1:])
    return Reply(sent[0]["status"], fields, json.loads(answer))


def app_of(*routers: Any) -> FastAPI:
    app = FastAPI(redirect_slashes=False)
    for each in routers:
        app.include_router(each)
    _add_errors(app)
    return app


@pytest.fixture
def traffic() -> FakeTraffic:
    return FakeTraffic()


@pytest.fixture
def app(traffic: FakeTraffic) -> FastAPI:
    return app_of(traffic_routes.router(traffic))


async def test_routes_are_told(app, traffic) -> None:
    status, _, body = await call(app, "GET", "/v2/routes")
    broken = {"name": "lab", "revision": 9, "policy": {"policy": "oracle"}}
    assert (status, body) == (200, {"routes": [TOLD, {**broken, "problem": "cannot be read"}]})
    status, headers, body = await call(app, "GET", "/v2/routes/digits")
    assert (status, headers["etag"], body) == (200, '"7"', TOLD)
    assert traffic.asked == [("route", "digits")]


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, None),
        ({"if_match": '"7"'}, 7),
        ({"if_match": "7"}, 7),
        ({"if_none_match": "*"}, NEW),
    ],
)
async def test_a_route_is_set_under_its_condition(app, traffic, conditions, expected) -> None:
    status, headers, body = await call(
        app, "PUT", "/v2/routes/digits", {"policy": "latest"}, **conditions
    )
    assert (status, headers["etag"], body) == (200, '"7"', TOLD)
    assert traffic.asked == [("set", "digits", {"policy": "latest"}, expected, "k1")]


async def test_a_route_is_deleted_and_told_as_it_was(app, traffic) -> None:
    status, headers, body = await call(app, "DELETE", "/v2/routes/digits", if_match='"7"')
    assert (status, body) == (200, TOLD)
    assert "etag" not in headers
    assert traffic.asked == [("delete", "digits", 7, "k1")]


@pytest.mark.parametrize(
    "conditions",
    [
        {"if_match": "*"},
        {"if_match": 'W/"7"'},
        {"if_match": '"7", "8"'},
        {"if_match": '"0"'},
        {"if_match": "-1"},
        {"if_match": ""},
        {"if_match": "7" * 30},
        {"if_none_match": '"7"'},
        {"if_match": "7", "if_none_match": "*"},
    ],
)
@pytest.mark.parametrize("method", ["PUT", "DELETE"])
async def test_a_condition_that_is_not_understood_changes_nothing(
    app, traffic, conditions, method
) -> None:
    body = {"policy": "latest"} if method == "PUT" else None
    status, _, body = await call(app, method, "/v2/routes/digits", body, **conditions)
    assert (status, body["code"]) == (400, "invalid_input")
    assert "If-" in body["error"]
    assert traffic.asked == []


@pytest.mark.parametrize(
    ("body", "status", "code", "said"),
    [
        (b"", 400, Code.MALFORMED_REQUEST, "the JSON is broken"),
        (b"{'policy': 1}", 400, Code.MALFORMED_REQUEST, "the JSON is broken"),
        (b'{"policy": "latest", "policy": "x"}', 400, Code.MALFORMED_REQUEST, "twice"),
        (b'{"policy": NaN}', 400, Code.MALFORMED_REQUEST, "NaN is no JSON"),
        (b"[" * 40 + b"]" * 40, 400, Code.MALFORMED_REQUEST, "more than 16 levels"),
        (b" " * (MAX_BYTES + 1), 413, Code.TOO_LARGE, f"more than {MAX_BYTES} bytes"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("path", ["/v2/routes/r", "/v2/repository/models/digits/labels/stable"])
async def test_a_body_is_strict_and_small(
    app, traffic, body, status, code, said, pieces, path
) -> None:
    told = await call(app, "PUT", path, body, pieces=pieces)
    assert (told.status, told.body["code"]) == (status, code)
    assert said in told.body["error"]
    assert traffic.asked == []


async def test_a_body_that_is_compressed_is_refused(app, traffic) -> None:
    told = await call(app, "PUT", "/v2/routes/r", b"\x1f\x8b", content_encoding="gzip")
    assert (told.status, told.body["code"]) == (415, "unsupported_media")
    assert traffic.asked == []


async def test_a_client_that_hangs_up_changes_nothing_and_is_no_bug(app, traffic, caplog) -> None:
    messages = [{"type": "http.request", "body": b'{"policy"', "more_body": True}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "method": "PUT", "path": "/v2/routes/r", "headers": []}
    scope |= {"query_string": b"", "root_path": "", "state": {}}
    sent = Mock(side_effect=lambda message: asyncio.sleep(0))
    await app(scope, receive, sent)
    assert sent.call_args_list[0].args[0]["status"] == 400
    assert (traffic.asked, caplog.records) == ([], [])


@pytest.mark.parametrize(
    "error",
    [NotFound("nowhere"), Conflict("at revision 8"), Unavailable("the database is busy", 1.0)],
)
@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/v2/routes/digits", {}),
        ("DELETE", "/v2/routes/digits", None),
        ("PUT", "/v2/repository/models/digits/labels/stable", {"version": 3}),
        ("DELETE", "/v2/repository/models/digits/labels/stable", None),
    ],
)
async def test_what_fails_is_told_in_the_one_error_body(
    app, traffic, error, method, path, body
) -> None:
    traffic.raises = error
    told = await call(app, method, path, body)
    assert told.status == http_status(error.code)
    assert set(told.body) == {"error", "code", "request_id"}
    assert (told.body["error"], told.body["code"]) == (error.message, str(error.code))
    assert told.headers.get("retry-after") == ("1" if isinstance(error, Unavailable) else None)


async def test_labels_are_told_set_and_deleted(app, traffic) -> None:
    path = "/v2/repository/models/digits/labels"
    told = {"model": "digits", "labels": {"stable": 3}}
    assert (await call(app, "GET", path)).body == told
    assert (await call(app, "PUT", f"{path}/stable", {"version": 3})).body == told
    assert (await call(app, "DELETE", f"{path}/stable")).body == told
    assert traffic.asked == [
        ("label", "digits", "stable", 3, "k1"),
        ("unlabel", "digits", "stable", "k1"),
    ]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, 'needs a "version"'),
        ({"verison": 3}, 'did you mean "version"?'),
        ([3], "must be a JSON object"),
    ],
)
async def test_the_body_of_a_label_is_one_version(app, traffic, body, said) -> None:
    told = await call(app, "PUT", "/v2/repository/models/digits/labels/stable", body)
    assert told.status == 400
    assert said in told.body["error"]
    assert traffic.asked == []


class TestAudit:
    CHANGE = Change(12.5, "k1", "route.set", "digits", None, {"policy": "latest"})

    async def test_changes_are_told(self) -> None:
        trail = Mock(return_value=[AuditRow(8, self.CHANGE)])
        status, _, body = await call(app_of(audit_routes.router(trail)), "GET", "/v2/audit")
        told = {"number": 8, "at_s": 12.5, "actor": "k1", "action": "route.set"}
        told |= {"subject": "digits", "before": None, "after": {"policy": "latest"}}
        assert (status, body) == (200, {"changes": [told], "before": None})
        trail.assert_called_once_with(100, None, None, None, None)

    async def test_what_is_asked_for_is_passed_on_and_the_next_page_told(self) -> None:
        trail = Mock(return_value=[AuditRow(8, self.CHANGE), AuditRow(5, self.CHANGE)])
        app = app_of(audit_routes.router(trail))
        query = "limit=2&before=9&actor=k1&action=route.set&subject=digits"
        _, _, body = await call(app, "GET", f"/v2/audit?{query}")
        assert body["before"] == 5
        trail.assert_called_once_with(2, 9, "k1", "route.set", "digits")

    @pytest.mark.parametrize(
        "query", ["limit=0", "limit=1001", "limit=x", "before=0", f"before={2**63}"]
    )
    async def test_what_is_out_of_range_is_refused(self, query: str) -> None:
        trail = Mock(return_value=[])
        status, _, body = await call(
            app_of(audit_routes.router(trail)), "GET", f"/v2/audit?{query}"
        )
        assert (status, body["code"]) == (400, "invalid_input")
        assert query.partition("=")[0] in body["error"]
        trail.assert_not_called()

    async def test_without_a_state_the_cure_is_told(self) -> None:
        status, _, body = await call(app_of(audit_routes.router(None)), "GET", "/v2/audit")
        assert status == 400
        assert "--state-dir" in body["error"]
