"""The only module that opens kernel files: roots, a held directory, and what each errno means.

A directory is opened once and everything below it is read relative to that descriptor.  For ``/proc/<pid>`` this pins
the process: a reused pid can never be read through the old descriptor (the kernel answers ESRCH), so facts of two
processes cannot mix.  For a cgroup it pins the very cgroup, even if one of the same name takes its place.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Protocol, Self, TypeVar

from nsinspect.errors import KernelError, Malformed, RootError, Unreadable, Vanished, meaning_of

T = TypeVar("T")

# Never follow a link in the last component, never wait for a FIFO's writer, never become a terminal's owner.
_READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
_DIRECTORY = os.O_RDONLY | os.O_CLOEXEC | os.O_DIRECTORY | os.O_NOFOLLOW

# Most kernel files fit in one page; a larger first read costs an allocation in every one of thousands of calls.
_CHUNK = 4096
# mountinfo of a host with 10,000 mounts is about 2 MB; nothing legitimate that is read here is larger.
MAX_BYTES = 16 << 20
# As the kernel writes a pid or a descriptor: int() would also take a sign, leading zeros and digits of other scripts.
_NUMBER = re.compile(r"0|[1-9][0-9]{0,9}")
# What the kernel's own file systems call themselves, statfs(2): procfs, sysfs, cgroups of v1 and v2.
_KERNELS = {0x9FA0, 0x62656572, 0x27E0EB, 0x63677270}
# Module-level names, so that a test can inject an errno that no kernel gives on demand.
_open, _read, _close, _readlink, _stat = os.open, os.read, os.close, os.readlink, os.stat


class Witness(Protocol):
    """Is told of everything that is read, as it is read: how a capture keeps the bytes that facts were made of."""

    def watch(self, kind: str, path: str, work: Callable[[], T], /) -> T:
        """Do ``work``, which reads ``path``.  ``kind``: "file", "link", or "state" for an engine's file."""

    def failed(self, path: str, number: int | None, /) -> None:
        """The errno that something at ``path`` was answered with."""


_witness: Witness | None = None


@contextmanager
def witnessed(witness: Witness) -> Iterator[None]:
    """Have a witness to everything that this process reads meanwhile."""
    global _witness
    _witness = witness
    try:
        yield
    finally:
        _witness = None


def watched(kind: str, path: str, work: Callable[[], T]) -> T:
    """What ``work`` gives, which reads ``path``; the witness sees it, where there is one."""
    return work() if _witness is None else _witness.watch(kind, path, work)


@dataclass(frozen=True, slots=True, kw_only=True)
class Roots:
    """Where the host to look at begins.

    ``root`` is prefixed to every path (``/`` is this machine; ``/host`` a host mounted into a container; any other
    directory a captured host).  ``procfs`` and ``cgroupfs`` replace ``<root>/proc`` and ``<root>/sys/fs/cgroup``.
    """

    root: str = "/"
    procfs_override: str | None = None
    cgroupfs_override: str | None = None

    @property
    def live(self) -> bool:
        """Whether this is the machine we run on, seen through its own mounts."""
        return self.at_root and self.procfs_override is None

    @property
    def at_root(self) -> bool:
        """Whether paths of the host are our own."""
        return os.path.realpath(self.root) == "/"

    @property
    def procfs(self) -> str:
        """Directory that holds ``<pid>/``."""
        return self.procfs_override or self.join("/proc")

    def join(self, path: str) -> str:
        """Where the host's absolute ``path`` is for us."""
        return os.path.join(self.root, path.lstrip("/"))

    def cgroup(self, mount_point: str) -> str:
        """Where the host's cgroup mount at ``mount_point`` is for us."""
        return os.path.normpath(os.path.join(*self._split(mount_point)))

    def open_procfs(self) -> Directory:
        """Open the directory that holds ``<pid>/``.  Raises :class:`RootError`."""
        return self._open(self.procfs_override or self.root, "" if self.procfs_override else "proc", self.procfs)

    def open_cgroup(self, mount_point: str) -> Directory:
        """Open a cgroup mount.  Raises :class:`RootError`."""
        return self._open(*self._split(mount_point), self.cgroup(mount_point))

    def open_folder(self, path: str) -> Directory:
        """Open the host's folder at the absolute ``path``.  Raises :class:`RootError`."""
        return self._open(self.root, path.lstrip("/"), self.join(path))

    def _split(self, mount_point: str) -> tuple[str, str]:
        """What a person typed, and what the host says is below that: for all we know in a copy, to lead us out."""
        standard = "/sys/fs/cgroup"
        inside = os.path.normpath("/" + mount_point.lstrip("/"))
        if self.cgroupfs_override and (inside + "/").startswith(standard + "/"):
            return self.cgroupfs_override, inside[len(standard) :].lstrip("/")
        return self.root, inside.lstrip("/")

    def _open(self, typed: str, inside: str, path: str) -> Directory:
        # Our own paths are the kernel's; of another host everything below what was typed may be somebody's.
        return Directory.root(path) if self.live else Directory.below(typed, inside, path)


