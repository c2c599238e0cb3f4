"""What changed between two looks, one kind at a time, in a person's words; what is unknown did not change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import Result

from nsinspect.capabilities import mask_of
from nsinspect.cgroupfs import Cgroup, CpuMax
from nsinspect.changes import KINDS, Change
from nsinspect.cli import cli
from nsinspect.declarations import Wanted
from nsinspect.diff import Side, diff, worth_saying
from nsinspect.model import Container
from nsinspect.namespaces import TYPES
from nsinspect.procfs import Mount, Status
from nsinspect.procnet import Listener, Network
from nsinspect.snapshot import Process, Snapshot, Thread
from nsinspect.views import changes as view
from nsinspect.views import document
from tests.looks import HOSTILE, HOSTS, NAMES, SURROGATES, look, process_of, rich, take
from tests.runner import runner

SCHEMA = json.loads((Path(__file__).parent.parent / "nsinspect/schema.json").read_text())
MIB = 1 << 20
V1, V2 = look("docker-hybrid"), look("podman-v2")
WEB, EXEC, PRIV, PLAIN = 715, 762, 730, 745
"""Of the v2 host: inits of its containers, and a process that was started in the first one with more power."""


def the(name: str, snapshot: Snapshot = V2) -> Container:
    """A container by name."""
    return next(one for one in Side(snapshot).model.containers if one.name == name)


def with_processes(snapshot: Snapshot, *some: Process, without: Iterable[int] = ()) -> Snapshot:
    """Processes that come, go, or take the place of those by their pid."""
    by_pid = {one.pid: one for one in snapshot.processes} | {one.pid: one for one in some}
    for pid in without:
        del by_pid[pid]
    by_what = {
        name: {pid: its for pid, its in getattr(snapshot, name).items() if pid in by_pid}
        for name in ("confinements", "threads", "members", "networks", "sockets")
    }
    return replace(snapshot, processes=tuple(by_pid[pid] for pid in sorted(by_pid)), **by_what)


def with_status(snapshot: Snapshot, pid: int, /, **more: Any) -> Snapshot:
    """One whose status says something else."""
    one = process_of(snapshot, pid)
    assert one.status is not None
    return with_processes(snapshot, one._replace(status=one.status._replace(**more)))


def with_namespaces(snapshot: Snapshot, pid: int, /, **more: int | None) -> Snapshot:
    one = process_of(snapshot, pid)
    return with_processes(snapshot, one._replace(namespaces=one.namespaces._replace(**more)))


def with_cgroup(snapshot: Snapshot, name: str, change: Callable[[Cgroup], Cgroup], controller: str = "") -> Snapshot:
    """A container's cgroup, changed."""
    path = the(name, snapshot).cgroup_paths[controller]
    found = {
        key: change(one)
        if key[1] == path and (not controller or controller in snapshot.hierarchies[key[0]][1])
        else one
        for key, one in snapshot.cgroups.items()
    }
    return replace(snapshot, cgroups=found)


def with_files(snapshot: Snapshot, name: str, controller: str = "", **files: Any) -> Snapshot:
    """Control files of a container, ``__`` for a dot; ``None``: could not be read."""

    def change(one: Cgroup) -> Cgroup:
        found: Any = {**one.files, **{file.replace("__", "."): value for file, value in files.items()}}
        read: Any = {file: value for file, value in found.items() if value is not None}
        return one._replace(files=read, unknown=tuple(found.keys() - read.keys()))

    return with_cgroup(snapshot, name, change, controller)


def with_declared(snapshot: Snapshot, container: str, wanted: Wanted | None = None, /, **more: Any) -> Snapshot:
    """What an engine wrote down of a container."""
    identity = the(container, snapshot).id
    found = {
        key: one._replace(wanted=wanted or one.wanted, **more) if key[1] == identity else one
        for key, one in snapshot.declarations.items()
    }
    return replace(snapshot, declarations=found)


def wanted(name: str, snapshot: Snapshot = V2, **more: Any) -> Wanted:
    """What was asked for of a container, and more."""
    asked = the(name, snapshot).declared
    assert asked is not None
    return asked._replace(**more)


def with_mounts(snapshot: Snapshot, pid: int, *more: Mount) -> Snapshot:
    """What an init sees besides."""
    found = dict(snapshot.confinements)
    found[pid] = found[pid]._replace(mounts=(*(found[pid].mounts or ()), *more))
    return replace(snapshot, confinements=found)


