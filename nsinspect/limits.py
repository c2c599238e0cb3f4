"""CPU, memory, swap and pids of a container: one meaning for v1 and v2.

*Own* is what the container's cgroup sets; *effective* is the tightest of it and every ancestor, with the cgroup that
imposes it.  Swap is swap alone (v1 counts memory and swap together); a reservation of 0 is none (v1 spells that as a
soft limit without end); ``"max"`` is no limit and ``None`` is unknown or not offered by this kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from nsinspect.cgroupfs import V1_UNLIMITED, Cgroup, ControlFiles, CpuList, Limit, Pressure
from nsinspect.declarations import Cores

T = TypeVar("T")


Levels = Sequence[Cgroup | None]
"""Cgroups of one hierarchy, innermost first; ``None`` where one could not be read."""


class Chain(NamedTuple):
    """A container's own cgroups in one hierarchy, innermost first (usually one), and all above them up to the root."""

    own: Levels = ()
    above: Levels = ()

    @property
    def levels(self) -> Levels:
        """All of them, innermost first."""
        return (*self.own, *self.above)

    @property
    def outermost(self) -> ControlFiles:
        """The files of the container's outermost own cgroup, whose counters cover its whole subtree."""
        return self.own[-1].files if self.own and self.own[-1] is not None else ControlFiles()


class OwnCpu(NamedTuple):
    """``cores`` is quota divided by period.  ``shares`` is v1's, ``weight`` v2's."""

    cores: Cores | None
    quota_us: Limit | None
    period_us: int | None
    cpuset: CpuList | None
    shares: int | None
    weight: int | None


class OwnMemory(NamedTuple):
    """Bytes.  ``high_bytes`` exists on v2 only."""

    max_bytes: Limit | None
    swap_max_bytes: Limit | None
    reservation_bytes: Limit | None
    high_bytes: Limit | None


class EffectiveCpu(NamedTuple):
    """``cores``: the smallest of every quota, the cpuset and the CPUs online; ``imposed_by`` is ``None`` for
    the last."""

    cores: float | None
    cpuset: CpuList | None
    imposed_by: bytes | None


class Bound(NamedTuple):
    """A limit and the cgroup that imposes it; ``None`` there when nothing does."""

    value: Limit | None
    imposed_by: bytes | None


class EffectiveMemory(NamedTuple):
    """The tightest of each."""

    max: Bound
    swap_max: Bound
    reservation: Bound
    high: Bound


class Limits(NamedTuple):
    """Everything that bounds one container."""

    cpu: OwnCpu
    memory: OwnMemory
    pids: Limit | None
    effective_cpu: EffectiveCpu
    effective_memory: EffectiveMemory
    effective_pids: Bound


class Usage(NamedTuple):
    """What a container has used, of its whole subtree.  The working set is memory without inactive page cache, as
    ``docker stats`` and the kubelet count it."""

    cpu_seconds: float | None
    cpu_throttled_seconds: float | None
    cpu_throttled_periods: int | None
    cpu_periods: int | None
    memory_bytes: int | None
    memory_working_set_bytes: int | None
    swap_bytes: int | None
    oom_kills: int | None
    oom_kills_local: int | None
    pids: int | None
    pressure: dict[str, Pressure] | None


def limits(
    cpu: Chain, cpuset: Chain, memory: Chain, pids: Chain, *, cpus_online: CpuList | None, host_memory: int | None
) -> Limits:
    """Limits from the chains of cgroups that govern a container, one chain for each controller, and from what the
    host has: a limit above it limits nothing more than the host does."""
    every_memory = memory.levels
    tightest_memory = tightest(every_memory, *_MEMORY)
    if isinstance(tightest_memory.value, int) and host_memory is not None and tightest_memory.value > host_memory:
        tightest_memory = Bound(value=host_memory, imposed_by=None)
    return Limits(
        cpu=_own_cpu(cpu, cpuset),
        memory=OwnMemory(
            max_bytes=tightest(memory.own, *_MEMORY).value,
            swap_max_bytes=tightest(memory.own, *_SWAP).value,
            reservation_bytes=_own_reservation(memory),
            high_bytes=tightest(memory.own, *_HIGH).value,
        ),
        pids=tightest(pids.own, *_PIDS).value,
        effective_cpu=_effective_cpu(cpu, cpuset, cpus_online),
        effective_memory=EffectiveMemory(
            max=tightest_memory,
            swap_max=tightest(every_memory, *_SWAP),
            reservation=_effective_reservation(memory),
            high=tightest(every_memory, *_HIGH),
        ),
        effective_pids=tightest(pids.levels, *_PIDS),
    )


