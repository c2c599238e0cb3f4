"""A capture is the host as it was: a root for every command, with no secret in it, and a record of how it was taken."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import Result

from nsinspect import bundle, capture, codec, kernfs, lastly
from nsinspect.cli import cli, evidence
from nsinspect.errors import RootError
from nsinspect.kernfs import Roots
from nsinspect.snapshot import Process
from nsinspect.verify import verify
from tests.looks import HOSTS, NAMES, SURROGATES, look, quiet, request, rich, take
from tests.runner import runner

HERE = Path(__file__).parent
SECRET = "correct-horse-battery-staple"
NAMES_OF = {"docker-hybrid": ("web", "sidecar"), "podman-v1": ("web", "priv"), "podman-v2": ("web", "plain")}


def run(*arguments: str) -> Result:
    """The program, in this process."""
    return runner().invoke(cli, arguments, prog_name="nsinspect")


def answers(root: Path | str, host: str) -> dict[str, tuple[int, str]]:
    """What reading commands say of a host: documents, and a page of each sort."""
    questions = [("list", "-a"), ("ns",), ("drift",), ("net",), ("findings",), ("caps",), ("pid", "1", "2")]
    questions += [("show", name) for name in NAMES_OF[host]]
    asked = [*((*question, "--json") for question in questions), ("list",), ("ns",), ("show", "web")]
    found = {}
    for question in asked:
        done = run("--root", str(root), *question)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exc_info
        found[" ".join(question)] = (done.exit_code, done.output)
    return found


@cache
def live(host: str) -> dict[str, tuple[int, str]]:
    """The same of a bundled host itself."""
    return answers(HOSTS / host, host)


@pytest.fixture(scope="module", params=NAMES)
def host(request: pytest.FixtureRequest) -> str:
    """Each of the bundled hosts."""
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def taken(host: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Captures of it, as a folder and as an archive."""
    folder = tmp_path_factory.mktemp(host)
    return take(HOSTS / host, folder / "c")[1], take(HOSTS / host, folder / "c.tar.zst")[1]


def entries(path: Path) -> list[dict[str, Any]]:
    """What the manifest says of each file."""
    found: list[dict[str, Any]] = json.loads(bundle.read(str(path), bundle.MANIFEST))["files"]
    return found


# -- a root for every command ------------------------------------------------------------------------------------------


def test_what_is_asked_of_a_capture_is_what_was_asked_of_the_host(host: str, taken: tuple[Path, Path]):
    """In both forms, every command, both outputs, and how it exits."""
    for path in taken:
        assert answers(path, host) == live(host)


def test_the_files_of_a_capture_are_a_host_without_the_snapshot(host: str, taken: tuple[Path, Path], tmp_path: Path):
    """For who trusts no parser but the one of next year.  Engines' files stayed behind, so no name and no drift."""
    copy = Path(shutil.copytree(taken[0], tmp_path / "c", symlinks=True))
    (copy / bundle.SNAPSHOT).unlink()
    before, after = (json.loads(run("--root", str(root), "list", "--json").output) for root in (HOSTS / host, copy))
    assert before["host"] == after["host"]
    assert before["captured_at"] == after["captured_at"]
    kept = ("id", "kind", "init", "pids", "cgroup", "namespaces", "capabilities", "limits", "usage")
    theirs = {one["id"]: {key: one[key] for key in kept} for one in before["containers"]}
    ours = {one["id"]: {key: one[key] for key in kept} for one in after["containers"]}
    for one in (*theirs.values(), *ours.values()):
        # Whose default it is that is compared with, an engine's file may have said.
        one["capabilities"] = {key: one["capabilities"][key] for key in ("effective", "bounding", "permitted")}
    assert ours == theirs


def test_with_engines_files_it_is_the_whole_host(host: str, tmp_path: Path):
    _, path = take(HOSTS / host, tmp_path / "c", state_files=True)
    (path / bundle.SNAPSHOT).unlink()
    assert answers(path, host) == live(host)


