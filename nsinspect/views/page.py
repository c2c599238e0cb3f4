"""The page of ``show``: who is it, what can it do, what does it share, what may it use, what is odd.

The answer first, the kernel's name for it second; what is normal is short, what is odd stands out once, in words.
Colour only repeats what the text says.
"""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table
from rich.text import Text

from nsinspect import safe, shares
from nsinspect.cgroupfs import Limit, format_cpu_list
from nsinspect.findings import Finding
from nsinspect.limits import Bound
from nsinspect.locate import Located
from nsinspect.model import Container, Model
from nsinspect.mounts import visible
from nsinspect.networks import Net
from nsinspect.security import Security
from nsinspect.snapshot import Issue
from nsinspect.views.words import (
    ISSUES_SHOWN,
    USUALLY_HOST,
    age,
    bar,
    binary_bytes,
    console,
    drift_words,
    duration,
    finding_words,
    full_name,
    limit,
    listening_words,
    name_of,
    number,
    plain_capabilities,
    short_id,
    some_capabilities,
    text_of,
)

_SPANS_SHOWN = 3
# Mounts, sockets and processes are a container's to make, by the hundred thousand.
_LINES_SHOWN = 100


def show_page(
    model: Model,
    container: Container,
    network: Net | None,
    found: Sequence[Finding],
    issues: Sequence[Issue],
    *,
    width: int | None,
    colour: bool,
) -> str:
    """The page of ``show``: who is it, what can it do, what does it share, what may it use, what is odd."""
    screen = console(width, colour)
    for line in _who(model, container):
        screen.print(line, soft_wrap=width is None)
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for title, lines in (
        ("Can do", _can_do(container)),
        ("Shares", _shares(model, container)),
        ("Sees", _sees(container)),
        ("Listens", _listens(model, network)),
        ("May use", _may_use(container)),
        ("Odd", _odd(container, found, issues)),
    ):
        more = len(lines) - _LINES_SHOWN
        shown = [*lines[:_LINES_SHOWN], Text(f"and {more} more, which --json has")] if more > 0 else lines
        for index, line in enumerate(shown):
            grid.add_row(title if index == 0 else "", line)
    screen.print()
    screen.print(grid)
    return text_of(screen)


def _who(model: Model, container: Container) -> list[Text]:
    init = container.init
    kind = {"container": "", "pause": "pause container of ", "isolate": "isolate, "}[container.kind]
    first = [kind + safe.line(container.runtime), short_id(container.id)]
    if container.image:
        first.append(f"image {safe.line(container.image)}")
    first.append(f"up {duration(age(model, container))}")
    name = full_name(container)
    title = Text(short_id(container.id) if name == "-" else name, "bold")
    title.append(" · " + " · ".join(first), "not bold")
    count = len(container.pids)
    second = [
        f"init {init.pid} {safe.line(init.comm)}, {_uid(container)}",
        f"{count} process{'es' if count != 1 else ''}",
    ]
    around = []
    if container.pod:
        pod = container.pod
        words = [f"pod {safe.line(pod.name or pod.uid or '?')}"]
        words += [f"namespace {safe.line(pod.namespace)}"] if pod.namespace else []
        words += [f"{safe.line(pod.qos)} class"] if pod.qos else []
        around.append(", ".join(words))
    if container.parent:
        around.append(f"inside {name_of(model, container.parent)}")
    lines = [title, Text(" · ".join(second)), *([Text(" · ".join(around))] if around else [])]
    return [*lines, Text(f"cgroup {safe.line(container.cgroup_path)}")]


def _uid(container: Container) -> str:
    uid = container.init.uid
    if uid is None:
        return "uid unknown"
    user = f" ({safe.line(container.init.user)})" if container.init.user else ""
    return "uid 0 = host root" if uid == 0 else f"host uid {uid}{user}"


