"""What is published: the same bytes wherever it is built, and a bill of materials that says what is in it."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent.parent
EPOCH = "1700000000"
NOT_PUBLISHED = shutil.ignore_patterns(".git", ".venv*", ".ci", ".*_cache", ".hypothesis", "__pycache__", "dist")


def build(checkout: Path, folder: Path, umask: int, **environment: str) -> dict[str, bytes]:
    """What the tool leaves in a folder, by its name."""
    command = [sys.executable, "tools/dist.py", str(folder)]
    env = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH, **environment}
    subprocess.run(command, cwd=checkout, env=env, umask=umask, check=True, capture_output=True)
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of this checkout, in a place of their own and without git."""
    return shutil.copytree(HERE, tmp_path_factory.mktemp("a") / "b", symlinks=True, ignore=NOT_PUBLISHED)


@pytest.fixture(scope="module")
def published(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what is published."""
    folder = tmp_path_factory.mktemp("published")
    build(checkout, folder, 0o022, TZ="UTC", LC_ALL="C.UTF-8", PYTHONHASHSEED="1")
    return folder


@pytest.fixture(scope="module")
def bill(published: Path) -> dict[str, Any]:
    """The bill of materials."""
    (path,) = published.glob("*.cdx.json")
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def test_an_sdist_a_wheel_and_a_bill_are_published(published: Path):
    names = sorted(re.sub(r"\d+\.\d+\.\d+", "VERSION", path.name) for path in published.iterdir())
    assert names == ["nsinspect-VERSION-py3-none-any.whl", "nsinspect-VERSION.cdx.json", "nsinspect-VERSION.tar.gz"]


def test_whoever_builds_the_sdist_again_has_the_same_bytes(published: Path, tmp_path: Path):
    """Elsewhere, later in the day, with another umask, language and order of hashes, and from what was published."""
    (sdist,) = published.glob("*.tar.gz")
    # Captured hosts have links that lead anywhere, which Pythons differ on: some refuse them, some cannot be asked.
    subprocess.run(["tar", "-xf", str(sdist), "-C", str(tmp_path)], check=True)
    (unpacked,) = tmp_path.iterdir()
    for path in unpacked.rglob("*"):
        os.utime(path, (0, 0), follow_symlinks=False)
    again = build(
        unpacked, tmp_path / "again", 0o077, TZ="Pacific/Chatham", LC_ALL="tr_TR.UTF-8", LANG="C", PYTHONHASHSEED="2"
    )
    assert again == {path.name: path.read_bytes() for path in published.iterdir()}


def test_all_times_are_the_commits(published: Path):
    """Not the build's, nor those of files that were just checked out."""
    (wheel,), (sdist,) = published.glob("*.whl"), published.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as inside:
        # A zip has even seconds.
        assert {one.date_time for one in inside.infolist()} == {(2023, 11, 14, 22, 13, 20)}
    with tarfile.open(sdist) as tar:
        assert {one.mtime for one in tar} == {int(EPOCH)}


def test_the_bill_is_what_cyclonedx_expects(published: Path):
    """By its schema, with nothing that the schema does not know."""
    (path,) = published.glob("*.cdx.json")
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(path.read_text()) is None


def test_a_bill_that_is_none_is_noticed(bill: dict[str, Any]):
    """The validator does look."""
    component, *_ = bill["components"]
    wrong = json.dumps({**bill, "components": [{**component, "type": "wood"}]})
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(wrong) is not None


def test_the_bill_is_of_this_very_wheel(published: Path, bill: dict[str, Any]):
    """By its hash; and by the time of the commit, not of the build."""
    (wheel,) = published.glob("*.whl")
    subject = bill["metadata"]["component"]
    assert subject["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(wheel.read_bytes()).hexdigest()}]
    assert wheel.name.startswith(f"{subject['name']}-{subject['version']}-")
    assert bill["metadata"]["timestamp"] == "2023-11-14T22:13:20+00:00"


def test_the_bill_has_what_the_wheel_needs_in_the_locked_versions(bill: dict[str, Any]):
    """Everything declared and what that needs in turn, each with a licence; nothing that only developers need."""
    project = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
    lock = (HERE / "requirements-dev.lock").read_text()
    versions = {one["name"]: one["version"] for one in bill["components"]}
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"]}
    assert versions.keys() == declared | {"markdown-it-py", "mdurl", "pygments"}
    assert [f"{name}=={version}" for name, version in versions.items() if f"{name}=={version} " not in lock] == []
    assert all(one["licenses"] for one in bill["components"])


def test_the_bill_says_who_needs_whom(bill: dict[str, Any]):
    """Whoever hears of a hole in mdurl sees how it came here."""
    needs = {row["ref"]: row.get("dependsOn", []) for row in bill["dependencies"]}
    way, at = [], bill["metadata"]["component"]["bom-ref"]
    for name in ("rich", "markdown-it-py", "mdurl"):
        (at,) = (ref for ref in needs[at] if ref.startswith(f"pkg:pypi/{name}@"))
        way.append(at)
    assert needs[way[-1]] == []
    assert needs.keys() == {bill["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in bill["components"])}


def test_what_is_not_locked_publishes_nothing(checkout: Path, tmp_path: Path):
    """Another click than the locked one, and the bill would be of something that nobody tested."""
    other = shutil.copytree(checkout, tmp_path / "other", symlinks=True)
    lock = other / "requirements-dev.lock"
    lock.write_text(re.sub(r"^click==\S+", "click==0.1", lock.read_text(), flags=re.MULTILINE))
    folder = tmp_path / "folder"
    done = subprocess.run(
        [sys.executable, "tools/dist.py", str(folder)], cwd=other, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (1, "not in the locked version: click; make .venv/ready\n")
    assert not folder.exists()
