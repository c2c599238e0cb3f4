"""What one engine must tell nsinspect: how it names cgroups, where it keeps its state, what it gives by default."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, Protocol

from nsinspect.declarations import Claim, Declaration
from nsinspect.errors import KernelError
from nsinspect.procfs import Mount

Above = tuple[bytes, ...]
"""The components of a cgroup path above the one in question, outermost first."""

MONITORS = (b"conmon", b"containerd-shim")
"""What engines leave to watch a container calls itself, as far as a comm goes: 15 bytes."""


class StateFiles(Protocol):
    """How an engine reads its state, provided by the collector.

    Both raise :class:`nsinspect.errors.KernelError` when something is there and cannot be had.
    """

    def read(self, path: str) -> bytes | None:
        """A regular file of the host, bounded in size, or ``None`` when there is none."""

    def entries(self, path: str) -> list[str]:
        """Names in a directory of the host, sorted; empty when there is none."""

    def complain(self, error: KernelError) -> None:
        """Tell of a file that could not be had where an answer can be given without it."""

    def host_path(self, mount: Mount) -> str | None:
        """Where the root of a container's bind mount is on the host, ``None`` when no host mount shows it."""


class Traces(NamedTuple):
    """What leads from a running container to its engine's files: its id, its init's pid, the mounts its init sees,
    which may be read only when they are asked for, and the working directory of its monitor (conmon, a shim), which is
    the engine's folder for it."""

    id: str
    pid: int
    mounts: Callable[[], tuple[Mount, ...]]
    monitor_cwd: str | None


class Engine(Protocol):
    """The seam: a module under ``runtimes/`` that has these names is an engine."""

    NAME: str
    DEFAULT_CAPABILITIES: int
    """Mask of the bounding set this engine gives when nobody asks."""
    PAYLOADS: tuple[bytes, ...]
    """Names of the cgroup that this engine may make below the container's for its processes."""

    IDS_ARE_NAMES: bool
    """Whether the id is what a person called the container, and the engine knows no other name."""

    def container_id(self, component: bytes, above: Above) -> str | None:
        """The container's id when one component of a cgroup path is this engine's; else ``None``."""

    def is_helper(self, component: bytes, above: Above) -> bool:
        """Whether a component holds this engine's own processes for a container (conmon), which are no container."""

    def claims(self, files: StateFiles) -> Iterable[Claim]:
        """Containers that this engine's state files in their usual place tell of, for those whose cgroup's name says
        nothing.  Raises :class:`nsinspect.errors.KernelError`."""

    def declaration(self, files: StateFiles, traces: Traces) -> Declaration | None:
        """What the engine wrote down of a container, ``None`` when it knows nothing of it.

        Raises :class:`nsinspect.errors.KernelError` when a file is there and cannot be read or understood.
        """


def folders_behind(
    files: StateFiles, traces: Traces, points: tuple[bytes, ...], pattern: re.Pattern[str]
) -> Iterator[str]:
    """Engine folders that a container's mount table leads to: what ``pattern`` captures of the host paths mounted at
    ``points``.

    Engines bind files of their own over ``/etc/hostname`` and its sisters, so this finds a folder wherever it was
    moved to, with nothing configured.  A container with the right to mount could put something else there, so the
    usual folder is always asked first.
    """
    found = set[str]()
    for mount in traces.mounts():
        if mount.point in points:
            match = pattern.fullmatch(files.host_path(mount) or "")
            if match and match[1] not in found:
                found.add(match[1])
                yield match[1]
