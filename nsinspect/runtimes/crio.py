"""CRI-O: ``crio-<id>.scope`` (systemd driver) and ``crio-<id>`` (cgroupfs driver), sandboxes included.

On v2 crun puts the processes into a ``container`` cgroup below; conmon, the monitor, is in ``crio-conmon-<id>.scope``.
State: the bundle in ``userdata`` of containers/storage, whose ``config.json`` has all that CRI-O knows as annotations;
see cri-o's ``pkg/annotations`` and ``internal/factory/container``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import mask_of
from nsinspect.declarations import Claim, Declaration, Pod, labels_or_none, rfc3339, text_or_none
from nsinspect.runtimes import oci, wanted
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "cri-o"
PAYLOADS = (b"container",)
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = mask_of(
    ("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL")
)
"""``default_capabilities`` of crio.conf(5) since 1.18; see cri-o's ``internal/config/capabilities``."""

_CONTAINER = oci.names("crio", bare=True)
_CONMON = re.compile(rb"crio-conmon-[0-9a-f]{64}(?:\.scope)?")
_USUAL = tuple(f"{root}/overlay-containers" for root in ("/var/lib/containers/storage", "/run/containers/storage"))
_ANNOTATION = "io.kubernetes.cri-o."


def container_id(component: bytes, above: Above) -> str | None:
    """``crio-<id>`` in any of its forms."""
    return oci.named(_CONTAINER, component)


def is_helper(component: bytes, above: Above) -> bool:
    """Conmon's own cgroup."""
    return _CONMON.fullmatch(component) is not None


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of CRI-O's always says crio."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Name, image, labels, creation time and pod from the annotations in the bundle."""

    def look(folder: str) -> Declaration | None:
        path = f"{folder}/{traces.id}/userdata/config.json"
        spec = oci.object_at(files, path)
        said = oci.annotations_of(spec or {})
        if spec is None or not any(key.startswith(_ANNOTATION) for key in said):
            return None
        return _from_annotations(said, path)._replace(wanted=wanted.from_oci(spec))

    return oci.first_of(oci.storage_folders(files, traces, _USUAL), look)


def _from_annotations(said: dict[str, str], path: str) -> Declaration:
    def crio(key: str) -> str | None:
        return text_or_none(said.get(_ANNOTATION + key))

    def inside(key: str) -> dict[str, object]:
        return oci.parse_object((crio(key) or "{}").encode(), path)

    labels, metadata, kind = inside("Labels"), inside("Metadata"), crio("ContainerType")
    sandbox = kind == "sandbox"
    name = text_or_none(metadata.get("name"))
    # The kubelet's labels are there whenever the kubelet is; crictl alone gives a sandbox only its metadata.
    pod = oci.kubernetes_pod(oci.texts(labels)) or Pod(
        uid=text_or_none(metadata.get("uid")) if sandbox else None,
        name=name if sandbox else None,
        namespace=crio("Namespace"),
    )
    return Declaration(
        source=path,
        runtime=NAME,
        pause=None if kind is None else sandbox,
        pod=pod if any(pod) else None,
        name=None if sandbox else pod.container or name,
        image=crio("ImageName") or crio("Image"),
        labels=labels_or_none(labels),
        created_at=rfc3339(crio("Created")),
    )
