"""systemd's side of the exporter: datagrams that arrive or do not matter, and sockets that a child is given."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsinspect.serve import notify

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture(params=["path", "abstract"])
def systemd(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """What listens at NOTIFY_SOCKET."""
    name = str(tmp_path / "notify") if request.param == "path" else f"@nsinspect-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(name.replace("@", "\0"))
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", name)
        yield listening


# -- notify ------------------------------------------------------------------------------------------------------------


def test_fields_are_one_datagram_of_lines(systemd: socket.socket):
    """As sd_notify(3) has them, in the order given."""
    notify.notify(READY=1, STATUS="Listening on [::]:1 – böb")

    assert systemd.recv(1000).decode() == "READY=1\nSTATUS=Listening on [::]:1 – böb"


def test_reloading_says_when(systemd: socket.socket):
    """Type=notify-reload wants the monotonic clock in microseconds, of now."""
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify.reloading()
    first, second = systemd.recv(1000).decode().split("\n")
    after = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    assert first == "RELOADING=1"
    assert before <= int(second.removeprefix("MONOTONIC_USEC=")) <= after


@pytest.mark.parametrize(
    "address", [None, "", "@", "/nonexistent/notify", "relative", "/dev/null", "x" * 500, "vsock:2:1"]
)
def test_nobody_who_listens_is_no_failure(monkeypatch: pytest.MonkeyPatch, address: str | None):
    """Not started by systemd, or by one that is gone."""
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if address is not None:
        monkeypatch.setenv("NOTIFY_SOCKET", address)

    notify.notify(READY=1)


def test_one_who_no_longer_listens_is_no_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The socket's file is there and nobody behind it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))

    notify.notify(READY=1)


def test_text_that_is_no_utf_8_is_no_failure(systemd: socket.socket):
    """A socket's path may have any bytes, and is part of the status."""
    notify.notify(READY=1, STATUS=os.fsdecode(b"Listening on /run/\xff"))

    assert systemd.recv(1000).startswith(b"READY=1\n")


# -- the watchdog ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wait", "pid", "seconds"),
    [
        ("30000000", "own", 30.0),
        ("1500000", None, 1.5),
        ("30000000", "1", None),
        ("30000000", "", None),
        (None, "own", None),
        ("", "own", None),
        ("0", "own", None),
        ("-1", "own", None),
        ("3s", "own", None),
        ("1.5", None, None),
    ],
)
def test_the_watchdog_is_who_it_is_meant_for(
    monkeypatch: pytest.MonkeyPatch, wait: str | None, pid: str | None, seconds: float | None
):
    """sd_watchdog_enabled(3): another process' watchdog is not ours to feed."""
    for name, value in (("WATCHDOG_USEC", wait), ("WATCHDOG_PID", str(os.getpid()) if pid == "own" else pid)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)

    assert notify.watchdog_seconds() == seconds


# -- sockets -----------------------------------------------------------------------------------------------------------

# Puts its descriptors where systemd puts them, and then becomes the one who is given them.
PASS = """
import os, sys
given = [os.dup(int(one)) for one in sys.argv[2].split(",") if one]
given = [os.dup2(one, 40 + number) for number, one in enumerate(given)]
for number, one in enumerate(given): os.dup2(one, 3 + number, inheritable=True)
for one in given: os.close(one)
os.environ["LISTEN_FDS"] = os.environ.get("LISTEN_FDS", str(len(given)))
os.environ["LISTEN_PID"] = os.environ.get("LISTEN_PID", str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""
TELL = """
import json
from nsinspect.serve import notify
try:
    print(json.dumps([(one.fileno(), one.family, one.getsockname()) for one in notify.passed_sockets()]))
except notify.CannotServe as error:
    print(json.dumps([]))
    assert str(error).isprintable() and "expected" in str(error)
"""


def told(sockets: list[socket.socket], **environment: str) -> list[tuple[int, int, object]]:
    """What a child finds that is given ``sockets``: descriptor, family and address of each; empty when it complains."""
    fds = [one.fileno() for one in sockets]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("LISTEN_")}
    answer = subprocess.run(
        [sys.executable, "-I", "-S", "-c", PASS, TELL, ",".join(map(str, fds))],
        pass_fds=fds,
        env={**clean, "PYTHONPATH": str(CHECKOUT), **environment},
        capture_output=True,
        check=False,
        timeout=20,
        text=True,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return [tuple(one) for one in json.loads(answer.stdout)]


@pytest.fixture
def sockets(tmp_path: Path) -> Iterator[list[socket.socket]]:
    """One of TCP and one with a path."""
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        unix.bind(str(tmp_path / "listen"))
        unix.listen()
        yield [tcp, unix]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_passed_sockets_are_found_from_descriptor_3_on(sockets: list[socket.socket], count: int):
    """As many as there are, of any family."""
    expected = [
        (3 + number, int(one.family), list(name) if isinstance(name := one.getsockname(), tuple) else name)
        for number, one in enumerate(sockets[:count])
    ]

    assert told(sockets[:count]) == expected


@pytest.mark.parametrize(
    "environment",
    [{"LISTEN_PID": "1"}, {"LISTEN_PID": ""}, {"LISTEN_FDS": ""}, {"LISTEN_FDS": "-1"}, {"LISTEN_FDS": "one"}],
    ids=["another process", "no process", "no number", "negative", "a word"],
)
def test_sockets_of_another_process_are_not_ours(sockets: list[socket.socket], environment: dict[str, str]):
    """The variables are inherited; descriptor 3 may be anything then."""
    assert told(sockets[:1], **environment) == []


def test_without_the_variables_there_are_no_sockets(monkeypatch: pytest.MonkeyPatch):
    """Started by hand."""
    for name in ("LISTEN_PID", "LISTEN_FDS"):
        monkeypatch.delenv(name, raising=False)

    with pytest.raises(notify.CannotServe, match="found none"):
        notify.passed_sockets()
