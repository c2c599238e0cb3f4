"""Who stands out in a container: processes and threads unlike its init, or come from elsewhere.

A process in its first second is not judged.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial

from nsinspect import capabilities
from nsinspect.findings import SEVERITIES, Finding, merged, settled
from nsinspect.model import Container, Model, innermost
from nsinspect.namespaces import TYPES, Namespaces
from nsinspect.procfs import Status
from nsinspect.runtimes.base import MONITORS
from nsinspect.security import SECCOMP_MODES, unconfined
from nsinspect.snapshot import Process, Snapshot, Thread

# What engines leave to watch a container, or run to enter one, as far as a comm goes.
_ENGINES = (*MONITORS, b"docker-containe", b"runc", b"crun", b"lxc-attach")
# What rootless engines leave in a container's network, to bring in what comes to the host's ports.
_FORWARDERS = (b"rootlessport", b"rootlessport-c", b"slirp4netns", b"pasta", b"pasta.avx2")
# With these a namespace of the host is as good as the host.
_ESCAPED = ("mnt", "pid", "user")
_KERNEL_THREAD = re.compile(
    rb"\[.*\]|kthreadd|kswapd[0-9]+|kcompactd[0-9]+|khugepaged|kdevtmpfs|kauditd|ksmd|kblockd|oom_reaper"
    rb"|rcu_(sched|preempt)|(kworker|ksoftirqd|migration|cpuhp|idle_inject|irq|jbd2|scsi_eh|rcuo[a-z])[/_].*"
)
_MEMFD = b"/memfd:"
_DELETED = b" (deleted)"
# A copy of itself from which runc starts what it was told to; it waits there until somebody says start.
_RUNC = b"/memfd:runc_cloned:"


def findings(snapshot: Snapshot, model: Model, only: str | None = None) -> tuple[Finding, ...]:
    """Everything that stands out, by container and then the most severe first; ``only``: in that container."""
    look = _Look(snapshot, model, only)
    found = [*look.inside(), *look.joined()]
    order = {container.id: number for number, container in enumerate(model.containers)}
    return tuple(
        sorted(
            merged(found, look.by_pid),
            key=lambda one: (order[one.container], -SEVERITIES.index(one.severity), one.pid, one.tid),
        )
    )


class _Look:
    """What every question needs to know of a host."""

    def __init__(self, snapshot: Snapshot, model: Model, only: str | None) -> None:
        self.snapshot = snapshot
        self.only = only
        self.host = snapshot.host.namespaces
        self.by_pid = {process.pid: process for process in snapshot.processes}
        self.containers = [container for container in model.containers if container.kind != "isolate"]
        self.around = innermost(self.containers)
        # By pid of init: a container may make one inside itself that is called by the id of another.
        self.inits = {container.init.pid: self.by_pid[container.init.pid] for container in self.containers}
        self.pids = {container.init.pid: frozenset(container.pids) for container in self.containers}
        self.engines = {pid: set(self._ancestors(init)) for pid, init in self.inits.items()}

    def _ancestors(self, process: Process) -> Iterator[int]:
        pid, seen = process.ppid, set[int]()
        while pid in self.by_pid and pid not in seen:
            yield pid
            seen.add(pid)
            pid = self.by_pid[pid].ppid

    def settled(self, process: Process) -> bool:
        """Whether it is what it was started to be; a zombie is nothing any more."""
        return process.state not in "ZX" and settled(self.snapshot, process.starttime)

    # -- in a container's cgroup -----------------------------------------------------------------------------------

    def inside(self) -> Iterator[Finding]:
        """What stands out among the processes of containers."""
        for process in self.snapshot.processes:
            container = self.around.get(process.pid)
            if container is None or self.only not in (None, container.id) or not self.settled(process):
                continue
            init = self.inits[container.init.pid]
            yield from self._threads(container, process)
            yield from self._program(container, process)
            # Whoever made a container may be in its cgroup: an engine's supervisor.
            if process.pid != init.pid and process.pid not in self.engines[init.pid]:
                yield from self._unlike_init(container, process, init)

    def _program(self, container: Container, process: Process) -> Iterator[Finding]:
        finding = partial(_finding, container, process)
        member = self.snapshot.members.get(process.pid)
        path = member.executable if member else None
        if path is not None and path.startswith(_MEMFD):
            severity = "low" if path.startswith(_RUNC) else "high"
            yield finding("memfd_executable", severity, [(f"/proc/{process.pid}/exe", path)], "T1620")
        elif path is not None and path.endswith(_DELETED):
            yield finding("deleted_executable", "low", [(f"/proc/{process.pid}/exe", path)], "T1070.004")
        if _KERNEL_THREAD.fullmatch(process.comm):
            evidence = [(f"/proc/{process.pid}/stat", b"comm " + process.comm)]
            if path is not None:
                evidence.append((f"/proc/{process.pid}/exe", path))
            yield finding("kernel_thread_name", "medium", evidence, "T1036.005")

    def _unlike_init(self, container: Container, process: Process, init: Process) -> Iterator[Finding]:
        finding = partial(_finding, container, process)
        from_outside, by_engine, parent = self._origin(process, init)
        if from_outside and not by_engine:
            yield finding("entered", "medium", parent, "T1609")
        hosts, others = self._strange(process.namespaces, init)
        if hosts:
            severity = "critical" if any(kind in _ESCAPED for kind in hosts) else "high"
            yield finding(
                "host_namespaces", severity, self._links(process.pid, process.namespaces, init, hosts), "T1611"
            )
        if others and not _managed(process, init):
            links = self._links(process.pid, process.namespaces, init, others)
            if "user" in others:
                yield finding("user_namespace", "medium", links, "T1068")
            else:
                technique = "T1611" if self._of_another(container, process, others) else None
                yield finding("other_namespaces", "medium", links, technique)
        # What it can do counts in its own user namespace: in one made inside it is no power over this container.
        if "user" not in others and process.status is not None and init.status is not None:
            yield from self._power(finding, container, process, init, by_engine=by_engine)

    def _power(
        self,
        finding: Callable[..., Finding],
        container: Container,
        process: Process,
        init: Process,
        *,
        by_engine: bool,
    ) -> Iterator[Finding]:
        its, inits = process.status, init.status
        assert its is not None
        assert inits is not None
        technique = "T1609" if by_engine else "T1068"
        file = f"/proc/{process.pid}/status"
        usable, normal = its.cap_eff | its.cap_prm, inits.cap_eff | inits.cap_prm
        beyond = (usable | its.cap_bnd) & ~(normal | inits.cap_bnd)
        evidence: list[tuple[str, str | bytes]] = []
        if beyond:
            evidence.append((file, _sets("what init could never gain", beyond)))
        evidence += self._less_confined(container, process, its, inits)
        gained = usable & ~normal
        root = container.security.root_uid
        if root is not None and its.uid.effective == root != inits.uid.effective:
            words = f"effective uid {root}, which is root inside; init {init.pid} has {inits.uid.effective}"
            more = [(file, _sets("init has not", gained))] if gained and not evidence else []
            # The name of the finding says it; what it can do more is evidence.
            yield finding("root", "low" if by_engine else "medium", [(file, words), *more], technique)
        elif gained and not evidence and not by_engine:
            # Of an engine's exec that is what the container was given from the start, and init laid down.
            told = [(file, _sets("init has not", gained))]
            yield finding("more_power", "medium", told, technique, gained=gained)
        if evidence:
            yield finding("more_power", "high", evidence, technique, gained=beyond)

    def _less_confined(
        self, container: Container, process: Process, its: Status, inits: Status
    ) -> Iterator[tuple[str, str]]:
        if its.seccomp == 0 and inits.seccomp == 2 and container.declared is not None and container.declared.seccomp:
            yield f"/proc/{process.pid}/status", f"Seccomp: disabled; init {container.init.pid} has a filter"
        member = self.snapshot.members.get(process.pid)
        confinement = self.snapshot.confinements.get(container.init.pid)
        if member is None or confinement is None or not (member.label_known and confinement.label_known):
            return
        if unconfined(member.lsm_label) and not unconfined(confinement.lsm_label):
            yield f"/proc/{process.pid}/attr/current", "not confined by the security module; init is"

    def _origin(self, process: Process, init: Process) -> tuple[bool, bool, list[tuple[str, str | bytes]]]:
        """Whether its parent is outside its pid namespace, whether that is an engine's, and what shows it."""
        parent = self.by_pid.get(process.ppid)
        own = init.namespaces.pid
        if parent is None or parent.pid in self.pids[init.pid]:
            return False, False, []
        hosts = parent.pid not in self.around
        by_engine = parent.pid == init.ppid or (hosts and parent.comm in _ENGINES)
        if own is None or own == self.host.pid or process.namespaces.pid != own or parent.namespaces.pid in (own, None):
            return False, by_engine, []
        said = b"parent " + str(parent.pid).encode() + b" " + parent.comm + b", outside the container's pid namespace"
        return True, by_engine, [(f"/proc/{process.pid}/stat", said)]

    # -- namespaces ------------------------------------------------------------------------------------------------

    def _strange(self, its: Namespaces, init: Process) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Types in which it is in the host's namespace where init is not, and those in which it is in yet another."""
        hosts: list[str] = []
        others: list[str] = []
        for kind, mine, inits, host in zip(TYPES, its, init.namespaces, self.host, strict=True):
            if mine is not None and inits is not None and mine != inits:
                (hosts if mine == host else others).append(kind)
        return tuple(hosts), tuple(others)

    def _links(
        self, pid: int, its: Namespaces, init: Process, kinds: Iterable[str], tid: int | None = None
    ) -> list[tuple[str, str | bytes]]:
        folder = f"/proc/{pid}/ns" if tid is None else f"/proc/{pid}/task/{tid}/ns"
        found: list[tuple[str, str | bytes]] = []
        for kind in kinds:
            mine, inits, host = (getattr(one, kind) for one in (its, init.namespaces, self.host))
            whose = ", the host's" if mine == host else ""
            found.append((f"{folder}/{kind}", f"{kind}:[{mine}]{whose}; {init.pid} has {kind}:[{inits}]"))
        return found

    def _of_another(self, container: Container, process: Process, kinds: Iterable[str]) -> bool:
        return any(
            getattr(process.namespaces, kind) == getattr(init.namespaces, kind)
            for pid, init in self.inits.items()
            for kind in kinds
            if pid != container.init.pid
        )

    def joined(self) -> Iterator[Finding]:
        """Processes of no container in namespaces that were made for one."""
        by_init = {one.init.pid: one for one in self.containers}
        owners: dict[tuple[str, int], Container] = {}
        for container in reversed(self.containers):
            init = self.inits[container.init.pid]
            parent = self.by_pid.get(init.ppid)
            above = parent.namespaces if parent else self.host
            for kind, inode, engines, host in zip(TYPES, init.namespaces, above, self.host, strict=True):
                # Where its engine is in it too, as rootless ones are in a user namespace, it was made for more.
                if inode is not None and inode not in (engines, host):
                    owners[kind, inode] = container
        for process in self.snapshot.processes:
            if process.pid in self.around or not self.settled(process):
                continue
            by_container: defaultdict[int, list[str]] = defaultdict(list)
            for kind, inode in zip(TYPES, process.namespaces, strict=True):
                if inode is not None and (kind, inode) in owners:
                    by_container[owners[kind, inode].init.pid].append(kind)
            for init_pid, kinds in by_container.items():
                helper = kinds == ["net"] and process.comm in _FORWARDERS
                container = by_init[init_pid]
                asked = self.only in (None, container.id)
                if asked and not helper and process.pid not in self.engines[init_pid]:
                    yield self._joined(process, container, kinds)

    def _joined(self, process: Process, container: Container, kinds: Sequence[str]) -> Finding:
        cgroup = process.cgroup[-1].path if process.cgroup else b"?"
        evidence: list[tuple[str, str | bytes]] = [(f"/proc/{process.pid}/cgroup", cgroup)]
        evidence += [
            (f"/proc/{process.pid}/ns/{kind}", f"{kind}:[{getattr(process.namespaces, kind)}], the container's")
            for kind in kinds
        ]
        return _finding(container, process, "joined", "medium", evidence, "T1609")

    # -- threads ---------------------------------------------------------------------------------------------------

    def _threads(self, container: Container, leader: Process) -> Iterator[Finding]:
        """Threads unlike their leader, or unlike the one that speaks for it."""
        member = self.snapshot.members.get(leader.pid)
        for thread in self.snapshot.threads.get(leader.pid, ()):
            if thread.state in "ZX":
                continue
            hosts, others = self._strange(thread.namespaces, leader)
            evidence = self._links(leader.pid, thread.namespaces, leader, (*hosts, *others), thread.tid)
            extra, told = _unlike(thread, leader, leader.pid)
            evidence += told
            if member and member.label_known and thread.label_known and member.lsm_label != thread.lsm_label:
                said = (thread.lsm_label or b"none") + b"; its leader has " + (member.lsm_label or b"none")
                evidence.append((f"/proc/{leader.pid}/task/{thread.tid}/attr/current", said))
            if evidence:
                severity = "critical" if any(k in _ESCAPED for k in hosts) else "high" if hosts or extra else "low"
                severity = "medium" if severity == "low" and others else severity
                technique = "T1611" if hosts else "T1068" if extra else None
                one = _finding(container, leader, "thread", severity, evidence, technique, gained=extra)
                yield replace(one, tid=thread.tid, comm=thread.comm)


