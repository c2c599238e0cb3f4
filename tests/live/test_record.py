"""Recording and telling of real containers: every event once in every place, a life in order, and nothing lost to a
kill -9 but the look that was being written."""

from __future__ import annotations

import http.server
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from nsinspect.model import build
from nsinspect.store import Recording
from tests.live.docker import Docker
from tests.live.exporter import CHECKOUT, Exporter, exporter, until

Run = Callable[..., subprocess.CompletedProcess[bytes]]
MIB = 1 << 20
KILLS = 200
MAGIC = b"\x93nsrec\r\n"
# Starts recorders without starting an interpreter for each.
DRIVER = """
import os, sys
import nsinspect.cli, nsinspect.procconn, nsinspect.record, nsinspect.store, zstandard
for line in sys.stdin:
    pid = os.fork()
    if not pid:
        sys.argv[1:] = line.split()
        nsinspect.cli.main()
        os._exit(0)
    print(pid, flush=True)
    os.waitpid(pid, 0)
    print("ended", flush=True)
"""


# -- kill -9 -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def killed(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A recording of many recorders, each of which was killed while a limit was changed all the time."""
    store = tmp_path_factory.mktemp("killed") / "store"
    chance = random.Random(11)
    identity = docker.run("killed", "--pids-limit", "100")
    limit = Path(f"/sys/fs/cgroup/pids/docker/{identity}/pids.max")
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [sys.executable, "-c", DRIVER]
    ended = threading.Event()

    def change() -> None:
        number = 100
        while not ended.wait(0.07):
            number += 1
            limit.write_text(str(number))

    changing = threading.Thread(target=change, daemon=True)
    changing.start()
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True) as driver:
        assert driver.stdin
        assert driver.stdout
        # How long a look takes is up to what else there is on this host.
        begun = time.monotonic()
        print("record", "--store", store, "--interval", "0.1", "--count", "1", file=driver.stdin, flush=True)
        driver.stdout.readline()
        assert driver.stdout.readline() == "ended\n"
        longest = min(2.0 * (time.monotonic() - begun), 0.6)
        for _ in range(KILLS):
            print("record", "--store", store, "--interval", "0.1", file=driver.stdin, flush=True)
            pid = int(driver.stdout.readline())
            time.sleep(chance.uniform(0.0, longest))
            os.kill(pid, signal.SIGKILL)
            assert driver.stdout.readline() == "ended\n"
        driver.stdin.close()
    ended.set()
    changing.join()
    yield store
    docker("rm", "-f", "killed")


def test_a_killed_recorder_loses_its_last_look_at_most(killed: Path):
    recording = Recording(str(killed))
    moments, files = recording.moments(), list(killed.glob("*.nsrec"))
    damaged = [re.search(r"/([^/]+\.nsrec): damaged at byte (\d+)", line) for line in recording.losses]

    assert len(files) > KILLS / 5
    assert len(moments) > len(files) / 2
    # One line for a file, and that is about its end.
    assert len({one[1] for one in damaged if one}) == len(recording.losses)
    for one in damaged:
        assert one
        assert MAGIC not in (killed / one[1]).read_bytes()[int(one[2]) + 1 :]
    print(f"{len(files)} files, {len(moments)} looks, {len(damaged)} damaged at their end")


def test_everything_else_replays(killed: Path):
    recording = Recording(str(killed))
    moments = recording.moments()
    said = len(recording.losses)

    for moment in random.Random(5).sample(moments, min(60, len(moments))):
        assert recording.at(moment).captured_at == moment
    assert len(recording.losses) == said


def test_what_happened_is_whole_and_what_the_looks_say(killed: Path):
    recording = Recording(str(killed))
    moments = recording.moments()
    events = [one for one in recording.events() if one["kind"] == "limit_changed" and one["name"] == "killed"]
    assert len(events) > KILLS / 20
    for event in events:
        assert {"time", "message", "evidence", "before", "after"} <= event.keys()
        said = datetime.fromisoformat(event["time"]).timestamp()
        # It is written before its look, which may be what was lost.
        if any(abs(moment - said) < 0.002 for moment in moments):
            (container,) = (one for one in build(recording.at(said + 0.002)).containers if one.name == "killed")
            assert container.limits.pids == event["after"]


def test_after_all_that_it_is_recorded_and_replayed_as_ever(killed: Path, run: Run):
    done = run("record", "--store", str(killed), "--interval", "0.1", "--count", "2")
    answer = run("replay", "--at", "now", "--store", str(killed), "show", "killed", "--json")

    assert (done.returncode, done.stderr) == (0, b"")
    assert answer.returncode == 0
    assert json.loads(answer.stdout)["container"]["name"] == "killed"


