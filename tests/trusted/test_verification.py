"""The gate: all that is needed, each thing by itself missing, and nothing decoded before."""

from __future__ import annotations

import ast
import math
import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pelton
from pelton.access.caller import ANONYMOUS, Caller
from pelton.errors import AccessDenied, Code, ModelFailed, Unavailable
from pelton.records import Scope
from pelton.runtimes.contract import RuntimeOptions
from pelton.runtimes.process.single_use import SingleUse
from pelton.specs import ModelSpec
from pelton.trusted.keys_file import KeysFile
from pelton.trusted.signing import HEADER, sign
from pelton.trusted.verification import AHEAD_S, REFUSED, TrustedGate

SECRET, OTHER_SECRET = b"s" * 32, b"t" * 32
NOW_S = 1_789_000_000.25

KEYS = f"""
[robot-7]
client = "key7"
hmac_sha256 = "{SECRET.hex()}"
[robot-8]
client = "key8"
hmac_sha256 = "{OTHER_SECRET.hex()}"
"""


def caller(key_id: str = "key7", *scopes: Scope) -> Caller:
    return Caller(key_id, frozenset(scopes or {Scope.PICKLE_UNSAFE}), key_id)


def signed(body: bytes, **other: Any) -> str:
    fields = {
        "key": "robot-7",
        "signer": SECRET,
        "method": "POST",
        "path": "/infer?model=arm",
        "model": "arm",
        "body": [body],
        "now_s": NOW_S,
    } | other
    return sign(**fields)[HEADER]


class Clock:
    now_s = NOW_S

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def keys(tmp_path: Path) -> KeysFile:
    file = tmp_path / "keys.toml"
    file.touch(mode=0o600)
    file.write_text(KEYS)
    return KeysFile(file)


@pytest.fixture
def gate(keys: KeysFile, clock: Clock) -> TrustedGate:
    return TrustedGate(keys, NOW_S - 3600, clock)


def admit(gate: TrustedGate, signature: str | None, body: bytes, **other: Any) -> str:
    request = {
        "caller": caller(),
        "signature": signature,
        "method": "POST",
        "path": "/infer?model=arm",
        "model": "arm",
        "body": body,
        "log_id": "r-5",
    }
    return gate.admit(**request | other)


def test_a_request_with_all_that_is_needed_is_admitted_once(gate: TrustedGate, caplog) -> None:
    header = signed(b"body")
    assert admit(gate, header, b"body") == "robot-7"
    for _ in range(2):
        with pytest.raises(AccessDenied) as refused:
            admit(gate, header, b"body")
        assert (refused.value.code, refused.value.message) == (Code.UNAUTHENTICATED, REFUSED)
    assert "request r-5: its signature is refused: it was used before" in caplog.messages
    assert admit(gate, signed(b"body"), b"body") == "robot-7", "signed anew"


def test_all_is_refused_where_the_settings_file_does_not_allow_it(clock: Clock) -> None:
    with pytest.raises(AccessDenied, match="settings file does not allow") as refused:
        admit(TrustedGate(None, 0, clock), signed(b""), b"")
    assert refused.value.code is Code.FORBIDDEN


@pytest.mark.parametrize(
    "who",
    [ANONYMOUS, caller("key7", *(set(Scope) - {Scope.PICKLE_UNSAFE}))],
    ids=["nobody", "admin"],
)
def test_who_lacks_the_scope_is_refused(gate: TrustedGate, who: Caller) -> None:
    with pytest.raises(
        AccessDenied, match="need an API key with the scope pickle:unsafe"
    ) as refused:
        admit(gate, signed(b""), b"", caller=who)
    assert refused.value.code is Code.FORBIDDEN
    with pytest.raises(AccessDenied, match="with the scope"):
        gate.may_send(who)
    gate.may_send(caller())


BODY = b"body"

Broken = tuple[Callable[[bytes], str | None], dict[str, Any], str]


def made(**other: Any) -> Callable[[bytes], str]:
    return lambda body: signed(body, **other)


def nonce_swapped(body: bytes) -> str:
    header = signed(body)
    return header.replace(header.split("nonce=")[1][:32], "0" * 32)


