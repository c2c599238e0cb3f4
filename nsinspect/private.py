"""Directories that are ours alone, for what was seen of others."""

from __future__ import annotations

import errno
import fcntl
import os
import stat


class Folder:
    """A directory of mode 0700 that one process at a time uses.  Raises ``OSError``, whose ``strerror`` says why.

    It is made, with all above it, where it is missing.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        _make(os.path.abspath(path))
        self.fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            status = os.fstat(self.fd)
            if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & 0o077:
                raise OSError(errno.EPERM, "expected a directory that is ours alone (mode 0700)")
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
            self._lock = os.open("lock", flags, 0o600, dir_fd=self.fd)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._lock)
                raise OSError(errno.EBUSY, "another nsinspect writes there") from None
        except OSError:
            os.close(self.fd)
            raise

    def close(self) -> None:
        """Let others have it."""
        os.close(self._lock)
        os.close(self.fd)


def _make(path: str) -> None:
    # os.makedirs gives the mode to the last one only.
    try:
        os.mkdir(path, 0o700)
    except FileExistsError:
        return
    except FileNotFoundError:
        _make(os.path.dirname(path))
        os.mkdir(path, 0o700)
