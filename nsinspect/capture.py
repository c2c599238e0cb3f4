"""Taking a capture: the bytes of every file that a look at a host reads, the snapshot made of them, and the record of
how both were taken.

Most volatile first, and nothing that the container could notice: files of the kernel are read, nothing else.  See
RFC 3227, and docs/forensics.md for the layout.
"""

from __future__ import annotations

import errno
import getpass
import hashlib
import json
import os
import shlex
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, TypeVar

from nsinspect import __version__, bundle, codec, lastly
from nsinspect.bundle import Sink
from nsinspect.collect import Collector, Depth
from nsinspect.errors import KernelError
from nsinspect.kernfs import Roots, witnessed
from nsinspect.snapshot import Process, Snapshot

T = TypeVar("T")

FORMAT_VERSION = 1
# Read first: when it is, and since when.
_CLOCKS = ("uptime", "stat", "sys/kernel/random/boot_id", "meminfo", "sys/kernel/hostname", "version")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for.  ``lastly`` names what may hold secrets or hang, and is read last: "cmdline", "environ",
    "executable".  ``state_files``: engines' files as they are, environment variables in them and all.  ``others``: ids
    of containers that are left out, and ``leave_out`` the pids of their processes."""

    command: tuple[str, ...]
    case: str | None = None
    examiner: str | None = None
    note: str | None = None
    lastly: tuple[str, ...] = ()
    state_files: bool = False
    containers: tuple[str, ...] = ()
    others: frozenset[str] = frozenset()
    leave_out: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """What became of it.  ``seal``: SHA-256 of the file of sums, which vouches for all others."""

    snapshot: Snapshot
    files: int
    failed: int
    seal: str


class Keeper:
    """A witness (:class:`nsinspect.kernfs.Witness`) that keeps what it sees."""

    def __init__(self, sink: Sink, roots: Roots, request: Request, progress: Callable[[int], None]) -> None:
        self.entries: list[dict[str, Any]] = []
        self.failures = 0
        self._sink = sink
        self._roots = roots
        self._request = request
        self._left_out = frozenset(map(str, request.leave_out))
        self._progress = progress
        self._kept: set[str] = set()
        self._number: int | None = None

    def watch(self, kind: str, path: str, work: Callable[[], T]) -> T:
        """See :meth:`nsinspect.kernfs.Witness.watch`."""
        started = lastly.clocks()
        self._number = None
        try:
            found = work()
        except KernelError as error:
            self._failed(kind, path, started, error.detail)
            raise
        if isinstance(found, bytes):
            self._found(kind, path, started, found)
        elif found is None:
            self._failed(kind, path, started, None)
        return found

    def failed(self, path: str, number: int | None) -> None:
        """See :meth:`nsinspect.kernfs.Witness.failed`."""
        del path
        self._number = number

    def put(self, path: str, data: bytes, started: tuple[int, int]) -> None:
        """A file that somebody else read."""
        self._found("file", path, started, data)

    def missing(self, path: str, started: tuple[int, int], detail: str) -> None:
        """A file that somebody else could not read."""
        self._failed("file", path, started, detail)

    def _found(self, kind: str, path: str, started: tuple[int, int], data: bytes) -> None:
        name = self._place(kind, path)
        if name is None or name in self._kept:
            return
        entry = _entry(path, started)
        entry |= {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        if kind == "state" and not self._request.state_files:
            entry["left_out"] = "may hold secrets"
        else:
            entry["left_out"] = self._write(kind, name, data)
        if entry["left_out"] is None:
            entry["link" if kind == "link" else "file"] = name
        self._kept.add(name)
        self.entries.append(entry)
        self._progress(len(self.entries))

    def _write(self, kind: str, name: str, data: bytes) -> str | None:
        try:
            (self._sink.link if kind == "link" else self._sink.file)(name, data)
        except OSError as error:
            # Of a disk that is full nothing more can be expected; a name may be too long for any disk.
            if error.errno not in (errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL):
                raise
            return error.strerror
        return None

    def _failed(self, kind: str, path: str, started: tuple[int, int], detail: str | None) -> None:
        if self._place(kind, path) is None:
            return
        number = self._number
        entry = _entry(path, started)
        entry |= {"errno": errno.errorcode.get(number, str(number)) if number else None, "detail": detail}
        self.failures += detail is not None
        self.entries.append(entry)

    def _place(self, kind: str, path: str) -> str | None:
        """Where it goes in the capture, as if that were a root; ``None`` for what is not to be kept."""
        roots = self._roots
        if kind == "state":
            inside = path
        elif (path + "/").startswith(roots.procfs.rstrip("/") + "/"):
            inside = "/proc" + path[len(roots.procfs.rstrip("/")) :]
        elif roots.cgroupfs_override and path.startswith(roots.cgroupfs_override):
            inside = "/sys/fs/cgroup" + path[len(roots.cgroupfs_override) :]
        else:
            inside = path.removeprefix(roots.root.rstrip("/"))
        parts = inside.strip("/").split("/")
        if any(part in ("", ".", "..") for part in parts):
            return None
        if parts[0] == "proc":
            # As text: an engine's file may have led here, and to no number.
            return "/".join(parts) if self._left_out.isdisjoint(parts[1:2]) else None
        if any(identity in inside for identity in self._request.others):
            return None
        return "/".join(parts)


def take(roots: Roots, sink: Sink, request: Request, progress: Callable[[int], None]) -> Done:
    """Capture a host.  Raises :class:`nsinspect.errors.RootError` when there is none, ``OSError`` when it cannot be
    written."""
    keeper = Keeper(sink, roots, request, progress)
    began = lastly.clocks()
    with witnessed(keeper):
        _read_clocks(roots)
        everything = Depth(isolates=True, lineage=True, descriptors=True, everything=True, links=True, patient=True)
        snapshot = Collector(roots, everything).run()[0]
    snapshot = _without(snapshot, request.leave_out, request.others)
    if request.lastly and roots.live:
        _lastly(keeper, (one for one in snapshot.processes if one.pid in snapshot.members), request)
    ended = lastly.clocks()
    files = {
        bundle.SNAPSHOT: codec.dumps(codec.encode(snapshot)) + b"\n",
        bundle.MANIFEST: _manifest(snapshot, keeper, request, began, ended),
        bundle.LOG: _log(snapshot, keeper, request, began, ended),
    }
    sums = b"".join(bundle.sums_line(one["sha256"], os.fsencode(one["file"])) for one in keeper.entries if one["file"])
    for name, data in files.items():
        sink.file(name, data)
        sums += bundle.sums_line(hashlib.sha256(data).hexdigest(), name.encode())
    sink.file(bundle.SUMS, sums)
    return Done(
        snapshot=snapshot,
        files=sum(1 for one in keeper.entries if one["file"] or one["link"]),
        failed=keeper.failures,
        seal=hashlib.sha256(sums).hexdigest(),
    )


def _entry(path: str, started: tuple[int, int]) -> dict[str, Any]:
    ended = lastly.clocks()
    return {
        "path": path,
        "file": None,
        "link": None,
        "left_out": None,
        "size": None,
        "sha256": None,
        "errno": None,
        "detail": None,
        "started_ns": started[0],
        "ended_ns": ended[0],
        "monotonic_started_ns": started[1],
        "monotonic_ended_ns": ended[1],
    }


def _utc(nanoseconds: int) -> str:
    return datetime.fromtimestamp(nanoseconds / 1e9, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _read_clocks(roots: Roots) -> None:
    with roots.open_procfs() as proc:
        for name in _CLOCKS:
            try:
                proc.read(name)
            except KernelError:
                continue  # the witness has seen it


def _without(snapshot: Snapshot, gone: frozenset[int], others: frozenset[str]) -> Snapshot:
    def named(path: bytes) -> bool:
        return any(identity.encode() in path for identity in others)

    def kept(by_pid: Mapping[int, T]) -> dict[int, T]:
        return {pid: its for pid, its in by_pid.items() if pid not in gone}

    return replace(
        snapshot,
        processes=tuple(one for one in snapshot.processes if one.pid not in gone),
        confinements=kept(snapshot.confinements),
        threads=kept(snapshot.threads),
        members=kept(snapshot.members),
        networks=kept(snapshot.networks),
        sockets=kept(snapshot.sockets),
        cgroups={key: one for key, one in snapshot.cgroups.items() if not named(one.path)},
        claims=tuple(one for one in snapshot.claims if one.id not in others),
        declarations={key: one for key, one in snapshot.declarations.items() if key[1] not in others},
    )


def _lastly(keeper: Keeper, processes: Iterable[Process], request: Request) -> None:
    """What may block on the process itself, or hold secrets: of processes of containers, in a child that is killed."""
    for answer in lastly.answers(processes, request.lastly):
        path = f"/proc/{answer.pid}/{answer.what}"
        if answer.data is not None:
            keeper.put(path, answer.data, answer.started)
        else:
            keeper.missing(path, answer.started, answer.detail)


def _manifest(
    snapshot: Snapshot, keeper: Keeper, request: Request, began: tuple[int, int], ended: tuple[int, int]
) -> bytes:
    whole = {
        "format": "nsinspect-capture",
        "format_version": FORMAT_VERSION,
        "nsinspect": __version__,
        "case": request.case,
        "examiner": request.examiner,
        "note": request.note,
        "command": list(request.command),
        "containers": list(request.containers) or None,
        "host": {
            "hostname": snapshot.host.hostname,
            "kernel": snapshot.host.kernel,
            "boot_id": snapshot.host.boot_id,
        },
        "started_at": _utc(began[0]),
        "ended_at": _utc(ended[0]),
        "processes": len(snapshot.processes),
        "vanished": snapshot.vanished,
    }
    head = json.dumps(whole, indent=2)[:-2]
    rows = ",\n".join(f"    {json.dumps(one)}" for one in keeper.entries)
    return f'{head},\n  "files": [\n{rows}\n  ]\n}}\n'.encode()


def _log(snapshot: Snapshot, keeper: Keeper, request: Request, began: tuple[int, int], ended: tuple[int, int]) -> bytes:
    wall, steady = (after - before for before, after in zip(began, ended, strict=True))
    boot, uptime = snapshot.host.boot_time, snapshot.host.uptime
    offset = None if boot is None or uptime is None else began[0] / 1e9 - boot - uptime
    rows = (
        ("tool", f"nsinspect {__version__}"),
        ("command", shlex.join(request.command)),
        ("case", request.case),
        ("examiner", request.examiner),
        ("note", request.note),
        ("run by", f"uid {os.geteuid()} ({_user()}), sudo from {os.environ.get('SUDO_USER', 'nobody')}"),
        ("host", snapshot.host.hostname),
        ("kernel", snapshot.host.kernel),
        ("boot id", snapshot.host.boot_id),
        ("started", _utc(began[0])),
        ("ended", _utc(ended[0])),
        ("monotonic clock at start", f"{began[1]} ns"),
        ("time zone", time.strftime("%Z %z")),
        ("clock against the kernel's boot time", "unknown" if offset is None else f"{offset:+.2f} s"),
        ("clock stepped meanwhile by", f"{(wall - steady) / 1e9:+.6f} s"),
        ("files kept", sum(1 for one in keeper.entries if one["file"] or one["link"])),
        ("files that could not be read", keeper.failures),
        ("processes that ended meanwhile", snapshot.vanished),
    )
    # One line each: what a person typed may hold anything.
    return "".join(f"{name}: {json.dumps(str(value))[1:-1]}\n" for name, value in rows if value is not None).encode()


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "no name"
