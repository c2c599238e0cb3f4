"""Who stands out: each kind and rule on a small host of its own, what is no finding, and what a reader gets to see."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect.capabilities import OLDEST_FULL_SET, mask_of, names
from nsinspect.declarations import Declaration, Wanted
from nsinspect.findings import KINDS, SEVERITIES, TECHNIQUES, Finding
from nsinspect.hierarchies import Hierarchy
from nsinspect.model import Model, build
from nsinspect.namespaces import TYPES, UNKNOWN, Namespaces
from nsinspect.procfs import IdMapLine, Ids, Status, parse_cgroup
from nsinspect.scrutiny import findings
from nsinspect.snapshot import Confinement, HostFacts, Member, Process, Snapshot, Thread
from nsinspect.views import document, report
from tests.work import lines_run

SCHEMA = Path(__file__).parent.parent / "nsinspect/schema.json"
A, B = "a" * 64, "b" * 64
V2 = Hierarchy(2, (), "/sys/fs/cgroup", b"/")
UPTIME = 1000.0

HOST = Namespaces(*range(1, 9))
"""Inodes of a type are the same number in every hundred: net is 4, 104, 204."""
IN_A, IN_B, NEW = (
    Namespaces(**{kind: at + inode for kind, inode in HOST._asdict().items()})._replace(cgroup=1, time=6, user=7)
    for at in (100, 200, 900)
)
"""The containers' as engines make them, and some that nobody else is in."""

DEFAULT = mask_of(["CHOWN", "KILL", "SETUID", "NET_BIND_SERVICE"])
ADMIN = mask_of(["SYS_ADMIN"])
SHIM, INIT, OTHER_INIT, INTRUDER = 5, 10, 20, 30
HOSTILE = b"\x1b[2J\xff\n\xe2\x80\xae"

ALL_KINDS = (
    "host_namespaces",
    "other_namespaces",
    "user_namespace",
    "joined",
    "entered",
    "more_power",
    "root",
    "thread",
    "memfd_executable",
    "deleted_executable",
    "kernel_thread_name",
)

ROOT_IDS = Ids(0, 0, 0, 0)
CONFINED = Status(
    nspid=None,
    uid=ROOT_IDS,
    gid=ROOT_IDS,
    cap_inh=0,
    cap_prm=DEFAULT,
    cap_eff=DEFAULT,
    cap_bnd=DEFAULT,
    cap_amb=0,
    no_new_privs=False,
    seccomp=2,
    seccomp_filters=1,
)
FREE = CONFINED._replace(
    cap_prm=OLDEST_FULL_SET, cap_eff=OLDEST_FULL_SET, cap_bnd=OLDEST_FULL_SET, seccomp=0, seccomp_filters=0
)


def process(
    pid: int,
    ppid: int,
    cgroup: str,
    namespaces: Namespaces,
    *,
    comm: bytes = b"sleep",
    state: str = "S",
    started: float = 1.0,
    status: Status | None = CONFINED,
    **changes: Any,
) -> Process:
    """A process; ``started`` is in seconds since boot, ``changes`` are to its status."""
    return Process(
        pid=pid,
        ppid=ppid,
        starttime=int(started * 100),
        comm=comm,
        state=state,
        cgroup=parse_cgroup(f"0::{cgroup}".encode()),
        namespaces=namespaces,
        status=status and status._replace(**changes),
    )


def on_host(pid: int, ppid: int = 1, **changes: Any) -> Process:
    """A process of no container."""
    return process(
        pid, ppid, "/system.slice/x.service", **{"namespaces": HOST, "comm": b"bash", "status": FREE, **changes}
    )


def in_a(pid: int, ppid: int = INIT, **changes: Any) -> Process:
    """A process of the first container, below its init."""
    return process(pid, ppid, f"/docker/{A}", **{"namespaces": IN_A, **changes})


def in_b(pid: int, ppid: int = OTHER_INIT, **changes: Any) -> Process:
    """One of the second."""
    return process(pid, ppid, f"/docker/{B}", **{"namespaces": IN_B, **changes})


def init_a(**changes: Any) -> Process:
    """The first container's init."""
    return in_a(INIT, **{"ppid": SHIM, "nspid": (INIT, 1), "started": 0.5, **changes})


def init_b(**changes: Any) -> Process:
    """The second's, which is younger."""
    return in_b(OTHER_INIT, **{"ppid": SHIM, "nspid": (OTHER_INIT, 1), "started": 0.6, **changes})


def host(
    *processes: Process, host_namespaces: Namespaces = HOST, uptime: float | None = UPTIME, **more: Any
) -> Snapshot:
    """A host with its PID 1, an engine's shim, two containers, and ``processes``, which replace those by their pids."""
    usual = (
        on_host(1, 0, comm=b"systemd"),
        on_host(2, 0, comm=b"kthreadd"),
        on_host(SHIM, comm=b"containerd-shim"),
        init_a(),
        init_b(),
    )
    everybody = {one.pid: one for one in (*usual, *processes)}
    facts = HostFacts(
        hostname="h",
        boot_id="b",
        kernel="6.1",
        cpus_online=(0,),
        memory_bytes=1 << 30,
        cap_last_cap=40,
        boot_time=1.7e9,
        uptime=uptime,
        namespaces=host_namespaces,
        capabilities=OLDEST_FULL_SET,
    )
    return Snapshot(
        captured_at=1.7e9 + UPTIME,
        host=facts,
        hierarchies=(V2,),
        processes=tuple(everybody[pid] for pid in sorted(everybody)),
        **{"confinements": {}, "cgroups": {}, "claims": (), "declarations": {}, **more},
    )


def found(*processes: Process, **more: Any) -> tuple[Finding, ...]:
    """What stands out on such a host."""
    snapshot = host(*processes, **more)
    return findings(snapshot, build(snapshot))


