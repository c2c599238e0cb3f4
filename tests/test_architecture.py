"""Who may import, open and print: the shape of the house, held as data and checked by reading every module."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import nsinspect

PACKAGE = Path(nsinspect.__file__).parent
LONGEST_MODULE = 500

RECORDS = {"procfs", "procnet", "hierarchies", "cgroupfs", "namespaces", "capabilities", "declarations"}
FACTS = RECORDS | {"snapshot"}
MEANING = {"model", "limits", "security", "grouping"}
ABOUT = {"changes", "diff", "drift", "findings", "locate", "membership", "mounts", "networks", "powers", "shares"}

# Module (or the package it is in) -> the modules of ours it may import.  Facts flow down this table, never up.
MAY_IMPORT: dict[str, set[str]] = {
    "": set(),
    "errors": set(),
    "safe": set(),
    "kernfs": {"errors"},
    "procfs": {"errors"},
    "procnet": {"errors", "procfs"},
    "namespaces": {"errors", "procfs"},
    "capabilities": set(),
    "declarations": {"cgroupfs"},
    "shares": set(),
    "hierarchies": {"procfs"},
    "cgroupfs": {"errors", "hierarchies", "procfs"},
    "patience": {"errors"},
    "effort": {"errors", "kernfs", "procfs", "runtimes"},
    "statefiles": {"errors", "kernfs", "patience", "procfs"},
    "host": {"errors", "procfs"},
    "runtimes": {"errors", "runtimes", "shares"} | RECORDS,
    "snapshot": RECORDS,
    "grouping": {"runtimes"} | FACTS,
    "forgiving": {"errors", "kernfs", "snapshot"},
    "testimony": {"errors", "runtimes", "grouping", "declarations"},
    "nsfs": {"effort", "kernfs", "forgiving", "tasks"} | FACTS,
    "users": set(),
    "mounts": {"procfs"},
    "tasks": {"effort", "errors", "kernfs", "forgiving"} | FACTS,
    "sockets": {"effort", "errors", "kernfs", "forgiving", "tasks"} | FACTS,
    "netns": {"errors", "kernfs", "forgiving", "nsfs", "tasks"} | FACTS,
    "hostfacts": {"errors", "kernfs", "forgiving", "grouping", "host"} | FACTS,
    "membership": {"model"} | FACTS,
    "powers": {"model"} | FACTS,
    "findings": {"model"} | FACTS,
    "scrutiny": {"findings", "model", "runtimes", "security"} | FACTS,
    "networks": {"model"} | FACTS,
    "cgroupwalk": {"errors", "kernfs", "grouping", "forgiving"} | FACTS,
    "processes": {"effort", "errors", "kernfs", "forgiving"} | FACTS,
    "changes": {"findings"},
    "compare": {"changes", "limits", "model", "mounts"} | FACTS,
    "diff": {"changes", "compare", "findings", "model", "networks", "scrutiny"} | FACTS,
    "events": {"changes", "diff", "model"},
    "moments": set(),
    "private": set(),
    "procconn": {"errors", "kernfs", "runtimes", "procfs"},
    "store": {"codec", "errors", "private"} | FACTS,
    "webhook": {"", "errors", "private"},
    "record": {"procconn", "changes", "collect", "diff", "events", "kernfs", "model", "views"} | FACTS,
    "collect": {
        "effort",
        "processes",
        "hostfacts",
        "netns",
        "sockets",
        "users",
        "tasks",
        "nsfs",
        "cgroupwalk",
        "errors",
        "kernfs",
        "statefiles",
        "runtimes",
        "grouping",
        "forgiving",
        "testimony",
    }
    | FACTS,
    "codec": {"errors"} | FACTS,
    "bundle": {"errors"},
    "verify": {"bundle"},
    "lastly": {"errors", "kernfs"} | FACTS,
    "capture": {"", "bundle", "codec", "collect", "errors", "kernfs", "lastly"} | FACTS,
    "revisit": {"bundle", "codec", "collect", "grouping"} | FACTS,
    "issues": {"grouping"} | FACTS,
    "limits": FACTS,
    "security": FACTS,
    "model": {"issues", "limits", "security", "grouping", "runtimes", "drift"} | FACTS,
    "drift": {"shares", "limits", "security"} | FACTS,
    "lookup": {"errors", "model", "declarations"},
    "locate": {"model"} | FACTS,
    "fields": {"fields"} | ABOUT | MEANING | FACTS,
    "views": {"", "fields", "safe", "views"} | ABOUT | MEANING | FACTS,
    "serve": {
        "",
        "errors",
        "record",
        "store",
        "webhook",
        "patience",
        "statefiles",
        "safe",
        "kernfs",
        "collect",
        "model",
        "fields",
        "views",
        "serve",
    },
    "cli": {
        "cli",
        "bundle",
        "capture",
        "diff",
        "moments",
        "procconn",
        "record",
        "revisit",
        "store",
        "webhook",
        "verify",
        "serve",
        "",
        "errors",
        "kernfs",
        "collect",
        "grouping",
        "issues",
        "model",
        "snapshot",
        "fields",
        "lookup",
        "locate",
        "networks",
        "capabilities",
        "membership",
        "namespaces",
        "powers",
        "safe",
        "scrutiny",
        "views",
    },
    "__main__": {"cli"},
}

# Third party -> the only modules that know it.
ONLY_IN = {
    "click": {"cli.common", "cli.evidence", "cli.past", "cli.reading", "cli.serving"},
    "rich": {
        "views.capslist",
        "views.changes",
        "views.netlist",
        "views.nslist",
        "views.table",
        "views.page",
        "views.report",
        "views.words",
    },
    "psutil": {"host"},
    "pyroute2": {"netns"},
    "prometheus_client": {"serve.app"},
    "h11": {"serve.server"},
    "bcrypt": {"serve.auth"},
    "yaml": {"serve.webconfig"},
    "zstandard": {"bundle", "store"},
}

# Standard library that looks at the world -> the only modules that may.  Everything else is pure.
WORLD = {
    "time": {
        "capture",
        "cli.evidence",
        "collect",
        "effort",
        "lastly",
        "patience",
        "processes",
        "serve.daemon",
        "serve.notify",
        "serve.scraper",
        "cli.past",
        "serve.watcher",
    },
    "asyncio": {"serve.app", "serve.auth", "serve.daemon", "serve.server"},
    "socket": {"webhook", "procconn", "serve.daemon", "serve.lending", "serve.notify", "serve.server"},
    "threading": {"patience", "procconn", "serve.lending", "serve.scraper", "serve.watcher", "users", "webhook"},
    "logging": {
        "serve.daemon",
        "serve.lending",
        "serve.logs",
        "serve.scraper",
        "serve.server",
        "serve.watcher",
        "serve.webconfig",
    },
    "ctypes": {"kernfs", "netns", "statefiles"},
    "sys": {"cli", "cli.common", "cli.evidence", "cli.reading", "lastly", "netns"},
    "shutil": {"cli.common"},
    "subprocess": {"lastly", "netns"},
    "tarfile": {"bundle"},
    "io": {"bundle", "views.words"},
    **{module: set[str]() for module in ("pathlib", "glob", "random")},
}

OPENERS = {"open", "fdopen", "listdir", "scandir", "walk", "readlink", "stat", "lstat", "fstat", "read", "access"}
MAY_OPEN = {
    "bundle",
    "private",
    "store",
    "webhook",
    "lastly",
    "kernfs",
    "nsfs",
    "statefiles",
    "serve.webconfig",
    "serve.lending",
}


def modules() -> dict[str, Path]:
    """Every module of the package, by its name below ``nsinspect``; the package itself is ``""``."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()
