"""What network namespaces show, and which process holds which socket: ``/proc/<pid>/net`` and ``/proc/<pid>/fd``.

Nobody enters a namespace for it.  Read only for who asks: the kernel walks all of a host's connections for it.
"""

from __future__ import annotations

from collections.abc import Iterable

from nsinspect import procnet
from nsinspect.effort import DESCRIPTORS, Shares
from nsinspect.errors import KernelError, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import MAX_BYTES, Directory, Roots
from nsinspect.procnet import Listener, Network
from nsinspect.snapshot import Process
from nsinspect.tasks import Again, descriptors_of, each


def networks(asker: Forgiving, roots: Roots, processes: Iterable[Process], again: Again) -> dict[int, Network]:
    """By pid, what the network namespaces of ``processes`` show, each through the first process that can be asked; one
    of which we may not know which namespace it is in counts as in another."""
    found: dict[int, Network] = {}
    seen: set[int] = set()
    unseen: dict[int, int] = {}
    for process in processes:
        inode = process.namespaces.net
        if inode in seen or process.state in "ZX":
            continue
        looked = each(asker, roots, [process], again, lambda directory, one: _network(asker, directory, one))
        if not looked:
            continue
        # One that ended meanwhile shows nothing; the next one may.
        nothing = looked[process.pid] == Network(None, None)
        if inode is not None and nothing:
            unseen.setdefault(inode, process.pid)
            continue
        found |= looked
        if inode is not None:
            seen.add(inode)
    return found | {pid: Network(None, None) for inode, pid in unseen.items() if inode not in seen}


def holders(
    asker: Forgiving, roots: Roots, processes: Iterable[Process], again: Again
) -> dict[int, frozenset[int] | None]:
    """By pid, the inodes of the sockets that a process has open; ``None`` where we may not know."""
    shares = Shares(DESCRIPTORS)

    def look(directory: Directory, process: Process) -> frozenset[int] | None:
        try:
            links = descriptors_of(shares, directory, process)
        except Vanished:
            raise
        except KernelError as error:
            asker.complain(error, process.pid)
            return None
        return frozenset(inode for _, link in links if (inode := procnet.parse_socket_link(link)) is not None)

    return each(asker, roots, processes, again, look)


def _network(asker: Forgiving, directory: Directory, process: Process) -> Network:
    listeners: list[Listener] | None = []
    # The kernel walks its table of all connections of all namespaces for each of these files; mostly for nothing.
    counts: dict[str, int] = {}
    for name in ("net/sockstat", "net/sockstat6"):
        counts |= asker.fact(directory, name, procnet.parse_sockstat, process.pid) or {}
    for protocol, name in procnet.SOCKET_FILES:
        if counts.get(procnet.COUNTS[name]) == 0:
            continue
        some = _listeners(asker, directory, process.pid, protocol, name)
        # Some of them would look like all of them.
        listeners = None if some is None or listeners is None else listeners + list(some)
    return Network(
        interfaces=asker.records(directory, "net/dev", procnet.parse_interfaces, process.pid),
        listeners=None if listeners is None else tuple(listeners),
    )


def _listeners(
    asker: Forgiving, directory: Directory, pid: int, protocol: str, name: str
) -> tuple[Listener, ...] | None:
    enough = procnet.no_more_listeners if protocol == "tcp" else None
    try:
        data = directory.read(name, MAX_BYTES, enough)
        if data is None:
            # A kernel may be without version 6; one without version 4 is a copy that somebody left it out of.
            return () if name.endswith("6") else None
        return directory.parsed(name, data, lambda found: procnet.parse_sockets(found, protocol))
    except Vanished:
        raise
    except KernelError as error:
        asker.complain(error, pid)
        return None