def _can_do(container: Container) -> list[Text]:
    found, security = container.capabilities, container.security
    first = Text()
    if found.bounding is None:
        first.append("capabilities unknown")
    else:
        count = found.bounding.bit_count()
        first.append(
            f"{count or 'no'} capabilit{'y' if count == 1 else 'ies'}",
            "bold red" if found.everything else "",
        )
        if found.everything and found.added != 0:
            first.append(": all this host has")
        elif count and found.added is not None:
            first.append(f": {safe.line(container.runtime)}'s default")
            if found.added:
                first.append(", + " + " ".join(plain_capabilities(found.added)), "bold red")
            if found.dropped:
                first.append(", - " + " ".join(plain_capabilities(found.dropped)), "green")
        if found.effective is not None and found.effective != found.bounding:
            now = found.effective.bit_count()
            first.append(f" · init uses {now or 'none'} of them now" if count else "")
        if security.host_user_namespace is False and count:
            first.append(" · only in its own user namespace: no power over the host")
    return [first, _confinement(security), _devices(container)]


def _devices(container: Container) -> Text:
    rules = container.device_rules
    if rules is None:
        v1 = "devices" in container.cgroup_paths
        return Text("devices: unknown" if v1 else "devices: rules are BPF programs, which cannot be read")
    if rules == (b"a *:* rwm",):
        return Text("devices: ALL", "bold red")
    return Text(f"devices: {len(rules)} rules")


def _confinement(security: Security) -> Text:
    text = Text()
    if security.privileged:
        text.append("PRIVILEGED", "bold red")
        text.append(": " + ", ".join(security.privileged_why))
    else:
        text.append("not privileged" if security.privileged is False else "privileged or not: unknown")
        off = security.seccomp == "disabled"
        text.append(" · ")
        text.append(
            "no seccomp filter" if off else f"seccomp {security.seccomp or 'unknown'}", "bold red" if off else ""
        )
        label = security.lsm_label
        text.append(" · no security module" if label in (None, b"kernel") else f" · {safe.line(label)}")
    if security.no_new_privs is not None:
        text.append(" · no new privileges" if security.no_new_privs else " · may gain privileges by exec")
    if security.read_only_rootfs:
        text.append(" · read-only root")
    return text


def _shares(model: Model, container: Container) -> list[Text]:
    parts: list[tuple[str, str]] = []
    alike: dict[str, list[str]] = {"its own": [], "the host's": [], "unknown:": [], "not on this kernel:": []}
    readable = any(container.namespaces.values())
    for kind, namespace in container.namespaces.items():
        if namespace is None or namespace.host is None:
            alike["not on this kernel:" if readable and namespace is None else "unknown:"].append(kind)
        elif namespace.host and kind in USUALLY_HOST:
            alike["the host's"].append(kind)
        elif namespace.host:
            parts.append((f"{kind} with the HOST", "bold red"))
        elif namespace.shared_with:
            parts.append((f"{kind} with {', '.join(name_of(model, i) for i in namespace.shared_with)}", ""))
        else:
            alike["its own"].append(kind)
    parts += [
        (f"{words} {' '.join(kinds)}" + (", as is usual" if words == "the host's" else ""), "")
        for words, kinds in alike.items()
        if kinds
    ]
    lines = [Text(" · ").join(Text(words, style) for words, style in parts)]
    user = container.namespaces["user"]
    if user and user.host is not None:
        lines.append(Text(_user_namespace(container.security, its_own=not user.host)))
    return lines


def _user_namespace(security: Security, *, its_own: bool) -> str:
    if not its_own:
        return "no user namespace: root inside is root outside"
    if security.uid_map is None:
        return "a user namespace of its own; its map could not be read"
    root = "nobody" if security.root_uid is None else f"uid {security.root_uid}"
    spans = [f"{_span(line.inside, line.length)} is {_span(line.outside, line.length)}" for line in security.uid_map]
    more = f", and {len(spans) - _SPANS_SHOWN} more" if len(spans) > _SPANS_SHOWN else ""
    return f"a user namespace of its own: root inside is {root} outside (uid {', '.join(spans[:_SPANS_SHOWN])}{more})"


def _span(first: int, length: int) -> str:
    return str(first) if length == 1 else f"{first}-{first + length - 1}"


