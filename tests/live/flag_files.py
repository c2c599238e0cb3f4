"""What a flag of ``docker run`` or ``podman run`` becomes in the kernel: the rows of docs/flags.md, proved on both.

``v1`` and ``v2`` are files of the container's cgroup with what they must hold; several values where engines differ
(the formula from shares to weight).  ``field`` is the key in the JSON document, ``value`` what it says.
"""

from __future__ import annotations

from typing import NamedTuple

MIB = 1 << 20
V1_NO_LIMIT = "9223372036854771712"


class Row(NamedTuple):
    """One flag."""

    flag: str
    v1: tuple[tuple[str, str], ...]
    v2: tuple[tuple[str, tuple[str, ...]], ...]
    field: str
    value: object
    metric: str


ROWS = (
    Row(
        "--memory 64m",
        (("memory.limit_in_bytes", str(64 * MIB)), ("memory.memsw.limit_in_bytes", str(128 * MIB))),
        (("memory.max", (str(64 * MIB),)), ("memory.swap.max", (str(64 * MIB),))),
        "limits.memory.own.max_bytes",
        64 * MIB,
        "nsinspect_container_memory_limit_bytes",
    ),
    Row(
        "--memory 64m --memory-swap 128m",
        (("memory.memsw.limit_in_bytes", str(128 * MIB)),),
        (("memory.swap.max", (str(64 * MIB),)),),
        "limits.memory.own.swap_max_bytes",
        64 * MIB,
        "nsinspect_container_memory_swap_limit_bytes",
    ),
    Row(
        "--memory 64m --memory-swap 64m",
        (("memory.memsw.limit_in_bytes", str(64 * MIB)),),
        (("memory.swap.max", ("0",)),),
        "limits.memory.own.swap_max_bytes",
        0,
        "nsinspect_container_memory_swap_limit_bytes",
    ),
    Row(
        "--memory 64m --memory-swap -1",
        (("memory.memsw.limit_in_bytes", V1_NO_LIMIT),),
        (("memory.swap.max", ("max",)),),
        "limits.memory.own.swap_max_bytes",
        "max",
        "nsinspect_container_memory_swap_limit_bytes",
    ),
    Row(
        "--memory 64m --memory-reservation 32m",
        (("memory.soft_limit_in_bytes", str(32 * MIB)),),
        (("memory.low", (str(32 * MIB),)),),
        "limits.memory.own.reservation_bytes",
        32 * MIB,
        "nsinspect_container_memory_reservation_bytes",
    ),
    Row(
        "--cpus 0.5",
        (("cpu.cfs_quota_us", "50000"), ("cpu.cfs_period_us", "100000")),
        (("cpu.max", ("50000 100000",)),),
        "limits.cpu.own.cores",
        0.5,
        "nsinspect_container_cpu_limit_cores",
    ),
    Row(
        "--cpu-shares 512",
        (("cpu.shares", "512"),),
        (("cpu.weight", ("20", "59")),),
        "limits.cpu.own.shares",
        512,
        "nsinspect_container_cpu_shares, _cpu_weight",
    ),
    Row(
        "--cpuset-cpus 0",
        (("cpuset.cpus", "0"),),
        (("cpuset.cpus", ("0",)),),
        "limits.cpu.own.cpuset",
        "0",
        "nsinspect_container_cpuset_cpus",
    ),
    Row(
        "--pids-limit 40",
        (("pids.max", "40"),),
        (("pids.max", ("40",)),),
        "limits.pids.own.max",
        40,
        "nsinspect_container_pids_limit",
    ),
)
