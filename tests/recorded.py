"""A bundled host looked at again and again while things happen on it, and the recording of that taken apart."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from nsinspect.cgroupfs import Cgroup
from nsinspect.collect import Collector
from nsinspect.kernfs import Roots
from nsinspect.model import Container, Model, build
from nsinspect.record import DEPTH, Looker
from nsinspect.snapshot import Process, Snapshot
from nsinspect.store import Recorder

HOSTS = Path(__file__).parent / "fixtures/hosts"
START = 1_780_000_000.0
EVERY = 5.0
MAGIC = b"\x93nsrec\r\n"
HEADER = struct.Struct("<8scxxxIQQ")
Change = Callable[[Snapshot], Snapshot]


@cache
def host(name: str = "podman-v2") -> Snapshot:
    """A bundled host at the beginning."""
    snapshot, _ = Collector(Roots(root=str(HOSTS / name)), DEPTH).run()
    return replace(snapshot, captured_at=START)


@cache
def model(name: str = "podman-v2") -> Model:
    """What it means."""
    return build(host(name))


def container(wanted: str, name: str = "podman-v2") -> Container:
    """One of its containers."""
    return next(one for one in model(name).containers if one.name == wanted)


@cache
def small() -> Snapshot:
    """Little of a host: quick to write and to read."""
    whole = host()
    return replace(whole, mounts=(), confinements={}, declarations={}, processes=whole.processes[:2], claims=())


def at(snapshot: Snapshot, seconds: float) -> Snapshot:
    """The same so many seconds after the beginning."""
    assert snapshot.host.uptime is not None
    facts = replace(snapshot.host, uptime=max(1.0, snapshot.host.uptime + seconds))
    return replace(snapshot, captured_at=START + seconds, host=facts)


def files(wanted: str, more: dict[str, Any], name: str = "podman-v2") -> Change:
    """Control files of a container that say something else."""
    paths = {*container(wanted, name).cgroup_paths.values()} - {b"/"}

    def change(snapshot: Snapshot) -> Snapshot:
        found: dict[tuple[int, bytes], Cgroup] = {}
        for key, cgroup in snapshot.cgroups.items():
            mine = {file: value for file, value in more.items() if key[1] in paths and file in cgroup.files}
            found[key] = cgroup._replace(files={**cgroup.files, **mine}) if mine else cgroup
        assert found != snapshot.cgroups
        return replace(snapshot, cgroups=found)

    return change


def used(number: int, snapshot: Snapshot | None = None) -> Snapshot:
    """A look in which a little more memory is used than in the one before."""
    change = files("web", {"memory.current": 4096 * (number + 1)})
    return at(change(snapshot or small()), number * EVERY)


def processes(change: Callable[[Process], Process | None]) -> Change:
    """Every process as ``change`` makes it; ``None``: it is gone."""

    def all_of(snapshot: Snapshot) -> Snapshot:
        found = [one for one in map(change, snapshot.processes) if one is not None]
        there = {one.pid for one in found}
        about = ("confinements", "threads", "members", "networks", "sockets")
        rest: dict[str, Any] = {
            name: {pid: one for pid, one in getattr(snapshot, name).items() if pid in there} for name in about
        }
        return replace(snapshot, processes=tuple(found), **rest)

    return all_of


def events_of(looks: Iterable[Snapshot]) -> list[dict[str, Any]]:
    """What happened in a row of looks."""
    looker = Looker(Roots())
    return [one for look in looks for one in looker.seen(look)]


def kept(path: Path, looks: Iterable[Snapshot], events: Callable[[int], list[dict[str, Any]]] | None = None) -> Path:
    """A recording of these; with each what ``events`` gives by its number."""
    recorder = Recorder(str(path))
    for number, look in enumerate(looks):
        recorder.add(look, events(number) if events else None)
    recorder.close()
    return path


def shards(path: Path) -> list[Path]:
    """Its files, the oldest first."""
    return sorted(path.glob("*.nsrec"))


class Piece(NamedTuple):
    """One frame of a shard: where its header, what is packed in it and its end are."""

    kind: str
    start: int
    packed: int
    end: int


def pieces(data: bytes) -> Iterator[Piece]:
    """The frames of a shard that is whole."""
    start = 0
    while start < len(data):
        magic, kind, length, _, _ = HEADER.unpack_from(data, start)
        assert magic == MAGIC
        packed = start + HEADER.size + 4
        yield Piece(kind.decode(), start, packed, packed + length + 4)
        start = packed + length + 4
    assert start == len(data)


def frame(kind: bytes, packed: bytes, moment: float = START, key: float = START) -> bytes:
    """A frame as a recorder writes it, whatever is in it."""
    header = HEADER.pack(MAGIC, kind, len(packed), int(moment * 1e9), int(key * 1e9))
    checks = (struct.pack("<I", zlib.crc32(one)) for one in (header, packed))
    return header + next(checks) + packed + next(checks)
