"""Hosts that somebody made to be looked at: links out of the tree, what is no file, and more than there is room for.

Whatever is linked leads to the same place in a second tree, where inotify(7) tells of everything that is opened.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from click.testing import CliRunner

from nsinspect import nsfs
from nsinspect.cli import cli
from nsinspect.collect import Closely, Collector
from nsinspect.errors import RootError
from nsinspect.kernfs import Roots
from nsinspect.model import build
from nsinspect.snapshot import Snapshot
from tests.looks import EVERYTHING, HOSTS

PATIENCE = 300
"""Seconds after which a look hangs: of a busy machine, too; nothing here takes one of its own."""

_IN_OPEN = 0x20
_EVENT = struct.Struct("iIII")


@contextmanager
def opened(tree: Path) -> Iterator[set[str]]:
    """What the kernel says was opened in a tree meanwhile, by whomever and by whatever name."""
    libc = ctypes.CDLL(None, use_errno=True)
    fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
    assert fd >= 0
    watched = {}
    for folder in (tree, *(one for one in tree.rglob("*") if one.is_dir() and not one.is_symlink())):
        watched[libc.inotify_add_watch(fd, os.fsencode(folder), _IN_OPEN)] = folder
    assert -1 not in watched
    found: set[str] = set()
    try:
        yield found
        while True:
            try:
                data = os.read(fd, 1 << 20)
            except BlockingIOError:
                break
            while data:
                number, _, _, size = _EVENT.unpack_from(data)
                name = data[_EVENT.size : _EVENT.size + size].rstrip(b"\0").decode()
                found.add(str((watched[number] / name).relative_to(tree)))
                data = data[_EVENT.size + size :]
    finally:
        os.close(fd)


@pytest.fixture(autouse=True)
def _nobody_waits_for_ever() -> Iterator[None]:
    def late(*_: object) -> None:
        raise AssertionError("it hangs")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(PATIENCE)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@cache
def ids() -> tuple[str, str, str]:
    """Pid of its init and id of a container of the bundled host, and where Docker keeps its state there."""
    containers = build(Collector(Roots(root=str(HOSTS / "docker-hybrid"))).run()[0]).containers
    (folder,) = {path.parent.parent.parent for path in (HOSTS / "docker-hybrid").rglob("config.v2.json")}
    one = next(one for one in containers if (folder / "containers" / one.id).exists())
    return str(one.init.pid), one.id, str(folder.relative_to(HOSTS / "docker-hybrid"))


def place(level: str) -> str:
    """Where a level is on the bundled host."""
    pid, identity, docker = ids()
    return level.replace("PID", pid).replace("DOCKER", docker).replace("ID", identity)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A captured host and the same outside of it; whoever changes something puts it back."""
    host = captured(tmp_path_factory.mktemp("pair") / "host")
    return host, Path(shutil.copytree(host, host.parent / "outside", symlinks=True))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A captured host to change."""
    return captured(tmp_path / "host")


def captured(host: Path) -> Path:
    """One with something at every place that a look may read."""
    shutil.copytree(HOSTS / "docker-hybrid", host, symlinks=True)
    process = host / place("proc/PID")
    for name in ("task/77", "net", "fd", "attr"):
        (process / name).mkdir(parents=True)
    for name in ("stat", "status", "cgroup"):
        shutil.copy(process / name, process / "task/77")
    (process / "net/tcp").write_text("  sl  local_address rem_address\n")
    (process / "attr/current").write_text("unconfined\n")
    os.symlink("socket:[5]", process / "fd/0")
    os.symlink(process.name, host / "proc/self")
    return host


def whole_look(roots: Roots) -> Snapshot:
    """Everything that any command reads, at every process."""
    collector = Collector(roots, EVERYTHING)
    snapshot = collector.run()[0]
    pids = [one.pid for one in snapshot.processes]
    return collector.closer(snapshot, Closely(threads=pids, members=pids, networks=pids, sockets=pids, links=True))


@contextmanager
def linked(tree: Path, outside: Path, where: str) -> Iterator[None]:
    """The tree with one place moved out of it for a while, and a link to there in its stead."""
    there, kept = tree / where, tree.parent / "kept"
    there.rename(kept)
    there.symlink_to(outside / where)
    yield
    there.unlink()
    kept.rename(there)


# Of every level that is read one; PID is the init of a container, ID its id, and DOCKER where its engine keeps state.
LEVELS = (
    "proc",
    "proc/1",
    "proc/1/mountinfo",
    "proc/PID",
    "proc/PID/stat",
    "proc/PID/status",
    "proc/PID/cgroup",
    "proc/PID/ns",
    "proc/PID/attr",
    "proc/PID/net",
    "proc/PID/net/tcp",
    "proc/PID/fd",
    "proc/PID/task",
    "proc/PID/task/77",
    "proc/PID/mountinfo",
    "proc/PID/uid_map",
    "proc/stat",
    "proc/meminfo",
    "proc/uptime",
    "proc/sys",
    "proc/sys/kernel",
    "proc/sys/kernel/random",
    "proc/sys/kernel/hostname",
    "sys",
    "sys/devices",
    "sys/devices/system/cpu",
    "sys/devices/system/cpu/online",
    "sys/fs",
    "sys/fs/cgroup",
    "sys/fs/cgroup/pids",
    "sys/fs/cgroup/pids/docker",
    "sys/fs/cgroup/pids/docker/ID",
    "sys/fs/cgroup/pids/docker/ID/pids.max",
    "tmp",
    "DOCKER",
    "DOCKER/containers",
    "DOCKER/containers/ID",
    "DOCKER/containers/ID/config.v2.json",
)


@pytest.mark.parametrize("level", LEVELS)
def test_no_link_leads_out_of_a_tree(pair: tuple[Path, Path], level: str):
    """Fails without ``kernfs.Copied``, without ``Directory.below``, without RESOLVE_IN_ROOT in ``statefiles``, and with
    psutil reading a copy's stat and meminfo: each follows links on the way."""
    tree, outside = pair
    where = place(level)
    assert os.path.lexists(tree / where)
    # Where nothing is left of it there is no host.
    with linked(tree, outside, where), opened(outside) as found, contextlib.suppress(RootError):
        whole_look(Roots(root=str(tree)))
    assert found == set()


