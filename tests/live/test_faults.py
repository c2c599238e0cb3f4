"""Processes in every state and cgroups of every odd kind, on this machine's own kernel and without an engine.

What is made here is called like a Docker container, because that is all that makes one: a cgroup with that name.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from tests.live.engines import CGROUPS, cgroups_removed, output_of, until

HERE = Path(__file__).parent
Ask = Callable[..., dict[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[bytes]]
# v1 hierarchies, and the v2 one beside them.
PLACES = ("memory", "pids", "cpu", "freezer", "unified")
PIDS_MAX = 77
ENTER = 'for place in $PLACES; do echo $$ > "$place/cgroup.procs" || exit 9; done; exec "$@"'
# All that a cgroup's name can be made of.
EVERY_BYTE = bytes(sorted(set(range(1, 256)) - set(b"/\n")))
DEEP, WIDE = 2000, 10_000


@dataclass
class Contained:
    """Cgroups named like a container's, and what runs in them."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex + uuid.uuid4().hex)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def place(self, hierarchy: str) -> Path:
        """Its cgroup in one hierarchy."""
        return CGROUPS / hierarchy / "docker" / self.id

    def run(self, *command: str, becomes: str = "") -> int:
        """Start something in it; its pid, once that is the program, or what the program ``becomes``."""
        places = " ".join(str(self.place(one)) for one in PLACES)
        process = subprocess.Popen(
            ["sh", "-c", ENTER, "sh", *command], env={**os.environ, "PLACES": places}, stdin=subprocess.DEVNULL
        )
        self.processes.append(process)
        program = (becomes or Path(command[0]).name).encode()
        until(lambda: Path(f"/proc/{process.pid}/comm").read_bytes().strip() == program[:15], f"{program!r}")
        return process.pid

    def end(self) -> None:
        """End all that runs in it, whatever state it is in."""
        (self.place("freezer") / "freezer.state").write_text("THAWED")
        for process in self.processes:
            for pid in (*children(process.pid), process.pid):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.wait(30)
        self.processes.clear()


def children(pid: int) -> list[int]:
    """Of a process, by the kernel."""
    return [int(one) for path in Path(f"/proc/{pid}/task").glob("*/children") for one in path.read_text().split()]


@contextlib.contextmanager
def contained() -> Iterator[Contained]:
    """One for a while."""
    one = Contained()
    with cgroups_removed({one.id}):
        for place in PLACES:
            one.place(place).mkdir(parents=True)
        (one.place("pids") / "pids.max").write_text(str(PIDS_MAX))
        try:
            yield one
        finally:
            one.end()


@pytest.fixture
def victim() -> Iterator[Contained]:
    """The one that something is odd with."""
    with contained() as one:
        yield one


@pytest.fixture(scope="module")
def bystander() -> Iterator[Contained]:
    """One that must not suffer."""
    with contained() as one:
        one.run("sleep", "600")
        yield one


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The program."""
    program = tmp_path_factory.mktemp("strange") / "strange"
    output_of("gcc", "-static", "-O2", "-o", str(program), str(HERE / "strange.c"))
    return str(program)


def state_of(pid: int) -> str:
    """By the kernel; ``-`` where there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "-"


def untouched(document: dict[str, Any], one: Contained) -> dict[str, Any]:
    """All that is said of the bystander but what moves; what else runs on this machine is not ours to hold still."""
    said = found(document, one)
    assert said is not None
    return {key: value for key, value in said.items() if key != "usage"}


def found(document: dict[str, Any], mine: Contained) -> dict[str, Any] | None:
    """This container, where it is listed."""
    return next((one for one in document["containers"] if one["id"] == mine.id), None)


# -- processes -----------------------------------------------------------------------------------------------------


def stopped(one: Contained, _: str) -> tuple[list[int], int]:
    """SIGSTOP."""
    pid = one.run("sleep", "600")
    os.kill(pid, signal.SIGSTOP)
    return [pid], pid


def vforking(one: Contained, strange: str) -> tuple[list[int], int]:
    """In a sleep that no signal but SIGKILL ends: waits for its child."""
    pid = one.run(strange, "vforks")
    (child,) = until(lambda: children(pid), "its child")
    return [pid, child], pid


def frozen(one: Contained, _: str) -> tuple[list[int], int]:
    """By the v1 freezer."""
    pid = one.run("sleep", "600")
    (one.place("freezer") / "freezer.state").write_text("FROZEN")
    return [pid], pid