def _finding(
    container: Container,
    process: Process,
    kind: str,
    severity: str,
    evidence: Iterable[tuple[str, str | bytes]],
    technique: str | None,
    gained: int = 0,
) -> Finding:
    return Finding(
        kind=kind,
        severity=severity,
        container=container.id,
        pid=process.pid,
        tid=process.pid,
        comm=process.comm,
        pids=(process.pid,),
        evidence=tuple(evidence),
        technique=technique,
        gained=gained,
    )


def _managed(process: Process, init: Process) -> bool:
    """Whether a service manager that is init gave it a cgroup of its own: such services have namespaces of theirs."""
    its, inits = ({line.hierarchy: line.path for line in one.cgroup} for one in (process, init))
    return init.comm == b"systemd" and any(path != inits.get(number) for number, path in its.items())


def _unlike(thread: Thread, leader: Process, pid: int) -> tuple[int, list[tuple[str, str | bytes]]]:
    """The capabilities that a thread has and its leader not, and all in which their statuses differ."""
    its, leaders = thread.status, leader.status
    if its is None or leaders is None:
        return 0, []
    file = f"/proc/{pid}/task/{thread.tid}/status"
    evidence: list[tuple[str, str | bytes]] = []
    for name, mine, theirs in (
        ("CapPrm", its.cap_prm, leaders.cap_prm),
        ("CapEff", its.cap_eff, leaders.cap_eff),
        ("CapBnd", its.cap_bnd, leaders.cap_bnd),
    ):
        if mine != theirs:
            words = [_sets("more", mine & ~theirs)] if mine & ~theirs else []
            words += [_sets("without", theirs & ~mine)] if theirs & ~mine else []
            evidence.append((file, f"{name} {mine:016x}, its leader {theirs:016x}: {'; '.join(words)}"))
    for name, here, there in (
        ("effective uid", its.uid.effective, leaders.uid.effective),
        ("Seccomp", _mode(its.seccomp), _mode(leaders.seccomp)),
        ("Seccomp_filters", its.seccomp_filters, leaders.seccomp_filters),
        ("NoNewPrivs", its.no_new_privs, leaders.no_new_privs),
    ):
        if here != there:
            evidence.append((file, f"{name} {here}; its leader has {there}"))
    return (its.cap_prm | its.cap_eff) & ~(leaders.cap_prm | leaders.cap_eff), evidence


def _mode(number: int | None) -> str:
    return "unknown" if number is None else SECCOMP_MODES[number] if number < len(SECCOMP_MODES) else str(number)


def _sets(words: str, mask: int) -> str:
    return f"{words}: {' '.join(capabilities.names(mask))}"
