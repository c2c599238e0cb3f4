"""Start every engine in the QEMU guest, ask each what it runs, ask nsinspect, kill the daemons and ask again.

Runs in the guest as root (see qemu.py and test_engines_systemd.py); prints one JSON object.  What it says to be
expected comes from an engine's own command, or from the bundle or flags a container was made with; nothing here
imports nsinspect.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

LIMITS = """--memory 64m --memory-swap 128m --memory-reservation 32m --cpus 0.5 --cpu-shares 512 --cpuset-cpus 1
    --pids-limit 50"""
TWO = ["sh", "-c", "sleep 1001 & exec sleep 1000"]
NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts")
BUNDLES = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"
CRIO = ("/run/containers/storage/overlay-containers", "/var/lib/containers/storage/overlay-containers")

expected: list[dict[str, Any]] = []
helpers: dict[str, int] = {}
failed: dict[str, str] = {}
extra: dict[str, Any] = {}
seconds: dict[str, float] = {}


def sh(command: str, *words: str, check: bool = True) -> str:
    """Run a command, split at blanks, then ``words`` as they are; its stdout.  Its stderr is shown when it fails."""
    whole = [*command.split(), *words]
    done = subprocess.run(whole, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=240, check=False)
    if check and done.returncode:
        raise RuntimeError(f"{whole} exited with {done.returncode}: {done.stdout[-1500:]} {done.stderr[-1500:]}")
    return done.stdout.strip()


def detached(command: str, *words: str) -> None:
    """The same for what leaves a child behind that would hold a pipe open."""
    with Path(f"/tmp/{hashlib.sha256((command + str(words)).encode()).hexdigest()[:12]}").open("w+") as log:
        done = subprocess.run(
            [*command.split(), *words], stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=240, check=False
        )
        log.seek(0)
        if done.returncode:
            raise RuntimeError(f"{command} {words} exited with {done.returncode}: {log.read()[-1500:]}")


def until(found: Callable[[], Any], what: str) -> Any:
    """The first true answer within ten seconds."""
    deadline = time.monotonic() + 10
    while not (answer := found()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"no {what} after ten seconds")
        time.sleep(0.1)
    return answer


def descendants(pid: int) -> list[int]:
    """A process and all below it, as ps tells."""
    rows = [tuple(map(int, line.split())) for line in sh("ps -eo pid=,ppid=").splitlines()]
    found = [pid]
    for one in found:
        found += [child for child, parent in rows if parent == one]
    return sorted(found)


def child_of(pid: int) -> int:
    """The only child of a process."""
    (child,) = (int(word) for word in sh(f"ps --ppid {pid} -o pid=").split())
    return child


def digest(name: str) -> str:
    """A full id."""
    return hashlib.sha256(name.encode()).hexdigest()


def expect(engine: str, key: str, source: str, **facts: Any) -> None:
    """Note what must be found: facts not given are unknown to the engine itself."""
    row = {"name": None, "image": None, "kind": "container", "pod": None, "parent": None, "runtime": engine}
    expected.append({**row, **facts, "engine": engine, "key": key, "source": source, "pids": sorted(facts["pids"])})


# --- engines


def docker() -> None:
    sh("docker import /opt/rootfs.tar bb")
    alone = "--network none"
    starts = {
        "aa": f"{alone} {LIMITS} --label team=shop --label tier=web",
        "sliced": f"{alone} --cgroup-parent job.slice",
        "privileged": f"{alone} --privileged",
    }
    for name, flags in starts.items():
        sh(f"docker run -d --name {name} {flags} bb", *TWO)
    sh("docker run -d --name joined --network container:aa bb sleep 1000")
    sh("docker exec -d aa sleep 1002")
    sh("docker exec -d --privileged aa sleep 1006")
    members = until(lambda: found if len(found := sh("docker top aa -eo pid").split()[1:]) == 4 else None, "exec in aa")
    powerful = int(sh("pgrep -x -f sleep.1006"))
    extra["powerful"] = {"pid": powerful, "label": Path(f"/proc/{powerful}/attr/current").read_text().strip()}
    for one in json.loads(sh("docker inspect", *starts, "joined")):
        name = one["Name"].removeprefix("/")
        expect(
            "docker",
            name,
            "docker inspect, docker top, ps",
            id=one["Id"],
            name=name,
            image=one["Config"]["Image"],
            init=one["State"]["Pid"],
            # What docker exec starts is no descendant, so only Docker knows of it.
            pids=list(map(int, members)) if name == "aa" else descendants(one["State"]["Pid"]),
            labels=one["Config"]["Labels"],
            state_file=f"/var/lib/docker/containers/{one['Id']}/config.v2.json",
            below=one["HostConfig"]["CgroupParent"] or "system.slice",
        )


def podman_rows(engine: str, podman: str, names: Iterable[str], pods: dict[str, str]) -> None:
    for one in json.loads(sh(f"{podman} inspect", *names)):
        pod = one.get("Pod") or None
        expect(
            engine,
            "infra" if one["IsInfra"] else one["Name"],
            "podman inspect, podman top, ps",
            runtime="podman",
            id=one["Id"],
            name=one["Name"],
            image=one["ImageName"],
            kind="pause" if one["IsInfra"] else "container",
            pod=pod and {"uid": pod, "name": pods[pod], "namespace": None, "qos": None},
            init=one["State"]["Pid"],
            # podman top takes seconds here, and refuses to look at a container without a cgroup.
            pids=list(map(int, sh(f"{podman} top {one['Id']} hpid").split()[1:]))
            if one["Name"] in ("limited", "u")
            else descendants(one["State"]["Pid"]),
        )
        helpers[f"conmon of {engine} {one['Name']}"] = one["State"]["ConmonPid"]


def podman() -> None:
    sh("podman import -q /opt/rootfs.tar pb")
    sh(f"podman run -d --name limited --network none {LIMITS} pb", *TWO)
    sh("podman run -d --name nocgroup --network none --cgroups=disabled pb", *TWO)
    pod = sh("podman pod create --name pod1 --network none")
    sh("podman run -d --pod pod1 --name inpod pb sleep 1000")
    # What Quadlet writes into the unit it generates.
    sh(
        "systemd-run --quiet --unit split -p Type=notify -p NotifyAccess=all -p Delegate=yes -p KillMode=mixed "
        "podman run --name split --cgroups=split --sdnotify=conmon -d --network none pb",
        *TWO,
    )
    infra = json.loads(sh("podman pod inspect pod1"))["InfraContainerID"]
    podman_rows("podman", "podman", ["limited", "nocgroup", "inpod", "split", infra], {pod: "pod1"})


def rootless() -> None:
    sh("as-user podman import -q /opt/rootfs.tar ub")
    sh("as-user podman run -d --name u --network none --memory 64m --pids-limit 50 ub", *TWO)
    podman_rows("podman rootless", "as-user podman", ["u"], {})
    helpers["pause process of rootless podman"] = int(Path("/run/user/1000/libpod/tmp/pause.pid").read_text())


def containerd() -> None:
    sh("ctr -n k8s.io run -d --rootfs /opt/rootfs ct1 /bin/sleep 1000")
    sh("ctr -n default run -d --rootfs /opt/rootfs web.1 /bin/sh -c", TWO[-1])
    for namespace, key in (("k8s.io", "ct1"), ("default", "web.1")):
        rows = [line.split() for line in sh(f"ctr -n {namespace} task ls").splitlines()[1:]]
        (init,) = (int(pid) for task, pid, status in rows if task == key and status == "RUNNING")
        images = {
            row[0]: row[1] for line in sh(f"ctr -n {namespace} containers ls").splitlines()[1:] if (row := line.split())
        }
        pids = [int(line.split()[0]) for line in sh(f"ctr -n {namespace} task ps {key}").splitlines()[1:]]
        image = None if images[key] == "-" else images[key]
        expect("containerd", key, "ctr task ls, ctr task ps", id=key, init=init, pids=pids, image=image)
    for line in sh("ps -eo pid=,args=").splitlines():
        pid, _, words = line.strip().partition(" ")
        if "containerd-shim" in words:
            helpers[f"shim {words.split('-id ')[1].split()[0][:12]}"] = int(pid)


def bundle(
    folder: str, args: list[str], *, cgroups_path: str = "", annotations: dict[str, str] | None = None, sandbox: int = 0
) -> None:
    """An OCI bundle of /opt/rootfs; with ``sandbox`` in that process' network, IPC and UTS namespaces."""
    Path(folder).mkdir(parents=True)
    spec = json.loads(Path("/b/config.json").read_text())
    spec["root"] = {"path": "/opt/rootfs", "readonly": True}
    spec["process"] |= {"terminal": False, "args": args}
    spec["annotations"] = annotations or {}
    if cgroups_path:
        spec["linux"]["cgroupsPath"] = cgroups_path
    if sandbox:
        spec["hostname"] = ""
        shared = {"network": "net", "ipc": "ipc", "uts": "uts"}
        for one in spec["linux"]["namespaces"]:
            if one["type"] in shared:
                one["path"] = f"/proc/{sandbox}/ns/{shared[one['type']]}"
    Path(folder, "config.json").write_text(json.dumps(spec))