def test_a_capture_of_a_capture_says_the_same(tmp_path: Path):
    """Of what is there: with engines' files."""
    host = "podman-v2"
    _, first = take(HOSTS / host, tmp_path / "first", state_files=True)
    _, second = take(first, tmp_path / "second.tar.zst")
    assert answers(second, host) == live(host)


def test_a_capture_is_bytes_as_they_were_read(host: str, taken: tuple[Path, Path]):
    """Not as anybody understood them."""
    count = 0
    for path in taken[0].rglob("*"):
        original = HOSTS / host / path.relative_to(taken[0])
        if path.is_symlink():
            assert os.readlink(path) == os.readlink(original)
        elif path.is_file() and path.parent != taken[0]:
            assert path.read_bytes() == original.read_bytes()
            count += 1
    assert count > 50


def test_other_containers_are_left_out(tmp_path: Path):
    """Their processes, and what is known of them; one that shares a network is named all the same."""
    path = tmp_path / "c"
    answer = run("--root", str(HOSTS / "docker-hybrid"), "capture", "web", "-o", str(path))
    assert answer.exit_code == 0, answer.output
    document = json.loads(run("--root", str(path), "list", "--json").output)
    (web,) = document["containers"]
    assert web["name"] == "web"
    others = {
        str(pid)
        for one in json.loads(run("--root", str(HOSTS / "docker-hybrid"), "list", "--json").output)["containers"]
        for pid in one["pids"]
        if one["name"] != "web"
    }
    assert len(others) == 4
    assert not others & {one.name for one in (path / "proc").iterdir()}
    assert not any(re.search(rf"/proc/({'|'.join(others)})/", one["path"]) for one in entries(path))
    snapshot = codec.decode(codec.loads(bundle.read(str(path), bundle.SNAPSHOT)))
    assert not others & {str(one.pid) for one in snapshot.processes}
    assert json.loads(bundle.read(str(path), bundle.MANIFEST))["containers"] == [web["id"]]
    assert verify(str(path)).problems == ()


@pytest.mark.parametrize("bundle", ["/proc/²", "/proc", "/proc/" + "7" * 5000, "/proc/1", "/", "proc", "/proc/\ud800"])
def test_no_bundle_that_a_user_names_ends_a_capture(tmp_path: Path, bundle: str):
    """Fails where what an engine's file leads to below /proc is taken for a process' number."""
    tree = Path(shutil.copytree(HOSTS / "docker-hybrid", tmp_path / "host", symlinks=True))
    (tree / "proc/1/cgroup").write_text("0::/runc-mine.scope\n")
    (tree / "run/user/1000/runc/mine").mkdir(parents=True)
    state = {"config": {"labels": [f"bundle={bundle}"]}, "created": "2026-01-01T00:00:00Z"}
    (tree / "run/user/1000/runc/mine/state.json").write_text(json.dumps(state))
    answer = run("--root", str(tree), "capture", "-o", str(tmp_path / "c"))
    assert answer.exit_code == 0, answer.exc_info
    tried = json.dumps([one["path"] for one in entries(tmp_path / "c")])
    assert "/run/user/1000/runc/mine/state.json" in tried
    assert "/config.json" in tried
    assert verify(str(tmp_path / "c")).problems == ()


def test_a_container_that_is_none_leaves_nothing_behind(tmp_path: Path):
    answer = run("--root", str(HOSTS / "docker-hybrid"), "capture", "nope", "-o", str(tmp_path / "c"))
    assert (answer.exit_code, answer.stderr) == (3, "nsinspect: no such container: nope\n")
    assert list(tmp_path.iterdir()) == []


# -- what a snapshot says that nobody could have read ------------------------------------------------------------------

