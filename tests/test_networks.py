"""Network namespaces: whose a socket is, where a veth leads, and what becomes of what cannot be read."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from nsinspect import kernfs, netns, nsfs, sockets, tasks
from nsinspect.cli import cli
from nsinspect.collect import Closely, Collector, collect
from nsinspect.errors import Denied, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Directory, Roots
from nsinspect.model import build
from nsinspect.namespaces import UNKNOWN
from nsinspect.networks import Listening, Net, network_of, networks
from nsinspect.procnet import Interface, Link, Links, Listener, Network
from nsinspect.snapshot import Process, Snapshot
from nsinspect.views import document, netlist, page
from tests.runner import runner
from tests.test_procnet import DEV, HEADING_4, LISTENS, LO

HERE = Path(__file__).parent
ROOT = str(HERE / "fixtures/hosts/docker-hybrid")
# Inodes of the bundled host's network namespaces, and pids in them: web has two processes, sidecar shares its network.
HOST, SHARED, LOCKED = 4026531833, 4026532838, 4026532989
WEB, WORKER, SIDECAR, AGENT, ON_HOST, IN_LOCKED = 1968, 2043, 2116, 2197, 2095, 2272
HTTP = Listener("tcp", "0.0.0.0", 80, 7)


@pytest.fixture(scope="module")
def captured() -> Snapshot:
    """A bundled host, whose network files nobody captured."""
    return collect(Roots(root=ROOT))


def everybody(captured: Snapshot) -> dict[int, frozenset[int] | None]:
    """Every process was asked, and holds nothing."""
    return {process.pid: frozenset() for process in captured.processes}


def with_network(
    captured: Snapshot,
    pid: int,
    held: Mapping[int, frozenset[int] | None],
    *listeners: Listener,
    links: Mapping[int, Links] | None = None,
    interfaces: tuple[Interface, ...] | None = (),
) -> Snapshot:
    """The same with what one network namespace shows, and who holds which socket."""
    network = Network(interfaces, listeners)
    return dataclasses.replace(captured, networks={pid: network}, sockets=held, links=links or {})


def only(snapshot: Snapshot) -> Net:
    """The only network."""
    (found,) = networks(snapshot, build(snapshot))
    return found


def one_listening(snapshot: Snapshot) -> Listening:
    """The only socket that waits."""
    net = only(snapshot)
    assert net.listening is not None
    (found,) = net.listening
    return found


def id_of(snapshot: Snapshot, name: str) -> str:
    """Of a container."""
    return next(one.id for one in build(snapshot).containers if one.name == name)


# -- whose a socket is -------------------------------------------------------------------------------------------------


def test_a_socket_is_its_holders(captured: Snapshot):
    held = {**everybody(captured), SIDECAR: frozenset({7}), WEB: frozenset({8})}
    found = one_listening(with_network(captured, WEB, held, HTTP))
    assert (found.pids, found.containers) == ((SIDECAR,), (id_of(captured, "sidecar"),))
    assert only(with_network(captured, WEB, held, HTTP)).containers == (
        id_of(captured, "web"),
        id_of(captured, "sidecar"),
    )


def test_a_socket_that_several_hold_is_everybodys(captured: Snapshot):
    held = {**everybody(captured), SIDECAR: frozenset({7}), WORKER: frozenset({7}), WEB: frozenset({7, 9})}
    found = one_listening(with_network(captured, WEB, held, HTTP))
    assert found.pids == (WEB, WORKER, SIDECAR)
    assert found.containers
    assert set(found.containers) == {id_of(captured, "web"), id_of(captured, "sidecar")}


def test_a_holder_may_be_in_another_network(captured: Snapshot):
    """A socket stays in the network it was made in when its maker moves on, or hands it to somebody."""
    held = {**everybody(captured), IN_LOCKED: frozenset({7})}
    found = one_listening(with_network(captured, WEB, held, HTTP))
    assert (found.pids, found.containers) == ((IN_LOCKED,), (id_of(captured, "locked"),))


def test_a_process_of_the_host_is_no_container(captured: Snapshot):
    held = {**everybody(captured), ON_HOST: frozenset({7})}
    found = one_listening(with_network(captured, ON_HOST, held, HTTP))
    assert (found.pids, found.containers) == ((ON_HOST,), ())


def test_a_socket_of_the_kernel_has_no_process(captured: Snapshot):
    """Everybody was asked: nobody has it, as it is with one of the kernel's own."""
    found = one_listening(with_network(captured, WEB, everybody(captured), HTTP))
    assert (found.pids, found.containers) == ((), ())


