"""What becomes of a fact whose file is not as it should be: one table for the tests and for ``docs/faults.md``.

A kind of file is its path without what is one process', cgroup's or container's own (:func:`tests.faulty.kind_of`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

NONE, DENIED, UNREADABLE, MALFORMED, GONE, REFUSED, AS_IS = (
    "none",
    "denied",
    "unreadable",
    "malformed",
    "gone",
    "refused",
    "as it is",
)
OUTCOMES = {
    NONE: "the object has no such fact: `null`, no issue",
    DENIED: "`null`, and an issue of kind `denied`",
    UNREADABLE: "`null`, and an issue of kind `unreadable`",
    MALFORMED: "`null`, and an issue of kind `malformed`",
    GONE: "the process, the cgroup or the closer look at it is dropped and counted",
    REFUSED: "there is no host to look at: exit 6",
    AS_IS: "what the file holds is the answer: any text is one, or the part that is left is whole",
}

# What is tried, and what becomes of most files.
USUAL = {
    "missing": NONE,
    "EACCES": DENIED,
    "ESRCH": GONE,
    "ENODEV": GONE,
    "EOPNOTSUPP": NONE,
    "EIO": UNREADABLE,
    "empty": MALFORMED,
    "cut short": MALFORMED,
    "NUL bytes": MALFORMED,
    "no UTF-8": MALFORMED,
    "1 MB line": MALFORMED,
    "FIFO": MALFORMED,  # one that nobody writes to reads as empty
    "directory": UNREADABLE,
    "link to itself": UNREADABLE,
    "endless": UNREADABLE,
}
CUT = {"cut short": AS_IS}
EMPTY = {"empty": AS_IS, "FIFO": AS_IS}
TEXT = dict.fromkeys(("empty", "cut short", "NUL bytes", "no UTF-8", "1 MB line", "FIFO"), AS_IS)
# A link is asked where it leads and never opened.
NAMESPACE = {"FIFO": MALFORMED, "directory": MALFORMED, "link to itself": MALFORMED}
LINK = {**TEXT, **NAMESPACE, "link to itself": AS_IS}
# What says nothing of a process or cgroup: nobody counts the host as gone.
HOST = {"ESRCH": NONE, "ENODEV": NONE}
# An engine's file is opened another way, and must be a regular file.
STATE = {"ESRCH": UNREADABLE, "ENODEV": UNREADABLE, "EOPNOTSUPP": UNREADABLE, "FIFO": UNREADABLE}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Files of one meaning.  ``facts`` are keys of the container's document that depend on them, ``others`` keys of
    other containers' documents, ``host`` of the host; a key with ``=`` may get another value, any other one only
    becomes unknown.  ``unlike`` are outcomes that are not the usual ones, ``each`` those of single files.
    ``drops``: without it the process itself is not known; ``gone``: what goes with an object that went.
    """

    files: tuple[str, ...]
    facts: tuple[str, ...] = ()
    others: tuple[str, ...] = ()
    host: tuple[str, ...] = ()
    gone: tuple[str, ...] | None = None
    unlike: Mapping[str, str] = field(default_factory=dict)
    each: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    drops: frozenset[str] = frozenset()

    def outcome(self, file: str, fault: str) -> str:
        """What becomes of the fact."""
        return {**USUAL, **self.unlike, **self.each.get(file, {})}[fault]


def _own(*names: str) -> tuple[str, ...]:
    return tuple(f"cgroup/{name}" for name in names)


_CGROUP = ("limits.*", "usage.*", "security.device_rules", "drift=")
_OTHERS = _own(
    "blkio.throttle.read_bps_device", "blkio.throttle.read_iops_device", "blkio.throttle.write_bps_device",
    "blkio.throttle.write_iops_device", "cpu.cfs_burst_us", "cpu.idle", "cpu.max.burst", "cpu.rt_runtime_us",
    "hugetlb.1GB.limit_in_bytes", "hugetlb.1GB.max", "hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.max",
    "io.max", "io.weight", "memory.kmem.tcp.limit_in_bytes", "memory.min", "memory.oom.group", "memory.swappiness",
    "memory.zswap.max",
)  # fmt: skip
_ABOVE = ("limits.*.effective.*",)
_EVERY_FACT = ("*=",)
_CLOSER = ("security.*=", "mounts", "findings=")

