"""What of the host is mounted in a container, from its ``mountinfo`` and the host's.  See mount_namespaces(7)."""

from __future__ import annotations

import os
from collections.abc import Container, Iterable, Mapping
from typing import NamedTuple

from nsinspect.procfs import Mount, host_path

_SOCKETS = ("docker.sock", "containerd.sock", "crio.sock", "podman.sock", "dockershim.sock", "cri-dockerd.sock")
_SOCKET = "an engine's socket: whoever may talk to it is root on the host, read-only or not"
_FOLDERS = {
    "/": "everything on the host",
    "/boot": "the host's kernels",
    "/dev": "the host's devices",
    "/etc": "the host's configuration",
    "/home": "the files of the host's users",
    "/lib": "the host's programs",
    "/proc": "the host's processes",
    "/root": "the files of the host's root",
    "/run": "the host's sockets, engines' among them",
    "/sys": "the host's devices and cgroups",
    "/usr": "the host's programs",
    "/var/lib/containerd": "every container's files",
    "/var/lib/containers": "every container's files",
    "/var/lib/docker": "every container's files",
    "/var/lib/kubelet": "every pod's files and secrets",
}
# Of these, what is below matters as much.
_WHOLE = ("/boot", "/proc", "/root", "/sys")
_SECRETS = (b"/run/secrets/", b"/var/run/secrets/")
# Engines put files of their own there.
_ENGINES = (
    *(b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf", b"/run/.containerenv"),
    *(b"/dev/console", b"/dev/termination-log", b"/dev/shm"),
)
# File systems of the kernel: mounted anew in every container, and yet the very same for the kernel.
_KERNELS = (b"proc", b"sysfs", b"cgroup", b"cgroup2", b"mqueue", b"devpts", b"tmpfs")
_ORDINARY = (b"/proc/", b"/sys/", b"/dev/")
# So many mounts above one are looked at, the nearest.  Whoever may mount in a container may do so 100,000 times, each
# below the one before (fs.mount-max), and nobody must wait for that.
_LEVELS = 64


class Visible(NamedTuple):
    """One mount worth a word.  ``host_path`` is ``None`` for a secret that is in no file of the host; ``why`` says what
    a container can do with it, ``None`` where it is no more than a folder.  ``propagation``: "shared", "slave" or
    "private"."""

    point: bytes
    host_path: str | None
    fstype: bytes
    read_only: bool
    propagation: str
    secret: bool
    why: str | None


def visible(mounts: Iterable[Mount], host: Iterable[Mount]) -> tuple[Visible, ...]:
    """Paths of the host, and secrets, by where they are inside; what the kernel or the engine mounts in every container
    is left out."""
    last = {mount.point: mount for mount in mounts}
    devices: dict[bytes, list[Mount]] = {mount.device: [] for mount in last.values()}
    for mount in host:
        if mount.device in devices:
            devices[mount.device].append(mount)
    places = {(mount.point, mount.device, mount.root) for some in devices.values() for mount in some}
    found: list[Visible] = []
    # Those of found that are above the next one: what is below a mount follows it, if names are compared part by part.
    above: list[Visible] = []
    for point, mount in sorted(last.items(), key=lambda item: item[0].replace(b"/", b"\0")):
        while above and not _is_below(point, (above[-1].point.rstrip(b"/") + b"/",)):
            above.pop()
        secret = _is_below(point, _SECRETS)
        # Most mounts are an engine's, which can be said without knowing where on the host they are.
        if not secret and _is_usual(mount):
            continue
        path = host_path(mount, devices[mount.device])
        if not secret and (path is None or (point == b"/" and path != "/")):
            continue
        one = Visible(
            point=point,
            host_path=path,
            fstype=mount.fstype,
            read_only=b"ro" in mount.options.split(b","),
            propagation=_propagation(mount),
            secret=secret,
            why=None if path is None or secret else _why(path),
        )
        if not any(_came_with(one, mount, its, places) for its in above[-_LEVELS:]):
            found.append(one)
            above.append(one)
    by_place = {(one.host_path, one.point): one for one in found}
    return tuple(sorted((one for one in found if not _is_again(one, by_place)), key=lambda one: one.point))


def _is_again(one: Visible, by_place: Mapping[tuple[str | None, bytes], Visible]) -> bool:
    """Whether a container whose own root file system is below a mount of the host sees one of its mounts a second
    time, through that."""
    at = -1 if one.host_path is None else one.point.find(b"/", 1)
    while at > 0:
        other = by_place.get((one.host_path, one.point[at:]))
        if other is not None and (one.read_only or not other.read_only):
            return True
        at = one.point.find(b"/", at + 1)
    return False


def _came_with(one: Visible, mount: Mount, above: Visible, places: Container[tuple[bytes, bytes, bytes]]) -> bool:
    """Whether it is there because what is above it was mounted with everything below.  Where it may be written and that
    not, it is news: a read-only mount of the host's ``/`` may leave what is mounted below it writable."""
    if one.secret or above.host_path is None:
        return False
    if above.read_only and not one.read_only:
        return False
    place = above.host_path.rstrip("/") + os.fsdecode(one.point[len(above.point.rstrip(b"/")) :])
    # Of cgroups a container sees its own again, where its root file system is below what was mounted.
    if one.host_path == place or one.fstype.startswith(b"cgroup"):
        return True
    # What the host has in several places, as engines have its network namespace, was found at the first of them.
    return (os.fsencode(place), mount.device, mount.root) in places


def masked(mounts: Iterable[Mount]) -> tuple[bytes, ...]:
    """Paths of /proc and /sys that something is mounted over, to hide them or to keep them from being written."""
    points = {mount.point for mount in mounts if mount.point.startswith((b"/proc/", b"/sys/"))}
    return tuple(sorted(point for point in points if not _is_below(point, (b"/sys/fs/cgroup/",))))


def _is_usual(mount: Mount) -> bool:
    if mount.fstype in _KERNELS and _is_below(mount.point, _ORDINARY):
        return True
    # Parts of a /proc of its own, and the cover over others.
    return mount.point in _ENGINES or mount.point.startswith(b"/proc/")


def _why(path: str) -> str | None:
    if os.path.basename(path) in _SOCKETS:
        return _SOCKET
    for folder in _WHOLE:
        if path.startswith(folder + "/"):
            return _FOLDERS[folder]
    return _FOLDERS.get(path)


def _is_below(point: bytes, tops: tuple[bytes, ...]) -> bool:
    """Whether it is one of ``tops``, which end with a slash, or below one."""
    return (point + b"/").startswith(tops)


def _propagation(mount: Mount) -> str:
    return "shared" if b"shared:" in mount.propagation else "slave" if b"master:" in mount.propagation else "private"
