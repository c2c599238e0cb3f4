"""Measure nsinspect beside the floor and its peers, under loads of every size, and write results.json and the page.

sudo python -m benchmarks [--quick | --whole | --check]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import linear_regression
from typing import Any, NamedTuple

from benchmarks import exporters, floor, machine, page
from benchmarks.bounds import AS_IT_IS, PAIRS, judged
from benchmarks.exporters import LISTEN, Exporter
from benchmarks.load import LoadError, compiled, exit_on_signals, hierarchies, load, obstacle
from benchmarks.turns import (
    CHECKOUT,
    Answering,
    CannotMeasure,
    Taker,
    TooSlow,
    command,
    environment,
    nsinspect,
    ratio,
    times,
    turns,
)

Load = tuple[int, int]
SCRAPED: Load = (300, 3000)
MANY = 10_000  # cgroups, with as many processes as the largest load has
SMALL: tuple[Load, ...] = (AS_IT_IS, (10, 100), (30, 300))
CHECKED: tuple[Load, ...] = (AS_IT_IS, (100, 1000), SCRAPED)
QUICK: tuple[Load, ...] = (AS_IT_IS, (10, 1000), (100, 1000), SCRAPED, (1000, 10_000))
ALL: tuple[Load, ...] = (*QUICK, (1000, 30_000))
GROWN = {(100, 1000), SCRAPED, (1000, 10_000)}  # ten processes in each container
OWNERS = "NS,TYPE,NPROCS,PID,UID,PNS,ONS"  # with kin and owner, which ns tells too
LINKS = "pid,ipcns,mntns,netns,pidns,userns,utsns"
SEVEN = ["pid", "ppid", "name", "username", "status", "cpu_times", "memory_info"]
ITERATE = f"import psutil\nfor _ in psutil.process_iter({SEVEN}): pass"
SETTLED, SCRAPES = 1000, 5000


class Mode(NamedTuple):
    """``seconds`` for the turns of each load."""

    loads: tuple[Load, ...]
    seconds: float
    parts: tuple[str, ...] = ()


MODES = {
    "check": Mode(CHECKED, 10),
    "guest": Mode(SMALL, 20),
    "quick": Mode(QUICK, 12),
    "default": Mode(ALL, 60, ("many", "recording")),
    "whole": Mode(ALL, 120, ("many", "recording", "most", "endurance")),
}


def note(text: str) -> None:
    """For whoever waits."""
    print(f"bench: {text}", file=sys.stderr, flush=True)


def programs(ids: Sequence[str], limit: float, left_out: dict[str, str]) -> dict[str, Taker]:
    """Whom there is to compare from start to end, on a load or on none; ``limit`` is how long one may take."""
    if not ids:
        wanted = {"import click": [sys.executable, "-c", "import click"], "--version": nsinspect("--version")}
    else:
        wanted = {
            "list": nsinspect("list", "--json"),
            "show": nsinspect("show", ids[len(ids) // 2][:12], "--json"),
            "ns": nsinspect("ns", "--json"),
            "lsns": ["lsns", "-J"],
            "lsns with owners": ["lsns", "-J", "-o", OWNERS],
            "ps": ["ps", "-e", "-o", LINKS],
            "pscap": ["pscap", "-a"],
            "psutil": [sys.executable, "-c", ITERATE],
        }
    found = {}
    for name, words in wanted.items():
        if machine.installed(words[0]):
            found[name] = command(*words, limit=limit)
        else:
            left_out[name] = "not installed"
    return found


def measure(wanted: Load, seconds: float, ids: Sequence[str]) -> dict[str, Any]:
    """Everybody in turn on a load that is there."""
    left_out: dict[str, str] = {}
    result: dict[str, Any] = {"containers": wanted[0], "processes": wanted[1]}
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        takers = programs(ids, max(12, seconds / 2), left_out)
        running: dict[str, Exporter] = {}
        base = None
        if ids:
            files = f"{scratch}/files"
            found = floor.recorded(files)
            base = stack.enter_context(Answering(compiled("floor.c", scratch), "-w", "-n", "1000", files))
            scan = stack.enter_context(Answering(*floor.CHILD, "turns"))
            takers = {"floor": base.take, "collect": scan.take, **takers}
        if wanted == SCRAPED:
            for name, words in exporters.commands(scratch).items():
                if words is None:
                    left_out[name] = "not installed"
                    continue
                try:
                    running[name] = stack.enter_context(Exporter(*words))
                except CannotMeasure as error:
                    # Ours has to; others have reasons of their own.
                    if name == "serve":
                        raise
                    left_out[name] = str(error)
                    continue
                takers[name] = running[name].take
        samples, dropped = turns(takers, seconds)
        result["rounds"] = max(map(len, samples.values()))
        result["times"] = {name: times(taken) for name, taken in samples.items()}
        result["ratios"] = {
            f"{one} / {other}": ratio(samples[one], samples[other])
            for one, other in PAIRS
            if one in samples and other in samples
        }
        if base:
            read = {key: int(base.last[key]) for key in ("processes", "links", "files", "bytes", "failed")}
            result["read"] = {"floor": read, "collect": found}
            if not floor.same(read, found):
                left_out["collect / floor"] = "they did not read the same, so their ratio means nothing"
                del result["ratios"]["collect / floor"]
        result["exporters"] = {name: one.about() for name, one in running.items()}
    left_out |= dropped
    for name, reason in left_out.items():
        note(f"left out: {name}: {reason}")
    return {**result, "left_out": left_out}


def under(wanted: Load, seconds: float) -> dict[str, Any]:
    """One load: what was measured on it, or why not."""
    if wanted == AS_IT_IS:
        return measure(wanted, seconds, ())
    why = obstacle(*wanted)
    if why:
        note(f"skipped: {why}")
        return {"containers": wanted[0], "processes": wanted[1], "skipped": why}
    with load(*wanted) as ids:
        return measure(wanted, seconds, ids)


def growth(loads: Sequence[dict[str, Any]]) -> dict[str, float] | None:
    """The power of the number of processes that CPU time grows with, where containers grow alike; 1: in proportion."""
    rows = [one for one in loads if (one["containers"], one["processes"]) in GROWN and "times" in one]
    if len(rows) < len(GROWN):
        return None
    sizes = [math.log(one["processes"]) for one in rows]
    found = {}
    for name in ("floor", "collect"):
        costs = [math.log(one["times"][name]["cpu"]["median"]) for one in rows]
        found[name] = round(linear_regression(sizes, costs).slope, 3)
    return {**found, "relative": round(found["collect"] - found["floor"], 3)}


def many(containers: int) -> dict[str, Any]:
    """What the list and a scrape take of so many containers, and what they leave out."""
    wanted = (containers, ALL[-1][1])
    result: dict[str, Any] = {"containers": containers, "processes": wanted[1], "hierarchies": len(hierarchies())}
    why = obstacle(*wanted)
    if why:
        note(f"skipped: {why}")
        return {**result, "skipped": why}
    with load(*wanted, timeout=300), tempfile.TemporaryFile() as file:
        try:
            listed = command(*nsinspect("list", "--json"), output=file, limit=300)()
        except TooSlow:
            listed = None
        if listed is None:
            result["list"] = {"failed": "it failed or took more than 300 s"}
        else:
            file.seek(0)
            document = json.load(file)
            counts = {"told": len(document["containers"]), "issues": len(document["issues"])}
            result["list"] = {**listed._asdict(), **counts}
        result["serve"] = [served(seconds) for seconds in (8, 60)]
    return result


def served(seconds: float) -> dict[str, Any]:
    """A scrape with the limits that `serve` has by itself (8 s are one of them), or with more time."""
    words = ["--web.listen-address", LISTEN, "--scrape.timeout", str(seconds)]
    try:
        with Exporter(*nsinspect("serve", *words)) as serve:
            sample = [serve.take() for _ in range(3)][-1]
            return {
                "timeout": seconds,
                **sample._asdict(),
                "rss": serve.memory("VmHWM"),
                **serve.about(),
                "left_out": serve.value("nsinspect_containers_truncated"),
                "parts_done": serve.value("nsinspect_scrape_collector_success"),
            }
    except (CannotMeasure, OSError) as error:
        return {"timeout": seconds, "failed": str(error)}


def endurance() -> dict[str, Any]:
    """What `serve` has in memory after a thousand scrapes, and how that goes on."""
    points = []
    words = ["--web.listen-address", LISTEN, "--scrape.max-series", "100000"]
    with load(*SCRAPED), Exporter(*nsinspect("serve", *words)) as serve:
        for number in range(1, SCRAPES + 1):
            serve.scrape()
            if number % 100 == 0:
                points.append((number, serve.memory()))
            if number % 1000 == 0:
                note(f"{number} scrapes, {serve.memory() >> 20} MiB")
    settled = [point for point in points if point[0] >= SETTLED]
    slope = linear_regression(*zip(*settled, strict=True)).slope
    return {
        "scrapes": SCRAPES,
        "rss": dict(points)[SETTLED],
        "rss_at_end": points[-1][1],
        "slope_per_1000": round(slope * 1000),
    }


def recording() -> dict[str, Any]:
    """What `record.py` says."""
    words = [sys.executable, "benchmarks/record.py", "--json"]
    done = subprocess.run(words, env=environment(), cwd=CHECKOUT, stdout=subprocess.PIPE)
    if done.returncode:
        raise CannotMeasure("record.py failed")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def guests() -> dict[str, Any]:
    """The same on cgroup v2 and on v1, smaller: a system call costs user-mode Linux many times what it costs here."""
    from tests.live.uml import V1, V2, Uml

    found: dict[str, Any] = {}
    for name, cgroups in (("cgroup v2", V2), ("cgroup v1", V1)):
        note(name)
        if not machine.installed("linux.uml"):
            found[name] = {"skipped": "linux.uml (package user-mode-linux) is not installed"}
            continue
        kernel = Uml(cgroups, memory="2G")
        found[name] = json.loads(kernel.run(f"{sys.executable} -m benchmarks --in-guest", timeout=600))
    return found


def everything(name: str) -> dict[str, Any]:
    """All that a mode has."""
    mode = MODES[name]
    begun = time.monotonic()
    results: dict[str, Any] = {
        "mode": name,
        "measured_at": datetime.now(UTC).strftime("%Y-%m-%d"),
        "machine": machine.describe(),
        "loads": [],
    }
    for wanted in mode.loads:
        note(f"{wanted[0]} containers, {wanted[1]} processes")
        results["loads"].append(under(wanted, mode.seconds))
    results["growth"] = growth(results["loads"])
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "many": lambda: many(MANY // len(hierarchies())),
        "recording": recording,
        "most": lambda: many(MANY),
        "endurance": endurance,
    }
    for part in mode.parts:
        note(part)
        results[part] = parts[part]()
    results["took_seconds"] = round(time.monotonic() - begun)
    return results


def main() -> int:
    """Measure, and write it down or judge it; see the module."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=(__doc__ or "").splitlines()[0])
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--quick", dest="mode", action="store_const", const="quick", help="about 3 minutes")
    group.add_argument("--whole", dest="mode", action="store_const", const="whole", help="also 5,000 scrapes: an hour")
    group.add_argument("--check", dest="mode", action="store_const", const="check", help="judge ratios; write nothing")
    group.add_argument("--in-guest", dest="mode", action="store_const", const="guest", help=argparse.SUPPRESS)
    parser.add_argument(
        "--guest", action="store_true", help="also on kernels with cgroup v2 and v1 alone, in user mode"
    )
    parser.add_argument(
        "--output", default=str(page.RESULTS), metavar="FILE", help="instead of benchmarks/results.json"
    )
    parser.set_defaults(mode="default")
    options = parser.parse_args()
    exit_on_signals()
    try:
        results = everything(options.mode)
        if options.guest:
            results["guests"] = guests()
    except (CannotMeasure, LoadError, OSError, RuntimeError) as error:
        note(str(error))
        return 2
    except KeyboardInterrupt:
        return 130
    if options.mode == "guest":
        print(json.dumps(results))
        return 0
    table, bad = judged(results)
    print(table)
    if options.mode == "check":
        return int(bad > 0)
    Path(options.output).write_text(json.dumps(results, indent=1) + "\n")
    if Path(options.output) == page.RESULTS:
        for path, text in page.pages():
            path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
