"""What a Snapshot means: the host and its containers.  Pure; the same for a live, a captured and an old Snapshot."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from nsinspect import limits as _limits
from nsinspect import security as _security
from nsinspect.cgroupfs import ancestors, files_of
from nsinspect.declarations import Declaration
from nsinspect.grouping import Group, group, own_cgroups
from nsinspect.limits import Chain, Limits, Usage
from nsinspect.namespaces import TYPES
from nsinspect.runtimes import BY_NAME, recognise
from nsinspect.security import Capabilities, Security
from nsinspect.snapshot import Confinement, Issue, Process, Snapshot

CLOCK_TICKS = 100
"""USER_HZ, the unit of ``starttime``: 100 on every architecture engines run on, so it holds for old evidence too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """The machine; ``cgroup`` is "v1", "v2" or "hybrid"."""

    hostname: str | None
    boot_id: str | None
    kernel: str | None
    cgroup: str
    cpus_online: int | None
    memory_bytes: int | None
    cap_last_cap: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Init:
    """The first process of a container.  ``ns_pid`` is its pid inside; ``started_at`` seconds since the epoch."""

    pid: int
    ns_pid: int | None
    started_at: float | None
    uid: int | None
    comm: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Namespace:
    """One namespace of init.  ``host``: whether it is the host's.  ``shared_with``: ids of containers that have it
    too, where it is not the host's."""

    inode: int
    host: bool | None
    shared_with: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Container:
    """Everything nsinspect says of one container; the contract's names."""

    id: str
    name: str | None
    kind: str
    runtime: str
    image: str | None
    labels: tuple[tuple[str, str], ...] | None
    created_at: str | None
    cgroup_path: bytes
    cgroup_version: int
    cgroup_paths: dict[str, bytes]
    init: Init
    pids: tuple[int, ...]
    namespaces: dict[str, Namespace | None]
    capabilities: Capabilities
    security: Security
    limits: Limits
    usage: Usage


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """The host and its containers, by start of their inits."""

    captured_at: float
    host: Host
    containers: tuple[Container, ...]
    issues: tuple[Issue, ...]
    vanished: int


def build(snapshot: Snapshot) -> Model:
    """The model of a snapshot."""
    groups = group(snapshot.processes)
    sharing = _sharing(groups)
    containers = tuple(_container(snapshot, one, sharing) for one in groups)
    return Model(
        captured_at=snapshot.captured_at,
        host=_host(snapshot),
        containers=containers,
        issues=(*_relevant(snapshot, containers), *_not_offered(snapshot)),
        vanished=snapshot.vanished,
    )


def issues_about(model: Model, container: Container) -> tuple[Issue, ...]:
    """The issues that bear on one container: about its processes or its cgroups, or about the host as a whole."""
    mine = set(container.pids)
    others = {other.id for other in model.containers if other.id != container.id}
    found = []
    for issue in model.issues:
        pids = tuple(pid for pid in issue.pids if pid in mine)
        if pids or not (issue.pids or any(other in issue.path for other in others)):
            found.append(issue._replace(pids=pids))
    return tuple(found)


def _relevant(snapshot: Snapshot, containers: tuple[Container, ...]) -> list[Issue]:
    """The snapshot's issues, without those about processes that no answer here depends on.

    What could not be read of a process of the host changes nothing, except PID 1 when the host's namespaces are
    unknown for it.
    """
    matter = {pid for container in containers for pid in container.pids}
    if None in snapshot.host.namespaces:
        matter.add(1)
    found = []
    for issue in snapshot.issues:
        pids = tuple(pid for pid in issue.pids if pid in matter or issue.path.endswith(("/cgroup", "/stat")))
        if pids or not issue.pids:
            found.append(issue._replace(pids=pids))
    return found


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
    engine = BY_NAME[match.runtime]
    said = snapshot.declarations.get((match.runtime, match.id)) or Declaration(source="")
    full = _security.full_set(snapshot.host.capabilities, snapshot.host.cap_last_cap)
    capabilities = _security.capabilities(one.init, one.processes, default=engine.DEFAULT_CAPABILITIES, full=full)
    confinement: Confinement | None = snapshot.confinements.get(one.init.pid)
    namespaces = _namespaces(snapshot, one, sharing)
    user = namespaces["user"]
    paths: dict[str, bytes] = {}
    chains: dict[str, Chain] = defaultdict(Chain)
    for index, hierarchy in enumerate(snapshot.hierarchies):
        own = own_cgroups(one, hierarchy)
        if not own:
            continue
        path = own[-1]
        chain = Chain(
            own=tuple(snapshot.cgroups.get((index, level)) for level in own),
            above=tuple(snapshot.cgroups.get((index, level)) for level in ancestors(path)[1:]),
        )
        for controller in hierarchy.controllers:
            paths[controller] = path
            chains[controller] = chain
        if hierarchy.version == 2:
            paths[""] = path
            # cpu.stat and pressure are there on v2 even where no cpu controller is.
            chains.setdefault("cpu", chain)
    # On a hybrid host an engine may leave a container in the root of the v2 hierarchy; then v1 names it.
    path = paths[""] if recognise(paths.get("", b"")) else paths.get("memory", match.path)
    governing = next((h for h in snapshot.hierarchies if "memory" in h.controllers), snapshot.hierarchies[0])
    return Container(
        id=match.id,
        name=said.name,
        kind="container",
        runtime=match.runtime,
        image=said.image,
        labels=said.labels,
        created_at=said.created_at,
        cgroup_path=path,
        cgroup_version=governing.version,
        cgroup_paths=paths,
        init=_init(snapshot, one.init),
        pids=tuple(process.pid for process in one.processes),
        namespaces=namespaces,
        capabilities=capabilities,
        security=_security.security(
            one.init.status,
            confinement,
            everything=capabilities.everything,
            host_user_namespace=user.host if user else None,
        ),
        limits=_limits.limits(
            chains["cpu"], chains["cpuset"], chains["memory"], chains["pids"], snapshot.host.cpus_online
        ),
        usage=_limits.usage(chains["cpu"], chains["cpuacct"], chains["memory"], chains["pids"]),
    )


def _init(snapshot: Snapshot, process: Process) -> Init:
    boot = snapshot.host.boot_time
    status = process.status
    return Init(
        pid=process.pid,
        ns_pid=status.nspid[-1] if status and status.nspid else None,
        started_at=None if boot is None else boot + process.starttime / CLOCK_TICKS,
        uid=status.uid.effective if status else None,
        comm=process.comm,
    )


def _sharing(groups: list[Group]) -> dict[tuple[str, int], tuple[str, ...]]:
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
        others = () if host else tuple(other for other in sharing[kind, inode] if other != one.match.id)
        found[kind] = Namespace(inode=inode, host=host, shared_with=others)
    return found


def _not_offered(snapshot: Snapshot) -> list[Issue]:
    """Files that no container has, so that a ``null`` is explained once and not for each container."""
    issues = []
    for index, hierarchy in enumerate(snapshot.hierarchies):
        mine = [cgroup for (at, path), cgroup in snapshot.cgroups.items() if at == index and path != b"/"]
        for file in files_of(hierarchy, usage=True) if mine else ():
            if not any(file in cgroup.files or file in cgroup.unknown for cgroup in mine):
                path = f"{hierarchy.point}/*/{file}"
                issues.append(Issue("not_offered", path, "no container's cgroup has this file"))
    return issues
