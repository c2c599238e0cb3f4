"""Which processes make a container, and which of them is its init."""

from __future__ import annotations

import pytest

from nsinspect.grouping import group, own_cgroups
from nsinspect.hierarchies import Hierarchy
from nsinspect.namespaces import UNKNOWN
from nsinspect.procfs import CgroupLine, Ids, Status, parse_cgroup
from nsinspect.runtimes import recognise
from nsinspect.snapshot import Process

A, B = "a" * 64, "b" * 64
V2 = Hierarchy(2, (), "/sys/fs/cgroup", b"/")


def process(pid: int, cgroup: str, *nspid: int, started: int | None = None) -> Process:
    """A process in a v2 cgroup (or with whole lines), with its pids from the outermost namespace in."""
    lines = parse_cgroup((cgroup if ":" in cgroup else f"0::{cgroup}").encode())
    return with_lines(pid, lines, *nspid, started=started)


def with_lines(pid: int, lines: tuple[CgroupLine, ...], *nspid: int, started: int | None = None) -> Process:
    """The same, with lines that were parsed already."""
    root = Ids(0, 0, 0, 0)
    sets = dict.fromkeys(("cap_inh", "cap_prm", "cap_eff", "cap_bnd"), 0)
    rest = dict.fromkeys(("cap_amb", "no_new_privs", "seccomp", "seccomp_filters"))
    return Process(
        pid=pid,
        ppid=1,
        starttime=pid if started is None else started,
        comm=b"x",
        state="S",
        cgroup=lines,
        namespaces=UNKNOWN,
        status=Status(uid=root, gid=root, nspid=nspid, **sets, **rest) if nspid else None,
    )


@pytest.mark.parametrize(
    ("path", "runtime", "found"),
    [
        pytest.param(f"/docker/{A}", "docker", f"/docker/{A}", id="docker, cgroupfs driver"),
        pytest.param(
            f"/system.slice/docker-{A}.scope", "docker", f"/system.slice/docker-{A}.scope", id="docker, systemd driver"
        ),
        pytest.param(f"/docker/{A}/init.scope", "docker", f"/docker/{A}", id="systemd inside docker"),
        pytest.param(f"/docker/{A}/docker/{B}", "docker", f"/docker/{A}", id="docker inside docker"),
        pytest.param(
            f"/wsl-user/distro-1/docker/{A}", "docker", f"/wsl-user/distro-1/docker/{A}", id="docker below another root"
        ),
        pytest.param(
            f"/machine.slice/libpod-{A}.scope", "podman", f"/machine.slice/libpod-{A}.scope", id="podman, systemd"
        ),
        pytest.param(
            f"/machine.slice/libpod-{A}.scope/container",
            "podman",
            f"/machine.slice/libpod-{A}.scope",
            id="podman, crun's container cgroup",
        ),
        pytest.param(f"/libpod_parent/libpod-{A}", "podman", f"/libpod_parent/libpod-{A}", id="podman, cgroupfs"),
        pytest.param(
            f"/system.slice/web.service/libpod-payload-{A}",
            "podman",
            f"/system.slice/web.service/libpod-payload-{A}",
            id="Quadlet",
        ),
    ],
)
def test_engines_are_recognised_by_how_they_name_cgroups(path: str, runtime: str, found: str) -> None:
    """The outermost name counts; what lies below it the container may have named itself."""
    match = recognise(path.encode())[0]
    assert (runtime, A, found.encode()) == (match.runtime, match.id, match.path)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/init.scope",
        "/docker",
        "/system.slice/docker.service",
        f"/docker/{A[1:]}",
        f"/docker/{A.upper()}",
        f"/docker/{A}x",
        f"/system.slice/docker-{A}.scope.d",
        f"/machine.slice/libpod-conmon-{A}.scope",
        f"/machine.slice/libpod-conmon-{A}.scope/docker/{B}",
        f"/libpod_parent/libpod-conmon-{A}",
        f"/docker/{A} (deleted)",
    ],
)
def test_the_host_and_the_engines_helpers_are_no_containers(path: str) -> None:
    """A name that only resembles one, a service, and conmon are left alone."""
    assert recognise(path.encode()) == ()


