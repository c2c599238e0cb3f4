"""The exporter and a Prometheus as processes of this machine, on loopback."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

CHECKOUT = Path(__file__).parents[2]
# As the unit sets them.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}


def until(answer: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """The first true answer; an ``OSError`` is none yet."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError):
            if found := answer():
                return found
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.1)


class Exporter:
    """``nsinspect serve`` on a port of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self.process = process
        self.log = log
        self.port = until(self._port, "port in the log")

    def _port(self) -> int | None:
        assert self.process.poll() is None, self.log.read_text()
        found = re.search(r"listening on 127\.0\.0\.1:([0-9]+)", self.log.read_text())
        return int(found[1]) if found else None

    def rss(self) -> int:
        """Resident bytes."""
        return int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        """How many threads it has."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    def descriptors(self) -> int:
        """How many descriptors it has open."""
        return len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))

    def cpu_seconds(self) -> float:
        """CPU time so far, user and system."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def exporter(folder: Path, *flags: str, by: tuple[str, ...] = ()) -> Iterator[Exporter]:
    """Start one, and stop it.  ``by``: a command that runs another one in its own place."""
    log = folder / "nsinspect.log"
    command = [*by, sys.executable, "-m", "nsinspect", "serve", "--web.listen-address", "127.0.0.1:0", *flags]
    environment = {**os.environ, **MALLOC, "PYTHONPATH": str(CHECKOUT)}
    with log.open("wb") as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment, cwd=folder
        )
    try:
        yield Exporter(process, log)
        assert process.poll() is None, f"ended with {process.returncode}: {log.read_text()[-4000:]}"
    finally:
        process.terminate()
        process.wait(20)


class Prometheus:
    """A server of Debian's package, asked through its HTTP API."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, text: str) -> list[dict[str, Any]]:
        """The result of an instant query."""
        asked = urllib.parse.urlencode({"query": text})
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/query?{asked}", timeout=10) as answer:
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
        return found

    def value(self, text: str) -> float | None:
        """The value of a query that has one sample."""
        found = self.query(text)
        return float(found[0]["value"][1]) if found else None

    def wait_for_scrapes(self, count: int, job: str = "nsinspect") -> None:
        """Until that many more of a job have succeeded."""
        scrapes = f'sum_over_time(up{{job="{job}"}}[1h])'
        before = self.value(scrapes) or 0
        until(lambda: (self.value(scrapes) or 0) >= before + count, f"{count} scrapes of {job}")


@contextlib.contextmanager
def prometheus(folder: Path, config: str, port: int) -> Iterator[Prometheus]:
    """Start one with this configuration, and stop it."""
    (folder / "prometheus.yml").write_text(config)
    command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
    command += [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
    with (folder / "prometheus.log").open("wb") as words:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=words, stderr=words)
    try:
        server = Prometheus(port)
        until(lambda: server.query("vector(1)"), "answer from Prometheus")
        yield server
    finally:
        process.terminate()
        process.wait(30)
