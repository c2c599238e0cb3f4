"""What a Snapshot means: the host and its containers.  Pure; the same for a live, a captured and an old Snapshot."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from nsinspect import issues as _issues
from nsinspect import limits as _limits
from nsinspect import security as _security
from nsinspect.capabilities import all_of
from nsinspect.cgroupfs import DEVICES
from nsinspect.declarations import Declaration, Pod, Wanted
from nsinspect.drift import Drift, drift
from nsinspect.grouping import Group, Grouping, group, own_cgroups
from nsinspect.limits import Chain, Limits, Usage
from nsinspect.namespaces import TYPES
from nsinspect.procfs import Mount
from nsinspect.runtimes import BY_NAME
from nsinspect.runtimes.base import Engine
from nsinspect.security import Capabilities, Security
from nsinspect.snapshot import Confinement, Issue, Process, Snapshot

_NOTHING_SAID = Declaration(source="")

CLOCK_TICKS = 100
"""USER_HZ, the unit of ``starttime``: 100 on every architecture engines run on, so it holds for old evidence too."""


class Host(NamedTuple):
    """The machine; ``cgroup`` is "v1", "v2" or "hybrid"."""

    hostname: str | None
    boot_id: str | None
    kernel: str | None
    cgroup: str
    cpus_online: int | None
    memory_bytes: int | None
    cap_last_cap: int | None


class Init(NamedTuple):
    """The first process of a container.  ``ns_pid`` is its pid inside; ``started_at`` seconds since the epoch."""

    pid: int
    ns_pid: int | None
    started_at: float | None
    uid: int | None
    user: str | None
    gid: int | None
    comm: bytes


class Namespace(NamedTuple):
    """One namespace of init.  ``host``: whether it is the host's.  ``shared_with``: ids of containers that have it
    too, where it is not the host's."""

    inode: int
    host: bool | None
    shared_with: tuple[str, ...]


class Container(NamedTuple):
    """Everything nsinspect says of one container; the contract's names.  What of the host is in its ``mount_table`` is
    for :mod:`nsinspect.mounts` to say."""

    id: str
    name: str | None
    kind: str
    runtime: str
    image: str | None
    labels: tuple[tuple[str, str], ...] | None
    created_at: str | None
    pod: Pod | None
    parent: str | None
    evidence: tuple[tuple[str, str], ...]
    cgroup_path: bytes
    cgroup_version: int
    cgroup_paths: dict[str, bytes]
    init: Init
    pids: tuple[int, ...]
    namespaces: dict[str, Namespace | None]
    capabilities: Capabilities
    security: Security
    limits: Limits
    others: tuple[tuple[str, tuple[bytes, ...]], ...]
    device_rules: tuple[bytes, ...] | None
    mount_table: tuple[Mount, ...] | None
    host_mounts: tuple[Mount, ...]
    contradiction: str | None
    usage: Usage
    declared: Wanted | None
    declared_source: str
    drift: tuple[Drift, ...] | None


class Model(NamedTuple):
    """The host and its containers, by start of their inits."""

    captured_at: float
    host: Host
    containers: tuple[Container, ...]
    issues: tuple[Issue, ...]
    vanished: int


def build(snapshot: Snapshot, grouping: Grouping | None = None, *, isolates: bool = False) -> Model:
    """The model of a snapshot; with ``isolates`` also processes of no container in namespaces of their own.

    ``grouping``: that of this very snapshot, where it is at hand.
    """
    if grouping is None:
        grouping = group(snapshot.processes, snapshot.claims, snapshot.host.namespaces, isolates=isolates)
    containers = tuple(_containers(snapshot, grouping.groups, grouping))
    return _model(snapshot, grouping, containers)