def test_members_are_all_processes_of_the_subtree() -> None:
    """Limits sit on the named cgroup, processes may sit in cgroups below it."""
    scope = f"/machine.slice/libpod-{A}.scope"
    processes = [
        process(1, "/init.scope"),
        process(9, f"/machine.slice/libpod-conmon-{A}.scope"),
        process(30, f"{scope}/container/deep", 30, 21),
        process(10, f"{scope}/container", 10, 1),
        process(20, f"{scope}/container/init.scope", 20, 11),
        process(40, f"/docker/{B}", 40, 1),
        process(50, f"/docker/{B}/x", 50, 2),
    ]
    expected = [(A, (10, 20, 30), 10), (B, (40, 50), 40)]
    assert expected == [(g.match.id, tuple(p.pid for p in g.processes), g.init.pid) for g in group(processes).groups]


@pytest.mark.parametrize("lines", ["0::{}", "5:memory:{0}\n1:name=systemd:{0}\n0::/"], ids=["v2", "v1"])
@pytest.mark.parametrize(
    "path",
    [f"/docker/{A}", f"/system.slice/docker-{A}.scope", f"/machine.slice/libpod-{A}.scope", f"/x/libpod-payload-{A}"],
    ids=["docker, cgroupfs", "docker, systemd", "podman, systemd", "Quadlet"],
)
def test_processes_in_the_named_cgroup_and_in_one_below_are_one_container(path: str, lines: str) -> None:
    """crun's exec may land on the scope, and a process may call any cgroup below its own ``container``."""
    here = process(10, lines.format(path), 10, 1)
    below = process(20, lines.format(f"{path}/container"), 20, 2)
    deeper = process(30, lines.format(f"{path}/container/x"), 30, 3)
    for order in ((here, below, deeper), (deeper, below, here)):
        (one,) = group(order).groups
        assert (one.match.id, one.match.path, one.init) == (A, path.encode(), here)
        assert [member.pid for member in one.processes] == [10, 20, 30]


@pytest.mark.parametrize(
    ("members", "init"),
    [
        pytest.param([(12, (12, 1), 5), (11, (11, 7), 4), (13, (13, 8), 3)], 12, id="PID 1 inside, though not oldest"),
        pytest.param([(12, (12,), 5), (11, (11,), 9), (13, (13,), 3)], 13, id="--pid=host, the oldest"),
        pytest.param([(12, (12,), 3), (11, (11,), 3)], 11, id="--pid=host, equally old"),
        pytest.param([(12, (12, 5, 1), 2), (11, (11, 1), 3)], 11, id="a pid namespace made inside is deeper"),
        pytest.param([(12, (12, 1), 9), (11, (11, 1), 3)], 11, id="two PID 1 of equal depth, the oldest"),
        pytest.param([(12, (), 9), (11, (), 3)], 11, id="status unreadable, the oldest"),
        pytest.param([(11, (), 3), (12, (12, 1), 9)], 12, id="one status unreadable"),
        pytest.param([(11, (), 3), (12, (12,), 9)], 11, id="--pid=host, status of the oldest unreadable"),
        pytest.param([(11, (), 9), (12, (12,), 3)], 12, id="--pid=host, status of another unreadable"),
        pytest.param([(1, (1,), 0), (12, (12,), 9)], 1, id="the host's own PID 1 is no PID 1 inside"),
    ],
)
def test_init_is_pid_1_inside_or_else_the_oldest(members: list[tuple[int, tuple[int, ...], int]], init: int) -> None:
    """Whatever order the processes are met in."""
    processes = [process(pid, f"/docker/{A}", *nspid, started=started) for pid, nspid, started in members]
    for order in (processes, processes[::-1]):
        (found,) = group(order).groups
        assert init == found.init.pid


