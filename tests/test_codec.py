"""A snapshot written down is the same when it is read, whole or by what changed; what is none is said to be none."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fuzz.oracles import shown
from nsinspect import codec
from nsinspect.cgroupfs import Cgroup
from nsinspect.codec import NotASnapshot
from nsinspect.collect import Collector
from nsinspect.kernfs import Roots
from nsinspect.model import build
from nsinspect.namespaces import UNKNOWN
from nsinspect.procnet import Network
from nsinspect.snapshot import Confinement, Member, Process, Snapshot
from nsinspect.views import document
from tests.looks import EVERYTHING, HOSTILE, NAMES, SURROGATES, look, rich

State = dict[str, Any]
LOOKS: dict[str, Callable[[], Snapshot]] = {
    **{name: lambda name=name: look(name) for name in NAMES},
    "rich": rich,
    "live": cache(lambda: Collector(Roots(), EVERYTHING).run()[0]),
}


def through(state: object) -> Any:
    """As it is when it was written to a file and read again."""
    return codec.loads(codec.dumps(state))


def read(data: bytes) -> Snapshot:
    """A snapshot from a file."""
    return codec.decode(codec.loads(data))


# -- whole -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", LOOKS)
def test_what_is_read_is_what_was_written(name: str):
    """Record by record, type by type."""
    snapshot = LOOKS[name]()
    again = codec.decode(through(codec.encode(snapshot)))
    assert again == snapshot
    assert repr(again.processes) == repr(snapshot.processes)
    assert codec.dumps(codec.encode(again)) == codec.dumps(codec.encode(snapshot))


@pytest.mark.parametrize("name", LOOKS)
def test_what_was_read_means_the_same(name: str):
    before, after = build(LOOKS[name]()), build(codec.decode(through(codec.encode(LOOKS[name]()))))
    assert document.list_document(after, after.containers) == document.list_document(before, before.containers)


def test_what_is_written_is_ascii():
    """Names that are no UTF-8, and lone surrogates, survive nevertheless."""
    data = codec.dumps(codec.encode(rich()))
    assert data.isascii()
    again = read(data)
    assert again.users[1000] == SURROGATES
    assert again.processes[-1].comm == HOSTILE
    assert SURROGATES in again.issues[0].path


@settings(max_examples=20, deadline=None)
@given(st.binary(), st.text(st.characters(exclude_categories=())))
def test_any_name_survives(data: bytes, text: str):
    snapshot = rich()
    # Two surrogates that are halves of one character are one in JSON; no file name and no reader of ours gives them.
    text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    process = snapshot.processes[0]._replace(comm=data)
    changed = replace(snapshot, processes=(process, *snapshot.processes[1:]), users={0: text})
    assert read(codec.dumps(codec.encode(changed))) == changed


def test_a_field_that_an_older_file_does_not_have_is_its_default():
    state = codec.encode(rich())
    for name in ("mounts", "lineage", "threads", "members", "networks", "links", "sockets", "users", "issues"):
        del state[name]
    for process in state["processes"].values():
        del process["speaker"]
    found = codec.decode(through(state))
    assert (found.threads, found.users, found.issues, found.vanished) == ({}, {}, (), rich().vanished)
    assert {one.speaker for one in found.processes} == {None}


def test_what_a_newer_file_has_more_is_left_out():
    state = codec.encode(rich())
    state |= {"weather": {"rain": 1}, "": []}
    state["host"]["altitude"] = 4000
    for cgroup in state["cgroups"].values():
        cgroup["files"]["memory.unheard_of"] = 3
    assert codec.decode(through(state)) == rich()


def test_processes_are_in_order_whatever_the_file_says():
    state = codec.encode(rich())
    state["processes"] = dict(reversed(state["processes"].items()))
    assert codec.decode(through(state)) == rich()


# -- by what changed ---------------------------------------------------------------------------------------------------

PIDS = st.sampled_from([one.pid for one in rich().processes]) | st.integers(1, 1 << 22)
NUMBERS = st.integers(0, (1 << 64) - 1)
TEXTS = st.text(max_size=5) | st.just(SURROGATES)


@st.composite
def _processes(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """One comes, goes or changes."""
    by_pid = {one.pid: one for one in snapshot.processes}
    pid = draw(PIDS)
    one: Process = by_pid.get(pid, snapshot.processes[0])._replace(pid=pid)
    status = draw(st.sampled_from([None, one.status, rich().processes[0].status]))
    by_pid[pid] = one._replace(
        comm=draw(st.binary(max_size=15)),
        starttime=draw(st.integers(0, 1 << 40)),
        status=status and status._replace(cap_eff=draw(NUMBERS), nspid=draw(st.none() | st.just((pid, 1)))),
        namespaces=draw(st.sampled_from([UNKNOWN, one.namespaces, one.namespaces._replace(net=7)])),
        speaker=draw(st.none() | NUMBERS),
        cgroup=draw(st.sampled_from([(), one.cgroup])),
    )
    if draw(st.booleans()):
        del by_pid[pid]
    return replace(snapshot, processes=tuple(by_pid[pid] for pid in sorted(by_pid)))


@st.composite
def _cgroups(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """One comes, goes, or has other files, or other values in them."""
    found = dict(snapshot.cgroups)
    key = draw(st.sampled_from(list(rich().cgroups)) | st.tuples(st.integers(0, 9), st.binary(max_size=9)))
    one: Cgroup = found.get(key, rich().cgroups[next(iter(rich().cgroups))])
    files: Any = {
        **one.files,
        "memory.max": draw(NUMBERS | st.just("max")),
        "cpu.stat": {"usage_usec": draw(NUMBERS), draw(st.sampled_from(["a", "b"])): 1},
    }
    for name in draw(st.sets(st.sampled_from(sorted(files)))):
        del files[name]
    others = draw(st.sampled_from([(), (("devices.list", (b"a *:* rwm", HOSTILE)),)]))
    found[key] = one._replace(files=files, inode=draw(NUMBERS), unknown=draw(st.just(()) | st.just(("x",))))
    found[key] = found[key]._replace(others=others)
    if draw(st.booleans()):
        del found[key]
    return replace(snapshot, cgroups=found)


@st.composite
def _optional(draw: st.DrawFn, snapshot: Snapshot) -> Snapshot:
    """What is a record or nothing, and what is there of few processes only."""
    pid = draw(PIDS)
    key, said = next(iter(rich().declarations.items()))
    wanted = draw(st.sampled_from([None, said.wanted, said.wanted and said.wanted._replace(cores="max")]))
    host = replace(
        snapshot.host,
        hostname=draw(st.none() | TEXTS),
        uptime=draw(st.none() | st.floats(0, 1e9)),
        cpus_online=draw(st.none() | st.just(()) | st.just((0, 2))),
        namespaces=draw(st.sampled_from([UNKNOWN, snapshot.host.namespaces])),
    )
    return replace(
        snapshot,
        captured_at=draw(st.floats(0, 1e10)),
        host=host,
        declarations=draw(st.sampled_from([{}, {key: said._replace(wanted=wanted, labels=(("a", SURROGATES),))}])),
        confinements=draw(st.sampled_from([{}, {pid: Confinement(None, (), None, HOSTILE, True)}])),
        threads=draw(st.sampled_from([{}, rich().threads, {pid: ()}])),
        members=draw(st.sampled_from([{}, rich().members, {pid: Member(None, None, False)}])),
        networks=draw(st.sampled_from([{}, rich().networks, {pid: Network(None, ())}])),
        links=draw(st.sampled_from([{}, rich().links])),
        sockets=draw(st.sampled_from([{}, rich().sockets, {pid: None}, {pid: frozenset((5,))}])),
        users=draw(st.dictionaries(NUMBERS, TEXTS, max_size=2)),
        issues=draw(st.sampled_from([(), rich().issues])),
        lineage=draw(st.sampled_from([rich().lineage, look("podman-v2").lineage])),
    )


@st.composite
def _looks(draw: st.DrawFn) -> Snapshot:
    snapshot = rich()
    for change in draw(st.lists(st.sampled_from([_processes, _cgroups, _optional]), max_size=3)):
        snapshot = draw(change(snapshot))
    return snapshot


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_looks(), min_size=2, max_size=4))
def test_what_changed_brings_an_old_state_to_the_new_one(snapshots: list[Snapshot]):
    """One after the other, each through a file."""
    state = through(codec.encode(snapshots[0]))
    for old, new in itertools.pairwise(snapshots):
        codec.apply(state, through(codec.delta(old, new)))
        assert state == through(codec.encode(new))
        assert codec.decode(state) == new


@pytest.mark.parametrize("name", LOOKS)
def test_nothing_changed_is_nothing_written(name: str):
    snapshot = LOOKS[name]()
    assert codec.delta(snapshot, snapshot) == {}
    assert codec.delta(snapshot, codec.decode(codec.encode(snapshot))) == {}


def test_what_did_not_change_is_not_written():
    """Of one process of many, one field."""
    snapshot = rich()
    changed = snapshot.processes[3]._replace(comm=b"new")
    after = replace(snapshot, processes=(*snapshot.processes[:3], changed, *snapshot.processes[4:]))
    assert codec.delta(snapshot, after) == {"processes": {str(changed.pid): {"comm": "new"}}}


# -- what is none ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b"1",
        b'"x"',
        b"{}",
        b"\xff\xfe",
        b'{"version":1}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"version":' + b"9" * 10_000 + b"}",
        f'{{"version": {codec.VERSION}, "processes": [1e999]}}'.encode(),
        *(f'{{"version": {one}}}'.encode() for one in ("0", "2", "null", '"1"', "[1]", "true", "1.0", "-1", "1e999")),
    ],
)
def test_what_is_no_snapshot_says_so_in_one_line(data: bytes):
    with pytest.raises(NotASnapshot) as caught:
        read(data)
    assert len(str(caught.value)) < 300
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("depth", [100, 900, 950, 980])
def test_what_is_nested_however_deep_is_no_snapshot(depth: int):
    """Where it is deep enough that whoever shows it, or reads a key, is the one who gives up."""
    nested = "[" * depth + "]" * depth
    for place in ("captured_at", "host", "processes", "issues"):
        state = json.dumps(codec.encode(rich()) | {place: "HERE"}).replace('"HERE"', nested)
        with pytest.raises(NotASnapshot):
            read(state.encode())
    with pytest.raises(NotASnapshot):
        codec.decode({**codec.encode(rich()), "cgroups": {nested: {}}})


def test_a_key_that_is_nested_too_deep_is_no_snapshot():
    for place in ("cgroups", "declarations"):
        with pytest.raises(NotASnapshot):
            codec.decode({**codec.encode(rich()), place: {"[" * 100_000: {}}})


def _places(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Where something is in a state: of what is many, the first."""
    yield path
    if isinstance(value, dict):
        for key in value if path not in _MANY else list(value)[:1]:
            yield from _places(value[key], (*path, key))
    elif isinstance(value, list) and value:
        yield from _places(value[0], (*path, 0))


