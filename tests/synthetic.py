"""Hosts that were made up, and what is true of them: told by how they were made, without asking nsinspect.

A :class:`Host` is a tree of cgroups with limits on any of them, and processes in them.  It becomes a Snapshot, or files
below a directory; :func:`truth` says what the document of it must say.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from hypothesis import strategies as st

from nsinspect.cgroupfs import Cgroup, CpuMax
from nsinspect.hierarchies import Hierarchy
from nsinspect.namespaces import Namespaces
from nsinspect.procfs import CgroupLine, Ids, Status
from nsinspect.snapshot import HostFacts, Process, Snapshot

Limit = int | Literal["max"] | None
"""``None``: the file is not there, because nobody enabled the controller."""

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
HOSTS = dict(zip(TYPES, range(4026531835, 4026531843), strict=True))
# Some of linux/capability.h, with their bits.
CAPABILITIES = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_KILL": 5,
    "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12,
    "CAP_NET_RAW": 13,
    "CAP_SYS_MODULE": 16,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_SYSLOG": 34,
    "CAP_BPF": 39,
}
LAST = 40
UNLIMITED = 9223372036854771712
"""What v1 writes for no limit, with pages of 4 KiB."""


@dataclass(frozen=True)
class Node:
    """One cgroup."""

    memory: Limit
    pids: Limit
    quota: Limit
    period: int


@dataclass(frozen=True)
class Task:
    """One process.  ``holder``: the number of the container it is in."""

    pid: int
    path: str
    holder: int | None
    nspid: tuple[int, ...]
    namespaces: dict[str, int | None]
    capabilities: frozenset[str]


@dataclass(frozen=True)
class Made:
    """One container; ``own`` are the cgroups its engine made for it, innermost first, ``outer`` the one it is in."""

    id: str
    runtime: str
    own: tuple[str, ...]
    outer: int | None
    init: Task


@dataclass
class Host:
    """``v1``: the controllers that are on mounts of their own; the others are on v2, where there is a v2 mount."""

    v1: tuple[str, ...]
    cpus: int
    memory: int
    nodes: dict[str, Node] = field(default_factory=dict)
    tasks: list[Task] = field(default_factory=list)
    containers: list[Made] = field(default_factory=list)

    def hierarchies(self) -> tuple[Hierarchy, ...]:
        """What is mounted where."""
        v1 = [Hierarchy(1, (one,), f"/sys/fs/cgroup/{one}", b"/") for one in self.v1]
        rest = tuple(one for one in CONTROLLERS if one not in self.v1)
        v2 = [Hierarchy(2, rest, "/sys/fs/cgroup/unified" if v1 else "/sys/fs/cgroup", b"/")] if rest else []
        return (*v1, *v2)


CONTROLLERS = ("cpu", "memory", "pids")
LAYOUTS = st.sampled_from([(), CONTROLLERS, ("memory",), ("cpu", "pids"), ("cpu", "memory")])

# -- making ------------------------------------------------------------------------------------------------------------

SIZES = st.sampled_from([None, "max", 1 << 20, 64 << 20, 1 << 30, 1 << 40])
COUNTS = st.sampled_from([None, "max", 1, 40, 4096])
QUOTAS = st.sampled_from([None, "max", 10_000, 50_000, 150_000, 800_000])
NODES = st.builds(Node, SIZES, COUNTS, QUOTAS, st.sampled_from([50_000, 100_000]))
POWERS = st.frozensets(st.sampled_from(sorted(CAPABILITIES)))
# How each engine calls a container's cgroup, and whether it makes one more below for the processes.
ENGINES = st.sampled_from(
    [
        *(("docker", "docker-{}.scope", ""), ("containerd", "cri-containerd-{}.scope", "")),
        *(("podman", "libpod-{}.scope", ""), ("podman", "libpod-{}.scope", "/container")),
        *(("cri-o", "crio-{}.scope", "/container"), ("nerdctl", "nerdctl-{}.scope", ""), ("unknown", "{}", "")),
    ]
)


@st.composite
def hosts(draw: st.DrawFn) -> Host:
    """A tree of the host's cgroups, containers in some, containers in containers, and what only looks like one."""
    host = Host(v1=draw(LAYOUTS), cpus=draw(st.integers(1, 8)), memory=draw(st.sampled_from([1 << 28, 1 << 35])))
    pids, inodes = itertools.count(3), itertools.count(4026532000)
    of_host = dict(HOSTS)
    host.tasks += [Task(pid, "/", None, (pid,), of_host, frozenset(CAPABILITIES)) for pid in (1, 2)]
    places = ["/"]
    for number in range(draw(st.integers(0, 3))):
        path = f"{draw(st.sampled_from(places)).rstrip('/')}/g{number}.slice"
        host.nodes[path] = draw(NODES)
        places.append(path)
        host.tasks.append(Task(pid := next(pids), path, None, (pid,), of_host, draw(POWERS)))
    for number in range(draw(st.integers(0, 4))):
        _container(draw, host, number, places, pids, inodes)
    return host


