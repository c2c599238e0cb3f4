"""A capture on a disk: written once and for nobody else, and read as what somebody else may have made of it."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import random
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import zstandard
from click.testing import Result

from nsinspect import bundle
from nsinspect.bundle import Archive, BundleError, Folder
from nsinspect.cli import cli
from nsinspect.verify import verify
from tests.looks import HOSTS, take
from tests.runner import runner

HOST = HOSTS / "podman-v2"
HERE = Path(__file__).parent
# A newline, a carriage return, a backslash, a byte that is no UTF-8, an escape, a name as long as a disk takes.
NAMES = ("a/b/plain", "a/new\nline", "a/re\rturn", "a/back\\slash", "a/\udcff\udcfe", "\x1b[2J", " ", "n" * 255)


def run(*arguments: str) -> Result:
    """The program, in this process."""
    return runner().invoke(cli, arguments, prog_name="nsinspect")


def in_one_line(answer: Result, code: int = 6) -> str:
    """What an answer complains of, which is one line and no traceback."""
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exc_info
    assert answer.exit_code == code, answer.output
    (line,) = answer.stderr.splitlines()
    assert line.startswith("nsinspect: ")
    assert line.isprintable()
    return line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A capture of a bundled host, which no test may change."""
    return take(HOST, tmp_path_factory.mktemp("folder") / "c")[1]


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as an archive."""
    return take(HOST, tmp_path_factory.mktemp("archive") / "c.tar.zst")[1]


@pytest.fixture
def copy(folder: Path, tmp_path: Path) -> Path:
    """A capture to damage."""
    return Path(shutil.copytree(folder, tmp_path / "copy", symlinks=True))


# -- writing -----------------------------------------------------------------------------------------------------------


def test_only_its_owner_may_read_it(folder: Path, archive: Path):
    """Whatever the umask says."""
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode):
            assert stat.S_IMODE(mode) == (0o700 if stat.S_ISDIR(mode) else 0o600), path
    assert stat.S_IMODE(archive.stat().st_mode) == 0o600
    with tarfile.open(fileobj=io.BytesIO(unpacked(archive))) as tar:
        assert {member.mode for member in tar if member.isreg()} == {0o600}


def test_a_generous_umask_gives_nobody_more(tmp_path: Path):
    before = os.umask(0)
    try:
        test_only_its_owner_may_read_it(take(HOST, tmp_path / "c")[1], take(HOST, tmp_path / "c.tar.zst")[1])
    finally:
        os.umask(before)


@pytest.mark.parametrize("name", ["c", "c.tar.zst"])
@pytest.mark.parametrize("what", ["folder", "empty folder", "file", "link", "dangling link", "fifo"])
def test_what_is_there_stays_as_it_is(tmp_path: Path, name: str, what: str):
    """Refused in one line; a link is not followed, even where it leads to nothing."""
    output, elsewhere = tmp_path / name, tmp_path / "elsewhere"
    if what.endswith("folder"):
        output.mkdir()
    elif what == "file":
        output.write_bytes(b"precious")
    elif what == "fifo":
        os.mkfifo(output)
    else:
        output.symlink_to(elsewhere)
    if what == "folder":
        (output / "precious").touch()
    if what == "link":
        elsewhere.mkdir()
    before = sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*"))

    line = in_one_line(run("--root", str(HOST), "capture", "-o", str(output)))

    assert line == f"nsinspect: {output}: File exists"
    assert sorted((path, path.lstat().st_mtime_ns) for path in tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", ["no/such/c", "no/such/c.tar.zst", "file/c", "file/c.tar.zst", "n" * 300])
def test_where_nothing_can_be_made_is_said_in_one_line(tmp_path: Path, name: str):
    (tmp_path / "file").touch()
    in_one_line(run("--root", str(HOST), "capture", "-o", str(tmp_path / name)))


@pytest.mark.parametrize("name", ["c.tar", "c.tgz", "c.tar.gz", "c.zst", "c.zip"])
def test_a_name_that_promises_something_else_is_refused(tmp_path: Path, name: str):
    answer = run("--root", str(HOST), "capture", "-o", str(tmp_path / name))
    assert answer.exit_code == 2
    assert "expected a new directory or a name that ends in .tar.zst" in answer.stderr
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("name", ["c", "c.tar.zst"])
def test_a_host_that_is_none_leaves_nothing_behind(tmp_path: Path, name: str):
    """Else the next try, with the right root, would find its output there."""
    (tmp_path / "nothing").mkdir()
    in_one_line(run("--root", str(tmp_path / "nothing"), "capture", "-o", str(tmp_path / name)))
    assert not (tmp_path / name).exists()


def test_nothing_is_written_twice_or_through_a_link(tmp_path: Path):
    sink, outside = Folder(str(tmp_path / "c")), tmp_path / "outside"
    outside.mkdir()
    sink.file("a/file", b"1")
    sink.link("a/link", os.fsencode(outside / "x"))
    sink.link("folder", os.fsencode(outside))
    for name in ("a/file", "a/link", "folder/x", "a/file/x"):
        with pytest.raises(OSError):
            sink.file(name, b"2")
    with pytest.raises(FileExistsError):
        sink.link("a/file", b"elsewhere")
    sink.close()
    assert (tmp_path / "c/a/file").read_bytes() == b"1"
    assert list(outside.iterdir()) == []


def summed(path: Path, names: dict[str, bytes]) -> None:
    """A capture's files and sums, with names that we choose."""
    sink = Folder(str(path))
    lines = b""
    for name, data in names.items():
        sink.file(name, data)
        lines += bundle.sums_line(hashlib.sha256(data).hexdigest(), os.fsencode(name))
    sink.file(bundle.SUMS, lines)
    sink.close()


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum here")
def test_sha256sum_accepts_the_sums_whatever_the_names(folder: Path, tmp_path: Path):
    """And finds what was altered."""
    summed(tmp_path / "odd", {name: name.encode("utf-8", "surrogateescape") for name in NAMES})
    for path, count in (
        (tmp_path / "odd", len(NAMES)),
        (folder, len((folder / "SHA256SUMS").read_bytes().splitlines())),
    ):
        done = subprocess.run(["sha256sum", "--strict", "-c", "SHA256SUMS"], cwd=path, capture_output=True, check=False)
        assert done.returncode == 0, done
        assert done.stderr == b""
        assert done.stdout.count(b": OK\n") == count
    (tmp_path / "odd/a/back\\slash").write_bytes(b"altered")
    done = subprocess.run(["sha256sum", "-c", "SHA256SUMS"], cwd=tmp_path / "odd", capture_output=True, check=False)
    assert done.returncode == 1
    assert done.stdout.count(b": FAILED\n") == 1


