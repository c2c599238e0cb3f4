"""Uids inside and outside: of rootless and rootful podman, runc and crun, against the kernel, podman and subuid(5).

One boot of user-mode Linux starts them all, with a user and subordinate ids of its own in a copy of /etc.  Uids, gids
and where their ranges start all differ, so that none can pass for another.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.docker import Docker
from tests.live.uml import Uml

CHECKOUT = Path(__file__).parents[2]
Answers = dict[str, Any]
Ask = Callable[..., dict[str, Any]]
Lines = list[tuple[int, int, int]]

UID, GID = 1234, 1500
"""Alice's."""
SUBUID, SUBGID, COUNT = 200_000, 300_000, 65_536
"""Her subordinate ids."""
AUTO, AUTO_GID, AUTO_COUNT = 2_000_000, 3_000_000, 100_000
"""What podman may take for ``--userns=auto``."""
BUNDLE, BUNDLE_GID, LENGTH = 400_000, 500_000, 5000
USERS = {UID: "alice", AUTO: "tenant"}

PODMAN = {
    "plain": ("podman", "--security-opt seccomp=unconfined"),
    "auto": ("podman", "--userns=auto:size=2000"),
    "rootless": ("alice", "--cgroups=split"),
    "all-powerful": ("alice", "--cgroups=split --privileged"),
    "keep-id": ("alice", "--cgroups=split --userns=keep-id"),
}
# The runtime, and the first uid and gid inside; without root is allowed by crun alone.
BUNDLES = {"boxed": ("runc", 0, 0), "no-root": ("crun", 1000, 100)}
EVERY = (*PODMAN, *BUNDLES)

ROOTLESS: tuple[Lines, Lines] = [(0, UID, 1), (1, SUBUID, COUNT)], [(0, GID, 1), (1, SUBGID, COUNT)]
MAPS: dict[str, tuple[Lines, Lines]] = {
    "plain": ([(0, 0, 2**32 - 1)], [(0, 0, 2**32 - 1)]),
    "auto": ([(0, AUTO, 2000)], [(0, AUTO_GID, 2000)]),
    "rootless": ROOTLESS,
    "all-powerful": ROOTLESS,
    "keep-id": (
        [(0, SUBUID, UID), (UID, UID, 1), (UID + 1, SUBUID + UID, COUNT - UID)],
        [(0, SUBGID, GID), (GID, GID, 1), (GID + 1, SUBGID + GID, COUNT - GID)],
    ),
    "boxed": ([(0, BUNDLE, LENGTH)], [(0, BUNDLE_GID, LENGTH)]),
    "no-root": ([(1000, BUNDLE, LENGTH)], [(100, BUNDLE_GID, LENGTH)]),
}
"""By uid and by gid: what user_namespaces(7), subuid(5), podman-run(1) and the bundles say each must be."""
ROOT = {
    "plain": 0,
    "auto": AUTO,
    "rootless": UID,
    "all-powerful": UID,
    "keep-id": SUBUID,
    "boxed": BUNDLE,
    "no-root": None,
}
INIT = {**ROOT, "keep-id": UID, "no-root": BUNDLE}
EXEC = {"plain": 1000, "auto": AUTO + 1000, "rootless": SUBUID + 999, "keep-id": SUBUID + 1000}
"""Host uids of root inside, of init, and of ``podman exec -u 1000``."""

# In a user namespace of its own a process has every capability.
COMMAND = ("sh", "-c", "busybox unshare -Ur sleep 1002 & exec sleep 1000")
USER, PRIVILEGED, NESTED = (["sleep", seconds] for seconds in ("1001", "1003", "1002"))

