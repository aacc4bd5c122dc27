"""What the benchmarks make of their figures; the measuring itself is not run here."""

import importlib
import json
import sys
from pathlib import Path

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
            row.name: [[int(factors[row] * 1e6)] * 3, [int(factors[row] * 3e6)] * 3]
            for row in payload.ROWS
        }
        for size in payload.SIZES
    }


def test_payload_compares_medians_with_bare_tcp_and_flask(benchmarks):
    payload = benchmarks("scenarios.payload")
    factors = dict(zip(payload.ROWS, (1, 1.3, 1.51, 1.6, 1.6, 4, 3), strict=True))
    targets = payload._targets(payload_samples(payload, factors))
    missed = {target.claim for target in targets if not target.reached}
    assert missed == {f"{payload.CLIENT.name} / bare loopback TCP, {size}" for size in payload.BIG}
    assert len(targets) == 3 + 4 + 3 + 3 + 3
    values = {round(target.value, 3) for target in targets}
    assert values == {1.3, 0.325, 1.51, 1.6}


def wrk_counts(requests, median_us):
    return [
        {"requests": r, "duration_us": 2_000_000, "median_us": median_us, "p99_us": 9, "errors": 0}
        for r in requests
    ]


def test_small_compares_throughput_at_32_connections_and_latency_at_1(benchmarks):
    small = benchmarks("scenarios.small")
    rows = [row.name for row in small.questions()]
    rates = ([90, 80, 10], [38, 38, 38], [20, 20, 20], [70, 70, 70], [8, 8, 8], [60, 60, 60])
    latencies_us = (51, 60, 100, 70, 300, 80)
    samples = {
        row: {"1": wrk_counts([1], latency), "32": wrk_counts(rate, 0)}
        for row, rate, latency in zip(rows, rates, latencies_us, strict=True)
    }
    targets = small._targets(samples, rows)
    assert [(round(t.value, 2), t.limit, t.reached) for t in targets] == [
        (4.0, 4, True),
        (10.0, 10, True),
        (0.51, 0.5, False),
    ]


def test_all_questions_of_small_ask_the_same(benchmarks):
    small = benchmarks("scenarios.small")
    binary, oip, *fastapi, mlserver, without_worker = small.questions()
    tensor = json.loads(oip.body)["inputs"][0]
    assert mlserver.body == without_worker.body == oip.body
    assert [json.loads(row.body)["x"] for row in fastapi] == [[tensor["data"]]] * 2
    head_bytes = int(binary.headers["Inference-Header-Content-Length"])
    packed = memoryview(binary.body)[head_bytes:].cast("f").tolist()
    assert packed == pytest.approx(tensor["data"], rel=1e-6)


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
