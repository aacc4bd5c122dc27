"""A22: broken requests for every address are answered or closed; nothing else happens.

`benchmarks/fuzz_http.py` runs the same for as long as one likes.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "fuzz_http.py"


def test_a22_fuzz() -> None:
    done = subprocess.run(
        [sys.executable, SCRIPT, "--requests", "10000", "--seed", "22"],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.stdout.endswith("\n0 faults\n"), done.stdout + done.stderr
    assert done.returncode == 0
    answered = {
        int(status): int(count) for count, status in re.findall(r"(\d+) x (\d+)", done.stdout)
    }
    assert answered[200] > 500, "some must still be good requests"
    assert answered[400] > 5000, "and most not"
