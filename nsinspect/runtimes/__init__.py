"""The engines nsinspect knows.  A new one is a module here, with the names of :class:`base.Engine`, and a fixture."""

from __future__ import annotations

from functools import lru_cache
from typing import cast

from nsinspect.runtimes import docker, podman
from nsinspect.runtimes.base import Engine, Match

ENGINES: tuple[Engine, ...] = tuple(cast("Engine", module) for module in (docker, podman))
BY_NAME = {engine.NAME: engine for engine in ENGINES}


@lru_cache(maxsize=65536)
def recognise(path: bytes) -> Match | None:
    """The container that a cgroup path belongs to, by the engines' naming; ``None`` for the host and for helpers.

    The outermost match counts: what lies below it, the container may have named itself.
    """
    components = path.split(b"/")
    for index, component in enumerate(components):
        for engine in ENGINES:
            if engine.is_helper(component):
                return None
            found = engine.container_id(component, components[index - 1] if index else b"")
            if found is not None:
                end = index + 1
                below = components[end : end + 1]
                payload = end + 1 if below and below[0] in engine.PAYLOADS else end
                return Match(engine.NAME, found, b"/".join(components[:end]), b"/".join(components[:payload]))
    return None
