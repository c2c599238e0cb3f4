"""Who watches nsinspect while a storm goes on: scrapers, users, idle clients, and a fence around its memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import unicodedata
import urllib.request
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as plain

from benchmarks.load import hierarchies
from tests.live.exporter import CHECKOUT, Exporter

PATIENCE = 10.0
"""Seconds until the scraper would give up, which it says."""
Series = tuple[str, frozenset[tuple[str, str]]]


def unsafe(text: bytes) -> str:
    """Where it has what is no visible character of a line: escape sequences, overrides, broken UTF-8."""
    decoded = text.decode("utf-8", "surrogateescape")
    for at, character in enumerate(decoded):
        if character != "\n" and unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            return ascii(decoded[max(0, at - 40) : at + 40])
    return ""


class Storm:
    """The processes of :mod:`tests.live.storm`."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.steady: list[str] = json.loads(self._word())
        self.counts: dict[str, int] = {}
        self.errors: list[str] = []

    def _word(self) -> str:
        assert self._process.stdout
        return self._process.stdout.readline()

    def calm(self) -> None:
        """Nothing changes any more."""
        assert self._process.stdin
        self._process.stdin.write("calm\n")
        self._process.stdin.flush()
        said = json.loads(self._word())
        self.counts, self.errors = said["counts"], said["errors"]


@contextlib.contextmanager
def storm(seed: int) -> Iterator[Storm]:
    """One that is gone without a trace at the end."""
    command = [sys.executable, "-m", "tests.live.storm", str(seed)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=CHECKOUT, text=True) as process:
        try:
            yield Storm(process)
        finally:
            process.communicate(timeout=120)


class Again(threading.Thread):
    """Does the same again and again, until it is stopped; the first thing that went wrong is kept."""

    def __init__(self, interval: float) -> None:
        super().__init__(daemon=True)
        self._interval = interval
        self._stop_now = threading.Event()
        self.wrong: list[str] = []

    def once(self) -> None:
        """What it does."""
        raise NotImplementedError

    def run(self) -> None:
        due = time.monotonic()
        while not self._stop_now.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._interval, time.monotonic())
            try:
                self.once()
            except Exception as error:  # noqa: BLE001 - whatever it is, it is what the test wants to hear of
                self.wrong.append(f"{type(error).__name__}: {error}")

    def __enter__(self) -> Any:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop_now.set()
        self.join(120)


class Scraping(Again):
    """A Prometheus that looks closely at each answer."""

    def __init__(self, served: Exporter, interval: float) -> None:
        super().__init__(interval)
        self._served = served
        self._before: dict[Series, tuple[float, float | None]] = {}
        self.count = self.samples = self.fell_after_restart = 0
        self.partial: Counter[str] = Counter()
        self.issues: Counter[str] = Counter()
        self.seconds: list[float] = []
        self.resident: list[tuple[float, float]] = []
        self.descriptors: list[tuple[float, float]] = []
        self.threads: list[tuple[float, float]] = []
        self.begun = time.monotonic()

    def once(self) -> None:
        """A scrape, and what the kernel says of who answered it."""
        # Now and then the other format, and another parser: both are slower.
        other = self.count % 10 == 5
        begun = time.monotonic()
        text = scraped(self._served.port, other=other)
        self.seconds.append(time.monotonic() - begun)
        if self.seconds[-1] > PATIENCE:
            self.wrong.append(f"an answer after {self.seconds[-1]:.1f} s")
        now = time.monotonic() - self.begun
        self.resident.append((now, self._served.rss()))
        self.descriptors.append((now, self._served.descriptors()))
        self.threads.append((now, self._served.threads()))
        self.check(text, openmetrics if other else plain)
        if self.count % 10 == 0:
            self.wrong += promtool(text)
        self.count += 1

    def check(self, text: str, parser: Any) -> None:
        """Nothing twice, nothing raw, no counter that goes back while its container goes on."""
        found: dict[Series, float] = {}
        for family in parser(text):
            for sample in family.samples:
                key = (sample.name, frozenset(sample.labels.items()))
                if key in found:
                    self.wrong.append(f"twice: {key}")
                found[key] = sample.value
                if sample.name == "nsinspect_scrape_collector_success" and not sample.value:
                    self.partial[sample.labels["collector"]] += 1
                if sample.name == "nsinspect_read_issues":
                    self.issues[sample.labels["kind"]] += 1
        if where := unsafe(text.encode()):
            self.wrong.append(f"raw: {where}")
        self.samples += len(found)
        starts = {
            dict(labels)["id"]: value
            for (name, labels), value in found.items()
            if name == "nsinspect_container_start_time_seconds"
        }
        counters = {
            key: (value, starts.get(dict(key[1]).get("id", "")))
            for key, value in found.items()
            if key[0].endswith("_total")
        }
        for key, (value, start) in counters.items():
            value_before, start_before = self._before.get(key, (value, start))
            if value < value_before and start == start_before:
                self.wrong.append(f"went back from {value_before} to {value}, started {start}: {key}")
            self.fell_after_restart += value < value_before
        self._before = counters


