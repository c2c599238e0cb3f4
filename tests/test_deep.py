"""Limits in a hierarchy thirty levels deep, whatever any of its files holds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from nsinspect.collect import collect
from nsinspect.kernfs import Roots
from nsinspect.model import Container, Model, build

HOSTS = Path(__file__).parent / "fixtures/hosts"
LEVELS = 30


@pytest.fixture
def deep(tmp_path: Path) -> tuple[Path, list[Path]]:
    """A bundled v2 host whose container ``web`` was moved 30 cgroups down; the host, and the cgroups on the way."""
    host = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    (own,) = [c for c in build(collect(Roots(root=str(host)))).containers if c.name == "web"]
    old = host / "sys/fs/cgroup" / own.cgroup_path.decode().lstrip("/")
    levels, place = [], host / "sys/fs/cgroup"
    for level in range(LEVELS):
        place = place / f"level{level}"
        place.mkdir()
        for file, value in (
            ("cpu.max", "max 100000"),
            ("memory.max", "max"),
            ("memory.swap.max", "max"),
            ("pids.max", "max"),
        ):
            (place / file).write_text(value + "\n")
        levels.append(place)
    old.rename(place / old.name)
    path = b"/" + b"/".join(b"level%d" % level for level in range(LEVELS)) + b"/" + old.name.encode()
    for file in host.glob("proc/*/cgroup"):
        file.write_bytes(file.read_bytes().replace(own.cgroup_path, path))
    return host, levels


def look(host: Path) -> tuple[Model, Container]:
    """The model, and the container."""
    model = build(collect(Roots(root=str(host))))
    return model, next(c for c in model.containers if c.id.startswith("libpod") or c.name == "web")


def test_a_limit_thirty_levels_up_binds_and_is_named(deep: tuple[Path, list[Path]]):
    """The tightest of all levels, from the first to the last."""
    host, levels = deep
    (levels[0] / "memory.max").write_text(f"{16 << 20}\n")
    (levels[14] / "pids.max").write_text("7\n")
    (levels[29] / "cpu.max").write_text("20000 100000\n")
    _, web = look(host)

    assert (web.limits.effective_memory.max.value, web.limits.effective_memory.max.imposed_by) == (16 << 20, b"/level0")
    assert web.limits.effective_pids.value == 7
    assert web.limits.effective_pids.imposed_by.endswith(b"/level14")
    assert web.limits.effective_cpu.cores == 0.2
    assert web.limits.effective_cpu.imposed_by.endswith(b"/level29")


@pytest.mark.parametrize("level", [0, 13, 29])
@pytest.mark.parametrize(
    ("text", "cores"),
    [
        ("max 100000\n", 0.5),
        ("30000 100000\n", 0.3),
        ("50000\n", None),
        ("garbage\n", None),
        ("\n", None),
        ("0 100000\n", None),
        ("100000 0\n", None),
        ("18446744073709551616 100000\n", None),
        ("-1 100000\n", None),
        (None, 0.5),
    ],
)
def test_no_text_at_any_level_makes_a_wrong_number(
    deep: tuple[Path, list[Path]], level: int, text: str | None, cores: float | None
):
    """What is understood counts, a missing file is a controller that is not enabled there, and everything else makes
    the answer unknown, with an issue that names the file."""
    host, levels = deep
    file = levels[level] / "cpu.max"
    if text is None:
        file.unlink()
    else:
        file.write_text(text)
    model, web = look(host)

    assert web.limits.effective_cpu.cores == cores
    assert web.limits.cpu.cores == 0.5
    assert [str(file) in issue.path for issue in model.issues if issue.kind == "malformed"] == (
        [True] if cores is None else []
    )
