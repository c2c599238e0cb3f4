"""What is known of the machine as a whole, and whether it is the whole machine that is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from nsinspect import cgroupfs, namespaces, procfs
from nsinspect.errors import Malformed, RootError, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.grouping import KTHREADD
from nsinspect.host import boot_time_and_memory
from nsinspect.kernfs import Copied, Directory, Roots
from nsinspect.namespaces import Namespaces
from nsinspect.snapshot import HostFacts, Issue, Process

T = TypeVar("T")
_CPUS = "/sys/devices/system/cpu"


def facts(
    asker: Forgiving, roots: Roots, proc: Directory, processes: Sequence[Process], uptime: float | None
) -> HostFacts:
    """The machine.  ``uptime`` is what :func:`uptime` said before the processes were read."""
    if isinstance(proc, Copied):
        # psutil follows links and waits for FIFOs, which a copy may hold.
        boot_time, memory = (
            _fact(asker, proc, "stat", procfs.parse_btime),
            _fact(asker, proc, "meminfo", procfs.parse_memory),
        )
    else:
        boot_time, memory, problems = boot_time_and_memory(proc.path)
        for problem in problems:
            asker.complain(problem)
    init = next((p for p in processes if p.pid == 1), None)
    return HostFacts(
        hostname=_fact(asker, proc, "sys/kernel/hostname", procfs.parse_word),
        boot_id=_fact(asker, proc, "sys/kernel/random/boot_id", procfs.parse_word),
        kernel=_fact(asker, proc, "sys/kernel/osrelease", procfs.parse_word),
        cpus_online=_cpus_online(asker, roots),
        memory_bytes=memory,
        cap_last_cap=_fact(asker, proc, "sys/kernel/cap_last_cap", procfs.parse_number),
        boot_time=boot_time,
        uptime=uptime,
        namespaces=_namespaces(processes),
        capabilities=init.status.cap_bnd if init and init.status else None,
    )


def uptime(asker: Forgiving, proc: Directory) -> float | None:
    """Seconds since boot, by ``/proc/uptime``."""
    return _fact(asker, proc, "uptime", procfs.parse_uptime)


def narrowed(proc: Directory, processes: Sequence[Process]) -> list[Issue]:
    """What says that what is seen is not the host: then no containers is no answer."""
    found = []
    if not any(process.pid == KTHREADD and process.comm == b"kthreadd" for process in processes):
        detail = "no kthreadd here: a pid namespace of its own, or hidepid; containers outside cannot be seen"
        found.append(Issue("private_namespace", proc.path, detail))
    # Processes of one cgroup have the very same lines.
    distinct = {id(process.cgroup): process.cgroup for process in processes}
    if any(line.path.startswith(b"/..") for lines in distinct.values() for line in lines):
        detail = "paths lead out of the cgroup namespace of the reader; run it in the host's (--cgroupns=host)"
        found.append(Issue("private_namespace", f"{proc.path}/<pid>/cgroup", detail))
    return found


def _fact(asker: Forgiving, proc: Directory, name: str, parse: Callable[[bytes], T]) -> T | None:
    try:
        return asker.fact(proc, name, parse)
    except Vanished:
        return None


def _cpus_online(asker: Forgiving, roots: Roots) -> tuple[int, ...] | None:
    path = roots.join(_CPUS)
    try:
        with roots.open_folder(_CPUS) as directory:
            return _fact(asker, directory, "online", _some_cpus)
    except RootError as error:
        asker.issues.append(Issue("unreadable", f"{path}/online", str(error)))
        return None


def _some_cpus(data: bytes) -> tuple[int, ...]:
    cpus = cgroupfs.parse_cpu_list(data)
    # Of a cpuset no CPU is an answer; a machine without any would make every limit zero.
    if not cpus:
        raise Malformed(data, "at least one CPU")
    return cpus


def _namespaces(processes: Sequence[Process]) -> Namespaces:
    """PID 1's.  Where they are refused, even to root when PID 1 holds a capability that root lost, kthreadd's: kernel
    threads live in the initial namespaces, and nothing can be changed there."""
    found = namespaces.UNKNOWN
    for process in processes:
        if process.pid == 1 or (process.pid == KTHREADD and process.ppid == 0 and process.comm == b"kthreadd"):
            found = Namespaces(*(a if a is not None else b for a, b in zip(found, process.namespaces, strict=True)))
    return found
