"""The report of ``drift``: one line for each field that is not as it was asked for."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nsinspect import safe
from nsinspect.model import Container
from nsinspect.views.words import console, drift_words, full_name, short_id, text_of


def drift_report(containers: Sequence[Container], *, width: int | None, colour: bool) -> str:
    """Drift of these containers; those without a declaration are named, because nothing can be said of them."""
    screen = console(width, colour)
    for container in containers:
        for one in container.drift or ():
            line = Text(f"{_name(container)}  ", "bold")
            line.append(drift_words(one), "bold red")
            if one.where is not None:
                line.append(f"  in {safe.text(one.where)}", "not bold")
            screen.print(line, soft_wrap=True)
    drifted = [container for container in containers if container.drift]
    unknown = [container for container in containers if container.drift is None]
    compared = len(containers) - len(unknown)
    plural = "" if compared == 1 else "s"
    screen.print(Text(f"{len(drifted)} of {compared} container{plural} drifted from what was declared", "dim"))
    if unknown:
        names = ", ".join(_name(container) for container in unknown)
        screen.print(Text(f"nothing declared, or not readable: {names}", "dim"), soft_wrap=True)
    return text_of(screen)


def _name(container: Container) -> str:
    name = full_name(container)
    return short_id(container.id) if name == "-" else name