@pytest.mark.skipif(shutil.which("zstd") is None or shutil.which("tar") is None, reason="no zstd or no tar here")
def test_other_programs_unpack_an_archive(archive: Path, tmp_path: Path):
    """tar and zstd; what comes out is what a folder would have been, and sha256sum accepts it."""
    subprocess.run(["tar", "--zstd", "-xf", str(archive), "-C", str(tmp_path)], check=True)
    assert verify(str(tmp_path)).problems == ()
    subprocess.run(["sha256sum", "--quiet", "--strict", "-c", "SHA256SUMS"], cwd=tmp_path, check=True)


def test_an_archive_keeps_any_name_and_any_link(tmp_path: Path):
    path = tmp_path / "c.tar.zst"
    sink = Archive.create(str(path))
    for name in NAMES:
        sink.file(name, name.encode("utf-8", "surrogateescape"))
    sink.link("l\udcff", b"/\xff\n" + b"x" * 200)
    sink.close()
    found = {item.name: item.target or (item.data and item.data.read()) for item in bundle.items(str(path))}
    assert found == {name: os.fsencode(name) for name in NAMES} | {"l\udcff": b"/\xff\n" + b"x" * 200}


def test_an_archive_goes_to_stdout(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "-m", "nsinspect", "--root", str(HOST), "capture", "-o", "-"],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    (tmp_path / "c.tar.zst").write_bytes(done.stdout)
    said, seal = done.stderr.decode().splitlines()
    assert "files kept in stdout, 0 could not be read" in said
    assert verify(str(tmp_path / "c.tar.zst"), seal.rpartition(" ")[2]).problems == ()