def leaderless(one: Contained, strange: str) -> tuple[list[int], int]:
    """The first thread has ended, another goes on."""
    pid = one.run(strange, "leaves")
    return [pid], pid


def unburied(one: Contained, _: str) -> tuple[list[int], int]:
    """A child that ended, and a parent that never asks for it."""
    pid = one.run("sh", "-c", "sleep 0 & exec sleep 600", becomes="sleep")
    (child,) = children(pid)
    return [pid], child


STATES: dict[str, tuple[Callable[[Contained, str], tuple[list[int], int]], str]] = {
    "stopped": (stopped, "T"),
    "uninterruptible": (vforking, "D"),
    "frozen": (frozen, "D"),
    "leader ended": (leaderless, "Z"),
    "zombie child": (unburied, "Z"),
}


@pytest.mark.parametrize("name", STATES)
def test_a_process_in_any_state_is_told_and_holds_nothing_up(
    name: str, victim: Contained, bystander: Contained, strange: str, run: Run, ask: Ask
):
    """Its container is listed with its limits, every command answers, and nobody else's answer changes."""
    make, state = STATES[name]
    before = untouched(ask("list"), bystander)
    pids, odd = make(victim, strange)
    until(lambda: state_of(odd) == state, f"state {state}, not {state_of(odd)}")
    whole = ask("list")
    one = found(whole, victim)
    answers = {
        words: run(*words)
        for words in (("show", victim.id), ("pid", str(odd)), ("caps",), ("ns",), ("net",), ("findings", victim.id))
    }
    assert state_of(odd) == state

    assert one is not None
    assert set(pids) <= set(one["pids"]) <= {*pids, odd}
    assert one["limits"]["pids"]["own"]["max"] == PIDS_MAX
    assert one["init"]["pid"] == pids[0]
    assert one["capabilities"]["effective"] is not None
    assert one["namespaces"]["net"]["host"] is True
    assert [issue for issue in whole["issues"] if odd in (issue["pids"] or ())] == []
    assert {words: answer.returncode for words, answer in answers.items() if answer.returncode not in (0, 1)} == {}
    assert all(b"Traceback" not in answer.stderr for answer in answers.values())
    assert untouched(whole, bystander) == before


def test_a_container_of_which_only_the_dead_are_left_is_none(victim: Contained, bystander: Contained, ask: Ask):
    """Until somebody buries them."""
    before = untouched(ask("list"), bystander)
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    for place in PLACES:
        (victim.place(place) / "cgroup.procs").write_text(str(process.pid))
    assert found(ask("list"), victim) is not None
    process.kill()
    until(lambda: state_of(process.pid) == "Z", "its end")
    whole = ask("list")
    process.wait()

    assert found(whole, victim) is None
    assert untouched(whole, bystander) == before


def test_a_kernel_thread_is_a_process_of_no_container(ask: Ask):
    """It has namespaces and no program."""
    (one,) = ask("pid", "2")["processes"]

    assert one["container"] is None
    assert Path("/proc/2/comm").read_text() == "kthreadd\n"


# -- cgroups -------------------------------------------------------------------------------------------------------


def cgroup_line(pid: int) -> bytes:
    """Where a process is in the v2 hierarchy."""
    lines = Path(f"/proc/{pid}/cgroup").read_bytes().splitlines()
    return next(line for line in lines if line.startswith(b"0::"))[3:]


def test_threaded_cgroups_and_invalid_ones(victim: Contained, bystander: Contained, ask: Ask):
    """The kernel refuses to list their processes; /proc says where those are."""
    before = untouched(ask("list"), bystander)
    threaded = victim.place("unified") / "threaded"
    threaded.mkdir()
    (threaded / "cgroup.type").write_text("threaded")
    invalid = victim.place("unified") / "invalid"
    invalid.mkdir()
    assert (victim.place("unified") / "cgroup.type").read_text() == "domain threaded\n"
    assert (invalid / "cgroup.type").read_text() == "domain invalid\n"
    with pytest.raises(OSError, match="not supported"):
        (threaded / "cgroup.procs").read_text()
    pid = victim.run("sleep", "600")
    (threaded / "cgroup.threads").write_text(str(pid))
    whole = ask("list")
    one = found(whole, victim)
    invalid.rmdir()

    assert cgroup_line(pid).endswith(b"/threaded")
    assert one is not None
    assert one["pids"] == [pid]
    assert one["limits"]["pids"]["own"]["max"] == PIDS_MAX
    assert untouched(whole, bystander) == before