def test_what_is_opened_elsewhere_is_noticed(pair: tuple[Path, Path]):
    """Else the test above would prove nothing."""
    tree, outside = pair
    with linked(tree, outside, "proc"), opened(outside) as found:
        whole_look(Roots(root=str(tree), procfs_override=str(tree / "proc")))
    assert {"proc/1/stat", "proc/stat", "proc/meminfo", "proc/sys/kernel/hostname"} <= found


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        pytest.param("proc/1/mountinfo", " /sys/fs/cgroup/pids ", " /../outside/sys/fs/cgroup/pids ", id="mount point"),
        pytest.param("proc/1/mountinfo", " /sys/fs/cgroup/pids ", " {outside}/sys/fs/cgroup/pids ", id="absolute"),
        pytest.param("proc/1/mountinfo", " / /sys/fs/cgroup/pids ", " /../.. /sys/fs/cgroup/pids ", id="root"),
        pytest.param("proc/PID/cgroup", ":pids:/", ":pids:/../../../../../outside/sys/fs/cgroup/pids/", id="cgroup"),
        pytest.param("proc/PID/mountinfo", " /DOCKER/", " /../outside/DOCKER/", id="an engine's folder"),
    ],
)
def test_no_name_leads_out_of_a_tree(tree: Path, file: str, before: str, after: str):
    """Fails without ``Roots._split`` and ``hierarchies.relative``, which let no ".." through."""
    outside = tree.parent / "outside"
    shutil.copytree(tree, outside, symlinks=True)
    path = tree / place(file)
    text = path.read_text()
    assert place(before) in text
    path.write_text(text.replace(place(before), place(after).format(outside=outside)))
    with opened(outside) as found:
        whole_look(Roots(root=str(tree)))
        whole_look(Roots(root=str(tree), cgroupfs_override=str(tree / "sys/fs/cgroup")))
    assert found == set()


@pytest.mark.parametrize("target", ["../../outside/proc/1", "{outside}/proc/1", "..", "../self", "self"])
def test_self_is_one_of_the_processes(tree: Path, target: str):
    """Fails where the link's text is opened as it is, and not as one more name of a process."""
    outside = tree.parent / "outside"
    shutil.copytree(tree, outside, symlinks=True)
    (tree / "proc/1/mountinfo").unlink()
    (tree / "proc/self").unlink()
    (tree / "proc/self").symlink_to(target.format(outside=outside))
    with opened(outside) as found, pytest.raises(RootError, match="no readable 1/mountinfo or self/mountinfo"):
        whole_look(Roots(root=str(tree)))
    assert found == set()


# -- what is no file ---------------------------------------------------------------------------------------------------

OTHERS: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "fifo with a silent writer": lambda path: (os.mkfifo(path), WRITERS.append(os.open(path, os.O_RDWR))),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "folder": os.mkdir,
    "loop": lambda path: path.symlink_to(path.name),
    "a terabyte": lambda path: (path.touch(), os.truncate(path, 1 << 40)),
}
WRITERS: list[int] = []


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_file_costs_no_more_than_itself(tree: Path, other: str):
    """One after the other, every file that a look reads.  Fails without O_NONBLOCK, without O_NOFOLLOW, without
    ``MAX_BYTES``, and with psutil reading a copy's stat and meminfo."""
    levels = [level for level in LEVELS if (tree / place(level)).is_file()]
    assert len(levels) > 12
    for level in levels:
        path = tree / place(level)
        kept = path.read_bytes()
        path.unlink()
        OTHERS[other](path)
        assert len(whole_look(Roots(root=str(tree))).processes) > 5, level
        while WRITERS:
            os.close(WRITERS.pop())
        (path.rmdir if path.is_dir() and not path.is_symlink() else path.unlink)()
        path.write_bytes(kept)


