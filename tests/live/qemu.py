"""A whole Debian machine under QEMU: the kernel to use where systemd has to be PID 1.

What the other kernels cannot give: systemd as PID 1 on a pure cgroup v2 with cpuset and PSI, Docker with the systemd
driver, `systemctl daemon-reload` changing limits behind Docker's back, AppArmor, real `--privileged`, rootless podman
in a user session, systemd units of our own. Needs root and PACKAGES_NEEDED; no KVM, no network in the guest.

    python3 tests/live/qemu.py 'start-docker && docker info'        or        --script FILE
"""

from __future__ import annotations

import argparse
import hashlib
import io
import os
import re
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

PACKAGES_NEEDED = ("qemu-system-x86", "mmdebstrap", "cpio", "kmod", "e2fsprogs", "busybox-static", "util-linux")
CHECKOUT = Path(__file__).resolve().parents[2]
CUSTOMIZE = Path(__file__).with_name("qemu_customize.sh").read_text()

GUEST_PACKAGES = """
    systemd systemd-sysv dbus udev kmod passwd procps iproute2 curl util-linux libcap2-bin libcap-ng-utils
    busybox-static docker.io containerd runc podman crun catatonit lxc systemd-container bubblewrap apparmor
    uidmap slirp4netns fuse-overlayfs libpam-systemd dbus-user-session
    python3 python3-click python3-psutil python3-prometheus-client python3-pyroute2 python3-rich
    python3-h11 python3-bcrypt python3-yaml python3-pip openssl prometheus
"""

