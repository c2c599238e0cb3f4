"""What an engine's own state files say of a container: claims, never what is enforced."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Literal, NamedTuple

from nsinspect.cgroupfs import Limit

Cores = float | Literal["max"]
"""CPUs, or the word for "no limit"."""


class Pod(NamedTuple):
    """The pod a container belongs to: Kubernetes' or podman's.  ``container`` is its name inside the pod."""

    uid: str | None = None
    name: str | None = None
    namespace: str | None = None
    qos: str | None = None
    container: str | None = None


class Claim(NamedTuple):
    """A container that a state file tells of.  ``cgroup`` is ``None`` when it has none of its own or the file does not
    say; ``(pid, starttime)`` is its init, by which a file left over from a dead container is told from a live one
    (``starttime`` in clock ticks since boot, ``None`` where the engine does not write it down)."""

    runtime: str
    id: str
    source: str
    cgroup: bytes | None
    pid: int | None
    starttime: int | None = None


class Wanted(NamedTuple):
    """What an engine was asked to enforce, in the units of :mod:`nsinspect.limits`; its own defaults count as asked.

    ``None`` where its files do not say.  ``shares`` is what ``--cpu-shares`` takes, whatever the engine makes of it on
    v2.  ``bounding`` is a mask.  ``namespaces`` are pairs of a type and ``private``, ``host``, ``container:<id>`` or
    ``joined`` (another's, by path).  ``seccomp``: whether a filter was to be installed.  ``uid`` is as the container
    counts.
    """

    cores: Cores | None = None
    shares: int | None = None
    cpuset: tuple[int, ...] | None = None
    memory_max: Limit | None = None
    swap_max: Limit | None = None
    reservation: int | None = None
    pids: Limit | None = None
    bounding: int | None = None
    namespaces: tuple[tuple[str, str], ...] = ()
    privileged: bool | None = None
    seccomp: bool | None = None
    no_new_privs: bool | None = None
    read_only_rootfs: bool | None = None
    uid: int | None = None


class Declaration(NamedTuple):
    """One container as its engine wrote it down.  ``source`` is the file; ``created_at`` RFC 3339 in UTC.

    ``runtime`` is set by an engine that shares its cgroups' naming with others, to say that it is its own; ``pause``
    when the file says that it is a pod's sandbox (or that it is none).
    """

    source: str
    runtime: str | None = None
    pause: bool | None = None
    pod: Pod | None = None
    name: str | None = None
    image: str | None = None
    labels: tuple[tuple[str, str], ...] | None = None
    created_at: str | None = None
    wanted: Wanted | None = None


def rfc3339(text: object) -> str | None:
    """An engine's time stamp as RFC 3339 in UTC to the microsecond, ``None`` when it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:  # the year 0 of another time zone
        return None


def text_or_none(value: object) -> str | None:
    """A string of a state file, ``None`` when it is absent, empty or something else."""
    return value if isinstance(value, str) and value else None


def labels_or_none(value: object) -> tuple[tuple[str, str], ...] | None:
    """Labels of a state file, sorted by key; what is no string on either side is left out."""
    if not isinstance(value, dict):
        return None
    return tuple(sorted((k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, str)))