# -- names that lie ----------------------------------------------------------------------------------------------------


def test_a_cgroup_that_a_container_made_is_no_container(tree: Path):
    """Fails where a cgroup's name alone makes a container (``spoofed`` in ``grouping``): its processes would be another
    one's, with limits that they set themselves."""
    before = build(whole_look(Roots(root=str(tree)))).containers
    false = "f" * 64
    file = tree / place("proc/PID/cgroup")
    lines = [f"{line}/docker-{false}.scope" for line in file.read_text().splitlines()]
    file.write_text("\n".join(lines) + "\n")
    model = build(whole_look(Roots(root=str(tree))))

    assert [(one.id, one.pids) for one in model.containers] == [(one.id, one.pids) for one in before]
    assert {issue.kind for issue in model.issues if false in issue.path} == {"spoofed"}


def test_a_link_to_a_namespace_is_only_its_name(tree: Path, monkeypatch: pytest.MonkeyPatch):
    """Fails where a copy's links are opened like a kernel's: each may lead to anything."""
    monkeypatch.setattr(nsfs, "os", None)
    assert whole_look(Roots(root=str(tree))).lineage.kin == {}


# Not one is what the kernel would write, and int() takes most of them.
NO_NUMBERS = ("²", "٣", "007", "+5", "-1", " 5", "1_000", "9" * 200, "4" * 11, "1.0", "x")


@pytest.mark.parametrize("folder", ["proc", "proc/PID/task", "proc/PID/fd"])
@pytest.mark.parametrize("state", ["S", "Z"])
def test_what_only_looks_like_a_number_is_no_process_thread_or_descriptor(tree: Path, folder: str, state: str):
    """Fails where ``Directory.numbers`` takes what int() takes, or what str.isdigit() calls a digit: a traceback, or a
    process twice.  Of one that is dead any thread that goes on is asked."""
    stat = tree / place("proc/PID/stat")
    stat.write_bytes(re.sub(rb"\) [A-Z] ", b") %s " % state.encode(), stat.read_bytes()))
    before = whole_look(Roots(root=str(tree)))
    for name in (*NO_NUMBERS, *(["0"] if not folder.endswith("fd") else [])):
        odd = tree / place(folder) / name
        if folder.endswith("fd"):
            odd.symlink_to("net:[4026531840]")
        else:
            shutil.copytree(tree / place("proc/PID/task/77"), odd)
    assert replace(whole_look(Roots(root=str(tree))), captured_at=before.captured_at) == before


# -- every command -----------------------------------------------------------------------------------------------------


def out_of(level: str) -> Callable[[Path], object]:
    """Makes a link out of the tree of it."""

    def work(tree: Path) -> None:
        (tree / place(level)).rename(tree.parent / "outside")
        (tree / place(level)).symlink_to(tree.parent / "outside")

    return work


def as_fifo(level: str) -> Callable[[Path], object]:
    """Makes a FIFO of a file."""

    def work(tree: Path) -> None:
        (tree / place(level)).unlink()
        os.mkfifo(tree / place(level))

    return work


TREES: dict[str, Callable[[Path], object]] = {
    **{level: out_of(level) for level in ("proc", "proc/PID", "sys/fs/cgroup", "DOCKER")},
    **{f"fifo at {level}": as_fifo(level) for level in ("proc/stat", "proc/PID/status", "proc/1/mountinfo")},
    "no host": lambda tree: shutil.rmtree(tree / "proc"),
    "processes without files": lambda tree: [(tree / f"proc/{pid}").mkdir() for pid in range(5000, 6000)],
}


@pytest.mark.parametrize("how", TREES)
def test_every_command_answers_of_every_tree(tree: Path, how: str):
    """With an answer or with one line, and never with a traceback."""
    pid, identity, _ = ids()
    TREES[how](tree)
    commands = [("list", "-a"), ("show", identity), ("pid", pid), ("ns",), ("caps", "-a"), ("drift",), ("net",)]
    for words in [*commands, ("findings",), ("capture", "-o", str(tree.parent / "capture"))]:
        done = CliRunner().invoke(cli, ("--root", str(tree), *words))
        assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exc_info)
        if done.exit_code not in (0, 1):
            assert done.exit_code in (3, 6), words
            assert re.fullmatch(r"nsinspect: [^\n]+\n", done.output), words
    for words in (("verify", str(tree)), ("diff", str(tree), str(tree))):
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == 6
        assert re.fullmatch(r"nsinspect: [^\n]+\n", done.output), words