def mount(point: bytes, root: bytes = b"/etc", options: bytes = b"rw") -> Mount:
    """A folder of the host in a container."""
    return next(one for one in V2.mounts if one.point == b"/")._replace(root=root, point=point, options=options)


def with_ports(snapshot: Snapshot, *ports: tuple[str, str, int], pid: int = WEB) -> Snapshot:
    """What the first container listens on."""
    listeners = tuple(Listener(*port, inode=100 + at) for at, port in enumerate(ports))
    held = frozenset(one.inode for one in listeners)
    return replace(
        snapshot,
        networks={pid: Network((), listeners)},
        sockets={**{one.pid: frozenset[int]() for one in snapshot.processes}, pid: held},
    )


def said(before: Snapshot, after: Snapshot) -> list[Change]:
    """What is worth saying."""
    return list(worth_saying(diff(Side(before), Side(after))))


def the_only(before: Snapshot, after: Snapshot, kind: str, field: str) -> Change:
    """The only change that is worth saying, which is of this kind."""
    found = said(before, after)
    assert [(one.kind, one.field) for one in found] == [(kind, field)]
    return found[0]


def words(before: Snapshot, after: Snapshot, *, everything: bool = False) -> list[str]:
    """What a person reads, without the evidence and the last line."""
    old, new = Side(before), Side(after)
    found = diff(old, new)
    return [
        view.change_words(new.model, old.model, one).plain for one in (found if everything else worth_saying(found))
    ]


def whole(before: Snapshot, after: Snapshot) -> str:
    """Everything that a person reads, noise and all."""
    old, new = Side(before), Side(after)
    return view.diff_report(old, new, diff(old, new), 0, width=None, colour=False)


# -- nothing -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("snapshot", [*map(look, NAMES), rich()], ids=[*NAMES, "rich"])
def test_the_same_look_twice_is_no_difference(snapshot: Snapshot):
    assert diff(Side(snapshot), Side(replace(snapshot))) == ()


def test_what_the_time_is_is_no_difference():
    """The clock of the host may be set, too: what was started when is counted from its boot."""
    later = replace(V2, captured_at=V2.captured_at + 1000, host=replace(V2.host, uptime=(V2.host.uptime or 0) + 1000))
    assert said(V2, later) == []
    stepped = replace(later, host=replace(later.host, boot_time=(V2.host.boot_time or 0) + 1))
    assert said(V2, stepped) == []


def test_usage_and_processes_that_come_and_go_are_noise():
    more = process_of(V2, PLAIN)._replace(pid=900, ppid=PLAIN, comm=b"ls")
    after = with_files(with_processes(V2, more), "plain", memory__current=5 * MIB)
    assert said(V2, after) == []
    found = diff(Side(V2), Side(after))
    assert {one.kind for one in found} == {"usage_changed", "process_started"}
    assert all(one.noise and not one.follows for one in found)
    assert words(V2, after, everything=True)[-1] == "plain  process 900 started"
    assert words(after, V2, everything=True)[-1] == "plain  process 900 ended"


# -- the host ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("boot_id", "b"), ("hostname", "h"), ("kernel", "6.99"), ("cpus_online", (0, 1, 2)), ("memory_bytes", 1 << 40)],
)
def test_another_host(field: str, value: Any):
    """Or this one after a restart."""
    changed = [one for one in said(V2, replace(V2, host=replace(V2.host, **{field: value}))) if one.container is None]
    assert [(one.kind, one.field) for one in changed] == [("host_changed", f"host.{field}")]
    unknown = replace(V2, host=replace(V2.host, **{field: None}))
    assert [one for one in said(V2, unknown) if one.container is None] == []
    assert [one for one in said(unknown, V2) if one.container is None] == []


# -- containers --------------------------------------------------------------------------------------------------------


def test_a_container_that_appeared_and_one_that_is_gone():
    """Only that; not each of its limits, powers and processes."""
    without = with_processes(V2, without=(PLAIN,))
    one = the_only(without, V2, "container_started", "init.started_at")
    assert (one.container, one.pid, one.before, one.after) == (
        the("plain").id,
        PLAIN,
        None,
        the("plain").init.started_at,
    )
    assert words(without, V2) == [f"plain  appeared: podman container of image localhost/bb:latest, init {PLAIN} sleep"]
    gone = the_only(V2, without, "container_stopped", "init.started_at")
    assert (gone.before, gone.after) == (one.after, None)
    assert words(V2, without) == [f"plain  is gone: podman container of image localhost/bb:latest, init {PLAIN} sleep"]


