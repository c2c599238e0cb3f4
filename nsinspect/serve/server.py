"""HTTP/1.1 on sockets that anybody can reach: every phase of a connection has a deadline, and their number a cap.

The parser is h11; what is here is when to stop waiting.  docs/exporter.md has the measurements that led to it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import resource
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any

import h11

log = logging.getLogger(__name__)

_CHUNK = 64 << 10
_MAX_HEAD = 16 << 10
_RESET = struct.pack("ii", 1, 0)
_TCP_USER_TIMEOUT = 18  # of tcp(7), which Python names since 3.12 only
_BACKLOG = 512
# What everything but connections may need at once: our own files, a scrape, a part left behind, a look to be recorded.
_RESERVED = 24
_FULL = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_SAID_EVERY = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds a client may take for each phase, and how many connections there may be.

    ``keep_alive`` is how long a connection may rest after an answer of 200: Prometheus uses one again.
    """

    handshake: float = 5.0
    head: float = 5.0
    write: float = 10.0
    keep_alive: float = 75.0
    stop: float = 5.0
    connections: int = 64


@dataclass(frozen=True, slots=True)
class Request:
    """A request without its body, which nothing here wants.  Header names are lower case."""

    method: str
    path: str
    headers: Mapping[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer; ``headers`` are those besides ``Content-Length`` and ``Date``."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(eq=False, slots=True)
class _Connection:
    socket: socket.socket
    task: asyncio.Task[None] | None = None
    # Waiting for the client's next word, and so the first to go when room is needed.
    waiting: bool = True
    # It did not take what was sent: the kernel's queue is thrown away with it.
    stuck: bool = False
    writer: asyncio.StreamWriter | None = None


class Server:
    """Accepts, listens to, answers and gets rid of clients.

    ``answer`` answers a request, ``refusal`` what is none, with the status that fits.  ``context`` is asked at every
    connection, so that a new certificate counts from the next one; ``None`` is plain HTTP.  ``allowed`` says whether a
    client's certificate is one that may come in.
    """

    def __init__(
        self,
        answer: Callable[[Request], Awaitable[Answer]],
        refusal: Callable[[int], Answer],
        context: Callable[[], ssl.SSLContext | None],
        allowed: Callable[[Mapping[str, Any]], bool],
        patience: Patience,
    ) -> None:
        self._answer = answer
        self._refusal = refusal
        self._context = context
        self._allowed = allowed
        self._patience = patience
        # In the order of their coming.
        self._connections: dict[_Connection, None] = {}
        self._stopping = False
        # When it was last said that nobody can be let in.
        self._said = -_SAID_EVERY

    async def serve(self, sockets: list[socket.socket], stop: asyncio.Event) -> None:
        """Serve until ``stop`` is set; then answers under way are finished, for a while."""
        accepting = [asyncio.create_task(self._accept(one)) for one in sockets]
        await stop.wait()
        self._stopping = True
        for task in accepting:
            task.cancel()
        for connection in list(self._connections):
            if connection.waiting and connection.task:
                connection.task.cancel()
        tasks = [connection.task for connection in self._connections if connection.task]
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=self._patience.stop)
            for one in late:
                one.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        listening.settimeout(0)
        while True:
            try:
                client, _ = await loop.sock_accept(listening)
            except OSError as error:
                # No descriptor left, or the client is gone already: neither is a reason to stop.
                self._not_accepted(error)
                await asyncio.sleep(0.05)
                continue
            self._make_room(self._patience.connections)
            connection = _Connection(client)
            self._connections[connection] = None
            connection.task = loop.create_task(self._connection(connection))
            # Not in the task itself: one that is cancelled before its first step never gets to its end.
            connection.task.add_done_callback(partial(self._gone, connection))
            # While more are waiting, accepting does not yield by itself.
            await asyncio.sleep(0)

    def _not_accepted(self, error: OSError) -> None:
        """Where the system has nothing left for one more client, one that says nothing makes room for it."""
        now = asyncio.get_running_loop().time()
        if error.errno not in _FULL or now < self._said + _SAID_EVERY:
            log.debug("accept: %s", error)
        else:
            self._said = now
            log.warning("no client can be let in: %s; %d are connected", error.strerror, len(self._connections))
        if error.errno in _FULL:
            self._make_room(len(self._connections))

    def _make_room(self, most: int) -> None:
        """At that many the oldest that says nothing goes, or else the oldest: whoever comes is always heard."""
        if not self._connections or len(self._connections) < most:
            return
        oldest = next((one for one in self._connections if one.waiting), next(iter(self._connections)))
        del self._connections[oldest]
        oldest.stuck = True
        if oldest.task:
            oldest.task.cancel()

    async def _connection(self, connection: _Connection) -> None:
        """One client from its coming to its going; whatever it does, nothing of it stays."""
        try:
            await self._converse(connection)
        except asyncio.CancelledError as error:
            _forget(error)
        except (OSError, TimeoutError, EOFError) as error:
            log.debug("connection: %s", error or type(error).__name__)
            _forget(error)
        except Exception:
            # A mistake of ours costs one client, and never the server.
            log.exception("connection")

    def _gone(self, connection: _Connection, _task: asyncio.Task[None]) -> None:
        self._connections.pop(connection, None)
        if connection.socket.fileno() < 0:
            # Its transport has sent all and closed it; one that did so while it was being closed cannot be aborted.
            return
        if connection.stuck:
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        if connection.writer is not None:
            connection.writer.transport.abort()
        else:
            connection.socket.close()

    async def _converse(self, connection: _Connection) -> None:
        patience = self._patience
        client = connection.socket
        client.settimeout(0)
        if client.family != socket.AF_UNIX:
            # What the kernel still holds for a client that went away silently has an end too.
            client.setsockopt(socket.IPPROTO_TCP, _TCP_USER_TIMEOUT, int(patience.write * 1000))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # Else the kernel would take a whole answer for a client that never reads, and keep it.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * _CHUNK)
        reader, writer = await self._streams(connection)
        wire = h11.Connection(h11.SERVER, max_incomplete_event_size=_MAX_HEAD)
        wait = patience.head
        while not self._stopping:
            connection.waiting = True
            request = None
            try:
                async with asyncio.timeout(wait) as limit:
                    request = await _request(wire, reader, limit, patience.head)
                connection.waiting = False
                if request is None:
                    return
                answer = await self._answer(request)
            except h11.RemoteProtocolError as error:
                connection.waiting = False
                answer = self._refusal(error.error_status_hint)
            # Only who got what it came for may stay; nobody's body is waited for.
            whole = wire.their_state in (h11.DONE, h11.MUST_CLOSE)
            stays = request is not None and answer.status == 200 and wire.their_state is h11.DONE
            connection.stuck = True
            async with asyncio.timeout(patience.write):
                await _write(wire, writer, answer, head=request is not None and request.method == "HEAD", stays=stays)
                if not stays:
                    await _goodbye(reader, writer, hear_out=not whole)
                    return
            connection.stuck = False
            wire.start_next_cycle()
            wait = patience.keep_alive

    async def _streams(self, connection: _Connection) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        context = self._context()
        times = {"ssl_handshake_timeout": self._patience.handshake, "ssl_shutdown_timeout": 1.0} if context else {}
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection.socket, ssl=context, **times)
        connection.writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        transport.set_write_buffer_limits(high=_CHUNK)
        certificate = transport.get_extra_info("peercert")
        if context is not None and context.verify_mode is ssl.CERT_REQUIRED and not self._allowed(certificate or {}):
            raise ConnectionAbortedError("the client's certificate has no name that is allowed")
        return reader, connection.writer


