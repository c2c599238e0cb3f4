"""What nsinspect depends on: as much as it uses, pinned, and nothing beside."""

from __future__ import annotations

import ast
import itertools
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).parent.parent
MAKEFILE = (HERE / "Makefile").read_text()
LOCK = (HERE / "requirements-dev.lock").read_text().splitlines()
PYPROJECT: dict[str, Any] = tomllib.loads((HERE / "pyproject.toml").read_text())

# What is imported by another name than it is installed by.
IMPORTED_AS = {
    "cyclonedx-python-lib": "cyclonedx",
    "packageurl-python": "packageurl",
    "prometheus-client": "prometheus_client",
    "pyyaml": "yaml",
}
# What is not imported but run, and where to see it; hatchling runs editables where it installs a checkout.
RUN = {
    "editables": ("Makefile", "--no-build-isolation --editable ."),
    "hatchling": ("tools/dist.py", '"-m", "hatchling"'),
    "mypy": ("Makefile", "$(BIN)/mypy"),
    "pip": ("Makefile", "$(BIN)/python -m pip"),
    "pytest-xdist": ("Makefile", "--numprocesses"),
    "ruff": ("Makefile", "$(BIN)/ruff"),
    "uv": ("Makefile", "$(BIN)/uv"),
}
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
MACHINES = ("x86_64", "aarch64")


def group(name: str) -> Iterator[str]:
    """The requirements of a dependency group and of those it includes."""
    for entry in PYPROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            yield from group(entry["include-group"])
        else:
            yield entry


PROJECT = {canonicalize_name(one.name): one for one in map(Requirement, PYPROJECT["project"]["dependencies"])}
DEV = {canonicalize_name(one.name): one for one in map(Requirement, group("dev"))}
PINS = [Requirement(line.removesuffix(" \\")) for line in LOCK if re.match(r"\w", line)]
DECLARED = [*PROJECT.values(), *DEV.values(), *map(Requirement, PYPROJECT["build-system"]["requires"])]


# -- the lock ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("declared", DECLARED, ids=str)
def test_what_is_declared_is_pinned_once_at_a_version_that_is_allowed(declared: Requirement):
    """With its extras, on every Python and machine; make lock mends it."""
    for python, machine in itertools.product(PYTHONS, MACHINES):
        full = {"python_version": python, "python_full_version": f"{python}.0", "platform_machine": machine}
        where = {**default_environment(), **full}
        here = [pin for pin in PINS if pin.marker is None or pin.marker.evaluate({**where})]
        (pin,) = (pin for pin in here if canonicalize_name(pin.name) == canonicalize_name(declared.name))
        (version,) = pin.specifier
        assert version.operator == "=="
        assert declared.specifier.contains(version.version, prereleases=False)
        assert declared.extras <= pin.extras


def test_the_pythons_that_wheels_are_looked_for_are_those_promised():
    """Where the lock is made, and from the oldest that is supported."""
    assert f"for python in {' '.join(PYTHONS)}; do for machine in {' '.join(MACHINES)};" in MAKEFILE
    assert PYPROJECT["project"]["requires-python"] == f">={PYTHONS[0]}"
    assert f"--universal --python-version {PYTHONS[0]} " in MAKEFILE


def test_the_lock_names_versions_and_hashes_and_no_place_to_have_them_from():
    """No index, no address, no path: every line is one of these."""
    text = "\n".join(LOCK) + "\n"
    word = r"[\w.-]+(?:\[[\w,-]+\])?"
    via = r"    # via(?: \S.*|(?:\n    #   \S.*)+)\n"
    pin = rf"{word}==[\w.!+]+(?: ; [\w\s.'=!<>()]+)?(?: \\\n    --hash=sha256:[0-9a-f]{{64}})+\n{via}"
    assert re.fullmatch(rf"(?:#.*\n)*(?:{pin})+", text)
    assert not re.search(r"https?:|file:|[\w/]/\w", text)


def test_the_lock_has_nothing_that_nothing_declared_asks_for():
    """What somebody stops depending on leaves the lock, too."""
    text = re.sub(r"\n    #   ", " ", "\n".join(LOCK))
    asked_by = re.findall(r"^([\w.-]+)(?:\[[\w,-]+\])?==.*(?:\n    --hash.*)+\n    # via (.*)$", text, re.MULTILINE)
    assert len(asked_by) == len(PINS)
    assert {name for name, by in asked_by if "nsinspect (pyproject.toml" in by} == PROJECT.keys() | DEV.keys()


def test_the_build_backend_is_the_same_in_a_checkout_and_in_isolation():
    """What builds the wheel is declared twice; both say the same."""
    (backend,) = PYPROJECT["build-system"]["requires"]
    assert str(DEV["hatchling"]) == backend


def test_setting_up_takes_only_what_is_locked():
    """Hashes are required, nothing is built from what nobody pinned, and the checkout brings nothing along."""
    (recipe,) = re.findall(r"^\$\(READY\):.*\n((?:\t.*\n)+)", MAKEFILE, re.MULTILINE)
    installs = [line.strip() for line in recipe.splitlines() if "$(PIP)" in line]
    assert installs == [
        "$(PIP) --require-hashes --only-binary :all: -r $(LOCK)",
        "$(PIP) --no-deps --no-build-isolation --editable .",
    ]
    assert re.findall(r"pip install|uv pip install", recipe) == []


# -- what is imported --------------------------------------------------------------------------------------------------


@cache
def imported(*folders: str) -> set[str]:
    """The third-party modules that the code of some folders imports anywhere, in functions too."""
    paths = [path for folder in folders for path in (HERE / folder).rglob("*.py") if "fixtures" not in path.parts]
    found: set[str] = set()
    for path in paths:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Import):
                found |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.partition(".")[0])
    ours = {"nsinspect", "tests", "fuzz", "benchmarks", *(path.stem for path in paths if path.parent.name == "tools")}
    return found - sys.stdlib_module_names - ours


def module(name: str) -> str:
    """What a dependency is imported as."""
    return IMPORTED_AS.get(name, name)


def test_the_program_imports_what_it_depends_on_and_nothing_else():
    """Both ways: a package of a distribution needs just what is declared."""
    assert imported("nsinspect") == {module(name) for name in PROJECT}


def test_fuzzing_imports_what_its_group_has_besides():
    """And nothing of the group is there for nothing."""
    its = {canonicalize_name(Requirement(one).name) for one in group("fuzz")}
    found = imported("fuzz")
    assert its <= found <= {module(name) for name in PROJECT | DEV} | its


def test_tests_and_tools_import_nothing_that_is_not_declared():
    assert imported("tests", "tools", "benchmarks") <= {module(name) for name in PROJECT | DEV}


@pytest.mark.parametrize("name", DEV)
def test_what_is_declared_for_development_is_used(name: str):
    """Imported, run, or the types of something that is imported."""
    if name in RUN:
        place, words = RUN[name]
        assert words in (HERE / place).read_text()
    else:
        found = imported("nsinspect") | imported("tests", "tools", "benchmarks")
        assert module(name.removeprefix("types-")) in found


def test_no_dependency_is_both_the_programs_and_a_tool():
    """Declared once, at one floor."""
    assert not PROJECT.keys() & DEV.keys()
