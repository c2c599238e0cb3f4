"""What is answered to which request."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
from collections.abc import Awaitable, Callable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import bcrypt
import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nsinspect.collect import collect
from nsinspect.fields.scrape import Part, Scrape
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build
from nsinspect.serve import app as app_module
from nsinspect.serve.app import App, Settings
from nsinspect.serve.server import Answer, Request
from nsinspect.serve.webconfig import WebConfig
from nsinspect.views.metrics import Room

T = TypeVar("T")
HOST = Path(__file__).parent / "fixtures/hosts/podman-v2"
SECURITY = (
    "Content-Security-Policy",
    "X-Content-Type-Options",
    "X-Frame-Options",
    "Referrer-Policy",
    "Cache-Control",
)
PROMETHEUS = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    b"application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    b"text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)


@lru_cache
def model() -> Model:
    return build(collect(Roots(root=str(HOST))))


class FakeScraper:
    """Gives a bundled host; remembers how long it was given, and waits while it is told to."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.begun = threading.Event()
        self.go = threading.Event()
        self.go.set()

    def scrape(self, seconds: float) -> Scrape:
        self.seconds.append(seconds)
        self.begun.set()
        assert self.go.wait(30)
        vanished = len(self.seconds)
        parts = (Part("processes", True, 0.1),)
        return Scrape(model=model(), parts=parts, vanished=vanished, truncated=0, version="1", python="3")


def app(
    scraper: FakeScraper | None = None,
    *,
    users: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    scraped: Callable[[Scrape], None] = lambda _: None,
    **settings: Any,
) -> App:
    config = WebConfig(users=users or {}, headers=headers or {})
    own = {"own_metrics": False, **settings}
    return App(scraper or FakeScraper(), Settings(**own), lambda: config, scraped)  # type: ignore[arg-type]


def run(work: Awaitable[T]) -> T:
    async def bounded() -> T:
        async with asyncio.timeout(20):
            return await work

    return asyncio.run(bounded())


def get(path: str = "/metrics", method: str = "GET", **headers: str | bytes) -> Request:
    """A request; ``accept_encoding="gzip"`` is that header."""
    named = {name.replace("_", "-").encode(): v if isinstance(v, bytes) else v.encode() for name, v in headers.items()}
    return Request(method, path, named)


def ask(request: Request, one: App | None = None) -> Answer:
    return run((one or app()).answer(request))


def text_of(answer: Answer) -> str:
    assert answer.status == 200
    body = gzip.decompress(answer.body) if answer.headers.get("Content-Encoding") == "gzip" else answer.body
    return body.decode("utf-8")


def families_of(answer: Answer) -> set[str]:
    """The names in an answer, read as what it says it is."""
    content_type = answer.headers["Content-Type"]
    if content_type.startswith("application/openmetrics-text; version=1.0.0; charset=utf-8"):
        return {family.name for family in parse_openmetrics(text_of(answer))}
    assert content_type == "text/plain; version=0.0.4; charset=utf-8" or content_type.startswith(
        "text/plain; version=1.0.0; charset=utf-8"
    )
    assert "# EOF" not in text_of(answer)
    return {family.name for family in parse_text(text_of(answer))}


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not condition():
        await asyncio.sleep(0.005)


# -- paths and methods -------------------------------------------------------------------------------------------------


