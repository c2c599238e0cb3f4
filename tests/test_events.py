"""What happened, look by look: what two looks tell, what only three can, and how it is written for others to read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from nsinspect.changes import KINDS
from nsinspect.events import EVENTS
from nsinspect.model import CLOCK_TICKS
from nsinspect.snapshot import Process, Snapshot
from nsinspect.views import eventlog
from tests.recorded import Change, at, container, events_of, files, host, processes

Event = dict[str, Any]
MIB = 1 << 20
WEB = container("web")
INIT, EXEC = WEB.pids
HOSTILE = "\x1b]0;owned\x07[/red]\n\u202e\x9b31m\"'\\{}"
HOSTILE_BYTES = b"\x1b[2J\xff\n\xe2\x80\xae"


def looks(*changes: Change | None) -> list[Snapshot]:
    """A look after each of these, five seconds apart; ``None``: nothing was changed any more."""
    found = []
    for number, change in enumerate((None, *changes)):
        found.append(at(change(host()) if change else host(), number * 5.0))
    return found


def happened(*changes: Change | None) -> list[tuple[int, str]]:
    """Of ``web``, what happened between the looks: the number of the look that showed it, and what."""
    return [(round(seconds(one) / 5), one["kind"]) for one in events_of(looks(*changes)) if one["name"] == "web"]


def seconds(one: Event) -> float:
    """Since the beginning."""
    return datetime.fromisoformat(one["time"]).timestamp() - host().captured_at


def throttled(periods: int) -> Change:
    """So many periods in which ``web`` was throttled so far."""
    return files("web", {"cpu.stat": {"usage_usec": 80000, "nr_periods": 600, "nr_throttled": periods}})


def both(*changes: Change) -> Change:
    """One after the other."""

    def change(snapshot: Snapshot) -> Snapshot:
        for one in changes:
            snapshot = one(snapshot)
        return snapshot

    return change


def without(*pids: int) -> Change:
    """These processes are gone."""
    return processes(lambda one: None if one.pid in pids else one)


def restarted(one: Process) -> Process | None:
    """The same pid, begun between the first two looks; whoever was beside it is gone."""
    assert host().host.uptime is not None
    later = int((host().host.uptime + 2) * CLOCK_TICKS)
    return one._replace(starttime=later) if one.pid == INIT else None if one.pid == EXEC else one


# -- what two looks tell -----------------------------------------------------------------------------------------------


def test_the_first_look_tells_nothing():
    assert events_of(looks()) == []
    assert events_of([throttled(7)(host())]) == []


def test_two_looks_at_the_same_tell_nothing():
    assert events_of(looks(None, None)) == []


def test_what_changes_all_the_time_is_no_event():
    assert happened(files("web", {"memory.current": 4096, "pids.current": 7}), None) == []


def test_an_oom_kill_is_told_once():
    killed = files("web", {"memory.events": {"oom_kill": 2}})
    (one,) = events_of(looks(killed, killed))

    assert (one["kind"], one["before"], one["after"], one["name"]) == ("oom_kill", 0, 2, "web")


def test_a_limit_that_drifts_is_told_with_the_drift():
    limited = files("web", {"memory.max": "max"})
    found = events_of(looks(limited, limited, None))

    assert [one["kind"] for one in found] == ["limit_changed", "drift_began", "limit_changed", "drift_ended"]
    assert [one["after"] for one in found[:3]] == ["max", "max", 64 * MIB]
    assert {one["field"] for one in found} == {"limits.memory.effective.max_bytes", "limits.memory.own.max_bytes"}
    assert "64 MiB" in found[0]["message"]


def test_a_container_that_stops_and_comes_again_is_told_both_times():
    stopped = without(INIT, EXEC)
    found = happened(stopped, None)
    assert found[:2] == [(1, "container_stopped"), (2, "container_started")]


def test_a_container_that_restarts_between_two_looks_is_told_once():
    again = processes(restarted)
    found = happened(again, again)

    assert found.count((1, "container_restarted")) == 1
    assert not {kind for _, kind in found} & {"container_started", "container_stopped"}
    assert {number for number, _ in found} == {1}


def test_who_comes_and_stands_out_is_told_with_a_technique():
    found = events_of([without(EXEC)(at(host(), 0)), at(host(), 5)])
    alarms = [one for one in found if one["pid"] == EXEC]

    assert alarms
    assert all(one["severity"] and one["evidence"] for one in alarms)
    assert any("CAP_SYS_ADMIN" in one["capabilities"] for one in alarms)
    assert any(one["technique"] and one["technique"]["id"].startswith("T1") for one in alarms)


# -- what only three tell ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("periods", "expected"),
    [
        pytest.param((0, 0, 0), [], id="never"),
        pytest.param((5, 5, 5), [(1, "began"), (2, "ended")], id="once"),
        pytest.param((5, 9, 12, 12), [(1, "began"), (4, "ended")], id="for a while"),
        pytest.param((5, 9, 9, 10), [(1, "began"), (3, "ended"), (4, "began")], id="again"),
        pytest.param((0, 4, 0), [(2, "began"), (3, "ended")], id="a counter that begins again"),
    ],
)
def test_throttling_begins_and_ends(periods: tuple[int, ...], expected: list[tuple[int, str]]):
    found = happened(*map(throttled, periods))
    assert found == [(number, f"throttling_{what}") for number, what in expected]


def test_throttling_says_how_often():
    one, *_ = events_of(looks(throttled(5), throttled(5)))
    assert (one["before"], one["after"]) == (0, 5)
    assert one["evidence"] == [{"says": "cpu.stat", "what": "nr_throttled 5"}]


def test_throttling_of_a_container_that_is_gone_does_not_end_as_well():
    found = happened(throttled(5), both(throttled(9), without(INIT, EXEC)), None)
    assert not [one for one in found if one[1] == "throttling_ended"]


def test_a_container_that_restarts_is_not_throttled_because_its_counter_is_another_one():
    """Fails where two inits are compared."""
    found = happened(both(throttled(50), processes(restarted)))
    assert (1, "throttling_began") not in found


# -- for others to read ------------------------------------------------------------------------------------------------


def hostile(snapshot: Snapshot) -> Snapshot:
    """Who may choose a name has chosen one."""
    said = {key: one._replace(name=HOSTILE, image=HOSTILE) for key, one in snapshot.declarations.items()}
    renamed = processes(lambda one: one._replace(comm=HOSTILE_BYTES))(snapshot)
    return replace(renamed, declarations=said, host=replace(snapshot.host, hostname=HOSTILE))


def everything() -> Iterator[Event]:
    """Events of many kinds, of a container with an ordinary and of one with a hostile name."""
    killed = files("web", {"memory.events": {"oom_kill": 2}, "memory.max": "max", "pids.max": 7})
    rows = [
        without(EXEC)(at(host(), 0)),
        at(host(), 5),
        at(both(throttled(3), killed)(host()), 10),
        at(processes(restarted)(host()), 15),
        at(without(INIT, EXEC)(host()), 20),
        at(replace(host(), host=replace(host().host, hostname="other", boot_id="another")), 25),
    ]
    yield from events_of(rows)
    yield from events_of(map(hostile, rows))


ALL = list(everything())


def test_there_are_events_of_many_kinds():
    found = {one["kind"] for one in ALL}
    assert found <= set(EVENTS) <= set(KINDS)
    assert {"container_started", "container_stopped", "container_restarted", "limit_changed", "oom_kill"} <= found
    assert {"throttling_began", "host_changed"} <= found
    assert found & {"capability_gained", "process_stood_out", "namespace_joined"}


def flat(value: Any, path: str = "") -> dict[str, Any]:
    """Leaves by dotted name."""
    if not isinstance(value, dict):
        return {path: value}
    return {key: leaf for name, one in value.items() for key, leaf in flat(one, f"{path}.{name}".strip(".")).items()}


@pytest.mark.parametrize("form", ["json", "ecs", "timesketch"])
def test_every_event_is_one_line_of_json_in_each_format(form: str):
    for one in ALL:
        line = eventlog.line(one, form)
        assert len(line.splitlines()) == 1
        assert line.isprintable()
        assert line.encode()
        assert isinstance(json.loads(line), dict)


@pytest.mark.parametrize("form", ["json", "ecs", "timesketch"])
def test_hostile_names_are_harmless_in_each_format(form: str):
    for one in ALL:
        for leaf in flat(json.loads(eventlog.line(one, form))).values():
            texts = leaf if isinstance(leaf, list) else [leaf]
            assert all(text.isprintable() for text in texts if isinstance(text, str))


def test_hostile_names_are_harmless_to_a_person():
    lines = [eventlog.words(one) for one in ALL]
    assert any("owned" in line for line in lines)
    assert all(line.isprintable() for line in lines)


def test_what_was_read_from_a_file_is_made_safe_again():
    """Anybody may have written it."""
    forged = {**ALL[0], "message": HOSTILE, "name": HOSTILE, "evidence": [{"says": HOSTILE, "what": HOSTILE}]}
    known = eventlog.known(forged)
    lines = [eventlog.words(known), *(eventlog.line(known, form) for form in ("json", "ecs", "timesketch"))]
    assert [line.isprintable() for line in lines] == [True] * 4


def test_an_event_says_what_where_when_and_what_shows_it():
    for one in ALL:
        assert {"time", "host", "boot_id", "kind", "container", "name", "field", "before", "after"} <= one.keys()
        assert {"message", "evidence", "pid", "severity", "runtime", "image"} <= one.keys()
        assert datetime.fromisoformat(one["time"]).tzinfo is not None
        assert one["message"]
    ours = next(one for one in ALL if one["name"] == "web")
    assert (ours["container"], ours["runtime"], ours["image"]) == (WEB.id, "podman", WEB.image)


ECS = {
    "@timestamp",
    "message",
    "ecs.version",
    "event.kind",
    "event.category",
    "event.type",
    "event.action",
    "event.module",
    "event.provider",
    "host.hostname",
    "host.boot.id",
    "container.id",
    "container.name",
    "container.runtime",
    "container.image.name",
    "container.security_context.privileged",
    "orchestrator.namespace",
    "orchestrator.resource.name",
    "orchestrator.resource.type",
    "process.pid",
    "process.thread.capabilities.effective",
    "threat.framework",
    "threat.technique.id",
}
"""The names of Elastic's schema that are used; what it has no name for is below a name of ours."""
CATEGORIES = {"configuration", "process"}
TYPES = {"access", "change", "creation", "deletion", "end", "info", "start"}
"""What the schema allows for both."""