def _forget(error: BaseException | None) -> None:
    """Free what led to an error now.  asyncio keeps some in variables of the very frames that they point to, and a
    connection of TLS with its buffers would wait for somebody to look for cycles: tens of megabytes under attack."""
    while error is not None:
        error.__traceback__ = None
        error = error.__cause__ or error.__context__


async def _request(
    wire: h11.Connection, reader: asyncio.StreamReader, limit: asyncio.Timeout, head: float
) -> Request | None:
    """The next request's head, ``None`` when the client has gone.  From its first byte on ``head`` is the limit.

    Raises ``h11.RemoteProtocolError``.
    """
    begun = False
    while True:
        event = wire.next_event()
        if event is h11.NEED_DATA:
            wire.receive_data(await reader.read(_MAX_HEAD))
            if not begun:
                begun = True
                limit.reschedule(asyncio.get_running_loop().time() + head)
        elif isinstance(event, h11.Request):
            # Where there is no body, the end of the message is here already.
            wire.next_event()
            return Request(event.method.decode("ascii"), _path(event.target), dict(event.headers))
        else:
            return None


def _path(target: bytes) -> str:
    """The path of a request's target, which may be a whole URL (RFC 9112, 3.2.2)."""
    path = target.split(b"?")[0].decode("latin-1")
    if path.lower().startswith(("http://", "https://")):
        return "/" + path.split("/", 3)[3] if path.count("/") > 2 else "/"
    return path


