"""What is generated from the program is up to date, and what the documents promise exists."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import click

from nsinspect import __version__
from nsinspect.cli import cli
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.finding import FINDING
from nsinspect.fields.host import HOST
from nsinspect.fields.namespace import NAMESPACE_ROWS
from nsinspect.fields.network import NETWORK
from nsinspect.fields.power import POWER

HERE = Path(__file__).parent.parent


def test_generated_files_are_up_to_date():
    """make generate would change nothing."""
    command = [sys.executable, "tools/generate.py", "--check"]
    answer = subprocess.run(command, capture_output=True, check=False, text=True, cwd=HERE, timeout=120)

    assert (answer.returncode, answer.stderr) == (0, "")


def test_every_field_has_a_key_and_a_help_of_its_own():
    """No two rows share a key, and no help text was pasted."""
    for rows in (HOST, CONTAINER, NAMESPACE_ROWS, NETWORK, FINDING, POWER):
        keys, helps = [row.key for row in rows], [row.help for row in rows]
        assert len(keys) == len(set(keys))
        assert len(helps) == len(set(helps))


def test_every_command_and_option_has_help():
    """--help explains everything it offers."""
    for name, command in cli.commands.items():
        assert command.help, name
        assert all(p.help for p in command.params if isinstance(p, click.Option)), name


def test_every_fixture_says_what_it_proves():
    """tests/fixtures/README.md has a row for each captured host."""
    text = (HERE / "tests/fixtures/README.md").read_text()
    for host in (HERE / "tests/fixtures/hosts").iterdir():
        assert f"`{host.name}`" in text


def test_the_changelog_knows_this_version():
    """The version in the package has an entry, or the entry is the unreleased one."""
    text = (HERE / "CHANGELOG.md").read_text()

    assert "## [Unreleased]" in text or f"## [{__version__}]" in text


def test_links_between_documents_lead_somewhere():
    """Every relative link of every page exists."""
    for page in [*HERE.glob("*.md"), *HERE.glob("docs/*.md"), *HERE.glob("*/README.md")]:
        for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


def test_every_protection_has_a_test_that_says_what_it_fails_without():
    """SECURITY.md names no test that is not there, or that nobody saw fail; and no page of ours that is not."""
    text = (HERE / "SECURITY.md").read_text()
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", text)
    assert len(named) == len(set(named)) > 40
    for file, name in named:
        tree = ast.parse((HERE / file).read_text())
        found = [one for one in ast.walk(tree) if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef)]
        (test,) = [one for one in found if one.name == name]
        assert re.search(r"Fails\s+(without|where)", ast.get_docstring(test) or ""), f"{file}::{name}"
    for path in re.findall(r"`(tests/[\w/]+\.py)`", text):
        assert (HERE / path).exists(), path
    for module in re.findall(r"^\|[^|]*\| (`[^|]*`[^|]*) \|", text.partition("## What proves it")[0], re.MULTILINE):
        for name in re.findall(r"`([a-z_/]+)(?:\.[A-Z]\w+)?`", module):
            assert (HERE / f"nsinspect/{name}.py").exists(), name
