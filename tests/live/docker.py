"""A Docker daemon of our own on this machine, with its folders where it does not usually keep them."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path
from typing import Any


class Docker:
    """``dockerd`` without networks and firewall rules, below one directory.  A context manager."""

    def __init__(self, directory: Path, rootfs: Path) -> None:
        self.directory = directory
        self.socket = f"unix://{directory}/docker.sock"
        self._rootfs = rootfs
        self._daemon: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Docker:
        self.start()
        self("import", str(self._rootfs), "bb")
        return self

    def start(self) -> None:
        """Start the daemon and wait until it answers; containers of an earlier one are found again."""
        command = ["dockerd", "--data-root", "data", "--exec-root", "exec", "-H", self.socket, "--pidfile", "pid"]
        command += ["--iptables=false", "--bridge=none", "--live-restore"]
        command = [str(self.directory / word) if word in ("data", "exec", "pid") else word for word in command]
        with (self.directory / "dockerd.log").open("ab") as log:
            self._daemon = subprocess.Popen(command, stdout=log, stderr=log, cwd=self.directory)
        deadline = time.monotonic() + 60
        while self._client("info").returncode:
            assert self._daemon.poll() is None, (self.directory / "dockerd.log").read_text()[-2000:]
            assert time.monotonic() < deadline, (self.directory / "dockerd.log").read_text()[-2000:]
            time.sleep(0.2)

    def stop_daemon(self, *, kill: bool = False) -> None:
        """End the daemon alone; containers go on."""
        assert self._daemon
        (self._daemon.kill if kill else self._daemon.terminate)()
        self._daemon.wait(60)
        # containerd dies with a killed dockerd, and its pid stays taken where PID 1 reaps nobody; the next dockerd
        # would wait for that one to answer.
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def __exit__(self, *_: object) -> None:
        if self._daemon and self._daemon.poll() is not None:
            self.start()
        containers = self("ps", "-aq").split()
        if containers:
            self("rm", "-f", *containers)
        self.stop_daemon()
        # containerd is the daemon's child and ends with it, but not at once; its shims hold mounts until then.
        for _ in range(50):
            mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
            mine = [point for point in mounts if point.startswith(f"{self.directory}/")]
            if not mine:
                break
            for point in reversed(mine):
                subprocess.run(["umount", "-l", point], check=False, stderr=subprocess.DEVNULL, timeout=30)
            time.sleep(0.1)

    def __call__(self, *arguments: str) -> str:
        """Run the client; its output.  Raises ``AssertionError`` with its complaint."""
        answer = self._client(*arguments)
        assert answer.returncode == 0, answer.stderr
        return answer.stdout.strip()

    def run(self, name: str, *flags: str, command: tuple[str, ...] = ("sleep", "3000")) -> str:
        """Start a container; its id."""
        network = () if any(flag in ("--net", "--network") for flag in flags) else ("--net", "none")
        return self("run", "-d", "--name", name, *network, *flags, "bb", *command)

    def inspect(self, name: str) -> dict[str, Any]:
        """``docker inspect`` of one container."""
        found: dict[str, Any] = json.loads(self("inspect", name))[0]
        return found

    def _client(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "DOCKER_HOST": self.socket}
        return subprocess.run(
            ["docker", *arguments], capture_output=True, text=True, check=False, timeout=120, env=environment
        )
