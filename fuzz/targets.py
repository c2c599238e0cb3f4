"""What is fuzzed: a function of bytes for each reader of what somebody else wrote, and what it covers.

A target raises nothing, whatever the bytes are, unless the reader is broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import socket
import struct
import tarfile
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, NamedTuple

import h11
import zstandard

from fuzz.oracles import Files, harmless, its, kept, parsed, small, told, understood
from nsinspect import bundle, capabilities, cgroupfs, codec, moments, namespaces, procconn, procfs, procnet, safe
from nsinspect.bundle import LOG, MANIFEST, SNAPSHOT, SUMS, BundleError, sums_line
from nsinspect.codec import NotASnapshot
from nsinspect.declarations import labels_or_none, rfc3339
from nsinspect.errors import KernelError, Malformed
from nsinspect.hierarchies import Hierarchy, hierarchies_in, relative
from nsinspect.mounts import masked, visible
from nsinspect.procnet import Network
from nsinspect.runtimes import BY_NAME, ENGINES, libpod_db, oci, recognise, wanted
from nsinspect.runtimes.base import Traces
from nsinspect.security import outside, unconfined
from nsinspect.serve import auth, lending, server, webconfig
from nsinspect.snapshot import Confinement
from nsinspect.store import Recording, StoreError
from nsinspect.verify import verify
from nsinspect.views import eventlog
from nsinspect.webhook import WebhookError, _address

SEPARATOR = b"\n%%\n"
"""Between the files of a target that reads several."""


class Target(NamedTuple):
    """``about``: the modules, below nsinspect, whose lines say how far it gets."""

    check: Callable[[bytes], None]
    about: tuple[str, ...]
    json: bool = False


# -- files of the kernel -----------------------------------------------------------------------------------------------


def _stat(data: bytes) -> None:
    found = parsed(procfs.parse_stat, data)
    if found is not None:
        process = its()[2]._replace(comm=found.comm, state=found.state, starttime=found.starttime)
        assert data.startswith(b"%d (%b) " % (found.pid, found.comm)) or data[:1] == b"0"
        _with_init(data, process=process)


def _status(data: bytes) -> None:
    found = parsed(procfs.parse_status, data)
    if found is not None:
        assert found == procfs.parse_status(data)
        assert capabilities.mask_of(capabilities.names(found.cap_eff)) == found.cap_eff
        _with_init(data, process=its()[2]._replace(status=found))


def _cgroup(data: bytes) -> None:
    lines = parsed(procfs.parse_cgroup, data)
    for line in lines or ():
        chain = recognise(line.path)
        assert all((line.path + b"/").startswith(match.path + b"/") for match in chain)
        for hierarchy in small().hierarchies:
            inside = relative(hierarchy, line.path)
            assert inside is None or ".." not in inside.split("/")
    if lines:
        _with_init(data, process=its()[2]._replace(cgroup=lines))


def _mountinfo(data: bytes) -> None:
    mounts = parsed(procfs.parse_mountinfo, data)
    if mounts is None:
        return
    hierarchies_in(mounts)
    visible(mounts, small().mounts)
    visible(small().mounts, mounts)
    masked(mounts)
    _with_init(data, confinement={"mounts": mounts})
    understood(replace(small(), mounts=mounts), data, _SHARE)


def _id_map(data: bytes) -> None:
    lines = parsed(procfs.parse_id_map, data)
    if lines is not None:
        outside(lines, 0)
        _with_init(data, confinement={"uid_map": lines, "gid_map": lines})


def _label(data: bytes) -> None:
    label = procfs.parse_label(data)
    unconfined(label)
    harmless(safe.text(label or b""))
    _with_init(data, confinement={"lsm_label": label, "label_known": True})


def _words(data: bytes) -> None:
    """Files of one number or word, and links."""
    for number in (parsed(procfs.parse_number, data), procnet.parse_socket_link(data)):
        assert number is None or 0 <= number <= procfs.LARGEST
    uptime = parsed(procfs.parse_uptime, data)
    assert uptime is None or 0 <= uptime <= procfs.LATEST
    boot, memory = parsed(procfs.parse_btime, data), parsed(procfs.parse_memory, data)
    assert boot is None or 0 <= boot <= procfs.LATEST
    assert memory is None or 0 < memory <= procfs.LARGEST
    for name in parsed(procfs.parse_names, data) or ():
        harmless(name)
    harmless(safe.text(procfs.parse_word(data)))
    procfs.unescape(data)
    named = namespaces.parse_named_link(data)
    inode = parsed(namespaces.parse_link, data)
    assert inode is None or 0 <= inode <= procfs.LARGEST
    assert named is None or (named[0] in namespaces.TYPES and named[1] == inode)
    program = procconn.exec_of(data)
    assert program is None or 0 <= program < 1 << 32
    harmless(safe.text(data))
    assert safe.text(safe.text(data)) == safe.text(data)


def _network(data: bytes) -> None:
    sockets = [parsed(lambda text, name=name: procnet.parse_sockets(text, name), data) for name in ("tcp", "udp")]
    procnet.no_more_listeners(data)
    counts = parsed(procnet.parse_sockstat, data)
    assert counts is None or all(count >= 0 for count in counts.values())
    cards = parsed(procnet.parse_interfaces, data)
    for listeners in sockets:
        if listeners or cards:
            network = Network(cards, listeners)
            understood(replace(small(), networks={its()[2].pid: network}), data, _SHARE)


_HIERARCHIES = (
    Hierarchy(2, ("cpu", "cpuset", "memory", "pids", "io", "hugetlb"), "/sys/fs/cgroup", b"/"),
    Hierarchy(1, ("cpu", "cpuacct", "cpuset", "memory", "pids", "devices", "blkio", "hugetlb"), "/sys/fs/cgroup", b"/"),
)


def _control(data: bytes) -> None:
    """Every parser of a control file, of both versions, and what follows from all that they give."""
    for hierarchy in _HIERARCHIES:
        found: Any = {}
        for name, parse in cgroupfs.files_of(hierarchy, usage=True).items():
            value = parsed(parse, data)
            if value is not None:
                found[name] = value
        lines = cgroupfs.parse_lines(data)
        others = tuple((name, lines) for name in cgroupfs.others_of(hierarchy)) if lines else ()
        cgroups = {key: one._replace(files=found, others=others) for key, one in small().cgroups.items()}
        if found or lines:
            understood(replace(small(), cgroups=cgroups), data, _SHARE)
    cpus = parsed(cgroupfs.parse_cpu_list, data)
    assert cpus is None or cgroupfs.parse_cpu_list(cgroupfs.format_cpu_list(cpus).encode()) == cpus


_SHARE = 16


def _with_init(
    data: bytes, process: Any = None, confinement: Mapping[str, Any] | None = None, share: int = _SHARE
) -> None:
    """The host, if the init of its container were like that."""
    init = its()[2]
    snapshot = small()
    if process is not None:
        others = (one for one in snapshot.processes if one.pid != init.pid)
        snapshot = replace(snapshot, processes=tuple(sorted((*others, process))))
    if confinement is not None:
        before = snapshot.confinements.get(init.pid) or Confinement(None, None, None, None, False)
        after = before._replace(**confinement)
        snapshot = replace(snapshot, confinements={**snapshot.confinements, init.pid: after})
    understood(snapshot, data, share)


def _process(data: bytes) -> None:
    """All files of a container's init at once, and what is said of it then."""
    texts = [*data.split(SEPARATOR), *[b""] * 6]
    stat, status = parsed(procfs.parse_stat, texts[0]), parsed(procfs.parse_status, texts[1])
    cgroup, mounts = parsed(procfs.parse_cgroup, texts[2]), parsed(procfs.parse_mountinfo, texts[3])
    uid_map, label = parsed(procfs.parse_id_map, texts[4]), procfs.parse_label(texts[5])
    init = its()[2]
    process = init._replace(status=status, cgroup=cgroup or init.cgroup)
    if stat is not None:
        process = process._replace(comm=stat.comm, state=stat.state, ppid=stat.ppid, starttime=stat.starttime)
    _with_init(data, process, {"mounts": mounts, "uid_map": uid_map, "lsm_label": label, "label_known": True}, 4)