def test_in_ecs_every_name_is_one_of_the_schema_or_below_ours():
    seen: dict[str, Any] = {}
    for one in ALL:
        found = flat(json.loads(eventlog.line(one, "ecs")))
        assert {name for name in found if not name.startswith("nsinspect.")} <= ECS
        assert {"@timestamp", "message", "ecs.version", "event.kind", "event.action", "host.boot.id"} <= found.keys()
        assert found["@timestamp"] == one["time"]
        assert found["event.action"] == one["kind"]
        assert found["event.kind"] in ("alert", "event")
        assert set(found["event.category"]) <= CATEGORIES
        assert set(found["event.type"]) <= TYPES
        assert all(isinstance(found[name], list) for name in ("event.category", "event.type"))
        assert found.get("container.id") == one["container"]
        assert found.get("process.pid") == one["pid"]
        seen |= {name: value for name, value in found.items() if value is not None}
    assert {"container.image.name", "container.security_context.privileged", "threat.technique.id"} <= seen.keys()
    assert all(name.startswith("CAP_") for name in seen["process.thread.capabilities.effective"])


def test_in_ecs_each_name_has_one_type():
    """An index refuses what is a number once and a word the next time."""
    kinds: dict[str, set[str]] = {}
    for one in ALL:
        for name, value in flat(json.loads(eventlog.line(one, "ecs"))).items():
            for leaf in value if isinstance(value, list) else [value]:
                kinds.setdefault(name, set()).add(type(leaf).__name__)
    assert {name: found for name, found in kinds.items() if len(found - {"NoneType"}) > 1} == {}


def test_timesketch_has_what_it_asks_for():
    for one in ALL:
        found = json.loads(eventlog.line(one, "timesketch"))
        assert found["message"] == one["message"]
        assert datetime.fromisoformat(found["datetime"]) == datetime.fromisoformat(one["time"])
        assert found["timestamp_desc"] == one["kind"].replace("_", " ")
        assert found["data_type"] == f"nsinspect:{one['kind']}"
        # One line of it is a row: nothing is inside anything else.
        assert not any(isinstance(value, dict | list) for value in found.values())
        assert found.get("container") == one["container"]


def test_what_is_unknown_of_an_event_is_null_in_json():
    assert all(set(one) == set(ALL[0]) for one in ALL)
