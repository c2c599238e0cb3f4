"""Files of ``/proc``: their records, and parsers from bytes to records.

Parsers open nothing and raise :class:`nsinspect.errors.Malformed`.  Text that a process chooses (``comm``, cgroup
names, mount points) stays bytes until a view makes it safe.  See proc(5) and the kernel's
Documentation/filesystems/proc.rst.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

from nsinspect.errors import Malformed

LARGEST = (1 << 64) - 1
"""No kernel counter is larger; a longer number is damage, and would overflow what is computed from it."""

LATEST = 1 << 36
"""Seconds that a clock can show, with room for a sum of two: the year 4147."""

LONGEST_PATH = 4096 + len(" (deleted)")
"""Bytes of a cgroup's path: no kernel prints more, and what is above one takes the square of that to write down."""

# NamedTuples rather than frozen dataclasses: thousands are made in every scan, at a quarter of the cost.  Where it is
# one for each process or mount, tuple's own constructor makes them: theirs is written in Python and takes six times as
# long.
_new = tuple.__new__


class Stat(NamedTuple):
    """``/proc/<pid>/stat``, the fields that identify a process.  ``starttime`` is in clock ticks since boot."""

    pid: int
    comm: bytes
    state: str
    ppid: int
    starttime: int


class Ids(NamedTuple):
    """A ``Uid:`` or ``Gid:`` line of status, in the reader's user namespace."""

    real: int
    effective: int
    saved: int
    filesystem: int


class Status(NamedTuple):
    """``/proc/<pid>/status``, the fields about identity and confinement.  Masks are integers, bit n = capability n.

    ``None`` is a line this kernel does not have: ``cap_amb`` since Linux 4.3, ``nspid`` since 4.1, ``no_new_privs``
    since 4.10, ``seccomp`` since 3.8, ``seccomp_filters`` since 5.10.
    """

    nspid: tuple[int, ...] | None
    uid: Ids
    gid: Ids
    cap_inh: int
    cap_prm: int
    cap_eff: int
    cap_bnd: int
    cap_amb: int | None
    no_new_privs: bool | None
    seccomp: int | None
    seccomp_filters: int | None


class CgroupLine(NamedTuple):
    """One hierarchy of ``/proc/<pid>/cgroup``.  Version 2 has no controllers and the id 0; a named v1 hierarchy has
    the controller ``name=<its name>``."""

    hierarchy: int
    controllers: tuple[str, ...]
    path: bytes


class Mount(NamedTuple):
    """One line of ``/proc/<pid>/mountinfo``; ``root`` is the mounted part of its file system, ``device`` its
    ``major:minor``."""

    device: bytes
    root: bytes
    point: bytes
    options: bytes
    propagation: bytes
    fstype: bytes
    source: bytes
    super_options: bytes


class IdMapLine(NamedTuple):
    """One line of ``/proc/<pid>/uid_map``: ``length`` ids from ``inside`` on are ``outside`` on in the reader's
    namespace."""

    inside: int
    outside: int
    length: int


def parse_stat(data: bytes) -> Stat:
    """``/proc/<pid>/stat``.  A comm may hold spaces, newlines and ``)``, so it ends at the last parenthesis."""
    start, end = data.find(b" ("), data.rfind(b") ")
    fields = data[end + 2 :].split(b" ", 20)
    # The field after starttime shows that starttime was not cut off.  isdigit, because int() takes signs and more.
    if 0 < start < end and len(fields) == 21 and fields[20] and fields[0].isalpha():
        pid, ppid, ticks = data[:start], fields[1], fields[19]
        if pid.isdigit() and ppid.isdigit() and ticks.isdigit() and len(ticks) < 14 and len(pid) + len(ppid) < 21:
            starttime = int(ticks)
            if starttime <= LATEST * 100:
                comm = data[start + 2 : end]
                return _new(Stat, (int(pid), comm, fields[0].decode("ascii"), int(ppid), starttime))
    raise Malformed(data, "pid (comm) state ppid ... starttime ...")


_STATUS_LINES = re.compile(
    rb"^(Uid|Gid|NSpid|CapInh|CapPrm|CapEff|CapBnd|CapAmb|NoNewPrivs|Seccomp|Seccomp_filters):\t(.*)$", re.MULTILINE
)