@pytest.mark.parametrize("refused", [{WORKER: None}, {SIDECAR: None}, {WEB: None, WORKER: None, SIDECAR: None}])
def test_nobody_is_named_where_one_could_not_be_asked(captured: Snapshot, refused: dict[int, None]):
    found = one_listening(with_network(captured, WEB, {**everybody(captured), **refused}, HTTP))
    assert (found.pids, found.containers) == (None, None)


def test_nobody_is_named_where_nobody_was_asked(captured: Snapshot):
    found = one_listening(with_network(captured, WEB, {}, HTTP))
    assert (found.pids, found.containers) == (None, None)


def test_in_a_network_of_its_own_it_is_that_containers_whoever_holds_it(captured: Snapshot):
    found = one_listening(with_network(captured, IN_LOCKED, {**everybody(captured), IN_LOCKED: None}, HTTP))
    assert (found.pids, found.containers) == (None, (id_of(captured, "locked"),))


def test_in_the_hosts_network_the_only_container_is_no_owner(captured: Snapshot):
    found = one_listening(with_network(captured, ON_HOST, {**everybody(captured), AGENT: None}, HTTP))
    assert (found.pids, found.containers) == (None, None)


def test_one_whose_network_is_unknown_may_be_the_holder(captured: Snapshot):
    """PID 1 of this host may not be asked in which namespaces it is, nor what it holds."""
    (first,) = [process for process in captured.processes if process.pid == 1]
    assert first.namespaces == UNKNOWN
    found = one_listening(with_network(captured, ON_HOST, {**everybody(captured), 1: None}, HTTP))
    assert (found.pids, found.containers) == (None, None)


@pytest.mark.parametrize(
    ("address", "everywhere"),
    [
        ("0.0.0.0", True),
        ("::", True),
        ("::ffff:0.0.0.0", True),
        ("127.0.0.1", False),
        ("::1", False),
        ("::ffff:127.0.0.1", False),
        ("10.0.0.0", False),
    ],
)
def test_every_address_is_said_to_be_every_address(captured: Snapshot, address: str, everywhere: bool):
    snapshot = with_network(captured, WEB, {**everybody(captured), WEB: frozenset({7})}, HTTP._replace(address=address))
    assert one_listening(snapshot).everywhere is everywhere
    model = build(snapshot)
    text = netlist.net_list(model, networks(snapshot, model), width=None, colour=False)
    shown = f"[{address}]:80" if ":" in address else f"{address}:80"
    assert f"tcp {shown}{' on EVERY ADDRESS' if everywhere else ''} · web, process {WEB}\n" in text + "\n"


def test_sockets_come_in_an_order_that_people_look_for(captured: Snapshot):
    mixed = [Listener("udp", "::", 53, 1), Listener("tcp", "::", 443, 2), Listener("tcp", "::1", 80, 3)]
    mixed += [Listener("tcp", "127.0.0.1", 80, 4), Listener("tcp", "127.0.0.1", 80, 3)]
    net = only(with_network(captured, WEB, everybody(captured), *mixed))
    assert net.listening is not None
    assert [one.socket for one in net.listening] == [mixed[4], mixed[3], mixed[2], mixed[1], mixed[0]]


def test_of_the_hosts_network_a_container_has_its_own_sockets(captured: Snapshot):
    held = {**everybody(captured), AGENT: frozenset({7}), ON_HOST: frozenset({8})}
    snapshot = with_network(captured, ON_HOST, held, HTTP, HTTP._replace(port=81, inode=8))
    model = build(snapshot)
    agent = next(one for one in model.containers if one.name == "agent")
    net = network_of(agent, networks(snapshot, model))
    assert net is not None
    assert net.listening is not None
    assert [one.socket.port for one in net.listening] == [80]


def test_a_container_whose_network_was_not_looked_at_has_none(captured: Snapshot):
    snapshot = with_network(captured, WEB, {})
    model = build(snapshot)
    locked = next(one for one in model.containers if one.name == "locked")
    assert network_of(locked, networks(snapshot, model)) is None
    assert network_of(locked, ()) is None


def test_the_hosts_network_comes_first(captured: Snapshot):
    shown = dict.fromkeys((IN_LOCKED, WEB, AGENT), Network((), ()))
    snapshot = dataclasses.replace(captured, networks=shown)
    assert [one.inode for one in networks(snapshot, build(snapshot))] == [HOST, SHARED, LOCKED]


