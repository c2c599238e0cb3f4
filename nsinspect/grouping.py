"""Which processes make a container, which of them is its init, and which container is inside which.

Asked twice: by the collector, to know which cgroups and which processes deserve a closer look, and by the model.

Identity comes from what an engine owns.  The outermost container on a cgroup path is the engine's work.  What lies
below may be the work of an engine inside, or of anybody who may make a cgroup there: it counts as a container of its
own only when its processes also have a mount or pid namespace of their own, and even then as one inside the outer one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from nsinspect.declarations import Claim
from nsinspect.hierarchies import Hierarchy, ancestors, paths_in
from nsinspect.namespaces import TYPES, Namespaces
from nsinspect.procfs import CgroupLine
from nsinspect.runtimes import Match, recognise
from nsinspect.snapshot import Process

KTHREADD = 2
"""The pid of the parent of all kernel threads, in the initial pid namespace."""


class Group(NamedTuple):
    """One container.  ``processes`` are all of its subtree by ascending pid, ``own`` those not in a container inside.

    ``kind`` is "container" or "isolate".  ``claim`` is the state file that told of it, where no cgroup's name did.
    ``nested`` is true for one whose cgroup is inside another's, so that the host's engines know nothing of it.
    """

    match: Match
    processes: tuple[Process, ...]
    own: tuple[Process, ...]
    init: Process
    kind: str = "container"
    claim: Claim | None = None
    parent: str | None = None
    nested: bool = False


class Grouping(NamedTuple):
    """All containers by start of their inits, and the cgroups that only look like one: (path, pids)."""

    groups: tuple[Group, ...]
    spoofed: tuple[tuple[bytes, tuple[int, ...]], ...]


def group(
    processes: Sequence[Process],
    claims: Iterable[Claim] = (),
    host: Namespaces | None = None,
    *,
    isolates: bool = False,
) -> Grouping:
    """The containers among ``processes``; with ``isolates`` also those that live in namespaces of their own."""
    live = _live(claims, processes)
    chains = _chains(processes, live)
    members: defaultdict[Match, list[Process]] = defaultdict(list)
    direct: defaultdict[Match, list[Process]] = defaultdict(list)
    outer: dict[Match, Match] = {}
    for chain, some in chains:
        for match in chain:
            members[match] += some
        if chain:
            direct[chain[-1]] += some
        if len(chain) > 1:
            outer.update(zip(chain[1:], chain, strict=False))
    # Of each those in no other: its init may be in the host's pid namespace, and PID 1 of one inside would pass for it.
    spoofed = {
        match
        for match, around in outer.items()
        if not _lives_apart(direct[match] or members[match], direct[around] or members[around])
    }
    own: defaultdict[Match, list[Process]] = defaultdict(list)
    for chain, some in chains:
        genuine = [match for match in chain if match not in spoofed]
        if genuine:
            own[genuine[-1]] += some
    without_cgroup = _without_cgroup(live, {process.pid for found in own.values() for process in found}, processes)
    told = {(claim.runtime, claim.id): claim for claim in live}
    # A bare id under a pod is "unknown"; a state file that has that very id knows better.
    told |= {("unknown", claim.id): claim for claim in live}
    groups = [
        Group(
            match=match,
            processes=tuple(sorted(found)),
            # An init that went into a container inside leaves none of its own to speak for this one.
            own=tuple(sorted(own[match] or found)),
            init=init_of(own[match] or found),
            claim=told.get((match.runtime, match.id)),
            nested=match in outer,
        )
        for match, found in [*members.items(), *without_cgroup.items()]
        # Of one that has ended the dead may be left, where nobody buries them.
        if match not in spoofed and any(process.state not in "ZX" for process in found)
    ]
    groups = _with_parents(groups, outer, {process.pid: process for process in processes})
    if isolates and host is not None:
        taken = {process.pid for one in groups for process in one.processes}
        # Kernel threads are children of kthreadd; devtmpfs' has a mount namespace of its own.
        others = (p for p in processes if p.pid not in taken and KTHREADD not in (p.pid, p.ppid))
        groups += _isolates(others, host, {inode for one in groups for inode in one.init.namespaces})
    return Grouping(
        groups=tuple(sorted(groups, key=lambda one: (one.init.starttime, one.init.pid))),
        spoofed=tuple(sorted((match.path, tuple(sorted(p.pid for p in members[match]))) for match in spoofed)),
    )


Levels = tuple[tuple[bytes, ...], tuple[bytes, ...]]
"""A container's own cgroups in a hierarchy and those above, each innermost first."""


