"""What a container may do: capability sets, processes that stand out, and whether it is privileged."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

from nsinspect.capabilities import OLDEST_FULL_SET, all_of
from nsinspect.procfs import IdMapLine, Mount, Status
from nsinspect.snapshot import Confinement, Process

SECCOMP_MODES = ("disabled", "strict", "filter")
"""By the number in ``Seccomp:`` of status; seccomp(2)."""

# AppArmor's word, SELinux's unconfined domains, and "kernel": SELinux without a policy, where every process has it.
_UNCONFINED = re.compile(rb"unconfined|kernel|[^:]*:[^:]*:(unconfined|spc|container_runtime)_t(:.*)?")


class Outlier(NamedTuple):
    """A process of a container whose capabilities are not init's.  Masks: ``extra`` and ``missing`` of what it can use
    (effective and permitted), ``bounding_extra`` of what it could still gain."""

    pid: int
    comm: bytes
    extra: int
    missing: int
    bounding_extra: int


class Capabilities(NamedTuple):
    """Masks of init's five sets; ``None`` where they are unknown.  ``added`` and ``dropped``: its bounding set against
    what the engine gives by default.  ``everything``: the bounding set has all that this host can give."""

    effective: int | None
    permitted: int | None
    inheritable: int | None
    bounding: int | None
    ambient: int | None
    added: int | None
    dropped: int | None
    everything: bool | None
    outliers: tuple[Outlier, ...]


class Security(NamedTuple):
    """How init is confined.  ``None`` is unknown, or not offered by this kernel.  ``root_uid``: the host's uid of root
    inside, ``None`` also where root is not mapped."""

    privileged: bool | None
    privileged_why: tuple[str, ...]
    seccomp: str | None
    no_new_privs: bool | None
    lsm_label: bytes | None
    host_user_namespace: bool | None
    uid_map: tuple[IdMapLine, ...] | None
    gid_map: tuple[IdMapLine, ...] | None
    root_uid: int | None
    read_only_rootfs: bool | None
    masked_paths: bool | None


def capabilities(
    init: Process,
    members: Iterable[Process],
    *,
    default: int | None,
    full: int | None,
    host_user: int | None = None,
) -> Capabilities:
    """Init's sets, and the members that differ from them.  ``default`` is the engine's, ``full`` :func:`full_set`,
    ``host_user`` the inode of the host's user namespace."""
    status = init.status
    if status is None:
        return Capabilities(
            effective=None,
            permitted=None,
            inheritable=None,
            bounding=None,
            ambient=None,
            added=None,
            dropped=None,
            everything=None,
            outliers=(),
        )
    return Capabilities(
        effective=status.cap_eff,
        permitted=status.cap_prm,
        inheritable=status.cap_inh,
        bounding=status.cap_bnd,
        ambient=status.cap_amb,
        added=None if default is None else status.cap_bnd & ~default,
        dropped=None if default is None else default & ~status.cap_bnd,
        everything=None if full is None else status.cap_bnd & full == full,
        outliers=tuple(
            outlier
            for member in members
            # Nearly all have the very sets and namespaces of init, which is seen sooner than how one differs.
            if (its := member.status) is not None
            and not (
                member.namespaces is init.namespaces
                and its.cap_eff == status.cap_eff
                and its.cap_prm == status.cap_prm
                and its.cap_bnd == status.cap_bnd
            )
            and (outlier := _outlier(member, its, status, relative=_relative(member, init, host_user)))
        ),
    )


def _relative(member: Process, init: Process, host_user: int | None) -> bool:
    """Whether its capabilities count in a user namespace that is neither init's nor the host's, one made inside."""
    user = member.namespaces.user
    return None not in (user, host_user) and user not in (init.namespaces.user, host_user)


def _outlier(member: Process, its: Status, inits: Status, *, relative: bool) -> Outlier | None:
    usable, normal = its.cap_eff | its.cap_prm, inits.cap_eff | inits.cap_prm
    bounding_extra = its.cap_bnd & ~inits.cap_bnd
    if relative:
        # Over what init's capabilities are about it has no power at all.
        usable = bounding_extra = 0
    # A zombie has no power left and says so with empty sets; that is no difference worth a line.
    if member.state in "ZX" or (usable == normal and not bounding_extra):
        return None
    return Outlier(
        pid=member.pid,
        comm=member.comm,
        extra=usable & ~normal,
        missing=normal & ~usable,
        bounding_extra=bounding_extra,
    )


