"""Files of ``/proc/<pid>/net``, which show the network namespace of the process: records and parsers.

No privilege and no netlink is needed for them.  See proc(5), and Documentation/networking/proc_net_tcp.rst.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nsinspect.errors import Malformed
from nsinspect.procfs import LARGEST


class Listener(NamedTuple):
    """A socket that waits for whoever comes: TCP in state LISTEN, or UDP without a peer.  ``inode`` is the number in a
    descriptor's link, ``socket:[12345]``."""

    protocol: str
    address: str
    port: int
    inode: int


class Interface(NamedTuple):
    """A line of ``net/dev``; what was received and sent since the interface was made."""

    name: bytes
    rx_bytes: int
    rx_packets: int
    rx_errors: int
    rx_dropped: int
    tx_bytes: int
    tx_packets: int
    tx_errors: int
    tx_dropped: int


class Network(NamedTuple):
    """What one network namespace shows.  ``None``: could not be read."""

    interfaces: tuple[Interface, ...] | None
    listeners: tuple[Listener, ...] | None


class Link(NamedTuple):
    """An interface as netlink tells of it; rtnetlink(7).  ``link`` is the ifindex of the interface it is a pair with or
    stands on, in the namespace that this one calls ``link_netnsid`` (``None``: in its own)."""

    ifindex: int
    name: str
    kind: str | None
    state: str
    mac: str | None
    mtu: int
    addresses: tuple[str, ...]
    link: int | None
    link_netnsid: int | None


class Links(NamedTuple):
    """All interfaces of a network namespace, and what it calls the host's."""

    host_netnsid: int | None
    links: tuple[Link, ...]


SOCKET_FILES = (("tcp", "net/tcp"), ("tcp", "net/tcp6"), ("udp", "net/udp"), ("udp", "net/udp6"))
"""Protocol and file; those of version 6 are missing where the kernel has none."""

COUNTS = {"net/tcp": "TCP", "net/tcp6": "TCP6", "net/udp": "UDP", "net/udp6": "UDP6"}
"""By file, what ``net/sockstat`` and ``net/sockstat6`` call its sockets."""

# The state at which a socket takes what comes, by protocol: TCP_LISTEN, and TCP_CLOSE for one without a peer.
_WAITING = {"tcp": b"0A", "udp": b"07"}
_SOCKET = re.compile(
    rb"^ *[0-9]+: ((?:[0-9A-F]{8}){1,4}):([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) "
    rb"\S+ \S+ \S+ +[0-9]+ +[0-9]+ ([0-9]{1,20})(?: .*)?$",
    re.MULTILINE,
)


def parse_sockets(data: bytes, protocol: str) -> tuple[Listener, ...]:
    """``net/tcp``, ``tcp6``, ``udp`` and ``udp6``: those that wait, without the others."""
    # Every kernel writes the heading; without it this is no such file, rather than one where nothing waits.
    if not data.lstrip().startswith(b"sl "):
        raise Malformed(data, "a heading: sl local_address ...")
    lines = data.count(b"\n") - 1
    found = _SOCKET.findall(data)
    if len(found) != lines or not data.endswith(b"\n"):
        broken = next((line for line in data.split(b"\n")[1:] if not _SOCKET.fullmatch(line)), data)
        raise Malformed(broken, "number: local:port remote:port state ... inode")
    listeners = tuple(
        Listener(protocol, _address(address), int(port, 16), int(inode))
        for address, port, state, inode in found
        if state == _WAITING[protocol]
    )
    for one in listeners:
        if one.inode > LARGEST:
            raise Malformed(b"%d" % one.inode, "an inode of 64 bits")
    return listeners


_IN_USE = re.compile(rb"^(TCP6?|UDP6?): inuse ([0-9]{1,18})(?: .*)?$", re.MULTILINE)


def parse_sockstat(data: bytes) -> dict[str, int]:
    """``net/sockstat`` and ``net/sockstat6``: how many sockets of a protocol there are in the namespace."""
    found = {name.decode("ascii"): int(count) for name, count in _IN_USE.findall(data)}
    if not found:
        raise Malformed(data, "a line such as TCP: inuse 5")
    return found


def no_more_listeners(chunk: bytes) -> bool:
    """Whether ``net/tcp`` has been read far enough, up to a chunk of it: the kernel lists those in LISTEN first, and
    there may be a hundred thousand others."""
    last = chunk[chunk.rfind(b"\n", 0, chunk.rfind(b"\n")) + 1 : chunk.rfind(b"\n")]
    match = _SOCKET.match(last)
    return match is not None and match[3] != _WAITING["tcp"]


def _address(text: bytes) -> str:
    """Words of 32 bits, each as a little-endian machine holds it, which is what engines run on."""
    if len(text) not in (8, 32):
        raise Malformed(text, "an address of 8 or 32 hexadecimal digits")
    words = bytes.fromhex(text.decode("ascii"))
    # Imported here: most looks ask for no addresses, and it takes as long as a dozen processes.
    import ipaddress

    address = ipaddress.ip_address(b"".join(words[at : at + 4][::-1] for at in range(0, len(words), 4)))
    mapped = getattr(address, "ipv4_mapped", None)
    # As everybody writes an IPv4 address that an IPv6 socket listens on; Python does so from 3.13 on.
    return str(address) if mapped is None else f"::ffff:{mapped}"


_INTERFACE = re.compile(rb"^ *(\S+):((?: +[0-9]{1,20}){16}) *$", re.MULTILINE)


def parse_interfaces(data: bytes) -> tuple[Interface, ...]:
    """``net/dev``: after two lines of headings a line for each interface, eight counters of what came and eight of what
    went."""
    rows = data.split(b"\n", 2)
    if len(rows) != 3:
        raise Malformed(data, "two lines of headings and one for each interface")
    found = []
    for line in rows[2].splitlines():
        match = _INTERFACE.fullmatch(line)
        numbers = [int(number) for number in match[2].split()] if match else []
        if not match or max(numbers) > LARGEST:
            raise Malformed(line, "name: and 16 counters")
        found.append(Interface(match[1], *numbers[:4], *numbers[8:12]))
    return tuple(found)


def parse_socket_link(link: bytes) -> int | None:
    """The inode in a descriptor's link, ``socket:[12345]``; ``None`` where it is none of a socket."""
    number = link[8:-1]
    if link.startswith(b"socket:[") and link.endswith(b"]") and number.isdigit() and len(number) < 21:
        inode = int(number)
        return inode if inode <= LARGEST else None
    return None
