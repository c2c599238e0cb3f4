"""State files that the exporter may not read, and a process that may."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nsinspect.errors import Denied
from nsinspect.kernfs import Roots
from nsinspect.serve import lending
from nsinspect.serve.lending import Borrower, may_lend
from nsinspect.statefiles import Reader
from tests.links import a_users_link

ID = "0123456789abcdef" * 4


@contextlib.contextmanager
def lending_at(address: str) -> Iterator[None]:
    """A lender for a while."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()

        def lend() -> None:
            with contextlib.suppress(OSError):
                lending.lend(listening)

        thread = threading.Thread(target=lend)
        thread.start()
        try:
            yield
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            thread.join(10)
    os.unlink(address)


@pytest.fixture
def lender(tmp_path: Path) -> Iterator[str]:
    """A lender's address."""
    address = str(tmp_path / "lender.sock")
    with lending_at(address):
        yield address


@pytest.fixture
def allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder where everything is an engine's."""
    folder = tmp_path / "state"
    folder.mkdir()
    monkeypatch.setattr(lending, "may_lend", lambda path: path.startswith(f"{folder}/"))
    return folder


@pytest.mark.parametrize(
    "path",
    [
        f"/var/lib/docker/containers/{ID}/config.v2.json",
        f"/srv/moved/containers/{ID}/hostconfig.json",
        "/var/lib/containers/storage/overlay-containers/containers.json",
        f"/home/u/.local/share/containers/storage/vfs-containers/{ID}/userdata/config.json",
        "/var/lib/containers/storage/db.sql",
        "/run/containerd/runc/k8s.io/web/state.json",
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io/web/config.json",
        "/run/containerd/io.containerd.runtime.v2.task/k8s.io/web/init.pid",
        "/run/user/1000/crun/web/status",
        "/run/user/1000/runc",
        "/run/user",
        "/run/containerd/runc",
        "/run/docker/containerd/daemon/io.containerd.runtime.v2.task",
        "/run/systemd/nspawn/propagate",
        "/var/lib/lxc/box/config",
    ],
)
def test_what_engines_keep_is_lent(path: str):
    assert may_lend(path)


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "/etc/shadow",
        "/root/.docker/config.json",
        "/root/.ssh/id_ed25519",
        "/run",
        "/run/secrets/key",
        "/var/lib/docker",
        "/var/lib/docker/volumes/db/_data/dump.sql",
        f"/var/lib/docker/containers/{ID}/../../../../../etc/shadow",
        f"/var/lib/docker/containers/{ID}/{ID}-json.log",
        f"/var/lib/docker/containers/{ID}/config.v2.json/",
        f"/var/lib/docker/containers/{ID}/config.v2.json\n",
        "containers/x/config.v2.json",
        "/run/containerd/../../etc/state.json/../shadow",
        "/run//containerd/runc/a/b/state.json",
        "/proc/1/root/run/user",
        "/home/u/state.json",
    ],
)
def test_everything_else_is_not(path: str):
    assert not may_lend(path)


@given(st.text())
@example(f"/a/containers/{ID}/config.v2.json\0")
def test_no_path_that_is_lent_leads_anywhere_else(path: str):
    if may_lend(path):
        assert path == os.path.normpath(path)
        assert path.startswith("/")
        assert path.isprintable()


def test_a_lent_file_is_read(lender: str, allowed: Path):
    (allowed / "config.v2.json").write_text("{}")
    borrower = Borrower(lender)
    fd = borrower(str(allowed / "config.v2.json"))

    assert os.read(fd, 10) == b"{}"
    assert not os.get_inheritable(fd)
    os.close(fd)
    borrower.close()


def test_one_connection_serves_many_files_and_folders(lender: str, allowed: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lending, "_FOLDERS", lending.re.compile(f"{allowed}/folder"))
    (allowed / "folder").mkdir()
    (allowed / "folder/inside").touch()
    (allowed / "file").touch()
    borrower = Borrower(lender)
    for _ in range(3):
        os.close(borrower(str(allowed / "file")))
        fd = borrower(str(allowed / "folder"))
        assert os.listdir(fd) == ["inside"]
        os.close(fd)
    borrower.close()


def test_a_link_in_the_place_of_a_file_is_not_followed(lender: str, allowed: Path):
    """Fails without O_NOFOLLOW."""
    (allowed / "file").symlink_to("/etc/passwd")
    borrower = Borrower(lender)
    with pytest.raises(OSError) as caught:
        borrower(str(allowed / "file"))
    assert caught.value.errno == errno.ELOOP
    borrower.close()


def test_a_fifo_does_not_hold_the_lender_up(lender: str, allowed: Path):
    """Fails without O_NONBLOCK."""
    os.mkfifo(allowed / "file")
    borrower = Borrower(lender)
    os.close(borrower(str(allowed / "file")))
    borrower.close()


def test_a_link_of_a_user_leads_the_lender_to_nobody_elses_file(lender: str, allowed: Path, tmp_path: Path):
    """Fails where folders' links are followed whoever made them."""
    a_users_link(allowed / "containers", "/etc")
    borrower = Borrower(lender)
    with pytest.raises(OSError) as caught:
        borrower(str(allowed / "containers/passwd"))
    assert caught.value.errno == errno.ELOOP
    borrower.close()


