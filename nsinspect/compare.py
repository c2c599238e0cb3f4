"""What is different between two looks at one container."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from nsinspect import capabilities
from nsinspect.cgroupfs import format_cpu_list
from nsinspect.changes import Change
from nsinspect.limits import Bound
from nsinspect.model import Container
from nsinspect.mounts import visible


def container(old: Container, new: Container, *, restarted: bool) -> Iterator[Change]:
    """Every difference; ``restarted``: where its init is another one, so are its namespaces."""
    if restarted:
        yield whole("container_restarted", new, old.init.started_at, new.init.started_at)
    for name in ("name", "image"):
        yield from _plain(new, "identity_changed", name, getattr(old, name), getattr(new, name))
    yield from _limits(old, new)
    yield from _powers(old, new)
    yield from _confinement(old, new)
    yield from _namespaces(old, new, restarted=restarted)
    yield from _mounts(old, new)
    yield from _declared(old, new)
    yield from _usage(old, new)


def _plain(
    container: Container,
    kind: str,
    field: str,
    before: Any,
    after: Any,
    evidence: Iterable[tuple[str, str | bytes]] = (),
) -> Iterator[Change]:
    if before is not None and after is not None and before != after:
        yield Change(
            kind=kind,
            container=container.id,
            field=field,
            before=before,
            after=after,
            evidence=tuple(evidence),
            pid=container.init.pid,
        )


def _cpus(cpus: tuple[int, ...] | None) -> str | None:
    return None if cpus is None else format_cpu_list(cpus)


def _memory(name: str) -> tuple[str, Callable[[Container], Bound], Callable[[Container], Any]]:
    attribute = name.removesuffix("_bytes")

    def bound(container: Container) -> Bound:
        found: Bound = getattr(container.limits.effective_memory, attribute)
        return found

    return f"limits.memory.effective.{name}", bound, lambda c: getattr(c.limits.memory, name)


# By key of the document: the effective limit and who imposes it, and the container's own.
_EFFECTIVE: tuple[tuple[str, Callable[[Container], Bound], Callable[[Container], Any]], ...] = (
    *(_memory(name) for name in ("max_bytes", "swap_max_bytes", "reservation_bytes", "high_bytes")),
    ("limits.pids.effective.max", lambda c: c.limits.effective_pids, lambda c: c.limits.pids),
)
_OWN: tuple[tuple[str, Callable[[Container], Any]], ...] = (
    ("limits.cpu.effective.cpuset", lambda c: _cpus(c.limits.effective_cpu.cpuset)),
    ("limits.cpu.own.shares", lambda c: c.limits.cpu.shares),
    ("limits.cpu.own.weight", lambda c: c.limits.cpu.weight),
)


ENFORCED = {
    "cores": "limits.cpu.effective.cores",
    "shares": "limits.cpu.effective.shares",
    "cpuset": "limits.cpu.effective.cpuset",
    "memory_max": "limits.memory.effective.max_bytes",
    "swap_max": "limits.memory.effective.swap_max_bytes",
    "reservation": "limits.memory.effective.reservation_bytes",
    "pids": "limits.pids.effective.max",
}
"""By what was declared, what enforces it."""


def _unread(container: Container) -> bool:
    """Whether nothing of its own cgroup could be read: then nothing that is set there is known either."""
    limits = container.limits
    return limits.cpu.quota_us is None and limits.memory.max_bytes is None and limits.pids is None


def _limits(old: Container, new: Container) -> Iterator[Change]:
    kind = "limit_changed"
    cpu = new.limits.effective_cpu
    imposer = [("cgroup", cpu.imposed_by)] if cpu.imposed_by is not None else []
    found = list(_plain(new, kind, "limits.cpu.effective.cores", old.limits.effective_cpu.cores, cpu.cores, imposer))
    yield from found or _plain(new, kind, "limits.cpu.own.cores", old.limits.cpu.cores, new.limits.cpu.cores)
    for field, bound, own in _EFFECTIVE:
        was, now = bound(old), bound(new)
        imposer = [("cgroup", now.imposed_by)] if now.imposed_by is not None else []
        found = list(_plain(new, kind, field, was.value, now.value, imposer))
        yield from found or _plain(new, kind, field.replace(".effective.", ".own."), own(old), own(new))
    for field, get in _OWN:
        yield from _plain(new, kind, field, get(old), get(new))
    if _unread(old) or _unread(new):
        return
    before, after = dict(old.others), dict(new.others)
    for file in sorted(before.keys() | after.keys()):
        was_set, is_set = ([os.fsdecode(line) for line in some.get(file, ())] for some in (before, after))
        yield from _plain(new, kind, f"limits.others.{file}", was_set, is_set)


def _powers(old: Container, new: Container) -> Iterator[Change]:
    def mask(container: Container) -> int | None:
        sets = container.capabilities
        if sets.bounding is None or sets.effective is None or sets.permitted is None:
            return None
        return sets.bounding | sets.effective | sets.permitted

    before, after = mask(old), mask(new)
    if before is None or after is None:
        return
    file = f"/proc/{new.init.pid}/status"
    for kind, bits in (("capability_gained", after & ~before), ("capability_lost", before & ~after)):
        if bits:
            sets = new.capabilities
            yield Change(
                kind=kind,
                container=new.id,
                field="capabilities.bounding",
                before=capabilities.names(before),
                after=capabilities.names(after),
                evidence=((file, f"CapBnd {sets.bounding:016x}, CapEff {sets.effective:016x}"),),
                pid=new.init.pid,
            )


def _confinement(old: Container, new: Container) -> Iterator[Change]:
    for name in ("privileged", "seccomp", "no_new_privs", "lsm_label", "read_only_rootfs"):
        before, after = getattr(old.security, name), getattr(new.security, name)
        yield from _plain(new, "confinement_changed", f"security.{name}", before, after)
    yield from _plain(new, "confinement_changed", "init.uid", old.init.uid, new.init.uid)
    rules = ([os.fsdecode(rule) for rule in side.device_rules] if side.device_rules else None for side in (old, new))
    yield from _plain(new, "confinement_changed", "security.device_rules", next(rules), next(rules))


def _namespaces(old: Container, new: Container, *, restarted: bool) -> Iterator[Change]:
    for kind, now in new.namespaces.items():
        was = old.namespaces[kind]
        if was is None or now is None:
            continue
        evidence = ((f"/proc/{new.init.pid}/ns/{kind}", f"{kind}:[{now.inode}]"),)
        field = f"namespaces.{kind}"
        if was.host is not None and now.host is not None and was.host != now.host:
            whose, now_whose = ("host" if one.host else "private" for one in (was, now))
            yield from _plain(new, "namespace_changed", field, whose, now_whose, evidence)
        elif was.inode != now.inode and not restarted:
            yield from _plain(new, "namespace_changed", field, was.inode, now.inode, evidence)
        for change, more in (
            ("namespace_joined", [one for one in now.shared_with if one not in was.shared_with]),
            ("namespace_left", [one for one in was.shared_with if one not in now.shared_with]),
        ):
            if more:
                yield from _plain(new, change, field, list(was.shared_with), list(now.shared_with), evidence)


def _mounts(old: Container, new: Container) -> Iterator[Change]:
    if old.mount_table is None or new.mount_table is None:
        return
    before, after = (
        {(one.point, one.host_path, one.read_only): one for one in visible(side.mount_table or (), side.host_mounts)}
        for side in (old, new)
    )
    for kind, some, others in (("mount_removed", before, after), ("mount_added", after, before)):
        for key, one in some.items():
            if key not in others:
                shown = one._asdict()
                yield Change(
                    kind=kind,
                    container=new.id,
                    field="mounts",
                    before=shown if kind == "mount_removed" else None,
                    after=shown if kind == "mount_added" else None,
                    evidence=((f"/proc/{new.init.pid}/mountinfo", one.point),),
                    pid=new.init.pid,
                )


def _declared(old: Container, new: Container) -> Iterator[Change]:
    if old.declared is not None and new.declared is not None and old.declared != new.declared:
        before, after = old.declared._asdict(), new.declared._asdict()
        for name in before:
            if before[name] != after[name]:
                yield Change(
                    kind="declared_changed",
                    container=new.id,
                    field=f"declared.{name}",
                    before=before[name],
                    after=after[name],
                    evidence=((new.declared_source, name),),
                )
    if old.drift is None or new.drift is None:
        return
    was, now = ({one.field: one for one in side.drift or ()} for side in (old, new))
    for kind, some, others in (("drift_ended", was, now), ("drift_began", now, was)):
        for field, one in some.items():
            if field not in others:
                where = ((f"cgroup {os.fsdecode(one.where)}", ""),) if one.where else ()
                yield Change(
                    kind=kind,
                    container=new.id,
                    field=field,
                    before=one.declared,
                    after=one.enforced,
                    evidence=where,
                    pid=new.init.pid,
                )


def _usage(old: Container, new: Container) -> Iterator[Change]:
    before, after = old.usage._asdict(), new.usage._asdict()
    for name in before:
        if name == "oom_kills" and (before[name] or 0) < (after[name] or 0) and before[name] is not None:
            yield from _plain(new, "oom_kill", "usage.oom_kills", before[name], after[name])
        else:
            yield from _plain(new, "usage_changed", f"usage.{name}", before[name], after[name])
    for kind, pids in (
        ("process_started", sorted(set(new.pids) - set(old.pids))),
        ("process_ended", sorted(set(old.pids) - set(new.pids))),
    ):
        for pid in pids:
            yield Change(kind=kind, container=new.id, field="pids", before=None, after=None, pid=pid)


def whole(kind: str, container: Container, before: Any, after: Any) -> Change:
    """A container that came, went or was started anew."""
    return Change(
        kind=kind,
        container=container.id,
        field="init.started_at",
        before=before,
        after=after,
        evidence=tuple((says, what) for says, what in container.evidence),
        pid=container.init.pid,
    )