def _container(
    draw: st.DrawFn, host: Host, number: int, places: list[str], pids: Iterator[int], inodes: Iterator[int]
) -> None:
    runtime, name, payload = draw(ENGINES)
    outer = draw(st.none() | st.sampled_from(range(len(host.containers)))) if host.containers else None
    around = host.containers[outer] if outer is not None else None
    above = around.own[0] if around else draw(st.sampled_from(places)).rstrip("/")
    identity = f"{number + 1:064x}"
    path = f"{above}/{name.format(identity)}"
    own = (path + payload, path) if payload else (path,)
    host.nodes |= {one: draw(NODES) for one in own}
    below = own[0] + draw(st.sampled_from(["", "/init.scope"]))
    host.nodes.setdefault(below, draw(NODES))
    beginning: dict[str, int | None] = around.init.namespaces if around else dict(HOSTS)
    if around is not None and draw(st.booleans()):
        # Named like an engine's by the container around it, but its processes are that one's.
        depth = around.init.nspid
        task = Task(
            pid := next(pids), below, outer, (pid, *depth[1:-1], *([99] if depth[1:] else [])), beginning, draw(POWERS)
        )
        host.tasks.append(task)
        return
    namespaces = dict(beginning)
    for kind in TYPES:
        others = [one.init.namespaces[kind] for one in host.containers] if kind in ("net", "ipc", "uts") else []
        # A container in another is one by a mount namespace of its own, or pid.
        choice = draw(st.sampled_from([next(inodes), beginning[kind], *others]))
        namespaces[kind] = next(inodes) if kind == "mnt" else choice
    if draw(st.booleans()):
        namespaces["time"] = None  # an old kernel
    apart = namespaces["pid"] != beginning["pid"]
    outside = around.init.nspid if around else (1,)
    numbers = itertools.count(1 if apart else 100)
    for _ in range(draw(st.integers(1, 3))):
        pid = next(pids)
        inside = (*outside[1:], next(numbers)) if apart else (*outside[1:-1], *([next(numbers)] if outside[1:] else []))
        where = below if len(host.containers) <= number else draw(st.sampled_from([below, own[0]]))
        host.tasks.append(Task(pid, where, len(host.containers), (pid, *inside), namespaces, draw(POWERS)))
    init = next(one for one in host.tasks if one.holder == len(host.containers))
    host.containers.append(Made(identity, runtime, own, outer, init))


# -- what is true ------------------------------------------------------------------------------------------------------


