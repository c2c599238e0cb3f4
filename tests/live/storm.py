"""A machine on which nothing stands still: containers that come and go, floods of processes, names that bite, limits
that change.  Without any engine; needs root.

Runs as processes of its own, niced and with a share of the CPUs, so that its work is not the test's.  Until its stdin
says ``calm`` it storms; then it prints what it did, and stays as still as its last containers are until its stdin is
closed.  Everything that it made is gone when it ends, and what an earlier one left behind when it was killed too.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from benchmarks.load import fill_cpuset, hierarchies, kill_all, removed

MARK = "57045704"
"""How ids of these containers end."""
STEADY, MAKERS, SLOTS, FLOOD = 8, 2, 10, 150
PR_SET_PDEATHSIG, PR_SET_NAME, PR_SET_CHILD_SUBREAPER = 1, 15, 36
# Of mounts, uts, ipc, pids and the network: linux/sched.h.
NEW_NAMESPACES = 0x00020000 | 0x04000000 | 0x08000000 | 0x20000000 | 0x40000000
SYS_CLONE = {"x86_64": 56, "aarch64": 220}[os.uname().machine]
HOSTILE = (
    b"\x1b[31mred\x1b[0m",
    b"\x1b]0;title\x07",
    b"\xc2\x9b2Jc1",
    b"\xe2\x80\xaegnp.exe",
    b'quo"te\\back',
    b"\xff\xfe\x80not utf8",
    b'} 1\nfake{a="b"',
    b"\r\x08\x7f\x01",
    b"a) S 1 1 1 0 (",
    "\u2028\u200b\U000e0041".encode(),
    b"$(reboot)`id`",
    b"%s%n{0}",
)
# A thread state of Python's is not asked for over a clone: nothing here has threads.
libc = ctypes.PyDLL(None, use_errno=True)
parents = {one.root.name if one.version == 1 else "": one.root / "docker" for one in hierarchies()}
counts: Counter[str] = Counter()


def limited(name: str, pids: int, share: float) -> list[Path]:
    """A cgroup of this storm with so many processes and so much of a CPU, where there are those controllers."""
    made = []
    for one in hierarchies():
        directory = one.root / f"storm-{MARK}-{name}"
        quota = int(share * 100_000)
        wanted = {"pids.max": pids, "cpu.cfs_quota_us": quota, "cpu.max": f"{quota} 100000"}
        # As little as there is to be had where others want more.
        wanted |= {"cpu.shares": 128, "cpu.weight": 13}
        directory.mkdir(exist_ok=True)
        there = {file: value for file, value in wanted.items() if (directory / file).exists()}
        for file, value in there.items():
            (directory / file).write_text(str(value))
        if there:
            made.append(directory)
        else:
            directory.rmdir()
    return made


def enter(directories: list[Path]) -> None:
    """Go into these cgroups."""
    for directory in directories:
        (directory / "cgroup.procs").write_text("0")


def name_thyself(chance: random.Random) -> None:
    """Be called something else."""
    name = chance.choice(HOSTILE)[:15]
    if chance.random() < 0.5:
        libc.prctl(PR_SET_NAME, name, 0, 0, 0)
    else:
        Path("/proc/self/comm").write_bytes(name)


def clone(flags: int) -> int:
    """``fork`` into new namespaces."""
    pid = libc.syscall(SYS_CLONE, flags | signal.SIGCHLD, 0, 0, 0, 0)
    if pid < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(pid)


class Container:
    """One of them: a cgroup in every hierarchy, an init in namespaces of its own, and a few others."""

    def __init__(self, chance: random.Random, identity: str | None = None, *, busy: bool = False) -> None:
        self.id = identity or f"{chance.getrandbits(224):056x}{MARK}"
        self.directories = [parent / self.id for parent in parents.values()]
        for directory in self.directories:
            directory.mkdir()
            fill_cpuset(directory)
        self.limits(chance)
        self.init = clone(NEW_NAMESPACES)
        if self.init == 0:
            try:
                libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
                enter(self.directories)
                self.live(random.Random(self.id), busy=busy)
            finally:
                os._exit(1)

    def live(self, chance: random.Random, *, busy: bool) -> None:
        """In the container: process 1 and its children, under names of all kinds."""
        for _ in range(chance.randrange(4)):
            if os.fork() == 0:
                break
        inner = self.directories[0] / os.fsdecode(chance.choice(HOSTILE).replace(b"\n", b" ").replace(b"/", b"|"))
        if os.getpid() == 1 and chance.random() < 0.3:
            inner.mkdir(exist_ok=True)
            fill_cpuset(inner)
            enter([inner])
        while True:
            name_thyself(chance)
            if busy and os.getpid() == 1:
                sum(range(100_000))
            time.sleep(0.1 if busy else 0.5)

    def limits(self, chance: random.Random) -> None:
        """Other limits than before."""
        memory, cpu = chance.randrange(16, 64) << 20, chance.randrange(2, 40) * 1000
        wanted = {
            "pids.max": chance.choice(("max", chance.randrange(20, 99))),
            "memory.limit_in_bytes": chance.choice((-1, memory)),
            "memory.soft_limit_in_bytes": memory // 2,
            "memory.max": chance.choice(("max", memory)),
            "cpu.cfs_quota_us": cpu,
            "cpu.max": f"{cpu} 100000",
            "cpu.shares": chance.randrange(2, 4096),
            "cpu.weight": chance.randrange(1, 10_000),
            "cpuset.cpus": chance.choice((f"0-{max(os.sched_getaffinity(0))}", "0")),
        }
        for file, value in wanted.items():
            for directory in self.directories:
                # What there is not, or refuses a value (memory.max below what is used), is as good as what there is.
                with contextlib.suppress(OSError):
                    if (directory / file).exists():
                        (directory / file).write_text(str(value))
                        counts["limits"] += 1

    def end(self) -> None:
        """Kill it, and wait until nothing of it is left."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.init, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.init, 0)
        deadline = time.monotonic() + 20
        while sum(map(swept, self.directories)) < len(self.directories) and time.monotonic() < deadline:
            time.sleep(0.002)


