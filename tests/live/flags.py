"""What each flag of ``docker run`` must become, from the flag alone.

Expectations are dotted paths into a container of ``list --json``, and words of its ``show`` page.  Names of
capabilities and sizes are written out here and come from no code of nsinspect.
"""

from __future__ import annotations

from typing import Any, NamedTuple

MIB = 1 << 20
DEFAULT_14 = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SYS_CHROOT",
    "CAP_MKNOD",
    "CAP_AUDIT_WRITE",
    "CAP_SETFCAP",
]
NAMESPACES = ("ipc", "mnt", "net", "pid", "uts")


class Flags(NamedTuple):
    """One container: its name, the flags, what JSON must say, and what a person must read."""

    name: str
    flags: tuple[str, ...]
    expected: dict[str, Any]
    words: tuple[str, ...] = ()


def memory(limit: object, swap: object) -> dict[str, Any]:
    """Own and effective memory and swap."""
    return {
        "limits.memory.own.max_bytes": limit,
        "limits.memory.effective.max_bytes": limit,
        "limits.memory.own.swap_max_bytes": swap,
        "limits.memory.effective.swap_max_bytes": swap,
    }


def host_namespaces(*shared: str) -> dict[str, Any]:
    """Which of the namespaces that engines unshare are the host's."""
    return {f"namespaces.{kind}.host": kind in shared for kind in NAMESPACES}


CASES = (
    Flags(
        "plain",
        (),
        {
            **memory("max", "max"),
            **host_namespaces(),
            "limits.cpu.own.cores": "max",
            "limits.cpu.own.shares": 1024,
            "limits.pids.own.max": "max",
            "limits.pids.effective.max": "max",
            "limits.memory.own.reservation_bytes": 0,
            "capabilities.effective.names": DEFAULT_14,
            "capabilities.bounding.mask": "0x00000000a80425fb",
            "capabilities.added": [],
            "capabilities.dropped": [],
            "capabilities.outliers": [],
            "security.seccomp": "filter",
            "security.no_new_privs": False,
            "security.privileged": False,
            "security.read_only_rootfs": False,
            "init.uid": 0,
            "runtime": "docker",
            "kind": "container",
            "image": "bb",
        },
        ("memory  NO LIMIT", "swap    NO LIMIT", "pids    NO LIMIT", "cpu     NO LIMIT", "docker's default"),
    ),
    Flags("swap-twice", ("--memory", "64m", "--memory-swap", "128m"), memory(64 * MIB, 64 * MIB), ("swap    64 MiB",)),
    Flags("no-swap", ("--memory", "64m", "--memory-swap", "64m"), memory(64 * MIB, 0), ("swap    0 B",)),
    Flags("memory-alone", ("--memory", "64m"), memory(64 * MIB, 64 * MIB), ("memory  64 MiB", "swap    64 MiB")),
    Flags("endless-swap", ("--memory", "64m", "--memory-swap", "-1"), memory(64 * MIB, "max"), ("swap    NO LIMIT",)),
    Flags(
        "reserved",
        ("--memory", "64m", "--memory-reservation", "32m"),
        {"limits.memory.own.reservation_bytes": 32 * MIB},
        ("reserve 32 MiB",),
    ),
    Flags(
        "cpus",
        ("--cpus", "1.5"),
        {
            "limits.cpu.own.cores": 1.5,
            "limits.cpu.own.quota_us": 150_000,
            "limits.cpu.own.period_us": 100_000,
            "limits.cpu.effective.cores": 1.5,
        },
        ("cpu     1.5 cores",),
    ),
    Flags("half-cpu", ("--cpus", ".5"), {"limits.cpu.own.cores": 0.5, "limits.cpu.effective.cores": 0.5}),
    Flags("shares", ("--cpu-shares", "512"), {"limits.cpu.own.shares": 512}, ("512 shares",)),
    Flags(
        "cpuset-one",
        ("--cpuset-cpus", "0"),
        {
            "limits.cpu.own.cpuset": "0",
            "limits.cpu.effective.cpuset": "0",
            "limits.cpu.effective.cores": 1,
            "limits.cpu.own.cores": "max",
        },
        ("cpu     1 core ", "cpuset 0 "),
    ),
    Flags(
        "cpuset-two",
        ("--cpuset-cpus", "0-1"),
        {"limits.cpu.own.cpuset": "0-1", "limits.cpu.effective.cpuset": "0-1"},
        ("cpuset 0-1",),
    ),
    Flags(
        "pids", ("--pids-limit", "40"), {"limits.pids.own.max": 40, "limits.pids.effective.max": 40}, ("pids    40",)
    ),
    Flags(
        "user",
        ("--user", "1000"),
        {"init.uid": 1000, "capabilities.effective.names": [], "capabilities.bounding.names": DEFAULT_14},
        ("host uid 1000", "init uses none of them now"),
    ),
    Flags(
        "cap-add",
        ("--cap-add", "NET_ADMIN"),
        {"capabilities.added": ["CAP_NET_ADMIN"], "capabilities.dropped": []},
        ("docker's default, + NET_ADMIN",),
    ),
    Flags(
        "cap-drop",
        ("--cap-drop", "ALL"),
        {
            "capabilities.bounding.names": [],
            "capabilities.effective.mask": "0x0000000000000000",
            "capabilities.dropped": DEFAULT_14,
        },
        ("no capabilities",),
    ),
    Flags(
        "cap-all",
        ("--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE"),
        {"capabilities.dropped": [], "security.privileged": False},
        ("not privileged",),
    ),
    Flags("pid-host", ("--pid", "host"), host_namespaces("pid"), ("pid with the HOST",)),
    Flags("net-host", ("--net", "host"), host_namespaces("net"), ("net with the HOST",)),
    Flags("ipc-host", ("--ipc", "host"), host_namespaces("ipc"), ("ipc with the HOST",)),
    Flags("uts-host", ("--uts", "host"), host_namespaces("uts"), ("uts with the HOST",)),
    Flags("joined", ("--net", "container:plain"), host_namespaces(), ("net with plain",)),
    Flags(
        "no-new-privs",
        ("--security-opt", "no-new-privileges"),
        {"security.no_new_privs": True},
        ("no new privileges",),
    ),
    Flags(
        "no-seccomp",
        ("--security-opt", "seccomp=unconfined"),
        {"security.seccomp": "disabled"},
        ("no seccomp filter",),
    ),
    Flags("read-only", ("--read-only",), {"security.read_only_rootfs": True}, ("read-only root",)),
    Flags("labelled", ("-l", "team=shop", "-l", "tier=web"), {"labels": {"team": "shop", "tier": "web"}}),
)
