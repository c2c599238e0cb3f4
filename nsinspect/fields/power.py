"""Rows about the capabilities of one process or thread."""

from __future__ import annotations

from nsinspect.fields import shapes
from nsinspect.fields.row import Field
from nsinspect.fields.schema import CAPABILITY_SET, COUNT, FLAG, TEXT
from nsinspect.powers import Power


def _set(name: str) -> Field[Power]:
    return Field(name, CAPABILITY_SET, f"its {name} set", lambda p: shapes.capability_set(getattr(p, name)))


POWER: tuple[Field[Power], ...] = (
    Field("pid", COUNT, "host pid of the process", lambda p: p.pid, True),
    Field("tid", COUNT, "the thread; the process itself where it is the pid", lambda p: p.tid, True),
    Field("comm", TEXT, "command name, which it chooses itself", lambda p: p.comm, True),
    Field("uid", COUNT, "effective uid, as the host counts", lambda p: p.uid),
    Field("user", TEXT, "the host's name for that uid", lambda p: p.user),
    Field("container", TEXT, "id of the innermost container around it; null: the host", lambda p: p.container),
    Field(
        "relative_to",
        COUNT,
        "inode of the user namespace its capabilities count in, where that is not the host's",
        lambda p: p.relative_to,
    ),
    Field("full", FLAG, "whether it has every capability this kernel knows", lambda p: p.full),
    Field("unlike_init", FLAG, "whether its container's init has others", lambda p: p.unlike_init, True),
    *(_set(name) for name in ("effective", "permitted", "inheritable", "bounding", "ambient")),
)
