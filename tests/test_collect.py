"""The collector against a kernel in motion: processes that exit and files that fail while they are read."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import pytest

from nsinspect import kernfs
from nsinspect.collect import Collector, Depth, collect, collect_and_group
from nsinspect.kernfs import Directory, Roots
from nsinspect.model import build
from nsinspect.namespaces import LINKS, UNKNOWN
from tests.seams import before_call

T = TypeVar("T")
HOSTS = Path(__file__).parent / "fixtures/hosts"


@contextmanager
def child() -> Iterator[int]:
    """A process of ours that waits to be killed."""
    # Not a fork, which copies the page tables of a test run for each of a thousand.
    pid = os.posix_spawn("/bin/sleep", ["sleep", "1000"], os.environ)
    try:
        yield pid
    finally:
        kill_and_reap(pid)


def kill_and_reap(pid: int) -> None:
    """Make a child vanish entirely; harmless when it has."""
    try:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    except (ProcessLookupError, ChildProcessError):
        pass


def test_a_process_that_exits_at_any_moment_of_a_scan_is_dropped_and_counted():
    """A thousand processes die before each of the calls that read them, and none raises or half appears."""
    outcomes = set()
    for number in range(1000):
        collector = Collector(Roots())
        moment = number % 16 + 1
        with (
            child() as pid,
            Directory.root("/proc") as proc,
            before_call(moment, lambda pid=pid: kill_and_reap(pid)),
        ):
            found = collector.process(proc, pid)
        # Every moment up to the last call ends in "gone"; after it the process was read whole.
        outcomes.add((found is None, collector.vanished))
        assert collector.issues == []
        assert not collector.refused

    assert outcomes == {(True, 1), (False, 0)}


def test_a_zombie_is_a_process_without_namespaces():
    """Its links are gone, its status is not: that is no failure."""
    collector = Collector(Roots())
    with child() as pid, Directory.root("/proc") as proc:
        os.kill(pid, signal.SIGKILL)
        while b") Z " not in Path(f"/proc/{pid}/stat").read_bytes():
            time.sleep(0.001)
        found = collector.process(proc, pid)

    assert found is not None
    assert found.state == "Z"
    assert (found.namespaces.net, found.namespaces.mnt) == (None, None)
    assert (collector.vanished, collector.refused) == (0, {})


LEADERLESS = """
import ctypes, threading, time
threading.Thread(target=time.sleep, args=(60,)).start()
ctypes.CDLL(None).pthread_exit(None)
"""


def test_a_process_whose_first_thread_has_ended_is_seen_through_one_that_goes_on():
    """The kernel calls it a zombie and shows no cgroup and no namespaces of it, though it is as alive as any."""
    collector = Collector(Roots())
    with subprocess.Popen([sys.executable, "-c", LEADERLESS]) as process, Directory.root("/proc") as proc:
        try:
            while b") Z " not in Path(f"/proc/{process.pid}/stat").read_bytes():
                time.sleep(0.001)
            found, mine = collector.process(proc, process.pid), collector.process(proc, os.getpid())
            assert found is not None
            assert mine is not None
            assert found.state in "SR"
            assert found.speaker not in (None, process.pid)
            assert (found.namespaces, found.cgroup) == (mine.namespaces, mine.cgroup)
            with collector.again(proc, found) as thread:
                assert thread.readlinks(LINKS) == tuple(os.readlink(b"/proc/self/" + name) for name in LINKS)
        finally:
            process.kill()


def test_the_whole_of_this_machine_can_be_looked_at():
    """A live collect of whatever runs here never raises, and finds the process that asks."""
    snapshot = collect(Roots())

    assert os.getpid() in {process.pid for process in snapshot.processes}
    build(snapshot)


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A copy of a bundled host that a test may change."""
    return Path(shutil.copytree(HOSTS / "docker-hybrid", tmp_path / "host", symlinks=True))


