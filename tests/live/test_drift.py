"""What was asked for against what the kernel enforces: silent while they agree, exact when they do not.

Containers of flags.py under Docker on this machine, and a few of podman's in user-mode Linux.  Limits are changed
behind the engine's back by writing into the cgroup.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.live.docker import Docker
from tests.live.flags import CASES, MIB, Flags
from tests.live.uml import V2, Uml

Run = Callable[..., subprocess.CompletedProcess[bytes]]
CGROUPS = Path("/sys/fs/cgroup")
OURS = "drift-"
NO_DRIFT: list[Any] = []

EXCLUDED = {
    # Identity.
    "id": "a new container has a new one",
    "name": "a person gives it, and --name was appended",
    "labels": "a person gives them; they are no property of what runs",
    "evidence": "names files and cgroups, which contain the id",
    "cgroup": "its paths contain the id",
    "declared.source": "the path of the file contains the id",
    "init.pid": "a new process",
    "pids": "new processes",
    "limits.cpu.effective.imposed_by": "a cgroup's path, compared as 'its own' or another's",
    "limits.memory.effective.imposed_by": "the same",
    "limits.memory.effective.swap_imposed_by": "the same",
    "limits.pids.effective.imposed_by": "the same",
    **{f"namespaces.{kind}.inode": "a new namespace" for kind in ("cgroup", "ipc", "mnt", "net", "pid", "uts")},
    # With --pid host it is the host's number.
    "init.ns_pid": "a new process",
    # Time.
    "created_at": "later",
    "init.started_at": "later",
    "usage": "counts what has happened",
}
"""Keys of a container that say who it is and when, and why each does; all others must be the same."""


@pytest.fixture(scope="module", autouse=True)
def everything_removed(docker: Docker) -> Iterator[None]:
    """No container of this module outlives it: others count those that run."""
    yield
    mine = docker("ps", "-aq", "--filter", f"name=^/{OURS}").split()
    if mine:
        docker("rm", "-f", *mine)


def named(case: Flags) -> tuple[str, ...]:
    """The flags of a case, with the names of our own containers."""
    return tuple(flag.replace("container:", f"container:{OURS}") for flag in case.flags)


@pytest.fixture(scope="module")
def started(docker: Docker) -> dict[str, str]:
    """All containers of the table; ids by the name of the case."""
    with ThreadPoolExecutor(4) as pool:
        found = {CASES[0].name: docker.run(OURS + CASES[0].name, *named(CASES[0]))}  # the one that another joins
        ids = pool.map(lambda case: docker.run(OURS + case.name, *named(case)), CASES[1:])
        return found | {case.name: identity for case, identity in zip(CASES[1:], ids, strict=True)}


@pytest.fixture(scope="module")
def at_start(started: dict[str, str], ask: Callable[..., dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """What nsinspect says of each before anything else happens, by the name of the case."""
    by_id = {container["id"]: container for container in ask("list")["containers"]}
    return {name: by_id[identity] for name, identity in started.items()}


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_container_started_normally_has_not_drifted(case: Flags, at_start: dict[str, dict[str, Any]]):
    """Whatever the flag; something is declared, and it is what the kernel enforces."""
    assert at_start[case.name]["declared"] is not None
    assert at_start[case.name]["drift"] == []


def test_no_drift_is_exit_0(at_start: dict[str, dict[str, Any]], run: Run):
    """Of one container, and of all when nobody else's on this machine has drifted either."""
    every = run("drift", "--json")
    drifted = {one["name"] for one in json.loads(every.stdout)["drift"] if one["drift"]}
    alone = {name: run("drift", OURS + name) for name in ("plain", "no-swap", "cap-all", "read-only")}

    assert (drifted & {OURS + name for name in at_start}, every.returncode) == (set(), int(bool(drifted)))
    assert {name: answer.returncode for name, answer in alone.items()} == dict.fromkeys(alone, 0)
    assert alone["plain"].stdout == b"0 of 1 container drifted from what was declared\n"


