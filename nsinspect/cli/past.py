"""The commands that look again and again, and back."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from nsinspect.cli.common import CANNOT_LOOK, NOT_FOUND, QUEUE, STORE, USAGE, cli, fail, no_capture, write

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots
    from nsinspect.record import Looker
    from nsinspect.store import Recorder, Recording

_store = click.option("--store", default=STORE, show_default=True, metavar="DIR", help="The recording's directory.")
_connector = click.option(
    "--connector",
    is_flag=True,
    help="While looking, also hear the kernel's notices of containers that come and go between looks.",
)
_interval = click.option(
    "--interval",
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    help="How often to look.",
)


@cli.command("record")
@_store
@_interval
@click.option(
    "--keep-days",
    default=7.0,
    show_default=True,
    metavar="DAYS",
    type=click.FloatRange(min=0),
    help="What is older is removed.",
)
@click.option(
    "--keep-mib",
    default=1024,
    show_default=True,
    metavar="MIB",
    type=click.IntRange(min=64),
    help="What is more is removed.",
)
@_connector
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after so many looks.")
@click.pass_obj
def record_command(
    roots: Roots, store: str, interval: float, keep_days: float, keep_mib: int, connector: bool, count: int | None
) -> None:
    """Look at this host every few seconds and keep what was seen, for `replay`, `history` and `events`."""
    from nsinspect import safe
    from nsinspect.errors import NsinspectError
    from nsinspect.store import Recorder

    no_capture(roots)
    try:
        recorder = Recorder(store, keep_seconds=keep_days * 86_400, keep_bytes=keep_mib << 20)
        looker = _looker(roots, connector)
        for beat in _beats(interval, count):
            _record(recorder, looker, first=beat == 0)
    except KeyboardInterrupt:
        return
    except NsinspectError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)


def _looker(roots: Roots, connector: bool) -> Looker:
    from nsinspect.procconn import Connector
    from nsinspect.record import Looker

    return Looker(roots, connector=Connector(roots) if connector else None)


def _record(recorder: Recorder, looker: Looker, *, first: bool) -> None:
    """One look; one that cannot be taken or written is said, and the next may be."""
    from nsinspect import safe
    from nsinspect.errors import RootError
    from nsinspect.store import StoreError

    try:
        recorder.add(*looker.look())
    except (RootError, StoreError) as error:
        # Where there was no host from the beginning there will be none.
        if first and isinstance(error, RootError):
            raise
        click.echo(f"nsinspect: {safe.line(str(error))}: one look is lost", err=True)


def _beats(interval: float, count: int | None) -> Any:
    """Once at each beat of a clock that nobody sets; a look that took too long costs the beats it missed."""
    begin, beat = time.monotonic(), 0
    while count is None or count > 0:
        yield beat
        count = None if count is None else count - 1
        beat = max(beat + 1, int((time.monotonic() - begin) / interval))
        if count != 0:
            time.sleep(max(0.0, begin + beat * interval - time.monotonic()))


@cli.command("replay", context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("--at", "moment", required=True, metavar="TIME", help='"10m ago", "14:03", "yesterday 03:14", RFC 3339.')
@_store
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
def replay_command(moment: str, store: str, command: tuple[str, ...]) -> None:
    """Give the answer of a reading COMMAND as of then: replay --at "10m ago" show web.

    COMMAND is list, show, pid, ns, caps, drift, net or findings, with its own options.
    """
    kept = recording(store)
    name, *arguments = command
    found = cli.get_command(click.get_current_context(), name)
    if found is None or name not in ("list", "ls", "ps", "show", "pid", "ns", "caps", "drift", "net", "findings"):
        raise click.UsageError(f"{name}: expected list, show, pid, ns, caps, drift, net or findings")
    snapshot = then(kept, moment)
    with found.make_context(name, arguments, obj=snapshot) as context:
        found.invoke(context)


def then(kept: Recording, moment: str) -> Any:
    """The look of then; says on stderr how far from it that was taken, and what is damaged."""
    from nsinspect import safe
    from nsinspect.errors import NsinspectError

    wanted = when(moment)
    try:
        snapshot = kept.at(wanted)
    except NsinspectError as error:
        _say_losses(kept)
        fail(safe.line(str(error)), CANNOT_LOOK)
    _say_losses(kept)
    taken = datetime.fromtimestamp(snapshot.captured_at).astimezone().isoformat(timespec="seconds")
    click.echo(f"nsinspect: as of {taken}, {wanted - snapshot.captured_at:.0f} s before that", err=True)
    return snapshot


def when(moment: str) -> float:
    """Seconds since the epoch of a moment that a person wrote."""
    from nsinspect import moments

    try:
        return moments.parse(moment, datetime.now()).timestamp()
    except (ValueError, OverflowError) as error:
        fail(str(error), USAGE)


def recording(store: str) -> Recording:
    """The recording below ``store``; ends the program where there is none."""
    from nsinspect import safe
    from nsinspect.store import Recording, StoreError

    try:
        return Recording(store)
    except StoreError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)


def _say_losses(kept: Recording) -> None:
    from nsinspect import safe

    for loss in kept.losses:
        click.echo(f"nsinspect: {safe.line(loss)}", err=True)


@cli.command("history")
@click.argument("container")
@_store
@click.option("--since", default="7d ago", show_default=True, metavar="TIME", help="From then on.")
@click.option("--json", "as_json", is_flag=True, help="One line of JSON for each event instead.")
def history_command(container: str, store: str, since: str, as_json: bool) -> None:
    """Show the life of one container, as recorded: when it came, what was changed, what stood out, when it went.

    CONTAINER is a name or the beginning of an id (4 or more characters).
    """
    from nsinspect.views import eventlog

    kept = recording(store)
    found = [
        one
        for one in map(eventlog.known, kept.events(when(since)))
        if container == one["name"] or (len(container) >= 4 and (one["container"] or "").startswith(container))
    ]
    _say_losses(kept)
    if not found:
        fail(f"nothing was recorded of {ascii(container)[1:-1]} since then", NOT_FOUND)
    write("\n".join(eventlog.line(one, "json") if as_json else eventlog.words(one) for one in found))


@cli.command("events")
@click.option("--follow", is_flag=True, help="Look every few seconds, and go on until interrupted.")
@click.option("--since", metavar="TIME", help="Begin with what was recorded from then on.")
@_store
@_interval
@click.option("--json", "as_json", is_flag=True, help="The same as --format json.")
@click.option("--format", "form", type=click.Choice(("json", "ecs", "timesketch")), help="One line of JSON for each.")
@_connector
@click.option("--webhook", metavar="URL", help="With --follow: send each to this address as well.")
@click.option("--webhook-secret", metavar="FILE", help="Sign with the bytes of this file (HMAC-SHA-256).")
@click.option(
    "--webhook-queue",
    default=QUEUE,
    show_default=True,
    metavar="DIR",
    help="Where events wait that could not be sent yet.",
)
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="With --follow: end after so many looks.")
@click.pass_obj
def events_command(
    roots: Roots,
    follow: bool,
    since: str | None,
    store: str,
    interval: float,
    as_json: bool,
    form: str | None,
    connector: bool,
    webhook: str | None,
    webhook_secret: str | None,
    webhook_queue: str,
    count: int | None,
) -> None:
    """Show what happened: containers, limits, capabilities, namespaces, who stood out, OOM kills, throttling, drift.

    Without --follow what was recorded; with it what happens from now on, as far as one look every few seconds sees it.
    """
    from nsinspect import safe
    from nsinspect.errors import NsinspectError
    from nsinspect.views import eventlog

    if not follow and webhook:
        raise click.UsageError("--webhook: what was recorded is not sent; use --follow")
    form = form or ("json" if as_json else None)

    def show(one: dict[str, Any]) -> None:
        write(eventlog.line(one, form) if form else eventlog.words(one))

    if since is not None or not follow:
        kept = recording(store)
        for one in kept.events(0.0 if since is None else when(since)):
            show(one)
        _say_losses(kept)
    if not follow:
        return
    no_capture(roots)
    hook = None
    try:
        hook = _hook(webhook, webhook_secret, webhook_queue)
        looker = _looker(roots, connector)
        for _ in _beats(interval, count):
            for one in looker.look()[1]:
                show(one)
                if hook is not None:
                    hook.put(one)
    except KeyboardInterrupt:
        return
    except NsinspectError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)
    finally:
        if hook is not None:
            hook.close()


def _hook(url: str | None, secret: str | None, queue: str) -> Any:
    if url is None:
        return None
    from nsinspect.webhook import Webhook

    return Webhook.of(url, secret, queue, say=lambda line: click.echo(f"nsinspect: {line}", err=True))