def test_what_could_not_be_read_is_unknown_and_not_empty(captured: Snapshot):
    snapshot = dataclasses.replace(captured, networks={WEB: Network(None, None)})
    net = only(snapshot)
    assert (net.cards, net.listening) == (None, None)
    model = build(snapshot)
    text = netlist.net_list(model, [net], width=None, colour=False)
    assert "interfaces unknown" in text
    assert "what listens is unknown" in text
    web = next(one for one in model.containers if one.name == "web")
    assert "unknown: its network could not be read" in page.show_page(model, web, net, (), (), width=None, colour=False)
    shown = json.loads(document.net_document(model, [net], ()))["networks"]
    assert [(one["interfaces"], one["listening"]) for one in shown] == [(None, None)]


# -- where a veth leads ------------------------------------------------------------------------------------------------


def veth(
    index: int, name: str, other: int | None, netnsid: int | None = 0, kind: str | None = "veth", **more: Any
) -> Link:
    """A link whose other end has a number, in the namespace that this one calls ``netnsid``."""
    return Link(index, name, kind, "up", "02:00:00:00:00:01", 1500, (), other, netnsid)._replace(**more)


def leads(captured: Snapshot, links: dict[int, Links], inode: int, name: str) -> tuple[str, int, bool] | None:
    """Where an interface of one of these namespaces leads: name, namespace and whether that is the host's."""
    pid = {HOST: ON_HOST, SHARED: WEB, LOCKED: IN_LOCKED}[inode]
    net = only(with_network(captured, pid, {}, links=links, interfaces=None))
    (card,) = [one for one in net.cards or () if one.name == name.encode()]
    return None if card.peer is None else (card.peer.name, card.peer.network, card.peer.host)


def test_both_ends_name_each_other(captured: Snapshot):
    links = {
        HOST: Links(None, (veth(1, "lo", None, None, None), veth(9, "vethabc", 2, 5))),
        SHARED: Links(0, (veth(1, "lo", None, None, None), veth(2, "eth0", 9, 0))),
    }
    assert leads(captured, links, HOST, "vethabc") == ("eth0", SHARED, False)
    assert leads(captured, links, SHARED, "eth0") == ("vethabc", HOST, True)
    assert leads(captured, links, SHARED, "lo") is None


def test_the_same_number_inside_leads_to_different_ends(captured: Snapshot):
    links = {
        HOST: Links(None, (veth(9, "first", 2, 5), veth(10, "second", 2, 6))),
        SHARED: Links(0, (veth(2, "eth0", 9, 0),)),
        LOCKED: Links(3, (veth(2, "eth0", 10, 3),)),
    }
    assert leads(captured, links, HOST, "first") == ("eth0", SHARED, False)
    assert leads(captured, links, HOST, "second") == ("eth0", LOCKED, False)
    assert leads(captured, links, LOCKED, "eth0") == ("second", HOST, True)


def test_a_pair_between_containers_and_one_within(captured: Snapshot):
    links = {
        HOST: Links(None, ()),
        SHARED: Links(None, (veth(5, "left", 6, 1), veth(7, "one", 8, None), veth(8, "two", 7, None))),
        LOCKED: Links(None, (veth(6, "right", 5, 1),)),
    }
    assert leads(captured, links, SHARED, "left") == ("right", LOCKED, False)
    assert leads(captured, links, LOCKED, "right") == ("left", SHARED, False)
    assert leads(captured, links, SHARED, "one") == ("two", SHARED, False)


def test_of_two_possible_ends_neither_is_named(captured: Snapshot):
    links = {
        HOST: Links(None, ()),
        SHARED: Links(None, (veth(5, "left", 6, 1),)),
        LOCKED: Links(None, (veth(6, "right", 5, 1),)),
        99: Links(None, (veth(6, "also", 5, 1),)),
    }
    assert leads(captured, links, SHARED, "left") is None
    assert leads(captured, links, LOCKED, "right") == ("left", SHARED, False)


@pytest.mark.parametrize(
    "link",
    [
        veth(2, "eth0", 9, 0, kind="macvlan"),
        veth(2, "eth0", 9, 0, kind="ipvlan"),
        veth(2, "eth0", None, None, kind="dummy"),
        veth(2, "eth0", None, None),
        veth(2, "eth0", 77, 0),
        veth(3, "eth0", 9, 0),
    ],
    ids=["macvlan", "ipvlan", "dummy", "no number", "number of nobody", "end of another"],
)
def test_what_is_no_pair_has_no_other_end(captured: Snapshot, link: Link):
    """A macvlan stands on an interface whose number it gives too."""
    links = {HOST: Links(None, (veth(9, "vethabc", 2, 5),)), SHARED: Links(0, (link,))}
    assert leads(captured, links, SHARED, "eth0") is None


