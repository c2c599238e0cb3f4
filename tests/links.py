"""Symbolic links that somebody else made."""

from __future__ import annotations

import os
from pathlib import Path

_NOBODY = 65534


def a_users_link(link: Path, target: str) -> None:
    """A link, with the folders above it, that is not root's: whoever runs the tests made it, or nobody did."""
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    if os.geteuid() == 0:
        os.lchown(link, _NOBODY, _NOBODY)