# -- files of engines --------------------------------------------------------------------------------------------------

ID = "0123456789abcdef" * 4
_STATEFUL = tuple(one for one in ENGINES if one.NAME not in ("unknown", "garden", "nomad", "libvirt-lxc"))
_FOLDER = b"/var/lib/containers/storage/overlay-containers/" + ID.encode() + b"/userdata"
_BOUND = procfs.Mount(b"8:1", _FOLDER + b"/hosts", b"/etc/hosts", b"rw", b"", b"ext4", b"/dev/a", b"rw,upperdir=/u")


def engines_seed(name: str, *parts: bytes) -> bytes:
    """The input by which an engine reads these files in order."""
    return SEPARATOR.join((b"%d" % [one.NAME for one in _STATEFUL].index(name), *parts))


def _engines(data: bytes) -> None:
    """What an engine, chosen by the first part, makes of its files, which are the others in the order of asking."""
    first, *parts = data.split(SEPARATOR)
    engine = _STATEFUL[int(first) % len(_STATEFUL)] if first.isdigit() and len(first) < 4 else _STATEFUL[0]
    host = (procfs.Mount(b"8:1", b"/", b"/", b"rw", b"", b"ext4", b"/dev/a", b"rw"),)

    def files() -> Files:
        return Files(parts, host, ["1000", ID, "default"])

    places = (None, os.fsdecode(_FOLDER), f"/run/containerd/io.containerd.runtime.v2.task/default/{ID}")
    traces = Traces(ID, 4711, lambda: (_BOUND,), places[zlib.crc32(data) % 3])
    declaration = None
    with contextlib.suppress(KernelError):
        declaration = engine.declaration(files(), traces)
    claims = []
    with contextlib.suppress(KernelError):
        for claim in engine.claims(files()):
            claims.append(claim)  # noqa: PERF402 - those before a complaint count
    if declaration is not None or claims:
        told(data, declaration, claims)


