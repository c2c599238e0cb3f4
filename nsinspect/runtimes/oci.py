"""What OCI engines share: the bundle's ``config.json``, ``cgroupsPath``, and JSON read without trust.

See the OCI runtime specification (config.md, config-linux.md) and runc's docs/systemd.md.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import chain
from typing import TypeVar

from nsinspect.declarations import Claim, Declaration, Pod, text_or_none
from nsinspect.errors import Denied, KernelError, Malformed, Vanished
from nsinspect.runtimes.base import StateFiles, Traces, folders_behind

T = TypeVar("T")

# containers/storage, which podman and CRI-O share, keeps a folder for each container, and its bundle in userdata.
_USERDATA = re.compile(r"(/.*/[a-z0-9]+-containers)/[0-9a-f]{64}/userdata(?:/.*)?", re.DOTALL)
_BOUND = (b"/etc/hostname", b"/etc/hosts", b"/etc/resolv.conf", b"/run/.containerenv")
# A hundred bytes of memory for two of a file; podman's list of 4,000 containers has as many.
_MOST_VALUES = 1 << 16
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")
_HALF = re.compile("[\ud800-\udfff]")


def parse_json(data: bytes, path: str) -> object:
    """JSON of a state file.  Raises ``Malformed`` naming the file and the place, never quoting it: state files hold
    environments, and a file that is none of an engine's may hold anything.

    What no UTF-8 can hold, half of a surrogate pair, becomes U+FFFD as in Go: strings become paths.
    """
    return (_parsed_small if len(data) < _SMALL else _parsed_large)(data, path)


def _parsed(data: bytes, path: str) -> object:
    if sum(map(data.count, (b",", b"[", b"{"))) > _MOST_VALUES:
        raise _not_quoted(path, f"JSON of at most {_MOST_VALUES} values")
    try:
        text = data.decode()
        value: object = json.loads(text)
        if _SURROGATE.search(text):
            value = json.loads(_HALF.sub("\ufffd", json.dumps(value, ensure_ascii=False)))
        return value
    except json.JSONDecodeError as error:
        raise _not_quoted(path, f"JSON, not what is at character {error.pos} of {len(error.doc)}") from None
    except (ValueError, RecursionError):
        raise _not_quoted(path, "JSON in UTF-8 of a reasonable depth") from None


# podman keeps all its containers in one file, which is asked for each of them, and each has its own beside that.  Few
# are remembered: users make them as large as they may be.
_SMALL = 1 << 16
_parsed_small, _parsed_large = lru_cache(maxsize=8)(_parsed), lru_cache(maxsize=4)(_parsed)


def parse_object(data: bytes, path: str) -> dict[str, object]:
    """A JSON object of a state file.  Raises ``Malformed`` naming the file."""
    return as_object(parse_json(data, path), path)


def as_object(value: object, path: str) -> dict[str, object]:
    """``value`` if it is a JSON object; else raises ``Malformed`` naming the file."""
    if not isinstance(value, dict):
        raise _not_quoted(path, "a JSON object")
    return value


def section(value: dict[str, object], *keys: str) -> dict[str, object]:
    """The object at a path of keys; empty when anything on the way is absent or no object."""
    for key in keys:
        inner = value.get(key)
        value = inner if isinstance(inner, dict) else {}
    return value


def texts(value: dict[str, object]) -> dict[str, str]:
    """The entries of an object that are strings: annotations."""
    return {key: inner for key, inner in value.items() if isinstance(inner, str)}


def pid_or_none(value: object) -> int | None:
    """A pid of a state file; ``None`` for anything else, and for what stands for no process."""
    found = number(value)
    return found if found is not None and 0 < found < 1 << 31 else None


def number(value: object) -> int | None:
    """An integer of a state file; ``None`` for anything else, booleans and numbers beyond 64 bits included."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63:
        return value
    return None


def natural(value: object) -> int | None:
    """An integer of a state file that counts something; ``None`` for anything else, those below zero included."""
    found = number(value)
    return found if found is not None and found >= 0 else None


def names(prefix: str, *, bare: bool = False) -> re.Pattern[bytes]:
    """The cgroup names that ``slice:prefix:<id>`` leads to, for 64 hexadecimal digits: systemd's scope, with ``bare``
    also that name without its ending (the cgroupfs driver), and all of it as one component, where the kubelet writes
    systemd's form and the engine takes it for a path.  :func:`named` takes the id out.
    """
    word, ending = re.escape(prefix.encode()), rb"(?:\.scope)?" if bare else rb"\.scope"
    return re.compile(rb"%b-([0-9a-f]{64})%b|(?:[^/:]*:)?%b:([0-9a-f]{64})" % (word, ending, word), re.DOTALL)


def named(pattern: re.Pattern[bytes], component: bytes) -> str | None:
    """The id in a component that one of ``pattern``'s groups takes; ``None`` when it does not match."""
    match = pattern.fullmatch(component)
    return next((found.decode() for found in match.groups() if found), None) if match else None


def cgroup_of(cgroups_path: str) -> bytes | None:
    """Where ``linux.cgroupsPath`` of a bundle leads: a path, or systemd's ``slice:prefix:name``.

    ``None`` when it is empty: then the runtime's own default holds.
    """
    if not cgroups_path:
        return None
    parts = cgroups_path.split(":")
    if len(parts) == 3 and "/" not in cgroups_path:
        slice_, prefix, name = parts
        unit = name if name.endswith(".slice") else f"{prefix}-{name}.scope"
        return below_root(f"{expand_slice(slice_ or 'system.slice')}/{unit}")
    return below_root(cgroups_path)