def upwards(path: str) -> list[str]:
    """A cgroup and those above it but the root, which limits nobody."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[:length]) for length in range(len(parts), 0, -1)]


def tightest(limits: list[tuple[Limit, str]]) -> tuple[Limit, str | None]:
    """The smallest, and the outermost of those that set it."""
    numbers = [value for value, _ in limits if isinstance(value, int)]
    if not numbers:
        return ("max" if any(value == "max" for value, _ in limits) else None), None
    return min(numbers), [path for value, path in limits if value == min(numbers)][-1]


def truth(host: Host) -> dict[str, dict[str, Any]]:
    """By id, what the document must say of each container."""
    found = {}
    for number, made in enumerate(host.containers):
        nodes = [(host.nodes[path], path) for path in upwards(made.own[0])]
        memory, by = tightest([(node.memory, path) for node, path in nodes])
        if isinstance(memory, int) and memory > host.memory:
            memory, by = host.memory, None
        cores: list[tuple[float, str | None]] = [
            (node.quota / node.period, path) for node, path in reversed(nodes) if isinstance(node.quota, int)
        ]
        # min() takes the first of equals: the machine, then the outermost.
        cores.insert(0, (float(host.cpus), None))
        found[made.id] = {
            "runtime": made.runtime,
            "parent": None if made.outer is None else host.containers[made.outer].id,
            "pids": sorted(one.pid for one in host.tasks if number in holders(host, one)),
            "init": made.init.pid,
            "memory": (memory, by),
            "own memory": tightest([(node.memory, path) for node, path in nodes[: len(made.own)]])[0],
            "tasks": tightest([(node.pids, path) for node, path in nodes]),
            "cpu": min(cores, key=lambda one: one[0]),
            "namespaces": {kind: whose(host, number, kind) for kind in TYPES},
            "capabilities": sorted(made.init.capabilities, key=CAPABILITIES.__getitem__),
        }
    return found


def holders(host: Host, task: Task) -> list[int]:
    """The containers that a process is in, innermost first."""
    found, holder = [], task.holder
    while holder is not None:
        found.append(holder)
        holder = host.containers[holder].outer
    return found


def whose(host: Host, number: int, kind: str) -> Any:
    """Of a container's namespace: nothing where the kernel has none, "host", or who else has it."""
    mine = host.containers[number].init.namespaces[kind]
    if mine is None:
        return None
    if mine == HOSTS[kind]:
        return "host"
    return {one.id for one in host.containers if one.init.namespaces[kind] == mine} - {host.containers[number].id}


# -- as a snapshot -----------------------------------------------------------------------------------------------------


def mask(names: frozenset[str]) -> int:
    return sum(1 << CAPABILITIES[name] for name in names)


def control_files(host: Host, controllers: tuple[str, ...], version: int, node: Node) -> dict[str, Any]:
    """What is in a cgroup, read."""
    v1, v2 = "memory.limit_in_bytes", "memory.max"
    files: dict[str, Any] = {}
    if "memory" in controllers:
        files[v1 if version == 1 else v2] = node.memory
    if "pids" in controllers:
        files["pids.max"] = node.pids
    if "cpu" in controllers and node.quota is not None:
        if version == 2:
            files["cpu.max"] = CpuMax(node.quota, node.period)
        else:
            files |= {"cpu.cfs_quota_us": node.quota, "cpu.cfs_period_us": node.period}
    return {name: value for name, value in files.items() if value is not None}


def snapshot(host: Host) -> Snapshot:
    """As if it had been read."""
    hierarchies = host.hierarchies()
    cgroups = {}
    for index, hierarchy in enumerate(hierarchies):
        cgroups[index, b"/"] = Cgroup(b"/", hierarchy.point, 1, {})
        for inode, (path, node) in enumerate(host.nodes.items(), 2):
            files: Any = control_files(host, hierarchy.controllers, hierarchy.version, node)
            cgroups[index, path.encode()] = Cgroup(path.encode(), hierarchy.point + path, inode, files)
    return Snapshot(
        captured_at=1_780_000_000.0,
        host=HostFacts(
            hostname="made",
            boot_id=None,
            kernel=None,
            cpus_online=tuple(range(host.cpus)),
            memory_bytes=host.memory,
            cap_last_cap=LAST,
            boot_time=1_770_000_000.0,
            uptime=10_000_000.0,
            namespaces=Namespaces(**HOSTS),
            capabilities=(1 << LAST + 1) - 1,
        ),
        hierarchies=hierarchies,
        processes=tuple(_process(host, task) for task in host.tasks),
        confinements={},
        cgroups=cgroups,
        claims=(),
        declarations={},
    )


def _process(host: Host, task: Task) -> Process:
    powers = mask(task.capabilities)
    return Process(
        pid=task.pid,
        ppid=int(task.pid > 2),
        starttime=task.pid * 10,
        comm=comm_of(task),
        state="S",
        cgroup=tuple(CgroupLine(number, names, task.path.encode()) for number, names in lines_of(host)),
        namespaces=Namespaces(**task.namespaces),
        status=Status(task.nspid, Ids(0, 0, 0, 0), Ids(0, 0, 0, 0), 0, powers, powers, powers, 0, False, 0, 0),
    )


