"""A bundled host with one thing wrong in one of its files, and what is told of it then."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nsinspect import kernfs, statefiles
from nsinspect.collect import Collector, Depth
from nsinspect.errors import RootError
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.finding import FINDING
from nsinspect.fields.host import HOST
from nsinspect.fields.network import NETWORK
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build
from nsinspect.networks import network_of, networks
from nsinspect.scrutiny import findings
from nsinspect.snapshot import Issue
from nsinspect.views import document
from tests.looks import EVERYTHING, HOSTS
from tests.test_procnet import DEV, HEADING_4, HEADING_6, LISTENS, LO, SIX, UDP, UDP_HEADING

# What hosts are asked for and what no capture bundled here has, as a kernel writes it.
NETWORK_FILES = {
    "dev": DEV + LO,
    "sockstat": b"sockets: used 9\nTCP: inuse 1 orphan 0 tw 0 alloc 1 mem 0\nUDP: inuse 1 mem 0\n",
    "sockstat6": b"TCP6: inuse 1\nUDP6: inuse 1\n",
    "tcp": HEADING_4 + LISTENS,
    "tcp6": HEADING_6 + SIX,
    "udp": UDP_HEADING + UDP,
    "udp6": UDP_HEADING,
}
HUGE = dict.fromkeys(("hugetlb.2MB.max", "hugetlb.1GB.max"), b"max\n")
HUGE_V1 = dict.fromkeys(("hugetlb.2MB.limit_in_bytes", "hugetlb.1GB.limit_in_bytes"), b"9223372036854771712\n")
PRESSURE = b"some avg10=0.00 avg60=0.00 avg300=0.00 total=12\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=3\n"
V2 = {
    **HUGE,
    **dict.fromkeys(("cpu.pressure", "memory.pressure", "io.pressure"), PRESSURE),
    **dict.fromkeys(("cpuset.cpus", "cpuset.cpus.effective"), b"0-1\n"),
    "io.weight": b"default 100\n",
}
LINKS = {"exe": "/bin/sleep", "cwd": "/", "ns/time": "time:[4026531834]"}
# Controllers that a captured host was without: where they are named, and their files.
MORE: dict[str, tuple[str, bytes, bytes, dict[str, dict[str, bytes]]]] = {
    "podman-v2": (
        "sys/fs/cgroup/cgroup.controllers",
        b"cpu ",
        b"cpu cpuset hugetlb ",
        {"libpod_parent/libpod-*": V2, "libpod_parent": {"cpuset.cpus.effective": b"0-1\n"}},
    ),
    "docker-hybrid": (
        "proc/1/mountinfo",
        b"rw,devices",
        b"rw,devices,hugetlb",
        {"devices/docker/*": HUGE_V1, "unified/docker/*": HUGE},
    ),
}
LEFT_OUT = {"podman-v2": (b"libpod-d58",), "docker-hybrid": (b"/docker/6", b"/docker/d")}


class Told(NamedTuple):
    """What is told of a host: of each container by its id, and what could not be learnt."""

    host: dict[str, Any]
    containers: dict[str, dict[str, Any]]
    pids: frozenset[int]
    issues: tuple[Issue, ...]
    vanished: int
    model: Model


class Seen:
    """A witness that only remembers what was read: each kind of file, and where it is."""

    def __init__(self, root: str) -> None:
        self.root = root
        self.paths: dict[str, list[str]] = {}

    def watch(self, kind: str, path: str, work: Callable[[], Any]) -> Any:
        """See :class:`nsinspect.kernfs.Witness`."""
        own = path if kind == "state" else path.removeprefix(self.root)
        if own not in self.paths.setdefault(kind_of(own), []):
            self.paths[kind_of(own)].append(own)
        return work()

    def failed(self, path: str, number: int | None) -> None:
        """See :class:`nsinspect.kernfs.Witness`."""


def kind_of(path: str) -> str:
    """A path without what is one process', cgroup's or container's own."""
    if "/cgroup/" in path:
        above = "/libpod-" not in path and "/docker/" not in path
        return f"{'above' if above else 'cgroup'}/{path.rpartition('/')[2]}"
    # The mount table of PID 1 is the host's, by which everything else is found.
    path = re.sub(r"/proc/(?!1/mountinfo)\d+", "/proc/PID", path)
    path = re.sub(r"/task/\d+", "/task/TID", path)
    path = re.sub(r"/fd/\d+", "/fd/FD", path)
    path = re.sub(r"[0-9a-f]{64}", "ID", re.sub("/tmp/tmp[^/]*", "/var/lib/docker", path))
    return path.lstrip("/")


