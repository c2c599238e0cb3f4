"""Reading kernel files: real directories, real processes, real races."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from pyfakefs.fake_filesystem import FakeFilesystem

from nsinspect import kernfs
from nsinspect.errors import Malformed, RootError, Unreadable, Vanished
from nsinspect.kernfs import Directory, Roots
from nsinspect.procfs import parse_number, parse_stat


@pytest.fixture
def top(tmp_path: Path) -> Iterator[Directory]:
    """An open directory to put a tree into."""
    with Directory.root(str(tmp_path)) as directory:
        yield directory


def put(top: Directory, name: str, content: bytes) -> None:
    """Write a file below a directory, with the folders it needs."""
    path = Path(top.path, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits until it is killed."""
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        yield process
        process.kill()


# -- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 4095, 4096, 4097, 65536, 200_000])
def test_a_file_is_read_whole_whatever_its_size(top: Directory, size: int) -> None:
    """No size that fills a buffer exactly loses a byte, in either way of reading."""
    content = bytes(i % 251 for i in range(size))
    put(top, "file", content)
    assert content == top.read("file")
    assert content == top.read_rendered("file")
    assert top.all_rendered(["file"]) == [content]


def test_a_file_of_many_records_is_read_to_its_end(top: Directory, monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel ends a read of mountinfo at a record, long before the end; only an empty read is the end."""
    put(top, "mountinfo", b"record\n" * 1000)
    read = kernfs._read
    monkeypatch.setattr(kernfs, "_read", lambda fd, size: read(fd, min(size, 7)))
    assert top.read("mountinfo") == b"record\n" * 1000


def test_our_own_mountinfo_is_read_whole() -> None:
    """What we read of a real multi-record file is what anybody reads of it."""
    with Directory.root("/proc/self") as me:
        assert Path("/proc/self/mountinfo").read_bytes() == me.read("mountinfo")


def test_a_missing_file_of_a_living_directory_is_none(top: Directory) -> None:
    """A controller that is not enabled here is no failure."""
    assert top.read("memory.max") is None
    assert top.read_rendered("memory.max") is None
    assert top.readlink(b"ns/net") is None


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names that are opened, in order."""
    found: list[str] = []
    real = kernfs._open

    def counting(name: str, flags: int, *, dir_fd: int) -> int:
        found.append(name)
        return real(name, flags, dir_fd=dir_fd)

    monkeypatch.setattr(kernfs, "_open", counting)
    return found


def test_several_files_are_read_at_once_and_one_that_is_absent_costs_no_other(
    top: Directory, opened: list[str]
) -> None:
    """A kernel without some control file would have all the others of each cgroup read twice."""
    names = ("a", "absent", "b")
    for name in ("a", "b"):
        Path(top.path, name).write_text(name)
    assert top.all_rendered(names) == [b"a", None, b"b"]
    assert opened == list(names)


def test_a_long_file_is_opened_once(top: Directory, opened: list[str]) -> None:
    """Fails where one that is longer than usual is read again from its beginning: of a process in 65,536 groups, and a
    user may have a thousand, the kernel wrote ``status`` down three times."""
    put(top, "status", b"x" * 400_000)
    assert top.read_rendered("status") == b"x" * 400_000
    assert top.all_rendered(["status"]) == [b"x" * 400_000]
    assert opened == ["status"] * 2


def test_a_file_too_large_to_be_had_at_once_is_left_to_who_asks_for_it(
    top: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who names it in an issue."""
    monkeypatch.setattr(kernfs, "MAX_BYTES", 10_000)
    put(top, "a", b"x" * 20_000)
    assert top.all_rendered(["a"]) is None
    with pytest.raises(Unreadable, match="larger than 10000 bytes"):
        top.read_rendered("a")


@pytest.mark.parametrize("number", [errno.EACCES, errno.ESRCH, errno.ENODEV, errno.EIO])
def test_what_cannot_be_had_at_once_is_left_to_who_asks_one_by_one(
    top: Directory, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refusing(*arguments: object, **options: object) -> int:
        raise OSError(number, "")

    monkeypatch.setattr(kernfs, "_open", refusing)
    assert top.all_rendered(("a",)) is None


def test_a_link_in_the_last_component_is_never_followed(top: Directory) -> None:
    """A captured host cannot make us read another file than the one asked for.  Fails without O_NOFOLLOW."""
    put(top, "secret", b"root:x")
    os.symlink("secret", f"{top.path}/stat")
    for read in (top.read, top.read_rendered):
        with pytest.raises(Unreadable):
            read("stat")


def test_a_linked_directory_is_never_entered(top: Directory) -> None:
    """A process or cgroup that is a link to somewhere else is not there.  Fails without O_NOFOLLOW."""
    os.symlink("/proc", f"{top.path}/1")
    with pytest.raises((Vanished, Unreadable)):
        top.open("1")


def test_links_that_lead_round_in_circles_end(top: Directory) -> None:
    """A loop is an unreadable file."""
    os.symlink("b", f"{top.path}/a")
    os.symlink("a", f"{top.path}/b")
    with pytest.raises(Unreadable):
        top.read("a/x")


def test_a_fifo_does_not_make_us_wait(top: Directory) -> None:
    """A FIFO without a writer reads as empty at once.  Fails without O_NONBLOCK."""
    os.mkfifo(f"{top.path}/stat")
    assert top.read("stat") == b""
    assert top.read_rendered("stat") == b""


def test_a_fifo_with_a_silent_writer_does_not_make_us_wait(top: Directory) -> None:
    """A FIFO whose writer says nothing is unreadable at once."""
    os.mkfifo(f"{top.path}/stat")
    writer = os.open(f"{top.path}/stat", os.O_RDWR)
    try:
        with pytest.raises(Unreadable):
            top.read("stat")
    finally:
        os.close(writer)


def test_a_directory_in_place_of_a_file_is_unreadable(top: Directory) -> None:
    """A folder called stat holds no facts."""
    os.mkdir(f"{top.path}/stat")
    with pytest.raises(Unreadable, match="stat: "):
        top.read("stat")


def test_a_file_in_place_of_a_directory_is_no_process(top: Directory) -> None:
    """A file called 1 is no process that could be opened."""
    put(top, "1", b"")
    with pytest.raises(Vanished):
        top.open("1")


def test_a_file_without_end_is_refused(top: Directory) -> None:
    """Nothing legitimate is larger than the limit, and memory is not for an attacker to fill.  Fails without a
    bound."""
    put(top, "status", b"x" * 1000)
    with pytest.raises(Unreadable, match="larger than 999 bytes"):
        top.read("status", limit=999)
    assert top.read("status", limit=1000) == b"x" * 1000


def test_a_complaint_of_a_parser_gets_the_name_of_the_file(top: Directory) -> None:
    """The parser knows what is wrong, the directory knows where."""
    with pytest.raises(Malformed) as caught:
        top.parsed("cpu.weight", b"heavy\n", parse_number)
    assert caught.value.path == f"{top.path}/cpu.weight"
    assert top.parsed("cpu.weight", None, parse_number) is None


@pytest.mark.parametrize("path", ["/nonexistent/nsinspect", "/proc/self/status", "", "a\0b"])
def test_a_root_that_is_no_directory_is_refused(path: str) -> None:
    """A wrong flag stops at once and is told."""
    with pytest.raises(RootError, match="cannot be opened as a directory"):
        Directory.root(path)


def test_a_root_may_be_a_link(top: Directory) -> None:
    """A person may type a path that is a link; only what is below it may not be one."""
    put(top, "real/file", b"x")
    os.symlink("real", f"{top.path}/link")
    with Directory.root(f"{top.path}/link") as linked:
        assert linked.read("file") == b"x"


# -- cgroups that go away ------------------------------------------------------------------------------------------


def test_a_removed_directory_has_vanished(top: Directory) -> None:
    """What is missing because everything is missing is told apart from what is missing here."""
    put(top, "a/memory.max", b"max\n")
    with top.open("a") as held:
        assert held.alive()
        shutil.rmtree(f"{top.path}/a")
        assert not held.alive()
        for look in (lambda: held.read("memory.max"), lambda: held.readlink(b"x"), lambda: held.open("x")):
            with pytest.raises(Vanished):
                look()
    with pytest.raises(Vanished):
        top.open("a")


def test_a_successor_of_the_same_name_is_never_read(top: Directory) -> None:
    """A cgroup removed and made again under its old name is another one.  Fails without ``dir_fd``."""
    put(top, "a/memory.max", b"old\n")
    with top.open("a") as held:
        inode = held.inode()
        os.rename(f"{top.path}/a", f"{top.path}/was-a")
        shutil.rmtree(f"{top.path}/was-a")
        os.mkdir(f"{top.path}/spare")  # the old inode number must not be given out again
        put(top, "a/memory.max", b"new\n")
        with pytest.raises(Vanished):
            held.read("memory.max")
        with pytest.raises(Vanished):
            held.read_rendered("memory.max")
        assert held.entries() == []
        assert inode == held.inode()
        assert not held.alive()


def test_all_below_a_removed_tree_has_vanished(top: Directory) -> None:
    """A directory whose parent went away too is not taken for living."""
    put(top, "a/b/pids.max", b"1\n")
    with top.open("a") as outer, outer.open("b") as inner:
        shutil.rmtree(f"{top.path}/a")
        with pytest.raises(Vanished):
            inner.read("pids.max")


# -- processes that go away ----------------------------------------------------------------------------------------


def test_a_process_that_exited_has_vanished(child: subprocess.Popen[bytes]) -> None:
    """After it was reaped every question to the held directory is answered with Vanished, and nobody else's facts."""
    with Directory.root("/proc") as proc, proc.open(str(child.pid)) as held:
        stat = held.parsed("stat", held.read_rendered("stat"), parse_stat)
        assert (child.pid, os.getpid()) == (stat and stat.pid, stat and stat.ppid)
        child.kill()
        child.wait()
        for name in ("stat", "status", "cgroup", "mountinfo"):
            with pytest.raises(Vanished):
                held.read(name)
            with pytest.raises(Vanished):
                held.read_rendered(name)
        with pytest.raises(Vanished):
            held.readlink(b"ns/net")
        assert held.entries() == []
        with pytest.raises(Vanished):
            proc.open(str(child.pid))


def test_a_zombie_lives_and_has_no_namespaces(child: subprocess.Popen[bytes]) -> None:
    """A process that nobody reaped yet still has a stat, and its links are absent, not vanished."""
    with Directory.root("/proc") as proc, proc.open(str(child.pid)) as held:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        stat = held.parsed("stat", held.read_rendered("stat"), parse_stat)
        assert stat is not None
        assert stat.state == "Z"
        assert held.alive()
        for link in (b"ns/mnt", b"ns/net", b"ns/uts", b"ns/ipc"):
            assert held.readlink(link) is None


# -- roots ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("roots", "procfs", "cgroup", "live"),
    [
        pytest.param(Roots(), "/proc", "/sys/fs/cgroup/memory", True, id="this machine"),
        pytest.param(Roots(root="/host"), "/host/proc", "/host/sys/fs/cgroup/memory", False, id="a mounted host"),
        pytest.param(Roots(root="/."), "/./proc", "/sys/fs/cgroup/memory", True, id="spelt otherwise"),
        pytest.param(Roots(root="//"), "//proc", "//sys/fs/cgroup/memory", True, id="spelt with two slashes"),
        pytest.param(Roots(procfs_override="/p"), "/p", "/sys/fs/cgroup/memory", False, id="another procfs"),
        pytest.param(Roots(root="/h", cgroupfs_override="/c"), "/h/proc", "/c/memory", False, id="other cgroups"),
    ],
)
def test_every_path_of_the_host_starts_at_its_root(roots: Roots, procfs: str, cgroup: str, live: bool) -> None:
    """One value says where a host begins, and no module knows an absolute path."""
    assert live == roots.live
    assert procfs == roots.procfs
    assert cgroup == roots.cgroup("/sys/fs/cgroup/memory")


def test_a_cgroup_mount_elsewhere_is_not_moved_by_the_override() -> None:
    """``--cgroupfs`` replaces /sys/fs/cgroup and what is below it, not a sister of that name."""
    roots = Roots(root="/h", cgroupfs_override="/c")
    assert roots.cgroup("/sys/fs/cgroup") == "/c"
    assert roots.cgroup("/sys/fs/cgroup2") == "/h/sys/fs/cgroup2"
    assert roots.cgroup("/dev/cgroup/memory") == "/h/dev/cgroup/memory"


def test_a_kernels_own_file_system_is_known_wherever_it_is(top: Directory) -> None:
    """A host that is mounted somewhere is read as fast as this one; only in a copy a link may be anywhere."""
    put(top, "proc/1/stat", b"")
    with Roots(root=top.path, procfs_override="/proc").open_procfs() as proc, proc.open("self/task") as tasks:
        assert (type(proc), type(tasks)) == (Directory, Directory)
    with Roots(root=top.path).open_procfs() as proc, proc.open("1") as process:
        assert (type(proc), type(process)) == (kernfs.Copied, kernfs.Copied)


def test_a_removed_directory_of_a_copy_has_vanished(top: Directory) -> None:
    """As one of a kernel's."""
    put(top, "proc/1/stat", b"")
    with Roots(root=top.path).open_procfs() as proc, proc.open("1") as process:
        assert process.read("status") is None
        shutil.rmtree(process.path)
        with pytest.raises(Vanished):
            process.read("status")


def test_the_default_roots_are_this_machines_proc_and_cgroups(fs: FakeFilesystem) -> None:
    """With nothing given, /proc and /sys/fs/cgroup are read, relative to directories held open."""
    fs.create_file("/proc/1/stat", contents=b"1 (init) S 0")
    fs.create_file("/sys/fs/cgroup/memory/docker/memory.limit_in_bytes", contents=b"-1\n")
    roots = Roots()
    with Directory.root(roots.procfs) as proc, proc.open("1") as init:
        assert (proc.entries(), init.read_rendered("stat")) == (["1"], b"1 (init) S 0")
    with Directory.root(roots.cgroup("/sys/fs/cgroup/memory")) as memory, memory.open("docker") as docker:
        assert docker.read("memory.limit_in_bytes") == b"-1\n"
        assert docker.read("cpu.max") is None
