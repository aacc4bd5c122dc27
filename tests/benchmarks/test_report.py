"""What the benchmarks make of their figures; the measuring itself is not run here."""

import importlib
import json
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmarks(monkeypatch, tmp_path):
    """Import modules of `benchmarks/` as its command does, and forget them afterwards."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.setenv("BENCH_HOME", str(tmp_path))
    before = set(sys.modules)
    yield importlib.import_module
    for name in set(sys.modules) - before:
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(BENCHMARKS)):
            del sys.modules[name]


@pytest.mark.parametrize(
    ("value", "limit", "at_most", "reached"),
    [(1.4, 1.4, True, True), (1.41, 1.4, True, False), (4, 4, False, True), (3.9, 4, False, False)],
)
def test_a_target_is_reached_on_its_side_of_the_limit(benchmarks, value, limit, at_most, reached):
    report = benchmarks("report")
    assert report.Target("", value, limit, at_most=at_most).reached is reached


def payload_samples(payload, factors):
    """Two rounds in which every row takes its factor of bare TCP's 1 ms and 3 ms."""
    return {
        size: {
            row.name: [[round(factors[row] * 1e6)] * 3, [round(factors[row] * 3e6)] * 3]
            for row in payload.ROWS
        }
        for size in payload.SIZES
    }


def test_payload_compares_medians_with_bare_tcp_flask_and_a_fixed_time(benchmarks):
    payload = benchmarks("scenarios.payload")
    factors = {
        payload.BARE: 1,
        payload.SOCKET: 1.3,
        payload.WORKER: 1.61,
        payload.SHARED: 0.2,
        payload.CLIENT: 1.51,
        payload.PICKLE: 1.6,
        payload.POLICY: 1.6,
        payload.FLASK: 4,
        payload.WEBSOCKET: 3,
    }
    targets = payload._targets(payload_samples(payload, factors))
    missed = {target.claim for target in targets if not target.reached}
    assert missed == {
        f"{row.name} / {payload.BARE.name}, {size}"
        for row in (payload.WORKER, payload.CLIENT)
        for size in payload.BIG
    }
    values = {}
    for target in targets:
        values.setdefault(target.claim.rpartition(",")[0], set()).add(round(target.value, 3))
    bare, flask = payload.BARE.name, payload.FLASK.name
    assert {claim: value for claim, value in values.items() if " / " in claim} == {
        f"{payload.SOCKET.name} / {bare}": {1.3},
        f"{payload.WORKER.name} / {bare}": {1.61},
        f"{payload.SOCKET.name} / {flask}": {0.325},
        f"{payload.CLIENT.name} / {bare}": {1.51},
        f"{payload.PICKLE.name} / {bare}": {1.6},
        f"{payload.POLICY.name} / {bare}": {1.6},
    }
    shared = [target for target in targets if target.claim.startswith(payload.SHARED.name)]
    assert [round(target.value, 6) for target in shared] == [0.4] * len(payload.SIZES)


def wrk_counts(requests, median_us):
    return [
        {"requests": r, "duration_us": 2_000_000, "median_us": median_us, "p99_us": 9, "errors": 0}
        for r in requests
    ]


def small_samples(small, figures):
    """Row -> (requests of each round at 32 connections, median at 1 connection)."""
    return {
        getattr(small, row): {"1": wrk_counts([1], latency_us), "32": wrk_counts(requests, 0)}
        for row, (requests, latency_us) in figures.items()
    }


def test_small_compares_throughput_at_32_connections_and_latency_at_1(benchmarks):
    small = benchmarks("scenarios.small")
    figures = {
        "PELTON": ([240, 250, 10], 50),
        "TRITON": ([200, 200, 200], 100),
        "MLSERVER": ([21, 20, 19], 500),
        "LITSERVE": ([12, 12, 12], 500),
        "FASTAPI": ([61, 61, 61], 99),
    }
    targets = small._targets(small_samples(small, figures))
    found = [
        (t.claim.removeprefix(f"{small.PELTON} / "), t.value and round(t.value, 2), t.reached)
        for t in targets
    ]
    assert found == [
        (f"{small.TRITON}, requests/s at 32 connections", 1.2, True),
        (f"{small.MOSEC}, requests/s at 32 connections", None, False),
        (f"{small.MLSERVER}, requests/s at 32 connections", 12.0, True),
        (f"{small.LITSERVE}, requests/s at 32 connections", 20.0, True),
        (f"{small.FASTAPI}, requests/s at 32 connections", 3.93, False),
        (f"{small.TRITON}, median at 1 connection", 0.5, True),
        (f"{small.FASTAPI}, median at 1 connection", 0.51, False),
    ]


