"""What is answered to which request: one way in for every path."""

from __future__ import annotations

import asyncio
import html
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from nsinspect import __version__
from nsinspect.fields.scrape import Scrape
from nsinspect.serve.auth import Busy, Passwords
from nsinspect.serve.scraper import Scraper
from nsinspect.serve.server import Answer, Request
from nsinspect.serve.webconfig import WebConfig
from nsinspect.views.metrics import Room, exposition

_SAFE_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_TEXT = "text/plain; charset=utf-8"
# Prometheus gives up at its timeout; the answer has to have arrived by then.
_MARGIN = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What the flags of ``nsinspect serve`` say of answers."""

    telemetry_path: str = "/metrics"
    deadline: float = 8.0
    max_requests: int = 40
    room: Room = field(default_factory=Room)
    own_metrics: bool = True


@dataclass(frozen=True, slots=True)
class _Page:
    status: int
    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


class _Shared:
    """One scrape, and what was written of it: made once however many ask."""

    def __init__(self, scrape: Scrape) -> None:
        self.scrape = scrape
        self.written: dict[tuple[bool, bool], bytes] = {}


class App:
    """Answers requests.  ``config`` is asked at every request, so that a new one counts at once; ``scraped`` is told of
    every scrape."""

    def __init__(
        self,
        scraper: Scraper,
        settings: Settings,
        config: Callable[[], WebConfig],
        scraped: Callable[[Scrape], None] = lambda _: None,
    ) -> None:
        self._scraper = scraper
        self._settings = settings
        self._config = config
        self._scraped = scraped
        self._passwords = Passwords()
        self._flight: asyncio.Task[_Shared] | None = None
        self._requests = 0
        self._own = _OwnMetrics() if settings.own_metrics else None

    async def answer(self, request: Request) -> Answer:
        """The answer to any request; the only way in."""
        self._requests += 1
        try:
            if self._requests > self._settings.max_requests:
                page = _Page(503, _TEXT, b"too many requests at once\n", {"Retry-After": "1"})
            else:
                page = await self._page(request)
        finally:
            self._requests -= 1
        headers = {**_SAFE_HEADERS, **self._config().headers, "Content-Type": page.content_type, **page.headers}
        return Answer(page.status, headers, page.body)

    async def _page(self, request: Request) -> _Page:
        users = self._config().users
        try:
            if users and not await self._passwords.right(users, request.headers.get(b"authorization")):
                return _Page(401, _TEXT, b"Unauthorized\n", {"WWW-Authenticate": 'Basic realm="nsinspect"'})
        except Busy:
            return _Page(503, _TEXT, b"too many passwords wait to be checked\n", {"Retry-After": "1"})
        if request.method not in ("GET", "HEAD"):
            return _Page(405, _TEXT, b"Method Not Allowed\n", {"Allow": "GET, HEAD"})
        if request.path == self._settings.telemetry_path:
            return await self._metrics(request.headers)
        if request.path == "/":
            return _Page(200, "text/html; charset=utf-8", _landing(self._settings.telemetry_path).encode())
        if request.path in ("/-/healthy", "/-/ready"):
            return _Page(200, _TEXT, b"OK\n")
        return _Page(404, _TEXT, b"Not Found\n")

    # -- metrics ---------------------------------------------------------------------------------------------------

    async def scrape(self, seconds: float | None = None) -> _Shared:
        """The scrape that is under way, or a new one; never two at once."""
        if self._flight is None or self._flight.done():
            self._flight = asyncio.create_task(self._fly(min(seconds or 1e9, self._settings.deadline)))
        # One who goes away does not take the scrape from the others.
        return await asyncio.shield(self._flight)

    async def _fly(self, seconds: float) -> _Shared:
        scrape = await asyncio.to_thread(self._scraper.scrape, seconds)
        self._scraped(scrape)
        return _Shared(scrape)

    async def _metrics(self, headers: Mapping[bytes, bytes]) -> _Page:
        from prometheus_client.exposition import choose_encoder

        shared = await self.scrape(_patience(headers.get(b"x-prometheus-scrape-timeout-seconds", b"")))
        encoder, content_type = choose_encoder(headers.get(b"accept", b"").decode("latin-1"))
        openmetrics = content_type.startswith("application/openmetrics-text")
        zipped = _accepts_gzip(headers.get(b"accept-encoding", b""))
        body = shared.written.get((openmetrics, zipped))
        if body is None:
            body = await asyncio.to_thread(self._text, shared.scrape, encoder, openmetrics=openmetrics, zipped=zipped)
            shared.written[openmetrics, zipped] = body
        more = {"Vary": "Accept, Accept-Encoding", **({"Content-Encoding": "gzip"} if zipped else {})}
        return _Page(200, content_type, body, more)

    def _text(self, scrape: Scrape, encoder: Callable[[Any], bytes], *, openmetrics: bool, zipped: bool) -> bytes:
        text = exposition(scrape, openmetrics=openmetrics, room=self._settings.room).encode()
        if self._own is not None:
            text += encoder(self._own.registry)
        elif openmetrics:
            text += b"# EOF\n"
        if not zipped:
            return text
        # Level 1 halves the time of the default, and the text is repetitive enough.
        squeeze = zlib.compressobj(1, wbits=31)
        return squeeze.compress(text) + squeeze.flush()


class _OwnMetrics:
    """What this process uses itself, as prometheus-client counts it."""

    def __init__(self) -> None:
        from prometheus_client import CollectorRegistry, ProcessCollector

        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)


def _patience(header: bytes) -> float | None:
    """Seconds until the asker gives up, less a margin; ``None`` where it does not say."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return max(seconds - _MARGIN, _MARGIN) if seconds > 0 else None


def _accepts_gzip(header: bytes) -> bool:
    for one in header.lower().split(b","):
        name, _, weight = one.partition(b";")
        if name.strip() == b"gzip":
            return weight.replace(b" ", b"") not in (b"q=0", b"q=0.0", b"q=0.00", b"q=0.000")
    return False


def _landing(path: str) -> str:
    shown = html.escape(path, quote=True)
    return (
        "<!doctype html>\n<html lang=en><meta charset=utf-8><title>nsinspect</title>\n"
        "<style>body{font-family:sans-serif;margin:3em}</style>\n"
        f"<h1>nsinspect</h1>\n<p>Version {html.escape(__version__)}. What the containers of this host may do and what "
        f"limits them, read from the kernel.</p>\n"
        f'<ul><li><a href="{shown}">{shown}</a><li><a href="/-/healthy">/-/healthy</a>'
        '<li><a href="/-/ready">/-/ready</a></ul>\n'
    )