def test_a_pair_of_its_own_is_not_the_other_end_of_the_hosts(captured: Snapshot):
    """A container with NET_ADMIN chooses its interfaces' numbers; its own pair is in no other namespace."""
    links = {
        HOST: Links(None, (veth(9, "vethabc", 2, 5),)),
        SHARED: Links(0, (veth(2, "eth0", 9, 0),)),
        LOCKED: Links(0, (veth(2, "forged", 9, None), veth(9, "other", 2, None))),
    }
    assert leads(captured, links, HOST, "vethabc") == ("eth0", SHARED, False)
    del links[SHARED]
    assert leads(captured, links, HOST, "vethabc") is None


def test_an_end_whose_other_is_not_on_the_host_is_not_the_hosts(captured: Snapshot):
    """The host's end says its other is somewhere; an end there says that its other is not on the host."""
    links = {
        HOST: Links(None, (veth(9, "vethabc", 2, 5),)),
        SHARED: Links(0, (veth(2, "eth0", 9, 4),)),
    }
    assert leads(captured, links, HOST, "vethabc") is None


def test_an_interface_without_counters_or_without_a_link_is_still_one(captured: Snapshot):
    counted = Interface(b"eth0", *range(8))
    links = {HOST: Links(None, ()), SHARED: Links(0, (veth(2, "eth1", 9, 0),))}
    net = only(with_network(captured, WEB, {}, links=links, interfaces=(counted,)))
    assert [(one.name, one.counted is None, one.link is None) for one in net.cards or ()] == [
        (b"eth0", False, True),
        (b"eth1", True, False),
    ]
    shown = json.loads(document.net_document(build(captured), [net], ()))["networks"][0]["interfaces"]
    assert [(one["name"], one["rx_bytes"], one["link"] is None) for one in shown] == [
        ("eth0", 0, True),
        ("eth1", None, False),
    ]


HOSTILE = ["\x1b[31mred", "a\u202eb", "[bold]x", "\udcff\udc9b2J", "\x85", "\u2028", "\\x1b"]


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_reaches_neither_terminal_nor_json(captured: Snapshot, name: str):
    """As an interface, as the other end of one, as its kind and as an address that is none."""
    raw = name.encode("utf-8", "surrogateescape")
    inside = veth(2, name, 9, 0, addresses=(f"{name}/8",))
    links = {
        HOST: Links(None, (veth(9, name, 2, 5), veth(10, "odd", None, None, kind=name))),
        SHARED: Links(0, (inside,)),
    }
    for pid in (WEB, ON_HOST):
        interfaces = (Interface(raw, *range(8)),)
        snapshot = with_network(captured, pid, {}, links=links, interfaces=interfaces)
        model = build(snapshot)
        net = only(snapshot)
        # The name of the link and that of its counters are the same.
        assert {card.name for card in net.cards or ()} - {b"odd"} == {raw}
        text = netlist.net_list(model, [net], width=None, colour=False)
        written = document.net_document(model, [net], ())
        for output in (text, written):
            assert all(line.isprintable() for line in output.splitlines())
            assert "\u202e" not in output
            output.encode("utf-8")
        shown = json.loads(written)["networks"][0]["interfaces"]
        assert shown[0]["name"].isprintable()
        assert shown[0]["link"]["peer"]["name"] == shown[0]["name"]


# -- reading -----------------------------------------------------------------------------------------------------------

STATUS = "Name:\tx\nUid:\t0 0 0 0\nGid:\t0 0 0 0\n" + "".join(
    f"Cap{name}:\t{0:016x}\n" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb")
)
NET = {"net/tcp": HEADING_4 + LISTENS, "net/tcp6": HEADING_4, "net/udp": HEADING_4, "net/udp6": HEADING_4}
NET["net/dev"] = DEV + LO