PLACES: tuple[tuple[tuple[str, ...], Any], ...] = (
    (("captured_at",), 1e300),
    (("captured_at",), -1e300),
    (("captured_at",), 1 << 70),
    (("host", "boot_time"), 1e300),
    (("host", "boot_time"), 10**400),
    (("host", "uptime"), 10**400),
    (("host", "cap_last_cap"), 1 << 70),
    (("host", "cap_last_cap"), -1),
    (("host", "memory_bytes"), 10**400),
    (("hierarchies",), []),
    (("hierarchies", "0", "version"), 3),
    (("processes", "*", "starttime"), 10**400),
    (("processes", "*", "pid"), 0),
    (("processes", "*", "status", "cap_eff"), 1 << 5000),
    (("processes", "*", "status", "cap_eff"), -1),
    (("processes",), {}),
    (("networks", "999999"), {"interfaces": None, "listeners": None}),
    (("members", "999999"), {"executable": None, "lsm_label": None, "label_known": False}),
    (("threads", "999999"), []),
    (("sockets", "999999"), None),
    (("declarations", "*", "runtime"), "nobody's"),
    (("declarations", "*", "wanted", "cores"), 10**400),
    (("cgroups", "*", "files", "memory.max"), 10**400),
    (("cgroups", "*", "files", "memory.current"), 10**400),
    (("cgroups", "*", "files", "cpu.max"), [10**400, 1]),
    (("cgroups", "*", "files", "cpu.max"), [1, 0]),
    (("cgroups", "*", "files", "cpu.stat"), {"usage_usec": 10**400, "throttled_usec": 10**400}),
    (("cgroups", "*", "files", "pids.max"), -1),
)


@pytest.mark.parametrize(
    ("place", "odd"), PLACES, ids=lambda one: ".".join(one) if isinstance(one, tuple) else repr(one)[:20]
)
def test_a_snapshot_that_no_kernel_gave_ends_no_command_with_a_traceback(
    tmp_path: Path, place: tuple[str, ...], odd: Any
):
    """Whoever made it: an answer, or one line that says it is none."""

    def put(value: Any, path: tuple[str, ...]) -> None:
        keys = list(value) if path[0] == "*" else [int(path[0]) if isinstance(value, list) else path[0]]
        for key in keys:
            if len(path) == 1:
                value[key] = odd
            elif value[key] is not None:
                put(value[key], path[1:])

    state = json.loads(codec.dumps(codec.encode(look("podman-v2"))))
    put(state, place)
    # What was not changed, and is as in a look with more in it.
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / bundle.MANIFEST).write_text("{}")
    (tmp_path / "c" / bundle.SNAPSHOT).write_bytes(codec.dumps(state))
    root = str(tmp_path / "c")
    for words in (("list", "--json"), ("show", "web"), ("net",)):
        answer = run("--root", root, *words)
        assert answer.exception is None or isinstance(answer.exception, SystemExit), (words, answer.exc_info)
        assert answer.exit_code in (0, 1, 3, 6)
    answer = run("diff", root, root)
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exc_info


# -- secrets -----------------------------------------------------------------------------------------------------------


def everything_in(path: Path) -> bytes:
    """Every name and byte of a capture, unpacked."""
    if path.is_dir():
        files = [one for one in path.rglob("*") if one.is_file() and not one.is_symlink()]
        links = [one for one in path.rglob("*") if one.is_symlink()]
        names = [os.fsencode(one) for one in path.rglob("*")]
        return b"\n".join(
            [*names, *(one.read_bytes() for one in files), *(os.fsencode(os.readlink(one)) for one in links)]
        )
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(path.read_bytes())).readall()


