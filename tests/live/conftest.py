"""Engines, started once for all tests of a session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.live.docker import Docker
from tests.live.rootfs import make_rootfs

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def rootfs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tar to import into an engine."""
    return make_rootfs(tmp_path_factory.mktemp("rootfs"))


@pytest.fixture(scope="session")
def docker(tmp_path_factory: pytest.TempPathFactory, rootfs: Path) -> Iterator[Docker]:
    """A Docker daemon of our own."""
    assert os.geteuid() == 0, "the live tier needs root"
    with Docker(tmp_path_factory.mktemp("docker"), rootfs) as docker:
        yield docker


@pytest.fixture(scope="session")
def run() -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """The program, as a user runs it on this machine."""

    def run_it(*arguments: str, module: tuple[str, ...] = ("-m", "nsinspect")) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, *module, *arguments]
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        return subprocess.run(command, capture_output=True, check=False, timeout=120, env=environment, cwd=CHECKOUT)

    return run_it


@pytest.fixture(scope="session")
def ask(run: Callable[..., subprocess.CompletedProcess[bytes]]) -> Callable[..., dict[str, Any]]:
    """The JSON of a command that must succeed."""

    def ask_it(*arguments: str) -> dict[str, Any]:
        answer = run(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        found: dict[str, Any] = json.loads(answer.stdout)
        return found

    return ask_it
