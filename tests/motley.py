"""A host with a container of every engine that keeps state, as files: what a captured host is too orderly for.

Its processes, limits and files of engines are those of the bundled hosts, under other numbers and names.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from fuzz.seeds import ANNOTATIONS
from tests.looks import HOSTS

ID = {name: letter * 64 for name, letter in (("docker", "d"), ("containerd", "c"), ("cri-o", "0"), ("podman", "b"))}
_KIND = "io.kubernetes.cri-o.ContainerType"
_DATABASE = Path(__file__).parent / "fixtures/state/podman-5.4.2-db.sql"


class Resident(NamedTuple):
    """A container: its engine, id and init, the cgroup of it, and the files that its engine has of it alone."""

    runtime: str
    id: str
    pid: int
    cgroup: str
    files: tuple[str, ...]


def _engines() -> list[tuple[str, str, str, dict[str, Any]]]:
    """Runtime, id, cgroup, and state by path."""
    spec = json.loads(next((HOSTS / "podman-v2").glob("**/userdata/config.json")).read_bytes())
    docker = next((HOSTS / "docker-hybrid").glob("**/config.v2.json"))
    status = json.loads(next((HOSTS / "podman-v2").glob("run/crun/*/status")).read_bytes())

    def runc(bundle: str) -> dict[str, Any]:
        return {
            "created": "2026-01-01T00:00:00Z",
            "init_process_pid": 0,
            "cgroup_paths": {"": "/sys/fs/cgroup/runc-web.scope"},
            "config": {"labels": [f"bundle={bundle}", "io.example=x"]},
        }

    def storage(name: str) -> str:
        return f"/run/containers/storage/overlay-containers/{name}/userdata/config.json"

    pods = "/kubepods.slice/kubepods-burstable.slice"
    task = f"/run/containerd/io.containerd.runtime.v2.task/k8s.io/{ID['containerd']}"
    moby = f"/var/lib/docker/containers/{ID['docker']}"
    return [
        (
            "docker",
            ID["docker"],
            f"/system.slice/docker-{ID['docker']}.scope",
            {
                f"{moby}/config.v2.json": json.loads(docker.read_bytes()) | {"ID": ID["docker"], "Name": "/shop"},
                f"{moby}/hostconfig.json": json.loads((docker.parent / "hostconfig.json").read_bytes()),
            },
        ),
        (
            "containerd",
            ID["containerd"],
            f"{pods}/cri-containerd-{ID['containerd']}.scope",
            {f"{task}/config.json": {**spec, "annotations": ANNOTATIONS["containerd"]}, f"{task}/init.pid": b"1"},
        ),
        (
            "cri-o",
            ID["cri-o"],
            f"{pods}/crio-{ID['cri-o']}.scope",
            {storage(ID["cri-o"]): {**spec, "annotations": ANNOTATIONS["cri-o"] | {_KIND: "container"}}},
        ),
        (
            "podman",
            ID["podman"],
            f"/machine.slice/libpod-{ID['podman']}.scope/container",
            {storage(ID["podman"]): spec},
        ),
        (
            "runc",
            "web",
            "/runc-web.scope",
            {"/run/runc/web/state.json": runc("/srv/web"), "/srv/web/config.json": spec},
        ),
        (
            "runc",
            "mine",
            "/user.slice/runc-mine.scope",
            {"/run/user/1000/runc/mine/state.json": runc("/home/u/b"), "/home/u/b/config.json": spec},
        ),
        ("crun", "job", "/crun-job.scope", {"/run/crun/job/status": status, "/run/crun/job/config.json": spec}),
        ("lxc", "box", "/lxc.payload.box", {"/var/lib/lxc/box/config": b"lxc.uts.name = box\n"}),
        (
            "nspawn",
            "deb",
            "/machine.slice/systemd-nspawn@deb.service/payload",
            {"/run/systemd/machines/deb": b"NAME=deb\nROOT=/var/lib/machines/deb\nREALTIME=1700000000000000\n"},
        ),
    ]


def build(root: Path) -> tuple[Resident, ...]:
    """Make it below ``root``, which is not there yet."""
    shutil.copytree(HOSTS / "podman-v2", root, symlinks=True)
    init, monitor = _one_and_its_monitor(root)
    limits = next((root / "sys/fs/cgroup/libpod_parent").glob("libpod-*"))
    residents = []
    for number, (runtime, name, cgroup, state) in enumerate(_engines()):
        pid = 5001 + 2 * number
        _process(root, monitor, pid - 1, 1, "/", "")
        _process(root, init, pid, pid - 1, cgroup, next(iter(state)).rpartition("/")[0])
        place = root / "sys/fs/cgroup" / cgroup.strip("/")
        shutil.copytree(limits, place)
        for path, content in state.items():
            (root / path[1:]).parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, dict) and "init_process_pid" in content:
                content["init_process_pid"] = pid
            if isinstance(content, dict) and "cgroup-path" in content:
                content |= {"pid": pid, "cgroup-path": cgroup}
            data = content if isinstance(content, bytes) else json.dumps(content, ensure_ascii=True).encode()
            (root / path[1:]).write_bytes(data)
        residents.append(Resident(runtime, name, pid, cgroup, tuple(path[1:] for path in state)))
    shutil.copy(_DATABASE, root / "var/lib/containers/storage/db.sql")
    return tuple(residents)


def _one_and_its_monitor(root: Path) -> tuple[Path, Path]:
    init = min((path.parent for path in root.glob("proc/*/uid_map")), key=lambda path: int(path.name))
    return init, root / "proc" / init.joinpath("stat").read_text().split()[3]


def _process(root: Path, model: Path, pid: int, parent: int, cgroup: str, state: str) -> None:
    """Like another one, with namespaces, threads, sockets and a cgroup of its own; ``state`` is bound into it."""
    place = root / f"proc/{pid}"
    shutil.copytree(model, place, symlinks=True)
    stat = (model / "stat").read_text()
    (place / "stat").write_text(re.sub(r"^\d+ (\(.*\) \w) \d+", rf"{pid} \1 {parent}", stat))
    (place / "cgroup").write_text(f"0::{cgroup}\n")
    (place / "exe").symlink_to("/usr/bin/sleep")
    (place / "cwd").symlink_to("/")
    if not state:
        return
    for number, kind in enumerate(("ipc", "mnt", "net", "pid", "uts")):
        (place / "ns" / kind).unlink()
        (place / "ns" / kind).symlink_to(f"{kind}:[{4026540000 + pid * 10 + number}]")
    with (place / "mountinfo").open("a") as table:
        table.write(f"900 41 0:15 {state}/hosts /etc/hosts rw,relatime - hostfs /dev/root rw\n")
    (place / "fd").mkdir()
    (place / "fd/3").symlink_to(f"socket:[{pid}]")
    (place / "net").mkdir()
    (place / "net/tcp").write_text(
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
        f"   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 {pid} 1 0 0\n"
    )
    thread = place / f"task/{pid + 20000}"
    thread.mkdir(parents=True)
    for name in ("stat", "status", "cgroup"):
        shutil.copy(place / name, thread / name)
    shutil.copytree(place / "ns", thread / "ns", symlinks=True)


def again(root: Path, place: Path) -> Path:
    """The same once more, quickly: files are links, so nothing there may be written to, only replaced."""
    return Path(shutil.copytree(root, place, symlinks=True, copy_function=os.link))
