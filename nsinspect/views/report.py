"""The reports of ``drift`` and ``findings``: what is not as it was asked for, and who stands out."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nsinspect import safe
from nsinspect.findings import CATALOGUE, Finding
from nsinspect.model import Container, Model
from nsinspect.views.table import issue_notes
from nsinspect.views.words import console, drift_words, finding_words, full_name, short_id, text_of


def drift_report(containers: Sequence[Container], *, width: int | None, colour: bool) -> str:
    """Drift of these containers; those without a declaration are named, because nothing can be said of them."""
    screen = console(width, colour)
    for container in containers:
        for one in container.drift or ():
            line = Text(f"{_name(container)}  ", "bold")
            line.append(drift_words(one), "bold red")
            if one.where is not None:
                line.append(f"  in {safe.line(one.where)}", "not bold")
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


def findings_report(model: Model, found: Sequence[Finding], looked_at: int, *, width: int | None, colour: bool) -> str:
    """Findings by container, each with what shows it; ``looked_at`` is how many containers were."""
    screen = console(width, colour)
    for container in model.containers:
        its = [one for one in found if one.container == container.id]
        if its:
            screen.print(Text(_name(container), "bold"), soft_wrap=True)
        for one in its:
            screen.print(Text("  ") + finding_words(one), soft_wrap=True)
            for says, what in one.evidence:
                screen.print(Text(f"      {says}: {safe.line(what)}"), soft_wrap=True)
    plural = "" if len(found) == 1 else "s"
    around = len({one.container for one in found})
    count = f"{len(found)} finding{plural} in {around} of {looked_at} container{'' if looked_at == 1 else 's'}"
    screen.print(Text(f"{count}{f'; techniques of {CATALOGUE}' if found else ''}", "dim"), soft_wrap=True)
    for note in issue_notes(model.issues):
        screen.print(Text(note, "dim"), soft_wrap=width is None)
    return text_of(screen)


def _name(container: Container) -> str:
    name = full_name(container)
    return short_id(container.id) if name == "-" else name