EVERY_MODULE = pytest.mark.parametrize("name", MODULES, ids=lambda name: name or "nsinspect")


@cache
def tree_of(name: str) -> ast.Module:
    """A module's syntax."""
    return ast.parse(MODULES[name].read_text(encoding="utf-8"))


@cache
def nodes_of(name: str) -> list[ast.AST]:
    """Everything in it."""
    return list(ast.walk(tree_of(name)))


def imports(name: str) -> Iterator[str]:
    """Every module that a module imports anywhere, in functions too, as a dotted name."""
    for node in nodes_of(name):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{name}: a relative import hides who is meant"
            base = node.module or ""
            # "from nsinspect import safe" imports a module, "from nsinspect.safe import text" only names one.
            for alias in node.names:
                below = f"{base}.{alias.name}".removeprefix("nsinspect.")
                yield f"nsinspect.{below}" if base.startswith("nsinspect") and below in MODULES else base


def ours(name: str) -> set[str]:
    """The modules of this package that a module imports, by their name below it."""
    return {
        found.removeprefix("nsinspect").lstrip(".") for found in imports(name) if found.split(".")[0] == "nsinspect"
    }


def room(name: str) -> str:
    """The row of the table that a module belongs to: its own, or its package's."""
    return name.partition(".")[0]