@pytest.fixture
def small_rows(benchmarks, monkeypatch):
    """The module, packing for the peer that reads msgpack by bare bytes."""
    module = benchmarks("scenarios.small_rows")
    monkeypatch.setattr(module, "_packed", lambda x: x.tobytes())
    return module


def asked_numbers(row):
    """Read the question of a row, whatever it is written in."""
    head_bytes = row.headers.get("Inference-Header-Content-Length")
    if row.server == "flask":
        found = pickle.loads(row.body)["x"]
    elif row.headers.get("Content-Type") == "application/json":
        said = json.loads(row.body)
        found = said["x"] if "x" in said else said["inputs"][0]["data"]
    elif head_bytes is not None:
        head = json.loads(row.body[: int(head_bytes)])
        assert head["inputs"][0]["shape"] == [1, 64]
        found = np.frombuffer(row.body[int(head_bytes) :], np.float32)
    else:
        found = np.frombuffer(row.body, np.float32)
    return np.array(found, np.float32).ravel()


def test_all_rows_of_small_ask_the_same(benchmarks, small_rows):
    servers = {*benchmarks("peers.table").PEERS, "bare"}
    rows = small_rows.questions(servers)
    assert {row.server for row in rows} == servers
    assert len({row.name for row in rows}) == len(rows)
    first = asked_numbers(rows[0])
    assert first.shape == (64,)
    for row in rows:
        np.testing.assert_array_equal(asked_numbers(row), first, err_msg=row.name)
        assert row.request().endswith(row.body)
    by_name = {row.name: row for row in rows}
    assert by_name[small_rows.PELTON].body == by_name[small_rows.TRITON].body
    assert by_name[small_rows.PELTON_JSON].body == by_name[small_rows.MLSERVER].body


def test_small_asks_only_the_servers_that_run(small_rows):
    rows = small_rows.questions({"pelton", "mosec"})
    assert {row.server for row in rows} == {"pelton", "mosec"}


def test_answers_of_small_are_read_in_every_form(small_rows):
    y = np.arange(8, dtype=np.float32).reshape(1, 8)
    answers = {
        small_rows.PELTON: b'{"outputs": []}' + y.tobytes(),
        small_rows.PELTON_JSON: json.dumps({"outputs": [{"data": y.ravel().tolist()}]}).encode(),
        small_rows.MOSEC: y.tobytes(),
        small_rows.FASTAPI: json.dumps({"y": y.tolist()}).encode(),
        small_rows.BENTOML: json.dumps(y.tolist()).encode(),
        small_rows.FLASK: pickle.dumps({"output": y}),
        small_rows.WEBSOCKET: b"\x81\xc4\x04data\xc4\x20" + y.tobytes(),
    }
    servers = {"pelton", "mosec", "fastapi", "bentoml", "flask", "websocket"}
    by_name = {row.name: row for row in small_rows.questions(servers)}
    for name, body in answers.items():
        np.testing.assert_array_equal(small_rows.numbers(by_name[name], body), y, err_msg=name)


def test_batching_is_held_against_full_batches_without_gaps(benchmarks):
    batching = benchmarks("scenarios.batching")
    ideal = benchmarks("cost_models").ideal_rows_per_s
    assert [round(ideal(bound), 1) for bound in (1, 32)] == [909.1, 7619.0]
    rates = {bound: [0.0, 0.0, 0.0] for bound in batching.BOUNDS}
    rates[32] = [1.0, 0.9 * ideal(32) + 1, 1e6]
    (target,) = batching._targets(rates)
    assert target.reached
    assert target.value == pytest.approx(0.9, abs=1e-3)
    rates[32][1] -= 2
    assert not batching._targets(rates)[0].reached


