"""Clients of every kind on real sockets: each is answered or got rid of, and nothing of any stays."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import errno
import gc
import logging
import os
import resource
import shutil
import socket
import ssl
import subprocess
import threading
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import pytest

from nsinspect.serve import server as server_module
from nsinspect.serve.server import Answer, Patience, Request, Server, listen, within_limits
from nsinspect.serve.webconfig import Rotating

T = TypeVar("T")
# For what must end by itself, and for what must not.
SHORT = Patience(handshake=0.15, head=0.15, write=0.15, keep_alive=0.15, stop=0.15, connections=16)
LONG = Patience(handshake=10, head=10, write=10, keep_alive=10, stop=10, connections=16)
BIG = b"x" * (4 << 20)
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"


async def plain(request: Request) -> Answer:
    """An answer that says what was understood."""
    if request.method not in ("GET", "HEAD"):
        return Answer(405, {"Content-Type": "text/plain"}, b"no\n")
    if request.path == "/big":
        return Answer(200, {}, BIG)
    status = 404 if request.path.startswith("/missing") else 200
    return Answer(status, {"Content-Type": "text/plain"}, f"{request.path}\n".encode())


@pytest.fixture(autouse=True)
def _nothing_is_left(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No descriptor and no thread more than before, and nothing in the log that needs somebody's eye."""
    gc.collect()
    descriptors, threads = set(os.listdir("/proc/self/fd")), set(threading.enumerate())
    with caplog.at_level(logging.WARNING):
        yield
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == len(descriptors)
    assert set(threading.enumerate()) <= threads
    assert [record.getMessage() for record in caplog.records] == []


def run(work: Awaitable[T], *, writers: bool = False) -> T:
    """In a loop of its own; bounded; no socket may be dropped without being closed (with ``writers`` no stream)."""

    async def bounded() -> T:
        async with asyncio.timeout(20):
            return await work

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        result = asyncio.run(bounded())
        gc.collect()
    messages = [str(one.message) for one in caught]
    assert [one for one in messages if writers or not one.startswith("unclosed <StreamWriter")] == []
    return result


def refusal(status: int) -> Answer:
    """The answer to what is no request."""
    return Answer(status, {"Content-Type": "text/plain", "X-Refused": "yes"}, b"no\n")


class Served:
    """A server that runs, and where."""

    def __init__(self, server: Server, sockets: list[socket.socket], stop: asyncio.Event) -> None:
        self.server = server
        self.stop = stop
        self.sockets = sockets
        self.address: Any = sockets[0].getsockname()

    @property
    def clients(self) -> int:
        return len(self.server._connections)


@contextlib.asynccontextmanager
async def serving(
    answer: Callable[[Request], Awaitable[Answer]] = plain,
    patience: Patience = LONG,
    *,
    context: Callable[[], ssl.SSLContext | None] = lambda: None,
    allowed: Callable[[Mapping[str, Any]], bool] = lambda _: True,
    sockets: list[socket.socket] | None = None,
) -> AsyncIterator[Served]:
    """A server for the time of a test, which is gone without a trace at its end."""
    tasks = asyncio.all_tasks()
    served = Served(
        Server(answer, refusal, context, allowed, patience), sockets or listen("127.0.0.1:0"), asyncio.Event()
    )
    serving = asyncio.create_task(served.server.serve(served.sockets, served.stop))
    try:
        yield served
    finally:
        served.stop.set()
        await serving
        # What was cancelled or aborted has its last word in the next round of the loop.
        for _ in range(3):
            await asyncio.sleep(0)
        left = {task for task in asyncio.all_tasks() - tasks if "serv" in repr(task.get_coro()).lower()}
        for one in served.sockets:
            one.close()
    assert (served.clients, left) == (0, set())


class Client:
    """A raw one, which sees every byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, data: bytes) -> None:
        with contextlib.suppress(OSError):
            self.writer.write(data)
            await self.writer.drain()

    async def rest(self) -> bytes:
        """Everything until the server closes; what comes by a reset is lost."""
        found = b""
        with contextlib.suppress(OSError):
            while data := await self.reader.read(1 << 16):
                found += data
        return found

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """One answer with a length."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode("ascii").split("\r\n")
        headers = dict(line.split(": ", 1) for line in head[1:-2])
        lower = {name.lower(): value for name, value in headers.items()}
        return int(head[0].split(" ")[1]), lower, await self.reader.readexactly(int(lower["content-length"]))


