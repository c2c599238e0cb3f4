"""Somebody without privileges who wants all of nsinspect's memory and time, so that nobody else is seen."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.docker import Docker
from tests.live.engines import CGROUPS, cgroups_removed, until
from tests.live.exporter import Exporter, exporter

Ask = Callable[..., dict[str, Any]]
MIB = 1 << 20
USER = 54322
MOUNTS = 18_000
# What whoever is root in a user namespace of his own may do in a mount namespace of his own.
PILE = f"""
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
def mount(*arguments):
    if libc.mount(*arguments, None):
        raise OSError(ctypes.get_errno(), "mount")
assert libc.unshare(0x20000) == 0
mount(b"none", b"/", None, 0x4000 | 0x40000)
mount(b"none", b"/mnt", b"tmpfs", 0)
for _ in range({MOUNTS}):
    mount(b"/mnt", b"/mnt", None, 0x1000)
os.execvp("sleep", ["sleep", "2999"])
"""
PROCESSES = 2500
# What root of a container may do that an engine's defaults leave CAP_SETGID, and who has a range of subordinate gids.
CROWD = f"""
import os, signal, time
os.setgroups(range(100_000, 165_536))
for _ in range({PROCESSES}):
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
os.execvp("sleep", ["sleep", "2999"])
"""
HOLDERS = 200
HOARD = f"""
import os, resource, signal
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
for _ in range(min(hard, 50_000) - 50):
    os.set_inheritable(os.dup(0), True)
for _ in range({HOLDERS}):
    if os.fork() == 0:
        signal.pause()
        os._exit(0)
os.execvp("sleep", ["sleep", "2999"])
"""


@contextlib.contextmanager
def scopes(count: int, *command: str) -> Iterator[dict[str, int]]:
    """Containers by the naming of their cgroups alone, as a user has them in his slice: pids of their inits by id."""
    names = [f"greedy-{number}-{uuid.uuid4().hex[:8]}" for number in range(count)]
    running: list[subprocess.Popen[bytes]] = []
    enter = 'echo $$ > "$PLACE/cgroup.procs" || exit 9; exec "$@"'
    with cgroups_removed({f"runc-{name}.scope" for name in names}):
        try:
            for name in names:
                place = CGROUPS / "pids" / f"runc-{name}.scope"
                place.mkdir()
                running.append(
                    subprocess.Popen(["sh", "-c", enter, "sh", *command], env={**os.environ, "PLACE": str(place)})
                )
            for one in running:
                comm = Path(f"/proc/{one.pid}/comm")
                until(lambda comm=comm: comm.read_bytes() == b"sleep\n", "a process that has done its work", 200)
            yield dict(zip(names, (one.pid for one in running), strict=True))
        finally:
            for name in names:
                for pid in (CGROUPS / "pids" / f"runc-{name}.scope/cgroup.procs").read_text().split():
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(int(pid), signal.SIGKILL)
            for one in running:
                one.wait(60)


@pytest.fixture
def bystander(docker: Docker) -> Iterator[str]:
    """A container of somebody else."""
    yield docker.run("bystander-of-greed", "-v", "/srv:/data", "--label", "a=b")
    docker("rm", "-f", "bystander-of-greed")


def scraped(running: Exporter) -> tuple[dict[str, str], set[str]]:
    """Names by short id, and collectors that failed."""
    with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=60) as answer:
        families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
    success = families["nsinspect_scrape_collector_success"].samples
    return (
        {one.labels["id"]: one.labels["name"] for one in families["nsinspect_container_info"].samples},
        {one.labels["collector"] for one in success if not one.value},
    )


@pytest.fixture
def greedy_files() -> Iterator[dict[str, int]]:
    """A user's containers, and of each a state file of megabytes: of values, or of one text."""
    place = Path(f"/run/user/{USER}")
    with scopes(24, "sleep", "2999") as inits:
        try:
            for number, name in enumerate(inits):
                folder = place / "runc" / name
                folder.mkdir(parents=True)
                values, text = '{"a":1},' * 200_000, "x" * 2_000_000
                more = f'"x": [{values} 1]' if number % 2 else f'"config": {{"labels": ["a={text}"]}}'
                (folder / "state.json").write_text(f'{{"id": "{name}", {more}}}')
            for path in (place, *place.rglob("*")):
                os.chown(path, USER, USER)
            yield inits
        finally:
            shutil.rmtree(place, ignore_errors=True)


