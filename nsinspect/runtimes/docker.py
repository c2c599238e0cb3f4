"""Docker: ``/docker/<id>`` (cgroupfs driver) and ``/system.slice/docker-<id>.scope`` (systemd driver).

State: ``<data root>/containers/<id>/config.v2.json``, readable by root.  The data root is ``/var/lib/docker`` unless
``--data-root`` moved it; the bind mounts of ``/etc/hostname`` and its sisters say where.
"""

from __future__ import annotations

import re

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Declaration, labels_or_none, rfc3339, text_or_none
from nsinspect.procfs import Mount
from nsinspect.runtimes.base import StateFiles, folders_behind, parse_object

NAME = "docker"
PAYLOADS = ()
DEFAULT_CAPABILITIES = MOBY_DEFAULT

_SCOPE = re.compile(rb"docker-([0-9a-f]{64})\.scope")
_BARE = re.compile(rb"[0-9a-f]{64}")
# A container that joined another's network has that one's files mounted, from the same folder of containers.
_BOUND = (b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf")
_FOLDER = re.compile(r"(.*/containers)/[0-9a-f]{64}/(?:hostname|hosts|resolv\.conf)", re.DOTALL)


def container_id(component: bytes, parent: bytes) -> str | None:
    """``docker-<id>.scope`` anywhere, a bare id directly below ``docker``."""
    if match := _SCOPE.fullmatch(component):
        return match[1].decode()
    if parent == b"docker" and _BARE.fullmatch(component):
        return component.decode()
    return None


def is_helper(component: bytes) -> bool:
    """Docker's shims stay in the daemon's own cgroup."""
    return False


def declaration(files: StateFiles, container: str, mounts: tuple[Mount, ...]) -> Declaration | None:
    """Name, image, labels and creation time from ``config.v2.json``."""
    for folder in ("/var/lib/docker/containers", *folders_behind(files, mounts, _BOUND, _FOLDER)):
        path = f"{folder}/{container}/config.v2.json"
        data = files.read(path)
        if data is not None:
            return _from_config(parse_object(data, path), path)
    return None


def _from_config(state: dict[str, object], path: str) -> Declaration:
    config = state.get("Config")
    config = config if isinstance(config, dict) else {}
    name = text_or_none(state.get("Name"))
    return Declaration(
        source=path,
        name=name.removeprefix("/") if name else None,
        image=text_or_none(config.get("Image")),
        labels=labels_or_none(config.get("Labels")),
        created_at=rfc3339(state.get("Created")),
    )