SCRIPT = """
set -e
cp -a /etc /run/etc; mount --bind /run/etc /etc
# Of the users inside none has a name here that podman top might give.
sed -i '/:{uid}:/d; /:1000:/d' /etc/passwd; sed -i '/:{gid}:/d' /etc/group
echo alice:x:{uid}:{gid}::/run/alice:/bin/sh >>/etc/passwd; echo alice:x:{gid}: >>/etc/group
echo tenant:x:{auto}:{auto}::/:/bin/false >>/etc/passwd
printf 'alice:%s:%s\\ncontainers:%s:%s\\n' {subuid} {count} {auto} {auto_count} >/etc/subuid
printf 'alice:%s:%s\\ncontainers:%s:%s\\n' {subgid} {count} {auto_gid} {auto_count} >/etc/subgid
chmod 755 /run
mkdir -p /run/user
install -d -m 700 -o {uid} -g {gid} /run/alice /run/user/{uid}
cp {rootfs} /run/rootfs.tar

podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
# As in a unit of hers: a cgroup is delegated to her, and --cgroups=split makes the container's inside it.
mkdir /sys/fs/cgroup/alice
echo "+memory +pids" >/sys/fs/cgroup/alice/cgroup.subtree_control
chown -R {uid}:{gid} /sys/fs/cgroup/alice
alice() {{ (
    unit=/sys/fs/cgroup/alice/$BASHPID
    mkdir $unit; chown -R {uid}:{gid} $unit; echo $BASHPID >$unit/cgroup.procs
    cd /run/alice
    exec setpriv --reuid {uid} --regid {gid} --init-groups env HOME=/run/alice XDG_RUNTIME_DIR=/run/user/{uid} \\
        podman --cgroup-manager cgroupfs --storage-driver vfs "$@"
) }}
for engine in podman alice; do $engine import -q /run/rootfs.tar bb >&2; done
{starts}
podman exec -d --privileged plain {privileged} >&2

mkdir -p /run/bundles/rootfs; tar -xf /run/rootfs.tar -C /run/bundles/rootfs
mkdir /run/bundles/rootfs/proc; chown -R {bundle}:{bundle_gid} /run/bundles/rootfs
cd /run/bundles; runc spec; mv config.json spec.json; cd - >&2
{bundles}

ask() {{ {python} -m nsinspect "$@" --json; }}
printf '{{"processes": '; {python} -c {kernel}
printf ', "caps": '; ask caps --all
printf ', "shown": {{'
for name in {every}; do printf '"%s": ' $name; ask show $name; printf ', '; done
printf '"": 0}}, "states": {{"boxed": '; runc state boxed; printf ', "no-root": '; crun state no-root
printf '}}, "podman": '; podman inspect plain auto
printf ', "alice": '; alice inspect rootless all-powerful keep-id
printf ', "findings": '; ask findings || test $? = 1
printf ', "top": {{'
{tops}
printf '"": ""}}}}'
"""
EDIT = """
import json, os, sys
name, uid, gid, outside, outside_gid, length = sys.argv[1], *map(int, sys.argv[2:])
with open("/run/bundles/spec.json") as file:
    spec = json.load(file)
spec["process"] |= {"terminal": False, "args": ["sleep", "1000"], "user": {"uid": uid, "gid": gid}}
spec["root"] = {"path": "/run/bundles/rootfs", "readonly": True}
spec["mounts"] = [one for one in spec["mounts"] if one["destination"] == "/proc"]
spec["linux"]["namespaces"].append({"type": "user"})
spec["linux"]["uidMappings"] = [{"containerID": uid, "hostID": outside, "size": length}]
spec["linux"]["gidMappings"] = [{"containerID": gid, "hostID": outside_gid, "size": length}]
os.mkdir(f"/run/bundles/{name}")
with open(f"/run/bundles/{name}/config.json", "w") as file:
    json.dump(spec, file)
"""
# As root of the host, so that its numbers are the host's.
KERNEL = """
import glob, json, os
def read(name):
    with open(f"{at}/{name}") as file:
        return file.read()
def table(name):
    return [[int(word) for word in line.split()] for line in read(name).splitlines()]
found = {}
for at in glob.glob("/proc/[0-9]*"):
    try:
        (uids,) = (line for line in read("status").splitlines() if line.startswith("Uid:"))
        one = {"uids": [int(word) for word in uids.split()[1:]], "args": read("cmdline").split(chr(0))[:-1]}
        one |= {"uid_map": table("uid_map"), "gid_map": table("gid_map"), "cgroup": read("cgroup")}
        found[at[6:]] = one | {"user": os.stat(f"{at}/ns/user").st_ino}
    except (FileNotFoundError, ProcessLookupError):
        pass
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def answers(rootfs: Path) -> Answers:
    """Everything asked in one boot: the kernel's word, the engines' and nsinspect's."""
    starts, bundles, tops = [], [], []
    for name, (engine, flags) in PODMAN.items():
        starts.append(f"{engine} run -d --name {name} --network none {flags} bb {shlex.join(COMMAND)} >&2")
        if name in EXEC:
            tops.append(f"""printf '"{name}": "%s", ' "$({engine} top {name} huser hpid | tr '\\n' ';')" """)
    starts += [f"{PODMAN[name][0]} exec -d -u 1000 {name} {shlex.join(USER)} >&2" for name in EXEC]
    for name, (runtime, uid, gid) in BUNDLES.items():
        numbers = map(str, (uid, gid, BUNDLE, BUNDLE_GID, LENGTH))
        bundles.append(shlex.join((sys.executable, "-c", EDIT, name, *numbers)))
        # What stays behind would hold our pipes open.
        run = f"{runtime} run -d -b /run/bundles/{name} {name}"
        bundles.append(f"{run} </dev/null >/run/said 2>&1 || {{ cat /run/said >&2; exit 1; }}")
    script = SCRIPT.format(
        uid=UID,
        gid=GID,
        subuid=SUBUID,
        subgid=SUBGID,
        count=COUNT,
        auto=AUTO,
        auto_gid=AUTO_GID,
        auto_count=AUTO_COUNT,
        bundle=BUNDLE,
        bundle_gid=BUNDLE_GID,
        rootfs=rootfs,
        python=shlex.quote(sys.executable),
        kernel=shlex.quote(KERNEL),
        privileged=shlex.join(PRIVILEGED),
        starts="\n".join(starts),
        bundles="\n".join(bundles),
        tops="\n".join(tops),
        every=shlex.join(EVERY),
    )
    found: Answers = json.loads(Uml().run(script, timeout=180))
    return found


