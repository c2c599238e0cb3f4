"""Which fact needs which privilege, measured on the kernel this runs on; prints one JSON object.  Run as root.

A containerd of our own starts three containers, in each of which there is something to find for every fact.  What
root's documents say is the measure; then the same commands are run as an ordinary user with some capabilities or none.
The program was imported before, because that user may not read this checkout.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from nsinspect import cli, netns
from tests.live.engines import Containerd, kill, make_bundle, until
from tests.runner import runner

BUNDLED = str(Path(__file__).parents[1] / "fixtures/hosts/docker-hybrid")
NOBODY = 65534
DAC_READ_SEARCH, SYS_PTRACE, SYS_ADMIN = 2, 19, 21
PRIVILEGES: dict[str, tuple[int, ...] | None] = {
    "none": (),
    "ptrace": (SYS_PTRACE,),
    "ptrace and dac": (SYS_PTRACE, DAC_READ_SEARCH),
    "root": None,
}
"""Capabilities of uid 65534; root is as it is."""
TARGETS = {"root": (0, False), "uid 1000": (1000, False), "user namespace": (0, True)}
"""Init's uid inside, and whether it has a user namespace of its own."""

GROUP = "nsinspect-readability"
OUTSIDE = 400_000
PORT = 8000
# Threads and programs unlike their process, a socket, and a namespace that only a descriptor keeps.
INSIDE = f"""
import ctypes, os, shutil, socket, threading, time
libc = ctypes.CDLL(None, use_errno=True)
def checked(answer):
    assert answer == 0, os.strerror(ctypes.get_errno())
listening = socket.create_server(("0.0.0.0", {PORT}))
ready = threading.Barrier(4)
def other_status():
    checked(libc.prctl(38, 1, 0, 0, 0))
    ready.wait()
    time.sleep(3000)
def other_namespaces():
    checked(libc.unshare(0x04000000))
    ready.wait()
    time.sleep(3000)
def keeper():
    checked(libc.unshare(0x08000000))
    global kept
    kept = os.open(f"/proc/self/task/{{threading.get_native_id()}}/ns/ipc", os.O_RDONLY)
    ready.wait()
for work in (other_status, other_namespaces, keeper):
    threading.Thread(target=work, daemon=True).start()
ready.wait()
with open("/bin/sleep", "rb") as file:
    program = file.read()
memory = os.memfd_create("readability", os.MFD_CLOEXEC)
os.write(memory, program)
shutil.copy("/bin/sleep", "/tmp/deleted")
for what in (memory, "/tmp/deleted"):
    if os.fork() == 0:
        os.execve(what, ["sleep", "3000"], {{}})
while sorted(os.readlink(f"/proc/{{pid}}/exe")[:8] for pid in os.listdir("/proc") if pid.isdigit())[:2] != [
    "/memfd:r", "/tmp/del"
]:
    time.sleep(0.05)
os.unlink("/tmp/deleted")
open("/tmp/ready", "w").close()
time.sleep(3000)
"""


# -- what is there to be seen ----------------------------------------------------------------------------------------


def rootfs(directory: Path) -> Path:
    """A root file system with what Python needs of this machine's."""
    directory.mkdir()
    for folder in ("proc", "sys", "dev", "tmp", "usr", "bin", "lib", "lib64", "etc"):
        (directory / folder).mkdir()
    (directory / "tmp").chmod(0o1777)
    (directory / "inside.py").write_text(INSIDE)
    return directory