def _spec(data: bytes) -> None:
    """A bundle's ``config.json``, and the same as Docker's two files."""
    try:
        spec = oci.parse_object(data, "/x")
    except Malformed as error:
        assert str(error).isprintable()
        return
    (declaration,) = small().declarations.values()
    annotations = oci.annotations_of(spec)
    said = oci.from_cri(annotations, "/x", runtime="containerd", created_at=rfc3339(spec.get("created")))
    pod = oci.kubernetes_pod(annotations)
    oci.cgroup_of(str(spec.get("cgroupsPath")))
    told(data, said._replace(wanted=wanted.from_oci(spec)))
    asked = wanted.from_docker(spec, oci.section(spec, "Config"))
    told(data, declaration._replace(wanted=asked, pod=pod, labels=labels_or_none(spec.get("labels"))))


def _database(data: bytes) -> None:
    with contextlib.suppress(Malformed):
        row = libpod_db.container(data, "/db.sql", ID)
        if row is not None:
            assert row.infra in (True, False)


def _names(data: bytes) -> None:
    """Names of cgroups, which a container gives to those below its own."""
    for match in recognise(data):
        assert match.runtime in BY_NAME
        assert match.id not in ("", ".", "..")
        assert not {"/", "\0"} & set(match.id)


# -- what nsinspect wrote, or somebody who says so ---------------------------------------------------------------------


def _snapshot(data: bytes) -> None:
    try:
        snapshot = codec.decode(codec.loads(data))
    except NotASnapshot as error:
        assert str(error).isprintable(), str(error)
        assert len(str(error)) < 300
        return
    understood(snapshot, data)


def _delta(data: bytes) -> None:
    """What changed, applied to a whole look."""
    state = codec.encode(small())
    try:
        changes = codec.loads(data)
        # As a recording does with what it reads.
        with contextlib.suppress(AttributeError, TypeError, RecursionError):
            codec.apply(state, changes)
            understood(codec.decode(state), data)
    except NotASnapshot as error:
        assert str(error).isprintable()


