"""Every engine that runs on this machine, side by side: each container is who its own engine says it is.

Ids and pids come from ``ctr task ls``, ``runc list``, ``crun list``, ``lxc-info`` and ``docker inspect``, members from
the kernel's ``cgroup.procs``, names, images and pods from the bundle that was written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.live.docker import Docker
from tests.live.engines import (
    CRUN,
    Containerd,
    Lxc,
    Oci,
    cgroups_removed,
    crun_for_containerd,
    descendants,
    in_namespace_of,
    kill,
    make_bundle,
    members,
    parent_of,
    unpacked,
    until,
    until_settled,
)

HERE = Path(__file__).parent
Ask = Callable[..., dict[str, Any]]
POD = {"name": "web", "namespace": "default"}
NO_POD = dict.fromkeys(("uid", "name", "namespace", "qos", "container"))
NGINX = "docker.io/library/nginx:1.25"
PAUSE = "registry.k8s.io/pause:3.9"


@dataclass
class Expected:
    """One container, by its engine's word, its bundle and the kernel.  ``runtimes`` and ``names`` are the acceptable
    ones."""

    id: str
    init: int
    runtimes: tuple[str, ...]
    cgroup: str
    kind: str = "container"
    names: tuple[str | None, ...] = (None,)
    image: str | None = None
    pod: dict[str, Any] | None = None


def new_id() -> str:
    """An id as engines make them."""
    return uuid.uuid4().hex + uuid.uuid4().hex


class Kubelet:
    """Pod uids and where the kubelet's cgroupfs driver puts what."""

    def __init__(self) -> None:
        self.burstable = str(uuid.uuid4())
        self.guaranteed = str(uuid.uuid4())
        self.static = uuid.uuid4().hex
        self.crio = str(uuid.uuid4())
        self.bare = str(uuid.uuid4())

    def names(self) -> set[str]:
        """The components of cgroup paths that are this test's own."""
        return {f"pod{uid}" for uid in vars(self).values()}


def containerd_annotations(container: str | None, sandbox: str, uid: str) -> dict[str, str]:
    """What containerd's CRI plugin writes for a container, or for the sandbox when there is none."""
    prefix = "io.kubernetes.cri"
    found = {
        f"{prefix}.sandbox-id": sandbox,
        f"{prefix}.sandbox-name": POD["name"],
        f"{prefix}.sandbox-namespace": POD["namespace"],
        f"{prefix}.sandbox-uid": uid,
    }
    if container is None:
        return found | {f"{prefix}.container-type": "sandbox", f"{prefix}.podsandbox.image-name": PAUSE}
    return found | {
        f"{prefix}.container-type": "container",
        f"{prefix}.container-name": container,
        f"{prefix}.image-name": NGINX,
    }


def crio_annotations(container: str | None, identity: str, sandbox: str, uid: str) -> dict[str, str]:
    """What CRI-O writes (server/container_create.go, server/sandbox_run_linux.go of cri-o/cri-o)."""
    prefix = "io.kubernetes.cri-o"
    labels = {
        "io.kubernetes.container.name": container or "POD",
        "io.kubernetes.pod.name": POD["name"],
        "io.kubernetes.pod.namespace": POD["namespace"],
        "io.kubernetes.pod.uid": uid,
    }
    sandbox_name = f"k8s_{POD['name']}_{POD['namespace']}_{uid}_0"
    found = {
        "io.container.manager": "cri-o",
        f"{prefix}.ContainerID": identity,
        f"{prefix}.Created": "2026-01-02T03:04:05.678901234Z",
        f"{prefix}.Labels": json.dumps(labels),
        f"{prefix}.SandboxID": sandbox,
    }
    if container is None:
        return found | {
            f"{prefix}.ContainerType": "sandbox",
            f"{prefix}.ContainerName": f"k8s_POD_{POD['name']}_{POD['namespace']}_{uid}_0",
            f"{prefix}.Name": sandbox_name,
            f"{prefix}.KubeName": POD["name"],
            f"{prefix}.Namespace": POD["namespace"],
            f"{prefix}.Image": PAUSE,
            f"{prefix}.Metadata": json.dumps({"Name": POD["name"], "UID": uid, "Namespace": POD["namespace"]}),
        }
    return found | {
        f"{prefix}.ContainerType": "container",
        f"{prefix}.Name": f"k8s_{container}_{POD['name']}_{POD['namespace']}_{uid}_0",
        f"{prefix}.SandboxName": sandbox_name,
        f"{prefix}.Image": NGINX,
        f"{prefix}.ImageName": NGINX,
        f"{prefix}.Metadata": json.dumps({"name": container}),
        **labels,
    }


