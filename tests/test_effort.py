"""A table that somebody made slow or long costs its own facts, and those of others only where all are like that."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from nsinspect import effort, kernfs
from nsinspect.effort import Effort, Purse
from nsinspect.errors import Unreadable
from nsinspect.kernfs import Directory


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Directory]:
    """Tables of some pages."""
    for pages in (1, 3, 10, 100):
        (tmp_path / f"{pages}").write_bytes(b"x" * 4096 * pages)
    with Directory.root(str(tmp_path)) as directory:
        yield directory


@pytest.fixture
def second_a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel that writes a page at a time, and takes a second for it."""
    now, read = 0.0, kernfs._read

    def slow(fd: int, size: int) -> bytes:
        nonlocal now
        now += 1.0
        return read(fd, min(size, 4096))

    monkeypatch.setattr(kernfs, "_read", slow)
    monkeypatch.setattr(effort, "_clock", lambda: now)


def outcomes(one: Effort, folder: Directory, *pages: int) -> list[int | str]:
    """How much of each was had, or why none."""
    found: list[int | str] = []
    for number in pages:
        try:
            found.append(len(one.read(folder, str(number)) or b"") // 4096)
        except Unreadable as error:
            found.append(error.detail)
    return found


def slow(seconds: float) -> str:
    """What is said of a table that takes longer."""
    return f"the kernel takes more than {seconds:g} s of our processor to write it"


@pytest.mark.usefixtures("second_a_page")
def test_a_slow_table_is_given_up_and_an_ordinary_one_is_always_read(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without ``SECONDS``: mounts upon mounts took minutes, of every command and at each scrape."""
    monkeypatch.setattr(effort, "SECONDS", Purse(each=8, together=20, least=3.5))
    found = outcomes(Effort(), folder, 3, 100, 100, 100, 3, 3, 10)
    assert found == [3, slow(8), slow(7), slow(3.5), 3, 3, slow(3.5)]


@pytest.mark.usefixtures("second_a_page")
def test_what_may_take_longer_has_as_much_more_of_everything(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For a capture: evidence is read once."""
    monkeypatch.setattr(effort, "SECONDS", Purse(each=8, together=20, least=3.5))
    assert outcomes(Effort(10), folder, 10, 10, 100) == [10, 10, slow(80)]


def test_a_long_table_is_given_up_and_an_ordinary_one_is_always_read(
    folder: Directory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fails without ``BYTES``: those of 100,000 mounts filled our memory with ten times their length."""
    page = 4096
    monkeypatch.setattr(effort, "BYTES", Purse(each=50 * page, together=60 * page, least=3 * page))
    ordinary, long = f"larger than {3 * page} bytes", f"larger than {50 * page} bytes"
    assert outcomes(Effort(), folder, 10, 100, 100, 10, 3, 1) == [10, long, ordinary, ordinary, 3, 1]


def test_what_is_not_there_is_none(folder: Directory) -> None:
    """As with any other file."""
    assert Effort().read(folder, "missing") is None
