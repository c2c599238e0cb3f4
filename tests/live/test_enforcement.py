"""Behaviour decides: what processes get is what nsinspect says they may use, on v1 and on v2.

Loads of behaviour.py run once on each kernel; nsinspect is asked while they do, and the kernel's counters tell what
they got.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.live import behaviour
from tests.live.behaviour import MIB, STEP_PAGES, TOP
from tests.live.docker import Docker
from tests.live.uml import Uml

HERE = Path(__file__).parent
PAGE = 4096
Answers = dict[str, dict[str, dict[str, Any]]]

OWN = "its own cgroup"
# Effective cores, and who imposes them: the quota of whom, or the cpuset of the container.
CORES = {
    "v1": {
        "own-quota": (0.5, OWN),
        "parents-quota": (0.3, f"{TOP}/small"),
        "cpuset": (1, OWN),
        "quota-and-cpuset": (0.6, OWN),
        "more-than-one": (1.5, OWN),
        "cpuset-below-quota": (1, OWN),
    },
    "v2": {
        "own-quota": (0.2, OWN),
        "parents-quota": (0.3, f"{TOP}/small"),
        "tighter-parent": (0.25, f"{TOP}/narrow"),
        "tighter-own": (0.1, OWN),
    },
}
EVERY = [(version, name) for version, rows in CORES.items() for name in rows]


@pytest.fixture(scope="module")
def allocate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that uses memory and processes up; it needs no library."""
    program = tmp_path_factory.mktemp("allocate") / "allocate"
    command = ["cc", "-O1", "-Wall", "-Werror", "-static", "-o", str(program), str(HERE / "allocate.c")]
    subprocess.run(command, check=True, timeout=60)
    return program


@pytest.fixture(scope="module")
def v1(docker: Docker, allocate: Path) -> Answers:
    """Docker on this machine."""
    return behaviour.on_v1(behaviour.OnV1(docker, str(allocate)))


@pytest.fixture(scope="module")
def v2(allocate: Path, tmp_path_factory: pytest.TempPathFactory) -> Answers:
    """Cgroups like podman's in user-mode Linux."""
    words = (sys.executable, "-m", "tests.live.behaviour", str(allocate), str(tmp_path_factory.mktemp("loads")))
    found: Answers = json.loads(Uml().run(f"ip link set lo up 2>/dev/null; exec {shlex.join(words)}", timeout=180))
    return found


@pytest.fixture(params=["v1", "v2"])
def version(request: pytest.FixtureRequest) -> str:
    """Of cgroups."""
    return str(request.param)


@pytest.fixture
def answers(version: str, request: pytest.FixtureRequest) -> Answers:
    """Everything of one kernel."""
    found: Answers = request.getfixturevalue(version)
    return found


def cgroup_of(answer: dict[str, Any], controller: str) -> str:
    """A container's own cgroup for a controller."""
    paths = answer["reported"]["cgroup"]["paths"]
    return str(paths[controller] if controller in paths else paths[""])


def imposed(bound: dict[str, Any], answer: dict[str, Any], controller: str) -> str:
    """Who imposes a limit, by name where that is the container itself."""
    return OWN if bound["imposed_by"] == cgroup_of(answer, controller) else str(bound["imposed_by"])


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_the_tightest_cpu_limit_is_reported_with_who_imposes_it(version: str, name: str, answers: Answers):
    """A quota of its own, a parent's, a cpuset, and two of them at once."""
    answer = answers["cpu"][name]
    effective = answer["reported"]["limits"]["cpu"]["effective"]
    controller = "cpuset" if name.startswith("cpuset") else "cpu"

    assert (effective["cores"], imposed(effective, answer, controller)) == CORES[version][name]


@pytest.mark.parametrize(("version", "name"), EVERY)
def test_a_busy_loop_gets_the_reported_cores(name: str, answers: Answers):
    """Within a tenth, over five seconds."""
    answer = answers["cpu"][name]
    cores = answer["reported"]["limits"]["cpu"]["effective"]["cores"]

    assert answer["got"] == pytest.approx(cores, rel=0.1), answer["measured"]


