"""Recordings: looks come back as they were, and whatever happens to a file or a disk costs one look and says so."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zstandard

from nsinspect import store
from nsinspect.errors import NsinspectError
from nsinspect.snapshot import Snapshot
from nsinspect.store import Recorder, Recording, StoreError
from tests.looks import NAMES, look, rich
from tests.recorded import EVERY, HEADER, START, Piece, at, frame, host, kept, pieces, shards, small, used

Events = list[dict[str, Any]]
ROOT = os.geteuid() == 0


def told(number: int) -> Events:
    """One event with every second look."""
    return [{"number": number, "message": "x" * 50}] if number % 2 else []


def read(path: Path, moment: float) -> Snapshot | None:
    """The look of a moment; ``None`` where there is none."""
    try:
        return Recording(str(path)).at(moment)
    except StoreError:
        return None


def whole(path: Path, looks: list[Snapshot]) -> bool:
    """Whether all of these come back, and nothing is complained of."""
    recording = Recording(str(path))
    same = [recording.at(one.captured_at) == one for one in looks]
    return all(same) and not recording.losses


def kinds(path: Path) -> str:
    """The frames of a recording's shards, a letter each."""
    return " ".join("".join(one.kind for one in pieces(shard.read_bytes())) for shard in shards(path))


# -- what was written --------------------------------------------------------------------------------------------------


def test_looks_come_back_equal(tmp_path: Path):
    looks = [at(look(name), number * EVERY) for number, name in enumerate((*NAMES, *NAMES))]
    looks += [at(rich(), 100), at(rich(), 105)]
    path = kept(tmp_path / "store", looks)

    assert whole(path, looks)
    assert Recording(str(path)).moments() == [one.captured_at for one in looks]


def test_a_moment_is_the_last_look_before_it(tmp_path: Path):
    path = kept(tmp_path / "store", [used(0), used(1)])

    assert read(path, START + 4.999) == used(0)
    assert read(path, START + 5) == used(1)
    assert read(path, START + 1e9) == used(1)


def test_before_the_beginning_there_is_nothing_and_it_says_when_it_begins(tmp_path: Path):
    path = kept(tmp_path / "store", [used(0)])
    with pytest.raises(StoreError, match=r"it begins 2026-05-28T20:26:40Z"):
        Recording(str(path)).at(START - 1)


def test_what_happened_is_kept_beside_and_in_order(tmp_path: Path):
    path = kept(tmp_path / "store", [used(number) for number in range(6)], told)

    assert kinds(path) == "KCEDDEDDED"
    assert [one["number"] for one in Recording(str(path)).events()] == [1, 3, 5]
    assert [one["number"] for one in Recording(str(path)).events(START + 15)] == [3, 5]
    assert [one["number"] for one in Recording(str(path)).events(START + 15.001)] == [5]


def test_what_did_not_change_costs_next_to_nothing(tmp_path: Path):
    recorder = Recorder(str(tmp_path / "store"))
    first, *others = (recorder.add(at(host(), number * EVERY)) for number in range(20))
    recorder.close()

    assert max(others) < 150 < first


def test_a_whole_look_comes_again_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "KEY_EVERY", 12)
    looks = [used(number) for number in range(7)]
    path = kept(tmp_path / "store", looks)

    assert kinds(path) == "KCDDKCDDKC"
    assert whole(path, looks)


def test_many_changes_lead_to_a_new_whole_look(tmp_path: Path):
    words = random.Random(7)
    names = {number: words.randbytes(100).hex() for number in range(900)}
    many = replace(small(), users=names)
    looks = [used(0), used(1), used(2, many), used(3, many), used(4, many)]
    path = kept(tmp_path / "store", looks)

    assert kinds(path) == "KCDKCDD"
    assert whole(path, looks)


def test_the_next_file_begins_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_SECONDS", 9)
    looks = [used(number) for number in range(6)]
    path = kept(tmp_path / "store", looks, told)

    assert kinds(path) == "KCED KCED KCED"
    assert whole(path, looks)
    assert [one["number"] for one in Recording(str(path)).events(START + 5)] == [1, 3, 5]
    assert [one["number"] for one in Recording(str(path)).events(START + 14)] == [3, 5]