def _sees(container: Container) -> list[Text]:
    """A line for each path of the host inside, those that matter first."""
    if container.mount_table is None:
        return [Text("unknown: its mounts could not be read")]
    found = visible(container.mount_table, container.host_mounts)
    lines = []
    for one in sorted(found, key=lambda one: (one.why is None, one.secret)):
        where = safe.line(one.point)
        if one.secret:
            lines.append(Text(f"secrets at {where}"))
            continue
        access = "read-only" if one.read_only else "read-write"
        text = Text(f"{safe.line(one.host_path or '?')} of the host at {where}, {access}")
        if one.why:
            text.append(f": {one.why}", "bold red")
        lines.append(text)
    return lines or [Text("no path of the host")]


def _listens(model: Model, network: Net | None) -> list[Text]:
    if network is None or network.listening is None:
        return [Text("unknown: its network could not be read")]
    return [listening_words(model, one) for one in network.listening] or [Text("on no port")]


def _may_use(container: Container) -> list[Text]:
    limits, usage = container.limits, container.usage
    memory = limits.effective_memory
    rows = [
        ("cpu", _cpu_sentence(container)),
        ("memory", _memory_sentence(container)),
        ("swap", _bound_sentence(container, memory.swap_max, limits.memory.swap_max_bytes, usage.swap_bytes)),
        ("pids", _pids_sentence(container)),
    ]
    if limits.memory.reservation_bytes not in (None, 0):
        rows.insert(2, ("reserve", Text(limit(limits.memory.reservation_bytes))))
    if container.others:
        also = " · ".join(f"{safe.line(file)} {safe.line(b', '.join(lines))}" for file, lines in container.others)
        rows.append(("also", Text(also)))
    if container.usage.pressure:
        waited = (f"{name} {found.some_us / 1e6:.1f} s" for name, found in container.usage.pressure.items())
        rows.append(("waited", Text(" · ".join(waited))))
    if limits.memory.high_bytes not in (None, "max"):
        rows.insert(2, ("high", Text(limit(limits.memory.high_bytes))))
    return [Text(f"{name:8}") + sentence for name, sentence in rows]


def _cpu_sentence(container: Container) -> Text:
    cpu, own, usage = container.limits.effective_cpu, container.limits.cpu, container.usage
    text = Text()
    if cpu.cores is None:
        text.append("unknown")
    elif cpu.imposed_by is None:
        text.append(f"NO LIMIT: all {number(cpu.cores)} CPU{'s' if cpu.cores != 1 else ''}")
    else:
        text.append(f"{number(cpu.cores)} core{'s' if cpu.cores != 1 else ''}")
        text.append(_imposer(container, cpu.imposed_by))
        if isinstance(own.cores, float) and own.cores > cpu.cores:
            text.append(f" (its own limit: {number(own.cores)})")
    if cpu.cpuset is not None:
        text.append(f" · cpuset {format_cpu_list(cpu.cpuset)}")
    if own.shares is not None:
        text.append(f" · {own.shares} shares")
    if own.weight is not None:
        text.append(f" · weight {own.weight}" + ("" if own.weight == 100 else _as_shares(own.weight)))
    if usage.cpu_seconds is not None:
        text.append(f" · {usage.cpu_seconds:.1f} s used")
    if usage.cpu_periods and usage.cpu_throttled_periods:
        text.append(
            f" · throttled in {100 * usage.cpu_throttled_periods / usage.cpu_periods:.0f} % of periods", "bold red"
        )
    return text


def _as_shares(weight: int) -> str:
    """What an engine could have been told: never one number, because three formulas lead to a weight."""
    meant = [f"{ends[0]}-{ends[1]} {name}" for name, ends in shares.shares_meant(weight).items() if ends]
    return f" (shares {', '.join(meant)})" if meant else ""


def _memory_sentence(container: Container) -> Text:
    usage = container.usage
    text = _bound_sentence(
        container, container.limits.effective_memory.max, container.limits.memory.max_bytes, usage.memory_bytes
    )
    if usage.memory_working_set_bytes is not None:
        text.append(f", working set {binary_bytes(usage.memory_working_set_bytes)}")
    if usage.oom_kills:
        text.append(f", {usage.oom_kills} OOM kill{'s' if usage.oom_kills != 1 else ''}", "bold red")
    return text


