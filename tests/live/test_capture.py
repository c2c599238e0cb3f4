"""A capture of a real host: it says what the host said, its differences are what was done, and no container can tell.

Docker on this machine; podman on a pure cgroup v2 kernel, from where a capture is carried to this one and back.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from nsinspect.cli import cli
from tests.live.docker import Docker
from tests.live.engines import hierarchies, members, until, until_settled
from tests.live.uml import V2, Uml
from tests.runner import runner

HERE = Path(__file__).parent
CHECKOUT = HERE.parents[1]
Run = Callable[..., subprocess.CompletedProcess[bytes]]
Document = dict[str, Any]
MIB = 1 << 20
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"}
NAMES = ("capture-web", "capture-idle", "capture-watcher")
SECRET = "correct-horse-battery-staple"
QUESTIONS = (("list",), ("ns",), ("drift",), ("net",), ("findings",), ("caps",))

# What a container sees of itself and of its cgroups, in a shell that starts nothing but stat: who is there, what its
# cgroups say of whom they hold and how much they may have, when anything in them or in /proc was touched.
WATCH = r"""
look() {
    set -- /proc/[0-9]*
    echo "processes $*"
    for file in /sys/fs/cgroup/*/cgroup.procs /sys/fs/cgroup/*/tasks /sys/fs/cgroup/*/*limit_in_bytes \
        /sys/fs/cgroup/*/pids.max /sys/fs/cgroup/*/cpu.shares /sys/fs/cgroup/*/cpu.cfs_quota_us \
        /sys/fs/cgroup/*/devices.list /sys/fs/cgroup/*/freezer.state /sys/fs/cgroup/*/cpuset.cpus \
        /sys/fs/cgroup/*/notify_on_release; do
        if [ -e $file ]; then echo "$file"; while read line; do echo "  $line"; done <$file; fi
    done
    busybox stat -c '%n %F %i %s %X %Y %Z' /sys/fs/cgroup /sys/fs/cgroup/* /sys/fs/cgroup/*/* /proc/1 \
        /proc/1/ns /proc/1/status /proc/1/cgroup /proc/1/mountinfo /proc/1/exe /proc/1/cwd
    for kind in cgroup ipc mnt net pid time user uts; do busybox readlink /proc/1/ns/$kind; done
}
number=0
while [ ! -e /out/stop ]; do
    look >/out/next 2>&1
    busybox mv /out/next /out/$number
    number=$((number + 1))
    busybox usleep 20000
