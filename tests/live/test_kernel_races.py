"""Containers that end, and others that take their place, while they are being read.

On this machine's own cgroups and processes; what happens just before which system call is chosen by the test, the rest
is the kernel's.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from nsinspect.collect import Collector
from nsinspect.grouping import group
from nsinspect.kernfs import Directory, Roots
from tests.live.engines import CGROUPS, cgroups_removed
from tests.seams import before_call

CHECKOUT = Path(__file__).parents[2]
MIB = 1 << 20
# Two lives of one cgroup, distinct in every limit.
Limits = dict[str, dict[str, Any]]
OLD: Limits = {
    "pids": {"pids.max": 111},
    "memory": {"memory.soft_limit_in_bytes": 11 * MIB, "memory.limit_in_bytes": 111 * MIB},
    "cpu": {"cpu.shares": 111, "cpu.cfs_period_us": 11_000, "cpu.cfs_quota_us": 111_000},
}
NEW: Limits = {
    "pids": {"pids.max": 222},
    "memory": {"memory.soft_limit_in_bytes": 22 * MIB, "memory.limit_in_bytes": 222 * MIB},
    "cpu": {"cpu.shares": 222, "cpu.cfs_period_us": 22_000, "cpu.cfs_quota_us": 222_000},
}


class Life:
    """Cgroups of v1 hierarchies named like a Docker container, with limits and one process in all of them."""

    def __init__(self, identity: str, *controllers: str) -> None:
        self.path = os.fsencode(f"/docker/{identity}")
        self.directories = {one: CGROUPS / one / "docker" / identity for one in controllers}
        self.pid = 0

    def begin(self, limits: Limits) -> None:
        """Make them, limit them and fork into them."""
        self.pid = os.fork()
        if self.pid == 0:
            signal.pause()
            os._exit(0)
        for controller, directory in self.directories.items():
            directory.mkdir(parents=True)
            for name, value in limits[controller].items():
                (directory / name).write_text(str(value))
            (directory / "cgroup.procs").write_text(str(self.pid))

    def end(self) -> None:
        """Kill, reap and remove; harmless when that was done."""
        if self.pid:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0
            for directory in self.directories.values():
                directory.rmdir()

    def replace(self) -> None:
        """Another container by the same name."""
        self.end()
        self.begin(NEW)

    def __enter__(self) -> Life:
        self.begin(OLD)
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


@pytest.fixture
def identity() -> Iterator[str]:
    """An id nobody else has."""
    name = uuid.uuid4().hex + uuid.uuid4().hex
    with cgroups_removed({name}):
        yield name


class Walk:
    """The collector's walk over the cgroups of some containers, with something done before one of its system calls."""

    def __init__(self, controllers: tuple[str, ...], lives: list[Life], moment: int, do: Callable[[], None]) -> None:
        self.collector = Collector(Roots())
        with Directory.root("/proc") as proc:
            processes = [self.collector.process(proc, life.pid) for life in lives]
            hierarchies = self.collector.hierarchies(self.collector.mounts(proc))
        self._hierarchies = tuple(one for one in hierarchies if set(one.controllers) & set(controllers))
        groups = group([one for one in processes if one is not None]).groups
        assert {one.match.path for one in groups} == {life.path for life in lives}
        with before_call(moment, do) as calls:
            self._found = self.collector.cgroups(self._hierarchies, groups)
            self.calls = calls()

    def limits_of(self, life: Life) -> Limits:
        """What was read, by controller; without those whose cgroup was not there."""
        read = {}
        for index, hierarchy in enumerate(self._hierarchies):
            cgroup = self._found.get((index, life.path))
            for controller in hierarchy.controllers if cgroup else ():
                assert cgroup
                assert cgroup.unknown == ()
                read[controller] = {name: cgroup.files.get(name) for name in OLD[controller]}
        return read


def calls_of(identity: str, *controllers: str) -> int:
    """How many system calls an undisturbed walk makes."""
    with Life(identity, *controllers) as life:
        walk = Walk(controllers, [life], 0, lambda: None)
    assert walk.limits_of(life) == {one: OLD[one] for one in controllers}
    return walk.calls