@pytest.fixture
def roots(tmp_path: Path) -> Roots:
    """A host of three processes: two in one network, the third in another."""
    for pid, inode in ((1, HOST), (10, SHARED), (11, SHARED)):
        folder = tmp_path / "proc" / str(pid)
        (folder / "net").mkdir(parents=True)
        (folder / "ns").mkdir()
        (folder / "fd").mkdir()
        numbers = "4194304 0 0 0 0 1 2 3 4 20 0 1 0 8812 1200 34 1 1"
        (folder / "stat").write_text(f"{pid} (x) S 0 {pid} {pid} 0 -1 {numbers}\n")
        (folder / "status").write_text(STATUS)
        (folder / "cgroup").write_text("0::/\n")
        (folder / "mountinfo").write_text("30 1 0:26 / /sys/fs/cgroup rw - cgroup2 none rw\n")
        (folder / "ns/net").symlink_to(f"net:[{inode}]")
        for number, link in enumerate(("/dev/null", f"socket:[{7532106 + pid}]", "pipe:[5]")):
            (folder / f"fd/{number}").symlink_to(link)
        for name, data in NET.items():
            (folder / name).write_bytes(data)
    (tmp_path / "sys/fs/cgroup").mkdir(parents=True)
    return Roots(root=str(tmp_path))


def closer(roots: Roots, **changes: Any) -> Snapshot:
    """What a closer look at that host gives."""
    collector = Collector(roots)
    snapshot, _ = collector.run()
    pids = [process.pid for process in snapshot.processes]
    return collector.closer(snapshot, Closely(**{"networks": pids, "sockets": pids, **changes}))


def file(roots: Roots, name: str) -> Path:
    """One of its files."""
    return Path(roots.procfs) / name


def failing(monkeypatch: pytest.MonkeyPatch, call: str, name: str, number: int) -> None:
    """A system call that fails for one file, or for all of them in a folder whose links are read."""
    real = getattr(kernfs, call)
    # Of a copy each part of a name is opened by itself.
    last = name.rpartition("/")[2]

    def fails(path: Any, *arguments: Any, **options: Any) -> Any:
        if path in (last, last.encode()):
            raise OSError(number, os.strerror(number))
        return real(path, *arguments, **options)

    monkeypatch.setattr(kernfs, call, fails)


def complaints(snapshot: Snapshot) -> list[tuple[str, str, tuple[int, ...]]]:
    """Kind, file and pids of every issue about networks."""
    return [
        (one.kind, one.path.rpartition("/proc/")[2], one.pids)
        for one in snapshot.issues
        if re.search("/(net|fd)", one.path)
    ]


def test_each_network_is_read_once_through_its_first_process(roots: Roots):
    found = closer(roots)
    assert found.networks.keys() == {1, 10}
    expected = Network(
        (Interface(b"lo", 1242186, 4711, 1, 2, 1242187, 4712, 3, 4),), (Listener("tcp", "127.0.0.1", 80, 7532106),)
    )
    assert set(found.networks.values()) == {expected}
    assert found.sockets == {pid: frozenset({7532106 + pid}) for pid in (1, 10, 11)}
    assert complaints(found) == []


def test_one_that_goes_away_meanwhile_leaves_it_to_the_next(roots: Roots, monkeypatch: pytest.MonkeyPatch):
    """Its namespace is told of through somebody else who is in it, and it is counted."""
    real, gone = sockets._network, []

    def goes(asker: Forgiving, directory: Directory, process: Process) -> Network:
        if process.pid == 10:
            gone.append(process.pid)
            raise Vanished(directory.path, "gone")
        return real(asker, directory, process)

    monkeypatch.setattr(sockets, "_network", goes)
    found = closer(roots)
    assert found.networks.keys() == {1, 11}
    assert (gone, found.vanished) == ([10], 1)


def test_one_that_ended_and_was_not_yet_buried_leaves_it_to_the_next(roots: Roots):
    """Between two looks a process became a zombie: its folder is there, its network is not."""
    for name in NET:
        file(roots, f"10/{name}").unlink()
    file(roots, "10/net").rmdir()
    found = closer(roots)
    assert 11 in found.networks
    assert found.networks[11].listeners == (Listener("tcp", "127.0.0.1", 80, 7532106),)


def test_a_zombie_is_not_asked(roots: Roots):
    stat = file(roots, "10/stat")
    stat.write_text(stat.read_text().replace(") S", ") Z"))
    assert closer(roots).networks.keys() == {1, 11}


