"""The engines nsinspect knows.  A new one is a module here, with the names of :class:`base.Engine`, and a fixture."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import NamedTuple, cast

from nsinspect.declarations import Pod
from nsinspect.runtimes import (
    containerd,
    crio,
    crun,
    docker,
    garden,
    kubernetes,
    libvirt_lxc,
    lxc,
    nerdctl,
    nomad,
    nspawn,
    podman,
    runc,
)
from nsinspect.runtimes.base import Above, Engine

_OF_HEX_IDS = (docker, containerd, nerdctl, crio, podman)
_OF_FREE_NAMES = (runc, crun, libvirt_lxc, lxc, nspawn, nomad, garden)

ENGINES: tuple[Engine, ...] = tuple(cast("Engine", module) for module in (*_OF_HEX_IDS, *_OF_FREE_NAMES, kubernetes))
"""In the order in which they are asked: the most particular names first; :mod:`libvirt_lxc` before :mod:`lxc` and
:mod:`nspawn`, whose names its own look like; :mod:`kubernetes` last, because its bare ids do not say whose they are."""

BY_NAME = {engine.NAME: engine for engine in ENGINES}


class Match(NamedTuple):
    """A cgroup that is one container.  ``path`` ends with the component that says so; ``payload`` is the cgroup that
    the engine made below it for the processes, often the same; ``pod`` is what the path above tells of its pod."""

    runtime: str
    id: str
    path: bytes
    payload: bytes
    pod: Pod | None = None


# Containers in containers in pods have a dozen; what is below so many nobody but who wants to be looked for put there.
_DEEPEST = 64
# An id becomes a part of paths, and leads nowhere else.  What engines escape may hold every byte.
_NAME_OF_A_FILE = re.compile(r"(?!\.{1,2}\Z)[^/\0]+")
# Longer ones are not remembered: names are a container's to choose, and memory is ours.
_REMEMBERED = 512


def recognise(path: bytes) -> tuple[Match, ...]:
    """The containers that a cgroup path leads through by the engines' naming, outermost first; empty for the host and
    for helpers of engines.

    Only the outermost is certain: what lies below it, the container may have named itself.
    """
    return _recognised(path) if len(path) <= _REMEMBERED else _chain(path)


@lru_cache(maxsize=4096)
def _recognised(path: bytes) -> tuple[Match, ...]:
    return _chain(path)


def _chain(path: bytes) -> tuple[Match, ...]:
    components = path.split(b"/", _DEEPEST + 1)[: _DEEPEST + 1]
    chain: list[Match] = []
    for index, component in enumerate(components):
        if component.endswith(b" (deleted)"):  # what the kernel adds for a zombie whose cgroup is gone
            break
        above = tuple(components[1:index])
        engine, found = _named(component, above)
        if engine is None:
            continue
        if found is None:
            # nspawn's own processes are below the unit that is named after the container, and not in the container.
            above_it = engine.NAME == nspawn.NAME and chain and chain[-1].runtime == nspawn.NAME
            return tuple(chain[:-1] if above_it else chain)
        end = index + 1
        below = components[end : end + 1]
        payload = end + 1 if below and below[0] in engine.PAYLOADS else end
        whole, inner = b"/".join(components[:end]), b"/".join(components[:payload])
        pod = kubernetes.pod_of((*above, component)) or podman.pod_of(above)
        chain.append(Match(engine.NAME, found, whole, inner, pod))
    return tuple(chain)


# What is above hundreds of containers is mostly the same.
@lru_cache(maxsize=1024)
def _named(component: bytes, above: Above) -> tuple[Engine | None, str | None]:
    """The engine that one component of a path is of, and the container's id; without an id it holds a helper."""
    for engine in ENGINES:
        if engine.is_helper(component, above):
            return engine, None
        found = engine.container_id(component, above)
        if found is not None and _NAME_OF_A_FILE.fullmatch(found):
            return engine, found
    return None, None