def security(
    status: Status | None,
    confinement: Confinement | None,
    *,
    everything: bool | None,
    host_user_namespace: bool | None,
) -> Security:
    """Init's confinement."""
    mounts = confinement.mounts if confinement else None
    mode = status.seccomp if status else None
    seccomp = None if mode is None else SECCOMP_MODES[mode] if mode < len(SECCOMP_MODES) else f"mode {mode}"
    masked = _masked(mounts)
    privileged, why = _privileged(
        everything,
        seccomp,
        masked,
        unconfined(confinement.lsm_label) if confinement and confinement.label_known else None,
        host_user_namespace,
    )
    return Security(
        privileged=privileged,
        privileged_why=why,
        seccomp=seccomp,
        no_new_privs=status.no_new_privs if status else None,
        lsm_label=confinement.lsm_label if confinement else None,
        host_user_namespace=host_user_namespace,
        uid_map=confinement.uid_map if confinement else None,
        gid_map=confinement.gid_map if confinement else None,
        root_uid=0 if host_user_namespace else outside(confinement.uid_map if confinement else None, 0),
        read_only_rootfs=_read_only_root(mounts),
        masked_paths=masked,
    )


def full_set(host_capabilities: int | None, cap_last_cap: int | None) -> int | None:
    """What "all capabilities" is here: those the host itself has, of those an old engine knows.

    Docker 20.10's ``--privileged`` gives the 38 it was built with on a kernel with 41, and nobody can give what the
    host's own PID 1 has lost.
    """
    if host_capabilities is None:
        return None if cap_last_cap is None else all_of(cap_last_cap) & OLDEST_FULL_SET
    return host_capabilities & OLDEST_FULL_SET


def _privileged(
    everything: bool | None,
    seccomp: str | None,
    masked: bool | None,
    unlabelled: bool | None,
    host_user_namespace: bool | None,
) -> tuple[bool | None, tuple[str, ...]]:
    """``--privileged`` lifts everything at once, so one restraint left shows that it was not given.

    Each fact is told in words either way; unknown only when what is known does not decide.
    """
    facts: tuple[tuple[bool | None, str, str], ...] = (
        (everything, "all capabilities of the host", "not all capabilities of the host"),
        (None if seccomp is None else seccomp == "disabled", "no seccomp filter", f"seccomp {seccomp}"),
        (None if masked is None else not masked, "no masked /proc paths", "masked /proc paths"),
        (unlabelled, "not confined by a security module", "confined by a security module"),
        (host_user_namespace, "the host's user namespace", "a user namespace of its own"),
    )
    if all(lifted for lifted, _, _ in facts):
        return True, tuple(yes for _, yes, _ in facts)
    restraints = tuple(no for lifted, _, no in facts if lifted is False)
    return (False if restraints else None), restraints


def outside(id_map: Iterable[IdMapLine] | None, inside: int) -> int | None:
    """The host's number for an id of a user namespace; ``None`` where it has none, or that is unknown."""
    for line in id_map or ():
        if line.inside <= inside < line.inside + line.length:
            return line.outside + inside - line.inside
    return None


def unconfined(label: bytes | None) -> bool:
    """Whether a security module's label restrains nothing; ``None`` is no module at all."""
    return label is None or _UNCONFINED.fullmatch(label) is not None


def _masked(mounts: tuple[Mount, ...] | None) -> bool | None:
    """Engines hide and lock parts of /proc by mounting over them, unless the container is privileged."""
    if not mounts:
        return None
    return any(mount.point.startswith(b"/proc/") for mount in mounts)


def _read_only_root(mounts: tuple[Mount, ...] | None) -> bool | None:
    if not mounts:
        return None
    # The last mount on / is the one that is seen.
    options = [mount.options for mount in mounts if mount.point == b"/"]
    return b"ro" in options[-1].split(b",") if options else None
