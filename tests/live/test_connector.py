"""The kernel's notices: containers that come and go between two looks, and what is lost of them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from nsinspect import procconn
from nsinspect.kernfs import Roots
from nsinspect.procconn import Connector
from tests.live.docker import Docker
from tests.live.engines import until

CHECKOUT = Path(__file__).parents[2]


def following(*flags: str) -> subprocess.Popen[str]:
    """``events --follow`` over two looks, four seconds apart."""
    command = [sys.executable, "-m", "nsinspect", "events", "--follow", "--json", "--interval", "4", "--count", "2"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    return subprocess.Popen([*command, *flags], stdout=subprocess.PIPE, text=True, env=environment, cwd=CHECKOUT)


def test_a_container_that_lived_between_two_looks_is_told_of_with_the_connector_alone(docker: Docker):
    with following("--connector") as hearing, following() as polling:
        until(lambda: hears(hearing.pid), "the connector", 10)
        identity = docker("run", "-d", "--name", "short-lived", "--net", "none", "bb", "true")
        told, unheard = (one.communicate(timeout=60)[0] for one in (hearing, polling))
    docker("rm", "-f", "short-lived")
    events = [one for one in map(json.loads, told.splitlines()) if one["container"] == identity]

    assert [one["kind"] for one in events] == ["container_came_and_went"]
    assert events[0]["after"] == "docker"
    assert events[0]["evidence"][0]["says"] == "process connector"
    assert identity not in unheard


def hears(pid: int) -> bool:
    """Whether a process has a socket of the connector."""
    lines = Path("/proc/net/netlink").read_text().splitlines()[1:]
    inodes = {line.split()[9] for line in lines if line.split()[1] == "11"}
    found = set()
    for fd in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.add(os.readlink(fd))
        except FileNotFoundError:
            continue
    return any(f"socket:[{inode}]" in found for inode in inodes)


def test_notices_that_overflow_are_counted(monkeypatch: pytest.MonkeyPatch):
    """Five hundred programs start while nobody reads, and there is room for a few."""
    monkeypatch.setattr(procconn, "_BUFFER", 2048)
    monkeypatch.setattr(Connector, "_ask", lambda *_: subprocess.run(["sleep", "1"], check=False))
    connector = Connector(Roots())
    subprocess.run(["sh", "-c", "i=0; while [ $i -lt 500 ]; do /bin/true; i=$((i+1)); done"], check=True, timeout=60)
    overflows = 0

    def counted() -> int:
        nonlocal overflows
        overflows += connector.taken().overflows
        return overflows

    assert until(counted, "an overflow", 20) >= 1