@cache
def _folder() -> Path:
    """In memory where there is a place for that, and left behind empty."""
    return Path(mkdtemp(dir="/dev/shm" if os.path.isdir("/dev/shm") else None))


def zst(plain: bytes) -> bytes:
    """As an archive has it: one frame with a checksum and our window."""
    out = io.BytesIO()
    how = zstandard.ZstdCompressionParameters.from_level(1, window_log=bundle._WINDOW_LOG, write_checksum=True)
    with zstandard.ZstdCompressor(compression_params=how).stream_writer(out, closefd=False) as writer:
        writer.write(plain)
    return out.getvalue()


def tar(files: Mapping[str, bytes]) -> bytes:
    """A tar of these."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as whole:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            whole.addfile(member, io.BytesIO(data))
    return out.getvalue()


def _archive(data: bytes) -> None:
    """As the bytes of an archive, and as those of the tar in one."""
    path = _folder() / f"one{bundle.ARCHIVE}"
    for whole in (data, zst(data)):
        path.write_bytes(whole)
        with contextlib.suppress(BundleError):
            bundle.read(str(path), SNAPSHOT)
        with contextlib.suppress(BundleError):
            for _, what in verify(str(path)).problems:
                assert what.isprintable()


def _manifest(data: bytes) -> None:
    """A capture with a manifest and a file of sums that somebody else wrote."""
    manifest, _, sums = data.partition(SEPARATOR)
    names = {"host/proc/1/stat": b"x", SNAPSHOT: b"{}", LOG: b"", MANIFEST: manifest}
    path = _folder() / f"two{bundle.ARCHIVE}"
    path.write_bytes(zst(tar({**names, SUMS: sums or sums_line("0" * 64, b"x")})))
    with contextlib.suppress(BundleError):
        verify(str(path))


def frame(kind: bytes, packed: bytes, moment: int, key: int) -> bytes:
    """A frame of a recording with right checksums."""
    header = struct.pack("<8scxxxIQQ", b"\x93nsrec\r\n", kind, len(packed), moment, key)
    return b"".join((header, struct.pack("<I", zlib.crc32(header)), packed, struct.pack("<I", zlib.crc32(packed))))


_SHARD = "20260101T000000.000000Z.nsrec"
BEGAN = 1_767_225_600 * 10**9


@cache
def recorded() -> bytes:
    """A whole look, as a recorder packs it."""
    return codec.dumps(codec.encode(small()))


def _store(data: bytes) -> None:
    """As a shard; and as what is in its frames, their checksums and packing being right."""
    kind, _, rest = data.partition(SEPARATOR)
    dictionary = zstandard.ZstdCompressionDict(recorded(), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    delta = zstandard.ZstdCompressor(level=1, dict_data=dictionary).compress(rest)
    framed = (
        frame(b"K", zstandard.compress(recorded(), 1), BEGAN, BEGAN)
        + frame(b"D", delta, BEGAN + 10**9, BEGAN)
        + frame(b"E", zstandard.compress(rest, 1), BEGAN + 10**9, BEGAN)
        + frame((kind or b"K")[:1], rest, BEGAN + 2 * 10**9, BEGAN)
    )
    folder = _folder() / "recording"
    folder.mkdir(exist_ok=True)
    for shard in (data, framed):
        (folder / _SHARD).write_bytes(shard)
        recording = Recording(str(folder))
        recording.first()
        recording.moments()
        for event in recording.events():
            for form in ("json", "ecs", "timesketch"):
                harmless(eventlog.line(event, form))
            harmless(eventlog.words(event))
        with contextlib.suppress(StoreError):
            kept(recording.at(BEGAN / 1e9 + 5))
        assert all(line.isprintable() for line in recording.losses)


# -- what a person, an administrator or a client sent ------------------------------------------------------------------


def _webconfig(data: bytes) -> None:
    path = _folder() / "web.yml"
    path.write_bytes(data)
    try:
        config = webconfig.read(str(path))
    except webconfig.ConfigError as error:
        assert str(error).isprintable()
        return
    webconfig.exposure(config, ["0.0.0.0:9"])


def _webhook(data: bytes) -> None:
    """The address of a receiver."""
    with contextlib.suppress(WebhookError):
        address = _address(data.decode("utf-8", "surrogateescape"))
        harmless(address.shown)
        assert "\n" not in address.target + (address.credentials or "") + address.host


def _lending(data: bytes) -> None:
    """What an exporter asks of a lender, and what a lender answers."""
    name = os.fsdecode(data)
    if lending.may_lend(name):
        assert os.path.normpath(name) == name
        assert name.isprintable()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        borrower = lending.Borrower("")
        borrower._idle.append(ours)
        if data:
            theirs.send(data[:4096])
        else:
            theirs.close()
        with contextlib.suppress(OSError):
            borrower("/x")


def _http(data: bytes) -> None:
    """A request, and its Authorization."""
    found = auth._credentials(data)
    assert found is None or b":" not in found[0]

    async def ask() -> server.Request | None:
        reader = asyncio.StreamReader()
        reader.feed_data(data)
        reader.feed_eof()
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=server._MAX_HEAD)
        async with asyncio.timeout(60) as limit:
            return await server._request(wire, reader, limit, 60)

    with contextlib.suppress(h11.RemoteProtocolError):
        request = asyncio.run(ask())
        assert request is None or request.method.isascii()


_NOW = datetime(2026, 3, 29, 12, 0, tzinfo=UTC)


def _texts(data: bytes) -> None:
    """What people type, and time stamps of engines."""
    text = data.decode("utf-8", "surrogateescape")
    with contextlib.suppress(ValueError):
        assert moments.parse(text, _NOW).tzinfo is not None
    stamp = rfc3339(text)
    assert stamp is None or rfc3339(stamp) == stamp
    with contextlib.suppress(ValueError):
        assert 0 <= capabilities.mask_of([text]) < 1 << 64
    harmless(safe.text(text))


_ENGINE_MODULES = tuple(
    f"runtimes.{name}"
    for name in (
        *("base", "containerd", "crio", "crun", "docker", "libpod_db", "lxc", "nerdctl", "nspawn", "oci"),
        *("podman", "runc", "wanted"),
    )
)

TARGETS: Mapping[str, Target] = {
    "stat": Target(_stat, ("procfs",)),
    "status": Target(_status, ("procfs", "capabilities")),
    "cgroup": Target(_cgroup, ("procfs", "hierarchies", "runtimes", "grouping")),
    "mountinfo": Target(_mountinfo, ("procfs", "hierarchies", "mounts")),
    "id_map": Target(_id_map, ("procfs", "security")),
    "label": Target(_label, ("procfs", "security", "safe")),
    "words": Target(_words, ("procfs", "namespaces", "procnet")),
    "network": Target(_network, ("procnet", "networks")),
    "control": Target(_control, ("cgroupfs", "limits")),
    "process": Target(_process, ("procfs", "grouping", "security", "model")),
    "names": Target(_names, ("runtimes", "runtimes.kubernetes", "runtimes.garden", "runtimes.nomad")),
    "engines": Target(_engines, _ENGINE_MODULES, json=True),
    "spec": Target(_spec, ("runtimes.oci", "runtimes.wanted", "drift"), json=True),
    "database": Target(_database, ("runtimes.libpod_db",)),
    "snapshot": Target(_snapshot, ("codec", "model"), json=True),
    "delta": Target(_delta, ("codec",), json=True),
    "archive": Target(_archive, ("bundle", "verify")),
    "manifest": Target(_manifest, ("verify",), json=True),
    "store": Target(_store, ("store",), json=True),
    "webconfig": Target(_webconfig, ("serve.webconfig",)),
    "webhook": Target(_webhook, ("webhook",)),
    "lending": Target(_lending, ("serve.lending",)),
    "http": Target(_http, ("serve.server", "serve.auth")),
    "texts": Target(_texts, ("moments", "declarations", "capabilities")),
}
