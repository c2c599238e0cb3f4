"""Network namespaces of a real kernel: what listens there, what its interfaces counted and where they lead, held
against ss(8), ip(8) and /proc."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.live.docker import Docker
from tests.live.engines import output_of, until

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
WITH_SIX = ("--sysctl", "net.ipv6.conf.all.disable_ipv6=0")
EVERYWHERE = {"0.0.0.0", "::", "::ffff:0.0.0.0"}
# Ports of the host's own loopback, which nobody else on it has.
TCP, UDP = "41871", "41872"
OWN = (
    "tcp 127.0.0.1 80 tcp 0.0.0.0 81 tcp :: 82 tcp ::1 83 tcp6 :: 84 tcp ::ffff:127.0.0.1 85 tcp ::ffff:0.0.0.0 86 "
    "bound 0.0.0.0 87 udp 127.0.0.1 80 udp 0.0.0.0 53 udp :: 54 udp ::1 55 peer 127.0.0.1 80"
)

Ask = Callable[..., dict[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[bytes]]
Net = dict[str, Any]


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A static program that holds the sockets it is told to."""
    made = tmp_path_factory.mktemp("sockets") / "sockets"
    command = ["cc", "-O1", "-Wall", "-Werror", "-static", "-pthread", "-o", str(made), str(HERE / "sockets.c")]
    subprocess.run(command, check=True, timeout=60)
    return made


class Containers:
    """Containers that hold sockets.  A context manager, which removes them."""

    def __init__(self, docker: Docker, program: Path) -> None:
        self.docker = docker
        self._program = program
        self._mine: list[str] = []

    def __enter__(self) -> Containers:
        return self

    def __exit__(self, *_: object) -> None:
        if self._mine:
            self.docker("rm", "-f", *self._mine)

    def hold(self, name: str, words: str, *flags: str) -> int:
        """Start a container with sockets; the pid of its init, once it has them."""
        self._mine.append(name)
        self.docker.run(name, "-v", f"{self._program}:/sockets:ro", *flags, command=("/sockets", *words.split()))
        until(lambda: self.docker("logs", name) == "ready", f"the sockets of {name}", 20)
        return self.pid(name)

    def sleep(self, name: str, *flags: str) -> int:
        """Start a container without any; the pid of its init."""
        self._mine.append(name)
        self.docker.run(name, *flags)
        return self.pid(name)

    def pid(self, name: str) -> int:
        """Of its init, by the engine."""
        return int(self.docker.inspect(name)["State"]["Pid"])

    def id(self, name: str) -> str:
        """The whole id."""
        return str(self.docker.inspect(name)["Id"])


@pytest.fixture(scope="module")
def started(docker: Docker, program: Path) -> Iterator[Containers]:
    """One of each kind."""
    with Containers(docker, program) as containers:
        containers.hold("sock-own", OWN, *WITH_SIX)
        containers.hold("sock-first", "tcp 127.0.0.1 7001 udp 0.0.0.0 7001", *WITH_SIX)
        containers.hold("sock-second", "tcp ::1 7002 udp ::1 7002 fork", "--net", "container:sock-first")
        containers.hold("sock-host", f"tcp 127.0.0.1 {TCP} udp 127.0.0.1 {UDP}", "--net", "host")
        yield containers


@pytest.fixture
def containers(docker: Docker, program: Path) -> Iterator[Containers]:
    """None yet, and none afterwards."""
    with Containers(docker, program) as containers:
        yield containers


@pytest.fixture(scope="module")
def net(started: Containers, ask: Ask) -> dict[int, Net]:
    """What ``net`` says of the machine with those containers, by inode."""
    return by_inode(ask("net"))


@pytest.fixture
def namespaces() -> Iterator[Callable[[str], int]]:
    """Makes named network namespaces with a process in each, whose pid it gives."""
    with contextlib.ExitStack() as stack:

        def make(name: str) -> int:
            output_of("ip", "netns", "add", name)
            stack.callback(output_of, "ip", "netns", "del", name, check=False)
            return stack.enter_context(sleeper("ip", "netns", "exec", name))

        yield make


