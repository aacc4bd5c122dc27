"""`pelton doctor`: check the installation and say what would make it better."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import typer

from pelton.cli.exit_codes import FAILED

NEEDED = (
    "numpy",
    "httptools",
    "uvicorn",
    "uvloop",
    "fastapi",
    "fastapi-offline",
    "sqlalchemy",
    "alembic",
    "onnxruntime",
)
OTHER_BUILDS = {"onnxruntime": ("onnxruntime-gpu",)}
OPTIONAL = {
    "torch": "pip install 'pelton[torch]'",
    "psycopg": "pip install 'pelton[postgres]'",
    "redis": "pip install 'pelton[redis]'",
    "cryptography": "pip install 'pelton[trusted]'",
}
OLDEST_OPEN_FILES = 4096
SMALLEST_SHM_BYTES = 256 * 1024 * 1024
SHM = Path("/dev/shm")  # noqa: S108 -- a fact of the system, nothing is written there
FAST_FLAGS = ("avx2", "avx512f", "avx512_vnni", "amx_int8", "asimd")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report.

    Attributes:
        state: `ok`, `note` or `bad`.
        what: the subject.
        told: what was found, and the cure where one is needed.
    """

    state: str
    what: str
    told: str


def command() -> None:
    """Check the installation: versions, cores, processor flags, devices, optional extras.

    Exits with 0 when the server can run, with 1 when something that it needs is missing.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    findings = list(examine())
    table = Table(show_header=False, box=None)
    colours = {"ok": "green", "note": "yellow", "bad": "red"}
    for finding in findings:
        colour = colours[finding.state]
        table.add_row(f"[{colour}]{finding.state}[/]", finding.what, escape(finding.told))
    Console(soft_wrap=True).print(table)
    raise typer.Exit(FAILED if any(finding.state == "bad" for finding in findings) else 0)


def examine() -> Iterator[Finding]:
    """Look at everything that the report tells."""
    yield Finding("ok", "python", f"{platform.python_version()} on {platform.platform()}")
    yield from _packages()
    yield from _processor()
    yield from _devices()
    yield from _open_files()
    yield from _shared_memory()


def _packages() -> Iterator[Finding]:
    for name in ("pelton", *NEEDED):
        version = _version(name)
        if version is None:
            yield Finding("bad", name, "missing; pip install 'pelton[server]'")
        else:
            yield Finding("ok", name, version)
    for name, cure in OPTIONAL.items():
        version = _version(name)
        yield Finding("ok" if version else "note", name, version or f"not installed; {cure}")


def _version(name: str) -> str | None:
    for build in (name, *OTHER_BUILDS.get(name, ())):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(build)
    return None


def _processor() -> Iterator[Finding]:
    usable = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    yield Finding("ok", "cores", f"{usable} usable of {os.cpu_count()}")
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        text = cpuinfo.read_text()
        found = re.search(r"^(?:flags|Features)\s*:\s*(.*)$", text, re.MULTILINE)
        flags = set(found[1].split()) if found else set()
        fast = [flag for flag in FAST_FLAGS if flag in flags]
        told = ", ".join(fast) or "none of the vector extensions that make models fast"
        yield Finding("ok" if fast else "note", "cpu flags", told)


def _devices() -> Iterator[Finding]:
    if _version("onnxruntime"):
        from pelton.runtimes.onnx import devices

        yield Finding("ok", "onnx devices", ", ".join(devices()))


def _open_files() -> Iterator[Finding]:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = "unlimited" if hard == resource.RLIM_INFINITY else str(hard)
    enough = hard == resource.RLIM_INFINITY or hard >= OLDEST_OPEN_FILES
    cure = "" if enough else f"; raise it with `ulimit -Hn {OLDEST_OPEN_FILES}` for many clients"
    yield Finding("ok" if enough else "note", "open files", f"{soft}, at most {most}{cure}")


def _shared_memory() -> Iterator[Finding]:
    """Tell what carries pictures to worker processes, and what clients may share with the server.

    The first is a file without a name, which memfd_create makes; the second lies in /dev/shm,
    which containers often make small.
    """
    if hasattr(os, "memfd_create"):
        yield Finding("ok", "worker memory", "memfd_create; not bounded by /dev/shm")
    else:
        yield Finding("ok", "worker memory", "unlinked files in the folder for temporary ones")
    if SHM.is_dir():
        room = os.statvfs(SHM)
        size, free = room.f_frsize * room.f_blocks, room.f_frsize * room.f_bavail
        enough = free >= SMALLEST_SHM_BYTES
        cure = "" if enough else "; give a container more with --shm-size, for shared_memory=True"
        told = f"{size >> 20} MiB in /dev/shm, {free >> 20} MiB free{cure}"
        yield Finding("ok" if enough else "note", "client memory", told)
