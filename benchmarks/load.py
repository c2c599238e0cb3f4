"""Up to thousands of containers with tens of thousands of processes, without any engine, for as long as a command runs.

Each container is a cgroup `/docker/<64 hex>` in every mounted hierarchy and its own mnt, uts, ipc, net and pid
namespace, with sleeping processes in it. Needs root and a C compiler. Everything it made is gone when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import os
import re
import secrets
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ID_PREFIX = "10ad10ad"  # recognisable, should a SIGKILL ever leave cgroups behind
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
# As measured on 6.18 with ten hierarchies, rounded up.
BYTES_OF_CONTAINER, BYTES_OF_PROCESS = 600 << 10, 90 << 10
SPARE_PIDS = 500


class LoadError(Exception):
    """The load could not be made (or not removed); the message is one line."""


class Hierarchy(NamedTuple):
    """One mounted cgroup hierarchy."""

    root: Path
    version: int


def hierarchies(mountinfo: Path = Path("/proc/self/mountinfo")) -> list[Hierarchy]:
    """Every cgroup hierarchy, once, however often it is mounted."""
    found: dict[str, Hierarchy] = {}
    for line in mountinfo.read_text().splitlines():
        mount, _, filesystem = line.partition(" - ")
        fields, kind = mount.split(), filesystem.split()[0]
        if kind in ("cgroup", "cgroup2"):
            point = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4])
            found.setdefault(fields[2], Hierarchy(Path(point), 2 if kind == "cgroup2" else 1))
    return list(found.values())


def compiled(source: str, directory: str) -> str:
    """A C program of this folder, built in a directory."""
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang"))), None)
    if compiler is None:
        raise LoadError("no C compiler")
    program = f"{directory}/{source.removesuffix('.c')}"
    if subprocess.run([compiler, "-O2", "-o", program, str(HERE / source)]).returncode:
        raise LoadError(f"{source} does not compile")
    return program


def obstacle(containers: int, processes: int) -> str | None:
    """Why this machine has no room for such a load, in a few words."""
    there = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[2])
    for name in ("pid_max", "threads-max"):
        most = int(Path(f"/proc/sys/kernel/{name}").read_text())
        if there + processes + SPARE_PIDS > most:
            return f"kernel.{name} is {most}"
    available = re.search(r"^MemAvailable:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    free = int(available[1]) << 10 if available else 0
    needed = containers * BYTES_OF_CONTAINER + processes * BYTES_OF_PROCESS
    if needed > free * 3 // 4:
        return f"{free >> 20} MiB are available, and it takes about {needed >> 20} MiB of the kernel's memory"
    return None


@contextlib.contextmanager
def load(containers: int = 300, processes: int = 3000, timeout: float = 120) -> Iterator[list[str]]:
    """Make the load, give the container ids once every process is up, and remove it all at the end."""
    if os.geteuid() != 0:
        raise LoadError("needs root, to make cgroups and namespaces")
    if not 0 < containers <= processes:
        raise LoadError("needs at least one container, and one process for each")
    why = obstacle(containers, processes)
    if why:
        raise LoadError(f"too much for this machine: {why}")
    found = hierarchies()
    if not found:
        raise LoadError("no cgroup hierarchy in /proc/self/mountinfo")
    with tempfile.TemporaryDirectory() as folder:
        making = _Making(containers, processes, [hierarchy.root / "docker" for hierarchy in found])
        try:
            try:
                making.prepare(found)
                making.start(compiled("load.c", folder), timeout)
            except OSError as error:
                raise LoadError(str(error)) from error
            yield making.ids
        finally:
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # a second Ctrl-C waits for the broom
            try:
                making.remove()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)


class _Making:
    """What has been made so far, so that it can be removed from any point on."""

    def __init__(self, containers: int, processes: int, parents: list[Path]) -> None:
        self.suffix = secrets.token_hex(26)
        self.ids = [f"{ID_PREFIX}{number:04x}{self.suffix}" for number in range(containers)]
        self.processes = processes
        self.parents = parents
        self.made: list[Path] = []
        self.enabled: list[tuple[Path, str]] = []
        self.maker: subprocess.Popen[bytes] | None = None

    def prepare(self, found: list[Hierarchy]) -> None:
        """Make `/docker` where it is missing. Where an engine already has one, its controllers are its own affair."""
        for hierarchy, parent in zip(found, self.parents, strict=True):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                self.made.append(parent)
                fill_cpuset(parent)
                if hierarchy.version == 2:
                    self.enable(hierarchy.root)
                    self.enable(parent)
            for name in self.ids:
                directory = parent / name
                directory.mkdir()
                fill_cpuset(directory)

    def enable(self, directory: Path) -> None:
        """Hand every controller that can be handed down to the children of a v2 cgroup."""
        control = directory / "cgroup.subtree_control"
        on = control.read_text().split()
        for controller in (directory / "cgroup.controllers").read_text().split():
            if controller not in on:
                with contextlib.suppress(OSError):
                    control.write_text(f"+{controller}")
                    self.enabled.append((control, controller))

    def start(self, program: str, timeout: float) -> None:
        """Until every process is up."""
        command = [program, str(len(self.ids)), str(self.processes), self.suffix, *map(str, self.parents)]
        pipe = subprocess.PIPE
        # In a session of its own a Ctrl-C is not for it. Its end is the end of its standard input.
        self.maker = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        assert self.maker.stdout
        assert self.maker.stderr
        if not select.select([self.maker.stdout], [], [], timeout)[0]:
            raise LoadError("not all processes came up in time")
        if not self.maker.stdout.read(3):
            said = self.maker.stderr.read().decode(errors="replace").splitlines()
            raise LoadError(f"not all processes came up: {(said or ['killed'])[0]}")

    def remove(self) -> None:
        if self.maker is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.maker.communicate(timeout=60)
            self.maker.kill()
            self.maker.communicate()
        deadline = time.monotonic() + 60
        left = [parent / name for parent in self.parents for name in self.ids]
        while left := [directory for directory in left if not removed(directory)]:
            if time.monotonic() > deadline:
                raise LoadError(f"{len(left)} cgroups could not be removed, the first is {left[0]}")
            for directory in left:
                kill_all(directory)
            time.sleep(0.02)
        for parent in self.made:
            removed(parent)  # stays if an engine has begun to use it
        for control, controller in reversed(self.enabled):
            with contextlib.suppress(OSError):
                control.write_text(f"-{controller}")


def fill_cpuset(directory: Path) -> None:
    """A v1 cpuset begins empty and takes no process until it has CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        path = directory / name
        # v2 has the file too, but there empty means inherited
        if path.exists() and not (directory / "cgroup.controllers").exists() and not path.read_text().strip():
            path.write_text((directory.parent / name).read_text())


