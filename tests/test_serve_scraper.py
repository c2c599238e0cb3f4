"""One scrape in parts: whatever hangs or fails costs its own samples, and every other is there."""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nsinspect import collect as collecting
from nsinspect import forgiving, hostfacts, kernfs, testimony
from nsinspect.errors import Denied, RootError
from nsinspect.fields.scrape import Scrape
from nsinspect.grouping import Grouping
from nsinspect.kernfs import Roots
from nsinspect.model import Model
from nsinspect.serve import scraper as scraping
from nsinspect.serve.scraper import Scraper
from nsinspect.snapshot import Snapshot
from nsinspect.views.metrics import Room, exposition

HOSTS = Path(__file__).parent / "fixtures/hosts"
PARTS = ("processes", "state_files", "confinement", "cgroups", "model")
# Of the contract's families those that only cgroups tell.
OF_CGROUPS = ("cpu_", "cpuset_", "memory_", "pids", "pressure_")
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    before = set(threading.enumerate())
    yield
    for thread in set(threading.enumerate()) - before:
        thread.join(5)
        assert not thread.is_alive(), thread


class Stuck:
    """Work that does not return before it is let go; calls are counted."""

    def __init__(self, instead: Callable[..., object]) -> None:
        self.calls = 0
        self._instead = instead
        self._go = threading.Event()
        self._threads: list[threading.Thread] = []

    def __call__(self, *arguments: object, **options: object) -> object:
        self.calls += 1
        self._threads.append(threading.current_thread())
        assert self._go.wait(30)
        return self._instead(*arguments, **options)

    def release(self) -> None:
        """Let it go, now and later, and wait until what was begun is over."""
        self._go.set()
        for thread in self._threads:
            if thread is not threading.current_thread() and thread is not threading.main_thread():
                thread.join(5)


@pytest.fixture
def stuck(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[object, str], Stuck]]:
    """Puts something that hangs in the place of a function; let go at the end at the latest."""
    made = []

    def put(owner: object, name: str) -> Stuck:
        made.append(Stuck(getattr(owner, name)))
        hanging = made[-1]
        # A function, so that it becomes a method where it replaces one.
        monkeypatch.setattr(owner, name, lambda *arguments, **options: hanging(*arguments, **options))
        return hanging

    yield put
    for one in made:
        one.release()


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, float], None]:
    """Gives a part that will hang less of the time, so that it is not waited for so long, and all others enough."""

    def give(part: str, share: float) -> None:
        monkeypatch.setitem(scraping._SHARES, part, share)

    return give


def scraper(host: str | Path = "podman-v2") -> Scraper:
    return Scraper(Roots(root=str(HOSTS / host)))


def samples(scrape: Scrape) -> Samples:
    """Every sample about containers, without their names, which only state files tell."""
    found: Samples = {}
    for family in text_string_to_metric_families(exposition(scrape, openmetrics=False, room=Room())):
        for sample in family.samples:
            if sample.name.startswith("nsinspect_container_"):
                labels = frozenset((k, v) for k, v in sample.labels.items() if k not in ("name", "image"))
                assert (sample.name, labels) not in found
                found[sample.name, labels] = sample.value
    return found


def of_cgroups(found: Samples) -> Samples:
    return {
        key: value for key, value in found.items() if key[0].removeprefix("nsinspect_container_").startswith(OF_CGROUPS)
    }


def failed(scrape: Scrape) -> set[str]:
    """The parts that were not successful; checks that the text says so of each part, with 0 and 1."""
    text = exposition(scrape, openmetrics=False, room=Room())
    told = {
        sample.labels["collector"]: sample.value
        for family in text_string_to_metric_families(text)
        if family.name == "nsinspect_scrape_collector_success"
        for sample in family.samples
    }
    assert told == {part.name: int(part.success) for part in scrape.parts}
    assert tuple(told) == PARTS
    return {part.name for part in scrape.parts if not part.success}


