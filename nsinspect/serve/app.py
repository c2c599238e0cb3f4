"""What is answered to which request: one way in for every path."""

from __future__ import annotations

import asyncio
import html
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus

from nsinspect import __version__
from nsinspect.fields.scrape import Scrape
from nsinspect.serve.auth import Busy, Passwords
from nsinspect.serve.scraper import Scraper, uncollected
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
_PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
_OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
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
    """One scrape, and what is written of it: made once however many ask."""

    def __init__(self, scrape: Scrape) -> None:
        self.scrape = scrape
        self.written: dict[tuple[bool, bool], asyncio.Task[bytes]] = {}


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
        return self._whole(page)

    def refusal(self, status: int) -> Answer:
        """The answer to what is no request."""
        return self._whole(_Page(status, _TEXT, f"{HTTPStatus(status).phrase}\n".encode("ascii")))

    def _whole(self, page: _Page) -> Answer:
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
        shared = await self.scrape(_patience(headers.get(b"x-prometheus-scrape-timeout-seconds", b"")))
        openmetrics = _prefers_openmetrics(headers.get(b"accept", b""))
        zipped = _accepts_gzip(headers.get(b"accept-encoding", b""))
        if (openmetrics, zipped) not in shared.written:
            writing = asyncio.to_thread(self._text, shared.scrape, openmetrics=openmetrics, zipped=zipped)
            shared.written[openmetrics, zipped] = asyncio.create_task(writing)
        body = await asyncio.shield(shared.written[openmetrics, zipped])
        more = {"Vary": "Accept, Accept-Encoding", **({"Content-Encoding": "gzip"} if zipped else {})}
        return _Page(200, _OPENMETRICS if openmetrics else _PROMETHEUS, body, more)

    def _text(self, scrape: Scrape, *, openmetrics: bool, zipped: bool) -> bytes:
        with uncollected():
            text = exposition(scrape, openmetrics=openmetrics, room=self._settings.room).encode()
        if self._own is not None:
            text += self._own.text(openmetrics=openmetrics)
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

        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

    def text(self, *, openmetrics: bool) -> bytes:
        """With OpenMetrics' end, because it stands last."""
        from prometheus_client.exposition import generate_latest
        from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics

        text: bytes = (generate_openmetrics if openmetrics else generate_latest)(self._registry)
        return text


def _patience(header: bytes) -> float | None:
    """Seconds until the asker gives up, less a margin; ``None`` where it does not say."""
    try:
        seconds = float(header)
    except ValueError:
        return None
    return max(seconds - _MARGIN, _MARGIN) if seconds > 0 else None


def _weights(header: bytes) -> Iterator[tuple[bytes, dict[bytes, bytes], float]]:
    """What a header of choices names, with its parameters and its weight (RFC 9110, 12.4.2)."""
    for choice in header.lower().replace(b" ", b"").split(b","):
        name, *rest = choice.split(b";")
        parameters = {key: value for key, _, value in (one.partition(b"=") for one in rest)}
        try:
            weight = float(parameters.get(b"q", b"1"))
        except ValueError:
            weight = 0.0
        yield name, parameters, weight


def _prefers_openmetrics(accept: bytes) -> bool:
    """Whether OpenMetrics 1 is wanted at least as much as the text that everybody understands."""
    wanted = plain = 0.0
    for name, parameters, weight in _weights(accept):
        if name == b"application/openmetrics-text" and parameters.get(b"version", b"1.0.0") in (b"1.0.0", b"0.0.1"):
            wanted = max(wanted, weight)
        elif name == b"text/plain":
            plain = max(plain, weight)
    return wanted > 0 and wanted >= plain


def _accepts_gzip(header: bytes) -> bool:
    return any(name == b"gzip" and weight > 0 for name, _, weight in _weights(header))


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
