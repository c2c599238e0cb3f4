"""From flags to a running exporter, and to its end: sockets, signals, systemd."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import ipaddress
import logging
import signal
import socket
import time
from dataclasses import dataclass, field

from nsinspect.errors import RootError
from nsinspect.fields.scrape import Scrape
from nsinspect.kernfs import Roots
from nsinspect.serve import notify
from nsinspect.serve.app import App, Settings
from nsinspect.serve.scraper import Scraper
from nsinspect.serve.server import Patience, Server, listen, within_limits
from nsinspect.serve.watcher import Watcher, Wishes
from nsinspect.serve.webconfig import ConfigError, Rotating, exposure
from nsinspect.views.metrics import exposition

log = logging.getLogger(__name__)

# Seconds for the look at the start: nobody waits for it yet, and a busy host is none that cannot be seen.
_START = 60.0
# The kernel's own answers; an engine's files may hang with their disk, which a restart does not mend.
_KERNEL_PARTS = ("processes", "confinement", "cgroups", "model")


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What ``nsinspect serve`` was told."""

    addresses: tuple[str, ...]
    config_file: str | None = None
    systemd_socket: bool = False
    lender: str | None = None
    wishes: Wishes = field(default_factory=Wishes)
    settings: Settings = field(default_factory=Settings)
    patience: Patience = field(default_factory=Patience)


def first_look(scraper: Scraper, seconds: float) -> Scrape:
    """A first scrape.  Raises :class:`RootError` where the host cannot be seen, or only a part of it."""
    scrape = scraper.scrape(seconds)
    if scrape.model is None:
        raise RootError("the processes of this host could not be read; the log says why")
    for issue in scrape.model.issues:
        if issue.kind == "private_namespace":
            raise RootError(f"{issue.path}: {issue.detail}")
    return scrape


def once(roots: Roots, flags: Flags) -> str:
    """One scrape as text.  Raises :class:`RootError`."""
    scrape = first_look(Scraper(roots, flags.lender), flags.settings.deadline)
    return exposition(scrape, openmetrics=False, room=flags.settings.room)


def run(roots: Roots, flags: Flags) -> None:
    """Serve until SIGTERM or SIGINT.  Raises ``RootError``, ``ConfigError`` and ``CannotServe``."""
    config = Rotating(flags.config_file)
    scraper = Scraper(roots, flags.lender)
    first_look(scraper, max(_START, flags.settings.deadline))
    # What is there by now stays: cycles are looked for among the rest.
    gc.collect()
    gc.freeze()
    sockets = _sockets(flags)
    watcher = None
    try:
        watcher = Watcher(roots, flags.wishes, flags.lender) if flags.wishes.any else None
        asyncio.run(_Daemon(scraper, flags, config, sockets).run())
    finally:
        if watcher is not None:
            watcher.stop()
        for one in sockets:
            one.close()


def _sockets(flags: Flags) -> list[socket.socket]:
    if flags.systemd_socket:
        return notify.passed_sockets()
    found: list[socket.socket] = []
    for address in flags.addresses:
        try:
            found += listen(address)
        except (OSError, ValueError, OverflowError) as error:
            for one in found:
                one.close()
            raise notify.CannotServe(
                f"--web.listen-address {address}: {getattr(error, 'strerror', None) or error}"
            ) from error
    return found


class _Daemon:
    def __init__(self, scraper: Scraper, flags: Flags, config: Rotating, sockets: list[socket.socket]) -> None:
        self._config = config
        self._sockets = sockets
        self._stop = asyncio.Event()
        self._app = App(scraper, flags.settings, config.config, self._scraped)
        patience = within_limits(flags.patience)
        self._server = Server(self._app.answer, self._app.refusal, config.context, config.allowed, patience)
        self._finished = time.monotonic()

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        watching = asyncio.create_task(self._watch())
        self._say_what_is_open()
        notify.notify(READY=1, STATUS=f"Listening on {', '.join(map(_name, self._sockets))}")
        try:
            await self._server.serve(self._sockets, self._stop)
        finally:
            notify.notify(STOPPING=1)
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching

    def _say_what_is_open(self) -> None:
        names = [_name(one) for one in self._sockets]
        log.info("listening on %s", ", ".join(names))
        outside = [_name(one) for one in self._sockets if not _is_local(one)]
        for warning in exposure(self._config.config(), outside):
            log.warning("%s", warning)

    def _reload(self) -> None:
        notify.reloading()
        try:
            self._config.reload()
            log.info("configuration read again")
            self._say_what_is_open()
        except ConfigError as error:
            log.error("%s; the configuration before it stays in force", error)
        finally:
            notify.notify(READY=1)

    def _scraped(self, scrape: Scrape) -> None:
        if all(part.success for part in scrape.parts if part.name in _KERNEL_PARTS):
            self._finished = time.monotonic()
            notify.notify(WATCHDOG=1)

    async def _watch(self) -> None:
        """Where nobody asks often enough to feed systemd's watchdog, ask ourselves: it wants to see that collecting
        still works, not that a timer does."""
        seconds = notify.watchdog_seconds()
        if seconds is None:
            return
        while True:
            rest = self._finished + seconds / 2 - time.monotonic()
            if rest > 0:
                await asyncio.sleep(rest)
                continue
            await self._app.scrape()
            # A scrape that did not finish its collection is not tried again at once.
            await asyncio.sleep(seconds / 10)


def _name(listening: socket.socket) -> str:
    address = listening.getsockname()
    if listening.family == socket.AF_UNIX:
        return str(address)
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _is_local(listening: socket.socket) -> bool:
    return listening.family == socket.AF_UNIX or ipaddress.ip_address(listening.getsockname()[0]).is_loopback
