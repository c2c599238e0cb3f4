"""runc used directly: ``runc-<id>.scope`` (systemd driver), else wherever the bundle's ``cgroupsPath`` says, by default
``/<id>``.

State: ``/run/runc/<id>/state.json`` (rootless: ``/run/user/<uid>/runc``); the same file is written elsewhere for any
engine that runs runc.  Ids are free text of the characters that runc allows.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nsinspect.capabilities import mask_of
from nsinspect.declarations import Claim, Declaration, rfc3339
from nsinspect.errors import KernelError
from nsinspect.runtimes import crio, oci, podman, wanted
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "runc"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = mask_of(("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"))
"""What ``runc spec`` writes into a new bundle; the engines that use runc have their own."""

# No leading dot: an id is also the name of a folder.
ID = r"[A-Za-z0-9_+-][A-Za-z0-9_+.-]*"
_ROOT = "/run/runc"
_SCOPE = re.compile(rf"runc-({ID})\.scope".encode())
_MOUNTED = re.compile(r"/sys/fs/cgroup/[^/]+(/.+)", re.DOTALL)


def container_id(component: bytes, above: Above) -> str | None:
    """``runc-<id>.scope``."""
    match = _SCOPE.fullmatch(component)
    return match[1].decode() if match else None


def is_helper(component: bytes, above: Above) -> bool:
    """Runc leaves no process behind."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """Every container of root's with a ``state.json``.

    What a user writes about his own does not make a process a container: it could be any process.
    """
    return oci.each(claim(files, f"{_ROOT}/{name}/state.json", NAME, name) for name in files.entries(_ROOT))


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Creation time and annotations from ``state.json``; all that its engine knows where that is podman or CRI-O."""

    def look(root: str) -> Declaration | None:
        path = f"{root}/{traces.id}/state.json"
        state = oci.object_at(files, path)
        if state is None:
            return None
        annotations = labels_of(state)
        bundle = annotations.pop("bundle", "")
        spec = oci.optional(files, lambda: oci.object_at(files, f"{bundle}/config.json")) if bundle else None
        created_at = rfc3339(state.get("created"))
        return told(files, traces, annotations, bundle, spec=spec, path=path, created_at=created_at)

    return oci.first_of(roots(files, NAME), look)


def roots(files: StateFiles, program: str) -> list[str]:
    """Where runc and crun keep their state: root's folder, then one for each user that is logged in."""
    return [f"/run/{program}", *(f"/run/user/{uid}/{program}" for uid in files.entries("/run/user") if uid.isdigit())]


def claim(files: StateFiles, path: str, runtime: str, default: str) -> Iterator[Claim]:
    """What a ``state.json`` claims for the engine that had it written.

    One that is broken still says that there is a container of this id; then it is looked for in the ``default`` cgroup.
    """
    try:
        state = oci.object_at(files, path)
    except KernelError:
        yield Claim(runtime, path.split("/")[-2], path, oci.below_root(default), None)
        raise
    if state is None:
        return
    cgroup = _cgroup(oci.texts(oci.section(state, "cgroup_paths")))
    # runc writes -1 before there is a process (runc PR 5257).
    pid = oci.pid_or_none(state.get("init_process_pid"))
    start = oci.natural(state.get("init_process_start"))
    yield Claim(runtime, path.split("/")[-2], path, cgroup, pid, start or None)


def labels_of(state: dict[str, object]) -> dict[str, str]:
    """The annotations of the bundle, which runc keeps as ``key=value``, and ``bundle``, its place."""
    found = oci.section(state, "config").get("labels")
    lines = [line for line in found if isinstance(line, str)] if isinstance(found, list) else []
    return dict(line.partition("=")[::2] for line in lines)


def told(
    files: StateFiles,
    traces: Traces,
    annotations: dict[str, str],
    bundle: str,
    *,
    spec: dict[str, object] | None,
    path: str,
    created_at: str | None,
) -> Declaration:
    """Whose container it is by its annotations, and what that engine says of it: podman's and CRI-O's own files, found
    by the bundle instead of by the monitor, or the CRI plugin's annotations.  Else nobody's but the runtime's."""
    asked = {"libpod": podman.declaration, "cri-o": crio.declaration}.get(annotations.get("io.container.manager", ""))
    found = asked(files, traces._replace(monitor_cwd=bundle)) if asked else None
    if found is not None:
        return found
    asked_for = wanted.from_oci(spec) if spec else None
    if oci.is_cri(annotations):
        said = oci.from_cri(annotations, path, runtime="containerd", created_at=created_at)
        return said._replace(wanted=asked_for)
    labels = tuple(sorted(annotations.items()))
    runtime = path.split("/")[-3]
    return Declaration(source=path, runtime=runtime, labels=labels, created_at=created_at, wanted=asked_for)


def _cgroup(paths: dict[str, str]) -> bytes | None:
    """The path below the mount points that runc wrote down, by controller; on v2 one, by an empty name.

    The empty name comes first: with v1 it is the ``unified`` tree.  Controllers may differ where runc itself ran in a
    cgroup, so a process that is found by its pid is a better answer than this.
    """
    if list(paths) == [""]:
        prefix, separator, below = paths[""].partition("/sys/fs/cgroup/")
        return oci.below_root(below) if separator and not prefix else None
    match = _MOUNTED.fullmatch(paths[min(paths)]) if paths else None
    return oci.below_root(match[1]) if match else None
