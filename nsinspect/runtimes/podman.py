"""podman (libpod), with crun or runc: ``libpod-<id>.scope``, ``libpod-<id>`` and Quadlet's ``libpod-payload-<id>``.

On v2 crun puts the processes into a ``container`` cgroup below; the limits stay on the one named here.  conmon, the
monitor, lives beside it and is no container.  State: the list of containers in ``<driver>-containers`` of the image
storage, the bundle in ``userdata`` below that, and ``db.sql`` since podman 4.8.  The storage is
``/var/lib/containers/storage`` unless conmon, or the container's own mounts, lead elsewhere.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator

from nsinspect.capabilities import CONTAINERS_COMMON_DEFAULT
from nsinspect.declarations import Claim, Declaration, Pod, labels_or_none, rfc3339, text_or_none
from nsinspect.procfs import Mount, unescape
from nsinspect.runtimes import libpod_db, oci, wanted
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "podman"
# crun under systemd puts the processes, and the limits, one level below the scope that systemd made.
PAYLOADS = (b"container",)
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = CONTAINERS_COMMON_DEFAULT

_CONTAINER = re.compile(rb"libpod-(?:payload-)?([0-9a-f]{64})(?:\.scope)?")
_CONMON = re.compile(rb"libpod-conmon-[0-9a-f]{64}(?:\.scope)?")
_POD = re.compile(rb"(?:.+-)?libpod_pod_([0-9a-f]{64})(?:\.slice)?", re.DOTALL)
_ID = re.compile(rb"[0-9a-f]{64}")
_INFRA = re.compile(r"([0-9a-f]{12})-infra")
_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_STORAGE = "/var/lib/containers/storage"
_USUAL = tuple(f"{_STORAGE}/{driver}-containers" for driver in _DRIVERS)


def container_id(component: bytes, above: Above) -> str | None:
    """``libpod-<id>`` in any of its three forms."""
    match = _CONTAINER.fullmatch(component)
    return match[1].decode() if match else None


def is_helper(component: bytes, above: Above) -> bool:
    """Conmon's own cgroup."""
    return _CONMON.fullmatch(component) is not None


