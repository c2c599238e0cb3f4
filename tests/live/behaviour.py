"""What processes get under limits, measured, beside what nsinspect says of them.

The same loads on v1 with Docker and on v2 with bare cgroups that are named like podman's.  What a load got is read from
the kernel's own counters and from the load's own words; nothing here knows what nsinspect should say.

On v2, in user-mode Linux: ``python -m tests.live.behaviour ALLOCATE FOLDER`` prints everything as one JSON object.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from tests.live.docker import Docker

CGROUPS = Path("/sys/fs/cgroup")
TOP = "/nsinspect-behaviour"
SECONDS = 5.0
TRIES = 3
MIB = 1 << 20
STEP_PAGES = 64
MOST_STEPS = 2048
MOST_PROCESSES = 400
CONTROLLERS = ("cpu", "cpuset", "memory", "pids")


class Limits(NamedTuple):
    """What a cgroup is told; ``None`` is not told.  ``weight`` is v1's shares or v2's weight."""

    cores: float | None = None
    cpuset: str | None = None
    memory: int | None = None
    pids: int | None = None
    weight: int | None = None


class Load(NamedTuple):
    """A container: its own limits, the cgroup it is below, and how many loops run in it."""

    name: str
    own: Limits = Limits()
    parent: str = "free"
    loops: int = 2


class Kernel(Protocol):
    """One cgroup version and a way to start containers on it."""

    allocate: str

    def make_parent(self, name: str, limits: Limits) -> None:
        """A cgroup below :data:`TOP`."""

    def start(self, load: Load, *command: str) -> None:
        """A container that runs this."""

    def said(self, name: str) -> str:
        """What its command has printed so far."""

    def identity(self, name: str) -> str:
        """Its id."""

    def cpu_seconds(self, name: str) -> float:
        """CPU time it has used, by the kernel."""

    def favour(self, ours: bool) -> None:
        """Whether our loads go before all others of the machine."""

    def hierarchical_memory_limit(self, name: str) -> int | None:
        """The kernel's own word on its memory limit, on v1."""

    def remove(self, name: str) -> None:
        """End it."""

    def remove_parents(self) -> None:
        """Remove :data:`TOP` and all below."""