# -- what happens to a container, told everywhere ----------------------------------------------------------------------


class _Receiver(http.server.BaseHTTPRequestHandler):
    """Takes what a webhook sends."""

    taken: list[dict[str, Any]]

    def do_POST(self) -> None:
        self.taken.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - as the base class calls it
        """Say nothing."""


class Follower:
    """``events --follow --json``."""

    def __init__(self, *flags: str) -> None:
        command = [sys.executable, "-m", "nsinspect", "events", "--follow", "--json", "--interval", "0.5", *flags]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment)
        self.events: list[dict[str, Any]] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.events.append(json.loads(line))

    def state(self) -> str:
        """Whether it still runs, for whoever waits for it in vain."""
        return "running" if self.process.poll() is None else f"ended with {self.process.returncode}"

    def end(self) -> str:
        """Interrupt it; what it complained of."""
        self.process.send_signal(signal.SIGINT)
        self._reading.join(20)
        assert self.process.stderr
        with self.process.stderr as file, self.process:
            return file.read().decode()


class Story(NamedTuple):
    """What was done to ``told``, and who told of it."""

    identity: str
    sidecar: str
    root_pid: int
    followed: list[dict[str, Any]]
    logged: list[dict[str, str]]
    sent: list[dict[str, Any]]
    complaints: str
    store: Path
    scrapes: list[bool]
    lived: tuple[float, float]


EXPECTED = (
    ("container_started", "init.started_at"),
    ("limit_changed", "limits.memory.effective.max_bytes"),
    ("namespace_joined", "namespaces.net"),
    ("limit_changed", "limits.cpu.effective.cores"),
    ("throttling_began", "usage.cpu_throttled_periods"),
    ("throttling_ended", "usage.cpu_throttled_periods"),
    ("limit_changed", "limits.cpu.effective.cores"),
    ("oom_kill", "usage.oom_kills"),
    ("container_stopped", "init.started_at"),
)
"""Of ``told``, in this order, besides what its exec as root stands out by."""


def logged(served: Exporter) -> list[dict[str, str]]:
    """Events in its log."""
    found = []
    for line in served.log.read_text().splitlines():
        if " kind=" in line:
            pairs = re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|\S+)', line)
            found.append({key: value.strip('"') for key, value in pairs})
    return found


