"""A capture as it lies on a disk: a directory, or the same as ``.tar.zst``; written once, read with suspicion.

``SHA256SUMS`` is what sha256sum(1) checks; ``manifest.json`` says what each file is.  See docs/forensics.md.
"""

from __future__ import annotations

import hashlib
import os
import stat
import tarfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from io import BytesIO
from typing import IO, NamedTuple, Protocol

from nsinspect.errors import NsinspectError

SNAPSHOT, MANIFEST, LOG, SUMS = "snapshot.json", "manifest.json", "acquisition.log", "SHA256SUMS"
ARCHIVE = ".tar.zst"

# Frames of zstd with a checksum and this window begin so.
_WINDOW_LOG = 21
_HEAD = b"\x28\xb5\x2f\xfd\x04\x58"
_MAX_HEADERS = 1 << 20
_READ = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY

MAX_FILES = 2_000_000
MAX_FILE = 1 << 30
MAX_BYTES = 8 << 30
"""Of a capture that is read: more than a host with a hundred thousand processes gives, less than a disk."""


class BundleError(NsinspectError):
    """A capture cannot be written there, or what is there is none."""


class Sink(Protocol):
    """Where a capture is written to."""

    def file(self, name: str, data: bytes) -> None:
        """A new file, readable by us alone.  Raises ``OSError``."""

    def link(self, name: str, target: bytes) -> None:
        """A new symbolic link.  Raises ``OSError``."""

    def close(self) -> None:
        """Nothing comes any more."""


class Folder:
    """A new directory.  Raises :class:`BundleError` when there is something of that name."""

    def __init__(self, path: str) -> None:
        try:
            os.mkdir(path, 0o700)
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}") from error
        self._made = {""}

    def file(self, name: str, data: bytes) -> None:
        """See :meth:`Sink.file`."""
        self._make(os.path.dirname(name))
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(name, flags, 0o600, dir_fd=self._fd), "wb") as file:
            file.write(data)

    def link(self, name: str, target: bytes) -> None:
        """See :meth:`Sink.link`."""
        self._make(os.path.dirname(name))
        os.symlink(target, os.fsencode(name), dir_fd=self._fd)

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        os.close(self._fd)

    def _make(self, folder: str) -> None:
        if folder in self._made:
            return
        self._make(os.path.dirname(folder))
        os.mkdir(folder, 0o700, dir_fd=self._fd)
        self._made.add(folder)


class Archive:
    """A new ``.tar.zst``, written as it comes; ``out`` is closed with it."""

    def __init__(self, out: IO[bytes]) -> None:
        import zstandard

        self._out = out
        how = zstandard.ZstdCompressionParameters.from_level(6, window_log=_WINDOW_LOG, write_checksum=True)
        self._zstd = zstandard.ZstdCompressor(compression_params=how).stream_writer(out, closefd=False)
        self._tar = tarfile.open(fileobj=self._zstd, mode="w|", format=tarfile.PAX_FORMAT)  # noqa: SIM115 - see close

    @classmethod
    def create(cls, path: str) -> Archive:
        """In a new file.  Raises :class:`BundleError` when there is something of that name."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            return cls(os.fdopen(os.open(path, flags, 0o600), "wb"))
        except OSError as error:
            raise BundleError(f"{path}: {error.strerror}") from error

    def file(self, name: str, data: bytes) -> None:
        """See :meth:`Sink.file`."""
        member = tarfile.TarInfo(name)
        member.size, member.mode = len(data), 0o600
        self._tar.addfile(member, BytesIO(data))

    def link(self, name: str, target: bytes) -> None:
        """See :meth:`Sink.link`."""
        member = tarfile.TarInfo(name)
        member.type, member.linkname = tarfile.SYMTYPE, os.fsdecode(target)
        self._tar.addfile(member)

    def close(self) -> None:
        """See :meth:`Sink.close`."""
        self._tar.close()
        self._zstd.close()  # type: ignore[no-untyped-call]
        self._out.close()


def sums_line(digest: str, name: bytes) -> bytes:
    """A line as sha256sum(1) writes and reads it: with a backslash in front where the name needs escapes."""
    escaped = name.replace(b"\\", b"\\\\").replace(b"\n", b"\\n").replace(b"\r", b"\\r")
    return (b"\\" if escaped != name else b"") + digest.encode() + b"  " + escaped + b"\n"


# -- reading ----------------------------------------------------------------------------------------------------------


class Item(NamedTuple):
    """One thing in a capture.  ``data`` opens a file's bytes; ``target`` is a link's; of anything else both are
    ``None``."""

    name: str
    data: IO[bytes] | None
    target: bytes | None


def is_capture(path: str) -> bool:
    """Whether ``path`` looks like what ``capture`` wrote."""
    if path.endswith(ARCHIVE):
        return os.path.isfile(path)
    return os.path.lexists(os.path.join(path, MANIFEST)) and os.path.lexists(os.path.join(path, SNAPSHOT))


def items(path: str) -> Iterator[Item]:
    """Everything in a capture, within bounds; no link is followed and nothing is unpacked.

    A file's ``data`` must be read before the next item is asked for.  Raises :class:`BundleError`.
    """
    total = 0
    for count, (item, size) in enumerate(_in_archive(path) if path.endswith(ARCHIVE) else _in_folder(path), 1):
        total += size
        if count > MAX_FILES or size > MAX_FILE or total > MAX_BYTES:
            raise BundleError(f"{path}: larger than any capture: stopped at {item.name!a}")
        yield item


def read(path: str, name: str) -> bytes:
    """One file of a capture.  Raises :class:`BundleError`."""
    if not path.endswith(ARCHIVE):
        try:
            with _opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), name) as file:
                return _bounded(file, f"{path}/{name}")
        except OSError as error:
            raise BundleError(f"{path}/{name}: {error.strerror}") from error
    with guarded(path):
        for item in items(path):
            if item.name == name and item.data is not None:
                return _bounded(item.data, f"{path}: {name}")
    raise BundleError(f"{path}: expected a capture, found no {name} in it")


def digest_of(data: IO[bytes]) -> tuple[str, int]:
    """SHA-256 and size of what is read."""
    found, size = hashlib.sha256(), 0
    while piece := data.read(1 << 20):
        found.update(piece)
        size += len(piece)
    return found.hexdigest(), size


def _bounded(file: IO[bytes], what: str) -> bytes:
    # In pieces, because room is made for as much as is asked for.
    pieces, size = [], 0
    while piece := file.read(1 << 20):
        size += len(piece)
        if size > MAX_FILE:
            raise BundleError(f"{what}: larger than {MAX_FILE} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _opened(folder: int, name: str) -> IO[bytes]:
    """A regular file below a folder's descriptor, which is closed; a FIFO or device is none."""
    try:
        fd = os.open(name, _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)
    return _regular(fd)