def test_the_landing_page_leads_to_the_others():
    """One page of HTML, which names where metrics are."""
    answer = ask(get("/"), app(telemetry_path='/m"<x>'))

    assert (answer.status, answer.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert b'href="/m&quot;&lt;x&gt;"' in answer.body
    assert b'"<x>' not in answer.body
    assert b'href="/-/healthy"' in answer.body


@pytest.mark.parametrize("path", ["/-/healthy", "/-/ready"])
def test_it_says_that_it_is_alive_without_a_scrape(path: str):
    """A probe every second must cost nothing."""
    scraper = FakeScraper()
    answer = ask(get(path), app(scraper))

    assert (answer.status, answer.body, scraper.seconds) == (200, b"OK\n", [])


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/metrics/",
        "//metrics",
        "/./metrics",
        "/x/../metrics",
        "/../../etc/passwd",
        "/-/healthy/../../metrics",
        "/%2e%2e/etc/passwd",
        "/metrics%00",
        "/metrics;x=1",
        "/METRICS",
        "/-/",
        "/-/quit",
        "/debug/pprof",
        "/favicon.ico",
        "*",
        "/<script>alert(1)</script>",
        "/\xff\x1b[31m",
        "/" + "x" * 10000,
    ],
    ids=lambda path: ascii(path[:24]),
)
def test_every_other_path_is_not_found_and_not_repeated(path: str):
    """Nothing of the request is in the answer."""
    scraper = FakeScraper()
    answer = ask(get(path, user_agent="<echo>", host="echo"), app(scraper))

    assert (answer.status, answer.body, scraper.seconds) == (404, b"Not Found\n", [])
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    told = answer.body.decode() + "".join(f"{name}{value}" for name, value in answer.headers.items())
    assert "echo" not in told
    assert len(path) < 2 or path not in told


def test_metrics_are_where_they_were_told_to_be():
    """And nowhere else."""
    one = app(telemetry_path="/here")

    assert ask(get("/here"), one).status == 200
    assert ask(get("/metrics"), app(telemetry_path="/here")).status == 404


@pytest.mark.parametrize("path", ["/", "/metrics", "/-/healthy", "/-/ready", "/nowhere"])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE", "CONNECT", "PATCH", "get", "X<y>"])
def test_only_get_and_head_are_allowed(path: str, method: str):
    """The others are told which, and begin no scrape."""
    scraper = FakeScraper()
    answer = ask(get(path, method), app(scraper))

    assert (answer.status, answer.headers["Allow"], scraper.seconds) == (405, "GET, HEAD", [])
    assert method.encode() not in answer.body.replace(b"Method Not Allowed", b"")


def test_head_is_answered_like_get():
    """The server leaves the body out, so that the length is the same."""
    one = app()

    async def both() -> tuple[Answer, Answer]:
        return await one.answer(get("/-/ready", "HEAD")), await one.answer(get("/-/ready"))

    head, whole = run(both())
    assert head == whole


# -- headers and users -------------------------------------------------------------------------------------------------

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
REQUESTS = {
    "200": get("/-/healthy"),
    "landing": get("/"),
    "metrics": get("/metrics"),
    "404": get("/nowhere"),
    "405": get("/", "POST"),
}


def basic(credentials: bytes) -> bytes:
    return b"Basic " + base64.b64encode(credentials)


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize("who", ["nobody", "users", "busy"])
def test_every_answer_has_the_security_headers_and_the_configured_ones(request_: Request, who: str):
    """Errors too; a configured one counts more than the usual one."""
    headers = {"X-Frame-Options": "SAMEORIGIN", "Strict-Transport-Security": "max-age=1"}
    users = {"prometheus": HASH} if who == "users" else {}
    usual = ask(request_, app(users=users, max_requests=0 if who == "busy" else 40))
    configured = ask(request_, app(users=users, headers=headers))

    assert all(usual.headers[name] for name in SECURITY)
    assert usual.headers["X-Content-Type-Options"] == "nosniff"
    assert usual.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert headers.items() <= configured.headers.items()
    assert {*SECURITY, "Content-Type"} <= set(configured.headers)
    assert "Server" not in usual.headers


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        b"",
        b"Basic",
        b"Basic !!!",
        b"Bearer secret",
        basic(b"prometheus"),
        basic(b"prometheus:wrong"),
        basic(b"prometheus:"),
        basic(b"prometheus:secret2"),
        basic(b":"),
        basic(b"prometheus:sec\0ret"),
        basic(b"\xff:secret"),
        basic(b"prometheus:" + b"x" * 100),
    ],
    ids=ascii,
)
def test_with_users_nothing_is_told_to_strangers(authorization: bytes | None):
    """The same answer on every path, whatever is there."""
    scraper = FakeScraper()
    # bcrypt takes its time for one that could be right: one path is enough for those.
    cheap = authorization is None or b":" not in base64.b64decode(authorization[6:] + b"==")
    for request in REQUESTS.values() if cheap or authorization == basic(b"prometheus:wrong") else [get()]:
        headers = {} if authorization is None else {b"authorization": authorization}
        asked = Request(request.method, request.path, headers)
        answer = ask(asked, app(scraper, users={"prometheus": HASH}))
        assert (answer.status, answer.body, scraper.seconds) == (401, b"Unauthorized\n", [])
        assert answer.headers["WWW-Authenticate"].startswith("Basic realm=")