@pytest.fixture(scope="module")
def story(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    """One thing after the other, each waited for in both places."""
    folder = tmp_path_factory.mktemp("story")
    store = folder / "store"
    _Receiver.taken = []
    receiver = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{receiver.server_port}/hook"
    scrapes: list[bool] = []
    flags = ("--record.store", str(store), "--record.interval", "0.5", "--events")
    with ExitStack() as stack:
        stack.callback(receiver.server_close)
        stack.callback(receiver.shutdown)
        served = stack.enter_context(exporter(folder, *flags))
        follower = Follower("--webhook", url, "--webhook-queue", str(folder / "queue"))
        stack.callback(follower.process.kill)

        def scraped() -> None:
            with urllib.request.urlopen(f"http://127.0.0.1:{served.port}/metrics", timeout=20) as answer:
                scrapes.append(answer.status == 200 and b"nsinspect_scrape_collector_success" in answer.read())

        def told(kind: str) -> None:
            def everywhere() -> bool:
                mine = [one for one in follower.events if (one["kind"], one["name"]) == (kind, "told")]
                theirs = [one for one in logged(served) if (one["kind"], one.get("name")) == (kind, "told")]
                return bool(mine and theirs)

            until(everywhere, f"{kind} in {[one['kind'] for one in follower.events]}, {follower.state()}", 60)
            scraped()

        until(lambda: list(store.glob("*.nsrec")), "recording")
        # The first look of the follower tells nothing, so one must have been.
        time.sleep(2)
        limits = ("--memory", "64m", "--memory-swap", "64m", "--cpus", "2")
        identity = docker.run("told", "--user", "1000", *limits)
        begun = time.time()
        told("container_started")
        docker("update", "--memory", "128m", "--memory-swap", "128m", "told")
        told("limit_changed")
        docker("exec", "-d", "-u", "0", "told", "sleep", "2997")
        pids = docker("top", "told", "-o", "pid,args").splitlines()
        root_pid = next(int(line.split()[0]) for line in pids if line.endswith("sleep 2997"))
        until(lambda: any(one["pid"] == root_pid for one in follower.events), "somebody who stands out")
        sidecar = docker.run("told-sidecar", "--net", "container:told")
        told("namespace_joined")
        # Whatever else runs in it is not throttled, only this.
        docker("exec", "-d", "told", "busybox", "timeout", "4", "sh", "-c", "while :; do :; done")
        docker("update", "--cpus", "0.3", "told")
        told("throttling_began")
        told("throttling_ended")
        docker("update", "--cpus", "2", "told")
        until(lambda: [one["after"] for one in follower.events if one["field"] == EXPECTED[3][1]][1:] == [2], "cores")
        docker("exec", "-d", "told", "dd", "if=/dev/zero", "of=/dev/null", "bs=300M", "count=1")
        told("oom_kill")
        lived = begun, time.time()
        docker("rm", "-f", "told", "told-sidecar")
        told("container_stopped")
        mine = {identity, sidecar}

        def sent() -> list[dict[str, Any]]:
            return [one for one in _Receiver.taken if one["contents"]["container"] in mine]

        followed = [one for one in follower.events if one["container"] in mine]
        until(lambda: len(sent()) >= len(followed), "all of it at the receiver")
        complaints = follower.end()
        yield Story(identity, sidecar, root_pid, followed, logged(served), sent(), complaints, store, scrapes, lived)


@pytest.mark.parametrize("place", ["followed", "logged", "sent"])
def test_each_event_is_told_once_in_each_place(story: Story, place: str):
    whole: list[dict[str, Any]] = getattr(story, place)
    found = [one["contents"] for one in whole] if place == "sent" else whole
    mine = Counter((one["kind"], one["field"]) for one in found if one["container"] == story.identity)

    assert {row: mine[row] for row in EXPECTED} == Counter(EXPECTED)
    sidecar = [one["kind"] for one in found if one["container"] == story.sidecar]
    assert Counter(sidecar)["container_started"] == Counter(sidecar)["container_stopped"] == 1


def test_nothing_else_is_told_of_it(story: Story):
    """But for who stands out, and a drift that follows from a limit."""
    mine = [one for one in story.followed if one["container"] == story.identity and one["pid"] != story.root_pid]
    rest = {(one["kind"], one["field"]) for one in mine} - set(EXPECTED)
    assert rest <= {("namespace_left", "namespaces.net")}


def test_an_exec_as_root_stands_out_by_its_pid(story: Story):
    mine = [one for one in story.followed if one["pid"] == story.root_pid]
    assert mine
    assert max(Counter((one["kind"], one["field"]) for one in mine).values()) == 1
    assert {one["container"] for one in mine} == {story.identity}
    assert any(one["severity"] and one["evidence"] for one in mine)


def test_an_event_says_what_it_was_and_is(story: Story):
    by_kind = {one["kind"]: one for one in story.followed if one["container"] == story.identity}
    changed = next(one for one in story.followed if (one["kind"], one["field"]) == EXPECTED[1])

    assert (changed["before"], changed["after"]) == (64 * MIB, 128 * MIB)
    assert "64 MiB to 128 MiB" in changed["message"]
    assert by_kind["oom_kill"]["before"] == 0
    assert by_kind["oom_kill"]["after"] >= 1
    assert by_kind["container_started"]["image"].startswith("bb")
    assert by_kind["container_started"]["runtime"] == "docker"


def test_the_receiver_got_what_was_followed_in_order(story: Story):
    assert [one["contents"] for one in story.sent] == story.followed
    assert all(one["type"] == f"nsinspect.{one['contents']['kind']}" for one in story.sent)
    assert story.complaints == ""


def test_history_tells_the_life_in_order(story: Story, run: Run):
    answer = run("history", "told", "--store", str(story.store), "--since", "10m ago", "--json")
    text = run("history", "told", "--store", str(story.store), "--since", "10m ago").stdout.decode()
    events = [json.loads(line) for line in answer.stdout.splitlines()]
    rows = [(one["kind"], one["field"]) for one in events]

    assert [row for row in rows if row in EXPECTED] == list(EXPECTED)
    assert [one["time"] for one in events] == sorted(one["time"] for one in events)
    assert text.splitlines() == [f"{one['time']}  {one['message']}" for one in events]


def test_what_was_recorded_beside_scrapes_replays(story: Story, run: Run):
    recording = Recording(str(story.store))
    moments = recording.moments()
    before, after = story.lived
    replayed = {}
    for name, moment in (("first", before + 3), ("last", after)):
        written = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(moment))
        answer = run("replay", "--at", written, "--store", str(story.store), "show", story.identity[:12], "--json")
        assert answer.returncode == 0, answer.stderr
        replayed[name] = json.loads(answer.stdout)["container"]["limits"]["memory"]["own"]["max_bytes"]

    assert recording.losses == []
    assert len(moments) > 10
    assert replayed["last"] == 128 * MIB
    assert replayed["first"] in (64 * MIB, 128 * MIB)


def test_scrapes_go_on_beside_the_recording(story: Story):
    assert len(story.scrapes) >= 6
    assert all(story.scrapes)
