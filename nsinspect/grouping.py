"""Which processes make a container, and which of them is its init.

Asked twice: by the collector, to know which cgroups and which processes deserve a closer look, and by the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from nsinspect.cgroupfs import Hierarchy, path_in
from nsinspect.procfs import CgroupLine
from nsinspect.runtimes import recognise
from nsinspect.runtimes.base import Match
from nsinspect.snapshot import Process


@dataclass(frozen=True, slots=True)
class Group:
    """One container: what recognised it, its processes by ascending pid, and its init."""

    match: Match
    processes: tuple[Process, ...]
    init: Process


def group(processes: Sequence[Process]) -> list[Group]:
    """The containers among ``processes``, in the order of their inits' start."""
    members: dict[tuple[str, str, bytes], tuple[Match, list[Process]]] = {}
    # The collector gives processes of one cgroup the very same lines, so each set is looked at once; by identity,
    # because hashing ten lines for each of thousands of processes costs more than looking at them.
    known: dict[int, Match | None] = {}
    for process in processes:
        lines = process.cgroup
        if id(lines) not in known:
            known[id(lines)] = _container_of(lines)
        match = known[id(lines)]
        if match is not None:
            # Processes may be in the payload cgroup or above it: the same container.
            members.setdefault((match.runtime, match.id, match.path), (match, []))[1].append(process)
    groups = [Group(match, tuple(sorted(found)), _init_of(found)) for match, found in members.values()]
    return sorted(groups, key=lambda g: (g.init.starttime, g.match.id))


def own_cgroups(one: Group, hierarchy: Hierarchy) -> tuple[bytes, ...]:
    """A container's own cgroups in a hierarchy, innermost first: the one its engine named, and the one the engine made
    below that for its processes, where it did.  Where the hierarchy does not name it, where its init is."""
    path = path_in(hierarchy, one.init.cgroup)
    if path is None:
        return ()
    match = recognise(path)
    if match is None:
        return (path,)
    return (match.path,) if match.payload == match.path else (match.payload, match.path)


def _container_of(lines: tuple[CgroupLine, ...]) -> Match | None:
    """The v2 path first, then v1's memory, then any other: the order in which paths are trusted."""
    for line in sorted(lines, key=lambda line: (bool(line.controllers), "memory" not in line.controllers)):
        match = recognise(line.path)
        if match is not None:
            return match
    return None


def _init_of(members: list[Process]) -> Process:
    """PID 1 of the container's own pid namespace, or the oldest process where it has none (``--pid=host``).

    A process of a namespace made inside the container is PID 1 too, so the shallowest wins, then the oldest.
    """
    return min(members, key=lambda p: (not _is_pid_1(p), _depth(p), p.starttime, p.pid))


def _is_pid_1(process: Process) -> bool:
    nspid = process.status.nspid if process.status else None
    return nspid is not None and len(nspid) > 1 and nspid[-1] == 1


def _depth(process: Process) -> int:
    nspid = process.status.nspid if process.status else None
    return len(nspid) if nspid else 0