def bundle(directory: Path, root: Path, identity: str, name: str, uid: int, *, mapped: bool) -> Path:
    """The bundle of one container, as containerd's CRI plugin would annotate it."""
    cri = "io.kubernetes.cri."
    annotations = {f"{cri}container-type": "container", f"{cri}container-name": name, f"{cri}sandbox-id": "f" * 64}
    annotations |= {f"{cri}image-name": "box:1", f"{cri}sandbox-name": "pod", f"{cri}sandbox-namespace": "default"}
    make_bundle(
        directory,
        root,
        cgroup=f"/{GROUP}/cri-containerd-{identity}",
        annotations=annotations,
        command=("/usr/bin/python3", "/inside.py"),
    )
    file = directory / "config.json"
    config: dict[str, Any] = json.loads(file.read_text())
    sets = {kind: ["CAP_SYS_ADMIN"] for kind in ("bounding", "effective", "permitted", "inheritable", "ambient")}
    config["process"].update(noNewPrivileges=False, capabilities=sets, user={"uid": uid, "gid": uid})
    tmp = {"destination": "/tmp", "type": "tmpfs", "source": "tmpfs", "options": ["mode=1777"]}
    config["mounts"] = [one for one in config["mounts"] if one["destination"] in ("/proc", "/dev")] + [tmp]
    config["mounts"] += [
        {"destination": place, "type": "bind", "source": place, "options": ["bind", "ro"]}
        for place in ("/usr", "/bin", "/lib", "/lib64")
        if Path(place).exists()
    ]
    config["linux"]["resources"] |= {"memory": {"limit": 64 << 20}, "cpu": {"quota": 50_000, "period": 100_000}}
    if mapped:
        config["linux"]["namespaces"].append({"type": "user"})
        lines = [{"containerID": 0, "hostID": OUTSIDE, "size": 65_536}]
        config["linux"] |= {"uidMappings": lines, "gidMappings": lines}
    file.write_text(json.dumps(config))
    return file


@contextlib.contextmanager
def containers() -> Iterator[dict[str, str]]:
    """One of each kind, with one end of a veth pair in it where this kernel has them; ids by target."""
    directory = Path(tempfile.mkdtemp(prefix="nsinspect-readability-", dir="/run"))
    directory.chmod(0o711)
    root = rootfs(directory / "rootfs")
    pids: list[int] = []
    try:
        with Containerd(directory / "containerd") as engine:
            ids = {}
            for number, (target, (uid, mapped)) in enumerate(TARGETS.items(), 1):
                identity = ids[target] = f"{number:x}" * 64
                file = bundle(directory / f"bundle{number}", root, identity, f"box{number}", uid, mapped=mapped)
                pid = engine.run("k8s.io", identity, "--config", str(file), identity)
                pids.append(pid)
                words = ["ip", "link", "add", f"nsread{number}", "type", "veth", "peer", "name", "eth0"]
                subprocess.run([*words, "netns", str(pid)], check=False, capture_output=True, timeout=30)
            until(lambda: all(Path(f"/proc/{pid}/root/tmp/ready").exists() for pid in pids), "containers", 60)
            time.sleep(1.2)  # in their first second processes are not judged
            yield ids
            kill(pids)
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        for group in Path("/sys/fs/cgroup").glob(f"**/{GROUP}"):
            with contextlib.suppress(OSError):
                group.rmdir()


# -- asking ----------------------------------------------------------------------------------------------------------


def become(capabilities: tuple[int, ...] | None) -> None:
    """An ordinary user with these capabilities, as systemd's ``AmbientCapabilities=`` would start it."""
    if capabilities is None:
        return
    libc = ctypes.CDLL(None, use_errno=True)

    def checked(answer: int) -> None:
        if answer != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))

    checked(libc.prctl(8, 1, 0, 0, 0))  # PR_SET_KEEPCAPS
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    mask = sum(1 << number for number in capabilities)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    checked(libc.capset(header, (ctypes.c_uint32 * 6)(mask, mask, mask, 0, 0, 0)))
    for number in capabilities:
        checked(libc.prctl(47, 2, number, 0, 0))  # PR_CAP_AMBIENT_RAISE
    checked(libc.prctl(4, 1, 0, 0, 0))  # PR_SET_DUMPABLE, as after an exec


def asked(capabilities: tuple[int, ...] | None, words: tuple[str, ...], output: IO[bytes]) -> int:
    """Run a command as such a user in a child of its own, whose pid this is."""
    child = os.fork()
    if child:
        return child
    status = 70
    try:
        become(capabilities)
        os.dup2(output.fileno(), 1)
        sys.argv = ["nsinspect", *words, "--json"]
        cli.main()
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 70
    except BaseException:  # noqa: BLE001 - nothing may go on as another copy of the parent
        traceback.print_exc()
    finally:
        os._exit(status)