def test_a_usual_scrape_is_whole():
    """Every part went well and took some time."""
    scrape = scraper().scrape(30)

    assert failed(scrape) == set()
    assert scrape.model is not None
    assert {one.name for one in scrape.model.containers} == {"web", "priv", "plain"}
    assert all(0 < part.seconds < 30 for part in scrape.parts)
    assert (scrape.vanished, scrape.truncated) == (0, 0)


def test_state_files_that_hang_cost_names_and_nothing_else(
    stuck: Callable[[object, str], Stuck], impatient: Callable[[str, float], None]
):
    """Their disk may be gone: within the deadline all else is there; no thread more waits for it at the next scrape;
    and when it is back so is everything.  Fails without a deadline."""
    one = scraper()
    whole = one.scrape(30)
    impatient("state_files", 0.05)
    hanging = stuck(testimony, "claims")
    first = one.scrape(2)
    waiting = threading.active_count()
    second = one.scrape(2)

    for scrape in (first, second):
        assert failed(scrape) == {"state_files"}
        assert {key: v for key, v in samples(whole).items() if "drift" not in key[0]} == samples(scrape)
        assert sum(part.seconds for part in scrape.parts) < 2
    assert hanging.calls == 1
    assert threading.active_count() == waiting

    hanging.release()
    third = one.scrape(30)

    assert failed(third) == set()
    assert hanging.calls == 2
    assert third.model is not None
    assert whole.model is not None
    assert [c.name for c in third.model.containers] == [c.name for c in whole.model.containers]
    assert samples(third) == samples(whole)


def test_declarations_that_hang_are_state_files_too(
    stuck: Callable[[object, str], Stuck], impatient: Callable[[str, float], None]
):
    """What is read after the containers are known is left behind just as well."""
    one = scraper()
    impatient("state_files", 0.1)
    hanging = stuck(testimony, "declarations")
    scrapes = [one.scrape(2) for _ in range(2)]

    assert [failed(scrape) for scrape in scrapes] == [{"state_files"}] * 2
    assert hanging.calls == 1
    assert [len(scrape.model.containers) for scrape in scrapes if scrape.model] == [3, 3]


def without_cgroups(whole: Samples) -> Samples:
    assert of_cgroups(whole)
    return {key: value for key, value in whole.items() if key not in of_cgroups(whole) and "drift" not in key[0]}


def test_cgroups_that_hang_make_no_number_up(
    stuck: Callable[[object, str], Stuck], impatient: Callable[[str, float], None]
):
    """What did not come is no sample; when it comes again so does everything."""
    one = scraper()
    whole = samples(one.scrape(30))
    impatient("cgroups", 0.01)
    hanging = stuck(collecting.Collector, "cgroups")
    scrape = one.scrape(10)

    assert failed(scrape) >= {"cgroups"}
    assert samples(scrape) in ({}, without_cgroups(whole))
    hanging.release()
    for thread in threading.enumerate():
        if thread.name in PARTS:
            thread.join(5)
    after = one.scrape(30)
    assert failed(after) == set()
    assert samples(after) == whole


def test_a_part_that_hangs_leaves_time_for_those_after_it(
    stuck: Callable[[object, str], Stuck], monkeypatch: pytest.MonkeyPatch
):
    """What processes tell is still told: a late part does not use the time up in which the model is built."""
    one = scraper()
    whole = samples(one.scrape(30))
    real = scraping.build

    def as_on_a_big_host(snapshot: Snapshot, grouping: Grouping) -> Model:
        threading.Event().wait(0.1)
        return real(snapshot, grouping)

    monkeypatch.setattr(scraping, "build", as_on_a_big_host)
    stuck(collecting.Collector, "cgroups")
    scrape = one.scrape(1)

    assert failed(scrape) == {"cgroups"}
    assert samples(scrape) == without_cgroups(whole)


def test_processes_that_hang_leave_no_model_and_say_so(stuck: Callable[[object, str], Stuck]):
    """Without processes there is nothing to tell but that; what was never begun is no success."""
    one = scraper()
    hanging = stuck(collecting.Collector, "seen")
    late = one.scrape(0.2)
    again = one.scrape(0.2)

    for scrape in (late, again):
        assert scrape.model is None
        assert failed(scrape) == set(PARTS)
        assert samples(scrape) == {}
    assert hanging.calls == 1
    hanging.release()
    assert failed(one.scrape(30)) == set()


