"""Which machine, kernel and programs a result is of."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.load import hierarchies
from benchmarks.turns import CHECKOUT

VERSIONS = {
    "lsns": ["lsns", "--version"],
    "ps": ["ps", "--version"],
    "process-exporter": ["prometheus-process-exporter", "--version"],
    "node_exporter": ["prometheus-node-exporter", "--version"],
    "cAdvisor": ["cadvisor", "--version"],
}


def installed(program: str) -> bool:
    """Whether there is such a command."""
    return shutil.which(program) is not None


def describe() -> dict[str, Any]:
    """Nothing that tells one machine of a kind from another."""
    cpu = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return {
        "cpu": cpu[1] if cpu else platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mib": int(memory[1]) >> 10 if memory else None,
        "kernel": platform.release().partition("-")[0],
        "cgroups": _layout(),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "python_build": _python_build(),
        "compiler": platform.python_compiler(),
        "nsinspect": _commit(),
        "versions": {**_packages("click", "psutil", "prometheus-client"), **_programs()},
    }


def _python_build() -> str:
    """Who built this Python: distributions optimise theirs without a word of it in its configuration."""
    if os.path.realpath(sys.executable).startswith("/usr/bin/"):
        return "the distribution's own"
    optimised = "--enable-optimizations" in (sysconfig.get_config_var("CONFIG_ARGS") or "")
    return f"built {'with' if optimised else 'without'} profile-guided optimisation"


def _layout() -> str:
    found = [hierarchy.version for hierarchy in hierarchies()]
    kind = "hybrid" if {1, 2} <= set(found) else f"v{found[0]}" if found else "none"
    return f"{kind}, {len(found)} {'hierarchy' if len(found) == 1 else 'hierarchies'}"


def _commit() -> str:
    """With a plus where the checkout is not what was committed."""
    told = []
    for words in (["rev-parse", "--short", "HEAD"], ["status", "--porcelain", "nsinspect"]):
        done = subprocess.run(["git", "-C", str(CHECKOUT), *words], capture_output=True, text=True)
        told.append(done.stdout.strip() if done.returncode == 0 else "")
    return (told[0] or "unknown") + ("+" if told[1] else "")


def _packages(*names: str) -> dict[str, str]:
    found = {}
    for name in names:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _programs() -> dict[str, str]:
    found = {}
    for name, command in VERSIONS.items():
        if installed(command[0]):
            done = subprocess.run(command, capture_output=True, text=True)
            number = re.search(r"\d+\.\d+(\.\d+)?", done.stdout + done.stderr)
            found[name] = number[0] if number else "unknown"
    return found
