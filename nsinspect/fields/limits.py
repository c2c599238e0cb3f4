"""Rows about what limits one container, and what it uses."""

from __future__ import annotations

from nsinspect import shares
from nsinspect.cgroupfs import CpuList
from nsinspect.fields import shapes
from nsinspect.fields.row import Field, Metric, Samples
from nsinspect.fields.schema import CORES, COUNT, CPU_LIST, LIMIT, PATH, SECONDS, TEXT, TEXTS, exactly, listed, nullable
from nsinspect.limits import Bound
from nsinspect.model import Container


def _count(cpus: CpuList | None) -> int | None:
    return None if cpus is None else len(cpus)


def _stalls(container: Container, kind: str) -> Samples:
    for resource, pressure in (container.usage.pressure or {}).items():
        total = getattr(pressure, kind)
        yield (resource,), None if total is None else total / 1e6


def _tightest(name: str, attribute: str, prefix: str, metric: str, files: str) -> tuple[Field[Container], ...]:
    """A limit of memory and the cgroup that imposes it."""

    def bound(container: Container) -> Bound:
        found: Bound = getattr(container.limits.effective_memory, attribute)
        return found

    return (
        Field(
            f"limits.memory.effective.{name}",
            LIMIT,
            f"the tightest {name} of the container and all its ancestors",
            lambda c: bound(c).value,
            metrics=(
                Metric(
                    f"container_memory_{metric}_bytes",
                    f"effective: the tightest {files} of it and all its ancestors",
                ),
            ),
        ),
        Field(
            f"limits.memory.effective.{prefix}imposed_by",
            PATH,
            f"the cgroup whose {name} that is",
            lambda c: bound(c).imposed_by,
        ),
    )


LIMITS: tuple[Field[Container], ...] = (
    Field("limits.cpu.own.cores", CORES, "quota / period", lambda c: c.limits.cpu.cores),
    Field("limits.cpu.own.quota_us", LIMIT, "cpu.max, cpu.cfs_quota_us", lambda c: c.limits.cpu.quota_us),
    Field("limits.cpu.own.period_us", COUNT, "cpu.max, cpu.cfs_period_us", lambda c: c.limits.cpu.period_us),
    Field(
        "limits.cpu.own.cpuset",
        CPU_LIST,
        "cpuset.cpus; '' is as the parent",
        lambda c: shapes.cpu_list(c.limits.cpu.cpuset),
    ),
    Field(
        "limits.cpu.own.shares",
        COUNT,
        "cpu.shares (v1)",
        lambda c: c.limits.cpu.shares,
        metrics=(Metric("container_cpu_shares", "cpu.shares of its own cgroup (v1)"),),
    ),
    Field(
        "limits.cpu.own.weight",
        COUNT,
        "cpu.weight (v2)",
        lambda c: c.limits.cpu.weight,
        metrics=(Metric("container_cpu_weight", "cpu.weight of its own cgroup (v2)"),),
    ),
    Field(
        "limits.cpu.effective.cores",
        CORES,
        "smallest of every quota above, the cpuset and the CPUs online",
        lambda c: c.limits.effective_cpu.cores,
        metrics=(
            Metric(
                "container_cpu_limit_cores",
                "effective CPU limit: the smallest of every quota above, the cpuset and the CPUs online",
            ),
        ),
    ),
    Field(
        "limits.cpu.effective.cpuset",
        CPU_LIST,
        "cpuset.cpus.effective, cpuset.effective_cpus",
        lambda c: shapes.cpu_list(c.limits.effective_cpu.cpuset),
        metrics=(
            Metric(
                "container_cpuset_cpus",
                "how many CPUs it may run on: cpuset.cpus.effective, cpuset.effective_cpus",
                samples=lambda c: [((), _count(c.limits.effective_cpu.cpuset))],
            ),
        ),
    ),
    Field(
        "limits.cpu.effective.imposed_by",
        PATH,
        "the cgroup whose limit that is; null: the host's CPUs",
        lambda c: c.limits.effective_cpu.imposed_by,
    ),
    Field(
        "limits.memory.own.max_bytes", LIMIT, "memory.max, memory.limit_in_bytes", lambda c: c.limits.memory.max_bytes
    ),
    Field(
        "limits.memory.own.swap_max_bytes",
        LIMIT,
        "swap alone: memory.swap.max, memsw - memory on v1",
        lambda c: c.limits.memory.swap_max_bytes,
    ),
    Field(
        "limits.memory.own.reservation_bytes",
        LIMIT,
        "memory.low, memory.soft_limit_in_bytes; 0 is none",
        lambda c: c.limits.memory.reservation_bytes,
    ),
    Field("limits.memory.own.high_bytes", LIMIT, "memory.high (v2)", lambda c: c.limits.memory.high_bytes),
    *_tightest("max_bytes", "max", "", "limit", "memory.max, memory.limit_in_bytes"),
    *_tightest(
        "swap_max_bytes",
        "swap_max",
        "swap_",
        "swap_limit",
        "limit of swap alone (memory.swap.max; memsw - memory on v1)",
    ),
    *_tightest(
        "reservation_bytes",
        "reservation",
        "reservation_",
        "reservation",
        "memory.low, memory.soft_limit_in_bytes",
    ),
    *_tightest("high_bytes", "high", "high_", "high", "memory.high"),
    Field("limits.pids.own.max", LIMIT, "pids.max", lambda c: c.limits.pids),
    Field(
        "limits.pids.effective.max",
        LIMIT,
        "the tightest pids.max of the container and all its ancestors",
        lambda c: c.limits.effective_pids.value,
        metrics=(
            Metric(
                "container_pids_limit",
                "effective limit of processes and threads: the tightest pids.max of it and all its ancestors",
            ),
        ),
    ),
    Field(
        "limits.pids.effective.imposed_by",
        PATH,
        "the cgroup whose pids.max that is",
        lambda c: c.limits.effective_pids.imposed_by,
    ),
    Field(
        "limits.cpu.own.weight_as_shares",
        exactly(**{name: nullable(listed(COUNT)) for name in shares.FORMULAS}),
        "which shares give that weight, by formula: smallest and largest",
        lambda c: None if c.limits.cpu.weight is None else shares.shares_meant(c.limits.cpu.weight),
    ),
    Field(
        "limits.cpu.own.shares_as_weight",
        exactly(**dict.fromkeys(shares.FORMULAS, COUNT)),
        "which weight these shares would give, by formula",
        lambda c: None if c.limits.cpu.shares is None else shares.weights_of(c.limits.cpu.shares),
    ),
    Field(
        "limits.others",
        listed(exactly(file=TEXT, lines=TEXTS)),
        "other control files of its cgroup that are set, as they are: cpu.idle, io.max, memory.oom.group, ...",
        lambda c: [{"file": file, "lines": list(lines)} for file, lines in c.others],
        True,
    ),
    Field(
        "security.device_rules",
        TEXTS,
        "devices.list (v1); null on v2, where rules are BPF programs that cannot be read",
        lambda c: None if c.device_rules is None else list(c.device_rules),
    ),
)

