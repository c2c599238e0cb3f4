"""The kernel's notices of programs that start, cn_proc: for containers that come and go between two looks.

A hint only.  Notices are lost when they come faster than they are read, and a program may have ended before its cgroup
can be asked for; both are counted.  Needs the host's own network and pid namespaces and, before Linux 6.6,
CAP_NET_ADMIN.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import threading
from typing import NamedTuple

from nsinspect import procfs
from nsinspect.errors import KernelError, NsinspectError
from nsinspect.kernfs import Directory, Roots
from nsinspect.runtimes import recognise

_NETLINK_CONNECTOR = 11
_CN_IDX_PROC = _CN_VAL_PROC = 1
_LISTEN = 1
_EXEC = 0x00000002
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20
_NLMSG = struct.Struct("=IHHII")
_CN = struct.Struct("=IIIIHH")
# What, CPU, time stamp; then of an exec the thread and the process.
_EVENT = struct.Struct("=IIQII")


class ConnectorError(NsinspectError):
    """The kernel sends no notices to us."""


class Seen(NamedTuple):
    """Containers that ran a program: (runtime, id), and how often something may have been missed."""

    containers: frozenset[tuple[str, str]]
    overflows: int
    too_late: int


class Connector:
    """Listens in a thread of its own.  Raises :class:`ConnectorError` where the kernel does not let us."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._guard = threading.Lock()
        self._containers: set[tuple[str, str]] = set()
        self._overflows = self._too_late = 0
        try:
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
            self._socket.bind((0, _CN_IDX_PROC))
            self._make_room()
            body = struct.pack("=I", _LISTEN)
            message = _CN.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, 0, len(body), 0) + body
            self._socket.send(_NLMSG.pack(_NLMSG.size + len(message), 3, 0, 0, 0) + message)
        except OSError as error:
            raise ConnectorError(f"the process connector: {error.strerror}: it needs CAP_NET_ADMIN") from error
        threading.Thread(target=self._listen, daemon=True, name="connector").start()

    def taken(self) -> Seen:
        """What was seen since this was asked for last."""
        with self._guard:
            seen = Seen(frozenset(self._containers), self._overflows, self._too_late)
            self._containers.clear()
            self._overflows = self._too_late = 0
        return seen

    def _make_room(self) -> None:
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        except OSError:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)

    def _listen(self) -> None:
        with self._roots.open_procfs() as proc:
            while True:
                try:
                    data = self._socket.recv(4096)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:
                        return
                    with self._guard:
                        self._overflows += 1
                    continue
                pid = exec_of(data)
                if pid is not None and pid != os.getpid():
                    self._ask(proc, pid)

    def _ask(self, proc: Directory, pid: int) -> None:
        try:
            with proc.open(str(pid)) as directory:
                lines = directory.parsed("cgroup", directory.read_rendered("cgroup"), procfs.parse_cgroup) or ()
        except KernelError:
            with self._guard:
                self._too_late += 1
            return
        found = {(match.runtime, match.id) for line in lines for match in recognise(line.path)}
        if found:
            with self._guard:
                self._containers |= found


def exec_of(data: bytes) -> int | None:
    """The process that a notice is about, where it is that a program was started; ``None`` for any other."""
    start = _NLMSG.size + _CN.size
    if len(data) < start + _EVENT.size:
        return None
    index, value, *_ = _CN.unpack_from(data, _NLMSG.size)
    what, _, _, _, process = _EVENT.unpack_from(data, start)
    return process if (index, value, what) == (_CN_IDX_PROC, _CN_VAL_PROC, _EXEC) else None
