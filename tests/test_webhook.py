"""The webhook: every event arrives in order once the receiver is back, or is counted; nobody waits, no secret leaks."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import os
import shutil
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import trustme

from nsinspect import webhook
from nsinspect.webhook import Webhook, WebhookError

KEY = b"k3y-of-the-signature"
SECRETS = ("usr-name", "pass-w0rd", "path-t0ken", "query-t0ken", "fragm3nt", KEY.decode(), "k3y")
PATIENCE = 5.0


class Request(NamedTuple):
    """What arrived."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def number(self) -> int:
        """Which of our events it is."""
        found: int = json.loads(self.body)["contents"]["after"]
        return found


Answer = Callable[[socket.socket, threading.Event], None]


def status(number: int, more: str = "") -> Answer:
    """An answer with this status."""
    return lambda client, _: client.sendall(
        f"HTTP/1.1 {number} X\r\n{more}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
    )


def hang(client: socket.socket, ended: threading.Event) -> None:
    """No answer, and no end."""
    ended.wait(PATIENCE * 2)


def drip(what: bytes) -> Answer:
    """A byte now and then, for as long as somebody waits."""

    def answer(client: socket.socket, ended: threading.Event) -> None:
        for byte in what:
            client.sendall(bytes([byte]))
            if ended.wait(0.05):
                return

    return answer


def close(client: socket.socket, _: threading.Event) -> None:
    """No answer, but an end."""


def send(what: bytes) -> Answer:
    """Something that is no answer."""
    return lambda client, _: client.sendall(what)