# -- the engines, started once -------------------------------------------------------------------------------------


class Machine:
    """Everything that was started; ``expected`` by the name a test knows it by."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.kubelet = Kubelet()
        self.rootfs = rootfs
        self.token = uuid.uuid4().hex[:8]
        self.containerd = Containerd(directory / "containerd")
        self.runc = Oci(directory / "runc", "runc")
        # As containerd calls it; its root does not move with containerd's state.
        self.shimless = Oci(directory / "shimless", "runc", "--root", "/run/containerd/runc/k8s.io")
        self.crun = Oci(directory / "crun", *CRUN)
        self.lxc = Lxc(directory / "lxc")
        self.bundles = directory / "bundles"
        self.tasks = directory / "moved/io.containerd.runtime.v2.task/k8s.io"
        self.storage = directory / "storage/overlay-containers"
        self.expected: dict[str, Expected] = {}
        # Every cgroup below one of these names is ours to remove.
        self.cgroups = self.kubelet.names()

    def start(self) -> None:
        """All of it, in the order in which the table of the tests has it."""
        self._start_containerd()
        self._start_bundles()
        self._start_crio()
        self._start_plain()

    def processes(self) -> set[int]:
        """Everything that was started: containers, daemon, shims and monitors."""
        tops = {parent_of(one.init) for one in self.expected.values()} - {1}
        return set(descendants(*tops, *(one.init for one in self.expected.values()), os.getpid())) - {os.getpid()}

    def monitors(self) -> list[int]:
        """Every conmon."""
        return [*self.runc.monitors.values(), *self.crun.monitors.values()]

    def _start_containerd(self) -> None:
        uid, sandbox = self.kubelet.burstable, new_id()
        crun = ("--runc-binary", str(crun_for_containerd(self.containerd.directory)))
        for name, identity, flags in (
            ("cri-sandbox", sandbox, ()),
            ("cri-app", new_id(), ()),
            ("cri-crun", new_id(), crun),
        ):
            container = None if name == "cri-sandbox" else name
            cgroup = f"/kubepods/burstable/pod{uid}/{identity}"
            bundle = make_bundle(
                self.bundles / name,
                self.rootfs,
                cgroup=cgroup,
                annotations=containerd_annotations(container, sandbox, uid),
                command=("/bin/sleep", "3000") if container else ("/bin/pause",),
            )
            pid = self.containerd.run("k8s.io", identity, *flags, "--config", str(bundle / "config.json"), identity)
            self._in_pod(name, identity, pid, "containerd", cgroup, uid, "burstable", container)
        for name, namespace in (("ctr-k8s", "k8s.io"), ("ctr-default", "default")):
            identity = f"{name}-{self.token}.x_1"
            pid = self.containerd.run(namespace, identity, "--rootfs", str(self.rootfs), identity, "/bin/sleep", "3000")
            cgroup = f"/{namespace}/{identity}"
            self.cgroups.add(identity)
            self.expected[name] = Expected(identity, pid, ("containerd",), cgroup, names=(None, identity))

    def _start_bundles(self) -> None:
        """Bundles as containerd's CRI plugin makes them, in the hands of runc and crun alone."""
        kubelet = self.kubelet
        for name, engine, uid, folder, qos in (
            ("runc-guaranteed", self.shimless, kubelet.guaranteed, "kubepods", "guaranteed"),
            ("runc-static", self.runc, kubelet.static, "kubepods/besteffort", "besteffort"),
            ("crun-burstable", self.crun, kubelet.burstable, "kubepods/burstable", "burstable"),
        ):
            identity = new_id()
            cgroup = f"/{folder}/pod{uid}/{identity}"
            notes = containerd_annotations(name, new_id(), uid)
            bundle = self.tasks / identity if engine is self.shimless else None
            entry = engine.run(identity, self.rootfs, bundle=bundle, cgroup=cgroup, annotations=notes)
            self._in_pod(name, identity, entry["pid"], "containerd", cgroup, uid, qos, name)
            if bundle is None:
                # Who used it is known, and so is who wrote the annotations: both are true.
                self.expected[name].runtimes += (name.partition("-")[0],)
        # A sandbox that nothing but its only process tells of.
        identity = new_id()
        cgroup = f"/kubepods/besteffort/pod{kubelet.bare}/{identity}"
        entry = self.runc.run(identity, self.rootfs, cgroup=cgroup, command=("/bin/pause",))
        self.expected["bare-pause"] = Expected(
            identity, entry["pid"], ("runc",), cgroup, "pause", pod={**NO_POD, "uid": kubelet.bare, "qos": "besteffort"}
        )

    def _start_crio(self) -> None:
        """Bundles as CRI-O makes them, in a storage tree that was moved; its runtimes' roots are the usual ones."""
        uid, sandbox = self.kubelet.crio, new_id()
        for name, engine, identity, prefix in (
            ("crio-sandbox", self.runc, sandbox, "crio-"),
            ("crio-app", self.runc, new_id(), "crio-"),
            ("crio-crun", self.crun, new_id(), "crio-"),
        ):
            container = None if name == "crio-sandbox" else name
            cgroup = f"/kubepods/burstable/pod{uid}/{prefix}{identity}"
            entry = engine.run(
                identity,
                self.rootfs,
                bundle=self.storage / identity / "userdata",
                bound=self.storage / sandbox / "userdata",
                monitor_in=f"/kubepods/burstable/pod{uid}/crio-conmon-{identity}",
                cgroup=cgroup,
                annotations=crio_annotations(container, identity, sandbox, uid),
                command=("/bin/sleep", "3000") if container else ("/bin/pause",),
            )
            self._in_pod(name, identity, entry["pid"], "cri-o", cgroup, uid, "burstable", container)

    def _start_plain(self) -> None:
        for name, engine, cgroup in (
            ("runc", self.runc, None),
            ("runc-elsewhere", self.runc, f"/some-{self.token}/where"),
            ("crun", self.crun, None),
            ("crun-elsewhere", self.crun, f"/any-{self.token}/where"),
        ):
            identity = f"{name}-{self.token}"
            entry = engine.run(identity, self.rootfs, cgroup=cgroup)
            self.cgroups |= {identity, f"some-{self.token}", f"any-{self.token}"}
            runtime = name.removesuffix("-elsewhere")
            path = cgroup or f"/{identity}"
            self.expected[name] = Expected(identity, entry["pid"], (runtime,), path, names=(None, identity))
        name = f"lxc-{self.token}"
        self.cgroups |= {f"lxc.payload.{name}", f"lxc.monitor.{name}"}
        pid = self.lxc.run(name, self.rootfs)
        self.expected["lxc"] = Expected(name, pid, ("lxc",), f"/lxc.payload.{name}", names=(name,))

    def _in_pod(
        self, name: str, identity: str, pid: int, runtime: str, cgroup: str, uid: str, qos: str, container: str | None
    ) -> None:
        pod = {"uid": uid, **POD, "qos": qos, "container": container}
        found = Expected(identity, pid, (runtime,), cgroup, names=(container,), image=NGINX, pod=pod)
        if container is None:
            found.kind, found.image = "pause", PAUSE
        self.expected[name] = found