@EVERY_MODULE
def test_every_module_has_its_place_in_the_table(name: str) -> None:
    """A new module says first whom it may import."""
    assert room(name) in MAY_IMPORT


@EVERY_MODULE
def test_facts_flow_one_way(name: str) -> None:
    """A module imports only what the table allows it."""
    assert not {found for found in ours(name) if room(found) not in MAY_IMPORT[room(name)]}


def test_the_table_has_no_circles() -> None:
    """What a module may import can never lead back to it."""
    left = {name: allowed - {name} for name, allowed in MAY_IMPORT.items()}
    while free := {name for name, allowed in left.items() if not allowed & left.keys()}:
        left = {name: allowed for name, allowed in left.items() if name not in free}
    assert not left


def test_the_table_has_no_row_for_a_module_that_is_gone() -> None:
    """The table describes this house."""
    assert not MAY_IMPORT.keys() - {room(name) for name in MODULES}


@EVERY_MODULE
def test_third_party_code_is_known_to_few(name: str) -> None:
    """Each library is behind one door, so that it can be replaced, and imported late."""
    tops = {found.partition(".")[0] for found in imports(name)}
    foreign = tops - sys.stdlib_module_names - {"nsinspect"}
    assert not {library for library in foreign if name not in ONLY_IN.get(library, ())}


@EVERY_MODULE
def test_only_a_few_modules_see_the_world(name: str) -> None:
    """Clocks, processes, sockets and paths stay out of what must give the same answer for old evidence."""
    tops = {found.partition(".")[0] for found in imports(name)}
    assert not {module for module in tops if name not in WORLD.get(module, {name})}


def openings(name: str) -> set[str]:
    """The ways in which a module opens or looks at files."""
    found = set()
    for node in nodes_of(name):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "os":
            found |= {f"os.{node.attr}"} if node.attr in OPENERS else set()
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "open":
            found.add("open")
        elif isinstance(node, ast.ImportFrom) and node.module == "os":
            found.add("from os import")
    return found


@EVERY_MODULE
def test_only_two_modules_open_files(name: str) -> None:
    """What an errno means is decided in one place; nobody else meets one."""
    # The command line opens /dev/null when whoever read its output has gone.
    allowed = {"os.open", "os.fdopen"} if name == "cli" else set()
    assert name in MAY_OPEN or openings(name) <= allowed


@EVERY_MODULE
def test_nobody_prints(name: str) -> None:
    """Text leaves through the command line, where the exit code and the stream are decided."""
    calls = (node.func for node in nodes_of(name) if isinstance(node, ast.Call))
    assert not [call.lineno for call in calls if isinstance(call, ast.Name) and call.id in {"print", "input", "eval"}]


@EVERY_MODULE
def test_a_module_is_short_enough_to_be_read(name: str) -> None:
    """Longer than this, it is two subjects."""
    assert len(MODULES[name].read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


def public(
    body: list[ast.stmt], prefix: str = ""
) -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef]]:
    """Public functions and classes, and public methods of public classes."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body, f"{node.name}.")


@EVERY_MODULE
def test_everything_public_says_what_it_is(name: str) -> None:
    """Modules, classes, functions and methods have a docstring."""
    tree = tree_of(name)
    assert ast.get_docstring(tree)
    assert not [found for found, node in public(tree.body) if not ast.get_docstring(node)]


def test_starting_imports_next_to_nothing() -> None:
    """``--help`` and ``--version`` must not pay for tables, host facts and engines."""
    code = "import sys, nsinspect.cli; print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"rich", "psutil", "pyroute2", "prometheus_client", "json", "ctypes"} & set(loaded)
