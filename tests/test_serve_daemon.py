"""The exporter as a process: what systemd, Prometheus and an operator see of it from its start to its end."""

from __future__ import annotations

import contextlib
import gc
import http.client
import json
import os
import queue
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from nsinspect.cli import cli
from nsinspect.serve import daemon
from nsinspect.serve.daemon import Flags
from nsinspect.serve.notify import CannotServe
from tests.runner import loggers_as_they_were, runner

HERE = Path(__file__).parent
HOST = HERE / "fixtures/hosts/docker-hybrid"
NAMES = {"web", "sidecar", "agent", "locked", "plain"}
HASH = "$2b$04$bIadrAS8.RHWhSZm0kBvPeAb/RjCzPlvlFi7mK98/83VsmdaEwRXG"
PATIENCE = 10.0
OURS = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID")


def environment(**more: str) -> dict[str, str]:
    """As systemd would start it, with ``more``."""
    clean = {name: value for name, value in os.environ.items() if name not in OURS}
    return {**clean, "PYTHONPATH": str(HERE.parent), **more}


def command(*arguments: str, root: Path = HOST) -> list[str]:
    """The exporter's command line."""
    return [sys.executable, "-m", "nsinspect", "--root", str(root), "serve", *arguments]


class Ended:
    """One that ends by itself, already started: many of them start at the same time."""

    def __init__(self, *command: str, **more: str) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(**more),
            text=True,
        )
        self._ended: tuple[int, str, str] | None = None

    def result(self) -> tuple[int, str, str]:
        """Its exit code and what it wrote to stdout and stderr."""
        if self._ended is None:
            stdout, stderr = self._process.communicate(timeout=20)
            self._ended = self._process.returncode, stdout, stderr
        return self._ended

    def refusal(self) -> tuple[int, str]:
        """Its exit code and what it says besides its log: exactly one line."""
        code, stdout, stderr = self.result()
        said = [line for line in stderr.splitlines() if not line.startswith("ts=")]
        assert stdout == ""
        assert len(said) == 1, stderr
        assert "Traceback" not in stderr
        return code, said[0]

    def close(self) -> None:
        """Gone in any case."""
        self._process.kill()
        self.result()


class Here(Ended):
    """The same in this process, and the log as it was: what a refusal looks like from outside, others show."""

    def __init__(self, *arguments: str, root: Path = HOST) -> None:
        with loggers_as_they_were():
            found = runner().invoke(cli, ["--root", str(root), "serve", *arguments])
        assert isinstance(found.exception, SystemExit), found.exc_info
        self._ended = found.exit_code, found.stdout, found.stderr

    def close(self) -> None:
        """Nothing is left."""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Ended]]:
    """Exporters that cannot start, and one that has only one scrape to print."""
    folder = tmp_path_factory.mktemp("ended")
    (folder / "web.yml").write_text(r'tls_server_config: {cert_file: "a\nts=forged", key_file: b}')
    (folder / "nothing").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        found = {
            "in use": Ended(*command("--web.listen-address", "127.0.0.1:0", "--web.listen-address", address)),
            "no host": Ended(*command(root=folder / "nothing")),
            "once": Ended(*command("--once")),
            "bad address": Here("--web.listen-address", "nonsense"),
            "no socket": Here("--web.systemd-socket"),
            "configuration": Here("--web.config.file", str(folder / "web.yml")),
            "no host for one": Here("--once", root=folder / "nothing"),
        }
        try:
            yield found
        finally:
            for one in found.values():
                one.close()