@pytest.fixture(scope="module")
def with_secret(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A host whose container was given a secret as engines are: in its environment, in their file."""
    folder = tmp_path_factory.mktemp("secret")
    root = Path(shutil.copytree(HOSTS / "docker-hybrid", folder / "host", symlinks=True))
    web = json.loads(run("--root", str(root), "show", "web", "--json").output)["container"]["id"]
    (config,) = (path for path in root.rglob("config.v2.json") if web in str(path))
    state = json.loads(config.read_bytes())
    state["Config"]["Env"] = [f"PASSWORD={SECRET}"]
    state["Config"]["Cmd"] = ["mysqld", f"--password={SECRET}"]
    config.write_text(json.dumps(state))
    for name in ("cmdline", "environ"):
        for pid in (root / "proc").iterdir():
            if pid.name.isdigit():
                (pid / name).write_text(f"PASSWORD={SECRET}\0")
    return root


@pytest.mark.parametrize("name", ["c", "c.tar.zst"])
def test_no_secret_is_in_a_capture(with_secret: Path, tmp_path: Path, name: str):
    _, path = take(with_secret, tmp_path / name)
    data = everything_in(path)
    assert SECRET.encode() not in data
    assert b"config.v2.json" in data
    left = [one for one in entries(path) if one["left_out"]]
    assert left
    assert {one["left_out"] for one in left} == {"may hold secrets"}
    assert all(one["file"] is None and one["size"] for one in left)


@pytest.mark.parametrize("name", ["c", "c.tar.zst"])
def test_with_engines_files_what_is_in_them_is_in_it(with_secret: Path, tmp_path: Path, name: str):
    _, path = take(with_secret, tmp_path / name, state_files=True)
    assert SECRET.encode() in everything_in(path)


def test_an_engines_file_that_is_damaged_is_not_quoted(with_secret: Path, tmp_path: Path):
    """In no complaint that the capture keeps."""
    files = [*with_secret.rglob("config.v2.json"), *with_secret.rglob("hostconfig.json")]
    kept = {file: file.read_bytes() for file in files}
    word = SECRET.encode()
    for number, damage in enumerate(
        (b"{" + word, b'{"Config": {"Env": ["' + word, word, b'{"Config": "' + word + b'"}')
    ):
        for file in files:
            file.write_bytes(damage)
        _, path = take(with_secret, tmp_path / f"{number}.tar.zst")
        assert word not in everything_in(path)
    for file, data in kept.items():
        file.write_bytes(data)


def test_only_what_is_asked_for_is_read_of_the_living(tmp_path: Path):
    """A process' command line and environment are in no capture of this host, unless somebody wants them there."""
    with subprocess.Popen(["sleep", "300"], env={"PASSWORD": SECRET}) as process:
        try:
            path = tmp_path / "c.tar.zst"
            sink = bundle.Archive.create(str(path))
            capture.take(Roots(), sink, request(), quiet)
            sink.close()
            data = everything_in(path)
            assert f"proc/{process.pid}/stat".encode() in data
            assert SECRET.encode() not in data
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                names = tar.getnames()
            assert not [name for name in names if name.endswith(("/cmdline", "/environ", "/maps", "/mem", "/auxv"))]
        finally:
            process.kill()


# -- the record --------------------------------------------------------------------------------------------------------


def test_every_file_has_its_entry(host: str, taken: tuple[Path, Path]):
    """Its sum, its size, and when it was read."""
    found = entries(taken[0])
    kept = {one["file"]: one for one in found if one["file"]}
    on_disk = {
        str(path.relative_to(taken[0])) for path in taken[0].rglob("*") if path.is_file() and not path.is_symlink()
    }
    assert kept.keys() == on_disk - {bundle.SNAPSHOT, bundle.MANIFEST, bundle.LOG, bundle.SUMS}
    for name, one in kept.items():
        data = (taken[0] / name).read_bytes()
        assert (one["size"], one["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    linked = {one["link"]: one for one in found if one["link"]}
    assert linked.keys() == {str(path.relative_to(taken[0])) for path in taken[0].rglob("*") if path.is_symlink()}
    assert all(one["size"] == len(os.readlink(taken[0] / name)) for name, one in linked.items())


def test_times_are_in_order(taken: tuple[Path, Path]):
    """Both clocks, each entry and one after the other; UTC to the microsecond for people."""
    manifest = json.loads(bundle.read(str(taken[0]), bundle.MANIFEST))
    before, steady = 0, 0
    for one in manifest["files"]:
        assert before <= one["started_ns"] <= one["ended_ns"]
        assert steady <= one["monotonic_started_ns"] <= one["monotonic_ended_ns"]
        before, steady = one["ended_ns"], one["monotonic_ended_ns"]
    for name in ("started_at", "ended_at"):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", manifest[name])
    assert manifest["started_at"] <= manifest["ended_at"]


def test_the_most_volatile_comes_first():
    """Of this host: clocks, processes, their namespaces and threads, networks, cgroups, and mounts last."""

    class Nowhere:
        names: list[str]

        def __init__(self) -> None:
            self.names = []

        def file(self, name: str, data: bytes) -> None:
            self.names.append(name)

        def link(self, name: str, target: bytes) -> None:
            self.names.append(name)

        def close(self) -> None:
            pass

    sink = Nowhere()
    capture.take(Roots(root=str(HOSTS / "docker-hybrid")), sink, request(), quiet)
    names = sink.names

    def first(pattern: str) -> int:
        return next(at for at, name in enumerate(names) if re.fullmatch(pattern, name))

    assert names[0] == "proc/uptime"
    assert first("proc/sys/kernel/random/boot_id") < first(r"proc/\d+/stat")
    assert first(r"proc/\d+/stat") < first("sys/fs/cgroup/memory/docker/.*")
    assert first("sys/fs/cgroup/memory/docker/.*") < first(r"proc/1968/uid_map")
    assert names[-4:] == [bundle.SNAPSHOT, bundle.MANIFEST, bundle.LOG, bundle.SUMS]


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.ESRCH])
def test_what_could_not_be_read_is_there_with_its_errno(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int):
    real, tables = kernfs._open, 0

    def refuse(path: str, flags: int, **more: Any) -> int:
        nonlocal tables
        tables += path == "mountinfo"
        # Without any mount table there is no host: the first one, PID 1's, is spared.
        if path == "memory.max" or (path == "mountinfo" and tables > 1):
            raise OSError(number, os.strerror(number))
        return real(path, flags, **more)

    monkeypatch.setattr(kernfs, "_open", refuse)
    done, path = take(HOSTS / "podman-v2", tmp_path / "c")
    failed = [one for one in entries(path) if one["errno"] == errno.errorcode[number]]
    assert {one["path"].rpartition("/")[2] for one in failed} == {"memory.max", "mountinfo"}
    for one in failed:
        assert one["file"] is one["link"] is one["size"] is one["sha256"] is None
        assert one["detail"] == os.strerror(number)
    assert done.failed >= len(failed) > 3
    assert verify(str(path)).problems == ()


def test_what_is_not_there_is_there_as_that(taken: tuple[Path, Path]):
    """No file is no failure."""
    absent = [one for one in entries(taken[0]) if one["errno"] == "ENOENT"]
    assert absent
    assert all(one["file"] is None and one["detail"] is None for one in absent)


def test_what_a_person_typed_is_kept_and_forges_no_line(tmp_path: Path):
    path = tmp_path / "c"
    odd = "x\nended: yesterday\r\x1b[2J\u202e" + SURROGATES
    answer = run(
        "--root", str(HOSTS / "podman-v2"), "capture", "-o", str(path), "--case", odd, "--examiner", odd, "--note", odd
    )
    assert answer.exit_code == 0, answer.output
    manifest = json.loads((path / bundle.MANIFEST).read_bytes())
    assert manifest["case"] == manifest["examiner"] == manifest["note"] == odd
    log = (path / bundle.LOG).read_bytes()
    assert log.isascii()
    lines = log.decode().splitlines()
    assert all(line.isprintable() for line in lines)
    assert len([line for line in lines if line.startswith("ended: ")]) == 1
    names = [line.partition(": ")[0] for line in lines]
    assert {"case", "examiner", "note", "tool", "command", "run by", "host", "boot id", "started"} <= set(names)
    assert len(names) == len(set(names))
    assert verify(str(path)).problems == ()


def test_what_was_taken_and_from_where_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """On stderr, and nothing else; the seal is that of the file."""
    monkeypatch.setattr(sys, "argv", ["nsinspect", "capture", "-o", "c"])
    answer = run("--root", str(HOSTS / "podman-v2"), "capture", "-o", str(tmp_path / "c"))
    assert (answer.exit_code, answer.stdout) == (0, "")
    said, seal = answer.stderr.splitlines()
    count = len([one for one in entries(tmp_path / "c") if one["file"] or one["link"]])
    assert said == f"nsinspect: {count} files kept in {tmp_path / 'c'}, 0 could not be read"
    assert seal.endswith(hashlib.sha256((tmp_path / "c" / bundle.SUMS).read_bytes()).hexdigest())
    manifest = json.loads((tmp_path / "c" / bundle.MANIFEST).read_bytes())
    assert manifest["command"] == ["nsinspect", "capture", "-o", "c"]
    assert (manifest["format"], manifest["format_version"]) == ("nsinspect-capture", 1)


def test_a_host_without_processes_is_none(tmp_path: Path):
    sink = bundle.Folder(str(tmp_path / "c"))
    with pytest.raises(RootError):
        capture.take(Roots(root=str(tmp_path)), sink, request(), quiet)
    assert kernfs._witness is None


def test_nobody_is_watched_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Whatever went wrong."""
    take(HOSTS / "podman-v2", tmp_path / "c")
    assert kernfs._witness is None
    monkeypatch.setattr(bundle.Folder, "file", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        take(HOSTS / "podman-v2", tmp_path / "d")
    assert kernfs._witness is None


# -- progress ----------------------------------------------------------------------------------------------------------


def test_progress_is_said_when_it_takes_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Every two seconds, on stderr; each file takes a twentieth of one here."""
    clock = iter(float(number) / 20 for number in range(100_000))
    monkeypatch.setattr(evidence.time, "monotonic", lambda: next(clock))
    answer = run("--root", str(HOSTS / "podman-v2"), "capture", "-o", str(tmp_path / "c"))
    assert answer.exit_code == 0
    *said, _, _ = answer.stderr.splitlines()
    count = len([one for one in entries(tmp_path / "c") if one["size"] is not None])
    counts = [int(re.fullmatch(r"nsinspect: (\d+) files read", line)[1]) for line in said]  # type: ignore[index]
    assert counts == sorted(counts)
    assert len(counts) == pytest.approx(count / 40, abs=2)


def test_one_file_that_takes_long_is_no_reason_to_say_so_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Ten minutes in one file."""
    clock = iter([0.0, 0.1, *(600 + number / 1000 for number in range(100_000))])
    monkeypatch.setattr(evidence.time, "monotonic", lambda: next(clock))
    answer = run("--root", str(HOSTS / "podman-v2"), "capture", "-o", str(tmp_path / "c"))
    assert len(answer.stderr.splitlines()) <= 2 + 2


def test_nothing_is_said_of_what_is_quick(tmp_path: Path):
    answer = run("--root", str(HOSTS / "podman-v2"), "capture", "-o", str(tmp_path / "c"))
    assert "files read" not in answer.stderr


# -- what is read last -------------------------------------------------------------------------------------------------


def me() -> Process:
    """This very process, as a look sees it."""
    starttime = int(Path("/proc/self/stat").read_bytes().rpartition(b")")[2].split()[19])
    return rich().processes[0]._replace(pid=os.getpid(), starttime=starttime)


def test_what_is_asked_for_is_read(monkeypatch: pytest.MonkeyPatch):
    """In the order it was asked, of each process; the program as its sum."""
    found = list(lastly.answers([me()], ("cmdline", "executable", "environ")))
    assert [one.what for one in found] == ["cmdline", "executable", "environ"]
    cmdline, executable, environ = (one.data for one in found)
    assert cmdline == Path("/proc/self/cmdline").read_bytes()
    assert environ == Path("/proc/self/environ").read_bytes()
    program = Path("/proc/self/exe").read_bytes()
    assert executable is not None
    assert executable.split() == [hashlib.sha256(program).hexdigest().encode(), str(len(program)).encode()]


def test_a_pid_that_is_anothers_now_is_not_read():
    """Fails without the start time."""
    one = me()
    answers = list(lastly.answers([one._replace(starttime=one.starttime + 1), one], ("cmdline",)))
    assert [one.data is None for one in answers] == [True, False]
    assert "its pid is another process's now" in answers[0].detail


def test_a_process_that_is_gone_is_said_to_be():
    process = subprocess.Popen(["true"])
    process.wait()
    (answer,) = lastly.answers([me()._replace(pid=process.pid)], ("cmdline",))
    assert answer.data is None
    assert answer.detail


CHILD = """
import sys, time
from nsinspect import lastly
def asked(pid, starttime, what):
    if pid in {hangs}:
        time.sleep(60)
    if pid in {dies}:
        sys.exit(1)
    return b"x"
lastly._asked = asked
lastly._main()
"""


@pytest.fixture
def child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A child that hangs, or dies, at some processes; gives the children that were started."""
    started: list[subprocess.Popen[bytes]] = []
    real = subprocess.Popen
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))

    def make(hangs: Iterable[int] = (), dies: Iterable[int] = ()) -> list[subprocess.Popen[bytes]]:
        script = tmp_path / "child.py"
        script.write_text(CHILD.format(hangs=tuple(hangs), dies=tuple(dies)))

        def popen(_command: list[str], **more: Any) -> subprocess.Popen[bytes]:
            started.append(real([sys.executable, str(script)], **more))
            return started[-1]

        monkeypatch.setattr(lastly.subprocess, "Popen", popen)
        return started

    yield make
    assert all(one.poll() is not None for one in started)