_MANY = tuple((name,) for name in ("processes", "confinements", "cgroups", "declarations", "threads", "members"))


def _changed(value: Any, path: tuple[str | int, ...], other: Any) -> Any:
    if not path:
        return other
    copy = value.copy()
    copy[path[0]] = _changed(value[path[0]], path[1:], other)
    return copy


STATE: State = through(codec.encode(rich()))
# Of what is many, few: there are a hundred places to put twenty odd things at.
SMALL: State = {
    **STATE,
    "mounts": STATE["mounts"][:1],
    **{name: dict(list(STATE[name].items())[-1:]) for (name,) in _MANY},
}
PLACES = sorted(set(_places(SMALL)), key=repr)
ODD: tuple[Any, ...] = (None, True, -1, 1.5, 10**400, "\udcff", "max", [], [[]], {}, {"x": None}, [["a", 1]])


def _read_or_refused(state: object) -> Snapshot | None:
    try:
        return codec.decode(state)
    except NotASnapshot:
        return None


@pytest.mark.parametrize("odd", ODD, ids=lambda one: repr(one)[:20])
def test_anything_anywhere_is_read_or_refused(odd: Any):
    """And what was read can be written again."""
    for place in PLACES:
        found = _read_or_refused(_changed(SMALL, place, odd))
        # One whose pid is not its key is a test of its own.
        if found is not None and place[-1:] != ("pid",):
            assert codec.decode(through(codec.encode(found))) == found