done
sleep 3000
"""


class Host(NamedTuple):
    """Containers of ours on this machine."""

    docker: Docker
    ids: dict[str, str]
    pids: dict[str, int]
    out: Path


@pytest.fixture(scope="module")
def host(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """One with limits, one that does nothing, and one that watches itself."""
    out = tmp_path_factory.mktemp("out")
    limits = ("--memory", "64m", "--memory-swap", "128m", "--pids-limit", "40")
    started = {
        "capture-web": (("--user", "1000", *limits, "-e", f"PASSWORD={SECRET}"), ("sleep", "3000")),
        "capture-idle": (("--cpus", "0.5", *limits), ("sleep", "3000")),
        "capture-watcher": (("-v", f"{out}:/out"), ("sh", "-c", WATCH)),
    }
    ids, pids = {}, {}
    try:
        for name, (flags, command) in started.items():
            ids[name] = docker.run(name, *flags, command=command)
            pids[name] = int(docker.inspect(name)["State"]["Pid"])
        until_settled(pids.values())
        yield Host(docker, ids, pids, out)
    finally:
        names = [*NAMES, "capture-joined"]
        there = docker("ps", "-a", "--format", "{{.Names}}").split()
        docker("rm", "-f", *(name for name in names if name in there))


def taken(run: Run, output: Path, *arguments: str) -> Path:
    """A capture of this machine."""
    done = run("capture", "-o", str(output), *arguments)
    assert done.returncode == 0, done.stderr
    return output


def asked(run: Run, *arguments: str) -> Document:
    """A document, whether or not something was found."""
    done = run(*arguments, "--json")
    assert done.returncode in (0, 1), done.stderr
    found: Document = json.loads(done.stdout)
    return found


def differences(run: Run, before: str, after: str, ids: dict[str, str]) -> set[tuple[str, str, str]]:
    """What ``diff`` says of our containers and of the host; others may start and stop theirs."""
    done = run("diff", before, after, "--json")
    document = json.loads(done.stdout)
    schema = json.loads((CHECKOUT / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(document)
    assert done.returncode == (1 if document["changes"] else 0), done.stderr
    names = {identity: name for name, identity in ids.items()} | {None: "host"}
    changes = [one for one in document["changes"] if one["container"] in names]
    return {(names[one["container"]], one["kind"], one["field"]) for one in changes}


# -- what it says ------------------------------------------------------------------------------------------------------


def ours(document: Document, ids: dict[str, str], pids: dict[str, int]) -> Document:
    """A document without what others do meanwhile."""
    mine = set(ids.values())

    def about_us(row: Document) -> bool:
        if "id" in row:
            return row["id"] in mine
        named = row["containers"] if "containers" in row else [row["container"]]
        if "nprocs" in row or "interfaces" in row:  # the host's namespaces change with everybody
            return not row["host"] and bool(mine & set(named))
        return bool(mine & set(named))

    found = {key: value for key, value in document.items() if key not in ("captured_at", "issues")}
    for key, value in found.items():
        if isinstance(value, list):
            found[key] = [row for row in value if about_us(row)]
            assert found[key] or key == "findings"
    # Only what was found of our own processes; a capture looks at more of them.
    issues = [one for one in document["issues"] if not one["pids"] or set(one["pids"]) & set(pids.values())]
    return {**found, "issues": issues}


def not_the_same(before: Any, captured: Any, after: Any, path: str = "") -> Iterator[str]:
    """Where a capture says otherwise than the host did both before and after."""
    if before == after:
        if captured != before:
            if isinstance(before, dict) and isinstance(captured, dict) and before.keys() == captured.keys():
                for key in before:
                    yield from not_the_same(before[key], captured[key], after[key], f"{path}.{key}")
            else:
                yield f"{path}: {before!r}, captured {captured!r}"
    elif isinstance(before, dict) and before.keys() == captured.keys() == after.keys():
        for key in before:
            yield from not_the_same(before[key], captured[key], after[key], f"{path}.{key}")
    elif isinstance(before, list) and len(before) == len(captured) == len(after):
        for number, rows in enumerate(zip(before, captured, after, strict=True)):
            yield from not_the_same(*rows, f"{path}[{number}]")
    elif not path.startswith((".containers", ".container", ".networks", ".network")) or ".usage" not in path:
        yield f"{path}: {before!r}, captured {captured!r}, then {after!r}"


def test_documents_of_a_capture_are_those_of_the_moment(host: Host, run: Run, tmp_path: Path):
    """Each question, and each container, in both forms; what changed between two looks may be either."""
    questions = [*QUESTIONS, *(("show", identity) for identity in quiet(host).values())]
    found: list[str] = []
    for attempt in range(3):
        before = {question: said_of("/", *question) for question in questions}
        paths = [taken(run, tmp_path / f"{attempt}{ending}") for ending in ("", ".tar.zst")]
        after = {question: said_of("/", *question) for question in questions}
        found = []
        for question in questions:
            for path in paths:
                documents = [before[question], said_of(path, *question), after[question]]
                if question[0] != "show":
                    documents = [ours(one, quiet(host), host.pids) for one in documents]
                first, captured, last = ({**one, "captured_at": None} for one in documents)
                found += [f"{question[0]} {where}" for where in not_the_same(first, captured, last)]
        if not found:
            break
    assert found == []


def said_of(root: Path | str, *question: str) -> Document:
    """A document, asked in this process because there are fifty."""
    answer = runner().invoke(cli, ["--root", str(root), *question, "--json"], prog_name="nsinspect")
    assert answer.exit_code in (0, 1), answer.output
    found: Document = json.loads(answer.stdout)
    return found


def watcher(host: Host) -> str:
    """The container that does something."""
    return host.ids["capture-watcher"]


def quiet(host: Host) -> dict[str, str]:
    """Those that do not."""
    return {name: identity for name, identity in host.ids.items() if identity != watcher(host)}


def test_nothing_done_is_no_difference(host: Host, run: Run, tmp_path: Path):
    """Exit 0, between two captures and between one and now, of our containers; what is everybody's is not ours."""
    first, second = (taken(run, tmp_path / name, *quiet(host)) for name in ("a", "b.tar.zst"))
    done = run("diff", str(first), str(second))
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith(b"0 differences in ")
    whole = taken(run, tmp_path / "whole")
    assert differences(run, str(whole), "live", host.ids) == set()
    assert differences(run, str(whole), str(whole), host.ids) == set()


