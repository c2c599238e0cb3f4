"""Nothing that anybody but us chose reaches a terminal, a document, a metric or a log as more than visible text."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from nsinspect import bundle, codec, safe
from nsinspect.cli import cli
from nsinspect.collect import PARTS
from nsinspect.declarations import Pod
from nsinspect.fields.scrape import Part, Scrape
from nsinspect.model import build
from nsinspect.snapshot import Member, Snapshot
from nsinspect.views.metrics import Room, exposition
from tests.looks import HOSTS, look, process_of, rich
from tests.recorded import at, kept, processes

Path_ = tuple[str, ...]

# Sets a title, turns reading round, ends the line, is no UTF-8: as text and, in records that hold bytes, as bytes.
MARK = "\x1b]0;M{}M\x07\xe2\x80\xae\nFORGED\xff"
# What means something: marked, a snapshot would be none, or of a host without containers.
MEANINGS = re.compile(
    r"(cgroups\.\*\.files|declarations\.\*\.wanted|claims)\..*"
    r"|.*\.device|mounts\.\*\.root|processes\.\*\.cgroup.*|cgroups\.\*\.path|lineage\.holders\.\*\.kind"
)
UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}

SHOWN = {
    "confinements.*.lsm_label",
    "confinements.*.mounts.*.point",
    "declarations.*.image",
    "cgroups.*.others.*.*.*",
    "declarations.*.name",
    "declarations.*.pod.name",
    "declarations.*.runtime",
    "host.hostname",
    "issues.*.detail",
    "issues.*.path",
    "lineage.holders.*.mount",
    "links.*.links.*.addresses.*",
    "links.*.links.*.name",
    "members.*.executable",
    "networks.*.interfaces.*.name",
    "networks.*.listeners.*.address",
    "processes.*.cgroup.*.path",
    "processes.*.comm",
    "threads.*.*.comm",
    "users.*",
}
"""Where the texts are that some view shows: without them there would be nothing to be afraid of."""


def general(path: Path_) -> str:
    """Where in a snapshot a text is, whatever the pid or the number."""
    return ".".join("*" if one == "*" or not one[:1].isalpha() or len(one) > 40 else one for one in path)


def changed(state: Any, change: Callable[[str, str], str], path: Path_ = ()) -> Any:
    """A snapshot's JSON with every text as ``change`` makes it, which is told where it is."""
    if isinstance(state, str):
        return change(general(path), state)
    if isinstance(state, list):
        return [changed(one, change, (*path, "*")) for one in state]
    if isinstance(state, dict):
        return {key: changed(one, change, (*path, key)) for key, one in state.items()}
    return state


@cache
def clean(host: str) -> Snapshot:
    """A bundled host; of one more is known than was read: a thread with other power, a program from memory."""
    if host != "podman-v2":
        return look(host)
    snapshot = rich()
    ((pid, (thread,)),) = snapshot.threads.items()
    assert thread.status is not None
    unlike = thread._replace(status=thread.status._replace(cap_eff=1, cap_prm=1))
    members = {**snapshot.members, pid: Member(b"/memfd:x", None, label_known=False)}
    snapshot = replace(snapshot, threads={pid: (unlike,)}, members=members)
    # One is in a pod, runs as a user, sees a folder of the host, and has a control file of no other row.
    one = next(one for one in build(snapshot).containers if one.name == "plain")
    init = process_of(snapshot, one.init.pid)
    assert init.status is not None
    status = init.status._replace(uid=init.status.uid._replace(effective=1000))
    confined = snapshot.confinements[init.pid]
    run = next(mount for mount in snapshot.mounts if mount.point == b"/run")
    mounts = (*(confined.mounts or ()), run._replace(root=b"/engine.sock", point=b"/data"))
    said = snapshot.declarations["podman", one.id]
    key = next(key for key in snapshot.cgroups if key[1] == one.cgroup_path)
    return replace(
        snapshot,
        processes=tuple(it if it != init else init._replace(status=status) for it in snapshot.processes),
        confinements={**snapshot.confinements, init.pid: confined._replace(mounts=mounts)},
        declarations={**snapshot.declarations, ("podman", one.id): said._replace(pod=Pod("u", "p", "n", "q", "c"))},
        cgroups={**snapshot.cgroups, key: snapshot.cgroups[key]._replace(others=(("cpuset.mems", (b"0",)),))},
    )


