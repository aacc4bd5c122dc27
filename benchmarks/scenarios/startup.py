"""How soon a started server answers, what an installation weighs, and what an import takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import environments
from machine import ROOT
from peers.start import reason, start
from peers.table import PEERS
from report import Result, Table, Target

INSTALLATIONS = {"client only, pip install .": ".", "server, pip install .[server]": ".[server]"}
IMPORTS = ("numpy", "pelton.client")
IMPORT_CODE = (
    "import time; s = time.perf_counter(); import {}; print((time.perf_counter() - s) * 1000)"
)


def run(*, quick: bool) -> Result:
    """Start every peer, install Pelton twice, import it."""
    environments.require_pelton()
    times = 3 if quick else 7
    ready_ms, absent = _ready_ms(times)
    weights: dict[str, dict[str, float]] = {}
    imports_ms: dict[str, list[float]] = {}
    for name, what in INSTALLATIONS.items():
        print(f"startup: {name}", flush=True)
        folder = environments.home() / "installed"
        environments.create(folder)
        empty = _packages(folder)
        environments.install(folder / "bin" / "python", f"{ROOT}{what.removeprefix('.')}")
        weights[name] = {
            package: size - empty.get(package, 0)
            for package, size in _packages(folder).items()
            if size > empty.get(package, 0)
        }
        if what == ".":
            imports_ms = {m: _import_ms(folder, m, times) for m in IMPORTS}
        shutil.rmtree(folder)
    return Result(
        scenario="startup",
        method=_method(times),
        tables=[_ready_table(ready_ms), _weight_table(weights), _import_table(imports_ms)],
        targets=[
            Target("Pelton, seconds to ready", median(ready_ms["pelton"]) / 1000, 1.0, at_most=True)
        ],
        versions=environments.versions(Path(sys.executable), ("pelton", "onnxruntime", "numpy")),
        samples={"ready_ms": ready_ms, "installed_bytes": weights, "import_ms": imports_ms},
        absent=absent,
    )


def _ready_ms(times: int) -> tuple[dict[str, list[float]], dict[str, str]]:
    """Return how long each start took, and why some peers could not be started."""
    model = environments.make_models() / "small.onnx"
    found: dict[str, list[float]] = {name: [] for name in PEERS}
    absent: dict[str, str] = {}
    for number in range(times):
        print(f"startup: start {number + 1} of {times}", flush=True)
        for name in [name for name in PEERS if name not in absent]:
            log = environments.home() / "logs" / f"startup-{name}.log"
            try:
                launch = PEERS[name](model)
                started_s = time.perf_counter()
                with start(launch, log):
                    found[name].append((time.perf_counter() - started_s) * 1000)
            except (environments.Missing, OSError, RuntimeError) as error:
                absent[name] = reason(error)
    return {name: times_ms for name, times_ms in found.items() if name not in absent}, absent


def _packages(folder: Path) -> dict[str, float]:
    """Return the bytes of each folder and file of an environment's site-packages."""
    (site,) = (folder / "lib").glob("python*/site-packages")
    return {entry.name: _bytes(entry) for entry in site.iterdir()}


def _bytes(entry: Path) -> int:
    files = entry.rglob("*") if entry.is_dir() else [entry]
    return sum(file.lstat().st_size for file in files if not file.is_dir())


def _import_ms(folder: Path, module: str, times: int) -> list[float]:
    command = [str(folder / "bin" / "python"), "-c", IMPORT_CODE.format(module)]
    return [
        float(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
        for _ in range(times)
    ]


def _ready_table(ready_ms: dict[str, list[float]]) -> Table:
    rows = [
        [name, f"{median(found):.0f}", f"{min(found):.0f} to {max(found):.0f}"]
        for name, found in ready_ms.items()
    ]
    return Table("Process start to ready, ms", ["", "median", "range"], rows)


def _weight_table(weights: dict[str, dict[str, float]]) -> Table:
    rows = []
    for name, packages in weights.items():
        heaviest = sorted(packages.items(), key=lambda pair: -pair[1])[:5]
        shares = ", ".join(f"{package} {size / 1e6:.1f}" for package, size in heaviest)
        rows.append([name, f"{sum(packages.values()) / 1e6:.1f}", shares])
    return Table("Installed size, MB", ["", "all", "heaviest"], rows)


def _import_table(imports_ms: dict[str, list[float]]) -> Table:
    rows = [[f"`import {module}`", f"{median(found):.0f}"] for module, found in imports_ms.items()]
    return Table("Import in the client's installation, ms", ["", "median"], rows)


def _method(times: int) -> list[str]:
    return [
        f"ready: {times} starts of each server in turn, from before the process is made to the "
        "first 200 of its readiness path, or to the open port of those without one, asked every 2 "
        "ms",
        "size: bytes of all files that pip adds to the site-packages of a new environment, "
        "compiled files included",
        f"import: {times} new interpreters each, after pip has compiled the files",
    ]
