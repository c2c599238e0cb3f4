"""Programs that take turns, so that whatever else the machine does meets all of them, and what became of it."""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import sysconfig
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE
from typing import IO, Any, NamedTuple

CHECKOUT = Path(__file__).resolve().parent.parent
LEAST, MOST = 3, 15
"""Rounds."""


class CannotMeasure(Exception):
    """There is no result; the message is one line."""


class Sample(NamedTuple):
    """Seconds, and resident bytes at most, 0 where they are not known."""

    wall: float
    cpu: float
    rss: int


Taker = Callable[[], Sample | None]
"""Does its work once; ``None`` where it failed."""


class TooSlow(Exception):
    """A turn took longer than it may."""


def environment() -> dict[str, str]:
    """Of whatever is measured: this checkout, and bytecode, which installed software has."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    path = filter(None, [str(CHECKOUT), os.environ.get("PYTHONPATH")])
    return {**kept, "PYTHONPATH": os.pathsep.join(path)}


def nsinspect(*words: str) -> list[str]:
    """The command installed beside this interpreter, or the module where nothing is installed."""
    script = Path(sysconfig.get_path("scripts")) / "nsinspect"
    return [*([str(script)] if script.exists() else [sys.executable, "-m", "nsinspect"]), *words]


def command(*words: str, output: IO[bytes] | int = DEVNULL, limit: float) -> Taker:
    """A program from its start to its end, with all its children that it waited for; so many seconds at most."""

    def take() -> Sample | None:
        # What this process has in memory, a new one has too until it becomes the program, and the kernel counts that.
        own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        begun = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=DEVNULL, env=environment(), cwd=CHECKOUT)
        try:
            with open(os.pidfd_open(process.pid), "rb") as ended:
                in_time = select.select([ended], [], [], limit)[0]
            if not in_time:
                raise TooSlow(f"took more than {limit:g} s")
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.kill()
            process.wait()
            raise
        wall = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        cpu = usage.ru_utime + usage.ru_stime
        return None if process.returncode else Sample(wall, cpu, usage.ru_maxrss << 10 if usage.ru_maxrss > own else 0)

    return take


class Answering:
    """A program that does its work once for every line it is given, and says what it took: ``wall 1 cpu 1 …``."""

    def __init__(self, *words: str) -> None:
        self._process = subprocess.Popen(
            words, stdin=PIPE, stdout=PIPE, text=True, env=environment(), cwd=CHECKOUT, bufsize=1
        )
        self.last: dict[str, float] = {}

    def __enter__(self) -> Answering:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def take(self) -> Sample:
        """Once more."""
        assert self._process.stdin
        assert self._process.stdout
        try:
            print(file=self._process.stdin, flush=True)
            row = self._process.stdout.readline().split()
        except BrokenPipeError:
            row = []
        if not row:
            raise CannotMeasure(f"{self._process.args!r} ended")
        self.last = dict(zip(row[::2], map(float, row[1::2]), strict=True))
        return Sample(self.last["wall"], self.last["cpu"], 0)


class Turns(NamedTuple):
    """By name, one sample for each round, and who was left out and why."""

    samples: dict[str, list[Sample | None]]
    left_out: dict[str, str]


def turns(takers: Mapping[str, Taker], seconds: float) -> Turns:
    """One round that does not count (caches fill, bytecode is written), then rounds for so many seconds."""
    left = dict(takers)
    samples: dict[str, list[Sample | None]] = {name: [] for name in takers}
    left_out: dict[str, str] = {}
    begun = time.monotonic()
    number = 0
    while number <= LEAST or (number <= MOST and time.monotonic() - begun < seconds):
        # Every other round backwards: whom one follows makes a difference.
        for name, take in list(left.items())[:: -1 if number % 2 else 1]:
            try:
                sample = take()
            except TooSlow as error:
                left_out[name] = str(error)
                del left[name], samples[name]
                continue
            if number:
                samples[name].append(sample)
        number += 1
    for name in [name for name, taken in samples.items() if not any(taken)]:
        left_out[name] = "failed each time"
        del samples[name]
    return Turns(samples, left_out)


def spread(values: Sequence[float]) -> dict[str, float]:
    """What is kept of many numbers."""
    middle = median(values)
    return {"median": _short(middle), "lowest": _short(min(values)), "highest": _short(max(values))}


def times(samples: Sequence[Sample | None]) -> dict[str, Any]:
    """What is kept of one program's turns."""
    good = [sample for sample in samples if sample]
    return {
        "wall": spread([sample.wall for sample in good]),
        "cpu": spread([sample.cpu for sample in good]),
        "rss": max(sample.rss for sample in good),
    }


def ratio(subject: Sequence[Sample | None], against: Sequence[Sample | None]) -> dict[str, Any]:
    """One program by another: the ratio of medians, and the lowest and highest within a round."""
    mine, theirs = times(subject), times(against)
    both = [(one, other) for one, other in zip(subject, against, strict=True) if one and other]
    found = {}
    for clock in ("wall", "cpu"):
        rounds = [getattr(one, clock) / getattr(other, clock) for one, other in both if getattr(other, clock)]
        whole = mine[clock]["median"] / theirs[clock]["median"] if theirs[clock]["median"] else 0.0
        found[clock] = {**spread(rounds or [whole]), "median": _short(whole)}
    return found


def _short(number: float) -> float:
    """Four digits are more than a benchmark knows."""
    return float(f"{number:.4g}")
