"""crun used directly: ``crun-<id>.scope`` (systemd driver), else wherever the bundle's ``cgroupsPath`` says, by default
``/<id>``.  On v2 the processes are in a ``container`` cgroup below the scope.

State: ``/run/crun/<id>/status`` and a copy of the bundle's ``config.json`` beside it (rootless:
``/run/user/<uid>/crun``); podman's containers are among them.  See crun's ``src/libcrun/status.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nsinspect.capabilities import mask_of
from nsinspect.declarations import Claim, Declaration, rfc3339, text_or_none
from nsinspect.errors import KernelError
from nsinspect.runtimes import oci, runc
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "crun"
PAYLOADS = (b"container",)
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = mask_of(("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"))
"""What ``crun spec`` writes into a new bundle."""

_ROOT = "/run/crun"
_SCOPE = re.compile(rf"crun-({runc.ID})\.scope".encode())


def container_id(component: bytes, above: Above) -> str | None:
    """``crun-<id>.scope``."""
    match = _SCOPE.fullmatch(component)
    return match[1].decode() if match else None


def is_helper(component: bytes, above: Above) -> bool:
    """Crun leaves no process behind."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """Every container of root's with a ``status``, those without a cgroup of their own included."""
    return oci.each(_claim(files, f"{_ROOT}/{name}/status") for name in files.entries(_ROOT))


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Creation time and annotations; all that its engine knows where that is podman or CRI-O."""

    def look(root: str) -> Declaration | None:
        path = f"{root}/{traces.id}/status"
        status = oci.object_at(files, path)
        if status is None:
            return None
        spec = oci.optional(files, lambda: oci.object_at(files, f"{root}/{traces.id}/config.json"))
        annotations, bundle = oci.annotations_of(spec or {}), text_or_none(status.get("bundle")) or ""
        created_at = rfc3339(status.get("created"))
        return runc.told(files, traces, annotations, bundle, spec=spec, path=path, created_at=created_at)

    return oci.first_of(runc.roots(files, NAME), look)


def _claim(files: StateFiles, path: str) -> Iterator[Claim]:
    name = path.split("/")[-2]
    try:
        status = oci.object_at(files, path)
    except KernelError:  # still a container of this id, in the cgroup that is the default
        yield Claim(NAME, name, path, oci.below_root(name), None)
        raise
    if status is None:
        return
    pid, start = oci.pid_or_none(status.get("pid")), oci.natural(status.get("process-start-time"))
    yield Claim(NAME, name, path, _cgroup(status), pid, start or None)


def _cgroup(status: dict[str, object]) -> bytes | None:
    """The cgroup of the container, without the one that crun made below the scope; ``None`` when it has none."""
    path, scope = text_or_none(status.get("cgroup-path")), text_or_none(status.get("scope"))
    if path is None:
        return None
    head, separator, _ = path.partition(f"/{scope}/") if scope else (path, "", "")
    return oci.below_root(f"{head}/{scope}" if separator else path)
