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
from nsinspect.namespaces import TYPES

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots
    from nsinspect.model import Container, Model
    from nsinspect.snapshot import Issue, Snapshot

FOUND, USAGE, NOT_FOUND, AMBIGUOUS, PARTIAL, CANNOT_LOOK = 1, 2, 3, 4, 5, 6
_ALIASES = {"ls": "list", "ps": "list"}


class _Commands(click.Group):
    """A group whose commands may have second names."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        return super().get_command(ctx, _ALIASES.get(cmd_name, cmd_name))


@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="Exit codes: 0 looked and fine, 1 drift was found, 2 usage, 3 no such container, 4 ambiguous, "
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


_json = click.option("--json", "as_json", is_flag=True, help="One JSON document (schema version 1) instead.")
_strict = click.option("--strict", is_flag=True, help="Exit 5 when something could not be read.")


_all = click.option(
    "-a", "--all", "isolates", is_flag=True, help="Also what has namespaces of its own in no container."
)


@cli.command("list")
@_all
@_json
@_strict
@click.pass_obj
def list_command(roots: Roots, isolates: bool, as_json: bool, strict: bool) -> None:
    """Show which containers run here, how confined and how limited.  Also: ls, ps."""
    _, model = _look(roots, isolates=isolates)
    if as_json:
        from nsinspect.views import document

        _print(document.list_document(model, model.containers))
    elif model.containers:
        from nsinspect.views import table

        _print(table.list_table(model, model.containers, width=_width(), colour=_colour()))
    else:
        from nsinspect.views import table

        click.echo("\n".join(["no containers here", *table.issue_notes(model.issues)]), err=True)
    _end(model.issues, strict)


@cli.command("show")
@click.argument("container")
@click.option(
    "--as", "engine", type=click.Choice(("docker", "podman", "k8s")), help="Flags or YAML that would give it."
)
@_json
@_strict
@click.pass_obj
def show_command(roots: Roots, container: str, engine: str | None, as_json: bool, strict: bool) -> None:
    """Show everything about one container.

    CONTAINER is a name, a unique id prefix (4 or more characters), NAMESPACE/POD/CONTAINER, a cgroup path or pid:N.
    """
    from nsinspect.model import issues_about

    if engine and as_json:
        raise click.UsageError("--as and --json are two answers: ask for one")
    _, model = _look(roots, isolates=True)
    found = _find(model, container)
    issues = issues_about(model, found)
    if as_json:
        from nsinspect.views import document

        _print(document.show_document(model, found, issues))
    elif engine:
        from nsinspect.views import flags

        _print(flags.as_flags(model, found, engine))
    else:
        from nsinspect.views import page

        _print(page.show_page(model, found, issues, width=_width(), colour=_colour()))
    _end(issues, strict)


@cli.command("drift")
@click.argument("container", required=False)
@_json
@_strict
@click.pass_obj
def drift_command(roots: Roots, container: str | None, as_json: bool, strict: bool) -> None:
    """Compare what was declared with what the kernel enforces, of one container or all.  Exits 1 when they differ."""
    _, model = _look(roots, isolates=False)
    wanted = model.containers if container is None else (_find(model, container),)
    if as_json:
        from nsinspect.views import document

        _print(document.drift_document(model, wanted, model.issues))
    else:
        from nsinspect.views import report

        _print(report.drift_report(wanted, width=_width(), colour=_colour()))
    _end(model.issues, strict)
    if any(one.drift for one in wanted):
        sys.exit(FOUND)


@cli.command("pid")
@click.argument("pids", metavar="PID...", nargs=-1, required=True, type=click.IntRange(min=1))
@_json
@_strict
@click.pass_obj
def pid_command(roots: Roots, pids: tuple[int, ...], as_json: bool, strict: bool) -> None:
    """Show which container, pod and namespaces a process belongs to, and how we know.  Exits 3 when one is gone."""
    from nsinspect.locate import locate
    from nsinspect.model import issues_of

    snapshot, model = _look(roots, isolates=True)
    found = [located for pid in pids if (located := locate(snapshot, model, pid)) is not None]
    issues = issues_of(model.issues, pids)
    if as_json:
        from nsinspect.views import document

        _print(document.pid_document(model, found, issues))
    elif found:
        from nsinspect.views import page

        _print(page.pid_page(model, found, width=_width(), colour=_colour()))
    missing = sorted(set(pids) - {located.process.pid for located in found})
    if missing:
        _fail(f"no such process: {', '.join(map(str, missing))}", NOT_FOUND)
    _end(issues, strict)


@cli.command("serve")
@click.option(
    "--web.listen-address",
    "addresses",
    multiple=True,
    default=("127.0.0.1:10219",),
    show_default=True,
    metavar="HOST:PORT",
    help="Where to listen; repeatable.  :PORT is every address.",
)
@click.option(
    "--web.config.file", "config_file", metavar="FILE", help="TLS, client certificates, users, headers: YAML."
)
@click.option("--web.systemd-socket", "systemd_socket", is_flag=True, help="Listen on the sockets that systemd passes.")
@click.option(
    "--web.telemetry-path",
    "telemetry_path",
    default="/metrics",
    show_default=True,
    metavar="PATH",
    help="Where the metrics are.",
)
@click.option(
    "--web.max-requests",
    "max_requests",
    default=40,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many may be answered at once.",
)
@click.option(
    "--web.disable-exporter-metrics", "no_own", is_flag=True, help="Leave out process_*, about this exporter."
)
@click.option("--path.procfs", "procfs", metavar="DIR", help="The same as --procfs.")
@click.option("--path.sysfs", "sysfs", metavar="DIR", help="The host's /sys: --cgroupfs DIR/fs/cgroup.")
@click.option("--path.rootfs", "rootfs", metavar="DIR", help="The same as --root.")
@click.option(
    "--scrape.timeout",
    "deadline",
    default=8.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="What is not finished by then is left out.",
)
@click.option(
    "--scrape.max-containers",
    "max_containers",
    default=1000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many one answer tells of.",
)
@click.option(
    "--scrape.max-series",
    "max_series",
    default=10_000,
    show_default=True,
    type=click.IntRange(min=1),
    help="How many it has of containers.",
)
@click.option(
    "--log.level",
    "level",
    default="info",
    show_default=True,
    type=click.Choice(("debug", "info", "warning", "error")),
    help="What is worth a line on stderr.",
)
@click.option(
    "--log.format",
    "style",
    default="logfmt",
    show_default=True,
    type=click.Choice(("logfmt", "json")),
    help="How a line looks.",
)
@click.option("--once", is_flag=True, help="Print one scrape and exit.")
@click.option(
    "--files-socket",
    "lender",
    metavar="PATH",
    help="Where nsinspect-files lends engines' state files that we may not open.",
)
@click.pass_obj
def serve_command(
    roots: Roots,
    addresses: tuple[str, ...],
    config_file: str | None,
    systemd_socket: bool,
    telemetry_path: str,
    max_requests: int,
    no_own: bool,
    procfs: str | None,
    sysfs: str | None,
    rootfs: str | None,
    deadline: float,
    max_containers: int,
    max_series: int,
    lender: str | None,
    level: str,
    style: str,
    once: bool,
) -> None:
    """Serve metrics to Prometheus.

    Collects at each scrape.  SIGHUP reads the web configuration again; so does a change of its files.
    """
    from dataclasses import replace

    from nsinspect import safe
    from nsinspect.errors import NsinspectError, RootError
    from nsinspect.serve import daemon, logs
    from nsinspect.serve.app import Settings
    from nsinspect.views.metrics import Room

    if not telemetry_path.startswith("/") or telemetry_path in ("/", "/-/healthy", "/-/ready"):
        raise click.UsageError(f"--web.telemetry-path {telemetry_path}: expected a path of its own, such as /metrics")
    roots = replace(
        roots,
        root=rootfs or roots.root,
        procfs_override=procfs or roots.procfs_override,
        cgroupfs_override=os.path.join(sysfs, "fs/cgroup") if sysfs else roots.cgroupfs_override,
    )
    settings = Settings(
        telemetry_path=telemetry_path,
        deadline=deadline,
        max_requests=max_requests,
        room=Room(containers=max_containers, series=max_series),
        own_metrics=not no_own,
    )
    flags = daemon.Flags(
        addresses=addresses, config_file=config_file, systemd_socket=systemd_socket, lender=lender, settings=settings
    )
    logs.start(level, style)
    try:
        if once:
            _print(daemon.once(roots, flags), end="")
        else:
            daemon.run(roots, flags)
    except RootError as error:
        _fail(safe.text(str(error)), CANNOT_LOOK)
    except NsinspectError as error:
        _fail(safe.text(str(error)), USAGE)


@cli.command("lend-files", hidden=True)
def lend_files_command() -> None:
    """Open engines' state files for `nsinspect serve`: what nsinspect-files.service runs."""
    from nsinspect.errors import NsinspectError
    from nsinspect.serve import lending, logs

    logs.start("info", "logfmt")
    try:
        lending.run()
    except NsinspectError as error:
        _fail(str(error), USAGE)