def parse_status(data: bytes) -> Status:
    """``/proc/<pid>/status``.  The kernel escapes newlines in ``Name:``, so no line of a comm can pass for another."""
    # What is looked for stands in three places of some 60 lines, and is the same for most processes: cutting the rest
    # out first, and meeting each distinct text once, costs a sixth of looking at every line of every process.
    ids = data.find(b"\nUid:\t")
    nspid = data.find(b"\nNSpid:\t", ids)
    caps = data.find(b"\nCapInh:\t", nspid)
    end = data.find(b"\nCpus_allowed:", caps)
    if -1 < ids < nspid < caps < end:
        known = _known(data[ids : data.find(b"\nFDSize:", ids)] + data[caps:end])
        numbers = data[nspid + 8 : data.find(b"\n", nspid + 8)].split()
        # Two levels of namespaces and no long number are nearly all there is; anything else is looked at closely.
        usual = len(numbers) < 3 and (joined := b"".join(numbers)).isdigit() and len(joined) < 20
        return _new(Status, (tuple(map(int, numbers)) if usual else _numbers(b" ".join(numbers)), *known))
    return _status(data)


@lru_cache(maxsize=4096)
def _known(data: bytes) -> tuple[object, ...]:
    """All that recurs: everything but the first field, ``nspid``."""
    return _status(data)[1:]


def _status(data: bytes) -> Status:
    lines = dict(_STATUS_LINES.findall(data))
    try:
        return Status(
            _numbers(lines[b"NSpid"]) if b"NSpid" in lines else None,
            _ids(lines[b"Uid"]),
            _ids(lines[b"Gid"]),
            _mask(lines[b"CapInh"]),
            _mask(lines[b"CapPrm"]),
            _mask(lines[b"CapEff"]),
            _mask(lines[b"CapBnd"]),
            _mask(lines[b"CapAmb"]) if b"CapAmb" in lines else None,
            _flag(lines[b"NoNewPrivs"]) if b"NoNewPrivs" in lines else None,
            _numbers(lines[b"Seccomp"])[0] if b"Seccomp" in lines else None,
            _numbers(lines[b"Seccomp_filters"])[0] if b"Seccomp_filters" in lines else None,
        )
    except KeyError as missing:
        raise Malformed(data, f"a {missing.args[0].decode()}: line") from None


# int() would take a sign, an underscore or 5,000 digits; the kernel writes none of them.
_NUMBERS = re.compile(rb"\s*\d{1,20}(?:\s+\d{1,20})*\s*")


def _numbers(text: bytes) -> tuple[int, ...]:
    if not _NUMBERS.fullmatch(text):
        raise Malformed(text, "numbers in a status line")
    numbers = tuple(map(int, text.split()))
    if max(numbers) > LARGEST:
        raise Malformed(text, "numbers in a status line")
    return numbers


def _ids(text: bytes) -> Ids:
    numbers = _numbers(text)
    if len(numbers) != 4:
        raise Malformed(text, "four ids in a status line")
    return Ids(*numbers)


_HEXADECIMAL = re.compile(rb"[0-9a-f]{16}")


def _mask(text: bytes) -> int:
    if not _HEXADECIMAL.fullmatch(text):
        raise Malformed(text, "a mask of 16 hexadecimal digits in a status line")
    return int(text, 16)


def _flag(text: bytes) -> bool:
    if text not in (b"0", b"1"):
        raise Malformed(text, "0 or 1 in a status line")
    return text == b"1"


_CGROUP = re.compile(rb"^([0-9]{1,10}):([^:\n]*):(/[^\n]{0,%d})$" % (LONGEST_PATH - 1), re.MULTILINE)


def parse_cgroup(data: bytes) -> tuple[CgroupLine, ...]:
    """``/proc/<pid>/cgroup``, lines of ``hierarchy:controllers:path``; a path may hold colons.  cgroups(7)."""
    found = _CGROUP.findall(data)
    if len(found) != data.count(b"\n") + (not data.endswith(b"\n")) - (not data):
        broken = next((line for line in data.split(b"\n") if not _CGROUP.fullmatch(line)), data)
        raise Malformed(broken, "hierarchy:controllers:/path")
    return tuple(CgroupLine(int(number), _controllers(names), path) for number, names, path in found)


@lru_cache(maxsize=256)
def _controllers(names: bytes) -> tuple[str, ...]:
    return tuple(names.decode("utf-8", "backslashreplace").split(",")) if names else ()


# Options hold no unescaped space, but a broken overlay's once did: the rest of a line is kept whole.  A source may be
# empty.  One character that a field must not have is looked for in half the time of two; a match that takes the end of
# a line for a part of a field leaves fewer matches than lines.
_MOUNT = re.compile(
    rb"^[0-9]+ [0-9]+ ([^ ]+) ([^ ]+) ([^ ]+) ([^ ]+) (?:- |([^ ].*?) - )([^ ]+) ([^ ]*) (.*)$", re.MULTILINE
)


