"""Threads of processes: ``/proc/<pid>/task/<tid>/status``.

A thread may have dropped, raised or left behind what its process shows.  Read only for who asks about capabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from nsinspect import procfs
from nsinspect.errors import KernelError, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Directory, Roots
from nsinspect.snapshot import Process, Thread


def threads(
    asker: Forgiving, roots: Roots, processes: Iterable[Process], again: Callable[[Directory, Process], Directory]
) -> dict[int, tuple[Thread, ...]]:
    """By pid, the threads besides the leader; a process without any is not in it.  ``again`` pins a process that was
    read before, and raises ``Vanished`` when its pid is another's now."""
    found: dict[int, tuple[Thread, ...]] = {}
    with Directory.root(roots.procfs) as proc:
        for process in processes:
            try:
                with again(proc, process) as directory, directory.open("task") as tasks:
                    tids = sorted(int(name) for name in tasks.entries() if name.isdigit() and int(name) != process.pid)
                    its = [thread for tid in tids if (thread := _thread(asker, tasks, tid, process.pid)) is not None]
            except Vanished:
                asker.vanished += 1
            except KernelError as error:
                asker.complain(error, process.pid)
            else:
                if its:
                    found[process.pid] = tuple(its)
    return found


def _thread(asker: Forgiving, tasks: Directory, tid: int, pid: int) -> Thread | None:
    try:
        with tasks.open(str(tid)) as directory:
            stat = asker.fact(directory, "stat", procfs.parse_stat, pid)
            status = asker.fact(directory, "status", procfs.parse_status, pid)
    except Vanished:
        asker.vanished += 1
        return None
    return None if stat is None else Thread(tid, stat.comm, stat.state, status)
