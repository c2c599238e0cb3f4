"""A Snapshot: what the kernel and the engines' files said at one moment, before anybody decides what it means.

Plain frozen facts.  This, not the model, is what is recorded and carried away, so that a better model improves old
evidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from nsinspect.cgroupfs import Cgroup
from nsinspect.declarations import Claim, Declaration
from nsinspect.hierarchies import Hierarchy
from nsinspect.namespaces import Holder, Kin, Namespaces
from nsinspect.procfs import CgroupLine, IdMapLine, Mount, Status
from nsinspect.procnet import Links, Network

VERSION = 1


class Issue(NamedTuple):
    """Something that could not be learnt, or is not what it seems.  ``pids`` are the processes it is about, if it is
    about any.

    ``kind``: denied, malformed and unreadable are failures (:data:`FAILURES`).  not_offered: this kernel has no such
    file.  private_namespace: the view itself is narrowed, so there may be containers that cannot be seen.  spoofed: a
    cgroup inside a container is named like one of an engine.  contradiction: two of the kernel's own files disagree.
    """

    kind: str
    path: str
    detail: str
    pids: tuple[int, ...] = ()


FAILURES = frozenset(("denied", "malformed", "unreadable"))


class Process(NamedTuple):
    """One process.  ``(boot_id, pid, starttime)`` is its identity; ``starttime`` is in clock ticks since boot.

    ``cgroup`` is empty and ``status`` is ``None`` where they could not be read.  ``speaker``: the thread that all of
    this but ``comm`` and ``starttime`` is of, where the first one has ended and left the others behind: it is in no
    cgroup and no namespace any more.
    """

    pid: int
    ppid: int
    starttime: int
    comm: bytes
    state: str
    cgroup: tuple[CgroupLine, ...]
    namespaces: Namespaces
    status: Status | None
    speaker: int | None = None


class Thread(NamedTuple):
    """One thread that is not its process' leader."""

    tid: int
    comm: bytes
    state: str
    status: Status | None
    namespaces: Namespaces
    lsm_label: bytes | None
    label_known: bool


class Member(NamedTuple):
    """More about a process of a container, read where somebody looks closely.  ``executable``: the target of its
    ``exe`` link, ``None`` where it has none or it could not be read."""

    executable: bytes | None
    lsm_label: bytes | None
    label_known: bool


class Confinement(NamedTuple):
    """More about one process, read of the inits of containers only.  ``None``: could not be read; a label is ``None``
    too where there is no security module, so ``label_known`` says which."""

    mounts: tuple[Mount, ...] | None
    uid_map: tuple[IdMapLine, ...] | None
    gid_map: tuple[IdMapLine, ...] | None
    lsm_label: bytes | None
    label_known: bool


class Lineage(NamedTuple):
    """Of namespaces: ``kin`` by inode, and what holds them.  Empty where nobody asked."""

    kin: Mapping[int, Kin]
    holders: tuple[Holder, ...]


NO_LINEAGE = Lineage({}, ())


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFacts:
    """The machine.  ``namespaces`` are those of PID 1 (of kthreadd where PID 1's may not be read).  ``uptime``: seconds
    since boot when its processes began to be read, on the clock of their start times."""

    hostname: str | None
    boot_id: str | None
    kernel: str | None
    cpus_online: tuple[int, ...] | None
    memory_bytes: int | None
    cap_last_cap: int | None
    boot_time: float | None
    uptime: float | None
    namespaces: Namespaces
    capabilities: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """Everything one pass over a host read.

    ``captured_at`` is in seconds since the epoch.  ``cgroups`` has, by index into ``hierarchies`` and path, the cgroup
    of every container and all its ancestors.  ``claims`` are the containers that state files tell of, and
    ``declarations``, by (runtime, container id), what they say of those that run.  ``vanished`` counts
    processes and cgroups that went away while they were read.

    What is read only where somebody looks closely, and empty elsewhere: ``threads`` and ``members`` by pid,
    ``networks`` by pid of the process through which each was seen, ``links`` by inode of the network namespace, and
    ``sockets``, by pid, the inodes of those that a process holds (``None``: could not be read).
    """

    version: int = VERSION
    captured_at: float
    host: HostFacts
    mounts: tuple[Mount, ...] = ()
    hierarchies: tuple[Hierarchy, ...]
    processes: tuple[Process, ...]
    confinements: Mapping[int, Confinement]
    cgroups: Mapping[tuple[int, bytes], Cgroup]
    claims: tuple[Claim, ...]
    declarations: Mapping[tuple[str, str], Declaration]
    lineage: Lineage = NO_LINEAGE
    threads: Mapping[int, tuple[Thread, ...]] = field(default_factory=dict)
    members: Mapping[int, Member] = field(default_factory=dict)
    networks: Mapping[int, Network] = field(default_factory=dict)
    links: Mapping[int, Links] = field(default_factory=dict)
    sockets: Mapping[int, frozenset[int] | None] = field(default_factory=dict)
    users: Mapping[int, str] = field(default_factory=dict)
    issues: tuple[Issue, ...] = ()
    vanished: int = field(default=0)