def _regular(fd: int) -> IO[bytes]:
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(0, "expected a regular file")
    return os.fdopen(fd, "rb")


def _in_folder(path: str) -> Iterator[tuple[Item, int]]:
    try:
        # The capture itself may be behind a link that a person typed; nothing in it may.
        yield from _below(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC), "")
    except OSError as error:
        where = path if error.filename in (None, path) else f"{path}: {error.filename!a}"
        raise BundleError(f"{where}: {error.strerror}") from error
    except RecursionError as error:
        raise BundleError(f"{path}: deeper than any capture") from error


def _below(folder: int, prefix: str) -> Iterator[tuple[Item, int]]:
    """Everything below a descriptor, which is closed.  No link is so much as asked whether it leads to a folder: what
    it leads to is anywhere, and may not answer."""
    folders = []
    try:
        for name in sorted(os.listdir(folder)):
            whole = prefix + name
            status = os.stat(name, dir_fd=folder, follow_symlinks=False)
            if stat.S_ISDIR(status.st_mode):
                folders.append(name)
            elif stat.S_ISLNK(status.st_mode):
                yield Item(whole, None, os.fsencode(os.readlink(name, dir_fd=folder))), 0
            elif stat.S_ISREG(status.st_mode):
                with _opened(os.dup(folder), name) as file:
                    yield Item(whole, file, None), status.st_size
            else:
                yield Item(whole, None, None), 0
        for name in folders:
            flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            yield from _below(os.open(name, flags, dir_fd=folder), f"{prefix}{name}/")
    finally:
        os.close(folder)


def _in_archive(path: str) -> Iterator[tuple[Item, int]]:
    import zstandard

    with ExitStack() as stack, guarded(path):
        # A link that a person typed may lead to it; a FIFO of that name would never begin.
        file = stack.enter_context(_regular(os.open(path, _READ)))
        _check_frame(file, path)
        plain = stack.enter_context(zstandard.ZstdDecompressor(max_window_size=1 << _WINDOW_LOG).stream_reader(file))
        bounded = _Bounded(plain, zstandard.ZstdError)
        with tarfile.open(fileobj=bounded, mode="r|") as tar:  # type: ignore[call-overload]
            while (member := tar.next()) is not None:
                # Else it would keep every one of millions.
                tar.members.clear()
                bounded.left = member.size + _MAX_HEADERS
                data = tar.extractfile(member) if member.isreg() else None
                target = os.fsencode(member.linkname) if member.issym() else None
                yield Item(member.name, data, target), member.size
        # What comes after the end of a tar counts for the checksum too.
        bounded.left = _MAX_HEADERS
        while bounded.read(1 << 16):
            pass


class _Bounded:
    """What tarfile reads from, which would believe a header of any length; ``damage``: what the compression raises."""

    def __init__(self, plain: IO[bytes], damage: type[Exception]) -> None:
        self._plain = plain
        self._damage = damage
        self.left = _MAX_HEADERS

    def read(self, size: int) -> bytes:
        """As a file's."""
        try:
            data = self._plain.read(size)
        except self._damage as error:
            raise BundleError(str(error)) from error
        self.left -= len(data)
        if self.left < 0:
            raise BundleError("its headers are larger than any capture's")
        return data


def _check_frame(file: IO[bytes], path: str) -> None:
    """That the file is one frame as we write them, from its first byte to its last: what zstd's readers pass over in
    silence (bits without meaning, an end that is missing, something behind it) would be an alteration nobody sees."""
    if file.read(len(_HEAD)) != _HEAD:
        raise BundleError(f"{path}: damaged, or no capture: it does not begin like one")
    last = False
    while not last:
        block = int.from_bytes(file.read(3).ljust(3, b"\xff"), "little")
        last, kind, size = bool(block & 1), block >> 1 & 3, block >> 3
        if kind == 3:
            raise BundleError(f"{path}: damaged, or cut short")
        # One byte stands for a block of the same ones.
        file.seek(1 if kind == 1 else size, os.SEEK_CUR)
    if os.fstat(file.fileno()).st_size != file.tell() + 4:
        raise BundleError(f"{path}: damaged: it does not end where it should")
    file.seek(0)


@contextmanager
def guarded(path: str) -> Iterator[None]:
    """Whatever goes wrong while a capture is read is said in one line, as :class:`BundleError`."""
    try:
        yield
    except BundleError as error:
        if path in str(error):
            raise
        raise BundleError(f"{path}: damaged, or no capture: {error}") from error
    except (OSError, EOFError, ValueError, tarfile.TarError) as error:
        reason = getattr(error, "strerror", None) or error
        raise BundleError(f"{path}: damaged, or no capture: {reason}") from error