def comm_of(task: Task) -> bytes:
    return {1: b"init", 2: b"kthreadd"}.get(task.pid, b"task")


def lines_of(host: Host) -> list[tuple[int, tuple[str, ...]]]:
    """What the lines of a process's cgroup file begin with."""
    return [
        (0, ()) if one.version == 2 else (number, one.controllers) for number, one in enumerate(host.hierarchies(), 1)
    ]


# -- as files ----------------------------------------------------------------------------------------------------------


def write(host: Host, root: Path) -> None:
    """As a kernel shows it, below ``root``."""
    files: dict[str, object] = {
        "proc/stat": "cpu  1 2 3\nbtime 1770000000",
        "proc/meminfo": f"MemTotal: {host.memory >> 10} kB\nMemFree: 1 kB",
        "proc/uptime": "10000000.00 1.00",
        "proc/sys/kernel/hostname": "made",
        "proc/sys/kernel/osrelease": "6.1.0",
        "proc/sys/kernel/random/boot_id": "8c7e",
        "proc/sys/kernel/cap_last_cap": LAST,
        "sys/devices/system/cpu/online": f"0-{host.cpus - 1}" if host.cpus > 1 else "0",
    }
    for hierarchy in host.hierarchies():
        point = hierarchy.point.lstrip("/")
        (root / point).mkdir(parents=True, exist_ok=True)
        if hierarchy.version == 2:
            files[f"{point}/cgroup.controllers"] = " ".join(hierarchy.controllers)
        for path, node in host.nodes.items():
            (root / f"{point}{path}").mkdir(parents=True, exist_ok=True)
            for name, value in control_files(host, hierarchy.controllers, hierarchy.version, node).items():
                files[f"{point}{path}/{name}"] = _spelt(name, value)
    for task in host.tasks:
        files |= {f"proc/{task.pid}/{name}": text for name, text in _proc_files(host, task)}
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    for task in host.tasks:
        (root / f"proc/{task.pid}/ns").mkdir()
        for kind, inode in task.namespaces.items():
            if inode is not None:
                (root / f"proc/{task.pid}/ns/{kind}").symlink_to(f"{kind}:[{inode}]")


def _spelt(name: str, value: Any) -> str:
    if isinstance(value, tuple):
        return f"{value[0]} {value[1]}"
    unlimited = {"memory.limit_in_bytes": UNLIMITED, "cpu.cfs_quota_us": -1}
    return str(unlimited.get(name, value) if value == "max" else value)


def _proc_files(host: Host, task: Task) -> Iterator[tuple[str, str]]:
    start = f"{task.pid} ({comm_of(task).decode()}) S {int(task.pid > 2)}"
    yield "stat", f"{start} 1 1 0 -1 0" + " 0" * 12 + f" {task.pid * 10} 0 0"
    powers = mask(task.capabilities)
    sets = "".join(f"{name}:\t{powers:016x}\n" for name in ("CapPrm", "CapEff", "CapBnd"))
    nspid = "\t".join(map(str, task.nspid))
    ids = "Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\n"
    yield "status", f"Name:\tx\n{ids}NSpid:\t{nspid}\nCapInh:\t{0:016x}\n{sets}CapAmb:\t{0:016x}\nSeccomp:\t0"
    yield "cgroup", "\n".join(f"{number}:{','.join(names)}:{task.path}" for number, names in lines_of(host))
    mounts = ["20 1 8:1 / / rw - ext4 /dev/root rw"]
    for number, one in enumerate(host.hierarchies(), 21):
        kind = "cgroup2 cgroup2 rw" if one.version == 2 else f"cgroup cgroup rw,{','.join(one.controllers)}"
        mounts.append(f"{number} 20 0:{number} / {one.point} rw - {kind}")
    yield "mountinfo", "\n".join(mounts)
    yield from (("uid_map", "0 0 4294967295"), ("gid_map", "0 0 4294967295"))