def test_one_whose_first_thread_has_ended_holds_what_its_others_hold(roots: Roots):
    """The folder of the process has no descriptors then; those of its other threads have: all the same ones."""
    stat = file(roots, "10/stat")
    stat.write_text(stat.read_text().replace(") S", ") Z"))
    for link in file(roots, "10/fd").iterdir():
        link.unlink()
    file(roots, "10/task/10/fd").mkdir(parents=True)
    assert closer(roots).sockets[10] == frozenset()
    folder = file(roots, "10/task/12")
    (folder / "fd").mkdir(parents=True)
    (folder / "fd/3").symlink_to("socket:[7532106]")
    (folder / "stat").write_text(file(roots, "11/stat").read_text().replace("11 (x)", "12 (x)"))
    # Its sockets, or that they are not known.
    assert closer(roots).sockets[10] in (None, frozenset({7532106}))


def test_a_kernel_without_version_6_has_no_files_of_it(roots: Roots):
    for name in ("net/tcp6", "net/udp6"):
        file(roots, f"10/{name}").unlink()
    found = closer(roots)
    assert found.networks[10].listeners == (Listener("tcp", "127.0.0.1", 80, 7532106),)
    assert complaints(found) == []


@pytest.mark.parametrize("name", ["net/tcp", "net/udp"])
def test_a_copy_without_version_4_is_unknown(roots: Roots, name: str):
    """Some sockets would look like all of them."""
    file(roots, f"1/{name}").unlink()
    found = closer(roots)
    assert found.networks[1].listeners is None
    assert found.networks[1].interfaces is not None


@pytest.mark.parametrize("name", list(NET))
@pytest.mark.parametrize(
    "data", [b"garbage\n\x1b\nmore\n", HEADING_4 + LISTENS[:50], b"\0" * 500], ids=["", "cut", "NUL"]
)
def test_a_malformed_file_is_an_issue_and_the_others_are_kept(roots: Roots, name: str, data: bytes):
    file(roots, f"10/{name}").write_bytes(data)
    found = closer(roots)
    network = found.networks[10]
    assert (network.interfaces is None) is (name == "net/dev")
    assert (network.listeners is None) is (name != "net/dev")
    assert ("malformed", f"10/{name}", (10,)) in complaints(found)
    assert found.networks[1].listeners
    assert all(one.detail.isprintable() for one in found.issues)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EACCES, "denied"), (errno.EPERM, "denied"), (errno.EIO, "unreadable"), (errno.EMFILE, "unreadable")],
)
@pytest.mark.parametrize("name", list(NET))
def test_a_refused_file_is_an_issue_and_the_others_are_kept(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, name: str, number: int, kind: str
):
    failing(monkeypatch, "_open", name, number)
    found = closer(roots)
    for network in found.networks.values():
        assert (network.interfaces is None) is (name == "net/dev")
        assert (network.listeners is None) is (name != "net/dev")
    assert (kind, f"<pid>/{name}", (1, 10)) in complaints(found)


@pytest.mark.parametrize("number", [errno.ESRCH, errno.ENODEV])
@pytest.mark.parametrize("name", ["net/tcp", "net/dev"])
def test_a_file_of_one_that_has_vanished_is_no_issue(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, name: str, number: int
):
    failing(monkeypatch, "_open", name, number)
    found = closer(roots)
    assert found.networks == {}
    assert found.vanished == 3
    assert complaints(found) == []


@pytest.mark.parametrize(
    ("call", "name", "at"), [("_open", "fd", "<pid>/fd"), ("_readlink", "1", "<pid>/fd/1")], ids=["folder", "link"]
)
@pytest.mark.parametrize(("number", "kind"), [(errno.EACCES, "denied"), (errno.EIO, "unreadable")])
def test_descriptors_that_are_refused_are_unknown(
    roots: Roots, monkeypatch: pytest.MonkeyPatch, call: str, name: str, at: str, number: int, kind: str
):
    failing(monkeypatch, call, name, number)
    found = closer(roots)
    assert found.sockets == {1: None, 10: None, 11: None}
    assert (kind, at, (1, 10, 11)) in complaints(found)
    assert found.networks.keys() == {1, 10}


def test_a_descriptor_that_is_closed_meanwhile_is_left_out(roots: Roots, monkeypatch: pytest.MonkeyPatch):
    failing(monkeypatch, "_readlink", "0", errno.ENOENT)
    assert closer(roots).sockets[10] == frozenset({7532116})


def test_the_descriptors_of_one_that_has_vanished_are_no_issue(roots: Roots, monkeypatch: pytest.MonkeyPatch):
    failing(monkeypatch, "_open", "fd", errno.ESRCH)
    found = closer(roots)
    assert (found.sockets, found.vanished) == ({}, 3)
    assert complaints(found) == []


