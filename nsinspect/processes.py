"""Processes of a host, each pinned by its directory and read once; found again later only where they are the same."""

from __future__ import annotations

import os
import time

from nsinspect import effort, namespaces, procfs
from nsinspect.errors import KernelError, Malformed, Unreadable, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Directory
from nsinspect.namespaces import Namespaces
from nsinspect.procfs import CgroupLine
from nsinspect.snapshot import Process

_FILES = ("stat", "cgroup", "status")


class ProcessReader(Forgiving):
    """Reads processes, and remembers of the youngest which they were."""

    def __init__(self) -> None:
        super().__init__()
        # Whole files and link sets recur in thousands of processes: each distinct one is parsed once.
        self._cgroup_lines: dict[bytes, tuple[CgroupLine, ...]] = {}
        self._namespaces: dict[tuple[bytes | None, ...], Namespaces] = {}
        # A start time names a process among all of its pid only once its clock tick is over: those that began in this
        # scan, or just before, are known by the inode of their directory, which the next process by that pid does
        # not have.
        self._began = int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))
        self._young: dict[int, int] = {}
        self._shares = effort.Shares(effort.GROUPS)

    def process(self, proc: Directory, pid: int) -> Process | None:
        """One process, pinned by its directory; ``None``, counted, when it exited at any moment of this."""
        try:
            with proc.open(str(pid)) as directory:
                if self._shares and self._shares.gone(self.cgroup(directory, pid)):
                    self.complain(Unreadable(f"{directory.path}/status", effort.TOO_MANY_GROUPS), pid)
                    return self.process_in_parts(directory, pid, status=False)
                try:
                    found = self.whole_process(directory, pid)
                except Vanished:
                    raise
                except KernelError:
                    found = self.process_in_parts(directory, pid)
                if found.state in "ZX":
                    return self.through_a_thread(directory, found)
                return found
        except Vanished:
            self.vanished += 1
        except KernelError as error:
            self.complain(error, pid)
        return None

    def whole_process(self, directory: Directory, pid: int) -> Process:
        """The usual case, where everything can be read: a fifth of a scan's time is saved by forgiving nothing here,
        and by reading everything at once."""
        begun = effort.clock()
        stat_data, cgroup_data, status_data = directory.all_rendered(_FILES) or (None, None, None)
        if stat_data is None or cgroup_data is None or status_data is None:
            return self.process_in_parts(directory, pid)
        if len(status_data) > effort.MANY_GROUPS:
            self._shares.spend(self.cgroup_lines(cgroup_data), effort.clock() - begun)
        stat = procfs.parse_stat(stat_data)
        if stat.starttime >= self._began:
            self._young[pid] = directory.inode()
        links = directory.readlinks(namespaces.LINKS)
        _, comm, state, ppid, starttime = stat
        lines = self._cgroup_lines.get(cgroup_data) or self.cgroup_lines(cgroup_data)
        its = self._namespaces.get(links) or self.parsed_links(directory, links, pid)
        # As in procfs, by tuple's own constructor: it is one for each process.
        whole = (pid, ppid, starttime, comm, state, lines, its, procfs.parse_status(status_data), None)
        return tuple.__new__(Process, whole)

    def process_in_parts(self, directory: Directory, pid: int, *, status: bool = True) -> Process:
        """The same where something cannot be had: each part that can be is kept, and an issue says what is missing.
        Without ``status`` that is, because others of its container took too much of our time to say theirs.

        Raises what ``stat`` cannot be had for, missing from a copy included: without it there is no process to keep.
        """
        stat = directory.parsed("stat", directory.read_rendered("stat") or b"", procfs.parse_stat)
        assert stat is not None
        if stat.starttime >= self._began:
            self._young[pid] = directory.inode()
        return Process(
            pid,
            stat.ppid,
            stat.starttime,
            stat.comm,
            stat.state,
            self.cgroup(directory, pid),
            self.namespaces(directory, pid),
            self.fact(directory, "status", procfs.parse_status, pid) if status else None,
        )

    def through_a_thread(self, directory: Directory, process: Process) -> Process:
        """A process whose first thread has ended, as one of those that go on shows it; of a zombie nothing goes on."""
        pid = process.pid
        with directory.open("task") as tasks:
            for tid in tasks.numbers(1):
                if tid == pid:
                    continue
                try:
                    with tasks.open(str(tid)) as task:
                        stat = self.fact(task, "stat", procfs.parse_stat, pid)
                        if stat is None or stat.state in "ZX":
                            continue
                        return process._replace(
                            state=stat.state,
                            cgroup=self.cgroup(task, pid),
                            namespaces=self.namespaces(task, pid),
                            status=self.fact(task, "status", procfs.parse_status, pid),
                            speaker=tid,
                        )
                except Vanished:
                    continue
        return process

    def cgroup(self, directory: Directory, pid: int) -> tuple[CgroupLine, ...]:
        """The lines of a process or thread; none, with an issue, where they cannot be had."""
        try:
            # Missing is told like empty: a process never leaves its container silently.
            return directory.parsed("cgroup", directory.read_rendered("cgroup") or b"", self.cgroup_lines) or ()
        except Vanished:
            raise
        except KernelError as error:
            self.complain(error, pid)
            return ()

    def cgroup_lines(self, data: bytes) -> tuple[CgroupLine, ...]:
        """The lines of a cgroup file, the very same for the same text."""
        if not data:
            raise Malformed(data, "a line for each hierarchy")
        known = self._cgroup_lines.get(data)
        if known is None:
            known = self._cgroup_lines[data] = procfs.parse_cgroup(data)
        return known

    def namespaces(self, directory: Directory, pid: int) -> Namespaces:
        """Those of a process, or of a thread of it, whose directory this is."""
        try:
            links = directory.readlinks(namespaces.LINKS)
        except Vanished:
            raise
        except KernelError as error:
            # One answer for all eight: what is refused is looking at the process, not one of its links.
            self.complain(type(error)(f"{directory.path}/ns", error.detail), pid)
            return namespaces.UNKNOWN
        return self._namespaces.get(links) or self.parsed_links(directory, links, pid)

    def parsed_links(self, directory: Directory, links: tuple[bytes | None, ...], pid: int) -> Namespaces:
        """Links by type, read."""
        found = self._namespaces[links] = Namespaces(*(self.link(directory, link, pid) for link in links))
        return found

    def link(self, directory: Directory, link: bytes | None, pid: int) -> int | None:
        """The inode in one link."""
        try:
            return None if link is None else namespaces.parse_link(link)
        except Malformed as error:
            self.complain(error.at(f"{directory.path}/ns"), pid)
            return None

    def again(self, proc: Directory, process: Process) -> Directory:
        """Pin a process a second time, by the thread that speaks for it where one does.  Raises ``Vanished`` when its
        pid is another's now."""
        directory = proc.open(str(process.pid))
        try:
            stat = directory.parsed("stat", directory.read_rendered("stat"), procfs.parse_stat)
            same = stat is not None and stat.starttime == process.starttime
            if not same or self._young.get(process.pid) not in (None, directory.inode()):
                raise Vanished(directory.path, "its pid is another process's now")
        except BaseException:
            # Whatever it is: until this returns, nobody else has the descriptor to close it.
            directory.close()
            raise
        if process.speaker is None:
            return directory
        with directory:
            return proc.open(f"{process.pid}/task/{process.speaker}")