def kinds(*processes: Process, **more: Any) -> list[tuple[str, str, str | None]]:
    """Kind, severity and technique of each."""
    return [(one.kind, one.severity, one.technique) for one in found(*processes, **more)]


def the(*processes: Process, **more: Any) -> Finding:
    """The only one."""
    (one,) = found(*processes, **more)
    return one


def member(executable: bytes | None = b"/bin/sleep", label: bytes | None = None, *, known: bool = True) -> Member:
    """A closer look at a process."""
    return Member(executable, label, known)


def confinement(label: bytes | None = None, *, known: bool = True, root: int | None = None) -> Confinement:
    """A closer look at an init; ``root`` is the uid outside of root inside."""
    lines = None if root is None else (IdMapLine(0, root, 65536),)
    return Confinement(None, lines, lines, label, known)


def declared(container: str = A, **wanted: Any) -> dict[str, Any]:
    """What its engine's state files say of a container."""
    return {"declarations": {("docker", container): Declaration(source="/x/config.json", wanted=Wanted(**wanted))}}


def names_of(words: str, mask: int) -> str:
    """Capabilities in a line of evidence."""
    return f"{words}: {' '.join(names(mask))}"


def thread(tid: int, *, namespaces: Namespaces = IN_A, comm: bytes = b"worker", **changes: Any) -> Thread:
    """A thread like the processes of the first container, but for ``changes`` to its status."""
    state, label = changes.pop("state", "S"), changes.pop("label", None)
    status = changes.pop("status", CONFINED)
    return Thread(tid, comm, state, status and status._replace(**changes), namespaces, label, True)


# -- nothing ---------------------------------------------------------------------------------------------------------


def test_a_usual_host_has_no_findings():
    children = (in_a(11), in_a(12, 11), in_b(21), on_host(40), on_host(41, 2, comm=b"kworker/0:1"))
    looked = {one.pid: member() for one in children}
    assert found(*children, members=looked, threads={11: (thread(111),)}) == ()


def test_every_kind_and_technique_has_words():
    assert set(KINDS) == {*ALL_KINDS}
    assert all(one.technique is None or one.technique in TECHNIQUES for one in everything())
    assert {one.kind for one in everything()} == set(KINDS)


def test_isolates_are_no_containers_to_be_unlike():
    """With --all they are in the model; what is in one stands out in none."""
    apart = on_host(50, namespaces=NEW, comm=b"[kworker/0:1]")
    snapshot = host(apart, members={50: member(b"/memfd:x")})
    model = build(snapshot, isolates=True)
    assert "isolate" in {one.kind for one in model.containers}
    assert findings(snapshot, model) == ()


# -- programs --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("executable", "kind", "severity", "technique"),
    [
        (b"/memfd:x (deleted)", "memfd_executable", "high", "T1620"),
        (b"/memfd:", "memfd_executable", "high", "T1620"),
        (b"/memfd:runc_cloned:/proc/self/exe (deleted)", "memfd_executable", "low", "T1620"),
        (b"/tmp/x (deleted)", "deleted_executable", "low", "T1070.004"),
    ],
)
@pytest.mark.parametrize("pid", [INIT, 11])
def test_a_program_that_no_file_holds(pid: int, executable: bytes, kind: str, severity: str, technique: str):
    """Of init too."""
    one = the(in_a(11), members={pid: member(executable)})
    assert (one.kind, one.severity, one.technique) == (kind, severity, technique)
    assert (one.container, one.pid, one.tid, one.pids, one.comm) == (A, pid, pid, (pid,), b"sleep")
    assert one.evidence == ((f"/proc/{pid}/exe", executable),)


@pytest.mark.parametrize("executable", [None, b"/bin/sleep", b"/srv/memfd:x", b"/x (deleted)y"])
def test_a_program_in_a_file_or_unknown_is_no_finding(executable: bytes | None):
    assert found(in_a(11), members={11: member(executable)}) == ()


def test_a_program_of_the_host_is_no_containers():
    assert found(on_host(40), members={40: member(b"/memfd:x")}) == ()


@pytest.mark.parametrize(
    "comm",
    [
        b"[kworker/0:1]",
        b"[]",
        b"kthreadd",
        b"kworker/u8:2-ev",
        b"kswapd0",
        b"ksoftirqd/1",
        b"migration/0",
        b"rcu_preempt",
        b"jbd2/sda1-8",
        b"scsi_eh_0",
        b"irq/9-acpi",
        b"oom_reaper",
    ],
)
def test_a_name_of_a_kernel_thread(comm: bytes):
    one = the(in_a(11, comm=comm), members={11: member(b"/tmp/miner")})
    assert (one.kind, one.severity, one.technique) == ("kernel_thread_name", "medium", "T1036.005")
    assert one.evidence == (("/proc/11/stat", b"comm " + comm), ("/proc/11/exe", b"/tmp/miner"))


def test_a_name_of_a_kernel_thread_is_told_without_its_program_too():
    assert the(in_a(11, comm=b"kthreadd")).evidence == (("/proc/11/stat", b"comm kthreadd"),)


@pytest.mark.parametrize("comm", [b"kworker", b"[x", b"x]", b"mykthreadd", b"kswapd", b"kthreadd2", b"irqbalance", b""])
def test_names_that_only_resemble_a_kernel_thread(comm: bytes):
    assert found(in_a(11, comm=comm)) == ()


# -- namespaces ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "severity"),
    [
        ("mnt", "critical"),
        ("pid", "critical"),
        ("user", "critical"),
        ("net", "high"),
        ("ipc", "high"),
        ("uts", "high"),
        ("cgroup", "high"),
        ("time", "high"),
    ],
)
def test_the_hosts_namespaces_where_init_has_others(kind: str, severity: str):
    all_own = Namespaces(*range(101, 109))
    intruder = in_a(11, namespaces=all_own._replace(**{kind: getattr(HOST, kind)}))
    one = the(init_a(namespaces=all_own), intruder)
    assert (one.kind, one.severity, one.technique) == ("host_namespaces", severity, "T1611")
    ((file, says),) = one.evidence
    assert file == f"/proc/11/ns/{kind}"
    assert f"{kind}:[{getattr(HOST, kind)}], the host's; {INIT} has {kind}:[{getattr(all_own, kind)}]" == says


