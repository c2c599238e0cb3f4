"""Looking at a host again and again: for recordings, events and whoever hears of them.

Polling is the truth: what lived and died between two looks was not seen, unless the kernel's notices of programs that
start (:mod:`nsinspect.procconn`) told of it, and those may be lost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nsinspect.changes import Change
from nsinspect.collect import Collector, Depth
from nsinspect.diff import Side
from nsinspect.events import Watch, came_and_went, notices_lost
from nsinspect.kernfs import Roots
from nsinspect.model import Container, Model, build
from nsinspect.procconn import Connector
from nsinspect.snapshot import Snapshot
from nsinspect.views import eventlog

DEPTH = Depth(isolates=True, lineage=True, everything=True)


class Looker:
    """Takes looks, and tells what happened since the one before."""

    def __init__(
        self, roots: Roots, borrow: Callable[[str], int] | None = None, connector: Connector | None = None
    ) -> None:
        self._roots = roots
        self._borrow = borrow
        self._connector = connector
        self._watch = Watch()
        self._known: dict[str, Container] = {}

    def look(self) -> tuple[Snapshot, list[dict[str, Any]]]:
        """A look, and events.  Raises :class:`nsinspect.errors.RootError`."""
        snapshot, _ = Collector(self._roots, DEPTH, self._borrow).run()
        return snapshot, self.seen(snapshot)

    def seen(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Events since the look before this one."""
        side = Side(snapshot, self._remembering(build(snapshot)))
        before, changes = self._watch.look(side)
        if before is None:
            return []
        return [eventlog.event(side, before, one) for one in (*changes, *self._noticed(before, side))]

    def _remembering(self, model: Model) -> Model:
        """The same with the names of before: an engine removes its files before the last process is gone."""
        containers = tuple(self._as_known(one) for one in model.containers)
        self._known = {one.id: one for one in containers}
        return model._replace(containers=containers)

    def _as_known(self, one: Container) -> Container:
        known = self._known.get(one.id)
        if one.name is not None or known is None or known.init.pid != one.init.pid:
            return one
        return one._replace(name=known.name, image=known.image, labels=known.labels, pod=known.pod)

    def _noticed(self, before: Side, after: Side) -> list[Change]:
        if self._connector is None:
            return []
        seen = self._connector.taken()
        return [*came_and_went(before, after, seen.containers), *notices_lost(seen.overflows, seen.too_late)]
