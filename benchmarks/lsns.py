"""What ``nsinspect ns --json`` costs beside ``lsns -J``, start-up included, under a load of containers (needs root)."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

from load import LoadError, exit_on_signals, load

CHECKOUT = Path(__file__).resolve().parent.parent
COLUMNS = "NS,TYPE,NPROCS,PID,UID,PNS,ONS"  # with kin and owner, which ns tells too
COMMANDS = {"nsinspect": [sys.executable, "-m", "nsinspect", "ns", "--json"], "lsns": ["lsns", "-J", "-o", COLUMNS]}


def run(command: list[str]) -> tuple[float, float]:
    """Wall and CPU seconds of one run."""
    # Installed software has its bytecode; the first round, which does not count, writes it.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment["PYTHONPATH"] = str(CHECKOUT)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    # -m looks in the working directory first.
    subprocess.run(command, stdout=subprocess.DEVNULL, check=True, env=environment, cwd=CHECKOUT)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure in turn and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--containers", type=int, default=300, metavar="N")
    parser.add_argument("--processes", type=int, default=3000, metavar="N")
    parser.add_argument("--rounds", type=int, default=9, metavar="N")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--max-ratio", type=float, metavar="X", help="exit 1 when CPU is above X times lsns'")
    options = parser.parse_args()
    exit_on_signals()
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    try:
        with load(options.containers, options.processes):
            for _ in range(options.rounds + 1):
                for name, command in COMMANDS.items():
                    times[name].append(run(command))
    except (LoadError, OSError, subprocess.CalledProcessError) as error:
        print(f"lsns: {error}", file=sys.stderr)
        return 2
    result = {
        clock: {name: median(row[place] for row in rows[1:]) for name, rows in times.items()}
        for place, clock in enumerate(("wall", "cpu"))
    }
    for row in result.values():
        row["ratio"] = row["nsinspect"] / row["lsns"]
    if options.json:
        print(json.dumps(result, indent=2))
    else:
        print(f"{'':6} {'lsns':>9} {'nsinspect':>10} {'ratio':>6}")
        for clock, row in result.items():
            print(f"{clock:6} {row['lsns']:7.3f} s {row['nsinspect']:8.3f} s {row['ratio']:6.2f}")
    return int(options.max_ratio is not None and result["cpu"]["ratio"] > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