TABLE = (
    # -- the host --------------------------------------------------------------------------------------------------
    Row(files=("proc/1/mountinfo",), unlike=dict.fromkeys(USUAL, REFUSED)),
    Row(files=("proc/stat",), facts=("init.started_at",), others=("init.started_at",), unlike=HOST),
    Row(files=("proc/meminfo",), host=("memory_bytes",), unlike={**HOST, **CUT}),
    Row(files=("proc/uptime",), unlike={**HOST, **CUT}),
    Row(files=("proc/sys/kernel/cap_last_cap",), facts=("capabilities.*=",), others=("capabilities.*=",),
        host=("cap_last_cap",), unlike={**HOST, **CUT}),
    Row(files=("proc/sys/kernel/hostname", "proc/sys/kernel/osrelease", "proc/sys/kernel/random/boot_id"),
        host=("hostname", "kernel", "boot_id"), unlike={**HOST, **TEXT}),
    Row(files=("sys/devices/system/cpu/online",), facts=("limits.cpu.effective.*=",),
        others=("limits.cpu.effective.*=",), host=("cpus_online",), unlike={**HOST, **CUT}),
    Row(files=("above/cgroup.controllers",), facts=("limits.*", "usage.*", "cgroup.*=", "drift="),
        others=("limits.*", "usage.*", "cgroup.*=", "drift="), unlike={**EMPTY, **CUT}),
    # -- processes -------------------------------------------------------------------------------------------------
    Row(files=("proc/PID/stat",), facts=_EVERY_FACT, unlike={"missing": MALFORMED, "EOPNOTSUPP": MALFORMED, **CUT},
        drops=frozenset(USUAL) - {"cut short"}),
    Row(files=("proc/PID/cgroup",), facts=_EVERY_FACT, drops=frozenset(("ESRCH", "ENODEV")),
        unlike={"missing": MALFORMED, "EOPNOTSUPP": MALFORMED, **CUT}),
    Row(files=("proc/PID/status",), facts=("init.ns_pid", "init.uid", "capabilities.*=", "security.*=", "findings="),
        gone=_EVERY_FACT, drops=frozenset(("ESRCH", "ENODEV"))),
    Row(files=tuple(f"proc/PID/ns/{name}" for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")),
        facts=("namespaces.*", "security.user_namespace.host", "network.*=", "findings="), gone=_EVERY_FACT,
        unlike=NAMESPACE, drops=frozenset(("ESRCH", "ENODEV"))),
    Row(files=("proc/PID/mountinfo",), facts=_CLOSER, unlike=EMPTY),
    Row(files=("proc/PID/uid_map", "proc/PID/gid_map"), facts=("security.user_namespace.*",), gone=_CLOSER,
        unlike=EMPTY),
    Row(files=("proc/PID/attr/current",), facts=("security.lsm_label", "security.privileged*=", "findings="),
        gone=_CLOSER, unlike=TEXT),
    Row(files=("proc/PID/exe",), facts=("findings=",), unlike=LINK),
    Row(files=("proc/PID/cwd",), facts=("declared", "drift="), unlike=LINK),
    Row(files=("proc/PID/fd/FD",), facts=("network.listening=",), unlike=LINK),
    Row(files=("proc/PID/net/dev",), facts=("network.interfaces",), gone=("network.*=",)),
    Row(files=("proc/PID/net/sockstat", "proc/PID/net/sockstat6"), gone=("network.*=",), unlike=CUT),
    Row(files=("proc/PID/net/tcp", "proc/PID/net/udp", "proc/PID/net/tcp6", "proc/PID/net/udp6"),
        facts=("network.listening=",), gone=("network.*=",)),
    Row(files=("proc/PID/task/TID/stat",), facts=("findings=",), unlike=CUT),
    Row(files=("proc/PID/task/TID/status",), facts=("findings=",)),
    Row(files=("proc/PID/task/TID/attr/current",), facts=("findings=",), unlike=TEXT),
    Row(files=tuple(
            f"proc/PID/task/TID/ns/{name}" for name in ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")),
        facts=("findings=",), unlike=NAMESPACE),
    # -- a container's cgroup --------------------------------------------------------------------------------------
    Row(files=_own("cpu.max", "cpu.cfs_quota_us", "cpu.cfs_period_us"), gone=_CGROUP,
        facts=("limits.cpu.own.*", "limits.cpu.effective.*", "drift="),
        each={"cgroup/cpu.cfs_period_us": CUT, "cgroup/cpu.cfs_quota_us": CUT}),
    Row(files=_own("cpu.weight", "cpu.shares"), facts=("limits.cpu.own.*", "drift="), gone=_CGROUP, unlike=CUT),
    Row(files=_own("cpuset.cpus"), facts=("limits.cpu.own.cpuset",), gone=_CGROUP, unlike=EMPTY),
    Row(files=_own("cpuset.cpus.effective", "cpuset.effective_cpus"), facts=("limits.cpu.effective.*",), gone=_CGROUP,
        unlike=EMPTY),
    Row(files=_own("memory.max", "memory.swap.max", "memory.high", "memory.low", "memory.limit_in_bytes",
                   "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes"),
        facts=("limits.memory.*", "drift="), gone=_CGROUP, unlike=CUT,
        each={"cgroup/memory.high": {"cut short": MALFORMED}}),
    Row(files=_own("pids.max"), facts=("limits.pids.*", "drift="), gone=_CGROUP, unlike=CUT),
    Row(files=_OTHERS, facts=("limits.others=",), gone=_CGROUP, unlike=TEXT),
    Row(files=_own("devices.list"), facts=("limits.others=", "security.device_rules="), gone=_CGROUP, unlike=TEXT),
    Row(files=_own("cpu.stat"), facts=("usage.cpu*",), gone=_CGROUP),
    Row(files=_own("cpuacct.usage"), facts=("usage.cpu_seconds",), gone=_CGROUP, unlike=CUT),
    Row(files=_own("cpu.pressure", "memory.pressure", "io.pressure"), facts=("usage.pressure.*",), gone=_CGROUP,
        unlike=CUT),
    Row(files=_own("memory.current", "memory.usage_in_bytes", "memory.memsw.usage_in_bytes", "memory.swap.current",
                   "memory.stat"),
        facts=("usage.memory*", "usage.swap_bytes"), gone=_CGROUP, unlike=CUT),
    Row(files=_own("memory.events", "memory.events.local", "memory.oom_control"), facts=("usage.oom_kills*",),
        gone=_CGROUP, unlike=CUT),
    Row(files=_own("pids.current"), facts=("usage.pids",), gone=_CGROUP, unlike=CUT),
    # -- the cgroups above -----------------------------------------------------------------------------------------
    Row(files=("above/cpu.max", "above/cpu.cfs_quota_us", "above/cpu.cfs_period_us"), gone=_ABOVE,
        facts=("limits.cpu.effective.*",), others=("limits.cpu.effective.*",),
        each={"above/cpu.cfs_period_us": CUT, "above/cpu.max": CUT}),
    Row(files=("above/cpuset.cpus.effective", "above/cpuset.effective_cpus"), gone=_ABOVE,
        facts=("limits.cpu.effective.*",), others=("limits.cpu.effective.*",), unlike=EMPTY),
    Row(files=tuple(f"above/{name}" for name in (
            "memory.max", "memory.swap.max", "memory.high", "memory.low", "memory.limit_in_bytes",
            "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes")), gone=_ABOVE,
        facts=("limits.memory.effective.*",), others=("limits.memory.effective.*",),
        each={f"above/{name}": CUT for name in (
            "memory.low", "memory.limit_in_bytes", "memory.memsw.limit_in_bytes", "memory.soft_limit_in_bytes")}),
    Row(files=("above/pids.max",), gone=_ABOVE, facts=("limits.pids.effective.*",),
        others=("limits.pids.effective.*",)),
    # -- engines' files --------------------------------------------------------------------------------------------
    Row(files=("run/crun/ID/status",), unlike=STATE),
    Row(files=("var/lib/containers/storage/vfs-containers/containers.json",),
        facts=("name", "image", "created_at", "evidence=", "declared", "drift="),
        others=("name", "image", "created_at", "evidence=", "declared", "drift="), unlike=STATE),
    Row(files=("var/lib/containers/storage/vfs-containers/ID/userdata/config.json",
               "var/lib/docker/data/containers/ID/hostconfig.json"), facts=("declared", "drift="), unlike=STATE),
    Row(files=("var/lib/docker/data/containers/ID/config.v2.json",),
        facts=("name", "image", "created_at", "labels", "pod", "evidence=", "declared", "drift="), unlike=STATE),
)  # fmt: skip
# Asked for, and in no host that is bundled; how their text is understood is tested with their engines.
NOT_THERE = (
    "var/lib/containers/storage/db.sql",
    "var/lib/containers/storage/overlay-containers/containers.json",
    "var/lib/containers/storage/overlay-containers/volatile-containers.json",
    "var/lib/docker/containers/ID/config.v2.json",
)


def row_of(file: str) -> Row:
    """The row of a kind of file."""
    (found,) = (row for row in TABLE if file in row.files)
    return found