def whole(name: str, place: Path) -> Path:
    """A copy of a bundled host with every file that can be asked for, and two containers: one to damage, and one that
    must not suffer from it."""
    root = Path(shutil.copytree(HOSTS / name, place / name, symlinks=True))
    for process in root.glob("proc/[0-9]*"):
        if any(one in (process / "cgroup").read_bytes() for one in LEFT_OUT[name]):
            shutil.rmtree(process)
        else:
            _complete(process)
    file = root / MORE[name][0]
    file.write_bytes(file.read_bytes().replace(*MORE[name][1:3]))
    for pattern, files in MORE[name][3].items():
        for cgroup in root.glob(f"sys/fs/cgroup/{pattern}"):
            for control, content in files.items():
                put(cgroup / control, content)
    return root


def _complete(process: Path) -> None:
    # A socket for each network namespace, as the kernel numbers them.
    link = process / "ns/net"
    inode = os.readlink(link)[5:-1] if link.is_symlink() else "1"
    for file, content in NETWORK_FILES.items():
        put(process / "net" / file, content.replace(b"7532106", inode.encode()))
    put(process / "attr/current", b"unconfined\n")
    for name, target in {**LINKS, "fd/3": f"socket:[{inode}]"}.items():
        (process / name).parent.mkdir(exist_ok=True)
        if not os.path.lexists(process / name):
            (process / name).symlink_to(target)
    thread = process / "task" / str(int(process.name) + 5000)
    for part in ("stat", "status", "attr/current"):
        put(thread / part, (process / part).read_bytes())
    shutil.copytree(process / "ns", thread / "ns", symlinks=True)


