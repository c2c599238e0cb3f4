r"""libvirt's LXC driver, which has nothing to do with LXC: ``machine-lxc\x2d<number>\x2d<name>.scope`` with systemd,
``<name>.libvirt-lxc`` and ``/libvirt/lxc/<name>`` without.

A container's id is its name.  See libvirt's docs/cgroups and ``src/lxc/lxc_container.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import NAMES, mask_of
from nsinspect.declarations import Claim, Declaration
from nsinspect.runtimes.base import Above, StateFiles, Traces
from nsinspect.runtimes.nspawn import unescaped

NAME = "libvirt-lxc"
PAYLOADS = (b"libvirt",)
IDS_ARE_NAMES = True
DEFAULT_CAPABILITIES = mask_of(NAMES) & ~mask_of(("SYS_MODULE", "SYS_TIME", "MKNOD", "AUDIT_CONTROL", "MAC_ADMIN"))
"""All but what the driver drops with the policy "default"; SYS_BOOT goes too where the kernel cannot contain it."""

_SCOPE = re.compile(rb"machine-lxc\\x2d[0-9]+\\x2d(.+)\.scope")
_FOLDER = re.compile(rb"(.+)\.libvirt-lxc", re.DOTALL)


def container_id(component: bytes, above: Above) -> str | None:
    """The domain's name, in any of the three forms."""
    if match := _SCOPE.fullmatch(component):
        return unescaped(match[1])
    if match := _FOLDER.fullmatch(component):
        return match[1].decode("utf-8", "backslashreplace")
    if above[-2:] == (b"libvirt", b"lxc") and component:
        return component.decode("utf-8", "backslashreplace")
    return None


def is_helper(component: bytes, above: Above) -> bool:
    """libvirt_lxc, the controller, is in the container's own cgroup, so a path cannot tell it."""
    return False


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of libvirt's has the domain's name."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """None: a domain's XML says nothing that its id does not."""
    return None
