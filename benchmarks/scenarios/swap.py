"""What callers notice while versions are published, refused and taken back: nothing, it should be.

One open loop of 200 requests per second, without any change at first, then with a publish every
other second, a third of them bad, then without again. The answer of version N is the input plus N,
so each answer proves which version it came from, whatever it says.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import cost_models
import environments
import memory
from environments import HERE
from generators import OK, Answers, Generators
from load import oip
from peers import launch
from peers.launch import Launch
from peers.start import start
from processes import Server, free_port
from publishing import AFTERMATH_S, Event, Repository, Timeline
from report import Result, Table, Target
from scenarios.swap_found import BAD, SETTLE_S, Found, Late, Plan, X, bodies_of, values_of

LATE = ("late nan", "late raise", "late exit")
"""How versions turn bad that are good at the gates."""

LATE_LASTS_S = 12.0

MODEL = "steady"
KINDS = ("onnx", "worker")
FILES = {"onnx": "model.onnx", "worker": "model.py"}

RATE = 200.0
CONNECTIONS = 128
PROBATION_S = 8.0
KEEP_WARM_S = 1.0

GOLDEN = f"""
[[golden]]
name = "ones"
inputs = {{x = {X.tolist()}}}
latency_factor = 4
"""

WORKER = """\
isolation = "process"
instances = 1

[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 64]

