"""The exporter in a container, started with the very flags that docs/exporter.md gives."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.docker import Docker

CHECKOUT = Path(__file__).parents[2]
PACKAGES = Path(sys.prefix) / f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"
HOSTS = {Path(sys.base_prefix), PACKAGES, CHECKOUT, Path("/usr"), Path("/lib"), Path("/lib64")}


def recipe() -> list[str]:
    """The flags of ``docker run`` in the page, without its name and what is run."""
    page = (CHECKOUT / "docs/exporter.md").read_text()
    found = re.search(r"docker run -d --name nsinspect (.*?) nsinspect serve\n", page, re.DOTALL)
    assert found
    return found[1].replace("\\\n", " ").split()


def once(docker: Docker, *flags: str) -> str:
    """One scrape of a container whose Python and packages are this machine's."""
    mounts = [word for path in sorted(HOSTS) if path.exists() for word in ("-v", f"{path}:{path}:ro")]
    environment = ["-e", f"PYTHONPATH={PACKAGES}:{CHECKOUT}", "-e", f"LD_LIBRARY_PATH={sys.base_prefix}/lib"]
    program = f"{sys.base_prefix}/bin/python3"
    return docker("run", "--rm", *flags, *mounts, *environment, "bb", program, "-m", "nsinspect", "serve", "--once")


def test_it_sees_the_hosts_containers_with_one_capability(docker: Docker, ask: Callable[..., dict[str, Any]]):
    identity = docker.run("seen-from-a-container", "--memory", "64m", "--cap-drop", "CHOWN")
    text = once(docker, *recipe())
    docker("rm", "-f", "seen-from-a-container")
    mine = {"".join(line.split(" ")[:-1]): line.split(" ")[-1] for line in text.splitlines() if identity[:12] in line}

    assert mine[f'nsinspect_container_memory_limit_bytes{{id="{identity[:12]}",name=""}}'] == str(64 << 20)
    assert sum("container_capability{" in series for series in mine) == 13
    net = f'nsinspect_container_namespace_shared_with_host{{id="{identity[:12]}",name="",namespace="net"}}'
    assert mine[net] == "0"


@pytest.mark.parametrize("left_out", ["--pid=host", "--cap-add=SYS_PTRACE"])
def test_what_the_recipe_gives_is_needed(docker: Docker, left_out: str):
    identity = docker.run("unseen", "--memory", "64m")
    flags = [flag for flag in recipe() if flag != left_out]
    assert len(flags) == len(recipe()) - 1
    try:
        if left_out == "--pid=host":
            with pytest.raises(AssertionError, match="no kthreadd here"):
                once(docker, *flags)
        else:
            assert f'namespace_inode{{id="{identity[:12]}"' not in once(docker, *flags)
    finally:
        docker("rm", "-f", "unseen")
