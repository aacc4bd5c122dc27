"""The gate as the doors call it: who comes in, who does not, and for how long a pass holds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import pytest

from pelton.access.caller import ANONYMOUS, NOBODY
from pelton.access.client_address import ClientAddresses
from pelton.access.gate import Gate
from pelton.access.hosts import Hosts
from pelton.access.keyring import Keyring
from pelton.access.keys import Rate, make_key, revoked
from pelton.access.rate_limit import RateLimiter
from pelton.access.scopes import ROUTES, Open
from pelton.access.sessions import OpenedSession, Sessions
from pelton.errors import AccessDenied, Code, InvalidRequest, PeltonError, Unavailable
from pelton.records import Key, Scope

NOW_S = 1_000.0

PEER = "127.0.0.1"

HOST = {"host": "localhost:50000"}

INFER = "/v2/models/{model}/infer"

READER = make_key("reader", [Scope.READ], NOW_S)
ROBOT = make_key("robot", [Scope.INFER], NOW_S, expires_s=NOW_S + 100)
ADMIN = make_key("admin", [Scope.ADMIN], NOW_S)
SLOW = make_key("slow", [Scope.INFER, Scope.READ], NOW_S, requests_per_s=1.0, burst=2)
KEYS = [READER.key, ROBOT.key, ADMIN.key, SLOW.key]

CHANGING = sorted(
    route for route, need in ROUTES.items() if route[0] != "GET" and need is not Open.ANY_KEY
)


class Times:
    """Both clocks, as one that the test sets."""

    def __init__(self) -> None:
        self.now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


def gate_with(
    *keys: Key,
    rate: Rate | None = None,
    proxies: tuple[str, ...] = (),
    times: Times | None = None,
) -> Gate:
    clock = times or Times()
    return Gate(
        Keyring(keys),
        Hosts("127.0.0.1"),
        Sessions(tls=False),
        RateLimiter(clock),
        ClientAddresses(proxies),
        rate,
        clock,
    )


def bearer(text: str) -> dict[str, str]:
    return HOST | {"authorization": f"Bearer {text}"}


def cookie(opened: OpenedSession) -> dict[str, str]:
    return HOST | {"cookie": opened.cookie.partition(";")[0]}


def refusal(
    gate: Gate, method: str, route: str, headers: Mapping[str, str], peer: str = PEER
) -> PeltonError:
    with pytest.raises((AccessDenied, Unavailable)) as refused:
        gate.admit(method, route, headers, peer)
    return refused.value


# -- with keys ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_no_route_but_the_public_ones_answers_without_a_good_key(method: str, route: str) -> None:
    over = make_key("over", [Scope.ADMIN], NOW_S - 2, expires_s=NOW_S - 1)
    gone = make_key("gone", [Scope.ADMIN], NOW_S)
    gate = gate_with(*KEYS, over.key, revoked(gone.key, NOW_S))
    strange = make_key("strange", [Scope.ADMIN], NOW_S).text
    presented = [HOST, *map(bearer, ["", "x", strange, over.text, gone.text])]
    for headers in [*presented, HOST | {"cookie": "pelton_session=x"}]:
        if ROUTES[method, route] is Open.PUBLIC:
            assert gate.admit(method, route, headers, PEER) is NOBODY
        else:
            assert refusal(gate, method, route, headers).code is Code.UNAUTHENTICATED


@pytest.mark.parametrize(("method", "route"), ROUTES)
@pytest.mark.parametrize("scope", list(Scope))
def test_each_route_answers_those_who_have_its_scope(method: str, route: str, scope: Scope) -> None:
    new = make_key("one scope", [scope], NOW_S)
    gate = gate_with(new.key)
    need = ROUTES[method, route]
    by_admin = scope is Scope.ADMIN and need is not Scope.PICKLE_UNSAFE
    if isinstance(need, Open) or need is scope or by_admin:
        assert gate.admit(method, route, bearer(new.text), PEER).key_id in (new.key.id, "")
        return
    refused = refusal(gate, method, route, bearer(new.text))
    assert refused.code is Code.FORBIDDEN
    assert f"needs the scope `{need}`, which this key does not have" in refused.message


@pytest.mark.parametrize("headers", [HOST, bearer(ADMIN.text)])
@pytest.mark.parametrize("keys", [KEYS, []])
def test_a_route_that_nobody_placed_is_open_to_nobody(
    keys: list[Key], headers: dict[str, str]
) -> None:
    refused = refusal(gate_with(*keys), "GET", "/v2/attic", headers)
    assert (refused.code, refused.message) == (Code.FORBIDDEN, "GET /v2/attic is open to nobody")


def test_refusals_hold_no_key() -> None:
    gate = gate_with(*KEYS)
    for text in (READER.text, READER.text[:-1] + "?", "Bearer"):
        for headers in (bearer(text), HOST | {"x-api-key": text}):
            said = str(refusal(gate, "POST", INFER, headers))
            assert "pelton_" not in said
            assert READER.text[-10:] not in said


def test_who_has_a_key_may_call_the_server_what_it_likes_and_come_from_any_page() -> None:
    headers = bearer(ROBOT.text) | {"host": "pelton", "sec-fetch-site": "cross-site"}
    assert gate_with(*KEYS).admit("POST", INFER, headers, "10.0.0.5").key_id == ROBOT.key.id


def test_either_header_will_do() -> None:
    headers = HOST | {"x-api-key": ROBOT.text}
    assert gate_with(*KEYS).admit("POST", INFER, headers, PEER).key_id == ROBOT.key.id


def test_the_unix_socket_needs_a_key_like_all_else() -> None:
    gate = gate_with(*KEYS)
    assert refusal(gate, "POST", INFER, HOST, peer="").code is Code.UNAUTHENTICATED
    assert gate.admit("POST", INFER, bearer(ROBOT.text), "").key_id == ROBOT.key.id


# -- without keys ------------------------------------------------------------------------------


@pytest.mark.parametrize(("method", "route"), ROUTES)
def test_without_keys_anybody_may_do_all_but_manage_keys(method: str, route: str) -> None:
    gate, need = gate_with(), ROUTES[method, route]
    if need is Scope.ADMIN:
        refused = refusal(gate, method, route, HOST)
        assert refused.code is Code.FORBIDDEN
        assert "pelton keys create" in refused.message
    else:
        expected = NOBODY if need is Open.PUBLIC else ANONYMOUS
        assert gate.admit(method, route, HOST, PEER) is expected


@pytest.mark.parametrize("headers", [bearer(ROBOT.text), bearer("x"), HOST | {"x-api-key": ""}])
def test_without_keys_nobody_looks_at_them(headers: dict[str, str]) -> None:
    assert gate_with().admit("POST", INFER, headers, PEER) is ANONYMOUS


def test_without_keys_a_strange_name_is_refused_but_for_public_routes() -> None:
    gate = gate_with()
    rebound = {"host": "evil.example:50000", "sec-fetch-site": "same-origin"}
    for method, route in (("POST", INFER), ("GET", "/v2"), ("GET", "/docs"), ("GET", "/stats")):
        refused = refusal(gate, method, route, rebound)
        assert refused.code is Code.FORBIDDEN
        assert "'evil.example:50000'" in refused.message
    assert gate.admit("GET", "/v2/health/live", rebound, PEER) is NOBODY
    assert gate.admit("POST", INFER, rebound, "") is ANONYMOUS  # no browser at a Unix socket


@pytest.mark.parametrize(("method", "route"), CHANGING)
def test_without_keys_pages_of_strangers_change_nothing(method: str, route: str) -> None:
    for page in ({"sec-fetch-site": "cross-site"}, {"origin": "http://evil.example"}):
        refused = refusal(gate_with(), method, route, HOST | page)
        assert refused.message.startswith("a page of another site sent this request")


# -- sessions ----------------------------------------------------------------------------------


def test_a_session_is_its_key() -> None:
    gate = gate_with(*KEYS)
    opened = gate.open_session(bearer(READER.text))
    caller = gate.admit("GET", "/stats", cookie(opened), PEER)
    assert (caller.key_id, caller.scopes) == (READER.key.id, {Scope.READ})
    assert refusal(gate, "GET", "/v2/keys", cookie(opened)).code is Code.FORBIDDEN


@pytest.mark.parametrize(("method", "route"), CHANGING)
def test_a_session_changes_nothing_without_its_token_or_for_a_strange_page(
    method: str, route: str
) -> None:
    gate = gate_with(*KEYS)
    opened = gate.open_session(bearer(ADMIN.text))
    whole = cookie(opened) | {"x-csrf-token": opened.csrf, "sec-fetch-site": "same-origin"}
    assert gate.admit(method, route, whole, PEER).key_id == ADMIN.key.id
    for change in (
        {"x-csrf-token": ""},
        {"x-csrf-token": "0" * 64},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
        {"host": "evil.example"},
    ):
        assert refusal(gate, method, route, whole | change).code is Code.FORBIDDEN


def test_two_browsers_have_a_token_each() -> None:
    gate = gate_with(*KEYS)
    one, other = (gate.open_session(bearer(ADMIN.text)) for _ in range(2))
    crossed = cookie(one) | {"x-csrf-token": other.csrf}
    assert refusal(gate, "POST", "/v2/keys", crossed).code is Code.FORBIDDEN


def test_a_key_in_a_header_needs_no_token_and_counts_more_than_a_cookie() -> None:
    gate = gate_with(*KEYS)
    both = cookie(gate.open_session(bearer(READER.text))) | bearer(ADMIN.text)
    assert gate.admit("POST", "/v2/keys", both, PEER).key_id == ADMIN.key.id
    wrong = cookie(gate.open_session(bearer(ADMIN.text))) | bearer("x")
    assert refusal(gate, "GET", "/stats", wrong).code is Code.UNAUTHENTICATED


def test_a_session_ends_with_its_key() -> None:
    times = Times()
    gate = gate_with(*KEYS, times=times)
    for_a_while = cookie(gate.open_session(bearer(ROBOT.text)))
    by_admin = cookie(gate.open_session(bearer(ADMIN.text)))
    assert gate.admit("GET", "/v2/session", for_a_while, PEER).key_id == ROBOT.key.id
    times.now_s += 100
    assert refusal(gate, "GET", "/v2/session", for_a_while).code is Code.UNAUTHENTICATED
    assert gate.admit("GET", "/stats", by_admin, PEER).key_id == ADMIN.key.id
    gate.keyring = Keyring([revoked(ADMIN.key, times.now_s), READER.key])
    assert refusal(gate, "GET", "/stats", by_admin).code is Code.UNAUTHENTICATED


def test_a_session_is_begun_with_a_key_and_not_with_a_session() -> None:
    gate = gate_with(*KEYS)
    own = cookie(gate.open_session(bearer(ADMIN.text)))
    for headers in (own, HOST, bearer("x")):
        with pytest.raises(AccessDenied) as refused:
            gate.open_session(headers)
        assert refused.value.code is Code.UNAUTHENTICATED
    with pytest.raises(InvalidRequest, match="nobody needs a session"):
        gate_with().open_session(bearer(ADMIN.text))


# -- how often ---------------------------------------------------------------------------------


def test_a_key_has_its_rate_on_each_route_and_others_do_not_feel_it() -> None:
    times = Times()
    gate = gate_with(*KEYS, times=times)
    for _ in range(2):
        gate.admit("POST", INFER, bearer(SLOW.text), PEER)
    refused = refusal(gate, "POST", INFER, bearer(SLOW.text))
    assert refused.code is Code.RATE_LIMITED
    assert isinstance(refused, Unavailable)
    assert refused.retry_after_s == pytest.approx(1.0)
    for _ in range(20):
        gate.admit("POST", INFER, bearer(ROBOT.text), PEER)
    gate.admit("GET", "/stats", bearer(SLOW.text), PEER)
    times.now_s += 1.0
    gate.admit("POST", INFER, bearer(SLOW.text), PEER)


def test_a_key_is_counted_wherever_it_comes_from() -> None:
    gate = gate_with(*KEYS, proxies=("10.0.0.0/8",))
    for count in range(2):
        forwarded = bearer(SLOW.text) | {"x-forwarded-for": f"203.0.113.{count}"}
        gate.admit("POST", INFER, forwarded, f"10.0.0.{count}")
    other = bearer(SLOW.text) | {"x-forwarded-for": "203.0.113.9"}
    assert refusal(gate, "POST", INFER, other, "10.0.0.9").code is Code.RATE_LIMITED


@pytest.mark.parametrize("proxies", [(), ("10.0.0.0/8",)])
def test_without_keys_addresses_are_counted_and_made_up_ones_are_not(
    proxies: tuple[str, ...],
) -> None:
    gate = gate_with(rate=Rate(1.0, 2), proxies=proxies)
    through = [f"198.51.100.{count}, 203.0.113.9" for count in range(3)]
    peer = "10.0.0.1" if proxies else "203.0.113.9"
    for forwarded in through[:2]:
        gate.admit("POST", INFER, HOST | {"x-forwarded-for": forwarded}, peer)
    rotated = HOST | {"x-forwarded-for": through[2]}
    assert refusal(gate, "POST", INFER, rotated, peer).code is Code.RATE_LIMITED
    gate.admit("POST", INFER, HOST, "203.0.113.10")


def test_public_routes_are_not_counted() -> None:
    gate = gate_with(rate=Rate(1.0, 1))
    for _ in range(5):
        assert gate.admit("GET", "/v2/health/ready", HOST, PEER) is NOBODY


def test_who_is_refused_for_another_reason_is_not_counted() -> None:
    gate = gate_with(*KEYS)
    for _ in range(5):
        assert refusal(gate, "GET", "/v2/keys", bearer(SLOW.text)).code is Code.FORBIDDEN
    assert len(gate._limiter) == 0


# -- how long a pass holds -----------------------------------------------------------------------


def test_a_pass_holds_until_its_key_ends() -> None:
    times = Times()
    gate = gate_with(*KEYS, times=times)
    passed = gate.look("POST", INFER, bearer(ROBOT.text), PEER)
    times.now_s += 99.9
    assert gate.holds(passed)
    times.now_s += 0.1
    assert not gate.holds(passed)


def test_a_pass_holds_until_keys_change() -> None:
    gate = gate_with(*KEYS)
    passed = gate.look("POST", INFER, bearer(ROBOT.text), PEER)
    assert gate.holds(passed)
    gate.keyring = Keyring(KEYS)
    assert not gate.holds(passed)


def test_a_pass_from_before_the_first_key_ends_with_it() -> None:
    gate = gate_with()
    passed = gate.look("POST", INFER, HOST, PEER)
    assert gate.holds(passed)
    gate.keyring = Keyring(KEYS)
    assert not gate.holds(passed)
    assert refusal(gate, "POST", INFER, HOST).code is Code.UNAUTHENTICATED


def test_the_pass_of_a_session_holds_for_one_request() -> None:
    gate = gate_with(*KEYS)
    opened = gate.open_session(bearer(READER.text))
    assert not gate.holds(gate.look("GET", "/stats", cookie(opened), PEER))


def test_each_use_of_a_pass_is_counted() -> None:
    gate = gate_with(*KEYS)
    passed = gate.look("POST", INFER, bearer(SLOW.text), PEER)
    for _ in range(2):
        assert gate.use(passed).key_id == SLOW.key.id
    with pytest.raises(Unavailable) as refused:
        gate.use(passed)
    assert refused.value.code is Code.RATE_LIMITED


def test_headers_and_cookies_together_never_let_more_in_than_one_of_them() -> None:
    gate = gate_with(*KEYS)
    opened = gate.open_session(bearer(READER.text))
    parts = [
        {"authorization": "Bearer x"},
        {"x-api-key": "x"},
        {"authorization": f"Basic {ADMIN.text}"},
        {"cookie": cookie(opened)["cookie"]},
        {"x-csrf-token": opened.csrf},
        {"origin": "http://localhost:50000"},
    ]
    for many in range(len(parts) + 1):
        for chosen in itertools.combinations(parts, many):
            headers = HOST | {name: text for part in chosen for name, text in part.items()}
            assert refusal(gate, "POST", "/v2/keys", headers).code in (
                Code.UNAUTHENTICATED,
                Code.FORBIDDEN,
            )