def ask_runtime(runtime: str, key: str) -> dict[str, Any]:
    """Init and members by ``state`` and ``ps``."""
    init = json.loads(sh(f"{runtime} state {key}"))["pid"]
    return {"init": init, "pids": json.loads(sh(f"{runtime} ps --format json {key}"))}


def oci() -> None:
    bundle("/b/rc1", TWO)
    bundle("/b/rc2", ["sleep", "1000"])
    bundle("/b/cr1", TWO)
    detached("runc run -d -b /b/rc1 rc1")
    detached("runc --systemd-cgroup run -d -b /b/rc2 rc2")
    detached("crun run -d -b /b/cr1 cr1")
    for engine, key in (("runc", "rc1"), ("runc", "rc2"), ("crun", "cr1")):
        expect(engine, key, f"{engine} state, {engine} ps", id=key, **ask_runtime(engine, key))


def kubernetes_containerd(
    uid: str, qos: str, namespace: str, pod: str, container: str | None, slice_: str, sandbox: int = 0
) -> int:
    """One container as the kubelet, containerd's CRI plugin and its shim have runc make it."""
    key = container or "sandbox"
    identity, sandbox_id = digest(f"{pod}/{key}"), digest(f"{pod}/sandbox")
    image = f"registry.example/{container}:1.2" if container else "registry.k8s.io/pause:3.9"
    cri = "io.kubernetes.cri."
    annotations = {
        f"{cri}container-type": "container" if container else "sandbox",
        f"{cri}sandbox-id": sandbox_id,
        f"{cri}sandbox-name": pod,
        f"{cri}sandbox-namespace": namespace,
        f"{cri}sandbox-uid": uid,
    }
    if container:
        annotations |= {f"{cri}container-name": container, f"{cri}image-name": image}
    else:
        annotations |= {
            f"{cri}podsandbox.image-name": image,
            f"{cri}sandbox-log-directory": f"/var/log/pods/{namespace}_{pod}_{uid}",
        }
    folder = f"{BUNDLES}/{identity}"
    args = TWO if container else ["/pause", "-P"]
    path = f"{slice_}:cri-containerd:{identity}"
    bundle(folder, args, cgroups_path=path, annotations=annotations, sandbox=sandbox)
    runc = "runc --root /run/containerd/runc/k8s.io"
    detached(f"{runc} --systemd-cgroup run -d -b {folder} --pid-file {folder}/init.pid {identity}")
    asked = ask_runtime(runc, identity)
    expect(
        "kubernetes/containerd",
        f"{pod}/{key}",
        "the bundle, runc state, runc ps",
        runtime="containerd",
        id=identity,
        name=container,
        image=image,
        kind="container" if container else "pause",
        pod={"uid": uid, "name": pod, "namespace": namespace, "qos": qos, "container": container},
        state_file=f"{folder}/config.json",
        **asked,
    )
    return int(asked["init"])


