"""The table and the tree of ``ns``: lsns(8) with the names of containers."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from nsinspect import safe
from nsinspect.membership import Membership
from nsinspect.model import Model
from nsinspect.views.table import issue_notes
from nsinspect.views.words import console, name_of, text_of

_HEADINGS = ("NS", "TYPE", "NPROCS", "PID", "USER", "COMMAND", "CONTAINERS", "OWNER", "PARENT", "HELD BY")
_RIGHT = ("NS", "NPROCS", "PID", "OWNER", "PARENT")
_NAMES_SHOWN = 3
_HOLDERS_SHOWN = 2
# Namespaces nest 32 deep at the most, user_namespaces(7) and pid_namespaces(7), and then there is what one owns.
_DEEPEST = 40
_LEFT_OUT_FIRST = ("PARENT", "OWNER", "HELD BY", "USER")


def ns_table(model: Model, namespaces: Sequence[Membership], *, tree: bool, width: int | None, colour: bool) -> str:
    """A line a namespace; with ``tree`` those that a user namespace owns, and children, stand below it."""
    placed = _as_tree(namespaces) if tree else [("", one) for one in namespaces]
    rows = [_row(model, prefix, one) for prefix, one in placed]
    columns = list(_HEADINGS)
    sizes = {name: max([cell_len(name), *(cell_len(row[name]) for row in rows)]) for name in columns}
    for name in _LEFT_OUT_FIRST:
        if width is None or sum(sizes[one] + 2 for one in columns[:-1]) + cell_len(columns[-1]) <= width:
            break
        columns.remove(name)
    screen = console(width, colour)
    for heading, row in ((True, dict(zip(_HEADINGS, _HEADINGS, strict=True))), *((False, row) for row in rows)):
        cells = []
        for name in columns[:-1]:
            short = " " * (sizes[name] - cell_len(row[name]))
            right = name in _RIGHT and not (tree and name == "NS")
            cells.append(short + row[name] if right else row[name] + short)
        line = "  ".join([*cells, row[columns[-1]]]).rstrip()
        if width is not None and cell_len(line) > width:
            line = set_cell_size(line, width - 1) + "…"
        screen.print(Text(line, "bold" if heading else ""), no_wrap=True, overflow="ignore", crop=False)
    left_out = [name for name in _HEADINGS if name not in columns]
    if left_out:
        screen.print(Text(f"not shown for lack of room: {', '.join(left_out)}", "dim"), soft_wrap=width is None)
    for note in issue_notes(model.issues):
        screen.print(Text(note, "dim"), soft_wrap=width is None)
    return text_of(screen)


def _row(model: Model, prefix: str, one: Membership) -> dict[str, str]:
    first = one.first
    uid = first.status.uid.effective if first and first.status else None
    return {
        "NS": f"{prefix}{one.inode}",
        "TYPE": one.kind,
        "NPROCS": str(len(one.pids)),
        "PID": str(first.pid) if first else "-",
        "USER": "-" if first is None else "?" if uid is None else safe.line(one.user or str(uid)),
        "COMMAND": safe.line(first.comm) if first else "-",
        "CONTAINERS": _containers(model, one),
        "OWNER": _related(one, one.kin.owner, one.kind != "user"),
        "PARENT": _related(one, one.kin.parent, one.kind in ("pid", "user")),
        "HELD BY": _holders(one) or "-",
    }


def _related(one: Membership, inode: int | None, expected: bool) -> str:
    """Above the host's own there is nothing to be known."""
    if inode is not None:
        return str(inode)
    return "?" if expected and not one.host else "-"


def _containers(model: Model, one: Membership) -> str:
    names = [name_of(model, container) for container in one.containers]
    shown = names[:_NAMES_SHOWN] + ([f"and {len(names) - _NAMES_SHOWN} more"] if len(names) > _NAMES_SHOWN else [])
    if one.host:
        return "host" + (f", {len(names)} of containers" if names else "")
    return " ".join(shown) or "-"


def _holders(one: Membership) -> str:
    """Mounts, and descriptors of processes; of processes that are in it anyway those say nothing."""
    mounts = [safe.line(holder.mount) for holder in one.holders if holder.mount is not None]
    others = sorted({holder.pid for holder in one.holders if holder.pid is not None} - set(one.pids))
    words = mounts + [f"pid {pid}" for pid in others]
    more = [f"and {len(words) - _HOLDERS_SHOWN} more"] if len(words) > _HOLDERS_SHOWN else []
    return ", ".join(words[:_HOLDERS_SHOWN] + more)


def _as_tree(namespaces: Sequence[Membership]) -> list[tuple[str, Membership]]:
    """Below each user namespace its children, then what it owns; below each pid namespace its children."""
    by_inode = {one.inode: one for one in namespaces}
    below: defaultdict[int | None, list[Membership]] = defaultdict(list)
    for one in namespaces:
        above = one.kin.parent if one.kin.parent in by_inode else one.kin.owner
        below[above if above in by_inode and above != one.inode else None].append(one)
    placed: list[tuple[str, Membership]] = []
    seen: set[tuple[str, int]] = set()

    def place(one: Membership, lines: str, branch: str) -> None:
        if (one.kind, one.inode) in seen or len(lines) > len("│ ") * _DEEPEST:
            return
        seen.add((one.kind, one.inode))
        placed.append((lines + branch, one))
        children = sorted(below[one.inode], key=lambda child: (child.kind != "user", child.kind, child.inode))
        inner = lines + {"": "", "├─": "│ ", "└─": "  "}[branch]
        for number, child in enumerate(children, 1):
            place(child, inner, "└─" if number == len(children) else "├─")

    # Then what is above itself, or deeper than can be: no kernel says that, but a captured file might.
    for one in [*below[None], *namespaces]:
        place(one, "", "")
    return placed
