"""One table of what each errno means, exercised through every way of reading."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from nsinspect import kernfs
from nsinspect.errors import Denied, KernelError, Malformed, Unreadable, Vanished, meaning_of
from nsinspect.kernfs import Directory

# None: the object lives and has no such fact.
MEANINGS: dict[int, type[KernelError] | None] = {
    errno.ENOENT: None,
    errno.EOPNOTSUPP: None,
    errno.EINVAL: None,
    errno.ENOTDIR: None,
    errno.ESRCH: Vanished,
    errno.ENODEV: Vanished,
    errno.EACCES: Denied,
    errno.EPERM: Denied,
    errno.EIO: Unreadable,
    errno.ELOOP: Unreadable,
    errno.ENAMETOOLONG: Unreadable,
    errno.EMFILE: Unreadable,
    errno.ENFILE: Unreadable,
    errno.ENOMEM: Unreadable,
    errno.EAGAIN: Unreadable,
    errno.EISDIR: Unreadable,
    errno.ENXIO: Unreadable,
    errno.ESTALE: Unreadable,
}
EVERY_ERRNO = pytest.mark.parametrize(
    ("number", "expected"), [pytest.param(n, m, id=errno.errorcode[n]) for n, m in MEANINGS.items()]
)


@pytest.fixture
def cgroup(tmp_path: Path) -> Iterator[Directory]:
    """A directory that lives, with one file, one link and one directory below it."""
    (tmp_path / "cgroup" / "below").mkdir(parents=True)
    (tmp_path / "cgroup" / "file").write_bytes(b"content")
    (tmp_path / "cgroup" / "link").symlink_to("net:[1]")
    with Directory.root(str(tmp_path)) as top, top.open("cgroup") as directory:
        yield directory


def failing(number: int) -> object:
    """A system call that fails with ``number``."""

    def call(*arguments: object, **options: object) -> None:
        raise OSError(number, os.strerror(number))

    return call


def outcome(call: object, *arguments: object) -> type[KernelError] | None:
    """What a call gave instead of a fact; ``None`` where it gave "there is none"."""
    try:
        assert callable(call)
        assert call(*arguments) is None
    except KernelError as error:
        return type(error)
    return None


@EVERY_ERRNO
def test_an_errno_has_one_meaning(number: int, expected: type[KernelError] | None) -> None:
    """Absent, vanished, denied and unreadable are told apart in one place."""
    assert expected == meaning_of(number)


@pytest.mark.parametrize("number", [None, 0, 9999, 523])
def test_an_errno_nobody_knows_is_unreadable(number: int | None) -> None:
    """A new errno is a failure to be shown, never a silent absence."""
    assert meaning_of(number) is Unreadable


@EVERY_ERRNO
@pytest.mark.parametrize("call", ["_open", "_read"])
@pytest.mark.parametrize("method", ["read", "read_rendered"])
def test_reading_a_file_gives_the_meaning(
    number: int,
    expected: type[KernelError] | None,
    call: str,
    method: str,
    cgroup: Directory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It does not matter whether opening or reading fails, nor how the file is read."""
    monkeypatch.setattr(kernfs, call, failing(number))
    assert expected is outcome(getattr(cgroup, method), "file")


@EVERY_ERRNO
def test_reading_a_link_gives_the_meaning(
    number: int, expected: type[KernelError] | None, cgroup: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A namespace link is refused or missing by the same rules as a file; EINVAL is for what is no link."""
    monkeypatch.setattr(kernfs, "_readlink", failing(number))
    assert (Malformed if number == errno.EINVAL else expected) is outcome(cgroup.readlink, b"link")


@EVERY_ERRNO
def test_opening_a_directory_gives_the_meaning(
    number: int, expected: type[KernelError] | None, cgroup: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process or cgroup that is not there any more has vanished; otherwise the same rules hold."""
    monkeypatch.setattr(kernfs, "_open", failing(number))
    assert (expected or Vanished) is outcome(cgroup.open, "below")


@pytest.mark.parametrize(
    ("number", "expected"), [pytest.param(n, m, id=errno.errorcode[n]) for n, m in MEANINGS.items() if m]
)
def test_an_outcome_names_the_file_and_keeps_the_cause(
    number: int, expected: type[KernelError], cgroup: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message says which file, in the kernel's words, and the errno stays reachable."""
    monkeypatch.setattr(kernfs, "_open", failing(number))
    with pytest.raises(expected) as caught:
        cgroup.read("file")
    assert caught.value.path == f"{cgroup.path}/file"
    assert os.strerror(number) in str(caught.value)
    assert isinstance(caught.value.__cause__, OSError)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESRCH, errno.ENOENT])
def test_a_failed_read_leaves_no_descriptor_open(
    number: int, cgroup: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host full of failing files does not exhaust our descriptors."""
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(kernfs, "_read", failing(number))
    for _ in range(5):
        outcome(cgroup.read, "file")
        outcome(cgroup.read_rendered, "file")
    assert before == os.listdir("/proc/self/fd")


def test_a_missing_file_of_a_removed_directory_is_vanished(cgroup: Directory) -> None:
    """ENOENT means "no such fact" only while the object lives."""
    assert cgroup.read("missing") is None
    for name in ("file", "link"):
        os.unlink(f"{cgroup.path}/{name}")
    os.rmdir(f"{cgroup.path}/below")
    os.rmdir(cgroup.path)
    with pytest.raises(Vanished, match="gone while it was read"):
        cgroup.read("file")
