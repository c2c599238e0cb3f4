"""Who stands out in a container is found, once and with what shows it; who does what engines do every day is not.

Inodes, masks and programs in the evidence are held against the files it names, pids against what was started.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jsonschema
import pytest

from tests.live.docker import Docker
from tests.live.engines import (
    descendants,
    hierarchies,
    kill,
    make_bundle,
    members,
    output_of,
    unpacked,
    until,
    until_settled,
)
from tests.live.uml import Uml

HERE = Path(__file__).parent
Run = Callable[..., subprocess.CompletedProcess[bytes]]
Finding = dict[str, Any]

TYPES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
OURS = "findings-"
BOXED, OUTSIDE, LENGTH = "findings-boxed", 700_000, 5000
"""runc's container with every namespace of its own, and its user namespace's uids outside."""
SLEEP = ("sleep", "3000")
THREADS = ("drops", "raises", "same", "new-mnt", "new-net", "host-mnt", "host-net")
PROGRAM = "/strange"
HEALTH = "--health-interval 1s --health-timeout 60s --health-cmd"

# Flags, and what runs; what stands out in them, and what does not.
LOUD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "threads": (
        ("--pid", "host", "--cap-add", "SYS_ADMIN", "--cap-add", "SYS_PTRACE", "--security-opt", "seccomp=unconfined"),
        (PROGRAM, "threads", *THREADS),
    ),
    "nested": (("--security-opt", "seccomp=unconfined"), SLEEP),
    "odd": ((), SLEEP),
    "invaded": ((), SLEEP),
    "broken-into": ((), SLEEP),
    "user": (("--user", "1000"), SLEEP),
}
QUIET: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "exec": ((), SLEEP),
    "health": ((*HEALTH.split(), "sleep 59"), SLEEP),
    "init": (("--init",), ("sh", "-c", "sleep 3001 & sleep 3000")),
    "pid-host": (("--pid", "host"), SLEEP),
    "net-host": (("--net", "host"), SLEEP),
    "sidecar": (("--net", f"container:{OURS}exec"), SLEEP),
    "user-exec": (("--user", "1000"), SLEEP),
}
# What ``docker exec -d`` starts in them, by a name for it.
EXEC: dict[str, dict[str, tuple[str, ...]]] = {
    "threads": {
        "apart": ("busybox", "unshare", "-m", *SLEEP),
        "escaped": ("busybox", "nsenter", "-t", str(os.getpid()), "-m", "-n", "-u", "/bin/sleep", "3000"),
    },
    "nested": {"unshare": ("busybox", "unshare", "-Ur", "sleep", "3000")},
    "odd": {
        "keeps": (PROGRAM, "threads", "keeps"),
        "memfd": (PROGRAM, "memfd"),
        "deleted": ("sh", "-c", f"busybox cp {PROGRAM} /gone && exec /gone vanish"),
        "kworker": (PROGRAM, "named", "kworker/0:1"),
        "kthreadd": (PROGRAM, "named", "[kthreadd]"),
    },
    "user": {"root": ("-u", "0", *SLEEP), "same": SLEEP},
    "exec": {"detached": SLEEP, "other user": ("-u", "1000", *SLEEP)},
    "pid-host": {"detached": SLEEP},
    "net-host": {"detached": SLEEP},
    "sidecar": {"detached": SLEEP},
    "init": {"detached": SLEEP},
    "user-exec": {"detached": SLEEP},
}
ENTER = {
    "cgroup": ("-C",),
    "ipc": ("-i",),
    "mnt": ("-m",),
    "net": ("-n",),
    "pid": ("-p",),
    "time": ("-T",),
    "user": ("-U",),
    "uts": ("-u",),
    "all": ("-a",),
}
"""What nsenter is told, by what it enters."""


class Host(NamedTuple):
    """Everything that was started, and what nsinspect found in it."""

    ids: dict[str, str]
    inits: dict[str, int]
    pids: dict[str, int]
    """Of what was started in containers, by container and name; of who entered from outside, by what; of others."""
    document: dict[str, Any]

    def found(self, name: str) -> list[Finding]:
        """What stands out in one of our containers."""
        return [one for one in self.document["findings"] if one["container"] == self.ids[name]]

    def only(self, name: str, kind: str, tid: int) -> Finding:
        """The only finding of a kind about a process or thread."""
        (one,) = (one for one in self.found(name) if (one["kind"], one["tid"]) == (kind, tid))
        return one


# -- what was started ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def strange(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program that stands out."""
    program = tmp_path_factory.mktemp("strange") / "strange"
    output_of("gcc", "-static", "-O2", "-o", str(program), str(HERE / "strange.c"))
    return program