def test_a_container_whose_findings_go_with_it_says_so_once():
    """One with a process that stood out."""
    without = with_processes(V2, without=(WEB, EXEC))
    assert [one.kind for one in said(V2, without)] == ["container_stopped"]


def test_a_container_that_was_restarted():
    """Its namespaces are new because it is; they are not said one by one."""
    one = process_of(V2, PLAIN)
    new = one._replace(
        pid=950,
        starttime=one.starttime + 100,
        status=one.status and one.status._replace(nspid=(950, 1)),
        namespaces=one.namespaces._replace(mnt=71, pid=72, net=73, ipc=74, uts=75),
    )
    after = with_processes(V2, new, without=(PLAIN,))
    after = replace(after, confinements={**V2.confinements, 950: V2.confinements[PLAIN]})
    change = the_only(V2, after, "container_restarted", "init.started_at")
    assert change.pid == 950
    assert words(V2, after) == ["plain  was restarted: its init is process 950 now"]


@pytest.mark.parametrize("field", ["name", "image"])
def test_another_name_or_image(field: str):
    one = the_only(V2, with_declared(V2, "plain", **{field: "other"}), "identity_changed", field)
    assert one.after == "other"


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("files", "field", "before", "after", "sentence"),
    [
        (
            {"memory__max": 256 * MIB},
            "limits.memory.effective.max_bytes",
            64 * MIB,
            256 * MIB,
            "memory limit rose from 64 MiB to 256 MiB",
        ),
        ({"memory__max": "max"}, "limits.memory.effective.max_bytes", 64 * MIB, "max", "rose from 64 MiB to NO LIMIT"),
        (
            {"memory__max": 32 * MIB},
            "limits.memory.effective.max_bytes",
            64 * MIB,
            32 * MIB,
            "memory limit fell from 64 MiB to 32 MiB",
        ),
        ({"memory__swap__max": 0}, "limits.memory.effective.swap_max_bytes", 64 * MIB, 0, "fell from 64 MiB to 0 B"),
        ({"memory__low": MIB}, "limits.memory.own.reservation_bytes", 0, MIB, "to 1 MiB"),
        ({"memory__high": MIB}, "limits.memory.effective.high_bytes", "max", MIB, "fell from NO LIMIT to 1 MiB"),
        ({"pids__max": 41}, "limits.pids.effective.max", 40, 41, "rose from 40 to 41"),
        ({"pids__max": "max"}, "limits.pids.effective.max", 40, "max", "rose from 40 to NO LIMIT"),
        ({"cpu__max": CpuMax(25000, 100000)}, "limits.cpu.effective.cores", 0.5, 0.25, "fell from 0.5 to 0.25"),
        ({"cpu__weight": 77}, "limits.cpu.own.weight", None, 77, "to 77"),
    ],
)
def test_a_limit(files: dict[str, Any], field: str, before: Any, after: Any, sentence: str):
    """What follows from it (it is not as declared any more) is there, and not worth a second word."""
    changed = with_files(V2, "web", **files)
    one = the_only(V2, changed, "limit_changed", field)
    assert one.container == the("web").id
    assert one.after == after
    assert before is None or one.before == before
    (line,) = words(V2, changed)
    assert line.startswith("web  ")
    assert sentence in line
    assert "imposed by" not in line
    follows = [one for one in diff(Side(V2), Side(changed)) if one.kind.startswith("drift")]
    assert all(one.follows for one in follows)


def test_a_limit_that_somebody_above_imposes_names_them():
    """The container's own files did not change."""
    path = b"/libpod_parent"
    found = {
        key: one._replace(files={**one.files, "memory.max": 32 * MIB}) if key[1] == path else one
        for key, one in V2.cgroups.items()
    }
    changed = replace(V2, cgroups=found)
    lines = words(V2, changed)
    assert len(lines) == 3
    assert "web  memory limit fell from 64 MiB to 32 MiB, imposed by /libpod_parent" in lines
    assert [one.evidence for one in said(V2, changed)] == [(("cgroup", path),)] * 3


def test_a_limit_of_its_own_that_changes_nothing_is_said_as_its_own():
    """Of a container with less above it."""
    path = b"/libpod_parent"

    def below(limit: int) -> Snapshot:
        found = {
            key: one._replace(files={**one.files, "memory.max": MIB}) if key[1] == path else one
            for key, one in V2.cgroups.items()
        }
        return with_files(replace(V2, cgroups=found), "web", memory__max=limit)

    one = the_only(below(64 * MIB), below(128 * MIB), "limit_changed", "limits.memory.own.max_bytes")
    assert (one.before, one.after) == (64 * MIB, 128 * MIB)
    assert words(below(64 * MIB), below(128 * MIB)) == ["web  own memory limit rose from 64 MiB to 128 MiB"]