def ask(words: tuple[str, ...]) -> dict[str, Any]:
    """The JSON of a command by privilege, all asked at once."""
    with contextlib.ExitStack() as stack:
        outputs = {privilege: stack.enter_context(tempfile.TemporaryFile()) for privilege in PRIVILEGES}
        children = {name: asked(capabilities, words, outputs[name]) for name, capabilities in PRIVILEGES.items()}
        statuses = {name: os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for name, child in children.items()}
        # 1 is an answer: something was found.
        if not set(statuses.values()) <= {0, 1}:
            raise RuntimeError(f"{words}: {statuses}")
        for output in outputs.values():
            output.seek(0)
        return {privilege: json.loads(output.read()) for privilege, output in outputs.items()}


Documents = dict[str, dict[str, Any]]
Own = frozenset[int]


def commands(container_id: str) -> dict[str, tuple[str, ...]]:
    """What is asked; one ``show`` is enough to see that it says what the others say."""
    whole = {name: (name,) for name in ("list", "caps", "net", "findings")}
    return {**whole, "ns": ("ns", "--descriptors"), "show": ("show", container_id)}


# -- facts -----------------------------------------------------------------------------------------------------------


def container(of: Documents, identity: str) -> dict[str, Any]:
    """As ``list`` has it, which ``show`` has to agree with in all that stands still."""
    (one,) = (one for one in of["list"]["containers"] if one["id"] == identity)
    shown = of["show"]["container"]
    if shown["id"] == identity:
        assert {key for key in one if one[key] != shown[key]} <= {"usage"}
    return dict(one)


def known(value: Any) -> Any:
    """Which parts of something that moves are known."""
    if isinstance(value, dict):
        return {key: known(inner) for key, inner in value.items()}
    return value is not None


def some(value: Any) -> Any:
    """``None`` where nothing is known."""
    return value if any(one is not None for one in value.values()) else None


def network(of: Documents, identity: str) -> dict[str, Any]:
    """The one that its init is in; nothing where that is not told."""
    found = [one for one in of["net"]["networks"] if one["containers"] == [identity]]
    return dict(found[0]) if len(found) == 1 else {"interfaces": None, "listening": None}


def sockets(of: Documents, identity: str, *keys: str) -> Any:
    """Of its listening sockets, these; the same by ``net`` and by ``show``."""
    listening = network(of, identity)["listening"]
    return (listening and [some({key: one[key] for key in keys}) for one in listening if one["port"] == PORT]) or None


def counters(of: Documents, identity: str) -> Any:
    """Which interfaces count what."""
    cards = network(of, identity)["interfaces"]
    return cards and {one["name"]: known({k: v for k, v in one.items() if k not in ("name", "link")}) for one in cards}


def links(of: Documents, identity: str) -> Any:
    """What netlink tells of them."""
    cards = network(of, identity)["interfaces"]
    return some({one["name"]: one["link"] for one in cards}) if cards else None


def findings(of: Documents, identity: str, kinds: tuple[str, ...], says: str) -> Any:
    """Those of some kinds whose evidence is a file like this; the same by ``findings`` and by ``show``."""
    every = [one for one in of["findings"]["findings"] if one["container"] == identity]
    if of["show"]["container"]["id"] == identity:
        assert every == of["show"]["findings"]
    found = [
        (one["kind"], one["pid"], one["tid"], each["says"], each["what"])
        for one in every
        if one["kind"] in kinds
        for each in one["evidence"]
        if says in each["says"]
    ]
    return found or None


def kin(of: Documents, own: Own) -> Any:
    """Of its own namespaces: owner, parent, and who made them."""
    rows = {one["inode"]: one for one in of["ns"]["namespaces"] if one["inode"] in own}
    told = {i: some({key: one[key] for key in ("owner", "parent", "owner_uid")}) for i, one in rows.items()}
    return some(told) if told else None


def held(of: Documents, pids: Own) -> Any:
    """Descriptors of its processes that keep a namespace."""
    rows = of["ns"]["namespaces"]
    found = [(one["inode"], by["pid"], by["fd"]) for one in rows for by in one["held_by"] if by["pid"] in pids]
    return sorted(found) or None


def tasks(of: Documents, identity: str) -> Any:
    """Which capabilities each of its processes has, and each thread that is unlike its process."""
    its = [one for one in of["caps"]["tasks"] if one["container"] == identity]
    return {one["tid"]: one["effective"] and one["effective"]["mask"] for one in its} or None


