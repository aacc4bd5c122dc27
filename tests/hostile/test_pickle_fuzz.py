"""C19: damaged pickles are read or refused; nothing else happens, and no process dies.

`benchmarks/fuzz_pickles.py` runs the same for as long as one likes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_pickles.py"

REPORT = re.compile(
    r"20000 mutations in \d+ s: (?P<read>\d+) read, (?P<refused>\d+) refused, 0 crashes, "
    r"0 hangs, 0 slower than 1 s, 0 escapes; peak RSS (?P<peak_mib>\d+) MiB\n"
)


def test_c19_mutate() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--mutations", "20000", "--seed", "19"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    report = REPORT.fullmatch(done.stdout)
    assert report, done.stdout + done.stderr
    assert done.returncode == 0
    assert int(report["read"]) > 500, "mutations must sometimes still be pickles"
    assert int(report["refused"]) > 10_000, "and mostly not"
    assert int(report["peak_mib"]) < 300