def test_what_one_process_refuses_hides_no_other(host: Path, monkeypatch: pytest.MonkeyPatch):
    """Namespaces of one process that may not be read are unknown, with one issue; all others are known."""
    before = collect(Roots(root=str(host)))
    victim = before.processes[-1].pid
    real = kernfs._readlink

    def refusing(name: bytes, *, dir_fd: int) -> bytes:
        if f"/{victim}" in os.readlink(f"/proc/self/fd/{dir_fd}"):
            raise PermissionError(13, "Permission denied")
        return real(name, dir_fd=dir_fd)

    monkeypatch.setattr(kernfs, "_readlink", refusing)
    after = collect(Roots(root=str(host)))
    unknown = [process.pid for process in after.processes if process.namespaces == UNKNOWN and process.pid != 1]
    (issue,) = after.issues

    assert unknown == [victim]
    assert (issue.kind, issue.path, issue.pids) == ("denied", f"{host}/proc/{victim}/ns", (victim,))


def test_many_refusals_of_one_kind_are_one_issue(host: Path, monkeypatch: pytest.MonkeyPatch):
    """Without root there is one line about a thousand processes, not a thousand lines."""

    def refusing(name: bytes, *, dir_fd: int) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(kernfs, "_readlink", refusing)
    snapshot = collect(Roots(root=str(host)))
    (issue,) = snapshot.issues

    assert issue.path == f"{host}/proc/<pid>/ns"
    assert len(issue.pids) == len(list(host.glob("proc/[0-9]*/ns"))) == len(snapshot.processes) - 1


def test_a_cgroup_that_was_removed_is_counted_not_fatal(host: Path):
    """The other hierarchies of the same container are still read."""
    gone = next(host.glob("sys/fs/cgroup/memory/docker/*/memory.limit_in_bytes")).parent
    shutil.rmtree(gone)
    snapshot = collect(Roots(root=str(host)))
    model = build(snapshot)
    (container,) = [c for c in model.containers if c.id == gone.name]

    assert snapshot.vanished == 1
    assert container.limits.memory.max_bytes is None
    assert container.limits.effective_memory.max.value is None
    assert container.limits.pids is not None


def test_limits_of_a_container_that_ended_meanwhile_are_not_told(host: Path):
    """An engine that restarts one makes a cgroup of the same name, and what is read there may be the next one's."""
    usual = {c.id: c.limits for c in build(collect(Roots(root=str(host)))).containers}
    ended = build(collect(Roots(root=str(host)))).containers[0]

    def attempt(name: str, work: Callable[[], T], default: T) -> T:
        found = work()
        if name == "cgroups":
            shutil.rmtree(host / f"proc/{ended.init.pid}")
        return found

    snapshot, grouping = collect_and_group(Roots(root=str(host)), Depth(), attempt=attempt)
    model = build(snapshot, grouping)

    assert usual[ended.id].memory.max_bytes is not None
    for one in model.containers:
        if one.id == ended.id:
            assert (one.limits.memory.max_bytes, one.limits.pids, one.usage.memory_bytes) == (None, None, None)
        else:
            assert one.limits == usual[one.id]
    assert snapshot.vanished == 1


@pytest.mark.parametrize("garbage", [b"", b"\0\0\0", b"\xff" * 100, b"x" * (1 << 20), b"-1\n-1\n", b"9" * 400])
def test_garbage_in_any_file_costs_that_fact_and_nothing_else(host: Path, garbage: bytes):
    """Whatever file holds garbage, every container is still there."""
    usual = {c.id for c in build(collect(Roots(root=str(host)))).containers}
    files = [
        p
        for p in host.rglob("*")
        if p.is_file() and not p.is_symlink() and p.name not in ("cgroup", "mountinfo", "stat")
    ]
    # One of each name; of a container where there is one.
    for path in {path.name: path for path in sorted(files, key=lambda p: ("docker" in p.parts, p))}.values():
        before = path.read_bytes()
        path.write_bytes(garbage)
        assert {c.id for c in build(collect(Roots(root=str(host)))).containers} == usual, path
        path.write_bytes(before)


