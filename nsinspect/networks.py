"""Network namespaces: which containers are in one, what listens there, and where its interfaces lead."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from nsinspect.model import Container, Model, innermost
from nsinspect.procnet import Interface, Link, Links, Listener
from nsinspect.snapshot import Snapshot

EVERY_ADDRESS = ("0.0.0.0", "::", "::ffff:0.0.0.0")  # noqa: S104 - what others bound
"""What a socket is bound to that takes what comes to any address."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """The other end of a veth pair.  ``network``: inode of the namespace it is in."""

    name: str
    ifindex: int
    network: int
    host: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """An interface: what it counted, ``None`` where that could not be read, and what netlink tells, where asked."""

    name: bytes
    counted: Interface | None
    link: Link | None
    peer: Peer | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Listening:
    """A socket that waits, and who holds it; ``None``: not known.  ``containers`` are ids."""

    socket: Listener
    pids: tuple[int, ...] | None
    containers: tuple[str, ...] | None

    @property
    def everywhere(self) -> bool:
        """Whether it takes what comes to any address."""
        return self.socket.address in EVERY_ADDRESS


@dataclass(frozen=True, slots=True, kw_only=True)
class Net:
    """One network namespace; ``inode`` is ``None`` where we may not know which it is.  ``containers`` are ids,
    ``known`` those of which we know all sockets."""

    inode: int | None
    host: bool | None
    containers: tuple[str, ...]
    known: frozenset[str]
    cards: tuple[Card, ...] | None
    listening: tuple[Listening, ...] | None


def networks(snapshot: Snapshot, model: Model) -> tuple[Net, ...]:
    """Every network namespace that was looked at, the host's first, then by inode."""
    around = innermost(model.containers)
    held: defaultdict[int, list[int]] = defaultdict(list)
    for pid, its_sockets in snapshot.sockets.items():
        for socket in its_sockets or ():
            held[socket].append(pid)
    inodes_of = {process.pid: process.namespaces.net for process in snapshot.processes}
    members: defaultdict[int, list[int]] = defaultdict(list)
    unknown = []
    for pid, its_inode in inodes_of.items():
        if its_inode is None:
            unknown.append(pid)
        else:
            members[its_inode].append(pid)

    def asked(pid: int) -> bool:
        return snapshot.sockets.get(pid) is not None

    found = []
    hosts = snapshot.host.namespaces.net
    for pid, network in snapshot.networks.items():
        if pid not in inodes_of:
            continue  # of an old snapshot that somebody took processes from
        inode = inodes_of[pid]
        inside = [pid] if inode is None else members[inode]
        containers = tuple(dict.fromkeys(around[one].id for one in inside if one in around))
        host = None if inode is None or hosts is None else inode == hosts
        # Somebody of whom we may not know where it is may be the one.
        complete = all(asked(one) for one in (*inside, *unknown))
        sole = containers if len(containers) == 1 and host is False else None
        listening = None
        if network.listeners is not None:
            listening = tuple(
                _listening(one, held.get(one.inode, []), around, complete, sole)
                for one in sorted(network.listeners, key=lambda one: (one.protocol, one.port, one.address, one.inode))
            )
        found.append(
            Net(
                inode=inode,
                host=host,
                containers=containers,
                known=frozenset(containers) - {around[one].id for one in inside if one in around and not asked(one)},
                cards=_cards(network.interfaces, inode, snapshot.links, hosts),
                listening=listening,
            )
        )
    return tuple(sorted(found, key=lambda one: (not one.host, one.inode or 0)))


def network_of(container: Container, nets: Iterable[Net]) -> Net | None:
    """The one that a container's init is in; of the host's only what this container listens on."""
    namespace = container.namespaces["net"]
    inode = namespace.inode if namespace else None
    for net in nets:
        if net.inode == inode and container.id in net.containers:
            if not net.host or net.listening is None:
                return net
            if container.id not in net.known:
                return replace(net, listening=None)
            mine = [one for one in net.listening if one.containers and container.id in one.containers]
            pids = frozenset(container.pids)
            its = tuple(
                replace(one, containers=(container.id,), pids=tuple(pid for pid in one.pids or () if pid in pids))
                for one in mine
            )
            return replace(net, listening=its)
    return None


def _listening(
    socket: Listener, pids: list[int], around: Mapping[int, Container], complete: bool, sole: tuple[str, ...] | None
) -> Listening:
    """``complete``: every process in the namespace was asked; ``sole``: the only container in it."""
    if not pids and not complete:
        return Listening(socket=socket, pids=None, containers=sole)
    containers = tuple(dict.fromkeys(around[pid].id for pid in pids if pid in around))
    return Listening(socket=socket, pids=tuple(sorted(pids)), containers=containers)


def _cards(
    counted: tuple[Interface, ...] | None, inode: int | None, told: Mapping[int, Links], host: int | None
) -> tuple[Card, ...] | None:
    its = told.get(inode) if inode is not None else None
    if counted is None and its is None:
        return None
    counters = {one.name: one for one in counted or ()}
    links = {link.name.encode("utf-8", "surrogateescape"): link for link in its.links} if its else {}
    return tuple(
        Card(
            name=name,
            counted=counters.get(name),
            link=links.get(name),
            peer=_peer(inode, links[name], told, host) if inode is not None and name in links else None,
        )
        for name in dict.fromkeys((*counters, *links))
    )


def _peer(inode: int, link: Link, told: Mapping[int, Links], host: int | None) -> Peer | None:
    """The other end: the veth that has this one's index as this one has its.  An index is unique in a namespace only;
    where the host's number does not tell which namespace is meant, the only possible one is."""
    if link.kind != "veth" or link.link is None:
        return None
    places = [inode] if link.link_netnsid is None else [other for other in told if other != inode]
    if link.link_netnsid is not None and link.link_netnsid == told[inode].host_netnsid and host is not None:
        places = [host]
    ends = [
        Peer(name=other.name, ifindex=other.ifindex, network=place, host=place == host)
        for place in places
        for other in told[place].links
        if other.kind == "veth" and other.ifindex == link.link and other.link == link.ifindex
        if _may_lead_to(other, told[place], here=place == inode, to_host=inode == host)
    ]
    return ends[0] if len(ends) == 1 else None


def _may_lead_to(end: Link, its: Links, *, here: bool, to_host: bool) -> bool:
    """Whether what an end says of where its other is fits: in its own namespace, in the host's, or in another."""
    if here or end.link_netnsid is None:
        return here and end.link_netnsid is None
    if to_host:
        return end.link_netnsid == its.host_netnsid
    return its.host_netnsid is None or end.link_netnsid != its.host_netnsid
