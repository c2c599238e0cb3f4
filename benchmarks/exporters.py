"""Exporters that are scraped as Prometheus does it; their CPU time and memory are what the kernel says of them."""

from __future__ import annotations

import contextlib
import gzip
import shutil
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from subprocess import DEVNULL
from typing import Any

from benchmarks.turns import CannotMeasure, Sample, environment, nsinspect

EVERY_PROCESS = "process_names:\n- name: '{{.Comm}}'\n  cmdline: ['.+']\n"
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    "Accept-Encoding": "gzip",
}
# As systemd/nsinspect.service sets them.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}
LISTEN = "127.0.0.1:PORT"
# What is tidied up after an answer is a part of its cost.
TIDY_UP = 0.3


def commands(scratch: str) -> dict[str, list[str] | None]:
    """Whom there is to compare, ``None`` where it is not installed; `PORT` is to be filled in."""
    config = Path(scratch) / "process-exporter.yml"
    config.write_text(EVERY_PROCESS)
    listen = ["--web.listen-address", LISTEN]
    wanted = {
        "process-exporter": (
            [*listen, "-config.path", str(config)],
            ("process-exporter", "prometheus-process-exporter"),
        ),
        "node_exporter": (listen, ("node_exporter", "prometheus-node-exporter")),
        "cAdvisor": (["-listen_ip", "127.0.0.1", "-port", "PORT"], ("cadvisor",)),
    }
    found: dict[str, list[str] | None] = {"serve": nsinspect("serve", *listen, "--scrape.max-series", "100000")}
    for name, (flags, programs) in wanted.items():
        program = next(filter(None, map(shutil.which, programs)), None)
        found[name] = [program, *flags] if program else None
    return found


def unpacked(data: bytes) -> bytes:
    """Of an answer that may be gzipped."""
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


class Exporter:
    """One that runs, for as long as it is entered."""

    def __init__(self, *words: str) -> None:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port = one.getsockname()[1]
        self._url = f"http://127.0.0.1:{port}/metrics"
        words = tuple(word.replace("PORT", str(port)) for word in words)
        self._name = words[0]
        self._process = subprocess.Popen(
            words, env={**environment(), **MALLOC}, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL
        )
        self.answer = b""

    def __enter__(self) -> Exporter:
        try:
            self._wait()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self) -> None:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                raise CannotMeasure(f"{Path(self._name).name} ended with {self._process.returncode}")
            with contextlib.suppress(OSError):
                self.scrape()
                return
            time.sleep(0.1)
        raise CannotMeasure(f"{Path(self._name).name} does not answer")

    def scrape(self) -> None:
        """Once."""
        request = urllib.request.Request(self._url, headers=HEADERS)
        with urllib.request.urlopen(request, timeout=120) as answer:
            self.answer = answer.read()

    def cpu(self) -> float:
        """Seconds so far, of all its threads; by the clock that the kernel keeps for a process."""
        return time.clock_gettime((~self._process.pid << 3) | 2)

    def memory(self, name: str = "VmRSS") -> int:
        """Resident bytes, with ``VmHWM`` at most."""
        words = Path(f"/proc/{self._process.pid}/status").read_text().partition(f"\n{name}:")[2].split()
        return int(words[0]) << 10

    def take(self) -> Sample:
        """One scrape."""
        before, begun = self.cpu(), time.perf_counter()
        self.scrape()
        wall = time.perf_counter() - begun
        time.sleep(TIDY_UP)
        return Sample(wall, self.cpu() - before, self.memory())

    def about(self) -> dict[str, Any]:
        """Its last answer in numbers."""
        lines = unpacked(self.answer).splitlines()
        return {
            "bytes": len(self.answer),
            "series": sum(1 for line in lines if line and not line.startswith(b"#")),
        }

    def value(self, metric: str) -> float:
        """The sum of all samples of a metric in its last answer."""
        lines = unpacked(self.answer).decode().splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((metric + " ", metric + "{")))