def flood(benchmarks, recovers_after_s, flood_ms=100, refused_ms=1):
    """A flood from 4 s to 8 s: 10 per second answered before and after, 90 of 500 within it.

    After the flood requests fail, but for every third, until `recovers_after_s`.
    """
    answers = benchmarks("generators").Answers
    overload = benchmarks("scenarios.overload")
    before_s, within_s = np.arange(0, 4, 0.1), np.arange(4, 8, 0.002)
    after_s = np.arange(8, 16, 0.1)
    served = np.arange(len(within_s)) % 50 < 9
    well = (after_s >= 8 + recovers_after_s) | (np.arange(len(after_s)) % 3 == 0)
    status = np.concatenate(
        [np.full(len(before_s), 200), np.where(served, 200, 503), np.where(well, 200, 503)]
    )
    latency_s = np.concatenate(
        [
            np.full(len(before_s), 2e-3),
            np.where(served, flood_ms, refused_ms) * 1e-3,
            np.full(len(after_s), 2e-3),
        ]
    )
    due_s = np.concatenate([before_s, within_s, after_s])
    memory_bytes = [(100, 50)] * 13 + [(110, 50)] * 19
    return overload.Found(100.0, answers(due_s, latency_s, status, b""), (4, 8), memory_bytes)


def test_a_flood_is_judged_by_goodput_refusals_recovery_and_memory(benchmarks):
    overload = benchmarks("scenarios.overload")
    good, bad = flood(benchmarks, 0), flood(benchmarks, 3, refused_ms=51)
    assert good.goodput == pytest.approx(90, abs=1)
    assert (good.recovery_s, bad.recovery_s) == (0, pytest.approx(3, abs=0.1))
    assert good.growth == pytest.approx(160 / 150)
    targets = overload._targets({"good": good, "bad": bad})
    assert [(target.claim, target.reached) for target in targets] == [
        ("good: goodput / peak", True),
        ("good: refusals, p99 ms", True),
        ("good: recovery, s", True),
        ("good: memory, end of flood / its begin", False),
        ("bad: goodput / peak", True),
        ("bad: refusals, p99 ms", False),
        ("bad: recovery, s", False),
        ("bad: memory, end of flood / its begin", False),
    ]


def test_a_server_that_stays_slow_after_a_flood_has_not_recovered(benchmarks):
    found = flood(benchmarks, 0)
    found.answers.latency_s[found.answers.due_s >= 8] = 0.012
    assert found.recovery_s == float("inf")


def test_cnn_is_held_against_the_best_arrangement(benchmarks, monkeypatch):
    cnn = benchmarks("scenarios.cnn")
    monkeypatch.setattr("os.cpu_count", lambda: 4)
    ways = cnn.arrangements()
    assert len(ways) == 3 * 4
    for way in ways.values():
        assert way["sessions"] * way["threads"] * way["callers"] == 4
    rates = {name: [10.0, 20.0, 30.0] for name in ways}
    rates["1 session of 4 threads, batches of 8"] = [50.0, 100.0, 80.0]
    rates[cnn.PELTON] = [45.0, 95.0, 80.0]
    answers = benchmarks("generators").Answers
    latency_s = np.linspace(0.01, 0.03, 101)
    done = answers(np.zeros(101), latency_s, np.full(101, 200), b"")
    opened = [cnn.Opened(100.0, ms, dict.fromkeys(cnn.LOADS, done)) for ms in (5.0, 10.0, 12.0)]
    share, slow = cnn._targets(rates, opened)
    assert (share.value, share.reached) == (0.95, True)
    assert (round(slow.value, 2), slow.reached) == (2.98, True)
    assert not cnn._targets(rates, opened[:2])[1].reached


def test_who_was_best_by_luck_in_one_round_is_not_what_counts_there(benchmarks):
    cnn = benchmarks("scenarios.cnn")
    steady, lucky = [100.0, 100.0, 100.0], [90.0, 300.0, 110.0]
    rates = {cnn.PELTON: [90.0, 90.0, 90.0], "steady": steady, "lucky": lucky}
    assert cnn.share_of_best(rates) == pytest.approx(0.9)


def test_a_quick_result_is_kept_outside_the_repository_and_can_be_shown(benchmarks, tmp_path):
    report = benchmarks("report")
    result = report.Result(
        scenario="small",
        method=["looked twice"],
        tables=[report.Table("Speed", ["", "requests/s"], [["Pelton", "9"]])],
        targets=[report.Target("Pelton / other", 3.0, 4.0, at_most=False)],
        versions={"pelton": "0.1.0"},
        samples={"Pelton": [9, 9]},
    )
    path = report.keep(result, {"processor": "one"}, quick=True)
    assert path.is_relative_to(tmp_path)
    record = json.loads(path.read_text())
    assert record["samples"] == {"Pelton": [9, 9]}
    assert record["targets"][0]["reached"] is False
    page = report.render(record)
    assert "| Pelton | 9 |" in page
    assert "| Pelton / other | 3.00 | at least 4.00 | **missed** |" in page
    assert "- looked twice" in page
