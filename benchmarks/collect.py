"""What a full collect costs above its floor: a C program that reads the very same files and parses nothing.

Under a load of containers (see load.py; needs root and a C compiler) the two take turns, scan by scan, in several
blocks with fresh processes. The result is the ratio of the medians; the ratios of the blocks show how far to trust it.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from statistics import median
from subprocess import PIPE, Popen
from typing import Any

from load import LoadError, exit_on_signals, load

HERE = Path(__file__).resolve().parent
OF_EVERY_PROCESS = re.compile(r"/proc/\d+/(stat|status|cgroup)$")  # the floor finds these by itself
NAMESPACE = re.compile(r"ns/\w+$")
TOLERANCE = 0.01  # other processes of the machine come and go between the passes

Pass = dict[str, float]


class CannotMeasure(Exception):
    """There is no result; the message is one line."""


def collect_in_turn() -> None:
    """Collect once for every line on standard input, and answer with what it took."""
    from nsinspect.collect import collect
    from nsinspect.kernfs import Roots

    for _ in sys.stdin:
        wall, cpu = time.perf_counter(), time.process_time()
        snapshot = collect(Roots())
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        print(f"wall {wall} cpu {cpu} processes {len(snapshot.processes)}", flush=True)
        del snapshot  # outside the clock, and never two at a time


class _Recorder:
    """Every open and readlink of this process while `on`, by full path.

    The audit event of os.open lacks the directory descriptor, and os.readlink has none, so both are wrapped, before
    nsinspect takes a reference to them. The audit hook sees the built-in open, and proves that no os.open went past.
    """

    def __init__(self) -> None:
        self.on = False
        self.files: list[str] = []
        self.links: list[str] = []
        self.seen: Counter[str] = Counter()
        self._open, self._readlink = os.open, os.readlink
        os.open, os.readlink = self.open, self.readlink
        sys.addaudithook(self.audit)

    def full(self, path: Any, directory: int | None) -> str:
        name = os.fsdecode(path)
        return name if directory is None else os.path.join(self._readlink(f"/proc/self/fd/{directory}"), name)

    def open(self, path: Any, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        self.seen["wrapped"] += self.on
        try:
            fd = self._open(path, flags, mode, dir_fd=dir_fd)
        except OSError:
            self.seen["absent"] += self.on
            raise
        if self.on and stat.S_ISDIR(os.fstat(fd).st_mode):
            self.seen["directories"] += 1
        elif self.on:
            self.files.append(self.full(path, dir_fd))
        return fd

    def readlink(self, path: Any, *, dir_fd: int | None = None) -> Any:
        target = self._readlink(path, dir_fd=dir_fd)
        if self.on:
            self.links.append(self.full(path, dir_fd))
        return target

    def audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event != "open":
            return
        path, mode, _ = arguments
        if mode is None:  # os.open has none
            self.seen["audited"] += 1
        elif not isinstance(path, int):
            self.files.append(os.path.abspath(os.fsdecode(path)))


def record() -> dict[str, Any]:
    """What one collect reads, hence what the floor has to read. The second collect, as the first is not measured."""
    recorder = _Recorder()
    from nsinspect.collect import collect
    from nsinspect.kernfs import Roots

    collect(Roots())
    recorder.on = True
    snapshot = collect(Roots())
    recorder.on = False

    seen = recorder.seen
    if seen["audited"] != seen["wrapped"]:
        raise SystemExit(f"collect: {seen['audited'] - seen['wrapped']} opens went past the recorder")
    files = list(dict.fromkeys(recorder.files))
    # This process is no more when the floor runs, but the floor has the like of its files.
    own = f"/proc/{os.getpid()}/"
    others = [path.replace(own, "/proc/self/") for path in files if not OF_EVERY_PROCESS.match(path)]
    links = sum(1 for path in recorder.links if NAMESPACE.search(path))
    return {
        "processes": len(snapshot.processes),
        "cgroups": len(snapshot.cgroups),
        "links": links,
        "other_links": len(recorder.links) - links,
        "files": len(files),
        "others": others,
        "read_again": len(recorder.files) - len(files),
        "absent": seen["absent"],
        "directories": seen["directories"],
    }


def child(role: str) -> tuple[list[str], dict[str, str]]:
    """Command and environment of a function above in a fresh interpreter, on the checkout this benchmark is in."""
    path = os.pathsep.join(filter(None, [str(HERE.parent), os.environ.get("PYTHONPATH")]))
    return [sys.executable, str(HERE / "collect.py"), "--child", role], {**os.environ, "PYTHONPATH": path}


def compiled(directory: Path) -> Path:
    """The floor, built in a directory."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise CannotMeasure("no C compiler")
    if subprocess.run([compiler, "-O2", "-o", str(directory / "floor"), str(HERE / "floor.c")]).returncode:
        raise CannotMeasure("floor.c does not compile")
    return directory / "floor"


