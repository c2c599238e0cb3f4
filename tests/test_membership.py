"""Every namespace of a host: who is in it, whose it is, what keeps it."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsinspect.collect import Depth, collect
from nsinspect.kernfs import Roots
from nsinspect.membership import Membership, memberships
from nsinspect.model import build
from nsinspect.namespaces import TYPES, UNKNOWN, Holder, Kin, parse_named_link
from nsinspect.snapshot import Lineage, Snapshot
from nsinspect.views import nslist

HERE = Path(__file__).parent
HOST = "docker-hybrid"


def snapshot_of(host: str = HOST) -> Snapshot:
    """A bundled host."""
    return collect(Roots(root=str(HERE / "fixtures/hosts" / host)), Depth(lineage=True))


def of(snapshot: Snapshot) -> dict[tuple[str, int], Membership]:
    """Its namespaces, by type and inode."""
    return {(one.kind, one.inode): one for one in memberships(snapshot, build(snapshot))}


def table(snapshot: Snapshot, *, tree: bool = False, width: int | None = None) -> str:
    """What a person sees."""
    model = build(snapshot)
    return nslist.ns_table(model, memberships(snapshot, model), tree=tree, width=width, colour=False)


def test_every_process_is_counted_once_in_each_of_its_namespaces():
    snapshot = snapshot_of()
    found = of(snapshot)
    for position, kind in enumerate(TYPES):
        inside = [p.pid for p in snapshot.processes if p.namespaces[position] is not None]
        assert sorted(pid for (type_, _), one in found.items() if type_ == kind for pid in one.pids) == inside


def test_a_process_whose_namespaces_are_unknown_is_in_none():
    snapshot = snapshot_of()
    hidden = snapshot.processes[-1]
    processes = (*snapshot.processes[:-1], hidden._replace(namespaces=UNKNOWN))

    assert not [
        one for one in of(dataclasses.replace(snapshot, processes=processes)).values() if hidden.pid in one.pids
    ]


def test_containers_that_share_a_namespace_are_both_named():
    snapshot = snapshot_of()
    containers = {c.name: c for c in build(snapshot).containers}
    net = containers["web"].namespaces["net"]
    assert net
    shared = of(snapshot)["net", net.inode]

    assert set(shared.containers) == {containers["web"].id, containers["sidecar"].id}
    assert shared.host is False
    assert "web sidecar" in table(snapshot) or "sidecar web" in table(snapshot)


def test_the_hosts_namespaces_are_the_hosts():
    snapshot = snapshot_of()
    for kind, inode in zip(TYPES, snapshot.host.namespaces, strict=True):
        if inode is not None:
            assert of(snapshot)[kind, inode].host is True
    nobody = dataclasses.replace(snapshot.host, namespaces=UNKNOWN)
    assert {one.host for one in of(dataclasses.replace(snapshot, host=nobody)).values()} == {None}


def test_one_that_nothing_but_a_mount_or_a_descriptor_keeps_is_there():
    snapshot = snapshot_of()
    pid = snapshot.processes[0].pid
    holders = (Holder("net", 77, mount=b"/run/netns/blue"), Holder("uts", 88, pid=pid, fd=9))
    kept = dataclasses.replace(snapshot, lineage=Lineage({77: Kin(1, None, None)}, holders))
    found = of(kept)

    assert (found["net", 77].pids, found["net", 77].first, found["net", 77].kin.owner) == ((), None, 1)
    assert found["uts", 88].holders == holders[1:]
    lines = {line.split()[0]: line for line in table(kept).splitlines()}
    assert "/run/netns/blue" in lines["77"]
    assert f"pid {pid}" in lines["88"]


def test_a_descriptor_of_a_process_that_is_in_it_anyway_is_no_news():
    snapshot = snapshot_of()
    process = snapshot.processes[-1]
    inode = process.namespaces.mnt
    assert inode
    holder = Holder("mnt", inode, pid=process.pid, fd=3)
    kept = dataclasses.replace(snapshot, lineage=Lineage({}, (holder,)))

    assert of(kept)["mnt", inode].holders == (holder,)
    assert f"pid {process.pid}" not in table(kept)


def test_the_tree_has_every_namespace_once_below_its_owner_or_parent():
    snapshot = snapshot_of()
    hosts = snapshot.host.namespaces
    assert hosts.user
    assert hosts.pid
    kin = {one.inode: Kin(hosts.user, hosts.pid if one.kind == "pid" else None, None) for one in of(snapshot).values()}
    kin[hosts.user], kin[hosts.pid] = Kin(None, None, 0), Kin(hosts.user, None, None)
    lines = table(dataclasses.replace(snapshot, lineage=snapshot.lineage._replace(kin=kin)), tree=True).splitlines()[1:]

    assert lines[0].startswith(str(hosts.user))
    assert len(lines) >= len(kin)
    assert all(sum(f"{inode} " in line.split("  ")[0] + " " for line in lines) == 1 for inode in kin)
    inner = next(line for line in lines if " pid " in line and str(hosts.pid) not in line.split()[0])
    assert inner.startswith(("│ ", "  "))


@pytest.mark.parametrize("kin", [Kin(5, 5, None), Kin(6, None, None)])
def test_kin_in_a_circle_hides_nothing_for_ever(kin: Kin):
    """No kernel says that; a captured file might."""
    snapshot = snapshot_of()
    process = snapshot.processes[0]._replace(namespaces=UNKNOWN._replace(user=5, net=6))
    circle = dataclasses.replace(snapshot, processes=(process,), lineage=Lineage({5: kin, 6: Kin(5, None, None)}, ()))

    shown = table(circle, tree=True)
    assert {word for line in shown.splitlines()[1:] for word in line.split()} >= {"sleep"} or "5" in shown


def test_more_levels_than_there_can_be_are_shown_all_the_same():
    """Each once, and none with thousands of lines before it; no kernel says that, but a captured file might.  Fails
    where the tree is as deep as it is told."""
    inodes = range(10, 5010)
    holders = tuple(Holder("user", inode, b"/x", None, None) for inode in inodes)
    kin = {inode: Kin(None, inode - 1 if inode > 10 else None, 0) for inode in inodes}
    shown = table(dataclasses.replace(snapshot_of(), lineage=Lineage(kin, holders)), tree=True).splitlines()

    firsts = [line.lstrip("│├└─ ").split()[0] for line in shown]
    assert sorted(set(firsts) & set(map(str, inodes))) == sorted(map(str, inodes))
    assert max(map(len, shown)) < 300


@pytest.mark.parametrize("width", [40, 80, 120])
def test_a_line_never_wraps_and_what_is_left_out_is_named(width: int):
    lines = table(snapshot_of(), width=width).splitlines()
    assert max(map(len, lines[:10])) <= width
    if width == 40:
        assert any("not shown for lack of room" in line for line in lines)


def test_hostile_names_do_not_reach_the_terminal():
    snapshot = snapshot_of()
    processes = tuple(p._replace(comm=b"\x1b[31m\xff\n") for p in snapshot.processes)
    holder = Holder("net", 77, mount=b"/run/\x1b]0;owned\x07")
    hostile = dataclasses.replace(snapshot, processes=processes, lineage=Lineage({}, (holder,)))

    assert all(line.isprintable() for line in table(hostile).splitlines())


@pytest.mark.parametrize(
    ("link", "found"),
    [
        (b"net:[4026531840]", ("net", 4026531840)),
        (b"time:[1]", ("time", 1)),
        (b"pipe:[12]", None),
        (b"socket:[12]", None),
        (b"anon_inode:[eventfd]", None),
        (b"net:[18446744073709551615]", ("net", (1 << 64) - 1)),
        (b"net:[18446744073709551616]", None),
        (b"net:[]", None),
        (b"net:[-1]", None),
        (b"net:[12", None),
        (b"net:[12] (deleted)", None),
        (b"/dev/null", None),
        (b"", None),
    ],
)
def test_a_link_of_a_descriptor_is_one_of_a_namespace_or_not(link: bytes, found: tuple[str, int] | None):
    assert parse_named_link(link) == found


@given(st.binary())
def test_no_link_raises(link: bytes):
    parse_named_link(link)


def test_namespaces_of_this_process_tell_their_owner():
    """The kernel's own answers, of the namespaces this very test is in."""
    snapshot = collect(Roots(), Depth(lineage=True))
    mine = next(process for process in snapshot.processes if process.pid == os.getpid())
    assert mine.namespaces.net
    assert snapshot.lineage.kin[mine.namespaces.net].owner == mine.namespaces.user


def test_a_descriptor_of_this_process_is_found():
    with open("/proc/self/ns/uts", "rb") as held:
        snapshot = collect(Roots(), Depth(lineage=True, descriptors=True))
        inode = os.fstat(held.fileno()).st_ino
        assert Holder("uts", inode, pid=os.getpid(), fd=held.fileno()) in snapshot.lineage.holders


def test_below_another_root_a_link_is_not_opened(tmp_path: Path):
    """A captured tree may have a FIFO there; nobody waits for it, and it tells nothing."""
    snapshot = snapshot_of()
    assert snapshot.lineage.kin == {}


def test_nobody_asks_unless_told_to():
    assert collect(Roots(root=str(HERE / "fixtures/hosts" / HOST))).lineage == Lineage({}, ())
