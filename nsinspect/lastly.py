"""What is read last, and only on request: command lines, environments and executables.

These wait for the process itself: a lock on its memory that it may hold for ever, a file system that it serves
itself.  So a child reads them, and is killed when it does not come back.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import selectors
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from nsinspect import procfs
from nsinspect.errors import KernelError
from nsinspect.kernfs import Directory
from nsinspect.snapshot import Process

PATIENCE = 2.0
"""Seconds without a word after which the child is given up."""

_START = 10.0
_SILENT_CHILDREN = 3

MAX_TEXT = 4 << 20
MAX_EXECUTABLE = 1 << 30


class Answer(NamedTuple):
    """One file of one process; ``data`` is ``None`` where it could not be had, and ``detail`` says why.  Of an
    executable ``data`` is its SHA-256 and its size in bytes, not the program."""

    pid: int
    what: str
    data: bytes | None
    detail: str
    started: tuple[int, int]


def answers(processes: Iterable[Process], what: Sequence[str]) -> Iterator[Answer]:
    """Each of ``what`` of each process."""
    left = deque((one.pid, one.starttime, name) for one in processes for name in what)
    silent = 0
    while left and silent < _SILENT_CHILDREN:
        silent += 1
        for answer in _child(list(left)):
            silent = 0
            left.popleft()
            yield answer
        if left:
            pid, _, name = left.popleft()
            yield Answer(pid, name, None, f"no answer within {PATIENCE:g} seconds", clocks())
    # It is not what is asked for that hangs.
    for pid, _, name in left:
        yield Answer(pid, name, None, "not asked for: no child answered", clocks())


def _child(wanted: Sequence[tuple[int, int, str]]) -> Iterator[Answer]:
    """What a child says, in order, as long as it says something."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "nsinspect.lastly"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        child.stdin.write(json.dumps(wanted).encode())
        child.stdin.close()
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ)
            rest = b""
            # Its first line says that its interpreter has started.
            begun = False
            while selector.select(PATIENCE if begun else _START):
                piece = os.read(child.stdout.fileno(), 1 << 20)
                if not piece:
                    return
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines if begun else lines[1:]:
                    said = json.loads(line)
                    data = None if said["data"] is None else base64.b64decode(said["data"])
                    yield Answer(said["pid"], said["what"], data, said["detail"], tuple(said["started"]))
                begun = begun or bool(lines)
    except BrokenPipeError:
        return
    finally:
        child.kill()
        child.stdout.close()
        # One that hangs in the kernel cannot even be killed: it is left behind.
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.wait(0.2)


def clocks() -> tuple[int, int]:
    """The time of day and since boot, in nanoseconds: of which the second cannot be set."""
    return time.time_ns(), time.clock_gettime_ns(time.CLOCK_MONOTONIC)


# -- the child ---------------------------------------------------------------------------------------------------------


def _main() -> None:
    sys.stdout.write("begun\n")
    sys.stdout.flush()
    for pid, starttime, what in json.load(sys.stdin):
        started = clocks()
        try:
            data, detail = _asked(pid, starttime, what), ""
        except (KernelError, OSError) as error:
            data, detail = None, str(error)
        said: dict[str, Any] = {"pid": pid, "what": what, "detail": detail, "started": started}
        said["data"] = None if data is None else base64.b64encode(data).decode()
        sys.stdout.write(json.dumps(said) + "\n")
        sys.stdout.flush()


def _asked(pid: int, starttime: int, what: str) -> bytes:
    with Directory.root("/proc") as proc, proc.open(str(pid)) as directory:
        stat = directory.parsed("stat", directory.read("stat"), procfs.parse_stat)
        if stat is None or stat.starttime != starttime:
            raise OSError(f"{directory.path}: its pid is another process's now")
        if what != "executable":
            return directory.read(what, MAX_TEXT) or b""
        # The kernel's own link leads to the very file, whatever is at that path by now.
        with os.fdopen(os.open("exe", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK, dir_fd=directory.fd), "rb") as file:
            found, size = hashlib.sha256(), 0
            while piece := file.read(1 << 20):
                found.update(piece)
                size += len(piece)
                if size > MAX_EXECUTABLE:
                    raise OSError(f"{directory.path}/exe: larger than {MAX_EXECUTABLE} bytes")
        return f"{found.hexdigest()}  {size}\n".encode()


if __name__ == "__main__":
    _main()
