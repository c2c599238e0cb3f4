"""What an exporter meets on a network: clients that say nothing, too little, too much, nonsense, or the wrong password.

Runs as a process of its own, so that its work is not the test's: reads a plan from stdin, attacks until its stdin is
closed, prints what became of its clients.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import socket
import ssl
import sys
from collections import Counter
from typing import Any

GARBAGE = (
    b"\x00\xff\x16\x03\x01" * 50,
    b"GET\r\n\r\n",
    b"GET /metrics HTTP/9.9\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"BREW / HTTP/1.1\r\nHost: x\r\n\r\n",
    b"TRACE /metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /%2e%2e/%00 HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET /metrics/../metrics HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * 65536 + b"\r\n\r\n",
    b"GET /" + b"a" * 65536 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    b"GET / HTTP/1.1\r\n" + b"".join(b"H%d: x\r\n" % number for number in range(2000)) + b"\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffff\r\n",
)
REQUEST = b"GET /metrics HTTP/1.1\r\nHost: x\r\n"
outcomes: Counter[str] = Counter()


async def again(what: str, pause: float, attack: Any) -> None:
    """Do it for ever, whatever happens."""
    while True:
        try:
            outcomes[f"{what}: {await attack()}"] += 1
        except (OSError, ssl.SSLError, EOFError, TimeoutError) as error:
            outcomes[f"{what}: {type(error).__name__}"] += 1
        await asyncio.sleep(pause)


async def flood(what: str, per_second: float, attack: Any) -> None:
    """Begin one after the other at that rate, whatever became of those before."""
    under_way: set[asyncio.Task[None]] = set()
    pause, due = 1 / per_second, asyncio.get_running_loop().time()

    async def once() -> None:
        try:
            outcomes[f"{what}: {await attack()}"] += 1
        except (OSError, ssl.SSLError, EOFError, TimeoutError) as error:
            outcomes[f"{what}: {type(error).__name__}"] += 1

    try:
        while True:
            outcomes[f"{what}: begun"] += 1
            task = asyncio.create_task(once())
            under_way.add(task)
            task.add_done_callback(under_way.discard)
            due += pause
            await asyncio.sleep(due - asyncio.get_running_loop().time())
    finally:
        for task in under_way:
            task.cancel()


def idle(port: int) -> Any:
    """Connect, and wait to be thrown out."""

    async def attack() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            return "closed" if await reader.read(1) == b"" else "answered"
        finally:
            writer.transport.abort()

    return attack


def slow(port: int, context: ssl.SSLContext | None) -> Any:
    """A request, one byte a second."""

    async def attack() -> str:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            for byte in REQUEST:
                writer.write(bytes([byte]))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(1):
                        return "closed" if await reader.read(1) == b"" else "answered"
            return "heard to its end"
        finally:
            writer.transport.abort()

    return attack


def deaf(port: int, context: ssl.SSLContext | None) -> Any:
    """Ask for the metrics and never read them."""

    async def attack() -> str:
        loop = asyncio.get_running_loop()
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.settimeout(0)
        await loop.sock_connect(client, ("127.0.0.1", port))
        _reader, writer = await asyncio.open_connection(
            sock=client, ssl=context, server_hostname="127.0.0.1" if context else None, limit=64
        )
        try:
            writer.write(REQUEST + b"\r\n")
            writer.transport.pause_reading()  # type: ignore[attr-defined]
            await asyncio.sleep(15)
            return "waited"
        finally:
            writer.transport.abort()

    return attack


def garbage(port: int, context: ssl.SSLContext | None) -> Any:
    """Every nonsense in turn."""
    number = 0

    async def attack() -> str:
        nonlocal number
        number += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            writer.write(GARBAGE[number % len(GARBAGE)])
            async with asyncio.timeout(20):
                line = (await reader.readline()).decode("latin-1").strip()
            return line or "closed"
        finally:
            writer.transport.abort()

    return attack


def password(port: int, context: ssl.SSLContext) -> Any:
    """A wrong password, a new one every time."""
    number = 0

    async def attack() -> str:
        nonlocal number
        number += 1
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
        try:
            secret = base64.b64encode(b"prometheus:wrong%d" % number)
            writer.write(REQUEST + b"Authorization: Basic " + secret + b"\r\n\r\n")
            async with asyncio.timeout(20):
                return (await reader.readline()).decode("latin-1").strip()
        finally:
            writer.transport.abort()

    return attack


async def main() -> None:
    """Everything at once until stdin ends."""
    plan = json.loads(sys.stdin.readline())

    def client(name: str | None) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=plan["ca"])
        if name:
            context.load_cert_chain(plan[name])
        return context

    insider = client("client")
    tasks = []
    for _ in range(plan["idle"]):
        tasks += [again("idle tls", 0.2, idle(plan["tls"])), again("idle plain", 0.2, idle(plan["plain"]))]
    for number in range(plan["slow"]):
        secure = number % 2 == 0
        port, context = (plan["tls"], insider) if secure else (plan["plain"], None)
        tasks += [again("slow", 0.2, slow(port, context)), again("deaf", 0.2, deaf(port, context))]
    tasks += [again("garbage", 0.1, garbage(plan["tls"], insider)), again("garbage", 0.1, garbage(plan["plain"], None))]
    tasks += [flood("password", plan["passwords"], password(plan["tls"], insider))]
    tasks += [again(name, 0.2, password(plan["tls"], client(name))) for name in ("stranger", "expired")]
    tasks += [again("no certificate", 0.2, password(plan["tls"], client(None)))]
    attack = asyncio.gather(*tasks)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    attack.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await attack
    print(json.dumps(outcomes))


if __name__ == "__main__":
    asyncio.run(main())
