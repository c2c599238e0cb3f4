"""What a full collect reads, for `floor.c` to read the very same, and a collect that takes turns with it.

python -m benchmarks.floor record       what one collect reads, as JSON
python -m benchmarks.floor turns        collects once for every line on standard input
"""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import time
from collections import Counter
from typing import Any

from benchmarks.turns import CHECKOUT, CannotMeasure, environment

OF_EVERY_PROCESS = re.compile(r"/proc/\d+/(stat|status|cgroup)$")  # the floor finds these by itself
NAMESPACE = re.compile(r"ns/\w+$")
# Other processes of the machine come and go between the passes; a few do so however small the load is.
TOLERANCE, STRAYS = 0.01, 5

CHILD = [sys.executable, "-m", "benchmarks.floor"]


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
    # One that is asked again where another is absent (a kernel without time namespaces) is one to the floor.
    links = len({path for path in recorder.links if NAMESPACE.search(path)})
    return {
        "processes": len(snapshot.processes),
        "cgroups": len(snapshot.cgroups),
        "links": links,
        "other_links": sum(1 for path in recorder.links if not NAMESPACE.search(path)),
        "files": len(files),
        "others": others,
        "read_again": len(recorder.files) - len(files),
        "absent": seen["absent"],
        "directories": seen["directories"],
    }


def recorded(list_file: str) -> dict[str, Any]:
    """What a collect reads now; the names of files that the floor does not find by itself are written to a file."""
    done = subprocess.run([*CHILD, "record"], env=environment(), cwd=CHECKOUT, stdout=subprocess.PIPE)
    if done.returncode:
        raise CannotMeasure("nsinspect's collect failed")
    found: dict[str, Any] = json.loads(done.stdout)
    with open(list_file, "w") as file:
        file.writelines(path + "\n" for path in found.pop("others"))
    return found


def same(read: dict[str, int], found: dict[str, Any]) -> bool:
    """Whether the floor read what the collect read."""
    counts = {"processes": 1, "links": 8, "files": 3}  # of each process
    return all(abs(read[key] - found[key]) <= max(TOLERANCE * read[key], STRAYS * each) for key, each in counts.items())


if __name__ == "__main__":
    if sys.argv[1:] == ["record"]:
        print(json.dumps(record()))
    else:
        collect_in_turn()