def test_cpus_that_it_may_use_and_v1s_shares():
    changed = with_files(V1, "web", "cpuset", cpuset__effective_cpus=(0,), cpuset__cpus=(0,))
    assert ("limit_changed", "limits.cpu.effective.cpuset", "0-1", "0") in [
        (one.kind, one.field, one.before, one.after) for one in said(V1, changed)
    ]
    one = the_only(V1, with_files(V1, "web", "cpu", cpu__shares=512), "limit_changed", "limits.cpu.own.shares")
    assert (one.before, one.after) == (1024, 512)


def test_v1s_limits_are_said_in_the_same_words():
    changed = with_files(
        V1,
        "web",
        "memory",
        memory__limit_in_bytes=256 * MIB,
        memory__memsw__limit_in_bytes=320 * MIB,
    )
    assert words(V1, changed) == ["web  memory limit rose from 64 MiB to 256 MiB"]


def test_a_control_file_that_has_no_field_of_its_own():
    """Set, changed, and unset; lines of it are the kernel's, but a name in them may be anybody's."""

    def having(*lines: bytes) -> Snapshot:
        return with_cgroup(V2, "web", lambda one: one._replace(others=(("io.max", lines),) if lines else ()))

    one = the_only(V2, having(b"8:0 rbps=1"), "limit_changed", "limits.others.io.max")
    assert (one.before, one.after) == ([], ["8:0 rbps=1"])
    assert words(having(b"8:0 rbps=1"), having(HOSTILE)) == [
        "web  io.max limit changed from 8:0 rbps=1 to \\x1b]0;owned\\x07[/red]\\xff\\x0a\\u202e"
    ]
    assert the_only(having(b"x"), V2, "limit_changed", "limits.others.io.max").after == []


def test_a_cgroup_that_could_not_be_read_is_no_difference():
    """None of its limits went away with it."""
    before = with_cgroup(V2, "web", lambda one: one._replace(others=(("io.max", (b"8:0 rbps=1",)),)))
    path = the("web").cgroup_path
    after = replace(before, cgroups={key: one for key, one in before.cgroups.items() if key[1] != path})
    assert said(before, after) == []
    assert said(after, before) == []


@pytest.mark.parametrize(
    "file", ["memory.max", "memory.swap.max", "memory.low", "memory.high", "pids.max", "cpu.max", "cpu.weight"]
)
def test_a_file_that_could_not_be_read_is_no_difference(file: str):
    unknown = with_files(V2, "web", **{file.replace(".", "__"): None})
    assert said(V2, unknown) == []
    assert said(unknown, V2) == []


# -- powers, confinement, namespaces -----------------------------------------------------------------------------------


def test_capabilities_of_init_that_came_and_went():
    more = the("plain").capabilities.bounding or 0
    admin = mask_of(["SYS_ADMIN"])
    grown = with_status(V2, PLAIN, cap_bnd=more | admin, cap_eff=more | admin, cap_prm=more | admin)
    one = next(one for one in said(V2, grown) if one.kind == "capability_gained")
    assert (one.field, one.pid) == ("capabilities.bounding", PLAIN)
    assert set(one.after) - set(one.before) == {"CAP_SYS_ADMIN"}
    assert f"/proc/{PLAIN}/status" == one.evidence[0][0]
    assert "plain  gained SYS_ADMIN" in words(V2, grown)
    assert "plain  lost SYS_ADMIN" in words(grown, V2)


@pytest.mark.parametrize("field", ["cap_eff", "cap_prm"])
def test_a_power_beyond_its_bounding_set_is_one_too(field: str):
    """Which the kernel lets a process keep."""
    sets = the("plain").capabilities.bounding or 0
    grown = with_status(V2, PLAIN, **{field: sets | mask_of(["SYS_ADMIN"])})
    assert "plain  gained SYS_ADMIN" in words(V2, grown)


def test_a_status_that_could_not_be_read_is_no_difference():
    unknown = with_processes(V2, process_of(V2, PLAIN)._replace(status=None))
    assert [one for one in said(V2, unknown) if one.kind != "drift_ended"] == []
    assert [one for one in said(unknown, V2) if one.kind != "drift_began"] == []


