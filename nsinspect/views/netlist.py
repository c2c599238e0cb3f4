"""The answer of ``net``: by network namespace, its interfaces and what listens in it."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text

from nsinspect import safe
from nsinspect.model import Model
from nsinspect.networks import Card, Net
from nsinspect.views.table import issue_notes
from nsinspect.views.words import binary_bytes, console, listening_words, name_of, text_of


def net_list(model: Model, nets: Sequence[Net], *, width: int | None, colour: bool) -> str:
    """A heading for each namespace, below it a line for each interface and each socket that waits."""
    screen = console(width, colour)
    for net in nets:
        screen.print(_heading(model, net), soft_wrap=True)
        if net.cards is None:
            screen.print(Text("  interfaces unknown"))
        longest = max((len(safe.line(card.name)) for card in net.cards or ()), default=0)
        for card in net.cards or ():
            screen.print(Text(f"  {safe.line(card.name):<{longest}}  {_card(card)}"), soft_wrap=True)
        if net.listening is None:
            screen.print(Text("  what listens is unknown"))
        for one in net.listening or ():
            screen.print(Text("  ") + listening_words(model, one), soft_wrap=True)
    for note in issue_notes(model.issues):
        screen.print(Text(note, "dim"), soft_wrap=width is None)
    return text_of(screen)


def _heading(model: Model, net: Net) -> Text:
    text = Text(f"net {'?' if net.inode is None else net.inode}", "bold")
    names = ", ".join(name_of(model, one) for one in net.containers)
    words = ["the host's"] if net.host else []
    text.append("".join(f" · {part}" for part in (*words, names) if part), "not bold")
    return text


def _card(card: Card) -> str:
    words = []
    if card.link:
        state = "state unknown" if card.link.state == "unknown" else safe.line(card.link.state)
        words += [state, *map(safe.line, card.link.addresses)]
        if card.peer:
            place = "on the host" if card.peer.host else f"in net {card.peer.network}"
            words.append(f"veth, other end {safe.line(card.peer.name)} {place}")
        elif card.link.kind:
            words.append(safe.line(card.link.kind))
    if card.counted:
        words.append(f"received {binary_bytes(card.counted.rx_bytes)}, sent {binary_bytes(card.counted.tx_bytes)}")
        lost = card.counted.rx_dropped + card.counted.tx_dropped
        failed = card.counted.rx_errors + card.counted.tx_errors
        words += [f"{lost} dropped"] if lost else []
        words += [f"{failed} errors"] if failed else []
    return " · ".join(words)
