"""The command line: arguments, exit codes, and where text goes.  The only module that knows click.

Everything but click is imported when a command needs it, so that ``--version`` and ``--help`` cost next to nothing.
"""

from __future__ import annotations

import os
import shutil
import sys
from typing import TYPE_CHECKING, NoReturn

import click

from nsinspect import __version__

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots
    from nsinspect.model import Model
    from nsinspect.snapshot import Issue

NOT_FOUND, AMBIGUOUS, PARTIAL, CANNOT_LOOK = 3, 4, 5, 6
_ALIASES = {"ls": "list", "ps": "list"}


class _Commands(click.Group):
    """A group whose commands may have second names."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 looked and fine, 2 usage, 3 no such container, 4 ambiguous, 5 with --strict something could "
    "not be read, 6 could not look.",
)
@click.version_option(__version__, prog_name="nsinspect")
@click.option("--root", default="/", metavar="DIR", help="Look at the host below DIR instead of /.")
@click.option("--procfs", metavar="DIR", help="Its procfs, instead of ROOT/proc.")
@click.option("--cgroupfs", metavar="DIR", help="Its cgroup mounts, instead of ROOT/sys/fs/cgroup.")
@click.pass_context
def cli(ctx: click.Context, root: str, procfs: str | None, cgroupfs: str | None) -> None:
    """What is this container really allowed to do, and what really limits it?

    Answered from kernel files alone: no engine, no socket, no API.
    """
    from nsinspect.kernfs import Roots

    ctx.obj = Roots(root=root, procfs_override=procfs, cgroupfs_override=cgroupfs)


_json = click.option("--json", "as_json", is_flag=True, help="One JSON document (schema version 1) instead.")
_strict = click.option("--strict", is_flag=True, help="Exit 5 when something could not be read.")


@cli.command("list")
@_json
@_strict
@click.pass_obj
def list_command(roots: Roots, as_json: bool, strict: bool) -> None:
    """Show which containers run here, how confined and how limited.  Also: ls, ps."""
    model = _look(roots)
    if as_json:
        from nsinspect.views import document

        _print(document.list_document(model, model.containers))
    elif model.containers:
        from nsinspect.views import table

        _print(table.list_table(model, model.containers, width=_width(), colour=_colour()))
    else:
        click.echo("no containers here", err=True)
    _end(model.issues, strict)


@cli.command("show")
@click.argument("container")
@_json
@_strict
@click.pass_obj
def show_command(roots: Roots, container: str, as_json: bool, strict: bool) -> None:
    """Show everything about one container.

    CONTAINER is a name, a unique id prefix (4 or more characters), a cgroup path or pid:N.
    """
    from nsinspect import lookup
    from nsinspect.model import issues_about

    model = _look(roots)
    try:
        found = lookup.find(model, container)
    except lookup.NotFound as error:
        _fail(str(error), NOT_FOUND)
    except lookup.Ambiguous as error:
        from nsinspect import safe

        names = "".join(f"\n  {safe.text(c.id)}  {safe.text(c.name or '-')}" for c in error.candidates)
        _fail(f"{error}:{names}", AMBIGUOUS)
    issues = issues_about(model, found)
    if as_json:
        from nsinspect.views import document

        _print(document.show_document(model, found, issues))
    else:
        from nsinspect.views import page

        _print(page.show_page(model, found, issues, width=_width(), colour=_colour()))
    _end(issues, strict)


def _look(roots: Roots) -> Model:
    from nsinspect.collect import collect
    from nsinspect.errors import RootError
    from nsinspect.model import build

    try:
        return build(collect(roots))
    except RootError as error:
        from nsinspect import safe

        _fail(safe.text(str(error)), CANNOT_LOOK)


def _print(text: str) -> None:
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that cannot show a character gets an escape, never a crash.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _end(issues: tuple[Issue, ...], strict: bool) -> None:
    if strict and any(issue.kind != "not_offered" for issue in issues):
        sys.exit(PARTIAL)


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"nsinspect: {message}", err=True)
    sys.exit(code)


def _width() -> int | None:
    """The terminal's width; ``None`` when stdout is none, so that nothing is cut for a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _colour() -> bool:
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def main() -> NoReturn:
    """Entry point: :data:`cli`, silent when the reader of our output has gone."""
    try:
        cli(prog_name="nsinspect")
    except BrokenPipeError:
        # Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)