def test_the_next_file_begins_when_one_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 1000)
    looks = [used(number) for number in range(3)]
    path = kept(tmp_path / "store", looks)

    assert kinds(path) == "KC KC KC"
    assert whole(path, looks)


def test_files_are_for_nobody_else(tmp_path: Path):
    path = kept(tmp_path / "a/store", [used(0)])
    assert {one.name: oct(one.stat().st_mode)[-3:] for one in (path, *path.iterdir())} == {
        "store": "700",
        "lock": "600",
        shards(path)[0].name: "600",
    }


def test_one_that_ended_is_gone_on_with(tmp_path: Path):
    looks = [used(number) for number in range(4)]
    kept(tmp_path / "store", looks[:2])
    path = kept(tmp_path / "store", looks[2:])

    assert kinds(path) == "KCD KCD"
    assert whole(path, looks)


# -- clocks ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "times",
    [
        pytest.param((100, 105, 110, 102, 107, 112), id="a little"),
        pytest.param((100, 105, 110, 50, 55, 60), id="behind the beginning of the file"),
    ],
)
def test_every_look_is_found_at_its_time_although_the_clock_stepped_back(tmp_path: Path, times: tuple[int, ...]):
    looks = [at(used(number), seconds) for number, seconds in enumerate(times)]
    path = kept(tmp_path / "store", looks)
    recording = Recording(str(path))

    assert recording.moments() == sorted(one.captured_at for one in looks)
    assert [read(path, one.captured_at) == one for one in looks] == [True] * len(looks)


def test_events_are_all_there_although_the_clock_stepped_back(tmp_path: Path):
    """Between two recorders, so that the second file begins before the first one ends."""
    for times in ((100, 105), (102, 107), (50, 90)):
        looks = [at(used(0), seconds) for seconds in times]
        path = kept(tmp_path / "store", looks, lambda number, times=times: [{"at": times[number]}])

    for since in (0, 60, 101, 104, 106):
        found = [one["at"] for one in Recording(str(path)).events(START + since)]
        assert sorted(found) == [one for one in (50, 90, 100, 102, 105, 107) if one >= since], since


# -- damage ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Snapshot]]:
    """Four looks and two events in one file."""
    looks = [used(number) for number in range(4)]
    return kept(tmp_path_factory.mktemp("recorded") / "store", looks, told), looks


@pytest.fixture
def store_of_ours(recorded: tuple[Path, list[Snapshot]], tmp_path: Path) -> tuple[Path, list[Snapshot]]:
    """A copy that may be damaged."""
    path, looks = recorded
    return Path(shutil.copytree(path, tmp_path / "store")), looks


def cost(path: Path, looks: list[Snapshot]) -> tuple[list[float], list[int], list[str]]:
    """Seconds of the looks and numbers of the events that do not come back, and what is said."""
    recording = Recording(str(path))
    lost = []
    for number, one in enumerate(looks):
        try:
            found = recording.at(one.captured_at)
        except StoreError:
            found = None
        if found != one:
            # What comes back instead is the one before, and never half of something.
            assert number == 0 or found is None or found == looks[number - 1]
            lost.append(one.captured_at - START)
    events = [one["number"] for one in recording.events()]
    assert events == sorted(set(events) & {1, 3})
    return lost, sorted({1, 3} - set(events)), recording.losses


def offsets(one: Piece) -> list[int]:
    """All bytes of the header and of the checksum, and some of what is packed."""
    inside = range(one.packed, one.end - 4)
    return [*range(one.start, one.packed), *random.Random(one.start).sample(inside, 8), *range(one.end - 4, one.end)]