def test_a_process_that_is_not_who_its_key_says_is_refused():
    """Else two could have one pid."""
    state = {**STATE, "processes": {**STATE["processes"], "77": next(iter(STATE["processes"].values()))}}
    with pytest.raises(NotASnapshot):
        codec.decode(state)


def test_a_cgroup_deeper_than_any_is_refused():
    """All that is above it, written down for each level, would fill memory."""
    pid, process = next(iter(STATE["processes"].items()))
    deep = [{**line, "path": "/a" * (1 << 17)} for line in process["cgroup"]]
    with pytest.raises(NotASnapshot, match="paths"):
        codec.decode({**STATE, "processes": {pid: {**process, "cgroup": deep}}})


@pytest.mark.parametrize("field", ["captured_at", "boot_time", "uptime"])
def test_what_is_no_number_is_no_time(field: str):
    """JSON has no such numbers; Python reads them all the same, and no clock shows them."""
    state = {**STATE, "host": {**STATE["host"]}}
    (state if field in state else state["host"])[field] = "HERE"
    for word in ("NaN", "Infinity", "-Infinity", "1e999"):
        with pytest.raises(NotASnapshot):
            read(json.dumps(state).replace('"HERE"', word).encode())


def test_what_is_missing_is_its_default_or_refused():
    for place in filter(None, PLACES):
        above = SMALL
        for part in place[:-1]:
            above = above[part]  # type: ignore[index]
        without = dict(above) if isinstance(above, dict) else list(above)
        without.pop(place[-1])  # type: ignore[arg-type]
        _read_or_refused(_changed(SMALL, place[:-1], without))


