"""Hundreds of containers and thousands of processes without any engine, for as long as a command runs.

Each container is a cgroup `/docker/<64 hex>` in every mounted hierarchy and its own mnt, uts, ipc, net and pid
namespace, with sleeping processes in it. Needs root. Everything it made is gone when it ends.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import errno
import hashlib
import os
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# mnt, uts, ipc, pid and net; sched.h has the names, Python only since 3.12
NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
PR_SET_CHILD_SUBREAPER = 36
ID_PREFIX = "10ad10ad"  # recognisable, should a SIGKILL ever leave cgroups behind
SIGNALS = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}

libc = ctypes.CDLL(None, use_errno=True)  # os.unshare is Python 3.12+, os has no prctl


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


@contextlib.contextmanager
def load(containers: int = 300, processes: int = 3000, timeout: float = 120) -> Iterator[list[str]]:
    """Make the load, give the container ids once every process is up, and remove it all at the end."""
    if os.geteuid() != 0:
        raise LoadError("needs root, to make cgroups and namespaces")
    if not 0 < containers <= processes:
        raise LoadError("needs at least one container, and one process for each")
    found = hierarchies()
    if not found:
        raise LoadError("no cgroup hierarchy in /proc/self/mountinfo")
    making = _Making(containers, processes, [hierarchy.root / "docker" for hierarchy in found])
    try:
        try:
            making.prepare(found)
            making.start()
            making.wait(time.monotonic() + timeout)
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
        seeds = (f"{os.getpid()} {time.time_ns()} {number}".encode() for number in range(containers))
        self.ids = [ID_PREFIX + hashlib.sha256(seed).hexdigest()[len(ID_PREFIX) :] for seed in seeds]
        self.processes = processes
        self.parents = parents
        self.made: list[Path] = []
        self.enabled: list[tuple[Path, str]] = []
        self.helpers: list[int] = []
        self.ready_read, self.ready_write = os.pipe()
        self.hold_read, self.hold_write = os.pipe()
        self.messages = b""

    def prepare(self, found: list[Hierarchy]) -> None:
        """Make `/docker` where it is missing. Where an engine already has one, its controllers are its own affair."""
        for hierarchy, parent in zip(found, self.parents, strict=True):
            with contextlib.suppress(FileExistsError):
                parent.mkdir()
                self.made.append(parent)
                _fill_cpuset(parent)
                if hierarchy.version == 2:
                    self.enable(hierarchy.root)
                    self.enable(parent)

    def enable(self, directory: Path) -> None:
        """Hand every controller that can be handed down to the children of a v2 cgroup."""
        control = directory / "cgroup.subtree_control"
        on = control.read_text().split()
        for controller in (directory / "cgroup.controllers").read_text().split():
            if controller not in on:
                with contextlib.suppress(OSError):
                    control.write_text(f"+{controller}")
                    self.enabled.append((control, controller))

    def start(self) -> None:
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)  # the containers' inits outlive their parents: reaped here
        each, more = divmod(self.processes, len(self.ids))
        for number, name in enumerate(self.ids):
            # Blocked over the fork: a Ctrl-C neither loses a pid here nor unwinds the caller's stack in the child.
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
            pid = os.fork()
            if pid == 0:
                self.contain(name, each + (number < more))
            self.helpers.append(pid)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    def contain(self, name: str, processes: int) -> None:
        """In the child: become a container's parent, or report why not. Never returns."""
        try:
            # With the only write end in the load's own process, its end (a SIGKILL too) is the end of every container.
            os.close(self.hold_write)
            for parent in self.parents:
                directory = parent / name
                directory.mkdir()
                _fill_cpuset(directory)
                (directory / "cgroup.procs").write_text("0")
            if libc.unshare(NEW_NAMESPACES):
                raise OSError(ctypes.get_errno(), f"unshare: {os.strerror(ctypes.get_errno())}")
            init = os.fork()
            if init:
                os.write(self.ready_write, b"init %d\n" % init)
            else:
                self.sleep(processes)
        except OSError as error:
            os.write(self.ready_write, f"error {error}\n".encode())
        finally:
            os._exit(0)

    def sleep(self, processes: int) -> None:
        """In process 1 of a container: fork the others, sleep until the load ends. The kernel kills the others then."""
        for _ in range(processes - 1):
            if os.fork() == 0:
                os.close(self.ready_write)
                while True:
                    signal.pause()
        os.write(self.ready_write, b"up\n")
        os.close(self.ready_write)
        os.read(self.hold_read, 1)

    def wait(self, deadline: float) -> None:
        """Until every container said it is up: the end of file comes when the last process has closed its end."""
        os.close(self.ready_write)
        self.ready_write = -1
        while select.select([self.ready_read], [], [], max(0, deadline - time.monotonic()))[0]:
            chunk = os.read(self.ready_read, 65536)
            if not chunk:
                break
            self.messages += chunk
        else:
            raise LoadError("not all processes came up in time")
        self.reap(self.helpers)  # now, not at the end: zombies would be part of the load
        lines = self.messages.decode().splitlines()
        errors = [line.removeprefix("error ") for line in lines if line.startswith("error ")]
        if errors or lines.count("up") != len(self.ids):
            raise LoadError(f"{lines.count('up')} of {len(self.ids)} containers came up: {(errors or ['killed'])[0]}")

    def remove(self) -> None:
        for pid in self.helpers:
            os.kill(pid, signal.SIGKILL)
        self.reap(self.helpers)
        os.close(self.hold_write)
        if self.ready_write >= 0:
            os.close(self.ready_write)
        while chunk := os.read(self.ready_read, 65536):  # ends when every container that still came up has gone
            self.messages += chunk
        self.reap([int(line[5:]) for line in self.messages.splitlines() if line.startswith(b"init ")])
        os.close(self.ready_read)
        os.close(self.hold_read)
        deadline = time.monotonic() + 20
        left = [parent / name for parent in self.parents for name in self.ids]
        while left := [directory for directory in left if not _remove(directory)]:
            if time.monotonic() > deadline:
                raise LoadError(f"{len(left)} cgroups could not be removed, the first is {left[0]}")
            for directory in left:
                _kill(directory)
            time.sleep(0.02)
        for parent in self.made:
            _remove(parent)  # stays if an engine has begun to use it
        for control, controller in reversed(self.enabled):
            with contextlib.suppress(OSError):
                control.write_text(f"-{controller}")
        libc.prctl(PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)

    @staticmethod
    def reap(pids: list[int]) -> None:
        while pids:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pids.pop(), 0)


def _fill_cpuset(directory: Path) -> None:
    """A v1 cpuset begins empty and takes no process until it has CPUs and memory nodes."""
    for name in ("cpuset.cpus", "cpuset.mems"):
        path = directory / name
        # v2 has the file too, but there empty means inherited
        if path.exists() and not (directory / "cgroup.controllers").exists() and not path.read_text().strip():
            path.write_text((directory.parent / name).read_text())


def _remove(directory: Path) -> bool:
    try:
        directory.rmdir()
    except OSError as error:
        return error.errno == errno.ENOENT
    return True


def _kill(directory: Path) -> None:
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