@pytest.mark.parametrize("kind", "KCDE")
def test_a_flipped_bit_costs_one_look_at_most_and_one_line_says_so(
    store_of_ours: tuple[Path, list[Snapshot]], kind: str
):
    path, looks = store_of_ours
    (shard,) = shards(path)
    data = shard.read_bytes()
    chosen = [one for one in pieces(data) if one.kind == kind][:2]
    for offset in (offset for one in chosen for offset in offsets(one)):
        shard.write_bytes(data[:offset] + bytes([data[offset] ^ (1 << offset % 8)]) + data[offset + 1 :])
        lost, events, said = cost(path, looks)
        assert len(lost) + len(events) == (1 if kind in "DE" else 0), offset
        assert len(said) == 1, (offset, said)
        assert shard.name in said[0]


@pytest.mark.parametrize("kind", "KC")
def test_damage_that_costs_no_look_is_not_called_a_lost_one(store_of_ours: tuple[Path, list[Snapshot]], kind: str):
    """A whole look is there twice."""
    path, looks = store_of_ours
    (shard,) = shards(path)
    data = bytearray(shard.read_bytes())
    data[next(one.packed for one in pieces(bytes(data)) if one.kind == kind)] ^= 1
    shard.write_bytes(data)
    lost, events, (said,) = cost(path, looks)

    assert (lost, events) == ([], [])
    assert "the look of" not in said


def test_where_both_copies_are_damaged_what_is_built_on_them_is_lost_and_said_to_be(
    store_of_ours: tuple[Path, list[Snapshot]],
):
    path, looks = store_of_ours
    (shard,) = shards(path)
    data = bytearray(shard.read_bytes())
    for one in list(pieces(bytes(data))):
        if one.kind in "KC":
            data[one.packed + 5] ^= 1
    shard.write_bytes(data)
    lost, events, said = cost(path, looks)

    assert (len(lost), events) == (4, [])
    assert len(said) >= 2


def test_a_file_that_ends_too_early_has_everything_before_its_end(store_of_ours: tuple[Path, list[Snapshot]]):
    path, looks = store_of_ours
    (shard,) = shards(path)
    data = shard.read_bytes()
    found = list(pieces(data))
    ends = [one.end for one in found]
    chosen = [*random.Random(3).sample(range(len(data)), 60), *range(ends[0] - 40, ends[0] + 40, 7), *ends, 0, 1]
    for size in chosen:
        shard.write_bytes(data[:size])
        kept_whole = [one for one in found if one.end <= size]
        # The copy is no look of its own; a first look without its copy is one.
        count = sum(one.kind in "KD" for one in kept_whole)
        recording = Recording(str(path))
        if count:
            assert recording.at(START + 1000) == looks[count - 1], size
        else:
            with pytest.raises(StoreError):
                recording.at(START + 1000)
        assert len(list(recording.events())) == sum(one.kind == "E" for one in kept_whole)
        assert len(recording.losses) == (size != 0 and size not in ends), (size, recording.losses)


def test_rubbish_between_frames_is_passed_over(store_of_ours: tuple[Path, list[Snapshot]]):
    """Even where it begins like a frame."""
    path, looks = store_of_ours
    (shard,) = shards(path)
    data = shard.read_bytes()
    for one in list(pieces(data))[1:]:
        for rubbish in (b"\0", b"\x93nsrec\r\n", random.Random(1).randbytes(5000), data[:40]):
            shard.write_bytes(data[: one.start] + rubbish + data[one.start :])
            lost, events, said = cost(path, looks)
            assert (lost, events) == ([], [])
            assert 1 <= len(said) <= 2


PLAIN = (
    "{}",
    "[]",
    "null",
    "7",
    '"text"',
    '{"version": 1}',
    '{"version": 9}',
    '{"processes": 3}',
    "[1]",
    "{",
    "[" * 9999,
)
NOT_OURS = (
    *(zstandard.compress(one.encode()) for one in PLAIN),
    b"",
    b"\x28\xb5\x2f\xfd" + b"\xff" * 40,
    # Says that it is large.
    zstandard.ZstdCompressor().compressobj(size=1 << 40).flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK),
)