@cache
def marked(host: str) -> tuple[Snapshot, dict[int, str]]:
    """A look with a mark in every text that anybody chose, and where each mark is."""
    numbers: dict[str, int] = {}

    def mark(where: str, text: str) -> str:
        number = numbers.setdefault(where, len(numbers))
        if where in ("processes.*.cgroup.*.path", "cgroups.*.path") and text != "/":
            return f"{text}/{MARK.format(number)}"  # of a cgroup that a container made in its own
        return text if MEANINGS.fullmatch(where) else text + MARK.format(number)

    whole = clean(host)
    snapshot = codec.decode(changed(json.loads(codec.dumps(codec.encode(whole))), mark))
    assert len(build(snapshot).containers) == len(build(whole).containers)
    return snapshot, {number: where for where, number in numbers.items()}


def as_capture(folder: Path, snapshot: Snapshot) -> str:
    """A capture that holds this."""
    folder.mkdir()
    (folder / bundle.MANIFEST).write_text("{}")
    (folder / bundle.SNAPSHOT).write_bytes(codec.dumps(codec.encode(snapshot)))
    return str(folder)


def run(*words: str) -> Result:
    """The program, which ends by itself."""
    done = CliRunner().invoke(cli, words)
    assert done.exception is None or isinstance(done.exception, SystemExit), (words, done.exc_info)
    return done


def harmless(text: str) -> str:
    """The same, where every character of it is visible and nobody forged a line."""
    bad = {character for character in text if unicodedata.category(character) in UNSAFE} - {"\n"}
    assert not bad, (bad, [line for line in text.splitlines() if bad & set(line)])
    assert not re.search("^ *FORGED", text, re.MULTILINE), text
    return text


def strings(value: Any) -> Iterator[str]:
    """Every text in a document."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from (text for pair in value.items() for one in pair for text in strings(one))
    elif isinstance(value, list):
        yield from (text for one in value for text in strings(one))


def views(folder: Path, host: str) -> Iterator[str]:
    """What every view makes of the marked look, each line and each text of a document."""
    snapshot, _ = marked(host)
    plain = clean(host)
    root, before = as_capture(folder / "marked", snapshot), as_capture(folder / "clean", plain)
    model = build(snapshot)
    gone = model.containers[-1].pids
    fewer = as_capture(folder / "fewer", processes(lambda one: None if one.pid in gone else one)(snapshot))
    ids = [one.id for one in model.containers]
    pids = [str(one.init.pid) for one in model.containers]
    people = [
        ("list", "-a"),
        ("ns",),
        ("ns", "--tree", "--descriptors"),
        ("net",),
        ("caps", "-a"),
        ("drift",),
        ("findings",),
        ("pid", *pids),
        *(("show", one) for one in ids),
    ]
    for words in [*people, *(("show", one, "--as", form) for one in ids for form in ("docker", "podman", "k8s"))]:
        yield run("--root", root, *words).output
    for words in people:
        if "--tree" in words:
            continue
        yield from strings(json.loads(run("--root", root, *words, "--json").stdout))
    for old, new in ((before, root), (root, before), (root, fewer), (fewer, root)):
        yield run("diff", "--all", old, new).output
    yield from strings(json.loads(run("diff", "--all", before, root, "--json").stdout))
    parts = tuple(Part(name, success=True, seconds=0.5) for name in (*PARTS, "model"))
    scrape = Scrape(model=model, parts=parts, vanished=0, truncated=0, version="1", python="3")
    yield exposition(scrape, openmetrics=True, room=Room(containers=9, series=9999))
    # The same again and again, so that what happens to it is told.
    store = str(kept(folder / "store", [at(plain, 0), at(snapshot, 5), at(plain, 10), at(snapshot, 15)]))
    for words in (("replay", "--at", "2026-05-28T20:26:45Z", "list"), ("history", ids[0], "--since", "2026-01-01")):
        yield run(*words, "--store", store).output
    for form in ((), ("--json",), ("--format", "ecs"), ("--format", "timesketch")):
        yield run("events", "--store", store, *form).output


@pytest.mark.parametrize("host", ["podman-v2", "docker-hybrid"])
def test_no_view_passes_anything_on_but_visible_text(tmp_path: Path, host: str):
    """Tables, pages, flags, documents, differences, metrics, events and history.  Fails without ``safe`` in any of
    them."""
    shown: set[str] = set()
    _, places = marked(host)
    for text in views(tmp_path, host):
        harmless(text)
        shown |= {places[int(number)] for number in re.findall(r"M(\d+)M", text)}
    if host == "podman-v2":
        assert shown >= SHOWN, SHOWN - shown


def test_no_text_fills_a_screen(tmp_path: Path):
    """Of one longer than any path a person is told how long it is.  Fails where a view uses ``safe.text`` for what a
    person reads: a user's file may call his container by a name of megabytes, which ``ns`` says in thirty lines."""
    plain = clean("podman-v2")

    def longer(where: str, text: str) -> str:
        return text if MEANINGS.fullmatch(where) or where.endswith("path") else text + "x" * 3 * safe.LONGEST

    snapshot = codec.decode(changed(json.loads(codec.dumps(codec.encode(plain))), longer))
    root, before = as_capture(tmp_path / "long", snapshot), as_capture(tmp_path / "clean", plain)
    store = str(kept(tmp_path / "store", [at(plain, 0), at(snapshot, 5), at(plain, 10)]))
    (first, *_) = build(snapshot).containers
    commands = [("ns",), ("ns", "--tree", "--descriptors"), ("net",), ("caps", "-a"), ("findings",), ("list", "-a")]
    commands += [("pid", str(first.init.pid)), ("show", first.id[:12])]
    asked = [*(("--root", root, *words) for words in commands), ("diff", "--all", before, root)]
    asked += [("events", "--store", store), ("history", first.id, "--store", store, "--since", "2026-01-01")]
    told = [run(*words).output for words in asked]
    assert [text.count("x" * (safe.LONGEST + 1)) for text in told] == [0] * len(told)
    assert re.search("x… of 1[0-9]{4} characters", "".join(told))
    assert "x" * 3 * safe.LONGEST in run("--root", root, "list", "--json").output


