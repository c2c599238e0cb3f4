"""A root file system for containers: busybox and a handful of links, made on the spot because no registry is needed."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

APPLETS = ("sh", "sleep", "ls", "ps", "cat", "mkdir", "id", "top", "yes", "dd", "printf", "true")
USERS = "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/:/bin/sh\n"


def make_rootfs(directory: Path) -> Path:
    """A tar below ``directory`` that ``docker import`` and ``podman import`` take."""
    root = directory / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    busybox = shutil.which("busybox")
    assert busybox, "busybox-static is not installed"
    shutil.copy2(busybox, root / "bin/busybox")
    for applet in APPLETS:
        (root / "bin" / applet).symlink_to("busybox")
    (root / "etc/passwd").write_text(USERS)
    tar = directory / "rootfs.tar"
    subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "."], check=True, timeout=60)
    return tar
