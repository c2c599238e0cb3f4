"""nerdctl on containerd: ``nerdctl-<id>.scope`` (systemd driver).  With the cgroupfs driver its containers are at
``/<namespace>/<id>`` like any of containerd's, and are found as such.

State: containerd's, with nerdctl's labels among the annotations; see nerdctl's ``pkg/labels``.
"""

from __future__ import annotations

from collections.abc import Iterable

from nsinspect.capabilities import MOBY_DEFAULT
from nsinspect.declarations import Claim, Declaration
from nsinspect.runtimes import containerd, oci
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "nerdctl"
PAYLOADS = ()
IDS_ARE_NAMES = False
DEFAULT_CAPABILITIES = MOBY_DEFAULT

_SCOPE = oci.names("nerdctl")


def container_id(component: bytes, above: Above) -> str | None:
    """``nerdctl-<id>.scope``."""
    return oci.named(_SCOPE, component)


def is_helper(component: bytes, above: Above) -> bool:
    """Shims are in containerd's own cgroup."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: containerd makes them."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """What containerd's files say, with nerdctl's name and labels."""
    found = containerd.declaration(files, traces)
    return None if found is None else found._replace(runtime=NAME)