@pytest.mark.parametrize(
    ("version", "greedy", "modest", "key"),
    [("v1", "shares-1024", "shares-512", "shares"), ("v2", "weight-100", "weight-50", "weight")],
)
def test_contention_is_decided_by_the_reported_shares_or_weights(greedy: str, modest: str, key: str, answers: Answers):
    """Two that want one CPU get it in that proportion, within 15 %."""
    found = answers["cpu"]
    one, other = (found[name]["reported"]["limits"]["cpu"]["own"][key] for name in (greedy, modest))

    assert (one, other) == tuple(int(name.partition("-")[2]) for name in (greedy, modest))
    assert found[greedy]["ratio"] == pytest.approx(one / other, rel=0.15), [
        found[n]["measured"] for n in (greedy, modest)
    ]


@pytest.mark.parametrize(
    ("name", "limit", "by"), [("own-memory", 64 * MIB, OWN), ("parents-memory", 50 * MIB, f"{TOP}/small")]
)
def test_an_allocator_is_killed_at_the_reported_memory_limit(name: str, limit: int, by: str, answers: Answers):
    """Its own limit or its parent's, within two pages for each step; without swap here, so that is all there is."""
    answer = answers["memory"][name]
    effective = answer["reported"]["limits"]["memory"]["effective"]
    assert (effective["max_bytes"], imposed(effective, answer, "memory")) == (limit, by)

    steps = answer["steps"]
    missing = effective["max_bytes"] // PAGE - steps * STEP_PAGES
    assert answer["status"] == 128 + 9
    assert 0 <= missing <= 2 * steps


@pytest.mark.parametrize("name", ["own-memory", "parents-memory"])
def test_a_kill_for_lack_of_memory_is_counted(name: str, answers: Answers):
    """Beside the limit, once and no more, whoever imposes it."""
    assert answers["memory"][name]["reported"]["usage"]["oom_kills"] == 1


@pytest.mark.parametrize(("name", "limit", "by"), [("own-pids", 40, OWN), ("parents-pids", 25, f"{TOP}/small")])
def test_a_fork_loop_stops_at_the_reported_pids_limit(name: str, limit: int, by: str, answers: Answers):
    """Its own limit or its parent's, to the process: the children and the loop itself."""
    answer = answers["pids"][name]
    effective = answer["reported"]["limits"]["pids"]["effective"]
    assert (effective["max"], imposed(effective, answer, "pids")) == (limit, by)

    assert answer["refused"]
    assert answer["children"] + 1 == effective["max"] == answer["reported"]["usage"]["pids"]


def test_a_container_without_limits_has_those_of_its_parent(answers: Answers):
    """50 MiB and 0.3 cores, imposed by that path, and nothing of its own."""
    limits = answers["cpu"]["parents-quota"]["reported"]["limits"]
    cpu, memory = limits["cpu"], limits["memory"]

    assert (cpu["own"]["cores"], memory["own"]["max_bytes"], limits["pids"]["own"]["max"]) == ("max", "max", "max")
    assert (cpu["effective"]["cores"], cpu["effective"]["imposed_by"]) == (0.3, f"{TOP}/small")
    assert (memory["effective"]["max_bytes"], memory["effective"]["imposed_by"]) == (50 * MIB, f"{TOP}/small")


def test_the_kernels_own_account_of_the_memory_limit_agrees(v1: Answers):
    """V1's hierarchical_memory_limit is what nsinspect found on its own way up."""
    every = [answer for kind in v1.values() for answer in kind.values()]
    endless = (1 << 63) - PAGE
    theirs = [answer["hierarchical_memory_limit"] for answer in every]
    ours = [answer["reported"]["limits"]["memory"]["effective"]["max_bytes"] for answer in every]

    assert ours == ["max" if limit == endless else limit for limit in theirs]
    assert {64 * MIB, 50 * MIB} < set(theirs)
    assert [issue for answer in every for issue in answer["contradictions"]] == []