@cli.command("ns")
@click.option("-t", "--type", "kinds", multiple=True, type=click.Choice(TYPES), help="Only of this type; repeatable.")
@click.option("--descriptors", is_flag=True, help="Also look for those that an open descriptor keeps.")
@click.option("--tree", is_flag=True, help="Below each user namespace what it owns, below each parent its children.")
@_json
@_strict
@click.pass_obj
def ns_command(
    roots: Roots, kinds: tuple[str, ...], descriptors: bool, tree: bool, as_json: bool, strict: bool
) -> None:
    """Show every namespace: its processes, its containers, its owner, and what keeps it."""
    from nsinspect.membership import memberships

    snapshot, model = _look(roots, lineage=True, descriptors=descriptors, limits=False)
    found = [one for one in memberships(snapshot, model) if not kinds or one.kind in kinds]
    if as_json:
        from nsinspect.views import document

        _print(document.ns_document(model, found))
    else:
        from nsinspect.views import nslist

        _print(nslist.ns_table(model, found, tree=tree, width=_width(), colour=_colour()))
    _end(model.issues, strict)


@cli.command("caps")
@click.argument("container", required=False)
@click.option("--has", multiple=True, metavar="CAP", help="Only who can use this capability now; repeatable.")
@click.option("-a", "--all", "everybody", is_flag=True, help="Also processes of the host, and those like their init.")
@_json
@_strict
@click.pass_obj
def caps_command(
    roots: Roots, container: str | None, has: tuple[str, ...], everybody: bool, as_json: bool, strict: bool
) -> None:
    """Show who has which capability, thread by thread: inits, and what is unlike them.

    With --has also processes of the host.  CONTAINER is named as in `show`.
    """
    from nsinspect.capabilities import mask_of
    from nsinspect.powers import having, powers

    try:
        wanted = mask_of(has)
    except ValueError as error:
        raise click.UsageError(f"--has: {error}") from error
    snapshot, model = _look(roots, threads=True, limits=False)
    found = powers(snapshot, model)
    if container is not None:
        its = _find(model, container)
        found = tuple(one for one in found if one.pid in its.pids)
    if has:
        found = having(found, wanted)
    elif not everybody and not as_json:
        inits = {one.init.pid for one in model.containers}
        found = tuple(one for one in found if one.container and (one.unlike_init or one.pid in inits))
    if as_json:
        from nsinspect.views import document

        _print(document.caps_document(model, found))
    else:
        from nsinspect.views import capslist

        _print(capslist.caps_table(model, found, width=_width(), colour=_colour()))
    _end(model.issues, strict)