def test_every_namespace_of_the_host_is_evidence():
    one = the(in_a(11, namespaces=HOST))
    assert [file for file, _ in one.evidence] == [f"/proc/11/ns/{kind}" for kind in ("ipc", "mnt", "net", "pid", "uts")]


def test_a_container_in_the_hosts_namespaces_is_not_unlike_itself():
    assert found(init_a(namespaces=HOST), in_a(11, namespaces=HOST)) == ()


def test_other_namespaces_than_inits():
    one = the(in_a(11, namespaces=IN_A._replace(net=NEW.net)))
    assert (one.kind, one.severity, one.technique) == ("other_namespaces", "medium", None)
    assert one.evidence == (("/proc/11/ns/net", f"net:[{NEW.net}]; {INIT} has net:[{IN_A.net}]"),)


def test_namespaces_of_another_container_are_an_escape():
    one = the(in_a(11, namespaces=IN_A._replace(mnt=IN_B.mnt)))
    assert (one.kind, one.severity, one.technique) == ("other_namespaces", "medium", "T1611")


def test_a_user_namespace_made_inside():
    one = the(in_a(11, namespaces=IN_A._replace(user=907, net=904), status=FREE))
    assert (one.kind, one.severity, one.technique) == ("user_namespace", "medium", "T1068")
    assert {file for file, _ in one.evidence} == {"/proc/11/ns/user", "/proc/11/ns/net"}


def test_what_is_the_hosts_and_what_is_another_are_two_findings():
    mixed = IN_A._replace(net=HOST.net, mnt=NEW.mnt)
    assert kinds(in_a(11, namespaces=mixed)) == [
        ("host_namespaces", "high", "T1611"),
        ("other_namespaces", "medium", None),
    ]


@pytest.mark.parametrize("kind", TYPES)
def test_an_unknown_namespace_is_no_finding(kind: str):
    """Of the process, and of init."""
    assert found(in_a(11, namespaces=IN_A._replace(**{kind: None}))) == ()
    assert found(init_a(namespaces=IN_A._replace(**{kind: None})), in_a(11)) == ()


def test_unknown_namespaces_of_all_are_no_finding():
    assert found(in_a(11, namespaces=UNKNOWN), on_host(40, namespaces=UNKNOWN)) == ()
    assert found(init_a(namespaces=UNKNOWN), in_a(11), on_host(40, namespaces=IN_A)) == ()
    assert found(in_a(11), on_host(40), host_namespaces=UNKNOWN) == ()


def service(pid: int, **changes: Any) -> Process:
    """A service of a systemd that is init, with PrivateTmp=."""
    return process(pid, INIT, f"/docker/{A}/system.slice/x.service", IN_A._replace(mnt=NEW.mnt), **changes)


def test_services_of_a_systemd_that_is_init_may_have_namespaces_of_their_own():
    assert found(init_a(comm=b"systemd"), service(11)) == ()


def test_only_systemd_that_is_init_has_services():
    """Not any init, and not what stays in init's own cgroup, or takes the host's namespaces."""
    assert [kind for kind, *_ in kinds(init_a(comm=b"tini"), service(11))] == ["other_namespaces"]
    systemd = init_a(comm=b"systemd")
    assert [kind for kind, *_ in kinds(systemd, in_a(11, namespaces=IN_A._replace(mnt=NEW.mnt)))] == [
        "other_namespaces"
    ]
    escaped = service(11)._replace(namespaces=IN_A._replace(mnt=HOST.mnt))
    assert [kind for kind, *_ in kinds(systemd, escaped)] == ["host_namespaces"]
    private_users = service(11)._replace(namespaces=IN_A._replace(user=NEW.user + 900))
    assert found(systemd, private_users) == ()
    assert [kind for kind, *_ in kinds(init_a(comm=b"tini"), private_users)] == ["user_namespace"]


def test_an_engines_supervisor_in_the_containers_cgroup_is_no_finding():
    """LXC's monitor and nspawn's are ancestors of init, in the host's namespaces, with all power."""
    supervisor = in_a(9, 1, namespaces=HOST, status=FREE, comm=b"lxc-start", started=0.9)
    assert found(supervisor, init_a(ppid=9)) == ()
    assert [one.pid for one in found(supervisor._replace(pid=8), supervisor, init_a(ppid=9))] == [8, 8]


# -- started or joined from outside ----------------------------------------------------------------------------------


def test_a_process_started_from_outside_by_no_engine():
    one = the(in_a(11, ppid=40), on_host(40))
    assert (one.kind, one.severity, one.technique) == ("entered", "medium", "T1609")
    assert one.evidence == (("/proc/11/stat", b"parent 40 bash, outside the container's pid namespace"),)


@pytest.mark.parametrize("comm", [b"containerd-shim", b"docker-containe", b"runc", b"crun", b"conmon", b"lxc-attach"])
def test_an_engine_may_start_processes_inside(comm: bytes):
    assert found(in_a(11, ppid=40), on_host(40, comm=comm)) == ()


def test_whoever_started_init_may_start_more():
    assert found(on_host(40, comm=b"my-runtime"), init_a(ppid=40), in_a(11, ppid=40)) == ()


def test_an_engines_name_inside_another_container_is_no_engine():
    assert kinds(in_b(21, comm=b"runc"), in_a(11, ppid=21)) == [("entered", "medium", "T1609")]


def test_a_child_of_what_entered_was_started_inside():
    assert [one.pid for one in found(in_a(11, ppid=40), in_a(12, ppid=11), on_host(40))] == [11]