def test_a_user_with_the_password_comes_in():
    """Again and again, and a stranger does not come in between; an unknown user is as wrong as a wrong password."""
    one = app(users={"prometheus": HASH})

    async def several() -> list[int]:
        right, wrong = basic(b"prometheus:secret"), basic(b"prometheus:secretx")
        asked = [right, wrong, basic(b"nobody:secret"), right]
        return [(await one.answer(get("/-/ready", authorization=header))).status for header in asked]

    assert run(several()) == [200, 401, 401, 200]


# -- formats -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("own", [True, False], ids=["own metrics", "no own metrics"])
@pytest.mark.parametrize("accept", [b"", PROMETHEUS, b"text/plain", b"text/plain;version=1.0.0"], ids=ascii)
def test_what_this_process_uses_is_told_where_it_is_wanted(own: bool, accept: bytes):
    """In either format, in the same answer, with one end."""
    answer = ask(get(accept=accept), app(own_metrics=own))
    found = families_of(answer)

    assert any(name.startswith("process_") for name in found) is own
    assert "nsinspect_container_pids" in found
    assert len(found) == len({line for line in text_of(answer).splitlines() if line.startswith("# TYPE ")})


@pytest.mark.parametrize(
    ("accept", "openmetrics"),
    [
        (b"", False),
        (b"*/*", False),
        (b"text/plain", False),
        (b"text/html,application/xhtml+xml,*/*;q=0.8", False),
        (PROMETHEUS, True),
        (b"application/openmetrics-text", True),
        (b"application/openmetrics-text; version=1.0.0; charset=utf-8", True),
        (b"text/plain;version=0.0.4;q=0.1, application/openmetrics-text;version=1.0.0;q=0.9", True),
        (b"application/json", False),
    ],
    ids=ascii,
)
def test_openmetrics_is_for_those_who_ask_for_it(accept: bytes, openmetrics: bool):
    """All others get the text format; either is what it says it is."""
    answer = ask(get(accept=accept))

    assert answer.headers["Content-Type"].startswith("application/openmetrics-text" if openmetrics else "text/plain")
    assert "nsinspect_container_pids" in families_of(answer)
    assert "Accept" in answer.headers["Vary"]


@pytest.mark.parametrize(
    "accept",
    [
        b"application/openmetrics-text;version=1.0.0;q=0, text/plain",
        b"application/openmetrics-text;version=1.0.0;q=0.1, text/plain;version=0.0.4;q=0.9",
    ],
    ids=ascii,
)
def test_who_prefers_text_gets_text(accept: bytes):
    """q says what is liked more, and q=0 what is not taken at all."""
    assert ask(get(accept=accept)).headers["Content-Type"].startswith("text/plain")


@pytest.mark.parametrize(
    "accept",
    [
        b"application/openmetrics-text;version=x",
        b"application/openmetrics-text;version=1.x",
        b"text/plain;version=abc",
        b"application/openmetrics-text;version=99",
        b"application/openmetrics-text;version=2.0.0",
        b"application/openmetrics-text;version=1.0.0 <script>",
        b"application/openmetrics-text;version=9.\xe9",
        b"application/openmetrics-text;version=1.0.0;escaping=<x>",
        b"application/openmetrics-text;version=",
        b"application/openmetrics-text;;;=;,,,",
        b";q=",
        b"\xff\xfe",
        b"," * 10000,
        b"text/plain;q=nan",
    ],
    ids=lambda accept: ascii(accept[:50]),
)
def test_no_accept_header_is_reason_to_fail_or_to_lie(accept: bytes):
    """Garbage gets one of the formats there are, called by its own version and not by the one somebody made up."""
    answer = ask(get(accept=accept))

    assert "nsinspect_container_pids" in families_of(answer)
    assert answer.headers["Content-Type"].isascii()


