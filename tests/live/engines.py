"""containerd, runc, crun and LXC on this machine, each below one directory and each cleaning up after itself."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

CGROUPS = Path("/sys/fs/cgroup")
CRUN = ("unshare", "-m", "sh", "-c", 'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"', "crun")
"""crun refuses a hybrid host whose v2 hierarchy has a controller (here hugetlb), so it is shown none."""

# What a container's image adds to the root file system of the other tests, for nspawn and for pods.
FOLDERS = ("proc", "sys", "dev", "run", "var", "usr", "root", "tmp")
BOUND = ("etc/hostname", "etc/resolv.conf")
# A script's process is named like the script, and opening this FIFO never ends: one process called pause.
PAUSE = "#!/bin/sh\nread nothing < /etc/never\n"


def until(true: Callable[[], Any], what: str, seconds: float = 60) -> Any:
    """What ``true`` gives as soon as that is true.  Raises ``AssertionError`` naming ``what`` when it never is."""
    deadline = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < deadline, f"timed out: {what}"
        time.sleep(0.05)
    return found


def until_settled(pids: Iterable[int]) -> None:
    """Wait until processes are past the second in which nobody is judged."""
    starts = [Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[19] for pid in pids]
    youngest = max(map(int, starts)) / os.sysconf("SC_CLK_TCK")
    until(lambda: float(Path("/proc/uptime").read_text().split()[0]) - youngest > 1.1, "their first second")


def output_of(*command: str, log: Path | None = None, check: bool = True) -> str:
    """Run a command without input; its output, which goes to ``log`` where a daemon would keep a pipe open."""
    if log is None:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=60
        )
        assert not check or done.returncode == 0, (command, done.stdout, done.stderr)
        return done.stdout
    with log.open("wb") as file:
        status = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=file, check=False, timeout=60
        ).returncode
    assert not check or status == 0, (command, log.read_text("utf-8", "replace")[-2000:])
    return log.read_text("utf-8", "replace")


def unpacked(tar: Path, directory: Path) -> Path:
    """A directory with the root file system of ``tar``, and what more engines ask of one."""
    directory.mkdir(parents=True)
    output_of("tar", "-xf", str(tar), "-C", str(directory))
    for folder in FOLDERS:
        (directory / folder).mkdir(exist_ok=True)
    (directory / "bin/pause").write_text(PAUSE)
    (directory / "bin/pause").chmod(0o755)
    os.mkfifo(directory / "etc/never")
    for file in BOUND:
        (directory / file).touch()
    return directory


def parent_of(pid: int) -> int:
    """The pid of a process's parent, by the kernel."""
    return int(Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()[1])


def all_pids() -> list[int]:
    """Every pid there is."""
    return sorted(int(name) for name in os.listdir("/proc") if name.isdigit())


def descendants(*pids: int) -> list[int]:
    """Processes and everything below them, as far as it lives."""
    parents = {}
    for one in all_pids():
        with contextlib.suppress(OSError):
            parents[one] = parent_of(one)
    found = list(pids)
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def in_namespace_of(pid: int, kind: str = "pid") -> list[int]:
    """Every process that is in the same namespace."""
    wanted = os.readlink(f"/proc/{pid}/ns/{kind}")
    found = []
    for one in all_pids():
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/{one}/ns/{kind}") == wanted:
                found.append(one)
    return found


def hierarchies() -> list[Path]:
    """Where each cgroup hierarchy of this machine is mounted."""
    return sorted(path for path in CGROUPS.iterdir() if path.is_dir() and not path.is_symlink())


def cgroup_directories(*below: str) -> set[Path]:
    """Every cgroup in every hierarchy, or every one below a path."""
    tops = [hierarchy.joinpath(*below) for hierarchy in hierarchies()]
    return {Path(folder) for top in tops for folder, _, _ in os.walk(top)}


def members(cgroup: str) -> list[int]:
    """Every process in a cgroup and below it, in whichever hierarchy it has one."""
    found = set()
    for folder in cgroup_directories(cgroup.lstrip("/")):
        with contextlib.suppress(OSError):
            found |= {int(pid) for pid in (folder / "cgroup.procs").read_text().split()}
    return sorted(found)


