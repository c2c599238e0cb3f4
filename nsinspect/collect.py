"""Roots to Snapshot: walks the host once; one bad process, cgroup or state file never hides the others."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol, TypeVar

from nsinspect import cgroupfs, cgroupwalk, hostfacts, nsfs, procfs, sockets, tasks, testimony, users
from nsinspect.cgroupfs import Cgroup
from nsinspect.declarations import Claim, Declaration
from nsinspect.effort import Effort
from nsinspect.errors import KernelError, RootError, Vanished
from nsinspect.grouping import Group, Grouping, group
from nsinspect.hierarchies import Hierarchy, hierarchies_in
from nsinspect.kernfs import Directory, Roots
from nsinspect.namespaces import Namespaces
from nsinspect.processes import ProcessReader
from nsinspect.procfs import Mount
from nsinspect.procnet import Links, Network
from nsinspect.runtimes.base import MONITORS, Traces
from nsinspect.snapshot import NO_LINEAGE, Confinement, HostFacts, Issue, Member, Process, Snapshot, Thread
from nsinspect.statefiles import Reader

T = TypeVar("T")


class Attempt(Protocol):
    """How a part of a collection is run: what the work gives, or ``default`` when it must not be waited for."""

    def __call__(self, name: str, work: Callable[[], T], default: T, /) -> T:
        """``name`` is one of :data:`PARTS`."""


PARTS = ("processes", "state_files", "confinement", "cgroups")


def _at_any_price(_name: str, work: Callable[[], T], _default: T) -> T:
    return work()


@dataclass(frozen=True, slots=True, kw_only=True)
class Depth:
    """What is read besides what every answer needs.

    ``isolates``: the closer look at containers is given to those too. ``lineage``: namespaces are asked for their kin,
    and bind mounts of them are looked for, with ``descriptors`` open ones too. ``limits``: cgroups of containers.
    ``confinement``: mounts, maps and labels of inits. ``names``: what engines declared, where names come from.
    ``others``: control files of those that no limit and no usage comes from. ``users``: names of those who run
    processes, where it is this very host. ``everything``: a closer look at all processes (:class:`Closely`), and that
    before cgroups and mounts, which change less; ``links``: that enters their network namespaces.  ``patient``: tables
    of mounts may take ten times as long (:mod:`nsinspect.effort`).
    """

    isolates: bool = False
    lineage: bool = False
    descriptors: bool = False
    limits: bool = True
    others: bool = True
    confinement: bool = True
    names: bool = True
    users: bool = True
    everything: bool = False
    links: bool = False
    patient: bool = False


def collect(roots: Roots, depth: Depth | None = None, *, clock: Callable[[], float] = time.time) -> Snapshot:
    """One pass over the host at ``roots``.

    Raises :class:`nsinspect.errors.RootError` when there is no procfs or no cgroup mount, or the processes were left
    behind; everything less is part of the result.
    """
    return collect_and_group(roots, depth or Depth(), clock=clock)[0]


def collect_and_group(
    roots: Roots,
    depth: Depth,
    *,
    clock: Callable[[], float] = time.time,
    attempt: Attempt = _at_any_price,
    borrow: Callable[[str], int] | None = None,
) -> tuple[Snapshot, Grouping]:
    """:func:`collect`, and the grouping that was made on the way, for whoever is in a hurry.

    Each part holds its own descriptors and gives its result at its end, so ``attempt`` may leave one behind.
    ``borrow`` opens state files that we may not (:class:`nsinspect.statefiles.Reader`).
    """
    return Collector(roots, depth, borrow).run(clock, attempt)


class _Seen(NamedTuple):
    mounts: tuple[Mount, ...]
    hierarchies: tuple[Hierarchy, ...]
    processes: tuple[Process, ...]
    host: HostFacts


class _Look(NamedTuple):
    """By pid of init."""

    confinements: dict[int, Confinement]
    monitors: dict[int, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Closely:
    """Pids to look at closely.  ``threads``: thread by thread.  ``members``: at their programs and labels.
    ``networks``: at what their network namespaces show.  ``sockets``: at which they hold.  ``links``: whether those
    networks are entered, for what only netlink tells."""

    threads: Iterable[int] = ()
    members: Iterable[int] = ()
    networks: Iterable[int] = ()
    sockets: Iterable[int] = ()
    links: bool = False

    def pids(self) -> set[int]:
        """All of them."""
        return {*self.threads, *self.members, *self.networks, *self.sockets}


class _Close(NamedTuple):
    """What a closer look adds to a snapshot, by its names there."""

    threads: Mapping[int, tuple[Thread, ...]]
    members: Mapping[int, Member]
    networks: Mapping[int, Network]
    links: Mapping[int, Links]
    sockets: Mapping[int, frozenset[int] | None]


def _everything(processes: Iterable[Process], groups: Iterable[Group], *, links: bool) -> Closely:
    everybody = [process.pid for process in processes]
    inside = {process.pid for one in groups for process in one.processes}
    # Of one whose network namespace we may not know, one process is enough of each container.
    known = [process.pid for process in processes if process.namespaces.net is not None]
    inits = [one.init.pid for one in groups]
    return Closely(threads=everybody, members=inside, networks=(*known, *inits), sockets=everybody, links=links)


class Collector(ProcessReader):
    """A look at a host, which may be followed by a closer one at some of its processes."""

    def __init__(self, roots: Roots, depth: Depth | None = None, borrow: Callable[[str], int] | None = None) -> None:
        super().__init__()
        self.roots = roots
        self.depth = depth or Depth()
        self.borrow = borrow
        self._effort = Effort(10 if self.depth.patient else 1)

    def run(
        self, clock: Callable[[], float] = time.time, attempt: Attempt = _at_any_price
    ) -> tuple[Snapshot, Grouping]:
        """The first look, and the grouping that was made on the way.  Raises as :func:`collect` does."""
        # Nothing made in a scan is garbage before its end, so looking for some only costs (a tenth of the time).
        collecting = gc.isenabled()
        gc.disable()
        try:
            return self._run(clock(), attempt)
        finally:
            if collecting:
                gc.enable()

    def closer(self, snapshot: Snapshot, wanted: Closely) -> Snapshot:
        """The same with more of the processes that it has; those that are others by now are left out."""
        close = self._closer(snapshot.processes, snapshot.host, wanted)
        return replace(snapshot, **close._asdict(), issues=self.all_issues(), vanished=self.vanished)

    def deeper(self, snapshot: Snapshot, groups: Sequence[Group]) -> Snapshot:
        """The same with cgroups and confinement of some of its containers, where the first look was without."""
        cgroups = self.cgroups(snapshot.hierarchies, groups)
        confinements = self.confinements(groups)
        cgroups = cgroupwalk.of_the_living(cgroups, snapshot.hierarchies, groups, confinements)
        issues = self.all_issues()
        return replace(snapshot, cgroups=cgroups, confinements=confinements, issues=issues, vanished=self.vanished)

    def _closer(self, processes: Sequence[Process], host: HostFacts, wanted: Closely) -> _Close:
        def chosen(pids: Iterable[int]) -> list[Process]:
            some = frozenset(pids)
            return [process for process in processes if process.pid in some]

        roots, again = self.roots, self.again
        threads = tasks.threads(self, roots, chosen(wanted.threads), again, self.namespaces)
        members = tasks.members(self, roots, chosen(wanted.members), again)
        networks = sockets.networks(self, roots, chosen(wanted.networks), again)
        links: Mapping[int, Links] = {}
        first = next((one for one in processes if one.namespaces.net == host.namespaces.net), None)
        if wanted.links and self.roots.live and first is not None:
            from nsinspect import netns

            links = netns.links(self, roots, chosen(networks), first, again)
        return _Close(threads, members, networks, links, sockets.holders(self, roots, chosen(wanted.sockets), again))

    def _run(self, captured_at: float, attempt: Attempt) -> tuple[Snapshot, Grouping]:
        depth = self.depth
        seen = attempt("processes", self.seen, None)
        if seen is None:
            raise RootError(f"{self.roots.procfs}: its processes could not be read")
        mounts, hierarchies, processes, facts = seen
        # When another host was as we see it: its boot plus its uptime.  For a captured one that was not now.
        then = None if facts.boot_time is None or facts.uptime is None else facts.boot_time + facts.uptime
        files = Reader(self.roots, mounts, self.complain, self.borrow)
        claims: tuple[Claim, ...] = attempt("state_files", lambda: files.patiently(lambda: testimony.claims(files)), ())
        grouping = attempt(
            "processes", lambda: group(processes, claims, facts.namespaces, isolates=depth.isolates), None
        )
        if grouping is None:
            raise RootError(f"{self.roots.procfs}: its containers could not be told apart")
        groups = grouping.groups
        close = _Close({}, {}, {}, {}, {})
        lineage = NO_LINEAGE
        if depth.lineage:
            lineage = nsfs.lineage(self, self.roots, processes, mounts, self.again, descriptors=depth.descriptors)
        if depth.everything:
            close = self._closer(processes, facts, _everything(processes, groups, links=depth.links))
        cgroups: dict[tuple[int, bytes], Cgroup] = {}
        if depth.limits:
            cgroups = attempt("cgroups", lambda: self.cgroups(hierarchies, groups), {})
        nothing = look = _Look({}, {})
        if depth.confinement or depth.names:
            look = attempt("confinement", lambda: self.closer_look(groups, processes, facts.namespaces), look)
        if depth.confinement and look is not nothing:
            # Only while its init lives a cgroup cannot be another one that was made under the same name.
            cgroups = cgroupwalk.of_the_living(cgroups, hierarchies, groups, look.confinements)
        declarations: dict[tuple[str, str], Declaration] = {}
        if depth.names:
            traces = [self.traces(one, look) for one in groups]
            # A list: it is gone through again where a file does not answer.
            each = list(zip(groups, traces, strict=True))
            declarations = attempt(
                "state_files", lambda: files.patiently(lambda: testimony.declarations(files, each)), declarations
            )
        snapshot = Snapshot(
            captured_at=captured_at if self.roots.live or then is None else then,
            host=facts,
            mounts=mounts,
            hierarchies=hierarchies,
            processes=processes,
            confinements=look.confinements,
            cgroups=cgroups,
            claims=claims,
            declarations=declarations,
            lineage=lineage,
            **close._asdict(),
            users=self.user_names(processes) if depth.users and self.roots.live else {},
            issues=self.all_issues(),
            vanished=self.vanished,
        )
        return snapshot, grouping

    def user_names(self, processes: Iterable[Process]) -> dict[int, str]:
        """By uid, of everybody who runs a process: names of this host, not those that a container gives."""
        return users.names(one.status.uid.effective for one in processes if one.status is not None)

    def seen(self) -> _Seen:
        """What needs no knowledge of containers."""
        with self.roots.open_procfs() as proc:
            pids = proc.numbers(1)
            if not pids:
                raise RootError(f"{proc.path}: expected a procfs with processes, found no numbered directory")
            mounts = self.mounts(proc)
            hierarchies = self.hierarchies(mounts)
            uptime = hostfacts.uptime(self, proc)
            processes = tuple(process for pid in pids if (process := self.process(proc, pid)) is not None)
            facts = hostfacts.facts(self, self.roots, proc, processes, uptime)
            self.issues += hostfacts.narrowed(proc, processes)
            return _Seen(mounts, hierarchies, processes, facts)

    def closer_look(self, groups: Iterable[Group], processes: Iterable[Process], host: Namespaces) -> _Look:
        """How inits are confined, and where their monitors work, as far as either is asked for."""
        return _Look(
            self.confinements(groups) if self.depth.confinement else {},
            self.monitors(groups, processes, host) if self.depth.names else {},
        )

    def traces(self, one: Group, look: _Look) -> Traces:
        """What leads to an engine's files about a container; its mounts are read where nobody did before."""
        pid = one.init.pid

        def mounts() -> tuple[Mount, ...]:
            if not self.depth.confinement:
                found = tasks.each(self, self.roots, [one.init], self.again, self.mount_table)
                return found.get(pid) or ()
            confined = look.confinements.get(pid)
            return (confined and confined.mounts) or ()

        return Traces(one.match.id, pid, mounts, look.monitors.get(pid))

    def confinements(self, groups: Iterable[Group]) -> dict[int, Confinement]:
        """By pid, how the inits of containers are confined."""
        return tasks.each(self, self.roots, [one.init for one in groups], self.again, self.confinement)

    def mount_table(self, directory: Directory, process: Process) -> tuple[Mount, ...] | None:
        """What one process sees."""
        return self.records(directory, "mountinfo", procfs.parse_mountinfo, process.pid, self._effort.read)

    def confinement(self, directory: Directory, process: Process) -> Confinement:
        """How one init is confined."""
        pid = process.pid
        label, known = tasks.label(self, directory, pid)
        return Confinement(
            self.mount_table(directory, process),
            self.records(directory, "uid_map", procfs.parse_id_map, pid),
            self.records(directory, "gid_map", procfs.parse_id_map, pid),
            label,
            known,
        )

    # -- the host --------------------------------------------------------------------------------------------------

    def mounts(self, proc: Directory) -> tuple[Mount, ...]:
        """The mount table to find cgroups and state folders by.

        Here it is our own, because we open paths in our own mount namespace; of any other host it is PID 1's.
        """
        found = None
        for name in ("self", "1") if self.roots.live else ("1", "self"):
            try:
                # self is a link, which is never followed below a root; its target is one more name, of a process.
                pid = name if name.isdigit() else (proc.readlink(name.encode()) or b"").decode("ascii", "replace")
                with proc.open(pid if pid.isdigit() else name) as directory:
                    found = self.records(directory, "mountinfo", procfs.parse_mountinfo)
            except KernelError:
                continue
            if found:
                return found
        raise RootError(f"{proc.path}: expected a procfs, found no readable 1/mountinfo or self/mountinfo")

    def hierarchies(self, mounts: Iterable[Mount]) -> tuple[Hierarchy, ...]:
        """The cgroup trees of this host, those with nothing to read included: paths name containers too."""
        found = []
        opened = 0
        for hierarchy in hierarchies_in(mounts):
            if not cgroupfs.files_of(hierarchy, usage=True):
                found.append(hierarchy)
                continue
            path = self.roots.cgroup(hierarchy.point)
            try:
                with self.roots.open_cgroup(hierarchy.point) as directory:
                    opened += 1
                    if hierarchy.version == 2:
                        hierarchy = hierarchy._replace(controllers=self.controllers(directory))
                found.append(hierarchy)
            except RootError as error:
                self.issues.append(Issue("unreadable", path, str(error).removeprefix(f"{path}: ")))
        if not opened:
            places = self.roots.cgroup("/sys/fs/cgroup")
            raise RootError(
                f"{places}: expected a cgroup mount, found none that mountinfo names and that can be opened"
            )
        return tuple(found)

    def controllers(self, directory: Directory) -> tuple[str, ...]:
        """Those of a v2 hierarchy; none, counted, where it goes away meanwhile."""
        try:
            return self.fact(directory, "cgroup.controllers", procfs.parse_names) or ()
        except Vanished:
            self.vanished += 1
            return ()

    def cgroups(self, hierarchies: tuple[Hierarchy, ...], groups: Iterable[Group]) -> dict[tuple[int, bytes], Cgroup]:
        """The cgroup of every container in every hierarchy that has a file for us, and all cgroups above."""
        return cgroupwalk.cgroups(self, self.roots, hierarchies, groups, others=self.depth.others)

    # -- monitors -------------------------------------------------------------------------------------------------

    def monitors(self, groups: Iterable[Group], processes: Iterable[Process], host: Namespaces) -> dict[int, str]:
        """By pid of init: the working directory of the process its engine left to watch it, which is the engine's
        folder for it, wherever the engine was told to keep its folders.

        Only of a process in the host's mount namespace and in no container: what a process inside calls itself, and
        where it is, is its own choice.
        """
        by_pid = {process.pid: process for process in processes}
        inside = {process.pid for one in groups for process in one.processes}
        watched: dict[int, Process] = {}
        for one in groups:
            parent = by_pid.get(one.init.ppid)
            if parent is None or parent.comm not in MONITORS or parent.pid in inside:
                continue
            if parent.namespaces.mnt is not None and parent.namespaces.mnt == host.mnt:
                watched[one.init.pid] = parent
        # A pod's containers have one monitor.
        monitors = {parent.pid: parent for parent in watched.values()}.values()
        folders = tasks.each(self, self.roots, monitors, self.again, lambda directory, _: directory.readlink(b"cwd"))
        return {
            init: os.fsdecode(folder)
            for init, parent in watched.items()
            if (folder := folders.get(parent.pid)) is not None
        }