CHANGES: tuple[tuple[str, tuple[str, ...], dict[str, str], dict[str, tuple[Any, Any]]], ...] = (
    ("quota", ("--cpus", "1.5"), {"cpu/cpu.cfs_quota_us": "70000"}, {"limits.cpu.own.cores": (1.5, 0.7)}),
    (
        "memory",
        ("--memory", "64m", "--memory-swap", "128m"),
        {"memory/memory.limit_in_bytes": str(48 * MIB), "memory/memory.memsw.limit_in_bytes": str(112 * MIB)},
        {"limits.memory.own.max_bytes": (64 * MIB, 48 * MIB)},
    ),
    (
        "swap",
        ("--memory", "64m", "--memory-swap", "64m"),
        {"memory/memory.memsw.limit_in_bytes": "-1"},
        {"limits.memory.own.swap_max_bytes": (0, "max")},
    ),
    (
        # memsw counts both together, so less memory leaves more of it to swap.
        "memory-alone",
        ("--memory", "64m", "--memory-swap", "128m"),
        {"memory/memory.limit_in_bytes": str(32 * MIB)},
        {
            "limits.memory.own.max_bytes": (64 * MIB, 32 * MIB),
            "limits.memory.own.swap_max_bytes": (64 * MIB, 96 * MIB),
        },
    ),
    ("pids", ("--pids-limit", "40"), {"pids/pids.max": "60"}, {"limits.pids.own.max": (40, 60)}),
    ("no-pids", (), {"pids/pids.max": "30"}, {"limits.pids.own.max": ("max", 30)}),
    ("shares", ("--cpu-shares", "512"), {"cpu/cpu.shares": "256"}, {"limits.cpu.own.shares": (512, 256)}),
    (
        "all",
        ("--cpus", "0.5", "--memory", "64m", "--memory-swap", "64m", "--pids-limit", "40", "--cpu-shares", "2048"),
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "memory/memory.memsw.limit_in_bytes": "-1",
            "memory/memory.limit_in_bytes": "-1",
            "pids/pids.max": "max",
            "cpu/cpu.shares": "1024",
        },
        {
            "limits.cpu.own.cores": (0.5, "max"),
            "limits.cpu.own.shares": (2048, 1024),
            "limits.memory.own.max_bytes": (64 * MIB, "max"),
            "limits.memory.own.swap_max_bytes": (0, "max"),
            "limits.pids.own.max": (40, "max"),
        },
    ),
)


@pytest.mark.parametrize(("name", "flags", "written", "expected"), CHANGES, ids=[change[0] for change in CHANGES])
def test_a_change_behind_dockers_back_is_named(
    name: str,
    flags: tuple[str, ...],
    written: dict[str, str],
    expected: dict[str, tuple[Any, Any]],
    docker: Docker,
    run: Run,
):
    """Exactly those fields, with both values and the cgroup; exit 1, and one line each for a person."""
    container = f"{OURS}behind-{name}"
    identity = docker.run(container, *flags)
    for file, value in written.items():
        controller, _, file_name = file.partition("/")
        (CGROUPS / controller / "docker" / identity / file_name).write_text(value)
    answer, page = run("drift", container, "--json"), run("drift", container)
    docker("rm", "-f", container)

    (found,) = json.loads(answer.stdout)["drift"]
    assert (answer.returncode, page.returncode) == (1, 1)
    assert {one["field"]: (one["declared"], one["enforced"]) for one in found["drift"]} == expected
    assert {one["where"] for one in found["drift"]} == {f"/docker/{identity}"}
    lines = page.stdout.decode().splitlines()
    assert len([line for line in lines if line.startswith(container) and f"/docker/{identity}" in line]) == len(
        expected
    )


def test_an_update_that_docker_knows_of_is_no_drift(docker: Docker, run: Run, ask: Callable[..., dict[str, Any]]):
    """``docker update`` changes the kernel's files and its own."""
    container = f"{OURS}updated"
    docker.run(container, "--cpus", "1", "--memory", "64m", "--memory-swap", "256m", "--pids-limit", "40")
    flags = ("--cpus", ".7", "--memory", "96m", "--memory-swap", "192m", "--pids-limit", "50", "--cpu-shares", "256")
    docker("update", *flags, container)
    answer, shown = run("drift", container), ask("show", container)["container"]
    docker("rm", "-f", container)

    assert (answer.returncode, shown["drift"]) == (0, [])
    assert shown["declared"]["limits"] == {
        "cpu": {"cores": 0.7, "shares": 256, "cpuset": None},
        "memory": {"max_bytes": 96 * MIB, "swap_max_bytes": 96 * MIB, "reservation_bytes": 0},
        "pids": {"max": 50},
    }


@pytest.fixture(scope="module")
def again(
    docker: Docker, started: dict[str, str], run: Run, ask: Callable[..., dict[str, Any]]
) -> dict[str, tuple[dict[str, Any], dict[str, Any]]]:
    """What is said of each container, and of one run by the command that ``show --as docker`` printed for it."""
    environment = {**os.environ, "DOCKER_HOST": docker.socket}

    def run_again(name: str) -> str:
        printed = run("show", started[name], "--as", "docker").stdout.decode()
        comments = [line for line in printed.splitlines() if line.startswith("#")]
        command = "\n".join(line for line in printed.splitlines() if not line.startswith("#"))
        assert command.startswith("docker run --detach")
        flags = f" --name {OURS}again-{name}"
        if any("a network namespace of its own" in comment for comment in comments):
            flags += " --network none"  # there is no bridge here
        command = command.replace("docker run --detach", f"docker run --detach{flags}", 1) + " sleep 3000"
        answer = subprocess.run(
            ["sh", "-c", command], capture_output=True, text=True, timeout=60, env=environment, check=True
        )
        return answer.stdout.strip()

    def shown() -> dict[str, dict[str, Any]]:
        # Each as show --json has it, in one go.
        return {container["id"]: container for container in ask("list", "--all")["containers"]}

    before = shown()
    with ThreadPoolExecutor(2) as pool:
        seconds = dict(zip(started, pool.map(run_again, started), strict=True))
    after = shown()
    return {name: (before[started[name]], after[seconds[name]]) for name in started}


