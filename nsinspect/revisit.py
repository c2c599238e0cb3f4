"""An old snapshot, as if somebody had just looked, as deep as is asked now: captures and recordings."""

from __future__ import annotations

from dataclasses import replace

from nsinspect import bundle, codec
from nsinspect.collect import Depth
from nsinspect.grouping import Grouping, group, own_cgroups
from nsinspect.snapshot import NO_LINEAGE, Snapshot


def captured(path: str) -> Snapshot:
    """The snapshot in a capture.  Raises :class:`nsinspect.errors.NsinspectError` where there is none to be read."""
    return codec.decode(codec.loads(bundle.read(path, bundle.SNAPSHOT)))


def as_deep(snapshot: Snapshot, depth: Depth) -> tuple[Snapshot, Grouping]:
    """What a look of this depth would have given: a capture holds more, and its documents must not tell."""
    grouping = group(snapshot.processes, snapshot.claims, snapshot.host.namespaces, isolates=depth.isolates)
    lineage = NO_LINEAGE
    if depth.lineage:
        holders = tuple(one for one in snapshot.lineage.holders if depth.descriptors or one.mount is not None)
        lineage = snapshot.lineage._replace(holders=holders)
    meant: set[tuple[int, bytes]] = set()
    for index, hierarchy in enumerate(snapshot.hierarchies if depth.limits else ()):
        for one in grouping.groups:
            own, above = own_cgroups(one, hierarchy)
            meant.update((index, path) for path in (*own, *above))
    return (
        replace(
            snapshot,
            lineage=lineage,
            cgroups={key: cgroup for key, cgroup in snapshot.cgroups.items() if key in meant},
        ),
        grouping,
    )
