"""Names of users, from the system's name service: files, LDAP, AD, FreeIPA, whatever nsswitch.conf(5) says."""

from __future__ import annotations

import pwd
import threading
from collections.abc import Iterable

PATIENCE = 1.0
"""Seconds; a directory that does not answer must not hold up a look at a sick host."""


def names(uids: Iterable[int], seconds: float = PATIENCE) -> dict[int, str]:
    """Names by uid, of those that have one and could be had in time."""
    found: dict[int, str] = {}
    wanted = sorted(set(uids))

    def ask() -> None:
        for uid in wanted:
            try:
                found[uid] = pwd.getpwuid(uid).pw_name
            except (KeyError, OSError, OverflowError):
                continue

    # The name service cannot be interrupted: what it has not said by then is left unsaid, and the thread behind.
    thread = threading.Thread(target=ask, daemon=True)
    try:
        thread.start()
    except RuntimeError:
        return {}  # no thread to be had on this host, and nobody to wait for it
    thread.join(seconds)
    return found.copy()