def below_root(path: str) -> bytes | None:
    """A cgroup that a runtime wrote down; ``None`` for the root, which is nobody's own."""
    return os.fsencode("/" + path.strip("/")) if path.strip("/") else None


def expand_slice(name: str) -> str:
    """Systemd's place for a slice: ``a-b.slice`` is below ``a.slice``.  See systemd.slice(5)."""
    if name == "-.slice":
        return ""
    stem = name.removesuffix(".slice")
    parts = stem.split("-")
    return "/".join("-".join(parts[: end + 1]) + ".slice" for end in range(len(parts)))


def object_at(files: StateFiles, path: str) -> dict[str, object] | None:
    """The JSON object in a state file, ``None`` when there is no such file."""
    data = files.read(path)
    return None if data is None else parse_object(data, path)


def annotations_of(spec: dict[str, object]) -> dict[str, str]:
    """What the engine told the runtime of a container, in the bundle's ``config.json``."""
    return texts(section(spec, "annotations"))


def kubernetes_pod(labels: dict[str, str]) -> Pod | None:
    """The pod in the labels that the kubelet gives every container, ``None`` when they name none.

    See kubernetes ``pkg/kubelet/types/labels.go``.
    """
    uid, name = labels.get("io.kubernetes.pod.uid"), labels.get("io.kubernetes.pod.name")
    if not uid and not name:
        return None
    container = labels.get("io.kubernetes.container.name")
    return Pod(
        uid=text_or_none(uid),
        name=text_or_none(name),
        namespace=text_or_none(labels.get("io.kubernetes.pod.namespace")),
        # dockershim and cri-dockerd call the sandbox a container of this name.
        container=None if container == "POD" else text_or_none(container),
    )


def storage_of(path: str | None) -> str | None:
    """``<root>/<driver>-containers`` above a container's ``userdata`` in containers/storage."""
    match = _USERDATA.fullmatch(path or "")
    return match[1] if match else None


def storage_folders(files: StateFiles, traces: Traces, usual: Iterable[str]) -> Iterator[str]:
    """``<root>/<driver>-containers`` of containers/storage, most trustworthy first: where the monitor runs, which is
    outside of the container; the usual ones; where the container's own mounts lead."""
    monitor = storage_of(traces.monitor_cwd)
    return once(chain([monitor] if monitor else [], usual, folders_behind(files, traces, _BOUND, _USERDATA)))


def once(paths: Iterable[str]) -> Iterator[str]:
    """The same without repetitions, each when it is asked for."""
    seen = set[str]()
    for path in paths:
        if path not in seen:
            seen.add(path)
            yield path


def first_of(paths: Iterable[str], look: Callable[[str], T | None]) -> T | None:
    """The first answer.  A place that denies us hides none of the others, so that is complained of only when nobody
    answers; anything else wrong ends it, so that a broken file is never replaced by what a lesser place says."""
    denied: Denied | None = None
    for path in paths:
        try:
            found = look(path)
        except Denied as error:
            denied = denied or error
            continue
        if found is not None:
            return found
    if denied is not None:
        raise denied
    return None


def optional(files: StateFiles, look: Callable[[], T | None]) -> T | None:
    """An answer that only adds to another: what is wrong with its file costs an issue, and not that other answer."""
    try:
        return look()
    except KernelError as error:
        files.complain(error)
        return None


def each(makers: Iterable[Iterator[Claim]]) -> Iterator[Claim]:
    """The claims that are made.  What is wrong with one file is raised after the last, so that it costs no other
    container; of several such files the first is told of."""
    failed: KernelError | None = None
    for made in makers:
        try:
            yield from made
        except Vanished:
            continue
        except KernelError as error:
            failed = failed or error
    if failed is not None:
        raise failed


def _not_quoted(path: str, expected: str) -> Malformed:
    return Malformed.expecting(expected, path)


_CRI = "io.kubernetes.cri."


def is_cri(annotations: dict[str, str]) -> bool:
    """Whether annotations of a bundle are those of containerd's CRI plugin."""
    return any(key.startswith(_CRI) for key in annotations)


def from_cri(annotations: dict[str, str], path: str, *, runtime: str, created_at: str | None) -> Declaration:
    """What containerd's CRI plugin, and nerdctl, write into a bundle of a container and its pod.

    See containerd ``internal/cri/annotations``.
    """

    def cri(key: str) -> str | None:
        return text_or_none(annotations.get(_CRI + key))

    kind, uid, pod = cri("container-type"), cri("sandbox-uid"), cri("sandbox-name")
    container = cri("container-name")
    return Declaration(
        source=path,
        runtime=runtime,
        pause=None if kind is None else kind == "sandbox",
        pod=Pod(uid, pod, cri("sandbox-namespace"), container=container) if uid or pod else None,
        name=container or text_or_none(annotations.get("nerdctl/name")),
        image=cri("image-name") or cri("podsandbox.image-name"),
        labels=tuple(sorted(annotations.items())),
        created_at=created_at,
    )
