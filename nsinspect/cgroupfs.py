"""Control groups: what the files of each controller say, on v1 and v2.

Records keep the kernel's file names, units and spelling; :mod:`nsinspect.limits` gives v1 and v2 one meaning, and
:mod:`nsinspect.hierarchies` says where each controller lives.  See cgroups(7), the kernel's
Documentation/admin-guide/cgroup-v2.rst and cgroup-v1/.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from typing import Literal, NamedTuple, TypedDict

from nsinspect.errors import Malformed
from nsinspect.hierarchies import Hierarchy
from nsinspect.procfs import LARGEST, parse_number

Limit = int | Literal["max"]
"""A number, or the kernel's own word for "there is no limit"."""

# v1 writes "no limit" as LONG_MAX rounded down to a page: ...ffff000 with 4 KiB pages, ...fff0000 with 64 KiB.
V1_UNLIMITED = 0x7FFF_FFFF_FFFF_0000
# Huge page limits are rounded down to a huge page of up to 1 GiB.
_V1_UNLIMITED_ROUNDED = 0x7FFF_FFFF_C000_0000


class CpuMax(NamedTuple):
    """``cpu.max``: microseconds of CPU time (or "max") in every period of so many microseconds."""

    quota_us: Limit
    period_us: int


class Pressure(NamedTuple):
    """``cpu.pressure`` and its sisters: microseconds in which some, or all, tasks waited.  ``full`` of cpu exists
    since Linux 5.13."""

    some_us: int
    full_us: int | None


CpuList = tuple[int, ...]
"""CPU numbers, ascending: the kernel's ``0-2,7`` is ``(0, 1, 2, 7)``; empty means "as the parent"."""

ControlFiles = TypedDict(
    "ControlFiles",
    {
        "cpu.max": CpuMax,
        "cpu.weight": int,
        "cpu.stat": Mapping[str, int],
        "cpuset.cpus": CpuList,
        "cpuset.cpus.effective": CpuList,
        "memory.max": Limit,
        "memory.high": Limit,
        "memory.low": Limit,
        "memory.swap.max": Limit,
        "memory.current": int,
        "memory.swap.current": int,
        "memory.stat": Mapping[str, int],
        "memory.events": Mapping[str, int],
        "memory.events.local": Mapping[str, int],
        "pids.max": Limit,
        "pids.current": int,
        "cpu.pressure": Pressure,
        "memory.pressure": Pressure,
        "io.pressure": Pressure,
        "cpu.cfs_quota_us": Limit,
        "cpu.cfs_period_us": int,
        "cpu.shares": int,
        "cpuacct.usage": int,
        "cpuset.effective_cpus": CpuList,
        "memory.limit_in_bytes": Limit,
        "memory.memsw.limit_in_bytes": Limit,
        "memory.soft_limit_in_bytes": Limit,
        "memory.usage_in_bytes": int,
        "memory.memsw.usage_in_bytes": int,
        "memory.oom_control": Mapping[str, int],
    },
    total=False,
)
"""What was read of one cgroup, by the kernel's file names.  A missing key: no such file, or an issue says why."""


class Cgroup(NamedTuple):
    """One cgroup of one hierarchy.  ``directory`` is where it was read; ``inode`` tells it from a later one of the
    same name.  ``unknown`` names the files that are there and could not be read or understood; ``others`` are the
    lines of those in :data:`OTHERS` that are set to something."""

    path: bytes
    directory: str
    inode: int
    files: ControlFiles
    unknown: tuple[str, ...] = ()
    others: tuple[tuple[str, tuple[bytes, ...]], ...] = ()


# Most containers have the same few limits, and where nothing happened the same events: each distinct text is parsed
# once.
_remembered = lru_cache(maxsize=64)


@_remembered
def parse_limit(data: bytes) -> Limit:
    """``memory.max``, ``pids.max``: a number or ``max``."""
    text = data.strip()
    return "max" if text == b"max" else _number(text, data, "a number or max")


@_remembered
def parse_v1_limit(data: bytes) -> Limit:
    """``memory.limit_in_bytes``: a number; its largest values, and -1, mean that there is no limit."""
    text = data.rstrip()
    if text == b"-1":
        return "max"
    value = _number(text, data, "a number of bytes")
    return "max" if value >= V1_UNLIMITED else value


@_remembered
def parse_cfs_quota(data: bytes) -> Limit:
    """``cpu.cfs_quota_us``: microseconds, or -1 for no limit."""
    text = data.strip()
    return "max" if text == b"-1" else _positive(text, data, "a positive number of microseconds or -1")


