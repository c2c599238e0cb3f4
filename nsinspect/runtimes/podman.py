"""podman (libpod), with crun or runc: ``libpod-<id>.scope``, ``libpod-<id>`` and Quadlet's ``libpod-payload-<id>``.

On v2 crun puts the processes into a ``container`` cgroup below; the limits stay on the one named here.  conmon, the
monitor, lives beside it and is no container.  State: ``<driver>-containers/containers.json`` of the image storage,
``/var/lib/containers/storage`` unless the container's own mounts lead elsewhere.
"""

from __future__ import annotations

import os
import re

from nsinspect.capabilities import CONTAINERS_COMMON_DEFAULT
from nsinspect.declarations import Declaration, rfc3339, text_or_none
from nsinspect.errors import Malformed
from nsinspect.procfs import Mount, unescape
from nsinspect.runtimes.base import StateFiles, parse_json

NAME = "podman"
# crun under systemd puts the processes, and the limits, one level below the scope that systemd made.
PAYLOADS = (b"container",)
DEFAULT_CAPABILITIES = CONTAINERS_COMMON_DEFAULT

_CONTAINER = re.compile(rb"libpod-(?:payload-)?([0-9a-f]{64})(?:\.scope)?")
_CONMON = re.compile(rb"libpod-conmon-[0-9a-f]{64}(?:\.scope)?")
_DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_STORAGE = "/var/lib/containers/storage"


def container_id(component: bytes, parent: bytes) -> str | None:
    """``libpod-<id>`` in any of its three forms."""
    match = _CONTAINER.fullmatch(component)
    return match[1].decode() if match else None


def is_helper(component: bytes) -> bool:
    """Conmon's own cgroup."""
    return _CONMON.fullmatch(component) is not None


def declaration(files: StateFiles, container: str, mounts: tuple[Mount, ...]) -> Declaration | None:
    """Name, image and creation time from the storage's list of containers."""
    for path in _lists(files, mounts):
        data = files.read(path)
        if data is None:
            continue
        entries = parse_json(data, path)
        if not isinstance(entries, list):
            raise Malformed(data, "a JSON list of containers", path)
        for entry in entries:
            if isinstance(entry, dict) and entry.get("id") == container:
                return _from_entry(entry, path)
    return None


def _lists(files: StateFiles, mounts: tuple[Mount, ...]) -> list[str]:
    """Where the storage's list may be, the likeliest first."""
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
                found.append(f"{storage}/{driver}-containers/containers.json")
    usual = [f"{_STORAGE}/{driver}-containers/containers.json" for driver in _DRIVERS]
    return list(dict.fromkeys(found + usual))


def _from_entry(entry: dict[str, object], path: str) -> Declaration:
    names = entry.get("names")
    metadata = entry.get("metadata")
    inner: object = {}
    if isinstance(metadata, str) and metadata:
        inner = parse_json(metadata.encode("utf-8", "surrogatepass"), path)
    inner = inner if isinstance(inner, dict) else {}
    return Declaration(
        source=path,
        name=text_or_none(names[0]) if isinstance(names, list) and names else None,
        image=text_or_none(inner.get("image-name")),
        created_at=rfc3339(entry.get("created")),
    )
