"""Files that never answer: each is waited for once, for a bounded time, and costs nobody but itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from nsinspect import kernfs, patience, statefiles
from nsinspect.collect import Depth, collect
from nsinspect.errors import KernelError, Malformed, Unreadable
from nsinspect.kernfs import Roots
from nsinspect.patience import Patience
from nsinspect.procfs import Mount
from nsinspect.statefiles import Reader

HOSTS = Path(__file__).parent / "fixtures/hosts"
Read = Callable[[str], bytes]


class Disk:
    """Files, of which some do not answer before it is mended; the paths that were asked for are kept."""

    def __init__(self, *dead: str) -> None:
        self.asked: list[str] = []
        self._dead = dead
        self._mended = threading.Event()
        self._threads: set[threading.Thread] = set()

    def read(self, path: str) -> bytes:
        self.asked.append(path)
        if path.startswith(self._dead):
            self._threads.add(threading.current_thread())
            assert self._mended.wait(30)
        return path.encode()

    def mend(self) -> None:
        self._mended.set()
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive()


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Disk]]:
    """Makes one that is soon lost patience with, and mends it at the end at the latest."""
    monkeypatch.setattr(patience, "SECONDS", 0.1)
    made: list[Disk] = []

    def make(*dead: str) -> Disk:
        made.append(Disk(*dead))
        return made[-1]

    yield make
    for one in made:
        one.mend()
    assert not any(thread.is_alive() for thread in patience._behind.values())


def top(path: str) -> str:
    """The file systems of these tests: by first letter."""
    return path[:1]


def told(keen: Patience, disk: Disk, *paths: str) -> list[bytes | str]:
    """What becomes of each path: what is read, or why it is not.  What was read once is known, as a reader has it."""
    known: dict[str, bytes] = {}

    def work() -> list[bytes | str]:
        found: list[bytes | str] = []
        for path in paths:
            try:
                if path not in known:
                    known[path] = keen.reading(path, lambda path=path: disk.read(path))
                found.append(known[path])
            except KernelError as error:
                found.append(error.detail)
        return found

    return keen.spend(work)


SILENT = "its file system does not answer in time"


def test_a_read_that_hangs_is_left_behind_and_the_others_are_told(disk: Callable[..., Disk]):
    """Those before it and those after it.  Fails without a thread for the work."""
    lies = disk("b")

    assert told(Patience(top), lies, "a1", "b1", "c1") == [b"a1", SILENT, b"c1"]


def test_what_else_is_there_is_not_asked_for(disk: Callable[..., Disk]):
    """A disk with a thousand files is waited for once."""
    lies = disk("b")
    begun = time.monotonic()
    found = told(Patience(top), lies, *(f"b{number}" for number in range(1000)))

    assert found == [SILENT] * 1000
    assert lies.asked == ["b0"]
    assert time.monotonic() - begun < 5


def test_whoever_looks_again_does_not_wait_again(disk: Callable[..., Disk]):
    """Nor leaves another thread behind, for as long as the first one waits; then everything is as before."""
    lies = disk("b")
    before = threading.active_count()
    assert told(Patience(top), lies, "b1") == [SILENT]
    assert threading.active_count() == before + 1
    assert told(Patience(top), lies, "a1", "b2") == [b"a1", SILENT]
    assert threading.active_count() == before + 1
    lies.mend()

    assert told(Patience(top), lies, "b1", "b2") == [b"b1", b"b2"]
    assert threading.active_count() == before
    assert lies.asked == ["b1", "a1", "b1", "b2"]


def test_where_many_hang_nothing_more_is_asked_for(disk: Callable[..., Disk]):
    """So there is an end to it: what a user serves himself may be many file systems."""
    lies = disk("b", "c", "d", "e")
    found = told(Patience(top), lies, "a1", "b1", "c1", "d1", "e1", "a2")

    many = f"not asked for: {patience.MOST} file systems do not answer in time"
    assert found == [b"a1", SILENT, SILENT, SILENT, many, many]
    assert {path[0] for path in lies.asked} == set("abcd")


def test_a_disk_that_always_answers_late_is_given_up_for_a_look(disk: Callable[..., Disk]):
    """That its last answer came is no reason to ask for the next in the same look, without end; in the next look it
    is.  Fails where only threads that still wait count."""
    lies = disk("b")
    keen = Patience(top)
    assert told(keen, lies, "b1") == [SILENT]
    lies.mend()

    assert told(keen, lies, "b1", "a1") == [SILENT, b"a1"]
    assert told(Patience(top), lies, "b1", "a1") == [b"b1", b"a1"]


def test_a_disk_that_is_slow_each_time_has_an_end(disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch):
    """However many files somebody puts there.  Fails without a limit for all reads together."""
    monkeypatch.setattr(patience, "TOGETHER", 0.1)
    lies = disk()

    def slow(path: str) -> bytes:
        if path.startswith("b"):
            time.sleep(0.03)
        return lies.read(path)

    keen = Patience(top)

    def work() -> int:
        late = 0
        for number in range(100):
            try:
                keen.reading(f"b{number}", lambda number=number: slow(f"b{number}"))
            except Unreadable:
                late += 1
        return late

    assert 100 > keen.spend(work) > 90
    assert told(keen, lies, "a1") == [b"a1"]


def test_what_goes_wrong_with_the_work_is_raised(disk: Callable[..., Disk]):
    def fails() -> None:
        raise Malformed(b"x", "something else", "/a")

    with pytest.raises(Malformed, match="something else"):
        Patience(top).spend(fails)


def test_slow_work_is_no_slow_read(disk: Callable[..., Disk]):
    """What is done with what was read takes the time that it takes, and many reads may."""
    lies = disk()

    def work() -> bytes:
        keen.reading("a1", lambda: lies.read("a1"))
        time.sleep(0.3)
        return keen.reading("a2", lambda: lies.read("a2"))

    keen = Patience(top)
    assert keen.spend(work) == b"a2"
    assert lies.asked == ["a1", "a2"]


def test_where_no_thread_is_to_be_had_it_waits(disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch):
    """A host on which nothing can be started is one that somebody wants to look at."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)

    assert told(Patience(top), disk(), "a1") == [b"a1"]