def test_a_process_with_more_power_is_how_it_was_gained():
    """What the issue asks for: web gained CAP_SYS_ADMIN through process 762."""
    before = with_processes(V2, without=(EXEC,))
    one = the_only(before, V2, "capability_gained", "findings.more_power")
    assert (one.pid, one.container, one.after) == (EXEC, the("web").id, "can do more than init")
    assert one.finding is not None
    assert one.finding.severity == "high"
    (line,) = words(before, V2)
    assert line.startswith("web  gained ")
    assert f" through process {EXEC} sleep" in line
    gone = the_only(V2, before, "process_no_longer_stands_out", "findings.more_power")
    assert (gone.before, gone.after) == ("can do more than init", None)


def test_the_next_process_by_the_same_pid_stands_out_anew():
    one = process_of(V2, EXEC)
    after = with_processes(V2, one._replace(starttime=one.starttime + 1))
    assert [one.kind for one in said(V2, after)] == ["capability_gained", "process_no_longer_stands_out"]


@pytest.mark.parametrize(
    ("more", "field", "before", "after"),
    [
        ({"seccomp": 0, "seccomp_filters": 0}, "security.seccomp", "filter", "disabled"),
        ({"no_new_privs": True}, "security.no_new_privs", False, True),
    ],
)
def test_how_it_is_confined(more: dict[str, Any], field: str, before: Any, after: Any):
    changed = with_status(V2, PLAIN, **more)
    found = [one for one in said(V2, changed) if one.kind == "confinement_changed"]
    assert [(one.field, one.before, one.after) for one in found] == [(field, before, after)]
    unknown = with_status(V2, PLAIN, **dict.fromkeys(more))
    assert [one for one in said(V2, unknown) if one.kind == "confinement_changed"] == []


def test_its_user():
    one = process_of(V2, PLAIN).status
    assert isinstance(one, Status)
    changed = with_status(V2, PLAIN, uid=one.uid._replace(effective=1000))
    assert ("confinement_changed", "init.uid", 0, 1000) in [
        (one.kind, one.field, one.before, one.after) for one in said(V2, changed)
    ]


def test_its_label():
    def labelled(label: bytes | None, *, known: bool = True) -> Snapshot:
        one = V2.confinements[PLAIN]._replace(lsm_label=label, label_known=known)
        return replace(V2, confinements={**V2.confinements, PLAIN: one})

    one = the_only(labelled(b"a (enforce)"), labelled(HOSTILE), "confinement_changed", "security.lsm_label")
    assert one.pid == PLAIN
    assert said(labelled(b"a"), labelled(None, known=False)) == []
    assert all(line.isprintable() for line in whole(labelled(b"a"), labelled(HOSTILE)).splitlines())


@pytest.mark.parametrize("kind", [one for one in TYPES if one not in ("time", "user")])
def test_the_hosts_namespace_instead_of_its_own(kind: str):
    """As the issue puts it: it now shares the host's pid namespace."""
    private = with_namespaces(V2, PLAIN, **{kind: 77})
    shared = with_namespaces(V2, PLAIN, **{kind: getattr(V2.host.namespaces, kind)})
    found = [one for one in said(private, shared) if one.kind.startswith("namespace_")]
    assert [(one.kind, one.field, one.before, one.after) for one in found] == [
        ("namespace_changed", f"namespaces.{kind}", "private", "host")
    ]
    assert found[0].evidence[0][0] == f"/proc/{PLAIN}/ns/{kind}"
    assert f"plain  shares the host's {kind} namespace now" in words(private, shared)
    assert f"plain  has a {kind} namespace of its own now" in words(shared, private)
    other = with_namespaces(V2, PLAIN, **{kind: 78})
    assert f"plain  is in another {kind} namespace" in words(private, other)


@pytest.mark.parametrize("kind", TYPES)
def test_a_namespace_that_is_not_known_is_no_difference(kind: str):
    private = with_namespaces(V2, PLAIN, **{kind: 77})
    unknown = with_namespaces(V2, PLAIN, **{kind: None})
    for before, after in ((private, unknown), (unknown, private)):
        assert [one for one in said(before, after) if one.kind.startswith("namespace_")] == []


def test_another_container_in_its_namespace():
    """Both of them are told of it, and when it is over."""
    shared = with_namespaces(V2, PLAIN, net=the("web").namespaces["net"].inode)  # type: ignore[union-attr]
    lines = words(V2, shared)
    assert "web  shares its net namespace with plain" in lines
    assert "plain  shares its net namespace with web" in lines
    joined = [one for one in said(V2, shared) if one.kind == "namespace_joined"]
    assert {(one.container, tuple(one.after)) for one in joined} == {
        (the("web").id, (the("plain").id,)),
        (the("plain").id, (the("web").id,)),
    }
    assert "web  no longer shares its net namespace with plain" in words(shared, V2)


