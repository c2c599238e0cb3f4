"""State files for an exporter that may not read them: a process that may opens them, and hands over the descriptor.

The exporter talks to the network and may look into every process (CAP_SYS_PTRACE); whoever can open every file
(CAP_DAC_READ_SEARCH) talks to nobody but it, parses nothing, and opens what engines keep and nothing else.  One packet
is a path, the answer an errno and, where that is 0, a read-only descriptor (unix(7), SCM_RIGHTS).
"""

from __future__ import annotations

import errno
import logging
import os
import re
import socket
import threading

from nsinspect import patience
from nsinspect.serve import notify
from nsinspect.statefiles import FLAGS, open_here

log = logging.getLogger(__name__)

_LONGEST = 4096
_WAIT = 60.0
# At a time: the exporter has one for its scrapes, one for its looks, and one for each disk that does not answer.
_CLIENTS = patience.MOST + 3
_FOLDER = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_DIRECTORY
# What the modules of runtimes/ read: an engine's folder can be anywhere, so most are known by their last names.
_FILES = re.compile(
    r"/.+/containers/[0-9a-f]{64}/(config\.v2|hostconfig)\.json"  # Docker
    r"|/.+/(overlay|vfs|btrfs|zfs)-containers/((volatile-)?containers|[0-9a-f]{64}/userdata/config)\.json"  # podman
    r"|/.+/storage/db\.sql"  # podman
    r"|/run/.+/(state\.json|config\.json|init\.pid)"  # runc and containerd, and crun
    r"|/run/(user/[0-9]+/)?crun/[^/]+/status"
    r"|/var/lib/lxc/[^/]+/config"
)
_FOLDERS = re.compile(
    r"/run/(user|(user/[0-9]+/)?(runc|crun)|(k3s/)?containerd(/.+)?|docker(/.+)?|systemd/nspawn/propagate)"
)


def may_lend(path: str) -> bool:
    """Whether this is a path that engines keep state at."""
    plain = os.path.normpath(path) == path and path.isprintable()
    return plain and (_FILES.fullmatch(path) or _FOLDERS.fullmatch(path)) is not None


def run() -> None:
    """Lend on the socket that systemd passed, until SIGTERM.  Raises :class:`nsinspect.serve.notify.CannotServe`."""
    (listening, *_) = notify.passed_sockets()
    notify.notify(READY=1)
    lend(listening)


def lend(listening: socket.socket) -> None:
    """Answer all clients, for ever, each in a thread, because what one asks for may lie on a disk that does not answer.
    The socket's own mode says who may come."""
    listening.settimeout(None)
    free = threading.Semaphore(_CLIENTS)
    while True:
        client, _ = listening.accept()
        if not free.acquire(blocking=False):
            log.warning("client is not served: %d others are not done yet", _CLIENTS)
            client.close()
            continue
        try:
            threading.Thread(target=_serve, args=(client, free), name="client", daemon=True).start()
        except RuntimeError as error:
            log.warning("client is not served: %s", error)
            client.close()
            free.release()


def _serve(client: socket.socket, free: threading.Semaphore) -> None:
    with client:
        client.settimeout(_WAIT)
        try:
            while path := client.recv(_LONGEST):
                _answer(client, path)
        except OSError as error:
            log.debug("client: %s", error)
        finally:
            free.release()


def _answer(client: socket.socket, path: bytes) -> None:
    name = os.fsdecode(path)
    if not may_lend(name):
        log.warning("asked for %s, which is no engine's state", name)
        client.send(str(errno.EPERM).encode())
        return
    try:
        fd = open_here(name, _FOLDER if _FOLDERS.fullmatch(name) else FLAGS)
    except OSError as error:
        client.send(str(error.errno or errno.EIO).encode())
        return
    try:
        socket.send_fds(client, [b"0"], [fd])
    finally:
        os.close(fd)


class Borrower:
    """The other side: opens through the lender's socket at ``address``, connecting when it first has to.

    Whoever is left behind with a file that does not come keeps its connection to itself, so that an answer never goes
    to somebody who asked for another file.
    """

    def __init__(self, address: str) -> None:
        self._address = address
        self._idle: list[socket.socket] = []

    def __call__(self, path: str) -> int:
        """A descriptor of ``path``.  Raises ``OSError`` as ``open`` does, with EACCES where there is no lender."""
        idle = self._idle
        connection = None
        try:
            connection = idle.pop() if idle else self._connect()
            connection.send(os.fsencode(path))
            answer, fds, _, _ = socket.recv_fds(connection, 16, 1)
            if not fds and not _is_errno(answer):
                raise OSError("the lender has hung up")
        except OSError as error:
            if connection is not None:
                connection.close()
            raise PermissionError(errno.EACCES, f"not lent: {error}", path) from error
        if idle is self._idle:
            idle.append(connection)
        else:
            connection.close()
        if fds:
            # recv_fds takes MSG_CMSG_CLOEXEC and does nothing with it.
            os.set_inheritable(fds[0], False)  # noqa: FBT003 - it takes no keyword
            return fds[0]
        raise OSError(int(answer), os.strerror(int(answer)), path)

    def close(self) -> None:
        """Hang up; whoever is asking still does so at its end."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            connection.settimeout(_WAIT)
            connection.connect(self._address)
        except OSError:
            connection.close()
            raise
        return connection


def _is_errno(answer: bytes) -> bool:
    # No error has a larger number.
    return answer.isdigit() and len(answer) <= 4 and answer != b"0"