class Receiver:
    """Answers requests as it was told to, and then with 204.  A context manager; one that is down has its port, and
    refuses connections."""

    def __init__(self, *answers: Answer, context: ssl.SSLContext | None = None, down: bool = False) -> None:
        self._answers = list(answers)
        self._context = context
        self._down = down
        self._ended = threading.Event()
        self._listening = socket.socket()
        self._listening.bind(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self.seen: list[Request] = []
        self.delivered: list[Request] = []
        self.connections = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def __enter__(self) -> Receiver:
        if not self._down:
            self.come()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()

    def come(self) -> None:
        """Be there."""
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._serve, args=[client], daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with client, contextlib.suppress(OSError, ValueError):
            if self._context is not None:
                client = self._context.wrap_socket(client, server_side=True)
            client.settimeout(PATIENCE)
            with client.makefile("rb") as file:
                line = file.readline().decode().strip()
                headers = {}
                while pair := file.readline().decode().strip():
                    name, _, value = pair.partition(": ")
                    headers[name.lower()] = value
                request = Request(line, headers, file.read(int(headers["content-length"])))
            self.seen.append(request)
            self.meanwhile()
            if self._answers:
                self._answers.pop(0)(client, self._ended)
            else:
                self.delivered.append(request)
                status(204)(client, self._ended)

    def numbers(self, count: int) -> list[int]:
        """The events that it took, once there are so many."""
        end = time.monotonic() + PATIENCE
        while len(self.delivered) < count and time.monotonic() < end:
            time.sleep(0.005)
        return [one.number for one in self.delivered]


class Sender(NamedTuple):
    """Webhooks of one queue, and what they said."""

    queue: Path
    said: list[str]
    started: list[Webhook]

    def to(self, receiver: Receiver | int, key: bytes | None = KEY, scheme: str = "http") -> Webhook:
        """One that sends there."""
        port = receiver if isinstance(receiver, int) else receiver.port
        url = f"{scheme}://usr-name:pass-w0rd@127.0.0.1:{port}/path-t0ken/x?key=query-t0ken#fragm3nt"
        self.started.append(Webhook(url, key, str(self.queue), self.said.append))
        return self.started[-1]

    def waiting(self) -> list[str]:
        """What is in the queue."""
        return sorted(one.name for one in self.queue.iterdir() if one.name != "lock")

    def ended(self, hook: Webhook, seconds: float = 0.05) -> None:
        """Let one end, so that the next may have its queue."""
        hook.close(seconds)
        hook._thread.join(PATIENCE)


@pytest.fixture
def sender(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Sender]:
    """In a hurry; whatever was said, no secret was in it."""
    monkeypatch.setattr(webhook, "TIMEOUT", 0.15)
    monkeypatch.setattr(webhook, "FIRST_PAUSE", 0.02)
    monkeypatch.setattr(webhook, "LONGEST_PAUSE", 0.05)
    found = Sender(tmp_path / "queue", [], [])
    yield found
    for one in found.started:
        if not one._ending.is_set():
            one.close(0)
    assert [line for line in found.said if any(secret in line for secret in SECRETS)] == []
    assert all(line.isprintable() and line.startswith("webhook http") for line in found.said)


def event(number: int) -> dict[str, Any]:
    """One of ours."""
    time_of_it = f"2026-01-28T03:14:{number % 60:02}Z"
    about = {"host": "h", "container": "c" * 64, "name": "wëb", "message": "hostile \\x1b"}
    return {"time": time_of_it, "kind": "oom_kill", "before": 0, "after": number, **about}


def put(hook: Webhook, *numbers: int) -> None:
    """Events, by number."""
    for number in numbers:
        hook.put(event(number))


# -- what arrives ------------------------------------------------------------------------------------------------------


def test_an_event_arrives_whole_in_its_envelope(sender: Sender):
    with Receiver() as receiver:
        put(sender.to(receiver), 7)
        assert receiver.numbers(1) == [7]
    (request,) = receiver.delivered

    assert request.line == "POST /path-t0ken/x?key=query-t0ken HTTP/1.1"
    assert json.loads(request.body) == {
        "type": "nsinspect.oom_kill",
        "createdAt": "2026-01-28T03:14:07Z",
        "contents": event(7),
        "location": {"host": "h", "container": "c" * 64, "name": "wëb"},
    }
    assert request.headers["content-type"] == "application/json"
    assert base64.b64decode(request.headers["authorization"].removeprefix("Basic ")) == b"usr-name:pass-w0rd"
    signature = "sha256=" + hmac.new(KEY, request.body, hashlib.sha256).hexdigest()
    assert request.headers["x-nsinspect-signature"] == signature
    assert sender.said == []


def test_without_a_key_nothing_is_signed(sender: Sender):
    with Receiver() as receiver:
        put(sender.to(receiver, key=None), 1)
        assert receiver.numbers(1) == [1]
    assert "x-nsinspect-signature" not in receiver.delivered[0].headers


def test_many_arrive_in_order_and_the_queue_is_empty_then(sender: Sender):
    with Receiver() as receiver:
        hook = sender.to(receiver)
        put(hook, *range(25))
        assert receiver.numbers(25) == list(range(25))
        hook.close(PATIENCE)
    assert sender.waiting() == []
    assert len({one.headers["x-nsinspect-delivery"] for one in receiver.delivered}) == 25


TROUBLES: dict[str, list[Answer]] = {
    "500 for a while": [status(500)] * 4,
    "502, 503, 504": [status(502), status(503), status(504)],
    "too many, too slow, too early": [status(429), status(408), status(425)],
    "hangs": [hang],
    "drips its first line": [drip(b"HTTP/1.1 500 " + b"O" * 300)],
    "drips its headers": [drip(b"HTTP/1.1 503 X\r\nX: " + b"y" * 300)],
    "closes without an answer": [close, close],
    "closes in the middle of one": [send(b"HTTP/1.1 20")],
    "answers with something else": [send(b"\x00\xff" * 50), send(b"SSH-2.0-x\r\n"), send(b"HTTP/9 200 OK\r\n\r\n")],
    "answers without an end": [send(b"HTTP/1.1 500 " + b"x" * 100_000)],
    "too many headers": [send(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 500 + b"\r\n")],
    "redirects": [status(301, "Location: /else\r\n"), status(307, "Location: /else\r\n"), status(304)],
}


@pytest.mark.parametrize("trouble", TROUBLES)
def test_every_event_arrives_in_order_once_the_receiver_is_well_again(sender: Sender, trouble: str):
    with Receiver(*TROUBLES[trouble]) as receiver:
        hook = sender.to(receiver)
        put(hook, 1, 2, 3)
        assert receiver.numbers(3) == [1, 2, 3]
        first = [one for one in receiver.seen if one.number == 1]
    assert len(first) == len(TROUBLES[trouble]) + 1
    # The same delivery as before, signed as before.
    assert len({(one.headers["x-nsinspect-delivery"], one.headers["x-nsinspect-signature"]) for one in first}) == 1
    assert {one.line for one in first} == {"POST /path-t0ken/x?key=query-t0ken HTTP/1.1"}
    assert hook.lost == 0
    assert len(sender.said) == len(TROUBLES[trouble])


def test_a_receiver_that_was_down_gets_everything_when_it_is_back(sender: Sender):
    with Receiver(down=True) as receiver:
        hook = sender.to(receiver)
        put(hook, *range(10))
        end = time.monotonic() + PATIENCE
        while len(sender.said) < 2 and time.monotonic() < end:
            time.sleep(0.005)
        assert len(sender.waiting()) == 10
        receiver.come()
        assert receiver.numbers(10) == list(range(10))
    assert hook.lost == 0
    assert "10 wait" in sender.said[1]


@pytest.mark.parametrize("number", [301, 302, 303, 307, 308])
def test_a_redirect_to_somebody_else_is_not_followed(sender: Sender, number: int):
    with Receiver() as other:
        elsewhere = status(number, f"Location: http://127.0.0.1:{other.port}/else\r\n")
        with Receiver(*[elsewhere] * 3) as receiver:
            put(sender.to(receiver), 1)
            assert receiver.numbers(1) == [1]
        assert other.connections == 0
    assert len(receiver.seen) == 4


@pytest.mark.parametrize("number", [400, 401, 403, 404, 410, 413, 422])
def test_what_is_refused_for_good_is_counted_and_the_next_one_sent(sender: Sender, number: int):
    with Receiver(status(number)) as receiver:
        hook = sender.to(receiver)
        put(hook, 1, 2)
        assert receiver.numbers(1) == [2]
        hook.close(PATIENCE)
    assert [one.number for one in receiver.seen] == [1, 2]
    assert hook.lost == 1
    assert sender.said == [f"webhook http://127.0.0.1:{receiver.port}: answered {number}: 1 event lost so far"]


def test_pauses_become_longer_and_short_again(sender: Sender, monkeypatch: pytest.MonkeyPatch):
    with Receiver(*[status(500)] * 4, status(200), status(500)) as receiver:
        hook = sender.to(receiver)
        pauses: list[float] = []
        monkeypatch.setattr(hook._ending, "wait", pauses.append)
        put(hook, 1, 2)
        assert receiver.numbers(1) == [2]
    assert pauses == [0.02, 0.04, 0.05, 0.05, 0.02]


def test_what_nobody_vouches_for_gets_nothing(sender: Sender):
    """An address with TLS, and a certificate of no authority that is known here.  Fails without a look at
    certificates."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
    with Receiver(context=context) as receiver:
        put(sender.to(receiver, scheme="https"), 1)
        end = time.monotonic() + PATIENCE
        while not sender.said and time.monotonic() < end:
            time.sleep(0.005)
    assert receiver.seen == []
    assert "1 wait" in sender.said[0]


# -- the queue ---------------------------------------------------------------------------------------------------------


def test_what_was_not_sent_is_sent_by_the_next_one(sender: Sender):
    with Receiver(down=True) as receiver:
        first = sender.to(receiver)
        put(first, 1, 2, 3)
        sender.ended(first)
        receiver.come()
        second = sender.to(receiver)
        put(second, 4)
        assert receiver.numbers(4) == [1, 2, 3, 4]


def test_what_a_killed_one_left_half_written_costs_nothing(sender: Sender):
    with Receiver() as receiver:
        sender.queue.mkdir(0o700)
        (sender.queue / "000000000001.json.new").write_bytes(b'{"hal')
        hook = sender.to(receiver)
        put(hook, 1, 2)
        assert receiver.numbers(2) == [1, 2]
        hook.close(PATIENCE)
    assert hook.lost == 0
    assert sender.waiting() == []


def test_what_does_not_fit_is_counted(sender: Sender, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(webhook, "MAX_EVENTS", 5)
    with Receiver(down=True) as receiver:
        hook = sender.to(receiver)
        put(hook, *range(8))
        assert hook.lost == 3
        receiver.come()
        assert receiver.numbers(5) == [0, 1, 2, 3, 4]
        sender.ended(hook, PATIENCE)
        put(sender.to(receiver), 9)
        assert receiver.numbers(6)[-1] == 9
    (line,) = [line for line in sender.said if "3 events lost so far" in line]
    assert "5 events wait already" in line


def test_a_queue_that_is_taken_away_is_said_and_counted(sender: Sender):
    with Receiver() as receiver:
        hook = sender.to(receiver)
        shutil.rmtree(sender.queue)
        put(hook, 1)
        assert hook.lost == 1
    assert "1 event lost so far" in sender.said[0]


def test_an_event_that_somebody_removes_while_it_is_sent_ends_nothing(sender: Sender):
    """An operator who clears the queue, or a second sender."""
    with Receiver() as receiver:
        receiver.meanwhile = lambda: [one.unlink(missing_ok=True) for one in sender.queue.glob("*1.json")] and None
        hook = sender.to(receiver)
        put(hook, 1)
        assert receiver.numbers(1) == [1]
        put(hook, 2)
        assert receiver.numbers(2) == [1, 2]


def test_what_else_is_in_the_queue_is_left_alone(sender: Sender):
    sender.queue.mkdir(0o700)
    for name in ("notes.txt", "x.json", "1.json.bak", "²³.json", "-1.json"):
        (sender.queue / name).write_text("keep")
    with Receiver() as receiver:
        hook = sender.to(receiver)
        put(hook, 1)
        assert receiver.numbers(1) == [1]
        hook.close(PATIENCE)
    assert len(sender.waiting()) == 5


def test_an_event_waits_for_nobody_else_to_read(sender: Sender):
    hook = sender.to(1)
    put(hook, 1)
    assert oct(sender.queue.stat().st_mode)[-3:] == "700"
    assert {oct(one.stat().st_mode)[-3:] for one in sender.queue.iterdir()} == {"600"}


def test_putting_never_waits_for_a_receiver(sender: Sender):
    with Receiver(*[hang] * 50) as receiver:
        hook = sender.to(receiver)
        times = []
        for number in range(200):
            begun = time.monotonic()
            put(hook, number)
            times.append(time.monotonic() - begun)
    assert sorted(times)[100] < 0.02
    assert max(times) < 1


def test_ending_waits_for_what_is_on_its_way_but_not_for_ever(sender: Sender):
    with Receiver() as receiver:
        hook = sender.to(receiver)
        put(hook, 1, 2, 3)
        hook.close(PATIENCE)
        assert [one.number for one in receiver.delivered] == [1, 2, 3]
        sender.ended(hook)
    with Receiver(hang) as receiver:
        hook = sender.to(receiver)
        put(hook, 4)
        begun = time.monotonic()
        hook.close(0.05)
        assert time.monotonic() - begun < 1


# -- what cannot be used -----------------------------------------------------------------------------------------------

WRONG = (
    *("", "nonsense", "ftp://h/x", "file:///etc/passwd", "http://", "http:///path", "https://:80/x", "//h/path"),
    *(
        "http://h:pass-w0rd/x",
        "http://h:99999/x",
        "http://[::1/x",
        "http://h/a b",
        "http://h/\r\nX: y",
        "http://h/\x00",
    ),
    *("http://h/ü", "javascript:alert(1)", "http://usr-name:pass-w0rd@/x", "unix:///run/x", "HTTP//x", "http:h/x"),
)


@pytest.mark.parametrize("url", WRONG)
def test_a_wrong_address_is_refused_and_not_repeated(tmp_path: Path, url: str):
    with pytest.raises(WebhookError, match="expected an address") as caught:
        Webhook(url, None, str(tmp_path / "queue"), print)
    assert not any(secret in str(caught.value) for secret in SECRETS)
    assert not (tmp_path / "queue").exists()


@pytest.mark.parametrize("made", ["missing", "empty", "blank", "directory"])
def test_a_key_file_without_a_key_is_refused(tmp_path: Path, made: str):
    secret = tmp_path / "key"
    if made == "directory":
        secret.mkdir()
    elif made != "missing":
        secret.write_text("" if made == "empty" else " \n")
    with pytest.raises(WebhookError, match=str(secret)):
        Webhook.of("http://127.0.0.1:1/x", str(secret), str(tmp_path / "queue"), print)


def test_a_key_is_what_is_in_the_file_without_the_end_of_the_line(sender: Sender, tmp_path: Path):
    (tmp_path / "key").write_bytes(KEY + b"\n")
    with Receiver() as receiver:
        url = f"http://127.0.0.1:{receiver.port}"
        hook = Webhook.of(url, str(tmp_path / "key"), str(sender.queue), sender.said.append)
        sender.started.append(hook)
        put(hook, 1)
        assert receiver.numbers(1) == [1]
    (request,) = receiver.delivered
    assert request.line == "POST / HTTP/1.1"
    assert request.headers["x-nsinspect-signature"].endswith(hmac.new(KEY, request.body, hashlib.sha256).hexdigest())


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o701, 0o777])
def test_a_queue_that_others_get_into_is_refused(tmp_path: Path, mode: int):
    queue = tmp_path / "queue"
    queue.mkdir()
    queue.chmod(mode)
    with pytest.raises(WebhookError, match="ours alone"):
        Webhook("http://127.0.0.1:1/x", None, str(queue), print)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives a directory away")
def test_a_queue_of_somebody_else_is_refused(tmp_path: Path):
    queue = tmp_path / "queue"
    queue.mkdir(0o700)
    os.chown(queue, 65534, 65534)
    with pytest.raises(WebhookError, match="ours alone"):
        Webhook("http://127.0.0.1:1/x", None, str(queue), print)


def test_a_queue_that_another_one_sends_from_is_refused_until_that_has_ended(sender: Sender):
    hook = sender.to(1)
    with pytest.raises(WebhookError, match="another nsinspect writes there"):
        sender.to(1)
    sender.ended(hook)
    sender.to(1)


def test_a_queue_that_is_no_directory_is_refused(tmp_path: Path):
    (tmp_path / "queue").write_text("")
    with pytest.raises(WebhookError, match="queue"):
        Webhook("http://127.0.0.1:1/x", None, str(tmp_path / "queue"), print)