def removed(directory: Path) -> bool:
    """Remove a cgroup; whether it is gone."""
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def kill_all(directory: Path) -> None:
    """Kill every process of a cgroup."""
    with contextlib.suppress(OSError):
        for pid in (directory / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


def exit_on_signals() -> None:
    """For a program with a load: SIGTERM and SIGHUP unwind it as Ctrl-C does, instead of leaving cgroups behind."""

    def leave(number: int, _frame: object) -> None:
        sys.exit(128 + number)

    for number in SIGNALS - {signal.SIGINT}:
        signal.signal(number, leave)


def main() -> int:
    """Run a command under the load; see the module."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--containers", type=int, default=300, metavar="N")
    parser.add_argument("--processes", type=int, default=3000, metavar="N", help="in all containers together")
    parser.add_argument("command", nargs="*", help="to run under the load; without it, until Ctrl-C")
    options = parser.parse_args()
    exit_on_signals()
    begun = time.monotonic()
    try:
        with load(options.containers, options.processes):
            made = f"{options.containers} containers, {options.processes} processes"
            print(f"load: {made}, up in {time.monotonic() - begun:.1f} s", file=sys.stderr)
            if options.command:
                return subprocess.run(options.command).returncode
            signal.pause()
    except LoadError as error:
        print(f"load: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"load: {error}", file=sys.stderr)
        return 127
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
