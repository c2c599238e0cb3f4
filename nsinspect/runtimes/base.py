"""What one engine must tell nsinspect: how it names cgroups, where it keeps its state, what it gives by default."""

from __future__ import annotations

import json
import re
from typing import NamedTuple, Protocol

from nsinspect.declarations import Declaration
from nsinspect.errors import Malformed
from nsinspect.procfs import Mount


class Match(NamedTuple):
    """A cgroup that an engine's naming says is one container.  ``path`` ends with the component that says so;
    ``payload`` is the cgroup that the engine made below it for the processes, often the same."""

    runtime: str
    id: str
    path: bytes
    payload: bytes


class StateFiles(Protocol):
    """How an engine reads its state, provided by the collector."""

    def read(self, path: str) -> bytes | None:
        """A regular file of the host, bounded in size, or ``None`` when there is none.

        Raises :class:`nsinspect.errors.KernelError` when it is there and cannot be had.
        """

    def host_path(self, mount: Mount) -> str | None:
        """Where the root of a container's bind mount is on the host, ``None`` when no host mount shows it."""


class Engine(Protocol):
    """The seam: a module under ``runtimes/`` that has these names is an engine."""

    NAME: str
    PAYLOADS: tuple[bytes, ...]
    """Names of the cgroup that this engine may make below the container's for its processes."""
    DEFAULT_CAPABILITIES: int
    """Mask of the bounding set this engine gives when nobody asks."""

    def container_id(self, component: bytes, parent: bytes) -> str | None:
        """The container's id when one component of a cgroup path, below ``parent``, is this engine's; else ``None``."""

    def is_helper(self, component: bytes) -> bool:
        """Whether a component holds this engine's own processes for a container (conmon), which are no container."""

    def declaration(self, files: StateFiles, container: str, mounts: tuple[Mount, ...]) -> Declaration | None:
        """What the engine wrote down of a container; ``mounts`` are those its init sees.

        Raises :class:`nsinspect.errors.KernelError` when a file is there and cannot be read or understood.
        """


def folders_behind(
    files: StateFiles, mounts: tuple[Mount, ...], points: tuple[bytes, ...], pattern: re.Pattern[str]
) -> list[str]:
    """Engine folders that a container's mount table leads to: what ``pattern`` captures of the host paths mounted at
    ``points``.

    Engines bind files of their own over ``/etc/hostname`` and its sisters, so this finds a folder wherever it was
    moved to, with nothing configured.  A container with the right to mount could put something else there, so the
    usual folder is always asked first.
    """
    found = []
    for mount in mounts:
        if mount.point in points:
            match = pattern.fullmatch(files.host_path(mount) or "")
            if match and match[1] not in found:
                found.append(match[1])
    return found


def parse_json(data: bytes, path: str) -> object:
    """JSON of a state file.  Raises ``Malformed`` naming the file."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise Malformed(data, "JSON", path) from None


def parse_object(data: bytes, path: str) -> dict[str, object]:
    """A JSON object of a state file.  Raises ``Malformed`` naming the file."""
    value = parse_json(data, path)
    if not isinstance(value, dict):
        raise Malformed(data, "a JSON object", path)
    return value