def kubernetes_crio(
    uid: str, qos: str, namespace: str, pod: str, container: str | None, slice_: str, sandbox: int = 0
) -> int:
    """One container as the kubelet and CRI-O have crun make it."""
    key = container or "sandbox"
    identity, sandbox_id = digest(f"{pod}/{key}"), digest(f"{pod}/sandbox")
    image = f"registry.example/{container}:1.2" if container else "registry.k8s.io/pause:3.9"
    crio = "io.kubernetes.cri-o."
    labels = {
        "io.kubernetes.pod.name": pod,
        "io.kubernetes.pod.namespace": namespace,
        "io.kubernetes.pod.uid": uid,
        "io.kubernetes.container.name": container or "POD",
    }
    metadata = {"name": container, "attempt": 0} if container else {"name": pod, "uid": uid, "namespace": namespace}
    annotations = {
        "io.container.manager": "cri-o",
        f"{crio}ContainerID": identity,
        f"{crio}ContainerType": "container" if container else "sandbox",
        f"{crio}Name": f"k8s_{container or 'POD'}_{pod}_{namespace}_{uid}_0",
        f"{crio}SandboxID": sandbox_id,
        f"{crio}SandboxName": f"k8s_{pod}_{namespace}_{uid}_0",
        f"{crio}Image": image,
        f"{crio}ImageName": image,
        f"{crio}Created": "2024-05-06T07:08:09.123456789Z",
        f"{crio}Metadata": json.dumps(metadata),
        f"{crio}Labels": json.dumps(labels),
        **labels,
    }
    if not container:
        annotations |= {
            f"{crio}KubeName": pod,
            f"{crio}Namespace": namespace,
            f"{crio}ContainerName": f"k8s_POD_{pod}_{namespace}_{uid}_0",
            f"{crio}CgroupParent": slice_,
        }
    running, kept = (f"{folder}/{identity}/userdata" for folder in CRIO)
    args = TWO if container else ["/pause", "-P"]
    bundle(running, args, cgroups_path=f"{slice_}:crio:{identity}", annotations=annotations, sandbox=sandbox)
    Path(kept).mkdir(parents=True)
    shutil.copy(f"{running}/config.json", kept)
    detached(f"crun --systemd-cgroup run -d -b {running} {identity}")
    conmon = f"crio-conmon-{identity}"
    scope = f"systemd-run --quiet --scope --unit {conmon} --slice {slice_} sleep 1003"
    subprocess.Popen(scope.split(), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    members = Path(f"/sys/fs/cgroup{pod_cgroup(slice_)}/{conmon}.scope/cgroup.procs")
    monitor = until(lambda: members.exists() and members.read_text().strip(), conmon)
    helpers[f"conmon of CRI-O {key}"] = int(monitor)
    asked = ask_runtime("crun", identity)
    expect(
        "kubernetes/cri-o",
        f"{pod}/{key}",
        "the bundle, crun state, crun ps",
        runtime="cri-o",
        id=identity,
        name=container,
        image=image,
        kind="container" if container else "pause",
        pod={"uid": uid, "name": pod, "namespace": namespace, "qos": qos, "container": container},
        **asked,
    )
    return int(asked["init"])


def pod_cgroup(slice_: str) -> str:
    """Where systemd has put a slice."""
    return sh(f"systemctl show --property ControlGroup --value {slice_}")


def kubernetes() -> None:
    uid = "0f8d5c1e-3a52-4b5f-9c6d-2a7e8b9c0d1e"
    mine = (uid, "burstable", "default", "web")
    slice_ = f"kubepods-burstable-pod{uid.replace('-', '_')}.slice"
    sandbox = kubernetes_containerd(*mine, None, slice_)
    kubernetes_containerd(*mine, "app", slice_, sandbox)
    # A static pod's uid is a hash without dashes.
    static = digest("static")[:32]
    slice_ = f"kubepods-besteffort-pod{static}.slice"
    kubernetes_containerd(static, "besteffort", "kube-system", "etcd-node1", "etcd", slice_)
    uid = "7b3a9d20-11c4-4f0e-8a55-6c1d2e3f4a5b"
    slice_ = f"kubepods-pod{uid.replace('-', '_')}.slice"
    mine = (uid, "guaranteed", "shop", "db-0")
    sandbox = kubernetes_crio(*mine, None, slice_)
    kubernetes_crio(*mine, "postgres", slice_, sandbox)


def lxc() -> None:
    Path("/lxc/box").mkdir(parents=True)
    words = ["uts.name = box", "rootfs.path = dir:/opt/rootfs", "init.cmd = /bin/sleep 1000", "net.0.type = empty"]
    words += ["apparmor.profile = unconfined"]
    Path("/lxc/box/config").write_text("".join(f"lxc.{word}\n" for word in words))
    detached("lxc-start -P /lxc -n box")
    init = int(until(lambda: sh("lxc-info -P /lxc -n box -pH"), "lxc init"))
    expect("lxc", "box", "lxc-info, ps", id="box", name="box", init=init, pids=descendants(init))
    helpers["lxc monitor"] = int(sh(f"ps -p {init} -o ppid="))


def nspawn() -> None:
    for name in ("m1", "m2"):
        shutil.copytree("/opt/rootfs", f"/var/lib/machines/{name}", symlinks=True)
    sh("systemd-run --quiet --unit nsp1 systemd-nspawn --as-pid2 -M m1 /bin/sleep 1000")
    sh("systemd-run --quiet --unit nsp2 systemd-nspawn --as-pid2 --register=no -M m2 /bin/sleep 1000")
    leader = int(until(lambda: sh("machinectl show m1 --property Leader --value", check=False), "machine m1"))
    for name, unit in (("m1", "nsp1"), ("m2", "nsp2")):
        main = int(sh(f"systemctl show --property MainPID --value {unit}"))
        init = (
            leader
            if name == "m1"
            else until(lambda main=main: int(sh(f"ps --ppid {main} -o pid=", check=False) or 0), "m2")
        )
        members = until(lambda init=init: found if len(found := descendants(init)) == 2 else None, "sleep in a machine")
        registered = name == "m1"
        source = "machinectl show, ps" if registered else "systemctl show, ps"
        image = sh("machinectl show m1 --property RootDirectory --value") if registered else None
        known = {"state_file": "/run/systemd/machines/m1"} if registered else {}
        expect("nspawn", name, source, id=name, name=name, image=image, init=init, pids=members, **known)
        helpers[f"nspawn supervisor of {name}"] = main


def isolates() -> None:
    for command in (
        "bwrap --ro-bind /opt/rootfs / --proc /proc --unshare-all sleep 1004",
        "unshare -mUpf --map-root-user sleep 1005",
    ):
        null = subprocess.DEVNULL
        outer = subprocess.Popen(command.split(), stdin=null, stdout=null, stderr=null).pid
        name, mark = command.split()[0], command.split()[-1]
        inner = int(until(lambda mark=mark: sh(f"pgrep -x -f sleep.{mark}", check=False), name))
        extra.setdefault("isolates", {})[name] = {"outer": outer, "inner": inner, "pid_namespace": inode(inner, "pid")}


# --- oracles and questions


def inode(pid: int | str, kind: str) -> int:
    """A namespace's inode by its link; lsns reads no other."""
    return int(os.readlink(f"/proc/{pid}/ns/{kind}").partition("[")[2].rstrip("]"))


def apart() -> list[int]:
    """Every process that has a namespace which is not PID 1's; no kernel threads, no containers' processes."""
    hosts = {kind: inode(1, kind) for kind in NAMESPACES}
    members = {pid for one in expected for pid in one["pids"]}
    found = []
    for line in sh("ps -eo pid=,ppid=").splitlines():
        pid, parent = map(int, line.split())
        if pid in members or 2 in (pid, parent):
            continue
        try:
            if any(inode(pid, kind) != hosts[kind] for kind in NAMESPACES):
                found.append(pid)
        except OSError:
            continue
    return found


def ask(*arguments: str) -> dict[str, Any]:
    """What nsinspect prints; where that is no JSON, its words."""
    done = subprocess.run(
        [sys.executable, "-m", "nsinspect", *arguments, "--json"],
        cwd="/opt/nsinspect",
        capture_output=True,
        text=True,
        timeout=200,
        check=False,
    )
    try:
        return {"document": json.loads(done.stdout), "status": done.returncode, "stderr": done.stderr}
    except ValueError:
        return {
            "document": None,
            "status": done.returncode,
            "stderr": done.stderr[-3000:],
            "stdout": done.stdout[-1000:],
        }


def oracle() -> dict[str, Any]:
    """lsns and getpcaps against nsinspect."""
    done = subprocess.run(
        [sys.executable, "tests/live/oracle.py"],
        cwd="/opt/nsinspect",
        env={**os.environ, "PYTHONPATH": "/opt/nsinspect"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-3000:]}


def readability() -> None:
    """Which fact needs which privilege on this kernel (readability.py)."""
    done = subprocess.run(
        [sys.executable, "tests/live/readability.py"],
        cwd="/opt/nsinspect",
        env={**os.environ, "PYTHONPATH": "/opt/nsinspect"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    extra["readability"] = json.loads(done.stdout) if done.returncode == 0 else {"failed": done.stderr[-3000:]}


def versions() -> dict[str, str]:
    """What is running here, in the programs' own words."""
    commands = {
        "docker": "docker version --format {{.Server.Version}}",
        "podman": "podman --version",
        "containerd": "containerd --version",
        "runc": "runc --version",
        "crun": "crun --version",
        "lxc": "lxc-start --version",
        "nspawn": "systemd-nspawn --version",
        "bwrap": "bwrap --version",
        "unshare": "unshare --version",
    }
    found = {name: sh(command).splitlines()[0] for name, command in commands.items()}
    words = {name: [word for word in line.split() if word[0].isdigit()] for name, line in found.items()}
    return {name: (numbers[0] if numbers else found[name]).split("~")[0] for name, numbers in words.items()}


def guarded(step: Callable[[], Any]) -> None:
    """One engine's failure must not cost what the others tell."""
    start = time.monotonic()
    try:
        step()
    except Exception:  # noqa: BLE001
        failed[step.__name__] = traceback.format_exc()[-3000:]
    seconds[step.__name__] = round(time.monotonic() - start, 1)


def kill_daemons() -> dict[str, bool]:
    """Kill all daemons, one conmon and one shim; whether each of them is gone, and stays gone."""
    (limited,) = (pid for name, pid in helpers.items() if name == "conmon of podman limited")
    (shim,) = (pid for name, pid in helpers.items() if name == "shim web.1")
    victims = {"conmon of limited": limited, "shim of web.1": shim}
    victims |= {name: int(sh(f"pidof {name}")) for name in ("dockerd", "containerd")}
    machined = sh("pidof systemd-machined", check=False)
    if machined:
        victims["systemd-machined"] = int(machined)
    for pid in victims.values():
        os.kill(pid, signal.SIGKILL)
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in victims.values()), "end of the daemons")
    time.sleep(1)
    return {name: not sh(f"pidof {name}", check=False) for name in ("dockerd", "containerd")} | {
        name: not Path(f"/proc/{pid}").exists() for name, pid in victims.items()
    }


def main() -> None:
    for unit in ("docker", "containerd"):
        folder = Path(f"/run/systemd/system/{unit}.service.d")
        folder.mkdir(parents=True)
        (folder / "killable.conf").write_text("[Service]\nRestart=no\n")
    sh("systemctl daemon-reload")
    shutil.copy("/usr/bin/catatonit", "/opt/rootfs/pause")
    Path("/b").mkdir()
    sh("runc spec -b /b")
    with ThreadPoolExecutor(4) as pool:
        # containerd cleans up after tasks it does not know, when it starts: bundles come after that.
        first = pool.submit(guarded, start_docker)
        both = [pool.submit(guarded, step) for step in (podman, rootless, isolates)]
        first.result()
        both += [pool.submit(guarded, step) for step in (docker, oci, kubernetes, lxc, nspawn)]
        for one in both:
            one.result()
    guarded(containerd)
    pids = [1, *(one["init"] for one in expected), *helpers.values()]
    answers: dict[str, Any] = {"versions": versions(), "kernel": os.uname().release}
    answers["cgroups"] = {pid: Path(f"/proc/{pid}/cgroup").read_text() for pid in pids}
    before = apart()
    start = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        asked = {
            "list": pool.submit(ask, "list"),
            "all": pool.submit(ask, "list", "--all"),
            "pid": pool.submit(ask, "pid", *map(str, pids)),
            "show": pool.submit(ask, "show", "default/web/app"),
            "show_crio": pool.submit(ask, "show", "shop/db-0/postgres"),
            "findings": pool.submit(ask, "findings"),
            "oracle": pool.submit(oracle),
        }
        answers |= {name: future.result() for name, future in asked.items()}
    seconds["questions"] = round(time.monotonic() - start, 1)
    after = apart()
    answers["apart"] = {"surely": sorted(set(before) & set(after)), "perhaps": sorted(set(before) | set(after))}
    answers["inodes"] = {one["key"]: {kind: inode(one["init"], kind) for kind in NAMESPACES} for one in expected}
    answers["host_inodes"] = {kind: inode(1, kind) for kind in NAMESPACES}

    def murder() -> None:
        answers["gone"] = kill_daemons()

    guarded(murder)
    inits = [1, *(one["init"] for one in expected)]
    with ThreadPoolExecutor(2) as pool:
        later, later_pid = pool.submit(ask, "list"), pool.submit(ask, "pid", *map(str, inits))
        answers |= {"list_after": later.result(), "pid_after": later_pid.result()}
    # Last, because it starts containers of its own.
    guarded(readability)
    answers |= {"expected": expected, "helpers": helpers, "failed": failed, "seconds": seconds, **extra}
    print(json.dumps(answers))


def start_docker() -> None:
    sh("systemctl start containerd")
    sh("start-docker")


if __name__ == "__main__":
    main()