@pytest.mark.parametrize("kind", [b"K", b"D", b"E", b"?"])
def test_what_somebody_else_wrote_into_whole_frames_breaks_nothing(tmp_path: Path, kind: bytes):
    """A recording may come from a host that is not trusted: a checksum is no signature."""
    path = kept(tmp_path / "store", [used(0), used(1)])
    (shard,) = shards(path)
    before, moment = shard.read_bytes(), START + 60
    broken = []
    for packed in NOT_OURS:
        shard.write_bytes(before + frame(kind, packed, moment, START if kind == b"D" else moment))
        recording = Recording(str(path))
        try:
            with contextlib.suppress(NsinspectError):
                assert isinstance(recording.at(moment), Snapshot)
            assert all(isinstance(one, dict) for one in recording.events())
        except Exception as error:  # noqa: BLE001 - all that break it are told of at once
            broken.append((packed[:60], repr(error)[:80]))
    assert broken == []


@pytest.mark.parametrize("other", ["fifo", "symlink", "empty", "directory", "socket"])
def test_a_file_that_is_none_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, other: str):
    monkeypatch.setattr(store, "SHARD_SECONDS", 9)
    looks = [used(number) for number in range(6)]
    path = kept(tmp_path / "store", looks)
    _, second, _ = shards(path)
    second.rename(tmp_path / "elsewhere")
    if other == "fifo":
        os.mkfifo(second)
    elif other == "symlink":
        second.symlink_to(tmp_path / "elsewhere")
    elif other == "empty":
        second.touch()
    elif other == "directory":
        second.mkdir()
    else:
        os.mknod(second, 0o140600)
    recording = Recording(str(path))

    assert recording.at(looks[0].captured_at) == looks[0]
    assert recording.at(looks[-1].captured_at) == looks[-1]
    assert recording.at(looks[3].captured_at) == looks[1]
    assert len(recording.moments()) == 4
    list(recording.events())
    assert len(recording.losses) == (other != "empty")
    assert all(second.name in line and "None" not in line for line in recording.losses)


FOREIGN = ("notes.txt", "20260528T202640.000000Z.nsrec.tmp", "x20260528T202640.000000Z.nsrec", "lost+found/")


@pytest.mark.parametrize("name", [*FOREIGN, "99999999T999999.999999Z.nsrec", "20260230T000000.000000Z.nsrec"])
def test_what_else_is_in_the_directory_is_left_alone(tmp_path: Path, name: str):
    """Even if it is called nearly like a file of ours, but for a date that never was."""
    path = kept(tmp_path / "store", [used(0)])
    foreign = path / name
    if name.endswith("/"):
        foreign.mkdir()
    else:
        foreign.write_bytes(b"keep")
    recording = Recording(str(path))

    assert recording.at(START) == used(0)
    assert [recording.moments(), list(recording.events())] == [[START], []]
    recorder = Recorder(str(path), keep_seconds=0, keep_bytes=0)
    recorder.add(used(100))
    recorder.close()
    assert foreign.exists()


def test_where_nothing_is_recorded_it_says_so(tmp_path: Path):
    for path in (tmp_path, tmp_path / "missing"):
        with pytest.raises(StoreError, match=str(path)):
            Recording(str(path))


def test_who_has_read_holds_nothing(tmp_path: Path):
    """Fails where a recording's folder is left open: 500 looks at recordings were all that a program could have."""
    Recorder(str(tmp_path / "store")).add(used(0))
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        assert Recording(str(tmp_path / "store")).at(START) == used(0)
        with pytest.raises(StoreError):
            Recording(str(tmp_path))
    assert os.listdir("/proc/self/fd") == before


# -- who may write -----------------------------------------------------------------------------------------------------


def test_a_second_recorder_is_refused_until_the_first_has_ended(tmp_path: Path):
    first = Recorder(str(tmp_path / "store"))
    with pytest.raises(StoreError, match="another nsinspect writes there"):
        Recorder(str(tmp_path / "store"))
    first.add(used(0))
    first.close()
    Recorder(str(tmp_path / "store")).close()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o720, 0o740, 0o777, 0o1777])
