"""What somebody made slow or long costs his own facts, and those of others only where all are like that."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsinspect import effort, kernfs, procfs
from nsinspect.collect import Closely, Collector
from nsinspect.effort import Effort, Purse, Shares
from nsinspect.errors import Unreadable
from nsinspect.kernfs import Directory, Roots
from nsinspect.processes import ProcessReader
from nsinspect.snapshot import Process
from nsinspect.tasks import descriptors_of
from tests.looks import HOSTS, look, process_of


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """Tables of some pages."""
    for pages in (1, 3, 10, 100):
        (tmp_path / f"{pages}").write_bytes(b"x" * 4096 * pages)
    with Directory.root(str(tmp_path)) as directory:
        yield directory


@pytest.fixture
def second_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that writes a page at a time, and takes a second for it."""
    now, read = 0.0, kernfs._read

    def slow(fd: int, size: int) -> bytes:
        nonlocal now
        now += 1.0
        return read(fd, min(size, 4096))

    monkeypatch.setattr(kernfs, "_read", slow)
    monkeypatch.setattr(effort, "clock", lambda: now)


def outcomes(one: Effort, folder: Directory, *pages: int) -> list[int | str]:
    """How much of each was had, or why none."""
    found: list[int | str] = []
    for number in pages:
        try:
            found.append(len(one.read(folder, str(number)) or b"") // 4096)
        except Unreadable as error:
            found.append(error.detail)
    return found


def slow(seconds: float) -> str:
    """What is said of a table that takes longer."""
    return f"the kernel takes more than {seconds:g} s of our processor to write it"


@pytest.mark.usefixtures("second_a_page")
def test_a_slow_table_is_given_up_and_an_ordinary_one_is_always_read(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without ``SECONDS``: mounts upon mounts took minutes, of every command and at each scrape."""
    monkeypatch.setattr(effort, "SECONDS", Purse(each=8, together=20, least=3.5))
    found = outcomes(Effort(), folder, 3, 100, 100, 100, 3, 3, 10)
    assert found == [3, slow(8), slow(7), slow(3.5), 3, 3, slow(3.5)]


@pytest.mark.usefixtures("second_a_page")
def test_what_may_take_longer_has_as_much_more_of_everything(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a capture: evidence is read once."""
    monkeypatch.setattr(effort, "SECONDS", Purse(each=8, together=20, least=3.5))
    assert outcomes(Effort(10), folder, 10, 10, 100) == [10, 10, slow(80)]


def test_a_long_table_is_given_up_and_an_ordinary_one_is_always_read(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without ``BYTES``: those of 100,000 mounts filled our memory with ten times their length."""
    page = 4096
    monkeypatch.setattr(effort, "BYTES", Purse(each=50 * page, together=60 * page, least=3 * page))
    ordinary, long = f"larger than {3 * page} bytes", f"larger than {50 * page} bytes"
    assert outcomes(Effort(), folder, 10, 100, 100, 10, 3, 1) == [10, long, ordinary, ordinary, 3, 1]


def test_what_is_not_there_is_none(folder: Directory) -> None:
    """As with any other file."""
    assert Effort().read(folder, "missing") is None


# -- processes in many groups ------------------------------------------------------------------------------------------

POD = b"/kubepods/besteffort/pod0d0d0d0d-1111-2222-3333-444444444444/" + b"a" * 64
GREEDY, OTHER = b"0::/docker/" + b"a" * 64, b"0::/docker/" + b"b" * 64


class Crowd:
    """Processes that are made and read one by one."""

    def __init__(self, place: Path, proc: Directory) -> None:
        self.reader = ProcessReader()
        self._place = place
        self._proc = proc

    def __call__(self, pid: int, cgroup: bytes, size: int) -> Process | None:
        """One with that pid, cgroup and so many bytes of groups."""
        model = min((HOSTS / "podman-v2/proc").glob("[0-9]*"))
        made = Path(shutil.copytree(model, self._place / str(pid), symlinks=True))
        (made / "cgroup").write_bytes(cgroup + b"\n")
        groups = b"Groups:\t" + b"1 " * (size // 2) + b"\n"
        (made / "status").write_bytes((model / "status").read_bytes().replace(b"Groups:\t \n", groups))
        return self.reader.process(self._proc, pid)


@pytest.fixture
def processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    """Each look at the clock is an eighth of a second later."""
    now = iter(range(10_000))
    monkeypatch.setattr(effort, "clock", lambda: next(now) / 8)
    with Directory.root(str(tmp_path)) as proc:
        yield Crowd(tmp_path, proc)


def known(*found: Process | None) -> list[bool]:
    """Of which the status is."""
    return [one is not None and one.status is not None for one in found]


def test_those_in_many_groups_are_not_all_asked_and_nobody_elses_are_less(processes: Crowd) -> None:
    """Fails without ``Shares``: a thousand were more than a scrape has for all processes."""
    greedy = [processes(pid, GREEDY + b"/below", 5000) for pid in range(10, 18)]
    other = [processes(pid, OTHER, 5000) for pid in range(20, 28)]
    assert known(*greedy) == [True] * 5 + [False] * 3
    assert known(*other) == [True] * 5 + [False] * 3
    # Who is in few is asked, unless he is in the container of those.
    assert known(processes(30, b"0::/user.slice", 10), processes(31, GREEDY, 10)) == [True, False]
    (issue,) = processes.reader.all_issues()
    assert (issue.kind, issue.pids) == ("unreadable", (15, 16, 17, 25, 26, 27, 31))
    assert "in so many groups" in issue.detail
    assert greedy[-1] is not None
    assert (greedy[-1].cgroup[0].path, greedy[-1].namespaces.net) == (GREEDY[3:] + b"/below", greedy[0].namespaces.net)


def test_where_there_are_many_such_containers_each_has_little(processes: Crowd) -> None:
    """All of them together have no more than a few had."""
    processes.reader._shares = Shares(Purse(each=0.45, together=0.95, least=0.15))
    cgroups = [b"0::/docker/" + b"%x" % number * 64 for number in range(5)]
    found = [
        known(*(processes(100 * number + pid, one, 5000) for pid in range(1, 8))) for number, one in enumerate(cgroups)
    ]
    assert [one.count(True) for one in found] == [4, 4, 2, 2, 2]


def test_threads_of_one_in_many_groups_are_not_all_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each has a ``status`` of its own.  Fails without ``Shares`` there."""
    now = iter(range(1000))
    monkeypatch.setattr(effort, "clock", lambda: next(now) / 8)
    root = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    before = look("podman-v2")
    few, many = (one for one in before.processes if one.pid in (715, 730))
    for process, groups in ((few, 10), (many, 5000)):
        place = root / f"proc/{process.pid}"
        for tid in range(9000, 9008):
            shutil.copytree(place, place / f"task/{tid}", symlinks=True, ignore=shutil.ignore_patterns("task"))
            status = place / f"task/{tid}/status"
            status.write_bytes(status.read_bytes().replace(b"Groups:\t", b"Groups:\t" + b"1 " * groups))
    collector = Collector(Roots(root=str(root)))
    snapshot = collector.closer(collector.run()[0], Closely(threads=(715, 730)))
    assert {pid: len(its) for pid, its in snapshot.threads.items()} == {few.pid: 8}
    (issue,) = (one for one in snapshot.issues if "so many groups" in one.detail)
    assert (issue.path, issue.pids) == (f"{root}/proc/{many.pid}/task", (many.pid,))


def test_groups_that_are_as_many_as_people_have_cost_nothing(processes: Crowd) -> None:
    """A user of a directory service may be in some hundred."""
    assert known(*(processes(pid, GREEDY, 2000) for pid in range(10, 40))) == [True] * 30


@pytest.mark.parametrize(
    ("cgroup", "whose"),
    [
        (b"0::/docker/" + b"a" * 64 + b"/below/more\n", b"/docker/" + b"a" * 64),
        (b"2:cpu:/\n1:name=systemd:/user.slice/user-7.slice/a/b\n", b"/user.slice/user-7.slice"),
        (b"0::/user.slice/user-7.slice/user@7.service/x\n", b"/user.slice/user-7.slice"),
        (b"0::/user.slice/user-7.slice/docker-" + b"a" * 64 + b".scope\n", b"/user.slice/user-7.slice"),
        (b"0::" + POD + b"/below\n", POD),
        (b"0::/system.slice/cron.service\n", b"/system.slice/cron.service"),
        (b"0::/\n", b"/"),
    ],
)
def test_whose_a_process_is(cgroup: bytes, whose: bytes) -> None:
    """Whatever somebody makes below his own he does not get more by."""
    assert effort._whose(procfs.parse_cgroup(cgroup)) == whose


def test_one_whose_cgroup_is_unknown_is_the_hosts() -> None:
    assert effort._whose(()) == b"/"


# -- descriptors -------------------------------------------------------------------------------------------------------


def held(tmp_path: Path, count: int) -> Directory:
    """A process with so many."""
    (tmp_path / "fd").mkdir()
    for number in range(count):
        (tmp_path / f"fd/{number}").symlink_to(f"socket:[{number}]")
    return Directory.root(str(tmp_path))


def test_of_too_many_descriptors_none_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fails without ``MOST_DESCRIPTORS``: a process may hold a million, and a capture has a line for each."""
    monkeypatch.setattr(effort, "MOST_DESCRIPTORS", 10)
    model = process_of(look("podman-v2"), 1)
    with held(tmp_path, 11) as directory:
        with pytest.raises(Unreadable, match="fd: more than 10 entries"):
            descriptors_of(Shares(effort.DESCRIPTORS), directory, model)
        os.unlink(tmp_path / "fd/10")
        found = descriptors_of(Shares(effort.DESCRIPTORS), directory, model)
    assert found == [(number, b"socket:[%d]" % number) for number in range(10)]


def test_a_container_whose_descriptors_take_too_long_is_not_asked_for_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody else is asked less.  Fails without ``Shares`` there: ten thousand may hold the same million."""
    now = iter(range(1000))
    monkeypatch.setattr(effort, "clock", lambda: float(next(now)))
    model = process_of(look("podman-v2"), 1)
    greedy = model._replace(cgroup=procfs.parse_cgroup(GREEDY + b"\n"))
    other = model._replace(cgroup=procfs.parse_cgroup(OTHER + b"\n"))
    shares = Shares(Purse(1.5, 100, 0.5))
    with held(tmp_path, 2) as directory:
        for _ in range(2):
            assert len(descriptors_of(shares, directory, greedy)) == 2
        with pytest.raises(Unreadable, match="not asked: the descriptors of processes beside it take too long"):
            descriptors_of(shares, directory, greedy)
        assert len(descriptors_of(shares, directory, other)) == 2
