"""Namespaces of a process: ``/proc/<pid>/ns/*``.

A namespace is known by the inode in its link, ``net:[4026531840]``.  The link needs no open and cannot keep the
namespace alive, which a passive reader must never do.  See namespaces(7).
"""

from __future__ import annotations

from typing import NamedTuple

from nsinspect.errors import Malformed
from nsinspect.procfs import LARGEST

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
"""All eight, in the order of :class:`Namespaces`.  ``time`` exists since Linux 5.6, ``cgroup`` since 4.6."""

LINKS = tuple(b"ns/" + name.encode() for name in TYPES)
"""The links below ``/proc/<pid>``, in the order of :data:`TYPES`."""


class Namespaces(NamedTuple):
    """Inode of each namespace, ``None`` where it could not be read or this kernel has no such type."""

    cgroup: int | None
    ipc: int | None
    mnt: int | None
    net: int | None
    pid: int | None
    time: int | None
    user: int | None
    uts: int | None


class Kin(NamedTuple):
    """What a namespace tells of itself: inodes of the user namespace that owns it and, of pid and user namespaces, of
    its parent; of a user namespace also the uid that made it.  ``None``: not told, or not to us."""

    owner: int | None
    parent: int | None
    owner_uid: int | None


class Holder(NamedTuple):
    """What keeps a namespace alive besides its processes: a bind mount at ``mount``, or a descriptor ``fd`` of a
    process ``pid``."""

    kind: str
    inode: int
    mount: bytes | None = None
    pid: int | None = None
    fd: int | None = None


UNKNOWN = Namespaces(*(None,) * len(TYPES))


def parse_named_link(link: bytes) -> tuple[str, int] | None:
    """Type and inode of a link that may be one of something else: ``net:[4026531840]``, but not ``pipe:[12]``."""
    kind, bracket, rest = link.partition(b":[")
    name = kind.decode("ascii", "replace")
    if not bracket or name not in TYPES or not rest.endswith(b"]") or not rest[:-1].isdigit() or len(rest) > 21:
        return None
    inode = int(rest[:-1])
    return (name, inode) if inode <= LARGEST else None


def parse_link(link: bytes) -> int:
    """Inode of a link such as ``mnt:[4026531841]``."""
    _, bracket, rest = link.partition(b":[")
    if not bracket or not rest.endswith(b"]") or not rest[:-1].isdigit() or len(rest) > 21:
        raise Malformed(link, "type:[inode]")
    inode = int(rest[:-1])
    if inode > LARGEST:
        raise Malformed(link, "type:[inode]")
    return inode