@pytest.fixture(scope="module")
def host(docker: Docker, rootfs: Path, strange: Path, run: Run) -> Iterator[Host]:
    """Everything at once, and one question about it."""
    ids: dict[str, str] = {}
    inits: dict[str, int] = {}
    pids: dict[str, int] = {}
    with ExitStack() as stack:
        stack.callback(remove_ours, docker)
        start_containers(docker, strange, ids)
        inits |= {name: int(docker.inspect(OURS + name)["State"]["Pid"]) for name in ids}
        pids |= start_in_containers(docker, ids)
        # An exec that somebody waits for.
        environment = {**os.environ, "DOCKER_HOST": docker.socket}
        client = subprocess.Popen(["docker", "exec", f"{OURS}exec", *SLEEP], env=environment)
        stack.callback(ended, client)
        ids["boxed"], inits["boxed"] = BOXED, stack.enter_context(boxed(rootfs, strange))
        for name, flags in ENTER.items():
            process = subprocess.Popen(["nsenter", "-t", str(inits["boxed"]), *flags, "/bin/sleep", "3000"])
            stack.callback(ended, process)
            pids[name] = process.pid
        moved = subprocess.Popen(["sleep", "3000"])
        stack.callback(ended, moved)
        pids["moved"] = move(moved.pid, ids["invaded"])
        burglar = subprocess.Popen(["nsenter", "-t", str(inits["broken-into"]), "-a", "/bin/sleep", "3000"])
        stack.callback(ended, burglar)
        pids["burglar"] = burglar.pid
        child = until(partial(child_of, burglar.pid), "the burglar's child")
        pids["burglar's child"] = move(child, ids["broken-into"])
        wait_for_everybody(ids, inits, pids)
        answer = run("findings", "--json")
        assert answer.returncode == 1, answer.stderr
        yield Host(ids, inits, pids, json.loads(answer.stdout))


def start_containers(docker: Docker, strange: Path, ids: dict[str, str]) -> None:
    """All of them; the one that another joins before the others."""

    def start(name: str) -> str:
        flags, command = (LOUD | QUIET)[name]
        given = ("-v", f"{strange}:{PROGRAM}:ro", "-e", f"HOST={os.getpid()}")
        return docker.run(OURS + name, *given, *flags, command=command)

    ids["exec"] = start("exec")
    others = [name for name in (*LOUD, *QUIET) if name not in ids]
    with ThreadPoolExecutor(4) as pool:
        ids |= zip(others, pool.map(start, others), strict=True)


