"""A file system that never answers: FUSE whose server says nothing, like a disk that is gone."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_MNT_DETACH = 2


@contextmanager
def dead_disk(folder: Path) -> Iterator[None]:
    """In the place of a folder, for a while.  Who waits for it then is told that there is no connection.

    See Documentation/filesystems/fuse.rst: every request waits until the server has answered the first one, INIT.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    server = os.open("/dev/fuse", os.O_RDWR)
    place = os.fsencode(folder)
    options = f"fd={server},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    try:
        if libc.mount(b"dead", place, b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), folder)
        try:
            yield
        finally:
            # Nobody else has the server's end: without it every request fails, those that wait included.
            os.close(server)
            server = -1
            libc.umount2(place, _MNT_DETACH)
    finally:
        if server >= 0:
            os.close(server)
