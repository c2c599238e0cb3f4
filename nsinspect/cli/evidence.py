"""The commands of forensics: to keep a host as it is, and to compare what was kept."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

from nsinspect.cli.common import (
    CANNOT_LOOK,
    FOUND,
    STORE,
    Looked,
    cli,
    colour,
    fail,
    find,
    json_option,
    no_capture,
    width,
    write,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from nsinspect.bundle import Sink
    from nsinspect.diff import Side
    from nsinspect.kernfs import Roots


@cli.command("capture")
@click.argument("containers", metavar="[CONTAINER]...", nargs=-1)
@click.option(
    "-o", "--output", required=True, metavar="PATH", help="A new directory, a new FILE.tar.zst, or - for stdout."
)
@click.option("--case", metavar="ID", help="Of which case; written into the manifest and the log.")
@click.option("--examiner", metavar="NAME", help="Who takes it; written there too.")
@click.option("--note", metavar="TEXT", help="Anything else; written there too.")
@click.option("--cmdline", is_flag=True, help="Also command lines of containers' processes, which may hold secrets.")
@click.option("--environ", is_flag=True, help="Also their environments, which often hold secrets.")
@click.option("--executables", is_flag=True, help="Also SHA-256 of the programs they run, not the programs.")
@click.option("--state-files", is_flag=True, help="Also engines' files as they are, environments in them and all.")
@click.pass_obj
def capture_command(
    roots: Roots,
    containers: tuple[str, ...],
    output: str,
    case: str | None,
    examiner: str | None,
    note: str | None,
    cmdline: bool,
    environ: bool,
    executables: bool,
    state_files: bool,
) -> None:
    """Keep what the kernel says now: every file that is read, its SHA-256, and the snapshot made of them.

    The result is a --root for every reading command, on any machine.  With CONTAINER, other containers are left out.
    """
    from nsinspect import capture, safe
    from nsinspect.bundle import BundleError
    from nsinspect.errors import RootError

    no_capture(roots)
    chosen, others, pids = [], set[str](), set[int]()
    if containers:
        model = Looked(roots, limits=False).model
        chosen = [find(model, one).id for one in containers]
        others = {one.id for one in model.containers if one.id not in chosen}
        pids = {pid for one in model.containers if one.id in others for pid in one.pids}
        pids -= {pid for one in model.containers if one.id in chosen for pid in one.pids}
    request = capture.Request(
        command=tuple(sys.argv),
        case=case,
        examiner=examiner,
        note=note,
        lastly=tuple(
            name for name, wanted in (("cmdline", cmdline), ("executable", executables), ("environ", environ)) if wanted
        ),
        state_files=state_files,
        containers=tuple(chosen),
        others=frozenset(others),
        leave_out=frozenset(pids),
    )
    try:
        # Before anything is made: where there is no host nothing is left behind.
        roots.open_procfs().close()
        sink = _sink(output)
        done = capture.take(roots, sink, request, _progress())
        sink.close()
    except RootError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)
    except BundleError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)
    except OSError as error:
        fail(f"{safe.line(output)}: {error.strerror}: the capture is not complete", CANNOT_LOOK)
    where = "stdout" if output == "-" else safe.line(output)
    click.echo(f"nsinspect: {done.files} files kept in {where}, {done.failed} could not be read", err=True)
    click.echo(f"nsinspect: SHA-256 of its SHA256SUMS: {done.seal}", err=True)


def _sink(output: str) -> Sink:
    from nsinspect.bundle import ARCHIVE, Archive, Folder

    if output == "-":
        if sys.stdout.isatty():
            raise click.UsageError("-o -: stdout is a terminal; send it to a file or another program")
        return Archive(sys.stdout.buffer)
    if output.endswith(ARCHIVE):
        return Archive.create(output)
    if output.endswith((".tar", ".tgz", ".gz", ".zst", ".zip")):
        raise click.UsageError(f"-o {output}: expected a new directory or a name that ends in {ARCHIVE}")
    return Folder(output)


def _progress() -> Callable[[int], None]:
    """Says on stderr how far it is, when that takes long."""
    following = time.monotonic() + 2

    def say(count: int) -> None:
        nonlocal following
        if time.monotonic() >= following:
            click.echo(f"nsinspect: {count} files read", err=True)
            following = time.monotonic() + 2

    return say


@cli.command("verify")
@click.argument("capture")
@click.option("--seal", metavar="SHA256", help="The SHA-256 that `capture` printed at its end.")
@json_option
def verify_command(capture: str, seal: str | None, as_json: bool) -> None:
    """Check that a capture is what it was when it was taken.  Exits 1 and names what was altered when it is not."""
    from nsinspect import safe
    from nsinspect.bundle import BundleError
    from nsinspect.verify import verify

    try:
        verdict = verify(capture, seal)
    except BundleError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)
    if as_json:
        from nsinspect.views import document

        write(document.verify_document(verdict.files, verdict.seal, verdict.problems))
    else:
        lines = [f"{safe.line(name)}: {what}" for name, what in verdict.problems]
        lines.append(
            f"{len(verdict.problems)} of {verdict.files} files are not as they were"
            if lines
            else f"all {verdict.files} files are as they were"
        )
        write("\n".join(lines))
    if verdict.problems:
        sys.exit(FOUND)


@cli.command("diff")
@click.argument("before")
@click.argument("after")
@click.option("-a", "--all", "everything", is_flag=True, help="Also what changes all the time.")
@json_option
@click.pass_obj
def diff_command(roots: Roots, before: str, after: str, everything: bool, as_json: bool) -> None:
    """Show what is different between two looks at a host.  Exits 1 when anything is.

    BEFORE and AFTER are captures (a directory or a .tar.zst), recordings ([DIR]@TIME), or the word live.
    """
    from nsinspect.diff import diff, worth_saying

    old, new = _side(roots, before), _side(roots, after)
    changes = diff(old, new)
    shown = changes if everything else worth_saying(changes)
    if as_json:
        from nsinspect.views import document

        write(document.diff_document(old.model, new.model, shown))
    else:
        from nsinspect.views import changes as view

        write(view.diff_report(old, new, shown, len(changes) - len(shown), width=width(), colour=colour()))
    if shown:
        sys.exit(FOUND)


def _side(roots: Roots, name: str) -> Side:
    """A capture, a recording as of then, or this host as it is now."""
    from dataclasses import replace

    from nsinspect.bundle import is_capture
    from nsinspect.diff import Side

    if name == "live":
        return Side(Looked(roots, lineage=True, everything=True, links=True).snapshot)
    # A capture first: its name may have an @ in it.
    if is_capture(name):
        return Side(Looked(replace(roots, root=name), lineage=True).snapshot)
    if "@" not in name:
        fail(f"{ascii(name)[1:-1]}: expected a capture, @TIME of a recording or the word live", CANNOT_LOOK)
    from nsinspect.cli import past

    store, _, moment = name.rpartition("@")
    return Side(past.then(past.recording(store or STORE), moment))