@contextlib.contextmanager
def sleeper(*entering: str) -> Iterator[int]:
    """A process that a command started; its pid once it sleeps."""
    process = subprocess.Popen([*entering, "sleep", "300"])
    try:
        until(lambda: Path(f"/proc/{process.pid}/comm").read_text() == "sleep\n", "a process that sleeps", 20)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def inode_of(pid: int | str) -> int:
    """Of the network namespace a process is in."""
    return os.stat(f"/proc/{pid}/ns/net").st_ino


def by_inode(document: dict[str, Any]) -> dict[int, Net]:
    """Networks of ``net --json``."""
    return {one["inode"]: one for one in document["networks"]}


def inside(pid: int | None, *command: str) -> str:
    """What a command says in the network namespace of a process; ``None``: in our own."""
    return output_of(*([] if pid is None else ["nsenter", "-t", str(pid), "-n"]), *command)


def listed_by_ss(pid: int | None) -> set[tuple[str, str, int]]:
    """Protocol, address and port of everything that waits, by ss."""
    found = set()
    for protocol, flag in (("tcp", "-ltn"), ("udp", "-lun")):
        for line in inside(pid, "ss", "-H", flag).splitlines():
            address, _, port = line.split()[3].rpartition(":")
            address = re.sub(r"%[^%\]]*$", "", address).strip("[]")
            # An IPv6 socket that takes IPv4 too has no address there; one for IPv6 alone has [::].
            found.add((protocol, "::" if address == "*" else address, int(port)))
    return found


def listed_by_us(net: Net) -> set[tuple[str, str, int]]:
    """The same of one network namespace."""
    return {(one["protocol"], one["address"], one["port"]) for one in net["listening"]}


def cards(net: Net) -> dict[str, dict[str, Any]]:
    """Interfaces by name."""
    return {one["name"]: one for one in net["interfaces"]}


def peers(net: Net) -> dict[str, tuple[str, int, bool] | None]:
    """By name of an interface, name of the other end, namespace and whether that is the host's."""
    found: dict[str, tuple[str, int, bool] | None] = {}
    for name, one in cards(net).items():
        peer = one["link"]["peer"]
        found[name] = peer and (peer["name"], peer["network"], peer["host"])
    return found


def traced(path: Path, calls: str, *arguments: str, user: Sequence[str] = ("-m", "nsinspect")) -> tuple[str, bytes]:
    """Lines of strace, and stdout, of the program with some arguments."""
    command = ["strace", "-f", "-y", "--seccomp-bpf", "-e", f"trace={calls}", "-o", str(path), sys.executable, *user]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, check=False, timeout=120, cwd=CHECKOUT, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stderr
    return path.read_text("utf-8", "replace"), done.stdout


# -- what listens ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["sock-own", "sock-first", "sock-second"])
def test_what_listens_in_a_container_is_what_ss_says(started: Containers, net: dict[int, Net], name: str):
    pid = started.pid(name)
    found = listed_by_ss(pid)
    assert len(found) >= 4
    assert listed_by_us(net[inode_of(pid)]) == found


def test_what_listens_on_the_host_is_what_ss_says(started: Containers, ask: Ask):
    """Others come and go on a host: it is asked until nothing did meanwhile."""

    def same() -> bool:
        before, found, after = listed_by_ss(None), by_inode(ask("net"))[inode_of("self")], listed_by_ss(None)
        assert {("tcp", "127.0.0.1", int(TCP)), ("udp", "127.0.0.1", int(UDP))} <= listed_by_us(found)
        return before == listed_by_us(found) == after

    assert until(same, "the same answer of ss and of us", 20)


def test_whose_a_socket_is_and_where_it_listens(started: Containers, net: dict[int, Net]):
    pid, identity = started.pid("sock-own"), started.id("sock-own")
    own = net[inode_of(pid)]
    words = OWN.split()
    wanted = {
        (word.rstrip("6"), address, int(port))
        for word, address, port in zip(words[::3], words[1::3], words[2::3], strict=True)
        if word not in ("bound", "peer")
    }

    assert listed_by_us(own) == wanted
    assert own["containers"] == [identity]
    assert own["host"] is False
    for one in own["listening"]:
        assert (one["pids"], one["containers"]) == ([pid], [identity])
        assert one["every_address"] is (one["address"] in EVERYWHERE)