def processes(*pids: int) -> list[Process]:
    """Some, by their pids."""
    return [rich().processes[0]._replace(pid=pid) for pid in pids]


def test_a_child_that_hangs_is_given_up_and_the_next_still_read(monkeypatch: pytest.MonkeyPatch, child: Any):
    """Each costs what patience there is with a process, and not also the time that a child may take to start.  Fails
    without a limit of time."""
    monkeypatch.setattr(lastly, "PATIENCE", 0.3)
    children = child(hangs=[2])
    before = time.monotonic()
    found = list(lastly.answers(processes(1, 2, 3), ("cmdline",)))
    took = time.monotonic() - before
    assert [(one.pid, one.data) for one in found] == [(1, b"x"), (2, None), (3, b"x")]
    assert "no answer within" in found[1].detail
    assert len(children) == 2
    assert took < 5


def test_one_that_hangs_first_costs_no_more_than_another(monkeypatch: pytest.MonkeyPatch, child: Any):
    """Of a container whose processes all hang, each is the first of its child."""
    monkeypatch.setattr(lastly, "PATIENCE", 0.3)
    child(hangs=[1])
    before = time.monotonic()
    (answer,) = lastly.answers(processes(1), ("environ",))
    assert answer.data is None
    assert time.monotonic() - before < 5