def with_deeper(model: Model, snapshot: Snapshot, grouping: Grouping, groups: Sequence[Group]) -> Model:
    """The model with what a deeper look at some of its containers, ``groups`` of the same grouping, showed."""
    # By init too: a cgroup inside another container may be called by the very id of this one.
    seen = {(one.id, one.init.pid): one for one in _containers(snapshot, groups, grouping)}
    return _model(snapshot, grouping, tuple(seen.get((one.id, one.init.pid), one) for one in model.containers))


def _model(snapshot: Snapshot, grouping: Grouping, containers: tuple[Container, ...]) -> Model:
    return Model(
        captured_at=snapshot.captured_at,
        host=_host(snapshot),
        containers=containers,
        issues=(
            *_issues.relevant(snapshot, (pid for one in containers for pid in one.pids)),
            *_issues.spoofed(grouping),
            *_contradictions(containers),
            *_issues.not_offered(snapshot),
        ),
        vanished=snapshot.vanished,
    )


def _containers(snapshot: Snapshot, groups: Iterable[Group], grouping: Grouping) -> Iterator[Container]:
    everything = _sharing(grouping.groups)
    # An isolate is told which containers it shares with; what a container shares is the same with and without isolates.
    sharing = _sharing([one for one in grouping.groups if one.kind != "isolate"])
    for one in groups:
        yield _container(snapshot, one, everything if one.kind == "isolate" else sharing)


def innermost(containers: Iterable[Container]) -> dict[int, Container]:
    """By pid, the container a process is in; of one and another inside it, that inside."""
    found: dict[int, Container] = {}
    # The one inside has fewer processes.
    for container in sorted(containers, key=lambda one: -len(one.pids)):
        found.update(dict.fromkeys(container.pids, container))
    return found


def issues_about(model: Model, container: Container) -> tuple[Issue, ...]:
    """The issues that bear on one container: about its processes or its cgroups, or about the host as a whole."""
    others = {other.id for other in model.containers if other.id != container.id}
    about_others = [issue for issue in model.issues if not issue.pids and any(other in issue.path for other in others)]
    return _issues.issues_of((issue for issue in model.issues if issue not in about_others), container.pids)


def with_issues_of(model: Model, snapshot: Snapshot, pids: Iterable[int]) -> Model:
    """The model with what a closer look at ``pids`` complained of."""
    known = set(model.issues)
    new = (issue for issue in _issues.about(snapshot.issues, frozenset(pids)) if issue not in known)
    return model._replace(issues=(*model.issues, *new))


def _contradictions(containers: Iterable[Container]) -> list[Issue]:
    """Where v1's own account of a container's memory limit is not what its ancestors' files add up to."""
    return [
        Issue("contradiction", os.fsdecode(c.cgroup_paths.get("memory", b"")) + "/memory.stat", c.contradiction)
        for c in containers
        if c.contradiction is not None
    ]


def _host(snapshot: Snapshot) -> Host:
    facts = snapshot.host
    v1 = any(h.version == 1 and any("=" not in c for c in h.controllers) for h in snapshot.hierarchies)
    v2 = any(h.version == 2 for h in snapshot.hierarchies)
    return Host(
        hostname=facts.hostname,
        boot_id=facts.boot_id,
        kernel=facts.kernel,
        cgroup="hybrid" if v1 and v2 else "v2" if v2 else "v1",
        cpus_online=len(facts.cpus_online) if facts.cpus_online else None,
        memory_bytes=facts.memory_bytes,
        cap_last_cap=facts.cap_last_cap,
    )


