"""Changes in the words a person uses: of ``diff``, ``events`` and ``history``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from rich.text import Text

from nsinspect import safe
from nsinspect.changes import Change
from nsinspect.diff import Side
from nsinspect.fields.change import CHANGE
from nsinspect.findings import KINDS
from nsinspect.model import Container, Model
from nsinspect.views.words import (
    console,
    duration,
    field_words,
    full_name,
    limit,
    name_of,
    number,
    short_id,
    some_capabilities,
    text_of,
)

_SHOWN = {row.key: row.get for row in CHANGE}
_LOUD = ("capability_gained", "namespace_joined", "process_stood_out", "oom_kill", "drift_began")


def diff_report(
    before: Side, after: Side, changes: Sequence[Change], left_out: int, *, width: int | None, colour: bool
) -> str:
    """One line for each change, then what shows it."""
    screen = console(width, colour)
    for one in changes:
        screen.print(change_words(after.model, before.model, one), soft_wrap=True)
        for says, what in one.evidence:
            screen.print(Text(f"      {safe.line(says)}{': ' if what else ''}{safe.line(what)}"), soft_wrap=True)
    apart = after.snapshot.captured_at - before.snapshot.captured_at
    words = f"{len(changes)} difference{'' if len(changes) == 1 else 's'} in {duration(abs(apart))}"
    if apart < 0:
        words += " (the second is the older)"
    if left_out:
        words += f"; {left_out} more of what changes all the time, or follows from these: --all"
    screen.print(Text(words, "dim"))
    return text_of(screen)


def change_words(new: Model, old: Model, one: Change) -> Text:
    """``web  memory limit rose from 64 MiB to NO LIMIT``."""
    text = Text()
    if one.container is not None:
        text.append(f"{_name(new, old, one.container)}  ", "bold")
    text.append(_sentence(new, old, one), "bold red" if one.kind in _LOUD else "not bold")
    if one.finding is not None:
        text.append(f" ({one.finding.severity})", "not bold")
    return text


def _name(new: Model, old: Model, identity: str) -> str:
    for model in (new, old):
        for container in model.containers:
            if container.id == identity:
                name = full_name(container)
                return short_id(identity) if name == "-" else name
    return short_id(identity)


def _sentence(new: Model, old: Model, one: Change) -> str:
    if one.kind in _SENTENCES:
        return _SENTENCES[one.kind](one)
    if one.kind == "limit_changed":
        return _limit(new, one)
    if one.kind.startswith("namespace_"):
        return _namespace(new, one)
    if one.kind in ("container_started", "container_stopped"):
        return _whole(new if one.kind == "container_started" else old, one)
    about = field_words(one.field) if one.kind != "declared_changed" else f"declared {one.field.split('.')[-1]}"
    return f"{about} was {_value(one, one.before)}, is {_value(one, one.after)}"


def _shown(one: Change, key: str) -> str:
    return safe.line(str(_SHOWN[key](one)))


def _whole(model: Model, one: Change) -> str:
    container = next((found for found in model.containers if found.id == one.container), None)
    verb = "appeared" if one.kind == "container_started" else "is gone"
    if container is None:
        return verb
    return f"{verb}: {safe.line(container.runtime)} {_kind(container)}, init {one.pid} {safe.line(container.init.comm)}"


def _kind(container: Container) -> str:
    return container.kind if not container.image else f"{container.kind} of image {safe.line(container.image)}"


def _limit(new: Model, one: Change) -> str:
    bounds = one.field.endswith(("cores", "_bytes", ".max"))
    what = field_words(one.field) + (" limit" if bounds else "")
    whose = "own " if ".own." in one.field and bounds else ""
    verb = "changed"
    if isinstance(one.before, int | float | str) and isinstance(one.after, int | float | str):
        low, high = (float("inf") if value == "max" else value for value in (one.before, one.after))
        if isinstance(low, int | float) and isinstance(high, int | float):
            verb = "rose" if high > low else "fell"
    words = f"{whose}{what} {verb} from {_value(one, one.before)} to {_value(one, one.after)}"
    imposer = next((what for says, what in one.evidence if says == "cgroup"), None)
    own = {
        path
        for container in new.containers
        if container.id == one.container
        for path in container.cgroup_paths.values()
    }
    elsewhere = imposer is not None and imposer not in own and one.after != "max"
    return words + (f", imposed by {safe.line(imposer or '')}" if elsewhere else "")


def _capabilities(one: Change) -> str:
    if one.finding is not None:
        return f"gained {some_capabilities(one.finding.gained)} through {_who(one)}"
    before, after = set(one.before), set(one.after)
    changed = sorted(after - before if one.kind == "capability_gained" else before - after)
    names = " ".join(name.removeprefix("CAP_") for name in changed)
    return f"{'gained' if one.kind == 'capability_gained' else 'lost'} {names}"


def _namespace(new: Model, one: Change) -> str:
    if one.finding is not None:
        return f"{_who(one)} {KINDS[one.finding.kind]}"
    kind = one.field.removeprefix("namespaces.")
    if one.kind == "namespace_changed":
        if one.after == "host":
            return f"shares the host's {kind} namespace now"
        return f"has a {kind} namespace of its own now" if one.after == "private" else f"is in another {kind} namespace"
    some, others = (one.after, one.before) if one.kind == "namespace_joined" else (one.before, one.after)
    names = ", ".join(name_of(new, identity) for identity in some if identity not in others)
    return f"{'shares' if one.kind == 'namespace_joined' else 'no longer shares'} its {kind} namespace with {names}"


def _mount(one: Change) -> str:
    shown = one.after or one.before
    access = "read-only" if shown["read_only"] else "read-write"
    what = "secrets" if shown["secret"] else f"{safe.line(shown['host_path'] or '?')} of the host"
    verb = "sees" if one.kind == "mount_added" else "no longer sees"
    return f"{verb} {what} at {safe.line(shown['point'])}, {access}"


def _who(one: Change) -> str:
    assert one.finding is not None
    below = f" and {len(one.finding.pids) - 1} below it" if len(one.finding.pids) > 1 else ""
    who = f"process {one.pid} {safe.line(one.finding.comm)}{below}"
    return who if one.finding.tid == one.pid else f"thread {one.finding.tid} of {who}"


def _process(one: Change) -> str:
    assert one.finding is not None
    words = f"{_who(one)} {KINDS[one.finding.kind]}"
    return words if one.kind == "process_stood_out" else f"no longer: {words}"


def _value(one: Change, value: Any) -> str:
    if value is None:
        return "nothing"
    if one.field.endswith("_bytes") and (value == "max" or isinstance(value, int)):
        return limit(value)
    if value == "max":
        return "NO LIMIT"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return number(value)
    if isinstance(value, list | tuple):
        return ", ".join(safe.line(str(part)) for part in value) or "nothing"
    return safe.line(value if isinstance(value, bytes) else str(value))


_SENTENCES: dict[str, Callable[[Change], str]] = {
    "container_restarted": lambda one: f"was restarted: its init is process {one.pid} now",
    "container_came_and_went": lambda one: f"came and went between two looks: a {safe.line(one.after)} container",
    "notices_lost": lambda one: f"the kernel's notices overflowed {one.after} times: what came and went may be missing",
    "capability_gained": _capabilities,
    "capability_lost": _capabilities,
    "mount_added": _mount,
    "mount_removed": _mount,
    "listening_began": lambda one: f"listens on {_shown(one, 'after')}",
    "listening_ended": lambda one: f"listens no longer on {_shown(one, 'before')}",
    "process_stood_out": _process,
    "process_no_longer_stands_out": _process,
    "drift_began": lambda one: (
        f"{field_words(one.field)} is not as declared: {_value(one, one.before)}, is {_value(one, one.after)}"
    ),
    "drift_ended": lambda one: f"{field_words(one.field)} is as declared again",
    "oom_kill": lambda one: f"{one.after - one.before} of its processes were killed for lack of memory",
    "throttling_began": lambda _: "is throttled: it wants more CPU than it may use",
    "throttling_ended": lambda _: "is throttled no longer",
    "process_started": lambda one: f"process {one.pid} started",
    "process_ended": lambda one: f"process {one.pid} ended",
}