def test_a_child_that_dies_is_no_reason_to_start_one_for_each_of_thousands(child: Any):
    """One that cannot even start says nothing of any process; that is said, and what else was read is kept."""
    children = child(dies=range(1, 400))
    found = list(lastly.answers(processes(*range(1, 13)), ("environ",)))
    assert [one.pid for one in found] == list(range(1, 13))
    assert all(one.data is None for one in found)
    assert len(children) < 5


def test_what_is_read_last_is_a_part_of_the_capture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """And what could not be read as well."""
    said = [
        lastly.Answer(715, "cmdline", b"sleep\0" + SECRET.encode(), "", (1, 2)),
        lastly.Answer(715, "environ", None, "no answer within 2 seconds", (3, 4)),
    ]
    monkeypatch.setattr(lastly, "answers", lambda processes, what: iter(said))
    monkeypatch.setattr(Roots, "live", True)
    sink = bundle.Folder(str(tmp_path / "c"))
    capture.take(Roots(root=str(HOSTS / "podman-v2")), sink, request(lastly=("cmdline", "environ")), quiet)
    sink.close()
    assert (tmp_path / "c/proc/715/cmdline").read_bytes() == b"sleep\0" + SECRET.encode()
    *_, first, second = entries(tmp_path / "c")
    assert (first["path"], first["file"]) == ("/proc/715/cmdline", "proc/715/cmdline")
    assert (second["path"], second["detail"]) == ("/proc/715/environ", "no answer within 2 seconds")
    assert verify(str(tmp_path / "c")).problems == ()