def swept(directory: Path) -> bool:
    """Remove a cgroup and those below it; whether it is gone."""
    for below in directory.glob("*/") if directory.exists() else ():
        swept(below)
    return removed(directory)


# -- what storms -------------------------------------------------------------------------------------------------------


def make_and_kill(going: Callable[[], bool], chance: random.Random) -> None:
    """Containers that come and go as fast as they can; some come again under the same id."""
    libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    # An init begins in our cgroups, and one that others are in too would be told as its own for that moment: so we are
    # in none, and get what nobody else wants of the CPUs.
    enter([one.root for one in hierarchies()])
    os.nice(19)
    again = [f"{chance.getrandbits(224):056x}{MARK}" for _ in range(3)]
    slots: list[Container | None] = [None] * SLOTS
    try:
        while going():
            slot = chance.randrange(SLOTS)
            if one := slots[slot]:
                one.end()
                slots[slot] = None
                counts["killed"] += 1
            # The first slots are for those that come again.
            if slots[slot] is None and chance.random() < 0.9:
                slots[slot] = Container(chance, again[slot] if slot < len(again) else None)
                counts["started"] += 1
            for other in chance.sample(slots, 2):
                if other:
                    other.limits(chance)
    finally:
        for one in slots:
            if one:
                one.end()
                counts["killed"] += 1


def flood(going: Callable[[], bool], chance: random.Random) -> None:
    """Processes, until there may be no more, and all of them gone again."""
    enter([one for one in limited("flood", FLOOD, 0.3) if (one / "pids.max").exists()])
    while going():
        children = []
        try:
            while len(children) < 2 * FLOOD:
                pid = os.fork()
                if pid == 0:
                    signal.pause()
                    os._exit(0)
                children.append(pid)
                counts["forks"] += 1
        except BlockingIOError:
            counts["limit reached"] += 1
        for pid in children:
            os.kill(pid, signal.SIGKILL)
        for pid in children:
            os.waitpid(pid, 0)
        name_thyself(chance)