@pytest.mark.parametrize("controller", OLD)
def test_a_cgroup_removed_at_any_moment_is_gone_and_counted(controller: str, identity: str):
    """Never an error, never an issue, never half a cgroup: vanished, or read whole before it went."""
    outcomes = []
    for moment in range(1, calls_of(identity, controller) + 2):
        with Life(identity, controller) as life:
            walk = Walk((controller,), [life], moment, life.end)
            read = walk.limits_of(life)
        assert walk.collector.issues == []
        assert not walk.collector.refused
        assert read in ({}, {controller: OLD[controller]})
        outcomes.append((bool(read), walk.collector.vanished))

    # Removed before its last file was read, it is gone: a file that is there no more is not one the kernel lacks.
    assert set(outcomes[:-1]) == {(False, 1)}
    assert outcomes[-1] == (True, 0)


@pytest.mark.parametrize("controller", OLD)
def test_a_cgroup_that_was_replaced_is_never_read_half_and_half(controller: str, identity: str):
    """Removed and made again with other limits while it is held: gone, or all of the one, or all of the other."""
    kinds = []
    for moment in range(1, calls_of(identity, controller) + 2):
        with Life(identity, controller) as life:
            walk = Walk((controller,), [life], moment, life.replace)
            read = walk.limits_of(life)
        assert walk.collector.issues == []
        assert read in ({}, {controller: OLD[controller]}, {controller: NEW[controller]})
        assert walk.collector.vanished == (0 if read else 1)
        kinds.append("gone" if not read else "old" if read[controller] == OLD[controller] else "new")

    # In this order, because what was done is done later and later.
    assert list(dict.fromkeys(kinds)) == ["new", "gone", "old"]


def test_a_container_that_ends_at_any_moment_of_the_walk_disturbs_no_other(identity: str):
    """Two containers in every hierarchy: the one that ends may be missing, the other never is."""
    controllers = tuple(OLD)
    other = uuid.uuid4().hex + uuid.uuid4().hex
    whole = {one: OLD[one] for one in controllers}
    kinds = set()
    with cgroups_removed({other}):
        for moment in range(1, 2 * calls_of(identity, *controllers) + 1):
            with Life(identity, *controllers) as ends, Life(other, *controllers) as stays:
                walk = Walk(controllers, [ends, stays], moment, ends.end)
                read = walk.limits_of(ends)
                assert walk.limits_of(stays) == whole
            assert walk.collector.issues == []
            assert walk.collector.vanished == len(controllers) - len(read)
            assert read == {one: OLD[one] for one in read}
            kinds.add(len(read))

    assert kinds == set(range(len(controllers) + 1))


# -- another process by the same number ----------------------------------------------------------------------------