def parse_mountinfo(data: bytes) -> tuple[Mount, ...]:
    """``/proc/<pid>/mountinfo``.  proc(5)."""
    found = _MOUNT.findall(data)
    if len(found) != data.count(b"\n") + (not data.endswith(b"\n")) - (not data):
        broken = next((line for line in data.split(b"\n") if not _MOUNT.fullmatch(line)), data)
        raise Malformed(broken, "id parent major:minor root point options [tags] - type source options")
    # Escapes are rare, and 300 containers have 10,000 mounts: look once whether there is one at all.
    if b"\\" not in data:
        return tuple([_new(Mount, one) for one in found])
    return tuple(
        Mount(device, unescape(root), unescape(point), options, tags, kind, unescape(source), rest)
        for device, root, point, options, tags, kind, source, rest in found
    )


def host_path(mount: Mount, host: Iterable[Mount]) -> str | None:
    """Where what is mounted there is on the host, by the host's own mounts; ``None`` where it is on none of them."""
    for one in host:
        above = one.root.rstrip(b"/")
        if one.device == mount.device and (mount.root + b"/").startswith(above + b"/"):
            return os.fsdecode((one.point.rstrip(b"/") + mount.root[len(above) :]).rstrip(b"/")) or "/"
    return None


_OCTAL = re.compile(rb"\\([0-7]{3})")


def unescape(text: bytes) -> bytes:
    r"""Undo the kernel's ``\040`` escapes of mountinfo."""
    if b"\\" not in text:
        return text
    return _OCTAL.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text)


@lru_cache(maxsize=64)
def parse_id_map(data: bytes) -> tuple[IdMapLine, ...]:
    """``/proc/<pid>/uid_map`` or ``gid_map``; empty before a map is written.  user_namespaces(7).

    Most containers have the same few, so each distinct one is parsed once.
    """
    lines = []
    for line in data.splitlines():
        words = line.split()
        if len(words) != 3 or not all(word.isdigit() and len(word) <= 10 for word in words):
            raise Malformed(line, "inside outside length")
        lines.append(IdMapLine(*map(int, words)))
    return tuple(lines)


def parse_label(data: bytes) -> bytes | None:
    """``/proc/<pid>/attr/current``: the security module's label, ``None`` when empty."""
    return data.rstrip(b"\n\0") or None


def parse_number(data: bytes) -> int:
    """A file that holds one decimal number of at most 64 bits: ``cap_last_cap``, ``cpuacct.usage``."""
    text = data.strip()
    if not text.isdigit() or len(text) > 20 or int(text) > LARGEST:
        raise Malformed(data, "a number")
    return int(text)


_UPTIME = re.compile(rb"([0-9]{1,12}(?:\.[0-9]{1,9})?)\s")


def parse_uptime(data: bytes) -> float:
    """``/proc/uptime``: seconds since boot, then seconds of idling."""
    match = _UPTIME.match(data)
    if not match or float(match[1]) > LATEST:
        raise Malformed(data, "seconds since boot")
    return float(match[1])


_BOOT = re.compile(rb"^btime ([0-9]{1,12})$", re.MULTILINE)
_MEMORY = re.compile(rb"^MemTotal: +([0-9]{1,15}) kB$", re.MULTILINE)


def parse_btime(data: bytes) -> float:
    """``/proc/stat``: seconds since the epoch at boot."""
    match = _BOOT.search(data)
    if not match or int(match[1]) > LATEST:
        raise Malformed(b"", "a btime line")
    return float(match[1])


def parse_memory(data: bytes) -> int:
    """``/proc/meminfo``: all memory, in bytes."""
    match = _MEMORY.search(data)
    if not match or int(match[1]) == 0:
        raise Malformed(b"", "a MemTotal line")
    return int(match[1]) << 10


def parse_word(data: bytes) -> str:
    """A file that holds one word the kernel chose: ``boot_id``, ``osrelease``."""
    return data.strip().decode("utf-8", "backslashreplace")


_NAME = re.compile(rb"[a-z_]{1,32}")


def parse_names(data: bytes) -> tuple[str, ...]:
    """A file of names that the kernel chose: ``cgroup.controllers``."""
    words = data.split()
    if not all(map(_NAME.fullmatch, words)):
        raise Malformed(data, "names such as: cpu io memory")
    return tuple(word.decode("ascii") for word in words)