@pytest.fixture(params=EVERY)
def name(request: pytest.FixtureRequest) -> str:
    """Of a container."""
    return str(request.param)


def shown(answers: Answers, name: str) -> dict[str, Any]:
    """A container as ``show --json`` has it."""
    container: dict[str, Any] = answers["shown"][name]["container"]
    return container


def init_of(answers: Answers, name: str) -> int:
    """The pid of its init, by its engine."""
    if name in BUNDLES:
        return int(answers["states"][name]["pid"])
    (one,) = (one for one in (*answers["podman"], *answers["alice"]) if one["Name"] == name)
    return int(one["State"]["Pid"])


def kernels(answers: Answers, pid: int) -> dict[str, Any]:
    """What /proc has of a process."""
    one: dict[str, Any] = answers["processes"][str(pid)]
    return one


def pid_of(answers: Answers, name: str, args: list[str]) -> int:
    """The process with those arguments in the cgroup of a container."""
    cgroup = kernels(answers, init_of(answers, name))["cgroup"]
    (pid,) = (pid for pid, one in answers["processes"].items() if (one["cgroup"], one["args"]) == (cgroup, args))
    return int(pid)


def task(answers: Answers, pid: int) -> dict[str, Any]:
    """A process as ``caps --json`` has it."""
    (one,) = (one for one in answers["caps"]["tasks"] if one["tid"] == pid)
    return dict(one)


def users_by_pid(answers: Answers, name: str) -> dict[int, int]:
    """Host uids by host pid, by ``podman top``, which calls some by name."""
    numbers = {user: uid for uid, user in USERS.items()} | {"root": 0}
    rows = [row.split() for row in answers["top"][name].split(";")[1:] if row]
    return {int(pid): numbers[user] if user in numbers else int(user) for user, pid in rows}