async def _write(
    wire: h11.Connection, writer: asyncio.StreamWriter, answer: Answer, *, head: bool, stays: bool
) -> None:
    if wire.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = {**answer.headers, "Content-Length": str(len(answer.body)), "Date": formatdate(usegmt=True)}
    if not stays:
        headers["Connection"] = "close"
    reason = HTTPStatus(answer.status).phrase.encode("ascii")
    response = h11.Response(status_code=answer.status, headers=list(headers.items()), reason=reason)
    writer.write(wire.send(response) or b"")
    body = memoryview(b"" if head else answer.body)
    # In pieces: what a client does not take stays with us, once for all who ask, and not in every buffer on the way.
    for start in range(0, len(body), _CHUNK):
        piece = body[start : start + _CHUNK]
        writer.write(wire.send(h11.Data(data=bytes(piece))) or b"")
        await writer.drain()
    writer.write(wire.send(h11.EndOfMessage()) or b"")
    await writer.drain()


async def _goodbye(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, hear_out: bool) -> None:
    """Close; who is still talking is heard out, a little: closed at once, it would see a reset and not the answer."""
    if hear_out:
        if writer.can_write_eof():
            writer.write_eof()
        with contextlib.suppress(TimeoutError, OSError):
            async with asyncio.timeout(1.0):
                left = 16 * _CHUNK
                while left > 0 and (data := await reader.read(_CHUNK)):
                    left -= len(data)
    writer.close()
    with contextlib.suppress(TimeoutError, OSError):
        async with asyncio.timeout(1.0):
            await writer.wait_closed()


def within_limits(patience: Patience) -> Patience:
    """The same with no more connections than RLIMIT_NOFILE has room for, beside what a scrape opens."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = patience.connections if limit == resource.RLIM_INFINITY else max(4, limit - _RESERVED)
    if most >= patience.connections:
        return patience
    log.warning("no more than %d connections at once: RLIMIT_NOFILE is %d", most, limit)
    return replace(patience, connections=most)


def listen(address: str) -> list[socket.socket]:
    """Sockets that listen on ``host:port``; ``:port`` is every address.  Raises ``ValueError`` and ``OSError``."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{address}: expected HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    found: list[socket.socket] = []
    absent: OSError | None = None
    infos = socket.getaddrinfo(host or None, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    for info in dict.fromkeys(infos):
        try:
            found.append(_listening(*info))
        except OSError as error:
            # One of a name's addresses may be of a family that this host has not.
            if error.errno in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                absent = error
                continue
            for opened in found:
                opened.close()
            raise
    if absent is not None and not found:
        raise absent
    return found


def _listening(family: int, kind: int, protocol: int, _name: str, where: Any) -> socket.socket:
    one = socket.socket(family, kind, protocol)
    try:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        one.bind(where)
        one.listen(_BACKLOG)
    except OSError:
        one.close()
        raise
    return one