def test_a_container_that_appears_in_anothers_namespace():
    """The new one is new, and the old one has company."""
    shared = with_namespaces(V2, PLAIN, net=the("web").namespaces["net"].inode)  # type: ignore[union-attr]
    before = with_processes(shared, without=(PLAIN,))
    found = [(one.container, one.kind) for one in said(before, shared)]
    assert sorted(found) == sorted([(the("web").id, "namespace_joined"), (the("plain").id, "container_started")])


@pytest.mark.parametrize(
    ("namespaces", "ppid", "kind"),
    [
        ({"net": None}, WEB, "findings.host_namespaces"),
        ({"net": 99}, WEB, "findings.other_namespaces"),
        ({"user": 99}, WEB, "findings.user_namespace"),
        ({}, 1, "findings.entered"),
    ],
)
def test_a_process_in_other_namespaces(namespaces: dict[str, int | None], ppid: int, kind: str):
    """It joined a namespace, or stands out."""
    before = with_processes(V2, without=(EXEC,))
    init = process_of(V2, WEB)
    chosen = {name: getattr(V2.host.namespaces, name) if inode is None else inode for name, inode in namespaces.items()}
    status = init.status and init.status._replace(nspid=(900, 9))
    one = init._replace(pid=900, ppid=ppid, namespaces=init.namespaces._replace(**chosen), status=status)
    found = [change for change in said(before, with_processes(before, one)) if change.pid == 900]
    assert kind in {change.field for change in found}
    for change in found:
        joining = change.field.removeprefix("findings.") in ("host_namespaces", "other_namespaces", "user_namespace")
        assert change.kind == ("namespace_joined" if joining else "process_stood_out")


def test_a_thread_is_named_as_one():
    before = with_processes(V2, without=(EXEC,))
    init = process_of(V2, WEB)
    thread = Thread(990, HOSTILE, "S", init.status, init.namespaces._replace(net=99), None, True)
    after = replace(before, threads={WEB: (thread,)})
    (line,) = words(before, after)
    assert line.startswith(f"web  thread 990 of process {WEB} ")
    assert line.isprintable()


# -- mounts, ports, declarations ---------------------------------------------------------------------------------------


def test_a_folder_of_the_host():
    more = with_mounts(V2, PLAIN, mount(b"/x"))
    one = the_only(V2, more, "mount_added", "mounts")
    assert (one.before, one.after["point"], one.after["host_path"]) == (None, b"/x", "/etc")
    assert words(V2, more) == ["plain  sees /etc of the host at /x, read-write"]
    assert words(more, V2) == ["plain  no longer sees /etc of the host at /x, read-write"]
    unknown = replace(more, confinements={**V2.confinements, PLAIN: V2.confinements[PLAIN]._replace(mounts=None)})
    assert said(V2, unknown) == said(unknown, more) == []


def test_a_folder_that_may_be_written_now():
    read_only = with_mounts(V2, PLAIN, mount(b"/x", options=b"ro"))
    changed = with_mounts(V2, PLAIN, mount(b"/x"))
    assert [one.kind for one in said(read_only, changed)] == ["mount_removed", "mount_added"]


def test_what_it_listens_on():
    before, after = with_ports(V2), with_ports(V2, ("tcp", "0.0.0.0", 80), ("udp", "::", 53))
    found = said(before, after)
    assert [(one.kind, one.field, one.after) for one in found] == [
        ("listening_began", "network.listening", ("tcp", "0.0.0.0", 80)),
        ("listening_began", "network.listening", ("udp", "::", 53)),
    ]
    assert words(before, after) == ["web  listens on tcp 0.0.0.0:80", "web  listens on udp [::]:53"]
    assert words(after, before) == ["web  listens no longer on tcp 0.0.0.0:80", "web  listens no longer on udp [::]:53"]
    unknown = replace(before, networks={WEB: Network((), None)})
    assert said(unknown, after) == said(after, unknown) == said(V2, replace(V2, networks={})) == []