def test_containers_are_in_the_order_their_inits_started() -> None:
    """Oldest first, equally old by pid."""
    processes = [
        process(10, f"/docker/{B}", started=7),
        process(11, f"/docker/{A}", started=7),
        process(12, f"/docker/{'c' * 64}", started=3),
    ]
    assert [g.match.id[0] for g in group(processes).groups] == ["c", "b", "a"]


def test_nobody_is_grouped_without_a_cgroup() -> None:
    """A process whose cgroup file could not be read belongs to no container."""
    assert group([with_lines(10, ()), process(11, "/")]).groups == ()


HYBRID = f"4:memory:/docker/{A}/sub\n3:cpu:/docker/{A}\n2:cpuset:/other/{A}\n1:name=systemd:/docker/{B}\n0::/"


def test_on_a_hybrid_host_memory_names_the_container_where_v2_does_not() -> None:
    """The v2 path is trusted first, then v1's memory, then any other."""
    (by_memory,) = group([process(10, HYBRID)]).groups
    assert (by_memory.match.id, by_memory.match.path) == (A, f"/docker/{A}".encode())
    (by_v2,) = group([process(10, HYBRID + f"docker/{B}")]).groups
    assert by_v2.match.id == B
    (by_any,) = group([process(10, f"4:memory:/\n3:cpu:/docker/{A}\n0::/")]).groups
    assert by_any.match.id == A


@pytest.mark.parametrize(
    ("controllers", "expected"),
    [
        pytest.param(("memory",), (f"/docker/{A}",), id="at the component that names it"),
        pytest.param(("cpuset",), (f"/other/{A}",), id="where init is, if nothing names it"),
        pytest.param(("pids",), (), id="not in this hierarchy"),
    ],
)
def test_a_container_has_a_place_in_each_hierarchy(controllers: tuple[str, ...], expected: tuple[str, ...]) -> None:
    """v1 may keep it in different places for different controllers."""
    (one,) = group([process(10, HYBRID)]).groups
    ((found, _),) = own_cgroups(one, [Hierarchy(1, controllers, "", b"/")])
    assert expected == tuple(path.decode() for path in found)


def test_the_root_of_a_hierarchy_is_no_containers_own():
    """What it uses is what the whole host uses; an init is put into one hierarchy after another."""
    (one,) = group([process(10, f"5:cpuacct:/\n4:memory:/docker/{A}\n0::/")]).groups
    assert own_cgroups(one, [Hierarchy(1, ("cpuacct",), "", b"/")]) == [((), (b"/",))]


@pytest.mark.parametrize(
    ("below", "levels"),
    [("", [""]), ("/container", ["/container", ""]), ("/init.scope", [""]), ("/container/deep", ["/container", ""])],
)
def test_the_limits_of_a_podman_container_may_be_above_its_processes(below: str, levels: list[str]) -> None:
    """crun puts processes into ``container``, and limits there or onto the scope; both are the container's own."""
    scope = f"/machine.slice/libpod-{A}.scope"
    (one,) = group([process(10, scope + below, 10, 1)]).groups
    ((own, _),) = own_cgroups(one, [V2])
    assert tuple((scope + level).encode() for level in levels) == own


def test_a_container_inside_one_with_the_hosts_pids_is_one() -> None:
    """``docker run --pid=host`` of Docker itself: PID 1 of what is inside is not the init of what is around it."""
    outer, inner = f"/docker/{A}", f"/docker/{A}/docker/{B}"
    around = UNKNOWN._replace(pid=1, mnt=2)
    processes = [
        process(10, outer, 10)._replace(namespaces=around),
        process(20, inner, 20, 1)._replace(namespaces=UNKNOWN._replace(pid=3, mnt=4)),
        process(30, f"{outer}/docker/{'c' * 64}", 30)._replace(namespaces=around),
    ]
    found = group(processes)
    assert {one.match.id: (one.init.pid, [p.pid for p in one.own]) for one in found.groups} == {
        A: (10, [10, 30]),
        B: (20, [20]),
    }
    assert [pids for _, pids in found.spoofed] == [(30,)]