def put(path: Path, content: bytes) -> None:
    """A file, with the folders it needs."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def tell(root: Path, depth: Depth = EVERYTHING) -> Told | None:
    """Everything that can be told of a host; ``None`` where it is refused as a host."""
    try:
        snapshot, grouping = Collector(Roots(root=str(root)), depth).run()
    except RootError:
        return None
    model = build(snapshot, grouping)
    nets = networks(snapshot, model)
    odd = findings(snapshot, model)
    containers = {}
    for one in model.containers:
        if one.kind == "container":
            net = network_of(one, nets)
            containers[one.id] = {
                **document._object(CONTAINER, one),
                "network": net and document._object(NETWORK, net),
                "findings": [document._object(FINDING, f) for f in odd if f.container == one.id],
            }
    host = document._object(HOST, model.host)
    pids = frozenset(process.pid for process in snapshot.processes)
    return Told(host, containers, pids, snapshot.issues, snapshot.vanished, model)


def changes(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Where two documents differ, each place with both values."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in {**before, **after}:
            yield from changes(before.get(key), after.get(key), f"{path}.{key}" if path else key)
    elif before != after:
        yield path, before, after


# -- what can be wrong ---------------------------------------------------------------------------------------------

LINE = 1 << 20
Fault = Callable[[Path, pytest.MonkeyPatch], None]


def holding(change: Callable[[bytes], bytes]) -> Fault:
    """The file holds something else; a link leads to something else."""

    def make(path: Path, patch: pytest.MonkeyPatch) -> None:
        if not path.is_symlink():
            path.write_bytes(change(path.read_bytes()))
            return
        target = os.readlink(os.fsencode(path))
        path.unlink()
        # A link holds neither nothing, nor a NUL, nor more than a page.
        os.symlink(change(target).replace(b"\0", b"\1")[:4000] or b" ", os.fsencode(path))

    return make


def replaced(make: Callable[[Path], object]) -> Fault:
    """Something else is there."""

    def instead(path: Path, patch: pytest.MonkeyPatch) -> None:
        path.unlink()
        make(path)

    return instead


class Refusal:
    """In the place of the kernel, which has no such answer on demand: in each of the three ways that files are read.

    With no errno there is always more to read.
    """

    def __init__(self, number: int, when: str) -> None:
        self.number, self.when = number, when
        self.path = Path()
        self.chosen: set[int] = set()
        self.real: dict[str, Any] = {}

    def __call__(self, path: Path, patch: pytest.MonkeyPatch) -> None:
        """Begin."""
        self.path = path
        self.chosen.clear()
        places: tuple[tuple[Any, str, Any], ...] = (
            (kernfs, "_open", self.open),
            (kernfs, "_read", lambda fd, size: self.read("_read", fd, size)),
            (kernfs, "_readlink", self.readlink),
            (statefiles, "_open_in_root", self.open_in_root),
            (statefiles.os, "read", lambda fd, size: self.read("read", fd, size)),
        )
        for module, name, call in places:
            self.real[name] = getattr(module, name)
            patch.setattr(module, name, call)

    def refuse(self) -> None:
        """Fail as was asked."""
        raise OSError(self.number, os.strerror(self.number))

    def opened(self, meant: bool, really: Callable[[], int]) -> int:
        """A descriptor, remembered where it is of the file that is meant."""
        if meant and self.when == "open":
            self.refuse()
        fd = really()
        # What was read before may have had this number.
        self.chosen.discard(fd)
        if meant:
            self.chosen.add(fd)
        return fd

    def meant(self, name: str, dir_fd: int) -> bool:
        """Whether it is this file; a cgroup may be called ``.``."""
        last = name.rpartition("/")[2]
        return last == self.path.name and Path(os.readlink(f"/proc/self/fd/{dir_fd}"), name) == self.path

    def open(self, name: str, flags: int, *, dir_fd: int) -> int:
        """For :mod:`nsinspect.kernfs`."""
        return self.opened(self.meant(name, dir_fd), lambda: self.real["_open"](name, flags, dir_fd=dir_fd))

    def open_in_root(self, top: int, name: str, flags: int) -> int:
        """For :mod:`nsinspect.statefiles`."""
        return self.opened(str(self.path).endswith(name), lambda: self.real["_open_in_root"](top, name, flags))

    def read(self, reader: str, fd: int, size: int) -> bytes:
        """For both."""
        if fd in self.chosen:
            if self.number:
                self.refuse()
            return b"7" * size
        found: bytes = self.real[reader](fd, size)
        return found

    def readlink(self, name: bytes, *, dir_fd: int) -> bytes:
        """Where a link leads."""
        if self.meant(os.fsdecode(name), dir_fd):
            self.refuse()
        found: bytes = self.real["_readlink"](name, dir_fd=dir_fd)
        return found


FAULTS: dict[str, Fault] = {
    "missing": replaced(lambda path: None),
    "EACCES": Refusal(errno.EACCES, "open"),
    "ESRCH": Refusal(errno.ESRCH, "read"),
    "ENODEV": Refusal(errno.ENODEV, "read"),
    "EOPNOTSUPP": Refusal(errno.EOPNOTSUPP, "read"),
    "EIO": Refusal(errno.EIO, "read"),
    "empty": holding(lambda data: b""),
    "cut short": holding(lambda data: data[: len(data) // 2]),
    "NUL bytes": holding(lambda data: b"\0" * 40),
    "no UTF-8": holding(lambda data: b"\xff\xfe\x9b\n"),
    "1 MB line": holding(lambda data: b"x" * LINE),
    "FIFO": replaced(os.mkfifo),
    "directory": replaced(os.mkdir),
    "link to itself": replaced(lambda path: path.symlink_to(path.name)),
    "endless": Refusal(0, "read"),
}


@contextlib.contextmanager
def faulty(path: Path, fault: Fault) -> Iterator[None]:
    """One thing wrong for a while, and then as it was."""
    kept = path.with_name(path.name + ".kept")
    if path.is_symlink():
        kept.symlink_to(os.readlink(path))
    else:
        shutil.copy2(path, kept)
    try:
        with pytest.MonkeyPatch.context() as patch:
            fault(path, patch)
            yield
    finally:
        if not path.is_symlink() and path.is_dir():
            path.rmdir()
        kept.replace(path)
