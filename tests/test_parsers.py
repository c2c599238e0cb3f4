"""Every parser there is: any bytes give its record or one known complaint, and what a kernel writes comes back."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import json
import pkgutil
import signal
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nsinspect
from nsinspect import cgroupfs, namespaces, procfs, procnet
from nsinspect.cgroupfs import CpuMax, Pressure
from nsinspect.errors import Malformed
from nsinspect.procfs import CgroupLine, IdMapLine, Ids, Mount, Stat, Status
from nsinspect.procnet import Interface, Listener
from nsinspect.runtimes import oci

Text = tuple[bytes, Any]
"""What a kernel writes, and the record of it."""


class Parser(NamedTuple):
    """``prints``: texts with their records; ``types``: of what is given; ``near``: pieces of texts that are nearly
    right; ``after``: arguments besides the bytes."""

    parse: Callable[..., Any]
    types: tuple[type, ...]
    prints: st.SearchStrategy[Text]
    near: tuple[bytes, ...]
    after: tuple[Any, ...] = ()


def lines_of(records: st.SearchStrategy[Any], line: Callable[[Any], bytes], head: bytes = b"") -> Any:
    """A file of one line for each record."""
    several = st.lists(records, max_size=4).map(tuple)
    return several.map(lambda rows: (head + b"".join(map(line, rows)), rows))


def end(text: bytes) -> bytes:
    """As most files end."""
    return text + b"\n"


U64 = st.integers(0, (1 << 64) - 1)
U32 = st.integers(0, (1 << 32) - 1)
POSITIVE = st.integers(1, (1 << 64) - 1)
PIDS = st.integers(1, 1 << 22)
LIMITS = st.just("max") | U64
COMMS = st.binary(max_size=15).filter(lambda text: b"\0" not in text)
# A name in a path: any byte but these.
NAMES = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & set(b"\n\0/ "))
PATHS = st.lists(NAMES, max_size=4).map(lambda names: b"/" + b"/".join(names))
WORDS = st.text("abcxyz0189:._-", min_size=1, max_size=9).map(str.encode)


# -- what a kernel writes ----------------------------------------------------------------------------------------------


def stat_text(stat: Stat) -> Text:
    head = b"%d (%b) %b %d 1 1 0 -1 4194304" % (stat.pid, stat.comm, stat.state.encode(), stat.ppid)
    return end(head + b" 0" * 12 + b" %d 0 0 18446744073709551615" % stat.starttime), stat


STATS = st.builds(
    Stat,
    pid=PIDS,
    comm=COMMS,
    state=st.sampled_from("RSDTtZXxKWPI"),
    ppid=st.integers(0, 1 << 22),
    starttime=st.integers(0, procfs.LATEST * 100),
)


def status_text(status: Status) -> Text:
    """With what is read amid what is not, as Linux 6 prints it; what an older one does not print is left out."""
    rows: list[tuple[str, str | None]] = [
        *(("Name", r"a\nUid:\t7"), ("Umask", "0022"), ("State", "S (sleeping)"), ("Tgid", "7")),
        *((name, "\t".join(map(str, ids))) for name, ids in (("Uid", status.uid), ("Gid", status.gid))),
        *(("FDSize", "64"), ("Groups", "0 1 ")),
        *(("NStgid", "7\t1"), ("NSpid", status.nspid and "\t".join(map(str, status.nspid)))),
        *(("VmPeak", "    4408 kB"), ("Threads", "1"), ("SigQ", "0/31327")),
        *((f"Cap{name}", f"{getattr(status, f'cap_{name.lower()}'):016x}") for name in ("Inh", "Prm", "Eff", "Bnd")),
        ("CapAmb", None if status.cap_amb is None else f"{status.cap_amb:016x}"),
        ("NoNewPrivs", None if status.no_new_privs is None else str(int(status.no_new_privs))),
        ("Seccomp", None if status.seccomp is None else str(status.seccomp)),
        ("Seccomp_filters", None if status.seccomp_filters is None else str(status.seccomp_filters)),
        *(("Speculation_Store_Bypass", "vulnerable"), ("Cpus_allowed", "3"), ("nonvoluntary_ctxt_switches", "0")),
    ]
    return "".join(f"{name}:\t{value}\n" for name, value in rows if value is not None).encode(), status


IDS = st.builds(Ids, U32, U32, U32, U32)
STATUSES = st.builds(
    Status,
    nspid=st.none() | st.lists(PIDS, min_size=1, max_size=3).map(tuple),
    uid=IDS,
    gid=IDS,
    **dict.fromkeys(("cap_inh", "cap_prm", "cap_eff", "cap_bnd"), U64),
    cap_amb=st.none() | U64,
    no_new_privs=st.none() | st.booleans(),
    seccomp=st.none() | st.integers(0, 2),
    seccomp_filters=st.none() | st.integers(0, 99),
)

CONTROLLERS = st.sampled_from([(), ("memory",), ("cpu", "cpuacct"), ("name=systemd",)])
CGROUPS = lines_of(
    st.builds(CgroupLine, st.integers(0, 99), CONTROLLERS, PATHS),
    lambda line: b"%d:%b:%b\n" % (line.hierarchy, ",".join(line.controllers).encode(), line.path),
)


def escaped(text: bytes) -> bytes:
    """As mangle_path does in mountinfo."""
    return b"".join(b"\\%03o" % byte if byte in b" \t\n\\#" else bytes([byte]) for byte in text)


# A mount may be called anything that a path may.
POINTS = st.binary(min_size=1, max_size=12).filter(lambda name: b"\0" not in name).map(lambda name: b"/" + name)
MOUNTS = lines_of(
    st.builds(
        Mount,
        device=st.just(b"0:26"),
        root=POINTS,
        point=POINTS,
        options=WORDS,
        propagation=st.sampled_from([b"", b"shared:7", b"shared:7 master:2"]),
        fstype=WORDS,
        source=POINTS,
        super_options=st.sampled_from([b"rw", b"rw,lowerdir=/a b", b"ro,cpu,cpuacct"]),
    ),
    lambda one: (
        b"%d 35 %b\n"
        % (
            36,
            b" ".join(
                part
                for part in (
                    *(one.device, escaped(one.root), escaped(one.point), one.options, one.propagation, b"-"),
                    *(one.fstype, escaped(one.source), one.super_options),
                )
                if part
            ),
        )
    ),
)
ID_MAPS = lines_of(st.builds(IdMapLine, U32, U32, U32), lambda line: b"%10d %10d %10d\n" % line)
LABELS = st.tuples(WORDS, st.sampled_from([b"\n", b"\0", b""])).map(lambda two: (b"".join(two), two[0]))
UPTIMES = st.tuples(st.integers(0, procfs.LATEST - 1), st.integers(0, 99)).map(
    lambda two: (b"%d.%02d 9.99\n" % two, float(f"{two[0]}.{two[1]:02}"))
)


def sockets_text(listeners: tuple[Listener, ...]) -> Text:
    """Those that listen amid those that talk."""
    lines = [b"  sl  local_address rem_address   st\n"]
    for one in listeners:
        family = socket.AF_INET6 if ":" in one.address else socket.AF_INET
        words = struct.iter_unpack("<I", socket.inet_pton(family, one.address))
        address = b"".join(b"%08X" % word for (word,) in words)
        for state in (b"0A", b"01"):
            more = (address, one.port, b"0" * len(address), state, one.inode)
            lines.append(b"   0: %b:%04X %b:0000 %b 0:0 00:0 0     0        0 %d 1 0 100 0 0 10 0\n" % more)
    return b"".join(lines), listeners


def address_text(one: Any) -> str:
    """As the C library writes it, and so everybody."""
    mapped = getattr(one, "ipv4_mapped", None)
    return str(one) if mapped is None else f"::ffff:{mapped}"


LISTENERS = st.builds(
    Listener, st.just("tcp"), st.ip_addresses().map(address_text), st.integers(0, 65535), st.integers(0, (1 << 64) - 1)
)
SOCKETS = st.lists(LISTENERS, max_size=4).map(tuple).map(sockets_text)
SOCKSTATS = st.dictionaries(st.sampled_from(["TCP", "UDP"]), st.integers(0, 1 << 31), min_size=1).map(
    lambda counts: (
        b"sockets: used 9\n" + "".join(f"{name}: inuse {n} mem 0\n" for name, n in counts.items()).encode(),
        counts,
    )
)
INTERFACES = lines_of(
    st.builds(Interface, st.binary(min_size=1, max_size=15).filter(lambda name: name.split() == [name]), *[U64] * 8),
    lambda one: (
        b"%6b: %7d %7d %4d %4d    0     0          0         0 %8d %7d %4d %4d    0     0       0          0\n" % one
    ),
    b"Inter-|   Receive  |  Transmit\n face |bytes |bytes\n",
)
KEYS = ("usage_usec", "nr_periods", "nr_throttled", "throttled_usec", "oom_kill", "inactive_file")
KEYED = st.dictionaries(st.sampled_from(KEYS), U64).map(
    lambda counts: ("".join(f"{key} {n}\n" for key, n in {"user_usec": 1, **counts, "oom": 2}.items()).encode(), counts)
)
PRESSURES = st.builds(Pressure, U64, st.none() | U64).map(
    lambda one: (
        b"".join(
            b"%b avg10=0.00 avg60=1.20 avg300=0.00 total=%d\n" % (kind, total)
            for kind, total in ((b"some", one.some_us), (b"full", one.full_us))
            if total is not None
        ),
        one,
    )
)
CPUS = st.sets(st.integers(0, 300), max_size=40).map(sorted).map(tuple)
# What v1 writes where there is no limit, with pages of 4 and of 64 KiB.
V1_LIMITS = st.sampled_from([((1 << 63) - 4096, "max"), ((1 << 63) - 65536, "max"), (-1, "max")]) | st.integers(
    0, 1 << 62
).map(lambda value: (value, value))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**30), 10**30) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def plain(values: st.SearchStrategy[Any]) -> Any:
    """A file of one value, as str() writes it."""
    return values.map(lambda value: (end(str(value).encode()), value))


PARSERS = {
    "cgroupfs.parse_cfs_period": Parser(cgroupfs.parse_cfs_period, (int,), plain(POSITIVE), (b"1", b"0", b" ", b"-")),
    "cgroupfs.parse_cfs_quota": Parser(
        cgroupfs.parse_cfs_quota,
        (int, str),
        st.just((b"-1\n", "max")) | plain(POSITIVE),
        (b"-1", b"1", b" ", b"\n"),
    ),
    "cgroupfs.parse_cpu_list": Parser(
        cgroupfs.parse_cpu_list,
        (tuple,),
        CPUS.map(lambda cpus: (end(cgroupfs.format_cpu_list(cpus).encode()), cpus)),
        (b"0-3", b",", b"-", b"65535", b"1", b" "),
    ),
    "cgroupfs.parse_cpu_max": Parser(
        cgroupfs.parse_cpu_max,
        (CpuMax,),
        st.builds(CpuMax, st.just("max") | POSITIVE, POSITIVE).map(
            lambda one: (b"%b %d\n" % (str(one[0]).encode(), one[1]), one)
        ),
        (b"max ", b"100000", b" ", b"\t", b"\n"),
    ),
    "cgroupfs.parse_flat_keyed": Parser(
        cgroupfs.parse_flat_keyed,
        (dict,),
        KEYED,
        (b"usage_usec ", b"\noom_kill", b" ", b"1", b"\n", b"x "),
        after=(tuple(key.encode() for key in KEYS),),
    ),
    "cgroupfs.parse_limit": Parser(cgroupfs.parse_limit, (int, str), plain(LIMITS), (b"max", b"1", b" ", b"\n")),
    "cgroupfs.parse_lines": Parser(
        cgroupfs.parse_lines,
        (tuple,),
        lines_of(WORDS.filter(lambda word: not word.isdigit()), end),
        (b"\n", b"1", b"x"),
    ),
    "cgroupfs.parse_pressure": Parser(
        cgroupfs.parse_pressure, (Pressure,), PRESSURES, (b"some ", b"full ", b"total=", b"1", b"\n")
    ),
    "cgroupfs.parse_v1_limit": Parser(
        cgroupfs.parse_v1_limit,
        (int, str),
        V1_LIMITS.map(lambda two: (end(str(two[0]).encode()), two[1])),
        (b"-1", b"9", b" ", b"\n"),
    ),
    "namespaces.parse_link": Parser(
        namespaces.parse_link,
        (int,),
        U64.map(lambda inode: (b"net:[%d]" % inode, inode)),
        (b"net:[", b"1", b"]", b":["),
    ),
    "namespaces.parse_named_link": Parser(
        namespaces.parse_named_link,
        (tuple, type(None)),
        st.tuples(st.sampled_from(namespaces.TYPES), U64).map(
            lambda one: (b"%b:[%d]" % (one[0].encode(), one[1]), one)
        ),
        (b"net:[", b"1", b"]", b":[", b"pipe"),
    ),
    "procfs.parse_btime": Parser(
        procfs.parse_btime,
        (float,),
        st.integers(0, procfs.LATEST).map(lambda boot: (b"cpu  1 0 2\nbtime %d\nprocesses 9\n" % boot, float(boot))),
        (b"btime ", b"1", b"\n", b"-"),
    ),
    "procfs.parse_cgroup": Parser(
        procfs.parse_cgroup, (tuple,), CGROUPS, (b"0::/", b"1:cpu,cpuacct:/a", b":", b"\n", b"/", b"a", b"/../", b" ")
    ),
    "procfs.parse_id_map": Parser(procfs.parse_id_map, (tuple,), ID_MAPS, (b"0 ", b"1", b" ", b"\n", b"\t", b"\x0b")),
    "procfs.parse_label": Parser(procfs.parse_label, (bytes, type(None)), LABELS, (b"\n", b"\0", b"a (enforce)")),
    "procfs.parse_memory": Parser(
        procfs.parse_memory,
        (int,),
        st.integers(1, 1 << 40).map(lambda kib: (b"MemTotal:       %d kB\nMemFree: 1 kB\n" % kib, kib << 10)),
        (b"MemTotal:", b" ", b"1", b" kB", b"\n"),
    ),
    "procfs.parse_mountinfo": Parser(
        procfs.parse_mountinfo,
        (tuple,),
        MOUNTS,
        (b"1 2 0:1 / / rw", b" - ", b" ", b"-", b"x", b"\n", b"\\040", b"\\", b" shared:1", b"1 "),
    ),
    "procfs.parse_names": Parser(
        procfs.parse_names,
        (tuple,),
        st.lists(st.text("abc_", min_size=1, max_size=32)).map(
            lambda names: (end(" ".join(names).encode()), tuple(names))
        ),
        (b"cpu", b" ", b"\n", b"\0"),
    ),
    "procfs.parse_number": Parser(procfs.parse_number, (int,), plain(U64), (b"1", b" ", b"\n", b"-")),
    "procfs.parse_stat": Parser(
        procfs.parse_stat, (Stat,), STATS.map(stat_text), (b"1 (", b") S", b" 1", b"(", b")", b"\n")
    ),
    "procfs.parse_status": Parser(
        procfs.parse_status,
        (Status,),
        STATUSES.map(status_text),
        (b"\nUid:\t", b"\nNSpid:\t", b"\nCapInh:\t", b"\nCpus_allowed:", b"0\t", b" ", b"\n", b"0" * 16, b"1"),
    ),
    "procfs.parse_uptime": Parser(procfs.parse_uptime, (float,), UPTIMES, (b"1", b".", b" ", b"\n")),
    "procfs.parse_word": Parser(procfs.parse_word, (str,), plain(st.text("abc-.0", min_size=1)), (b"a", b" ", b"\xff")),
    "procnet.parse_interfaces": Parser(
        procnet.parse_interfaces, (tuple,), INTERFACES, (b"\n\n", b"lo:", b" 1", b" ", b":", b"1", b"\n")
    ),
    "procnet.parse_socket_link": Parser(
        procnet.parse_socket_link,
        (int, type(None)),
        U64.map(lambda inode: (b"socket:[%d]" % inode, inode)),
        (b"socket:[", b"1", b"]"),
    ),
    "procnet.parse_sockets": Parser(
        procnet.parse_sockets,
        (tuple,),
        SOCKETS,
        (b"\n", b"0: 0100007F:0050 00000000:0000 0A 0 0 0 0 0 1", b" ", b"0", b"F" * 8, b":", b"1: "),
        ("tcp",),
    ),
    "procnet.parse_sockstat": Parser(
        procnet.parse_sockstat, (dict,), SOCKSTATS, (b"TCP: inuse ", b"1", b" ", b"\n", b"UDP6: ")
    ),
    "runtimes.oci.parse_json": Parser(
        oci.parse_json,
        (dict, list, str, int, float, type(None)),
        VALUES.map(lambda value: (json.dumps(value).encode(), value)),
        (b"[", b"{", b'"', b"]", b'{"a":', b"1", b"\\ud800", b",", b"NaN", b"1e999"),
        ("/path",),
    ),
    "runtimes.oci.parse_object": Parser(
        oci.parse_object,
        (dict,),
        st.dictionaries(st.text(max_size=5), VALUES, max_size=3).map(lambda value: (json.dumps(value).encode(), value)),
        (b"[", b"{", b'"', b"}", b'{"a":', b"1", b":", b","),
        ("/path",),
    ),
}
EVERY_PARSER = pytest.mark.parametrize("name", PARSERS)


def parsers() -> Iterator[str]:
    """Every function of the package that is called a parser and takes bytes, by its name below it."""
    for module in pkgutil.walk_packages(nsinspect.__path__, "nsinspect."):
        if module.name.endswith("__main__"):
            continue
        for name, found in vars(importlib.import_module(module.name)).items():
            # One that remembers its answers is wrapped.
            function = inspect.unwrap(found) if name.startswith("parse_") and callable(found) else None
            if function is None or function.__module__ != module.name:
                continue
            first = next(iter(inspect.signature(function).parameters.values()))
            if first.annotation == "bytes":
                yield f"{module.name}.{name}".removeprefix("nsinspect.")


def test_every_parser_is_in_the_table():
    """A new one says what its kernel writes, and is tested like the others."""
    assert sorted(PARSERS) == sorted(parsers())


# -- whatever the bytes ------------------------------------------------------------------------------------------------


def answer(parser: Parser, data: bytes) -> None:
    """A record of its type, or one complaint of one printable line."""
    complaint = ""
    try:
        assert isinstance(parser.parse(data, *parser.after), parser.types)
    except Malformed as error:
        complaint = str(error)
    assert complaint.isprintable()


@EVERY_PARSER
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_any_bytes_are_a_record_or_malformed(name: str, data: st.DataObject):
    """Random ones, pieces that are nearly right, and what a kernel writes with something put into it or cut out."""
    parser = PARSERS[name]
    nearly = st.lists(st.sampled_from(parser.near) | st.binary(max_size=3), max_size=12).map(b"".join)
    answer(parser, data.draw(st.binary() | nearly))
    text, _ = data.draw(parser.prints)
    start, stop = sorted(data.draw(st.tuples(*[st.integers(0, len(text))] * 2)))
    answer(parser, text[:start] + data.draw(nearly) + text[stop:])


@EVERY_PARSER
@settings(deadline=None, max_examples=40)
@given(st.data())
def test_what_a_kernel_writes_comes_back(name: str, data: st.DataObject):
    """Record to text to the same record."""
    parser = PARSERS[name]
    text, record = data.draw(parser.prints)
    assert parser.parse(text, *parser.after) == record


# -- in linear time ----------------------------------------------------------------------------------------------------


class TooLong(Exception):
    """It computed for longer than any linear parser would."""


@contextlib.contextmanager
def at_most(seconds: float) -> Iterator[None]:
    """So many seconds of this process's own time, which a busy machine does not use up."""

    def late(*_: object) -> None:
        raise TooLong

    before = signal.signal(signal.SIGPROF, late)
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


LONG = 1 << 18


@EVERY_PARSER
def test_a_long_file_costs_no_more_than_its_length(name: str):
    """Each piece over and over, and each two: at this length what looks at every byte for every other would take
    minutes, and what looks at each a few times takes hundredths of a second."""
    parser = PARSERS[name]
    for first in (b"", parser.near[0]):
        for piece in parser.near:
            with at_most(10):
                answer(parser, first + piece * (LONG // len(piece)) + first)
    with at_most(10):
        for one in parser.near:
            for other in parser.near:
                answer(parser, (one + other) * (LONG // 16 // len(one + other)))
