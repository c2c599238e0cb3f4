"""Rows about one network namespace."""

from __future__ import annotations

from nsinspect.fields import shapes
from nsinspect.fields.row import Field
from nsinspect.fields.schema import COUNT, FLAG, PIDS, TEXT, TEXTS, exactly, listed, nullable
from nsinspect.networks import Net
from nsinspect.procnet import Interface

_COUNTERS = Interface._fields[1:]
_LINK = exactly(
    ifindex=COUNT,
    kind=nullable(TEXT),
    state=TEXT,
    mac=nullable(TEXT),
    mtu=COUNT,
    addresses=TEXTS,
    peer=nullable(exactly(name=TEXT, ifindex=COUNT, network=COUNT, host=FLAG)),
)
_LISTENING = exactly(
    protocol={"enum": ["tcp", "udp"]},
    address=TEXT,
    port=COUNT,
    every_address=FLAG,
    pids=nullable(PIDS),
    containers=nullable(TEXTS),
)

NETWORK: tuple[Field[Net], ...] = (
    Field("inode", COUNT, "inode of the network namespace", lambda n: n.inode),
    Field("host", FLAG, "whether it is the host's", lambda n: n.host),
    Field("containers", TEXTS, "ids of the containers that have processes in it", lambda n: list(n.containers), True),
    Field(
        "interfaces",
        listed(exactly(name=TEXT, **{name: nullable(COUNT) for name in _COUNTERS}, link=nullable(_LINK))),
        "its interfaces with the counters of net/dev; link: what netlink tells root, null where it was not asked",
        lambda n: None if n.cards is None else [shapes.card(one, _COUNTERS) for one in n.cards],
    ),
    Field(
        "listening",
        listed(_LISTENING),
        "TCP sockets in LISTEN and UDP sockets without a peer, and who holds them; null: not known",
        lambda n: None if n.listening is None else [shapes.listening(one) for one in n.listening],
    ),
)