@contextlib.asynccontextmanager
async def client(served: Served, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    if isinstance(served.address, str):
        reader, writer = await asyncio.open_unix_connection(served.address)
    else:
        name = "localhost" if tls else None
        reader, writer = await asyncio.open_connection(*served.address[:2], ssl=tls, server_hostname=name)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def talk(served: Served, *pieces: bytes, tls: ssl.SSLContext | None = None) -> bytes:
    """Everything that comes back until the server closes; refused is nothing."""
    try:
        async with client(served, tls) as one:
            for piece in pieces:
                await one.say(piece)
            return await one.rest()
    except OSError:
        return b""


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what has no event of its own."""
    while not condition():
        await asyncio.sleep(0.005)


async def is_well(served: Served) -> None:
    """Somebody else is answered."""
    assert (await talk(served, b"GET /well HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")).endswith(b"\r\n/well\n")


# -- what is said ------------------------------------------------------------------------------------------------------


def test_an_answer_has_a_length_a_date_and_no_name_of_a_server():
    """What RFC 9110 wants, and nothing about what runs here."""

    async def work() -> None:
        async with serving() as served, client(served) as one:
            await one.say(b"GET /path?query=1 HTTP/1.1\r\nHost: h\r\n\r\n")
            status, headers, body = await one.answer()
            assert (status, body) == (200, b"/path\n")
            assert headers["content-length"] == "6"
            assert headers["date"].endswith(" GMT")
            assert headers["content-type"] == "text/plain"
            assert not {"server", "x-powered-by", "connection"} & headers.keys()

    run(work())


def test_a_connection_stays_after_200_and_after_nothing_else():
    """Prometheus uses one again; who asks for what is not there has no reason to stay."""

    async def work() -> None:
        async with serving() as served, client(served) as one:
            for _ in range(3):
                await one.say(GET)
                assert (await one.answer())[0] == 200
            await one.say(b"GET /missing HTTP/1.1\r\nHost: h\r\n\r\n")
            status, headers, _ = await one.answer()
            assert (status, headers["connection"]) == (404, "close")
            assert await one.rest() == b""

    run(work())


@pytest.mark.parametrize(
    "head", [b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n"], ids=ascii
)
def test_who_wants_to_be_closed_is(head: bytes):
    """By a header or by an old version."""

    async def work() -> None:
        async with serving() as served:
            found = await talk(served, head)
            assert found.startswith(b"HTTP/1.1 200 OK\r\n")
            assert b"\r\nConnection: close\r\n" in found
            assert found.endswith(b"\r\n\r\n/\n")

    run(work())


def test_pipelined_requests_are_answered_in_their_order():
    """All came in one packet, and the last is not 200."""

    async def work() -> None:
        asked = b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % number for number in range(5))
        async with serving() as served:
            found = await talk(served, asked + b"GET /missing HTTP/1.1\r\nHost: h\r\n\r\n" + GET)
            assert [part.split(b"\n")[0] for part in found.split(b"\r\n\r\n")[1:]] == [
                *(b"/%d" % number for number in range(5)),
                b"/missing",
            ]

    run(work())


def test_head_has_the_length_and_no_body():
    """And the next answer on the same connection is whole."""

    async def work() -> None:
        async with serving() as served, client(served) as one:
            await one.say(b"HEAD /big HTTP/1.1\r\nHost: h\r\n\r\n")
            head = await one.reader.readuntil(b"\r\n\r\n")
            assert b"\r\nContent-Length: %d\r\n" % len(BIG) in head
            await one.say(GET)
            assert (await one.answer())[2] == b"/\n"

    run(work())


def test_a_big_answer_arrives_whole():
    """In pieces, but every one."""

    async def work() -> None:
        async with serving() as served, client(served) as one:
            await one.say(b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
            assert (await one.answer())[2] == BIG

    run(work())


@pytest.mark.parametrize(
    ("said", "status"),
    [
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", 400, id="no host"),
        pytest.param(b"GET /\r\n\r\n", 400, id="http/0.9"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"x" * (64 << 10) + b"\r\n\r\n", 431, id="64 KiB header"),
        pytest.param(b"GET /" + b"x" * (64 << 10) + b" HTTP/1.1\r\nHost: h\r\n\r\n", 431, id="64 KiB path"),
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\r\n\r\n", 400, id="a TLS hello"),
        pytest.param(bytes(range(256)) * 4 + b"\r\n\r\n", 400, id="binary"),
        pytest.param(b"hello\r\n\r\n", 400, id="garbage"),
        pytest.param(b"\0" * 65536, 400, id="zeros"),
        pytest.param(b"G\xcbT / HTTP/1.1\r\nHost: h\r\n\r\n", 400, id="a method that is none"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n X: folded\x00\r\n\r\n", 400, id="a NUL"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: -1\r\n\r\n", 400, id="length below zero"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400, id="lengths"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip\r\n\r\n", 501, id="encoding"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, id="two hosts"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", 405, id="post"),
        pytest.param(b"BREW / HTTP/1.1\r\nHost: h\r\n\r\n", 405, id="brew"),
        pytest.param(b"CONNECT h:1 HTTP/1.1\r\nHost: h\r\n\r\n", 405, id="connect"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", 405, id="options"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", None, id="HTTP/2"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: y\r\n" * 101 + b"\r\n", None, id="101 headers"),
        pytest.param(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n", 200, id="upgrade is no"
        ),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 1000000\r\n\r\n" + b"x" * 1000, 200, id="a body"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", None, id="bad chunk"),
        pytest.param(b"GET / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n", 200, id="100"),
    ],
)
def test_odd_requests_get_one_answer_and_are_closed(said: bytes, status: int | None):
    """Whatever it is, the connection ends by itself and the next client is served."""

    async def work() -> None:
        async with serving(patience=SHORT) as served:
            # The end of what is said, so that nobody waits for more.
            async with client(served) as one:
                await one.say(said)
                with contextlib.suppress(OSError):
                    one.writer.write_eof()
                found = await one.rest()
            if status is not None:
                assert found.startswith(b"HTTP/1.1 %d " % status)
            assert found.startswith(b"HTTP/1.1 ")
            assert found.count(b"HTTP/1.1 ") == 1
            assert b"server:" not in found.lower()
            assert status == 200 or (b"<" not in found and b"xxx" not in found)
            await is_well(served)

    run(work())


def test_an_answer_that_fails_costs_its_client_only(caplog: pytest.LogCaptureFixture):
    """A bug is logged, and the next is served."""

    async def failing(request: Request) -> Answer:
        if request.path == "/fail":
            raise RuntimeError("a bug")
        return await plain(request)

    async def work() -> None:
        async with serving(failing) as served:
            assert b"200 OK" not in await talk(served, b"GET /fail HTTP/1.1\r\nHost: h\r\n\r\n")
            await is_well(served)

    run(work())
    assert "a bug" in caplog.text
    caplog.clear()


# -- who takes too long ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces", [(), (b"GET / HT",), (GET[:-2],), (b"\r\n",)], ids=["silence", "half a line", "no end", "an empty line"]
)
def test_who_does_not_say_what_it_wants_is_closed(pieces: tuple[bytes, ...]):
    """After a while, without an answer or with an error.  Fails without a deadline for a head."""

    async def work() -> None:
        async with serving(patience=SHORT) as served:
            assert b"200 OK" not in await talk(served, *pieces)
            await until(lambda: served.clients == 0)
            await is_well(served)

    run(work())


def test_a_byte_at_a_time_is_not_time_for_ever():
    """The deadline is for the whole head, not for each byte.  Fails where each byte has a deadline of its own."""

    async def work() -> None:
        async with serving(patience=SHORT) as served, client(served) as one:
            await one.say(b"GET / HTTP/1.1\r\nX: ")
            closed = asyncio.create_task(one.rest())
            for _ in range(500):
                await one.say(b"x")
                done, _ = await asyncio.wait([closed], timeout=0.02)
                if done:
                    break
            assert closed.done()
            assert b"200 OK" not in await closed
            await until(lambda: served.clients == 0)

    run(work())


def test_a_connection_that_rests_is_closed_at_last():
    """Longer than for a first request, but not for ever."""

    async def work() -> None:
        async with serving(patience=SHORT) as served, client(served) as one:
            await one.say(GET)
            assert (await one.answer())[0] == 200
            assert await one.rest() == b""
            await until(lambda: served.clients == 0)

    run(work())


def test_who_never_reads_its_answer_is_closed():
    """4 MB do not fit on the way; what was sent is thrown away with the connection.  Fails without a deadline for
    writing."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with serving(patience=SHORT) as served:
            with socket.socket() as one:
                one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                one.setblocking(False)
                await loop.sock_connect(one, served.address)
                await loop.sock_sendall(one, b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n")
                await until(lambda: served.clients == 1)
                await until(lambda: served.clients == 0)
                received = 0
                with contextlib.suppress(OSError):
                    while data := await loop.sock_recv(one, 1 << 16):
                        received += len(data)
                assert received < len(BIG)
            await is_well(served)

    run(work())


@pytest.mark.parametrize("said", [b"", b"GET / HT", GET, b"GET /big HTTP/1.1\r\nHost: h\r\n\r\n"], ids=ascii)
@pytest.mark.parametrize("reset", [True, False], ids=["reset", "closed"])
def test_a_client_may_go_at_any_moment(said: bytes, reset: bool):
    """Nothing of it stays, and the next is served."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as served:
            with socket.socket() as one:
                one.setblocking(False)
                await loop.sock_connect(one, served.address)
                await loop.sock_sendall(one, said)
                await until(lambda: served.clients == 1)
                if reset:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, server_module._RESET)
            await until(lambda: served.clients == 0)
            await is_well(served)

    run(work())


def test_a_client_that_was_sent_all_while_it_was_being_closed_is_forgotten_quietly():
    """Of such a one asyncio's transport cannot be aborted any more: it was a traceback in the log."""

    async def work() -> None:
        server = Server(plain, refusal, lambda: None, lambda _: True, LONG)
        mine, theirs = socket.socketpair()
        theirs.setblocking(False)
        _, writer = await asyncio.open_connection(sock=mine)
        writer.write(BIG)
        writer.close()
        with theirs:
            while await asyncio.get_running_loop().sock_recv(theirs, 1 << 20):
                pass
        await writer.wait_closed()
        done = asyncio.create_task(asyncio.sleep(0))
        await done
        server._gone(server_module._Connection(mine, writer=writer), done)

    run(work())


def test_the_stream_of_a_client_that_went_is_closed_before_it_is_forgotten():
    """Python warns of each one that is not (python -X dev, -W error)."""

    async def work() -> None:
        async with serving() as served:
            async with client(served) as one:
                await one.say(GET)
                await one.answer()
            await until(lambda: served.clients == 0)

    run(work(), writers=True)


def test_who_is_told_to_close_under_tls_sees_the_end_at_once(
    certificates: dict[str, tuple[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """A client that reads to the end, as one of HTTP/1.0 does, must not wait for the server to lose patience."""
    config = configured(certificates, tmp_path)
    real = asyncio.timeout
    # The server's patience of a second is made one that no slow machine can be mistaken for.
    monkeypatch.setattr(asyncio, "timeout", lambda seconds: real(15 if seconds == 1.0 else seconds))

    async def work() -> None:
        async with serving(context=config.context) as served:
            async with asyncio.timeout(2):
                found = await talk(served, b"GET / HTTP/1.0\r\n\r\n", tls=trusting(certificates))
            assert found.endswith(b"\r\n/\n")

    run(work())


# -- how many ----------------------------------------------------------------------------------------------------------


def test_above_the_cap_the_oldest_that_says_nothing_goes():
    """Not who is being answered, not the younger ones, and never the newcomer.  Fails without a cap."""

    async def work() -> None:
        go = asyncio.Event()
        begun = asyncio.Event()

        async def slow(request: Request) -> Answer:
            if request.path == "/slow":
                begun.set()
                await go.wait()
            return await plain(request)

        few = Patience(handshake=10, head=10, write=10, keep_alive=10, stop=10, connections=3)
        async with contextlib.AsyncExitStack() as stack:
            served = await stack.enter_async_context(serving(slow, few))
            answered = await stack.enter_async_context(client(served))
            await answered.say(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await begun.wait()
            oldest = await stack.enter_async_context(client(served))
            await until(lambda: served.clients == 2)
            younger = await stack.enter_async_context(client(served))
            await until(lambda: served.clients == 3)
            newcomer = await stack.enter_async_context(client(served))
            await newcomer.say(GET)
            assert (await newcomer.answer())[0] == 200
            assert await oldest.rest() == b""
            assert served.clients == 3
            await younger.say(GET)
            assert (await younger.answer())[0] == 200
            go.set()
            assert (await answered.answer())[2] == b"/slow\n"

    run(work())


def test_when_all_are_being_answered_the_oldest_goes():
    """Whoever comes is heard."""

    async def work() -> None:
        go = asyncio.Event()

        async def slow(request: Request) -> Answer:
            if request.path == "/slow":
                await go.wait()
            return await plain(request)

        two = Patience(handshake=10, head=10, write=10, keep_alive=10, stop=10, connections=2)
        async with contextlib.AsyncExitStack() as stack:
            served = await stack.enter_async_context(serving(slow, two))
            waiting = []
            for number in range(1, 3):
                waiting.append(await stack.enter_async_context(client(served)))
                await waiting[-1].say(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
                await until(lambda number=number: sum(not c.waiting for c in served.server._connections) == number)
            await is_well(served)
            assert await waiting[0].rest() == b""
            go.set()
            assert (await waiting[1].answer())[0] == 200

    run(work())


def test_a_burst_of_connections_is_closed_but_for_the_last():
    """Many are accepted in one round of the loop: those that must go at once are closed, not just forgotten."""

    async def work() -> None:
        few = Patience(handshake=10, head=10, write=10, keep_alive=10, stop=10, connections=4)
        listening = listen("127.0.0.1:0")
        crowd = [socket.create_connection(listening[0].getsockname()) for _ in range(40)]
        for one in crowd:
            one.setblocking(False)
        try:
            async with serving(patience=few, sockets=listening) as served:
                await until(lambda: served.clients == 4)
                loop = asyncio.get_running_loop()
                for one in crowd[:-4]:
                    with contextlib.suppress(OSError):
                        assert await loop.sock_recv(one, 1) == b""
                for one in crowd[-4:]:
                    await loop.sock_sendall(one, GET)
                    assert (await loop.sock_recv(one, 8)).startswith(b"HTTP/1.1")
        finally:
            for one in crowd:
                one.close()

    run(work())


# -- the end -----------------------------------------------------------------------------------------------------------


def test_at_the_end_every_connection_is_closed():
    """Silent, half said, resting and over the head: all see the end at once, and not after their time."""

    async def work() -> None:
        async with contextlib.AsyncExitStack() as stack:
            served = await stack.enter_async_context(serving())
            silent, half, resting = [await stack.enter_async_context(client(served)) for _ in range(3)]
            await half.say(b"GET / HT")
            await resting.say(GET)
            await resting.answer()
            await until(lambda: served.clients == 3)
            served.stop.set()
            assert [await one.rest() for one in (silent, half, resting)] == [b"", b"", b""]

    run(work())


def test_stopped_before_a_connection_was_looked_at_closes_it():
    """Accepted and at once the end."""

    async def work() -> None:
        listening = listen("127.0.0.1:0")
        with socket.create_connection(listening[0].getsockname()) as one:
            one.setblocking(False)
            async with serving(sockets=listening) as served:
                real = asyncio.get_running_loop().create_task

                def and_stop(*arguments: Any, **options: Any) -> Any:
                    if arguments[0].__qualname__ == "Server._connection":
                        served.stop.set()
                    return real(*arguments, **options)

                asyncio.get_running_loop().create_task = and_stop  # type: ignore[method-assign]
                with contextlib.suppress(ConnectionResetError):
                    async with asyncio.timeout(1):
                        assert await asyncio.get_running_loop().sock_recv(one, 1) == b""

    run(work())


def test_an_answer_under_way_is_finished():
    """Stopping waits for it, and then closes."""

    async def work() -> None:
        go, begun = asyncio.Event(), asyncio.Event()

        async def slow(request: Request) -> Answer:
            begun.set()
            await go.wait()
            return await plain(request)

        async with serving(slow) as served, client(served) as one:
            await one.say(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
            await begun.wait()
            served.stop.set()
            await asyncio.sleep(0)
            go.set()
            assert (await one.answer())[2] == b"/slow\n"
            assert await one.rest() == b""

    run(work())


def test_an_answer_that_does_not_come_is_not_waited_for_too_long():
    """The end comes nevertheless."""

    async def work() -> None:
        begun = asyncio.Event()

        async def never(_: Request) -> Answer:
            begun.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with serving(never, SHORT) as served, client(served) as one:
            await one.say(GET)
            await begun.wait()
            served.stop.set()
            assert await one.rest() == b""

    run(work())


# -- listening ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ECONNABORTED, errno.ENOBUFS])
def test_an_accept_that_fails_is_not_the_end(
    number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    """Descriptors come back; that there were none is said once."""

    async def work() -> None:
        loop = asyncio.get_running_loop()
        real = loop.sock_accept
        failures = [OSError(number, os.strerror(number))] * 2

        async def accept(listening: socket.socket) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return await real(listening)

        monkeypatch.setattr(loop, "sock_accept", accept)
        async with serving() as served:
            await is_well(served)
            assert not failures

    run(work())
    said = [record.getMessage() for record in caplog.records]
    words = f"no client can be let in: {os.strerror(number)}; 0 are connected"
    assert said == ([] if number == errno.ECONNABORTED else [words])
    caplog.clear()


@contextlib.contextmanager
def descriptors_up_to(most: int) -> Iterator[None]:
    """This process may have no descriptor of that number."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_where_no_descriptor_is_left_the_oldest_that_says_nothing_makes_room(caplog: pytest.LogCaptureFixture):
    async def work() -> None:
        async with serving() as served, client(served) as idle:
            await until(lambda: served.clients == 1)
            next_one = os.dup(0)
            os.close(next_one)
            # One more for a client, and none for the server's end of it.
            with descriptors_up_to(next_one + 1):
                async with client(served) as newcomer:
                    await newcomer.say(GET)
                    assert (await newcomer.answer())[0] == 200
            assert await idle.rest() == b""

    run(work())
    assert [record.getMessage() for record in caplog.records] == [
        "no client can be let in: Too many open files; 1 are connected"
    ]
    caplog.clear()


def test_connections_leave_descriptors_for_scrapes(caplog: pytest.LogCaptureFixture):
    with descriptors_up_to(40):
        few = within_limits(Patience(connections=64))
    with descriptors_up_to(1024):
        all_of_them = within_limits(Patience(connections=64))

    assert (few, all_of_them) == (Patience(connections=16), Patience(connections=64))
    assert [record.getMessage() for record in caplog.records] == [
        "no more than 16 connections at once: RLIMIT_NOFILE is 40"
    ]
    caplog.clear()


def test_ipv6_is_served():
    """In brackets, as everywhere."""

    async def work() -> None:
        async with serving(sockets=listen("[::1]:0")) as served:
            assert served.sockets[0].family == socket.AF_INET6
            await is_well(served)

    run(work())


def test_a_unix_socket_is_served(tmp_path: Path):
    """As systemd may pass one."""

    async def work() -> None:
        listening = socket.socket(socket.AF_UNIX)
        path = os.path.relpath(tmp_path / "s")
        listening.bind(path)
        listening.listen()
        async with serving(patience=SHORT, sockets=[listening]) as served:
            await is_well(served)
            assert b"200 OK" not in await talk(served, b"GET")
            await until(lambda: served.clients == 0)

    run(work())


def test_several_listeners_are_served_at_once():
    """Each of them."""

    async def work() -> None:
        async with serving(sockets=[*listen("127.0.0.1:0"), *listen("127.0.0.1:0")]) as served:
            for one in served.sockets:
                served.address = one.getsockname()
                await is_well(served)

    run(work())


@pytest.mark.parametrize(
    "address",
    ["", "localhost", ":", "127.0.0.1:", "127.0.0.1:-1", "127.0.0.1:65536", "127.0.0.1:http", "127.0.0.1:1.5", "[::1]"],
)
def test_what_is_no_address_is_refused(address: str):
    """With the address in the message."""
    with pytest.raises(ValueError, match="expected HOST:PORT") as caught:
        listen(address)

    assert str(caught.value).startswith(address)


@pytest.mark.parametrize("address", ["192.0.2.1:0", "no.such.host.invalid:0"])
def test_an_address_that_is_not_ours_is_an_error(address: str):
    """And no socket is left open."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(OSError, match=r".") as raised:
            listen(address)
        del raised
        gc.collect()

    assert [str(one.message) for one in caught] == []


def test_a_port_that_is_taken_is_an_error():
    """Also where it is only one of several addresses; the sockets that were had are closed."""
    (taken,) = listen("127.0.0.1:0")
    port = taken.getsockname()[1]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(OSError, match="in use") as raised:
            listen(f"127.0.0.1:{port}")
        del raised
        gc.collect()
    taken.close()

    assert [str(one.message) for one in caught] == []


def test_no_host_is_every_address():
    """IPv4 and IPv6, each in a socket of its own."""
    found = listen(":0")
    names = {one.family: one.getsockname()[0] for one in found}
    for one in found:
        one.close()

    assert names == {socket.AF_INET: "0.0.0.0", socket.AF_INET6: "::"}


def test_every_address_of_a_machine_without_ipv6_is_its_ipv4_ones(monkeypatch: pytest.MonkeyPatch):
    """A kernel started with ipv6.disable=1 has no such sockets, and names still have such addresses."""
    real = socket.socket

    def without(family: int = -1, *arguments: Any, **options: Any) -> socket.socket:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        return real(family, *arguments, **options)

    families = []
    with monkeypatch.context() as patched, warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # of another test
        patched.setattr(server_module.socket, "socket", without)
        with contextlib.suppress(OSError):
            for one in listen(":0"):
                families.append(one.family)
                one.close()
        gc.collect()

    assert families == [socket.AF_INET]


# -- TLS ---------------------------------------------------------------------------------------------------------------


def openssl(*arguments: str | Path) -> None:
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, timeout=30)


class Authority:
    """Makes certificates in a folder."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self.certificate, self.key = folder / f"{name}.pem", folder / f"{name}.key"
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", self.key)
        openssl("req", "-x509", *key, "-subj", f"/CN={name}", "-days", "2", "-out", self.certificate)

    def issue(self, name: str, san: str, days: int = 2) -> tuple[str, str]:
        certificate, key = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        request, extensions = self.folder / f"{name}.csr", self.folder / f"{name}.ext"
        extensions.write_text(f"subjectAltName={san}\n")
        curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", key)
        openssl("req", "-new", *curve, "-subj", f"/CN={name}", "-out", request)
        by = ("-CA", self.certificate, "-CAkey", self.key, "-set_serial", str(abs(hash(name)) + 1))
        openssl("x509", "-req", "-in", request, *by, "-days", str(days), "-extfile", extensions, "-out", certificate)
        return str(certificate), str(key)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[str, str]]:
    """A server's, those of clients, and the authorities."""
    assert shutil.which("openssl"), "the tests of TLS need openssl"
    folder = tmp_path_factory.mktemp("tls")
    ours, theirs = Authority(folder, "ours"), Authority(folder, "theirs")
    return {
        "ca": (str(ours.certificate), ""),
        "server": ours.issue("server", "DNS:localhost"),
        "allowed": ours.issue("allowed", "DNS:prometheus.example"),
        "other": ours.issue("other", "DNS:grafana.example"),
        "expired": ours.issue("expired", "DNS:prometheus.example", days=-1),
        "unknown": theirs.issue("unknown", "DNS:prometheus.example"),
    }


def configured(certificates: dict[str, tuple[str, str]], folder: Path, more: str = "") -> Rotating:
    """The server's configuration, as a file says it."""
    certificate, key = certificates["server"]
    path = folder / "web.yml"
    path.write_text(f"tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n{more}")
    return Rotating(str(path))


def trusting(certificates: dict[str, tuple[str, str]], mine: str | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=certificates["ca"][0])
    if mine is not None:
        context.load_cert_chain(*certificates[mine])
    return context


def test_tls_is_served(certificates: dict[str, tuple[str, str]], tmp_path: Path):
    """Twice on one connection, a big answer too; a modern version, and HTTP/1.1 is what was agreed on."""
    config = configured(certificates, tmp_path)

    async def work() -> None:
        tls = trusting(certificates)
        tls.set_alpn_protocols(["h2", "http/1.1"])
        async with serving(context=config.context, allowed=config.allowed) as served, client(served, tls) as one:
            for path, body in ((b"/a", b"/a\n"), (b"/big", BIG)):
                await one.say(b"GET %b HTTP/1.1\r\nHost: h\r\n\r\n" % path)
                assert (await one.answer())[2] == body
            found = one.writer.get_extra_info("ssl_object")
            assert found.version() in ("TLSv1.2", "TLSv1.3")
            assert found.selected_alpn_protocol() == "http/1.1"

    run(work())


@pytest.mark.parametrize(
    "said", [b"", b"\x16\x03\x01\x02\x00\x01", GET, b"\0" * 5000], ids=["silence", "half a hello", "HTTP", "zeros"]
)
def test_who_does_not_finish_the_handshake_is_closed(
    said: bytes, certificates: dict[str, tuple[str, str]], tmp_path: Path
):
    """Without a word of HTTP."""
    config = configured(certificates, tmp_path)

    async def work() -> None:
        async with serving(patience=SHORT, context=config.context) as served:
            assert b"HTTP" not in await talk(served, said)
            await until(lambda: served.clients == 0)

    run(work())


def test_silence_after_the_handshake_is_closed(certificates: dict[str, tuple[str, str]], tmp_path: Path):
    """Like silence without TLS."""
    config = configured(certificates, tmp_path)

    async def work() -> None:
        patience = Patience(handshake=10, head=0.2, write=0.2, keep_alive=0.2, stop=0.2, connections=4)
        async with serving(patience=patience, context=config.context) as served:
            assert await talk(served, tls=trusting(certificates)) == b""
            await until(lambda: served.clients == 0)

    run(work())


def test_room_is_made_of_handshakes_too(certificates: dict[str, tuple[str, str]], tmp_path: Path):
    """Silent ones that hold every place do not keep anybody out."""
    config = configured(certificates, tmp_path)

    async def work() -> None:
        few = Patience(handshake=10, head=10, write=10, keep_alive=10, stop=10, connections=2)
        async with contextlib.AsyncExitStack() as stack:
            served = await stack.enter_async_context(serving(patience=few, context=config.context))
            for _ in range(4):
                await stack.enter_async_context(client(served))
            await until(lambda: served.clients == 2)
            newcomer = await stack.enter_async_context(client(served, trusting(certificates)))
            await newcomer.say(GET)
            assert (await newcomer.answer())[0] == 200

    run(work())


MUTUAL = """  client_ca_file: {ca}
  client_auth_type: RequireAndVerifyClientCert
  client_allowed_sans: [prometheus.example]
"""


@pytest.mark.parametrize(
    ("mine", "welcome"),
    [("allowed", True), ("other", False), ("expired", False), ("unknown", False), (None, False)],
)
def test_only_clients_with_an_allowed_certificate_come_in(
    mine: str | None, welcome: bool, certificates: dict[str, tuple[str, str]], tmp_path: Path
):
    """A name that is not in the list, a date that is over, an authority nobody knows and nothing at all are refused
    before a word of HTTP is understood."""
    config = configured(certificates, tmp_path, MUTUAL.format(ca=certificates["ca"][0]))
    asked: list[Request] = []

    async def remembering(request: Request) -> Answer:
        asked.append(request)
        return await plain(request)

    async def work() -> None:
        async with serving(remembering, context=config.context, allowed=config.allowed) as served:
            if welcome:
                async with client(served, trusting(certificates, mine)) as one:
                    await one.say(GET)
                    assert (await one.answer())[0] == 200
            else:
                assert await talk(served, GET, tls=trusting(certificates, mine)) == b""
            assert len(asked) == welcome
            await until(lambda: served.clients == 0)

    run(work())


def test_an_allowed_client_has_a_certificate_at_all(certificates: dict[str, tuple[str, str]]):
    """What the tests above stand on: one is over, the others are not."""
    for name, is_over in (("allowed", False), ("other", False), ("expired", True)):
        done = subprocess.run(["openssl", "x509", "-checkend", "0", "-noout", "-in", certificates[name][0]], timeout=30)
        assert (done.returncode != 0) is is_over


def test_no_connection_waits_for_the_garbage_collector(certificates: dict[str, tuple[str, str]], tmp_path: Path):
    """A hundred a second of TLS hold a quarter of a megabyte each; an error that points to itself would keep them."""
    config = configured(certificates, tmp_path)
    patience = dataclasses.replace(LONG, handshake=0.2, head=0.2)

    async def speak(address: tuple[str, int], said: bytes) -> None:
        reader, writer = await asyncio.open_connection(*address[:2])
        writer.write(said)
        with contextlib.suppress(OSError):
            await reader.read()
        writer.close()

    async def work() -> int:
        async with serving(context=config.context, patience=patience) as served:
            gc.collect()
            gc.disable()
            try:
                # All at once: some of them are only hung up on when the time for a handshake is over.
                said = (b"", b"garbage\r\n\r\n", b"\x16\x03\x01") * 5
                await asyncio.gather(*(speak(served.address, one) for one in said))
                async with asyncio.timeout(10):
                    while served.clients:
                        await asyncio.sleep(0.01)
                kept = [one for one in gc.get_objects() if type(one).__name__ == "SSLProtocol" and one._server_side]
                return len(kept)
            finally:
                gc.enable()

    # The last one is still in a variable of the loop that accepts.
    assert run(work()) <= 1


def test_an_address_that_a_name_gives_twice_and_nobody_has_is_an_error_and_not_silence(
    monkeypatch: pytest.MonkeyPatch,
):
    """/etc/hosts may say it twice; a server that listens nowhere must not start."""
    where = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
    monkeypatch.setattr(server_module.socket, "getaddrinfo", lambda *_, **__: [where, (*where[:4], ("192.0.2.1", 0))])
    with pytest.raises(OSError) as caught:
        listen("twice.example:0")
    assert caught.value.errno == errno.EADDRNOTAVAIL
