"""What every command shares: the group and its roots, options, exit codes, and where text goes."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from nsinspect import __version__

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots
    from nsinspect.model import Container, Model
    from nsinspect.snapshot import Issue, Snapshot

T = TypeVar("T")
FOUND, USAGE, NOT_FOUND, AMBIGUOUS, PARTIAL, CANNOT_LOOK = 1, 2, 3, 4, 5, 6
STORE, QUEUE = "/var/lib/nsinspect", "/var/lib/nsinspect/webhook"
"""Where recordings are, and where events wait to be sent: the state directory of nsinspect.service."""
_ALIASES = {"ls": "list", "ps": "list"}


class _Commands(click.Group):
    """A group whose commands may have second names."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            from nsinspect import safe

            # What was typed is quoted, and may be the name that a container gave to a file.
            raise click.UsageError(safe.line(error.format_message()), error.ctx) from error


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 looked and fine, 1 something was found (drift, diff, findings, verify), 2 usage, "
    "3 no such container, 4 ambiguous, "
    "5 with --strict something could not be read, 6 could not look.",
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


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document (schema version 1) instead.")
strict_option = click.option("--strict", is_flag=True, help="Exit 5 when something could not be read.")
all_option = click.option(
    "-a", "--all", "isolates", is_flag=True, help="Also what has namespaces of its own in no container."
)


class Looked:
    """What a look at a host gave; ends the program where there is no host to look at.

    ``roots`` may be a capture, or an old snapshot instead.  ``depth`` is that of :class:`nsinspect.collect.Depth`.
    """

    def __init__(self, roots: Roots | Snapshot, **depth: bool) -> None:
        from nsinspect.collect import Collector, Depth
        from nsinspect.model import build
        from nsinspect.snapshot import Snapshot

        wanted = Depth(**depth)
        self._collector = None
        self._past = None
        if not isinstance(roots, Snapshot) and (roots.root == "/" or not _is_capture(roots.root)):
            self._collector = Collector(roots, wanted)
            self.snapshot, self._grouping = self._or_end(self._collector.run)
        else:
            from nsinspect import revisit

            past = roots if isinstance(roots, Snapshot) else self._or_end(lambda: revisit.captured(roots.root))
            self._past = past
            self.snapshot, self._grouping = revisit.as_deep(past, wanted)
        self.model = build(self.snapshot, self._grouping)

    def deeper(self, container: Container) -> Container:
        """Look at one container's cgroups and confinement, where the first look was without."""
        from nsinspect.model import with_deeper

        def same(identity: str, init: int) -> bool:
            return (identity, init) == (container.id, container.init.pid)

        collector, past = self._collector, self._past
        groups = [one for one in self._grouping.groups if same(one.match.id, one.init.pid)]
        if collector is not None:
            self.snapshot = self._or_end(lambda: collector.deeper(self.snapshot, groups))
        elif past is not None:
            from nsinspect import revisit

            self.snapshot = revisit.deeper(self.snapshot, past, groups)
        self.model = with_deeper(self.model, self.snapshot, self._grouping, groups)
        return next(one for one in self.model.containers if same(one.id, one.init.pid))

    def closer(self, **wanted: Any) -> None:
        """Look closely at some processes; ``wanted`` is that of :class:`nsinspect.collect.Closely`."""
        from dataclasses import replace

        from nsinspect.collect import Closely
        from nsinspect.model import with_issues_of

        collector, closely = self._collector, Closely(**wanted)
        # What is past was looked at as closely as it will ever be.
        if collector is not None:
            self.snapshot = self._or_end(lambda: collector.closer(self.snapshot, closely))
        elif not closely.links:
            self.snapshot = replace(self.snapshot, links={})
        self.model = with_issues_of(self.model, self.snapshot, closely.pids())

    @staticmethod
    def _or_end(work: Callable[[], T]) -> T:
        from nsinspect.errors import NsinspectError

        try:
            return work()
        except NsinspectError as error:
            from nsinspect import safe

            fail(safe.line(str(error)), CANNOT_LOOK)


def _is_capture(path: str) -> bool:
    # Imported when there may be one: what reads archives costs as much as a short look.
    from nsinspect.bundle import is_capture

    return is_capture(path)


def no_capture(roots: Roots) -> None:
    """End the program where a host is asked for that goes on, and a capture was given."""
    if roots.root != "/" and _is_capture(roots.root):
        raise click.UsageError(f"--root {roots.root}: a capture does not go on; expected a host")


def find(model: Model, wanted: str) -> Container:
    """The container a person means; ends the program where there is none, or several."""
    from nsinspect import lookup, safe

    try:
        return lookup.find(model, wanted)
    except lookup.NotFound as error:
        fail(str(error), NOT_FOUND)
    except lookup.Ambiguous as error:
        names = "".join(f"\n  {safe.line(c.id)}  {safe.line(c.name or '-')}" for c in error.candidates)
        fail(f"{error}:{names}", AMBIGUOUS)


def write(text: str, end: str = "\n") -> None:
    """Print an answer."""
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that cannot show a character gets an escape, never a crash.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text + end)
    sys.stdout.flush()


def end(issues: tuple[Issue, ...], strict: bool) -> None:
    """End the program as ``--strict`` asks, where something could not be read."""
    from nsinspect.snapshot import FAILURES

    if strict and any(issue.kind in FAILURES for issue in issues):
        sys.exit(PARTIAL)


def fail(message: str, code: int) -> NoReturn:
    """End the program with one line on stderr."""
    click.echo(f"nsinspect: {message}", err=True)
    sys.exit(code)


def width() -> int | None:
    """The terminal's width; ``None`` when stdout is none, so that nothing is cut for a program."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def colour() -> bool:
    """Whether a person looks at stdout who wants colours."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
