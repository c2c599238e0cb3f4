"""containerd: ``cri-containerd-<id>.scope`` and ``cri-containerd-<id>`` for Kubernetes, and for ``ctr`` and nerdctl
``/<namespace>/<id>``, which nothing but a state file tells from any other folder.

State: the bundle in ``<state>/io.containerd.runtime.v2.task/<namespace>/<id>/``, with ``config.json`` and ``init.pid``.
A shim works in the bundle of the container, or of the sandbox, that it was started for, so its working directory says
where a moved state folder is; else runc's own state does, which stays where it is.  See containerd's docs/ops.md and
``pkg/cri/annotations``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Claim, Declaration, rfc3339, text_or_none
from nsinspect.errors import KernelError
from nsinspect.runtimes import oci, runc, wanted
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "containerd"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT

_CRI = oci.names("cri-containerd", bare=True)
_STATES = ("/run/containerd", "/run/k3s/containerd", "/run/docker/containerd/daemon")
_TASKS = "io.containerd.runtime.v2.task"
_BUNDLE = re.compile(rf"(/.*/{re.escape(_TASKS)}/(?!moby/)[^/]+)/[^/]+", re.DOTALL)
_RUNC = "/run/containerd/runc"
_MOBY = "moby"  # Docker's namespace: its containers are Docker's


def container_id(component: bytes, above: Above) -> str | None:
    """``cri-containerd-<id>`` in any of its forms."""
    return oci.named(_CRI, component)


def is_helper(component: bytes, above: Above) -> bool:
    """Shims are in the cgroup of containerd or of the pod, which is no container's."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """Every task of every namespace but Docker's; of a state folder that was moved, those that run with runc."""
    bundles = {(space, name): f"{_folder(state, space)}/{name}" for state, space, name in _tasks(files)}
    moved = [
        runc.claim(files, f"{_RUNC}/{space}/{name}/state.json", NAME, f"{space}/{name}")
        for space in _spaces(files, _RUNC)
        for name in files.entries(f"{_RUNC}/{space}")
        if (space, name) not in bundles
    ]
    return oci.each([*(_claim(files, bundle) for bundle in bundles.values()), *moved])


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Name, image, pod and annotations from the bundle's ``config.json``; creation time from runc's state."""

    def look(folder: str) -> Declaration | None:
        path = f"{folder}/{traces.id}/config.json"
        spec = oci.object_at(files, path)
        if spec is None:
            return None
        space = folder.rpartition("/")[2]
        created_at = rfc3339(_runc_state(files, space, traces.id).get("created"))
        said = oci.from_cri(oci.annotations_of(spec), path, runtime=NAME, created_at=created_at)
        return said._replace(wanted=wanted.from_oci(spec))

    return oci.first_of(_folders(files, traces), look)


def _folders(files: StateFiles, traces: Traces) -> Iterator[str]:
    """Where a container's bundle may be, the likeliest first."""
    shim = _BUNDLE.fullmatch(traces.monitor_cwd or "")
    if shim:
        yield shim[1]
    for state in _STATES:
        for space in _spaces(files, f"{state}/{_TASKS}"):
            yield _folder(state, space)
    for space in _spaces(files, _RUNC):
        state_of = _runc_state(files, space, traces.id)
        if bundle := _BUNDLE.fullmatch(runc.labels_of(state_of).get("bundle", "")):
            yield bundle[1]


def _tasks(files: StateFiles) -> Iterator[tuple[str, str, str]]:
    for state in _STATES:
        for space in _spaces(files, f"{state}/{_TASKS}"):
            for name in files.entries(_folder(state, space)):
                yield state, space, name


def _spaces(files: StateFiles, folder: str) -> list[str]:
    return [space for space in files.entries(folder) if space != _MOBY]


def _folder(state: str, space: str) -> str:
    return f"{state}/{_TASKS}/{space}"


def _runc_state(files: StateFiles, space: str, name: str) -> dict[str, object]:
    """What runc wrote down for a task; empty when it did not."""
    return oci.optional(files, lambda: oci.object_at(files, f"{_RUNC}/{space}/{name}/state.json")) or {}


def _claim(files: StateFiles, bundle: str) -> Iterator[Claim]:
    path = f"{bundle}/config.json"
    space, name = bundle.split("/")[-2:]
    digits = oci.optional(files, lambda: files.read(f"{bundle}/init.pid")) or b""
    pid = oci.pid_or_none(int(digits)) if digits.isdigit() and len(digits) < 11 else None
    try:
        spec = oci.object_at(files, path)
    except KernelError:  # still a container of this id, in the cgroup that is the default
        yield Claim(NAME, name, path, oci.below_root(f"{space}/{name}"), pid)
        raise
    if spec is not None:
        cgroup = text_or_none(oci.section(spec, "linux").get("cgroupsPath"))
        yield Claim(NAME, name, path, oci.cgroup_of(cgroup) if cgroup else None, pid)
