"""The table of everything shown: one row for each fact, with its key, type, help and getter.

The JSON document, its JSON Schema and the reference page are made from these rows; a fact is added here once.  Keys
are dotted paths into the document.  Getters give bytes for text that a container chose and ``"max"`` for no limit; a
view makes both fit to be seen.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Generic, TypeVar

from nsinspect import capabilities, namespaces, shares
from nsinspect.cgroupfs import CpuList, Pressure, format_cpu_list
from nsinspect.declarations import Pod
from nsinspect.drift import Drift
from nsinspect.locate import Located
from nsinspect.model import Container, Host, Namespace
from nsinspect.procfs import IdMapLine
from nsinspect.security import Outlier

T = TypeVar("T")
Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
PATH: Schema = {"type": "string", "pattern": "^/"}
TEXTS: Schema = {"type": "array", "items": TEXT}
PIDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}}
LIMIT: Schema = {"anyOf": [COUNT, {"const": "max"}]}
CORES: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "max"}]}
CPU_LIST: Schema = {"type": "string", "pattern": r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$"}


def exactly(**properties: Schema) -> Schema:
    """An object that has these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def listed(item: Schema) -> Schema:
    """An array of one type."""
    return {"type": "array", "items": item}


def mapping(value: Schema) -> Schema:
    """An object with keys nobody can list beforehand."""
    return {"type": "object", "additionalProperties": value}


def nullable(schema: Schema) -> Schema:
    """The same, or ``null`` for unknown."""
    return {"anyOf": [schema, {"type": "null"}]}


CAPABILITY_SET = exactly(mask={"type": "string", "pattern": "^0x[0-9a-f]{16}$"}, names=TEXTS)
NAMESPACE = exactly(inode=COUNT, host=nullable(FLAG), shared_with=TEXTS)
KIND: Schema = {"enum": ["container", "pause", "isolate"]}
POD = exactly(**{key: nullable(TEXT) for key in Pod._fields})
EVIDENCE = listed(exactly(says=TEXT, what=TEXT))
ID_MAP = listed(exactly(inside=COUNT, outside=COUNT, count=COUNT))


DECLARED = exactly(
    source=TEXT,
    limits=exactly(
        cpu=exactly(cores=nullable(CORES), shares=nullable(COUNT), cpuset=nullable(CPU_LIST)),
        memory=exactly(max_bytes=nullable(LIMIT), swap_max_bytes=nullable(LIMIT), reservation_bytes=nullable(COUNT)),
        pids=exactly(max=nullable(LIMIT)),
    ),
    capabilities=exactly(bounding=nullable(CAPABILITY_SET)),
    security=exactly(
        privileged=nullable(FLAG),
        seccomp=nullable(TEXT),
        no_new_privs=nullable(FLAG),
        read_only_rootfs=nullable(FLAG),
    ),
    namespaces=mapping(TEXT),
    uid=nullable(COUNT),
)


@dataclass(frozen=True)
class Field(Generic[T]):
    """One fact about a ``T``.  ``always`` is true where the value is never unknown."""

    key: str
    schema: Schema
    help: str
    get: Callable[[T], Any]
    always: bool = False


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _names(mask: int | None) -> list[str] | None:
    return None if mask is None else list(capabilities.names(mask))


def _set(mask: int | None) -> dict[str, object] | None:
    return None if mask is None else {"mask": f"0x{mask:016x}", "names": _names(mask)}


def _outlier(outlier: Outlier) -> dict[str, object]:
    return {
        "pid": outlier.pid,
        "comm": outlier.comm,
        "extra": _names(outlier.extra),
        "missing": _names(outlier.missing),
        "bounding_extra": _names(outlier.bounding_extra),
    }


def _namespace(namespace: Namespace | None) -> dict[str, object] | None:
    if namespace is None:
        return None
    return {"inode": namespace.inode, "host": namespace.host, "shared_with": list(namespace.shared_with)}


def _pairs(evidence: tuple[tuple[str, str], ...]) -> list[dict[str, str]]:
    return [{"says": says, "what": what} for says, what in evidence]


def _id_map(lines: tuple[IdMapLine, ...] | None) -> list[dict[str, int]] | None:
    return (
        None
        if lines is None
        else [{"inside": line.inside, "outside": line.outside, "count": line.length} for line in lines]
    )


