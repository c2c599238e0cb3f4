"""Every namespace of a host: who is in it, whose it is, and what keeps it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from nsinspect.model import Model
from nsinspect.namespaces import TYPES, Holder, Kin
from nsinspect.snapshot import Process, Snapshot

_NO_KIN = Kin(None, None, None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """One namespace.  ``pids`` are its processes, ascending, and ``first`` the one with the lowest pid; ``containers``
    the ids of containers with a process in it.  ``host``: whether PID 1 of the host is in it."""

    kind: str
    inode: int
    host: bool | None
    pids: tuple[int, ...]
    first: Process | None
    user: str | None
    containers: tuple[str, ...]
    kin: Kin
    holders: tuple[Holder, ...]


def memberships(snapshot: Snapshot, model: Model) -> tuple[Membership, ...]:
    """By inode, as lsns(8) lists them; those that only a bind mount or a descriptor keeps are there too."""
    members: defaultdict[tuple[str, int], list[Process]] = defaultdict(list)
    for process in snapshot.processes:
        for kind, inode in zip(TYPES, process.namespaces, strict=True):
            if inode is not None:
                members[kind, inode].append(process)
    holders: defaultdict[tuple[str, int], list[Holder]] = defaultdict(list)
    for holder in snapshot.lineage.holders:
        holders[holder.kind, holder.inode].append(holder)
    around: defaultdict[int, list[str]] = defaultdict(list)
    for container in model.containers:
        for pid in container.pids:
            around[pid].append(container.id)
    hosts = snapshot.host.namespaces
    found = []
    for key in sorted({*members, *holders}, key=lambda key: (key[1], key[0])):
        kind, inode = key
        inside = sorted(members[key]) if key in members else []
        own = getattr(hosts, kind)
        found.append(
            Membership(
                kind=kind,
                inode=inode,
                host=None if own is None else inode == own,
                pids=tuple(process.pid for process in inside),
                first=inside[0] if inside else None,
                user=_user(snapshot, inside[0]) if inside else None,
                containers=tuple(dict.fromkeys(name for process in inside for name in around.get(process.pid, ()))),
                kin=snapshot.lineage.kin.get(inode, _NO_KIN),
                holders=tuple(holders.get(key, ())),
            )
        )
    return tuple(found)


def _user(snapshot: Snapshot, process: Process) -> str | None:
    return None if process.status is None else snapshot.users.get(process.status.uid.effective)