@pytest.mark.parametrize(
    ("child", "parent"),
    [
        pytest.param(in_a(11, ppid=99), on_host(40), id="a parent that is gone"),
        pytest.param(in_a(11, ppid=40), on_host(40, namespaces=UNKNOWN), id="a parent of which nothing is known"),
        pytest.param(in_a(11, ppid=40, namespaces=UNKNOWN), on_host(40), id="of which nothing is known"),
    ],
)
def test_where_a_process_comes_from_may_be_unknown(child: Process, parent: Process):
    assert found(child, parent) == ()


def test_where_everything_is_unknown_nobody_comes_from_outside():
    unknown = {"namespaces": IN_A._replace(pid=None)}
    assert found(init_a(**unknown), in_a(11, ppid=40, **unknown), on_host(40)) == ()


def test_who_is_in_the_containers_cgroup_or_pid_namespace_already_is_not_outside():
    """Another finding is about the parent; what it starts is no second one."""
    assert [(one.kind, one.pid) for one in found(in_a(11, namespaces=HOST), in_a(12, 11))] == [("host_namespaces", 11)]
    joined = on_host(40, namespaces=HOST._replace(pid=IN_A.pid))
    assert [(one.kind, one.pid) for one in found(joined, in_a(11, ppid=40))] == [("joined", 40)]


def test_where_the_pid_namespace_is_the_hosts_nobody_comes_from_outside():
    shared = IN_A._replace(pid=HOST.pid)
    assert found(init_a(namespaces=shared), in_a(11, ppid=40, namespaces=shared), on_host(40)) == ()


def test_who_joined_from_outside():
    one = the(on_host(40, namespaces=HOST._replace(net=IN_A.net, mnt=IN_A.mnt)))
    assert (one.kind, one.severity, one.technique, one.container) == ("joined", "medium", "T1609", A)
    assert one.evidence == (
        ("/proc/40/cgroup", b"/system.slice/x.service"),
        ("/proc/40/ns/mnt", f"mnt:[{IN_A.mnt}], the container's"),
        ("/proc/40/ns/net", f"net:[{IN_A.net}], the container's"),
    )


def test_who_joined_two_containers_is_found_in_both():
    both = HOST._replace(net=IN_A.net, mnt=IN_B.mnt)
    assert [(one.kind, one.container) for one in found(on_host(40, namespaces=both))] == [("joined", A), ("joined", B)]


def test_who_joined_and_whose_cgroup_is_unknown():
    intruder = on_host(40, namespaces=IN_A)._replace(cgroup=())
    assert the(intruder).evidence[0] == ("/proc/40/cgroup", b"?")


@pytest.mark.parametrize("comm", [b"rootlessport", b"rootlessport-c", b"slirp4netns", b"pasta", b"pasta.avx2"])
def test_forwarders_of_rootless_engines_are_in_the_network_alone(comm: bytes):
    assert found(on_host(40, comm=comm, namespaces=HOST._replace(net=IN_A.net))) == ()
    assert [kind for kind, *_ in kinds(on_host(40, comm=comm, namespaces=IN_A))] == ["joined"]


def test_engines_in_a_user_namespace_that_they_share_with_their_containers():
    """Rootless podman: conmon and slirp4netns are in the user namespace and the mount namespace of init's parent."""
    rootless = HOST._replace(user=700, mnt=703)
    inside = IN_A._replace(user=700)
    conmon = on_host(40, comm=b"conmon", namespaces=rootless)
    helper = on_host(41, comm=b"slirp4netns", namespaces=rootless)
    stranger = on_host(42, comm=b"bash", namespaces=rootless)
    init = init_a(ppid=40, namespaces=inside)
    assert found(conmon, helper, stranger, init, in_a(11, namespaces=inside), in_a(12, 40, namespaces=inside)) == ()


def test_the_ancestors_of_init_may_be_in_its_namespaces():
    """An engine that makes the namespaces, goes in and forks init there."""
    made = HOST._replace(net=IN_A.net)
    assert found(on_host(40), on_host(41, 40, namespaces=made), init_a(ppid=41)) == ()
    assert found(on_host(40, namespaces=made), on_host(41, 40), init_a(ppid=41)) == ()


def test_containers_of_a_pod_share_namespaces():
    """Whoever was first has them; who is in any container has not joined from outside."""
    pod = IN_B._replace(net=IN_A.net, ipc=IN_A.ipc, uts=IN_A.uts)
    assert found(init_b(namespaces=pod), in_b(21, namespaces=pod), in_a(11)) == ()
    one = the(init_b(namespaces=pod), on_host(40, namespaces=HOST._replace(net=IN_A.net)))
    assert (one.kind, one.container) == ("joined", A)


def test_namespaces_of_the_host_are_nobodys_to_join():
    """Also where the engine itself is apart from the host."""
    shim = on_host(SHIM, comm=b"containerd-shim", namespaces=HOST._replace(net=500))
    assert found(init_a(namespaces=IN_A._replace(net=HOST.net)), on_host(40)) == ()
    assert found(shim, init_a(namespaces=IN_A._replace(net=HOST.net)), on_host(40)) == ()


# -- power -----------------------------------------------------------------------------------------------------------

NOT_ROOT: dict[str, Any] = {"uid": Ids(1000, 1000, 1000, 1000), "cap_prm": 0, "cap_eff": 0}


def test_what_init_could_never_gain():
    one = the(in_a(11, cap_eff=DEFAULT | ADMIN, cap_prm=DEFAULT | ADMIN))
    assert (one.kind, one.severity, one.technique) == ("more_power", "high", "T1068")
    assert one.evidence == (("/proc/11/status", "what init could never gain: CAP_SYS_ADMIN"),)


def test_what_it_could_gain_counts_too():
    one = the(in_a(11, cap_bnd=DEFAULT | ADMIN))
    assert (one.kind, one.severity, one.technique) == ("more_power", "high", "T1068")


