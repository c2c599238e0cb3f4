"""Nomad's own drivers (exec, java, raw_exec): ``<allocation>.<task>.scope`` below ``nomad.slice``, since 1.7 in a slice
for shared or reserved cores, and ``<allocation>.<task>`` below ``nomad`` on v1.

A container's id is the allocation's with the task.  See Nomad's ``client/lib/cgroupslib``.  Its Docker and podman
drivers make those engines' containers, which are found as theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import MOBY_DEFAULT, mask_of
from nsinspect.declarations import Claim, Declaration
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "nomad"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT & ~mask_of(("NET_RAW",))
"""``allow_caps`` of the exec driver; see Nomad's ``drivers/shared/capabilities``."""

_TASK = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\..+)\.scope", re.DOTALL)
_FOLDER = re.compile(rb"([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\..+)", re.DOTALL)


def container_id(component: bytes, above: Above) -> str | None:
    """``<allocation>.<task>.scope`` anywhere, because the parent can be set; without the ending below ``nomad``."""
    match = _TASK.fullmatch(component) or (_FOLDER.fullmatch(component) if b"nomad" in above else None)
    return match[1].decode("utf-8", "backslashreplace") if match else None


def is_helper(component: bytes, above: Above) -> bool:
    """Nomad's executors are in the task's own cgroup or the agent's."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of Nomad's has the task's name."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """None: what the client knows is in a database of its own, held locked."""
    return None
