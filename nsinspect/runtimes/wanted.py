"""What was asked for, from the two files that say so: an OCI bundle's ``config.json`` and Docker's ``hostconfig.json``.

See the OCI runtime specification (config.md, config-linux.md) and Docker's API (HostConfig).
"""

from __future__ import annotations

from nsinspect import shares
from nsinspect.capabilities import MOBY_DEFAULT, OLDEST_FULL_SET, mask_of
from nsinspect.cgroupfs import CpuList, Limit, parse_cpu_list
from nsinspect.declarations import Cores, Wanted
from nsinspect.errors import Malformed
from nsinspect.runtimes.oci import natural, number, section

# The names of namespaces in an OCI bundle that are not those of /proc/<pid>/ns.
_OCI_TYPES = {"network": "net", "mount": "mnt"}
_TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "user", "uts")
_DEFAULT_PERIOD = 100_000
_MOST_CPUS = 1 << 16


def from_oci(spec: dict[str, object]) -> Wanted:
    """What the ``config.json`` of a bundle asks for."""
    cpu = section(spec, "linux", "resources", "cpu")
    memory = section(spec, "linux", "resources", "memory")
    process = section(spec, "process")
    bounding = section(process, "capabilities").get("bounding")
    seccomp = section(spec, "linux").get("seccomp")
    unconfined = not seccomp or section(spec, "linux", "seccomp").get("defaultAction") == "SCMP_ACT_ALLOW"
    return Wanted(
        cores=_cores(number(cpu.get("quota")), number(cpu.get("period"))),
        shares=natural(cpu.get("shares")) or shares.DEFAULT,
        cpuset=_cpus(cpu.get("cpus")),
        memory_max=_limit(memory.get("limit")),
        swap_max=_swap(number(memory.get("limit")), number(memory.get("swap"))),
        reservation=max(0, number(memory.get("reservation")) or 0),
        pids=_limit(section(spec, "linux", "resources", "pids").get("limit")),
        bounding=_mask(bounding if bounding is not None else []),
        namespaces=_oci_namespaces(section(spec, "linux").get("namespaces")),
        seccomp=not unconfined,
        no_new_privs=process.get("noNewPrivileges") is True,
        read_only_rootfs=section(spec, "root").get("readonly") is True,
        uid=natural(section(process, "user").get("uid")),
    )


def from_docker(host: dict[str, object], config: dict[str, object]) -> Wanted:
    """What ``docker run`` was told, from ``hostconfig.json`` and the ``Config`` of ``config.v2.json``."""
    nano, memory = number(host.get("NanoCpus")) or 0, number(host.get("Memory")) or 0
    quota = nano * _DEFAULT_PERIOD // 10**9 if nano else number(host.get("CpuQuota"))
    total = number(host.get("MemorySwap")) or 0
    privileged = host.get("Privileged") is True
    options = host.get("SecurityOpt")
    words = (
        [word.replace(":", "=", 1) for word in options if isinstance(word, str)] if isinstance(options, list) else []
    )
    return Wanted(
        cores=_cores(quota, number(host.get("CpuPeriod")) or _DEFAULT_PERIOD),
        shares=natural(host.get("CpuShares")) or shares.DEFAULT,
        cpuset=_cpus(host.get("CpusetCpus")),
        memory_max=_limit(memory),
        # Docker's own rule: without --memory-swap as much swap as memory.
        swap_max=_swap(memory, total if total or not memory else 2 * memory),
        reservation=max(0, number(host.get("MemoryReservation")) or 0),
        pids=_limit(host.get("PidsLimit")),
        bounding=OLDEST_FULL_SET if privileged else _docker_mask(host.get("CapAdd"), host.get("CapDrop")),
        namespaces=_docker_namespaces(host),
        privileged=privileged,
        seccomp=not (privileged or "seccomp=unconfined" in words),
        no_new_privs=any(word in ("no-new-privileges", "no-new-privileges=true") for word in words),
        read_only_rootfs=host.get("ReadonlyRootfs") is True,
        uid=_uid(config.get("User")),
    )


def _cores(quota: int | None, period: int | None) -> Cores | None:
    """``None`` for what no kernel would take, a period below zero or more CPUs than there can be."""
    if not quota or quota < 0:
        return "max"
    cores = quota / (period or _DEFAULT_PERIOD)
    return cores if 0 < cores <= _MOST_CPUS else None


def _limit(value: object) -> Limit:
    found = number(value)
    return "max" if found is None or found <= 0 else found


def _swap(memory: int | None, total: int | None) -> Limit:
    """Swap alone, from memory and memory and swap together."""
    if not total or total < 0 or not memory or memory < 0:
        return "max"
    return max(0, total - memory)


def _cpus(value: object) -> CpuList | None:
    """CPUs asked for; ``None`` for "as the parent"."""
    if not isinstance(value, str) or not value:
        return None
    try:
        return parse_cpu_list(value.encode("utf-8", "replace"))
    except Malformed:
        return None


def _mask(names: object) -> int | None:
    if not isinstance(names, list):
        return None
    try:
        return mask_of(name for name in names if isinstance(name, str))
    except ValueError:  # a name newer than this table
        return None


def _docker_mask(add: object, drop: object) -> int | None:
    added, dropped = _names(add), _names(drop)
    base = 0 if "ALL" in dropped else OLDEST_FULL_SET if "ALL" in added else MOBY_DEFAULT
    plus, minus = _mask([n for n in added if n != "ALL"]), _mask([n for n in dropped if n != "ALL"])
    return None if plus is None or minus is None else (base | plus) & ~minus


def _names(value: object) -> list[str]:
    found = value if isinstance(value, list) else []
    return [name.upper().removeprefix("CAP_") for name in found if isinstance(name, str)]


def _oci_namespaces(value: object) -> tuple[tuple[str, str], ...]:
    """Types that are listed are private, or joined by path; those that are not are the parent's, which for an engine of
    a person who is not root is a user namespace already: nothing was said of that one."""
    listed: dict[str, str] = {}
    for entry in value if isinstance(value, list) else ():
        kind = entry.get("type") if isinstance(entry, dict) else None
        if isinstance(kind, str):
            listed[_OCI_TYPES.get(kind, kind)] = "joined" if entry.get("path") else "private"
    return tuple((kind, listed.get(kind, "host")) for kind in _TYPES if kind != "user" or kind in listed)


def _docker_namespaces(host: dict[str, object]) -> tuple[tuple[str, str], ...]:
    modes = {"mnt": "private"}
    for kind, key in (("pid", "PidMode"), ("ipc", "IpcMode"), ("uts", "UTSMode"), ("net", "NetworkMode")):
        mode = host.get(key)
        if isinstance(mode, str):
            modes[kind] = mode if mode == "host" or mode.startswith("container:") else "private"
    if host.get("CgroupnsMode") in ("host", "private"):
        modes["cgroup"] = str(host["CgroupnsMode"])
    return tuple(sorted(modes.items()))


def _uid(user: object) -> int | None:
    """``--user`` as a number; ``None`` for a name, which only the image's own passwd knows."""
    if not isinstance(user, str):
        return None
    first = user.partition(":")[0]
    if not first:
        return 0
    return int(first) if first.isascii() and first.isdigit() and len(first) <= 10 else None