def test_an_engines_exec_with_more_is_an_administrators():
    """``docker exec --privileged``."""
    one = the(in_a(11, ppid=SHIM, cap_eff=ADMIN, cap_prm=ADMIN))
    assert (one.kind, one.severity, one.technique) == ("more_power", "high", "T1609")


def test_what_init_laid_down_and_could_have_kept():
    """Within the bounding set: a setuid program's gain; an engine's exec has what the container was given."""
    poor = init_a(cap_eff=0, cap_prm=0)
    one = the(poor, in_a(11))
    assert (one.kind, one.severity, one.technique) == ("more_power", "medium", "T1068")
    assert one.evidence == (("/proc/11/status", names_of("init has not", DEFAULT)),)
    assert found(poor, in_a(11, ppid=SHIM)) == ()


def test_permitted_counts_as_well_as_effective():
    assert found(init_a(cap_eff=0), in_a(11)) == ()
    assert [kind for kind, *_ in kinds(init_a(cap_eff=0, cap_prm=0), in_a(11, cap_eff=0))] == ["more_power"]


def test_less_is_no_finding():
    assert found(in_a(11, **NOT_ROOT), in_a(12, cap_bnd=0, no_new_privs=True, seccomp_filters=2)) == ()


def test_root_where_init_is_not():
    init = init_a(**NOT_ROOT)
    one = the(init, in_a(11))
    assert (one.kind, one.severity, one.technique) == ("root", "medium", "T1068")
    assert one.evidence == (
        ("/proc/11/status", f"effective uid 0, which is root inside; init {INIT} has 1000"),
        ("/proc/11/status", names_of("init has not", DEFAULT)),
    )
    assert kinds(init, in_a(11, ppid=SHIM)) == [("root", "low", "T1609")]
    assert found(init, in_a(11, **NOT_ROOT)) == ()


def test_root_with_more_is_two_findings():
    """What it says of power is said once."""
    root, power = sorted(found(init_a(**NOT_ROOT), in_a(11, cap_eff=ADMIN)), key=lambda one: one.kind, reverse=True)
    assert (root.kind, power.kind) == ("root", "more_power")
    assert len(root.evidence) == len(power.evidence) == 1


def test_root_inside_is_the_uid_that_its_map_says():
    inside = IN_A._replace(user=707)
    init = init_a(namespaces=inside, uid=Ids(101000, 101000, 101000, 101000))
    mapped = in_a(11, namespaces=inside, uid=Ids(100000, 100000, 100000, 100000))
    hosts = in_a(12, namespaces=inside)
    one = the(init, mapped, hosts, confinements={INIT: confinement(root=100_000)})
    assert (one.kind, one.pid) == ("root", 11)
    assert found(init, mapped, hosts, confinements={}) == ()


def test_a_filter_that_init_has_and_an_engine_declared():
    free = in_a(11, seccomp=0, seccomp_filters=0)
    one = the(free, **declared(seccomp=True))
    assert (one.kind, one.severity, one.technique) == ("more_power", "high", "T1068")
    assert one.evidence == (("/proc/11/status", f"Seccomp: disabled; init {INIT} has a filter"),)


def test_all_that_it_can_do_more_is_told():
    """Where one file shows several things, each."""
    free = in_a(11, seccomp=0, seccomp_filters=0, cap_bnd=DEFAULT | ADMIN)
    told = {"members": {11: member(label=b"unconfined")}, "confinements": {INIT: confinement(b"x (enforce)")}}
    one = the(free, **told, **declared(seccomp=True))
    assert one.evidence == (
        ("/proc/11/status", "what init could never gain: CAP_SYS_ADMIN"),
        ("/proc/11/status", f"Seccomp: disabled; init {INIT} has a filter"),
        ("/proc/11/attr/current", "not confined by the security module; init is"),
    )


@pytest.mark.parametrize("said", [{}, declared(seccomp=False), declared(seccomp=None)])
def test_a_filter_that_init_may_have_given_itself_says_nothing_of_others(said: dict[str, Any]):
    assert found(in_a(11, seccomp=0), **said) == ()


@pytest.mark.parametrize("mode", [None, 1, 2])
def test_who_has_a_filter_or_may_have_one_is_as_confined(mode: int | None):
    assert found(in_a(11, seccomp=mode), **declared(seccomp=True)) == ()


def test_where_init_has_no_filter_nobody_lacks_one():
    assert found(init_a(seccomp=0), in_a(11, seccomp=0), **declared(seccomp=True)) == ()


def test_not_confined_by_the_security_module_and_init_is():
    confined = {INIT: confinement(b"docker-default (enforce)")}
    one = the(in_a(11), members={11: member(label=b"unconfined")}, confinements=confined)
    assert (one.kind, one.severity, one.technique) == ("more_power", "high", "T1068")
    assert one.evidence == (("/proc/11/attr/current", "not confined by the security module; init is"),)


@pytest.mark.parametrize(
    ("members", "confinements"),
    [
        ({11: member(label=b"docker-default (enforce)")}, {INIT: confinement(b"docker-default (enforce)")}),
        ({11: member(label=b"other (enforce)")}, {INIT: confinement(b"docker-default (enforce)")}),
        ({11: member(label=b"unconfined")}, {INIT: confinement(b"unconfined")}),
        ({11: member(label=None, known=False)}, {INIT: confinement(b"docker-default (enforce)")}),
        ({11: member(label=b"unconfined")}, {INIT: confinement(None, known=False)}),
        ({11: member(label=b"unconfined")}, {}),
        ({}, {INIT: confinement(b"docker-default (enforce)")}),
    ],
)
def test_a_label_like_inits_or_unknown_is_no_finding(members: Any, confinements: Any):
    assert found(in_a(11), members=members, confinements=confinements) == ()


def test_an_unknown_status_is_no_finding():
    assert found(in_a(11, status=None)) == ()
    assert found(init_a(status=None), in_a(11, status=FREE)) == ()
    assert found(in_a(11), threads={11: (thread(111, status=None),)}) == ()
    assert found(in_a(11, status=None), threads={11: (thread(111, status=FREE),)}) == ()


