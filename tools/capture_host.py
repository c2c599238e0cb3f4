"""Copy exactly the kernel and state files that nsinspect reads on this host into a directory that ``--root`` takes.

    sudo python tools/capture_host.py tests/fixtures/hosts/NAME [CONTAINER...]

Without containers named: all of them.

For fixtures: small (containers, their ancestors and PIDs 1 and 2) and with nothing secret (no environ, no cmdline, and
neither environment nor arguments from an engine's state files).  Refuses to write into a directory that exists.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from nsinspect import statefiles
from nsinspect.collect import Depth, collect
from nsinspect.grouping import group
from nsinspect.kernfs import Directory, Roots
from nsinspect.snapshot import Snapshot

# What psutil reads for the host's facts, and what a program started by an engine may keep private.
PSUTIL_READS = ("/proc/stat", "/proc/meminfo", "/proc/uptime")
PRIVATE = {"Env", "Args", "Path", "Cmd", "Entrypoint", "Healthcheck", "LogPath"}


class Recorder:
    """Remembers what every read gave, by path."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.links: dict[str, bytes] = {}

    def install(self) -> None:
        """Put this between nsinspect and the kernel."""
        read, rendered, readlink = Directory.read, Directory.read_rendered, Directory.readlink
        state = statefiles.Reader.read

        def note(path: str, data: bytes | None) -> bytes | None:
            if data is not None:
                self.files[os.path.normpath(path)] = data
            return data

        def note_link(directory: Directory, name: bytes) -> bytes | None:
            target = readlink(directory, name)
            if target is not None:
                self.links[os.path.normpath(f"{directory.path}/{os.fsdecode(name)}")] = target
            return target

        Directory.read = lambda d, name, *a: note(f"{d.path}/{name}", read(d, name, *a))  # type: ignore
        Directory.read_rendered = lambda d, name: note(f"{d.path}/{name}", rendered(d, name))  # type: ignore
        Directory.readlink = note_link  # type: ignore
        Directory.readlinks = lambda d, names: tuple(note_link(d, name) for name in names)  # type: ignore
        statefiles.Reader.read = lambda r, path: note(path, without_secrets(state(r, path)))  # type: ignore


def without_secrets(data: bytes | None) -> bytes | None:
    """A state file without what may hold a secret."""
    if data is None:
        return None

    def clean(value: object) -> object:
        if isinstance(value, dict):
            return {key: clean(inner) for key, inner in value.items() if key not in PRIVATE}
        return [clean(inner) for inner in value] if isinstance(value, list) else value

    return json.dumps(clean(json.loads(data)), indent=1).encode()


def choose(snapshot: Snapshot, names: set[str]) -> tuple[set[int], set[str]]:
    """Pids of the members of chosen containers, of the processes that started them, and of the two every host has;
    and the ids of the containers that were not chosen."""
    parents = {process.pid: process.ppid for process in snapshot.processes}
    wanted, others = {1, 2}, set()
    for found in group(snapshot.processes, snapshot.claims, snapshot.host.namespaces, isolates=not names).groups:
        said = snapshot.declarations.get((found.match.runtime, found.match.id))
        if names and (said is None or said.name not in names):
            others.add(found.match.id)
            continue
        for process in found.processes:
            pid = process.pid
            while pid in parents and pid not in wanted:
                wanted.add(pid)
                pid = parents[pid]
    return wanted, others


def main() -> None:
    """Collect once, then write what was read."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} DIRECTORY [CONTAINER...]")
    target = Path(sys.argv[1])
    if target.exists():
        sys.exit(f"{target}: exists already; a capture never overwrites one")
    recorder = Recorder()
    recorder.install()
    snapshot = collect(Roots(), Depth(isolates=True))
    pids, others = choose(snapshot, set(sys.argv[2:]))
    own = f"/proc/{os.getpid()}/"
    for path in PSUTIL_READS:
        # Only the first read of /proc/stat's many lines is of use; interrupt counts are long and say nothing here.
        lines = Path(path).read_bytes().splitlines(keepends=True)
        recorder.files[path] = b"".join(line for line in lines if not line.startswith((b"intr", b"softirq")))
    for path, data in recorder.files.items():
        # Our own mount table was read to find the cgroups; on a captured host PID 1's stands for it.
        where = path.replace(own, "/proc/1/") if path == f"{own}mountinfo" else path
        if keep(where, pids, others):
            place = target / where.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
    for path, link in recorder.links.items():
        # A link to / would lead whatever walks the fixtures around the whole machine.
        if keep(path, pids, others) and not path.endswith("/self") and link != b"/":
            place = target / path.lstrip("/")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.symlink_to(os.fsdecode(link))
    for hierarchy in snapshot.hierarchies:
        (target / hierarchy.point.lstrip("/")).mkdir(parents=True, exist_ok=True)


def keep(path: str, pids: set[int], others: set[str]) -> bool:
    """Whether a path is of the host itself or of a process or container that is wanted."""
    if any(other in path for other in others):
        return False
    first = path.removeprefix("/proc/").partition("/")[0]
    return not (path.startswith("/proc/") and first.isdigit()) or int(first) in pids


if __name__ == "__main__":
    main()
