"""Who has which capability, process by process and thread by thread."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from pathlib import Path

import pytest

from nsinspect import nsfs, tasks
from nsinspect.capabilities import OLDEST_FULL_SET, mask_of
from nsinspect.cli import cli
from nsinspect.collect import Closely, Collector, collect
from nsinspect.kernfs import Roots
from nsinspect.model import build
from nsinspect.powers import Power, having, powers
from nsinspect.snapshot import Snapshot, Thread
from nsinspect.views import capslist
from tests.runner import runner

HERE = Path(__file__).parent
ROOT = str(HERE / "fixtures/hosts/docker-hybrid")
ADMIN = mask_of(["SYS_ADMIN"])


def closer(roots: Roots) -> Snapshot:
    """A host with the threads of all its processes."""
    collector = Collector(roots)
    snapshot, _ = collector.run()
    return collector.closer(snapshot, Closely(threads=[process.pid for process in snapshot.processes]))


@pytest.fixture(scope="module")
def snapshot() -> Snapshot:
    """A bundled host: web adds NET_ADMIN and drops SETPCAP, agent has all, and web has a worker with none."""
    return closer(Roots(root=ROOT))


def of(snapshot: Snapshot) -> dict[tuple[int, int], Power]:
    """Powers by pid and tid."""
    return {(one.pid, one.tid): one for one in powers(snapshot, build(snapshot))}


def init_of(snapshot: Snapshot, name: str) -> int:
    """Pid of a container's init."""
    return next(one.init.pid for one in build(snapshot).containers if one.name == name)


def with_thread(snapshot: Snapshot, pid: int, **changes: object) -> Snapshot:
    """The same with one more thread of a process, whose status differs."""
    process = next(one for one in snapshot.processes if one.pid == pid)
    assert process.status
    state = str(changes.pop("state", "S"))
    status = process.status._replace(**changes)  # type: ignore[union-attr, arg-type]
    thread = Thread(pid + 90_000, b"worker", state, status, process.namespaces, None, True)
    return dataclasses.replace(snapshot, threads={pid: (thread,)})


def table(snapshot: Snapshot) -> str:
    """What a person sees."""
    model = build(snapshot)
    return capslist.caps_table(model, powers(snapshot, model), width=None, colour=False)