def _cpus(cpus: CpuList | None) -> str | None:
    return None if cpus is None else format_cpu_list(cpus)


def _declared(container: Container) -> dict[str, object] | None:
    wanted = container.declared
    if wanted is None:
        return None
    return {
        "source": container.declared_source,
        "limits": {
            "cpu": {"cores": wanted.cores, "shares": wanted.shares, "cpuset": _cpus(wanted.cpuset)},
            "memory": {
                "max_bytes": wanted.memory_max,
                "swap_max_bytes": wanted.swap_max,
                "reservation_bytes": wanted.reservation,
            },
            "pids": {"max": wanted.pids},
        },
        "capabilities": {"bounding": _set(wanted.bounding)},
        "security": {
            "privileged": wanted.privileged,
            "seccomp": None if wanted.seccomp is None else "filter" if wanted.seccomp else "disabled",
            "no_new_privs": wanted.no_new_privs,
            "read_only_rootfs": wanted.read_only_rootfs,
        },
        "namespaces": dict(wanted.namespaces),
        "uid": wanted.uid,
    }


def _drift(one: Drift) -> dict[str, object]:
    return {
        "field": one.field,
        "declared": one.declared,
        "enforced": one.enforced,
        "tolerance": one.tolerance,
        "where": one.where,
    }


def _pressure(pressure: Pressure | None) -> dict[str, float | None] | None:
    if pressure is None:
        return None
    full = pressure.full_us
    return {"some_seconds": pressure.some_us / 1e6, "full_seconds": None if full is None else full / 1e6}


HOST: tuple[Field[Host], ...] = (
    Field("hostname", TEXT, "/proc/sys/kernel/hostname", lambda h: h.hostname),
    Field("boot_id", TEXT, "/proc/sys/kernel/random/boot_id", lambda h: h.boot_id),
    Field("kernel", TEXT, "/proc/sys/kernel/osrelease", lambda h: h.kernel),
    Field(
        "cgroup", {"enum": ["v1", "v2", "hybrid"]}, "which cgroup versions hold controllers", lambda h: h.cgroup, True
    ),
    Field("cpus_online", COUNT, "how many CPUs are online", lambda h: h.cpus_online),
    Field("memory_bytes", COUNT, "MemTotal of /proc/meminfo", lambda h: h.memory_bytes),
    Field("cap_last_cap", COUNT, "the highest capability this kernel knows", lambda h: h.cap_last_cap),
)

PROCESS: tuple[Field[Located], ...] = (
    Field("pid", COUNT, "its host pid", lambda p: p.process.pid, True),
    Field("comm", TEXT, "its command name, which it chooses itself", lambda p: p.process.comm, True),
    Field(
        "container",
        TEXT,
        "id of the innermost container; null: the host",
        lambda p: p.container and p.container.id,
    ),
    Field("name", TEXT, "that container's name", lambda p: p.container and p.container.name),
    Field("kind", KIND, "what that container is", lambda p: p.container and p.container.kind),
    Field("runtime", TEXT, "that container's engine", lambda p: p.container and p.container.runtime),
    Field("pod", POD, "that container's pod", lambda p: p.container and p.container.pod and p.container.pod._asdict()),
    Field("parent", TEXT, "id of the container around that one", lambda p: p.container and p.container.parent),
    *(
        Field[Located](
            f"namespaces.{kind}",
            NAMESPACE,
            f"its {kind} namespace, whether it is the host's, and which containers have it",
            lambda p, kind=kind: _namespace(p.namespaces[kind]),  # type: ignore[misc]
        )
        for kind in namespaces.TYPES
    ),
    Field("evidence", EVIDENCE, "what says so, and what it says", lambda p: _pairs(p.evidence), True),
)