NAMES = (
    *(
        "cri-sandbox",
        "cri-app",
        "cri-crun",
        "ctr-k8s",
        "ctr-default",
        "runc-guaranteed",
        "runc-static",
        "crun-burstable",
    ),
    *("bare-pause", "crio-sandbox", "crio-app", "crio-crun", "runc", "runc-elsewhere", "crun", "crun-elsewhere", "lxc"),
)


@pytest.fixture(scope="module")
def machine(rootfs: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """Every engine but Docker, with all its containers."""
    directory = tmp_path_factory.mktemp("engines")
    found = Machine(directory, unpacked(rootfs, directory / "rootfs"))
    with cgroups_removed(found.cgroups), found.containerd, found.runc, found.shimless, found.crun, found.lxc:
        found.start()
        yield found


@pytest.fixture(scope="module")
def listed(machine: Machine, ask: Ask) -> dict[str, dict[str, Any]]:
    """``list --json``, valid, by id; without what others run on this machine."""
    whole = ask("list")
    schema = json.loads((HERE.parents[1] / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(whole)
    ours = machine.processes()
    return {container["id"]: container for container in whole["containers"] if ours & set(container["pids"])}


# -- who is it -----------------------------------------------------------------------------------------------------


def test_every_container_is_listed_and_nothing_else(machine: Machine, listed: dict[str, dict[str, Any]]):
    """Shims, conmon, monitors and pivots are no containers."""
    wanted = {one.id: name for name, one in machine.expected.items()}

    assert set(machine.expected) == set(NAMES)
    assert {wanted.get(identity, found["cgroup"]["path"]) for identity, found in listed.items()} == set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_container_is_who_its_engine_says(name: str, machine: Machine, listed: dict[str, dict[str, Any]]):
    """Id, runtime, kind, image, pod, init and parent, from the engine's own list and the bundle."""
    wanted = machine.expected[name]
    found = listed[wanted.id]
    ours = {key: found[key] for key in ("kind", "image", "pod", "parent")}

    assert found["runtime"] in wanted.runtimes
    assert ours == {
        "kind": wanted.kind,
        "image": wanted.image,
        "pod": wanted.pod,
        "parent": None,
    }
    assert found["init"]["pid"] == wanted.init


@pytest.mark.parametrize("name", NAMES)
def test_a_container_has_the_name_a_person_gave(name: str, machine: Machine, listed: dict[str, dict[str, Any]]):
    """In a pod that is the container's name there; an id that a person chose may be shown as the name or as none."""
    wanted = machine.expected[name]
    names = (None, POD["name"], "POD") if wanted.kind == "pause" else wanted.names

    assert listed[wanted.id]["name"] in names


@pytest.mark.parametrize("name", NAMES)
def test_a_container_has_the_processes_of_its_cgroup(name: str, machine: Machine, listed: dict[str, dict[str, Any]]):
    """The kernel's cgroup.procs of the whole subtree, and where that is."""
    wanted = machine.expected[name]
    found = listed[wanted.id]

    assert members(wanted.cgroup) == found["pids"]
    assert found["cgroup"]["paths"]["pids"] == wanted.cgroup


def test_what_a_runtime_created_when(machine: Machine, listed: dict[str, dict[str, Any]]):
    """The time of ``runc list`` and ``crun list``, for those that no other engine's annotation gives one."""
    theirs = machine.runc.listed() | machine.crun.listed()
    for name in ("runc", "runc-elsewhere", "crun", "crun-elsewhere"):
        identity = machine.expected[name].id

        assert listed[identity]["created_at"][:19] == theirs[identity]["created"][:19]


def test_kubernetes_containers_are_found_by_namespace_pod_and_container(machine: Machine, ask: Ask):
    """What kubectl shows is enough to ask with."""
    for name in ("cri-app", "runc-guaranteed", "crio-app"):
        wanted = machine.expected[name]
        assert wanted.pod
        path = f"{POD['namespace']}/{POD['name']}/{wanted.pod['container']}"

        assert ask("show", path)["container"]["id"] == wanted.id


def test_processes_of_every_engine_are_located(machine: Machine, ask: Ask):
    """``pid`` leads from each init to its container and pod, and a shim to none."""
    inits = {one.init: one for one in machine.expected.values()}
    shim = parent_of(machine.expected["cri-app"].init)
    found = {one["pid"]: one for one in ask("pid", *map(str, [*inits, shim]))["processes"]}

    assert found[shim]["container"] is None
    for pid, wanted in inits.items():
        assert found[pid]["container"] == wanted.id
        assert found[pid]["runtime"] in wanted.runtimes
        assert found[pid]["pod"] == wanted.pod
        assert found[pid]["evidence"]


def test_nobody_stands_out(machine: Machine, run: Callable[..., subprocess.CompletedProcess[bytes]]):
    """In no container, whoever else is on this machine: not its runtime, its shim, its monitor nor its pivot."""
    until_settled(machine.processes())
    ours = {one.id for one in machine.expected.values()}
    everywhere = json.loads(run("findings", "--json").stdout)["findings"]

    assert [one for one in everywhere if one["container"] in ours] == []
    assert run("findings", machine.expected["cri-app"].id).returncode == 0


# -- isolates ------------------------------------------------------------------------------------------------------


ISOLATES = {
    "nspawn": "systemd-nspawn -q -D {rootfs} --register=no --keep-unit --as-pid2 /bin/sleep {seconds}",
    "bubblewrap": "bwrap --unshare-pid --ro-bind / / --proc /proc --dev /dev sleep {seconds}",
    "unshare": "unshare --mount --pid --fork --mount-proc sleep {seconds}",
}


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """nspawn leaves two cgroups beside its own."""
    with cgroups_removed({"payload", "supervisor"}):
        yield


@pytest.mark.usefixtures("nothing_left")
@pytest.mark.parametrize("name", ISOLATES)
def test_isolates_appear_only_with_all(name: str, rootfs: Path, tmp_path: Path, ask: Ask):
    """What lives in namespaces of its own and in no cgroup of its own is no container, and is there when asked for."""
    # A number of its own to know its process by.
    seconds = str(3000 + list(ISOLATES).index(name))
    words = ISOLATES[name].format(rootfs=unpacked(rootfs, tmp_path / "rootfs"), seconds=seconds).split()
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def sleeper() -> int | None:
        for pid in descendants(process.pid):
            with contextlib.suppress(OSError):
                if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[-2:] == [seconds.encode(), b""]:
                    own = os.readlink(f"/proc/{pid}/ns/pid") != os.readlink("/proc/self/ns/pid")
                    # Until it has become sleep it is still the tool itself, with the whole command line.
                    if own and Path(f"/proc/{pid}/comm").read_text() == "sleep\n":
                        return pid
        return None

    everything = [process.pid]
    try:
        inside = until(sleeper, f"{name}: {(tmp_path / 'log').read_text()}")
        everything = descendants(process.pid)
        whole = in_namespace_of(inside)
        plain, with_all = ask("list")["containers"], ask("list", "--all")["containers"]
        namespace = int(os.readlink(f"/proc/{inside}/ns/pid")[5:-1])
    finally:
        kill(everything)
        process.wait(30)

    assert not {pid for container in plain for pid in container["pids"]} & set(everything)
    (found,) = [container for container in with_all if inside in container["pids"]]
    assert (found["kind"], found["runtime"], found["parent"]) == ("isolate", "unknown", None)
    assert found["pids"] == whole
    assert found["namespaces"]["pid"]["inode"] == namespace
    assert {container["kind"] for container in with_all if set(container["pids"]) & set(everything)} == {"isolate"}


# -- Docker in Docker ----------------------------------------------------------------------------------------------


REMOUNT = 'for m in /sys/fs/cgroup/*; do busybox mount -o remount,rw,bind "$m"; done; '
INNER = "exec dockerd --iptables=false --bridge=none --storage-driver vfs >/tmp/log 2>&1"


@dataclass
class Nested:
    """A daemon inside a container, and a container of that.  ``inner_pid`` is the host's."""

    outer: str
    outer_pid: int
    inner: str
    inner_pid: int


@pytest.fixture(scope="module", params=["below", "beside"])
def nested(
    request: pytest.FixtureRequest, docker: Docker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Nested]:
    """Docker's own daemon in a container, with its containers' cgroups below the outer one's, or with the host's
    cgroups mounted and so beside it."""
    name = f"outer-{request.param}"
    directory = tmp_path_factory.mktemp(name)
    flags = ["--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined"]
    flags += ["--tmpfs", "/run", "--tmpfs", "/tmp", "-v", f"{directory}:/var/lib/docker"]
    # The machine's own programs; the image has /bin alone.
    for source, target in (("/usr", "/usr"), ("/usr/lib", "/lib"), ("/usr/lib64", "/lib64"), ("/etc/ld.so.cache",) * 2):
        flags += ["-v", f"{source}:{target}:ro"]
    flags += ["-e", "PATH=/usr/sbin:/usr/bin:/bin"]
    script = INNER
    if request.param == "below":
        script = REMOUNT + INNER
    else:
        flags += ["-v", "/sys/fs/cgroup:/sys/fs/cgroup"]
    rootfs = request.getfixturevalue("rootfs")
    flags += ["-v", f"{rootfs}:/rootfs.tar:ro"]
    ours: set[str] = set()
    with cgroups_removed(ours):
        outer = docker.run(name, *flags, command=("sh", "-c", script))
        try:
            until(lambda: inner_is_up(docker, name), f"dockerd in {name}")
            docker("exec", name, "docker", "import", "/rootfs.tar", "bb")
            inner = docker(
                "exec", name, "docker", "run", "-d", "--net", "none", "--name", "inner", "bb", "sleep", "3000"
            )
            ours.add(inner)
            inside = int(docker("exec", name, "docker", "inspect", "-f", "{{.State.Pid}}", "inner"))
            outer_pid = docker.inspect(name)["State"]["Pid"]
            yield Nested(outer, outer_pid, inner, on_host(outer_pid, inside))
        finally:
            docker("rm", "-f", name)
            shutil.rmtree(directory, ignore_errors=True)


def inner_is_up(docker: Docker, name: str) -> bool:
    """Whether the daemon inside answers."""
    try:
        return "Server Version" in docker("exec", name, "docker", "info")
    except AssertionError:
        return False


def on_host(outer: int, inside: int) -> int:
    """The host's pid of what is ``inside`` in the pid namespace of ``outer``, by the kernel's NSpid."""
    for pid in descendants(outer):
        lines = Path(f"/proc/{pid}/status").read_text("utf-8", "replace").splitlines()
        numbers = next(line for line in lines if line.startswith("NSpid:")).split()[1:]
        if len(numbers) > 1 and numbers[1] == str(inside):
            return pid
    raise AssertionError(f"no process {inside} in the namespace of {outer}")


def test_a_container_of_a_docker_inside_has_the_outer_one_as_parent(nested: Nested, ask: Ask):
    """Below it in the cgroup tree or beside it: the inner one is a container of its own, inside the outer one."""
    found = {container["id"]: container for container in ask("list")["containers"]}
    assert nested.inner in found
    outer, inner = found[nested.outer], found[nested.inner]

    assert (inner["parent"], outer["parent"]) == (nested.outer, None)
    assert (inner["init"]["pid"], outer["init"]["pid"]) == (nested.inner_pid, nested.outer_pid)
    assert (inner["runtime"], inner["kind"]) == ("docker", "container")
    assert inner["pids"] == in_namespace_of(nested.inner_pid)
    assert inner["name"] in (None, "inner")
    assert outer["pids"] == members(f"/docker/{nested.outer}")


def test_a_process_of_an_inner_container_is_in_that_one(nested: Nested, ask: Ask):
    """``pid`` names the innermost container and the one around it."""
    (found,) = ask("pid", str(nested.inner_pid))["processes"]

    assert (found["container"], found["parent"]) == (nested.inner, nested.outer)


# -- nobody left to ask --------------------------------------------------------------------------------------------


def test_the_daemons_are_not_needed(machine: Machine, docker: Docker, ask: Ask):
    """With containerd, conmon and dockerd killed, and only shims left, every answer is the same."""
    ours = {docker.run("left-alone")} | {one.id for one in machine.expected.values()}

    def what_does_not_move() -> dict[str, dict[str, Any]]:
        found = {one["id"]: one for one in ask("list")["containers"] if one["id"] in ours}
        return {name: {key: value for key, value in one.items() if key != "usage"} for name, one in found.items()}

    expected = what_does_not_move()
    assert set(expected) == ours
    machine.containerd.kill_daemon()
    kill(machine.monitors())
    docker.stop_daemon(kill=True)
    try:
        assert what_does_not_move() == expected
    finally:
        docker.start()
        machine.containerd.start()
        docker("rm", "-f", "left-alone")
