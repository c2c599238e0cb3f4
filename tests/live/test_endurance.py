"""Beside a machine on which nothing stands still nsinspect answers, never grows, and is right again in the end.

For NSINSPECT_ENDURANCE_SECONDS (120); docs/exporter.md has what hours gave.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nsinspect.store import Recording
from tests.live.endurance import (
    Asking,
    Fence,
    Idle,
    Scraping,
    Storm,
    Truth,
    alive,
    document,
    fence,
    nsinspect,
    scraped,
    storm,
    unsafe,
)
from tests.live.exporter import CHECKOUT, Exporter, exporter
from tests.live.growth import growth
from tests.live.storm import MARK

SECONDS = float(os.environ.get("NSINSPECT_ENDURANCE_SECONDS", "120"))
WARM = 15.0
MIB = 1 << 20
# Sixteen connections, and what a scrape opens.
DESCRIPTORS = 40
EVENTS = ("--events", "--record.interval", "5")


class Endured(NamedTuple):
    """What there was to see."""

    storm: Storm
    open: Scraping
    fenced: Scraping
    fence: Fence
    asking: Asking
    idle: Idle
    recorded: Path
    recorder_said: bytes
    logs: dict[str, str]
    calm: Calm


class Calm(NamedTuple):
    """All answers to one question, once nothing moves."""

    scrape: str
    fenced_scrape: str
    document: dict[str, Any]
    containers: set[str]
    truths: dict[str, tuple[dict[str, float | str | None], int]]


@pytest.fixture(scope="module")
def endured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endured]:
    folder = tmp_path_factory.mktemp("endurance")
    for name in ("open", "fenced", "after"):
        (folder / name).mkdir()
    seed = int(time.time())
    print(f"seed {seed}")
    record = [sys.executable, "-m", "nsinspect", "record", "--interval", "1", "--store", str(folder / "store")]
    with storm(seed) as wind, fence() as around, exporter(folder / "open", *EVENTS) as first:
        with Scraping(first, 1.0) as watched:
            time.sleep(WARM)
            around.allow(needed(first))
            by = around.command(DESCRIPTORS)
            with (
                exporter(folder / "fenced", *EVENTS, by=by) as second,
                Idle(second.port) as idle,
                Scraping(second, 2.0) as fenced,
                Asking(seed) as asking,
                subprocess.Popen(record, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=CHECKOUT) as recorder,
            ):
                ends = time.monotonic() + SECONDS
                while time.monotonic() < ends:
                    # Whatever else there is on this machine: a limit below what is needed proves nothing.
                    around.allow(needed(first))
                    time.sleep(0.1)
                recorder.send_signal(signal.SIGINT)
                said, _ = recorder.communicate(timeout=60)
                assert recorder.returncode == 0, said
            wind.calm()
        # The fenced one is asked for the last time when nobody sits on its port any more.
        with exporter(folder / "after", by=by) as third:
            calm = Calm(
                scraped(first.port),
                scraped(third.port),
                document(("list", "--json")),
                alive(MARK),
                {one: (Truth(one).limits(), Truth(one).processes()) for one in wind.steady},
            )
        logs = {name: (folder / name / "nsinspect.log").read_text() for name in ("open", "fenced")}
        found = Endured(wind, watched, fenced, around, asking, idle, folder / "store", said, logs, calm)
        print(json.dumps(summary(found), indent=1))
        yield found


def needed(one: Exporter) -> int:
    """What it has needed at most so far, in bytes, and a quarter more."""
    lines = Path(f"/proc/{one.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")) * 5 // 4


def summary(found: Endured) -> dict[str, Any]:
    """For people."""

    def of(one: Scraping) -> dict[str, Any]:
        resident = growth(one.resident)
        return {
            "scrapes": one.count,
            "samples": one.samples,
            "partial": one.partial,
            "slowest": round(max(one.seconds), 2),
            "median": round(sorted(one.seconds)[len(one.seconds) // 2], 2),
            "issues": one.issues,
            "counters begun again": one.fell_after_restart,
            "MiB": [round(one.resident[index][1] / MIB, 1) for index in (0, len(one.resident) // 2, -1)],
            "MiB/h": round(resident.per_hour / MIB, 2),
            "rise": [round(resident.rise / MIB, 2), round(resident.unsure / MIB, 2)],
            "descriptors": [one.descriptors[0][1], one.descriptors[-1][1], max(n for _, n in one.descriptors)],
            "threads": [one.threads[0][1], one.threads[-1][1], max(n for _, n in one.threads)],
            "wrong": one.wrong[:5],
        }

    return {
        "seconds": SECONDS,
        "storm": found.storm.counts,
        "open": of(found.open),
        "fenced": of(found.fenced),
        "memory": {"limit MiB": found.fence.limit / MIB, "full": found.fence.times_full()},
        "thrown out": found.idle.thrown_out,
        "asked": found.asking.codes,
        "slowest": round(found.asking.slowest, 1),
        "log lines": {name: log.count("\n") for name, log in found.logs.items()},
        "wrong": found.asking.wrong[:5] + found.idle.wrong[:5],
    }


def test_the_storm_was_one(endured: Endured):
    counts = endured.storm.counts

    assert endured.storm.errors == []
    # It has what others leave of the CPUs.
    assert min(counts[what] for what in ("started", "killed")) > SECONDS / 5
    assert min(counts[what] for what in ("forks", "limits", "renamed processes")) > 5 * SECONDS
    assert counts["limit reached"] > 0


def test_every_scrape_is_answered_in_time_and_means_something(endured: Endured):
    """Read by the parsers of both formats and by promtool; no counter goes back while its container goes on."""
    assert endured.open.wrong == []
    assert endured.open.count > SECONDS / 4
    # Others came and went under the same id.
    assert endured.open.fell_after_restart > 0


def test_with_few_descriptors_little_memory_and_a_hundred_silent_clients_too(endured: Endured):
    """Sixteen newcomers at once may push out one whose request has come and was not read yet; that is rare."""
    turned_away = [one for one in endured.fenced.wrong if one.startswith("ConnectionResetError")]
    assert endured.fenced.wrong == turned_away
    assert len(turned_away) <= endured.fenced.count / 20
    assert endured.fenced.count > SECONDS / 8
    assert endured.idle.thrown_out > 100
    assert endured.fence.kills() == 0
    assert f"RLIMIT_NOFILE is {DESCRIPTORS}" in endured.logs["fenced"]


@pytest.mark.parametrize("which", ["open", "fenced"])
def test_nothing_grows(endured: Endured, which: str):
    one: Scraping = getattr(endured, which)

    assert not growth(one.resident).more_than(3 * MIB)
    assert not growth(one.descriptors).more_than(2)
    assert not growth(one.threads).more_than(1)


@pytest.mark.parametrize("which", ["open", "fenced"])
def test_the_log_has_no_tracebacks_and_nothing_raw(endured: Endured, which: str):
    log = endured.logs[which]

    assert "Traceback" not in log
    assert unsafe(log.encode()) == ""
    assert not [line for line in log.splitlines() if not line.startswith("ts=")]


def test_every_command_ends_as_it_is_promised(endured: Endured):
    assert endured.asking.wrong == []
    assert endured.asking.codes["list 0"] > 0
    assert endured.asking.codes["show 0"] > 0


def test_what_was_recorded_is_whole(endured: Endured):
    recording = Recording(str(endured.recorded))
    moments, events = recording.moments(), list(recording.events())
    told = nsinspect("events", "--store", str(endured.recorded), "--json")

    assert endured.recorder_said == b""
    assert recording.losses == []
    assert len(moments) > SECONDS / 10
    assert (told.returncode, told.stderr) == (0, b"")
    assert len(told.stdout.splitlines()) == len(events) > SECONDS
    assert unsafe(told.stdout) == ""
    for moment in random.Random(1).sample(moments, 5):
        # Told to the second, so that the look before it is given, or this one.
        at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment + 1))
        then = document(("replay", "--store", str(endured.recorded), "--at", at, "list", "--json"))
        assert set(endured.storm.steady) <= {one["id"] for one in then["containers"]}


def test_after_the_storm_everybody_says_what_the_kernel_says(endured: Endured):
    calm = endured.calm
    told = {one["id"]: one for one in calm.document["containers"] if one["id"].endswith(MARK)}
    assert calm.containers == set(endured.storm.steady) == set(told)
    for text in (calm.scrape, calm.fenced_scrape):
        found = {
            (sample.name.removeprefix("nsinspect_container_"), sample.labels["id"]): sample
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "id" in sample.labels
        }
        mine = {s.labels["cgroup"].rpartition("/")[2] for (name, _), s in found.items() if name == "info"}
        assert {one for one in mine if one.endswith(MARK)} == calm.containers
        for identity, (limits, processes) in calm.truths.items():
            got = {name: found[name, identity[:12]].value for name in (
                "memory_limit_bytes", "pids_limit", "cpu_limit_cores", "processes")}  # fmt: skip
            wanted = [limits["memory"], limits["pids"], limits["cores"], processes]
            assert list(got.values()) == [float("inf") if one == "max" else one for one in wanted]
            one = told[identity]
            assert [
                one["limits"]["memory"]["effective"]["max_bytes"],
                one["limits"]["pids"]["effective"]["max"],
                one["limits"]["cpu"]["effective"]["cores"],
                len(one["pids"]),
            ] == wanted
