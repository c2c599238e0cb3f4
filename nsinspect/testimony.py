"""What the engines of a host wrote down: which containers they have, and what was asked for."""

from __future__ import annotations

from collections.abc import Iterable

from nsinspect import runtimes
from nsinspect.declarations import Claim, Declaration
from nsinspect.errors import KernelError
from nsinspect.grouping import Group
from nsinspect.runtimes.base import StateFiles, Traces


def claims(files: StateFiles) -> tuple[Claim, ...]:
    """Containers that state files tell of; an engine whose files cannot be read is complained of, and has none."""
    found: list[Claim] = []
    for engine in runtimes.ENGINES:
        try:
            found += engine.claims(files)
        except KernelError as error:
            files.complain(error)
    return tuple(found)


def declarations(files: StateFiles, containers: Iterable[tuple[Group, Traces]]) -> dict[tuple[str, str], Declaration]:
    """By runtime and id, what was declared of containers; of one inside another the engines of this host know
    nothing."""
    found: dict[tuple[str, str], Declaration] = {}
    for one, traces in containers:
        if one.nested or one.kind == "isolate":
            continue
        engine = runtimes.BY_NAME[one.match.runtime]
        # A bare id under a pod does not say whose it is: whichever engine has written of it.
        for asked in runtimes.ENGINES if engine.NAME == "unknown" else (engine,):
            try:
                said = asked.declaration(files, traces)
            except KernelError as error:
                files.complain(error)
                continue
            if said is not None:
                found[one.match.runtime, one.match.id] = said
                break
    return found
