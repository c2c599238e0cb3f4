"""Run where only a part of the host can be seen, nsinspect says so instead of reporting an empty host."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def cgroup() -> Iterator[Path]:
    """A cgroup below the root, so that one's own namespace hides something."""
    v1 = Path("/sys/fs/cgroup/memory")
    made = (v1 if v1.is_dir() else Path("/sys/fs/cgroup")) / "nsinspect-private-view"
    made.mkdir(exist_ok=True)
    yield made
    made.rmdir()


def listed(cgroup: Path, *namespaces: str) -> tuple[dict[str, Any], str]:
    """``list --json`` from namespaces of its own, and what the table says."""
    enter = ["sh", "-c", f'echo $$ > {cgroup}/cgroup.procs && exec "$@"', "sh"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    answers = [
        subprocess.run(
            [*enter, "unshare", *namespaces, sys.executable, "-m", "nsinspect", "list", *form],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment,
        )
        for form in (("--json",), ())
    ]
    return json.loads(answers[0].stdout), answers[1].stdout + answers[1].stderr


@pytest.mark.parametrize(
    ("namespaces", "says"),
    [
        (("--pid", "--fork", "--mount-proc"), "containers outside cannot be seen"),
        (("--cgroup",), "run it in the host's (--cgroupns=host)"),
    ],
    ids=["pid", "cgroup"],
)
def test_a_private_namespace_is_said(cgroup: Path, namespaces: tuple[str, ...], says: str):
    """Of processes, by the missing kthreadd; of cgroups, by paths that lead out of it."""
    document, words = listed(cgroup, *namespaces)
    (issue,) = [issue for issue in document["issues"] if issue["kind"] == "private_namespace"]

    assert says in issue["detail"]
    assert says in words


def test_the_host_itself_is_not_called_private(cgroup: Path):
    """In the host's own namespaces nothing of the kind is said."""
    document, _ = listed(cgroup, "--uts")

    assert [issue for issue in document["issues"] if issue["kind"] == "private_namespace"] == []


@pytest.mark.parametrize("how", ["--once", "--web.listen-address=127.0.0.1:0"])
def test_the_exporter_does_not_start_in_a_private_pid_namespace(how: str):
    """Metrics of a host without containers would look like good news: exit 6, and why."""
    answer = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-m", "nsinspect", "serve", how],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
    )

    assert (answer.returncode, answer.stdout) == (6, "")
    assert "containers outside cannot be seen" in answer.stderr.splitlines()[-1]
    assert "Traceback" not in answer.stderr
