"""Engines' own state files, read as what they are: text from somebody else, on a disk somebody else writes.

Opened, read once, closed; regular files only, bounded in size and in time, the last component never a link.  Links
above it count on this host where root made them, or whoever owns what is behind them (:func:`open_here`).  Under
``--root`` all links resolve inside that root, so a captured or mounted host cannot lead out of it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
from collections import Counter
from collections.abc import Callable, Iterable
from typing import TypeVar, cast

from nsinspect.errors import KernelError, Unreadable, meaning_of
from nsinspect.kernfs import Roots, watched
from nsinspect.patience import Patience
from nsinspect.procfs import Mount, host_path

T = TypeVar("T")

MAX_BYTES = 8 << 20
"""A container's state is some kilobytes; podman's list of all containers about one kilobyte for each."""

EACH_USER, ALL_USERS = 4 << 20, 16 << 20
"""Of all files of one user, and of all users but root, in the life of a reader: whoever has a cgroup for each of a
thousand files would fill our memory with them.  A rootless container has some 25 kilobytes."""
A_COPY = 512 << 20
"""Of all files of a copy, whose owners may be anybody."""

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""How a state file is opened, by whoever opens it: no last link followed, no FIFO waited at, no terminal taken."""
_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10
_MOST_LINKS = 40  # as the kernel's own MAXSYMLINKS
# A name of our own, so that a test can be many users.
_fstat = os.fstat
_HELD = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Reader:
    """State files of the host below ``roots``; satisfies :class:`nsinspect.runtimes.base.StateFiles`.

    ``complain`` is told of what an engine could do without.  Each file is read once in the life of a reader, because
    podman keeps all its containers in one.  ``borrow`` opens what we may not: a descriptor, or ``OSError``.
    """

    def __init__(
        self,
        roots: Roots,
        host_mounts: Iterable[Mount],
        complain: Callable[[KernelError], None],
        borrow: Callable[[str], int] | None = None,
    ) -> None:
        self.complain = complain
        self._borrow = borrow
        self._root = roots.root
        self._at_root = roots.at_root
        self._mounts = tuple(host_mounts)
        self._patience = Patience(self._file_system)
        self._spent: Counter[int] = Counter()
        # A file by its path, a folder with a slash behind it.
        self._seen: dict[str, object] = {}

    def patiently(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, which reads here, without the files that do not answer: of those it hears that they are
        :class:`Unreadable`.  It may be begun again, what was read is known then."""
        return self._patience.spend(work)

    def read(self, path: str) -> bytes | None:
        """See :meth:`nsinspect.runtimes.base.StateFiles.read`."""
        return self._once(path, lambda: watched("state", path, lambda: self._in_time(path, self._read)))

    def entries(self, path: str) -> list[str]:
        """See :meth:`nsinspect.runtimes.base.StateFiles.entries`."""
        return self._once(f"{path}/", lambda: self._in_time(path, self._entries))

    def _once(self, name: str, work: Callable[[], T]) -> T:
        """What ``work`` gave, or raised, the first time."""
        if name not in self._seen:
            try:
                self._seen[name] = work()
            except KernelError as error:
                self._seen[name] = error
        known = self._seen[name]
        if isinstance(known, KernelError):
            raise known
        return cast("T", known)

    def _in_time(self, path: str, work: Callable[[str], T]) -> T:
        try:
            possible = b"\0" not in os.fsencode(path)
        except UnicodeEncodeError:
            possible = False
        if not possible:
            raise Unreadable(path, "no path can hold a NUL or half of a surrogate pair")
        return self._patience.reading(path, lambda: work(path))

    def _entries(self, path: str) -> list[str]:
        try:
            fd = self._open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY)
            try:
                return sorted(os.listdir(fd))
            finally:
                os.close(fd)
        except OSError as error:
            meaning = meaning_of(error.errno)
            if meaning is None:
                return []
            raise meaning(path, error.strerror or f"error {error.errno}") from error

    def host_path(self, mount: Mount) -> str | None:
        """See :meth:`nsinspect.runtimes.base.StateFiles.host_path`."""
        return host_path(mount, self._mounts)

    def _file_system(self, path: str) -> str:
        """The mount that a path is on, by its name alone; of a copy only that it is one."""
        if not self._at_root:
            return self._root
        name = os.fsencode(path) + b"/"
        points = (one.point for one in self._mounts if name.startswith(one.point.rstrip(b"/") + b"/"))
        return os.fsdecode(max(points, key=len, default=b"/"))

    def _read(self, path: str) -> bytes | None:
        try:
            fd = self._open(path, FLAGS)
        except OSError as error:
            meaning = meaning_of(error.errno)
            if meaning is None:
                return None
            raise meaning(path, error.strerror or f"error {error.errno}") from error
        try:
            status = _fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise Unreadable(path, "expected a regular file")
            room, too_much = self._room(status.st_uid)
            chunks: list[bytes] = []
            size = 0
            while size <= room and (chunk := os.read(fd, 1 << 18)):
                size += len(chunk)
                chunks.append(chunk)
            self._spent[status.st_uid] += min(size, room)
            if size > room:
                raise Unreadable(path, too_much)
            return b"".join(chunks)
        except OSError as error:
            raise Unreadable(path, error.strerror or f"error {error.errno}") from error
        finally:
            os.close(fd)

    def _room(self, uid: int) -> tuple[int, str]:
        """How much more may be read in a file of this owner, and what to say of a larger one."""
        limits = [(MAX_BYTES, f"larger than {MAX_BYTES} bytes")]
        if not self._at_root:
            limits.append((A_COPY - self._spent.total(), f"with those before it larger than {A_COPY} bytes"))
        elif uid:
            users = self._spent.total() - self._spent[0]
            limits += [
                (EACH_USER - self._spent[uid], f"with those before it of uid {uid} larger than {EACH_USER} bytes"),
                (ALL_USERS - users, f"with those before it of all users larger than {ALL_USERS} bytes"),
            ]
        return min(limits)

    def _open(self, path: str, flags: int) -> int:
        if self._at_root:
            try:
                return open_here(path, flags)
            except PermissionError:
                if self._borrow is None:
                    raise
                return self._borrow(path)
        top = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open_in_root(top, path, flags)
        finally:
            os.close(top)


def open_here(path: str, flags: int) -> int:
    """Open a path of this very host, of which users may have made a part.  Raises ``OSError``.

    An administrator may have moved a folder and left a link.  A link of a user's leads only to what is that user's own
    (as with ``fs.protected_symlinks``, proc_sys_fs(5)), so nobody has us open what somebody else keeps.
    """
    fd = os.open(path, flags)
    try:
        # The usual case: no link was followed, because what was opened is at that very path.
        if os.readlink(f"/proc/self/fd/{fd}") == path:
            return fd
    except OSError:
        pass  # no /proc here to ask
    os.close(fd)
    return _open_part_by_part(path, flags)


def _open_part_by_part(path: str, flags: int) -> int:
    """:func:`open_here`, seeing every link on the way: each part is opened below the one before it, which is held."""
    left = _parts(path)
    owners: list[int] = []
    name, at = ".", os.open("/", _HELD)
    try:
        while left:
            part = left.pop()
            if not left and flags & os.O_NOFOLLOW:
                name = part
                break
            # Whichever of the two is not gone on from is closed.
            done = os.open(part, _HELD, dir_fd=at)
            try:
                status = os.fstat(done)
                if not stat.S_ISLNK(status.st_mode):
                    at, done = done, at
                    continue
                owners.append(status.st_uid)
                if len(owners) > _MOST_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                left += _parts(os.readlink("", dir_fd=done))
            finally:
                os.close(done)
        fd = os.open(name, flags, dir_fd=at)
    finally:
        os.close(at)
    owner = os.fstat(fd).st_uid
    if strangers := set(owners) - {0, owner}:
        os.close(fd)
        raise OSError(errno.ELOOP, f"behind a link of uid {min(strangers)} that leads to what is uid {owner}'s", path)
    return fd


def _parts(path: str) -> list[str]:
    """From the last to the first, which of an absolute path is the root."""
    return [*filter(None, reversed(path.split("/"))), *(["/"] if path.startswith("/") else [])]


def _open_in_root(top: int, path: str, flags: int) -> int:
    """openat2(2) since Linux 5.6, which Python does not offer: every link, ``..`` and absolute path stays below
    ``top``.  Raises ``OSError``; an older kernel gives ENOSYS, and then nothing is opened at all."""
    import ctypes  # here, because a look at this very host does not need it

    libc = ctypes.CDLL(None, use_errno=True)
    how = struct.pack("QQQ", flags, 0, _RESOLVE_IN_ROOT | _RESOLVE_NO_MAGICLINKS)  # struct open_how
    name = ctypes.c_char_p(os.fsencode(path))
    fd = libc.syscall(_OPENAT2, ctypes.c_int(top), name, how, ctypes.c_size_t(len(how)))
    if fd < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)
    return int(fd)
