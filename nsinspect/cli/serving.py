"""The exporter daemon's command, and that of its lender of files."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from nsinspect.cli.common import CANNOT_LOOK, QUEUE, USAGE, cli, fail, write

if TYPE_CHECKING:
    from nsinspect.kernfs import Roots


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
@click.option("--record.store", "store", metavar="DIR", help="Also look every few seconds and keep it there.")
@click.option(
    "--record.interval",
    "interval",
    default=5.0,
    show_default=True,
    metavar="SECONDS",
    type=click.FloatRange(min=0.1),
    help="How often to look, for the recording and for events.",
)
@click.option("--events", is_flag=True, help="Tell in the log what happens: limits, capabilities, who stands out.")
@click.option("--events.webhook", "webhook", metavar="URL", help="Send events to this address as well.")
@click.option("--events.webhook-secret", "webhook_secret", metavar="FILE", help="Sign with the bytes of this file.")
@click.option(
    "--events.webhook-queue",
    "webhook_queue",
    default=QUEUE,
    show_default=True,
    metavar="DIR",
    help="Where events wait to be sent.",
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
    store: str | None,
    interval: float,
    events: bool,
    webhook: str | None,
    webhook_secret: str | None,
    webhook_queue: str,
) -> None:
    """Serve metrics to Prometheus.

    Collects at each scrape.  SIGHUP reads the web configuration again; so does a change of its files.
    """
    from dataclasses import replace

    from nsinspect import safe
    from nsinspect.errors import NsinspectError, RootError
    from nsinspect.serve import daemon, logs
    from nsinspect.serve.app import Settings
    from nsinspect.serve.watcher import Wishes
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
        addresses=addresses,
        config_file=config_file,
        systemd_socket=systemd_socket,
        lender=lender,
        settings=settings,
        wishes=Wishes(
            store=store,
            interval=interval,
            events=events,
            webhook=webhook,
            webhook_secret=webhook_secret,
            webhook_queue=webhook_queue,
        ),
    )
    logs.start(level, style)
    try:
        if once:
            write(daemon.once(roots, flags), end="")
        else:
            daemon.run(roots, flags)
    except RootError as error:
        fail(safe.line(str(error)), CANNOT_LOOK)
    except NsinspectError as error:
        fail(safe.line(str(error)), USAGE)


@cli.command("lend-files", hidden=True)
def lend_files_command() -> None:
    """Open engines' state files for `nsinspect serve`: what nsinspect-files.service runs."""
    from nsinspect.errors import NsinspectError
    from nsinspect.serve import lending, logs

    logs.start("info", "logfmt")
    try:
        lending.run()
    except NsinspectError as error:
        fail(str(error), USAGE)