def own_cgroups(one: Group, hierarchies: Iterable[Hierarchy]) -> list[Levels]:
    """A container's own cgroups and those above, for each of the hierarchies.

    Its own are the one its engine named and the one the engine made below that for its processes, where it did; where
    the hierarchy does not name it, the one its init is in.  A container without a cgroup has only those above, and so
    has one that is still at the root, which is the whole host's: engines put an init into one hierarchy after another.
    """
    # Engines give a container the same path in nearly all of v1's hierarchies.
    known: dict[bytes | None, Levels] = {None: ((), ())}
    paths = paths_in(hierarchies, one.init.cgroup)
    for path in paths:
        if path is not None and path not in known:
            known[path] = _levels(one, path)
    return [known[path] for path in paths]


def _levels(one: Group, path: bytes) -> Levels:
    if one.claim is not None and one.claim.cgroup is None:
        return (), ancestors(path)
    if path == one.match.path:  # the usual case
        return (path,), ancestors(path)[1:]
    if path == b"/":
        return (), (path,)
    own: tuple[bytes, ...] = (path,)
    if one.claim is not None and one.claim.cgroup is not None and _is_below(path, one.claim.cgroup):
        own = (one.claim.cgroup,)
    for match in recognise(path):
        if (match.runtime, match.id) == (one.match.runtime, one.match.id):
            own = (match.path,) if match.payload == match.path else (match.payload, match.path)
    return own, ancestors(own[-1])[1:]


def _live(claims: Iterable[Claim], processes: Sequence[Process]) -> list[Claim]:
    """Claims whose init is there: a file may outlive its container, and its pid be another process's now."""
    started = {process.pid: process.starttime for process in processes}
    return [
        claim
        for claim in claims
        if claim.pid is None or (claim.pid in started and claim.starttime in (None, started[claim.pid]))
    ]


def _chains(processes: Iterable[Process], claims: Iterable[Claim]) -> list[tuple[tuple[Match, ...], list[Process]]]:
    """Processes of the same cgroups, with the containers that those are in, outermost first.

    By identity of the lines: the collector gives processes of one cgroup the very same, and hashing ten lines for each
    of thousands of processes would cost more than looking at them.
    """
    claimed = {claim.cgroup: claim for claim in claims if claim.cgroup is not None and claim.cgroup != b"/"}
    alike: defaultdict[int, list[Process]] = defaultdict(list)
    for process in processes:
        alike[id(process.cgroup)].append(process)
    found = []
    for some in alike.values():
        lines = some[0].cgroup
        named, told = _chain_of(lines), _claimed_chain(lines, claimed)
        # A container that only a state file tells of may have others, with telling names, inside.
        inside = not named or (told and _is_below(named[0].path, told[0].path) and named[0].path != told[0].path)
        found.append((told + named if inside else named, some))
    return found


def _chain_of(lines: tuple[CgroupLine, ...]) -> tuple[Match, ...]:
    """By naming: the path that leads through most containers, because an engine inside one may have been given only
    some of the hierarchies; of equals the v2 path, then v1's memory, then any other."""
    v2 = [path for _, controllers, path in lines if not controllers]
    memory = [path for _, controllers, path in lines if "memory" in controllers]
    longest: tuple[Match, ...] = ()
    for path in dict.fromkeys((*v2, *memory, *_paths(lines))):
        chain = recognise(path)
        if len(chain) > len(longest):
            longest = chain
    # Processes may be in a payload cgroup or above it: the same container.
    return tuple(match._replace(payload=match.path) for match in longest)


def _claimed_chain(lines: tuple[CgroupLine, ...], claimed: dict[bytes, Claim]) -> tuple[Match, ...]:
    if claimed:
        for inside in _paths(lines):
            for path in ancestors(inside):
                if path in claimed:
                    return (Match(claimed[path].runtime, claimed[path].id, path, path),)
    return ()


def _paths(lines: tuple[CgroupLine, ...]) -> Iterable[bytes]:
    """Each once, in their order: engines give a process the same path in nearly all of v1's hierarchies."""
    return dict.fromkeys([path for _, _, path in lines])


