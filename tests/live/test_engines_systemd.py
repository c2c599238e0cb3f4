"""Every engine that runs under systemd on pure cgroup v2: who is which container, with no engine asked.

One boot answers everything (systemd_guest.py).  Expectations are the engines' own words, or the bundle's.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from tests.live.qemu import Qemu

Answers = dict[str, Any]
MIB = 1 << 20
SCHEMA = Path(__file__).parents[2] / "nsinspect/schema.json"
FACTS = ("id", "name", "image", "runtime", "kind", "parent", "pids")
"""What an engine and nsinspect must agree on, word for word; pods are compared by :func:`pod_facts`."""

CONTAINERS = {
    "docker": {"aa", "sliced", "privileged", "joined"},
    "podman": {"limited", "nocgroup", "inpod", "infra", "split"},
    "podman rootless": {"u"},
    "containerd": {"ct1", "web.1"},
    "kubernetes/containerd": {"web/sandbox", "web/app", "etcd-node1/etcd"},
    "kubernetes/cri-o": {"db-0/sandbox", "db-0/postgres"},
    "runc": {"rc1", "rc2"},
    "crun": {"cr1"},
    "lxc": {"box"},
    "nspawn": {"m1", "m2"},
}
ENGINES = tuple(CONTAINERS)
KEYS = [(engine, key) for engine, keys in CONTAINERS.items() for key in sorted(keys)]
HAS_STATE = {*ENGINES} - {"lxc", "nspawn"}
"""Engines that keep a file that tells of a container like ours; LXC's is where ``-P`` said, and names no image."""


class Row(NamedTuple):
    """One row of the matrix in the docs."""

    engine: str
    version: str
    kernel: str
    proved: tuple[str, ...]


@cache
def ask_guest() -> Answers:
    """Everything that the guest tells; it boots once in the life of this process."""
    guest = Qemu()
    found: Answers = json.loads(guest.run("python3 /opt/nsinspect/tests/live/systemd_guest.py", timeout=900))
    return found


@pytest.fixture(scope="module")
def answers() -> Answers:
    """Engines' words and nsinspect's, from one boot."""
    return ask_guest()


def expected_of(answers: Answers, engine: str) -> dict[str, dict[str, Any]]:
    """An engine's own containers by our name for each."""
    return {one["key"]: one for one in answers["expected"] if one["engine"] == engine}


def one_expected(answers: Answers, engine: str, key: str) -> dict[str, Any]:
    """One container as its engine tells it; an engine that failed to start fails here, with its words."""
    found = expected_of(answers, engine)
    assert key in found, answers["failed"]
    return found[key]


def listed(answers: Answers, question: str = "list") -> dict[str, dict[str, Any]]:
    """Containers that nsinspect lists, by id."""
    document = answers[question]["document"]
    assert document is not None, answers[question]
    return {one["id"]: one for one in document["containers"]}


def found_for(answers: Answers, engine: str, key: str, question: str = "list") -> dict[str, Any]:
    """What nsinspect says of one container of an engine."""
    theirs = one_expected(answers, engine, key)
    ours = listed(answers, question)
    where = answers["cgroups"][str(theirs["init"])]
    assert theirs["id"] in ours, f"{engine} {key} is not listed; its init is in {where}"
    return ours[theirs["id"]]


def pod_facts(pod: dict[str, Any] | None, like: dict[str, Any] | None) -> dict[str, Any] | None:
    """Of a pod what its engine tells."""
    return pod if pod is None or like is None else {key: pod[key] for key in like}


def identity(container: dict[str, Any]) -> dict[str, Any]:
    """Everything by which a container is recognised."""
    return {key: container[key] for key in (*FACTS, "pod")} | {"init": container["init"]["pid"]}