@settings(max_examples=50, deadline=None)
@given(st.integers(0, len(codec.dumps(STATE)) - 1), st.integers(1, 255))
def test_a_byte_that_is_another_is_read_or_refused(offset: int, other: int):
    data = bytearray(codec.dumps(STATE))
    data[offset] ^= other
    with contextlib.suppress(NotASnapshot):
        read(bytes(data))


@settings(max_examples=20, deadline=None)
@given(st.recursive(st.none() | st.booleans() | NUMBERS | st.text(), lambda x: st.lists(x) | st.dictionaries(TEXTS, x)))
def test_any_json_is_read_or_refused(value: Any):
    for state in (value, {"version": 1, "captured_at": value}, {**SMALL, "processes": value}):
        _read_or_refused(state)


def test_a_capture_cannot_move_anybodys_cursor():
    """Words that nsinspect writes itself, and a container never chooses, are somebody's too where a file has them."""
    state = {**STATE, "issues": [{"kind": HOSTILE.decode("latin-1"), "path": "/x", "detail": "y", "pids": []}]}
    odd = json.dumps(state).replace('"podman"', json.dumps(SURROGATES)).replace('"tcp"', json.dumps(SURROGATES))
    snapshot = read(odd.replace('"up"', json.dumps(SURROGATES)).encode())
    shown(snapshot)
    (runtime,) = {one.runtime for one in build(snapshot).containers}
    assert runtime == SURROGATES


def _at(path: tuple[str | int, ...]) -> Any:
    found: Any = SMALL
    for part in path:
        found = found[part]
    return found


@pytest.mark.parametrize("text", ["\ud800", "a/\udfff"], ids=["high", "low"])
def test_text_that_no_file_could_have_been_named_by_is_refused(text: str):
    """Half of a surrogate pair that stands for no byte: who compares a name with the kernel's could not encode it."""
    places = [place for place in PLACES if isinstance(_at(place), str)]
    assert len(places) > 40
    assert [place for place in places if _read_or_refused(_changed(SMALL, place, text))] == []


def test_a_namespace_of_no_type_is_refused():
    """What holds it would have no column to stand in."""
    (first, *_) = STATE["lineage"]["holders"]
    state = {**STATE, "lineage": {**STATE["lineage"], "holders": [{**first, "kind": "index"}]}}
    with pytest.raises(NotASnapshot, match="types of namespaces"):
        codec.decode(state)
