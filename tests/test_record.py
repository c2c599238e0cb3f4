"""record, replay, history and events as a user meets them: the answers of then, and what goes to which stream."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from nsinspect import cli as _commands
from nsinspect.cli.common import cli
from nsinspect.kernfs import Roots
from nsinspect.record import Looker
from nsinspect.snapshot import Snapshot
from nsinspect.store import Recorder
from tests.recorded import HOSTS, START, at, files, host, kept, pieces, processes, shards, small, used
from tests.runner import runner

assert _commands
NAMES = tuple(sorted(path.name for path in HOSTS.iterdir()))
LATER = "2100-01-01T00:00:00Z"
HOSTILE = "\x1b]0;owned\x07\n\u202e\x9b31m"


def nsinspect(*arguments: str) -> Result:
    """Run the program in this process: what it wrote to each stream, and its exit code."""
    result = runner().invoke(cli, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def moment(seconds: float) -> str:
    """As a user writes it."""
    return datetime.fromtimestamp(START + seconds, UTC).isoformat()


# -- record and replay -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=NAMES)
def recorded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A bundled host, and its recording."""
    store = tmp_path_factory.mktemp("record") / "store"
    root = str(HOSTS / request.param)
    result = nsinspect("--root", root, "record", "--store", str(store), "--interval", "0.1", "--count", "1")
    assert (result.exit_code, result.output) == (0, "")
    return root, str(store)


COMMANDS = (
    *(("list",), ("list", "-a"), ("ls",), ("show", "web"), ("ns",), ("drift",), ("drift", "web"), ("caps",)),
    *(("caps", "web"), ("net",), ("net", "web"), ("findings",), ("findings", "web")),
)


def same(recorded: tuple[str, str], words: tuple[str, ...]) -> None:
    """The answer of then is that of the host it was recorded of."""
    root, store = recorded
    then = nsinspect("--root", root, *words)
    now = nsinspect("replay", "--at", LATER, "--store", store, *words)

    assert then.exit_code in (0, 1)
    assert now.exit_code == then.exit_code
    assert now.stdout == then.stdout
    assert now.stderr.startswith("nsinspect: as of ")
    assert len(now.stderr.splitlines()) == 1 + len(then.stderr.splitlines())


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_replay_gives_the_document_that_was_given_then(recorded: tuple[str, str], command: tuple[str, ...]):
    same(recorded, (*command, "--json"))


@pytest.mark.parametrize("recorded", NAMES[:1], indirect=True)
@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_replay_gives_the_page_that_was_given_then(recorded: tuple[str, str], command: tuple[str, ...]):
    same(recorded, command)


def test_replay_of_a_pid(recorded: tuple[str, str]):
    root, store = recorded
    pid = str(json.loads(nsinspect("--root", root, "show", "web", "--json").stdout)["container"]["init"]["pid"])
    answers = [
        nsinspect(*words, "pid", pid) for words in (("--root", root), ("replay", "--at", LATER, "--store", store))
    ]
    assert answers[0].stdout == answers[1].stdout


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """An hour in which ``web`` got another limit half-way, and what happened."""
    looks = [at(host(), 0), at(host(), 1000), at(files("web", {"memory.max": 1 << 30})(host()), 1800)]
    looks += [at(files("web", {"memory.max": 1 << 30})(host()), 3600)]
    return recording(tmp_path / "store", looks)


def recording(path: Path, looks: list[Snapshot]) -> Path:
    """As ``record`` makes it."""
    looker, recorder = Looker(Roots()), Recorder(str(path))
    for look in looks:
        recorder.add(look, looker.seen(look))
    recorder.close()
    return path


@pytest.mark.parametrize(("seconds", "limit"), [(0, 64 << 20), (1799, 64 << 20), (1800, 1 << 30), (1e6, 1 << 30)])
def test_replay_is_as_of_the_moment_asked_for(store: Path, seconds: float, limit: int):
    result = nsinspect("replay", "--at", moment(seconds), "--store", str(store), "show", "web", "--json")
    container = json.loads(result.stdout)["container"]
    assert container["limits"]["memory"]["own"]["max_bytes"] == limit


def test_replay_says_how_far_from_the_moment_it_looked(store: Path):
    result = nsinspect("replay", "--at", moment(1799), "--store", str(store), "list")
    assert result.stderr.startswith("nsinspect: as of 2026-05-28T")
    assert result.stderr.endswith(", 799 s before that\n")