def test_documents_obey_the_schema(answers: Answers, name: str):
    schema = json.loads((CHECKOUT / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(answers["shown"][name])


def test_the_kernel_made_the_maps_that_were_asked_for(answers: Answers, name: str):
    """So that nothing below passes because an engine did something else."""
    one = kernels(answers, init_of(answers, name))

    assert ([tuple(line) for line in one["uid_map"]], [tuple(line) for line in one["gid_map"]]) == MAPS[name]
    assert set(one["uids"]) == {INIT[name]}


def test_podman_says_which_ids_it_took(answers: Answers):
    """The map of ``--userns=auto`` is nowhere but in podman's own answer."""
    (auto,) = (one for one in answers["podman"] if one["Name"] == "auto")
    maps = auto["HostConfig"]["IDMappings"]
    said = shown(answers, "auto")["security"]["user_namespace"]

    for key, theirs in (("uid_map", maps["UidMap"]), ("gid_map", maps["GidMap"])):
        assert [f"{one['inside']}:{one['outside']}:{one['count']}" for one in said[key]] == theirs


def test_maps_of_ids_are_the_hosts_own(answers: Answers, name: str):
    """Also where the namespace is inside another: the numbers outside are the host's."""
    said = shown(answers, name)["security"]["user_namespace"]
    maps = tuple([(one["inside"], one["outside"], one["count"]) for one in said[key]] for key in ("uid_map", "gid_map"))

    assert maps == MAPS[name]


def test_init_is_the_user_that_the_host_knows(answers: Answers, name: str):
    """Its uid outside, with the host's name for that and no other; the container's own passwd has no say."""
    init = shown(answers, name)["init"]

    assert init["pid"] == init_of(answers, name)
    assert (init["uid"], init["user"]) == (INIT[name], {**USERS, 0: "root"}.get(INIT[name] or 0))


def test_root_inside_is_told_by_its_uid_outside(answers: Answers, name: str):
    """Null where uid 0 is nobody, and 0 where root is root."""
    assert shown(answers, name)["security"]["user_namespace"]["root_uid"] == ROOT[name]


def test_a_user_namespace_is_the_hosts_or_not(answers: Answers, name: str):
    inode, hosts = (kernels(answers, pid)["user"] for pid in (init_of(answers, name), 1))
    container = shown(answers, name)

    assert (inode == hosts) == (name == "plain")
    assert container["namespaces"]["user"]["inode"] == inode
    assert container["namespaces"]["user"]["host"] is (inode == hosts)
    assert container["security"]["user_namespace"]["host"] is (inode == hosts)


def test_containers_of_a_user_share_her_user_namespace(answers: Answers, name: str):
    """Rootless podman makes one for all that ask for none of their own."""
    inodes = {other: kernels(answers, init_of(answers, other))["user"] for other in EVERY}
    theirs = {other for other in EVERY if inodes[other] == inodes[name] and other != name}
    ours = set(shown(answers, name)["namespaces"]["user"]["shared_with"])

    assert theirs == {"rootless", "all-powerful"} - {name} if name in ("rootless", "all-powerful") else not theirs
    # Podman's pause process, an isolate, may be named as well.
    assert {other for other in EVERY if shown(answers, other)["id"] in ours} == theirs


def test_none_is_privileged(answers: Answers, name: str):
    """Whatever ``--privileged`` lifts: a user namespace of its own holds."""
    security = shown(answers, name)["security"]

    assert security["privileged"] is False
    assert ("a user namespace of its own" in security["privileged_why"]) == (name != "plain")


@pytest.mark.parametrize("name", EXEC)
def test_podman_top_says_the_same_of_every_process(answers: Answers, name: str):
    theirs = users_by_pid(answers, name)

    assert theirs[init_of(answers, name)] == shown(answers, name)["init"]["uid"]
    assert {pid: task(answers, pid)["uid"] for pid in theirs} == theirs


@pytest.mark.parametrize("name", EXEC)
def test_a_process_of_another_user_has_that_users_uid_outside(answers: Answers, name: str):
    """``podman exec -u 1000``."""
    pid = pid_of(answers, name, USER)

    assert kernels(answers, pid)["uids"] == [EXEC[name]] * 4
    assert task(answers, pid)["uid"] == EXEC[name]


def test_a_user_namespace_is_no_drift(answers: Answers, name: str):
    """What rootless podman is in, whatever was asked for, is how it works."""
    found = {one["field"] for one in shown(answers, name)["drift"]}

    assert found & {"namespaces.user", "init.uid"} == set()


def test_capabilities_count_in_the_user_namespace_a_process_is_in(answers: Answers, name: str):
    """Of all its processes; null is the host's, which is that of the plain container's init and of PID 1."""
    hosts = kernels(answers, 1)["user"]
    inodes = {pid: kernels(answers, pid)["user"] for pid in shown(answers, name)["pids"]}

    assert (task(answers, init_of(answers, name))["relative_to"] is None) == (name == "plain")
    assert {pid: task(answers, pid)["relative_to"] for pid in inodes} == {
        pid: None if inode == hosts else inode for pid, inode in inodes.items()
    }
    assert task(answers, 1)["relative_to"] is None


def test_all_capabilities_of_a_user_namespace_inside_are_no_extra_power(answers: Answers):
    """What ``unshare -Ur`` gives itself counts for nothing in the container, what ``exec --privileged`` has does."""
    nested, privileged = (pid_of(answers, "plain", args) for args in (NESTED, PRIVILEGED))
    outliers = {one["pid"]: one for one in shown(answers, "plain")["capabilities"]["outliers"]}

    assert task(answers, nested)["full"] is True
    assert task(answers, nested)["relative_to"] == kernels(answers, nested)["user"] != kernels(answers, 1)["user"]
    assert "CAP_SYS_ADMIN" in outliers.pop(privileged)["extra"]
    assert {pid: one["extra"] for pid, one in outliers.items() if one["extra"]} == {}


@pytest.mark.parametrize("name", ["rootless", "all-powerful", "keep-id"])
def test_nor_are_they_where_the_container_has_a_user_namespace_too(answers: Answers, name: str):
    outliers = shown(answers, name)["capabilities"]["outliers"]

    assert {one["pid"]: one["extra"] for one in outliers if one["extra"]} == {}


def findings_of(answers: Answers, name: str) -> dict[tuple[str, int], dict[str, Any]]:
    """What stands out in a container, by kind and process."""
    found = [one for one in answers["findings"]["findings"] if one["container"] == shown(answers, name)["id"]]
    by_process = {(one["kind"], one["pid"]): one for one in found}
    assert len(by_process) == len(found)
    return by_process


def test_what_stands_out_is_what_unshared_and_what_an_exec_was_given(answers: Answers, name: str):
    """``unshare -Ur`` once each, ``exec --privileged`` once; neither another user nor an engine without root does."""
    wanted = {("user_namespace", pid_of(answers, name, NESTED))} if name in PODMAN else set()
    wanted |= {("more_power", pid_of(answers, name, PRIVILEGED))} if name == "plain" else set()

    assert findings_of(answers, name).keys() == wanted


@pytest.mark.parametrize("name", PODMAN)
def test_it_says_which_user_namespace_was_made(answers: Answers, name: str):
    nested, init = pid_of(answers, name, NESTED), init_of(answers, name)
    finding = findings_of(answers, name)["user_namespace", nested]
    inode, inits = (kernels(answers, pid)["user"] for pid in (nested, init))
    (evidence,) = finding["evidence"]

    assert (finding["severity"], finding["technique"]["id"]) == ("medium", "T1068")
    assert finding["pids"] == [nested]
    assert evidence["says"] == f"/proc/{nested}/ns/user"
    assert evidence["what"] == f"user:[{inode}]; {init} has user:[{inits}]"


def test_it_says_what_power_an_exec_was_given(answers: Answers):
    pid = pid_of(answers, "plain", PRIVILEGED)
    finding = findings_of(answers, "plain")["more_power", pid]
    (evidence,) = finding["evidence"]

    assert (finding["severity"], finding["technique"]["id"]) == ("high", "T1609")
    assert finding["pids"] == [pid]
    assert evidence["says"] == f"/proc/{pid}/status"
    assert "CAP_SYS_ADMIN" in evidence["what"].split()


# --- names, on the machine itself

NAMELESS = 54_321
HANGS = """
#include <unistd.h>
int _nss_hangs_getpwuid_r(void) { for (;;) pause(); }
"""


def getent(uid: int) -> str | None:
    """A user's name, by the system's own tool."""
    done = subprocess.run(["getent", "passwd", str(uid)], capture_output=True, text=True, check=False, timeout=30)
    return done.stdout.partition(":")[0] or None


def test_a_uid_has_the_name_that_getent_gives(docker: Docker, ask: Ask):
    """Null for a uid that nobody has."""
    uids = (0, 1, 65_534, NAMELESS)
    found = {}
    for uid in uids:
        docker.run(f"named-{uid}", "--user", str(uid))
        init = ask("show", f"named-{uid}")["container"]["init"]
        found[init["uid"]] = init["user"]
    docker("rm", "-f", *(f"named-{uid}" for uid in uids))

    assert found == {uid: getent(uid) for uid in uids}
    assert (found[0], found[NAMELESS]) == ("root", None)


def test_a_name_service_that_never_answers_holds_nothing_up(docker: Docker, tmp_path: Path):
    """What files know is told, what only the silent service could know is null, and the rest is all there."""
    (tmp_path / "hangs.c").write_text(HANGS)
    module = ["cc", "-shared", "-fPIC", "-o", str(tmp_path / "libnss_hangs.so.2"), str(tmp_path / "hangs.c")]
    subprocess.run(module, check=True, timeout=60)
    (tmp_path / "nsswitch.conf").write_text("passwd: files hangs\n")
    environment = {**os.environ, "LD_LIBRARY_PATH": str(tmp_path)}
    inside = ["unshare", "--mount", "sh", "-c", f'mount --bind {tmp_path}/nsswitch.conf /etc/nsswitch.conf; exec "$@"']
    asked = subprocess.run(
        [*inside, "sh", "timeout", "1", "getent", "passwd", str(NAMELESS)],
        env=environment,
        capture_output=True,
        check=False,
        timeout=30,
    )
    assert asked.returncode == 124, "it does answer"

    docker.run("known", "--user", "1")
    docker.run("silent", "--user", str(NAMELESS))
    done = subprocess.run(
        [*inside, "sh", sys.executable, "-m", "nsinspect", "list", "--json"],
        env=environment,
        capture_output=True,
        check=False,
        timeout=30,
        cwd=CHECKOUT,
    )
    docker("rm", "-f", "known", "silent")
    assert done.returncode == 0, done.stderr
    inits = {one["name"]: one["init"] for one in json.loads(done.stdout)["containers"]}

    assert (inits["known"]["uid"], inits["known"]["user"]) == (1, getent(1))
    assert (inits["silent"]["uid"], inits["silent"]["user"]) == (NAMELESS, None)
