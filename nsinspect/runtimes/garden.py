"""Cloud Foundry: Garden's containers, a folder named by a handle of five groups of hexadecimal digits, and BPM's,
``bpm-<job>`` with or without ``.scope``.

See guardian's ``gardener`` and bpm-release's ``runc/adapter``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Claim, Declaration
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "garden"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT
"""The same 14; see ``unprivilegedMaxCaps`` in guardian's ``guardiancmd``."""

_HANDLE = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}")
_BPM = re.compile(rb"(bpm-[A-Za-z0-9_.-]+?)(?:\.scope)?(?<!\.service)(?<!\.slice)(?<!\.socket)(?<!\.mount)")


def container_id(component: bytes, above: Above) -> str | None:
    """A handle, or BPM's name for a process."""
    if _HANDLE.fullmatch(component):
        return component.decode()
    match = _BPM.fullmatch(component)
    return match[1].decode() if match else None


def is_helper(component: bytes, above: Above) -> bool:
    """Garden's dadoo stays in its own cgroup."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of Garden's has the container's handle."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """None: Garden's depot has no fixed place."""
    return None
