"""What happened, look by look: the changes between two, and what only three can tell."""

from __future__ import annotations

from collections.abc import Iterable

from nsinspect.changes import KINDS, Change
from nsinspect.diff import Side, diff, worth_saying
from nsinspect.model import Container

_NO_EVENTS = ("usage_changed", "process_started", "process_ended", "identity_changed", "declared_changed")
EVENTS = tuple(kind for kind in KINDS if kind not in _NO_EVENTS)
"""The kinds of change that are events."""


class Watch:
    """Turns looks into events; the first look has none."""

    def __init__(self) -> None:
        self._before: Side | None = None
        self._throttled: set[str] = set()
        self._drifting: dict[tuple[str | None, str], Change] = {}

    def look(self, side: Side) -> tuple[Side | None, tuple[Change, ...]]:
        """The look before, and what happened since."""
        before, self._before = self._before, side
        if before is None:
            return None, ()
        changes = diff(before, side)
        found = [one for one in worth_saying(changes) if one.kind in EVENTS and not one.kind.startswith("drift_")]
        return before, (*found, *self._drift(changes, side), *self._throttling(before, side))

    def _drift(self, changes: Iterable[Change], side: Side) -> list[Change]:
        """Drift that lasts: an engine changes the kernel's limits and its own files one after the other, and a look
        between the two sees them differ.  So it is told of at the look after the one that saw it begin."""
        ended = {(one.container, one.field): one for one in changes if one.kind == "drift_ended"}
        lasted = [
            one for key, one in self._drifting.items() if key not in ended and (one.container or "") in side.containers
        ]
        over = [one for key, one in ended.items() if key not in self._drifting]
        self._drifting = {(one.container, one.field): one for one in changes if one.kind == "drift_began"}
        return [*lasted, *over]

    def _throttling(self, before: Side, after: Side) -> list[Change]:
        """Began: throttled in this interval, and not in the one before."""
        now = {one.id for one in after.model.containers if _throttled(before.containers.get(one.id), one)}
        found = []
        for kind, some in (("throttling_began", now - self._throttled), ("throttling_ended", self._throttled - now)):
            for identity in sorted(some & after.containers.keys() & before.containers.keys()):
                periods = [side.containers[identity].usage.cpu_throttled_periods for side in (before, after)]
                found.append(
                    Change(
                        kind=kind,
                        container=identity,
                        field="usage.cpu_throttled_periods",
                        before=periods[0],
                        after=periods[1],
                        evidence=(("cpu.stat", f"nr_throttled {periods[1]}"),),
                    )
                )
        self._throttled = now
        return found


def came_and_went(before: Side, after: Side, seen: Iterable[tuple[str, str]]) -> list[Change]:
    """Containers that ran a program between two looks, (runtime, id), and are in neither."""
    known = before.containers.keys() | after.containers.keys()
    return [
        Change(
            kind="container_came_and_went",
            container=identity,
            field="id",
            before=None,
            after=runtime,
            evidence=(("process connector", f"a program was started in a cgroup of {runtime}"),),
        )
        for runtime, identity in sorted(seen)
        if identity not in known
    ]


def notices_lost(overflows: int, too_late: int) -> list[Change]:
    """That the kernel's notices do not tell of everything."""
    if not overflows:
        return []
    return [
        Change(
            kind="notices_lost",
            container=None,
            field="process connector",
            before=None,
            after=overflows,
            evidence=(("process connector", f"overflowed {overflows} times, and came too late {too_late} times"),),
        )
    ]


def _throttled(before: Container | None, after: Container) -> bool:
    if before is None or before.init != after.init:
        return False
    was, now = before.usage.cpu_throttled_periods, after.usage.cpu_throttled_periods
    return was is not None and now is not None and now > was