def test_a_port_that_nobody_chose_is_noise():
    """A client waits there for its answer; a TCP socket that listens is never that."""
    before = with_ports(V2)
    assert said(before, with_ports(V2, ("udp", "0.0.0.0", 40000))) == []
    assert len(said(before, with_ports(V2, ("tcp", "0.0.0.0", 40000)))) == 1
    assert len(said(before, with_ports(V2, ("udp", "0.0.0.0", 5353)))) == 1


def test_what_was_declared():
    after = with_declared(V2, "plain", wanted("plain", privileged=True))
    before = with_declared(V2, "plain", wanted("plain", privileged=False))
    found = [one for one in said(before, after) if one.kind == "declared_changed"]
    assert [(one.field, one.before, one.after) for one in found] == [("declared.privileged", False, True)]
    assert "plain  declared privileged was no, is yes" in words(before, after)


def test_what_docker_update_does_is_said_once():
    """The limit, what was declared, and nothing about drift: the engine knows of it."""
    after = with_declared(
        with_files(V2, "web", memory__max=256 * MIB), "web", wanted("web", memory_max=256 * MIB, swap_max=64 * MIB)
    )
    the_only(V2, after, "limit_changed", "limits.memory.effective.max_bytes")
    (declared,) = (one for one in diff(Side(V2), Side(after)) if one.kind == "declared_changed")
    assert declared.follows


def test_what_was_declared_besides_a_limit_does_not_follow_from_it():
    """That a container was made privileged is not hidden by a limit that changed with it."""
    before = with_declared(V2, "web", wanted("web", privileged=False))
    after = with_declared(
        with_files(V2, "web", memory__max=256 * MIB), "web", wanted("web", memory_max=256 * MIB, privileged=True)
    )
    assert ("declared_changed", "declared.privileged") in [(one.kind, one.field) for one in said(before, after)]


def test_what_is_not_as_declared_any_more():
    """Though nothing that limits it changed."""
    after = with_declared(V2, "web", wanted("web", memory_max=32 * MIB))
    assert [one.kind for one in said(V2, after)] == ["declared_changed", "drift_began"]
    assert any("memory is not as declared: 32 MiB, is 64 MiB" in line for line in words(V2, after))
    assert any("is as declared again" in line for line in words(after, V2))


def test_a_limit_that_drifted_is_said_once():
    after = with_files(V2, "web", memory__swap__max="max")
    the_only(V2, after, "limit_changed", "limits.memory.effective.swap_max_bytes")
    (drift,) = (one for one in diff(Side(V2), Side(after)) if one.kind == "drift_began")
    assert drift.follows


def test_a_process_that_was_killed_for_lack_of_memory():
    def killed(count: int) -> Snapshot:
        return with_files(V2, "web", memory__events={"oom_kill": count})

    one = the_only(killed(1), killed(3), "oom_kill", "usage.oom_kills")
    assert (one.before, one.after) == (1, 3)
    assert words(killed(1), killed(3)) == ["web  2 of its processes were killed for lack of memory"]
    assert said(killed(3), killed(0)) == []


# -- how it is shown ---------------------------------------------------------------------------------------------------


def everything() -> tuple[Snapshot, Snapshot]:
    """Two looks with every kind of change between them, and hostile names wherever a container chooses one."""
    init = process_of(V2, WEB)
    intruder = init._replace(pid=901, comm=HOSTILE, namespaces=init.namespaces._replace(net=99))
    before = with_ports(with_processes(V2, without=(EXEC, PRIV)), ("tcp", SURROGATES, 1))
    before = with_declared(before, "web", name=SURROGATES, image=SURROGATES)
    after = with_processes(V2, process_of(V2, EXEC)._replace(comm=HOSTILE), intruder, without=(PLAIN,))
    after = with_declared(after, "web", wanted("web", cores=3, uid=7), name=SURROGATES[::-1], image="\x1b[31m")
    after = with_files(after, SURROGATES[::-1], memory__max="max", memory__events={"oom_kill": 3}, memory__current=1)
    after = with_status(after, WEB, seccomp=0, cap_bnd=(1 << 41) - 1)
    after = with_mounts(after, WEB, mount(HOSTILE), mount(b"/secret" + HOSTILE, root=b"/" + HOSTILE))
    after = with_ports(after, ("tcp", "127.0.0.1", 80), ("udp", "::1", 50000))
    after = with_cgroup(after, SURROGATES[::-1], lambda one: one._replace(others=(("io.max", (HOSTILE,)),)))
    host = replace(after.host, hostname=SURROGATES, kernel=SURROGATES)
    label = after.confinements[WEB]._replace(lsm_label=HOSTILE, label_known=True)
    before = replace(
        before,
        confinements={**before.confinements, WEB: before.confinements[WEB]._replace(lsm_label=b"x", label_known=True)},
    )
    return before, replace(after, host=host, confinements={**after.confinements, WEB: label})