def test_in_a_shared_network_each_socket_is_its_holders(started: Containers, net: dict[int, Net]):
    first, second = started.id("sock-first"), started.id("sock-second")
    pids = {first: [started.pid("sock-first")]}
    pids[second] = [int(line.split()[1]) for line in started.docker("top", "sock-second").splitlines()[1:]]
    shared = net[inode_of(started.pid("sock-first"))]

    assert set(shared["containers"]) == {first, second}
    assert {(one["port"], *one["containers"]) for one in shared["listening"]} == {(7001, first), (7002, second)}
    assert len(pids[second]) == 2
    for one in shared["listening"]:
        assert sorted(one["pids"]) == sorted(pids[one["containers"][0]])


def test_in_the_hosts_network_a_container_has_only_its_own(started: Containers, net: dict[int, Net], ask: Ask):
    pid, identity = started.pid("sock-host"), started.id("sock-host")
    shown = ask("show", "sock-host")["network"]
    (asked,) = ask("net", "sock-host")["networks"]
    host = net[inode_of("self")]
    mine = [one for one in host["listening"] if one["containers"] == [identity]]

    assert host["host"] is True
    assert {(one["protocol"], one["port"], *one["pids"]) for one in mine} == {
        ("tcp", int(TCP), pid),
        ("udp", int(UDP), pid),
    }
    assert shown["listening"] == asked["listening"] == mine
    assert (shown["inode"], shown["host"]) == (inode_of("self"), True)


@pytest.mark.parametrize("name", ["sock-own", "sock-first", "sock-second"])
def test_show_tells_of_its_network_what_net_does(started: Containers, net: dict[int, Net], ask: Ask, name: str):
    shown = ask("show", name)["network"]
    known = net[inode_of(started.pid(name))]

    assert shown["listening"] == known["listening"]
    assert {one["name"]: one["link"] for one in shown["interfaces"]} == dict.fromkeys(cards(known))


def test_a_person_reads_what_listens_on_every_address(started: Containers, run: Run):
    pid = started.pid("sock-own")
    page = run("show", "sock-own").stdout.decode()
    text = run("net", "sock-own").stdout.decode()
    for output in (page, text):
        for line in ("tcp 127.0.0.1:80", "tcp [::1]:83", "tcp [::ffff:127.0.0.1]:85", "udp [::1]:55"):
            assert f"{line} · sock-own, process {pid}\n" in output
        for line in ("tcp 0.0.0.0:81", "tcp [::]:82", "tcp [::]:84", "tcp [::ffff:0.0.0.0]:86", "udp 0.0.0.0:53"):
            assert f"{line} on EVERY ADDRESS · sock-own, process {pid}\n" in output
        assert output.count("EVERY ADDRESS") == 6
    assert re.search(r"^Listens +tcp 127\.0\.0\.1:80", page, re.MULTILINE)
    assert "sock-second, processes " in run("show", "sock-first").stdout.decode()


def test_a_process_whose_first_thread_ended_still_holds_its_sockets(containers: Containers, ask: Ask):
    """Its ``fd`` shows nothing then, which is not the same as holding nothing: it never becomes "no process"."""
    pid = containers.sleep("sock-left", "-v", f"{containers._program}:/sockets:ro")
    containers.docker("exec", "-d", "sock-left", "/sockets", "tcp", "0.0.0.0", "666", "leave")
    until(lambda: ("tcp", "0.0.0.0", 666) in listed_by_ss(pid), "its socket", 20)
    (holder,) = {int(line.split()[1]) for line in containers.docker("top", "sock-left").splitlines()[1:]} - {pid}
    until(lambda: Path(f"/proc/{holder}/stat").read_text().split()[2] == "Z", "the end of its first thread", 20)
    found = by_inode(ask("net"))[inode_of(pid)]
    (one,) = found["listening"]

    assert one["containers"] != []
    assert one["pids"] != []


