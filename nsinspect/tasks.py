"""Processes looked at closely: the program each runs, its threads one by one, and its descriptors.

A thread may have dropped, raised or left behind what its process shows.  More than a list of containers needs, so it
is read only for who asks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from nsinspect import effort, procfs
from nsinspect.effort import Shares
from nsinspect.errors import KernelError, Unreadable, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Directory, Roots
from nsinspect.namespaces import Namespaces
from nsinspect.procfs import Status
from nsinspect.snapshot import Member, Process, Thread

T = TypeVar("T")

Again = Callable[[Directory, Process], Directory]
"""Pins a process that was read before.  Raises ``Vanished`` when its pid is another's now."""

Links = Callable[[Directory, int], Namespaces]
"""The namespaces that the links below the directory of a process, or of a thread of it, lead to."""


def each(
    asker: Forgiving,
    roots: Roots,
    processes: Iterable[Process],
    again: Again,
    look: Callable[[Directory, Process], T],
) -> dict[int, T]:
    """By pid, what a look at each gives; one that goes away is counted, one that refuses is complained of."""
    found: dict[int, T] = {}
    with roots.open_procfs() as proc:
        for process in processes:
            try:
                with again(proc, process) as directory:
                    found[process.pid] = look(directory, process)
            except Vanished:
                asker.vanished += 1
            except KernelError as error:
                asker.complain(error, process.pid)
    return found


def threads(
    asker: Forgiving, roots: Roots, processes: Iterable[Process], again: Again, links: Links
) -> dict[int, tuple[Thread, ...]]:
    """By pid, the threads besides the leader; a process without any, or of too many groups, is not in it."""
    shares = Shares(effort.GROUPS)

    def look(directory: Directory, process: Process) -> tuple[Thread, ...]:
        found = []
        with directory.open("task" if process.speaker is None else "..") as tasks:
            for tid in tasks.numbers(1):
                if tid == process.pid:
                    continue
                if shares and shares.gone(process.cgroup):
                    raise Unreadable(f"{directory.path}/task", effort.TOO_MANY_GROUPS)
                begun = effort.clock()
                one = _thread(asker, tasks, tid, process.pid, links)
                if one is not None:
                    thread, is_long = one
                    found.append(thread)
                    if is_long:
                        shares.spend(process.cgroup, effort.clock() - begun)
        return tuple(found)

    return {pid: its for pid, its in each(asker, roots, processes, again, look).items() if its}


def members(asker: Forgiving, roots: Roots, processes: Iterable[Process], again: Again) -> dict[int, Member]:
    """By pid, which program it runs and how it is labelled."""

    def look(directory: Directory, process: Process) -> Member:
        return Member(_executable(asker, directory, process.pid), *label(asker, directory, process.pid))

    return each(asker, roots, processes, again, look)


def descriptors_of(shares: Shares, directory: Directory, process: Process) -> list[tuple[int, bytes]]:
    """Numbers and targets of those that a process has open.  Raises ``Unreadable`` where there are too many, or where
    those of its container took too long."""
    if shares.gone(process.cgroup):
        raise Unreadable(f"{directory.path}/fd", "not asked: the descriptors of processes beside it take too long")
    begun = effort.clock()
    try:
        return directory.numbered_links("fd", effort.MOST_DESCRIPTORS)
    finally:
        shares.spend(process.cgroup, effort.clock() - begun)


def label(asker: Forgiving, directory: Directory, pid: int) -> tuple[bytes | None, bool]:
    """The security module's label, and whether that is known: no label is an answer too."""
    try:
        return directory.parsed("attr/current", directory.read_rendered("attr/current"), procfs.parse_label), True
    except Vanished:
        raise
    except KernelError as error:
        asker.complain(error, pid)
        return None, False


def _executable(asker: Forgiving, directory: Directory, pid: int) -> bytes | None:
    """The link's text alone: what it leads to is in the hands of a container."""
    try:
        return directory.readlink(b"exe")
    except Vanished:
        raise
    except KernelError as error:
        asker.complain(error, pid)
        return None


def _thread(asker: Forgiving, tasks: Directory, tid: int, pid: int, links: Links) -> tuple[Thread, bool] | None:
    """One, and whether its ``status`` is one of many groups."""
    is_long = False

    def parse(data: bytes) -> Status:
        nonlocal is_long
        is_long = len(data) > effort.MANY_GROUPS
        return procfs.parse_status(data)

    try:
        with tasks.open(str(tid)) as directory:
            stat = asker.fact(directory, "stat", procfs.parse_stat, pid)
            status = asker.fact(directory, "status", parse, pid)
            if stat is None:
                return None
            what = (status, links(directory, pid), *label(asker, directory, pid))
            return Thread(tid, stat.comm, stat.state, *what), is_long
    except Vanished:
        asker.vanished += 1
        return None