def disagreements(answers: Answers, engine: str, question: str = "list") -> dict[str, Any]:
    """Where nsinspect and an engine differ: (theirs, ours) by container and fact."""
    ours = listed(answers, question)
    found: dict[str, Any] = {}
    for key in CONTAINERS[engine]:
        theirs = expected_of(answers, engine).get(key)
        mine = ours.get(theirs["id"]) if theirs else None
        if theirs is None or mine is None:
            found[key] = "did not start" if theirs is None else "is not listed"
            continue
        pairs = {fact: (theirs[fact], mine[fact]) for fact in FACTS}
        pairs["pod"] = (theirs["pod"], pod_facts(mine["pod"], theirs["pod"]))
        pairs["init"] = (theirs["init"], mine["init"]["pid"])
        found |= {f"{key}.{fact}": pair for fact, pair in pairs.items() if pair[0] != pair[1]}
    return found


def survives(answers: Answers, engine: str) -> bool:
    """Whether an engine's containers are who they were, with every daemon killed."""
    before, after = listed(answers), listed(answers, "list_after")
    mine = [one["id"] for one in expected_of(answers, engine).values()]
    return all(name in after and identity(after[name]) == identity(before[name]) for name in mine)


def located(answers: Answers, pid: int, question: str = "pid") -> dict[str, Any]:
    """What ``nsinspect pid`` says of one process."""
    document = answers[question]["document"]
    assert document is not None, answers[question]
    (found,) = (one for one in document["processes"] if one["pid"] == pid)
    return dict(found)


def cgroup_of(answers: Answers, pid: int) -> str:
    """A process's cgroup by its own file."""
    (line,) = answers["cgroups"][str(pid)].splitlines()
    return str(line.removeprefix("0::"))


def at(container: dict[str, Any], keys: dict[str, Any]) -> dict[str, Any]:
    """The values at dotted paths."""
    found = {}
    for key in keys:
        value: Any = container
        for part in key.split("."):
            value = value[part]
        found[key] = value
    return found


def matrix_rows() -> list[Row]:
    """One row for each engine: what held on this kernel, by the same comparisons as the tests below."""
    answers = ask_guest()
    versions, kernel = answers["versions"], f"{answers['kernel']}, systemd, cgroup v2 (QEMU)"
    programs = {"podman rootless": "podman", "kubernetes/containerd": "runc", "kubernetes/cri-o": "crun"}
    rows = []
    for engine in ENGINES:
        wrong = disagreements(answers, engine)
        facts = [*FACTS[1:-1], "pod", "init", "pids"]
        # A container that is not listed at all leaves nothing to claim.
        whole = {key for key, what in wrong.items() if isinstance(what, str)}
        proved = [] if whole else ["id", *(fact for fact in facts if not any(k.endswith(f".{fact}") for k in wrong))]
        if not whole and survives(answers, engine):
            proved.append("the same with every daemon killed")
        program = programs.get(engine, engine)
        version = versions[program] if program == engine else f"{program} {versions[program]}"
        rows.append(Row(engine, version, kernel, tuple(proved)))
    kinds = {name: one["kind"] for one in listed(answers, "all").values() for name in [str(one["id"])]}
    for tool, one in answers["isolates"].items():
        proved = ("isolate, with --all alone",) if kinds.get(f"pid:{one['pid_namespace']}") == "isolate" else ()
        rows.append(Row(tool, versions[tool], kernel, proved))
    return rows


def test_every_engine_started(answers: Answers):
    """Each engine ran all its containers, so that nothing below passes for want of a question."""
    assert answers["failed"] == {}
    assert {engine: set(expected_of(answers, engine)) for engine in ENGINES} == CONTAINERS


def test_the_host_is_pure_v2(answers: Answers):
    """The guest is what this module is about, and nothing in it was unreadable."""
    document = answers["list"]["document"]

    assert document["host"]["cgroup"] == "v2"
    assert document["host"]["kernel"] == answers["kernel"]
    assert [issue for issue in document["issues"] if issue["kind"] != "not_offered"] == []


@pytest.mark.parametrize("question", ["list", "all", "pid", "show", "show_crio", "list_after", "pid_after"])
def test_documents_obey_the_schema(answers: Answers, question: str):
    """Every document of every engine is what the schema promises."""
    answer = answers[question]

    assert answer["status"] == 0, answer
    jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text())).validate(answer["document"])