def kill(pids: Iterable[int]) -> None:
    """End processes that may have ended already."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@contextlib.contextmanager
def cgroups_removed(ours: set[str]) -> Iterator[None]:
    """Remove, at the end, cgroups made meanwhile that have one of ``ours`` in their path, and emptied parents."""
    before = cgroup_directories()
    parents = {"kubepods", "burstable", "besteffort", "k8s.io", "lxc.pivot", "docker"}
    try:
        yield
    finally:
        made = sorted(cgroup_directories() - before, key=lambda path: -len(path.parts))
        for path in made:
            if ours & set(path.parts) or path.name in parents:
                for _ in range(20):  # a killed process leaves its cgroup a moment later
                    try:
                        path.rmdir()
                    except FileNotFoundError:
                        break
                    except OSError:
                        if path.name in parents:
                            break
                        time.sleep(0.05)
                    else:
                        break


def crun_for_containerd(directory: Path) -> Path:
    """A program for ``ctr run --runc-binary`` that is crun on this host."""
    path = directory / "crun-without-v2"
    path.write_text(
        '#!/bin/sh\nexec unshare -m sh -c \'umount /sys/fs/cgroup/unified 2>/dev/null; exec crun "$@"\' crun "$@"\n'
    )
    path.chmod(0o755)
    return path


def unmount_below(directory: Path) -> None:
    """Let go of every mount below a directory."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for point in reversed(points):
        if point.startswith(f"{directory}/"):
            subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL, timeout=30)


def make_bundle(
    directory: Path,
    rootfs: Path,
    *,
    cgroup: str | None = None,
    annotations: dict[str, str] | None = None,
    command: tuple[str, ...] = ("/bin/sleep", "3000"),
    bound: Path | None = None,
) -> Path:
    """A bundle as ``runc spec`` writes it, with what a person or the kubelet's engine changes in it; its directory.

    ``bound`` is the folder whose files an engine mounts over those of ``/etc``.
    """
    directory.mkdir(parents=True)
    output_of("runc", "spec", "--bundle", str(directory))
    config: dict[str, Any] = json.loads((directory / "config.json").read_text())
    config["root"] = {"path": str(rootfs), "readonly": True}
    config["process"].update(terminal=False, args=list(command))
    # Without CAP_SYS_RESOURCE a limit above our own is refused.
    config["process"].pop("rlimits", None)
    if cgroup is not None:
        config["linux"]["cgroupsPath"] = cgroup
    if annotations:
        config["annotations"] = annotations
    for file in BOUND if bound else ():
        assert bound
        source = bound / Path(file).name
        source.touch()
        config["mounts"].append(
            {"destination": f"/{file}", "type": "bind", "source": str(source), "options": ["ro", "bind"]}
        )
    (directory / "config.json").write_text(json.dumps(config))
    return directory