def test_a_pid_that_is_anothers_by_now_is_not_mixed_up(roots: Roots):
    collector = Collector(roots)
    snapshot, _ = collector.run()
    stat = file(roots, "10/stat")
    stat.write_text(stat.read_text().replace(" 8812 ", " 9999 "))
    found = collector.closer(snapshot, Closely(networks=[1, 10, 11], sockets=[1, 10, 11]))
    assert found.networks.keys() == {1, 11}
    assert found.sockets.keys() == {1, 11}
    assert found.vanished == 2


def test_one_that_refuses_is_complained_of_and_the_next_is_asked(roots: Roots):
    """Whatever is looked for: the error of one process is about that process."""
    asker = Forgiving()
    snapshot, _ = Collector(roots).run()
    outcomes = {1: Denied("/proc/1", "no"), 10: Vanished("/proc/10", "gone"), 11: None}

    def look(_directory: Directory, process: Process) -> int:
        if (outcome := outcomes[process.pid]) is not None:
            raise outcome
        return process.pid

    before = os.listdir("/proc/self/fd")
    assert tasks.each(asker, roots, snapshot.processes, Collector(roots).again, look) == {11: 11}
    assert asker.vanished == 1
    assert [(one.kind, one.pids) for one in asker.all_issues()] == [("denied", (1,))]
    assert os.listdir("/proc/self/fd") == before


