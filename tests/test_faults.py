"""Every kind of file that is read, with everything that can be wrong with it: what becomes of the fact, and that it
becomes of nothing else."""

from __future__ import annotations

import ast
import json
from fnmatch import fnmatchcase
from pathlib import Path
from typing import NamedTuple

import pytest

from nsinspect import cgroupfs, kernfs
from nsinspect.cli import cli
from nsinspect.collect import Collector, Depth
from nsinspect.kernfs import Roots
from tests import fault_table as table
from tests.fault_proofs import PROOFS, Proof
from tests.fault_table import Row
from tests.faulty import FAULTS, LEFT_OUT, Seen, Told, changes, faulty, tell, whole
from tests.looks import EVERYTHING
from tests.runner import runner

ISSUES = (table.DENIED, table.UNREADABLE, table.MALFORMED)
# A closer look, without what a quick one tells as well.
CLOSE, QUICK = Depth(everything=True, limits=False), Depth()
KINDS = [file for row in table.TABLE for file in row.files]


class Host(NamedTuple):
    """A host where nothing is wrong yet: what is told of it at both depths, and what was read of it."""

    root: Path
    told: dict[bool, Told]
    paths: dict[str, list[str]]
    victim: str


@pytest.fixture(scope="module")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> list[Host]:
    """The v2 one first; of the other one what that has not."""
    found = []
    for name in sorted(LEFT_OUT, reverse=True):
        root = whole(name, tmp_path_factory.mktemp("faulty"))
        seen = Seen(str(root))
        with kernfs.witnessed(seen):
            Collector(Roots(root=str(root)), EVERYTHING).run()
        told = {deep: tell(root, CLOSE if deep else QUICK) for deep in (False, True)}
        assert all(one is not None and one.vanished == 0 and len(one.containers) == 2 for one in told.values())
        victim = next(iter(told[True].containers))
        found.append(Host(root, told, seen.paths, victim))
    return found


def place(hosts: list[Host], kind: str) -> tuple[Host, Path]:
    """Where a file of this kind is: the damaged container's own where containers have one each."""
    for host in hosts:
        init = host.told[True].containers[host.victim]["init"]["pid"]
        there = [path for path in host.paths.get(kind, ()) if (host.root / path.lstrip("/")).is_symlink()
                 or (host.root / path.lstrip("/")).is_file()]  # fmt: skip
        its = [path for path in there if f"/proc/{init}/" in path or host.victim in path]
        if there:
            return host, host.root / (its or there)[0].lstrip("/")
    raise AssertionError(f"no bundled host has {kind}")


def about(issue_path: str, path: Path) -> bool:
    """Whether an issue is about this file, or about the directory of links that it is in."""
    said = issue_path.replace("<tid>", path.parts[-2] if path.parent.parent.name == "task" else "")
    place = str(path)
    for part in path.parts:
        if part.isdigit() and "/task/<tid>/" in issue_path and f"/task/{part}/" in place:
            said = issue_path.replace("<tid>", part)
    said = said.replace("/./", "/")
    return place == said or place.endswith(said) or (path.parent.name == "ns" and str(path.parent) == said)


def allowed(key: str, patterns: tuple[str, ...]) -> str | None:
    """The pattern that lets this key change."""
    return next((one for one in patterns if fnmatchcase(key, one.rstrip("="))), None)


