"""Who has which capability: every process of a container, and threads that are unlike their process."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from nsinspect.capabilities import all_of
from nsinspect.model import Container, Model, innermost
from nsinspect.procfs import Status
from nsinspect.snapshot import Process, Snapshot

Sets = tuple[int, int, int, int, int | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Power:
    """One process, or one thread of it (``tid`` is not ``pid``).  Masks as in its status, ``None`` where unknown.

    ``relative_to``: inode of the user namespace its capabilities count in, where that is not the host's; they are then
    no power over the host.  ``container``: id of the innermost container it is in, ``None`` for the host's.
    """

    pid: int
    tid: int
    comm: bytes
    uid: int | None
    user: str | None
    container: str | None
    relative_to: int | None
    effective: int | None
    permitted: int | None
    inheritable: int | None
    bounding: int | None
    ambient: int | None
    full: bool | None
    unlike_init: bool


def powers(snapshot: Snapshot, model: Model) -> tuple[Power, ...]:
    """Every process of the host by pid, each followed by those of its threads whose capabilities or uid differ."""
    around_it = innermost(model.containers)
    inits = {process.pid: process.status for process in snapshot.processes}
    last = snapshot.host.cap_last_cap
    found = []
    for process in sorted(snapshot.processes):
        around = around_it.get(process.pid)
        init = inits.get(around.init.pid) if around else None
        found.append(_power(snapshot, process, process.pid, process.comm, process.status, around, init, last))
        for thread in snapshot.threads.get(process.pid, ()):
            # A thread that ends says so with empty sets.
            alive = thread.state not in "ZX" and thread.status is not None
            if alive and _shown(thread.status) != _shown(process.status):
                found.append(_power(snapshot, process, thread.tid, thread.comm, thread.status, around, init, last))
    return tuple(found)


def having(found: Iterable[Power], mask: int) -> tuple[Power, ...]:
    """Those whose effective or permitted set has every capability of ``mask``: what it can use at once."""
    return tuple(one for one in found if ((one.effective or 0) | (one.permitted or 0)) & mask == mask)


def _shown(status: Status | None) -> tuple[Sets, int] | None:
    if status is None:
        return None
    return (status.cap_inh, status.cap_prm, status.cap_eff, status.cap_bnd, status.cap_amb), status.uid.effective


def _power(
    snapshot: Snapshot,
    process: Process,
    tid: int,
    comm: bytes,
    status: Status | None,
    around: Container | None,
    init: Status | None,
    last: int | None,
) -> Power:
    hosts, its = snapshot.host.namespaces.user, process.namespaces.user
    zombie = process.state in "ZX"
    return Power(
        pid=process.pid,
        tid=tid,
        comm=comm,
        uid=status.uid.effective if status else None,
        user=snapshot.users.get(status.uid.effective) if status else None,
        container=around.id if around else None,
        relative_to=its if hosts is not None and its != hosts else None,
        effective=status.cap_eff if status else None,
        permitted=status.cap_prm if status else None,
        inheritable=status.cap_inh if status else None,
        bounding=status.cap_bnd if status else None,
        ambient=status.cap_amb if status else None,
        full=None if status is None or last is None else status.cap_eff & all_of(last) == all_of(last),
        unlike_init=init is not None
        and status is not None
        and not zombie
        and (status.cap_eff | status.cap_prm, status.cap_bnd) != (init.cap_eff | init.cap_prm, init.cap_bnd),
    )