def test_a_disk_that_does_not_answer_holds_up_who_asked_for_it_and_nobody_else(
    lender: str, allowed: Path, monkeypatch: pytest.MonkeyPatch
):
    """Whoever was left behind with it keeps its connection, so nobody is given the file that it waits for.  Fails where
    all have one connection, or one thread."""
    real, mended = lending.open_here, threading.Event()

    def dead(path: str, flags: int) -> int:
        if path.endswith("dead"):
            assert mended.wait(30)
        return real(path, flags)

    monkeypatch.setattr(lending, "open_here", dead)
    (allowed / "dead").write_text("dead")
    (allowed / "living").write_text("living")
    borrower, late = Borrower(lender), []
    waiting = threading.Thread(target=lambda: late.append(borrower(str(allowed / "dead"))))
    os.close(borrower(str(allowed / "living")))
    waiting.start()
    while borrower._idle:
        assert waiting.is_alive()
    found = borrower(str(allowed / "living"))
    borrower.close()
    mended.set()
    waiting.join(5)

    assert [os.read(fd, 10) for fd in (found, *late)] == [b"living", b"dead"]
    assert borrower._idle == []
    for fd in (found, *late):
        os.close(fd)


def test_where_no_thread_can_be_started_a_client_is_refused_and_later_ones_are_served(
    lender: str, allowed: Path, monkeypatch: pytest.MonkeyPatch
):
    """However often: whoever was refused takes nobody's place."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    (allowed / "file").touch()
    borrower = Borrower(lender)
    with monkeypatch.context() as crowded:
        crowded.setattr(threading.Thread, "start", none)
        for _ in range(lending._CLIENTS + 1):
            with pytest.raises(PermissionError, match="not lent"):
                borrower(str(allowed / "file"))

    os.close(borrower(str(allowed / "file")))
    borrower.close()


def test_there_is_an_end_to_clients_that_wait(lender: str, caplog: pytest.LogCaptureFixture):
    """Each of them is a thread."""
    with contextlib.ExitStack() as held:
        for _ in range(lending._CLIENTS):
            client = held.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
            client.connect(lender)
            client.send(b"x")
            assert client.recv(16) == str(errno.EPERM).encode()
        with pytest.raises(PermissionError, match="not lent"):
            Borrower(lender)("/run/user")
        assert "client is not served" in caplog.text


@pytest.mark.parametrize("path", ["/etc/shadow", "x", "\udcff", "/" + "a" * 4000], ids=ascii)
def test_what_is_not_lent_is_refused_and_the_next_is_answered(lender: str, path: str, monkeypatch: pytest.MonkeyPatch):
    """Fails without ``may_lend``."""
    # What is logged is no text that a report of this test could hold; tests/test_serve_logs.py is about that.
    monkeypatch.setattr(lending.log, "disabled", True)
    borrower = Borrower(lender)
    for _ in range(2):
        with pytest.raises(PermissionError):
            borrower(path)
    borrower.close()


def test_what_is_not_there_is_said_to_be_absent(lender: str, allowed: Path):
    borrower = Borrower(lender)
    with pytest.raises(FileNotFoundError):
        borrower(str(allowed / "nothing"))
    borrower.close()


def test_without_a_lender_the_file_stays_forbidden(tmp_path: Path):
    """Not absent: that would make unknown look like no such container."""
    with pytest.raises(PermissionError, match="not lent"):
        Borrower(str(tmp_path / "nobody"))("/run/user")


def test_a_lender_that_hangs_up_is_asked_again(tmp_path: Path, allowed: Path):
    address = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(address)
        listening.listen()
        borrower = Borrower(address)

        def hang_up() -> None:
            client, _ = listening.accept()
            client.recv(100)
            client.close()

        thread = threading.Thread(target=hang_up)
        thread.start()
        with pytest.raises(PermissionError, match="hung up"):
            borrower("/run/user")
        thread.join(5)
    os.unlink(address)
    (allowed / "file").touch()
    with lending_at(address):
        os.close(borrower(str(allowed / "file")))
        borrower.close()


@pytest.mark.parametrize("answer", [b"99999", b"9" * 16, b"-1", b"x"])
def test_an_answer_that_is_no_error_of_any_kernel_is_not_lent(answer: bytes):
    """Whoever is at that address."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        borrower = Borrower("")
        borrower._idle.append(ours)
        theirs.send(answer)
        with pytest.raises(PermissionError, match="not lent"):
            borrower("/run/user")


def test_a_reader_borrows_what_it_may_not_open_and_only_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "lent").write_text("lent")
    real, asked = os.open, []

    def forbidden(path: str, flags: int) -> int:
        if path.endswith("lent"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags)

    def borrow(path: str) -> int:
        asked.append(path)
        return real(path, os.O_RDONLY)

    monkeypatch.setattr(os, "open", forbidden)
    reader = Reader(Roots(), (), lambda _: None, borrow)

    assert reader.read(str(tmp_path / "mine")) == b"mine"
    assert reader.read(str(tmp_path / "lent")) == b"lent"
    assert asked == [str(tmp_path / "lent")]
    with pytest.raises(Denied):
        Reader(Roots(), (), lambda _: None).read(str(tmp_path / "lent"))
