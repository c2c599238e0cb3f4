"""The table of ``caps``: pscap(8) with containers, threads and the engine's default."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nsinspect import safe
from nsinspect.capabilities import all_of
from nsinspect.model import Container, Model
from nsinspect.powers import Power
from nsinspect.views.table import issue_notes
from nsinspect.views.words import console, full_name, plain_capabilities, short_id, text_of

_LEGEND = (
    "full: all this kernel knows · + may gain more by exec (its bounding set has others) · "
    "@ ambient, kept across exec · * relative to a user namespace, no power over the host"
)


def caps_table(model: Model, found: Sequence[Power], *, width: int | None, colour: bool) -> str:
    """By container, those of the host last: init's sets against the engine's default, then each process and thread."""
    screen = console(width, colour)
    containers = {container.id: container for container in model.containers}
    for identity in dict.fromkeys([*containers, None]):
        its = [one for one in found if one.container == identity]
        if not its:
            continue
        if identity is None:
            screen.print(Text("host", "bold"))
        else:
            screen.print(_heading(containers[identity]), soft_wrap=True)
        pids = {str(one.pid) for one in its} | {"PID"}
        comms = {_comm(one) for one in its}
        size, longest = max(map(len, pids)), max(map(len, comms))
        for one in its:
            who = "└ " + str(one.tid) if one.tid != one.pid else str(one.pid)
            user = "?" if one.uid is None else safe.line(one.user or str(one.uid))
            line = Text(f"  {who:>{size}}  {user:<8}  {_comm(one):<{longest}}  ")
            line.append(_words(one, model), "bold red" if one.unlike_init else "")
            screen.print(line, soft_wrap=True)
    if found:
        screen.print(Text(_LEGEND, "dim"), soft_wrap=width is None)
    for note in issue_notes(model.issues):
        screen.print(Text(note, "dim"), soft_wrap=width is None)
    return text_of(screen)


def _heading(container: Container) -> Text:
    name = full_name(container)
    line = Text(short_id(container.id) if name == "-" else name, "bold")
    line.append(f" · {safe.line(container.runtime)}", "not bold")
    sets = container.capabilities
    if sets.everything:
        line.append(" · all this host has", "not bold")
    elif sets.added is not None and sets.dropped is not None:
        default = f" · {safe.line(container.runtime)}'s default"
        line.append(
            default if not sets.added | sets.dropped else f"{default}{_changes(sets.added, sets.dropped)}", "not bold"
        )
    return line


def _changes(added: int, dropped: int) -> str:
    words = [f", + {' '.join(plain_capabilities(added))}"] if added else []
    words += [f", - {' '.join(plain_capabilities(dropped))}"] if dropped else []
    return "".join(words)


def _comm(one: Power) -> str:
    return safe.line(one.comm) + ("*" if one.relative_to is not None else "")


def _words(one: Power, model: Model) -> str:
    """As pscap's users know them."""
    if one.effective is None or one.permitted is None:
        return "?"
    usable = one.effective | one.permitted
    words = "full" if one.full else ", ".join(name.lower() for name in plain_capabilities(usable)) or "none"
    latent = one.permitted & ~one.effective
    if latent and not one.full:
        words += f" (not raised: {', '.join(name.lower() for name in plain_capabilities(latent))})"
    last = model.host.cap_last_cap
    marks = "@" if one.ambient else ""
    if not one.full and last is not None and one.bounding is not None and one.bounding & ~usable & all_of(last):
        marks = "+" + marks
    return f"{words} {marks}".rstrip()