Fact = Callable[[Documents, str, Own, Own], Any]


def _of_container(*keys: str) -> Fact:
    def fact(of: Documents, identity: str, _own: Own, _pids: Own) -> Any:
        found = {}
        for key in keys:
            value: Any = container(of, identity)
            for part in key.split("."):
                value = value and value[part]
            found[key] = value
        return some(found)

    return fact


def _namespaces(key: str) -> Fact:
    def fact(of: Documents, identity: str, _own: Own, _pids: Own) -> Any:
        return some({kind: one and one[key] for kind, one in container(of, identity)["namespaces"].items()})

    return fact


PROGRAMS = ("memfd_executable", "deleted_executable")
FACTS: dict[str, Fact] = {
    "name, image, pod (state files)": _of_container("name", "image", "pod"),
    "what was declared, drift (state files)": _of_container("declared", "drift"),
    "namespaces": _namespaces("inode"),
    "whether they are the host's": _namespaces("host"),
    "capabilities": lambda of, i, _own, _pids: [_of_container("capabilities")(of, i, _own, _pids), tasks(of, i)],
    "seccomp, no-new-privileges": _of_container("security.seccomp", "security.no_new_privs"),
    "label of the security module": _of_container("security.lsm_label"),
    "uid and gid maps": _of_container("security.user_namespace.uid_map", "security.user_namespace.gid_map"),
    "mounts": _of_container("mounts", "security.masked_paths", "security.read_only_rootfs"),
    "limits": _of_container("limits"),
    "usage": lambda of, i, _own, _pids: some(known(container(of, i)["usage"])),
    "listening sockets": lambda of, i, _own, _pids: sockets(of, i, "protocol", "address", "port"),
    "which process holds a socket": lambda of, i, _own, _pids: sockets(of, i, "pids"),
    "interfaces and their counters": lambda of, i, _own, _pids: counters(of, i),
    "links, addresses, veth peers": lambda of, i, _own, _pids: links(of, i),
    "executables (memfd, deleted)": lambda of, i, _own, _pids: findings(of, i, PROGRAMS, "/exe"),
    "threads: status": lambda of, i, _own, _pids: findings(of, i, ("thread",), "/status"),
    "threads: namespaces": lambda of, i, _own, _pids: findings(of, i, ("thread",), "/ns/"),
    "owner and parent of namespaces": lambda of, _i, own, _pids: kin(of, own),
    "descriptors that keep namespaces": lambda of, _i, _own, pids: held(of, pids),
}
"""What each document has of a container for each fact; ``None`` is unknown."""


def measured() -> dict[str, Any]:
    """By fact and target, whether each privilege is enough: "yes", "no", or "-" where root is not told either."""
    netns.PATIENCE = 60.0  # an emulated machine is slow, and asked by four at once
    # Once here, so that all is imported by now: this checkout and this Python may be nobody's to read.
    for name in ("nsinspect.users", "psutil", "ipaddress"):
        importlib.import_module(name)  # which a captured host does not need
    for words in commands("web").values():
        runner().invoke(cli.cli, ["--root", BUNDLED, *words, "--json"], catch_exceptions=False)
    with containers() as ids:
        answers = {name: ask(words) for name, words in commands(ids["root"]).items()}
    told: dict[str, Documents] = {one: {name: by[one] for name, by in answers.items()} for one in PRIVILEGES}
    facts: dict[str, dict[str, str]] = {name: {} for name in FACTS}
    for target, identity in ids.items():
        whole = container(told["root"], identity)
        own = frozenset(one["inode"] for one in whole["namespaces"].values() if one and not one["host"])
        for name, fact in FACTS.items():
            values = {privilege: fact(of, identity, own, frozenset(whole["pids"])) for privilege, of in told.items()}
            unknown = values["root"] is None
            words = ["-" if unknown else "yes" if value == values["root"] else "no" for value in values.values()]
            facts[name][target] = " ".join(words)
    return {"kernel": ".".join(os.uname().release.split(".")[:2]), "facts": facts}


if __name__ == "__main__":
    print(json.dumps(measured()))