@_remembered
def parse_cfs_period(data: bytes) -> int:
    """``cpu.cfs_period_us``: microseconds."""
    return _positive(data.strip(), data, "a positive number of microseconds")


@_remembered
def parse_cpu_max(data: bytes) -> CpuMax:
    """``cpu.max``: ``quota period`` or ``max period``, microseconds."""
    expected = "a quota or max, and a period, in microseconds"
    words = data.split()
    if len(words) != 2:
        raise Malformed(data, expected)
    quota: Limit = "max" if words[0] == b"max" else _positive(words[0], data, expected)
    return CpuMax(quota, _positive(words[1], data, expected))


@_remembered
def parse_cpu_list(data: bytes) -> CpuList:
    """``cpuset.cpus``, ``/sys/devices/system/cpu/online``: ``0-2,7``."""
    cpus: list[int] = []
    for part in data.strip().split(b",") if data.strip() else ():
        first, dash, last = part.partition(b"-")
        low = _number(first, data, "a list of CPUs such as 0-2,7")
        high = _number(last, data, "a list of CPUs such as 0-2,7") if dash else low
        # The bound keeps a damaged file from filling memory; NR_CPUS is at most 8,192.
        if not low <= high < 1 << 16:
            raise Malformed(data, "a list of CPUs such as 0-2,7")
        cpus.extend(range(low, high + 1))
    return tuple(sorted(set(cpus)))


def format_cpu_list(cpus: CpuList) -> str:
    """The kernel's spelling of a CPU list: ``(0, 1, 2, 7)`` is ``0-2,7``."""
    parts: list[str] = []
    start = 0
    for index, cpu in enumerate(cpus):
        if index + 1 == len(cpus) or cpus[index + 1] != cpu + 1:
            parts.append(f"{cpus[start]}-{cpu}" if index > start else str(cpu))
            start = index + 1
    return ",".join(parts)


def parse_flat_keyed(data: bytes, keys: tuple[bytes, ...]) -> dict[str, int]:
    """``cpu.stat``, ``memory.stat``, ``memory.events``, ``memory.oom_control``: lines of ``key value``, of these keys.

    ``memory.stat`` has about 60 and is read in every scan, where looking for two costs an eighth of looking at all.
    """
    if b" " not in data:
        raise Malformed(data, "lines of: key value")
    text = b"\n%b\n" % data
    found = {}
    for key in keys:
        start = b"\n" + key
        at = text.find(start)
        while at >= 0 and text[at + len(start)] not in b" \n":  # a longer key that begins like this one
            at = text.find(start, at + len(start))
        if at >= 0:
            after = at + len(start)
            found[key.decode()] = _number(
                text[after + 1 : text.find(b"\n", after)], data, f"a number after {key.decode()}"
            )
    return found


_PRESSURE = re.compile(rb"^(some|full) .*total=(.*)$", re.MULTILINE)


def parse_pressure(data: bytes) -> Pressure:
    """``cpu.pressure``: ``some avg10=0.00 avg60=0.00 avg300=0.00 total=12345`` and a ``full`` line.

    accounting/psi.rst.
    """
    lines = {kind: _number(total, data, "a number after total=") for kind, total in _PRESSURE.findall(data)}
    if b"some" not in lines:
        raise Malformed(data, "a line: some avg10=... total=...")
    return Pressure(lines[b"some"], lines.get(b"full"))


def _number(text: bytes, data: bytes, expected: str) -> int:
    if not text.isdigit() or len(text) > 20 or (value := int(text)) > LARGEST:
        raise Malformed(data, expected)
    return value


def _positive(text: bytes, data: bytes, expected: str) -> int:
    value = _number(text, data, expected)
    if value == 0:
        raise Malformed(data, expected)
    return value


Parsers = Mapping[str, Callable[[bytes], object]]
_OOM_KILL = _remembered(partial(parse_flat_keyed, keys=(b"oom_kill",)))

# What is read of every cgroup on the way up, because an ancestor's limit binds too.
LIMITS: Mapping[int, Mapping[str, Parsers]] = {
    1: {
        "cpu": {"cpu.cfs_quota_us": parse_cfs_quota, "cpu.cfs_period_us": parse_cfs_period},
        "cpuset": {"cpuset.effective_cpus": parse_cpu_list},
        "memory": {
            "memory.limit_in_bytes": parse_v1_limit,
            "memory.memsw.limit_in_bytes": parse_v1_limit,
            "memory.soft_limit_in_bytes": parse_v1_limit,
        },
        "pids": {"pids.max": parse_limit},
    },
    2: {
        "cpu": {"cpu.max": parse_cpu_max},
        "cpuset": {"cpuset.cpus.effective": parse_cpu_list},
        "memory": {
            "memory.max": parse_limit,
            "memory.high": parse_limit,
            "memory.low": parse_limit,
            "memory.swap.max": parse_limit,
        },
        "pids": {"pids.max": parse_limit},
    },
}