def test_a_cgroup_that_was_deleted_around_a_dead_process(victim: Contained, bystander: Contained, ask: Ask, run: Run):
    """The kernel still names it, with a word after the name; that is no container."""
    before = untouched(ask("list"), bystander)
    process = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
    inner = victim.place("unified") / "inner"
    inner.mkdir()
    (inner / "cgroup.procs").write_text(str(process.pid))
    process.kill()
    until(lambda: state_of(process.pid) == "Z", "its end")
    inner.rmdir()
    where = cgroup_line(process.pid)
    whole, located = ask("list"), run("pid", str(process.pid))
    process.wait()

    assert where.endswith(b" (deleted)")
    assert located.returncode in (0, 3)
    assert b"Traceback" not in located.stderr
    assert untouched(whole, bystander) == before


def test_a_cgroup_frozen_by_v2(victim: Contained, bystander: Contained, ask: Ask):
    """Nothing of what is read waits for a process to run."""
    before = untouched(ask("list"), bystander)
    pid = victim.run("sleep", "600")
    freeze = victim.place("unified") / "cgroup.freeze"
    freeze.write_text("1")
    until(lambda: "frozen 1" in (freeze.parent / "cgroup.events").read_text(), "frost")
    shown = ask("show", victim.id)["container"]
    whole = ask("list")
    freeze.write_text("0")

    assert shown["pids"] == [pid]
    assert shown["limits"]["pids"]["own"]["max"] == PIDS_MAX
    assert untouched(whole, bystander) == before


def test_an_empty_cgroup_is_no_container(victim: Contained, ask: Ask):
    """Whatever it is called."""
    whole = ask("list")

    assert found(whole, victim) is None


def test_a_name_of_every_byte_there_is(victim: Contained, bystander: Contained, run: Run, ask: Ask):
    """All 253 in one name, inside a container and as the name of one: told, safely, and found by the process."""
    before = untouched(ask("list"), bystander)
    name = os.fsdecode(EVERY_BYTE)
    lxc = CGROUPS / "unified" / "lxc.payload"
    lxc = lxc.with_name(os.fsdecode(b"lxc.payload." + EVERY_BYTE[:240]))
    inner = victim.place("unified") / name
    inner.mkdir()
    lxc.mkdir()
    try:
        inside = victim.run("sleep", "600")
        (inner / "cgroup.procs").write_text(str(inside))
        second = subprocess.Popen(["sleep", "600"], stdin=subprocess.DEVNULL)
        victim.processes.append(second)
        (lxc / "cgroup.procs").write_text(str(second.pid))
        whole = ask("list")
        answers = [run(*words) for words in (("list",), ("show", f"pid:{second.pid}"), ("show", victim.id))]
        answers += [run("list", "--json"), run("ns"), run("pid", str(inside), str(second.pid))]
    finally:
        victim.end()
        for cgroup in (inner, lxc):
            until(lambda cgroup=cgroup: "populated 0" in (cgroup / "cgroup.events").read_text(), "their end")
            cgroup.rmdir()
    one = found(whole, victim)
    (named,) = [one for one in whole["containers"] if one["pids"] == [second.pid]]
    output = b"".join(answer.stdout + answer.stderr for answer in answers)

    assert len(EVERY_BYTE) == 253
    assert one is not None
    assert one["pids"] == [inside]
    assert named["runtime"] == "lxc"
    assert {answer.returncode for answer in answers} == {0}
    assert not set(output) & set(range(32)) - {10}
    assert output.decode("utf-8").replace("\n", "").isprintable()
    assert untouched(whole, bystander) == before


# -- very many -----------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def nested(top: Path, levels: int, one: Contained) -> Iterator[int]:
    """A descriptor of the deepest of so many cgroups, each in the one before; deeper than any path can be.  At the end
    whatever runs in ``one`` is ended, and they are removed."""
    fds = [os.open(top, os.O_RDONLY | os.O_DIRECTORY)]
    try:
        for _ in range(levels):
            # Two are held: those in between are found again from the deepest.
            os.mkdir("d", dir_fd=fds[-1])
            fds.append(os.open("d", os.O_RDONLY | os.O_DIRECTORY, dir_fd=fds[-1]))
            if len(fds) > 2:
                os.close(fds.pop(1) if len(fds) > 3 else fds.pop(0))
        yield fds[-1]
    finally:
        one.end()
        current = fds[-1]
        while True:
            above = os.open("..", os.O_RDONLY | os.O_DIRECTORY, dir_fd=current)
            inside = os.fstat(current).st_ino != os.stat(top).st_ino
            if not inside:
                os.close(above)
                break
            until(lambda at=above: removed("d", at), "an empty cgroup")
            if current not in fds:
                os.close(current)
            current = above
        if current not in fds:
            os.close(current)
        for fd in fds:
            os.close(fd)


