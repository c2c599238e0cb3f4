"""A Snapshot as JSON and back, and what changed between two: for captures and recordings.

The shape follows the records themselves: every record is an object by field name, bytes are text of which each
character is one byte (latin-1), mappings have their keys as text.  A field that a record got later is its default
when an older file is read.
"""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin

from nsinspect.errors import NsinspectError
from nsinspect.namespaces import TYPES
from nsinspect.procfs import LARGEST, LATEST, LONGEST_PATH
from nsinspect.snapshot import VERSION, Process, Snapshot


class NotASnapshot(NsinspectError):
    """What was read is not what :func:`encode` gives, or is of a version that is not known here."""


class _Coder(NamedTuple):
    """How values of one type are written and read; ``None``: as they are, being of one of ``types``.  ``optional``: may
    be ``None``.  ``fields``, of a record, and ``inside``, of a mapping by its key, are coders of what is in it, by
    which two are compared."""

    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None
    types: frozenset[type] = frozenset()
    optional: bool = False
    fields: tuple[tuple[str, _Coder], ...] | None = None
    inside: Callable[[Any], _Coder] | None = None


_GONE = ""
"""Under this key a delta has the keys that went away; no record and no mapping of ours has an empty key."""


def encode(snapshot: Snapshot) -> dict[str, Any]:
    """The snapshot in types that JSON has."""
    state: dict[str, Any] = _written(_coder(Snapshot), snapshot)
    return state


