"""Names for what a kernel can answer instead of a fact.

They live apart so that parsers, readers and the collector can share them without importing each other.
"""

from __future__ import annotations

import errno


class NsinspectError(Exception):
    """Base of every error this package raises on purpose; its text is one line for a person."""


class RootError(NsinspectError):
    """What was given as a host is none: no procfs there, or no cgroup mount."""


class KernelError(NsinspectError):
    """A kernel file gave no usable answer.  ``path`` is where, ``detail`` is why, ``kind`` its name in issues."""

    kind = "unreadable"

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(f"{path}: {detail}" if path else detail)
        self.path = path
        self.detail = detail


class Vanished(KernelError):
    """The process exited or the cgroup was removed while it was being read (ESRCH, ENODEV, ENOENT)."""

    kind = "vanished"


class Denied(KernelError):
    """The caller may not read this (EACCES, EPERM); the fact exists and is unknown."""

    kind = "denied"


class Unreadable(KernelError):
    """The file exists and reading it failed in a way that says nothing about the fact (EIO, ELOOP, too large, ...)."""


class Malformed(KernelError):
    """The text was read and is not what this file should hold.

    Parsers raise it without a path (they open nothing); the reader adds the path with :meth:`at`.
    """

    kind = "malformed"

    def __init__(self, value: bytes, expected: str, path: str = "") -> None:
        super().__init__(path, f"expected {expected}, found {ascii(value[:80])[1:]}")

    def at(self, path: str) -> Malformed:
        """The same complaint, naming the file it is about."""
        named = Malformed.__new__(Malformed)
        KernelError.__init__(named, path, self.detail)
        return named

    @classmethod
    def expecting(cls, expected: str, path: str) -> Malformed:
        """A complaint that does not quote the file, because it may hold a secret."""
        unquoted = cls.__new__(cls)
        KernelError.__init__(unquoted, path, f"expected {expected}")
        return unquoted


def meaning_of(number: int | None) -> type[KernelError] | None:
    """What an errno from a procfs or cgroupfs file says; ``None``: this object has no such fact.

    ENOENT means that too, unless the whole directory is gone, which only ``Directory.alive`` can tell.
    """
    match number:
        # EOPNOTSUPP: pressure files with PSI off, cgroup.procs of a threaded cgroup.  EINVAL: attr/current without a
        # security module.  ENOTDIR: a captured host that has a file where a directory was asked.
        case errno.ENOENT | errno.EOPNOTSUPP | errno.EINVAL | errno.ENOTDIR:
            return None
        case errno.ESRCH | errno.ENODEV:
            return Vanished
        case errno.EACCES | errno.EPERM:
            return Denied
        case _:
            return Unreadable
