"""The reading commands: each one question about a host, answered once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from nsinspect.cli.common import (
    FOUND,
    NOT_FOUND,
    Looked,
    all_option,
    cli,
    colour,
    end,
    fail,
    find,
    json_option,
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
    model = Looked(roots, isolates=isolates).model
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
    from nsinspect.networks import network_of, networks
    from nsinspect.scrutiny import findings

    if engine and as_json:
        raise click.UsageError("--as and --json are two answers: ask for one")
    # Who is who can be told without what is shown of one alone.
    looked = Looked(roots, isolates=True, limits=False, confinement=False)
    found = looked.deeper(find(looked.model, container))
    namespace = found.namespaces["net"]
    # In a network of its own every process may hold a socket; in the host's only its own matter.
    own = None if namespace is None or namespace.host else namespace.inode
    looked.closer(
        threads=found.pids,
        members=found.pids,
        networks=(found.init.pid,),
        sockets=(
            *found.pids,
            *(one.pid for one in looked.snapshot.processes if own is not None and one.namespaces.net == own),
        ),
    )
    model = looked.model
    network = network_of(found, networks(looked.snapshot, model))
    standing_out = findings(looked.snapshot, model, found.id)
    issues = issues_about(model, found)
    if as_json:
        from nsinspect.views import document

        write(document.show_document(model, found, network, standing_out, issues))
    elif engine:
        from nsinspect.views import flags

        write(flags.as_flags(model, found, engine))
    else:
        from nsinspect.views import page

        write(page.show_page(model, found, network, standing_out, issues, width=width(), colour=colour()))
    end(issues, strict)


@cli.command("drift")
@click.argument("container", required=False)
@json_option
@strict_option
@click.pass_obj
def drift_command(roots: Roots, container: str | None, as_json: bool, strict: bool) -> None:
    """Compare what was declared with what the kernel enforces, of one container or all.  Exits 1 when they differ."""
    model = Looked(roots).model
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
    from nsinspect.issues import issues_of
    from nsinspect.locate import locate

    looked = Looked(roots, isolates=True, limits=False, confinement=False)
    model = looked.model
    found = [located for pid in pids if (located := locate(looked.snapshot, model, pid)) is not None]
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

    # The document has no names.
    looked = Looked(roots, lineage=True, descriptors=descriptors, limits=False, confinement=False, names=not as_json)
    model = looked.model
    found = [one for one in memberships(looked.snapshot, model) if not kinds or one.kind in kinds]
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
    looked = Looked(roots, isolates=container is not None, limits=False)
    looked.closer(threads=[process.pid for process in looked.snapshot.processes])
    model = looked.model
    found = powers(looked.snapshot, model)
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


@cli.command("net")
@click.argument("container", required=False)
@json_option
@strict_option
@click.pass_obj
def net_command(roots: Roots, container: str | None, as_json: bool, strict: bool) -> None:
    """Show what listens where, and where interfaces lead, by network namespace.

    Interfaces' addresses and the other ends of veth pairs need root.  CONTAINER is named as in `show`.
    """
    from nsinspect.networks import network_of, networks

    looked = Looked(roots, isolates=container is not None, limits=False)
    its = None if container is None else find(looked.model, container)
    known = [process.pid for process in looked.snapshot.processes if process.namespaces.net is not None]
    # Of those whose namespace we may not know, one is enough of each container, and PID 1 of the host.
    first = [one.init.pid for one in looked.model.containers]
    first += [1] if looked.snapshot.host.namespaces.net is None else []
    everybody = [process.pid for process in looked.snapshot.processes]
    looked.closer(networks=(*known, *first), sockets=everybody, links=True)
    model = looked.model
    found = networks(looked.snapshot, model)
    if its is not None:
        network = network_of(its, found)
        found = () if network is None else (network,)
    if as_json:
        from nsinspect.views import document

        write(document.net_document(model, found, model.issues))
    else:
        from nsinspect.views import netlist

        write(netlist.net_list(model, found, width=width(), colour=colour()))
    end(model.issues, strict)


@cli.command("findings")
@click.argument("container", required=False)
@json_option
@strict_option
@click.pass_obj
def findings_command(roots: Roots, container: str | None, as_json: bool, strict: bool) -> None:
    """Show which processes and threads stand out in containers, with what shows it.  Exits 1 when any does.

    CONTAINER is named as in `show`.
    """
    from nsinspect.scrutiny import findings

    looked = Looked(roots, limits=False)
    its = None if container is None else find(looked.model, container)
    pids = [pid for one in looked.model.containers if its in (None, one) for pid in one.pids]
    looked.closer(threads=pids, members=pids)
    model = looked.model
    found = [one for one in findings(looked.snapshot, model) if its is None or one.container == its.id]
    if as_json:
        from nsinspect.views import document

        write(document.findings_document(model, found, model.issues))
    else:
        from nsinspect.views import report

        looked_at = 1 if its else len(model.containers)
        write(report.findings_report(model, found, looked_at, width=width(), colour=colour()))
    end(model.issues, strict)
    if found:
        sys.exit(FOUND)