@pytest.mark.parametrize(("engine", "key"), KEYS)
def test_a_container_is_what_its_engine_says(answers: Answers, engine: str, key: str):
    """Id, name, image, runtime, kind, parent, members, init and pod agree with the engine's own command."""
    theirs, ours = one_expected(answers, engine, key), found_for(answers, engine, key)

    assert {fact: ours[fact] for fact in FACTS} == {fact: theirs[fact] for fact in FACTS}
    assert ours["init"]["pid"] == theirs["init"]
    assert pod_facts(ours["pod"], theirs["pod"]) == theirs["pod"]


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_has_exactly_its_containers(answers: Answers, engine: str):
    """Of each runtime nsinspect lists what its engines run, no more."""
    runtimes = {one["runtime"] for one in expected_of(answers, engine).values()}
    theirs = {one["id"] for one in answers["expected"] if one["runtime"] in runtimes}

    assert {name for name, one in listed(answers).items() if one["runtime"] in runtimes} == theirs


def test_nothing_else_is_listed(answers: Answers):
    """What no engine calls its container is none: neither a helper nor an isolate nor a service."""
    theirs = {one["id"] for one in answers["expected"]}
    others = {name: one["cgroup"]["path"] for name, one in listed(answers).items() if name not in theirs}

    assert others == {}
    assert len(answers["list"]["document"]["containers"]) == len(theirs)


def test_helpers_are_no_containers(answers: Answers):
    """Monitors, shims, supervisors and the pause process of rootless podman belong to the host."""
    members = {pid: one["id"] for one in listed(answers).values() for pid in one["pids"]}
    about = {name: located(answers, pid) for name, pid in answers["helpers"].items()}

    assert {name: members[pid] for name, pid in answers["helpers"].items() if pid in members} == {}
    assert {name: one for name, one in about.items() if one["container"] and one["kind"] != "isolate"} == {}
    for kind in ("conmon of podman ", "conmon of podman rootless", "conmon of CRI-O", "shim", "lxc", "nspawn", "pause"):
        assert any(name.startswith(kind) for name in about), kind


def test_isolates_are_listed_with_all_alone(answers: Answers):
    """What bubblewrap and unshare made appears with --all, as isolates, and never without."""
    without, everything = listed(answers), listed(answers, "all")

    assert "isolate" not in {one["kind"] for one in without.values()}
    for one in answers["isolates"].values():
        isolate = everything[f"pid:{one['pid_namespace']}"]
        assert one["inner"] in isolate["pids"]
        assert (isolate["kind"], isolate["name"], isolate["image"], isolate["pod"]) == ("isolate", None, None, None)
    same = {name: identity(one) for name, one in everything.items() if one["kind"] != "isolate"}
    assert same == {name: identity(one) for name, one in without.items()}


def test_isolates_are_the_processes_with_namespaces_of_their_own(answers: Answers):
    """Every process of no container with a namespace that is not PID 1's, by its links, is in an isolate."""
    isolates = [one for one in listed(answers, "all").values() if one["kind"] == "isolate"]
    pids = {pid for one in isolates for pid in one["pids"]}

    assert set(answers["apart"]["surely"]) - pids == set()
    assert pids - set(answers["apart"]["perhaps"]) == set()


@pytest.mark.parametrize(("engine", "key"), KEYS)
def test_a_pid_leads_to_its_container_with_evidence(answers: Answers, engine: str, key: str):
    """The init of each container is located: whose it is, its namespaces, and what says so."""
    theirs = one_expected(answers, engine, key)
    process = located(answers, theirs["init"])
    says: dict[str, list[str]] = {}
    for one in process["evidence"]:
        says.setdefault(one["says"], []).append(one["what"])

    assert process["container"] == theirs["id"]
    expected = {fact: theirs[fact] for fact in ("name", "kind", "runtime", "parent")}
    assert {fact: process[fact] for fact in expected} == expected
    assert pod_facts(process["pod"], theirs["pod"]) == theirs["pod"]
    namespaces = {kind: namespace["inode"] for kind, namespace in process["namespaces"].items()}
    assert namespaces == answers["inodes"][key]
    assert says["cgroup path"] == [cgroup_of(answers, theirs["init"])]
    if "state_file" in theirs:
        assert theirs["state_file"] in says["state file"]
    elif engine in HAS_STATE:
        assert says["state file"]