def scraped(port: int, *, other: bool = False) -> str:
    """One answer."""
    wanted = {"X-Prometheus-Scrape-Timeout-Seconds": str(PATIENCE)}
    if other:
        wanted["Accept"] = "application/openmetrics-text;version=1.0.0"
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=wanted)
    with urllib.request.urlopen(request, timeout=2 * PATIENCE) as answer:
        text: str = answer.read().decode()
    return text


def promtool(text: str) -> list[str]:
    """What Prometheus' own tool finds wrong; process_* are prometheus-client's."""
    mine = "".join(line for line in text.splitlines(keepends=True) if "process_" not in line.split("{")[0])
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=mine.encode(), capture_output=True, check=False, timeout=60
    )
    return [] if done.returncode == 0 else [f"promtool: {done.stdout!r} {done.stderr!r}"]


class Asking(Again):
    """A person who asks one thing after the other."""

    def __init__(self, seed: int) -> None:
        super().__init__(0.2)
        self._chance = random.Random(seed)
        self._known = ["0" * 64]
        self.codes: Counter[str] = Counter()
        self.slowest = 0.0

    def once(self) -> None:
        """One command, its exit code and what it said."""
        allowed = {
            ("list", "--json"): (0,),
            ("list",): (0,),
            ("findings",): (0, 1),
            ("ns",): (0,),
            ("caps",): (0,),
            ("net",): (0,),
            ("show", self._chance.choice(self._known)): (0, 3),
            ("show", "--json", self._chance.choice(self._known)): (0, 3),
        }
        command = self._chance.choice(list(allowed))
        begun = time.monotonic()
        done = nsinspect(*command, timeout=60)
        self.slowest = max(self.slowest, time.monotonic() - begun)
        self.codes[f"{command[0]} {done.returncode}"] += 1
        where = unsafe(done.stdout) or unsafe(done.stderr)
        if done.returncode not in allowed[command] or where or b"Traceback" in done.stderr:
            self.wrong.append(f"{command}: {done.returncode} {where} {done.stderr!r}")
        if "--json" in command and done.returncode == 0:
            answer = json.loads(done.stdout)
            if command[0] == "list":
                self._known = [one["id"] for one in answer["containers"]] or self._known


def nsinspect(*arguments: str, timeout: float = 120) -> subprocess.CompletedProcess[bytes]:
    """The program, as a user runs it."""
    command = [sys.executable, "-m", "nsinspect", *arguments]
    return subprocess.run(command, capture_output=True, check=False, timeout=timeout, cwd=CHECKOUT)


class Idle(Again):
    """Clients who connect and say nothing; whoever is thrown out comes again."""

    def __init__(self, port: int, clients: int = 100) -> None:
        super().__init__(0.05)
        self._port, self._clients = port, clients
        self._open: list[socket.socket] = []
        self.thrown_out = 0

    def once(self) -> None:
        """Fill up what was lost, a few at a time."""
        for one in [one for one in self._open if closed(one)]:
            one.close()
            self._open.remove(one)
            self.thrown_out += 1
        for _ in range(min(4, self._clients - len(self._open))):
            one = socket.create_connection(("127.0.0.1", self._port), timeout=PATIENCE)
            one.setblocking(False)
            self._open.append(one)

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        for one in self._open:
            one.close()