# -- who is judged, and when -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("age", [0.0, 0.5, 0.99, -3.0])
def test_in_its_first_second_nobody_is_judged(age: float):
    """Nor its threads, and whether in a container's cgroup or outside; its clock may be ahead of ours."""
    started = UPTIME - age
    inside = in_a(11, namespaces=HOST, status=FREE, comm=b"kthreadd", started=started)
    outside = on_host(40, namespaces=IN_A, started=started)
    told = {"members": {11: member(b"/memfd:x")}, "threads": {11: (thread(111, status=FREE),)}}
    assert found(inside, outside, **told) == ()


def test_after_its_first_second_everybody_is_judged():
    at_last = {"started": UPTIME - 1.0}
    assert [
        one.pid for one in found(in_a(11, namespaces=HOST, **at_last), on_host(40, namespaces=IN_A, **at_last))
    ] == [
        11,
        40,
    ]


def test_where_nobody_knows_the_time_everybody_is_judged():
    assert [one.pid for one in found(in_a(11, namespaces=HOST, started=UPTIME), uptime=None)] == [11]


@pytest.mark.parametrize("state", ["Z", "X"])
def test_the_dead_are_not_judged(state: str):
    dead = in_a(11, namespaces=HOST, status=FREE, comm=b"kthreadd", state=state)
    assert found(dead, on_host(40, namespaces=IN_A, state=state), members={11: member(b"/memfd:x")}) == ()


# -- threads ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "severity", "technique", "says"),
    [
        ({"cap_eff": DEFAULT | ADMIN}, "high", "T1068", "CapEff"),
        ({"cap_prm": DEFAULT | ADMIN}, "high", "T1068", "CapPrm"),
        ({"cap_eff": 0}, "low", None, "CapEff"),
        ({"cap_bnd": 0}, "low", None, "CapBnd"),
        ({"uid": Ids(5, 5, 5, 5)}, "low", None, "effective uid 5; its leader has 0"),
        ({"seccomp": 0}, "low", None, "Seccomp disabled; its leader has filter"),
        ({"seccomp_filters": 2}, "low", None, "Seccomp_filters 2; its leader has 1"),
        ({"no_new_privs": True}, "low", None, "NoNewPrivs True; its leader has False"),
    ],
)
def test_a_thread_unlike_its_process(changes: dict[str, Any], severity: str, technique: str | None, says: str):
    one = the(in_a(11), threads={11: (thread(111, **changes), thread(112))})
    assert (one.kind, one.severity, one.technique) == ("thread", severity, technique)
    assert (one.pid, one.tid, one.pids, one.comm) == (11, 111, (11,), b"worker")
    ((file, what),) = one.evidence
    assert file == "/proc/11/task/111/status"
    assert isinstance(what, str)
    assert what.startswith(says)


def test_a_thread_of_init_is_judged_too():
    assert the(threads={INIT: (thread(111, cap_eff=0),)}).pid == INIT


def test_a_thread_says_what_it_has_more_and_less():
    one = the(in_a(11), threads={11: (thread(111, cap_eff=ADMIN),)})
    ((_, what),) = one.evidence
    assert f"CapEff {ADMIN:016x}, its leader {DEFAULT:016x}: " in str(what)
    assert f"{names_of('more', ADMIN)}; {names_of('without', DEFAULT)}" in str(what)


@pytest.mark.parametrize(
    ("kind", "inode", "severity", "technique"),
    [
        ("mnt", HOST.mnt, "critical", "T1611"),
        ("net", HOST.net, "high", "T1611"),
        ("net", NEW.net, "medium", None),
        ("mnt", IN_B.mnt, "medium", None),
    ],
)
def test_a_thread_in_other_namespaces(kind: str, inode: int, severity: str, technique: str | None):
    one = the(in_a(11), threads={11: (thread(111, namespaces=IN_A._replace(**{kind: inode})),)})
    assert (one.kind, one.severity, one.technique) == ("thread", severity, technique)
    assert [file for file, _ in one.evidence] == [f"/proc/11/task/111/ns/{kind}"]


def test_a_thread_with_another_label():
    told = {"members": {11: member(label=b"a (enforce)")}, "threads": {11: (thread(111, label=b"unconfined"),)}}
    one = the(in_a(11), **told)
    assert one.evidence == (("/proc/11/task/111/attr/current", b"unconfined; its leader has a (enforce)"),)
    unknown = {**told, "members": {11: member(known=False)}}
    assert found(in_a(11), **unknown) == ()
    unlabelled = thread(111)._replace(label_known=False)
    assert found(in_a(11), members={11: member(label=b"a (enforce)")}, threads={11: (unlabelled,)}) == ()


@pytest.mark.parametrize("state", ["Z", "X"])
def test_a_thread_that_ended_is_no_finding(state: str):
    assert found(in_a(11), threads={11: (thread(111, state=state, status=FREE, namespaces=HOST),)}) == ()


def test_a_thread_of_which_nothing_is_known_is_no_finding():
    nothing = Thread(111, b"x", "S", None, UNKNOWN, None, False)
    assert found(in_a(11), threads={11: (nothing,)}) == ()


# -- merging and order -----------------------------------------------------------------------------------------------


def test_a_process_and_those_below_it_are_one_finding():
    shell, child, grandchild = (in_a(pid, ppid, namespaces=HOST) for pid, ppid in ((13, INIT), (11, 13), (12, 11)))
    apart = in_a(14, namespaces=HOST)
    first, second = found(shell, child, grandchild, apart)
    assert (first.pid, first.pids) == (13, (11, 12, 13))
    assert (second.pid, second.pids) == (14, (14,))


