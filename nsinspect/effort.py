"""How much of a look goes into what whoever is in a container can make slow and long: tables of mounts, ``status`` of
processes that are in many groups, descriptors.

Mounts that lie on one another cost the kernel the square of their number to write down, page by page: of 40,000 of the
100,000 that anybody may make in a user namespace of his own (``fs.mount-max``) Linux 6.18 takes 25 seconds.  That is
time of the reader's own processor, so it is told from waiting, and from a machine that is busy with something else.
A process may be in 65,536 groups (setgroups(2)), which are 460 kilobytes and 4 milliseconds of its ``status``, and have
ten thousand children that share them; and hold a million descriptors (``fs.nr_open``).
"""

from __future__ import annotations

import time
from collections import defaultdict
from typing import NamedTuple

from nsinspect.errors import Unreadable
from nsinspect.kernfs import Directory
from nsinspect.procfs import CgroupLine
from nsinspect.runtimes import recognise


class Purse(NamedTuple):
    """What there is for one file, for all of a look, and for each when that is spent: then an ordinary one is still
    read.  A table has 10 kilobytes and takes a tenth of a millisecond; one of 10,000 mounts 2 megabytes and 30."""

    each: float
    together: float
    least: float


# A name of our own, so that a test can be slow.
clock = time.thread_time

SECONDS = Purse(1.0, 2.0, 0.02)
BYTES = Purse(8 << 20, 8 << 20, 64 << 10)
"""In memory a table has ten times its length."""
GROUPS = Purse(0.5, 2.0, 0.05)
"""Seconds for ``status`` of those of one container, or slice, that are in many groups."""
DESCRIPTORS = Purse(1.0, 5.0, 0.05)
"""Seconds for the descriptors of those of one container, or slice.  A thousand take two milliseconds."""
MOST_DESCRIPTORS = 1 << 17
"""Of one process."""
MANY_GROUPS = 4096
"""Bytes of a ``status`` beyond which it is; usual are 1,500."""
TOO_MANY_GROUPS = (
    "not asked: processes beside it are in so many groups that writing them down takes too much of our time"
)
"""What an issue says."""


class Effort:
    """That of one look; one that may take longer, as a capture may, has ``times`` as much."""

    def __init__(self, times: int = 1) -> None:
        self._times = times
        self._seconds = self._bytes = 0.0

    def read(self, directory: Directory, name: str) -> bytes | None:
        """See :meth:`nsinspect.kernfs.Directory.read`; raises ``Unreadable`` also where it is too much."""
        room = self._room(BYTES, self._bytes)
        seconds = self._room(SECONDS, self._seconds)
        begun, size = clock(), 0

        def is_too_much(piece: bytes) -> bool:
            nonlocal size
            size += len(piece)
            if clock() - begun > seconds:
                path = f"{directory.path}/{name}"
                raise Unreadable(path, f"the kernel takes more than {seconds:.3g} s of our processor to write it")
            return False

        try:
            return directory.read(name, int(room), is_too_much)
        finally:
            self._seconds += clock() - begun
            self._bytes += size

    def _room(self, purse: Purse, spent: float) -> float:
        return self._times * max(purse.least, min(purse.each, purse.together - spent / self._times))


class Shares:
    """What of a purse went into the processes of each container, or slice."""

    def __init__(self, purse: Purse) -> None:
        self._purse = purse
        self._spent: defaultdict[bytes, float] = defaultdict(float)

    def spend(self, cgroup: tuple[CgroupLine, ...], seconds: float) -> None:
        """Note what a process took that is in these cgroups."""
        self._spent[_whose(cgroup)] += seconds

    def __bool__(self) -> bool:
        """Whether anything was spent: mostly nobody is in many groups, and nobody is asked whose he is."""
        return bool(self._spent)

    def gone(self, cgroup: tuple[CgroupLine, ...]) -> bool:
        """Whether theirs is, so that nothing more is asked of them that may be long."""
        purse = self._purse
        spent = self._spent.get(_whose(cgroup), 0.0)
        return spent > purse.each or (spent > purse.least and sum(self._spent.values()) > purse.together)


def _whose(cgroup: tuple[CgroupLine, ...]) -> bytes:
    """The outermost container that a process is in, or the two first levels of its deepest cgroup; of a user's slice
    these in any case: how he calls what is below it is his choice."""
    paths = [line.path for line in cgroup] or [b"/"]
    deepest = b"/".join(max(paths, key=lambda path: path.count(b"/")).split(b"/")[:3])
    if deepest.startswith(b"/user.slice/"):
        return deepest
    return next((chain[0].path for path in paths if (chain := recognise(path))), deepest)
