"""Namespaces of a busy host, held against lsns(8)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]
CONTAINERS = 300


@pytest.fixture(scope="module")
def load() -> Iterator[None]:
    """Three hundred containers with a thousand processes."""
    command = [sys.executable, "benchmarks/load.py", "--containers", str(CONTAINERS), "--processes", "1000"]
    process = subprocess.Popen(command, cwd=CHECKOUT, stderr=subprocess.PIPE, text=True)
    assert process.stderr
    try:
        assert "up in" in process.stderr.readline()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=60)


def lsns() -> dict[tuple[str, int], dict[str, Any]]:
    """What lsns says, without itself."""
    words = "NS,TYPE,NPROCS,PID,UID,PNS,ONS"
    done = subprocess.run(["lsns", "-J", "-o", words], capture_output=True, check=True, timeout=120)
    return {(one["type"], one["ns"]): one for one in json.loads(done.stdout)["namespaces"]}


def ours(ask: Callable[..., dict[str, Any]], *flags: str) -> dict[tuple[str, int], dict[str, Any]]:
    """What we say."""
    return {(one["type"], one["inode"]): one for one in ask("ns", *flags)["namespaces"]}


def test_ns_equals_lsns(load: None, ask: Callable[..., dict[str, Any]]):
    """The same inodes, types, counts, first processes, owners and parents, of those that have processes."""

    def numbers_meet() -> bool:
        # Each of the two was looking when it looked: itself, its interpreter's helpers.
        return all(abs(mine[key]["nprocs"] - theirs[key]["nprocs"]) <= 3 for key, one in mine.items() if one["host"])

    # A host is never quite still: the two look again until nothing else came or went between them.
    for _ in range(10):
        theirs, mine = lsns(), ours(ask)
        if numbers_meet():
            break
    with_processes = {key for key, one in mine.items() if one["nprocs"]}
    assert with_processes == theirs.keys()
    assert len(with_processes) > 5 * CONTAINERS
    hosts = {key for key, one in mine.items() if one["host"]}
    assert len(hosts) == 8
    for key in with_processes - hosts:
        told, one = theirs[key], mine[key]
        assert (one["nprocs"], one["pid"], one["uid"]) == (told["nprocs"], told["pid"], told["uid"]), key
        assert one["owner"] == (told["ons"] or None), key
        assert one["parent"] == (told["pns"] or None), key
    assert numbers_meet()


def test_every_container_of_a_namespace_is_named(load: None, ask: Callable[..., dict[str, Any]]):
    listed = {one["id"]: one for one in ask("list")["containers"] if one["id"].startswith("10ad10ad")}
    assert len(listed) == CONTAINERS
    by_inode = ours(ask)
    for identity, one in listed.items():
        for kind in ("mnt", "uts", "ipc", "net", "pid"):
            assert by_inode[kind, one["namespaces"][kind]["inode"]]["containers"] == [identity]


def test_what_only_a_bind_mount_or_a_descriptor_keeps_is_found(tmp_path: Path, ask: Callable[..., dict[str, Any]]):
    point = tmp_path / "held"
    point.touch()
    script = f"mount --bind /proc/self/ns/uts {point}; readlink /proc/self/ns/uts"
    # The mount has to be in our mount namespace: a private one would die with it.
    made = subprocess.run(["unshare", "--uts", "sh", "-c", script], capture_output=True, check=True, timeout=30)
    mounted = int(made.stdout.split(b"[")[1].rstrip(b"]\n"))
    child = subprocess.Popen(["unshare", "--ipc", "sleep", "60"])
    try:
        descriptor = None
        deadline = time.monotonic() + 10
        while os.readlink(f"/proc/{child.pid}/ns/ipc") == os.readlink("/proc/self/ns/ipc"):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        descriptor = os.open(f"/proc/{child.pid}/ns/ipc", os.O_RDONLY)
        inode = os.fstat(descriptor).st_ino
        child.kill()
        child.wait()
        found = ours(ask, "--descriptors")
        assert (found["uts", mounted]["nprocs"], found["uts", mounted]["pid"]) == (0, None)
        assert {"mount": str(point), "pid": None, "fd": None} in found["uts", mounted]["held_by"]
        assert found["ipc", inode]["nprocs"] == 0
        assert {"mount": None, "pid": os.getpid(), "fd": descriptor} in found["ipc", inode]["held_by"]
    finally:
        child.kill()
        child.wait()
        if descriptor is not None:
            os.close(descriptor)
        subprocess.run(["umount", str(point)], check=True, timeout=30)


def test_a_user_namespace_tells_its_parent_and_who_made_it(ask: Callable[..., dict[str, Any]]):
    child = subprocess.Popen(
        ["setpriv", "--reuid", "1000", "--regid", "1000", "--clear-groups", "unshare", "--user", "--pid", "--fork",
         "--kill-child", "sleep", "60"],
    )  # fmt: skip
    try:
        host = os.stat("/proc/self/ns/user").st_ino
        deadline = time.monotonic() + 10
        while os.stat(f"/proc/{child.pid}/ns/user").st_ino == host:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        inode = os.stat(f"/proc/{child.pid}/ns/user").st_ino
        inner = os.stat(f"/proc/{child.pid}/ns/pid_for_children").st_ino
        time.sleep(0.2)
        found = ours(ask)
        assert (found["user", inode]["parent"], found["user", inode]["owner_uid"]) == (host, 1000)
        assert found["pid", inner]["owner"] == inode
        assert found["pid", inner]["parent"] == os.stat("/proc/self/ns/pid").st_ino
    finally:
        child.kill()
        child.wait()