def test_a_directory_that_others_get_into_is_refused(tmp_path: Path, mode: int):
    """Fails without a look at its mode."""
    path = tmp_path / "store"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(StoreError, match="ours alone"):
        Recorder(str(path))
    assert list(path.iterdir()) == []


@pytest.mark.skipif(not ROOT, reason="only root gives a directory away")
def test_a_directory_of_somebody_else_is_refused(tmp_path: Path):
    path = tmp_path / "store"
    path.mkdir(0o700)
    os.chown(path, 65534, 65534)
    with pytest.raises(StoreError, match="ours alone"):
        Recorder(str(path))


def test_what_is_no_directory_is_refused_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    (tmp_path / "loop").symlink_to("loop")
    for path in (tmp_path / "file", tmp_path / "file/below", tmp_path / "loop"):
        with pytest.raises(StoreError, match=str(path)) as caught:
            Recorder(str(path))
        assert "\n" not in str(caught.value)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path):
    path = tmp_path / "store"
    path.mkdir(0o700)
    (path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError):
        Recorder(str(path))
    assert not (tmp_path / "elsewhere").exists()


# -- a disk that is full, or read-only ---------------------------------------------------------------------------------


class FullDisk:
    """``os``, of which ``write`` fails from its ``number``-th call on, ``times`` times, after so many bytes."""

    def __init__(self, number: int, times: int = 1, room: int = 0) -> None:
        self._calls, self._number, self._times, self._room = 0, number, times, room

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    def write(self, fd: int, data: bytes) -> int:
        self._calls += 1
        if self._number <= self._calls < self._number + self._times:
            if self._room:
                self._number += 1
                room, self._room = self._room, 0
                return os.write(fd, data[:room])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return os.write(fd, data)


def through(recorder: Recorder, looks: list[Snapshot], events: Callable[[int], Events] = told) -> list[int]:
    """Which of them could not be written."""
    refused = []
    for number, one in enumerate(looks):
        try:
            recorder.add(one, events(number))
        except StoreError as error:
            refused += [number] * str(error).endswith("No space left on device")
    recorder.close()
    return refused


@pytest.mark.parametrize("room", [0, 1, HEADER.size + 10])
@pytest.mark.parametrize("number", range(1, 11))
def test_a_full_disk_costs_one_look_and_leaves_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, room: int
):
    looks = [used(number) for number in range(6)]
    monkeypatch.setattr(store, "os", FullDisk(number, room=room))
    (refused,) = through(Recorder(str(tmp_path / "store")), looks)
    monkeypatch.undo()
    recording = Recording(str(tmp_path / "store"))
    for position, one in enumerate(looks):
        if position != refused:
            assert recording.at(one.captured_at) == one
    assert recording.losses == []
    events = [one["number"] for one in recording.events()]
    assert {1, 3, 5} - {refused} <= set(events) <= {1, 3, 5}


@pytest.mark.parametrize("number", range(1, 11))
def test_of_a_look_that_could_not_be_written_nothing_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
):
    """Neither what happened, nor a whole look without its copy."""
    looks = [used(number) for number in range(6)]
    monkeypatch.setattr(store, "os", FullDisk(number))
    (refused,) = through(Recorder(str(tmp_path / "store")), looks)
    monkeypatch.undo()
    recording = Recording(str(tmp_path / "store"))

    assert looks[refused].captured_at not in recording.moments()
    # What happened is told with the next look that could be written, and once.
    assert [one["number"] for one in recording.events()] == ([1, 3] if refused == 5 else [1, 3, 5])


def test_a_disk_that_stays_full_is_not_filled_with_empty_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    looks = [used(number) for number in range(60)]
    monkeypatch.setattr(store, "os", FullDisk(4, times=50))
    refused = through(Recorder(str(tmp_path / "store")), looks, lambda _: [])
    monkeypatch.undo()

    assert len(refused) == 50
    assert read(tmp_path / "store", looks[-1].captured_at) == looks[-1]
    assert len([one for one in shards(tmp_path / "store") if not one.stat().st_size]) <= 1


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Path]:
    """A file system with 64 KiB of room."""
    point = tmp_path / "mounted"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs", str(point)]
    if not ROOT or subprocess.run(command, check=False, capture_output=True, timeout=20).returncode:
        pytest.skip("nothing can be mounted here")
    yield point
    subprocess.run(["umount", "-l", str(point)], check=True, timeout=20)