def test_a_capture_is_whole_and_holds_no_secret(host: Host, run: Run, tmp_path: Path):
    """sha256sum and verify agree; an environment is in it only on request, a command line too."""
    path = taken(run, tmp_path / "c")
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=path, check=True, timeout=60)
    assert run("verify", str(path)).returncode == 0
    grep = ["grep", "-rqF", SECRET, str(path)]
    assert subprocess.run(grep, check=False, timeout=60).returncode == 1
    pid = host.pids["capture-web"]
    assert not (path / f"proc/{pid}/environ").exists()
    assert not (path / f"proc/{pid}/cmdline").exists()
    with_all = taken(run, tmp_path / "all", "--environ", "--cmdline", "--executables", "--state-files", "capture-web")
    assert f"PASSWORD={SECRET}\0" in (with_all / f"proc/{pid}/environ").read_text()
    assert (with_all / f"proc/{pid}/cmdline").read_bytes() == b"sleep\x003000\0"
    assert len((with_all / f"proc/{pid}/executable").read_text().split()[0]) == 64
    assert SECRET in next(with_all.rglob("config.v2.json")).read_text()
    assert run("verify", str(with_all)).returncode == 0
    for other in ("capture-idle", "capture-watcher"):
        assert not (with_all / f"proc/{host.pids[other]}").exists()


# -- what was done -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def done(host: Host, run: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A capture, then a limit, a root's process, and company in a network, then another capture."""
    folder = tmp_path_factory.mktemp("done")
    before = taken(run, folder / "before")
    host.docker("update", "--memory", "128m", "--memory-swap", "192m", "capture-web")
    old = members(f"/docker/{host.ids['capture-web']}")
    host.docker("exec", "-d", "-u", "0", "capture-web", "sleep", "3001")
    (newcomer,) = until(lambda: set(members(f"/docker/{host.ids['capture-web']}")) - set(old), "exec")
    joined = host.docker.run("capture-joined", "--net", "container:capture-web")
    until_settled([newcomer, int(host.docker.inspect("capture-joined")["State"]["Pid"])])
    after = taken(run, folder / "after.tar.zst")
    return before, after, {**host.ids, "capture-joined": joined}


EXACTLY = {
    ("capture-web", "limit_changed", "limits.memory.effective.max_bytes"),
    ("capture-web", "process_stood_out", "findings.root"),
    ("capture-web", "namespace_joined", "namespaces.net"),
    ("capture-joined", "container_started", "init.started_at"),
}


def test_what_was_done_is_what_is_different_and_nothing_more(
    done: tuple[Path, Path, dict[str, str]], run: Run, host: Host
):
    """Between two captures, and between one and now; the other way round, that it was undone."""
    before, after, ids = done
    assert differences(run, str(before), str(after), ids) == EXACTLY
    assert differences(run, str(before), "live", ids) == EXACTLY
    assert differences(run, str(after), "live", ids) == set()
    text = run("diff", str(before), str(after)).stdout.decode()
    assert "capture-web  memory limit rose from 64 MiB to 128 MiB\n" in text
    assert "capture-web  shares its net namespace with capture-joined\n" in text
    assert {kind for _, kind, _ in differences(run, str(after), str(before), ids)} == {
        *("limit_changed", "process_no_longer_stands_out", "namespace_left", "container_stopped"),
    }


# -- nobody can tell ---------------------------------------------------------------------------------------------------


def test_the_container_cannot_tell(host: Host, run: Run, tmp_path: Path):
    """What it sees of itself before, during and after is the same, to the nanosecond of an access time."""

    def seen() -> int:
        return len([name for name in os.listdir(host.out) if name.isdigit()])

    until(lambda: seen() > 3, "the watcher's first looks")
    before = seen()
    for number in range(3):
        taken(run, tmp_path / str(number), "--cmdline", "--environ", "--executables")
    during = seen()
    until(lambda: seen() > during + 3, "the watcher's last looks")
    (host.out / "stop").touch()
    assert during > before + 3
    looks = {(host.out / str(number)).read_text() for number in range(seen())}
    (look,) = looks
    assert "memory.limit_in_bytes\n" in look
    assert "net:[" in look
    assert look.count("\n") > 200


def test_no_process_comes_into_a_container(host: Host, run: Run, tmp_path: Path):
    """Asked of its cgroups as fast as can be, in every hierarchy."""
    identity = host.ids["capture-idle"]
    files = [path / "docker" / identity / "cgroup.procs" for path in hierarchies()]
    files = [path for path in files if path.exists()]
    assert len(files) > 3
    found: set[str] = set()
    counts = [0]
    over = threading.Event()

    def poll() -> None:
        while not over.is_set():
            for path in files:
                found.update(path.read_text().split())
            counts[0] += 1

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        taken(run, tmp_path / "c", "--cmdline", "--environ", "--executables")
    finally:
        over.set()
        thread.join()
    assert counts[0] > 100
    assert found == {str(host.pids["capture-idle"])}