def _look(roots: Roots, **depth: bool) -> tuple[Snapshot, Model]:
    """A snapshot as deep as :class:`nsinspect.collect.Depth` says, and what it means."""
    from nsinspect.collect import Depth, collect
    from nsinspect.errors import RootError
    from nsinspect.model import build

    wanted = Depth(**depth)
    try:
        snapshot = collect(roots, wanted)
        return snapshot, build(snapshot, isolates=wanted.isolates)
    except RootError as error:
        from nsinspect import safe

        _fail(safe.text(str(error)), CANNOT_LOOK)


def _find(model: Model, wanted: str) -> Container:
    from nsinspect import lookup, safe

    try:
        return lookup.find(model, wanted)
    except lookup.NotFound as error:
        _fail(str(error), NOT_FOUND)
    except lookup.Ambiguous as error:
        names = "".join(f"\n  {safe.text(c.id)}  {safe.text(c.name or '-')}" for c in error.candidates)
        _fail(f"{error}:{names}", AMBIGUOUS)


def _print(text: str, end: str = "\n") -> None:
    if hasattr(sys.stdout, "reconfigure"):
        # A terminal that cannot show a character gets an escape, never a crash.
        sys.stdout.reconfigure(errors="backslashreplace")
    sys.stdout.write(text + end)
    sys.stdout.flush()


def _end(issues: tuple[Issue, ...], strict: bool) -> None:
    from nsinspect.snapshot import FAILURES

    if strict and any(issue.kind in FAILURES for issue in issues):
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