def _without_cgroup(
    claims: Iterable[Claim], taken: set[int], processes: Sequence[Process]
) -> dict[Match, list[Process]]:
    """Containers that only a state file knows: everything in the pid namespace of its init, or init's descendants."""
    by_pid = {process.pid: process for process in processes}
    found: dict[Match, list[Process]] = {}
    for claim in claims:
        init = by_pid.get(claim.pid or 0)
        if claim.cgroup is not None or init is None or init.pid in taken:
            continue
        path = init.cgroup[-1].path if init.cgroup else b"/"
        parent = by_pid.get(init.ppid)
        namespace = init.namespaces.pid
        if parent is not None and namespace is not None and namespace != parent.namespaces.pid:
            members = [process for process in processes if process.namespaces.pid == namespace]
        else:
            members = _descendants(init, processes)
        found[Match(claim.runtime, claim.id, path, path)] = [one for one in members if one.pid not in taken]
    return found


def _descendants(init: Process, processes: Sequence[Process]) -> list[Process]:
    children: defaultdict[int, list[Process]] = defaultdict(list)
    for process in processes:
        children[process.ppid].append(process)
    found, waiting = [], [init]
    while waiting:
        found.append(waiting.pop())
        waiting += children[found[-1].pid]
    return found


def _lives_apart(members: list[Process], around: list[Process]) -> bool:
    """Whether an inner container is one: only an engine gives processes a mount or pid namespace of their own."""
    inner, outer = init_of(members).namespaces, init_of(around).namespaces
    return any(
        mine is not None and theirs is not None and mine != theirs
        for mine, theirs in ((inner.mnt, outer.mnt), (inner.pid, outer.pid))
    )


def _with_parents(groups: list[Group], outer: dict[Match, Match], by_pid: dict[int, Process]) -> list[Group]:
    """Each group with the id of the container it is in: by its cgroup, or, where an engine inside put its containers
    beside its own (a shared cgroup namespace), by the processes that started it."""
    genuine = {one.match for one in groups}
    holder = {process.pid: one.match for one in groups for process in one.own}
    found = []
    for one in groups:
        around = outer.get(one.match)
        while around is not None and around not in genuine:
            around = outer.get(around)
        ancestor, seen = by_pid.get(one.init.ppid), {one.init.pid}
        while around is None and ancestor is not None and ancestor.pid not in seen:
            seen.add(ancestor.pid)
            held_by = holder.get(ancestor.pid)
            around = held_by if held_by != one.match else None
            ancestor = by_pid.get(ancestor.ppid)
        found.append(one if around is None else one._replace(parent=around.id))
    return found


def _isolates(processes: Iterable[Process], host: Namespaces, containers: Collection[int | None]) -> list[Group]:
    """Processes of no container that share a namespace which is neither the host's nor one of ``containers``: one group
    for each pid namespace, or where they have none of their own for each of another type, the most telling first."""
    order = ("pid", "mnt", "user", "net", "ipc", "uts", "cgroup", "time")
    members: defaultdict[str, list[Process]] = defaultdict(list)
    for process in processes:
        for kind in order:
            inode, hosts = process.namespaces[TYPES.index(kind)], host[TYPES.index(kind)]
            if inode is not None and hosts is not None and inode != hosts and inode not in containers:
                members[f"{kind}:{inode}"].append(process)
                break
    groups = []
    for name, found in members.items():
        init = init_of(found)
        path = init.cgroup[-1].path if init.cgroup else b"/"
        whole = tuple(sorted(found))
        groups.append(
            Group(match=Match("unknown", name, path, path), processes=whole, own=whole, init=init, kind="isolate")
        )
    return groups


def init_of(members: Iterable[Process]) -> Process:
    """PID 1 of the container's own pid namespace, or the oldest process where it has none (``--pid=host``).

    A process of a namespace made inside the container is PID 1 too, so the shallowest wins, then the oldest.
    """
    return min(members, key=_rank)


def _rank(process: Process) -> tuple[bool, int, int, int]:
    # Of one whose status could not be had no more is known than that it is there.
    nspid = (process.status.nspid if process.status else None) or (process.pid,)
    return len(nspid) < 2 or nspid[-1] != 1, len(nspid), process.starttime, process.pid


def _is_below(path: bytes, above: bytes) -> bool:
    """Whether ``path`` is ``above`` or inside it."""
    return path == above or path.startswith(above.rstrip(b"/") + b"/")