def _bound_sentence(container: Container, bound: Bound, own: Limit | None, used: int | None) -> Text:
    text = Text(limit(bound.value))
    if isinstance(bound.value, int):
        if bound.imposed_by is not None:
            text.append(_imposer(container, bound.imposed_by))
        if isinstance(own, int) and own > bound.value:
            text.append(f" (its own limit: {binary_bytes(own)})")
        if used is not None and bound.value:
            text.append(f"  {bar(used / bound.value)} ")
    if used is not None:
        text.append(
            f" · {binary_bytes(used)} in use" if not text.plain.endswith(" ") else f"{binary_bytes(used)} in use"
        )
    return text


def _pids_sentence(container: Container) -> Text:
    bound, now = container.limits.effective_pids, container.usage.pids
    text = Text("NO LIMIT" if bound.value == "max" else "unknown" if bound.value is None else str(bound.value))
    if isinstance(bound.value, int) and bound.imposed_by is not None:
        text.append(_imposer(container, bound.imposed_by))
    if now is not None:
        text.append(f" · {now} now")
    return text


def _imposer(container: Container, path: bytes) -> str:
    """Who imposes a limit, said only when it is not the container's own cgroup."""
    return "" if path in container.cgroup_paths.values() else f", imposed by {safe.line(path)}"


def _odd(container: Container, found: Sequence[Finding], issues: Sequence[Issue]) -> list[Text]:
    lines = [finding_words(one) for one in found]
    told = {pid for one in found for pid in one.pids if one.kind in ("more_power", "root", "user_namespace")}
    for outlier in container.capabilities.outliers:
        if outlier.pid in told:
            continue
        who = f"process {outlier.pid} {safe.line(outlier.comm)}"
        if outlier.extra or outlier.bounding_extra:
            more = outlier.extra or outlier.bounding_extra
            verb = "has" if outlier.extra else "could gain"
            lines.append(Text(f"{who} {verb} capabilities that init has not: {some_capabilities(more)}", "bold red"))
        else:
            lines.append(Text(f"{who} lacks capabilities that init has: {some_capabilities(outlier.missing)}"))
    for one in container.drift or ():
        where = f" in {safe.line(one.where)}" if one.where is not None else ""
        lines.append(Text(f"drift: {drift_words(one)}{where}", "bold red"))
    lines += [Text(": ".join(map(safe.line, (i.kind, i.path, i.detail)))) for i in issues if i.kind != "not_offered"][
        :ISSUES_SHOWN
    ]
    return lines or [Text("nothing")]


# -- pid ---------------------------------------------------------------------------------------------------------------


def pid_page(model: Model, processes: Sequence[Located], *, width: int | None, colour: bool) -> str:
    """The answer of ``pid``: for each process whose it is, what says so, and which namespaces it is in."""
    screen = console(width, colour)
    for located in processes:
        container = located.container
        title = Text(f"{located.process.pid} {safe.line(located.process.comm)}", "bold")
        if container is None:
            title.append(" · the host, no container", "not bold")
        else:
            words = [full_name(container), safe.line(container.runtime), short_id(container.id)]
            words += [container.kind] if container.kind != "container" else []
            words += [f"inside {name_of(model, container.parent)}"] if container.parent else []
            title.append(" · " + " · ".join(word for word in words if word != "-"), "not bold")
        screen.print(title)
        for says, what in located.evidence:
            screen.print(Text(f"  {says} says {safe.line(what)}"), soft_wrap=width is None)
        screen.print(Text("  namespaces " + _namespace_words(model, located)), soft_wrap=width is None)
    return text_of(screen)


def _namespace_words(model: Model, located: Located) -> str:
    words = []
    for kind, namespace in located.namespaces.items():
        if namespace is None:
            continue
        whose = "host" if namespace.host else ", ".join(name_of(model, i) for i in namespace.shared_with) or "its own"
        words.append(f"{kind} {namespace.inode} ({'?' if namespace.host is None else whose})")
    return " · ".join(words) or "unknown"
