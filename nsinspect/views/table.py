"""The table of ``list``: one line a container, the odd ones visible at a glance.

Nothing is cut without a sign; columns that do not fit are left out whole, and named.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from nsinspect import safe
from nsinspect.model import Container, Model
from nsinspect.snapshot import Issue
from nsinspect.views.words import (
    ISSUES_SHOWN,
    USUALLY_HOST,
    age,
    binary_bytes,
    console,
    duration,
    field_words,
    full_name,
    name_of,
    number,
    short_id,
    text_of,
)

GAP = "  "
_COLUMNS = ("ID", "NAME", "RUNTIME", "UP", "PROCS", "CPUS", "MEMORY", "CAPS", "SHARES", "ODD")
_LEFT_OUT_FIRST = ("PROCS", "RUNTIME", "UP", "SHARES")
_WIDEST = {"NAME": 24, "ODD": 60}


def list_table(model: Model, containers: Sequence[Container], *, width: int | None, colour: bool) -> str:
    """The table of ``list``.  ``width`` is that of the terminal, ``None`` when nobody looks at one: then nothing is
    left out."""
    rows = [_row(model, container) for container in containers]
    columns = _columns_that_fit(rows, width)
    screen = console(width, colour)
    for heading, row in ((True, {name: name for name in columns}), *((False, row) for row in rows)):
        line = Text()
        for name in columns:
            last = name == columns[-1]
            size = _size(rows, name)
            room = (width - len(line.plain) if width else size) if last else size
            # set_cell_size cuts without a sign, so the sign is put there first.
            cell = (
                row[name] if cell_len(row[name]) <= max(room, 1) else set_cell_size(row[name], max(room, 1) - 1) + "…"
            )
            style = "bold" if heading else "bold red" if name == "ODD" and row[name] != "-" else ""
            line.append(cell if last else set_cell_size(cell, size) + GAP, style)
        line.rstrip()
        screen.print(line, no_wrap=True, overflow="ignore", crop=False)
    notes = _list_notes(model, containers, [name for name in _COLUMNS if name not in columns])
    for note in notes:
        screen.print(Text(note, "dim"), soft_wrap=width is None)
    return text_of(screen)


def _row(model: Model, container: Container) -> dict[str, str]:
    return {
        "ID": short_id(container.id),
        "NAME": full_name(container),
        "RUNTIME": safe.line(container.runtime) if container.kind == "container" else container.kind,
        "UP": duration(age(model, container)),
        "PROCS": str(len(container.pids)),
        "CPUS": _list_cpus(container),
        "MEMORY": _list_memory(container),
        "CAPS": _list_caps(container),
        "SHARES": _list_shares(model, container),
        "ODD": ", ".join(_odd_words(container)) or "-",
    }


def _size(rows: Iterable[dict[str, str]], name: str) -> int:
    longest = max([len(name), *(cell_len(row[name]) for row in rows)])
    return min(longest, _WIDEST.get(name, longest))


def _columns_that_fit(rows: list[dict[str, str]], width: int | None) -> list[str]:
    columns = list(_COLUMNS)
    for name in _LEFT_OUT_FIRST:
        if width is None or sum(_size(rows, c) + len(GAP) for c in columns) - len(GAP) <= width:
            break
        columns.remove(name)
    return columns


def _list_cpus(container: Container) -> str:
    cores, by = container.limits.effective_cpu.cores, container.limits.effective_cpu.imposed_by
    if cores is None:
        return "?"
    mark = "*" if by not in (None, *container.cgroup_paths.values()) else ""
    return f"{number(cores)}{mark}" if by is not None else f"all {number(cores)}"


def _list_memory(container: Container) -> str:
    used, bound = container.usage.memory_bytes, container.limits.effective_memory.max
    inherited = bound.imposed_by not in (None, *container.cgroup_paths.values())
    if bound.value is None or bound.value == "max":
        limit = "?" if bound.value is None else "no limit"
        return f"{binary_bytes(used)}, {limit}"
    return f"{binary_bytes(used)} of {binary_bytes(bound.value)}{'*' if inherited else ''}"


def _list_caps(container: Container) -> str:
    found = container.capabilities
    if found.bounding is None:
        return "?"
    if not found.bounding:
        return "none"
    if found.everything:
        return f"all {found.bounding.bit_count()}"
    if found.added is None or found.dropped is None:
        return str(found.bounding.bit_count())
    changes = [f"+{found.added.bit_count()}"] if found.added else []
    changes += [f"-{found.dropped.bit_count()}"] if found.dropped else []
    return " ".join(["default", *changes])


def _list_shares(model: Model, container: Container) -> str:
    words = []
    if all(namespace is None or namespace.host is None for namespace in container.namespaces.values()):
        return "?"
    for kind, namespace in container.namespaces.items():
        if namespace is None:
            continue
        if namespace.host and kind not in USUALLY_HOST:
            words.append(kind)
        elif namespace.shared_with and not namespace.host:
            words.append(f"{kind}({_sharer(model, container, namespace.shared_with)})")
    return " ".join(words) or "-"


def _sharer(model: Model, container: Container, ids: tuple[str, ...]) -> str:
    """Who else has a namespace: "pod" for those of the same pod, where sharing is the rule."""
    others = [other for other in model.containers if other.id in ids]
    if container.pod and all(other.pod and other.pod.uid == container.pod.uid for other in others):
        return "pod"
    return name_of(model, ids[0])


def _list_notes(model: Model, containers: Sequence[Container], left_out: list[str]) -> list[str]:
    notes = []
    if any("*" in _list_cpus(c) or "*" in _list_memory(c) for c in containers):
        notes.append("* imposed by a cgroup above the container: nsinspect show says which")
    if left_out:
        notes.append(f"not shown for want of room: {', '.join(left_out)}")
    return [*notes, *issue_notes(model.issues)]


def _odd_words(container: Container) -> list[str]:
    words = []
    if container.security.privileged:
        words.append("privileged")
    elif container.security.seccomp == "disabled":
        words.append("no seccomp")
    if container.drift:
        words.append(f"drift: {', '.join(field_words(one.field) for one in container.drift)}")
    stronger = sum(1 for o in container.capabilities.outliers if o.extra or o.bounding_extra)
    if stronger:
        words.append(f"{stronger} process{'es' if stronger != 1 else ''} with more capabilities")
    if container.usage.oom_kills:
        words.append(f"{container.usage.oom_kills} OOM kill{'s' if container.usage.oom_kills != 1 else ''}")
    periods, throttled = container.usage.cpu_periods, container.usage.cpu_throttled_periods
    if periods and throttled:
        words.append(f"throttled {100 * throttled / periods:.0f} %")
    return words


def issue_notes(issues: Sequence[Issue]) -> list[str]:
    """What could not be learnt, in a few lines."""
    notes = []
    failed = [issue for issue in issues if issue.kind != "not_offered"]
    denied = {pid for issue in failed if issue.kind == "denied" for pid in issue.pids}
    if denied:
        notes.append(
            f"{len(denied)} process{'es' if len(denied) != 1 else ''} could not be read (permission): try with sudo"
        )
    others = [issue for issue in failed if not (issue.kind == "denied" and issue.pids)]
    notes += [": ".join(map(safe.line, (issue.kind, issue.path, issue.detail))) for issue in others[:ISSUES_SHOWN]]
    if len(others) > ISSUES_SHOWN:
        notes.append(f"and {len(others) - ISSUES_SHOWN} more issues: --json lists them all")
    return notes
