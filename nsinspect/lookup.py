"""Which container a person means: a name, an id prefix, ``NAMESPACE/POD/CONTAINER``, a cgroup path or ``pid:N``."""

from __future__ import annotations

import os

from nsinspect.declarations import Pod
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


def _pod_path(pod: Pod) -> tuple[str | None, str | None, str | None]:
    return pod.namespace, pod.name, pod.container


def find(model: Model, wanted: str) -> Container:
    """The one container meant by ``wanted``.  Raises :class:`NotFound` or :class:`Ambiguous`."""
    isolates = [c for c in model.containers if c.id == wanted and c.kind == "isolate"]
    if isolates:
        # Named like what they are known by, pid:4026532126 among others: no process has a pid that large.
        found = isolates
    elif wanted.startswith("pid:"):
        number = wanted.removeprefix("pid:")
        if not number.isascii() or not number.isdigit() or len(number) > 10:
            raise NotFound(f"expected pid: and a number, found {wanted!a}")
        inside = [c for c in model.containers if int(number) in c.pids]
        # Of a container and one inside it, the one inside has fewer processes.
        found = sorted(inside, key=lambda c: len(c.pids))[:1]
    elif wanted.count("/") == 2 and not wanted.startswith("/"):
        found = [c for c in model.containers if c.pod and wanted == "/".join(map(str, _pod_path(c.pod)))]
    elif wanted.startswith("/"):
        path = wanted.rstrip("/")
        found = [c for c in model.containers if path in map(os.fsdecode, (c.cgroup_path, *c.cgroup_paths.values()))]
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