class OnV1:
    """Docker with the cgroupfs driver on hierarchies of their own."""

    def __init__(self, docker: Docker, allocate: str) -> None:
        self._docker = docker
        self.allocate = allocate
        self._ids: dict[str, str] = {}
        self._pids: dict[str, int] = {}

    def make_parent(self, name: str, limits: Limits) -> None:
        """In every hierarchy that limits."""
        for controller in CONTROLLERS:
            folder = self._folder(controller, f"{TOP}/{name}")
            folder.mkdir(parents=True, exist_ok=True)
            if controller == "cpuset":
                for inherited in (folder.parent, folder):
                    for file in ("cpuset.mems", "cpuset.cpus"):
                        (inherited / file).write_text((inherited.parent / file).read_text())
        if limits.cores is not None:
            quota = str(round(100_000 * limits.cores))
            (self._folder("cpu", f"{TOP}/{name}") / "cpu.cfs_quota_us").write_text(quota)
        if limits.memory is not None:
            (self._folder("memory", f"{TOP}/{name}") / "memory.limit_in_bytes").write_text(str(limits.memory))
        if limits.pids is not None:
            (self._folder("pids", f"{TOP}/{name}") / "pids.max").write_text(str(limits.pids))

    def start(self, load: Load, *command: str) -> None:
        """By ``docker run``."""
        own = load.own
        told = {
            "--cpus": own.cores,
            "--cpuset-cpus": own.cpuset,
            "--memory": own.memory,
            "--memory-swap": own.memory,
            "--pids-limit": own.pids,
            "--cpu-shares": own.weight,
        }
        flags = [word for flag, value in told.items() if value is not None for word in (flag, str(value))]
        flags += ["--cgroup-parent", f"{TOP}/{load.parent}", "--volume", f"{self.allocate}:{self.allocate}:ro"]
        self._ids[load.name] = self._docker.run(load.name, *flags, command=command)
        self._pids[load.name] = self._docker.inspect(load.name)["State"]["Pid"]

    def said(self, name: str) -> str:
        """By ``docker logs``."""
        return self._docker("logs", name)

    def identity(self, name: str) -> str:
        """Docker's."""
        return self._ids[name]

    def cpu_seconds(self, name: str) -> float:
        """``cpuacct.usage``."""
        return int((self._own("cpuacct", name) / "cpuacct.usage").read_text()) / 1e9

    def favour(self, ours: bool) -> None:
        """By ``cpu.shares`` of :data:`TOP`."""
        (self._folder("cpu", TOP) / "cpu.shares").write_text("262144" if ours else "1024")

    def hierarchical_memory_limit(self, name: str) -> int | None:
        """From ``memory.stat``."""
        lines = (self._own("memory", name) / "memory.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["hierarchical_memory_limit"])

    def remove(self, name: str) -> None:
        """By ``docker rm``."""
        self._docker("rm", "-f", name)

    def remove_parents(self) -> None:
        """In every hierarchy, those that Docker made too."""
        for hierarchy in {path.resolve() for path in CGROUPS.iterdir() if path.is_dir()}:
            for folder, _, _ in os.walk(hierarchy / TOP.lstrip("/"), topdown=False):
                _remove_when_empty(Path(folder))

    @staticmethod
    def _folder(controller: str, path: str) -> Path:
        return CGROUPS / controller / path.lstrip("/")

    def _own(self, controller: str, name: str) -> Path:
        """Where the kernel says that its init is."""
        lines = (line.split(":", 2) for line in Path(f"/proc/{self._pids[name]}/cgroup").read_text().splitlines())
        return self._folder(controller, next(path for _, found, path in lines if controller in found.split(",")))


class OnV2:
    """Cgroups with the names that podman gives, and a process in each."""

    def __init__(self, folder: Path, allocate: str) -> None:
        self._folder = folder
        self.allocate = allocate
        self._running: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}

    def make_parent(self, name: str, limits: Limits) -> None:
        """With the controllers handed down."""
        folder = CGROUPS / TOP.lstrip("/") / name
        folder.mkdir(parents=True)
        for above in (folder.parent, folder):
            (above / "cgroup.subtree_control").write_text("+cpu +memory +pids")
        self._limit(folder, limits)

    def start(self, load: Load, *command: str) -> None:
        """A process that enters its cgroup before it is the load."""
        folder = CGROUPS / TOP.lstrip("/") / load.parent / f"libpod-{self.identity(load.name)}"
        folder.mkdir()
        self._limit(folder, load.own)
        with (self._folder / load.name).open("wb") as log:
            enter = ["sh", "-c", 'echo 0 >"$0" && exec "$@"', str(folder / "cgroup.procs"), *command]
            process = subprocess.Popen(enter, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.DEVNULL)
        self._running[load.name] = (folder, process)

    def said(self, name: str) -> str:
        """From its file."""
        return (self._folder / name).read_text()

    def identity(self, name: str) -> str:
        """Made of the name."""
        return hashlib.sha256(name.encode()).hexdigest()

    def cpu_seconds(self, name: str) -> float:
        """``cpu.stat``."""
        lines = (self._running[name][0] / "cpu.stat").read_text().splitlines()
        return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6

    def favour(self, ours: bool) -> None:
        """That kernel has no others."""

    def hierarchical_memory_limit(self, name: str) -> int | None:
        """V2 has none."""
        return None

    def remove(self, name: str) -> None:
        """By ``cgroup.kill``."""
        folder, process = self._running.pop(name)
        (folder / "cgroup.kill").write_text("1")
        process.wait(30)
        _remove_when_empty(folder)

    def remove_parents(self) -> None:
        """Those made here."""
        for folder, _, _ in os.walk(CGROUPS / TOP.lstrip("/"), topdown=False):
            _remove_when_empty(Path(folder))

    @staticmethod
    def _limit(folder: Path, limits: Limits) -> None:
        told = {
            "cpu.max": None if limits.cores is None else f"{round(100_000 * limits.cores)} 100000",
            "memory.max": limits.memory,
            "pids.max": limits.pids,
            "cpu.weight": limits.weight,
        }
        for file, value in told.items():
            if value is not None:
                (folder / file).write_text(str(value))