def test_a_model_that_is_late_is_none(stuck: Callable[[object, str], Stuck], impatient: Callable[[str, float], None]):
    """The parts before it went well."""
    impatient("model", 0.01)
    stuck(scraping, "build")
    scrape = scraper().scrape(10)

    assert scrape.model is None
    assert "model" in failed(scrape)
    assert not failed(scrape) & {"processes", "state_files"}


def boom(*_: object, **__: object) -> object:
    raise RuntimeError("a bug")


@pytest.mark.parametrize(
    ("owner", "function", "part"),
    [
        pytest.param(testimony, "claims", "state_files", id="claims"),
        pytest.param(testimony, "declarations", "state_files", id="declarations"),
        pytest.param(collecting.Collector, "closer_look", "confinement", id="confinement"),
        pytest.param(collecting.Collector, "cgroups", "cgroups", id="cgroups"),
        pytest.param(scraping, "build", "model", id="model"),
    ],
)
def test_a_part_that_fails_leaves_the_samples_of_the_others(
    owner: object, function: str, part: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """One bug is one 0, a line in the log, and what only that part knows."""
    one = scraper()
    whole = samples(one.scrape(30))
    with monkeypatch.context() as broken:
        broken.setattr(owner, function, boom)
        scrape = one.scrape(30)
        found = samples(scrape)

    assert failed(scrape) == {part}
    assert f"collector {part} failed" in caplog.text
    if part == "model":
        assert found == {}
    elif part == "cgroups":
        assert found == {key: value for key, value in whole.items() if key not in of_cgroups(whole)}
    else:
        assert of_cgroups(found) == of_cgroups(whole)
        missing = {name for name, _ in whole.keys() - found.keys()}
        assert missing <= {"nsinspect_container_privileged", "nsinspect_container_drift"}
        assert found.items() <= whole.items()
    assert samples(one.scrape(30)) == whole


@pytest.mark.parametrize("error", [RuntimeError("a bug"), RootError("no procfs"), MemoryError(), RecursionError()])
def test_processes_that_fail_are_all_that_is_told(error: Exception, monkeypatch: pytest.MonkeyPatch):
    """Whatever is wrong with them, a scrape is answered."""

    def fails(_: object) -> object:
        raise error

    one = scraper()
    with monkeypatch.context() as broken:
        broken.setattr(collecting.Collector, "seen", fails)
        scrape = one.scrape(30)

    assert scrape.model is None
    assert failed(scrape) == set(PARTS)
    assert failed(one.scrape(30)) == set()


def test_grouping_that_fails_does_not_raise(monkeypatch: pytest.MonkeyPatch):
    """It stands between the parts; a scrape never raises for what a host does."""
    monkeypatch.setattr(collecting, "group", boom)
    scrape = scraper().scrape(30)

    assert scrape.model is None
    assert "model" in failed(scrape)


def test_a_host_that_is_none_is_no_reason_to_raise(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    """A mount that went away: nothing is known, one line says why, and it is looked for again."""
    host = tmp_path / "host"
    one = scraper(host)
    scrape = one.scrape(30)

    assert (scrape.model, failed(scrape)) == (None, set(PARTS))
    assert str(host) in caplog.text
    shutil.copytree(HOSTS / "podman-v2", host, symlinks=True)
    assert failed(one.scrape(30)) == set()


def test_what_is_left_behind_may_complain_while_others_count(
    impatient: Callable[[str, float], None], monkeypatch: pytest.MonkeyPatch
):
    """A part that was given up comes back in the very moment when issues are gathered: nothing breaks."""
    collectors: list[collecting.Collector] = []
    left, told = threading.Event(), threading.Event()

    def late(self: collecting.Collector, *_: object) -> object:
        for pid in (8, 9):
            self.complain(Denied(f"/proc/{pid}/mountinfo", "before"), pid)
        collectors.append(self)
        assert left.wait(30)
        self.complain(Denied("/proc/7/attr/current", "after"), 7)
        told.set()
        return collecting._Look({}, {})

    real = forgiving.Issue

    def while_gathered(*facts: object) -> object:
        left.set()
        assert told.wait(30)
        return real(*facts)  # type: ignore[arg-type]

    monkeypatch.setattr(collecting.Collector, "closer_look", late)
    monkeypatch.setattr(hostfacts, "narrowed", lambda *_: [])
    monkeypatch.setattr(forgiving, "Issue", while_gathered)
    impatient("confinement", 0.01)
    try:
        scrape = scraper().scrape(10)
    finally:
        left.set()

    assert "confinement" in failed(scrape)


def test_what_vanished_adds_up(tmp_path: Path):
    """A counter, over all scrapes."""
    host = Path(shutil.copytree(HOSTS / "docker-hybrid", tmp_path / "host", symlinks=True))
    shutil.rmtree(next(host.glob("sys/fs/cgroup/memory/docker/*/memory.limit_in_bytes")).parent)
    one = scraper(host)

    assert [one.scrape(30).vanished for _ in range(3)] == [1, 2, 3]


@pytest.mark.parametrize(
    ("file", "families"),
    [
        ("memory.max", {"memory_limit_bytes"}),
        ("memory.swap.max", {"memory_swap_limit_bytes"}),
        ("memory.current", {"memory_usage_bytes", "memory_working_set_bytes"}),
        ("pids.max", {"pids_limit"}),
        ("pids.current", {"pids"}),
        ("cpu.max", {"cpu_limit_cores"}),
        ("cpu.weight", {"cpu_weight"}),
        (
            "cpu.stat",
            {
                "cpu_usage_seconds_total",
                "cpu_throttled_seconds_total",
                "cpu_throttled_periods_total",
                "cpu_periods_total",
            },
        ),
    ],
)
def test_an_io_error_of_one_file_costs_its_samples_and_no_other(
    file: str, families: set[str], monkeypatch: pytest.MonkeyPatch
):
    """EIO in one cgroup: that container lacks what the file tells, and everything else is there."""
    one = scraper()
    whole = one.scrape(30)
    assert whole.model is not None
    victim = next(c for c in whole.model.containers if c.name == "web")
    real = kernfs._open

    def failing(name: str, flags: int, *, dir_fd: int) -> int:
        if name == file and victim.id in os.readlink(f"/proc/self/fd/{dir_fd}"):
            raise OSError(errno.EIO, "Input/output error")
        return real(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(kernfs, "_open", failing)
    scrape = one.scrape(30)
    lost = samples(whole).keys() - samples(scrape).keys()

    assert failed(scrape) == set()
    assert samples(scrape).items() <= samples(whole).items()
    assert {(name.removeprefix("nsinspect_container_"), *labels) for name, labels in lost} == {
        (name, ("id", victim.id[:12])) for name in families
    }
    text = exposition(scrape, openmetrics=False, room=Room())
    assert 'nsinspect_read_issues{kind="unreadable"} ' in text


@pytest.mark.parametrize("comm", [b"\xff\xfe\x1b[31m", b'"} 1 (', b"a) S 1 (b", b"\xc3"], ids=ascii)
def test_a_process_with_any_name_hides_no_series(comm: bytes, tmp_path: Path):
    """A comm is 15 bytes of somebody's choice."""
    host = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    whole = scraper(host).scrape(30)
    assert whole.model is not None
    pid = whole.model.containers[0].init.pid
    stat, status = host / f"proc/{pid}/stat", host / f"proc/{pid}/status"
    data = stat.read_bytes()
    stat.write_bytes(data[: data.index(b"(") + 1] + comm + data[data.rindex(b")") :])
    lines = status.read_bytes().split(b"\n")
    assert lines[0].startswith(b"Name:")
    status.write_bytes(b"\n".join([b"Name:\t" + comm, *lines[1:]]))
    scrape = scraper(host).scrape(30)

    assert scrape.model is not None
    assert scrape.model.containers[0].init.comm == comm
    assert samples(scrape) == samples(whole)
    assert failed(scrape) == set()