def test_hostile_names_reach_neither_terminal_nor_json():
    before, after = everything()
    for some, others in ((before, after), (after, before)):
        text = whole(some, others)
        assert len(text.splitlines()) > 20
        assert all(line.isprintable() for line in text.splitlines())
        assert "\\x1b]0;owned" in text
        assert "[/red]" in text
        old, new = Side(some), Side(others)
        data = document.diff_document(old.model, new.model, diff(old, new))
        assert all(line.isprintable() for line in data.splitlines())
        data.encode("utf-8")
        jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(json.loads(data))


def test_colour_only_repeats_what_the_words_say():
    before, after = everything()
    old, new = Side(before), Side(after)
    found = diff(old, new)
    plain = view.diff_report(old, new, found, 0, width=None, colour=False)
    coloured = view.diff_report(old, new, found, 0, width=None, colour=True)
    assert "\x1b[" in coloured
    assert "\x1b" not in plain


def test_every_kind_has_words():
    """None falls back to the words of another."""
    before, after = everything()
    found = [*diff(Side(before), Side(after)), *diff(Side(after), Side(before))]
    assert {one.kind for one in found} <= set(KINDS)
    assert {one.kind for one in found} >= {
        *("host_changed", "container_started", "container_stopped", "identity_changed", "limit_changed"),
        *("capability_gained", "capability_lost", "confinement_changed", "namespace_joined", "mount_added"),
        *("mount_removed", "listening_began", "listening_ended", "process_no_longer_stands_out", "declared_changed"),
        *("drift_began", "drift_ended", "oom_kill", "usage_changed", "process_started", "process_ended"),
    }


def run(*arguments: str) -> Result:
    """The program, in this process."""
    return runner().invoke(cli, arguments, prog_name="nsinspect", catch_exceptions=False)


@pytest.fixture(scope="module")
def captures(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """Two of one host, on which a limit was raised in between, as a folder and as an archive."""
    import shutil

    folder = tmp_path_factory.mktemp("diff")
    root = Path(shutil.copytree(HOSTS / "podman-v2", folder / "host", symlinks=True))
    take(root, folder / "a")
    (file,) = (path for path in root.rglob("memory.max") if the("web").id in str(path))
    file.write_text("max\n")
    (usage,) = (path for path in root.rglob("memory.current") if the("web").id in str(path))
    usage.write_text("1\n")
    take(root, folder / "b.tar.zst")
    return str(folder / "a"), str(folder / "b.tar.zst")


def test_the_program_exits_1_on_a_difference_and_0_on_none(captures: tuple[str, str]):
    before, after = captures
    answer = run("diff", before, after)
    assert answer.exit_code == 1
    first, *_, last = answer.output.splitlines()
    assert first == "web  memory limit rose from 64 MiB to NO LIMIT"
    assert last.startswith("1 difference in ")
    assert "more of what changes all the time, or follows from these: --all" in last
    for same in captures:
        answer = run("diff", same, same, "--all")
        assert (answer.exit_code, answer.output) == (0, "0 differences in 0s\n")


def test_noise_alone_is_no_difference_unless_asked_for(captures: tuple[str, str], tmp_path: Path):
    """And then it is one."""
    import shutil

    root = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    (usage,) = (path for path in root.rglob("memory.current") if the("web").id in str(path))
    usage.write_text("1\n")
    _, other = take(root, tmp_path / "c")
    answer = run("diff", captures[0], str(other))
    assert answer.exit_code == 0
    assert answer.output.startswith("0 differences in ")
    assert run("diff", captures[0], str(other), "--all").exit_code == 1
    assert json.loads(run("diff", captures[0], str(other), "--json").output)["changes"] == []


def test_the_document_obeys_the_schema_and_says_both_moments(captures: tuple[str, str]):
    before, after = captures
    answer = run("diff", before, after, "--json")
    assert answer.exit_code == 1
    found = json.loads(answer.output)
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(found)
    (change,) = found["changes"]
    assert (change["kind"], change["before"], change["after"]) == ("limit_changed", 64 * MIB, "max")
    assert found["before"]["host"] == found["host"]
    everything = json.loads(run("diff", before, after, "--json", "--all").output)["changes"]
    assert [one for one in everything if not one["noise"] and not one["follows"]] == [change]
    assert len(everything) > 1