class Witness:
    """Keeps what it sees."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, object]] = []

    def watch(self, kind: str, path: str, work: Callable[[], object]) -> object:
        try:
            found = work()
        except KernelError as error:
            self.seen.append((path, error.detail))
            raise
        self.seen.append((path, found))
        return found

    def failed(self, path: str, number: int | None) -> None:
        pass


def test_what_comes_late_is_in_no_capture(disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch):
    """A capture says that there was no answer, once, and is not written to when there is one after all."""
    lies = disk("/dead/")
    monkeypatch.setattr(Reader, "_read", lambda _, path: lies.read(path))
    mounts = [Mount(b"1:1", b"/", point, b"rw", b"", b"ext4", b"/dev/x", b"rw") for point in (b"/", b"/dead")]
    reader = Reader(Roots(), mounts, lambda _: None)
    witness = Witness()

    def work() -> bytes | None:
        with pytest.raises(Unreadable):
            reader.read("/dead/1")
        return reader.read("/living")

    with kernfs.witnessed(witness):
        assert reader.patiently(work) == b"/living"
        lies.mend()

    assert witness.seen == [("/dead/1", SILENT), ("/living", b"/living")]


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("/var/lib/docker/containers/x/config.v2.json", "/var/lib/docker"),
        ("/var/lib/dockerfiles", "/"),
        ("/var/lib/docker", "/var/lib/docker"),
        ("/run/x", "/run"),
    ],
)
def test_a_file_is_on_the_innermost_mount(path: str, place: str):
    points = (b"/", b"/run", b"/var/lib/docker", b"/var")
    mounts = [Mount(b"1:1", b"/", point, b"rw", b"", b"ext4", b"/dev/x", b"rw") for point in points]
    reader = Reader(Roots(), [one for one in mounts if one.point != b"/var"], lambda _: None)

    assert reader._file_system(path) == place


def test_of_a_host_whose_state_does_not_answer_all_else_is_told(
    disk: Callable[..., Disk], monkeypatch: pytest.MonkeyPatch
):
    """One look, one issue for each file that could not be had, and every fact of the kernel."""
    roots = Roots(root=str(HOSTS / "docker-hybrid"))
    whole = collect(roots, Depth())
    real = statefiles.Reader._read
    lies = disk("/var/lib/docker")

    def read(self: Reader, path: str) -> bytes | None:
        lies.read(path)
        return real(self, path)

    monkeypatch.setattr(statefiles.Reader, "_read", read)
    hurt = collect(roots, Depth())

    assert whole.declarations
    assert hurt.declarations == {}
    assert (hurt.processes, hurt.cgroups, hurt.confinements) == (whole.processes, whole.cgroups, whole.confinements)
    assert {issue.kind for issue in hurt.issues} - {issue.kind for issue in whole.issues} == {"unreadable"}
    assert any(SILENT in issue.detail for issue in hurt.issues)
