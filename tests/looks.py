"""Looks at hosts to write down, compare and damage: those bundled, and one with something in every record."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

from nsinspect import bundle, capture
from nsinspect.collect import Collector, Depth
from nsinspect.kernfs import Roots
from nsinspect.namespaces import Holder, Kin
from nsinspect.procnet import Interface, Link, Links, Listener, Network
from nsinspect.snapshot import Issue, Lineage, Member, Process, Snapshot, Thread

HOSTS = Path(__file__).parent / "fixtures/hosts"
NAMES = tuple(sorted(path.name for path in HOSTS.iterdir()))
EVERYTHING = Depth(isolates=True, lineage=True, descriptors=True, everything=True)
HOSTILE = b"\x1b]0;owned\x07[/red]\xff\n\xe2\x80\xae"
SURROGATES = os.fsdecode(HOSTILE)


@cache
def look(name: str) -> Snapshot:
    """Everything that a capture of a bundled host would read."""
    return Collector(Roots(root=str(HOSTS / name)), EVERYTHING).run()[0]


@cache
def rich() -> Snapshot:
    """A bundled host with something in every record that there is, hostile names among it."""
    snapshot = look("podman-v2")
    first, *others = snapshot.processes
    leader = others[-1]
    card = Interface(HOSTILE, *range(8))
    link = Link(2, SURROGATES, "veth", "up", None, 1500, ("10.0.0.2/24",), 7, None)
    thread = Thread(leader.pid + 1, HOSTILE, "S", leader.status, leader.namespaces, None, False)
    return replace(
        snapshot,
        processes=(first, *others[:-1], leader._replace(comm=HOSTILE, speaker=leader.pid + 1)),
        lineage=Lineage(
            {4026531837: Kin(1, None, 0), 7: Kin(None, 4026531837, None)},
            (Holder("net", 7, mount=HOSTILE), Holder("mnt", 8, pid=3, fd=4)),
        ),
        threads={leader.pid: (thread,)},
        members={leader.pid: Member(HOSTILE, None, False), first.pid: Member(None, b"unconfined", True)},
        networks={first.pid: Network((card,), (Listener("tcp", "::", 80, 12),)), leader.pid: Network(None, None)},
        links={4026531840: Links(0, (link,)), 9: Links(None, ())},
        sockets={first.pid: frozenset((3, 1, 2)), leader.pid: None},
        users={0: "root", 1000: SURROGATES},
        issues=(Issue("denied", f"/proc/1/{SURROGATES}", "no", (1,)), Issue("malformed", "/x", "")),
    )


def process_of(snapshot: Snapshot, pid: int) -> Process:
    """One process of a look."""
    return next(one for one in snapshot.processes if one.pid == pid)


def request(**more: object) -> capture.Request:
    """What a user asks for who asks for nothing special."""
    return capture.Request(**{"command": ("nsinspect", "capture"), **more})  # type: ignore[arg-type]


def quiet(_count: int) -> None:
    """No progress."""


def take(
    root: Path | str, output: Path, progress: Callable[[int], None] = quiet, **more: object
) -> tuple[capture.Done, Path]:
    """A capture of the host below ``root``, and where it is: an archive where it is called like one."""
    archive = output.name.endswith(bundle.ARCHIVE)
    sink: bundle.Sink = bundle.Archive.create(str(output)) if archive else bundle.Folder(str(output))
    done = capture.take(Roots(root=str(root)), sink, request(**more), progress)
    sink.close()
    return done, output
