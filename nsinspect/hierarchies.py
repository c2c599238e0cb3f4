"""Control group hierarchies: where each controller lives, and where a path of a process leads, on v1, v2 and hybrid
hosts.

Which hierarchy governs a controller is decided per controller, from mountinfo: hosts exist with every controller on a
v1 mount of its own beside a v2 mount that has only one left.  See cgroups(7) and proc_pid_mountinfo(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import NamedTuple

from nsinspect.procfs import CgroupLine, Mount


class Hierarchy(NamedTuple):
    """One mounted cgroup tree.  ``root`` is the cgroup that is mounted (``/`` unless seen from a cgroup namespace)."""

    version: int
    controllers: tuple[str, ...]
    point: str
    root: bytes


# What a v1 mount's super block options can name besides rw, seclabel, clone_children and other options.
_V1_CONTROLLERS = frozenset(
    (
        "cpu",
        "cpuacct",
        "cpuset",
        "memory",
        "devices",
        "freezer",
        "net_cls",
        "net_prio",
        "blkio",
        "perf_event",
        "hugetlb",
    )
) | {"pids", "rdma", "misc", "debug"}


def hierarchies_in(mounts: Iterable[Mount]) -> tuple[Hierarchy, ...]:
    """The cgroup hierarchies among the mounts of a process, one entry each.

    A v2 hierarchy's controllers are not in mountinfo; they are filled in from ``cgroup.controllers``.  Of several
    mounts of one hierarchy the one that shows most of it is taken; of several on one point the last, which hides the
    others.
    """
    visible = {mount.point: mount for mount in mounts}
    found: dict[tuple[str, ...], Hierarchy] = {}
    for mount in visible.values():
        if mount.fstype == b"cgroup2":
            hierarchy = Hierarchy(2, (), os.fsdecode(mount.point), mount.root)
        elif mount.fstype == b"cgroup":
            options = mount.super_options.decode("utf-8", "backslashreplace").split(",")
            controllers = tuple(o for o in options if o in _V1_CONTROLLERS or o.startswith("name="))
            if not controllers:
                continue
            hierarchy = Hierarchy(1, controllers, os.fsdecode(mount.point), mount.root)
        else:
            continue
        key = hierarchy.controllers
        if key not in found or len(hierarchy.root) < len(found[key].root):
            found[key] = hierarchy
    return tuple(found.values())


def paths_in(hierarchies: Iterable[Hierarchy], lines: Iterable[CgroupLine]) -> list[bytes | None]:
    """Where a process is in each of ``hierarchies``, from the lines of its ``/proc/<pid>/cgroup``."""
    by_controllers: dict[tuple[str, ...], bytes] = {}
    unified: bytes | None = None
    for number, controllers, path in lines:
        if controllers:
            by_controllers.setdefault(controllers, path)
        elif number == 0 and unified is None:
            unified = path
    found = []
    for version, wanted, _, _ in hierarchies:
        path_there = unified if version == 2 else by_controllers.get(wanted)
        if path_there is None and version == 1:
            # A copy may have put the mounts of one host beside the processes of another.
            path_there = next((path for some, path in by_controllers.items() if not set(wanted).isdisjoint(some)), None)
        found.append(path_there)
    return found


def relative(hierarchy: Hierarchy, path: bytes) -> str | None:
    """``path`` as a directory below the hierarchy's mount point, or ``None`` when it is not visible from there."""
    root = hierarchy.root.rstrip(b"/")
    if root and not (path + b"/").startswith(root + b"/"):
        return None
    inside = path[len(root) :].strip(b"/")
    # "/../.." is how a cgroup outside the reader's cgroup namespace looks; it leads out of the mount.  A NUL can only
    # be in a captured file, and in no name.
    if b"\0" in inside or (b".." in inside and b".." in inside.split(b"/")):
        return None
    return os.fsdecode(inside) or "."


def ancestors(path: bytes) -> tuple[bytes, ...]:
    """``path`` and every cgroup above it, up to ``/``: ``/a/b`` gives ``/a/b``, ``/a``, ``/``.

    Not remembered: of a path as long as they may be, which a container may make many of, this is 4 MB.
    """
    found = []
    while path not in (b"", b"/"):
        found.append(path)
        path = path.rpartition(b"/")[0]
    return (*found, b"/")