def test_pid_1_is_the_host(answers: Answers):
    """PID 1 is in no container, and its cgroup is the evidence."""
    process = located(answers, 1)

    assert [process[fact] for fact in ("container", "name", "kind", "runtime", "pod", "parent")] == [None] * 6
    assert process["evidence"] == [{"says": "cgroup path", "what": cgroup_of(answers, 1)}]
    assert {kind for kind, one in process["namespaces"].items() if not one["host"]} == set()
    assert {kind: one["inode"] for kind, one in process["namespaces"].items()} == answers["host_inodes"]


def test_the_daemons_were_killed(answers: Answers):
    """dockerd and containerd, one conmon, one shim and machined are gone, and nothing started them again."""
    assert set(answers["gone"]) >= {"dockerd", "containerd", "conmon of limited", "shim of web.1"}
    assert all(answers["gone"].values())


@pytest.mark.parametrize("engine", ENGINES)
def test_killed_daemons_change_no_answer(answers: Answers, engine: str):
    """With every daemon killed each container is who it was, with the same processes."""
    assert expected_of(answers, engine), answers["failed"]
    for key, one in expected_of(answers, engine).items():
        before, after = found_for(answers, engine, key), found_for(answers, engine, key, "list_after")
        assert identity(after) == identity(before)
        assert located(answers, one["init"], "pid_after") == located(answers, one["init"])
    assert set(listed(answers, "list_after")) == set(listed(answers))


@pytest.mark.parametrize(
    ("question", "engine", "key"),
    [("show", "kubernetes/containerd", "web/app"), ("show_crio", "kubernetes/cri-o", "db-0/postgres")],
)
def test_a_kubernetes_path_finds_its_container(answers: Answers, question: str, engine: str, key: str):
    """NAMESPACE/POD/CONTAINER is enough to show one container."""
    theirs = one_expected(answers, engine, key)
    assert answers[question]["status"] == 0, answers[question]
    container = answers[question]["document"]["container"]

    assert container["id"] == theirs["id"]
    assert container["pod"] == theirs["pod"]
    assert container["name"] == theirs["name"]


@pytest.mark.parametrize(("engine", "pod"), [("kubernetes/containerd", "web"), ("kubernetes/cri-o", "db-0")])
def test_containers_of_a_pod_share_its_namespaces(answers: Answers, engine: str, pod: str):
    """Network, IPC and UTS are the sandbox's; pid and mounts are each container's own."""
    sandbox, *others = (
        found_for(answers, engine, key) for key in sorted(CONTAINERS[engine], reverse=True) if key.startswith(f"{pod}/")
    )

    assert sandbox["kind"] == "pause"
    for other in others:
        shared = {kind for kind, one in other["namespaces"].items() if one and sandbox["id"] in one["shared_with"]}
        assert shared == {"net", "ipc", "uts"}


def test_a_joined_network_is_shared(answers: Answers):
    """--network container:aa is the network namespace of aa, and of none else."""
    joined, aa = found_for(answers, "docker", "joined"), found_for(answers, "docker", "aa")

    assert joined["namespaces"]["net"]["shared_with"] == [aa["id"]]
    assert aa["namespaces"]["net"]["shared_with"] == [joined["id"]]


def test_docker_labels_and_parents_are_told(answers: Answers):
    """Labels are those of docker inspect; --cgroup-parent is in the path and changes nothing else."""
    for key in CONTAINERS["docker"]:
        theirs, ours = one_expected(answers, "docker", key), found_for(answers, "docker", key)
        assert ours["labels"] == theirs["labels"]
        assert ours["cgroup"]["path"] == f"/{theirs['below']}/docker-{theirs['id']}.scope"
    assert one_expected(answers, "docker", "sliced")["below"] == "job.slice"