def test_a_users_files_do_not_fill_an_exporters_memory(greedy_files: dict[str, int], bystander: str, tmp_path: Path):
    """Fails without the bound on the values of a file in ``oci``, and without ``Reader._room``: 24 files were a
    gigabyte, and the service has 256 MiB."""
    with exporter(tmp_path) as running:
        scrapes = [scraped(running) for _ in range(3)]
        resident = running.rss()

    assert resident < 150 * MIB
    for names, failed in scrapes:
        assert failed == set()
        assert names[bystander[:12]] == "bystander-of-greed"
        assert names.keys() >= greedy_files.keys()


def test_a_users_files_cost_an_issue_each_and_no_container(greedy_files: dict[str, int], bystander: str, ask: Ask):
    """Of what fits all is told; an issue names each file that does not, and why."""
    whole = ask("list")
    found = {one["id"]: one for one in whole["containers"]}
    issues = {issue["path"].split("/")[-2]: issue["detail"] for issue in whole["issues"] if str(USER) in issue["path"]}

    assert found[bystander]["labels"]["a"] == "b"
    assert found.keys() >= greedy_files.keys()
    told = {name for name in greedy_files if found[name]["labels"] is not None}
    assert told
    assert told | issues.keys() == greedy_files.keys()
    assert {detail.rpartition(" than ")[0] or detail for detail in issues.values()} == {
        f"with those before it of uid {USER} larger",
        "expected JSON of at most 65536 values",
    }


def test_mounts_upon_mounts_cost_what_is_known_of_them_and_of_nobody_else(bystander: str, ask: Ask, tmp_path: Path):
    """To write the table of one down takes the kernel longer than a scrape has for all.  Fails without ``Effort``: the
    exporter lost what it says of every container's confinement, and each command took as long as the kernel."""
    with scopes(2, sys.executable, "-c", PILE) as inits, exporter(tmp_path) as running:
        scrapes = [scraped(running) for _ in range(2)]
        pages = {name: ask("show", name) for name in (*inits, "bystander-of-greed")}

    assert [failed for _, failed in scrapes] == [set()] * 2
    for name in inits:
        assert pages[name]["container"]["mounts"] is None
        (why,) = (issue["detail"] for issue in pages[name]["issues"] if issue["path"].endswith("/mountinfo"))
        assert "of our processor" in why
    seen = {one["point"]: one["host_path"] for one in pages["bystander-of-greed"]["container"]["mounts"]}
    assert seen["/data"] == "/srv"


def test_a_crowd_in_many_groups_costs_what_is_known_of_it_and_of_nobody_else(bystander: str, ask: Ask, tmp_path: Path):
    """To write down ``status`` of all of them takes the kernel longer than a scrape has for all processes.  Fails
    without ``Shares``: the exporter lost every container."""
    with scopes(1, sys.executable, "-c", CROWD) as inits, exporter(tmp_path) as running:
        scrapes = [scraped(running) for _ in range(2)]
        whole = ask("list")

    ((name, init),) = inits.items()
    found = {one["id"]: one for one in whole["containers"]}
    for names, failed in scrapes:
        assert failed == set()
        assert names[bystander[:12]] == "bystander-of-greed"
    assert found[bystander]["capabilities"]["effective"] is not None
    assert found[name]["init"]["pid"] == init
    assert found[name]["capabilities"]["effective"] is not None
    assert len(found[name]["pids"]) == PROCESSES + 1
    (issue,) = (one for one in whole["issues"] if "so many groups" in one["detail"])
    assert set(issue["pids"]) < set(found[name]["pids"])


def test_descriptors_without_number_cost_what_is_known_of_them_and_of_nobody_else(docker: Docker, ask: Ask):
    """Of many processes more than there is time for.  Fails without ``Shares`` there: what is recorded every few
    seconds took twenty, and a capture had a line for each of millions."""
    bystander = docker.run("listener", "--net", "none", command=("/bin/busybox", "nc", "-l", "-p", "8080"))
    try:
        with scopes(1, sys.executable, "-c", HOARD) as inits:
            whole = ask("net")
    finally:
        docker("rm", "-f", "listener")

    (init,) = inits.values()
    (listener,) = (net for net in whole["networks"] if bystander in net["containers"])
    (unasked,) = (issue["pids"] for issue in whole["issues"] if "descriptors of processes beside it" in issue["detail"])
    assert [(it["port"], bool(it["pids"])) for it in listener["listening"]] == [(8080, True)]
    assert len(unasked) > HOLDERS // 4
    assert init not in unasked