def caps(*arguments: str) -> list[dict[str, object]]:
    """What the command says in JSON."""
    done = runner().invoke(cli, ["--root", ROOT, "caps", *arguments, "--json"], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found: list[dict[str, object]] = json.loads(done.stdout)["tasks"]
    return found


def test_every_process_is_there_once(snapshot: Snapshot):
    assert [pid for pid, tid in of(snapshot) if pid == tid] == sorted(one.pid for one in snapshot.processes)


def test_sets_are_those_of_its_status(snapshot: Snapshot):
    for process in snapshot.processes:
        assert process.status
        one = of(snapshot)[process.pid, process.pid]
        assert (one.effective, one.permitted, one.bounding) == (
            process.status.cap_eff,
            process.status.cap_prm,
            process.status.cap_bnd,
        )


def test_a_thread_like_its_process_is_no_line_and_one_unlike_it_is(snapshot: Snapshot):
    pid = init_of(snapshot, "web")
    assert of(with_thread(snapshot, pid)).keys() == of(snapshot).keys()
    for change in ({"cap_eff": 0}, {"cap_bnd": 0}, {"cap_amb": 1}, {"cap_inh": 1}, {"cap_prm": 0}):
        assert (pid, pid + 90_000) in of(with_thread(snapshot, pid, **change))


def test_a_thread_with_more_than_init_stands_out(snapshot: Snapshot):
    pid = init_of(snapshot, "web")
    more = with_thread(snapshot, pid, cap_eff=OLDEST_FULL_SET, cap_prm=OLDEST_FULL_SET)
    assert of(more)[pid, pid + 90_000].unlike_init
    assert not of(more)[pid, pid].unlike_init
    assert "└ " in table(more)


def test_a_thread_that_ends_is_not_one_that_dropped(snapshot: Snapshot):
    pid = init_of(snapshot, "web")
    assert of(with_thread(snapshot, pid, state="Z", cap_eff=0)).keys() == of(snapshot).keys()


def test_in_a_child_user_namespace_power_is_relative(snapshot: Snapshot):
    pid = init_of(snapshot, "agent")
    processes = tuple(
        one._replace(namespaces=one.namespaces._replace(user=4242)) if one.pid == pid else one
        for one in snapshot.processes
    )
    inside = dataclasses.replace(snapshot, processes=processes)

    assert of(inside)[pid, pid].relative_to == 4242
    assert of(snapshot)[pid, pid].relative_to is None
    assert "sleep*" in table(inside)


def test_having_asks_for_every_capability_and_counts_what_can_be_raised(snapshot: Snapshot):
    agent, web = init_of(snapshot, "agent"), init_of(snapshot, "web")
    inside = {one.pid for one in having(powers(snapshot, build(snapshot)), ADMIN) if one.container}
    assert agent in inside
    assert web not in inside
    latent = with_thread(snapshot, web, cap_eff=0, cap_prm=ADMIN)
    assert (web, web + 90_000) in {(one.pid, one.tid) for one in having(powers(latent, build(latent)), ADMIN)}
    both = mask_of(["NET_ADMIN", "SYS_ADMIN"])
    assert web not in {one.pid for one in having(powers(snapshot, build(snapshot)), both)}


def test_the_table_says_what_init_got_beside_the_default_and_who_is_unlike_it():
    done = runner().invoke(cli, ["--root", ROOT, "caps"], catch_exceptions=False)
    assert "web · docker · docker's default, + NET_ADMIN, - SETPCAP" in done.stdout
    assert "sidecar · docker · docker's default\n" in done.stdout
    assert "none" in done.stdout
    assert "kthreadd" not in done.stdout


def test_marks_are_those_that_pscaps_users_know(snapshot: Snapshot):
    pid = init_of(snapshot, "web")
    line = {"cap_eff": 1, "cap_prm": 1, "cap_bnd": 3, "cap_amb": 1}
    assert "chown +@" in table(with_thread(snapshot, pid, **line))
    assert "chown @" in table(with_thread(snapshot, pid, **{**line, "cap_bnd": 1}))
    latent = {"cap_eff": 0, "cap_prm": 1, "cap_bnd": 1, "cap_amb": 0}
    assert "chown (not raised: chown)" in table(with_thread(snapshot, pid, **latent))


def test_has_finds_processes_of_the_host_too():
    found = caps("--has", "cap_sys_admin")
    assert {one["container"] is None for one in found} == {True, False}
    assert all("CAP_SYS_ADMIN" in one["effective"]["names"] for one in found)  # type: ignore[index]
    assert caps("--has", "sys_admin", "--has", "SYS_MODULE") == caps("--has", "sys_module", "--has", "sys_admin")


def test_a_name_that_is_no_capability_is_refused():
    done = runner().invoke(cli, ["--root", ROOT, "caps", "--has", "root"])
    assert done.exit_code == 2
    assert "expected a capability name" in done.stderr


def test_one_container_is_asked_for_by_its_name():
    found = caps("web")
    assert {one["comm"] for one in found} == {"sleep"}
    assert len(found) == 2
    done = runner().invoke(cli, ["--root", ROOT, "caps", "nobody"])
    assert done.exit_code == 3


def test_threads_of_this_process_are_read():
    """The kernel's own: a thread of ours, by its name."""
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait)
    thread.start()
    try:
        snapshot = closer(Roots())
    finally:
        stop.set()
        thread.join()
    assert thread.native_id in {one.tid for one in snapshot.threads[os.getpid()]}
    assert os.getpid() not in {one.tid for one in snapshot.threads[os.getpid()]}


def test_hostile_names_do_not_reach_the_terminal(snapshot: Snapshot):
    processes = tuple(p._replace(comm=b"\x1b[31m\xff\n") for p in snapshot.processes)
    assert all(line.isprintable() for line in table(dataclasses.replace(snapshot, processes=processes)).splitlines())


def test_threads_of_the_next_process_of_a_pid_are_not_this_ones():
    """What is read later is read of the same process, or not at all; namespaces' holders too.  Fails without the
    start time."""
    mine = next(one for one in collect(Roots()).processes if one.pid == os.getpid())
    collector = Collector(Roots())
    before_it = (mine._replace(starttime=mine.starttime - 1),)

    assert tasks.threads(collector, Roots(), before_it, collector.again, collector.namespaces) == {}
    lineage = nsfs.lineage(collector, Roots(), before_it, (), collector.again, descriptors=True)
    assert (lineage.kin, lineage.holders) == ({}, ())
    assert collector.vanished == 2
    assert nsfs.lineage(collector, Roots(), (mine,), (), collector.again, descriptors=False).kin
