"""Which container a person means: a name, an id prefix, a cgroup path or ``pid:N``."""

from __future__ import annotations

import os

from nsinspect.errors import NsinspectError
from nsinspect.model import Container, Model

SHORTEST_PREFIX = 4


class NotFound(NsinspectError):
    """No container answers to that."""


class Ambiguous(NsinspectError):
    """Several containers answer to that; ``candidates`` are they."""

    def __init__(self, message: str, candidates: tuple[Container, ...]) -> None:
        super().__init__(message)
        self.candidates = candidates


def find(model: Model, wanted: str) -> Container:
    """The one container meant by ``wanted``.  Raises :class:`NotFound` or :class:`Ambiguous`."""
    if wanted.startswith("pid:"):
        number = wanted.removeprefix("pid:")
        if not number.isascii() or not number.isdigit() or len(number) > 10:
            raise NotFound(f"expected pid: and a number, found {wanted!a}")
        found = [c for c in model.containers if int(number) in c.pids]
    elif wanted.startswith("/"):
        path = os.fsencode(wanted.rstrip("/"))
        found = [c for c in model.containers if path == c.cgroup_path or path in c.cgroup_paths.values()]
    else:
        # A whole id or a name is meant exactly, so neither can hide behind the other's prefix.
        found = [c for c in model.containers if wanted in (c.id, c.name)]
        if not found and len(wanted) >= SHORTEST_PREFIX:
            found = [c for c in model.containers if c.id.startswith(wanted)]
    if not found:
        hint = "" if len(wanted) >= SHORTEST_PREFIX else f" (an id prefix has {SHORTEST_PREFIX} characters or more)"
        raise NotFound(f"no such container: {ascii(wanted)[1:-1]}{hint}")
    if len(found) > 1:
        raise Ambiguous(f"{ascii(wanted)[1:-1]} names {len(found)} containers", tuple(found))
    return found[0]