def rename(going: Callable[[], bool], chance: random.Random) -> None:
    """Names of processes and, on v1, which can do that, of cgroups; some of them look like containers."""
    names = [os.fsdecode(one.replace(b"\n", b" ").replace(b"/", b"|")) for one in HOSTILE]
    names += [f"{name}{MARK}" for name in ("", "docker-", "..", "a" * 200)]
    home = {name: parent / f"{'0' * 56}{MARK}" for name, parent in parents.items()}
    for directory in home.values():
        directory.mkdir(exist_ok=True)
        fill_cpuset(directory)
    here = {name: directory / "first" for name, directory in home.items()}
    for directory in here.values():
        directory.mkdir(exist_ok=True)
        fill_cpuset(directory)
    enter(list(here.values()))
    while going():
        name_thyself(chance)
        counts["renamed processes"] += 1
        name = chance.choice(list(here))
        target = home[name] / chance.choice(names)
        # v2 has no other names for a cgroup than its first.
        if name and target != here[name]:
            here[name].rename(target)
            here[name] = target
            counts["renamed cgroups"] += 1
        time.sleep(0.002)
    enter([parent.parent for parent in parents.values()])
    for directory in home.values():
        swept(directory)


# -- the storm ---------------------------------------------------------------------------------------------------------


def worker(work: Callable[[Callable[[], bool], random.Random], None], seed: int, stop: int, words: int) -> int:
    """A process that works until ``stop`` is closed, and then writes what it did."""
    pid = os.fork()
    if pid == 0:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        try:
            work(lambda: not select.select([stop], [], [], 0)[0], random.Random(seed))
            os.write(words, json.dumps(counts).encode() + b"\n")
        except BaseException as error:
            os.write(words, json.dumps(f"{work.__name__}: {type(error).__name__}: {error}").encode() + b"\n")
            raise
        finally:
            os._exit(0)
    return pid


def sweep() -> None:
    """Remove everything that has our mark, killing what is in it."""
    for one in hierarchies():
        places = [*(one.root / "docker").glob(f"*{MARK}"), *one.root.glob(f"storm-{MARK}-*")]
        for place in places:
            deadline = time.monotonic() + 20
            while not swept(place) and time.monotonic() < deadline:
                for directory, _, _ in os.walk(place):
                    kill_all(Path(directory))
                time.sleep(0.02)


def handed_down() -> list[tuple[Path, str]]:
    """On v2, hand every controller down to containers; what was not before."""
    changed = []
    for one in hierarchies():
        for directory in (one.root, one.root / "docker") if one.version == 2 else ():
            control = directory / "cgroup.subtree_control"
            for controller in (directory / "cgroup.controllers").read_text().split():
                if controller not in control.read_text().split():
                    with contextlib.suppress(OSError):
                        control.write_text(f"+{controller}")
                        changed.append((control, f"-{controller}"))
    return changed


def main() -> None:
    """See the module."""
    seed = int(sys.argv[1])
    sweep()
    os.nice(10)
    for parent in parents.values():
        parent.mkdir(exist_ok=True)
        fill_cpuset(parent)
    before = handed_down()
    try:
        storm(random.Random(seed), seed)
    finally:
        enter([one.root for one in hierarchies()])
        sweep()
        for parent in parents.values():
            removed(parent)  # stays where an engine uses it
        for control, word in reversed(before):
            with contextlib.suppress(OSError):
                control.write_text(word)


def storm(chance: random.Random, seed: int) -> None:
    """Begin, go on until we are told, and be still."""
    enter(limited("all", 1000, 0.8))
    steady = [Container(chance, busy=number % 2 == 0) for number in range(STEADY)]
    stopped, stop = os.pipe()
    heard, words = os.pipe()
    workers = [worker(make_and_kill, seed + number, stopped, words) for number in range(1, MAKERS + 1)]
    workers += [worker(work, seed, stopped, words) for work in (flood, rename)]
    print(json.dumps([one.id for one in steady]), flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        chance.choice(steady).limits(chance)
    sys.stdin.readline()
    os.write(stop, b"x")  # nobody reads it: all see it
    for pid in workers:
        os.waitpid(pid, 0)
    os.close(words)
    errors = []
    with os.fdopen(heard) as lines:
        for found in map(json.loads, lines):
            errors.append(found) if isinstance(found, str) else counts.update(found)
    print(json.dumps({"counts": counts, "errors": errors}), flush=True)
    sys.stdin.read()
    for one in steady:
        one.end()


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    main()
