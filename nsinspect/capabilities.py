"""Capability sets: kernel masks to names and back, and what engines give by default.  See capabilities(7)."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

# Bit n is the name at n, from include/uapi/linux/capability.h; 38-40 came with Linux 5.8 and 5.9.
NAMES = (
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
)
_BITS = {name: bit for bit, name in enumerate(NAMES)}

OLDEST_FULL_SET = (1 << 38) - 1
"""Every capability before Linux 5.8: what "all" means to an engine that does not know the newer ones."""


@lru_cache(maxsize=4096)
def names(mask: int) -> tuple[str, ...]:
    """Names of the bits of ``mask``, lowest bit first; a bit newer than this table is kept as ``cap_41``."""
    return tuple(
        NAMES[bit] if bit < len(NAMES) else f"cap_{bit}" for bit in range(mask.bit_length()) if mask >> bit & 1
    )


def mask_of(wanted: Iterable[str]) -> int:
    """Mask of capability names, with or without ``CAP_``, in any case, ``cap_41`` included.

    Raises ``ValueError`` naming the first that is none.
    """
    mask = 0
    for name in wanted:
        upper = name.upper()
        full = upper if upper.startswith("CAP_") else f"CAP_{upper}"
        if full in _BITS:
            mask |= 1 << _BITS[full]
        elif full.isascii() and full[4:].isdecimal() and len(full) <= 6 and int(full[4:]) < 64:
            mask |= 1 << int(full[4:])
        else:
            raise ValueError(f"expected a capability name such as CAP_NET_ADMIN, found {name!r}")
    return mask


def all_of(cap_last_cap: int) -> int:
    """Mask of every capability of a kernel whose ``/proc/sys/kernel/cap_last_cap`` is given."""
    return (1 << cap_last_cap + 1) - 1


MOBY_DEFAULT = mask_of(
    (
        *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
        *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
    )
)
"""The 14 that Docker and containerd give (0xa80425fb); the common default of the engines."""

CONTAINERS_COMMON_DEFAULT = MOBY_DEFAULT & ~mask_of(("AUDIT_WRITE", "MKNOD", "NET_RAW"))
"""The 11 that podman and buildah give since containers-common 0.47 (0x800405fb); see containers.conf(5)."""
