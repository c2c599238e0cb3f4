"""Which of the things that could not be learnt bear on an answer, and what the facts themselves give cause to say."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable

from nsinspect.cgroupfs import files_of
from nsinspect.grouping import Grouping
from nsinspect.snapshot import Issue, Snapshot


def relevant(snapshot: Snapshot, pids: Iterable[int]) -> list[Issue]:
    """The snapshot's issues, without those about processes that no answer here depends on: others than ``pids``.

    What could not be read of a process of the host changes nothing, except PID 1 when the host's namespaces are
    unknown for it.
    """
    return about(snapshot.issues, {*pids, *([1] if None in snapshot.host.namespaces else [])})


def about(issues: Iterable[Issue], matter: Collection[int]) -> list[Issue]:
    """The issues about any process that matters, those about who is who, and those about no process."""
    found = []
    for issue in issues:
        pids = tuple(pid for pid in issue.pids if pid in matter or issue.path.endswith(("/cgroup", "/stat")))
        if pids or not issue.pids:
            found.append(issue._replace(pids=pids))
    return found


def issues_of(issues: Iterable[Issue], pids: Iterable[int]) -> tuple[Issue, ...]:
    """The issues about any of ``pids``, and those about no process in particular."""
    wanted = set(pids)
    found = []
    for issue in issues:
        mine = tuple(pid for pid in issue.pids if pid in wanted)
        if mine or not issue.pids:
            found.append(issue._replace(pids=mine))
    return tuple(found)


def spoofed(grouping: Grouping) -> list[Issue]:
    """Cgroups inside a container that are named like one of an engine, and hold nothing but the container's own."""
    detail = "named like a container, inside one: its processes stay those of the container around it"
    return [Issue("spoofed", os.fsdecode(path), detail, pids) for path, pids in grouping.spoofed]


def not_offered(snapshot: Snapshot) -> list[Issue]:
    """Files that no container has, so that a ``null`` is explained once and not for each container."""
    issues = []
    for index, hierarchy in enumerate(snapshot.hierarchies):
        files = files_of(hierarchy, usage=True)
        if not files:
            continue
        mine = [cgroup for (at, path), cgroup in snapshot.cgroups.items() if at == index and path != b"/"]
        for file in files if mine else ():
            if not any(file in cgroup.files or file in cgroup.unknown for cgroup in mine):
                path = f"{hierarchy.point}/*/{file}"
                issues.append(Issue("not_offered", path, "no container's cgroup that was looked at has this file"))
    return issues
