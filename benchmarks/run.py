"""Measure Pelton and its peers on this machine.

    python benchmarks/run.py [--scenario NAME] [--quick]

Run it with the interpreter of an environment in which Pelton is installed. Raw results go to
`benchmarks/results`, tables to `benchmarks/results/latest.md` and to the screen, pictures to
`docs/benchmarks`; `--quick` shows in some minutes that everything works, and keeps nothing in the
repository.
"""

from __future__ import annotations

import argparse
import json
import sys

import environments
import machine
import report
from scenarios import batching, cnn, costs, overload, payload, small, startup, swap

SCENARIOS = {
    "small": small.run,
    "cnn": cnn.run,
    "payload": payload.run,
    "batching": batching.run,
    "overload": overload.run,
    "startup": startup.run,
    "swap": swap.run,
    "costs": costs.run,
}


def main() -> int:
    """Run what was asked for.

    Returns:
        1 if a target is missed or a scenario fails, 2 if a tool is not there, else 0.
    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scenario", choices=[*SCENARIOS, "all"], default="all")
    parser.add_argument("--quick", action="store_true", help="a short run that is not kept")
    options = parser.parse_args()
    names = list(SCENARIOS) if options.scenario == "all" else [options.scenario]
    reached = True
    for name in names:
        described = machine.describe()
        try:
            environments.python_of("pictures")  # rather now than when everything is measured
            result = SCENARIOS[name](quick=options.quick)
            path = report.keep(result, described, quick=options.quick)
        except environments.Missing as error:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        except RuntimeError as error:
            print(f"{name} was not measured: {error}", file=sys.stderr)
            reached = False
            continue
        print("\n" + report.render(json.loads(path.read_text())))
        print(f"raw figures: {path}\n")
        reached = reached and all(target.reached for target in result.targets)
    if not options.quick:
        report.render_page()
    return 0 if reached else 1


if __name__ == "__main__":
    sys.exit(main())