def test_replay_of_a_container_that_is_not_there_is_what_show_says(store: Path):
    result = nsinspect("replay", "--at", LATER, "--store", str(store), "show", "nope")
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.splitlines()[-1] == "nsinspect: no such container: nope"


def test_before_the_beginning_it_says_when_that_was(store: Path):
    result = nsinspect("replay", "--at", moment(-1), "--store", str(store), "list")
    assert (result.exit_code, result.stdout) == (6, "")
    assert result.stderr.endswith("it begins 2026-05-28T20:26:40Z\n")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    "command", ["record", "serve", "replay", "capture", "diff", "events", "history", "nope", "--json"]
)
def test_only_what_reads_is_replayed(store: Path, command: str):
    result = nsinspect("replay", "--at", LATER, "--store", str(store), command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "expected list, show" in result.stderr


def test_replay_without_a_command_or_a_moment_is_a_usage_error(store: Path):
    assert nsinspect("replay", "--at", LATER, "--store", str(store)).exit_code == 2
    assert nsinspect("replay", "--store", str(store), "list").exit_code == 2


@pytest.mark.parametrize("text", ["", "whenever", "25:00", "9999999 weeks ago", "2026-02-30", HOSTILE])
def test_what_is_no_moment_is_a_usage_error_in_one_line(store: Path, text: str):
    for words in (("replay", "--at", text), ("history", "--since", text), ("events", "--since", text)):
        more = {"replay": ("list",), "history": ("web",), "events": ()}[words[0]]
        result = nsinspect(*words, "--store", str(store), *more)
        assert (result.exit_code, result.stdout) == (2, ""), words
        assert len(result.stderr.splitlines()) == 1
        assert "10m ago" in result.stderr
        assert result.stderr.strip().isprintable()


@pytest.mark.parametrize(
    "words", [("replay", "--at", "now", "list"), ("history", "web"), ("events",)], ids=lambda w: w[0]
)
def test_where_nothing_is_recorded_one_line_says_so(tmp_path: Path, words: tuple[str, ...]):
    for path in (tmp_path, tmp_path / "missing", tmp_path / "x\n\x1b[31m"):
        position = len(words) - (words[0] == "replay")
        result = nsinspect(*words[:position], "--store", str(path), *words[position:])
        assert (result.exit_code, result.stdout) == (6, "")
        assert len(result.stderr.splitlines()) == 1
        assert "\x1b" not in result.stderr


def test_a_damaged_recording_is_replayed_and_the_loss_is_said(tmp_path: Path):
    store = recording(tmp_path / "store", life())
    (shard,) = shards(store)
    data = bytearray(shard.read_bytes())
    last = [one for one in pieces(bytes(data)) if one.kind == "D"][-1]
    data[last.packed + 3] ^= 4
    shard.write_bytes(data)
    result = nsinspect("replay", "--at", LATER, "--store", str(store), "show", "web", "--json")

    assert result.exit_code == 0
    assert json.loads(result.stdout)["captured_at"] == "2026-05-28T20:26:55.000Z"
    loss, taken = result.stderr.splitlines()
    assert loss.startswith(f"nsinspect: {shard}: the look of 2026-05-28T20:27:00Z is lost: ")
    assert taken.startswith("nsinspect: as of ")


def test_a_second_recorder_is_refused_with_one_line(tmp_path: Path):
    first = Recorder(str(tmp_path / "store"))
    root = str(HOSTS / "podman-v2")
    result = nsinspect("--root", root, "record", "--store", str(tmp_path / "store"), "--count", "1")
    assert result.exit_code == 6
    assert result.stderr.endswith("another nsinspect writes there\n")
    assert len(result.stderr.splitlines()) == 1
    first.close()


def test_what_is_no_host_is_not_recorded(tmp_path: Path):
    result = nsinspect("--root", str(tmp_path), "record", "--store", str(tmp_path / "store"), "--count", "1")
    assert result.exit_code == 6
    assert len(result.stderr.splitlines()) == 1


def test_recording_keeps_its_beat(tmp_path: Path):
    root, begun = str(HOSTS / "podman-v2"), time.monotonic()
    nsinspect("--root", root, "record", "--store", str(tmp_path / "store"), "--interval", "0.1", "--count", "4")
    assert 0.3 <= time.monotonic() - begun < 3


# -- history and events ------------------------------------------------------------------------------------------------


def life() -> list[Snapshot]:
    """Of ``web``: it is not there, comes, gets another limit, runs out of memory, and goes."""
    mine = set(
        json.loads(nsinspect("--root", str(HOSTS / "podman-v2"), "show", "web", "--json").stdout)["container"]["pids"]
    )
    gone = processes(lambda one: None if one.pid in mine else one)
    return [
        at(gone(host()), 0),
        at(host(), 5),
        at(files("web", {"memory.max": 1 << 29})(host()), 10),
        at(files("web", {"memory.max": 1 << 29, "memory.events": {"oom_kill": 1}})(host()), 15),
        at(gone(host()), 20),
    ]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The recording of that."""
    return str(recording(tmp_path_factory.mktemp("lived") / "store", life()))


def test_history_tells_a_life_in_order(lived: str):
    result = nsinspect("history", "web", "--store", lived, "--since", moment(0))
    lines = result.stdout.splitlines()
    words = ("appeared", "memory limit rose from 64 MiB to 512 MiB", "killed for lack of memory", "is gone")

    assert result.exit_code == 0
    positions = [next(number for number, line in enumerate(lines) if word in line) for word in words]
    assert positions == sorted(positions)
    assert all(line.startswith("2026-05-28T20:2") and "web" in line for line in lines)
    assert len(lines) <= 24


def test_history_is_of_one_container_by_name_or_beginning_of_its_id(lived: str):
    by_name = nsinspect("history", "web", "--store", lived, "--since", moment(0), "--json").stdout
    events = [json.loads(line) for line in by_name.splitlines()]
    identity = events[0]["container"]

    assert {one["container"] for one in events} == {identity}
    assert nsinspect("history", identity[:6], "--store", lived, "--since", moment(0), "--json").stdout == by_name
    assert nsinspect("history", identity[:3], "--store", lived, "--since", moment(0)).exit_code == 3


def test_history_of_nobody_is_3_with_one_line(lived: str):
    for name in ("nope", HOSTILE):
        result = nsinspect("history", name, "--store", lived, "--since", moment(0))
        assert (result.exit_code, result.stdout) == (3, "")
        assert result.stderr.startswith("nsinspect: nothing was recorded of ")
        assert result.stderr.strip().isprintable()


def test_history_and_events_from_a_moment_on(lived: str):
    for words in (("history", "web"), ("events",)):
        found = nsinspect(*words, "--store", lived, "--since", moment(15), "--json").stdout.splitlines()
        assert [json.loads(line)["kind"] for line in found] == ["oom_kill", "drift_began", "container_stopped"]


@pytest.mark.parametrize("form", ["json", "ecs", "timesketch"])
def test_events_are_a_line_of_json_each(lived: str, form: str):
    result = nsinspect("events", "--store", lived, "--format", form)
    lines = [json.loads(line) for line in result.stdout.splitlines()]

    assert (result.exit_code, result.stderr) == (0, "")
    assert len(lines) >= 4
    key = {"json": "time", "ecs": "@timestamp", "timesketch": "datetime"}[form]
    assert [one[key] for one in lines] == sorted(one[key] for one in lines)


def test_events_without_a_format_are_for_people(lived: str):
    text = nsinspect("events", "--store", lived).stdout.splitlines()
    events = [json.loads(line) for line in nsinspect("events", "--store", lived, "--json").stdout.splitlines()]
    assert text == [f"{one['time']}  {one['message']}" for one in events]


def test_hostile_names_are_harmless_in_history_and_events(tmp_path: Path):
    def named(snapshot: Snapshot) -> Snapshot:
        said = {key: one._replace(name=HOSTILE, image=HOSTILE) for key, one in snapshot.declarations.items()}
        return replace(processes(lambda one: one._replace(comm=b"\x1b[2J\xff\n"))(snapshot), declarations=said)

    store = str(recording(tmp_path / "store", [named(look) for look in life()]))
    answers = [nsinspect("events", "--store", store, *form) for form in ((), ("--json",), ("--format", "ecs"))]
    identity = json.loads(answers[1].stdout.splitlines()[0])["container"]
    answers += [
        nsinspect("history", identity, "--store", store, "--since", moment(0), *form) for form in ((), ("--json",))
    ]
    for one in answers:
        assert one.exit_code == 0
        assert one.stdout
        assert one.stdout.replace("\n", "").isprintable()


FORGED: tuple[Any, ...] = (
    {"time": HOSTILE, "message": HOSTILE, "name": HOSTILE, "container": HOSTILE, "kind": HOSTILE, "evidence": HOSTILE},
    {},
    {"name": ["web"], "container": 7, "time": None, "message": {"a": "b"}},
)


@pytest.mark.parametrize("forged", range(len(FORGED)))
@pytest.mark.parametrize("form", ["text", "json", "ecs", "timesketch"])
def test_events_that_somebody_forged_harm_nobody(tmp_path: Path, forged: int, form: str):
    """A recording may be of a host that is not trusted.  Fails without ``safe.text`` in ``eventlog``."""
    store = str(kept(tmp_path / "store", [used(0), used(1)], lambda _: [FORGED[forged]]))
    words = () if form == "text" else ("--format", form)
    result = nsinspect("events", "--store", store, *words)
    assert result.stdout.replace("\n", "").isprintable()
    assert result.exit_code in (0, 6)


def test_what_is_lost_of_the_events_is_said(lived: str, tmp_path: Path):
    store = recording(tmp_path / "store", life())
    (shard,) = shards(store)
    data = bytearray(shard.read_bytes())
    damaged = next(one for one in pieces(bytes(data)) if one.kind == "E")
    data[damaged.packed] ^= 1
    shard.write_bytes(data)
    for words in (("events",), ("history", "web", "--since", moment(0))):
        result = nsinspect(*words, "--store", str(store))
        assert result.exit_code == 0
        assert "killed for lack of memory" in result.stdout
        assert "what happened of 2026-05-28T20:26:45Z is lost" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_following_shows_nothing_where_nothing_happens(tmp_path: Path):
    root = str(HOSTS / "podman-v2")
    result = nsinspect("--root", root, "events", "--follow", "--interval", "0.1", "--count", "3", "--json")
    assert (result.exit_code, result.output) == (0, "")


def test_following_after_what_was_recorded(lived: str):
    root = str(HOSTS / "podman-v2")
    words = ("--follow", "--since", moment(15), "--store", lived, "--count", "1", "--json")
    result = nsinspect("--root", root, "events", *words)
    kinds = [json.loads(line)["kind"] for line in result.stdout.splitlines()]
    assert kinds == ["oom_kill", "drift_began", "container_stopped"]


def test_what_was_recorded_is_not_sent(lived: str):
    result = nsinspect("events", "--store", lived, "--webhook", "http://127.0.0.1:1/x")
    assert result.exit_code == 2
    assert "--follow" in result.stderr


def test_a_webhook_that_cannot_be_used_is_said_without_its_address(tmp_path: Path):
    root = str(HOSTS / "podman-v2")
    words = ("--follow", "--count", "1", "--webhook", "http://user:s3cret@/x", "--webhook-queue", str(tmp_path / "q"))
    result = nsinspect("--root", root, "events", *words)
    assert (result.exit_code, result.stdout) == (6, "")
    assert "s3cret" not in result.stderr


def test_a_small_look_is_a_look(tmp_path: Path):
    """What the tests of the store record can be asked as well."""
    store = str(kept(tmp_path / "store", [small()]))
    assert nsinspect("replay", "--at", LATER, "--store", store, "list").exit_code == 0


# -- compared ----------------------------------------------------------------------------------------------------------


def test_a_recording_of_then_is_compared_with_a_capture(recorded: tuple[str, str], tmp_path: Path):
    """Even with a capture whose name has an @ in it."""
    root, store = recorded
    capture = str(tmp_path / "case@07.tar.zst")
    assert nsinspect("--root", root, "capture", "--output", capture).exit_code == 0
    same = nsinspect("diff", f"{store}@{LATER}", capture)
    assert (same.exit_code, "0 differences" in same.output) == (0, True), same.output
    assert nsinspect("diff", capture, f"{store}@{LATER}").exit_code == 0
    nothing = nsinspect("diff", "case-07", capture)
    assert (nothing.exit_code, nothing.stderr.count("\n")) == (6, 1)
    assert "expected a capture" in nothing.stderr
