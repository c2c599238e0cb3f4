"""What must hold of whatever a parser made of hostile bytes: it can be kept, read again, understood and shown."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Any, TypeVar

from nsinspect import codec
from nsinspect.declarations import Claim, Declaration
from nsinspect.diff import Side, diff
from nsinspect.errors import KernelError, Malformed
from nsinspect.fields.scrape import Scrape
from nsinspect.membership import memberships
from nsinspect.model import build, issues_about
from nsinspect.networks import network_of, networks
from nsinspect.powers import powers
from nsinspect.procfs import Mount, host_path
from nsinspect.scrutiny import findings
from nsinspect.snapshot import Process, Snapshot
from nsinspect.views import capslist, changes, document, eventlog, flags, metrics, netlist, nslist, page, report, table
from tests.looks import rich

T = TypeVar("T")


def parsed(parse: Callable[[bytes], T], data: bytes) -> T | None:
    """What a parser gives, ``None`` where it complains as it may: of one printable line."""
    try:
        return parse(data)
    except Malformed as error:
        assert str(error).isprintable(), str(error)
        return None


@cache
def small() -> Snapshot:
    """Little of a captured host with something in every record: one container, its processes, and PID 1 and 2."""
    whole = rich()
    (container, *_) = build(whole).containers
    pids = {1, 2, *container.pids}
    paths = set(container.cgroup_paths.values())
    by_pid: Mapping[str, Any] = {
        name: {pid: one for pid, one in getattr(whole, name).items() if pid in pids}
        for name in ("confinements", "threads", "members", "networks", "sockets")
    }
    return replace(
        whole,
        mounts=whole.mounts[:3],
        processes=tuple(one for one in whole.processes if one.pid in pids),
        cgroups={key: one for key, one in whole.cgroups.items() if key[1] in paths},
        declarations={key: one for key, one in whole.declarations.items() if key[1] == container.id},
        claims=tuple(one for one in whole.claims if one.id == container.id),
        **by_pid,
    )


@cache
def its() -> tuple[str, str, Process]:
    """Of the container of :func:`small`: runtime, id and init."""
    (container,) = build(small()).containers
    init = next(one for one in small().processes if one.pid == container.init.pid)
    return container.runtime, container.id, init


def kept(snapshot: Snapshot) -> Snapshot:
    """The same from a file: evidence that cannot be read again is none."""
    again = codec.decode(codec.loads(codec.dumps(codec.encode(snapshot))))
    assert again == snapshot
    return again


def told(data: bytes, declaration: Declaration | None, claims: Iterable[Claim] = ()) -> None:
    """What an engine's files said, as part of a host."""
    runtime, name, _ = its()
    snapshot = replace(small(), claims=(*small().claims, *claims))
    if declaration is not None:
        snapshot = replace(snapshot, declarations={(runtime, name): declaration})
    understood(snapshot, data)


def turn(data: bytes, share: int) -> bool:
    """Whether these bytes are among the one in ``share`` that are looked at more closely: the same bytes always are."""
    return zlib.crc32(data) % share == 0


def understood(snapshot: Snapshot, data: bytes, share: int = 1) -> None:
    """That what was made of ``data`` can be kept and read again, means something, and can be shown.

    Of a cheap parser only one in ``share``: all of this takes a thousand times as long.
    """
    if not turn(data, share):
        return
    again = kept(snapshot)
    if turn(data, share * 8):
        shown(again)
    else:
        model = build(again, isolates=True)
        harmless(document.list_document(model, model.containers))


def shown(snapshot: Snapshot) -> None:
    """Every view of a host: none fails, none lets a control character through, every document is JSON."""
    model = build(snapshot, isolates=True)
    side, earlier = Side(snapshot, model), Side(small(), build(small()))
    found, nets = findings(snapshot, model), networks(snapshot, model)
    rows, power = memberships(snapshot, model), powers(snapshot, model)
    different = diff(earlier, side)
    kinds = {one.kind for one in model.containers}
    assert kinds <= {"container", "pause", "isolate"}
    documents = [
        document.list_document(model, model.containers),
        document.drift_document(model, model.containers, model.issues),
        document.findings_document(model, found, model.issues),
        document.net_document(model, nets, model.issues),
        document.ns_document(model, rows),
        document.caps_document(model, power),
        document.diff_document(earlier.model, model, different),
        *(json.dumps(eventlog.event(side, earlier, one)) for one in different),
    ]
    plain: Mapping[str, Any] = {"width": 100, "colour": False}
    texts = [
        table.list_table(model, model.containers, **plain),
        report.drift_report(model.containers, **plain),
        report.findings_report(model, found, len(model.containers), **plain),
        netlist.net_list(model, nets, **plain),
        nslist.ns_table(model, rows, tree=True, **plain),
        capslist.caps_table(model, power, **plain),
        changes.diff_report(earlier, side, different, 0, **plain),
    ]
    for one in model.containers:
        issues = issues_about(model, one)
        documents.append(document.show_document(model, one, network_of(one, nets), found, issues))
        texts.append(page.show_page(model, one, network_of(one, nets), found, issues, **plain))
        texts += [flags.as_flags(model, one, engine) for engine in ("docker", "podman", "k8s")]
    scrape = Scrape(model=model, parts=(), vanished=0, truncated=0, version="0", python="3")
    texts += [metrics.exposition(scrape, openmetrics=both, room=metrics.Room()) for both in (True, False)]
    for text in documents:
        harmless(text)
        json.loads(text, parse_constant=_no_constant)
    for text in texts:
        harmless(text)


# Controls, formats, surrogates and separators of lines, as categories of Unicode have them; not the end of a line.
_HARM = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\xad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff]")


def harmless(text: str) -> None:
    """Lines of visible characters that every encoder takes."""
    found = _HARM.search(text)
    assert found is None, f"{found[0]!a} in {text[max(0, found.start() - 40) : found.end() + 40]!a}"


def _no_constant(word: str) -> None:
    raise AssertionError(f"{word} is not JSON")


class Files:
    """State files of made-up contents: each path that is asked for is the next of ``parts``, in the order of asking."""

    def __init__(self, parts: list[bytes], mounts: tuple[Mount, ...], entries: list[str]) -> None:
        self._parts = iter(parts)
        self._mounts = mounts
        self._entries = entries
        self._seen: dict[str, bytes | None] = {}

    def read(self, path: str) -> bytes | None:
        """See :class:`nsinspect.runtimes.base.StateFiles`."""
        path.encode("utf-8", "surrogateescape")  # else no file's
        if path not in self._seen:
            found = next(self._parts, b"")
            self._seen[path] = found or None
        return self._seen[path]

    def entries(self, path: str) -> list[str]:
        """See :class:`nsinspect.runtimes.base.StateFiles`."""
        path.encode("utf-8", "surrogateescape")
        return self._entries

    def complain(self, error: KernelError) -> None:
        """See :class:`nsinspect.runtimes.base.StateFiles`."""
        assert str(error).isascii()

    def host_path(self, mount: Mount) -> str | None:
        """See :class:`nsinspect.runtimes.base.StateFiles`."""
        return host_path(mount, self._mounts)