def test_an_archive_to_a_reader_that_goes_away_says_so_in_one_line():
    done = subprocess.run(
        f"{sys.executable} -m nsinspect --root {HOST} capture -o - | true; exit ${{PIPESTATUS[0]}}",
        shell=True,
        executable="/bin/bash",
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(HERE.parent)},
    )
    # Where the pipe took all of it before anybody noticed, it was written.
    if done.returncode != 0:
        assert done.returncode == 6
        assert done.stderr == b"nsinspect: -: Broken pipe: the capture is not complete\n"


# -- a disk that is full -----------------------------------------------------------------------------------------------


@contextmanager
def small_disk(path: Path, size: str) -> Iterator[Path]:
    """A file system that is soon full."""
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(path)], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", str(path)], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
@pytest.mark.parametrize("name", ["c", "c.tar.zst"])
def test_a_disk_that_is_full_is_said_in_one_line(tmp_path: Path, name: str):
    with small_disk(tmp_path / "disk", "8k") as disk:
        done = subprocess.run(
            [sys.executable, "-m", "nsinspect", "--root", str(HOST), "capture", "-o", str(disk / name)],
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        )
        assert done.returncode == 6
        told = f"nsinspect: {disk / name}: No space left on device: the capture is not complete\n"
        assert done.stderr.decode() == told
        assert done.stdout == b""
        if name == "c":
            assert not bundle.is_capture(str(disk / name))


@pytest.mark.parametrize("method", ["file", "link"])
@pytest.mark.parametrize("number", [1, 2, 10, 30, -2, -1])
def test_a_disk_that_is_full_at_any_moment_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: Path, method: str, number: int
):
    """Nobody on the way takes it for something that could not be read."""
    real: Callable[..., None] = getattr(Folder, method)
    kept = [path for path in folder.rglob("*") if path.is_symlink() == (method == "link") and not path.is_dir()]
    calls = 0

    def full(self: Folder, *arguments: object) -> None:
        nonlocal calls
        calls += 1
        if calls == number % (len(kept) + 1):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self, *arguments)

    monkeypatch.setattr(Folder, method, full)
    line = in_one_line(run("--root", str(HOST), "capture", "-o", str(tmp_path / "c")))
    assert line.endswith("No space left on device: the capture is not complete")


# -- reading -----------------------------------------------------------------------------------------------------------


def unpacked(archive: Path) -> bytes:
    """The tar in an archive."""
    return zstandard.ZstdDecompressor().stream_reader(io.BytesIO(archive.read_bytes())).readall()


def packed(path: Path, data: bytes) -> Path:
    """An archive of whatever bytes, compressed as ours are; the end of an empty tar comes after them."""
    path.unlink(missing_ok=True)
    sink = Archive.create(str(path))
    sink._zstd.write(data)
    sink.close()
    return path