def closed(one: socket.socket) -> bool:
    """Whether its other end is."""
    try:
        return one.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


class Fence:
    """A cgroup that limits memory."""

    def __init__(self, directory: Path) -> None:
        self._path = directory
        self.limit = 0

    def allow(self, most: int) -> None:
        """So many bytes, if that is more than before."""
        if most > self.limit:
            file = "memory.max" if (self._path / "memory.max").exists() else "memory.limit_in_bytes"
            (self._path / file).write_text(str(most))
            self.limit = most

    def command(self, descriptors: int) -> tuple[str, ...]:
        """To start a program by, in here."""
        script = f'echo 0 > {self._path}/cgroup.procs && ulimit -n {descriptors} && exec "$@"'
        return ("sh", "-c", script, "sh")

    def kills(self) -> int:
        """How many the limit has killed."""
        for name in ("memory.events", "memory.oom_control"):
            with contextlib.suppress(FileNotFoundError):
                lines = (self._path / name).read_text().splitlines()
                return sum(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))
        raise AssertionError(f"{self._path} says nothing of kills")

    def times_full(self) -> int:
        """How often the limit was reached, and something given back."""
        v1 = self._path / "memory.failcnt"
        if v1.exists():
            return int(v1.read_text())
        lines = (self._path / "memory.events").read_text().splitlines()
        return sum(int(line.split()[1]) for line in lines if line.startswith("max "))


@contextlib.contextmanager
def fence() -> Iterator[Fence]:
    """One where memory can be limited, for a while."""
    roots = [one.root for one in hierarchies()]
    path = next(root for root in roots if any(root.glob("*/memory.max")) or (root / "memory.limit_in_bytes").exists())
    directory = path / f"nsinspect-fence-{os.getpid()}"
    directory.mkdir()
    try:
        yield Fence(directory)
    finally:
        directory.rmdir()


class Truth:
    """What the kernel's files say of a container of the storm."""

    def __init__(self, identity: str) -> None:
        self.id = identity
        self._places = [one.root / "docker" / identity for one in hierarchies()]

    def _word(self, *names: str) -> str | None:
        for place in self._places:
            for name in names:
                with contextlib.suppress(OSError):
                    return (place / name).read_text().strip()
        return None

    def limits(self) -> dict[str, float | str | None]:
        """Its own ones; nothing above it is tighter."""
        memory, pids = self._word("memory.max", "memory.limit_in_bytes"), self._word("pids.max")
        quota = self._word("cpu.max") or f"{self._word('cpu.cfs_quota_us')} {self._word('cpu.cfs_period_us')}"
        used, period = map(int, quota.split())
        return {
            # v1 writes the greatest number of pages for none.
            "memory": "max" if memory == "max" or int(memory or 0) >= 1 << 62 else int(memory or 0),
            "pids": pids if pids == "max" else int(pids or 0),
            "cores": used / period,
        }

    def processes(self) -> int:
        """How many there are in it and below it."""
        # What one hierarchy says all say.
        place = next(place for place in self._places if place.exists())
        folders = [place, *(Path(folder) for folder, _, _ in os.walk(place) if folder != str(place))]
        return sum(len((folder / "cgroup.procs").read_text().split()) for folder in folders)


def alive(mark: str) -> set[str]:
    """Ids of containers with that mark, as their cgroups say."""
    found: set[str] = set()
    for one in hierarchies():
        found |= {place.name for place in (one.root / "docker").glob(f"*{mark}") if Truth(place.name).processes()}
    return found


def document(arguments: Iterable[str]) -> dict[str, Any]:
    """The JSON of a command that succeeds."""
    done = nsinspect(*arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
