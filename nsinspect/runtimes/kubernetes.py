"""Kubernetes: the kubelet's part of a cgroup path, and the bare ids, below it and elsewhere, that do not say which
engine's they are.

``/kubepods/burstable/pod<uid>/<id>`` (cgroupfs driver) and ``/kubepods.slice/kubepods-burstable.slice/
kubepods-burstable-pod<uid>.slice/...`` (systemd driver, ``-`` of the uid written as ``_``).  A guaranteed pod has no
level for its class; a static pod's uid is 32 hexadecimal digits; kind puts ``kubelet-`` in front.  Where kubelet and
engine disagree on the driver, ``kubepods-burstable-pod<uid>.slice:cri-containerd:<id>`` is one component.

A bare id elsewhere is what Docker makes below ``--cgroup-parent`` and rootless podman in a unit of a user's systemd.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Claim, Declaration, Pod
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "unknown"
PAYLOADS = (b"container",)
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT

_ID = re.compile(rb"[0-9a-f]{64}")
_UID = rb"([0-9a-f]{8}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{4}[-_][0-9a-f]{12}|[0-9a-f]{32})"
_SLICE = re.compile(rb"(?:.*-)?kubepods(?:-(burstable|besteffort))?-pod" + _UID + rb"\.slice", re.DOTALL)
_FOLDER = re.compile(rb"pod" + _UID)
_CLASSES = (b"burstable", b"besteffort")


def pod_of(path: Above) -> Pod | None:
    """The innermost pod that a path leads through: uid with dashes, and its QoS class."""
    for index in reversed(range(len(path))):
        # No slice has a colon in its name; what follows one is the container of a driver mismatch.
        if match := _SLICE.fullmatch(path[index].partition(b":")[0]):
            return Pod(uid=_dashed(match[2]), qos=(match[1] or b"guaranteed").decode())
        if match := _FOLDER.fullmatch(path[index]):
            quality = path[index - 1] if index and path[index - 1] in _CLASSES else b"guaranteed"
            return Pod(uid=_dashed(match[1]), qos=quality.decode())
    return None


def container_id(component: bytes, above: Above) -> str | None:
    """A bare id: Docker's, containerd's or podman's, which only a state file can tell.  One directly below
    ``libpod_parent`` is a pod of podman's."""
    if _ID.fullmatch(component) and above[-1:] != (b"libpod_parent",):
        return component.decode()
    return None


def is_helper(component: bytes, above: Above) -> bool:
    """The kubelet puts none there; Kata's virtual machine monitors have a tree of their own."""
    return component == b"kata_overhead"


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: the kubelet is no engine."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """None: the engines are asked."""
    return None


def _dashed(uid: bytes) -> str:
    return uid.decode().replace("_", "-")