def test_a_container_whose_init_left_its_first_thread_is_none_the_less_one(containers: Containers, ask: Ask):
    """Of such a process the kernel shows no cgroup, no namespace and no descriptor but in its other threads."""
    pid = containers.hold("sock-leaver", "tcp 127.0.0.1 90 leave")
    until(lambda: Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z", "the end of its first thread", 20)
    shown = ask("show", "sock-leaver")
    # The engine takes it for dead, and would leave it behind.
    os.kill(pid, signal.SIGKILL)
    (one,) = shown["network"]["listening"]

    assert (shown["container"]["init"]["pid"], shown["container"]["pids"]) == (pid, [pid])
    assert shown["container"]["id"] == containers.docker.inspect("sock-leaver")["Id"]
    assert shown["container"]["capabilities"]["bounding"]["mask"] == "0x00000000a80425fb"
    assert [kind for kind, one in shown["container"]["namespaces"].items() if one["host"]] == ["cgroup", "time", "user"]
    assert shown["container"]["mounts"] is not None
    assert (one["address"], one["port"], one["pids"]) == ("127.0.0.1", 90, [pid])


def test_a_busy_network_is_read_no_further_than_its_listeners(containers: Containers, tmp_path: Path):
    """Established connections come after the listeners, and there may be any number of them."""
    pid = containers.hold("sock-busy", "tcp 0.0.0.0 90 tcp 127.0.0.1 91 busy 3000", "--ulimit", "nofile=20000:20000")
    whole = len(Path(f"/proc/{pid}/net/tcp").read_bytes())
    trace, output = traced(tmp_path / "trace", "read", "net", "sock-busy", "--json")
    read = [int(size) for size in re.findall(rf"<[^>]*/{pid}/net/tcp>.*= (\d+)$", trace, re.MULTILINE)]
    (found,) = json.loads(output)["networks"]

    assert whole > 6000 * 100
    assert {(one["address"], one["port"]) for one in found["listening"]} == {("0.0.0.0", 90), ("127.0.0.1", 91)}
    assert [one["pids"] for one in found["listening"]] == [[pid], [pid]]
    assert read
    assert sum(read) < whole / 20


# -- interfaces --------------------------------------------------------------------------------------------------------


def test_counters_are_those_of_proc_and_grow_by_what_is_sent(containers: Containers, ask: Ask):
    pid = containers.sleep("sock-counted")
    output_of("ip", "link", "add", "nscount0", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    # Inside Docker leaves IPv6 off; with it an interface says things of its own.
    Path("/proc/sys/net/ipv6/conf/nscount0/disable_ipv6").write_text("1")
    for words in ("addr add 10.231.0.1/24 dev eth0", "link set eth0 up"):
        inside(pid, "ip", *words.split())
    inside(pid, "ip", "neigh", "add", "10.231.0.2", "lladdr", "02:00:00:00:00:02", "dev", "eth0")
    output_of("ip", "link", "set", "nscount0", "up")

    def counted() -> dict[str, dict[str, Any]]:
        text = Path(f"/proc/{pid}/net/dev").read_text()
        found = cards(by_inode(ask("net", "sock-counted"))[inode_of(pid)])
        rows = {name.strip(): rest.split() for name, rest in re.findall(r"^(.*):(.*)$", text, re.MULTILINE)}
        assert found.keys() == rows.keys() == {"lo", "eth0"}
        for name, row in rows.items():
            for at, what in enumerate(("bytes", "packets", "errors", "dropped")):
                assert found[name][f"rx_{what}"] == int(row[at])
                assert found[name][f"tx_{what}"] == int(row[at + 8])
        return found

    first = counted()["eth0"]
    outside = cards(by_inode(ask("net"))[inode_of("self")])["nscount0"]
    # A datagram of 1000 bytes is 8 of UDP, 20 of IPv4 and 14 of Ethernet more.
    script = "import socket; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\n"
    script += "for _ in range(50): s.sendto(bytes(1000), ('10.231.0.2', 9))"
    inside(pid, sys.executable, "-c", script)
    second = counted()["eth0"]
    after = cards(by_inode(ask("net"))[inode_of("self")])["nscount0"]

    assert second["tx_packets"] - first["tx_packets"] == after["rx_packets"] - outside["rx_packets"] == 50
    assert second["tx_bytes"] - first["tx_bytes"] == after["rx_bytes"] - outside["rx_bytes"] == 50 * 1042
    assert (after["rx_errors"], after["tx_errors"]) == (0, 0)


def told_by_ip(pid: int | None) -> dict[str, dict[str, Any]]:
    """By name of an interface, what ip says of it, in our words."""
    links = json.loads(inside(pid, "ip", "-d", "-j", "link"))
    addresses = {one["ifname"]: one["addr_info"] for one in json.loads(inside(pid, "ip", "-j", "addr"))}
    return {
        one["ifname"]: {
            "ifindex": one["ifindex"],
            "kind": one.get("linkinfo", {}).get("info_kind"),
            "state": one["operstate"].lower(),
            "mac": one["address"],
            "mtu": one["mtu"],
            "addresses": [f"{its['local']}/{its['prefixlen']}" for its in addresses[one["ifname"]]],
        }
        for one in links
    }


def told_by_us(net: Net) -> dict[str, dict[str, Any]]:
    """The same by us."""
    return {
        name: {key: value for key, value in one["link"].items() if key != "peer"} for name, one in cards(net).items()
    }


def test_links_and_addresses_are_those_that_ip_tells(containers: Containers, ask: Ask):
    pid = containers.sleep("sock-links", *WITH_SIX)
    output_of("ip", "link", "add", "nslinks0", "mtu", "1400", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
    output_of("ip", "link", "set", "nslinks0", "up")
    # Kinds that a kernel may lack; of those it has, each is compared.
    kinds = ["bridge", "dummy", "ifb", "macvlan", "vlan"]
    for kind in kinds:
        more = {"macvlan": ("link", "eth0"), "vlan": ("link", "eth0", "name", "a.vlan")}.get(kind, ())
        name = () if kind == "vlan" else ("name", f"a-{kind}")
        identity = ("id", "7") if kind == "vlan" else ()
        with contextlib.suppress(AssertionError):
            inside(pid, "ip", "link", "add", *more, *name, "type", kind, *identity)
    for command in (
        *("link set lo up", "link set eth0 up mtu 1300", "link set eth0 address 02:00:00:00:00:aa"),
        *("addr add 10.232.0.1/24 dev eth0", "addr add 10.232.0.7/32 peer 10.232.9.9 dev eth0"),
        "addr add fd00:232::1/64 dev eth0 nodad",
    ):
        inside(pid, "ip", *command.split())

    # A link that comes up changes its state a moment later.
    for _ in range(20):
        before, net, after = told_by_ip(pid), by_inode(ask("net", "sock-links"))[inode_of(pid)], told_by_ip(pid)
        if before == after:
            break
    found = told_by_us(net)
    assert found == after
    assert {"10.232.0.1/24", "10.232.0.7/32", "fd00:232::1/64"} <= set(found["eth0"]["addresses"])
    assert (found["eth0"]["mtu"], found["eth0"]["mac"], found["eth0"]["state"]) == (1300, "02:00:00:00:00:aa", "up")
    assert found["lo"]["kind"] is None
    assert {name for name, peer in peers(net).items() if peer} == {"eth0"}
    assert len(found) > 3
    host = by_inode(ask("net"))[inode_of("self")]
    assert told_by_us(host) == told_by_ip(None)
    assert told_by_us(host)["nslinks0"]["mtu"] == 1400


def test_each_veth_names_its_other_end_however_often_their_numbers_recur(containers: Containers, ask: Ask):
    """In every container the interface is number 2, and the host's ends are found for each."""
    pids = {name: containers.sleep(f"sock-veth-{name}") for name in ("a", "b", "c")}
    for name, pid in pids.items():
        command = ["ip", "link", "add", f"nsveth-{name}", "type", "veth", "peer", "name", "eth0", "netns", str(pid)]
        output_of(*command, "index", "2")
    found = by_inode(ask("net"))
    host = peers(found[inode_of("self")])
    for name, pid in pids.items():
        inodes = inode_of("self"), inode_of(pid)
        assert cards(found[inodes[1]])["eth0"]["link"]["ifindex"] == 2
        assert host[f"nsveth-{name}"] == ("eth0", inodes[1], False)
        assert peers(found[inodes[1]]) == {"lo": None, "eth0": (f"nsveth-{name}", inodes[0], True)}


def veth(pid: int, name: str, index: int, other: int, other_name: str, other_index: int) -> None:
    """A pair with chosen numbers between the network namespaces of two processes."""
    command = ["nsenter", "-t", str(pid), "-n", "ip", "link", "add", name, "index", str(index), "type", "veth"]
    output_of(*command, "peer", "name", other_name, "index", str(other_index), "netns", str(other))


def test_a_pair_between_containers_leads_from_one_to_the_other(containers: Containers, ask: Ask, run: Run):
    one, other = containers.sleep("sock-left-end"), containers.sleep("sock-right-end")
    veth(one, "left", 5, other, "right", 6)
    veth(one, "both", 8, one, "ends", 9)
    found = by_inode(ask("net"))
    inodes = inode_of(one), inode_of(other)

    assert peers(found[inodes[0]]) == {
        "lo": None,
        "left": ("right", inodes[1], False),
        "both": ("ends", inodes[0], False),
        "ends": ("both", inodes[0], False),
    }
    assert peers(found[inodes[1]]) == {"lo": None, "right": ("left", inodes[0], False)}
    text = run("net", "sock-left-end").stdout.decode()
    assert f"veth, other end right in net {inodes[1]}" in text


def test_pairs_between_containers_whose_numbers_recur_lead_nowhere_wrong(namespaces: Callable[[str], int], ask: Ask):
    """Two pairs, both from number 5 to number 6, in four namespaces: each is named rightly or not at all."""
    pids = [namespaces(f"nsrecur{number}") for number in range(4)]
    veth(pids[0], "one", 5, pids[1], "two", 6)
    veth(pids[2], "three", 5, pids[3], "four", 6)
    found = by_inode(ask("net"))
    inodes = [inode_of(pid) for pid in pids]
    wanted = {0: ("one", "two", 1), 1: ("two", "one", 0), 2: ("three", "four", 3), 3: ("four", "three", 2)}
    for at, (name, other, where) in wanted.items():
        assert peers(found[inodes[at]])[name] in (None, (other, inodes[where], False))


def test_a_container_cannot_pretend_to_be_the_other_end_of_a_veth(containers: Containers, ask: Ask):
    """With NET_ADMIN it chooses the numbers of a pair that is all its own: those that another's pair has."""
    victim, forger = containers.sleep("sock-victim"), containers.sleep("sock-forger")
    output_of("ip", "link", "add", "nsvictim", "type", "veth", "peer", "name", "eth0", "netns", str(victim))
    number = cards(by_inode(ask("net"))[inode_of("self")])["nsvictim"]["link"]["ifindex"]
    inner = json.loads(inside(victim, "ip", "-j", "link", "show", "eth0"))[0]["ifindex"]
    veth(forger, "eth0", inner, forger, "other", number)
    found = by_inode(ask("net"))

    assert peers(found[inode_of("self")])["nsvictim"] == ("eth0", inode_of(victim), False)
    assert peers(found[inode_of(victim)])["eth0"] == ("nsvictim", inode_of("self"), True)
    assert peers(found[inode_of(forger)])["eth0"] == ("other", inode_of(forger), False)


def test_an_end_that_nobody_is_beside_is_not_looked_for_elsewhere(containers: Containers, ask: Ask):
    """A network namespace without processes is not seen, and its pair's numbers may be those of another's."""
    output_of("ip", "netns", "add", "nsempty")
    try:
        output_of("ip", "link", "add", "nsaway", "type", "veth", "peer", "name", "eth0", "netns", "nsempty")
        one, other = containers.sleep("sock-near"), containers.sleep("sock-far")
        number = json.loads(output_of("ip", "-j", "link", "show", "nsaway"))[0]["ifindex"]
        inner = json.loads(output_of("ip", "-n", "nsempty", "-j", "link", "show", "eth0"))[0]["ifindex"]
        veth(one, "here", inner, other, "there", number)
        assert peers(by_inode(ask("net"))[inode_of("self")])["nsaway"] is None
    finally:
        output_of("ip", "netns", "del", "nsempty")


def test_a_name_that_is_no_text_harms_nobody_else(containers: Containers, namespaces: Callable[[str], int], run: Run):
    """Interfaces may be called almost anything: escapes, what turns a line around, bytes that are no UTF-8."""
    hostile = namespaces("nshostile")
    names = [b"\x1b[31m\xff", "\u202eabc".encode(), b"[bold]", b"\x9b2J", b"\\x41", b"\xed\xb2\x80"]
    for name in names:
        output_of("ip", "-n", "nshostile", "link", "add", os.fsdecode(name), "type", "veth")
    other = containers.sleep("sock-after")
    answer, text = run("net", "--json"), run("net")
    found = by_inode(json.loads(answer.stdout))

    for output in (answer.stdout, text.stdout):
        assert not set(output) & set(range(32)) - {10}
        assert "\u202e" not in output.decode("utf-8")
    assert b"[bold]" in text.stdout
    shown = cards(found[inode_of(hostile)])
    assert {"\\x1b[31m\\xff", "\\u202eabc", "[bold]", "\\x9b2J", "\\x41", "\\xed\\xb2\\x80"} < shown.keys()
    assert cards(found[inode_of(other)])["lo"]["link"]["ifindex"] == 1
    assert {name for name, one in shown.items() if one["link"] is None} == set()
    assert [one for one in json.loads(answer.stdout)["issues"] if one["path"].endswith("/ns/net")] == []


def test_two_hundred_and_fifty_networks_all_answer(ask: Ask):
    with contextlib.ExitStack() as stack:
        processes = [subprocess.Popen(["unshare", "-n", "sleep", "300"]) for _ in range(250)]
        for process in processes:
            stack.callback(process.wait)
            stack.callback(process.kill)
        mine = inode_of("self")
        until(lambda: all(inode_of(process.pid) != mine for process in processes), "their networks", 30)
        document = ask("net")
        found = by_inode(document)
        inodes = {inode_of(process.pid) for process in processes}
    assert len(inodes) == 250
    for inode in inodes:
        (lo,) = found[inode]["interfaces"]
        assert (lo["name"], lo["link"]["ifindex"], lo["link"]["kind"]) == ("lo", 1, None)
        assert found[inode]["listening"] == []
    assert [one for one in document["issues"] if one["path"].endswith("/ns/net")] == []


# -- nobody goes where it need not -------------------------------------------------------------------------------------


ENTERING = "setns,unshare,clone,clone3,vfork,fork"


@pytest.mark.parametrize(
    "arguments", [("show", "sock-own"), ("show", "sock-host", "--json"), ("list",), ("serve", "--once")], ids=" ".join
)
def test_nobody_is_entered_for_anything_but_net(started: Containers, tmp_path: Path, arguments: tuple[str, ...]):
    trace, output = traced(tmp_path / "trace", f"{ENTERING},socket", *arguments)
    assert output
    assert "setns(" not in trace
    assert "unshare(" not in trace
    assert "CLONE_NEW" not in trace
    assert "AF_NETLINK" not in trace


def test_net_enters_by_a_child_alone_and_makes_no_namespace(started: Containers, tmp_path: Path):
    trace, _ = traced(tmp_path / "trace", f"{ENTERING},execve", "net", "--json")
    us = trace.split()[0]
    entered = {line.split()[0] for line in trace.splitlines() if "setns(" in line}

    assert entered
    assert us not in entered
    assert "unshare(" not in trace
    assert "CLONE_NEW" not in "".join(line for line in trace.splitlines() if "setns(" not in line)
    for child in entered:
        its = [line for line in trace.splitlines() if line.split()[0] == child]
        first = next(number for number, line in enumerate(its) if "setns(" in line)
        # It runs nothing in there.
        assert not [line for line in its[first:] if "execve(" in line or "fork(" in line]
        assert its[-1].endswith("+++ exited with 0 +++")
        assert not Path(f"/proc/{child}").exists()


def test_net_keeps_no_network_alive(ask: Ask):
    """A network's veth goes when the last that holds the network does."""
    with sleeper("unshare", "-n") as pid:
        output_of("ip", "link", "add", "nskept", "type", "veth", "peer", "name", "eth0", "netns", str(pid))
        before = os.stat("/proc/self/ns/net").st_ino
        assert peers(by_inode(ask("net"))[inode_of("self")])["nskept"] == ("eth0", inode_of(pid), False)
        assert os.stat("/proc/self/ns/net").st_ino == before
    until(lambda: not Path("/sys/class/net/nskept").exists(), "the end of that network", 20)


def test_of_a_copy_no_netlink_is_asked(started: Containers, tmp_path: Path, ask: Ask):
    """Files of a host that were carried away tell of its sockets, and our own interfaces are none of theirs."""
    copy, pid = tmp_path / "copy", started.pid("sock-own")
    for one in (1, 2, pid):
        folder = copy / "proc" / str(one)
        (folder / "net").mkdir(parents=True)
        for file in ("stat", "status", "cgroup", "mountinfo", "net/tcp", "net/tcp6", "net/udp", "net/udp6", "net/dev"):
            (folder / file).write_bytes(Path(f"/proc/{one}/{file}").read_bytes())
        for links in ("ns", "fd"):
            (folder / links).mkdir()
            for link in os.listdir(f"/proc/{one}/{links}"):
                with contextlib.suppress(OSError):
                    (folder / links / link).symlink_to(os.readlink(f"/proc/{one}/{links}/{link}"))
    for file in ("uptime", "meminfo"):
        shutil.copyfile(f"/proc/{file}", copy / "proc" / file)
    for hierarchy in Path("/sys/fs/cgroup").iterdir():
        (copy / "sys/fs/cgroup" / hierarchy.name).mkdir(parents=True)
    trace, output = traced(tmp_path / "trace", f"{ENTERING},socket", "--root", str(copy), "net", "--json")
    found = by_inode(json.loads(output))[inode_of(pid)]
    live = by_inode(ask("net"))[inode_of(pid)]

    assert "setns(" not in trace
    assert "AF_NETLINK" not in trace
    assert found["listening"] == live["listening"]
    assert found["interfaces"] == [{**one, "link": None} for one in live["interfaces"]]


def test_an_ordinary_user_sees_where_and_not_who(started: Containers, run: Run):
    """Sockets and counters are anybody's to read; who holds them and where links lead is not, and is said so."""
    driver = (str(HERE / "as_nobody.py"),)
    answer, text = run("net", "--json", module=driver), run("net", module=driver)
    assert (answer.returncode, text.returncode) == (0, 0), answer.stderr + text.stderr
    assert b"Traceback" not in answer.stderr + text.stderr + text.stdout
    document = json.loads(answer.stdout)
    mine = started.id("sock-own")
    (own,) = [one for one in document["networks"] if one["containers"] == [mine]]

    assert listed_by_us(own) == listed_by_ss(started.pid("sock-own"))
    assert [one["pids"] for one in own["listening"] if one["pids"] is not None] == []
    assert [one["link"] for one in own["interfaces"] if one["link"] is not None] == []
    assert own["inode"] is None
    denied = [one for one in document["issues"] if one["kind"] == "denied"]
    assert any(started.pid("sock-own") in one["pids"] and one["path"].endswith("/fd") for one in denied)
    page = run("show", mine[:12], module=driver)
    assert page.returncode == 0, page.stderr
    assert "tcp [::]:84 on EVERY ADDRESS · " in page.stdout.decode()
    assert "nobody we may see" in page.stdout.decode() or mine[:12] in page.stdout.decode()


def test_whom_an_ordinary_user_may_not_ask_may_be_the_holder(started: Containers, run: Run):
    """It is in the host's network itself, where it may ask itself alone: not finding a holder is not there being
    none."""
    document = json.loads(run("net", "--json", module=(str(HERE / "as_nobody.py"),)).stdout)
    seen = [
        its
        for one in document["networks"]
        for its in one["listening"]
        if (its["address"], its["port"]) == ("127.0.0.1", int(TCP))
    ]
    assert seen
    assert [(one["pids"], one["containers"]) for one in seen] == [(None, None)] * len(seen)
