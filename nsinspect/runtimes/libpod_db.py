"""podman's database, ``db.sql``: what libpod was told of a container, read from bytes and never from a path.

SQLite works on a copy in memory, so nothing is locked, no journal is written and no link is followed.  The file may be
a user's own, so what it may compute is nothing, and what it may cost is bounded.  Tables: podman's
``libpod/sqlite_state_internal.go``.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from nsinspect.declarations import text_or_none
from nsinspect.errors import Malformed
from nsinspect.runtimes import oci

_QUERY = """
SELECT c.Name, c.PodID, p.Name, c.JSON FROM ContainerConfig AS c LEFT JOIN PodConfig AS p ON p.ID = c.PodID
WHERE c.ID = ?
"""
# What a user's own schema would compute: views and generated columns have AS in them, and other words for tables that
# are none are VIRTUAL.  One call of a function on long texts takes minutes, in which SQLite asks nobody whether to go
# on, and so do views of views before a query has even begun.
_COMPUTES = re.compile(r"\b(AS|VIRTUAL)\b", re.IGNORECASE)
_LONGEST = 4 << 20
_INSTRUCTIONS = 20_000  # for a look-up by key some hundreds


class Row(NamedTuple):
    """One container; ``pod`` is the pod's id, ``labels`` what is in their place."""

    name: str | None
    image: str | None
    created: object
    labels: object
    pod: str | None
    pod_name: str | None
    infra: bool


def container(data: bytes | None, path: str, wanted: str) -> Row | None:
    """The container ``wanted`` of a database, ``None`` when there is no such file or container.

    Raises ``Malformed`` naming the file.
    """
    if data is None:
        return None
    import sqlite3

    try:
        connection = sqlite3.connect(":memory:")
        try:
            connection.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _LONGEST)
            connection.set_progress_handler(lambda: 1, _INSTRUCTIONS)
            connection.deserialize(data)
            for (text,) in connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL"):
                if not isinstance(text, str) or _COMPUTES.search(text):
                    raise sqlite3.NotSupportedError
            found = connection.execute(_QUERY, (wanted,)).fetchone()
        finally:
            connection.close()
    # An empty file is a MemoryError to SQLite, and its own complaint may quote what is no text.
    except (sqlite3.Error, MemoryError, OverflowError, UnicodeDecodeError):
        raise Malformed.expecting("podman's database", path) from None
    if found is None:
        return None
    name, pod, pod_name, text = found
    # Go's bytes are a blob to SQLite, whatever the column is declared as.
    data = text.encode() if isinstance(text, str) else text
    config = oci.parse_object(data if isinstance(data, bytes) else b"", path)
    return Row(
        name=text_or_none(name),
        image=text_or_none(config.get("rootfsImageName")) or text_or_none(config.get("RawImageName")),
        created=config.get("createdTime"),
        labels=config.get("labels", {}),
        pod=text_or_none(pod),
        pod_name=text_or_none(pod_name),
        infra=config.get("pause") is True,
    )
