"""Where systemd and the engine both have a say: drift that ``systemctl daemon-reload`` makes, and none without it.

One boot of the QEMU guest (Debian's systemd and kernel, cgroup v2, Docker's systemd driver) answers everything.
"""

from __future__ import annotations

import json
import shlex
from typing import Any

import pytest

from tests.live.flags import CASES, MIB
from tests.live.qemu import Qemu

FLAGS = {case.name: case.flags for case in CASES}


def flags(*cases: str) -> tuple[str, ...]:
    """Of several cases at once: a container takes seconds here."""
    return tuple(flag for case in cases for flag in FLAGS[case])


# The engine of each, and its flags; together all of the table that do not exclude each other.
CONTAINERS = {
    "plain": ("docker", ()),
    "no-swap": ("docker", flags("no-swap", "pids", "labelled")),
    "limited": ("docker", flags("swap-twice", "cpus", "shares", "cpuset-one", "cap-add")),
    "endless": ("docker", flags("endless-swap", "half-cpu", "cpuset-two", "cap-all")),
    "reserved": ("docker", flags("reserved", "user", "cap-drop", "no-new-privs", "read-only")),
    "hosts": ("docker", flags("pid-host", "net-host", "ipc-host", "uts-host", "no-seccomp")),
    "privileged": ("docker", ("--privileged",)),
    "podman-limited": ("podman", flags("no-swap", "half-cpu", "pids", "shares")),
    "podman-confined": ("podman", flags("user", "cap-drop", "no-new-privs", "read-only")),
}
SWAP = "no-swap"
SCRIPT = """
set -e
export PYTHONPATH=/opt/nsinspect; cd /run
start-docker
docker import /opt/rootfs.tar bb >&2
podman import -q /opt/rootfs.tar bb >&2 &
systemctl start job.slice
systemctl set-property --runtime job.slice MemoryMax=50M CPUQuota=30%
docker run -d --name job --cgroup-parent job.slice --network none bb sleep 3000 >&2
wait
{starts}
wait
ask() {{ local status=0; python3 -m nsinspect "$@" >answer || status=$?; echo "[$status, $(cat answer)]"; }}
asked_in_words() {{ local status=0; python3 -m nsinspect "$@" >answer || status=$?
    python3 -c 'import json, sys; print(json.dumps([int(sys.argv[1]), open("answer").read()]))' $status; }}
scope=docker-$(docker inspect --format '{{{{.Id}}}}' {swap}).scope
swap_max() {{ cat /sys/fs/cgroup/system.slice/$scope/memory.swap.max; }}
says() {{ docker inspect --format '{{{{.HostConfig.MemorySwap}}}}' {swap}; }}
printf '{{"before": '; ask drift --json
printf ', "kernel before": "%s", "docker before": %s' $(swap_max) $(says)
printf ', "job": '; ask show job --json
systemctl daemon-reload
printf ', "after": '; ask drift --json
printf ', "words after": '; asked_in_words drift {swap}
printf ', "kernel after": "%s", "docker after": %s' $(swap_max) $(says)
printf '}}'
"""


@pytest.fixture(scope="module")
def answers() -> dict[str, Any]:
    """Everything that the guest tells."""
    starts = []
    for name, (engine, told) in CONTAINERS.items():
        network = () if "--net" in told else ("--network", "none")
        starts.append(shlex.join([engine, "run", "-d", "--name", name, *network, *told, "bb", "sleep", "3000"]))
    script = SCRIPT.format(starts="\n".join(f"{one} >&2 &" for one in starts), swap=SWAP)
    found: dict[str, Any] = json.loads(Qemu().run(script, timeout=600))
    return found


def drifts(document: dict[str, Any]) -> dict[str, Any]:
    """What drifted of each container, by name."""
    return {one["name"]: one["drift"] for one in document["drift"]}


@pytest.mark.parametrize("name", CONTAINERS)
def test_a_container_started_normally_has_not_drifted(name: str, answers: dict[str, Any]):
    """Whatever the flag and the engine: what systemd adds of its own, like TasksMax, is no drift."""
    assert drifts(answers["before"][1])[name] == []


def test_nothing_has_drifted_before_the_reload(answers: dict[str, Any]):
    """Exit 0, and the kernel allows no swap, as Docker says."""
    assert answers["before"][0] == 0
    assert (answers["kernel before"], answers["docker before"]) == ("0", 64 * MIB)


def test_a_daemon_reload_takes_the_swap_limit_away_and_drift_says_so(answers: dict[str, Any]):
    """Docker still says none (moby#51446): exactly one drift, with both values and the cgroup, and exit 1."""
    status, document = answers["after"]
    (container,) = [one for one in document["drift"] if one["name"] == SWAP]
    (drift,) = container["drift"]

    assert (answers["kernel after"], answers["docker after"]) == ("max", 64 * MIB)
    assert status == 1
    assert (drift["field"], drift["declared"], drift["enforced"]) == ("limits.memory.own.swap_max_bytes", 0, "max")
    assert drift["where"] == f"/system.slice/docker-{container['id']}.scope"


def test_a_daemon_reload_is_one_line_for_a_person(answers: dict[str, Any]):
    """The container, the field, both values and the cgroup."""
    status, words = answers["words after"]
    (line,) = [line for line in words.splitlines() if line.startswith(SWAP)]
    (identity,) = [one["id"] for one in answers["after"][1]["drift"] if one["name"] == SWAP]

    assert status == 1
    assert "swap: declared 0 B, enforced NO LIMIT" in line
    assert f"/system.slice/docker-{identity}.scope" in line


def test_limits_of_a_slice_are_those_of_the_container_in_it(answers: dict[str, Any]):
    """``systemctl set-property job.slice MemoryMax=50M CPUQuota=30%``, and nothing of the container's own."""
    status, document = answers["job"]
    cpu, memory = (document["container"]["limits"][what] for what in ("cpu", "memory"))

    assert status == 0
    assert document["container"]["cgroup"]["path"].startswith("/job.slice/")
    assert (cpu["own"]["cores"], memory["own"]["max_bytes"]) == ("max", "max")
    assert (cpu["effective"]["cores"], cpu["effective"]["imposed_by"]) == (0.3, "/job.slice")
    assert (memory["effective"]["max_bytes"], memory["effective"]["imposed_by"]) == (50 * MIB, "/job.slice")


def test_nothing_else_changes_by_a_daemon_reload(answers: dict[str, Any]):
    """No other container has drifted after it."""
    assert {name for name, found in drifts(answers["after"][1]).items() if found} == {SWAP}
