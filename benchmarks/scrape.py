"""What a scrape costs beside Debian's process-exporter and node_exporter, cAdvisor where there is one, and the C floor.

Under a load of containers (see load.py; needs root and a C compiler) all of them are scraped in turn, as Prometheus
does it, and their CPU time and memory are what the kernel says of their processes. None of them tells the same: see
README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from subprocess import DEVNULL, PIPE, Popen
from typing import Any

from collect import CannotMeasure, child, compiled
from load import LoadError, exit_on_signals, load

HERE = Path(__file__).resolve().parent
EVERY_PROCESS = "process_names:\n- name: '{{.Comm}}'\n  cmdline: ['.+']\n"
HEADERS = {
    "Accept": "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
    "Accept-Encoding": "gzip",
}
TICK = os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGE_SIZE")
# As systemd/nsinspect.service sets them.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536", "MALLOC_ARENA_MAX": "2"}


def commands(scratch: Path, ports: Iterator[int]) -> dict[str, tuple[list[str], int]]:
    """Whom there is to compare, with the port it is told to listen on."""
    (scratch / "process-exporter.yml").write_text(EVERY_PROCESS)
    found = {}
    wanted = {
        "nsinspect": [sys.executable, "-m", "nsinspect", "serve", "--scrape.max-series", "100000"],
        "process-exporter": ["prometheus-process-exporter", "-config.path", str(scratch / "process-exporter.yml")],
        "node_exporter": ["prometheus-node-exporter"],
        "cadvisor": ["cadvisor", "-listen_ip", "127.0.0.1"],
    }
    for name, command in wanted.items():
        if shutil.which(command[0]) is None:
            continue
        port = next(ports)
        flag = ["-port", str(port)] if name == "cadvisor" else ["--web.listen-address", f"127.0.0.1:{port}"]
        found[name] = ([*command, *flag], port)
    return found


def free_ports() -> Iterator[int]:
    """Ports that nobody has just now."""
    while True:
        with socket.socket() as one:
            one.bind(("127.0.0.1", 0))
            port: int = one.getsockname()[1]
        yield port


def scrape(port: int) -> bytes:
    """One answer, unpacked."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers=HEADERS)
    with urllib.request.urlopen(request, timeout=60) as answer:
        data: bytes = answer.read()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, all its threads that were included."""
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICK


def resident(pid: int) -> int:
    """Resident bytes."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE


def wait_until_ready(name: str, process: Popen[bytes], port: int) -> None:
    """Until it answers."""
    for _ in range(300):
        if process.poll() is not None:
            raise CannotMeasure(f"{name} ended with {process.returncode}")
        with contextlib.suppress(OSError):
            scrape(port)
            return
        time.sleep(0.1)
    raise CannotMeasure(f"{name} does not answer")


def measure(rounds: int) -> dict[str, Any]:
    """Every exporter and the floor, in turn."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        scratch = Path(folder)
        floor = compiled(scratch)
        command, environment = child("record")
        done = subprocess.run(command, env=environment, stdout=PIPE)
        if done.returncode:
            raise CannotMeasure("nsinspect's collect failed")
        files = scratch / "files"
        files.write_text("".join(path + "\n" for path in json.loads(done.stdout)["others"]))
        running: dict[str, tuple[Popen[bytes], int]] = {}
        for name, (words, port) in commands(scratch, free_ports()).items():
            process = Popen(words, env={**environment, **MALLOC}, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL)
            stack.callback(process.wait)
            stack.callback(process.terminate)
            wait_until_ready(name, process, port)
            running[name] = (process, port)
        c = stack.enter_context(
            Popen([str(floor), "-w", "-n", str(rounds + 1), str(files)], stdin=PIPE, stdout=PIPE, text=True)
        )
        floors: list[float] = []
        spent: dict[str, list[float]] = {name: [] for name in running}
        walls: dict[str, list[float]] = {name: [] for name in running}
        answers: dict[str, bytes] = {}
        for _ in range(rounds + 1):
            for name, (process, port) in running.items():
                before, begun = cpu_seconds(process.pid), time.perf_counter()
                answers[name] = scrape(port)
                walls[name].append(time.perf_counter() - begun)
                # What is tidied up after an answer is a part of its cost.
                time.sleep(0.3)
                spent[name].append(cpu_seconds(process.pid) - before)
            assert c.stdin
            assert c.stdout
            print(file=c.stdin, flush=True)
            row = c.stdout.readline().split()
            if not row:
                raise CannotMeasure("the floor failed")
            floors.append(dict(zip(row[::2], map(float, row[1::2]), strict=True))["cpu"])
        rows = {
            name: {
                # Ticks are 10 ms, so the mean of many and not the median of some.
                "cpu": sum(spent[name][1:]) / rounds,
                "wall": median(walls[name][1:]),
                "rss": resident(process.pid),
                "bytes": len(answers[name]),
                "series": sum(1 for line in answers[name].splitlines() if line and not line.startswith(b"#")),
            }
            for name, (process, _) in running.items()
        }
    mine = rows["nsinspect"]["cpu"]
    peer = rows.get("process-exporter", {}).get("cpu")
    return {
        "rounds": rounds,
        "floor": median(floors[1:]),
        "exporters": rows,
        "ratio_to_floor": mine / median(floors[1:]),
        "ratio_to_process_exporter": mine / peer if peer else None,
    }


def report(result: dict[str, Any]) -> str:
    """The result for people."""
    lines = [f"{'':16} {'CPU/scrape':>10} {'x floor':>8} {'wall':>8} {'RSS':>8} {'series':>7} {'answer':>8}"]
    lines.append(f"{'C floor':16} {result['floor']:8.3f} s {1:8.2f}")
    for name, row in result["exporters"].items():
        times = f"{row['cpu']:8.3f} s {row['cpu'] / result['floor']:8.2f} {row['wall']:6.3f} s"
        lines.append(f"{name:16} {times} {row['rss'] >> 20:4} MiB {row['series']:7} {row['bytes'] >> 10:4} KiB")
    if result["ratio_to_process_exporter"] is not None:
        lines.append(f"nsinspect takes {result['ratio_to_process_exporter']:.2f} times process-exporter's CPU")
    return "\n".join(lines)


def main() -> int:
    """Measure and print; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--containers", type=int, default=300, metavar="N")
    parser.add_argument("--processes", type=int, default=3000, metavar="N")
    parser.add_argument("--rounds", type=int, default=15, metavar="N", help="measured scrapes of each")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--max-ratio", type=float, metavar="X", help="exit 1 when CPU is above X times the floor's")
    options = parser.parse_args()
    exit_on_signals()
    try:
        with load(options.containers, options.processes):
            result = measure(options.rounds)
    except (CannotMeasure, LoadError) as error:
        print(f"scrape: {error}", file=sys.stderr)
        return 2
    print(json.dumps(result, indent=2) if options.json else report(result))
    return int(options.max_ratio is not None and result["ratio_to_floor"] > options.max_ratio)


if __name__ == "__main__":
    sys.exit(main())