def flat(value: Any, key: str = "") -> dict[str, Any]:
    """Leaves of a document by dotted path."""
    if not isinstance(value, dict) or not value:
        return {key: value}
    return {k: v for part, inner in value.items() for k, v in flat(inner, f"{key}.{part}" if key else part).items()}


def comparable(container: dict[str, Any], started: dict[str, str]) -> dict[str, Any]:
    """A container without who it is and when; whose namespaces it shares by name, and but for the one that joined in,
    because nobody joins a container that was run again."""
    names = {identity: name for name, identity in started.items()}
    paths = {container["cgroup"]["path"], *container["cgroup"]["paths"].values()}
    found = {}
    for key, value in flat(container).items():
        if key.endswith(".shared_with"):
            found[key] = sorted({names.get(identity, identity) for identity in value} - {"joined"})
        elif key.endswith("imposed_by"):
            found[key] = "its own cgroup" if value in paths else value
        elif not any(key == one or key.startswith(f"{one}.") for one in EXCLUDED):
            found[key] = value
    return found


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_show_as_docker_gives_the_same_container_again(
    case: Flags, again: dict[str, tuple[dict[str, Any], dict[str, Any]]], started: dict[str, str]
):
    """The printed command, run by Docker, gives one that differs in nothing but identity and time."""
    first, second = (comparable(container, started) for container in again[case.name])

    assert {key: (first.get(key), second.get(key)) for key in first | second if first.get(key) != second.get(key)} == {}


PODMANS = {
    "plain": "",
    "limited": "--memory 64m --memory-swap 64m --cpus 0.5 --pids-limit 40 --memory-reservation 32m",
    "privileged": "--privileged --pids-limit -1",
    "confined": "--user 1000 --security-opt no-new-privileges --read-only --cap-drop ALL --cpu-shares 512",
    "hosts": "--pid host --ipc host --uts host --security-opt seccomp=unconfined --cap-add NET_ADMIN",
}
SCRIPT = """
set -e
podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
podman import -q {rootfs} bb >&2
{starts}
ask() {{ local status=0; {python} -m nsinspect "$@" >answer || status=$?; echo "[$status, $(cat answer)]"; }}
cd /var/tmp; export PYTHONPATH={checkout}
printf '{{"before": '; ask drift --json
where=/sys/fs/cgroup/libpod_parent/libpod-$(podman inspect --format '{{{{.Id}}}}' limited)
echo "70000 100000" >$where/cpu.max
echo $((48 << 20)) >$where/memory.max
echo max >$where/memory.swap.max
printf ', "after": '; ask drift limited --json
printf '}}'
"""


@pytest.fixture(scope="module")
def podmans(rootfs: Path) -> dict[str, Any]:
    """``drift --json`` before and after a change behind podman's back, each with its exit status."""
    starts = "\n".join(f"podman run -d --name {n} --network none {f} bb sleep 1000 >&2" for n, f in PODMANS.items())
    checkout = shlex.quote(str(Path(__file__).parents[2]))
    words = {"rootfs": rootfs, "starts": starts, "python": shlex.quote(sys.executable), "checkout": checkout}
    found: dict[str, Any] = json.loads(Uml(cgroups=V2).run(SCRIPT.format(**words), timeout=240))
    return found


def test_podmans_containers_have_not_drifted_on_v2(podmans: dict[str, Any]):
    """Started normally, with podman's own defaults counted as asked for."""
    status, document = podmans["before"]
    found = {one["name"]: one["drift"] for one in document["drift"]}

    assert (status, found) == (0, dict.fromkeys(PODMANS, NO_DRIFT))


def test_a_change_behind_podmans_back_is_named_on_v2(podmans: dict[str, Any]):
    """cpu.max, memory.max and memory.swap.max, each with both values and the cgroup."""
    status, document = podmans["after"]
    (container,) = document["drift"]

    assert status == 1
    assert {one["field"]: (one["declared"], one["enforced"]) for one in container["drift"]} == {
        "limits.cpu.own.cores": (0.5, 0.7),
        "limits.memory.own.max_bytes": (64 * MIB, 48 * MIB),
        "limits.memory.own.swap_max_bytes": (0, "max"),
    }
    assert {one["where"] for one in container["drift"]} == {f"/libpod_parent/libpod-{container['id']}"}