class Directory:
    """An open directory of procfs, cgroupfs or a captured copy of one; a context manager.

    Every method raises :class:`Vanished`, :class:`Denied` or :class:`Unreadable`, and gives ``None`` where the object
    lives but does not have the thing asked for (a controller that is not enabled, ``ns/net`` of a zombie).
    """

    __slots__ = ("_name", "_parent", "fd", "path")

    def __init__(self, path: str, fd: int, parent: Directory | None = None, name: str = "") -> None:
        self.path = path
        self.fd = fd
        self._parent = parent
        self._name = name

    @classmethod
    def root(cls, path: str) -> Self:
        """Open the top of a tree.  Raises :class:`RootError` when it is no directory."""
        try:
            # A root may itself be a link (/var/run, a path a person typed); what is below it may not.
            return cls(path, os.open(path, _DIRECTORY & ~os.O_NOFOLLOW))
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise RootError(f"{path}: cannot be opened as a directory: {reason}") from error

    @staticmethod
    def below(typed: str, inside: str, path: str) -> Directory:
        """Open ``inside`` below the folder that a person typed; ``path`` is what to call it.

        No link on the way is followed.  What is there is :class:`Copied`, unless it is the kernel's own file system.
        """
        folder = Copied.root(typed)
        try:
            for name in filter(None, inside.split("/")):
                with folder as above:
                    folder = above.open(name)
        except KernelError as error:
            reason = getattr(error.__cause__, "strerror", None) or error.detail
            raise RootError(f"{path}: cannot be opened as a directory: {reason}") from error
        return (Directory if _is_kernels(folder.fd) else Copied)(path, folder.fd)

    def open(self, name: str) -> Self:
        """Open a directory below this one; it must be closed before this one is.  Raises ``Vanished`` if missing."""
        try:
            return type(self)(f"{self.path}/{name}", _open(name, _DIRECTORY, dir_fd=self.fd), self, name)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise Vanished(f"{self.path}/{name}", "no such directory") from error
            self._give_meaning(error, name)
            raise Vanished(f"{self.path}/{name}", "no such directory") from error

    def read(self, name: str, limit: int = MAX_BYTES, enough: Callable[[bytes], bool] | None = None) -> bytes | None:
        """The whole of a file below this directory, or ``None`` when there is none.

        ``enough`` sees each piece as it comes; where it says so, the rest is left unread and the last line is whole.
        """
        return watched("file", f"{self.path}/{name}", lambda: self._read(name, limit, enough))

    def _read(self, name: str, limit: int, enough: Callable[[bytes], bool] | None) -> bytes | None:
        try:
            fd = _open(name, _READ, dir_fd=self.fd)
            try:
                return self._whole(fd, name, limit, enough, [])
            finally:
                _close(fd)
        except OSError as error:
            self._give_meaning(error, name)
            return None

    def _whole(
        self, fd: int, name: str, limit: int, enough: Callable[[bytes], bool] | None, chunks: list[bytes]
    ) -> bytes:
        size = sum(map(len, chunks))
        # Only b"" is the end: a file of many records (mountinfo, uid_map) may stop short anywhere.
        while chunk := _read(fd, 1 << 16):
            chunks.append(chunk)
            size += len(chunk)
            if size > limit:
                raise Unreadable(f"{self.path}/{name}", f"larger than {limit} bytes")
            if enough is not None and enough(chunk):
                data = b"".join(chunks)
                return data[: data.rfind(b"\n") + 1]
        return b"".join(chunks)

    def read_rendered(self, name: str) -> bytes | None:
        """:meth:`read` for files that the kernel renders in one piece (stat, status, cgroup, every control file).

        For those a short read is the end, which saves a third of the system calls of a scan.
        """
        # The other readers ask for a witness in one place; this one is called a hundred thousand times.
        if _witness is not None:
            return _witness.watch("file", f"{self.path}/{name}", lambda: self._read_rendered(name))
        return self._read_rendered(name)

    def _read_rendered(self, name: str) -> bytes | None:
        try:
            fd = _open(name, _READ, dir_fd=self.fd)
            try:
                data = _read(fd, _CHUNK)
                return data if len(data) < _CHUNK else self._whole(fd, name, MAX_BYTES, None, [data])
            finally:
                _close(fd)
        except OSError as error:
            self._give_meaning(error, name)
            return None

    def all_rendered(self, names: Iterable[str]) -> list[bytes | None] | None:
        """:meth:`read_rendered` of several in one go, which is the usual case; ``None`` where any of them cannot be
        had: then whoever asks one by one learns why."""
        if _witness is not None:
            return None
        fd = self.fd
        found: list[bytes | None] = []
        for name in names:
            try:
                file = _open(name, _READ, dir_fd=fd)
                try:
                    data = _read(file, _CHUNK)
                    if len(data) == _CHUNK:
                        data = self._whole(file, name, MAX_BYTES, None, [data])
                finally:
                    _close(file)
            except Unreadable:
                return None
            except OSError as error:
                if meaning_of(error.errno) is not None:
                    return None
                found.append(None)
                continue
            found.append(data)
        # One that is absent may be so because all of it went away.
        return None if None in found and not self.alive() else found

    def readlink(self, name: bytes) -> bytes | None:
        """Where a link below this directory points, or ``None`` when there is none."""
        return watched("link", f"{self.path}/{os.fsdecode(name)}", lambda: self._link(name))

    def _link(self, name: bytes) -> bytes | None:
        try:
            return _readlink(name, dir_fd=self.fd)
        except OSError as error:
            self._give_meaning(error, os.fsdecode(name))
            if error.errno == errno.EINVAL:  # only a copy holds anything else where the kernel has a link
                raise Malformed.expecting("a link", f"{self.path}/{os.fsdecode(name)}") from error
            return None

    def readlinks(self, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        """:meth:`readlink` of several."""
        if _witness is not None:
            return tuple(map(self.readlink, names))
        fd = self.fd
        try:
            # The usual case in one go: eight links of thousands of processes.
            return tuple([_readlink(name, dir_fd=fd) for name in names])
        except OSError:
            return tuple(map(self.readlink, names))

    def numbered_links(self, name: str, most: int) -> list[tuple[int, bytes]]:
        """Numbers and targets of the links in a directory below this one; those that go meanwhile are left out.

        Raises ``Unreadable`` where there are more than ``most``.
        """
        with self.open(name) as directory:
            found = []
            for number in directory.numbers(0, most):
                target = directory.readlink(b"%d" % number)
                if target is not None:
                    found.append((number, target))
            return found

    def entries(self, most: int | None = None) -> list[str]:
        """Names below this directory; empty when the process or cgroup is gone (the kernel gives no error then).

        Raises ``Unreadable`` where there are more than ``most``.
        """
        try:
            if most is None:
                return os.listdir(self.fd)
            with os.scandir(self.fd) as found:
                names = [one.name for one in islice(found, most + 1)]
            if len(names) > most:
                raise Unreadable(self.path, f"more than {most} entries")
            return names
        except OSError as error:
            self._give_meaning(error, "")
            return []

    def numbers(self, least: int, most: int | None = None) -> list[int]:
        """Names below this directory that are numbers from ``least`` on, in order: processes, threads, descriptors.

        In a copy there may be anything: what only looks like a number is none, and nothing is there twice.  ``most``:
        see :meth:`entries`.
        """
        return sorted(int(name) for name in self.entries(most) if _NUMBER.fullmatch(name) and int(name) >= least)

    def inode(self) -> int:
        """The directory's inode number: a cgroup's identity."""
        return os.fstat(self.fd).st_ino

    def parsed(self, name: str, data: bytes | None, parse: Callable[[bytes], T]) -> T | None:
        """What a parser makes of the content of ``name``; its :class:`Malformed` is raised again naming the file."""
        if data is None:
            return None
        try:
            return parse(data)
        except Malformed as error:
            raise error.at(f"{self.path}/{name}") from None

    def alive(self) -> bool:
        """Whether the directory is still where it was opened.

        A removed cgroup and an exited process look alike from inside (every open gives ENOENT or ESRCH, the listing is
        empty, ``st_nlink`` stays), so the only question that tells is: does the parent still lead to the same inode?
        """
        if self._parent is None:
            return True
        try:
            found = _stat(self._name, dir_fd=self._parent.fd, follow_symlinks=False)
            held = os.fstat(self.fd)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) == (held.st_dev, held.st_ino)

    def close(self) -> None:
        """Let the process or cgroup go."""
        _close(self.fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        _close(self.fd)

    def _give_meaning(self, error: OSError, name: str) -> None:
        """Raise what ``error`` means for ``name`` below this directory; return when it means "there is none"."""
        meaning = meaning_of(error.errno)
        path = f"{self.path}/{name}" if name else self.path
        if _witness is not None:
            _witness.failed(path, error.errno)
        if meaning is None:
            if error.errno == errno.ENOENT and not self.alive():
                raise Vanished(path, "gone while it was read") from error
            return
        raise meaning(path, error.strerror or f"error {error.errno}") from error


class Copied(Directory):
    """A directory of a copy, in which a link may be anywhere: a name of several parts is gone part by part, and what is
    behind a link is not there."""

    __slots__ = ()

    def open(self, name: str) -> Self:
        """See :meth:`Directory.open`."""
        first, _, rest = name.partition("/")
        directory = super().open(first)
        if not rest:
            return directory
        with directory:
            return directory.open(rest)

    def readlinks(self, names: tuple[bytes, ...]) -> tuple[bytes | None, ...]:
        """See :meth:`Directory.readlinks`."""
        return tuple(map(self.readlink, names))

    def all_rendered(self, names: Iterable[str]) -> list[bytes | None] | None:
        """See :meth:`Directory.all_rendered`: one by one, part by part."""

    def alive(self) -> bool:
        """See :meth:`Directory.alive`; on a disk the number of links tells."""
        return os.fstat(self.fd).st_nlink > 0

    def _read(self, name: str, limit: int, enough: Callable[[bytes], bool] | None) -> bytes | None:
        with self._folder_of(name) as (folder, last):
            return super(Copied, folder)._read(last, limit, enough) if folder else None

    def _read_rendered(self, name: str) -> bytes | None:
        with self._folder_of(name) as (folder, last):
            return super(Copied, folder)._read_rendered(last) if folder else None

    def _link(self, name: bytes) -> bytes | None:
        with self._folder_of(os.fsdecode(name)) as (folder, last):
            return super(Copied, folder)._link(os.fsencode(last)) if folder else None

    @contextmanager
    def _folder_of(self, name: str) -> Iterator[tuple[Copied | None, str]]:
        """The folder that a name of several parts leads to, ``None`` where there is none, and its last part."""
        above, _, last = name.rpartition("/")
        if not above:
            yield self, name
            return
        try:
            folder = self.open(above)
        except Vanished:
            yield None, last
            return
        with folder:
            yield folder, last


def _is_kernels(fd: int) -> bool:
    """Whether this is on a file system whose names and links only the kernel makes."""
    import ctypes  # here, because a look at this very host does not need it

    status = ctypes.create_string_buffer(256)  # struct statfs: begins with the type; stays 0 where that fails
    ctypes.CDLL(None).fstatfs(fd, status)
    return ctypes.c_long.from_buffer(status).value & 0xFFFFFFFF in _KERNELS
