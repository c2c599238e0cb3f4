"""Fuzz every target for a while, and say how far that went: ``python -m fuzz [NAME...]``, or ``make fuzz``.

FUZZ_SECONDS: for each target (20).  FUZZ_FOLDER: where inputs that reached something new are kept, and crashes (.fuzz).
FUZZ_SEED: the same changes in the same order each time, as far as the time allows (0: others each time).
Exits 1 when a target crashed, hung or used too much memory.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from fuzz.seeds import dictionary, seeds
from fuzz.targets import TARGETS

SECONDS = int(os.environ.get("FUZZ_SECONDS", "20"))
SEED = os.environ.get("FUZZ_SEED", "0")
FOLDER = Path(os.environ.get("FUZZ_FOLDER", ".fuzz"))
# An input that takes longer, or more memory, is a crash: in linear time none takes a second, even on a busy machine.
LIMITS = ("-timeout=30", "-rss_limit_mb=2048", "-max_len=32768")
LATE = 120


class Run(NamedTuple):
    """One target; ``crashes`` are the inputs."""

    executions: int
    crashes: list[Path]
    output: str


def run(name: str) -> Run:
    """Fuzz one target."""
    corpus, crashes = FOLDER / name, FOLDER / "crashes"
    corpus.mkdir(parents=True, exist_ok=True)
    crashes.mkdir(exist_ok=True)
    inputs = list(seeds(name))
    for number, data in enumerate(inputs):
        (corpus / f"seed-{number:03}").write_bytes(data)
    words = FOLDER / f"{name}.dict"
    words.write_text(dictionary(inputs), encoding="ascii")
    before = set(crashes.glob(f"{name}-*"))
    command = [
        *(sys.executable, "-m", "fuzz.one", name, *LIMITS, f"-max_total_time={SECONDS}", "-print_final_stats=1"),
        f"-seed={SEED}",
        *(f"-dict={words}", f"-artifact_prefix={crashes}/{name}-", str(corpus)),
    ]
    output, code = _output(command)
    found = sorted(set(crashes.glob(f"{name}-*")) - before)
    if code != 0 and not found:
        # It did not even begin, or was killed before it could say why.
        found = [crashes / f"{name}-without-an-input"]
    counted = re.findall(r"number_of_executed_units: (\d+)|^#(\d+)\s", output, re.MULTILINE)
    return Run(int("".join(counted[-1])) if counted else 0, found, output)


def _output(command: list[str]) -> tuple[str, int]:
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            timeout=SECONDS + LATE,
            # The order of sets is part of what happens.
            env=os.environ if SEED == "0" else {**os.environ, "PYTHONHASHSEED": SEED},
        )
    except subprocess.TimeoutExpired as late:
        return (late.stdout or b"").decode("utf-8", "replace"), 1
    return done.stdout.decode("utf-8", "replace"), done.returncode


def covered(names: list[str]) -> dict[str, tuple[int, int]]:
    """Lines of each module that the kept inputs reach, and how many it has."""
    command = [sys.executable, "-m", "fuzz.coverage", str(FOLDER), *names]
    return {name: (reached, lines) for name, reached, lines in json.loads(subprocess.check_output(command))}


def main(names: list[str]) -> int:
    """Fuzz these, or all."""
    unknown = set(names) - TARGETS.keys()
    if unknown:
        print(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}", file=sys.stderr)
        return 2
    names = names or list(TARGETS)
    FOLDER.mkdir(exist_ok=True)
    total, crashed = 0, 0
    for name in names:
        result = run(name)
        total += result.executions
        crashed += len(result.crashes)
        kept = len(list((FOLDER / name).iterdir()))
        print(f"{name:10} {result.executions:>9} executions {kept:>5} inputs {len(result.crashes)} crashes", flush=True)
        for path in result.crashes:
            told = re.sub(r"^(#\d|INFO: Instr|stat::).*\n", "", result.output, flags=re.MULTILINE)
            print(f"{told[-3000:]}\n{name}: crashed: {path}", flush=True)
    print(f"{'all':10} {total:>9} executions, {SECONDS} s each of {len(names)} targets, {crashed} crashes\n")
    modules = covered(names)
    for module, (reached, lines) in sorted(modules.items()):
        print(f"{module:24} {reached:>4} of {lines:>4} lines {100 * reached / lines:5.1f} %")
    reached, lines = (sum(column) for column in zip(*modules.values(), strict=True))
    print(f"{'all':24} {reached:>4} of {lines:>4} lines {100 * reached / lines:5.1f} %")
    return 1 if crashed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
