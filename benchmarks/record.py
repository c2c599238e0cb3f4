"""What recording costs: bytes, CPU time and the time to open a moment, beside a plain gzip of each look's JSON.

Under a load of containers (see load.py; needs root) a few looks are taken, compared and recorded, which gives the CPU
time of a sample.  Then the last one goes on without the machine: in each next look, five seconds later, a share of the
containers has used CPU time and memory, some processes have ended and others begun, and now and then somebody changes a
limit.  All of that goes through the program's own recorder, on a clock that is moved.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.load import LoadError, exit_on_signals, load
from nsinspect import codec
from nsinspect.cgroupfs import Cgroup
from nsinspect.kernfs import Roots
from nsinspect.model import CLOCK_TICKS, build
from nsinspect.record import Looker
from nsinspect.snapshot import Process, Snapshot
from nsinspect.store import Recorder, Recording

DAY = 86_400
GZIPPED = 24
"""Of so many looks the JSON is gzipped; that of the others is taken to be as large."""
OPENED = 24
COUNTERS = ("usage_usec", "user_usec", "system_usec", "nr_periods")
GAUGES = ("memory.usage_in_bytes", "memory.memsw.usage_in_bytes", "memory.current")

Clocked = tuple[float, float]


class Clock:
    """Wall and CPU time of what is done in it."""

    def __enter__(self) -> Clock:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall = time.perf_counter() - self._began[0]
        self.cpu = time.process_time() - self._began[1]


class Host:
    """A look that goes on by itself."""

    def __init__(self, snapshot: Snapshot, every: float, busy: float, churn: int, begin: float) -> None:
        self._random = random.Random(7)
        self._every, self._churn = every, churn
        self._containers = build(snapshot).containers
        self._busy = max(1, round(busy * len(self._containers)))
        self._members = frozenset(pid for one in self._containers for pid in one.pids)
        self._inits = frozenset(one.init.pid for one in self._containers)
        self._number = 0
        assert snapshot.host.uptime is not None
        self._began = begin, snapshot.host.uptime
        self._next_pid = max(one.pid for one in snapshot.processes) + 1
        self.limit_changed = False
        self.snapshot = replace(snapshot, captured_at=begin)

    def go_on(self) -> Snapshot:
        """The next look."""
        self._number += 1
        begin, uptime = self._began
        passed = self._number * self._every
        old = self.snapshot
        self.snapshot = replace(
            old,
            captured_at=begin + passed,
            host=replace(old.host, uptime=uptime + passed),
            processes=self._churned(old, uptime + passed),
            cgroups=self._used(old),
        )
        return self.snapshot

    def _used(self, old: Snapshot) -> dict[tuple[int, bytes], Cgroup]:
        cgroups = dict(old.cgroups)
        self.limit_changed = self._number % round(60 / self._every) == 0
        chosen = self._random.sample(self._containers, self._busy)
        for position, one in enumerate(chosen):
            paths = {path for path in one.cgroup_paths.values() if path != b"/"}
            for index in range(len(old.hierarchies)):
                for path in paths:
                    cgroup = cgroups.get((index, path))
                    if cgroup is not None and cgroup.files:
                        limit = self.limit_changed and position == 0
                        cgroups[index, path] = cgroup._replace(files=self._files(dict(cgroup.files), limit))
        return cgroups

    def _files(self, files: dict[str, Any], limit: bool) -> Any:
        spent = self._random.randrange(1, 200_000)
        for name, value in files.items():
            if name == "cpu.stat":
                files[name] = {key: n + (spent if key in COUNTERS else 0) for key, n in value.items()}
            elif name == "cpuacct.usage":
                files[name] = value + spent * 1000
            elif name in GAUGES:
                files[name] = max(4096, value + 4096 * self._random.randrange(-50, 60))
            elif name.endswith(".pressure"):
                files[name] = value._replace(some_us=value.some_us + spent // 50)
            elif limit and name in ("memory.max", "memory.limit_in_bytes"):
                files[name] = self._random.randrange(64, 512) << 20
        return files

    def _churned(self, old: Snapshot, uptime: float) -> tuple[Process, ...]:
        gone = self._random.sample(
            [one for one in old.processes if one.pid in self._members - self._inits], self._churn
        )
        new = []
        for one in gone:
            started = int((uptime - self._random.random() * self._every) * CLOCK_TICKS)
            new.append(one._replace(pid=self._next_pid, starttime=started))
            self._next_pid += 1
        self._members = (self._members - {one.pid for one in gone}) | {one.pid for one in new}
        left = {one.pid for one in gone}
        return (*(one for one in old.processes if one.pid not in left), *new)


def real(folder: str, count: int) -> tuple[Snapshot, dict[str, Any]]:
    """Looks at this machine, compared and recorded: the last one, and the median of what each part took."""
    looker, recorder = Looker(Roots()), Recorder(folder)
    parts: dict[str, list[Clocked]] = {"look": [], "compare": [], "store": []}
    sizes = []
    for number in range(count + 1):
        with Clock() as whole:
            snapshot, events = looker.look()
        with Clock() as comparing:
            # Once more, so that the two can be told apart.
            Looker(Roots()).seen(snapshot)
        with Clock() as storing:
            size = recorder.add(snapshot, events)
        # The first has nothing to be compared with, and is written whole.
        if number:
            parts["look"].append((whole.wall, whole.cpu))
            parts["compare"].append((comparing.wall, comparing.cpu))
            parts["store"].append((storing.wall, storing.cpu))
            sizes.append(size)
    recorder.close()
    told = {
        name: {"wall": median(w for w, _ in some), "cpu": median(c for _, c in some)} for name, some in parts.items()
    }
    return snapshot, {
        # The look before is kept as it was understood, so that each is understood once.
        "look_and_compare": told["look"],
        "of_it_understanding": told["compare"],
        "store": told["store"],
        "bytes": median(sizes),
    }


def looks(host: Host, count: int) -> Iterator[tuple[Snapshot, list[dict[str, Any]]]]:
    """With what happened where somebody changed a limit."""
    yield host.snapshot, []
    for _ in range(count - 1):
        before = host.snapshot
        after = host.go_on()
        events: list[dict[str, Any]] = []
        if host.limit_changed:
            looker = Looker(Roots())
            looker.seen(before)
            events = looker.seen(after)
        yield after, events


def simulated(folder: str, host: Host, count: int) -> dict[str, Any]:
    """So many looks recorded: bytes, CPU time, and how much a gzip of each would have been."""
    recorder = Recorder(folder)
    taken = events = plain = zipped = sampled = 0
    cpu = 0.0
    moments = []
    for number, (snapshot, happened) in enumerate(looks(host, count)):
        with Clock() as clock:
            taken += recorder.add(snapshot, happened)
        cpu += clock.cpu
        events += len(happened)
        moments.append(snapshot.captured_at)
        if number % max(1, count // GZIPPED) == 0:
            data = codec.dumps(codec.encode(snapshot))
            plain += len(data)
            zipped += len(gzip.compress(data, 6, mtime=0))
            sampled += 1
    recorder.close()
    return {
        "looks": count,
        "bytes": taken,
        "events": events,
        "store_cpu": cpu / count,
        "plain": plain / sampled * count,
        "gzip": zipped / sampled * count,
        "moments": moments,
    }


def opened(folder: str, moments: list[float]) -> dict[str, float]:
    """Seconds to open any moment, and to have it listed by a program that is started for that."""
    chosen = [moments[0], moments[-1], *random.Random(3).sample(moments, min(OPENED, len(moments)))]
    times = []
    for moment in chosen:
        with Clock() as clock:
            Recording(folder).at(moment)
        times.append(clock.wall)
    command = [sys.executable, "-m", "nsinspect", "replay", "--at", "2100-01-01T00:00:00Z", "--store", folder, "list"]
    path = os.pathsep.join(filter(None, [sys.path[0], os.environ.get("PYTHONPATH")]))
    with Clock() as clock:
        subprocess.run(
            command,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": path},
        )
    return {"median": median(times), "worst": max(times), "replay_list": clock.wall}


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Looks at this machine, then what they become."""
    with tempfile.TemporaryDirectory() as folder:
        with load(options.containers, options.processes):
            snapshot, sample = real(f"{folder}/real", options.looks)
        seconds = DAY if options.whole else options.hours * 3600
        count = round(seconds / options.every)
        host = Host(snapshot, options.every, options.busy, options.churn, time.time() - seconds)
        result = simulated(f"{folder}/simulated", host, count)
        moments = result.pop("moments")
        hours = seconds / 3600
        containers = len(build(snapshot).containers)
        return {
            "containers": containers,
            "processes": len(snapshot.processes),
            "hours": hours,
            **result,
            "bytes_per_container_hour": result["bytes"] / containers / hours,
            "bytes_per_day": result["bytes"] / hours * 24,
            "ratio_to_gzip": result["bytes"] / result["gzip"],
            "ratio_to_plain": result["bytes"] / result["plain"],
            "sample": sample,
            "open": opened(f"{folder}/simulated", moments),
            "max_rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10,
        }


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    sample, days = result["sample"], result["hours"] / 24
    lines = [
        f"{result['containers']} containers, {result['processes']} processes, {result['looks']} looks"
        f" in {result['hours']:g} h, {result['events']} events"
    ]
    for words, name in (("recorded", "bytes"), ("gzip of each look as JSON", "gzip"), ("JSON", "plain")):
        each, day = result[name] / result["looks"] / 2**10, result[name] / days / 2**20
        lines.append(f"{words:28} {each:10.1f} KiB a look {day:10.1f} MiB a day")
    lines.append(f"{'recorded / gzip':28} {result['ratio_to_gzip'] * 100:10.2f} %")
    lines.append(f"{'JSON / recorded':28} {1 / result['ratio_to_plain']:10.0f}")
    lines.append(f"{'a container-hour':28} {result['bytes_per_container_hour'] / 2**10:10.2f} KiB")
    parts = (("look, understand, compare", "look_and_compare"), ("of it understanding", "of_it_understanding"))
    lines += [f"{words:28} {sample[name]['cpu']:10.3f} s of CPU" for words, name in parts]
    stored, opening = sample["store"]["cpu"], result["open"]
    lines.append(f"{'store':28} {stored:10.3f} s of CPU; {result['store_cpu']:.3f} s in the simulation")
    lines.append(f"{'open a moment':28} {opening['median']:10.3f} s, at worst {opening['worst']:.3f} s")
    lines.append(f"{'replay list':28} {opening['replay_list']:10.3f} s, with the start of the program")
    lines.append(f"{'RSS at most':28} {result['max_rss'] >> 20:10} MiB, of this benchmark")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--containers", type=int, default=300, metavar="N")
    parser.add_argument("--processes", type=int, default=3000, metavar="N")
    parser.add_argument("--looks", type=int, default=7, metavar="N", help="at this machine, measured")
    parser.add_argument("--every", type=float, default=5, metavar="SECONDS", help="a look")
    parser.add_argument("--hours", type=float, default=1, metavar="N", help="simulated")
    parser.add_argument("--whole", action="store_true", help="a whole day")
    parser.add_argument("--busy", type=float, default=0.3, metavar="SHARE", help="of the containers, in each look")
    parser.add_argument("--churn", type=int, default=3, metavar="N", help="processes that end, and begin, in each look")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--max-ratio", type=float, metavar="X", help="exit 1 when it takes more than X times the gzip")
    options = parser.parse_args()
    exit_on_signals()
    try:
        result = measure(options)
    except LoadError as error:
        print(f"record: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if options.json else report(result))
    return int(options.max_ratio is not None and result["ratio_to_gzip"] > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