# In the initramfs; virtio_console is loaded here as well so that the ports exist before any unit runs.
MODULES = ("virtio_pci", "virtio_blk", "virtio_console", "ext4")
INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
while read -r module; do /bin/busybox insmod "/modules/$module"; done </modules/order
/bin/busybox mount -t ext4 -o noatime /dev/vda /root
/bin/busybox mount -o move /dev /root/dev
exec /bin/busybox switch_root /root /lib/systemd/systemd
"""
CMDLINE = "console=ttyS0 panic=-1 quiet loglevel=4 mitigations=off nokaslr audit=0 nowatchdog random.trust_cpu=on"
# la57=off: with five page-table levels every emulated TLB miss costs one step more.
QEMU = """setpriv --pdeathsig KILL qemu-system-x86_64 -machine q35 -accel tcg,thread=multi,tb-size=512 -smp 2
    -cpu max,la57=off -m 2048 -nodefaults -no-user-config -display none -no-reboot -device virtio-serial-pci"""


def _sh(*command: str, timeout: float = 600, cwd: Path | None = None) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout, cwd=cwd, check=False)
    if done.returncode:
        words = done.stderr.decode(errors="replace")[-4000:]
        raise RuntimeError(f"{' '.join(command)[:200]} exited with {done.returncode}:\n{words}")
    return done.stdout.decode()


def _build(into: Path) -> None:
    """Make vmlinuz, initrd.gz and root.ext4 with the apt sources and options of this machine."""
    root, kernel = into / "root", into / "kernel"
    sources = _sh(
        "apt-get", "indextargets", "--format", "$(CODENAME) deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages", "Origin: Debian",
    ).splitlines()  # fmt: skip
    if not sources:
        raise RuntimeError("apt knows no package lists of Debian here; run apt-get update")
    options = [line for line in _sh("apt-config", "dump", "Acquire").splitlines() if "::IndexTargets" not in line]
    (into / "apt.conf").write_text("\n".join(options) + "\n")
    # In a mount and pid namespace of its own: an interrupted build leaves no bind mount behind for our rmtree to enter.
    _sh(
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc",
        "mmdebstrap", "--variant=minbase", "--include=" + ",".join(GUEST_PACKAGES.split()),
        f"--aptopt={into / 'apt.conf'}", "--dpkgopt=path-exclude=/usr/share/doc/*",
        "--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
        f"--customize-hook={CUSTOMIZE}", sources[0].split()[0], str(root), *(s.split(maxsplit=1)[1] for s in sources),
        timeout=1800,
    )  # fmt: skip

    # mmdebstrap empties it, and an empty one means a first boot, which takes 3 s longer.
    (root / "etc/machine-id").write_text(f"{secrets.token_hex(16)}\n")

    kernel.mkdir()
    found = re.search(r"Depends: (linux-image-\S+)", _sh("apt-cache", "depends", "linux-image-cloud-amd64"))
    if found is None:
        raise RuntimeError("linux-image-cloud-amd64 depends on no kernel; run apt-get update")
    _sh("apt-get", "download", found[1], cwd=kernel)
    _sh("dpkg", "-x", str(next(kernel.glob("*.deb"))), str(kernel))
    version = found[1].removeprefix("linux-image-")
    (kernel / "boot" / f"vmlinuz-{version}").rename(into / "vmlinuz")
    (root / "lib/modules").mkdir(exist_ok=True)
    (kernel / "lib/modules" / version).rename(root / "lib/modules" / version)
    _sh("depmod", "-b", str(root), version)

    early = into / "initramfs"
    for name in ("bin", "dev", "root", "modules"):
        (early / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", early / "bin/busybox")
    (early / "init").write_text(INIT)
    (early / "init").chmod(0o755)
    order: dict[str, None] = {}  # a set that keeps the order
    for module in MODULES:
        for line in _sh("modprobe", "-d", str(root), "-S", version, "--show-depends", module).splitlines():
            if line.startswith("insmod "):
                path = Path(line.split()[1])
                shutil.copy(path, early / "modules")
                order[path.name] = None
    (early / "modules/order").write_text("".join(f"{name}\n" for name in order))
    _sh("sh", "-c", "find . | cpio --quiet -o -H newc | gzip -1 >../initrd.gz", cwd=early)
    with (into / "root.ext4").open("wb") as image:
        image.truncate(6 << 30)
    _sh("mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1", "-d", str(root), str(into / "root.ext4"))
    for leftover in (root, kernel, early):
        shutil.rmtree(leftover)
    (into / "apt.conf").unlink()


def image() -> Path:
    """The directory of the cached image, built on first use and again whenever its recipe changes."""
    # The number stands for _build itself: raise it when that changes.
    recipe = "\0".join((*GUEST_PACKAGES.split(), CUSTOMIZE, *MODULES, INIT, "2"))
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nsinspect"
    ready = cache / f"qemu-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}"
    if not ready.is_dir():
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".qemu-", dir=cache) as building:
            Path(building).chmod(0o755)  # apt's own user has to reach into it
            work = Path(building, "image")
            work.mkdir()
            _build(work)
            if not ready.is_dir():  # another run may have been quicker
                work.rename(ready)
    return ready


def _payload(script: str, mark: str, files: Mapping[str, bytes]) -> bytes:
    """The tar that the guest unpacks over its root: the checkout, the script, the caller's files."""

    def keep(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
        name = member.name.rsplit("/", 1)[-1]
        if name.startswith(".") or name in {"__pycache__", "build", "dist", "venv", "node_modules"}:
            return None
        member.uid = member.gid = 0
        member.uname = member.gname = "root"
        return member

    buffer = io.BytesIO()
    live = {"/run/nsinspect-live/script": script.encode(), "/run/nsinspect-live/mark": f"{mark}\n".encode()}
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.add(CHECKOUT, "opt/nsinspect", filter=keep)
        for path, content in {**files, **live}.items():
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.mtime = len(content), 0o755, int(time.time())
            tar.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


class Qemu:
    """One guest per `run`; after it, `stderr`, `console` and `timings` (seconds) tell about that run."""

    name = "qemu"

    def __init__(self) -> None:
        self.stderr = self.console = ""
        self.timings: dict[str, float] = {}

    def run(self, script: str, *, timeout: float, files: Mapping[str, bytes] | None = None) -> str:
        """Boot, run the bash script as root after multi-user.target, and return what it printed to stdout.

        The checkout is at /opt/nsinspect, a copy for this guest alone. Bytes that are no UTF-8 come back as
        surrogate escapes. Building the image, when it has to be, does not count towards the timeout."""
        start = time.monotonic()
        base = image()
        self.timings = {"image": time.monotonic() - start}
        mark = f"nsinspect-live-{secrets.token_hex(16)}"
        with tempfile.TemporaryDirectory(prefix="nsinspect-qemu-") as tmp:
            work = Path(tmp)
            (work / "payload.tar").write_bytes(_payload(script, mark, files or {}))
            command = QEMU.split()
            command += ["-kernel", str(base / "vmlinuz"), "-initrd", str(base / "initrd.gz"), "-append", CMDLINE]
            # snapshot=on: writes go to an unlinked overlay of qemu's own, the cached image is opened read-only.
            command += ["-drive", f"file={base / 'root.ext4'},format=raw,if=virtio,cache=unsafe,snapshot=on"]
            command += ["-drive", f"file={work / 'payload.tar'},format=raw,if=virtio,read-only=on"]
            command += ["-serial", f"file:{work / 'console'}"]
            for number, port in enumerate(("out", "err"), 1):
                command += ["-chardev", f"file,id={port},path={work / port}"]
                command += ["-device", f"virtserialport,chardev={port},nr={number}"]
            with (work / "qemu").open("wb") as own_words:
                overlay_in = {**os.environ, "TMPDIR": tmp}
                guest = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=own_words, stderr=own_words, env=overlay_in
                )
            start = time.monotonic()
            try:
                ended = self._wait(guest, work, mark.encode(), start + timeout)
            finally:
                guest.kill()
                guest.wait()
            self.timings["run"] = time.monotonic() - start

            def read(name: str) -> bytes:
                return (work / name).read_bytes() if (work / name).exists() else b""

            out, _, trailer = read("out").partition(mark.encode())
            self.stderr = read("err").partition(mark.encode())[0].decode(errors="surrogateescape")
            self.console = (read("qemu") + read("console")).decode(errors="replace")
        stdout = out.decode(errors="surrogateescape")
        if ended is None:
            status, uptime = trailer.split()[:2]
            self.timings["boot"] = float(uptime)
            if status == b"0":
                return stdout
            ended = f"the script exited with {int(status)}"
        raise RuntimeError(
            f"qemu: {ended}\n--- stdout\n{stdout[-4000:]}\n--- stderr\n{self.stderr[-4000:]}\n--- console\n"
            f"{self.console[-4000:]}"
        )

    @staticmethod
    def _wait(guest: subprocess.Popen[bytes], work: Path, mark: bytes, deadline: float) -> str | None:
        """None when the script has ended; otherwise why it never will."""
        while time.monotonic() < deadline:
            gone = guest.poll() is not None
            try:
                ends = [mark in (work / "err").read_bytes(), b"\n" in (work / "out").read_bytes().partition(mark)[2]]
            except FileNotFoundError:
                ends = [False]
            if all(ends):
                return None
            if gone:
                return f"the guest went away (qemu exited with {guest.returncode}) before the script ended"
            time.sleep(0.1)
        return "timeout"


def main() -> int:
    parser = argparse.ArgumentParser(description="run a bash script as root in the guest")
    parser.add_argument("text", nargs="?", default="", help="the script itself")
    parser.add_argument("--script", type=Path, help="or a file with it")
    parser.add_argument("--timeout", type=float, default=600)
    options = parser.parse_args()
    guest = Qemu()
    script = options.script.read_text() if options.script else options.text
    try:
        sys.stdout.write(guest.run(script, timeout=options.timeout))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    sys.stderr.write(guest.stderr)
    print({what: round(seconds, 1) for what, seconds in guest.timings.items()}, file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