@pytest.mark.parametrize(
    ("encoding", "zipped"),
    [
        (b"gzip", True),
        (b"GZIP", True),
        (b"deflate, gzip;q=1.0, *;q=0.5", True),
        (b"gzip; q=0.1", True),
        (b"br,gzip", True),
        (b"", False),
        (b"identity", False),
        (b"gzip;q=0", False),
        (b"gzip; q=0", False),
        (b"gzip;q=0.000", False),
        (b"GZIP;Q=0", False),
        (b"x-gzipped", False),
        (b"br, deflate", False),
        (b"\xff;;;q=,", False),
    ],
    ids=ascii,
)
@pytest.mark.parametrize("accept", [b"", PROMETHEUS], ids=["text", "openmetrics"])
def test_it_is_compressed_for_those_who_say_they_can(encoding: bytes, zipped: bool, accept: bytes):
    """And what is unpacked is the whole text."""
    answer = ask(get(accept=accept, accept_encoding=encoding))

    assert answer.headers.get("Content-Encoding") == ("gzip" if zipped else None)
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert (answer.body[:2] == b"\x1f\x8b") is zipped
    assert families_of(answer) == families_of(ask(get(accept=accept)))


def test_what_does_not_fit_is_left_out_as_the_settings_say():
    """The limits of an answer reach it."""
    assert b"nsinspect_containers_truncated 2\n" in ask(get(), app(room=Room(containers=1))).body


# -- scrapes -----------------------------------------------------------------------------------------------------------


async def asked(one: App, *requests: Request) -> list[asyncio.Task[Answer]]:
    """Askers, each of whom waits for an answer by now."""
    tasks = [asyncio.create_task(one.answer(request)) for request in requests]
    while any(task.get_coro().cr_await is None for task in tasks if not task.done()):  # type: ignore[union-attr]
        await asyncio.sleep(0)
    return tasks


def test_all_who_ask_at_once_share_one_scrape():
    """One collection, whatever format each wants; who asks after it gets a new one."""
    scraper = FakeScraper()
    told: list[Scrape] = []
    one = app(scraper, scraped=told.append)
    formats = [get(), get(accept=PROMETHEUS), get(accept_encoding=b"gzip"), get(method="HEAD"), get()]

    async def together() -> tuple[list[Answer], Answer]:
        scraper.go.clear()
        tasks = await asked(one, *formats)
        await until(scraper.begun.is_set)
        tasks += await asked(one, get())
        scraper.go.set()
        return await asyncio.gather(*tasks), await one.answer(get())

    shared, later = run(together())

    assert len(scraper.seconds) == len(told) == 2
    assert all("nsinspect_vanished_total 1\n" in text_of(answer) for answer in shared)
    assert "nsinspect_vanished_total 2\n" in text_of(later)
    assert families_of(shared[1]) == {name for name in families_of(shared[1]) if name}


def test_the_text_is_made_once_for_all_who_want_it(monkeypatch: pytest.MonkeyPatch):
    """Ten thousand series take longer to write than to collect, and Prometheus' replicas ask at the same time."""
    scraper = FakeScraper()
    made: list[bool] = []
    real = app_module.exposition

    def counting(scrape: Scrape, *, openmetrics: bool, room: Room) -> str:
        made.append(openmetrics)
        return real(scrape, openmetrics=openmetrics, room=room)

    monkeypatch.setattr(app_module, "exposition", counting)
    one = app(scraper)

    async def together() -> list[Answer]:
        scraper.go.clear()
        tasks = await asked(one, *[get()] * 8)
        scraper.go.set()
        return await asyncio.gather(*tasks)

    assert len({answer.body for answer in run(together())}) == 1
    assert len(made) == 1


