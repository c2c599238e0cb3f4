"""Looking at a host again and again: for recordings, events and whoever hears of them.

Polling is the truth: what lived and died between two looks was not seen, and nothing here pretends that it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nsinspect.collect import Collector, Depth
from nsinspect.diff import Side
from nsinspect.events import Watch
from nsinspect.kernfs import Roots
from nsinspect.model import build
from nsinspect.snapshot import Snapshot
from nsinspect.views import eventlog

DEPTH = Depth(isolates=True, lineage=True, everything=True)


class Looker:
    """Takes looks, and tells what happened since the one before."""

    def __init__(self, roots: Roots, borrow: Callable[[str], int] | None = None) -> None:
        self._roots = roots
        self._borrow = borrow
        self._watch = Watch()

    def look(self) -> tuple[Snapshot, list[dict[str, Any]]]:
        """A look, and events.  Raises :class:`nsinspect.errors.RootError`."""
        snapshot, _ = Collector(self._roots, DEPTH, self._borrow).run()
        return snapshot, self.seen(snapshot)

    def seen(self, snapshot: Snapshot) -> list[dict[str, Any]]:
        """Events since the look before this one."""
        side = Side(snapshot, build(snapshot))
        before, changes = self._watch.look(side)
        return [] if before is None else [eventlog.event(side, before, one) for one in changes]
