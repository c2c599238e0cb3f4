"""Rows about one namespace."""

from __future__ import annotations

from nsinspect.fields.row import Field
from nsinspect.fields.schema import COUNT, FLAG, PIDS, TEXT, TEXTS, Schema, exactly, listed, nullable
from nsinspect.membership import Membership
from nsinspect.namespaces import TYPES

_KIND: Schema = {"enum": list(TYPES)}

NAMESPACE_ROWS: tuple[Field[Membership], ...] = (
    Field("type", _KIND, "which of the eight", lambda m: m.kind, True),
    Field("inode", COUNT, "its number, which /proc/<pid>/ns shows", lambda m: m.inode, True),
    Field("host", FLAG, "whether it is the host's", lambda m: m.host),
    Field("nprocs", COUNT, "how many processes are in it", lambda m: len(m.pids), True),
    Field("pids", PIDS, "their host pids, ascending", lambda m: list(m.pids), True),
    Field("pid", COUNT, "the lowest of them", lambda m: m.first and m.first.pid),
    Field("comm", TEXT, "that one's command name, which it chooses itself", lambda m: m.first and m.first.comm),
    Field(
        "uid",
        COUNT,
        "that one's effective uid, as the host counts",
        lambda m: m.first.status.uid.effective if m.first and m.first.status else None,
    ),
    Field("user", TEXT, "the host's name for that uid", lambda m: m.user),
    Field("containers", TEXTS, "ids of the containers that have processes in it", lambda m: list(m.containers), True),
    Field("owner", COUNT, "inode of the user namespace that owns it (NS_GET_USERNS)", lambda m: m.kin.owner),
    Field("parent", COUNT, "inode of its parent; pid and user only (NS_GET_PARENT)", lambda m: m.kin.parent),
    Field("owner_uid", COUNT, "uid that made it; user only (NS_GET_OWNER_UID)", lambda m: m.kin.owner_uid),
    Field(
        "held_by",
        listed(exactly(mount=nullable(TEXT), pid=nullable(COUNT), fd=nullable(COUNT))),
        "bind mounts and open descriptors that keep it alive without its processes",
        lambda m: [{"mount": h.mount, "pid": h.pid, "fd": h.fd} for h in m.holders],
        True,
    ),
)
