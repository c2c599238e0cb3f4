"""Facts in the shapes that rows give them, where that takes more than an attribute."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from nsinspect import capabilities
from nsinspect.cgroupfs import CpuList, Pressure, format_cpu_list
from nsinspect.drift import Drift
from nsinspect.model import Container, Namespace
from nsinspect.mounts import visible
from nsinspect.procfs import IdMapLine
from nsinspect.security import Outlier

if TYPE_CHECKING:
    from nsinspect.networks import Card, Listening


def timestamp(seconds: float | None) -> str | None:
    """RFC 3339 in UTC to the millisecond."""
    if seconds is None:
        return None
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def capability_names(mask: int | None) -> list[str] | None:
    """The names of the set bits."""
    return None if mask is None else list(capabilities.names(mask))


def capability_set(mask: int | None) -> dict[str, object] | None:
    """A set as the kernel prints it, and by names."""
    return None if mask is None else {"mask": f"0x{mask:016x}", "names": capability_names(mask)}


def mounts(container: Container) -> list[dict[str, object]] | None:
    """What of the host it sees, and its secrets."""
    if container.mount_table is None:
        return None
    return [one._asdict() for one in visible(container.mount_table, container.host_mounts)]


def outlier(one: Outlier) -> dict[str, object]:
    """A process that is not like init."""
    return {
        "pid": one.pid,
        "comm": one.comm,
        "extra": capability_names(one.extra),
        "missing": capability_names(one.missing),
        "bounding_extra": capability_names(one.bounding_extra),
    }


def namespace(one: Namespace | None) -> dict[str, object] | None:
    """A namespace and who has it."""
    if one is None:
        return None
    return {"inode": one.inode, "host": one.host, "shared_with": list(one.shared_with)}


def card(one: Card, counters: Iterable[str]) -> dict[str, object]:
    """An interface: its counters, and its link where netlink was asked."""
    link = one.link
    return {
        "name": one.name,
        **{name: None if one.counted is None else getattr(one.counted, name) for name in counters},
        "link": link
        and {
            "ifindex": link.ifindex,
            "kind": link.kind,
            "state": link.state,
            "mac": link.mac,
            "mtu": link.mtu,
            "addresses": list(link.addresses),
            "peer": one.peer and asdict(one.peer),
        },
    }


def listening(one: Listening) -> dict[str, object]:
    """A socket that waits."""
    return {
        "protocol": one.socket.protocol,
        "address": one.socket.address,
        "port": one.socket.port,
        "every_address": one.everywhere,
        "pids": None if one.pids is None else list(one.pids),
        "containers": None if one.containers is None else list(one.containers),
    }


def evidence(pairs: Iterable[tuple[str, str | bytes]]) -> list[dict[str, str | bytes]]:
    """What says so, and what it says."""
    return [{"says": says, "what": what} for says, what in pairs]


def id_map(lines: tuple[IdMapLine, ...] | None) -> list[dict[str, int]] | None:
    """A uid or gid map, line by line."""
    if lines is None:
        return None
    return [{"inside": line.inside, "outside": line.outside, "count": line.length} for line in lines]


def cpu_list(cpus: CpuList | None) -> str | None:
    """CPUs as the kernel writes them: ``0-2,5``."""
    return None if cpus is None else format_cpu_list(cpus)


def declared(container: Container) -> dict[str, object] | None:
    """What the engine's state files asked for, in the shape of what is enforced."""
    wanted = container.declared
    if wanted is None:
        return None
    return {
        "source": container.declared_source,
        "limits": {
            "cpu": {"cores": wanted.cores, "shares": wanted.shares, "cpuset": cpu_list(wanted.cpuset)},
            "memory": {
                "max_bytes": wanted.memory_max,
                "swap_max_bytes": wanted.swap_max,
                "reservation_bytes": wanted.reservation,
            },
            "pids": {"max": wanted.pids},
        },
        "capabilities": {"bounding": capability_set(wanted.bounding)},
        "security": {
            "privileged": wanted.privileged,
            "seccomp": None if wanted.seccomp is None else "filter" if wanted.seccomp else "disabled",
            "no_new_privs": wanted.no_new_privs,
            "read_only_rootfs": wanted.read_only_rootfs,
        },
        "namespaces": dict(wanted.namespaces),
        "uid": wanted.uid,
    }


def drift(one: Drift) -> dict[str, object]:
    """One difference between declared and enforced."""
    return {
        "field": one.field,
        "declared": one.declared,
        "enforced": one.enforced,
        "tolerance": one.tolerance,
        "where": one.where,
    }


def pressure(one: Pressure | None) -> dict[str, float | None] | None:
    """Stall totals in seconds."""
    if one is None:
        return None
    full = one.full_us
    return {"some_seconds": one.some_us / 1e6, "full_seconds": None if full is None else full / 1e6}