CONTAINER: tuple[Field[Container], ...] = (
    Field("id", TEXT, "the engine's full id", lambda c: c.id, True),
    Field("name", TEXT, "the name a person gave, from the engine's state files", lambda c: c.name),
    Field("kind", KIND, "what it is", lambda c: c.kind, True),
    Field("runtime", TEXT, "the engine, from the cgroup's name", lambda c: c.runtime, True),
    Field("image", TEXT, "image as it was asked for", lambda c: c.image),
    Field("labels", mapping(TEXT), "labels given to it", lambda c: None if c.labels is None else dict(c.labels)),
    Field("created_at", TIME, "when the engine created it", lambda c: c.created_at),
    Field(
        "pod",
        POD,
        "its Kubernetes or podman pod",
        lambda c: c.pod and c.pod._asdict(),
    ),
    Field("parent", TEXT, "id of the container it runs inside", lambda c: c.parent),
    Field(
        "evidence",
        EVIDENCE,
        "how we know: what the cgroup path, a state file or an ancestor says",
        lambda c: _pairs(c.evidence),
        True,
    ),
    Field("cgroup.path", PATH, "its cgroup: on v2, else in v1's memory hierarchy", lambda c: c.cgroup_path, True),
    Field(
        "cgroup.version",
        {"enum": [1, 2]},
        "version of the hierarchy that limits its memory",
        lambda c: c.cgroup_version,
        True,
    ),
    Field(
        "cgroup.paths",
        mapping(PATH),
        "its cgroup by controller; '' is the v2 hierarchy",
        lambda c: c.cgroup_paths,
        True,
    ),
    Field("init.pid", COUNT, "host pid of its first process", lambda c: c.init.pid, True),
    Field("init.ns_pid", COUNT, "the pid it has inside", lambda c: c.init.ns_pid),
    Field("init.started_at", TIME, "when it started", lambda c: timestamp(c.init.started_at)),
    Field("init.uid", COUNT, "effective uid, as the host counts", lambda c: c.init.uid),
    Field("init.user", TEXT, "the host's name for that uid", lambda _: None),
    Field("init.comm", TEXT, "its command name, which the container chooses", lambda c: c.init.comm, True),
    Field("pids", PIDS, "host pids of the cgroup's whole subtree, ascending", lambda c: list(c.pids), True),
    *(
        Field[Container](
            f"namespaces.{kind}",
            NAMESPACE,
            f"init's {kind} namespace, whether it is the host's, and which containers share it",
            lambda c, kind=kind: _namespace(c.namespaces[kind]),  # type: ignore[misc]
        )
        for kind in namespaces.TYPES
    ),
    *(
        Field[Container](
            f"capabilities.{name}",
            CAPABILITY_SET,
            f"init's {name} set",
            lambda c, name=name: _set(getattr(c.capabilities, name)),  # type: ignore[misc]
        )
        for name in ("effective", "permitted", "inheritable", "bounding", "ambient")
    ),
    Field(
        "capabilities.added",
        TEXTS,
        "in init's bounding set, not in the engine's default",
        lambda c: _names(c.capabilities.added),
    ),
    Field(
        "capabilities.dropped",
        TEXTS,
        "in the engine's default, not in init's bounding set",
        lambda c: _names(c.capabilities.dropped),
    ),
    Field(
        "capabilities.outliers",
        listed(exactly(pid=COUNT, comm=TEXT, extra=TEXTS, missing=TEXTS, bounding_extra=TEXTS)),
        "processes whose effective and permitted, or bounding, capabilities are not init's",
        lambda c: [_outlier(o) for o in c.capabilities.outliers],
        True,
    ),
    Field("security.privileged", FLAG, "whether nothing confines it", lambda c: c.security.privileged),
    Field(
        "security.privileged_why", TEXTS, "the facts that decide that", lambda c: list(c.security.privileged_why), True
    ),
    Field("security.seccomp", TEXT, "disabled, strict or filter", lambda c: c.security.seccomp),
    Field("security.no_new_privs", FLAG, "whether exec can never gain privileges", lambda c: c.security.no_new_privs),
    Field("security.lsm_label", TEXT, "AppArmor profile or SELinux context", lambda c: c.security.lsm_label),
    Field(
        "security.user_namespace.host",
        FLAG,
        "whether root inside is root outside",
        lambda c: c.security.host_user_namespace,
    ),
    Field("security.user_namespace.uid_map", ID_MAP, "uids inside and outside", lambda c: _id_map(c.security.uid_map)),
    Field("security.user_namespace.gid_map", ID_MAP, "gids inside and outside", lambda c: _id_map(c.security.gid_map)),
    Field("security.read_only_rootfs", FLAG, "whether / is mounted read-only", lambda c: c.security.read_only_rootfs),
    Field("limits.cpu.own.cores", CORES, "quota / period", lambda c: c.limits.cpu.cores),
    Field("limits.cpu.own.quota_us", LIMIT, "cpu.max, cpu.cfs_quota_us", lambda c: c.limits.cpu.quota_us),
    Field("limits.cpu.own.period_us", COUNT, "cpu.max, cpu.cfs_period_us", lambda c: c.limits.cpu.period_us),
    Field("limits.cpu.own.cpuset", CPU_LIST, "cpuset.cpus; '' is as the parent", lambda c: _cpus(c.limits.cpu.cpuset)),
    Field("limits.cpu.own.shares", COUNT, "cpu.shares (v1)", lambda c: c.limits.cpu.shares),
    Field("limits.cpu.own.weight", COUNT, "cpu.weight (v2)", lambda c: c.limits.cpu.weight),
    Field(
        "limits.cpu.effective.cores",
        CORES,
        "smallest of every quota above, the cpuset and the CPUs online",
        lambda c: c.limits.effective_cpu.cores,
    ),
    Field(
        "limits.cpu.effective.cpuset",
        CPU_LIST,
        "cpuset.cpus.effective, cpuset.effective_cpus",
        lambda c: _cpus(c.limits.effective_cpu.cpuset),
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
    *(
        row
        for name, attribute, prefix in (
            ("max_bytes", "max", ""),
            ("swap_max_bytes", "swap_max", "swap_"),
            ("reservation_bytes", "reservation", "reservation_"),
            ("high_bytes", "high", "high_"),
        )
        for row in (
            Field[Container](
                f"limits.memory.effective.{name}",
                LIMIT,
                f"the tightest {name} of the container and all its ancestors",
                lambda c, attribute=attribute: getattr(c.limits.effective_memory, attribute).value,  # type: ignore[misc]
            ),
            Field[Container](
                f"limits.memory.effective.{prefix}imposed_by",
                PATH,
                f"the cgroup whose {name} that is",
                lambda c, attribute=attribute: getattr(c.limits.effective_memory, attribute).imposed_by,  # type: ignore[misc]
            ),
        )
    ),
    Field("limits.pids.own.max", LIMIT, "pids.max", lambda c: c.limits.pids),
    Field(
        "limits.pids.effective.max",
        LIMIT,
        "the tightest pids.max of the container and all its ancestors",
        lambda c: c.limits.effective_pids.value,
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
    Field("usage.cpu_seconds", SECONDS, "cpu.stat usage_usec, cpuacct.usage", lambda c: c.usage.cpu_seconds),
    Field(
        "usage.cpu_throttled_seconds",
        SECONDS,
        "cpu.stat throttled_usec, throttled_time",
        lambda c: c.usage.cpu_throttled_seconds,
    ),
    Field("usage.cpu_throttled_periods", COUNT, "cpu.stat nr_throttled", lambda c: c.usage.cpu_throttled_periods),
    Field("usage.cpu_periods", COUNT, "cpu.stat nr_periods", lambda c: c.usage.cpu_periods),
    Field("usage.memory_bytes", COUNT, "memory.current, memory.usage_in_bytes", lambda c: c.usage.memory_bytes),
    Field(
        "usage.memory_working_set_bytes",
        COUNT,
        "memory without inactive page cache",
        lambda c: c.usage.memory_working_set_bytes,
    ),
    Field("usage.swap_bytes", COUNT, "memory.swap.current, memsw - memory on v1", lambda c: c.usage.swap_bytes),
    Field("usage.oom_kills", COUNT, "memory.events oom_kill, memory.oom_control oom_kill", lambda c: c.usage.oom_kills),
    Field(
        "usage.oom_kills_local",
        COUNT,
        "memory.events.local oom_kill: its own cgroup alone",
        lambda c: c.usage.oom_kills_local,
    ),
    Field("usage.pids", COUNT, "pids.current: processes and threads", lambda c: c.usage.pids),
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
            c.usage.pressure and {name: _pressure(c.usage.pressure.get(name)) for name in ("cpu", "memory", "io")}
        ),
    ),
    Field("declared", DECLARED, "what the engine's state files asked for, its defaults included", _declared),
    Field(
        "drift",
        listed(exactly(field=TEXT, declared={}, enforced={}, tolerance=nullable(TEXT), where=nullable(PATH))),
        "where declared and enforced differ by more than the tolerance; null where nothing was declared",
        lambda c: None if c.drift is None else [_drift(one) for one in c.drift],
    ),
)