@pytest.mark.parametrize("instead", ["fifo", "directory", "loop", "outside"])
def test_what_is_no_file_neither_hangs_nor_leads_out(host: Path, instead: str, tmp_path: Path):
    """A FIFO, a directory, a link loop or a link out of the tree in place of a file is refused."""
    secret = tmp_path / "secret"
    secret.write_text("4242\n")
    limit = next(host.glob("sys/fs/cgroup/pids/docker/*/pids.max"))
    limit.unlink()
    match instead:
        case "fifo":
            os.mkfifo(limit)
        case "directory":
            limit.mkdir()
        case "loop":
            limit.symlink_to(limit.name)
        case "outside":
            limit.symlink_to(secret)
    model = build(collect(Roots(root=str(host))))
    (container,) = [c for c in model.containers if c.id == limit.parent.name]

    assert container.limits.pids is None
    assert any(str(limit) in issue.path for issue in model.issues)


def test_a_refused_label_leaves_it_open_whether_a_container_is_privileged(tmp_path: Path, monkeypatch):
    """That attr/current may not be read is another answer than that no security module is there."""
    root = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    (usual,) = [c for c in build(collect(Roots(root=str(root)))).containers if c.security.privileged]
    real = kernfs._open

    def refusing(name: str, flags: int, *, dir_fd: int) -> int:
        if name == "current":
            raise PermissionError(13, "Permission denied")
        return real(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(kernfs, "_open", refusing)
    snapshot = collect(Roots(root=str(root)))
    (found,) = [c for c in build(snapshot).containers if c.id == usual.id]

    assert {confinement.label_known for confinement in snapshot.confinements.values()} == {False}
    assert (found.security.lsm_label, found.security.privileged, found.security.privileged_why) == (None, None, ())
    assert ("denied", f"{root}/proc/<pid>/attr/current") in {(i.kind, i.path) for i in snapshot.issues}


def test_a_host_without_a_security_module_is_known_to_have_none(host: Path):
    """No attr/current at all is an answer."""
    snapshot = collect(Roots(root=str(host)))

    assert snapshot.confinements
    assert {(c.lsm_label, c.label_known) for c in snapshot.confinements.values()} == {(None, True)}


def test_only_decimal_names_below_proc_are_processes(host: Path):
    """A captured folder called by a digit of another kind is no process, and no reason to stop."""
    before = collect(Roots(root=str(host)))
    for name in ("\u00b2", "\u0661", "1x", "-1"):
        (host / "proc" / name).mkdir()

    assert collect(Roots(root=str(host))).processes == before.processes


def test_a_short_meminfo_is_no_reason_to_warn(host: Path):
    """Only the total is asked for, so fields that are missing concern nobody."""
    (host / "proc/meminfo").write_text("MemTotal:       2048 kB\nMemFree:        1024 kB\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        snapshot = collect(Roots(root=str(host)))

    assert snapshot.host.memory_bytes == 2048 << 10
    assert (caught, snapshot.issues) == ([], ())


def test_a_cgroup_path_with_a_nul_leads_nowhere(host: Path):
    """A captured file may hold what no kernel writes; every container is still there."""
    usual = build(collect(Roots(root=str(host)))).containers
    path = host / f"proc/{usual[0].init.pid}/cgroup"
    path.write_bytes(path.read_bytes().replace(b"cpuset:/", b"cpuset:/\0/"))
    found = build(collect(Roots(root=str(host)))).containers

    assert [c.id for c in found] == [c.id for c in usual]
    assert usual[0].limits.effective_cpu.cpuset is not None
    assert found[0].limits.effective_cpu.cpuset is None


@pytest.mark.parametrize(
    ("pattern", "before"),
    [
        pytest.param("proc/{pid}/stat", rb"\) \S(?: -?\d+){18} ", id="starttime"),
        pytest.param("sys/fs/cgroup{path}/cpu.stat", rb"usage_usec ", id="usage_usec"),
        pytest.param("proc/uptime", rb"^", id="uptime"),
        pytest.param("proc/stat", rb"btime ", id="btime"),
    ],
)
def test_a_number_of_400_digits_hides_no_other_container(tmp_path: Path, pattern: str, before: bytes):
    """No float can hold it; it is damage, is told once, and costs at most the process that it is about."""
    root = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    victim, *others = build(collect(Roots(root=str(root)))).containers
    path = root / pattern.format(pid=victim.init.pid, path=victim.cgroup_path.decode())
    damaged, count = re.subn(b"(%b)\\d+" % before, rb"\g<1>" + b"9" * 400, path.read_bytes())
    path.write_bytes(damaged)
    model = build(collect(Roots(root=str(root))))

    assert count == 1
    assert [(i.kind, i.path) for i in model.issues if i.kind != "not_offered"] == [("malformed", str(path))]
    assert {c.id for c in others} <= {c.id for c in model.containers}
    (found,) = [c for c in model.containers if c.id == victim.id] or [None]
    if found is None:
        assert path.parent.name == str(victim.init.pid)
    elif path.name == "cpu.stat":
        assert victim.usage.cpu_seconds is not None
        assert found.usage.cpu_seconds is None


@pytest.mark.parametrize("btime", [b"9" * 400, b"-5", b"nan"], ids=["400 digits", "negative", "nan"])
def test_a_boot_that_no_clock_shows_is_unknown(host: Path, btime: bytes):
    """With its issue goes no number, so that no start of a container is computed from it."""
    path = host / "proc/stat"
    path.write_bytes(re.sub(rb"btime \d+", b"btime " + btime, path.read_bytes()))
    snapshot = collect(Roots(root=str(host)))

    assert [issue.path for issue in snapshot.issues] == [str(path)]
    assert snapshot.host.boot_time is None
    assert {c.init.started_at for c in build(snapshot).containers} == {None}


def test_a_machine_without_a_cpu_is_damage_and_no_limit(host: Path):
    """An empty cpuset is an answer; an empty list of CPUs that are online is none, and nobody has zero cores of it."""
    (host / "sys/devices/system/cpu/online").write_bytes(b"\n")
    snapshot = collect(Roots(root=str(host)))

    assert snapshot.host.cpus_online is None
    assert [issue.kind for issue in snapshot.issues] == ["malformed"]
    assert 0 not in {c.limits.effective_cpu.cores for c in build(snapshot).containers}


@pytest.mark.parametrize("file", ["stat", "cgroup"])
@pytest.mark.parametrize("content", [None, b""], ids=["missing", "empty"])
def test_a_process_never_leaves_its_container_silently(host: Path, file: str, content: bytes | None):
    """A copy may lack what says that it is a process, or of which container."""
    (usual,) = [c for c in build(collect(Roots(root=str(host)))).containers if c.name == "web"]
    victim = usual.pids[-1]
    path = host / f"proc/{victim}/{file}"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    model = build(collect(Roots(root=str(host))))
    (found,) = [c for c in model.containers if c.id == usual.id]

    assert found.pids == usual.pids[:-1]
    assert [(issue.kind, issue.path, issue.pids) for issue in model.issues] == [("malformed", str(path), (victim,))]


@pytest.mark.parametrize("number", [errno.ESRCH, errno.ENODEV])
def test_a_hierarchy_that_goes_away_hides_no_container(host: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    """Unmounted just when its controllers are asked for: counted, like any cgroup that went."""
    usual = build(collect(Roots(root=str(host)))).containers
    real = kernfs._open

    def gone(name: str, flags: int, *, dir_fd: int) -> int:
        if name == "cgroup.controllers":
            raise OSError(number, os.strerror(number))
        return real(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(kernfs, "_open", gone)
    snapshot = collect(Roots(root=str(host)))

    assert (snapshot.vanished, snapshot.issues) == (1, ())
    assert [c.limits for c in build(snapshot).containers] == [c.limits for c in usual]


@pytest.mark.parametrize("words", [b"\0" * 40, b"cpu \x1b[31m\n", b"\xff\n", b"x" * (1 << 20)])
def test_a_controller_has_a_name(host: Path, words: bytes):
    """It becomes a key of a document, so it is not for a damaged file to choose."""
    (host / "sys/fs/cgroup/unified/cgroup.controllers").write_bytes(words)
    model = build(collect(Roots(root=str(host))))

    assert [issue.kind for issue in model.issues if issue.kind != "not_offered"] == ["malformed"]
    assert all(len(key) < 40 and key.isprintable() for c in model.containers for key in c.cgroup_paths)
