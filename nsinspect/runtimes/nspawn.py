"""systemd-nspawn and what else registers with machined: ``systemd-nspawn@<name>.service`` and ``machine-<name>.scope``.

A container's id is its name.  With a unified hierarchy its processes are in ``payload`` below the unit, and nspawn
itself in ``supervisor``.  State: ``/run/systemd/machines/<name>``, machined's own; see org.freedesktop.machine1(5).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime

from nsinspect.capabilities import mask_of
from nsinspect.declarations import Claim, Declaration, rfc3339, text_or_none
from nsinspect.runtimes.base import Above, StateFiles, Traces

NAME = "nspawn"
PAYLOADS = (b"payload",)
IDS_ARE_NAMES = True
DEFAULT_CAPABILITIES = mask_of(
    (
        *("AUDIT_CONTROL", "AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "IPC_OWNER"),
        *("KILL", "LEASE", "LINUX_IMMUTABLE", "MKNOD", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_RAW", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_ADMIN", "SYS_BOOT", "SYS_CHROOT", "SYS_NICE", "SYS_PTRACE"),
        *("SYS_RESOURCE", "SYS_TTY_CONFIG"),
    )
)
"""``--capability=`` in systemd-nspawn(1).  With a network of its own a container also gets NET_ADMIN."""

# libvirt and others register virtual machines too; those of libvirt are called qemu-<number>-<name>.
_UNIT = re.compile(rb"systemd-nspawn@(.+)\.service|machine-(?!qemu(?:-|\\x2d))(.+)\.scope")
_PROPAGATE = "/run/systemd/nspawn/propagate"
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
_MACHINE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")


def container_id(component: bytes, above: Above) -> str | None:
    """The machine's name in its unit's."""
    match = _UNIT.fullmatch(component)
    name = unescaped(match[1] or match[2]) if match else ""
    return name if _MACHINE.fullmatch(name) else None


def is_helper(component: bytes, above: Above) -> bool:
    """``supervisor`` directly below a container's unit: nspawn itself."""
    return component == b"supervisor" and bool(above) and container_id(above[-1], above[:-1]) is not None


def claims(files: StateFiles) -> Iterable[Claim]:
    """Machines that were not registered: their scope has no more than their name, which is also a folder that nspawn
    made to hand mounts in."""
    return [
        Claim(NAME, name, f"{_PROPAGATE}/{name}", os.fsencode(f"/machine.slice/{name}.scope/payload"), None)
        for name in files.entries(_PROPAGATE)
        if _MACHINE.fullmatch(name)
    ]


def declaration(files: StateFiles, traces: Traces) -> Declaration | None:
    """Name, the folder or image it runs from, and when it was registered."""
    path = f"/run/systemd/machines/{traces.id}"
    data = files.read(path)
    if data is None:
        return None
    said = dict(line.partition("=")[::2] for line in data.decode("utf-8", "replace").splitlines())
    return Declaration(
        source=path,
        name=traces.id,
        image=text_or_none(said.get("ROOT")),
        created_at=_moment(said.get("REALTIME", "")),
    )


def unescaped(name: bytes) -> str:
    r"""A name as it was before systemd-escape(1), where ``-`` is ``\x2d``; a plain ``-`` is left alone."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), name).decode("utf-8", "replace")


def _moment(microseconds: str) -> str | None:
    if not (microseconds.isascii() and microseconds.isdigit() and len(microseconds) < 18):
        return None
    return rfc3339(datetime.fromtimestamp(int(microseconds) / 10**6, UTC).isoformat())
