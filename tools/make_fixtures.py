"""Make the bundled hosts anew: start containers on real kernels and capture what nsinspect reads of them.

    sudo python tools/make_fixtures.py [NAME...]

Needs what the live tier needs (tests/live/README.md).  Replaces tests/fixtures/hosts/NAME; run ``make generate`` after.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from tests.live.docker import Docker
from tests.live.rootfs import make_rootfs
from tests.live.uml import V1, V2, Uml

HOSTS = HERE / "tests/fixtures/hosts"
CAPTURE = [sys.executable, str(HERE / "tools/capture_host.py")]

PODMAN = """
set -e
podman() {{ command podman --cgroup-manager cgroupfs --storage-driver vfs "$@"; }}
cd /
podman import -q {rootfs} bb
podman run -d --name web --memory 64m --memory-swap 128m --cpus 0.5 --pids-limit 40 --network none bb sleep 1000
podman run -d --name priv --privileged --network none bb sleep 1000
podman run -d --name plain --network none --cap-add NET_ADMIN --cpu-shares 512 bb sleep 1000
podman exec -d --privileged web sleep 999
sleep 0.5
PYTHONPATH={here} {capture} {target}
"""


def docker_hybrid(target: Path, directory: Path, rootfs: Path) -> None:
    """Docker on this machine: limits, a shared network, host namespaces, and a locked-down one."""
    with Docker(directory, rootfs) as docker:
        docker.run(
            "web",
            *("--memory", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--cpus", "1.5"),
            *("--pids-limit", "40", "--cap-add", "NET_ADMIN", "--cap-drop", "SETPCAP", "-l", "team=shop"),
            command=("sleep", "30000"),
        )
        docker("exec", "-d", "-u", "1000", "web", "sleep", "29999")
        docker.run("sidecar", "--net", "container:web", "--cpu-shares", "512", "--cpuset-cpus", "0")
        host = ("--net", "host", "--pid", "host", "--ipc", "host", "--uts", "host")
        docker.run(
            "agent", *host, "--cap-add", "ALL", "--cap-drop", "SYS_RESOURCE", "--security-opt", "seccomp=unconfined"
        )
        docker.run(
            "locked",
            *("--user", "1000", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--read-only"),
            *("--memory", "64m", "--memory-swap", "64m"),
        )
        docker.run("plain")
        subprocess.run(
            [*CAPTURE, str(target), "web", "sidecar", "agent", "locked", "plain"],
            check=True,
            cwd=HERE,
            env={"PYTHONPATH": str(HERE), "PATH": "/usr/bin:/bin"},
        )


def podman(cgroups: str) -> Callable[[Path, Path, Path], None]:
    """Podman in user-mode Linux, with v1 or v2."""

    def make(target: Path, _: Path, rootfs: Path) -> None:
        capture = shlex.join(CAPTURE)
        Uml(cgroups).run(PODMAN.format(rootfs=rootfs, here=HERE, capture=capture, target=target), timeout=240)

    return make


MAKERS = {"docker-hybrid": docker_hybrid, "podman-v1": podman(V1), "podman-v2": podman(V2)}


def main() -> None:
    """Make those named, or all."""
    for name in sys.argv[1:] or MAKERS:
        target = HOSTS / name
        shutil.rmtree(target, ignore_errors=True)
        with tempfile.TemporaryDirectory() as directory:
            MAKERS[name](target, Path(directory), make_rootfs(Path(directory)))
        print(f"{target}: {sum(1 for _ in target.rglob('*'))} files")


if __name__ == "__main__":
    main()