class Exporter:
    """One that runs, and what it logs."""

    def __init__(self, *arguments: str, **more: str) -> None:
        self.process = subprocess.Popen(
            command("--web.listen-address", "127.0.0.1:0", *arguments),
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment(**more),
            text=True,
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self.log: list[str] = []
        self._reading = threading.Thread(target=self._read, daemon=True)
        self._reading.start()
        self.port = int(self.said(r"listening on 127\.0\.0\.1:(\d+)").group(1))

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._lines.put(line)

    def said(self, pattern: str) -> re.Match[str]:
        """The next line of the log that matches."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.log.append(self._lines.get(timeout=max(0.0, end - time.monotonic())))
            except queue.Empty:
                pytest.fail(f"never said {pattern!r}, but {self.log}")
            if found := re.search(pattern, self.log[-1]):
                return found

    def get(self, path: str = "/metrics", **headers: str) -> tuple[int, str]:
        """Status and text of an answer."""
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)) as client:
            client.request("GET", path, headers=headers)
            answer = client.getresponse()
            return answer.status, answer.read().decode()

    def end(self, number: int = signal.SIGTERM, within: float = PATIENCE) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(timeout=within)

    def close(self) -> None:
        """Gone in any case."""
        self.process.kill()
        self.process.wait(timeout=PATIENCE)
        self._reading.join(PATIENCE)
        assert self.process.stderr is not None
        self.process.stderr.close()
        while not self._lines.empty():
            self.log.append(self._lines.get())


@contextlib.contextmanager
def exporter(*arguments: str, **more: str) -> Iterator[Exporter]:
    """One for a test."""
    made = Exporter(*arguments, **more)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def systemd(tmp_path: Path) -> Iterator[socket.socket]:
    """What listens at NOTIFY_SOCKET, which is ``notify`` in the test's folder."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(tmp_path / "notify"))
        listening.settimeout(PATIENCE)
        yield listening


def heard(systemd: socket.socket) -> dict[str, str]:
    """The next datagram."""
    return dict(line.split("=", 1) for line in systemd.recv(4096).decode().split("\n"))


def containers(text: str) -> set[str]:
    """The names in an exposition, which a parser of Prometheus' own understands."""
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {sample.labels["name"] for sample in families["nsinspect_container_info"].samples}


# -- it runs -----------------------------------------------------------------------------------------------------------


def test_it_serves_the_containers_of_its_root():
    """On a port of the kernel's choice, which the log tells; nothing is warned of, on loopback.

    SIGTERM ends it well within systemd's patience though clients hold connections: one that rests, one in the middle
    of a request and one that never spoke.
    """
    with exporter() as running, contextlib.ExitStack() as held:
        status, text = running.get()
        assert (status, containers(text)) == (200, NAMES)
        assert "process_resident_memory_bytes" in text
        assert running.get("/nothing")[0] == 404

        address = ("127.0.0.1", running.port)
        resting = held.enter_context(contextlib.closing(http.client.HTTPConnection(*address, timeout=PATIENCE)))
        resting.request("GET", "/-/healthy")
        assert resting.getresponse().read() == b"OK\n"
        speaking, silent = (held.enter_context(socket.create_connection(address, PATIENCE)) for _ in range(2))
        speaking.sendall(b"GET /metrics HT")
        assert running.get("/-/healthy") == (200, "OK\n")  # so that those before it have been accepted
        assert running.end(within=3) == 0
        assert silent.recv(1) == b""

    assert not re.search(r"level=(warning|error)|Traceback", "".join(running.log))


def test_a_host_that_is_too_busy_for_a_scrape_is_served():
    """The look at the start may take longer than a scrape, which says that it had too little time."""
    late = 'nsinspect_scrape_collector_success{collector="processes"} 0'
    with exporter("--scrape.timeout", "0.00001") as running:
        answers = [running.get()]
        # Whoever waits may be woken so late that the work is done after all.
        while late not in answers[-1][1] and len(answers) < 100:
            answers.append(running.get())

    assert {status for status, _ in answers} == {200}
    assert late in answers[-1][1]


def test_users_without_tls_are_warned_of_and_asked_for(tmp_path: Path):
    """The warning, one JSON object a line, says what is missing; the answer is 401; and SIGINT is no failure."""
    (tmp_path / "web.yml").write_text(json.dumps({"basic_auth_users": {"alice": HASH}}))
    with exporter("--log.format", "json", "--web.config.file", str(tmp_path / "web.yml")) as running:
        assert running.get()[0] == 401
        assert running.get(Authorization="Basic YWxpY2U6eA==")[0] == 200
        assert running.end(signal.SIGINT) == 0

    lines = [json.loads(line) for line in running.log]
    assert [line["level"] for line in lines] == ["info", "warning"]
    assert "passwords without encryption" in lines[1]["msg"]


# -- systemd -----------------------------------------------------------------------------------------------------------


def test_sighup_reads_the_configuration_again_and_a_bad_one_keeps_the_old(systemd: socket.socket, tmp_path: Path):
    """systemd hears of its start, of both reloads (the second would hang otherwise) and of its end."""
    config = tmp_path / "web.yml"

    def header(value: str) -> None:
        (tmp_path / "new.yml").write_text(json.dumps({"http_server_config": {"headers": {"X-Frame-Options": value}}}))
        (tmp_path / "new.yml").replace(config)

    def shown() -> str | None:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=PATIENCE)) as client:
            client.request("GET", "/-/healthy")
            return client.getresponse().getheader("X-Frame-Options")

    def reload() -> None:
        before = time.monotonic()
        running.process.send_signal(signal.SIGHUP)
        reloading = heard(systemd)
        assert list(reloading) == ["RELOADING", "MONOTONIC_USEC"]
        # In whole microseconds.
        assert before - 1e-6 <= int(reloading["MONOTONIC_USEC"]) / 1e6 <= time.monotonic()
        assert heard(systemd) == {"READY": "1"}

    header("first")
    with exporter("--web.config.file", str(config), NOTIFY_SOCKET=str(tmp_path / "notify")) as running:
        assert heard(systemd) == {"READY": "1", "STATUS": f"Listening on 127.0.0.1:{running.port}"}
        assert shown() == "first"
        header("second")
        reload()
        running.said("configuration read again")
        assert shown() == "second"
        header("")
        reload()
        running.said(r"level=error .*X-Frame-Options: expected a text, found ''.* stays in force")
        assert shown() == "second"
        assert running.end() == 0
        assert heard(systemd) == {"STOPPING": "1"}