def decode(state: object) -> Snapshot:
    """The snapshot that :func:`encode` gave this for.  Raises :class:`NotASnapshot`."""
    version = state.get("version") if isinstance(state, dict) else None
    if version != VERSION:
        raise NotASnapshot(f"expected a snapshot of version {VERSION}, found {version!r:.40}")
    try:
        return _possible(_read(_coder(Snapshot), state))
    except (AttributeError, LookupError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise NotASnapshot(f"expected a snapshot, found something that is none: {error!r:.100}") from error


def _possible(snapshot: Snapshot) -> Snapshot:
    """The same, where a kernel may have given it; ``ValueError`` where it would lead astray who computes with it."""
    clocks = (snapshot.captured_at, snapshot.host.boot_time or 0, snapshot.host.uptime or 0)
    pids = {process.pid for process in snapshot.processes}
    facts = (
        (max(clocks) <= LATEST, "times"),
        (0 not in pids, "pids from 1 on"),
        (all(process.starttime <= LATEST * 100 for process in snapshot.processes), "start times"),
        (
            all(len(line.path) <= LONGEST_PATH for process in snapshot.processes for line in process.cgroup),
            "paths that a kernel would print",
        ),
        (all(one.kind in TYPES for one in snapshot.lineage.holders), "types of namespaces"),
        (bool(snapshot.hierarchies) and all(one.version in (1, 2) for one in snapshot.hierarchies), "hierarchies"),
        ((snapshot.host.cap_last_cap or 0) < 64, "a last capability below 64"),
    )
    for true, what in facts:
        if not true:
            raise ValueError(f"expected {what}")
    return snapshot


def dumps(state: object) -> bytes:
    """JSON without blanks; lone surrogates of file names stay escapes, so it is always UTF-8."""
    return json.dumps(state, separators=(",", ":"), allow_nan=False).encode("ascii")


def loads(data: bytes) -> Any:
    """What :func:`dumps` wrote.  Raises :class:`NotASnapshot`."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotASnapshot(f"expected JSON: {error}") from error


def delta(old: Snapshot, new: Snapshot) -> dict[str, Any]:
    """What :func:`apply` needs to make the state of ``new`` from that of ``old``; empty when nothing differs."""
    changes: dict[str, Any] = _delta(_coder(Snapshot), old, new)
    return changes


def apply(state: dict[str, Any], changes: Mapping[str, Any]) -> None:
    """Bring an encoded snapshot up to date, in place."""
    for key in changes.get(_GONE, ()):
        state.pop(key, None)
    for key, value in changes.items():
        before = state.get(key)
        if key == _GONE:
            continue
        if isinstance(before, dict) and isinstance(value, dict):
            apply(before, value)
        else:
            state[key] = value


def _written(coder: _Coder, value: Any) -> Any:
    return value if coder.encode is None or value is None else coder.encode(value)


def _read(coder: _Coder, value: Any) -> Any:
    if coder.decode is not None and value is not None:
        return coder.decode(value)
    # What is read may have been written by anybody.
    kind = type(value)
    if kind not in coder.types and not (value is None and coder.optional):
        raise TypeError(f"expected {'/'.join(one.__name__ for one in coder.types)}, found {value!r:.40}")
    if kind is str and not value.isascii():
        value.encode("utf-8", "surrogateescape")  # what can be no name of a file, no engine and no kernel gave
    if kind is int and not 0 <= value <= LARGEST:
        raise ValueError(f"expected a number of 64 bits, found {value!r:.40}")
    if kind is float and not 0 <= value <= LATEST:
        raise ValueError(f"expected a number of seconds or CPUs, found {value!r:.40}")
    return value


def _delta(coder: _Coder, old: Any, new: Any) -> Any:
    changes: dict[str, Any] = {}
    if coder.fields is not None:
        for name, inner in coder.fields:
            before, after = getattr(old, name), getattr(new, name)
            if before is not after and before != after:
                changes[name] = _difference(inner, before, after)
        return changes
    inside = coder.inside
    assert inside is not None
    if gone := old.keys() - new.keys():
        changes[_GONE] = sorted(map(_key, gone))
    for key, after in new.items():
        before = old.get(key, _GONE)
        if before is _GONE:
            changes[_key(key)] = _written(inside(key), after)
        elif before is not after and before != after:
            changes[_key(key)] = _difference(inside(key), before, after)
    return changes


def _difference(coder: _Coder, before: Any, after: Any) -> Any:
    """Inside records and mappings only what differs; of anything else the whole."""
    if (coder.fields is None and coder.inside is None) or before is None or after is None:
        return _written(coder, after)
    if coder is _coder_of_processes():
        before, after = ({one.pid: one for one in some} for some in (before, after))
    return _delta(coder, before, after)


# -- coders of types ---------------------------------------------------------------------------------------------------


@cache
def _coder(kind: Any) -> _Coder:
    origin, inside = get_origin(kind), get_args(kind)
    if kind is float:
        return _Coder(None, None, frozenset((int, float)))
    if kind in (int, str, bool):
        return _Coder(None, None, frozenset((kind,)))
    if origin is Literal:
        return _Coder(None, lambda value: inside[inside.index(value)])
    if kind is bytes:
        return _Coder(lambda value: value.decode("latin-1"), lambda text: text.encode("latin-1"))
    if origin in (Union, types.UnionType):
        return _union([_coder(one) for one in inside if one is not type(None)], optional=type(None) in inside)
    if origin is tuple and inside[-1] is Ellipsis:
        return _many(tuple, inside[0])
    if origin is frozenset:
        return _many(frozenset, inside[0])
    if origin is tuple:
        return _pair(inside)
    if origin is get_origin(Mapping[str, int]):
        return _mapping(*inside)
    if typing.is_typeddict(kind):
        return _typed_mapping(typing.get_type_hints(kind))
    return _record(kind)


def _union(members: list[_Coder], *, optional: bool) -> _Coder:
    """Of the members at most one is written otherwise than it is; a number or a word is what it is."""
    plain = frozenset(one for member in members for one in member.types)
    special = [member for member in members if not member.types]
    if not special:
        return _Coder(None, None, plain, optional)
    one = special[0]
    if not plain:
        return one._replace(optional=optional)
    read, scalar = one.decode, _Coder(None, None, plain)
    assert read is not None
    return _Coder(
        one.encode, lambda value: _read(scalar, value) if type(value) in plain else read(value), optional=optional
    )


def _many(make: Callable[[Any], Any], inside: Any) -> _Coder:
    coder = _coder(inside)
    arrange = sorted if make is frozenset else list
    return _Coder(
        lambda values: arrange(values) if coder.encode is None else [_written(coder, one) for one in values],
        lambda values: make([_read(coder, one) for one in _listed(values)]),
    )


def _listed(values: Any) -> list[Any]:
    if type(values) is not list:
        raise TypeError(f"expected a list, found {values!r:.40}")
    return values


def _pair(inside: tuple[Any, ...]) -> _Coder:
    coders = [_coder(one) for one in inside]
    return _Coder(
        lambda values: [_written(coder, one) for coder, one in zip(coders, values, strict=True)],
        lambda values: tuple([_read(coder, one) for coder, one in zip(coders, _listed(values), strict=True)]),
    )


def _key(key: Any) -> str:
    """A mapping's key as text: as it is, or as JSON where it is none."""
    if isinstance(key, str):
        return key
    if isinstance(key, int):
        return str(key)
    return json.dumps([part.decode("latin-1") if isinstance(part, bytes) else part for part in key])


def _mapping(key: Any, inside: Any) -> _Coder:
    coder = _coder(inside)
    keys = _coder(key)

    def from_text(text: str) -> Any:
        return text if key is str else int(text) if key is int else _read(keys, json.loads(text))

    return _Coder(
        lambda values: {_key(one): _written(coder, value) for one, value in values.items()},
        lambda values: {from_text(one): _read(coder, value) for one, value in values.items()},
        inside=lambda _: coder,
    )


def _typed_mapping(hints: Mapping[str, Any]) -> _Coder:
    """Of control files: what each name holds is known."""
    coders = {name: _coder(kind) for name, kind in hints.items()}
    return _Coder(
        lambda values: {name: _written(coders[name], value) for name, value in values.items()},
        lambda values: {name: _read(coders[name], value) for name, value in values.items() if name in coders},
        inside=coders.__getitem__,
    )


def _record(kind: Any) -> _Coder:
    hints = typing.get_type_hints(kind)
    names = kind._fields if hasattr(kind, "_fields") else tuple(one.name for one in dataclasses.fields(kind))
    fields = tuple((name, _coder_of(kind, name, hints[name])) for name in names)
    written = [(name, coder.encode) for name, coder in fields]
    read = dict(fields)
    known = frozenset(names)

    def write(value: Any) -> dict[str, Any]:
        found = {}
        for name, how in written:
            inner = getattr(value, name)
            found[name] = inner if how is None or inner is None else how(inner)
        return found

    def make(value: Mapping[str, Any]) -> Any:
        return kind(**{name: _read(read[name], inner) for name, inner in value.items() if name in known})

    return _Coder(write, make, fields=fields)


def _coder_of(record: Any, name: str, kind: Any) -> _Coder:
    return _coder_of_processes() if record is Snapshot and name == "processes" else _coder(kind)


def _named(pid: str, process: Process) -> Process:
    if pid != str(process.pid):
        raise ValueError(f"expected process {pid}, found {process.pid}")
    return process


@cache
def _coder_of_processes() -> _Coder:
    """By pid, so that one that changes is not all of them."""
    coder = _coder(Process)
    return _Coder(
        lambda values: {str(one.pid): _written(coder, one) for one in values},
        lambda values: tuple(_named(pid, _read(coder, values[pid])) for pid in sorted(values, key=int)),
        inside=lambda _: coder,
    )