def start_in_containers(docker: Docker, ids: dict[str, str]) -> dict[str, int]:
    """By ``docker exec``; the pid of each, which is the one that the container did not have before."""
    found: dict[str, int] = {}

    def start_in(name: str) -> None:
        for what, words in EXEC[name].items():
            flags, command = (words[:2], words[2:]) if words[0] == "-u" else ((), words)
            before = members(f"/docker/{ids[name]}")
            docker("exec", "-d", *flags, OURS + name, *command)
            (found[f"{name}/{what}"],) = until(partial(newcomers, ids[name], before), f"{what} in {name}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start_in, EXEC))
    return found


def newcomers(identity: str, before: list[int]) -> list[int]:
    """The one process that a container has and had not, when there is one."""
    new = [pid for pid in members(f"/docker/{identity}") if pid not in before]
    return new if len(new) == 1 else []


@contextmanager
def boxed(rootfs: Path, strange: Path) -> Iterator[int]:
    """A container of runc with all namespaces of its own; the pid of its init, which made the one for time itself."""
    with tempfile.TemporaryDirectory(prefix="nsinspect-findings-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # who is root inside has to reach into it
        root = unpacked(rootfs, folder / "rootfs")
        shutil.copy2(strange, root / "strange")
        output_of("chown", "-R", f"{OUTSIDE}:{OUTSIDE}", str(root))
        bundle = make_bundle(folder / "bundle", root, command=(PROGRAM, "clock", "/bin/sleep", "3000"))
        spec: dict[str, Any] = json.loads((bundle / "config.json").read_text())
        spec["mounts"] = [one for one in spec["mounts"] if one["destination"] == "/proc"]
        for powers in spec["process"]["capabilities"].values():
            powers.append("CAP_SYS_ADMIN")
        kinds = {one["type"] for one in spec["linux"]["namespaces"]}
        spec["linux"]["namespaces"] += [{"type": kind} for kind in ("cgroup", "user") if kind not in kinds]
        ids = [{"containerID": 0, "hostID": OUTSIDE, "size": LENGTH}]
        spec["linux"] |= {"uidMappings": ids, "gidMappings": ids}
        (bundle / "config.json").write_text(json.dumps(spec))
        try:
            output_of("runc", "run", "-d", "--bundle", str(bundle), BOXED, log=folder / "log")
            yield int(json.loads(output_of("runc", "state", BOXED))["pid"])
        finally:
            output_of("runc", "delete", "-f", BOXED, check=False)


def ended(process: subprocess.Popen[bytes]) -> None:
    """It and all below it."""
    kill(descendants(process.pid))
    process.wait(30)


def remove_ours(docker: Docker) -> None:
    """No container of this module outlives it."""
    mine = docker("ps", "-aq", "--filter", f"name=^/{OURS}").split()
    if mine:
        docker("rm", "-f", *mine)


def child_of(pid: int) -> int | None:
    """The only child of a process, once it has one."""
    _, *children = descendants(pid)
    return children[0] if len(children) == 1 else None


def move(pid: int, identity: str) -> int:
    """Put a process into a container's cgroup in every hierarchy where it has one; its pid."""
    folders = [folder for one in hierarchies() if (folder := one / "docker" / identity).is_dir()]
    assert folders
    for folder in folders:
        (folder / "cgroup.procs").write_text(str(pid))
    return pid


def wait_for_everybody(ids: dict[str, str], inits: dict[str, int], pids: dict[str, int]) -> None:
    """Until all have done what they do and are old enough to be judged."""
    until(lambda: set(THREADS) <= set(threads_of(inits["threads"])), "threads")
    until(lambda: "keeps" in threads_of(pids["odd/keeps"]), "a thread of another process")
    until(lambda: len(members(f"/docker/{ids['health']}")) == 2, "a health check")
    until(lambda: len(members(f"/docker/{ids['exec']}")) == 4, "an exec in the foreground")
    for name in ("pid", "all"):
        until(partial(child_of, pids[name]), "the child of nsenter")
    everybody = {pid for name, one in ids.items() if name != "boxed" for pid in members(f"/docker/{one}")}
    everybody |= set(descendants(*inits.values(), *pids.values()))
    until_settled(everybody)


def threads_of(pid: int) -> dict[str, int]:
    """Tids by name."""
    folder = Path(f"/proc/{pid}/task")
    return {(folder / tid / "comm").read_text().strip(): int(tid) for tid in os.listdir(folder)}


# -- what the evidence has to say ----------------------------------------------------------------------------------


def links(finding: Finding) -> dict[str, str]:
    """The namespace links in the evidence, by type; each has to be what the kernel says it is."""
    found = {}
    for one in finding["evidence"]:
        if "/ns/" in one["says"]:
            kind = one["says"].rpartition("/")[2]
            assert kind not in found
            found[kind] = os.readlink(one["says"])
            assert found[kind] in one["what"], one
    return found


def namespaces(pid: int | str) -> dict[str, str]:
    """All of a process."""
    return {kind: os.readlink(f"/proc/{pid}/ns/{kind}") for kind in TYPES}


def says(finding: Finding, file: str) -> list[str]:
    """What the evidence has of a file."""
    return [one["what"] for one in finding["evidence"] if one["says"] == file]


def in_status(file: str, key: str) -> str:
    """A line of a status file, without its name."""
    (line,) = (line for line in Path(file).read_text().splitlines() if line.startswith(f"{key}:"))
    return line.split()[1]


def judged(finding: Finding) -> tuple[str, str | None]:
    """Severity and technique."""
    return finding["severity"], finding["technique"] and finding["technique"]["id"]


# -- who stands out ------------------------------------------------------------------------------------------------


def test_the_document_obeys_the_schema(host: Host):
    schema = json.loads((HERE.parents[1] / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(host.document)


def test_the_container_has_all_namespaces_of_its_own(host: Host):
    """Else nothing below would be about all of them."""
    assert not namespaces(host.inits["boxed"]).items() & namespaces("self").items()


@pytest.mark.parametrize("name", ENTER)
def test_who_enters_namespaces_from_outside_is_found_once(name: str, host: Host):
    """With nsenter's child where it has one: into a new pid namespace only that goes."""
    mine = descendants(host.pids[name])
    (finding,) = (one for one in host.found("boxed") if one["pid"] in mine)
    inits = namespaces(host.inits["boxed"])
    entered = inits if name == "all" else {name: inits[name]}
    pids = sorted(pid for pid in mine if namespaces(pid).items() & inits.items())

    assert (finding["kind"], *judged(finding)) == ("joined", "medium", "T1609")
    assert finding["pid"] == finding["tid"] == pids[0]
    assert finding["pids"] == pids
    assert links(finding) == entered
    cgroups = Path(f"/proc/{pids[0]}/cgroup").read_text().splitlines()
    (cgroup,) = says(finding, f"/proc/{pids[0]}/cgroup")
    assert cgroup in {line.split(":", 2)[2] for line in cgroups}


def test_nobody_else_is_found_in_it(host: Host):
    assert len(host.found("boxed")) == len(ENTER)


THREAD_POWERS = {
    "drops": ({"CapPrm", "CapEff"}, "CAP_CHOWN", "low", None),
    "raises": ({"CapEff"}, "CAP_NET_RAW", "low", None),
    "keeps": ({"CapPrm", "CapEff"}, "CAP_MKNOD", "high", "T1068"),
}
THREAD_PLACES = {
    "new-mnt": ("mnt", "medium", None),
    "new-net": ("net", "medium", None),
    "host-mnt": ("mnt", "critical", "T1611"),
    "host-net": ("net", "high", "T1611"),
}


def thread(host: Host, name: str) -> tuple[Finding, str]:
    """The finding about a thread, and where the thread is."""
    container, pid = ("odd", host.pids["odd/keeps"]) if name == "keeps" else ("threads", host.inits["threads"])
    tid = threads_of(pid)[name]
    finding = host.only(container, "thread", tid)
    assert (finding["pid"], finding["pids"], finding["comm"]) == (pid, [pid], name)
    return finding, f"/proc/{pid}/task/{tid}"


@pytest.mark.parametrize("name", THREAD_POWERS)
def test_a_thread_with_other_capabilities_than_its_process_is_found(name: str, host: Host):
    keys, capability, *verdict = THREAD_POWERS[name]
    finding, folder = thread(host, name)

    assert judged(finding) == tuple(verdict)
    assert {one["says"] for one in finding["evidence"]} == {f"{folder}/status"}
    told = {what.split()[0]: what for what in says(finding, f"{folder}/status")}
    assert told.keys() == keys
    for key, what in told.items():
        assert in_status(f"{folder}/status", key) in what
        assert in_status(f"/proc/{finding['pid']}/status", key) in what
        assert [word for word in what.replace(",", " ").split() if word.startswith("CAP_")] == [capability]


@pytest.mark.parametrize("name", THREAD_PLACES)
def test_a_thread_in_another_namespace_than_its_process_is_found(name: str, host: Host):
    kind, *verdict = THREAD_PLACES[name]
    finding, folder = thread(host, name)
    its = os.readlink(f"{folder}/ns/{kind}")

    assert judged(finding) == tuple(verdict)
    assert [one["says"] for one in finding["evidence"]] == [f"{folder}/ns/{kind}"]
    assert links(finding) == {kind: its}
    assert its != os.readlink(f"/proc/{finding['pid']}/ns/{kind}")
    assert (its == os.readlink(f"/proc/self/ns/{kind}")) == name.startswith("host")


def test_a_thread_like_its_process_is_not_found(host: Host):
    tids = threads_of(host.inits["threads"])

    found = [one["tid"] for one in host.found("threads") if one["kind"] == "thread"]

    assert sorted(found) == sorted(tids[name] for name in set(THREADS) - {"same"})


@pytest.mark.parametrize(
    ("name", "kind", "kinds", "severity", "technique"),
    [
        ("apart", "other_namespaces", {"mnt"}, "medium", None),
        ("escaped", "host_namespaces", {"mnt", "net", "uts"}, "critical", "T1611"),
    ],
)
def test_a_process_that_left_a_namespace_is_found(
    name: str, kind: str, kinds: set[str], severity: str, technique: str | None, host: Host
):
    """Into one of its own, or the host's."""
    pid = host.pids[f"threads/{name}"]
    (finding,) = (one for one in host.found("threads") if one["pid"] == pid)
    its, inits = namespaces(pid), namespaces(host.inits["threads"])

    assert (finding["kind"], *judged(finding)) == (kind, severity, technique)
    assert (finding["tid"], finding["pids"]) == (pid, [pid])
    assert links(finding) == {one: inode for one, inode in its.items() if inits[one] != inode}
    assert links(finding).keys() == kinds


def test_a_user_namespace_made_inside_is_found_and_is_no_more_power(host: Host):
    (finding,) = host.found("nested")
    pid = host.pids["nested/unshare"]

    assert (finding["kind"], *judged(finding)) == ("user_namespace", "medium", "T1068")
    assert (finding["pid"], finding["tid"], finding["pids"]) == (pid, pid, [pid])
    assert links(finding) == {"user": os.readlink(f"/proc/{pid}/ns/user")}
    assert links(finding)["user"] != os.readlink(f"/proc/{host.inits['nested']}/ns/user")


@pytest.mark.parametrize(
    ("name", "kind", "severity", "technique"),
    [("memfd", "memfd_executable", "high", "T1620"), ("deleted", "deleted_executable", "low", "T1070.004")],
)
def test_a_program_that_no_file_has_is_found(name: str, kind: str, severity: str, technique: str, host: Host):
    pid = host.pids[f"odd/{name}"]
    (finding,) = (one for one in host.found("odd") if one["pid"] == pid)
    program = os.readlink(f"/proc/{pid}/exe")

    assert program.startswith({"memfd": "/memfd:", "deleted": "/gone"}[name])
    assert (finding["kind"], *judged(finding)) == (kind, severity, technique)
    assert finding["evidence"] == [{"says": f"/proc/{pid}/exe", "what": program}]


@pytest.mark.parametrize(("name", "comm"), [("kworker", "kworker/0:1"), ("kthreadd", "[kthreadd]")])
def test_who_is_named_like_a_kernel_thread_is_found(name: str, comm: str, host: Host):
    pid = host.pids[f"odd/{name}"]
    (finding,) = (one for one in host.found("odd") if one["pid"] == pid)

    assert (finding["kind"], *judged(finding)) == ("kernel_thread_name", "medium", "T1036.005")
    assert finding["comm"] == comm == Path(f"/proc/{pid}/comm").read_text().strip()
    assert comm in says(finding, f"/proc/{pid}/stat")[0]
    assert says(finding, f"/proc/{pid}/exe") == [PROGRAM]


def test_nothing_else_is_found_among_odd_programs(host: Host):
    assert len(host.found("odd")) == len(EXEC["odd"])


def test_a_process_of_the_host_moved_into_a_containers_cgroup_is_found(host: Host):
    pid, init = host.pids["moved"], host.inits["invaded"]
    finding = host.only("invaded", "host_namespaces", pid)
    hosts, inits = namespaces("self"), namespaces(init)

    assert judged(finding) == ("critical", "T1611")
    assert finding["pids"] == [pid]
    assert links(finding) == {kind: inode for kind, inode in hosts.items() if inits[kind] != inode}


def test_that_it_can_do_more_is_found_too(host: Host):
    """And nothing else about it."""
    pid, init = host.pids["moved"], host.inits["invaded"]
    finding = host.only("invaded", "more_power", pid)
    powers, filtered = says(finding, f"/proc/{pid}/status")

    assert len(host.found("invaded")) == 2
    assert judged(finding) == ("high", "T1068")
    assert "CAP_SYS_ADMIN" in powers.split()
    assert "CAP_CHOWN" not in powers.split()
    assert filtered == f"Seccomp: disabled; init {init} has a filter"


def test_who_enters_namespaces_and_cgroup_without_an_engine_is_found(host: Host):
    """Its parent, which stays outside, has joined all but the pid namespace."""
    parent, child, init = host.pids["burglar"], host.pids["burglar's child"], host.inits["broken-into"]
    found = {(one["kind"], one["pid"]): one for one in host.found("broken-into")}
    inits, hosts = namespaces(init), namespaces("self")

    assert len(found) == len(host.found("broken-into"))
    assert found.keys() == {("joined", parent), ("entered", child), ("more_power", child)}
    entered = found["entered", child]
    assert (entered["pids"], *judged(entered)) == ([child], "medium", "T1609")
    assert f"parent {parent} nsenter" in says(entered, f"/proc/{child}/stat")[0]
    joined = {kind: inode for kind, inode in inits.items() if inode != hosts[kind] and kind != "pid"}
    assert links(found["joined", parent]) == joined


def test_root_beside_an_init_that_is_not_is_found(host: Host):
    (finding,) = host.found("user")
    pid = host.pids["user/root"]

    assert (finding["kind"], *judged(finding)) == ("root", "low", "T1609")
    assert (finding["pid"], finding["tid"], finding["pids"]) == (pid, pid, [pid])
    assert in_status(f"/proc/{pid}/status", "Uid") == "0"
    uid, more = says(finding, f"/proc/{pid}/status")
    assert "effective uid 0" in uid
    assert f"init {host.inits['user']} has 1000" in uid
    assert "CAP_CHOWN" in more


# -- who does not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", QUIET)
def test_what_engines_do_every_day_is_not_found(name: str, host: Host):
    assert host.found(name) == []


def test_of_such_a_container_it_says_so(host: Host, run: Run):
    """Exit 0, in words and in JSON; of one in which somebody stands out 1."""
    answers = {name: run("findings", OURS + name) for name in ("exec", "odd")}

    assert {name: answer.returncode for name, answer in answers.items()} == {"exec": 0, "odd": 1}
    assert b"0 findings" in answers["exec"].stdout
    assert f"{len(EXEC['odd'])} findings in 1 of".encode() in answers["odd"].stdout


def test_they_are_all_there(host: Host):
    """So that nobody is quiet for being gone."""
    sizes = {name: len(members(f"/docker/{host.ids[name]}")) for name in QUIET}

    assert sizes == {
        "exec": 4,
        "health": 2,
        "init": 4,
        **dict.fromkeys(("pid-host", "net-host", "sidecar"), 2),
        "user-exec": 2,
    }


# -- systemd in a container ----------------------------------------------------------------------------------------

UNITS = {
    "quiet.target": ("[Unit]", "Wants=private.service plain.service"),
    "private.service": (
        "[Service]",
        "PrivateTmp=yes",
        "PrivateNetwork=yes",
        "User=nobody",
        "ExecStart=/bin/sleep 3000",
    ),
    "plain.service": ("[Service]", "PrivateTmp=yes", "ExecStart=/bin/sleep 3001"),
}
# Its programs are this machine's, its units are ours alone.
SYSTEMD = """
set -e
podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
machine=/run/machine
mkdir -p $machine/{{usr,var,run,tmp,proc,sys,dev,root,etc/systemd/system}}
for folder in bin sbin lib lib64; do ln -s usr/$folder $machine/$folder; done
cp /etc/passwd /etc/group $machine/etc/
{units}
podman run -d --name machine --systemd=always --network none --cap-add SYS_ADMIN -v /usr:/usr:ro \\
    --rootfs $machine /sbin/init --unit=quiet.target --show-status=no >&2
for try in $(seq 100); do [ "$(pgrep -c -x sleep)" = 2 ] && break; sleep 0.1; done
podman exec -d machine sleep 3002 >&2
podman exec -d machine unshare -m sleep 3003 >&2
for try in $(seq 100); do apart=$(pgrep -x -f 'sleep 3003') && break; sleep 0.1; done
sleep 1.2
printf '{{"init": %s, "pids": [' $(podman inspect --format '{{{{.State.Pid}}}}' machine)
printf '%s], "apart": %s, "mounts": [' "$(pgrep -d, -x sleep)" $apart
for pid in $(pgrep -x sleep); do printf '"%s", ' $(readlink /proc/$pid/ns/mnt); done
printf '"%s"], "comm": "%s", "document": ' $(readlink /proc/1/ns/mnt) $(podman exec machine cat /proc/1/comm)
{python} -m nsinspect findings --json || test $? = 1
printf ', "list": '; {python} -m nsinspect list --json
printf '}}'
"""


def test_services_of_a_systemd_in_a_container_are_not_found():
    """Each of them has a cgroup and a mount namespace of its own, and one a network.

    An exec has neither, and is found when it makes itself one.
    """
    units = "\n".join(
        f"printf '%s\\n' {shlex.join(lines)} >$machine/etc/systemd/system/{name}" for name, lines in UNITS.items()
    )
    script = SYSTEMD.format(units=units, python=shlex.quote(sys.executable))
    answers: dict[str, Any] = json.loads(Uml().run(script, timeout=120))
    (container,) = answers["list"]["containers"]

    assert answers["comm"] == "systemd"
    assert set(container["pids"]) >= {answers["init"], *answers["pids"]}
    assert len(answers["pids"]) == 4
    # The host's, init's with the first exec, one for each service, one for the second exec.
    assert len(set(answers["mounts"])) == 5
    found = [(one["kind"], one["pid"], one["pids"]) for one in answers["document"]["findings"]]
    assert found == [("other_namespaces", answers["apart"], [answers["apart"]])]