def block(floor: Path, files: Path, passes: int) -> tuple[list[Pass], list[Pass]]:
    """Floor and collect in turn, the first of each unmeasured: imports and a growing heap are no cost of a scan."""
    command, environment = child("turns")
    turns: tuple[list[Pass], list[Pass]] = [], []
    with (
        Popen([str(floor), "-w", "-n", str(passes + 1), str(files)], stdin=PIPE, stdout=PIPE, text=True) as c,
        Popen(command, env=environment, stdin=PIPE, stdout=PIPE, text=True) as python,
    ):
        for _ in range(passes + 1):
            for process, rows in zip((c, python), turns, strict=True):
                assert process.stdin is not None
                assert process.stdout is not None
                with contextlib.suppress(BrokenPipeError):
                    print(file=process.stdin, flush=True)
                row = process.stdout.readline().split()
                if not row:
                    raise CannotMeasure("the floor failed" if process is c else "nsinspect's collect failed")
                rows.append(dict(zip(row[::2], map(float, row[1::2]), strict=True)))
    return turns[0][1:], turns[1][1:]


def compare(blocks: int, passes: int, note: Callable[[str], None]) -> dict[str, Any]:
    """The whole measurement, on whatever load there is."""
    with tempfile.TemporaryDirectory() as scratch:
        floor = compiled(Path(scratch))
        command, environment = child("record")
        done = subprocess.run(command, env=environment, stdout=PIPE)
        if done.returncode:
            raise CannotMeasure("nsinspect's collect failed")
        recorded = json.loads(done.stdout)
        others = Path(scratch) / "files"
        others.write_text("".join(path + "\n" for path in recorded.pop("others")))
        floors: list[Pass] = []
        collects: list[Pass] = []
        ratios: dict[str, list[float]] = {"wall": [], "cpu": []}
        for number in range(blocks):
            c, python = block(floor, others, passes)
            floors += c
            collects += python
            for clock, found in ratios.items():
                found.append(median(row[clock] for row in python) / median(row[clock] for row in c))
            note(f"block {number + 1} of {blocks}: {ratios['wall'][-1]:.2f}")
    read = {key: median(row[key] for row in floors) for key in ("processes", "links", "files", "bytes", "failed")}
    timed = median(row["processes"] for row in collects)
    result: dict[str, Any] = {"blocks": blocks, "passes": passes, "floor_read": read, "collect_read": recorded}
    checks = [("processes", timed), *((key, recorded[key]) for key in ("processes", "links", "files"))]
    result["same"] = all(abs(read[key] - count) <= TOLERANCE * read[key] for key, count in checks)
    for clock, found in ratios.items():
        c_median, python_median = median(row[clock] for row in floors), median(row[clock] for row in collects)
        result[clock] = {
            "floor": c_median,
            "collect": python_median,
            "ratio": python_median / c_median,
            "lowest": min(found),
            "highest": max(found),
            # Noise only ever adds: on a busy machine the best pass of each is the steadier comparison.
            "best": min(row[clock] for row in collects) / min(row[clock] for row in floors),
        }
    return result


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    read, recorded = result["floor_read"], result["collect_read"]
    lines = [f"{'':6} {'floor':>9} {'collect':>9} {'ratio':>6} {'best':>6}   blocks"]
    for clock in ("wall", "cpu"):
        row = result[clock]
        times = f"{row['floor']:7.3f} s {row['collect']:7.3f} s {row['ratio']:6.2f}"
        lines.append(f"{clock:6} {times} {row['best']:6.2f}   {row['lowest']:.2f} to {row['highest']:.2f}")
    lines.append(f"{'read':10} {'floor':>9} {'collect':>9}")
    lines += [f"{key:10} {read[key]:9.0f} {recorded[key]:9}" for key in ("processes", "links", "files")]
    lines.append(
        f"collect, besides: {recorded['directories']} directories opened, {recorded['absent']} files found absent, "
        f"{recorded['read_again']} read again, {recorded['other_links']} other links"
    )
    if not result["same"]:
        lines.append("NOT THE SAME WORK: the counts differ by more than 1%, the ratio means nothing")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--containers", type=int, default=300, metavar="N", help="0: no load, the machine as it is")
    parser.add_argument("--processes", type=int, default=3000, metavar="N")
    parser.add_argument("--blocks", type=int, default=7, metavar="N", help="each with fresh processes")
    parser.add_argument("--passes", type=int, default=3, metavar="N", help="measured scans of each in a block")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--max-ratio", type=float, metavar="X", help="exit 1 when the ratio of wall time is above")
    parser.add_argument("--child", choices=["record", "turns"], help=argparse.SUPPRESS)
    options = parser.parse_args()

    def note(text: str) -> None:
        print(f"collect: {text}", file=sys.stderr)

    if options.child == "turns":
        collect_in_turn()
        return 0
    if options.child == "record":
        print(json.dumps(record()))
        return 0
    exit_on_signals()
    try:
        if not options.containers:
            result = compare(options.blocks, options.passes, note)
        else:
            with load(options.containers, options.processes):
                result = compare(options.blocks, options.passes, note)
    except (CannotMeasure, LoadError) as error:
        note(str(error))
        return 2
    print(json.dumps(result, indent=2) if options.json else report(result))
    if not result["same"]:
        return 2
    return int(options.max_ratio is not None and result["wall"]["ratio"] > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