def usage(cpu: Chain, cpuacct: Chain, memory: Chain, pids: Chain) -> Usage:
    """What a container's own cgroups have counted, of their whole subtrees."""
    time, stat = cpu.outermost, cpu.outermost.get("cpu.stat", {})
    space, space_stat = memory.outermost, memory.outermost.get("memory.stat", {})
    v2 = "usage_usec" in stat
    nanoseconds = cpuacct.outermost.get("cpuacct.usage")
    used = _first(space.get("memory.current"), space.get("memory.usage_in_bytes"))
    inactive = space_stat.get("inactive_file" if "memory.current" in space else "total_inactive_file")
    with_swap = space.get("memory.memsw.usage_in_bytes")
    swap = space.get("memory.swap.current")
    if swap is None and with_swap is not None and used is not None:
        swap = max(0, with_swap - used)
    waiting = (
        ("cpu", time.get("cpu.pressure")),
        ("memory", time.get("memory.pressure")),
        ("io", time.get("io.pressure")),
    )
    pressure = {resource: found for resource, found in waiting if found is not None}
    return Usage(
        cpu_seconds=stat["usage_usec"] / 1e6 if v2 else None if nanoseconds is None else nanoseconds / 1e9,
        cpu_throttled_seconds=_scaled(stat.get("throttled_usec"), 1e6)
        if v2
        else _scaled(stat.get("throttled_time"), 1e9),
        cpu_throttled_periods=stat.get("nr_throttled"),
        cpu_periods=stat.get("nr_periods"),
        memory_bytes=used,
        memory_working_set_bytes=None if used is None or inactive is None else max(0, used - inactive),
        swap_bytes=swap,
        oom_kills=_first(
            space.get("memory.events", {}).get("oom_kill"), space.get("memory.oom_control", {}).get("oom_kill")
        ),
        oom_kills_local=space.get("memory.events.local", {}).get("oom_kill"),
        pids=pids.outermost.get("pids.current"),
        pressure=pressure or None,
    )


def contradicted(memory: Chain, effective: Bound) -> str | None:
    """What v1's own account of the tightest memory limit says, where it is not ours."""
    stat = memory.own[0].files.get("memory.stat", {}) if memory.own and memory.own[0] is not None else {}
    told = stat.get("hierarchical_memory_limit")
    clamped = isinstance(effective.value, int) and effective.imposed_by is None
    if told is None or effective.value is None or clamped:
        return None
    kernels: Limit = "max" if told >= V1_UNLIMITED else told
    return None if kernels == effective.value else f"hierarchical_memory_limit {kernels}, not {effective.value}"


def tightest(levels: Levels, value_of: Callable[[ControlFiles], Limit | None], *names: str) -> Bound:
    """The smallest limit of several cgroups, innermost first, and who imposes it: of equals the outermost, because
    raising an inner one would change nothing.  A level whose files (``names``) could not be read could be the
    tightest, so then nothing is known."""
    best: Limit | None = None
    by: bytes | None = None
    for cgroup in levels:
        if cgroup is None:
            return _UNKNOWN
        path, _, _, files, unknown, _ = cgroup  # at once, because this is done some ten thousand times in a scrape
        if unknown and any(name in unknown for name in names):
            return _UNKNOWN
        value = value_of(files)
        if value is None:
            continue
        if value == "max":
            best = "max" if best is None else best
        elif best is None or best == "max" or value <= best:
            best, by = value, path
    return Bound(best, by)


_UNKNOWN = Bound(value=None, imposed_by=None)


def _own_reservation(memory: Chain) -> Limit | None:
    """The largest of the container's own cgroups: where there are two, one of them is where the engine put it."""
    found = [_reservation(cgroup.files) for cgroup in memory.own if cgroup is not None]
    known = [value for value in found if value is not None]
    return "max" if "max" in known else max((v for v in known if v != "max"), default=None)


def _effective_reservation(memory: Chain) -> Bound:
    """v2 protects no more than every ancestor is protected, the root excepted; v1's soft limit is the cgroup's own."""
    if any(cgroup is not None and "memory.low" in cgroup.files for cgroup in memory.own):
        bound = tightest(memory.levels, lambda files: files.get("memory.low"), "memory.low")
    else:
        bound = tightest(memory.own, _reservation, "memory.soft_limit_in_bytes")
    return bound if bound.value else Bound(value=bound.value, imposed_by=None)


_QUOTA_FILES = ("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us")
_CPUSET_FILES = ("cpuset.cpus.effective", "cpuset.effective_cpus")


def _readable(levels: Levels, names: tuple[str, ...]) -> list[Cgroup] | None:
    """The same levels, or ``None`` when one of them could hold something that could not be read."""
    found = [one for one in levels if one is not None and not (one.unknown and set(names) & set(one.unknown))]
    return found if len(found) == len(levels) else None