def test_a_container_that_calls_one_inside_it_by_anothers_id_hides_nothing_of_that():
    """Else its init, which can do everything, would be what the other's processes are compared with."""
    inside = process(31, OTHER_INIT, f"/docker/{B}/docker/{A}", namespaces=IN_B._replace(mnt=77, pid=78), status=FREE)
    alone = found(in_a(11, namespaces=HOST), in_a(12, cap_eff=ADMIN, cap_prm=ADMIN))
    assert {one.kind for one in alone} >= {"host_namespaces", "more_power"}
    assert set(alone) <= set(found(in_a(11, namespaces=HOST), in_a(12, cap_eff=ADMIN, cap_prm=ADMIN), inside))


def test_only_the_same_kind_in_the_same_container_is_merged():
    shell, child = in_a(11, namespaces=HOST), in_a(12, 11, comm=b"kthreadd", namespaces=HOST)
    assert [(one.kind, one.pids) for one in found(shell, child)] == [
        ("host_namespaces", (11, 12)),
        ("kernel_thread_name", (12,)),
    ]
    here, there = in_a(11, comm=b"kthreadd"), in_b(21, 11, comm=b"kthreadd")
    assert [(one.container, one.pids) for one in found(here, there) if one.kind == "kernel_thread_name"] == [
        (A, (11,)),
        (B, (21,)),
    ]


def test_a_gap_in_descent_is_two_findings():
    top, like_init, below = in_a(11, namespaces=HOST), in_a(12, 11), in_a(13, 12, namespaces=HOST)
    assert [one.pids for one in found(top, like_init, below) if one.kind == "host_namespaces"] == [(11,), (13,)]


def test_what_shows_only_below_is_evidence_too():
    """And what is the same of both is said once, of the one on top."""
    top, below = in_a(11, namespaces=IN_A._replace(net=HOST.net)), in_a(12, 11, namespaces=HOST)
    one = the(top, below)
    says = [file for file, _ in one.evidence]
    assert "/proc/11/ns/net" in says
    assert "/proc/12/ns/net" not in says
    assert "/proc/12/ns/mnt" in says


def test_a_merged_finding_is_as_severe_as_the_worst_of_it():
    """Somebody in the host's network, who started one who is in its mounts as well."""
    several = found(in_a(11, namespaces=IN_A._replace(net=HOST.net)), in_a(12, 11, namespaces=HOST))
    assert [one.severity for one in several if 12 in one.pids] == ["critical"]


def test_a_program_from_memory_is_not_hidden_below_runcs_own():
    """A container may name its memfd as runc does; what that starts is judged by itself."""
    programs = {11: member(b"/memfd:runc_cloned:x"), 12: member(b"/memfd:x")}
    several = found(in_a(11), in_a(12, 11), members=programs)
    assert [one.severity for one in several if 12 in one.pids] == ["high"]


def test_capabilities_beyond_inits_are_told_of_all_below():
    raw = mask_of(["NET_RAW"])
    one = the(in_a(11, cap_eff=DEFAULT | ADMIN), in_a(12, 11, cap_eff=DEFAULT | raw))
    assert (one.pids, one.gained) == ((11, 12), ADMIN | raw)
    assert the(in_a(11), threads={11: (thread(111, cap_eff=DEFAULT | raw),)}).gained == raw
    assert the(in_a(11, namespaces=HOST)).gained == 0


def test_threads_are_never_merged():
    told = {pid: (thread(pid + 100, cap_eff=0), thread(pid + 200, cap_eff=0)) for pid in (11, 12)}
    assert [(one.pid, one.tid) for one in found(in_a(11), in_a(12, 11), threads=told)] == [
        (11, 111),
        (11, 211),
        (12, 112),
        (12, 212),
    ]


def test_findings_are_by_container_and_then_the_most_severe_first():
    several = found(
        in_b(21, namespaces=HOST),
        in_a(11, comm=b"kthreadd"),
        in_a(12, 14, namespaces=HOST),
        in_a(13, namespaces=HOST),
        in_a(14, namespaces=HOST),
        members={21: member(b"/x (deleted)")},
        threads={INIT: (thread(111, cap_eff=0),)},
    )
    assert [(one.container, one.severity, one.pid) for one in several] == [
        (A, "critical", 13),
        (A, "critical", 14),
        (A, "medium", 11),
        (A, "low", INIT),
        (B, "critical", 21),
        (B, "low", 21),
    ]
    ranks = [(one.container, -SEVERITIES.index(one.severity)) for one in several]
    assert ranks == sorted(ranks)


# -- damage ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [1, 2, 3])
def test_a_loop_of_parents_hangs_nothing(length: int):
    """A table read while pids were given anew may say so."""
    pids = [11, 12, 13][:length]
    loop = [in_a(pid, pids[index - 1], namespaces=HOST) for index, pid in enumerate(pids)]
    several = found(*loop)
    assert {pid for one in several for pid in one.pids} == set(pids)
    assert all(one.pid in one.pids for one in several)


def test_a_loop_of_parents_above_init_hangs_nothing():
    looped = init_a(ppid=40), on_host(40, 41), on_host(41, 40)
    assert found(*looped) == ()
    assert found(init_a(ppid=INIT)) == ()


def test_a_parent_that_is_not_there_is_nobody():
    assert found(init_a(ppid=0), in_a(11, 0), in_a(12, 99)) == ()


# -- how much work it is ---------------------------------------------------------------------------------------------


def flat(count: int) -> list[Process]:
    """All of them started by init, and escaped."""
    return [in_a(1000 + number, namespaces=HOST, status=FREE) for number in range(count)]


def chain(count: int) -> list[Process]:
    """Each started by the one before."""
    return [in_a(1000 + number, 999 + number if number else INIT, namespaces=HOST) for number in range(count)]


def outside(count: int) -> list[Process]:
    """All of them joined from outside."""
    return [on_host(1000 + number, namespaces=IN_A) for number in range(count)]


def outside_chain(count: int) -> list[Process]:
    """The same, each started by the one before."""
    return [on_host(1000 + number, 999 + number if number else 1, namespaces=IN_A) for number in range(count)]