USAGE: tuple[Field[Container], ...] = (
    Field(
        "usage.cpu_seconds",
        SECONDS,
        "cpu.stat usage_usec, cpuacct.usage",
        lambda c: c.usage.cpu_seconds,
        metrics=(Metric("container_cpu_usage_seconds_total"),),
    ),
    Field(
        "usage.cpu_throttled_seconds",
        SECONDS,
        "cpu.stat throttled_usec, throttled_time",
        lambda c: c.usage.cpu_throttled_seconds,
        metrics=(Metric("container_cpu_throttled_seconds_total"),),
    ),
    Field(
        "usage.cpu_throttled_periods",
        COUNT,
        "cpu.stat nr_throttled",
        lambda c: c.usage.cpu_throttled_periods,
        metrics=(Metric("container_cpu_throttled_periods_total"),),
    ),
    Field(
        "usage.cpu_periods",
        COUNT,
        "cpu.stat nr_periods",
        lambda c: c.usage.cpu_periods,
        metrics=(Metric("container_cpu_periods_total"),),
    ),
    Field(
        "usage.memory_bytes",
        COUNT,
        "memory.current, memory.usage_in_bytes",
        lambda c: c.usage.memory_bytes,
        metrics=(Metric("container_memory_usage_bytes"),),
    ),
    Field(
        "usage.memory_working_set_bytes",
        COUNT,
        "memory without inactive page cache",
        lambda c: c.usage.memory_working_set_bytes,
        metrics=(Metric("container_memory_working_set_bytes"),),
    ),
    Field(
        "usage.swap_bytes",
        COUNT,
        "memory.swap.current, memsw - memory on v1",
        lambda c: c.usage.swap_bytes,
        metrics=(Metric("container_memory_swap_usage_bytes"),),
    ),
    Field(
        "usage.oom_kills",
        COUNT,
        "memory.events oom_kill, memory.oom_control oom_kill",
        lambda c: c.usage.oom_kills,
        metrics=(Metric("container_memory_oom_kills_total"),),
    ),
    Field(
        "usage.oom_kills_local",
        COUNT,
        "memory.events.local oom_kill: its own cgroup alone",
        lambda c: c.usage.oom_kills_local,
    ),
    Field(
        "usage.pids",
        COUNT,
        "pids.current: processes and threads",
        lambda c: c.usage.pids,
        metrics=(Metric("container_pids"),),
    ),
    Field(
        "usage.pressure",
        exactly(
            **{
                name: nullable(exactly(some_seconds=SECONDS, full_seconds=nullable(SECONDS)))
                for name in ("cpu", "memory", "io")
            }
        ),
        "cpu.pressure, memory.pressure, io.pressure; null where the kernel has none",
        lambda c: (
            c.usage.pressure and {name: shapes.pressure(c.usage.pressure.get(name)) for name in ("cpu", "memory", "io")}
        ),
        metrics=(
            Metric(
                "container_pressure_waiting_seconds_total",
                "some: time in which at least one task stalled, from cpu.pressure, memory.pressure, io.pressure",
                ("resource",),
                lambda c: _stalls(c, "some_us"),
            ),
            Metric(
                "container_pressure_stalled_seconds_total",
                "full: time in which all tasks stalled at once",
                ("resource",),
                lambda c: _stalls(c, "full_us"),
            ),
        ),
    ),
)
