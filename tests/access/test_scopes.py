"""The table of what each route needs: complete for what is there, and shut for all else."""

from __future__ import annotations

import re

import pytest

from pelton.access.caller import ANONYMOUS, BY_ADMIN, NOBODY, Caller, effective
from pelton.access.scopes import ROUTES, Open, check_scope, find_route, need_of
from pelton.errors import AccessDenied, Code
from pelton.records import Scope
from pelton.servers.control import control_app
from pelton.servers.inference_call import inference_target
from pelton.servers.shared_regions import SharedRegions
from pelton.servers.status import ServerStatus
from pelton.servers.unusual_inference import UnusualInference
from pelton.wire.limits import Limits
from servers.fake_engine import FakeEngine, door_to
from servers.whole_server import example, served_routes


def routes_of_the_application() -> list[tuple[str, str]]:
    """List (method, template) of everything that the control application answers."""
    engine = FakeEngine()
    status = ServerStatus(engine, "9.9", lambda model: {})
    inference = UnusualInference(door_to(engine), Limits())
    app = control_app(status, inference, SharedRegions(False))
    return served_routes(app)


def test_every_route_of_the_application_is_in_the_table() -> None:
    served = routes_of_the_application()
    assert ("POST", "/v2/models/{model}/infer") in served
    assert ("GET", "/stats") in served
    assert ("POST", "/v2/systemsharedmemory/region/{region}/register") in served
    assert len(served) > 25
    assert [route for route in served if not _is_known(*route)] == []
    assert [route for _, route in served if find_route(example(route)).route != route] == []


def test_every_inference_that_the_gate_answers_itself_needs_infer() -> None:
    targets = ["/infer", "/v2/models/m/infer", "/v2/models/m/versions/1/infer"]
    assert all(inference_target(path, "") for path in targets)
    templates = [
        "/infer",
        "/v2/models/{model}/infer",
        "/v2/models/{model}/versions/{version}/infer",
    ]
    assert {need_of("POST", template) for template in templates} == {Scope.INFER}


def _is_known(method: str, route: str) -> bool:
    try:
        need_of(method, route)
    except AccessDenied:
        return False
    return True


@pytest.mark.parametrize(
    ("method", "route"),
    [
        ("GET", "/attic"),
        ("POST", "/v2/health/live"),
        ("DELETE", "/v2/models/{model}"),
        ("GET", "/v2/health/live/"),
        ("GET", "/v2/models/resnet"),  # an address, not a template
        ("get", "/v2"),
        ("OPTIONS", "/infer"),
        ("", ""),
    ],
)
def test_what_is_not_in_the_table_is_open_to_nobody(method: str, route: str) -> None:
    with pytest.raises(AccessDenied, match="open to nobody") as refused:
        need_of(method, route)
    assert refused.value.code is Code.FORBIDDEN


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_an_address_leads_to_its_route(method: str, route: str) -> None:
    found = find_route(example(route))
    assert found is not None
    assert found.route == route
    assert method in found.methods


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/attic",
        "/stats/",
        "//stats",
        "/stats\n",
        "/Stats",
        "/v2/models//infer",
        "/v2/models/a/b/infer",
        "/v2/models/a/infer/",
        "/v2/health/live/../ready",
        "/v2/repository/models/../../x/versions",
        "/static-offline-docs",
        "/static-offline-docs/a/b",
        "/docsx",
        "/v2xhealth/live",
    ],
)
def test_an_address_that_leads_nowhere_is_not_there(path: str) -> None:
    assert find_route(path) is None


def test_it_is_told_with_which_methods_a_route_may_be_asked() -> None:
    assert find_route("/v2/routes/a") == ("/v2/routes/{route}", {"GET", "PUT", "DELETE"})


def test_only_live_and_ready_are_public() -> None:
    public = [route for route, need in ROUTES.items() if need is Open.PUBLIC]
    assert public == [("GET", "/v2/health/live"), ("GET", "/v2/health/ready")]


def test_only_sessions_ask_for_no_particular_scope() -> None:
    assert {route for (_, route), need in ROUTES.items() if need is Open.ANY_KEY} == {"/v2/session"}


def test_nothing_that_changes_something_can_be_done_with_read() -> None:
    by_read = {route for route, need in ROUTES.items() if need is Scope.READ}
    assert {route for method, route in by_read if method != "GET"} == {"/v2/repository/index"}


def test_the_names_in_braces_do_not_matter() -> None:
    assert need_of("POST", "/v2/models/{name}/infer") is Scope.INFER
    assert need_of("POST", "/v2/repository/models/{name}/versions") is Scope.MODELS_WRITE
    short = [(method, re.sub(r"\{\w+\}", "{}", route)) for method, route in ROUTES]
    assert len(set(short)) == len(short)


def test_head_needs_what_get_needs() -> None:
    assert need_of("HEAD", "/openapi.json") is need_of("GET", "/openapi.json") is Scope.READ
    assert need_of("HEAD", "/v2/health/live") is Open.PUBLIC


def with_scopes(*scopes: Scope) -> Caller:
    return Caller("k3y", effective(frozenset(scopes)), "k3y")


@pytest.mark.parametrize("need", list(Scope))
@pytest.mark.parametrize("scope", list(Scope))
def test_the_matrix_of_scopes(scope: Scope, need: Scope) -> None:
    may = scope is need or (scope is Scope.ADMIN and need is not Scope.PICKLE_UNSAFE)
    if may:
        check_scope(with_scopes(scope), need, "POST", "/x")
        return
    with pytest.raises(AccessDenied, match=f"POST /x needs the scope `{need}`, which this key"):
        check_scope(with_scopes(scope), need, "POST", "/x")


def test_without_keys_all_may_be_done_but_to_make_keys_and_trust_pickles() -> None:
    for need in BY_ADMIN - {Scope.ADMIN}:
        check_scope(ANONYMOUS, need, "POST", "/x")
    for need in (Scope.ADMIN, Scope.PICKLE_UNSAFE):
        with pytest.raises(AccessDenied, match="pelton keys create"):
            check_scope(ANONYMOUS, need, "POST", "/x")


def test_what_needs_no_scope_is_for_all() -> None:
    for need in Open:
        check_scope(NOBODY, need, "GET", "/x")