def ordinary(count: int) -> list[Process]:
    """None stands out."""
    return [in_a(1000 + number) for number in range(count)]


def steps(processes: list[Process]) -> int:
    """Lines that are run to judge them."""
    snapshot = host(*processes)
    model = build(snapshot)
    return lines_run(lambda: findings(snapshot, model))


@pytest.mark.parametrize("shape", [flat, chain, outside, outside_chain, ordinary])
def test_ten_times_the_processes_are_ten_times_the_work(shape: Callable[[int], list[Process]]):
    """3,000 of them: whoever is inside a container decides how many there are, and who started whom."""
    assert steps(shape(3000)) < 12 * steps(shape(300))


# -- what a reader sees ----------------------------------------------------------------------------------------------


def every_kind(comm: bytes = b"sleep", path: bytes = b"/memfd:x", label: bytes = b"unconfined") -> Snapshot:
    """A host on which everything there is stands out, with what a container chose."""
    hierarchy = f"/docker/{A}"
    return host(
        on_host(40, comm=comm),
        on_host(41, namespaces=IN_A, comm=comm)._replace(
            cgroup=parse_cgroup(b"0::/x" + comm.replace(b"\n", b"") + path.replace(b"\n", b""))
        ),
        init_a(comm=comm, **NOT_ROOT),
        in_a(11, 40, comm=comm, **NOT_ROOT),
        in_a(12, comm=comm, namespaces=IN_A._replace(net=HOST.net), **NOT_ROOT),
        in_a(13, comm=comm, namespaces=IN_A._replace(net=NEW.net), **NOT_ROOT),
        in_a(14, comm=comm, namespaces=IN_A._replace(user=907), **NOT_ROOT),
        in_a(15, comm=comm, cap_bnd=ADMIN, **NOT_ROOT),
        in_a(16, comm=comm),
        process(17, INIT, hierarchy, IN_A, comm=b"[" + comm.replace(b"\n", b"") + b"]", **NOT_ROOT),
        in_a(18, comm=comm, **NOT_ROOT),
        members={
            17: member(path),
            18: member(b"/tmp" + path + b" (deleted)"),
            13: member(b"/memfd:" + path, label),
            INIT: member(label=label),
        },
        confinements={INIT: confinement(b"docker-default (enforce)")},
        threads={INIT: (thread(111, comm=comm, label=label + b"x", **NOT_ROOT),)},
        declarations={
            ("docker", A): Declaration(source="/x", name=comm.decode("utf-8", "surrogateescape"), wanted=Wanted())
        },
    )


def everything() -> tuple[Finding, ...]:
    """One of each kind at least."""
    snapshot = every_kind()
    return findings(snapshot, build(snapshot))


def seen(snapshot: Snapshot) -> tuple[Model, tuple[Finding, ...]]:
    """What the views are given."""
    model = build(snapshot)
    return model, findings(snapshot, model)


def strings(value: Any) -> Iterable[str]:
    """Every string of a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from strings(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from strings(inner)


def assert_harmless(snapshot: Snapshot) -> None:
    """Nothing but visible characters reaches a terminal or a document, and that obeys the schema."""
    model, several = seen(snapshot)
    assert several
    text = report.findings_report(model, several, len(model.containers), width=None, colour=False)
    assert all(line.isprintable() for line in text.split("\n"))
    text.encode()
    (shown,) = (one for one in model.containers if one.id == A)
    mine = [one for one in several if one.container == A]
    for made in (
        document.findings_document(model, several, model.issues),
        document.show_document(model, shown, None, mine, model.issues),
    ):
        made.encode()
        whole = json.loads(made)
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(whole)
        assert len(whole["findings"]) in (len(several), len(mine))
        assert all(one.isprintable() for one in strings(whole["findings"]))


def test_hostile_names_labels_and_paths_reach_neither_terminal_nor_document():
    assert_harmless(every_kind(HOSTILE, b"/" + HOSTILE, HOSTILE))


@settings(max_examples=25, deadline=None)
@given(st.binary(max_size=15), st.binary(max_size=40), st.binary(min_size=1, max_size=40))
def test_no_name_label_or_path_reaches_them(comm: bytes, path: bytes, label: bytes):
    assert_harmless(every_kind(comm, b"/" + path, label))


def test_the_report_says_who_and_what_shows_it():
    snapshot = every_kind()
    model, several = seen(snapshot)
    text = report.findings_report(model, several, len(model.containers), width=None, colour=False)
    for one in several:
        assert KINDS[one.kind] in text
        assert all(f"{file}: " in text for file, _ in one.evidence)
    assert f"thread 111 sleep of process {INIT}" in text
    assert text.splitlines()[-1].startswith(f"{len(several)} findings in 1 of 2 containers; techniques of MITRE")


def test_the_report_counts_those_below():
    snapshot = host(*chain(3))
    text = report.findings_report(*seen(snapshot), 2, width=None, colour=False)
    assert "critical  process 1000 sleep and 2 below it is in the container's cgroup" in text
    assert "1 finding in 1 of 2 containers" in text


def test_the_document_says_what_a_finding_says():
    snapshot = every_kind()
    model, several = seen(snapshot)
    whole = json.loads(document.findings_document(model, several, model.issues))
    told = [
        (one["kind"], one["severity"], one["summary"], one["pid"], one["tid"], one["pids"]) for one in whole["findings"]
    ]
    assert told == [(one.kind, one.severity, KINDS[one.kind], one.pid, one.tid, list(one.pids)) for one in several]
    techniques = [one["technique"] and (one["technique"]["id"], one["technique"]["name"]) for one in whole["findings"]]
    assert techniques == [one.technique and (one.technique, TECHNIQUES[one.technique]) for one in several]
    assert Counter(len(one["evidence"]) for one in whole["findings"]) == Counter(len(one.evidence) for one in several)