def judge(row: Row, kind: str, fault: str, path: Path, host: Host, before: Told, after: Told) -> None:
    """What was told is what the table says, and everything else is as it was."""
    outcome = row.outcome(kind, fault)
    issues = [issue for issue in after.issues if issue not in before.issues]
    assert {issue.kind for issue in issues} == ({outcome} if outcome in ISSUES else set())
    assert all(about(issue.path, path) for issue in issues)
    assert (after.vanished > 0) is (outcome == table.GONE)
    victim = before.containers[host.victim]["init"]["pid"]
    assert before.pids - after.pids == ({victim} if fault in row.drops else set())
    assert before.containers.keys() == after.containers.keys()
    facts, others = row.facts, row.others
    if outcome == table.GONE and row.gone is not None:
        facts, others = row.gone, row.gone if others else ()
    places = {
        identity: (before.containers[identity], after.containers[identity], facts if one_of else others)
        for identity, one_of in ((identity, identity == host.victim) for identity in before.containers)
    } | {"host": (before.host, after.host, row.host)}
    for was, now, patterns in places.values():
        for key, old, new in changes(was, now):
            pattern = allowed(key, patterns)
            assert pattern is not None, (key, old, new)
            # What is unknown looks like nothing else; only what is not there lets the next level count.
            assert new in (None, []) or pattern.endswith("=") or outcome in (table.AS_IS, table.NONE), (key, old, new)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_in_a_file_costs_its_fact_and_nothing_else(kind: str, hosts: list[Host]):
    """Whatever is wrong: one kind of answer, from the table, and every other container as before."""
    row = table.row_of(kind)
    host, path = place(hosts, kind)
    # A quick look tells as much of what every look reads.
    deep = kind.startswith("proc/PID/") and "/PID/ns/" not in kind
    depth = CLOSE if deep else QUICK
    for fault, make in FAULTS.items():
        with faulty(path, make):
            after = tell(host.root, depth)
        try:
            if row.outcome(kind, fault) == table.REFUSED:
                assert after is None
            else:
                assert after is not None
                judge(row, kind, fault, path, host, host.told[deep], after)
        except AssertionError as error:
            raise AssertionError(f"{kind}, {fault}: expected {row.outcome(kind, fault)!r}\n{error}") from error


def test_the_host_is_as_it_was(hosts: list[Host]):
    """No fault outlived its test, or those after it prove nothing."""
    for host in hosts:
        for deep, before in host.told.items():
            after = tell(host.root, CLOSE if deep else QUICK)
            assert after is not None
            assert (after.containers, after.issues) == (before.containers, before.issues)


def test_the_table_knows_every_file_that_is_read(hosts: list[Host]):
    """Found by reading, so that a file which somebody begins to read tomorrow has to have its row."""
    read = {kind for host in hosts for kind in host.paths}
    assert sorted(read) == sorted({*KINDS, *table.NOT_THERE})
    assert len(KINDS) == len(set(KINDS))


def test_every_control_file_is_among_them():
    """Those of controllers that no bundled host has, too."""
    names = {
        name
        for tables in (cgroupfs.LIMITS, cgroupfs.USAGE, cgroupfs.OTHERS)
        for version in tables.values()
        for files in version.values()
        for name in files
    }
    assert {f"cgroup/{name}" for name in names} <= set(KINDS)


@pytest.mark.parametrize("fault", FAULTS)
def test_how_the_program_ends(fault: str, hosts: list[Host]):
    """0 whatever is unknown, 5 with --strict where there was a failure, 6 where there is no host."""
    host = hosts[0]
    failed = table.row_of("cgroup/memory.max").outcome("cgroup/memory.max", fault) in ISSUES
    ends = []
    for kind in ("cgroup/memory.max", "proc/1/mountinfo"):
        _, path = place(hosts, kind)
        for words in (["list", "--json"], ["list", "--strict"], ["show", host.victim, "--strict"]):
            with faulty(path, FAULTS[fault]):
                done = runner().invoke(cli, ["--root", str(host.root), *words], catch_exceptions=False)
            if words[-1] == "--json" and done.exit_code == 0:
                assert len(json.loads(done.stdout)["containers"]) == 2
            ends.append(done.exit_code)

    assert ends == [0, 5 if failed else 0, 5 if failed else 0, 6, 6, 6]


@pytest.mark.parametrize("proof", [one for proofs in PROOFS.values() for one in proofs], ids=lambda one: one.fault)
def test_what_the_page_says_is_proved_has_its_proof(proof: Proof):
    """docs/faults.md names no test that is not there."""
    file, _, name = proof.test.partition("::")
    tree = ast.parse((Path(__file__).parent / file).read_text())
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