CALLS = "setns,ptrace,unshare,kill,tkill,tgkill,pidfd_open,pidfd_send_signal,execve,openat,openat2,open,creat,"
CALLS += "mkdir,mkdirat,mknod,mknodat,symlink,symlinkat,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,"
CALLS += "truncate,chmod,fchmodat,chown,fchownat,utimensat,mount,umount2,setxattr,process_vm_readv,process_vm_writev"


def test_nothing_but_files_is_read_and_nothing_but_the_output_is_written(host: Host, tmp_path: Path):
    """By strace: a namespace is entered by one child alone, which starts nothing; nobody is traced or signalled."""
    output, log = tmp_path / "c", tmp_path / "strace"
    command = ["strace", "-f", "-y", "--seccomp-bpf", "-e", f"trace={CALLS}", "-o", str(log)]
    command += [sys.executable, "-m", "nsinspect", "capture", "-o", str(output), "--cmdline", "--environ"]
    subprocess.run(
        command, check=True, capture_output=True, timeout=120, cwd=CHECKOUT, env=ENVIRONMENT, stdin=subprocess.DEVNULL
    )
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if "(" in line and " resumed>" not in line]
    calls = [(pid, call) for pid, _, call in (line.partition(" ") for line in lines)]
    programs: dict[str, list[str]] = {}
    entered, written, others = set(), [], []
    for pid, call in calls:
        call = call.lstrip()
        name = call.partition("(")[0]
        if name == "execve" and call.endswith("= 0"):
            programs.setdefault(pid, []).append(call)
        elif name == "setns":
            entered.add(pid)
        elif name in ("openat", "open", "openat2"):
            if re.search(r"O_(WRONLY|RDWR|CREAT|TRUNC)", call) and "/dev/null" not in call:
                written.append(call)
        elif name in ("mkdir", "mkdirat", "symlink", "symlinkat", "creat"):
            written.append(call)
        else:
            others.append((pid, call))
    assert len(written) > 500
    assert [call for call in written if str(output) not in call] == []
    assert len(entered) == 1
    (child,) = entered
    assert [one for one in programs[child] if "nsinspect.netns" in one]
    assert {one for chosen in programs.values() for one in chosen if "nsinspect" not in one} == set()
    # Its own children, when they are done with.
    ended = re.compile(rf"kill\(({'|'.join(programs)}), SIGKILL( <unfinished|\))")
    assert [call for _, call in others if not ended.match(call)] == []


# -- another kernel ----------------------------------------------------------------------------------------------------

SCRIPT = """
set -e
podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
ask() {{ {python} -m nsinspect "$@"; }}
answer() {{ printf ', "%s": ' "$1"; shift; ask "$@" --json || test $? = 1; }}
podman import -q {rootfs} bb >&2
podman run -d --name web --network none --memory 64m --memory-swap 128m --pids-limit 40 bb sleep 1000 >&2
podman run -d --name idle --network none --cpus 0.5 --cap-add NET_ADMIN --read-only bb sleep 1000 >&2
sleep 1.2
cd {checkout}
printf '{{"cgroups": "v2"'
for question in list ns "show web" "show idle"; do answer "before $question" $question; done
ask capture -o {out}/v2 >&2
ask capture -o {out}/v2.tar.zst >&2
for question in list ns "show web" "show idle"; do answer "after $question" $question; done
printf ', "nothing": '; ask diff {out}/v2 {out}/v2.tar.zst --json >{out}/nothing && echo 0 || echo $?
for question in list ns "show web"; do answer "read $question" --root {out}/v2 $question; done
for question in list ns "show {foreign}"; do answer "foreign $question" --root {capture} $question; done
id=$(podman inspect web --format '{{{{.Id}}}}')
echo max >/sys/fs/cgroup/libpod_parent/libpod-$id/memory.max
podman exec -d --privileged web sleep 998 >&2
podman run -d --name joined --network container:web bb sleep 1000 >&2
sleep 1.2
ask capture -o {out}/after >&2
answer "live" diff {out}/v2 live
answer "captures" diff {out}/v2.tar.zst {out}/after
printf ', "exits": '; ask diff {out}/v2 live >{out}/text && echo 0 || echo $?
printf ', "names": '; podman inspect $(podman ps -q)
printf '}}'
"""


class Guest(NamedTuple):
    """What was said on the other kernel, what was captured there, and what was read here of what was taken there."""

    said: dict[str, Any]
    folder: Path
    local: Path