def _container(snapshot: Snapshot, one: Group, sharing: dict[tuple[str, int], tuple[str, ...]]) -> Container:
    match = one.match
    said = _NOTHING_SAID
    if not one.nested:
        said = snapshot.declarations.get((match.runtime, match.id), _NOTHING_SAID)
    runtime = said.runtime or (one.claim.runtime if one.claim else match.runtime)
    pod = _pod(match.pod, said.pod)
    full = _security.full_set(snapshot.host.capabilities, snapshot.host.cap_last_cap)
    default = None if one.kind == "isolate" else _engine(runtime).DEFAULT_CAPABILITIES
    if default is not None and snapshot.host.cap_last_cap is not None:
        default &= all_of(snapshot.host.cap_last_cap)
    capabilities = _security.capabilities(
        one.init, one.own, default=default, full=full, host_user=snapshot.host.namespaces.user
    )
    confinement: Confinement | None = snapshot.confinements.get(one.init.pid)
    namespaces = _namespaces(snapshot, one, sharing)
    user = namespaces["user"]
    paths: dict[str, bytes] = {}
    chains: dict[str, Chain] = defaultdict(Chain)
    cgroups = snapshot.cgroups
    levels = own_cgroups(one, snapshot.hierarchies)
    for index, (hierarchy, (own, above)) in enumerate(zip(snapshot.hierarchies, levels, strict=True)):
        if not own and not above:
            continue
        path = own[-1] if own else above[0]
        paths.update(dict.fromkeys(hierarchy.controllers, path))
        if hierarchy.version == 2:
            paths[""] = path
        if not cgroups:
            continue
        # Lists, because this is done some thousand times in a scrape and a generator costs as much again.
        chain = Chain(
            tuple([cgroups.get((index, level)) for level in own]),
            tuple([cgroups.get((index, level)) for level in above]),
        )
        chains.update(dict.fromkeys(hierarchy.controllers, chain))
        if hierarchy.version == 2:
            # cpu.stat and pressure are there on v2 even where no cpu controller is.
            chains.setdefault("cpu", chain)
    limits, usage = _limits.NO_LIMITS, _limits.NO_USAGE
    if cgroups:
        limits = _limits.limits(
            chains["cpu"],
            chains["cpuset"],
            chains["memory"],
            chains["pids"],
            # Where not one of its cgroups is known, neither is it known that the host's CPUs are all that limits it.
            cpus_online=snapshot.host.cpus_online if paths else None,
            host_memory=snapshot.host.memory_bytes,
        )
        usage = _limits.usage(chains["cpu"], chains["cpuacct"], chains["memory"], chains["pids"])
    security = _security.security(
        one.init.status,
        confinement,
        everything=capabilities.everything,
        host_user_namespace=user.host if user else None,
    )
    init = _init(snapshot, one.init)
    # On a hybrid host an engine may leave a container in the root of the v2 hierarchy; then v1 names it.
    path = paths[""] if paths.get("", b"/") != b"/" else paths.get("memory", match.path)
    governing = next((h for h in snapshot.hierarchies if "memory" in h.controllers), snapshot.hierarchies[0])
    return Container(
        id=match.id,
        name=said.name or (match.id if one.kind == "container" and _engine(runtime).IDS_ARE_NAMES else None),
        kind=_kind(one, said, pod),
        runtime=runtime,
        image=said.image,
        labels=said.labels,
        created_at=said.created_at,
        pod=pod,
        parent=one.parent,
        evidence=_evidence(one, said),
        cgroup_path=path,
        cgroup_version=governing.version,
        cgroup_paths=paths,
        init=init,
        pids=tuple(process.pid for process in one.processes),
        namespaces=namespaces,
        capabilities=capabilities,
        security=security,
        limits=limits,
        others=_others(chains),
        device_rules=_device_rules(chains),
        mount_table=confinement.mounts if confinement else None,
        host_mounts=snapshot.mounts,
        contradiction=_limits.contradicted(chains["memory"], limits.effective_memory.max),
        usage=usage,
        declared=said.wanted,
        declared_source=said.source,
        drift=None
        if said.wanted is None
        else drift(
            said.wanted,
            limits,
            capabilities,
            security,
            host_namespaces={kind: found.host if found else None for kind, found in namespaces.items()},
            init_uid=init.uid,
            full=full,
            cgroups=paths,
        ),
    )


