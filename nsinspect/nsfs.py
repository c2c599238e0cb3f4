"""What namespaces tell of themselves, and what keeps them: ioctl_ns(2), bind mounts and open descriptors.

More than a list of containers needs, so it is read only for who asks about namespaces.
"""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Iterable
from functools import cache

from nsinspect.effort import DESCRIPTORS, Shares
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Copied, Directory, Roots
from nsinspect.namespaces import TYPES, Holder, Kin, Namespaces, parse_named_link
from nsinspect.procfs import Mount
from nsinspect.snapshot import Lineage, Process
from nsinspect.tasks import Again, descriptors_of, each

_NS_GET_USERNS = 0xB701
_NS_GET_PARENT = 0xB702
_NS_GET_OWNER_UID = 0xB704
_HIERARCHICAL = ("pid", "user")


def lineage(
    asker: Forgiving,
    roots: Roots,
    processes: Iterable[Process],
    mounts: Iterable[Mount],
    again: Again,
    *,
    descriptors: bool,
) -> Lineage:
    """Kin of every namespace that a process is in, and every bind mount of one that we may see.

    With ``descriptors`` also every open one, for which each process' folder of them is read.  ``again`` pins a process
    that was read before, and raises ``Vanished`` when its pid is another's now.
    """
    shares = Shares(DESCRIPTORS)
    kin: dict[int, Kin] = {}
    seen: set[Namespaces] = set()  # of thousands of processes most have all eight in common with others
    holders = [
        Holder(*found, mount=mount.point)
        for mount in mounts
        if mount.fstype == b"nsfs" and (found := parse_named_link(mount.root)) is not None
    ]

    def unknown(process: Process) -> list[tuple[str, int]]:
        """Its namespaces that no process before it has told of."""
        if process.namespaces in seen:
            return []
        new = [
            (kind, inode)
            for kind, inode in zip(TYPES, process.namespaces, strict=True)
            if inode is not None and inode not in kin
        ]
        if not new:
            seen.add(process.namespaces)
        return new

    def look(directory: Directory, process: Process) -> None:
        for kind, inode in unknown(process):
            told = _kin(directory, kind, inode)
            if told is not None:
                kin[inode] = told
        for fd, link in descriptors_of(shares, directory, process) if descriptors else ():
            # Most descriptors are files and pipes, and there are tens of thousands.
            if link[-1:] == b"]" and (named := parse_named_link(link)) is not None:
                holders.append(Holder(*named, pid=process.pid, fd=fd))

    each(asker, roots, (one for one in processes if descriptors or unknown(one)), again, look)
    return Lineage(kin, tuple(holders))


@cache
def _device() -> int | None:
    """The device of the kernel's file system of namespaces; ``None`` where we have no /proc of our own to see it in."""
    try:
        return os.stat("/proc/self/ns/user").st_dev
    except OSError:
        return None


def _kin(directory: Directory, kind: str, inode: int) -> Kin | None:
    """``None`` where the namespace cannot be opened, or is another one by now."""
    fd = opened(directory, kind, inode)
    if fd is None:
        return None
    try:
        return Kin(
            _related(fd, _NS_GET_USERNS),
            _related(fd, _NS_GET_PARENT) if kind in _HIERARCHICAL else None,
            _owner_uid(fd) if kind == "user" else None,
        )
    finally:
        os.close(fd)


def opened(directory: Directory, kind: str, inode: int) -> int | None:
    """A descriptor of a process' namespace; ``None`` where it cannot be opened, or is another one by now."""
    if isinstance(directory, Copied):
        return None  # a link on a disk leads to no namespace, but may lead anywhere else
    try:
        # Opened without being used first: it is looked at before it is anything but a name.
        handle = os.open(f"ns/{kind}", os.O_PATH | os.O_CLOEXEC, dir_fd=directory.fd)
    except OSError:
        return None
    try:
        status = os.fstat(handle)
        if status.st_ino != inode or status.st_dev != _device():
            return None
        return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    finally:
        os.close(handle)


def _related(fd: int, request: int) -> int | None:
    """Inode of a namespace that this one names; ``None`` where that is none, or out of our sight (EPERM)."""
    try:
        other = fcntl.ioctl(fd, request)
    except OSError:
        return None
    try:
        return os.fstat(other).st_ino
    finally:
        os.close(other)


def _owner_uid(fd: int) -> int | None:
    try:
        answer = fcntl.ioctl(fd, _NS_GET_OWNER_UID, bytes(4))
    except OSError:
        return None
    return int(struct.unpack("I", answer)[0])
