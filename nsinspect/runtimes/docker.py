"""Docker: ``/docker/<id>`` (cgroupfs driver) and ``/system.slice/docker-<id>.scope`` (systemd driver), at any depth.

State: ``<data root>/containers/<id>/config.v2.json``, readable by root.  The data root is ``/var/lib/docker`` unless
``--data-root`` or a rootless daemon moved it; the bind mounts of ``/etc/hostname`` and its sisters say where.  Where
images and layers are kept does not matter here, so containerd's image store changes nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Claim, Declaration, labels_or_none, rfc3339, text_or_none
from nsinspect.runtimes import oci, wanted
from nsinspect.runtimes.base import Above, StateFiles, Traces, folders_behind

NAME = "docker"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT

_SCOPE = oci.names("docker")
_BARE = re.compile(rb"[0-9a-f]{64}")
# GitHub's runners and Amazon's ECS agent give their own --cgroup-parent; ECS has one level more for the task,
# or two with the cluster.
_PARENTS = (b"docker", b"actions_job")
# A container that joined another's network has that one's files mounted, from the same folder of containers.
_BOUND = (b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf")
_FOLDER = re.compile(r"(.*/containers)/[0-9a-f]{64}/(?:hostname|hosts|resolv\.conf)", re.DOTALL)


def container_id(component: bytes, above: Above) -> str | None:
    """``docker-<id>.scope`` anywhere; a bare id directly below ``docker`` or ``actions_job`` or a task of ``ecs``."""
    if found := oci.named(_SCOPE, component):
        return found
    if above and _BARE.fullmatch(component) and (above[-1] in _PARENTS or b"ecs" in above[-3:-1]):
        return component.decode()
    return None


def is_helper(component: bytes, above: Above) -> bool:
    """Docker's shims stay in the daemon's own cgroup."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of Docker's always has the container's id."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Name, image, labels, time and pod from ``config.v2.json``; what was asked for from ``hostconfig.json``."""

    def look(folder: str) -> Declaration | None:
        path = f"{folder}/{traces.id}/config.v2.json"
        state = oci.object_at(files, path)
        if state is None:
            return None
        asked = oci.optional(files, lambda: oci.object_at(files, f"{folder}/{traces.id}/hostconfig.json"))
        return _from_config(state, asked, path)

    return oci.first_of(
        chain(("/var/lib/docker/containers",), folders_behind(files, traces, _BOUND, _FOLDER)),
        look,
    )


def _from_config(state: dict[str, object], asked: dict[str, object] | None, path: str) -> Declaration:
    config = oci.section(state, "Config")
    labels = oci.texts(oci.section(config, "Labels"))
    name = text_or_none(state.get("Name"))
    # Written by dockershim and cri-dockerd.
    kind = labels.get("io.kubernetes.docker.type")
    return Declaration(
        source=path,
        runtime=NAME,
        pause=None if kind is None else kind == "podsandbox",
        pod=oci.kubernetes_pod(labels),
        name=name.removeprefix("/") if name else None,
        image=text_or_none(config.get("Image")),
        labels=labels_or_none(config.get("Labels")),
        created_at=rfc3339(state.get("Created")),
        wanted=None if asked is None else wanted.from_docker(asked, config),
    )