def _effective_cpu(cpu: Chain, cpuset: Chain, online: CpuList | None) -> EffectiveCpu:
    governing, sets = _readable(cpu.levels, _QUOTA_FILES), _readable(cpuset.levels, _CPUSET_FILES)
    allowed, narrowed_by = _effective_cpuset(sets or [])
    if governing is None or sets is None:
        return EffectiveCpu(cores=None, cpuset=allowed, imposed_by=None)
    candidates: list[tuple[float, bytes | None]] = []
    if online is not None:
        candidates.append((float(len(online)), None))
    if allowed is not None and narrowed_by is not None:
        candidates.append((float(len(allowed)), narrowed_by))
    # Outermost first: of equal quotas min() takes the one that would still hold if an inner one were raised.
    quotas = [
        (cores, cgroup.path) for cgroup in reversed(governing) if isinstance(cores := _cores(cgroup.files), float)
    ]
    cores, imposed_by = min([*candidates, *quotas], key=lambda found: found[0], default=(None, None))
    return EffectiveCpu(cores=cores, cpuset=allowed, imposed_by=imposed_by)


def _effective_cpuset(levels: list[Cgroup]) -> tuple[CpuList | None, bytes | None]:
    """The CPUs the kernel lets the container run on, and the outermost cgroup where they became so few."""
    allowed: CpuList | None = None
    by: bytes | None = None
    for cgroup in levels:
        here = _first(cgroup.files.get("cpuset.cpus.effective"), cgroup.files.get("cpuset.effective_cpus"))
        if here is None:
            continue
        if allowed is None:
            allowed = here
        if here != allowed:
            break
        # The root's set is the machine's; nothing is narrowed there.
        by = cgroup.path if cgroup.path != b"/" else None
    return allowed, by


def _own_cpu(cpu: Chain, cpuset: Chain) -> OwnCpu:
    """Of two own cgroups the one with the tighter quota speaks for both; the outermost competes with its neighbours."""
    levels = _readable(cpu.own, _QUOTA_FILES) or []
    known = [cgroup.files for cgroup in levels if _quota(cgroup.files)[0] is not None]
    files = min(known, key=lambda files: _as_number(_cores(files)), default=ControlFiles())
    quota, period = _quota(files)
    allowed = [cgroup.files.get("cpuset.cpus") for cgroup in cpuset.own if cgroup is not None]
    return OwnCpu(
        cores=_cores(files),
        quota_us=quota,
        period_us=period,
        cpuset=next((cpus for cpus in allowed if cpus), allowed[0] if allowed else None),
        shares=cpu.outermost.get("cpu.shares"),
        weight=cpu.outermost.get("cpu.weight"),
    )


def _as_number(cores: Cores | None) -> float:
    return float("inf") if cores is None or cores == "max" else cores


def _quota(files: ControlFiles) -> tuple[Limit | None, int | None]:
    return files.get("cpu.max") or (files.get("cpu.cfs_quota_us"), files.get("cpu.cfs_period_us"))


def _cores(files: ControlFiles) -> Cores | None:
    quota, period = _quota(files)
    if quota is None or period is None:
        return None
    return "max" if quota == "max" else quota / period


def _memory_max(files: ControlFiles) -> Limit | None:
    value = files.get("memory.max")
    return files.get("memory.limit_in_bytes") if value is None else value


def _swap_max(files: ControlFiles) -> Limit | None:
    if "memory.swap.max" in files:
        return files["memory.swap.max"]
    both, memory = files.get("memory.memsw.limit_in_bytes"), files.get("memory.limit_in_bytes")
    if both is None or memory is None:
        return None
    if both == "max":
        return "max"
    # The kernel keeps memory at or below memory+swap, so without a memory limit all of it may be swap.
    return both if memory == "max" else max(0, both - memory)


def _high(files: ControlFiles) -> Limit | None:
    return files.get("memory.high")


def _pids(files: ControlFiles) -> Limit | None:
    return files.get("pids.max")


def _reservation(files: ControlFiles) -> Limit | None:
    soft = files.get("memory.soft_limit_in_bytes")
    return _first(files.get("memory.low"), 0 if soft == "max" else soft)


def _first(one: T | None, other: T | None) -> T | None:
    return other if one is None else one


def _scaled(count: int | None, divisor: float) -> float | None:
    return None if count is None else count / divisor


# How each limit is read of one cgroup, and from which files: what tightest() takes.
_MEMORY = (_memory_max, "memory.max", "memory.limit_in_bytes")
_SWAP = (_swap_max, "memory.swap.max", "memory.memsw.limit_in_bytes", "memory.limit_in_bytes")
_HIGH = (_high, "memory.high")
_PIDS = (_pids, "pids.max")

NO_LIMITS = limits(Chain(), Chain(), Chain(), Chain(), cpus_online=None, host_memory=None)
NO_USAGE = usage(Chain(), Chain(), Chain(), Chain())
"""Of a container whose cgroups were not read: all unknown."""
