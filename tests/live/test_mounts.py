"""Mounts that a real Docker made, against what it was asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.live.docker import Docker

Ask = Callable[..., dict[str, Any]]


def test_every_fact_of_dangerous_mounts(docker: Docker, ask: Ask, tmp_path: Path):
    socket = f"{docker.directory}/docker.sock"
    data = tmp_path / "data"
    data.mkdir()
    docker.run(
        "mounts",
        *("-v", "/:/host", "-v", f"{socket}:/var/run/docker.sock:ro", "-v", f"{data}:/data:ro", "-v", "named:/named"),
        *("--read-only", "--tmpfs", "/run/secrets", "--tmpfs", "/scratch"),
    )
    shown = ask("show", "mounts")["container"]
    asked = docker.inspect("mounts")["HostConfig"]
    covered = {*asked["MaskedPaths"], *asked["ReadonlyPaths"]}
    docker("rm", "-f", "-v", "mounts")
    found = {one["point"]: one for one in shown["mounts"]}

    assert shown["security"]["read_only_rootfs"] is True
    assert (found["/host"]["host_path"], found["/host"]["read_only"]) == ("/", False)
    assert found["/host"]["why"] == "everything on the host"
    # /var/run is a link to /run in many images, and a folder in this one.
    assert found["/var/run/docker.sock"]["host_path"] == socket
    assert found["/var/run/docker.sock"]["read_only"] is True
    assert found["/var/run/docker.sock"]["why"].startswith("an engine's socket")
    assert (found["/data"]["host_path"], found["/data"]["read_only"], found["/data"]["why"]) == (str(data), True, None)
    assert found["/named"]["host_path"].endswith("/volumes/named/_data")
    assert found["/run/secrets"] == {
        "point": "/run/secrets",
        "host_path": None,
        "fstype": "tmpfs",
        "read_only": False,
        "propagation": "private",
        "secret": True,
        "why": None,
    }
    assert found.keys() == {"/host", "/var/run/docker.sock", "/data", "/named", "/run/secrets"}
    # Those of the engine's list that this kernel has.
    assert shown["security"]["masked_paths"] == sorted(path for path in covered if Path(path).exists())


def test_a_plain_container_sees_nothing_of_the_host(docker: Docker, ask: Ask):
    docker.run("mounts-none")
    shown = ask("show", "mounts-none")["container"]
    docker("rm", "-f", "mounts-none")

    assert shown["mounts"] == []


def test_host_namespaces_alone_mount_nothing(docker: Docker, ask: Ask):
    """With the host's network, pids and ipc the kernel's own file systems are the host's, and still no path of it."""
    docker.run("mounts-host", "--net", "host", "--pid", "host", "--ipc", "host")
    shown = ask("show", "mounts-host")["container"]
    docker("rm", "-f", "mounts-host")

    assert [one for one in shown["mounts"] if one["why"]] == []


def test_a_sensitive_path_is_said_to_be_one(docker: Docker, ask: Ask):
    docker.run("mounts-etc", "-v", "/etc:/conf:ro", "-v", "/proc:/host/proc:ro", "-v", "/dev:/devices")
    found = {one["point"]: one for one in ask("show", "mounts-etc")["container"]["mounts"]}
    docker("rm", "-f", "mounts-etc")

    assert (found["/conf"]["why"], found["/conf"]["read_only"]) == ("the host's configuration", True)
    assert (found["/host/proc"]["host_path"], found["/host/proc"]["why"]) == ("/proc", "the host's processes")
    assert (found["/devices"]["why"], found["/devices"]["read_only"]) == ("the host's devices", False)
