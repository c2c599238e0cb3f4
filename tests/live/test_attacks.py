"""Somebody who wants nsinspect to lie, to hang, to say a secret or to be noticed."""

from __future__ import annotations

import contextlib
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.live.dead_disk import dead_disk
from tests.live.docker import Docker
from tests.live.engines import (
    Oci,
    cgroup_directories,
    cgroups_removed,
    hierarchies,
    in_namespace_of,
    kill,
    members,
    unpacked,
    until,
)
from tests.live.exporter import exporter

CHECKOUT = Path(__file__).parents[2]
Ask = Callable[..., dict[str, Any]]
Run = Callable[..., subprocess.CompletedProcess[bytes]]
HEX = "c0ffee" + "0123456789" * 5 + "abcdef01"
POD = "0d0d0d0d-1111-2222-3333-444444444444"


def new_id() -> str:
    """An id as engines make them."""
    return uuid.uuid4().hex + uuid.uuid4().hex


# -- a cgroup that says it is somebody else ------------------------------------------------------------------------


@dataclass
class Spoof:
    """Cgroups below a container's own.  ``id`` is what they would be called if they were believed."""

    path: str
    id: str = HEX
    only: str | None = None
    moved: list[Path] = field(default_factory=list)

    def make(self, cgroup: str, pid: int) -> None:
        """Make them in every hierarchy, or one alone, and move a process there."""
        for hierarchy in hierarchies():
            if self.only in (None, hierarchy.name):
                own = hierarchy / cgroup.lstrip("/")
                folder = own / self.path
                folder.mkdir(parents=True)
                if hierarchy.name == "cpuset":
                    self._give_cpus(own, folder)
                self.moved.append(folder)
                (folder / "cgroup.procs").write_text(str(pid))

    @staticmethod
    def _give_cpus(own: Path, folder: Path) -> None:
        """On v1 a new cpuset is empty and takes no process."""
        for level in [*reversed(folder.relative_to(own).parents), folder.relative_to(own)][1:]:
            for name in ("cpuset.cpus", "cpuset.mems"):
                (own / level / name).write_text((own / name).read_text())

    def undo(self, cgroup: str, pid: int) -> None:
        """Put the process back and remove them."""
        for folder in self.moved:
            own = folder
            for _ in Path(self.path).parts:
                own = own.parent
            (own / "cgroup.procs").write_text(str(pid))
            while folder != own:
                folder.rmdir()
                folder = folder.parent


SPOOFS = {
    "docker-systemd": Spoof(f"docker-{HEX}.scope"),
    "docker-cgroupfs": Spoof(f"docker/{HEX}"),
    "podman": Spoof(f"libpod-{HEX}"),
    "podman-payload": Spoof(f"libpod-payload-{HEX}"),
    "containerd": Spoof(f"cri-containerd-{HEX}.scope"),
    "cri-o": Spoof(f"crio-{HEX}"),
    "kubelet": Spoof(f"kubepods/burstable/pod{POD}/{HEX}"),
    "runc": Spoof("runc-evil.scope", "evil"),
    "lxc": Spoof("lxc.payload.evil", "evil"),
    "nspawn": Spoof("machine-evil.scope", "evil"),
    "deep": Spoof(f"a/b/docker-{HEX}.scope/c"),
    "twice": Spoof(f"docker-{HEX}.scope/docker-{HEX}.scope"),
    "v2 alone": Spoof(f"docker-{HEX}.scope", only="unified"),
    "memory alone": Spoof(f"docker-{HEX}.scope", only="memory"),
    "pids alone": Spoof(f"docker-{HEX}.scope", only="pids"),
}
HELPERS = ("libpod-conmon-" + HEX, "crio-conmon-" + HEX + ".scope", "lxc.monitor.evil")


@pytest.fixture(scope="module")
def victim(docker: Docker) -> Iterator[tuple[str, int]]:
    """A container with two processes: its id, and the pid of the one that is not init."""
    identity = docker.run("spoofer", "--pids-limit", "40")
    docker("exec", "-d", "spoofer", "sleep", "2999")
    init = docker.inspect("spoofer")["State"]["Pid"]
    second = until(lambda: [pid for pid in in_namespace_of(init) if pid != init], "second process")
    yield identity, second[0]
    docker("rm", "-f", "spoofer")


