"""Which container a process belongs to, and how that is known."""

from __future__ import annotations

import os
from typing import NamedTuple

from nsinspect.model import Container, Model, Namespace
from nsinspect.namespaces import TYPES
from nsinspect.snapshot import Process, Snapshot


class Located(NamedTuple):
    """One process.  ``container`` is the innermost it is in, ``None`` for a process of the host.  ``evidence`` are
    pairs of what says so and what it says."""

    process: Process
    container: Container | None
    namespaces: dict[str, Namespace | None]
    evidence: tuple[tuple[str, str], ...]


def locate(snapshot: Snapshot, model: Model, pid: int) -> Located | None:
    """Where a process belongs; ``None`` when there is no such process."""
    process = next((one for one in snapshot.processes if one.pid == pid), None)
    if process is None:
        return None
    around = [container for container in model.containers if pid in container.pids]
    # Of a container and one inside it, the one inside has fewer processes.
    container = min(around, key=lambda one: len(one.pids), default=None)
    return Located(
        process=process,
        container=container,
        namespaces=_namespaces(snapshot, model, process),
        evidence=_evidence(process, container),
    )


def _namespaces(snapshot: Snapshot, model: Model, process: Process) -> dict[str, Namespace | None]:
    found: dict[str, Namespace | None] = {}
    for kind, inode, hosts in zip(TYPES, process.namespaces, snapshot.host.namespaces, strict=True):
        if inode is None:
            found[kind] = None
            continue
        host = None if hosts is None else inode == hosts
        holders = tuple(c.id for c in model.containers if (n := c.namespaces[kind]) and n.inode == inode)
        found[kind] = Namespace(inode=inode, host=host, shared_with=() if host else holders)
    return found


def _evidence(process: Process, container: Container | None) -> tuple[tuple[str, str], ...]:
    line = next((line for line in process.cgroup if not line.controllers), None)
    memory = next((line for line in process.cgroup if "memory" in line.controllers), line)
    where = line if line is not None and (line.path != b"/" or memory is None) else memory
    found = [("cgroup path", os.fsdecode(where.path))] if where is not None else []
    if container is not None:
        found += [one for one in container.evidence if one[0] != "cgroup path"]
    return tuple(found)