[[outputs]]
name = "y"
datatype = "FP32"
shape = [-1, 64]
"""


def run(*, quick: bool) -> Result:
    """Publish versions of an ONNX model, and of a model in a worker process."""
    environments.require_pelton()
    plan = Plan(12, 2.0, 5.0) if quick else Plan(50, 2.0, 30.0)
    found = {}
    for kind in KINDS:
        print(f"swap: {kind}, {plan.lasts_s:.0f} s", flush=True)
        found[kind] = _storm(kind, plan)
    return Result(
        scenario="swap",
        method=_method(plan),
        tables=[
            _requests_table(found, plan),
            _versions_table(found),
            _back_table(found),
            _memory_table(found),
        ],
        targets=[target for kind, one in found.items() for target in _targets(kind, one, plan)],
        versions=environments.versions(
            Path(sys.executable), ("pelton", "numpy", "uvloop", "onnxruntime", "sqlalchemy")
        ),
        samples={kind: _sample(one, plan) for kind, one in found.items()},
    )


# -- what is published -----------------------------------------------------------------------------


def _write(kind: str, plan: Plan) -> tuple[Path, dict[int, bytes]]:
    """Write a repository with version 1; return it, and the file of each later version."""
    root = cost_models.folder(f"swap-{kind}")
    kinds = {1: "good"} | {2 + number: plan.kind(number) for number in range(plan.publishes)}
    if kind == "worker":
        kinds |= dict(enumerate(LATE, 1 + plan.last))
    files = _onnx_files(kinds) if kind == "onnx" else _worker_files(kinds)
    first = root / MODEL / "1"
    first.mkdir(parents=True)
    (first / FILES[kind]).write_bytes(files.pop(1))
    (root / MODEL / "model.toml").write_text((WORKER if kind == "worker" else "") + GOLDEN)
    return root, files


def _onnx_files(kinds: dict[int, str]) -> dict[int, bytes]:
    folder = cost_models.folder("swap-files")
    words = [f"{version}:{kind}" for version, kind in kinds.items()]
    python = environments.python_of("models")
    subprocess.run([python, HERE / "peers" / "version_files.py", folder, *words], check=True)
    return {version: (folder / f"{version}.onnx").read_bytes() for version in kinds}


def _worker_files(kinds: dict[int, str]) -> dict[int, bytes]:
    source = (HERE / "peers" / "versioned.py").read_text()
    files = {}
    for version, kind in kinds.items():
        text = source.replace("VERSION = 0\n", f"VERSION = {version}\n")
        text = text.replace('KIND = "good"\n', f'KIND = "{kind}"\n')
        files[version] = text.encode()
    return files


def _launch(kind: str, root: Path) -> Launch:
    state = environments.home() / "state" / f"swap-{kind}"
    shutil.rmtree(state, ignore_errors=True)
    port = free_port()
    flags: dict[str, object] = {
        "--port": port,
        "--state-dir": state,
        "--probation-s": PROBATION_S,
        "--keep-warm-s": KEEP_WARM_S,
        "--latency-factor": 0,
    }
    words = [str(word) for pair in flags.items() for word in pair]
    command: list[str | Path] = [environments.PELTON, "serve", root, "--allow-publish", *words]
    return launch.Launch(command, port, "/v2/health/ready")


# -- one server ------------------------------------------------------------------------------------


def _storm(kind: str, plan: Plan) -> Found:
    root, files = _write(kind, plan)
    launched = _launch(kind, root)
    request = oip.request(MODEL, "x", X)
    repository = Repository(launched.port, MODEL)
    with ExitStack() as stack:
        log = environments.home() / "logs" / f"swap-{kind}.log"
        server = stack.enter_context(start(launched, log))
        load = stack.enter_context(Generators(f"swap-{kind}", launched.port, request))
        load.open([(RATE, 3.0)], CONNECTIONS, 1).require_ok(kind)
        before_bytes = _settled_bytes(server)
        with memory.Watch(server.pid) as watch:
            answers, events = _under_load(load, repository, plan, kind, files)
        server.check_alive()
        repository.wait_until_one_is_left(PROBATION_S + KEEP_WARM_S + 30.0)
        after_bytes = _settled_bytes(server)
        timeline = Timeline(1, events)
        late = tuple(
            _turn_bad(load, repository, sort, version, files[version])
            for version, sort in enumerate(LATE if kind == "worker" else (), 1 + plan.last)
        )
        server.check_alive()
    both = [sum(pair) for pair in watch.found]
    return Found(answers, timeline, before_bytes, after_bytes, both, late)


def _under_load(
    load: Generators, repository: Repository, plan: Plan, kind: str, files: dict[int, bytes]
) -> tuple[Answers, list[Event]]:
    """Publish everything while the open loop goes on."""
    events = []
    with ThreadPoolExecutor(1) as pool:
        begin_s = time.monotonic() + plan.quiet_s
        phases = [(RATE, plan.lasts_s)]
        loading = pool.submit(load.open, phases, CONNECTIONS, 0, bodies=True)
        for number in range(plan.publishes):
            time.sleep(max(0.0, begin_s + number * plan.every_s - time.monotonic()))
            version = 2 + number
            events.append(
                repository.publish(version, plan.kind(number), FILES[kind], files[version])
            )
            if plan.then_rollback(number) and not events[-1].refused:
                events.append(repository.rollback())
        answers = loading.result()
    return answers, events


def _turn_bad(
    load: Generators, repository: Repository, kind: str, version: int, data: bytes
) -> Late:
    """Publish a version that turns bad after a while in service, and see it taken back.

    Raises:
        RuntimeError: it did not come into service, or stayed there.
    """
    before = repository.active()
    with ThreadPoolExecutor(1) as pool:
        phases = [(RATE, LATE_LASTS_S)]
        loading = pool.submit(load.open, phases, CONNECTIONS, version, bodies=True)
        event = repository.publish(version, kind, FILES["worker"], data)
        if event.refused:
            loading.result()
            raise RuntimeError(f"the version that turns bad was refused: {event.said}")
        repository.wait_until_answers(before, LATE_LASTS_S)
        answers = loading.result()
    told = bodies_of(answers.with_status(OK))
    nan = np.array([bool(body) and bool(np.isnan(values_of(body)).any()) for body in told])
    failed = int((answers.status != OK).sum())
    return Late(kind, int(nan[answers.with_status(OK).body].sum()), failed)


def _settled_bytes(server: Server) -> int:
    """Return the resident bytes of a server and its workers, when nobody asks it anything."""
    time.sleep(SETTLE_S)
    found = []
    for _ in range(5):
        found.append(sum(memory.resident_bytes(server.pid)))
        time.sleep(memory.STEP_S)
    return int(median(found))


# -- tables ----------------------------------------------------------------------------------------


def _ratio(one: Found, plan: Plan) -> float:
    return one.changing().latency_ms(99) / one.quiet(plan).latency_ms(99)


def _requests_table(found: dict[str, Found], plan: Plan) -> Table:
    rows = []
    for kind, one in found.items():
        quiet, changing, storm = one.quiet(plan), one.changing(), one.storm(plan)
        rows.append(
            [
                kind,
                f"{len(one.answers.status):,}",
                str(one.failed),
                str(one.wrong),
                f"{quiet.latency_ms(50):.2f} / {quiet.latency_ms(99):.2f}",
                f"{changing.latency_ms(50):.2f} / {changing.latency_ms(99):.2f}",
                f"{changing.latency_ms(100):.1f}",
                f"{_ratio(one, plan):.2f}",
                f"{storm.latency_ms(99):.2f} ({storm.latency_ms(99) / quiet.latency_ms(99):.2f})",
                f"{len(changing.status):,}",
            ]
        )
    columns = [
        "",
        "requests",
        "failed",
        "of a wrong version",
        "quiet: median / p99 ms",
        "during changes: median / p99 ms",
        "longest ms",
        "p99 ratio",
        "p99 of the whole storm (ratio)",
        "requests during changes",
    ]
    return Table(f"{RATE:.0f} requests per second while versions change", columns, rows)


def _versions_table(found: dict[str, Found]) -> Table:
    rows = []
    for kind, one in found.items():
        for sort in ("good", *BAD):
            events = [event for event in one.timeline.events if event.kind == sort]
            if not events:
                continue
            gates = Counter(event.refused or "none" for event in events)
            rows.append(
                [
                    f"{kind}, {sort}",
                    str(len(events)),
                    ", ".join(f"{gate}: {count}" for gate, count in gates.items()),
                    f"{median(event.took_s for event in events):.2f}",
                    f"{max(event.took_s for event in events):.2f}",
                ]
            )
    columns = ["", "published", "refused at the gate", "median s", "longest s"]
    return Table("From the order to the reply", columns, rows)


def _back_table(found: dict[str, Found]) -> Table:
    rows = []
    for kind, one in found.items():
        took_ms = [1e3 * event.took_s for event in _rollbacks(one)]
        if took_ms:
            told = f"{median(took_ms):.1f}, longest {max(took_ms):.1f}"
            rows.append([f"{kind}, rollback", str(len(took_ms)), f"{told} ms from order to reply"])
        for late in one.late:
            told = f"{late.failed} failed requests, {late.nan} answers with NaN"
            rows.append([f"{kind}, {late.kind}, taken back by itself", "1", told])
    return Table("The way back", ["", "times", "seen"], rows)


def _memory_table(found: dict[str, Found]) -> Table:
    rows = [
        [
            kind,
            *(
                f"{value / 2**20:.1f}"
                for value in (one.before_bytes, max(one.memory_bytes), one.after_bytes)
            ),
        ]
        for kind, one in found.items()
    ]
    return Table(
        "Resident memory of server and workers, MiB", ["", "before", "most", "after"], rows
    )


def _rollbacks(one: Found) -> list[Event]:
    return [event for event in one.timeline.events if event.what == "rollback"]


def _targets(kind: str, one: Found, plan: Plan) -> list[Target]:
    published = [event for event in one.timeline.events if event.what == "publish"]
    let_in = sum(event.kind != "good" and not event.refused for event in published)
    kept_out = sum(event.kind == "good" and bool(event.refused) for event in published)
    rollbacks = [event.took_s for event in _rollbacks(one)]
    grown = one.after_bytes / one.before_bytes
    return [
        Target(f"{kind}: failed requests", one.failed, 0, at_most=True),
        Target(f"{kind}: answers of a wrong version", one.wrong, 0, at_most=True),
        Target(f"{kind}: bad versions that came into service", let_in, 0, at_most=True),
        Target(f"{kind}: good versions that were refused", kept_out, 0, at_most=True),
        Target(f"{kind}: p99 during changes / quiet", _ratio(one, plan), 1.5, at_most=True),
        Target(f"{kind}: longest rollback, s", max(rollbacks, default=None), 1, at_most=True),
        Target(f"{kind}: memory after / before", grown, 1.05, at_most=True),
        *(
            Target(f"{kind}, {late.kind}: failed requests or NaN", late.failed + late.nan, 0, True)
            for late in one.late
        ),
    ]


def _sample(one: Found, plan: Plan) -> dict[str, Any]:
    start_s = one.answers.start_s
    return {
        "quiet": one.quiet(plan).summary(),
        "changing": one.changing().summary(),
        "storm": one.storm(plan).summary(),
        "all": one.answers.summary(),
        "events": [
            {
                "what": event.what,
                "kind": event.kind,
                "at_s": round(event.begin_s - start_s, 4),
                "took_s": round(event.took_s, 4),
                "version": event.version,
                "refused": event.refused,
                "said": event.said,
            }
            for event in one.timeline.events
        ],
        "memory_bytes": one.memory_bytes,
        "late": [asdict(late) for late in one.late],
    }


def _method(plan: Plan) -> list[str]:
    return [
        f"one open loop of Poisson arrivals, {RATE:.0f} requests per second over up to "
        f"{CONNECTIONS} connections, for each of two servers: an ONNX model, and a model in Python "
        "in one worker process; latency counts from the moment when a request was due",
        f"{plan.publishes} versions, one every {plan.every_s:g} s, each over HTTP with its digest; "
        f"every third is bad, in turn: {', '.join(BAD)}; after every sixth comes a rollback; "
        f"before and after, {plan.quiet_s:g} s without changes, which `quiet` stands for",
        "during changes: requests that were due between an order and the reply to it, or in the "
        f"{AFTERMATH_S:g} s after it, when the old version is closed",
        "the whole storm: all requests from the first order to the last reply, and those between",
        "version N adds N to its input, so values prove the version that the answer names; wrong "
        "is an answer whose values are not of the version it names, or of a version that could not "
        "have answered between the moment when the request was due and the answer, by the orders "
        "and the replies to them",
        f"`probation_s = {PROBATION_S:g}`, `keep_warm_s = {KEEP_WARM_S:g}`; `latency_factor = 0`, "
        "so that a busy moment of the machine takes no version back; golden requests compare the "
        "latency (at most 4 times as long)",
        "memory: resident bytes of the server and its workers, before the first publish and once "
        "only one version is left; median of five looks",
        "taken back by itself: at the end, versions of the worker model that give NaN, raise, or "
        f"end their process from the 801st run on, at {RATE:.0f} requests per second",
    ]