@pytest.mark.parametrize(("engine", "key"), [("docker", "aa"), ("podman", "limited")])
def test_limits_are_exactly_those_of_the_flags(answers: Answers, engine: str, key: str):
    """Every limit flag is an own limit, also where crun keeps processes one cgroup below its scope."""
    expected = {
        "memory.own.max_bytes": 64 * MIB,
        "memory.own.swap_max_bytes": 64 * MIB,
        "memory.own.reservation_bytes": 32 * MIB,
        "memory.effective.max_bytes": 64 * MIB,
        "memory.effective.swap_max_bytes": 64 * MIB,
        # memory.low protects no more than the cgroup above does, and system.slice and machine.slice protect nothing.
        "memory.effective.reservation_bytes": 0,
        "cpu.own.cores": 0.5,
        "cpu.own.quota_us": 50_000,
        "cpu.own.period_us": 100_000,
        "cpu.own.cpuset": "1",
        # 512 shares by the formula of runc 1.1 and crun 1.8: 1 + (512 - 2) * 9999 / 262142.
        "cpu.own.weight": 20,
        "cpu.effective.cores": 0.5,
        "cpu.effective.cpuset": "1",
        "pids.own.max": 50,
        "pids.effective.max": 50,
    }

    assert at(found_for(answers, engine, key)["limits"], expected) == expected


def test_rootless_podman_is_known_by_name_and_user(answers: Answers):
    """Root inside is uid 1000 outside, in a user namespace of its own; limits are those of the flags."""
    ours = found_for(answers, "podman rootless", "u")
    expected = {
        "name": "u",
        "init.uid": 1000,
        "namespaces.user.host": False,
        "security.user_namespace.host": False,
        "limits.memory.own.max_bytes": 64 * MIB,
        "limits.memory.effective.max_bytes": 64 * MIB,
        "limits.pids.own.max": 50,
        "limits.pids.effective.max": 50,
    }

    assert at(ours, expected) == expected
    assert ours["security"]["user_namespace"]["uid_map"][0] == {"inside": 0, "outside": 1000, "count": 1}


def test_privileged_is_told(answers: Answers):
    """docker run --privileged alone is privileged."""
    found = {key: found_for(answers, "docker", key)["security"]["privileged"] for key in CONTAINERS["docker"]}

    assert found == {"aa": False, "sliced": False, "joined": False, "privileged": True}


def test_namespaces_and_capabilities_are_what_other_tools_see(answers: Answers):
    """lsns and getpcaps agree for every process of every container."""
    assert "failed" not in answers["oracle"], answers["oracle"]["failed"]
    assert answers["oracle"]["differences"] == []
    assert answers["oracle"]["compared"] >= sum(len(one["pids"]) for one in answers["expected"])


def test_nobody_stands_out_but_who_docker_gave_more_power(answers: Answers):
    """Not in a pod, not without root, not beside a shim or a monitor: ``docker exec --privileged`` alone, once.

    It has the capabilities; its AppArmor profile stays.
    """
    pid = answers["powerful"]["pid"]
    (finding,) = answers["findings"]["document"]["findings"]
    evidence = {one["says"]: one["what"] for one in finding["evidence"]}

    assert answers["findings"]["status"] == 1
    assert finding["container"] == one_expected(answers, "docker", "aa")["id"]
    assert (finding["kind"], finding["severity"], finding["technique"]["id"]) == ("more_power", "high", "T1609")
    assert (finding["pid"], finding["tid"], finding["pids"]) == (pid, pid, [pid])
    assert "CAP_SYS_ADMIN" in evidence[f"/proc/{pid}/status"].split()
    assert answers["powerful"]["label"] == "docker-default (enforce)"
    assert evidence.keys() == {f"/proc/{pid}/status"}


def test_the_matrix_has_a_row_for_every_engine(answers: Answers):
    """What the docs will say is what was asked here."""
    rows = matrix_rows()
    if where := os.environ.get("NSINSPECT_MATRIX"):
        Path(where).write_text(json.dumps([row._asdict() for row in rows], indent=1) + "\n")

    assert {row.engine for row in rows} == {*ENGINES, "bwrap", "unshare"}
    assert [row for row in rows if not row.proved] == []
    assert all(row.version and row.kernel.startswith(answers["kernel"]) for row in rows)
