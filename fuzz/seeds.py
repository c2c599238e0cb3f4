"""What fuzzing begins from: files of the captured hosts, and the small files in ``fuzz/corpus``."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from fuzz import targets
from fuzz.oracles import small
from fuzz.targets import SEPARATOR, engines_seed, frame, recorded, tar, zst
from nsinspect import codec
from nsinspect.bundle import LOG, MANIFEST, SNAPSHOT, SUMS
from tests.test_cgroup_grammar import ROWS

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
HOSTS = HERE.parent / "tests/fixtures/hosts"
LONGEST = 1 << 15
_EACH = 24

# Below a captured host, what a target reads.
_FILES = {
    "stat": ("proc/*/stat",),
    "status": ("proc/*/status",),
    "cgroup": ("proc/*/cgroup",),
    "mountinfo": ("proc/*/mountinfo",),
    "id_map": ("proc/*/[ug]id_map",),
    "label": ("proc/*/attr/current",),
    "words": ("proc/uptime", "proc/stat", "proc/meminfo", "proc/sys/kernel/*"),
    "control": ("sys/fs/cgroup/**/*.*", "sys/devices/system/cpu/online"),
    "spec": ("**/userdata/config.json", "**/config.v2.json", "**/hostconfig.json"),
}


def seeds(name: str) -> Iterator[bytes]:
    """The inputs that a target begins with."""
    known: set[bytes] = set()
    for data in (*_stored(name), *_captured(name), *_made(name)):
        if data not in known and len(data) <= LONGEST:
            known.add(data)
            yield data


def _stored(name: str) -> Iterator[bytes]:
    for path in sorted((CORPUS / name).glob("*")):
        yield path.read_bytes()


def _captured(name: str) -> Iterator[bytes]:
    """Of each pattern some files, those of different names first."""
    for pattern in _FILES.get(name, ()):
        found = [path for path in sorted(HOSTS.glob(f"*/{pattern}")) if path.is_file() and not path.is_symlink()]
        by_name = {path.name: path for path in found}
        for path in list(dict.fromkeys([*by_name.values(), *found]))[: max(_EACH, len(by_name))]:
            yield path.read_bytes()


def _made(name: str) -> Iterable[bytes]:
    maker = {
        "process": _processes,
        "names": _names,
        "engines": _engines,
        "database": lambda: [_database()],
        "snapshot": lambda: [recorded()],
        "delta": lambda: [codec.dumps({"processes": {"1": {"comm": "x"}, "": ["2"]}, "issues": []})],
        "archive": _archives,
        "manifest": lambda: [SEPARATOR.join(_manifest())],
        "store": _shards,
    }.get(name)
    return maker() if maker else ()


# What these engines write into a bundle: containerd's CRI plugin, nerdctl and CRI-O.
ANNOTATIONS = {
    "containerd": {
        "io.kubernetes.cri.container-type": "container",
        "io.kubernetes.cri.sandbox-uid": "u",
        "io.kubernetes.cri.sandbox-name": "pod",
        "io.kubernetes.cri.sandbox-namespace": "default",
        "io.kubernetes.cri.container-name": "web",
        "io.kubernetes.cri.image-name": "a:1",
    },
    "nerdctl": {"nerdctl/name": "web", "nerdctl/namespace": "default"},
    "cri-o": {
        "io.kubernetes.cri-o.ContainerType": "sandbox",
        "io.kubernetes.cri-o.Labels": '{"io.kubernetes.pod.uid": "u", "io.kubernetes.container.name": "POD"}',
        "io.kubernetes.cri-o.Metadata": '{"name": "web", "uid": "u"}',
        "io.kubernetes.cri-o.Created": "2024-05-06T09:08:09.5Z",
        "io.kubernetes.cri-o.ImageName": "a:1",
        "io.kubernetes.cri-o.Namespace": "default",
    },
    "runc": {"io.container.manager": "libpod"},
}


def _processes() -> Iterator[bytes]:
    for folder in sorted(path.parent for path in HOSTS.glob("*/proc/*/uid_map")):
        names = ("stat", "status", "cgroup", "mountinfo", "uid_map", "attr/current")
        yield SEPARATOR.join((folder / one).read_bytes() if (folder / one).exists() else b"" for one in names)


def _names() -> Iterator[bytes]:
    yield from (row.path.encode() for row in ROWS)
    for path in sorted(HOSTS.glob("*/proc/*/cgroup")):
        yield from (line.split(b":", 2)[2] for line in path.read_bytes().splitlines())


def _engines() -> Iterator[bytes]:
    """Files of the captured engines, which other engines are given too: their formats have much in common."""
    docker, podman = HOSTS / "docker-hybrid", HOSTS / "podman-v2"
    for config in sorted(docker.glob("**/config.v2.json"))[:2]:
        yield engines_seed("docker", config.read_bytes(), (config.parent / "hostconfig.json").read_bytes())
    (listed,) = podman.glob("**/containers.json")
    (first, *_) = json.loads(listed.read_bytes())
    mine = json.dumps([{**first, "id": targets.ID}]).encode()
    spec = json.loads(next(podman.glob("**/userdata/config.json")).read_bytes())
    spec["linux"]["seccomp"] = {"defaultAction": "SCMP_ACT_ERRNO"}
    bundle = json.dumps(spec).encode()
    status = next(podman.glob("run/crun/*/status")).read_bytes()
    yield engines_seed("podman", mine, b"", bundle, bundle)
    yield engines_seed("crun", status, bundle)
    yield engines_seed("crun", status, bundle, status, bundle)
    for name, said in ANNOTATIONS.items():
        told = json.dumps({**spec, "annotations": said}).encode()
        yield engines_seed(name, told, b"4711", told, status)
    state = {"created": "2026-01-01T00:00:00Z", "init_process_pid": 7, "init_process_start": 9, "cgroup_paths": {}}
    state |= {"cgroup_paths": {"": "/sys/fs/cgroup/a"}, "config": {"labels": ["bundle=/b", "io.container.manager=x"]}}
    yield engines_seed("runc", json.dumps(state).encode(), bundle)
    yield engines_seed("lxc", b"arch: amd64\nhostname: web\n[snap]\nhostname: old\n")
    yield engines_seed("nspawn", b"NAME=m\nROOT=/var/lib/machines/m\nREALTIME=1700000000000000\n")


def _database() -> bytes:
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE PodConfig (ID TEXT PRIMARY KEY NOT NULL, Name TEXT, JSON TEXT);"
        "CREATE TABLE ContainerConfig (ID TEXT PRIMARY KEY NOT NULL, Name TEXT, PodID TEXT, JSON TEXT);"
    )
    config = {"rootfsImageName": "a:1", "createdTime": "2024-05-06T09:08:09.5+02:00", "labels": {"b": "2"}}
    connection.execute("INSERT INTO ContainerConfig VALUES (?, 'c', 'p', ?)", (targets.ID, json.dumps(config)))
    connection.execute("INSERT INTO PodConfig VALUES ('p', 'pod', '{}')")
    connection.commit()
    return bytes(connection.serialize())


def _manifest() -> tuple[bytes, bytes]:
    entry = {"file": "host/proc/1/stat", "sha256": "0" * 64, "link": None, "path": "/proc/1/stat"}
    link = {"file": None, "sha256": "0" * 64, "link": "host/proc/1/ns/net", "path": "/proc/1/ns/net"}
    return json.dumps({"files": [entry, link]}).encode(), b"0" * 64 + b"  host/proc/1/stat\n"


def _archives() -> Iterator[bytes]:
    manifest, sums = _manifest()
    plain = tar({SNAPSHOT: b"{}", "host/proc/1/stat": b"x", LOG: b"", MANIFEST: manifest, SUMS: sums})
    yield plain
    yield zst(plain)


def _shards() -> Iterator[bytes]:
    moment = targets.BEGAN
    yield frame(b"K", recorded()[:9], moment, moment) + frame(b"E", b"[]", moment, moment)
    events = [
        {"kind": "limit_changed", "time": "2026-01-01T00:00:00Z", "message": "x", "pid": 7, "evidence": [["a", "b"]]}
    ]
    for changes in (events, {"processes": {"1": {"comm": "x"}}, "issues": [], "": ["users"]}, codec.encode(small())):
        yield SEPARATOR.join((b"D", codec.dumps(changes)))


def dictionary(inputs: Iterable[bytes]) -> str:
    """LibFuzzer's dictionary: words of the inputs, and numbers at the edges of what fits."""
    words = {word for data in inputs for word in re.findall(rb"[A-Za-z_.][A-Za-z0-9_.=-]{2,30}", data)}
    edges = [b"%d" % (1 << bits) for bits in (31, 32, 63, 64)] + [
        b"-1",
        b"max",
        b"9" * 20,
        b"1e999",
        b"\\ud800",
        b"\\134",
    ]
    chosen = [*edges, *sorted(words)[:1500], SEPARATOR, b"\xff", b"\x1b[31m", b"/../", b" (deleted)", b"NaN"]
    return "".join('"' + "".join(f"\\x{byte:02x}" for byte in word) + '"\n' for word in chosen)
