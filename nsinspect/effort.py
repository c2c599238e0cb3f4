"""How much of a look goes into files that whoever is in a container can make slow and long: tables of mounts.

Mounts that lie on one another cost the kernel the square of their number to write down, page by page: of 40,000 of the
100,000 that anybody may make in a user namespace of his own (``fs.mount-max``) Linux 6.18 takes 25 seconds.  That is
time of the reader's own processor, so it is told from waiting, and from a machine that is busy with something else.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from nsinspect.errors import Unreadable
from nsinspect.kernfs import Directory


class Purse(NamedTuple):
    """What there is for one file, for all of a look, and for each when that is spent: then an ordinary one is still
    read.  A table has 10 kilobytes and takes a tenth of a millisecond; one of 10,000 mounts 2 megabytes and 30."""

    each: float
    together: float
    least: float


# A name of our own, so that a test can be slow.
_clock = time.thread_time

SECONDS = Purse(1.0, 2.0, 0.02)
BYTES = Purse(8 << 20, 8 << 20, 64 << 10)
"""In memory a table has ten times its length."""


class Effort:
    """That of one look; one that may take longer, as a capture may, has ``times`` as much."""

    def __init__(self, times: int = 1) -> None:
        self._times = times
        self._seconds = self._bytes = 0.0

    def read(self, directory: Directory, name: str) -> bytes | None:
        """See :meth:`nsinspect.kernfs.Directory.read`; raises ``Unreadable`` also where it is too much."""
        room = self._room(BYTES, self._bytes)
        seconds = self._room(SECONDS, self._seconds)
        begun, size = _clock(), 0

        def is_too_much(piece: bytes) -> bool:
            nonlocal size
            size += len(piece)
            if _clock() - begun > seconds:
                path = f"{directory.path}/{name}"
                raise Unreadable(path, f"the kernel takes more than {seconds:.3g} s of our processor to write it")
            return False

        try:
            return directory.read(name, int(room), is_too_much)
        finally:
            self._seconds += _clock() - begun
            self._bytes += size

    def _room(self, purse: Purse, spent: float) -> float:
        return self._times * max(purse.least, min(purse.each, purse.together - spent / self._times))