BROKEN: dict[str, Broken] = {
    "none": (lambda body: None, {}, "there is none"),
    "garbled": (lambda body: signed(body)[:-1], {}, "no known form"),
    "unknown key": (made(key="robot-9"), {}, "no signing key 'robot-9'"),
    "another's key": (made(key="robot-8", signer=OTHER_SECRET), {}, "no signing key 'robot-8'"),
    "another caller": (signed, {"caller": caller("key8")}, "no signing key 'robot-7'"),
    "wrong secret": (made(signer=OTHER_SECRET), {}, "not that of key"),
    "sig_bad": (lambda body: signed(body)[:-64] + "00" * 32, {}, "not that of key"),
    "64 bytes": (lambda body: signed(body)[:-64] + "00" * 64, {}, "not that of key"),
    "sig_old": (made(now_s=NOW_S - 61), {}, "its time is -61.2 s from now"),
    "from the future": (made(now_s=NOW_S + 6), {}, "its time is +5.8 s from now"),
    "time swapped": (lambda body: signed(body).replace("0000;", "0001;"), {}, "not that of key"),
    "nonce swapped": (nonce_swapped, {}, "not that of"),
    "body_swap": (lambda body: signed(b"another"), {}, "not that of key"),
    "body cut": (lambda body: signed(body + b"\0"), {}, "not that of key"),
    "other_path": (signed, {"path": "/infer?model=leg"}, "not that of key"),
    "query cut off": (signed, {"path": "/infer"}, "not that of key"),
    "other model": (signed, {"model": "leg"}, "not that of key"),
    "other method": (signed, {"method": "PUT"}, "not that of key"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_whatever_is_wrong_the_stranger_is_told_one_sentence_and_the_log_which(
    gate: TrustedGate, caplog, case: str
) -> None:
    header, other, why = BROKEN[case]
    with pytest.raises(AccessDenied) as refused:
        admit(gate, header(BODY), BODY, **other)
    assert (refused.value.code, refused.value.message) == (Code.UNAUTHENTICATED, REFUSED)
    (line,) = caplog.messages
    assert why in line
    assert SECRET.hex() not in line


def test_a_refused_request_uses_nothing_up(gate: TrustedGate) -> None:
    header = signed(BODY)
    for other in ({"body": b"x"}, {"path": "/"}, {"model": "leg"}, {"method": "GET"}):
        with pytest.raises(AccessDenied):
            admit(gate, header, **{"body": BODY} | other)
    assert admit(gate, header, BODY) == "robot-7"


@pytest.mark.parametrize("shift_s", [-60.0, -59.0, 0.0, 4.0, AHEAD_S])
def test_the_whole_window_is_taken(gate: TrustedGate, clock: Clock, shift_s: float) -> None:
    clock.now_s = float(int(NOW_S))
    assert admit(gate, signed(BODY, now_s=clock.now_s + shift_s), BODY) == "robot-7"


def test_a_signature_is_of_no_use_at_the_end_of_its_window_or_later(
    gate: TrustedGate, clock: Clock
) -> None:
    header = signed(BODY, now_s=NOW_S + 4)
    admit(gate, header, BODY)
    for later_s in (1, 59, 63.7, 64, 65, 70, 3600):
        clock.now_s = NOW_S + later_s
        with pytest.raises(AccessDenied):
            admit(gate, header, BODY)


def test_a_clock_that_jumps_brings_no_replay_and_locks_nobody_out(
    gate: TrustedGate, clock: Clock
) -> None:
    header = signed(BODY)
    admit(gate, header, BODY)
    clock.now_s += 10_000
    admit(gate, signed(BODY, now_s=clock.now_s), BODY)
    clock.now_s = NOW_S - 1
    with pytest.raises(Unavailable) as refused:
        admit(gate, header, BODY)
    assert refused.value.retry_after_s == 2.0
    clock.now_s = NOW_S + 2
    with pytest.raises(AccessDenied):
        admit(gate, header, BODY)
    assert admit(gate, signed(BODY, now_s=clock.now_s), BODY) == "robot-7"


def test_what_was_used_before_a_restart_is_not_taken_after_it(keys: KeysFile, clock: Clock) -> None:
    used = [signed(BODY, now_s=NOW_S + shift_s) for shift_s in (-30, 0, 4)]
    gate = TrustedGate(keys, NOW_S - 3600, clock)
    for header in used:
        admit(gate, header, BODY)
    restarted = TrustedGate(keys, NOW_S, clock)
    for header in used:
        with pytest.raises(Unavailable, match="not taken yet") as refused:
            admit(restarted, header, BODY)
        assert refused.value.retry_after_s == 6.0
    clock.now_s += AHEAD_S + 0.5
    with pytest.raises(Unavailable) as refused:  # times are whole seconds
        admit(restarted, signed(BODY, now_s=clock.now_s), BODY)
    assert refused.value.retry_after_s == 1.0
    clock.now_s += 0.5
    for header in used:
        with pytest.raises(AccessDenied):
            admit(restarted, header, BODY)
    assert admit(restarted, signed(BODY, now_s=clock.now_s), BODY) == "robot-7"


def test_more_than_can_be_remembered_is_refused(keys: KeysFile, clock: Clock) -> None:
    gate = TrustedGate(keys, NOW_S - 3600, clock, capacity=1)
    first = signed(BODY)
    admit(gate, first, BODY)
    with pytest.raises(Unavailable, match="too many signed requests"):
        admit(gate, signed(BODY), BODY)
    with pytest.raises(AccessDenied):
        admit(gate, first, BODY)


def test_signatures_are_compared_in_constant_time(gate: TrustedGate, monkeypatch) -> None:
    import hmac

    compared = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return False

    monkeypatch.setattr(hmac, "compare_digest", compare)
    with pytest.raises(AccessDenied):
        admit(gate, signed(BODY), BODY)
    assert compared == [(32, 32)]


# -- nothing is unpickled before ------------------------------------------------------------------


class Marks:
    """A pickle that leaves a file behind wherever it is unpickled, if it is not shut off."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


class Served:
    """Serves as the server does: the gate first, and then a worker."""

    def __init__(self, gate: TrustedGate, workers: SingleUse) -> None:
        self.gate = gate
        self.workers = workers
        self.entered = 0

    def ask(self, body: bytes, header: str | None, **other: Any) -> Any:
        admit(self.gate, header, body, **other)
        self.entered += 1
        return self.workers.run([memoryview(body)], math.inf)[1]["output"]


@pytest.fixture
def served(gate: TrustedGate, tmp_path: Path) -> Iterator[Served]:
    folder = tmp_path / "arm"
    folder.mkdir()
    (folder / "model.py").write_text(
        "def load_model(path, device): pass\ndef model_inference(obs): return str(obs)\n"
    )
    workers = SingleUse(ModelSpec("arm", 1, folder, "python"), RuntimeOptions())
    yield Served(gate, workers)
    workers.close()


@pytest.mark.parametrize("case", BROKEN)
def test_nothing_is_unpickled_before_a_signature_holds(
    served: Served, tmp_path: Path, case: str
) -> None:
    mark = tmp_path / "mark"
    body = pickle.dumps({"x": Marks(mark)})
    header, other, _ = BROKEN[case]
    with pytest.raises(AccessDenied):
        served.ask(body, header(body), **other)
    assert served.entered == 0
    assert not mark.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux namespaces")
def test_a_signed_object_is_unpickled_where_it_can_leave_nothing(
    served: Served, tmp_path: Path
) -> None:
    inside, outside = Path("mark"), tmp_path / "mark"
    harmless, harmful = (pickle.dumps({"x": Marks(path)}) for path in (inside, outside))
    assert served.ask(harmless, signed(harmless)) == "{'x': None}"
    with pytest.raises(ModelFailed, match="raised OSError"):
        served.ask(harmful, signed(harmful))
    assert served.entered == 2
    assert not inside.exists()
    assert not outside.exists()


def test_the_standard_unpickler_is_in_one_file_only() -> None:
    package = Path(pelton.__file__).parent
    users = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        for name in _imported(node)
        if name.partition(".")[0] in {"pickle", "_pickle", "marshal", "shelve"}
    }
    writer = "client/signed_calls.py"
    assert users == {"runtimes/process/single_use_worker.py", writer}
    assert _used_of("pickle", package / writer) == {"dumps", "PickleBuffer"}


def _used_of(module: str, path: Path) -> set[str]:
    tree = ast.walk(ast.parse(path.read_text("utf-8")))
    named = [node for node in tree if isinstance(node, ast.Attribute)]
    return {
        node.attr for node in named if isinstance(node.value, ast.Name) and node.value.id == module
    }


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) else []
