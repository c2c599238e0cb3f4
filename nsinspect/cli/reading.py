"""The reading commands: each one question about a host, answered once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nsinspect.cli.common import (
    FOUND,
    NOT_FOUND,
    all_option,
    cli,
    colour,
    end,
    fail,
    find,
    json_option,
    look,
    strict_option,
    width,
    write,
)
from nsinspect.namespaces import TYPES

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots


@cli.command("list")
@all_option
@json_option
@strict_option
@click.pass_obj
def list_command(roots: Roots, isolates: bool, as_json: bool, strict: bool) -> None:
    """Show which containers run here, how confined and how limited.  Also: ls, ps."""
    _, model = look(roots, isolates=isolates)
    if as_json:
        from nsinspect.views import document

        write(document.list_document(model, model.containers))
    elif model.containers:
        from nsinspect.views import table

        write(table.list_table(model, model.containers, width=width(), colour=colour()))
    else:
        from nsinspect.views import table

        click.echo("\n".join(["no containers here", *table.issue_notes(model.issues)]), err=True)
    end(model.issues, strict)


@cli.command("show")
@click.argument("container")
@click.option(
    "--as", "engine", type=click.Choice(("docker", "podman", "k8s")), help="Flags or YAML that would give it."
)
@json_option
@strict_option
@click.pass_obj
def show_command(roots: Roots, container: str, engine: str | None, as_json: bool, strict: bool) -> None:
    """Show everything about one container.

    CONTAINER is a name, a unique id prefix (4 or more characters), NAMESPACE/POD/CONTAINER, a cgroup path or pid:N.
    """
    from nsinspect.model import issues_about

    if engine and as_json:
        raise click.UsageError("--as and --json are two answers: ask for one")
    _, model = look(roots, isolates=True)
    found = find(model, container)
    issues = issues_about(model, found)
    if as_json:
        from nsinspect.views import document

        write(document.show_document(model, found, issues))
    elif engine:
        from nsinspect.views import flags

        write(flags.as_flags(model, found, engine))
    else:
        from nsinspect.views import page

        write(page.show_page(model, found, issues, width=width(), colour=colour()))
    end(issues, strict)


@cli.command("drift")
@click.argument("container", required=False)
@json_option
@strict_option
@click.pass_obj
def drift_command(roots: Roots, container: str | None, as_json: bool, strict: bool) -> None:
    """Compare what was declared with what the kernel enforces, of one container or all.  Exits 1 when they differ."""
    _, model = look(roots, isolates=False)
    wanted = model.containers if container is None else (find(model, container),)
    if as_json:
        from nsinspect.views import document

        write(document.drift_document(model, wanted, model.issues))
    else:
        from nsinspect.views import report

        write(report.drift_report(wanted, width=width(), colour=colour()))
    end(model.issues, strict)
    if any(one.drift for one in wanted):
        sys.exit(FOUND)


@cli.command("pid")
@click.argument("pids", metavar="PID...", nargs=-1, required=True, type=click.IntRange(min=1))
@json_option
@strict_option
@click.pass_obj
def pid_command(roots: Roots, pids: tuple[int, ...], as_json: bool, strict: bool) -> None:
    """Show which container, pod and namespaces a process belongs to, and how we know.  Exits 3 when one is gone."""
    from nsinspect.locate import locate
    from nsinspect.model import issues_of

    snapshot, model = look(roots, isolates=True)
    found = [located for pid in pids if (located := locate(snapshot, model, pid)) is not None]
    issues = issues_of(model.issues, pids)
    if as_json:
        from nsinspect.views import document

        write(document.pid_document(model, found, issues))
    elif found:
        from nsinspect.views import page

        write(page.pid_page(model, found, width=width(), colour=colour()))
    missing = sorted(set(pids) - {located.process.pid for located in found})
    if missing:
        fail(f"no such process: {', '.join(map(str, missing))}", NOT_FOUND)
    end(issues, strict)


@cli.command("ns")
@click.option("-t", "--type", "kinds", multiple=True, type=click.Choice(TYPES), help="Only of this type; repeatable.")
@click.option("--descriptors", is_flag=True, help="Also look for those that an open descriptor keeps.")
@click.option("--tree", is_flag=True, help="Below each user namespace what it owns, below each parent its children.")
@json_option
@strict_option
@click.pass_obj
def ns_command(
    roots: Roots, kinds: tuple[str, ...], descriptors: bool, tree: bool, as_json: bool, strict: bool
) -> None:
    """Show every namespace: its processes, its containers, its owner, and what keeps it."""
    from nsinspect.membership import memberships

    snapshot, model = look(roots, lineage=True, descriptors=descriptors, limits=False)
    found = [one for one in memberships(snapshot, model) if not kinds or one.kind in kinds]
    if as_json:
        from nsinspect.views import document

        write(document.ns_document(model, found))
    else:
        from nsinspect.views import nslist

        write(nslist.ns_table(model, found, tree=tree, width=width(), colour=colour()))
    end(model.issues, strict)


@cli.command("caps")
@click.argument("container", required=False)
@click.option("--has", multiple=True, metavar="CAP", help="Only who can use this capability now; repeatable.")
@click.option("-a", "--all", "everybody", is_flag=True, help="Also processes of the host, and those like their init.")
@json_option
@strict_option
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
    snapshot, model = look(roots, threads=True, limits=False)
    found = powers(snapshot, model)
    if container is not None:
        its = find(model, container)
        found = tuple(one for one in found if one.pid in its.pids)
    if has:
        found = having(found, wanted)
    elif not everybody and not as_json:
        inits = {one.init.pid for one in model.containers}
        found = tuple(one for one in found if one.container and (one.unlike_init or one.pid in inits))
    if as_json:
        from nsinspect.views import document

        write(document.caps_document(model, found))
    else:
        from nsinspect.views import capslist

        write(capslist.caps_table(model, found, width=width(), colour=colour()))
    end(model.issues, strict)
