"""What is different between two looks at a host: containers, limits, powers, namespaces, mounts, ports, findings.

What is unknown on either side is no difference.  What changes all the time (usage, processes coming and going) is told
apart as noise, and what only follows from another difference says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from nsinspect import compare
from nsinspect.changes import Change
from nsinspect.findings import KINDS, Finding, settled
from nsinspect.model import Container, Model, build
from nsinspect.networks import Net, networks
from nsinspect.scrutiny import findings
from nsinspect.snapshot import Snapshot

_JOINING = ("joined", "host_namespaces", "other_namespaces", "user_namespace")


class Side:
    """One look, and everything that it means."""

    def __init__(self, snapshot: Snapshot, model: Model | None = None) -> None:
        self.snapshot = snapshot
        self.model = model or build(snapshot)
        self.started = {process.pid: process.starttime for process in snapshot.processes}
        # One in its first second is still being made: with all capabilities, without its filter.
        self.containers: dict[str, Container] = {}
        for one in self.model.containers:
            # What a container calls one inside itself takes nobody's place.
            taken = one.id in self.containers and one.parent is not None
            if not taken and settled(snapshot, self.started[one.init.pid]):
                self.containers[one.id] = one
        self.findings = {self._known_by(one): one for one in findings(snapshot, self.model)}
        self.nets: tuple[Net, ...] = networks(snapshot, self.model)

    def _known_by(self, one: Finding) -> tuple[str, str, int, int, int]:
        """A finding of the next process by that pid is another one."""
        return one.kind, one.container, one.pid, self.started[one.pid], one.tid

    def identity(self, container: Container) -> tuple[str | None, int, int]:
        """By which its init is told from the next one; the time of day may be set meanwhile."""
        return self.model.host.boot_id, container.init.pid, self.started[container.init.pid]

    def ports(self, container: str) -> set[tuple[str, str, int]] | None:
        """What a container listens on; ``None`` where that is not known."""
        mine = [net for net in self.nets if container in net.containers]
        if not mine or any(net.listening is None for net in mine):
            return None
        return {
            (one.socket.protocol, one.socket.address, one.socket.port)
            for net in mine
            for one in net.listening or ()
            if container in (one.containers or ())
        }


def diff(before: Side, after: Side) -> tuple[Change, ...]:
    """Every difference, noise included; by container as they are listed, the host first."""
    changes = [*_host(before, after)]
    for identity in dict.fromkeys((*before.containers, *after.containers)):
        old, new = before.containers.get(identity), after.containers.get(identity)
        if old is None and new is not None:
            changes.append(compare.whole("container_started", new, None, new.init.started_at))
        elif new is None and old is not None:
            changes.append(compare.whole("container_stopped", old, old.init.started_at, None))
        elif old is not None and new is not None:
            restarted = before.identity(old) != after.identity(new)
            changes += _told_once([*compare.container(old, new, restarted=restarted), *_ports(before, after, identity)])
        changes += _standing_out(before, after, identity)
    return tuple(changes)


def worth_saying(changes: Iterable[Change]) -> tuple[Change, ...]:
    """Without noise, and without what another one has said."""
    return tuple(one for one in changes if not one.noise and not one.follows)


def _told_once(changes: list[Change]) -> list[Change]:
    """What was declared and what drifts follows from a limit that somebody changed."""
    limits = {one.field.replace(".own.", ".effective.") for one in changes if one.kind == "limit_changed"}

    def follows(one: Change) -> bool:
        if one.kind == "declared_changed":
            return compare.ENFORCED.get(one.field.removeprefix("declared.")) in limits
        return one.kind in ("drift_began", "drift_ended") and one.field.replace(".own.", ".effective.") in limits

    return [replace(one, follows=True) if follows(one) else one for one in changes]


def _host(before: Side, after: Side) -> Iterator[Change]:
    for name in ("boot_id", "hostname", "kernel", "cpus_online", "memory_bytes"):
        old, new = getattr(before.model.host, name), getattr(after.model.host, name)
        if None not in (old, new) and old != new:
            yield Change(kind="host_changed", container=None, field=f"host.{name}", before=old, after=new)


def _ports(before: Side, after: Side, identity: str) -> Iterator[Change]:
    was, now = before.ports(identity), after.ports(identity)
    if was is None or now is None:
        return
    for port in sorted(was - now):
        yield Change(kind="listening_ended", container=identity, field="network.listening", before=port, after=None)
    for port in sorted(now - was):
        yield Change(kind="listening_began", container=identity, field="network.listening", before=None, after=port)


def _standing_out(before: Side, after: Side, identity: str) -> Iterator[Change]:
    """Findings that are new, and those that are gone though their container is not."""
    for key, one in after.findings.items():
        if one.container == identity and key not in before.findings:
            kind = "capability_gained" if one.gained else "namespace_joined" if one.kind in _JOINING else None
            yield _about(kind or "process_stood_out", one, before=None, after=KINDS[one.kind])
    for key, one in before.findings.items():
        if one.container == identity and identity in after.containers and key not in after.findings:
            yield _about("process_no_longer_stands_out", one, before=KINDS[one.kind], after=None)


def _about(kind: str, one: Finding, *, before: str | None, after: str | None) -> Change:
    return Change(
        kind=kind,
        container=one.container,
        field=f"findings.{one.kind}",
        before=before,
        after=after,
        evidence=one.evidence,
        pid=one.pid,
        finding=one,
    )
