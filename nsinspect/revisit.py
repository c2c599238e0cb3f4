"""An old snapshot, as if somebody had just looked, as deep as is asked now: captures and recordings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from nsinspect import bundle, codec
from nsinspect.cgroupfs import Cgroup
from nsinspect.collect import Depth
from nsinspect.grouping import Group, Grouping, group, own_cgroups
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
    shallow = replace(snapshot, lineage=lineage, cgroups={}, confinements={})
    if depth.limits:
        shallow = replace(shallow, cgroups=_cgroups(snapshot, grouping.groups))
    if depth.confinement:
        shallow = replace(shallow, confinements=snapshot.confinements)
    return shallow, grouping


def deeper(shallow: Snapshot, snapshot: Snapshot, groups: Sequence[Group]) -> Snapshot:
    """What a look without cgroups and confinement would be with those of some containers."""
    inits = {one.init.pid for one in groups}
    confinements = {pid: its for pid, its in snapshot.confinements.items() if pid in inits}
    return replace(shallow, cgroups=_cgroups(snapshot, groups), confinements=confinements)


def _cgroups(snapshot: Snapshot, groups: Iterable[Group]) -> dict[tuple[int, bytes], Cgroup]:
    meant: set[tuple[int, bytes]] = set()
    for one in groups:
        for index, (own, above) in enumerate(own_cgroups(one, snapshot.hierarchies)):
            meant.update((index, path) for path in (*own, *above))
    return {key: cgroup for key, cgroup in snapshot.cgroups.items() if key in meant}