@pytest.fixture(scope="module")
def guest(host: Host, run: Run, rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guest]:
    """One boot; this machine's own capture is read there."""
    folder = tmp_path_factory.mktemp("guest")
    local = taken(run, folder / "local")
    words = {
        "python": shlex.quote(sys.executable),
        "checkout": shlex.quote(str(CHECKOUT)),
        "rootfs": rootfs,
        "out": folder,
        "capture": local,
        "foreign": "capture-idle",
    }
    said = json.loads(Uml(cgroups=V2).run(SCRIPT.format(**words), timeout=180))
    yield Guest(said, folder, local)
    shutil.rmtree(folder)


def test_a_capture_of_a_v2_kernel_reads_here_as_it_did_there(guest: Guest, run: Run):
    """To the byte, and in both forms."""
    for question in ("list", "ns", "show web"):
        there = guest.said[f"read {question}"]
        for name in ("v2", "v2.tar.zst"):
            here = asked(run, "--root", str(guest.folder / name), *question.split())
            if name == "v2":
                assert here == there
    assert asked(run, "--root", str(guest.folder / "v2"), "list")["host"]["cgroup"] == "v2"


def test_a_capture_of_this_machine_reads_there_as_it_does_here(guest: Guest, run: Run):
    """The one of v1 hierarchies on a kernel that has none."""
    for question in ("list", "ns", "show capture-idle"):
        assert guest.said[f"foreign {question}"] == asked(run, "--root", str(guest.local), *question.split())


@pytest.mark.parametrize("name", ["v2", "v2.tar.zst"])
@pytest.mark.parametrize("question", ["list", "ns", "show web", "show idle"])
def test_a_capture_says_here_what_was_said_live_there(guest: Guest, run: Run, name: str, question: str):
    """Of containers that did nothing meanwhile, everything but when."""
    captured = asked(run, "--root", str(guest.folder / name), *question.split())
    documents = [guest.said[f"before {question}"], captured, guest.said[f"after {question}"]]
    documents = [{key: value for key, value in one.items() if key != "captured_at"} for one in documents]
    # Who asks is another process each time, in the host's namespaces.
    if question == "ns":
        own = [[row for row in one["namespaces"] if not row["host"]] for one in documents]
        assert all(len(rows) > 8 for rows in own)
        documents = [{**one, "namespaces": rows} for one, rows in zip(documents, own, strict=True)]
    assert list(not_the_same(*documents)) == []


def test_a_capture_of_another_kernel_is_whole(guest: Guest, run: Run):
    for name in ("v2", "v2.tar.zst", "after"):
        done = run("verify", str(guest.folder / name))
        assert done.returncode == 0, done.stdout


def test_podman_what_was_done_is_what_is_different_and_nothing_more(guest: Guest):
    """As the issue has it: a limit, exec --privileged, and a member of a network namespace."""
    names = {one["Id"]: one["Name"] for one in guest.said["names"]}
    assert guest.said["nothing"] == 0
    assert json.loads((guest.folder / "nothing").read_text())["changes"] == []
    assert guest.said["exits"] == 1
    exactly = {
        ("web", "limit_changed", "limits.memory.effective.max_bytes"),
        ("web", "capability_gained", "findings.more_power"),
        ("web", "namespace_joined", "namespaces.net"),
        ("joined", "container_started", "init.started_at"),
    }
    for document in (guest.said["live"], guest.said["captures"]):
        assert {(names[one["container"]], one["kind"], one["field"]) for one in document["changes"]} == exactly
        assert len(document["changes"]) == len(exactly)
    text = (guest.folder / "text").read_text()
    assert "web  memory limit rose from 64 MiB to NO LIMIT\n" in text
    assert re.search(r"^web  gained .* through process \d+ sleep\b.*\n.* CAP_SYS_ADMIN ", text, re.MULTILINE)
    assert "web  shares its net namespace with joined\n" in text
    assert re.search(r"^joined  appeared: podman container of image localhost/bb:latest, init \d+ sleep$", text, re.M)


def test_the_guests_captures_hold_what_a_look_there_needed(guest: Guest):
    """Without the snapshot they are hosts too."""
    copy = guest.folder / "without"
    shutil.copytree(guest.folder / "v2", copy, symlinks=True)
    (copy / "snapshot.json").unlink()
    done = subprocess.run(
        [sys.executable, "-m", "nsinspect", "--root", str(copy), "list", "--json"],
        check=True,
        capture_output=True,
        timeout=60,
        env=ENVIRONMENT,
        cwd=CHECKOUT,
    )
    found = {one["id"]: one["limits"] for one in json.loads(done.stdout)["containers"]}
    assert found == {one["id"]: one["limits"] for one in guest.said["before list"]["containers"]}
