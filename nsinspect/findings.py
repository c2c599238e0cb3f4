"""What may stand out in a container: the vocabulary of findings, and which of them are one.

Each finding is a fact with what shows it.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from nsinspect.model import CLOCK_TICKS
from nsinspect.snapshot import Process, Snapshot

CATALOGUE = "MITRE ATT&CK v18.1"
TECHNIQUES = {
    "T1036.005": "Masquerading: Match Legitimate Resource Name or Location",
    "T1068": "Exploitation for Privilege Escalation",
    "T1070.004": "Indicator Removal: File Deletion",
    "T1609": "Container Administration Command",
    "T1611": "Escape to Host",
    "T1620": "Reflective Code Loading",
}
"""By the catalogue's number, what it calls each."""

SEVERITIES = ("low", "medium", "high", "critical")
KINDS = {
    "host_namespaces": "is in the container's cgroup, and in the host's namespaces",
    "other_namespaces": "is in other namespaces than init",
    "user_namespace": "is in a user namespace made inside",
    "joined": "joined the container's namespaces from outside",
    "entered": "was started from outside, by no engine",
    "more_power": "can do more than init",
    "root": "runs as root, and init does not",
    "thread": "is unlike its process",
    "memfd_executable": "runs a program from memory, which no file holds",
    "deleted_executable": "runs a program whose file was deleted",
    "kernel_thread_name": "is named like a kernel thread",
}
"""Every kind of finding, and what a person calls it."""

SETTLED = 1.0
"""Seconds after which a process is taken for what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that stands out.  ``pids``: ``pid`` and those below it of which the same is true; ``tid`` is the thread
    it is about, ``pid`` where it is the whole process.  ``evidence``: (the file, what it says).  ``gained``: mask of
    the capabilities it has and its init, or leader, has not."""

    kind: str
    severity: str
    container: str
    pid: int
    tid: int
    comm: bytes
    pids: tuple[int, ...]
    evidence: tuple[tuple[str, str | bytes], ...]
    technique: str | None
    gained: int = 0


def settled(snapshot: Snapshot, starttime: int) -> bool:
    """Whether a process that began then is what it was started to be: engines put what they start into a container's
    cgroup before its namespaces, capabilities and filters."""
    uptime = snapshot.host.uptime
    return uptime is None or uptime - starttime / CLOCK_TICKS >= SETTLED


def merged(found: Iterable[Finding], by_pid: Mapping[int, Process]) -> list[Finding]:
    """One finding for a process and all it started, of which the same is true; threads stand for themselves."""
    threads = []
    same: defaultdict[tuple[str, str], dict[int, Finding]] = defaultdict(dict)
    for one in found:
        if one.tid != one.pid:
            threads.append(one)
        else:
            same[one.kind, one.container][one.pid] = one
    merged = []
    for its in same.values():
        below: defaultdict[int, list[Finding]] = defaultdict(list)
        tops = _tops(its, by_pid)
        for pid in sorted(its):
            below[tops[pid]].append(its[pid])
        merged += [_with(its[top], all_of_it) for top, all_of_it in below.items()]
    return merged + threads


def _tops(pids: Collection[int], by_pid: Mapping[int, Process]) -> dict[int, int]:
    """For each of ``pids`` the first of its ancestors that is reached through nobody else."""
    tops: dict[int, int] = {}
    for pid in pids:
        way = {pid: None}
        top = pid
        # A table that was read while pids were given anew may have a loop.
        while top not in tops and (parent := by_pid[top].ppid) in pids and parent not in way:
            top = parent
            way[top] = None
        tops.update(dict.fromkeys(way, tops.get(top, top)))
    return tops


def _with(top: Finding, all_of_it: Sequence[Finding]) -> Finding:
    """A finding with those below it: as severe as the worst; what only theirs show is evidence too."""
    shown = {_file_of(top.pid, says) for says, _ in top.evidence}
    more: dict[str, tuple[str, str | bytes]] = {}
    gained = 0
    for one in all_of_it:
        gained |= one.gained
        for says, what in one.evidence:
            if _file_of(one.pid, says) not in shown:
                more.setdefault(_file_of(one.pid, says), (says, what))
    return replace(
        top,
        severity=max((one.severity for one in all_of_it), key=SEVERITIES.index),
        pids=tuple(one.pid for one in all_of_it),
        evidence=(*top.evidence, *more.values()),
        gained=gained,
    )


def _file_of(pid: int, path: str) -> str:
    return path.removeprefix(f"/proc/{pid}/")