def test_who_goes_away_does_not_take_the_scrape_along():
    """The first who asked is cancelled; the others get the answer of that same scrape."""
    scraper = FakeScraper()
    one = app(scraper)

    async def one_leaves() -> Answer:
        scraper.go.clear()
        leaving, staying = await asked(one, get(), get())
        await until(scraper.begun.is_set)
        leaving.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaving
        scraper.go.set()
        return await staying

    assert run(one_leaves()).status == 200
    assert len(scraper.seconds) == 1


def test_when_all_have_gone_the_next_is_answered():
    """Nothing is left of those who were cancelled, in the count of requests neither."""
    scraper = FakeScraper()
    one = app(scraper, max_requests=2)

    async def all_leave() -> Answer:
        scraper.go.clear()
        leaving = await asked(one, get(), get())
        for task in leaving:
            task.cancel()
        await asyncio.wait(leaving)
        scraper.go.set()
        return await one.answer(get())

    assert run(all_leave()).status == 200


def test_a_scrape_that_raised_is_not_the_answer_to_the_next(monkeypatch: pytest.MonkeyPatch):
    """Whatever went wrong once."""
    scraper = FakeScraper()
    one = app(scraper)

    def raising(_: float) -> Scrape:
        raise RuntimeError("a bug")

    async def twice() -> Answer:
        with monkeypatch.context() as broken:
            broken.setattr(scraper, "scrape", raising)
            with pytest.raises(RuntimeError):
                await one.answer(get())
        return await one.answer(get())

    assert run(twice()).status == 200


def test_too_many_requests_at_once_are_turned_away():
    """With 503 and when to come again, until the others have been answered."""
    scraper = FakeScraper()
    one = app(scraper, max_requests=2)

    async def three() -> tuple[Answer, list[Answer], Answer]:
        scraper.go.clear()
        waiting = await asked(one, get(), get())
        turned_away = await one.answer(get("/-/healthy"))
        scraper.go.set()
        return turned_away, await asyncio.gather(*waiting), await one.answer(get("/-/healthy"))

    turned_away, answered, later = run(three())

    assert (turned_away.status, turned_away.headers["Retry-After"]) == (503, "1")
    assert [answer.status for answer in answered] == [200, 200]
    assert later.status == 200


def test_it_is_alive_while_a_scrape_takes_long():
    """Health does not wait for a disk."""
    scraper = FakeScraper()
    one = app(scraper)

    async def meanwhile() -> Answer:
        scraper.go.clear()
        tasks = await asked(one, get())
        try:
            return await one.answer(get("/-/healthy"))
        finally:
            scraper.go.set()
            await asyncio.gather(*tasks)

    assert run(meanwhile()).status == 200


@pytest.mark.parametrize(
    ("header", "low", "high"),
    [
        (b"5", 4, 5),
        (b"2.5", 1.5, 2.5),
        (b"1e0", 0.4, 1),
        (b"0.1", 0, 0.5),
        (b"1000", 8, 8),
        (b"inf", 8, 8),
        (b"", 8, 8),
        (b"0", 8, 8),
        (b"-3", 8, 8),
        (b"nan", 8, 8),
        (b"ten", 8, 8),
        (b"\xff", 8, 8),
        (b"9" * 500, 8, 8),
    ],
    ids=lambda value: ascii(value)[:12],
)
def test_a_scrape_takes_no_longer_than_prometheus_waits(header: bytes, low: float, high: float):
    """Its header shortens the deadline, with time left for the answer, and never makes it longer."""
    scraper = FakeScraper()
    answer = ask(get(x_prometheus_scrape_timeout_seconds=header), app(scraper, deadline=8.0))
    (seconds,) = scraper.seconds

    assert answer.status == 200
    assert low <= seconds <= high
    assert (seconds < high) or high in (8, 0.5)