class Oci:
    """runc or crun used directly, with their state where they usually keep it or by ``--root``.  A context manager."""

    def __init__(self, directory: Path, *command: str) -> None:
        self._directory = directory
        self._command = command
        self._mine: list[str] = []
        self.monitors: dict[str, int] = {}
        directory.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Oci:
        return self

    def __exit__(self, *_: object) -> None:
        for identity in self._mine:
            output_of(*self._command, "delete", "-f", identity, check=False)
        kill(self.monitors.values())

    def run(
        self, identity: str, rootfs: Path, *, bundle: Path | None = None, monitor_in: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Start a container from a bundle of its own; what the runtime lists of it.

        With ``monitor_in`` it is conmon that starts it, as CRI-O and podman do, and that is its monitor's cgroup.
        """
        bundle = make_bundle(bundle or self._directory / identity, rootfs, **options)
        self._mine.append(identity)
        log = self._directory / f"{identity}.log"
        if monitor_in is None:
            output_of(*self._command, "run", "-d", "--bundle", str(bundle), identity, log=log)
        else:
            self.monitors[identity] = self._monitored(identity, bundle, monitor_in)
            output_of(*self._command, "start", identity, log=log)
        return self.listed()[identity]

    def _monitored(self, identity: str, bundle: Path, cgroup: str) -> int:
        """Create a container by conmon, which works in the bundle and stays; conmon's pid."""
        program = self._directory / "runtime"
        program.write_text(f'#!/bin/sh\nexec {shlex.join(self._command)} "$@"\n')
        program.chmod(0o755)
        files = {name: self._directory / f"{identity}.{name}" for name in ("pid", "conmon", "ctr.log")}
        command = ["conmon", "-c", identity, "-u", identity, "-n", identity, "-r", str(program), "-b", str(bundle)]
        command += ["-p", str(files["pid"]), "-P", str(files["conmon"]), "-l", f"k8s-file:{files['ctr.log']}"]
        command += ["--exit-dir", str(self._directory), "--socket-dir-path", str(self._directory)]
        nowhere = subprocess.DEVNULL
        subprocess.run(command, stdin=nowhere, stdout=nowhere, stderr=nowhere, check=True, cwd=bundle, timeout=60)
        until(lambda: files["pid"].exists() and files["pid"].read_text(), f"{identity} by conmon", 20)
        monitor = int(files["conmon"].read_text())
        for hierarchy in hierarchies():
            if hierarchy.name != "cpuset":  # which takes nobody before it has CPUs
                folder = hierarchy / cgroup.lstrip("/")
                folder.mkdir(parents=True)
                (folder / "cgroup.procs").write_text(str(monitor))
        return monitor

    def listed(self) -> dict[str, dict[str, Any]]:
        """``list -f json`` by id."""
        entries: list[dict[str, Any]] = json.loads(output_of(*self._command, "list", "-f", "json")) or []
        return {entry["id"]: entry for entry in entries}


class Containerd:
    """``containerd`` with its root, state and socket below one directory.  A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._daemon: subprocess.Popen[bytes] | None = None
        self._mine: list[tuple[str, str]] = []
        directory.mkdir(parents=True)

    def __enter__(self) -> Containerd:
        self.start()
        return self

    def start(self) -> None:
        """Start the daemon and wait until it answers; containers of an earlier one are found again."""
        log = self.directory / "log"
        command = ["containerd", "--root", "root", "--state", "state", "--address", "c.sock", "--log-level", "warn"]
        command = [str(self.directory / word) if word in ("root", "state", "c.sock") else word for word in command]
        with log.open("ab") as file:
            self._daemon = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=file)
        until(lambda: "Server" in self._ctr("version"), f"containerd: {log.read_text()[-2000:]}")

    def kill_daemon(self) -> None:
        """End the daemon alone; shims and containers go on."""
        assert self._daemon
        self._daemon.kill()
        self._daemon.wait(60)

    def __exit__(self, *_: object) -> None:
        if self._daemon is None or self._daemon.poll() is not None:
            self.start()
        for namespace, identity in self._mine:
            self._ctr("-n", namespace, "task", "rm", "-f", identity)
            self._ctr("-n", namespace, "container", "rm", identity)
        self.kill_daemon()
        unmount_below(self.directory)

    def run(self, namespace: str, identity: str, *flags: str) -> int:
        """Start a container by ``ctr run -d``; the pid of its init by ``ctr task ls``."""
        self._mine.append((namespace, identity))
        log = self.directory / f"{identity}.log"
        output_of(*self._client(), "-n", namespace, "run", "-d", "--null-io", *flags, log=log)
        return self.tasks(namespace)[identity]

    def tasks(self, namespace: str) -> dict[str, int]:
        """``ctr task ls``: pids of inits by id."""
        rows = [line.split() for line in self._ctr("-n", namespace, "task", "ls").splitlines()[1:]]
        return {identity: int(pid) for identity, pid, status in rows if status == "RUNNING"}

    def _client(self) -> tuple[str, ...]:
        return ("ctr", "--address", str(self.directory / "c.sock"), "--connect-timeout", "5s")

    def _ctr(self, *arguments: str) -> str:
        return output_of(*self._client(), *arguments, check=False)


class Lxc:
    """LXC containers below one directory.  A context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._mine: list[str] = []
        directory.mkdir(parents=True)

    def __enter__(self) -> Lxc:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._mine:
            output_of("lxc-stop", "-k", "-P", str(self.directory), "-n", name, check=False)

    def run(self, name: str, rootfs: Path) -> int:
        """Start a container; the pid of its init by ``lxc-info``."""
        (self.directory / name).mkdir()
        lines = {
            "lxc.uts.name": name,
            "lxc.rootfs.path": f"dir:{rootfs}",
            "lxc.init.cmd": "/bin/sleep 3000",
            "lxc.net.0.type": "empty",
            "lxc.apparmor.profile": "unconfined",
        }
        text = "".join(f"{key} = {value}\n" for key, value in lines.items())
        (self.directory / name / "config").write_text(text)
        self._mine.append(name)
        output_of("lxc-start", "-P", str(self.directory), "-n", name, log=self.directory / f"{name}.log")
        return int(output_of("lxc-info", "-P", str(self.directory), "-n", name, "-pH"))