def without_motion(document: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Containers of ``list --json`` by id, without what moves."""
    return {one["id"]: {key: value for key, value in one.items() if key != "usage"} for one in document["containers"]}


@pytest.fixture(scope="module")
def honest(victim: tuple[str, int], ask: Ask) -> dict[str, dict[str, Any]]:
    """Containers by id before anybody lies."""
    return without_motion(ask("list"))


@pytest.mark.parametrize("name", SPOOFS)
def test_a_cgroup_named_like_a_container_makes_none(
    name: str, victim: tuple[str, int], honest: dict[str, dict[str, Any]], run: Run, ask: Ask
):
    """Its processes stay the outer container's, an issue names the path, and nobody answers to the false id."""
    identity, pid = victim
    spoof = SPOOFS[name]
    cgroup = f"/docker/{identity}"
    own = members(cgroup)
    try:
        spoof.make(cgroup, pid)
        whole = ask("list")
        shown, located = run("show", spoof.id), ask("pid", str(pid))["processes"][0]
    finally:
        spoof.undo(cgroup, pid)

    found = without_motion(whole)
    assert found[identity] == honest[identity]
    assert honest[identity]["pids"] == own
    assert [one for one, said in found.items() if set(said["pids"]) & set(own)] == [identity]
    assert spoof.id not in found
    assert shown.returncode == 3
    assert located["container"] == identity
    spoofed = [issue for issue in whole["issues"] if issue["kind"] == "spoofed"]
    # In a hierarchy that does not govern, the name is never believed and need not be spoken of.
    if spoof.only not in ("memory", "pids"):
        assert spoofed
    for issue in spoofed:
        assert f"{cgroup}/{spoof.path}".startswith(issue["path"])
        assert issue["pids"] == [pid]


@pytest.mark.parametrize("helper", HELPERS)
def test_a_cgroup_named_like_a_helper_hides_no_process(
    helper: str, victim: tuple[str, int], honest: dict[str, dict[str, Any]], ask: Ask
):
    """A container cannot make its processes disappear by calling their cgroup a monitor's."""
    identity, pid = victim
    spoof = Spoof(helper)
    try:
        spoof.make(f"/docker/{identity}", pid)
        after, located = without_motion(ask("list")), ask("pid", str(pid))["processes"][0]
    finally:
        spoof.undo(f"/docker/{identity}", pid)

    assert after[identity] == honest[identity]
    assert located["container"] == identity


def test_a_container_that_spoofs_by_itself_is_seen_through(docker: Docker, run: Run, ask: Ask):
    """From inside, with cgroups that it made writable: the same, with a process of its own in a mount of its own."""
    script = (
        f"for m in /sys/fs/cgroup/*; do busybox mount -o remount,rw,bind $m && mkdir -p $m/docker-{HEX}.scope; done;"
        f"c=/sys/fs/cgroup/cpuset; for f in cpus mems; do cat $c/cpuset.$f > $c/docker-{HEX}.scope/cpuset.$f; done;"
        f"(for m in /sys/fs/cgroup/*; do echo 0 > $m/docker-{HEX}.scope/cgroup.procs; done; exec sleep 2998) & "
        "exec sleep 2997"
    )
    with cgroups_removed({f"docker-{HEX}.scope"}):
        identity = docker.run("self-spoofer", "--cap-add", "SYS_ADMIN", command=("sh", "-c", script))
        try:
            inside = f"/docker/{identity}/docker-{HEX}.scope"
            (second,) = until(lambda: members(inside), "the container's own spoof")
            until(lambda: Path(f"/proc/{second}/comm").read_text() == "sleep\n", "sleep")
            whole, shown = ask("list"), run("show", HEX)
            own = members(f"/docker/{identity}")
        finally:
            docker("rm", "-f", "self-spoofer")

    found = {one["id"]: one for one in whole["containers"]}
    assert found[identity]["pids"] == own
    assert [one for one, said in found.items() if set(said["pids"]) & set(own)] == [identity]
    assert second in own
    assert shown.returncode == 3
    assert {issue["path"] for issue in whole["issues"] if issue["kind"] == "spoofed"} == {inside}


# -- state files that are none -------------------------------------------------------------------------------------


SECRET = f"secret-{uuid.uuid4().hex}"


def write(data: bytes) -> Callable[[Path, Path], None]:
    """Put other content there."""
    return lambda path, _: path.write_bytes(data) and None


def zeros(path: Path, _: Path) -> None:
    """100 MB that take no room on the disk."""
    with path.open("wb") as file:
        file.truncate(100 << 20)


REPLACEMENTS: dict[str, Callable[[Path, Path], Any]] = {
    "garbage": write(os.urandom(512)),
    "half written": write(b'{"ID":"0","Name":"/half","Config":{"Ima'),
    "empty": lambda path, _: path.touch(),
    "fifo": lambda path, _: os.mkfifo(path),
    "link to a secret": lambda path, canary: path.symlink_to(canary),
    "link to the shadow file": lambda path, _: path.symlink_to("/etc/shadow"),
    "link to itself": lambda path, _: path.symlink_to(path.name),
    "directory": lambda path, _: path.mkdir(),
    "100 MB of zeros": zeros,
    "lists 64 deep": write(b"[" * 64 + b"]" * 64),
    "lists 100000 deep": write(b"[" * 100_000 + b"]" * 100_000),
    "objects 100000 deep": write(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a secret in bad JSON": write(f'{{"Env": ["{SECRET}" "PASSWORD={SECRET}"]}}'.encode()),
    "a number of a million digits": write(b'{"init_process_pid":' + b"9" * 1_000_000 + b"}"),
}


@contextlib.contextmanager
def replaced(path: Path, by: Callable[[Path, Path], Any], canary: Path) -> Iterator[None]:
    """Something else where an engine's file was, and afterwards the file again."""
    kept = path.with_name(path.name + ".kept")
    path.rename(kept)
    try:
        by(path, canary)
        yield
    finally:
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)
        kept.rename(path)


@pytest.fixture(scope="module")
def canary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that would pass for a state file, were it read."""
    path = tmp_path_factory.mktemp("canary") / "state"
    whole = {"Name": f"/{SECRET}", "ID": SECRET, "Config": {"Image": SECRET, "Labels": {SECRET: SECRET}}}
    path.write_text(json.dumps(whole | {"id": SECRET, "init_process_pid": 1, "config": {"labels": [f"a={SECRET}"]}}))
    return path


@dataclass
class Attacked:
    """Where one engine's file of one container is, and the ids of all containers with what must be said of them."""

    file: Path
    id: str
    before: dict[str, dict[str, Any]]
    seconds: float


def timed(run: Run, *arguments: str) -> tuple[float, subprocess.CompletedProcess[bytes]]:
    """How long a command took, and its answer."""
    start = time.monotonic()
    answer = run(*arguments)
    return time.monotonic() - start, answer


def attack(run: Run, file: Path, identity: str, bystander: str) -> Attacked:
    """What is said, and how soon, before anything is wrong."""
    assert file.is_file()
    answers = [timed(run, "list", "--json") for _ in range(3)]
    listed = {one["id"]: one for one in json.loads(answers[0][1].stdout)["containers"]}
    before = {name: listed[name] for name in (identity, bystander)}
    return Attacked(file, identity, before, statistics.median(seconds for seconds, _ in answers))


@pytest.fixture(scope="module")
def attacked_docker(docker: Docker, run: Run) -> Iterator[Attacked]:
    """Docker's file of one of two containers, where Docker itself says that its data is."""
    identity, bystander = docker.run("attacked"), docker.run("bystander")
    root = Path(docker("info", "-f", "{{.DockerRootDir}}"))
    yield attack(run, root / "containers" / identity / "config.v2.json", identity, bystander)
    docker("rm", "-f", "attacked", "bystander")


@pytest.fixture(scope="module")
def attacked_runc(rootfs: Path, tmp_path_factory: pytest.TempPathFactory, run: Run) -> Iterator[Attacked]:
    """runc's file of one of two containers; of the other one nothing but such a file says that it is a container."""
    directory = tmp_path_factory.mktemp("attacked")
    identity, bystander = new_id(), f"bystander-{uuid.uuid4().hex[:8]}"
    with cgroups_removed({f"pod{POD}", bystander}), Oci(directory / "runc", "runc") as runc:
        root = unpacked(rootfs, directory / "rootfs")
        runc.run(identity, root, cgroup=f"/kubepods/pod{POD}/{identity}")
        runc.run(bystander, root)
        yield attack(run, Path("/run/runc") / identity / "state.json", identity, bystander)


# What reads them is one for all engines; how they are parsed is each engine's own.
ATTACKS = [("docker", name) for name in REPLACEMENTS]
ATTACKS += [("runc", name) for name in REPLACEMENTS if not name.startswith("link to ") and name != "lists 64 deep"]


@pytest.mark.parametrize(("engine", "name"), ATTACKS)
def test_a_state_file_that_is_none_costs_an_issue_and_no_container(
    engine: str, name: str, request: pytest.FixtureRequest, canary: Path, run: Run
):
    """Every container is still listed, soon; one issue names the file; no secret is said; nothing else changes."""
    attacked: Attacked = request.getfixturevalue(f"attacked_{engine}")
    with replaced(attacked.file, REPLACEMENTS[name], canary):
        seconds, answer = timed(run, "list", "--json", "--strict")
        if seconds > attacked.seconds + 1:
            # Once more: a busy machine is not what is measured.
            seconds, answer = timed(run, "list", "--json", "--strict")
        shown = run("show", attacked.id)
    output = answer.stdout + answer.stderr + shown.stdout + shown.stderr

    assert b"Traceback" not in output
    assert (answer.returncode, shown.returncode) == (5, 0)
    whole = json.loads(answer.stdout)
    found = {one["id"]: one for one in whole["containers"]}

    assert set(attacked.before) <= set(found)
    assert seconds < attacked.seconds + 1
    assert [issue["kind"] for issue in whole["issues"] if str(attacked.file) in issue["path"]] in (
        ["malformed"],
        ["unreadable"],
    )
    assert SECRET.encode() not in output
    for line in Path("/etc/shadow").read_bytes().splitlines():
        assert line not in output
        # "user:" could be anybody's; what follows is the shadow file's.
        assert line.partition(b":")[2] not in output
    for identity, before in attacked.before.items():
        kept = ("pids", "limits", "capabilities", "namespaces", "kind", "parent", "init")
        assert {key: found[identity][key] for key in kept} == {key: before[key] for key in kept}
        if identity != attacked.id:
            named = ("name", "image", "runtime", "labels", "created_at", "pod")
            assert {key: found[identity][key] for key in named} == {key: before[key] for key in named}


def test_a_container_that_only_a_broken_state_file_tells_of_is_still_listed(
    rootfs: Path, tmp_path: Path, canary: Path, ask: Ask
):
    """runc's folder and the cgroup have the same name, which is enough to know that there is a container."""
    identity = f"broken-{uuid.uuid4().hex[:8]}"
    with cgroups_removed({identity}), Oci(tmp_path / "runc", "runc") as runc:
        pid = runc.run(identity, unpacked(rootfs, tmp_path / "rootfs"), cgroup=None)["pid"]
        with replaced(Path("/run/runc") / identity / "state.json", REPLACEMENTS["garbage"], canary):
            whole = ask("list")

    assert [one["pids"] for one in whole["containers"] if one["id"] == identity] == [[pid]]
    assert [issue["kind"] for issue in whole["issues"] if identity in issue["path"]] == ["malformed"]


# What each may read of state files; drift is about those.
COMMANDS = (("list",), ("show", "bystander"), ("drift", "bystander"), ("ns",), ("caps",), ("pid", "1"), ("findings",))


@pytest.fixture
def on_a_dead_disk(attacked_docker: Attacked) -> Iterator[Attacked]:
    """One of two containers whose files are on a disk that does not answer."""
    with dead_disk(attacked_docker.file.parent):
        yield attacked_docker


def test_a_disk_that_does_not_answer_costs_what_is_on_it_and_a_moment(
    on_a_dead_disk: Attacked, run: Run, tmp_path: Path
):
    """Every command ends, and tells all that the kernel knows; the other container has its name.  Fails where state
    files are waited for."""
    took, answers = {}, {}
    for words in (*COMMANDS, ("capture", "-o", str(tmp_path / "c.tar.zst"))):
        took[words], answers[words] = timed(run, *words)
    whole = json.loads(run("list", "--json").stdout)
    found = {one["id"]: one for one in whole["containers"]}
    before = on_a_dead_disk.before
    silent = [issue for issue in whole["issues"] if str(on_a_dead_disk.file.parent) in issue["path"]]

    assert {words: answer.returncode for words, answer in answers.items() if answer.returncode not in (0, 1)} == {}
    assert all(b"Traceback" not in answer.stderr for answer in answers.values())
    # One wait, and what else a busy machine may need.
    assert {words: seconds for words, seconds in took.items() if seconds > on_a_dead_disk.seconds + 20} == {}
    assert {(issue["kind"], issue["detail"]) for issue in silent} == {
        ("unreadable", "its file system does not answer in time")
    }
    for identity, said in before.items():
        kept = ("pids", "limits", "capabilities", "namespaces", "kind", "parent", "init", "runtime")
        assert {key: found[identity][key] for key in kept} == {key: said[key] for key in kept}
        assert found[identity]["name"] == (None if identity == on_a_dead_disk.id else "bystander")


def test_a_capture_says_that_there_was_no_answer(on_a_dead_disk: Attacked, run: Run, tmp_path: Path):
    """A file that could not be had is one line of its manifest, and the capture is whole.  Fails where what a link in a
    capture leads to is asked whether it is a folder: processes have files on that disk."""
    capture = tmp_path / "capture"
    taken, verified = run("capture", "-o", str(capture)), run("verify", str(capture))
    manifest = json.loads((capture / "manifest.json").read_text())
    lines = [one for one in manifest["files"] if one["path"].startswith(str(on_a_dead_disk.file.parent))]

    assert (taken.returncode, verified.returncode) == (0, 0)
    assert {one["detail"] for one in lines} == {"its file system does not answer in time"}
    assert all(one["sha256"] is None for one in lines)


def test_an_exporter_beside_a_dead_disk_waits_once_and_has_the_names_of_all_others(
    attacked_docker: Attacked, tmp_path: Path
):
    """And of all again when it is back; no thread more is left behind at each scrape."""
    with exporter(tmp_path) as running:

        def names() -> dict[str, str]:
            with urllib.request.urlopen(f"http://127.0.0.1:{running.port}/metrics", timeout=60) as answer:
                families = {family.name: family for family in text_string_to_metric_families(answer.read().decode())}
            success = families["nsinspect_scrape_collector_success"].samples
            assert {one.labels["collector"] for one in success if not one.value} <= late
            return {one.labels["id"]: one.labels["name"] for one in families["nsinspect_container_info"].samples}

        late: set[str] = set()
        before = names()
        with dead_disk(attacked_docker.file.parent):
            # A busy machine may need longer for the first than a scrape has for state files.
            late = {"state_files"}
            names()
            late = set()
            during, threads = names(), running.threads()
            assert [names() for _ in range(5)] == [during] * 5
            assert running.threads() <= threads + 1
        after = until(lambda: (found := names()) == before and found, "all names")

    assert before == after == {**during, attacked_docker.id[:12]: "attacked"}
    assert during == {**before, attacked_docker.id[:12]: ""}


def test_a_link_of_a_user_has_nobody_elses_state_opened(rootfs: Path, tmp_path: Path, ask: Ask):
    """Of a container whose state only root may see, by a link in what belongs to a user.  Fails where folders' links
    are followed whoever made them."""
    identity, user = f"hidden-{uuid.uuid4().hex[:8]}", 54321
    hidden, logged_in = tmp_path / "state", Path(f"/run/user/{user}")
    hidden.mkdir(mode=0o700)
    logged_in.mkdir(parents=True, mode=0o700)
    os.chown(logged_in, user, user)
    link = logged_in / "runc"
    link.symlink_to(hidden)
    try:
        with cgroups_removed({identity}), Oci(tmp_path / "runc", "runc", "--root", str(hidden)) as runc:
            runc.run(identity, unpacked(rootfs, tmp_path / "rootfs"), cgroup=f"/runc-{identity}.scope")
            (ours,) = (one for one in ask("list")["containers"] if one["id"] == identity)
            os.lchown(link, user, user)
            whole = ask("list")
            (its,) = (one for one in whole["containers"] if one["id"] == identity)
    finally:
        link.unlink()
        logged_in.rmdir()

    assert ours["declared"]["source"] == f"{link}/{identity}/state.json"
    assert its["declared"] is None
    assert {key: its[key] for key in ("pids", "limits", "init")} == {
        key: ours[key] for key in ("pids", "limits", "init")
    }
    assert [issue["detail"] for issue in whole["issues"] if str(link) in issue["path"]] == [
        f"behind a link of uid {user} that leads to what is uid 0's"
    ]


# -- names ---------------------------------------------------------------------------------------------------------


EVIL = "\x1b]0;owned\x07[/red]\u202eevil\u009b31m\r\n"
LONG = "n" * 240


def test_names_that_docker_allows_harm_neither_terminal_nor_json(docker: Docker, run: Run, ask: Ask):
    """Labels, host name, a very long name, the longest tag and a process's own name: shown, safe and still findable."""
    docker("tag", "bb", f"registry.example:5000/{'i' * 60}/{'j' * 60}:{'t' * 128}")
    image = f"registry.example:5000/{'i' * 60}/{'j' * 60}:{'t' * 128}"
    flags = ["--label", f"evil={EVIL}", "--label", f"{EVIL.strip()}=key", "--label", "plain=größe ✓", "--net", "none"]
    flags += ["--label", '__proto__={"a": "b"}', "--hostname", "-rf.$(x)`y`%s{}"]
    script = "printf '\\033[2J\\n) S 1 (' > /proc/self/comm; while true; do sleep 1; done"
    try:
        docker("run", "-d", "--name", LONG, *flags, image, "sh", "-c", script)
        theirs = docker.inspect(LONG)
        pid = theirs["State"]["Pid"]
        until(lambda: Path(f"/proc/{pid}/comm").read_bytes() != b"sh\n", "a new name")
        found = ask("show", LONG)["container"]
        answers = [
            run("list"),
            run("show", LONG),
            run("list", "--json"),
            run("show", LONG, "--json"),
            run("pid", str(pid)),
        ]
    finally:
        docker("rm", "-f", LONG)
        docker("rmi", image)
    output = b"".join(answer.stdout + answer.stderr for answer in answers)

    assert {answer.returncode for answer in answers} == {0}
    assert theirs["Config"]["Labels"]["evil"] == EVIL
    assert not set(output) & set(range(32)) - {10}
    assert not set(output.decode("utf-8")) & {"\u202e", "\u009b", "\x7f"}
    assert (found["id"], found["name"], found["image"]) == (theirs["Id"], LONG, image)
    assert found["labels"]["plain"] == "größe ✓"
    assert found["labels"]["__proto__"] == '{"a": "b"}'
    assert len(found["labels"]) == len(theirs["Config"]["Labels"])
    assert all(text.isprintable() for pair in found["labels"].items() for text in pair)
    assert found["init"]["comm"].isprintable()
    assert found["init"]["pid"] == pid


# -- leaving no trace ----------------------------------------------------------------------------------------------


def state_of(cgroup: str, init: int, folder: Path) -> dict[str, Any]:
    """What a reader could disturb: members, threads, times of every cgroup directory and of every state file."""
    found: dict[str, Any] = {}
    for directory in sorted(cgroup_directories(cgroup.lstrip("/"))):
        if directory.exists():
            status = directory.stat()
            found[str(directory)] = (status.st_mtime_ns, status.st_ctime_ns, status.st_nlink)
            found[f"{directory}/cgroup.procs"] = sorted((directory / "cgroup.procs").read_text().split())
    found["tasks"] = sorted(os.listdir(f"/proc/{init}/task"))
    found["children"] = in_namespace_of(init)
    found["descriptors"] = sorted(os.listdir(f"/proc/{init}/fd"))
    found["files"] = {
        str(path): (path.lstat().st_mtime_ns, path.lstat().st_ctime_ns, path.lstat().st_size)
        for path in sorted([folder, *folder.rglob("*")])
    }
    return found


def test_looking_leaves_no_trace(docker: Docker):
    """Before, during and after: the same processes, threads and descriptors inside, and nothing touched."""
    identity = docker.run("observed")
    init = docker.inspect("observed")["State"]["Pid"]
    folder = Path(docker("info", "-f", "{{.DockerRootDir}}")) / "containers" / identity
    try:
        before = state_of(f"/docker/{identity}", init, folder)
        during = []
        for arguments in (["list", "--json", "--all"], ["show", "observed"], ["pid", str(init)]):
            with subprocess.Popen(
                [sys.executable, "-m", "nsinspect", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd=CHECKOUT,
            ) as process:
                while process.poll() is None:
                    during.append(state_of(f"/docker/{identity}", init, folder))
                    if len(during) > 2000:
                        kill([process.pid])
            assert process.returncode == 0
        after = state_of(f"/docker/{identity}", init, folder)
    finally:
        docker("rm", "-f", "observed")

    assert before == after
    assert len(during) > 3
    assert all(state == before for state in during)