def removed(name: str, at: int) -> bool:
    """Whether a cgroup could be removed; a killed process leaves it a moment later."""
    try:
        os.rmdir(name, dir_fd=at)
    except OSError:
        return False
    return True


def join(cgroup: int, pid: int) -> None:
    """Move a process to a cgroup that no path leads to."""
    fd = os.open("cgroup.procs", os.O_WRONLY, dir_fd=cgroup)
    os.write(fd, str(pid).encode())
    os.close(fd)


@pytest.mark.parametrize("hierarchy", ["unified", "pids"])
def test_two_thousand_cgroups_deep(hierarchy: str, victim: Contained, bystander: Contained, ask: Ask):
    """A process at the bottom is its container's, and what is above is read up to the top."""
    before = untouched(ask("list"), bystander)
    with nested(victim.place(hierarchy), DEEP, victim) as bottom:
        pid = victim.run("sleep", "600")
        join(bottom, pid)
        assert b"/d" * DEEP in Path(f"/proc/{pid}/cgroup").read_bytes()
        during = ask("list")
        victim.end()
    after = ask("list")
    one = found(during, victim)

    assert one is not None
    assert one["pids"] == [pid]
    assert untouched(during, bystander) == untouched(after, bystander) == before


def test_a_container_below_two_thousand_cgroups(victim: Contained, bystander: Contained, ask: Ask):
    """Each of those above may limit it, and the tightest is found."""
    before = untouched(ask("list"), bystander)
    top = CGROUPS / "pids" / f"nsinspect-{victim.id}"
    top.mkdir()
    try:
        (top / "pids.max").write_text("55")
        with nested(top, DEEP - 40, victim) as bottom:
            os.mkdir("docker", dir_fd=bottom)
            os.mkdir(f"docker/{victim.id}", dir_fd=bottom)
            pid = victim.run("sleep", "600")
            fd = os.open(f"docker/{victim.id}", os.O_RDONLY, dir_fd=bottom)
            join(fd, pid)
            os.close(fd)
            during = ask("list")
            victim.end()
            until(lambda: removed(f"docker/{victim.id}", bottom), "its end")
            os.rmdir("docker", dir_fd=bottom)
    finally:
        top.rmdir()
    one = found(during, victim)

    assert one is not None
    assert one["limits"]["pids"]["effective"]["max"] == 55
    assert one["limits"]["pids"]["effective"]["imposed_by"] == f"/{top.name}"
    assert untouched(during, bystander) == untouched(ask("list"), bystander) == before


def test_deeper_than_the_kernel_can_say(victim: Contained, bystander: Contained, ask: Ask):
    """Of a path beyond 4,096 bytes it gives the beginning, and that says whose process it is."""
    before = untouched(ask("list"), bystander)
    with nested(victim.place("unified"), DEEP + 100, victim) as bottom:
        pid = victim.run("sleep", "600")
        join(bottom, pid)
        assert len(cgroup_line(pid)) < len(f"/docker/{victim.id}") + 2 * (DEEP + 100)
        during = ask("list")
    one = found(during, victim)

    assert one is not None
    assert one["pids"] == [pid]
    assert untouched(during, bystander) == before


@pytest.mark.parametrize("hierarchy", ["unified", "pids"])
def test_ten_thousand_cgroups_wide(hierarchy: str, victim: Contained, bystander: Contained, ask: Ask):
    """Inside a container, each called like one: none is one, and nobody else's answer changes."""
    before = untouched(ask("list"), bystander)
    pid = victim.run("sleep", "600")
    top = os.open(victim.place(hierarchy), os.O_RDONLY | os.O_DIRECTORY)
    names = [f"docker-{number:064x}.scope" for number in range(WIDE)]
    made = []
    try:
        for name in names:
            os.mkdir(name, dir_fd=top)
            made.append(name)
        during = ask("list")
    finally:
        for name in made:
            os.rmdir(name, dir_fd=top)
        os.close(top)
    one = found(during, victim)

    assert one is not None
    assert one["pids"] == [pid]
    assert untouched(during, bystander) == untouched(ask("list"), bystander) == before