def _remove_when_empty(folder: Path) -> None:
    """A cgroup is busy until its last process has been waited for."""
    for _ in range(100):
        try:
            folder.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            time.sleep(0.05)
        else:
            return


def nsinspect(*arguments: str) -> dict[str, Any]:
    """One answer in JSON."""
    command = [sys.executable, "-m", "nsinspect", *arguments, "--json"]
    done = subprocess.run(
        command, capture_output=True, check=True, timeout=120, cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@contextlib.contextmanager
def _running(kernel: Kernel, *loads: Load, command: Callable[[Load], tuple[str, ...]]) -> Iterator[None]:
    started: list[Load] = []
    try:
        for load in loads:
            started.append(load)
            kernel.start(load, *command(load))
        yield
    finally:
        for load in started:
            kernel.remove(load.name)


def _reported(kernel: Kernel, *loads: Load) -> dict[str, dict[str, Any]]:
    """By name: what nsinspect says of each, the issues about it, and what the kernel says of its memory limit."""
    whole = nsinspect("list")
    by_id = {container["id"]: container for container in whole["containers"]}
    return {
        load.name: {
            "reported": by_id[kernel.identity(load.name)],
            "hierarchical_memory_limit": kernel.hierarchical_memory_limit(load.name),
            "contradictions": [issue for issue in whole["issues"] if issue["kind"] == "contradiction"],
        }
        for load in loads
    }


def _cores(kernel: Kernel, *loads: Load) -> dict[str, float]:
    """CPU time over wall time, of all of them over the same seconds."""
    first = {load.name: (time.monotonic(), kernel.cpu_seconds(load.name)) for load in loads}
    kernel.favour(True)
    time.sleep(SECONDS)
    kernel.favour(False)
    found = {}
    for load in loads:
        then, used = first[load.name]
        found[load.name] = (kernel.cpu_seconds(load.name) - used) / (time.monotonic() - then)
    return found


def busy(kernel: Kernel, *loads: Load, competing: tuple[Load, ...] = (), key: str = "") -> dict[str, dict[str, Any]]:
    """Busy loops side by side, which together want no more than the machine has, but for ``competing``: two for one
    CPU, with what nsinspect calls ``key``.

    Measured up to three times, because another load of the machine can disturb: ``got`` and ``ratio`` are those nearest
    to what nsinspect reported.
    """

    every = (*loads, *competing)
    with _running(kernel, *every, command=lambda load: (kernel.allocate, "cpu", str(load.loops))):
        time.sleep(0.5)
        found = _reported(kernel, *every)
        for _ in range(TRIES):
            for name, cores in _cores(kernel, *every).items():
                found[name].setdefault("measured", []).append(cores)
            wanted = {load.name: found[load.name]["reported"]["limits"]["cpu"]["effective"]["cores"] for load in loads}
            for name, cores in wanted.items():
                found[name]["got"] = _nearest(found[name]["measured"], cores)
            near = all(abs(found[name]["got"] / cores - 1) <= 0.1 for name, cores in wanted.items())
            if competing:
                one, other = (found[load.name] for load in competing)
                proportion = (
                    one["reported"]["limits"]["cpu"]["own"][key] / other["reported"]["limits"]["cpu"]["own"][key]
                )
                ratios = [a / b for a, b in zip(one["measured"], other["measured"], strict=True)]
                one["ratio"] = _nearest(ratios, proportion)
                near = near and abs(one["ratio"] / proportion - 1) <= 0.15
            if near:
                break
    return found


def _nearest(measured: list[float], wanted: float) -> float:
    return min(measured, key=lambda found: abs(found - wanted))


def memory(kernel: Kernel, *loads: Load) -> dict[str, dict[str, Any]]:
    """An allocator in each: ``status`` it ended with and ``steps`` it had completed; asked while its shell lives on."""
    script = f"{kernel.allocate} memory {STEP_PAGES} {MOST_STEPS}; echo ended $?; sleep 120"
    with _running(kernel, *loads, command=lambda _: ("sh", "-c", script)):
        for load in loads:
            _until(lambda load=load: "ended" in kernel.said(load.name), load.name)
        found = _reported(kernel, *loads)
        for load in loads:
            *steps, (_, status) = [line.split() for line in kernel.said(load.name).splitlines()]
            found[load.name] |= {"status": int(status), "steps": len(steps)}
    return found


def processes(kernel: Kernel, *loads: Load) -> dict[str, dict[str, Any]]:
    """A fork loop in each: ``children`` it has, and whether the next was ``refused``."""
    found: dict[str, dict[str, Any]] = {}
    for load in loads:  # one after another, because those below one parent share its limit
        with _running(kernel, load, command=lambda _: (kernel.allocate, "processes", str(MOST_PROCESSES))):
            _until(lambda load=load: "refused" in kernel.said(load.name), load.name)
            found |= _reported(kernel, load)
            children, *words = kernel.said(load.name).split()
            found[load.name] |= {"children": int(children), "refused": words == ["refused"]}
    return found


def _until(true: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + 60
    while not true():
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.1)


PARENTS = {
    "free": Limits(),
    "small": Limits(cores=0.3, memory=50 * MIB, pids=25),
    "narrow": Limits(cores=0.25),
    "wide": Limits(cores=1.5),
}


def on_v1(kernel: Kernel) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything, on two CPUs, where a child's quota is never larger than its parent's."""
    with _parents(kernel):
        both = Load("quota-and-cpuset", Limits(cores=0.6, cpuset="1"))
        wide = Load("cpuset-below-quota", Limits(cpuset="1"), parent="wide")
        greedy, modest = (Load(f"shares-{n}", Limits(cpuset="0", weight=n), loops=1) for n in (1024, 512))
        return {
            "cpu": {
                **busy(kernel, Load("own-quota", Limits(cores=0.5)), Load("parents-quota", parent="small")),
                # Alone: a load that may be on either CPU is not always moved off the only one of another.
                **busy(kernel, wide),
                **busy(kernel, Load("cpuset", Limits(cpuset="0")), both),
                **busy(kernel, Load("more-than-one", Limits(cores=1.5))),
                **busy(kernel, competing=(greedy, modest), key="shares"),
            },
            "memory": memory(kernel, *_eaters()),
            "pids": processes(kernel, *_forkers()),
        }


def on_v2(kernel: Kernel) -> dict[str, dict[str, dict[str, Any]]]:
    """Everything, on one CPU, where a child's quota may be larger than its parent's."""
    with _parents(kernel):
        loads = (
            Load("own-quota", Limits(cores=0.2)),
            Load("parents-quota", parent="small"),
            Load("tighter-parent", Limits(cores=0.5), parent="narrow"),
            Load("tighter-own", Limits(cores=0.1), parent="wide"),
        )
        greedy, modest = (Load(f"weight-{n}", Limits(weight=n), loops=1) for n in (100, 50))
        return {
            "cpu": {**busy(kernel, *loads), **busy(kernel, competing=(greedy, modest), key="weight")},
            "memory": memory(kernel, *_eaters()),
            "pids": processes(kernel, *_forkers()),
        }


def _eaters() -> tuple[Load, ...]:
    return Load("own-memory", Limits(memory=64 * MIB)), Load("parents-memory", parent="small")


def _forkers() -> tuple[Load, ...]:
    return Load("own-pids", Limits(pids=40)), Load("parents-pids", parent="small")


@contextlib.contextmanager
def _parents(kernel: Kernel) -> Iterator[None]:
    try:
        for name, limits in PARENTS.items():
            kernel.make_parent(name, limits)
        yield
    finally:
        kernel.remove_parents()


if __name__ == "__main__":
    print(json.dumps(on_v2(OnV2(Path(sys.argv[2]), sys.argv[1]))))