def tarred(path: Path, *members: tuple[tarfile.TarInfo, bytes], after: bytes = b"") -> Path:
    """An archive of members that no capture has."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for member, data in members:
            tar.addfile(member, io.BytesIO(data))
    return packed(path, out.getvalue() + after)


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, target: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """One thing in a tar."""
    one = tarfile.TarInfo(name)
    one.size, one.type, one.linkname = len(data), kind, target
    return one, data


def refused(path: Path, *others: str) -> str:
    """What every command says that is given a capture it cannot read: the same way, in one line."""
    said = in_one_line(run("verify", str(path)))
    for command in (("list",), ("show", "web"), ("diff", str(path), str(path)), *[(one,) for one in others]):
        root = () if command[0] == "diff" else ("--root", str(path))
        in_one_line(run(*root, *command))
    return said


def test_both_forms_hold_the_same(folder: Path, archive: Path):
    names = [{item.name for item in bundle.items(str(path))} for path in (folder, archive)]
    assert names[0] == names[1]
    assert run("--root", str(folder), "list").output == run("--root", str(archive), "list").output
    for path in (folder, archive):
        assert bundle.is_capture(str(path))
        assert json.loads(bundle.read(str(path), bundle.SNAPSHOT))["version"] == 1


def test_a_capture_behind_a_link_is_a_capture(folder: Path, archive: Path, tmp_path: Path):
    """As cases/current often is; only links inside of one are not followed."""
    for path in (folder, archive):
        link = tmp_path / path.name
        link.symlink_to(path)
        assert run("--root", str(link), "list").exit_code == 0
        answer = run("verify", str(link))
        assert answer.exit_code == 0, answer.output


def test_links_out_of_a_capture_are_not_followed(copy: Path, tmp_path: Path):
    """Fails without O_NOFOLLOW."""
    secret = tmp_path / "secret"
    secret.write_text('{"version": 1, "files": [], "PRECIOUS": 1}')
    for name in (bundle.SNAPSHOT, bundle.MANIFEST):
        (copy / name).unlink()
        (copy / name).symlink_to(secret)
        answer = run("--root", str(copy), "list")
        assert "PRECIOUS" not in answer.output
    line = in_one_line(run("--root", str(copy), "list"))
    assert "Too many levels of symbolic links" in line
    assert "found no" in in_one_line(run("verify", str(copy)))


def test_a_folder_that_became_a_link_is_a_link(copy: Path, folder: Path):
    """Though it leads to the very same files.  Fails where links to folders are gone into."""
    shutil.rmtree(copy / "proc")
    (copy / "proc").symlink_to(folder / "proc")
    problems = dict(verify(str(copy)).problems)
    assert problems["proc"] == "altered: a link to somewhere else"
    assert problems["proc/meminfo"] in ("missing", "altered: it has other lines than there are files")


def test_a_folder_that_cannot_be_opened_is_said(copy: Path, monkeypatch: pytest.MonkeyPatch):
    """What is in it would else be missing without a word."""
    real = os.open

    def refused(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == "sys":
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(bundle.os, "open", refused)
    with pytest.raises(BundleError, match=rf"^{re.escape(str(copy))}: 'sys': Permission denied$"):
        list(bundle.items(str(copy)))


@pytest.mark.parametrize("what", ["fifo", "device", "socket", "folder"])
@pytest.mark.parametrize("name", [bundle.SNAPSHOT, bundle.MANIFEST, "proc/meminfo"])
def test_what_is_no_file_is_not_waited_for(copy: Path, what: str, name: str):
    """Fails without O_NONBLOCK."""
    (copy / name).unlink()
    if what == "fifo":
        os.mkfifo(copy / name)
    elif what == "device":
        if os.geteuid() != 0:
            pytest.skip("only root makes devices")
        os.mknod(copy / name, stat.S_IFCHR | 0o600, os.makedev(1, 3))
    elif what == "socket":
        os.mknod(copy / name, stat.S_IFSOCK | 0o600)
    else:
        (copy / name).mkdir()
    if name == "proc/meminfo":
        assert name in dict(verify(str(copy)).problems)
    else:
        in_one_line(run("verify", str(copy)))
        if name == bundle.SNAPSHOT:
            in_one_line(run("--root", str(copy), "list"))


@pytest.mark.parametrize("words", [("verify",), ("--root",), ("diff",)])
def test_a_fifo_that_is_called_like_an_archive_is_not_waited_for(tmp_path: Path, words: tuple[str, ...]):
    """Fails without O_NONBLOCK and the look at what was opened: nobody ever writes to it."""
    path = str(tmp_path / "c.tar.zst")
    os.mkfifo(path)
    rest = {"verify": (), "--root": ("list",), "diff": (path,)}[words[0]]
    in_one_line(run(*words, path, *rest))


def test_millions_of_members_take_no_room(tmp_path: Path):
    """Fails where tarfile keeps them: an archive of a few kilobytes would fill the memory."""
    header = member("x")[0].tobuf()
    path = packed(tmp_path / "c.tar.zst", header * 10_000 + bytes(1024))
    tracemalloc.start()
    try:
        assert sum(1 for _ in bundle.items(str(path))) == 10_000
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2 << 20


def test_a_tree_that_is_deeper_than_any_is_refused(copy: Path):
    """And not by running out of stack or descriptors without a word."""
    top = os.open(copy, os.O_RDONLY)
    fd = top
    for _ in range(1100):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        answer = run("verify", str(copy))
        assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
        assert answer.exit_code in (1, 6)
    finally:
        subprocess.run(["rm", "-rf", str(copy)], check=True)


def test_names_that_lead_out_are_only_names(archive: Path, tmp_path: Path):
    """Nothing is ever unpacked, so there is nothing to lead out of; they are named, safely.  Fails without
    ``safe.text`` in what ``verify`` says."""
    names = ["../../etc/passwd", "/etc/shadow", "a/../../b", "\x1b[2J"]
    whole = io.BytesIO(unpacked(archive))
    out = io.BytesIO()
    with tarfile.open(fileobj=whole) as old, tarfile.open(fileobj=out, mode="w") as new:
        for one in old:
            new.addfile(one, old.extractfile(one) if one.isreg() else None)
        for name in names:
            new.addfile(member(name, b"x")[0], io.BytesIO(b"x"))
    path = packed(tmp_path / "c.tar.zst", out.getvalue())
    before = sorted(tmp_path.rglob("*"))
    answer = run("verify", str(path))
    assert answer.exit_code == 1
    assert "\x1b" not in answer.output
    assert "\\x1b[2J: added" in answer.output
    for name in names[:3]:
        assert f"{name}: added: the manifest does not know it" in answer.output
    assert sorted(tmp_path.rglob("*")) == before
    assert run("--root", str(path), "list").exit_code == 0


@pytest.mark.parametrize(
    "kind",
    [tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, tarfile.FIFOTYPE, tarfile.SYMTYPE, tarfile.DIRTYPE, b"Z"],
)
def test_what_is_no_file_in_a_tar_is_never_the_snapshot(tmp_path: Path, kind: bytes):
    path = tarred(
        tmp_path / "c.tar.zst",
        *(member(name, kind=kind, target="/etc/passwd") for name in (bundle.SNAPSHOT, bundle.MANIFEST, bundle.SUMS)),
    )
    line = refused(path)
    assert "expected a capture, found no" in line or "damaged" in line


def test_what_is_there_twice_is_named(archive: Path, tmp_path: Path):
    """A reader of the first and a reader of the last would see different captures."""
    whole = unpacked(archive)
    with tarfile.open(fileobj=io.BytesIO(whole)) as tar:
        members = [(one, tar.extractfile(one).read() if one.isreg() else b"") for one in tar]  # type: ignore[union-attr]
    for name in (bundle.SNAPSHOT, bundle.SUMS, "proc/meminfo", "proc/1/ns/net"):
        again = next(one for one in members if one[0].name == name)
        path = tarred(tmp_path / f"{name.replace('/', '-')}.tar.zst", *members, again)
        assert (name, "there twice") in verify(str(path)).problems


@pytest.mark.parametrize("limit", ["MAX_FILES", "MAX_FILE", "MAX_BYTES"])
def test_what_is_larger_than_any_capture_is_not_read_on(
    folder: Path, archive: Path, monkeypatch: pytest.MonkeyPatch, limit: str
):
    """Fails without bounds."""
    monkeypatch.setattr(bundle, limit, 20)
    for path in (folder, archive):
        line = in_one_line(run("verify", str(path)))
        assert "larger than any capture" in line


class Counting:
    """A decompressor, and its stream, that knows how much came out of it."""

    real = zstandard.ZstdDecompressor
    count = 0

    def __init__(self, **options: int) -> None:
        self._options = options

    def stream_reader(self, *arguments: Any, **options: Any) -> Counting:
        self._stream = self.real(**self._options).stream_reader(*arguments, **options)
        return self

    def read(self, size: int = -1) -> bytes:
        data: bytes = self._stream.read(size)
        Counting.count += len(data)
        return data

    def __enter__(self) -> Counting:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()


@pytest.mark.parametrize("where", ["file", "after the end", "extended header", "long name"])
def test_a_bomb_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str):
    """Zeroes without end cost nothing to store, wherever they are.  Fails without bounds on files and headers."""
    monkeypatch.setattr(bundle, "MAX_FILE", 1 << 20)
    monkeypatch.setattr(bundle, "MAX_BYTES", 2 << 20)
    huge = bytes(12 << 20)
    path = tmp_path / "c.tar.zst"
    if where == "after the end":
        tarred(path, member("x"), after=huge)
    else:
        kinds = {"file": tarfile.REGTYPE, "extended header": tarfile.XHDTYPE, "long name": tarfile.GNUTYPE_LONGNAME}
        tarred(path, member("x", huge, kind=kinds[where]), member("y"))
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(zstandard, "ZstdDecompressor", Counting)
    Counting.count = 0
    with pytest.raises(BundleError):
        verify(str(path))
    assert Counting.count < 4 << 20


def test_an_archive_that_was_cut_short_anywhere_is_damaged(archive: Path, tmp_path: Path):
    """In the last byte too: the checksum is there."""
    data = archive.read_bytes()
    path = tmp_path / "c.tar.zst"
    unnoticed, said = [], set()
    cuts = {0, 1, 4, 5, 20, *range(len(data) - 8, len(data)), *random.Random(1).sample(range(len(data)), 12)}
    for cut in sorted(cuts):
        path.write_bytes(data[:cut])
        try:
            verify(str(path))
        except BundleError as error:
            said.add(str(error).startswith(f"{path}: "))
        else:
            unnoticed.append(len(data) - cut)
    assert unnoticed == []
    assert said == {True}


def test_an_archive_with_something_after_its_end_is_damaged(archive: Path, tmp_path: Path):
    """What another program would unpack too, or nobody reads."""
    path = tmp_path / "c.tar.zst"
    more = tarred(tmp_path / "more.tar.zst", member("proc/more", b"x")).read_bytes()
    for after in (b"\0", b"x", more):
        path.write_bytes(archive.read_bytes() + after)
        with suppress(BundleError):
            assert verify(str(path)).problems != ()


def test_headers_that_are_none_are_said_in_one_line(archive: Path, tmp_path: Path):
    """Whatever tarfile makes of them."""
    whole = unpacked(archive)
    chance = random.Random(7)
    for _ in range(30):
        data = bytearray(whole[: 1 << 16])
        for _ in range(chance.choice((1, 3, 20))):
            data[chance.randrange(0, len(data), 512) + chance.randrange(0, 512)] = chance.randrange(256)
        path = packed(tmp_path / "c.tar.zst", bytes(data))
        with suppress(BundleError):
            verify(str(path))


@pytest.mark.parametrize(
    "header",
    [
        {"size": "-1"},
        {"size": "9" * 40},
        {"size": "nan"},
        {"mtime": "inf"},
        {"GNU.sparse.map": "x"},
        {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.realsize": "9" * 30},
        {"GNU.sparse.size": "-5"},
        {"hdrcharset": "nonsense", "path": "\udcff"},
        {"path": "/" * 70_000},
    ],
)
def test_extended_headers_that_lie_are_said_in_one_line(tmp_path: Path, header: dict[str, str]):
    one, data = member("x", b"data")
    one.pax_headers = header
    path = tarred(tmp_path / "c.tar.zst", (one, data), member("y"))
    refused(path)


@pytest.mark.parametrize("data", [b"", b"x", b"\x28\xb5\x2f\xfd", bytes(4096), b"PK\x03\x04"])
def test_what_is_no_archive_says_so_in_one_line(tmp_path: Path, data: bytes):
    path = tmp_path / "c.tar.zst"
    path.write_bytes(data)
    refused(path)


def test_a_capture_is_read_where_there_is_little_memory(folder: Path, archive: Path):
    """What it may hold at most is not asked of the machine beforehand: an analyst's may be small."""
    for path in (folder, archive):
        done = subprocess.run(
            f"ulimit -v 600000; exec {sys.executable} -m nsinspect --root {path} list",
            shell=True,
            capture_output=True,
            check=False,
            env={**os.environ, "PYTHONPATH": str(HERE.parent)},
        )
        assert done.returncode == 0, done.stderr


def test_an_archive_that_wants_more_memory_than_is_reasonable_is_refused(archive: Path, tmp_path: Path):
    """Although it is a capture otherwise.  Fails without both the frame's head and ``max_window_size``."""
    whole = unpacked(archive)
    path = tmp_path / "c.tar.zst"
    for window, refuses in ((bundle._WINDOW_LOG, False), (24, True)):
        how = zstandard.ZstdCompressionParameters.from_level(1, window_log=window, write_checksum=True)
        with zstandard.ZstdCompressor(compression_params=how).stream_writer(path.open("wb")) as writer:
            writer.write(whole)
        if refuses:
            refused(path)
        else:
            assert run("verify", str(path)).exit_code == 0


@pytest.mark.parametrize("what", ["missing", "file", "empty folder", "fifo.tar.zst"])
def test_what_is_no_capture_says_so_in_one_line(tmp_path: Path, what: str):
    path = tmp_path / what.replace(" ", "-")
    if what == "file":
        path.write_text("x")
    elif what == "empty folder":
        path.mkdir()
    elif what == "fifo.tar.zst":
        os.mkfifo(path)
    if what != "fifo.tar.zst":
        in_one_line(run("verify", str(path)))
    in_one_line(run("diff", str(path), "live"))
