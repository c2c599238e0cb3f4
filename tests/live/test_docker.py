"""Docker on this machine: every flag is reported as what the kernel made of it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.docker import Docker
from tests.live.flag_files import ROWS, Row
from tests.live.flags import CASES, DEFAULT_14, Flags

HERE = Path(__file__).parent
Ask = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def started(docker: Docker) -> dict[str, str]:
    """All containers of the table at once; ids by name."""
    return {case.name: docker.run(case.name, *case.flags) for case in CASES}


@pytest.fixture(scope="module")
def listed(started: dict[str, str], ask: Ask) -> dict[str, dict[str, Any]]:
    """``list --json``, valid, by name."""
    whole = ask("list")
    schema = json.loads((HERE.parents[1] / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(whole)
    return {container["name"]: container for container in whole["containers"]}


def at(container: dict[str, Any], key: str) -> Any:
    """The value at a dotted path."""
    for part in key.split("."):
        container = container[part]
    return container


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_flag_is_reported_in_json(case: Flags, listed: dict[str, dict[str, Any]]):
    """JSON says exactly what the flag asked the kernel for."""
    container = listed[case.name]

    assert {key: at(container, key) for key in case.expected} == case.expected


@pytest.mark.parametrize("case", [case for case in CASES if case.words], ids=lambda case: case.name)
def test_a_flag_is_reported_to_a_person(case: Flags, started: dict[str, str], run: Callable[..., Any]):
    """The page says it in words."""
    page = run("show", case.name).stdout.decode()

    assert [word for word in case.words if word not in page] == []


def test_identity_is_what_docker_says(docker: Docker, started: dict[str, str], listed: dict[str, dict[str, Any]]):
    """Ids, pids, images, creation times and start times agree with docker inspect, and nothing else is listed."""
    assert {container["id"] for container in listed.values()} == set(started.values())
    for name in started:
        theirs, ours = docker.inspect(name), listed[name]
        assert ours["id"] == theirs["Id"]
        assert ours["init"]["pid"] == theirs["State"]["Pid"]
        assert ours["created_at"][:19] == theirs["Created"][:19]
        assert ours["cgroup"]["path"] == f"/docker/{theirs['Id']}"


def test_every_pid_docker_top_knows_is_a_member(docker: Docker, started: dict[str, str], ask: Ask):
    """A second process by docker exec belongs to the container, and is no outlier."""
    docker("exec", "-d", "plain", "sleep", "2999")
    container = ask("show", "plain")["container"]
    top = docker("top", "plain", "-o", "pid").split()[1:]

    assert [str(pid) for pid in container["pids"]] == sorted(top, key=int)
    assert len(top) == 2
    assert container["capabilities"]["outliers"] == []


def test_an_exec_as_another_user_lacks_what_init_has(docker: Docker, started: dict[str, str], ask: Ask):
    """docker exec --user 1000 is an outlier with less."""
    docker("exec", "-d", "--user", "1000", "cpus", "sleep", "2998")
    (outlier,) = ask("show", "cpus")["container"]["capabilities"]["outliers"]

    assert (outlier["extra"], outlier["missing"]) == ([], DEFAULT_14)


def test_docker_update_is_seen_at_once(docker: Docker, ask: Ask):
    """Limits are the kernel's of now, not those of the start."""
    docker.run("updated", "--cpus", "1", "--memory", "64m", "--memory-swap", "256m")
    docker("update", "--cpus", "2", "--memory", "128m", "updated")
    limits = ask("show", "updated")["container"]["limits"]
    docker("rm", "-f", "updated")

    assert limits["cpu"]["own"]["cores"] == 2
    assert limits["memory"]["own"]["max_bytes"] == 128 << 20
    assert limits["memory"]["own"]["swap_max_bytes"] == 128 << 20


def test_namespaces_and_capabilities_are_what_other_tools_see(started: dict[str, str], run: Callable[..., Any]):
    """lsns and getpcaps agree for every process of every container."""
    answer = run(module=(str(HERE / "oracle.py"),))
    found = json.loads(answer.stdout)

    assert answer.returncode == 0
    assert found["differences"] == []
    assert found["compared"] >= len(started)