NAME = MARK.format(7).replace("/", "")


@pytest.mark.parametrize(
    "words",
    [
        ("--root", NAME, "list"),
        ("--procfs", NAME, "list"),
        ("--cgroupfs", NAME, "list"),
        ("--root", "ROOT", "show", NAME),
        ("--root", "ROOT", "show", "pid:" + NAME),
        ("--root", "ROOT", "pid", NAME),
        ("--root", "ROOT", "drift", NAME),
        ("--root", "ROOT", "net", NAME),
        ("--root", "ROOT", "findings", NAME),
        ("--root", "ROOT", "caps", "--has", NAME),
        ("--root", "ROOT", "ns", "--type", NAME),
        ("--root", NAME, "capture", "-o", "-"),
        ("--root", "ROOT", "capture", "-o", NAME + ".zip"),
        ("--root", "ROOT", "capture", NAME, "-o", "x"),
        ("--root", "ROOT", "capture", "-o", NAME + "/below"),
        ("verify", NAME),
        ("verify", NAME + bundle.ARCHIVE),
        ("diff", NAME, NAME),
        ("diff", NAME + "@now", "live"),
        ("events", "--store", NAME),
        ("events", "--store", NAME, "--since", NAME),
        ("events", "--format", NAME),
        ("history", NAME, "--store", NAME),
        ("replay", "--at", NAME, "--store", NAME, "list"),
        ("replay", "--at", "now", "--store", NAME, NAME),
        ("record", "--store", NAME + "/x", "--interval", NAME),
        ("serve", "--once", "--web.telemetry-path", NAME),
        ("serve", "--once", "--path.rootfs", NAME),
        ("serve", "--web.config.file", NAME),
        ("serve", "--web.listen-address", NAME),
        (NAME,),
        ("list", "--" + NAME),
        ("list", NAME),
    ],
    ids=lambda words: " ".join(words).replace(NAME, "NAME"),
)
def test_no_error_passes_anything_on_but_visible_text(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
):
    """What a person typed may be the name that a container gave to a file.  Fails without ``safe`` in what an error
    says."""
    monkeypatch.chdir(tmp_path)
    done = run(*(str(HOSTS / "podman-v2") if word == "ROOT" else word for word in words))
    assert done.exit_code not in (0, 1)
    assert "M7M" in harmless(done.output) or "expected" in done.output


def test_a_namespace_of_no_type_is_refused_in_one_line(tmp_path: Path):
    """Fails without the types in ``codec``: ``ns`` would look for one of that name, and end with a traceback."""
    state = codec.encode(rich())
    state["lineage"]["holders"][0]["kind"] = "no such"
    (tmp_path / bundle.MANIFEST).write_text("{}")
    (tmp_path / bundle.SNAPSHOT).write_bytes(codec.dumps(state))
    done = run("--root", str(tmp_path), "ns")
    assert (done.exit_code, done.output.count("\n")) == (6, 1)
    assert "expected types of namespaces" in done.output