# What is read of a container's own cgroup besides.  "": there whatever controllers are enabled.
USAGE: Mapping[int, Mapping[str, Parsers]] = {
    1: {
        "cpu": {
            "cpu.shares": parse_number,
            "cpu.stat": _remembered(
                partial(parse_flat_keyed, keys=(b"nr_periods", b"nr_throttled", b"throttled_time"))
            ),
        },
        "cpuacct": {"cpuacct.usage": parse_number},
        "cpuset": {"cpuset.cpus": parse_cpu_list},
        "memory": {
            "memory.usage_in_bytes": parse_number,
            "memory.memsw.usage_in_bytes": parse_number,
            "memory.stat": partial(parse_flat_keyed, keys=(b"total_inactive_file", b"hierarchical_memory_limit")),
            "memory.oom_control": _OOM_KILL,
        },
        "pids": {"pids.current": parse_number},
    },
    2: {
        "": {
            "cpu.stat": partial(
                parse_flat_keyed, keys=(b"usage_usec", b"nr_periods", b"nr_throttled", b"throttled_usec")
            ),
            "cpu.pressure": parse_pressure,
            "memory.pressure": parse_pressure,
            "io.pressure": parse_pressure,
        },
        "cpu": {"cpu.weight": parse_number},
        "cpuset": {"cpuset.cpus": parse_cpu_list},
        "memory": {
            "memory.current": parse_number,
            "memory.swap.current": parse_number,
            "memory.stat": partial(parse_flat_keyed, keys=(b"inactive_file",)),
            "memory.events": _OOM_KILL,
            "memory.events.local": _OOM_KILL,
        },
        "pids": {"pids.current": parse_number},
    },
}


# What is shown as it is where it is set, with what the file holds where nothing is (None: always worth showing).
OTHERS: Mapping[int, Mapping[str, Mapping[str, bytes | None]]] = {
    1: {
        "cpu": {"cpu.idle": b"0", "cpu.cfs_burst_us": b"0", "cpu.rt_runtime_us": b"0"},
        "memory": {"memory.swappiness": b"60", "memory.kmem.tcp.limit_in_bytes": b"max"},
        "devices": {"devices.list": None},
        "blkio": {
            "blkio.throttle.read_bps_device": b"",
            "blkio.throttle.write_bps_device": b"",
            "blkio.throttle.read_iops_device": b"",
            "blkio.throttle.write_iops_device": b"",
        },
        "hugetlb": {"hugetlb.2MB.limit_in_bytes": b"max", "hugetlb.1GB.limit_in_bytes": b"max"},
    },
    2: {
        "cpu": {"cpu.idle": b"0", "cpu.max.burst": b"0"},
        "memory": {"memory.min": b"0", "memory.oom.group": b"0", "memory.zswap.max": b"max"},
        "io": {"io.max": b"", "io.weight": b"default 100"},
        "hugetlb": {"hugetlb.2MB.max": b"max", "hugetlb.1GB.max": b"max"},
    },
}
DEVICES = "devices.list"


@_remembered
def parse_lines(data: bytes) -> tuple[bytes, ...]:
    """A control file as its lines; v1's spelling of "no limit" becomes ``max``."""
    lines = tuple(line for line in data.split(b"\n") if line)
    if len(lines) == 1 and lines[0].isdigit() and len(lines[0]) <= 20 and int(lines[0]) >= _V1_UNLIMITED_ROUNDED:
        return (b"max",)
    return lines


def others_of(hierarchy: Hierarchy) -> dict[str, bytes | None]:
    """The files of :data:`OTHERS` in a cgroup of ``hierarchy``, with what says that nothing is set."""
    table = OTHERS[hierarchy.version]
    return {file: unset for controller in hierarchy.controllers for file, unset in table.get(controller, {}).items()}


def files_of(hierarchy: Hierarchy, *, usage: bool) -> dict[str, Callable[[bytes], object]]:
    """The control files to read in a cgroup of ``hierarchy``, with their parsers."""
    tables = (LIMITS, USAGE) if usage else (LIMITS,)
    files: dict[str, Callable[[bytes], object]] = {}
    for table in tables:
        for controller in ("", *hierarchy.controllers):
            files.update(table[hierarchy.version].get(controller, {}))
    return files