REUSE = r'''
import ctypes, json, os, signal, sys, time
from tests.seams import before_call
from nsinspect.collect import Collector, collect
from nsinspect.kernfs import Directory, Roots

libc = ctypes.CDLL(None, use_errno=True)
mode, cgroups, folder = sys.argv[1], sys.argv[2].split(":"), sys.argv[3]
NEWNS, NEWUTS, PRIVATE = 0x20000, 0x4000000, (1 << 18) | (1 << 14)

held = []

def check(value):
    if value:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

def start(name, uid):
    """A process whose every fact says its name: comm, uid, uts namespace, mount table."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            check(libc.unshare(NEWNS | NEWUTS))
            check(libc.mount(None, b"/", None, ctypes.c_ulong(PRIVATE), None))
            check(libc.mount(("mount-" + name).encode(), folder.encode(), b"tmpfs", ctypes.c_ulong(0), None))
            for cgroup in cgroups:
                open(cgroup + "/cgroup.procs", "w").write("0")
            open("/proc/self/comm", "w").write(name)
            os.setresuid(uid, uid, uid)
            os.write(write, os.readlink("/proc/self/ns/uts").encode())
            os.close(write)
            signal.pause()
        finally:
            os._exit(1)
    os.close(write)
    link = os.read(read, 100)
    os.close(read)
    # Held, so that no later one gets its inode.
    held.append(os.open(f"/proc/{pid}/ns/uts", os.O_RDONLY))
    assert link.startswith(b"uts:["), (name, link)
    return pid, int(link[5:-1])

def stop(pid):
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)

def whose(process, confinement, uts):
    """Which of the two each fact is of."""
    facts = {"comm": process.comm.decode(), "uts": uts.get(process.namespaces.uts)}
    if process.status is not None:
        facts["uid"] = {1001: "old", 1002: "new"}.get(process.status.uid.effective)
    if confinement is not None and confinement.mounts is not None:
        sources = [m.source.decode() for m in confinement.mounts if m.source.startswith(b"mount-")]
        facts["mounts"] = sources[-1].removeprefix("mount-") if sources else None
    return facts

def once(moment):
    # At the start of a clock tick, so that the two may have one start time.
    time.sleep(0.01 - time.clock_gettime(time.CLOCK_BOOTTIME) % 0.01)
    old, inode = start("old", 1001)
    uts, now = {inode: "old"}, [old]
    def reuse():
        stop(old)
        now.clear()
        with open("/proc/sys/kernel/ns_last_pid", "w") as file:
            file.write(str(old - 1))
        new, inode = start("new", 1002)
        now.append(new)
        assert new == old, (new, old)
        uts[inode] = "new"
    found = None
    with before_call(moment, reuse) as calls:
        if mode == "process":
            collector = Collector(Roots())
            with Directory.root("/proc") as proc:
                process = collector.process(proc, old)
            found = process and whose(process, None, uts)
        else:
            snapshot = collect(Roots())
            process = next((p for p in snapshot.processes if p.pid == old), None)
            found = process and whose(process, snapshot.confinements.get(old), uts)
        made = calls()
    for pid in now:
        stop(pid)
    while held:
        os.close(held.pop())
    return found, made

outcomes, moment, step = [], 1, int(sys.argv[4])
while True:
    found, made = once(moment)
    outcomes.append([moment, found])
    if moment > made:
        break
    moment += step
print(json.dumps(outcomes))
'''


def reuse(mode: str, cgroups: list[Path], folder: Path, step: int) -> list[tuple[int, dict[str, Any] | None]]:
    """Run the above in a pid namespace of its own, where the next pid can be chosen; what was found at each moment."""
    command = ["unshare", "--pid", "--fork", "--kill-child", "--mount", "--mount-proc", sys.executable, "-c", REUSE]
    command += [mode, ":".join(map(str, cgroups)), str(folder), str(step)]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=180, env=environment, cwd=CHECKOUT
    )
    assert done.returncode == 0, done.stderr.decode()
    found: list[tuple[int, dict[str, Any] | None]] = json.loads(done.stdout)
    return found


def test_a_process_is_never_mixed_with_the_next_of_its_pid(tmp_path: Path):
    """The pid is another's before any of the calls that read it: gone, or all of the one, or all of the other."""
    outcomes = reuse("process", [], tmp_path, 1)
    seen = {tuple(sorted(set(facts.values()))) if facts else "gone" for _, facts in outcomes}

    assert seen == {("new",), "gone", ("old",)}


def test_a_container_is_never_mixed_with_the_next_process_of_its_inits_pid(identity: str, tmp_path: Path):
    """Over a whole scan: what was read of init at first and what is read of it later are of one process."""
    cgroups = [CGROUPS / controller / "docker" / identity for controller in OLD]
    for cgroup in cgroups:
        cgroup.mkdir(parents=True)
    deadline = time.monotonic() + 60
    outcomes = reuse("scan", cgroups, tmp_path, 2)
    mixed = {moment: facts for moment, facts in outcomes if facts and len(set(facts.values())) > 1}

    assert time.monotonic() < deadline
    assert mixed == {}
    assert {"old", "new"} <= {facts["comm"] for _, facts in outcomes if facts}
    # The closer look was taken, or nothing was tested.
    assert [facts for _, facts in outcomes if facts and "mounts" in facts]
