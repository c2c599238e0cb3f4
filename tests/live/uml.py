"""User-mode Linux: a pure cgroup v2 kernel as one process, booting in seconds on this machine's own files.

What the others cannot give: v1 or v2 at will without a machine image, and all 41 capabilities where this machine's
root has lost some.  No cpuset, no pressure, no time namespaces.
"""

from __future__ import annotations

import itertools
import os
import shlex
import signal
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent

# Its processes take turns at every system call; on one processor that needs no interrupt from one to the other, which
# takes most of the time where this machine is itself a guest.
_CPUS = itertools.cycle(sorted(os.sched_getaffinity(0)))

V2 = """
mount -t cgroup2 cgroup2 /sys/fs/cgroup
echo "+cpu +memory +pids +io" > /sys/fs/cgroup/cgroup.subtree_control
"""
V1 = """
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
for c in cpu,cpuacct memory pids blkio devices freezer; do
    mkdir /sys/fs/cgroup/$c && mount -t cgroup -o $c cgroup /sys/fs/cgroup/$c
done
ln -s cpu,cpuacct /sys/fs/cgroup/cpu
ln -s cpu,cpuacct /sys/fs/cgroup/cpuacct
mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd
"""

INIT = """#!/bin/bash
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TMPDIR=/var/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
for place in /run /var/tmp /var/lib/containers /dev/shm; do mkdir -p $place; mount -t tmpfs tmpfs $place; done
mkdir -p /dev/pts; mount -t devpts devpts /dev/pts
{cgroups}
cd {checkout}
bash {script} >{folder}/stdout 2>{folder}/stderr </dev/null
echo $? >{folder}/status
halt -f -p
"""


class Uml:
    """One kernel, booted anew for each script."""

    name = "uml"

    def __init__(self, cgroups: str = V2, memory: str = "1G") -> None:
        self._cgroups = cgroups
        self._memory = memory
        self.stderr = ""

    def run(self, script: str, *, timeout: float = 120) -> str:
        """Run a bash script as root on a kernel of its own; its output.

        Files it writes outside /run, /var/tmp and /var/lib/containers are this machine's.  Raises ``RuntimeError``
        with what was printed when the script fails or the kernel does not come to its end.
        """
        with tempfile.TemporaryDirectory(prefix="nsinspect-uml-") as name:
            folder = Path(name)
            (folder / "script").write_text(script)
            init = folder / "init"
            words = {"folder": folder, "script": folder / "script", "checkout": shlex.quote(str(HERE.parent.parent))}
            init.write_text(INIT.format(cgroups=self._cgroups, **words))
            init.chmod(0o755)
            console = self._boot(init, timeout)
            output = {part: self._read(folder / part) for part in ("stdout", "stderr", "status")}
            self.stderr = output["stderr"]
            if output["status"].strip() != "0":
                raise RuntimeError(f"script failed on user-mode Linux: {output}\nconsole: {console[-2000:]}")
            return output["stdout"]

    def _boot(self, init: Path, timeout: float) -> str:
        preload = init.parent / "uml_xstate.so"
        compile_it = ["cc", "-O2", "-shared", "-fPIC", "-o", str(preload), str(HERE / "uml_xstate.c")]
        subprocess.run(compile_it, check=True, timeout=60)
        command = ["taskset", "--cpu-list", str(next(_CPUS)), "linux.uml", f"mem={self._memory}"]
        command += ["rootfstype=hostfs", "rootflags=/", "rw", f"init={init}"]
        command += ["con=null", "con0=null,fd:1", "quiet", f"uml_dir={init.parent}"]
        environment = {"LD_PRELOAD": str(preload), "PATH": "/usr/bin:/bin", "HOME": str(init.parent)}
        pipe, null = subprocess.PIPE, subprocess.DEVNULL
        kernel = subprocess.Popen(
            command, stdin=null, stdout=pipe, stderr=subprocess.STDOUT, env=environment, start_new_session=True
        )
        try:
            return kernel.communicate(timeout=timeout)[0].decode("utf-8", "replace")
        except subprocess.TimeoutExpired:
            # Each process of the guest is one of this machine's, stopped under ptrace: they all have to go.
            os.killpg(kernel.pid, signal.SIGKILL)
            return f"timed out after {timeout} s\n" + kernel.communicate()[0].decode("utf-8", "replace")

    @staticmethod
    def _read(path: Path) -> str:
        return path.read_text("utf-8", "surrogateescape") if path.exists() else ""
