"""What was asked for against what the kernel enforces, field by field.

The kernel is right; the engine's file is the claim.  What legitimately differs is no drift, and each allowance has a
name:

- *page size*: the kernel rounds memory limits down to whole pages;
- *10 ms step*: systemd takes CPU quotas in steps of 10 ms a second, so runc rounds up to one;
- *shares formula*: shares become a weight by one of three formulas (:mod:`nsinspect.shares`);
- *systemd's TasksMax*: a scope gets systemd's default where the engine asked for no limit;
- a process may always give up what it was given (a capability, its root user), and confine itself further.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nsinspect import shares
from nsinspect.capabilities import OLDEST_FULL_SET, names
from nsinspect.cgroupfs import Limit, format_cpu_list
from nsinspect.declarations import Cores, Wanted
from nsinspect.limits import Limits
from nsinspect.procfs import IdMapLine
from nsinspect.security import Capabilities, Security

PAGE = 4096
"""Limits are rounded to pages of this machine or larger ones; 64 KiB pages exist, and are allowed for."""
LARGEST_PAGE = 65536
STEP = 0.01
"""10 ms of CPU time in each second, in cores."""


class Drift(NamedTuple):
    """One field that is not as it was asked for; ``tolerance`` is the allowance it exceeds, ``None`` where it must be
    exact.  ``where`` is the cgroup whose file says otherwise, for limits."""

    field: str
    declared: Any
    enforced: Any
    tolerance: str | None
    where: bytes | None = None


def drift(
    wanted: Wanted,
    limits: Limits,
    capabilities: Capabilities,
    security: Security,
    *,
    host_namespaces: dict[str, bool | None],
    init_uid: int | None,
    full: int | None,
    cgroups: Mapping[str, bytes],
) -> tuple[Drift, ...]:
    """Every field of one container that drifted.  ``host_namespaces``: by type, whether init's is the host's;
    ``full`` is :func:`nsinspect.security.full_set`; ``cgroups`` is the container's own by controller."""
    return (
        *_limits(wanted, limits, cgroups),
        *_capabilities(wanted, capabilities, full),
        *_namespaces(wanted, host_namespaces),
        *_security(wanted, security, init_uid),
    )


def _limits(wanted: Wanted, limits: Limits, cgroups: Mapping[str, bytes]) -> Iterator[Drift]:
    def differs(controller: str, field: str, declared: object, enforced: object, tolerance: str | None) -> Drift:
        where = cgroups.get(controller)
        return Drift(field=field, declared=declared, enforced=enforced, tolerance=tolerance, where=where)

    cpu, memory = limits.cpu, limits.memory
    if not _same_cores(wanted.cores, cpu.cores):
        yield differs("cpu", "limits.cpu.own.cores", wanted.cores, cpu.cores, "10 ms step")
    if wanted.cpuset is not None and cpu.cpuset is not None and wanted.cpuset != cpu.cpuset:
        asked, found = format_cpu_list(wanted.cpuset), format_cpu_list(cpu.cpuset)
        yield differs("cpuset", "limits.cpu.own.cpuset", asked, found, None)
    if wanted.shares is not None:
        if cpu.shares is not None and wanted.shares != cpu.shares:
            yield differs("cpu", "limits.cpu.own.shares", wanted.shares, cpu.shares, None)
        # cpu.weight is 100 where nobody asked for anything; the old formula makes 39 of Docker's own default.
        meant = shares.weights_of(wanted.shares)
        if cpu.weight is not None and cpu.weight not in (*meant.values(), *_default(wanted)):
            yield differs("cpu", "limits.cpu.own.weight", meant["quadratic"], cpu.weight, "shares formula")
    for field, declared, enforced in (
        ("limits.memory.own.max_bytes", wanted.memory_max, memory.max_bytes),
        ("limits.memory.own.swap_max_bytes", wanted.swap_max, memory.swap_max_bytes),
        ("limits.memory.own.reservation_bytes", wanted.reservation, memory.reservation_bytes),
    ):
        if not _same_bytes(declared, enforced):
            yield differs("memory", field, declared, enforced, "page size")
    systemds = wanted.pids == "max" and cgroups.get("pids", b"").endswith((b".scope", b".service"))
    if wanted.pids is not None and limits.pids not in (None, wanted.pids) and not systemds:
        yield differs("pids", "limits.pids.own.max", wanted.pids, limits.pids, None)


def _default(wanted: Wanted) -> tuple[int, ...]:
    return (100,) if wanted.shares == shares.DEFAULT else ()


def _same_cores(declared: Cores | None, enforced: Cores | None) -> bool:
    if declared is None or enforced is None or declared == enforced:
        return True
    return isinstance(declared, float) and isinstance(enforced, float) and abs(declared - enforced) <= STEP


def _same_bytes(declared: Limit | None, enforced: Limit | None) -> bool:
    if declared is None or enforced is None or declared == enforced:
        return True
    if declared == "max" or enforced == "max":
        return False
    return 0 <= declared - enforced < (LARGEST_PAGE if enforced % LARGEST_PAGE == 0 else PAGE)


def _capabilities(wanted: Wanted, found: Capabilities, full: int | None) -> Iterator[Drift]:
    if wanted.bounding is None or found.bounding is None:
        return
    asked = wanted.bounding
    if wanted.privileged or asked & OLDEST_FULL_SET == OLDEST_FULL_SET:
        # "All" is what the engine knows of what the host has; newer capabilities may be among them.
        asked |= found.bounding & ~OLDEST_FULL_SET
    if full is not None:
        asked &= full | ~OLDEST_FULL_SET
    if found.bounding & ~asked:
        yield Drift(
            field="capabilities.bounding",
            declared=list(names(asked)),
            enforced=list(names(found.bounding)),
            tolerance="fewer than asked for",
        )


def _namespaces(wanted: Wanted, host_namespaces: dict[str, bool | None]) -> Iterator[Drift]:
    for kind, mode in wanted.namespaces:
        is_host = host_namespaces.get(kind)
        if is_host is None or mode == "joined" or is_host == (mode == "host"):
            continue
        # A container that joined another's is where that one is.
        if mode.startswith("container:"):
            continue
        yield Drift(
            field=f"namespaces.{kind}", declared=mode, enforced="host" if is_host else "private", tolerance=None
        )


def _security(wanted: Wanted, found: Security, init_uid: int | None) -> Iterator[Drift]:
    if wanted.seccomp and found.seccomp == "disabled":
        yield Drift(field="security.seccomp", declared="filter", enforced="disabled", tolerance=None)
    if wanted.no_new_privs and found.no_new_privs is False:
        yield Drift(field="security.no_new_privs", declared=True, enforced=False, tolerance=None)
    if wanted.read_only_rootfs and found.read_only_rootfs is False:
        yield Drift(field="security.read_only_rootfs", declared=True, enforced=False, tolerance=None)
    asked, root = _outside(wanted.uid, found.uid_map), _outside(0, found.uid_map)
    # A process may become another user, but not root again.
    if wanted.uid and asked is not None and init_uid is not None and init_uid == root:
        yield Drift(field="init.uid", declared=asked, enforced=init_uid, tolerance="another user than root")


def _outside(uid: int | None, lines: tuple[IdMapLine, ...] | None) -> int | None:
    """The host's number for a uid of the container."""
    if uid is None or lines is None:
        return None
    return next((line.outside + uid - line.inside for line in lines if 0 <= uid - line.inside < line.length), None)