def _engine(runtime: str) -> Engine:
    """Of an old snapshot it may be one that is not known here."""
    return BY_NAME.get(runtime, BY_NAME["unknown"])


def _others(chains: dict[str, Chain]) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    """Control files that are set and have no field of their own, by name."""
    found = {
        file: lines
        for chain in chains.values()
        for cgroup in chain.own
        if cgroup is not None
        for file, lines in cgroup.others
        if file != DEVICES
    }
    return tuple(sorted(found.items()))


def _device_rules(chains: dict[str, Chain]) -> tuple[bytes, ...] | None:
    """v1's ``devices.list``; ``None`` on v2, where the rules are a BPF program that cannot be read."""
    own = chains["devices"].own if "devices" in chains else ()
    found = [lines for cgroup in own if cgroup is not None for file, lines in cgroup.others if file == DEVICES]
    return found[0] if found else None


def _pod(by_path: Pod | None, said: Pod | None) -> Pod | None:
    """The path's word on uid and class, the state file's on everything; a file knows more, the path cannot lie."""
    if by_path is None or said is None:
        return by_path or said
    return Pod(*(mine if mine is not None else theirs for mine, theirs in zip(by_path, said, strict=True)))


# What engines run to hold a pod's namespaces open.
_PAUSE = (b"pause", b"catatonit", b"podman-pause")


def _kind(one: Group, said: Declaration, pod: Pod | None) -> str:
    if one.kind == "container" and pod is not None:
        alone = len(one.processes) == 1 and one.init.comm in _PAUSE
        if said.pause or (said.pause is None and alone):
            return "pause"
    return one.kind


def _evidence(one: Group, said: Declaration) -> tuple[tuple[str, str], ...]:
    """How it is known that this is a container, and whose: (what says so, what it says)."""
    found = []
    if one.kind == "isolate":
        found.append(("namespaces", one.match.id))
    elif one.claim is not None:
        found.append(("state file", one.claim.source))
    if one.kind == "container" and (one.claim is None or one.claim.cgroup is not None):
        found.append(("cgroup path", os.fsdecode(one.match.path)))
    if said.source and (one.claim is None or said.source != one.claim.source):
        found.append(("state file", said.source))
    if one.parent is not None:
        found.append(("ancestor", one.parent))
    return tuple(found)


def _init(snapshot: Snapshot, process: Process) -> Init:
    boot = snapshot.host.boot_time
    status = process.status
    return Init(
        pid=process.pid,
        ns_pid=status.nspid[-1] if status and status.nspid else None,
        started_at=None if boot is None else boot + process.starttime / CLOCK_TICKS,
        uid=status.uid.effective if status else None,
        user=snapshot.users.get(status.uid.effective) if status else None,
        gid=status.gid.effective if status else None,
        comm=process.comm,
    )


def _sharing(groups: Sequence[Group]) -> dict[tuple[str, int], tuple[str, ...]]:
    """Which containers have which namespace: ids by type and inode."""
    found: defaultdict[tuple[str, int], list[str]] = defaultdict(list)
    for one in groups:
        for kind, inode in zip(TYPES, one.init.namespaces, strict=True):
            if inode is not None:
                found[kind, inode].append(one.match.id)
    return {key: tuple(ids) for key, ids in found.items()}


def _namespaces(
    snapshot: Snapshot, one: Group, sharing: dict[tuple[str, int], tuple[str, ...]]
) -> dict[str, Namespace | None]:
    found: dict[str, Namespace | None] = {}
    for kind, inode, hosts in zip(TYPES, one.init.namespaces, snapshot.host.namespaces, strict=True):
        if inode is None:
            found[kind] = None
            continue
        host = None if hosts is None else inode == hosts
        sharers = () if host else sharing[kind, inode]
        # One is it alone, which most namespaces that are not the host's belong to.
        others = tuple(other for other in sharers if other != one.match.id) if len(sharers) > 1 else ()
        found[kind] = Namespace(inode, host, others)
    return found