def test_the_watchdog_is_fed_without_a_scrape_while_the_host_can_be_read(systemd: socket.socket, tmp_path: Path):
    """Again and again, by collecting itself; a timer would feed it for ever, whatever became of collecting."""
    root = Path(shutil.copytree(HOST, tmp_path / "host", symlinks=True))
    notify = str(tmp_path / "notify")
    with exporter("--path.rootfs", str(root), NOTIFY_SOCKET=notify, WATCHDOG_USEC="200000") as running:
        assert "READY" in heard(systemd)
        assert [heard(systemd) for _ in range(2)] == [{"WATCHDOG": "1"}] * 2
        (root / "proc").rename(root / "elsewhere")
        running.said("level=error .*cannot be opened as a directory")
        # What was fed before is read away; a second error means a second attempt, and nothing was fed between.
        systemd.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while systemd.recv(4096):
                pass
        running.said("level=error .*cannot be opened as a directory")
        with pytest.raises(BlockingIOError):
            systemd.recv(4096)
        (root / "elsewhere").rename(root / "proc")
        systemd.settimeout(PATIENCE)
        assert heard(systemd) == {"WATCHDOG": "1"}
        assert running.end() == 0


# Puts descriptor argv[1] where systemd puts it, and then becomes the exporter.
PASS = (
    "import os, sys; os.dup2(int(sys.argv[1]), 3, inheritable=True); "
    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
)


def passed(fd: int, *more: str) -> list[str]:
    """The command that is given a descriptor as systemd gives it."""
    return [sys.executable, "-I", "-S", "-c", PASS, str(fd), *command("--web.systemd-socket", *more)]


