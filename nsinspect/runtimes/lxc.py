"""LXC, and LXD and Incus, which are made of it: ``/lxc/<name>``, ``/lxc.payload/<name>`` and ``/lxc.payload.<name>``.

Its monitors are in ``lxc.monitor.<name>`` beside those.  A container's id is its name.  State: ``config`` in
``/var/lib/lxc/<name>``; on Proxmox VE names are numbers, and ``/etc/pve/lxc/<number>.conf`` says what it is called.
See lxc.container.conf(5) and LXC's ``src/lxc/cgroups/cgfsng.c``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from nsinspect.capabilities import NAMES, mask_of
from nsinspect.declarations import Claim, Declaration
from nsinspect.runtimes import oci
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "lxc"
PAYLOADS = ()
IDS_ARE_NAMES = True
DEFAULT_CAPABILITIES = mask_of(NAMES)
"""All: LXC itself drops none.  What distributions' ``common.conf`` drops is part of a container's own configuration,
which includes it or does not, so a container without it has nothing added."""

# No leading dot: a name is also that of a folder.
_PAYLOAD = re.compile(rb"lxc\.payload\.([^.].*)", re.DOTALL)
_HELPER = re.compile(rb"lxc\.(?:monitor|pivot)(?:\..*)?", re.DOTALL)
_HOSTNAME = re.compile(rb"hostname:[ \t]*([^\s]+)\s*")


def container_id(component: bytes, above: Above) -> str | None:
    """``lxc.payload.<name>``, or anything directly below ``lxc`` or ``lxc.payload``."""
    match = _PAYLOAD.fullmatch(component)
    name = match[1] if match else component if above and above[-1] in (b"lxc", b"lxc.payload") else b""
    return None if not name or name.startswith(b".") else name.decode("utf-8", "backslashreplace")


def is_helper(component: bytes, above: Above) -> bool:
    """The monitors, and where LXC waits while it makes cgroups."""
    return _HELPER.fullmatch(component) is not None


def claims(files: StateFiles) -> Iterable[Claim]:
    """None: a cgroup of LXC's always has the container's name."""
    return ()


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """The name: on Proxmox VE that of the host, elsewhere the id."""
    return oci.first_of(
        (f"/etc/pve/lxc/{traces.id}.conf", f"/var/lib/lxc/{traces.id}/config"),
        lambda path: _from_config(files.read(path), path, traces.id),
    )


def _from_config(data: bytes | None, path: str, name: str) -> Declaration | None:
    if data is None:
        return None
    for line in data.splitlines() if path.startswith("/etc/pve/") else ():
        if line.startswith(b"["):  # what follows are snapshots, with the hostnames of their time
            break
        if match := _HOSTNAME.fullmatch(line):
            return Declaration(source=path, name=match[1].decode("utf-8", "replace"))
    return Declaration(source=path, name=name)