def pod_of(path: Above) -> Pod | None:
    """The podman pod that a path leads through: a slice of systemd's, or a folder directly below ``libpod_parent``."""
    for index in reversed(range(len(path))):
        if match := _POD.fullmatch(path[index]):
            return Pod(uid=match[1].decode())
        if index and path[index - 1] == b"libpod_parent" and _ID.fullmatch(path[index]):
            return Pod(uid=path[index].decode())
    return None


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of podman's own says libpod, and crun or runc tell of the others."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Name, image and creation time from the storage's list; pod and labels from what libpod keeps beside it."""

    def folders() -> Iterator[str]:
        storage = []
        for folder in oci.storage_folders(files, traces, _USUAL):
            storage.append(folder)
            yield folder
        for folder in storage:
            if its := _of_user(files, folder, traces.id):
                yield its
        yield from _layers(files, traces.mounts())

    return oci.first_of(oci.once(folders()), lambda folder: _declared(files, folder, traces.id))


def _declared(files: StateFiles, folder: str, container: str) -> Declaration | None:
    listed = oci.first_of(
        (f"{folder}/containers.json", f"{folder}/volatile-containers.json"),
        lambda path: _listed(files, path, container),
    )
    database = f"{folder.rpartition('/')[0]}/db.sql"
    if listed is None:
        row = libpod_db.container(files.read(database), database, container)
        if row is None:
            return None
        listed = Declaration(source=database, name=row.name, image=row.image, created_at=rfc3339(row.created))
    else:
        row = oci.optional(files, lambda: libpod_db.container(files.read(database), database, container))
    spec = oci.optional(files, lambda: oci.object_at(files, f"{folder}/{container}/userdata/config.json")) or {}
    pod, pause = _pod(spec, row, listed.name)
    if pod is not None and pod.name is None:
        # Without a database a member's bundle says which container is the infra one, and that one's host is the pod.
        infra = oci.annotations_of(spec).get("io.kubernetes.cri-o.SandboxID", "")
        path = f"{folder}/{infra}/userdata/config.json"
        around = (
            oci.optional(files, lambda: oci.object_at(files, path))
            if _ID.fullmatch(infra.encode("utf-8", "replace"))
            else None
        )
        pod = pod._replace(name=text_or_none((around or {}).get("hostname")))
    return Declaration(
        source=listed.source,
        runtime=NAME,
        pause=pause,
        pod=pod,
        name=listed.name,
        image=listed.image,
        labels=labels_or_none(row.labels) if row else None,
        created_at=listed.created_at,
        wanted=wanted.from_oci(spec) if spec else None,
    )


def _listed(files: StateFiles, path: str, container: str) -> Declaration | None:
    data = files.read(path)
    if data is None:
        return None
    entries = oci.parse_json(data, path)
    for entry in entries if isinstance(entries, list) else [oci.as_object(None, path)]:
        if isinstance(entry, dict) and entry.get("id") == container:
            return _from_entry(entry, path)
    return None


def _from_entry(entry: dict[str, object], path: str) -> Declaration:
    names = entry.get("names")
    metadata = entry.get("metadata")
    inner: object = {}
    if isinstance(metadata, str) and metadata:
        inner = oci.parse_json(metadata.encode(), path)
    inner = inner if isinstance(inner, dict) else {}
    return Declaration(
        source=path,
        name=text_or_none(names[0]) if isinstance(names, list) and names else None,
        image=text_or_none(inner.get("image-name")),
        created_at=rfc3339(entry.get("created")),
    )


def _pod(spec: dict[str, object], row: libpod_db.Row | None, name: str | None) -> tuple[Pod | None, bool | None]:
    """The pod, and whether this is its infra container.

    Only the database says either; without it the pod is in the cgroup that the bundle asks for, an infra container
    is called after its pod, and a pod is called as its infra container's host.
    """
    if row is not None:
        pod = Pod(uid=row.pod, name=row.pod_name) if row.pod else None
        return pod, row.infra if pod else None
    cgroup = oci.cgroup_of(text_or_none(oci.section(spec, "linux").get("cgroupsPath")) or "") or b""
    pod = pod_of(tuple(cgroup.split(b"/")[1:]))
    match = _INFRA.fullmatch(name or "")
    if pod is None:
        return None, None
    infra = match is not None and (pod.uid or "").startswith(match[1])
    return (pod._replace(name=text_or_none(spec.get("hostname"))) if infra else pod), infra


def _of_user(files: StateFiles, folder: str, container: str) -> str | None:
    """A user's storage, where all that leads to it is the run folder: crun writes down where the bundle is."""
    match = re.match(r"(/run/user/[0-9]+)/", folder)
    status = oci.optional(files, lambda: oci.object_at(files, f"{match[1]}/crun/{container}/status")) if match else None
    return oci.storage_of(text_or_none(status.get("bundle"))) if status else None


def _layers(files: StateFiles, mounts: tuple[Mount, ...]) -> list[str]:
    """Folders of containers in the storage that holds the container's root file system."""
    found = []
    for mount in mounts:
        if mount.point != b"/":
            continue
        # overlay: upperdir=<storage>/overlay/<layer>/diff;  vfs: the root is a bind of <storage>/vfs/dir/<layer>.
        options = dict(part.partition(b"=")[::2] for part in mount.super_options.split(b","))
        layer = os.fsdecode(unescape(options.get(b"upperdir", b""))) or files.host_path(mount) or ""
        for driver in _DRIVERS:
            storage, separator, _ = layer.rpartition(f"/{driver}/")
            if separator:
                found.append(f"{storage}/{driver}-containers")
    return found