def test_a_socket_that_systemd_opened_is_served(systemd: socket.socket, tmp_path: Path):
    """And not the address that is the default."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port = listening.getsockname()[1]
        running = subprocess.Popen(
            passed(listening.fileno()),
            pass_fds=[listening.fileno()],
            stderr=subprocess.PIPE,
            env=environment(NOTIFY_SOCKET=str(tmp_path / "notify")),
        )
    try:
        assert heard(systemd)["STATUS"] == f"Listening on 127.0.0.1:{port}"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)) as client:
            client.request("GET", "/-/ready")
            assert client.getresponse().read() == b"OK\n"
        running.terminate()
        assert running.wait(PATIENCE) == 0
    finally:
        running.kill()
        running.communicate(timeout=PATIENCE)


@pytest.mark.parametrize("kind", ["file", "not listening"])
def test_what_systemd_passed_and_is_no_listening_socket_is_refused(kind: str):
    """Exit 2 and one line; it would be deaf for ever."""
    with contextlib.ExitStack() as stack:
        if kind == "file":
            fd = stack.enter_context(Path(os.devnull).open("rb")).fileno()
        else:
            one = stack.enter_context(socket.socket())
            one.bind(("127.0.0.1", 0))
            fd = one.fileno()
        process = subprocess.Popen(passed(fd), pass_fds=[fd], stderr=subprocess.PIPE, env=environment(), text=True)
    bound = threading.Timer(PATIENCE, process.kill)
    bound.start()
    said = []
    try:
        assert process.stderr is not None
        for line in process.stderr:
            said.append(line)
            if "listening on" in line:
                pytest.fail("it serves what nobody can connect to")
        assert process.wait(PATIENCE) == 2, "".join(said)
    finally:
        bound.cancel()
        process.kill()
        process.communicate(timeout=PATIENCE)

    assert "Traceback" not in "".join(said)
    assert re.match("nsinspect: .*expected ", said[-1])


# -- it does not start -------------------------------------------------------------------------------------------------


def test_a_port_in_use_is_2(ended: dict[str, Ended]):
    """With the address that cannot be had."""
    code, line = ended["in use"].refusal()

    assert code == 2
    assert re.fullmatch(r"nsinspect: --web\.listen-address 127\.0\.0\.1:[1-9]\d+: Address already in use", line)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("nonsense", "expected HOST:PORT"),
        ("", "expected HOST:PORT"),
        ("127.0.0.1:", "expected HOST:PORT"),
        ("127.0.0.1:http", "expected HOST:PORT"),
        ("127.0.0.1:-1", "expected HOST:PORT"),
        ("127.0.0.1:99999", "expected HOST:PORT"),
        ("192.0.2.1:0", "Cannot assign requested address"),
        (f"{'x' * 64}.invalid:0", ""),
    ],
)
def test_a_bad_address_cannot_be_served(address: str, reason: str):
    """With the address and what is wrong with it; what was opened before it is closed again."""
    with pytest.raises(CannotServe) as caught:
        daemon._sockets(Flags(addresses=("127.0.0.1:0", address)))

    line = str(caught.value)
    assert line.startswith(f"--web.listen-address {address}: ")
    assert reason in line
    assert line.isprintable()
    # A socket that nobody closed is complained of now and not in another test.
    del caught
    gc.collect()


def test_a_bad_address_is_2(ended: dict[str, Ended]):
    """One line and no traceback."""
    code, line = ended["bad address"].refusal()

    assert code == 2
    assert line.startswith("nsinspect: --web.listen-address nonsense: ")
    assert line.endswith("expected HOST:PORT")


def test_no_socket_from_systemd_is_2(ended: dict[str, Ended]):
    """Started by hand with the flag of the unit."""
    code, line = ended["no socket"].refusal()

    assert code == 2
    assert re.fullmatch(r"nsinspect: .*expected .*listening socket.* from systemd.*, found none", line)


def test_a_bad_configuration_is_2(ended: dict[str, Ended]):
    """The name of a file that it names cannot write a second line."""
    code, line = ended["configuration"].refusal()

    assert code == 2
    assert "ts=forged" in line
    assert "expected a PEM certificate" in line


@pytest.mark.parametrize("which", ["no host", "no host for one"])
def test_a_root_that_is_no_host_is_6(ended: dict[str, Ended], which: str):
    """Both for the daemon and for one scrape."""
    assert ended[which].refusal()[0] == 6
    assert "/nothing/proc: cannot be opened as a directory" in ended[which].result()[2]


# -- one scrape --------------------------------------------------------------------------------------------------------


def test_once_prints_one_scrape_and_nothing_of_itself(ended: dict[str, Ended]):
    """For the textfile collector: this process is gone when it is read."""
    code, stdout, stderr = ended["once"].result()

    assert (code, stderr) == (0, "")
    assert containers(stdout) == NAMES
    assert not re.search(r"^(# \w+ )?(process|python)_", stdout, re.MULTILINE)
    assert "# EOF" not in stdout
    assert stdout.endswith("\n")
