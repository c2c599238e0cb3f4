"""Events sent to an address: each as JSON, signed, from a queue on disk, until the receiver says that it has it.

Collecting never waits for a receiver.  What does not fit in the queue is lost, and counted; a redirect is not followed,
because the address is what somebody vouched for.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import http.client
import json
import os
import re
import socket
import ssl
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

from nsinspect import __version__
from nsinspect.errors import NsinspectError
from nsinspect.private import Folder

_NAME = re.compile(r"[0-9]{12}\.json")
# What one that was killed had not written to its end.
_HALF = re.compile(r"[0-9]{12}\.json\.new")

MAX_EVENTS = 10_000
TIMEOUT = 10.0
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0
_REFUSED = frozenset(range(400, 500)) - {408, 425, 429}
"""Answers after which the same again would be refused again."""


class WebhookError(NsinspectError):
    """The address, its key or the queue cannot be used."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Address:
    secure: bool
    host: str
    port: int | None
    target: str
    credentials: str | None

    @property
    def shown(self) -> str:
        """Without the credentials, and without the path, which may be one."""
        return f"{'https' if self.secure else 'http'}://{self.host}{'' if self.port is None else f':{self.port}'}"


class Webhook:
    """Sends events in a thread of its own.  ``say`` takes lines about what goes wrong; no secret is in them."""

    def __init__(self, url: str, key: bytes | None, queue: str, say: Callable[[str], None]) -> None:
        self._address = _address(url)
        self._key = key
        self._say = say
        self.lost = 0
        try:
            self._private = Folder(queue)
            self._folder = self._private.fd
            for name in os.listdir(self._folder):
                if _HALF.fullmatch(name):
                    os.unlink(name, dir_fd=self._folder)
            # Read once: a folder that changes while it is listed shows some twice, or not at all.
            self._waiting = deque(sorted(name for name in os.listdir(self._folder) if _NAME.fullmatch(name)))
            self._number = int(self._waiting[-1].partition(".")[0]) if self._waiting else 0
        except OSError as error:
            raise WebhookError(f"{queue}: {error.strerror}") from error
        self._news = threading.Event()
        self._ending = threading.Event()
        self._closed = False
        self._idle = threading.Event()
        self._thread = threading.Thread(target=self._send_all, daemon=True)
        self._thread.start()

    @classmethod
    def of(cls, url: str, secret: str | None, queue: str, say: Callable[[str], None]) -> Webhook:
        """With the key in the file ``secret``.  Raises :class:`WebhookError`."""
        key = None
        if secret is not None:
            try:
                with open(secret, "rb") as file:
                    key = file.read(4096).strip()
            except OSError as error:
                raise WebhookError(f"{secret}: {error.strerror}") from error
            if not key:
                raise WebhookError(f"{secret}: expected a key, found nothing")
        return cls(url, key, queue, say)

    def put(self, event: Mapping[str, Any]) -> None:
        """Queue an event; where there is no room it is lost, and counted."""
        contents = dict(event)
        whole = {
            "type": f"nsinspect.{event['kind']}",
            "createdAt": event["time"],
            "contents": contents,
            "location": {"host": event["host"], "container": event["container"], "name": event["name"]},
        }
        body = json.dumps(whole, ensure_ascii=False, allow_nan=False).encode()
        self._number += 1
        name = f"{self._number:012}.json"
        try:
            if len(self._waiting) >= MAX_EVENTS:
                raise OSError(0, f"{MAX_EVENTS} events wait already")
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
            with os.fdopen(os.open(f"{name}.new", flags, 0o600, dir_fd=self._folder), "wb") as file:
                file.write(body)
            os.rename(f"{name}.new", name, src_dir_fd=self._folder, dst_dir_fd=self._folder)
            self._waiting.append(name)
        except OSError as error:
            self._lose(error.strerror or str(error))
        self._idle.clear()
        self._news.set()

    def close(self, seconds: float = TIMEOUT) -> None:
        """Wait a little for what is queued; what is not sent by then is the next one's."""
        self._news.set()
        self._idle.wait(seconds)
        self._ending.set()
        self._news.set()
        self._thread.join(1.0)
        # One that still waits for an answer has it until the end.
        if not self._thread.is_alive() and not self._closed:
            self._closed = True
            self._private.close()

    def _send_all(self) -> None:
        pause = FIRST_PAUSE
        while not self._ending.is_set():
            self._news.clear()
            if not self._waiting:
                self._idle.set()
                self._news.wait()
                continue
            trouble = self._sent(self._waiting[0])
            if trouble is None:
                self._waiting.popleft()
                pause = FIRST_PAUSE
                continue
            self._say(f"webhook {self._address.shown}: {trouble}; {len(self._waiting)} wait, again in {pause:.0f} s")
            self._ending.wait(pause)
            pause = min(pause * 2, LONGEST_PAUSE)

    def _sent(self, name: str) -> str | None:
        """Send the oldest; ``None`` when that is done with, else what went wrong."""
        try:
            with os.fdopen(
                os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=self._folder), "rb"
            ) as file:
                body = file.read()
        except FileNotFoundError:
            return None  # somebody took it away
        except OSError as error:
            return f"its queue: {error.strerror}"
        try:
            status = self._post(body)
        except (OSError, http.client.HTTPException, ValueError) as error:
            return f"no answer: {getattr(error, 'strerror', None) or type(error).__name__}"
        if status in _REFUSED:
            self._lose(f"answered {status}")
        elif not 200 <= status < 300:
            return f"answered {status}"
        try:
            os.unlink(name, dir_fd=self._folder)
        except FileNotFoundError:
            pass
        except OSError as error:
            return f"its queue: {error.strerror}: an event will come twice"
        return None

    def _post(self, body: bytes) -> int:
        address = self._address
        connection: http.client.HTTPConnection
        if address.secure:
            context = ssl.create_default_context()
            connection = http.client.HTTPSConnection(address.host, address.port, timeout=TIMEOUT, context=context)
        else:
            connection = http.client.HTTPConnection(address.host, address.port, timeout=TIMEOUT)
        headers = {
            "Content-Type": "application/json",
            "User-Agent": f"nsinspect/{__version__}",
            # The same for the same event: one may come twice, where an answer was lost on the way.
            "X-Nsinspect-Delivery": hashlib.sha256(body).hexdigest()[:32],
        }
        if self._key is not None:
            headers["X-Nsinspect-Signature"] = "sha256=" + hmac.new(self._key, body, hashlib.sha256).hexdigest()
        if address.credentials is not None:
            headers["Authorization"] = address.credentials
        # Each read has its limit; one that drips is cut off as a whole.
        late = threading.Event()
        ender = threading.Timer(3 * TIMEOUT, _hang_up, [connection, late])
        ender.daemon = True
        ender.start()
        try:
            connection.request("POST", address.target, body, headers)
            status = connection.getresponse().status
            if late.is_set():
                raise TimeoutError("half an answer")
            return status
        finally:
            ender.cancel()
            connection.close()

    def _lose(self, why: str) -> None:
        self.lost += 1
        self._say(f"webhook {self._address.shown}: {why}: {self.lost} event{'' if self.lost == 1 else 's'} lost so far")


def _hang_up(connection: http.client.HTTPConnection, late: threading.Event) -> None:
    late.set()
    if connection.sock is not None:
        with contextlib.suppress(OSError):
            # Not closed: whoever waits for it would wait on.
            connection.sock.shutdown(socket.SHUT_RDWR)


def _address(url: str) -> _Address:
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if (
        host is None
        or parts.scheme not in ("http", "https")
        or not url.isascii()
        or not url.isprintable()
        or " " in url
    ):
        # The address is not quoted: it may hold a password.
        raise WebhookError("webhook: expected an address such as https://host/path")
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + base64.b64encode(pair.encode()).decode()
    return _Address(
        secure=parts.scheme == "https",
        host=host,
        port=port,
        target=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        credentials=credentials,
    )
