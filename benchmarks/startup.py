"""What starting nsinspect costs: `nsinspect --version` in turn with `python -c "import click"`, same interpreter."""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
Run = tuple[float, float]


def nsinspect() -> list[str]:
    """The command installed beside this interpreter, or the module where nothing is installed."""
    script = Path(sysconfig.get_path("scripts")) / "nsinspect"
    return [str(script)] if script.exists() else [sys.executable, "-m", "nsinspect"]


def run(command: list[str]) -> Run:
    """Wall and CPU seconds of one run."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    before, wall = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": path})
    wall, after = time.perf_counter() - wall, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pairs", type=int, default=15, metavar="N")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--max-ratio", type=float, metavar="X", help="exit 1 when the ratio of wall time is above")
    options = parser.parse_args()
    click, own = [sys.executable, "-c", "import click"], [*nsinspect(), "--version"]
    clicks: list[Run] = []
    owns: list[Run] = []
    try:
        run(click), run(own)  # the first of each fills the page cache and writes the bytecode
        for number in range(options.pairs):
            for command, runs in [(click, clicks), (own, owns)][:: -1 if number % 2 else 1]:
                runs.append(run(command))
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"startup: {error}", file=sys.stderr)
        return 2
    result = {}
    for clock, name in enumerate(("wall", "cpu")):
        base, measured = median(row[clock] for row in clicks), median(row[clock] for row in owns)
        pairs = [mine[clock] / theirs[clock] for mine, theirs in zip(owns, clicks, strict=True)]
        result[name] = {
            "click": base,
            "nsinspect": measured,
            "ratio": measured / base,
            "lowest": min(pairs),
            "highest": max(pairs),
        }
    if options.json:
        print(json.dumps({"pairs": options.pairs, **result}, indent=2))
    else:
        print(f"{'':6} {'click':>9} {'nsinspect':>10} {'ratio':>6}   pairs")
        for name, row in result.items():
            times = f"{row['click']:7.3f} s {row['nsinspect']:8.3f} s {row['ratio']:6.2f}"
            print(f"{name:6} {times}   {row['lowest']:.2f} to {row['highest']:.2f}")
    return int(options.max_ratio is not None and result["wall"]["ratio"] > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