def test_shared_namespaces_name_who_shares(started: dict[str, str], listed: dict[str, dict[str, Any]]):
    """--net container:plain is seen from both sides."""
    assert listed["joined"]["namespaces"]["net"]["shared_with"] == [started["plain"]]
    assert listed["plain"]["namespaces"]["net"]["shared_with"] == [started["joined"]]


def test_a_container_is_found_by_name_prefix_path_and_pid(started: dict[str, str], ask: Ask):
    """All four look-ups lead to the same container."""
    container = ask("show", "pids")["container"]
    wanted = (started["pids"][:12], container["cgroup"]["path"], f"pid:{container['init']['pid']}")

    assert {ask("show", name)["container"]["id"] for name in wanted} == {started["pids"]}


def test_an_ordinary_user_sees_less_and_is_told(started: dict[str, str], run: Callable[..., Any]):
    """Without root: no traceback, unknown is null with an issue, and --strict exits 5."""
    driver = (str(HERE / "as_nobody.py"),)
    answer = run("show", started["cpus"][:12], "--json", "--strict", module=driver)
    whole = json.loads(answer.stdout)
    page = run("show", started["cpus"][:12], module=driver)

    assert answer.returncode == 5
    assert b"Traceback" not in answer.stderr + page.stderr
    assert dict.fromkeys(whole["container"]["namespaces"]) == whole["container"]["namespaces"]
    assert whole["container"]["name"] is None
    assert {issue["kind"] for issue in whole["issues"] if issue["pids"]} == {"denied"}
    # Capabilities and limits are readable by anybody.
    assert whole["container"]["capabilities"]["bounding"]["names"] == DEFAULT_14
    assert whole["container"]["limits"]["cpu"]["own"]["cores"] == 1.5
    assert b"unknown: cgroup ipc mnt net pid time user uts" in page.stdout


@pytest.mark.parametrize("written", [r"\033]0;owned\007[/r", r"d]\377\n) S 1 (", r"\342\200\256evil\233\015"])
def test_a_hostile_name_harms_neither_terminal_nor_json(docker: Docker, run: Callable[..., Any], written: str):
    """A process renames itself to escapes, markup, a newline and bytes that are no UTF-8."""
    docker.run("hostile", command=("sh", "-c", f"printf '{written}' > /proc/self/comm; while true; do sleep 1; done"))
    docker("exec", "hostile", "sleep", "0.5")
    answers = [run("show", "hostile"), run("list"), run("show", "hostile", "--json"), run("list", "--json")]
    docker("rm", "-f", "hostile")
    output = b"".join(answer.stdout for answer in answers)

    assert {answer.returncode for answer in answers} == {0}
    assert not set(output) & set(range(32)) - {10}
    output.decode("utf-8")
    assert "\u202e" not in output.decode("utf-8")
    comm = json.loads(answers[2].stdout)["container"]["init"]["comm"]
    assert comm != "sh"
    assert comm.isprintable()


def test_the_daemon_is_not_needed(docker: Docker, started: dict[str, str], ask: Ask):
    """With dockerd killed the answer is the same, names included."""

    def what_does_not_move() -> list[dict[str, Any]]:
        found = ask("list")["containers"]
        return [{key: value for key, value in c.items() if key not in ("usage", "pids")} for c in found]

    before = what_does_not_move()
    docker.stop_daemon(kill=True)
    try:
        assert what_does_not_move() == before
    finally:
        docker.start()


def test_make_run_shows_this_hosts_containers(started: dict[str, str]):
    """The first command of the README, on a host that has containers."""
    import subprocess

    answer = subprocess.run(
        [sys.executable, "-m", "nsinspect", "list"],
        capture_output=True,
        text=True,
        check=True,
        cwd=HERE.parents[1],
        timeout=60,
    )

    assert all(identity[:12] in answer.stdout for identity in started.values())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.flag)
def test_a_flag_becomes_what_the_page_says(docker: Docker, ask: Ask, row: Row):
    """docs/flags.md, row by row: the flag, the kernel's v1 files, and the field."""
    identity = docker.run("row", *row.flag.split())
    try:
        for file, value in row.v1:
            controller = file.partition(".")[0]
            found = Path(f"/sys/fs/cgroup/{controller}/docker/{identity}/{file}").read_text().strip()
            assert (file, found) == (file, value)
        assert at(ask("show", "row")["container"], row.field) == row.value
    finally:
        docker("rm", "-f", "row")