def test_no_netlink_is_asked_of_another_root(roots: Roots, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a child was started"))
    assert closer(roots, links=True).links == {}
    assert (
        closer(Roots(root="/", procfs_override=roots.procfs, cgroupfs_override=roots.cgroup("/")), links=True).links
        == {}
    )


def test_net_of_a_copy_tells_what_files_tell(roots: Roots):
    done = runner().invoke(cli, ["--root", roots.root, "net"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert lines[0] == f"net {HOST} · the host's"
    assert "  lo  received 1.2 MiB, sent 1.2 MiB · 6 dropped · 4 errors" in lines
    assert lines.count("  tcp 127.0.0.1:80 · no process") == 2


# -- the child ---------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "ifindex": 1,
    "name": "lo",
    "kind": None,
    "state": "down",
    "mac": None,
    "mtu": 65536,
    "addresses": ["::1/128"],
}
GOOD |= {"link": None, "link_netnsid": None}


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """A child that runs a script instead, which has the descriptors as arguments after two words of ours."""

    def make(script: str) -> None:
        program = tmp_path / "child"
        beginning = "import json, os, sys, time\nfds = [int(one) for one in sys.argv[4:]]\n"
        beginning += "def tell(fd, end='\\n'):\n"
        beginning += f"    print(json.dumps(dict(fd=fd, host_netnsid=None, links=[{GOOD}])), end=end, flush=True)\n"
        program.write_text(f"#!{sys.executable}\n{beginning}{script}\n")
        program.chmod(0o755)
        monkeypatch.setattr(netns, "sys", type("Sys", (), {"executable": str(program)}))

    return make


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Descriptors that stand for namespaces: any file does."""
    found: list[int] = []

    def open_it(_directory: Directory, _kind: str, _inode: int) -> int:
        found.append(os.open("/dev/null", os.O_RDONLY))
        return found[-1]

    monkeypatch.setattr(nsfs, "opened", open_it)
    yield found
    for fd in found:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)


def ask(roots: Roots) -> tuple[dict[int, Links], list[str]]:
    """What children say of the two networks of that host, and what is complained of."""
    collector = Collector(roots)
    snapshot, _ = collector.run()
    host, *others = [one for one in snapshot.processes if one.pid != 11]
    asker = Forgiving()
    found = netns.links(asker, roots, others, host, collector.again)
    return found, [f"{one.kind} {one.path.rpartition('/proc/')[2]}: {one.detail}" for one in asker.all_issues()]


def test_every_answer_is_taken(roots: Roots, child: Callable[[str], None], opened: list[int]):
    child("for fd in fds: tell(fd)")
    expected = Links(None, (Link(**{**GOOD, "addresses": ("::1/128",)}),))
    assert ask(roots) == ({HOST: expected, SHARED: expected}, [])
    assert len(opened) == 2


ISSUE = "unreadable <pid>/ns/net: of 2 network namespaces"


@pytest.mark.parametrize(
    ("script", "told", "complaint"),
    [
        ("", 0, f"{ISSUE} 0 told of their links: the others refused"),
        ("tell(fds[0])", 1, f"{ISSUE} 1 told of their links: the others refused"),
        ("sys.exit('first line\\nlast line')", 0, f"{ISSUE} 0 told of their links: last line"),
        ("tell(fds[0]); os.kill(os.getpid(), 9)", 1, f"{ISSUE} 1 told of their links: the others refused"),
        ("tell(fds[0]); tell(fds[1], end='')", 1, f"{ISSUE} 1 told of their links: the others refused"),
        ("tell(fds[0]); print('{\"fd\":', end='', flush=True); os._exit(1)", 1, f"{ISSUE} 1 told"),
        ("sys.stderr.buffer.write(b'\\xff\\x1b[31m\\n')", 0, f"{ISSUE} 0 told of their links: \ufffd"),
    ],
    ids=["nothing", "one", "dies", "is killed", "no end of line", "half a line", "says what is no text"],
)
def test_a_child_that_fails_leaves_what_it_said(
    roots: Roots, child: Callable[[str], None], opened: list[int], script: str, told: int, complaint: str
):
    child(script)
    found, issues = ask(roots)
    assert len(found) == told
    assert len(issues) == 1
    assert issues[0].startswith(complaint)


def test_a_child_that_hangs_is_ended_and_what_it_said_is_kept(
    roots: Roots, child: Callable[[str], None], opened: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(netns, "PATIENCE", 1.0)
    child(f"tell(fds[0]); open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); time.sleep(100)")
    found, issues = ask(roots)
    assert found.keys() == {HOST}
    assert issues == [f"{ISSUE} 1 told of their links: no answer within 1 seconds"]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_child_that_cannot_be_started_is_an_issue(
    roots: Roots, opened: list[int], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(netns, "sys", type("Sys", (), {"executable": str(tmp_path / "none")}))
    assert ask(roots) == ({}, [f"{ISSUE} 0 told of their links: No such file or directory"])


def test_what_a_child_says_of_others_is_not_believed(roots: Roots, child: Callable[[str], None], opened: list[int]):
    """A line that is none of ours is a failure of that child, not of the answer."""
    child("tell(fds[0]); print('Traceback', flush=True)")
    found, issues = ask(roots)
    assert found.keys() == {HOST}
    assert len(issues) == 1


def test_a_namespace_that_cannot_be_opened_is_left_out(
    roots: Roots, child: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
):
    """The host's alone is asked for then; without the host's own nobody is."""
    child("for fd in fds: tell(fd)")
    monkeypatch.setattr(nsfs, "opened", lambda _directory, _kind, inode: os.open("/", 0) if inode == HOST else None)
    assert ask(roots)[0].keys() == {HOST}
    monkeypatch.setattr(nsfs, "opened", lambda _directory, _kind, inode: os.open("/", 0) if inode != HOST else None)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("a child was started"))
    assert ask(roots)[0] == {}


def test_many_namespaces_are_asked_for_in_parts(
    roots: Roots, child: Callable[[str], None], opened: list[int], monkeypatch: pytest.MonkeyPatch
):
    """Not more descriptors at once than a process may have."""
    child("for fd in fds: tell(fd)")
    runs: list[int] = []
    real = subprocess.run

    def counted(command: list[str], **options: Any) -> Any:
        runs.append(len(command) - 4)
        return real(command, **options)

    monkeypatch.setattr(subprocess, "run", counted)
    monkeypatch.setattr(netns, "_AT_ONCE", 2)
    collector = Collector(roots)
    snapshot, _ = collector.run()
    host, one, _ = snapshot.processes
    others = [one._replace(namespaces=one.namespaces._replace(net=inode)) for inode in range(5)]
    found = netns.links(Forgiving(), roots, others, host, collector.again)
    assert found.keys() == {HOST, *range(5)}
    assert runs == [3, 3, 2]


def test_the_child_itself_says_what_it_cannot_enter(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """A file that is no namespace is refused by the kernel, and the next is asked for all the same."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "nsinspect.netns", "0", "0"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert [line.partition(":")[0] for line in done.stderr.splitlines()] == ["setns", "setns"]


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({"nsid": 0}, 0),
        ({"nsid": 7}, 7),
        ({"nsid": -1}, None),
        ({"nsid": 4294967295}, None),
        ({"nsid": None}, None),
        ({}, None),
        (None, None),
    ],
    ids=str,
)
def test_a_namespace_without_a_number_has_none(told: object, expected: int | None):
    assert netns._netnsid(told) == expected