def test_a_disk_that_is_really_full_has_room_again(mounted: Path):
    store_path = mounted / "store"
    recorder = Recorder(str(store_path))
    recorder.add(used(0))
    filler = mounted / "filler"
    with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
        while file.write(b"x" * 1024):
            pass
    refused = []
    for number in range(1, 40):
        try:
            recorder.add(used(number))
        except StoreError:
            refused.append(number)
    filler.unlink()
    last = [used(number) for number in range(40, 43)]
    for one in last:
        recorder.add(one)
    recorder.close()
    recording = Recording(str(store_path))

    assert refused
    assert recording.at(START) == used(0)
    assert [recording.at(one.captured_at) for one in last] == last
    assert [START + number * EVERY in recording.moments() for number in refused] == [False] * len(refused)
    assert recording.losses == []


def test_a_read_only_store_is_read_and_not_written(mounted: Path):
    path = kept(mounted / "store", [used(0), used(1)], told)
    subprocess.run(["mount", "-o", "remount,ro", str(mounted)], check=True, timeout=20)

    assert whole(path, [used(0), used(1)])
    assert len(list(Recording(str(path)).events())) == 1
    with pytest.raises(StoreError, match="Read-only file system"):
        Recorder(str(path))


# -- what is kept ------------------------------------------------------------------------------------------------------


def aged(path: Path, look: Snapshot, seconds: float) -> None:
    """A file of its own, last written so many seconds before the beginning."""
    before = set(shards(path)) if path.exists() else set()
    kept(path, [look])
    (new,) = set(shards(path)) - before
    os.utime(new, (START - seconds, START - seconds))


def test_what_is_too_old_is_removed_when_the_next_file_begins(tmp_path: Path):
    path = tmp_path / "store"
    for number, seconds in enumerate((4000, 300, 200, 50)):
        aged(path, at(small(), -seconds), seconds)
        assert len(shards(path)) == number + 1
    names = [one.name for one in shards(path)]
    recorder = Recorder(str(path), keep_seconds=250)
    assert [one.name for one in shards(path)] == names
    recorder.add(at(small(), 0))

    assert [one.name for one in shards(path)][:-1] == names[2:]
    assert whole(path, [at(small(), -200), at(small(), -50), at(small(), 0)])
    recorder.close()


def test_the_oldest_are_removed_when_there_is_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(store, "SHARD_BYTES", 3000)
    looks = [used(number) for number in range(60)]
    recorder = Recorder(str(tmp_path / "store"), keep_bytes=20_000, keep_seconds=float("inf"))
    gone: set[str] = set()
    known: list[str] = []
    for one in looks:
        recorder.add(one)
        names = [shard.name for shard in shards(tmp_path / "store")]
        known += [name for name in names if name not in known]
        gone |= set(known) - set(names)
        # The oldest first, and what is being written never.
        assert set(known[: len(gone)]) == gone
        assert known[-1] in names
        assert read(tmp_path / "store", one.captured_at) == one
        assert sum(shard.stat().st_size for shard in shards(tmp_path / "store")) <= 20_000 + 2 * 3000
    recorder.close()

    assert gone
    assert len(shards(tmp_path / "store")) >= 3
    assert Recording(str(tmp_path / "store")).losses == []


def test_however_little_may_be_kept_the_last_look_is(tmp_path: Path):
    recorder = Recorder(str(tmp_path / "store"), keep_seconds=0, keep_bytes=0)
    for number in range(3):
        recorder.add(at(small(), number * 10_000))
        assert read(tmp_path / "store", START + 1e6) == at(small(), number * 10_000)
        assert len(shards(tmp_path / "store")) == 1
    recorder.close()
