"""Words that the table and the page share: sizes, durations, names; and rich's console, set up to be harmless."""

from __future__ import annotations

from io import StringIO

from rich.console import Console
from rich.text import Text

from nsinspect import capabilities, safe
from nsinspect.cgroupfs import Limit
from nsinspect.drift import Drift
from nsinspect.findings import KINDS, TECHNIQUES, Finding
from nsinspect.model import Container, Model
from nsinspect.networks import Listening

# Sharing these with the host is how engines start a container when nobody asks for anything else.
USUALLY_HOST = ("cgroup", "time", "user")
ISSUES_SHOWN = 5
# Each of these is a way to the host.
_WORST = ("SYS_ADMIN", "SYS_MODULE", "SYS_PTRACE", "SYS_RAWIO", "DAC_READ_SEARCH", "BPF", "NET_ADMIN", "MKNOD")


def console(width: int | None, colour: bool) -> Console:
    """A console that writes into memory and takes every text literally; without a width nothing wraps."""
    return Console(
        file=StringIO(),
        width=width or 10_000,
        force_terminal=colour,
        color_system="standard" if colour else None,
        no_color=not colour,
        markup=False,
        highlight=False,
        emoji=False,
        legacy_windows=False,
    )


def text_of(console: Console) -> str:
    """What was printed, without the blanks that fill lines up."""
    assert isinstance(console.file, StringIO)
    return "\n".join(line.rstrip() for line in console.file.getvalue().splitlines())


def plain_capabilities(mask: int) -> list[str]:
    """Names without their common prefix."""
    return [name.removeprefix("CAP_") for name in capabilities.names(mask)]


def some_capabilities(mask: int) -> str:
    """A few names, the worst first, and how many more there are."""
    found = sorted(plain_capabilities(mask), key=lambda name: _WORST.index(name) if name in _WORST else len(_WORST))
    return " ".join(found) if len(found) <= 6 else f"{' '.join(found[:5])} and {len(found) - 5} more"


def name_of(model: Model, container_id: str) -> str:
    """A container's name, else its short id."""
    for container in model.containers:
        if container.id == container_id and container.name:
            return safe.line(container.name)
    return short_id(container_id)


def full_name(container: Container) -> str:
    """``namespace/pod/container`` of a Kubernetes container, else its name, else a dash."""
    pod = container.pod
    if pod and pod.namespace and pod.name:
        return safe.line("/".join(part for part in (pod.namespace, pod.name, pod.container) if part))
    return safe.line(container.name or "-")


def short_id(container_id: str) -> str:
    """The first 12 characters of an id of 64; other ids whole."""
    whole = safe.line(container_id)
    return whole[:12] if len(whole) == 64 else whole


def age(model: Model, container: Container) -> float | None:
    """Seconds since init started, when the snapshot was taken."""
    started = container.init.started_at
    return None if started is None else max(0.0, model.captured_at - started)


def duration(seconds: float | None) -> str:
    """The two largest units: ``3h12m``."""
    if seconds is None:
        return "?"
    whole = int(seconds)
    units = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
    for index, (name, size) in enumerate(units):
        if whole >= size:
            count, rest = divmod(whole, size)
            if index + 1 < len(units) and (minor := rest // units[index + 1][1]):
                return f"{count}{name}{minor}{units[index + 1][0]}"
            return f"{count}{name}"
    return "0s"


def number(value: float) -> str:
    """At most two decimals, and none that say nothing."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def binary_bytes(count: int | None) -> str:
    """Binary units, as the limits are given; one decimal where it is not whole."""
    if count is None:
        return "?"
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB", "EiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.1f}".removesuffix(".0") + f" {unit}"


def limit(value: Limit | None) -> str:
    """A size, "NO LIMIT" or "unknown"."""
    return "unknown" if value is None else "NO LIMIT" if value == "max" else binary_bytes(value)


_FIELDS = {
    "limits.cpu.own.cores": "cpu",
    "limits.cpu.own.cpuset": "cpuset",
    "limits.cpu.own.shares": "cpu shares",
    "limits.cpu.own.weight": "cpu weight",
    "limits.memory.own.max_bytes": "memory",
    "limits.memory.own.swap_max_bytes": "swap",
    "limits.memory.own.reservation_bytes": "memory reservation",
    "limits.memory.own.high_bytes": "memory high",
    "limits.pids.own.max": "pids",
    "capabilities.bounding": "capabilities",
    "security.seccomp": "seccomp",
    "security.no_new_privs": "no-new-privileges",
    "security.privileged": "privileged",
    "security.lsm_label": "security module's label",
    "security.read_only_rootfs": "read-only root",
    "init.uid": "user",
}


def field_words(field: str) -> str:
    """What a person calls a field of the document."""
    if field.startswith("namespaces."):
        return field.removeprefix("namespaces.") + " namespace"
    return _FIELDS.get(field.replace(".effective.", ".own."), safe.line(field.removeprefix("limits.others.")))


def drift_words(one: Drift) -> str:
    """``swap: declared 0 B, enforced NO LIMIT``."""
    if one.field == "capabilities.bounding":
        more = [name for name in one.enforced if name not in one.declared]
        return f"capabilities: not declared, and there: {' '.join(name.removeprefix('CAP_') for name in more)}"
    return f"{field_words(one.field)}: declared {_value(one, one.declared)}, enforced {_value(one, one.enforced)}"


def _value(one: Drift, value: object) -> str:
    if one.field.endswith("_bytes") and (value == "max" or isinstance(value, int)):
        return limit(value)
    if value == "max":
        return "NO LIMIT"
    return number(value) if isinstance(value, float) else safe.line(str(value))


def finding_words(one: Finding) -> Text:
    """``high  process 7120 sh can do more than init (T1609 Container Administration Command)``."""
    text = Text(f"{one.severity:<8}  ", "bold red" if one.severity in ("high", "critical") else "")
    thread = f"thread {one.tid} {safe.line(one.comm)} of process {one.pid}"
    text.append(thread if one.tid != one.pid else f"process {one.pid} {safe.line(one.comm)}", "bold")
    if len(one.pids) > 1:
        text.append(f" and {len(one.pids) - 1} below it", "not bold")
    text.append(f" {KINDS[one.kind]}", "not bold")
    if one.gained:
        text.append(f": {some_capabilities(one.gained)}", "not bold")
    if one.technique:
        text.append(f" ({one.technique} {TECHNIQUES[one.technique]})", "not bold")
    return text


def listening_words(model: Model, one: Listening) -> Text:
    """``tcp 0.0.0.0:80 on EVERY ADDRESS · web, process 4242``."""
    socket = one.socket
    address = f"[{socket.address}]" if ":" in socket.address else socket.address
    text = Text(safe.line(f"{socket.protocol} {address}:{socket.port}"))
    if one.everywhere:
        text.append(" on EVERY ADDRESS", "bold")
    names = [name_of(model, container) for container in one.containers or ()]
    pids = f"process{'es' if len(one.pids) > 1 else ''} {' '.join(map(str, one.pids))}" if one.pids else ""
    whose = ", ".join([*names, *([pids] if pids else [])])
    text.append(f" · {whose or ('nobody we may see' if one.pids is None else 'no process')}", "not bold")
    return text


def bar(share: float) -> str:
    """Ten blocks, filled by share."""
    filled = round(10 * min(max(share, 0.0), 1.0))
    return "▇" * filled + "▁" * (10 - filled)
