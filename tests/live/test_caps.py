"""Capabilities of real processes and threads, held against pscap(8) and getpcaps(8)."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.live.docker import Docker

NET_RAW, SYS_ADMIN = 1 << 13, 1 << 21
# Threads that change their own sets with capset(2), which the C library would not do for all of them.
DROPPER = f"""
import ctypes, os, sys, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def drop(mask):
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    data = (ctypes.c_uint32 * 6)()
    assert libc.syscall(125, header, data) == 0
    for first in (0, 1, 3, 4):
        data[first] &= ~(mask >> (32 * (first // 3))) & 0xffffffff
    assert libc.syscall(126, header, data) == 0, os.strerror(ctypes.get_errno())
def run(mask):
    drop(mask)
    os.write(1, b"%d\\n" % threading.get_native_id())
    time.sleep(100)
for mask in ({NET_RAW}, {SYS_ADMIN}, 0):
    threading.Thread(target=run, args=(mask,), daemon=True).start()
time.sleep(100)
"""

Ask = Callable[..., dict[str, Any]]


@contextmanager
def dropper() -> Iterator[tuple[int, list[int]]]:
    """A process whose three threads say their ids: without NET_RAW, without SYS_ADMIN, and like their leader."""
    process = subprocess.Popen([sys.executable, "-c", DROPPER], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout
        yield process.pid, [int(process.stdout.readline()) for _ in range(3)]
    finally:
        process.kill()
        process.communicate()


def test_a_thread_that_dropped_a_capability_is_found_and_one_that_did_not_is_not(ask: Ask):
    with dropper() as (pid, tids):
        tasks = {one["tid"]: one for one in ask("caps", "--all")["tasks"] if one["pid"] == pid}
    leader = set(tasks[pid]["effective"]["names"])
    shown = {tid: leader - set(tasks[tid]["effective"]["names"]) for tid in tids if tid in tasks}

    assert sorted(map(tuple, shown.values())) == [("CAP_NET_RAW",), ("CAP_SYS_ADMIN",)]


def test_has_knows_which_thread_has_it(ask: Ask):
    with dropper() as (pid, _):
        tasks = [one["tid"] for one in ask("caps", "--has", "cap_sys_admin")["tasks"] if one["pid"] == pid]
        without = [one["tid"] for one in ask("caps", "--all")["tasks"] if one["pid"] == pid]
    assert len(without) == 3
    assert len(tasks) == 2
    assert set(tasks) < set(without)


def test_it_agrees_with_pscap_and_getpcaps(docker: Docker, ask: Ask):
    """Of every process that pscap reports; what it calls full we call full."""
    docker.run("caps-net-admin", "--cap-add", "NET_ADMIN", "--cap-drop", "CHOWN")
    tasks = {one["pid"]: one for one in ask("caps", "--all")["tasks"] if one["pid"] == one["tid"]}
    done = subprocess.run(["pscap", "-a"], capture_output=True, check=True, text=True, timeout=60)
    compared = 0
    for line in done.stdout.splitlines()[1:]:
        found = re.match(r"\s*\d+\s+(\d+)\s+\S+\s+(.*)", line)
        assert found, line
        pid, words = int(found[1]), found[2]
        if pid not in tasks or tasks[pid]["effective"] is None:
            continue
        mine = {name.removeprefix("CAP_").lower() for name in tasks[pid]["effective"]["names"]}
        for name in mine if not tasks[pid]["full"] else ():
            assert re.search(rf"\b{name}\b", words), (pid, name, words)
        assert (" full" in f" {words}") == bool(tasks[pid]["full"]), (pid, words)
        compared += 1
    assert compared > 5
    pid = docker.inspect("caps-net-admin")["State"]["Pid"]
    told = subprocess.run(["getpcaps", str(pid)], capture_output=True, check=True, text=True, timeout=30)
    names = {name.lower() for name in tasks[pid]["effective"]["names"]}
    assert names == set(re.search(r"(cap_[a-z_,0-9]+)[=+]", told.stdout + told.stderr)[1].split(","))  # type: ignore[index]
    docker("rm", "-f", "caps-net-admin")


def test_docker_exec_privileged_stands_out_and_a_plain_exec_does_not(docker: Docker, ask: Ask):
    docker.run("caps-joined", "--cap-drop", "MKNOD")
    docker("exec", "-d", "caps-joined", "sleep", "777")
    docker("exec", "-d", "--user", "0", "caps-joined", "sh", "-c", "exec sleep 778")
    unlike = [one for one in ask("caps", "caps-joined")["tasks"] if one["unlike_init"]]
    docker("rm", "-f", "caps-joined")
    assert unlike == []
