"""Engines' own state files, read as what they are: text from somebody else, on a disk somebody else writes.

Opened, read once, closed; regular files only, bounded in size, the last component never a link.  Under ``--root`` all
links resolve inside that root, so a captured or mounted host cannot lead out of it.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Callable, Iterable

from nsinspect.errors import KernelError, Unreadable, meaning_of
from nsinspect.kernfs import Roots, watched
from nsinspect.procfs import Mount, host_path

MAX_BYTES = 8 << 20
"""A container's state is some kilobytes; podman's list of all containers about one kilobyte for each."""

FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""How a state file is opened, by whoever opens it: no last link followed, no FIFO waited at, no terminal taken."""
_OPENAT2 = 437  # the same number on every architecture
_RESOLVE_NO_MAGICLINKS = 0x02
_RESOLVE_IN_ROOT = 0x10


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
        self._seen: dict[str, bytes | KernelError | None] = {}

    def read(self, path: str) -> bytes | None:
        """See :meth:`nsinspect.runtimes.base.StateFiles.read`."""
        if path not in self._seen:
            try:
                self._seen[path] = watched("state", path, lambda: self._read(path))
            except KernelError as error:
                self._seen[path] = error
        known = self._seen[path]
        if isinstance(known, KernelError):
            raise known
        return known

    def entries(self, path: str) -> list[str]:
        """See :meth:`nsinspect.runtimes.base.StateFiles.entries`."""
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

    def _read(self, path: str) -> bytes | None:
        if "\0" in path:
            raise Unreadable(path, "no path can hold a NUL")
        try:
            fd = self._open(path, FLAGS)
        except OSError as error:
            meaning = meaning_of(error.errno)
            if meaning is None:
                return None
            raise meaning(path, error.strerror or f"error {error.errno}") from error
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise Unreadable(path, "expected a regular file")
            chunks: list[bytes] = []
            size = 0
            while chunk := os.read(fd, 1 << 18):
                size += len(chunk)
                if size > MAX_BYTES:
                    raise Unreadable(path, f"larger than {MAX_BYTES} bytes")
                chunks.append(chunk)
            return b"".join(chunks)
        except OSError as error:
            raise Unreadable(path, error.strerror or f"error {error.errno}") from error
        finally:
            os.close(fd)

    def _open(self, path: str, flags: int) -> int:
        if self._at_root:
            try:
                return os.open(path, flags)
            except PermissionError:
                if self._borrow is None:
                    raise
                return self._borrow(path)
        top = os.open(self._root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return _open_in_root(top, path, flags)
        finally:
            os.close(top)


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
