"""Reading what may never answer: a disk that is gone, a server that is down, a file system that a user serves himself.

Such a read cannot be interrupted.  So a thread does the work, and is left behind with the read that does not come back;
what it was doing is begun again without that one, by another thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

from nsinspect.errors import Unreadable

T = TypeVar("T")

SECONDS = 1.5
"""How long one read is waited for: less than a scrape has for all state files (:mod:`nsinspect.serve.scraper`), so that
one that hangs does not cost the others."""

TOGETHER = 10.0
"""How long all reads of a look may take before the file system that is being read is given up as well."""

MOST = 3
"""File systems that are given up; then nothing more is asked for.  So many threads at the most are left behind."""

# By file system, who waits there.  Of the whole process: whoever looks every few seconds must not leave one behind each
# time.
_behind: dict[str, threading.Thread] = {}


class _LeftBehind(BaseException):
    """Ends a thread whose result nobody wants any more; nothing forgives it."""


class Errand(Generic[T]):
    """Work that a thread of its own does, which may be left behind with it.  Raises ``RuntimeError`` where no thread is
    to be had."""

    def __init__(self, name: str, work: Callable[[], T]) -> None:
        self._results: list[T] = []
        self._errors: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self.thread.start()

    def _run(self, work: Callable[[], T]) -> None:
        try:
            self._results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits
            self._errors.append(error)

    def done(self, seconds: float) -> bool:
        """Whether it is over, within so many seconds."""
        self.thread.join(seconds)
        return bool(self._results or self._errors)

    def result(self) -> T:
        """What the work gave, or raises, once it is over."""
        if self._errors:
            raise self._errors[0]
        return self._results[0]


class Patience:
    """For one look, which does one piece of work at a time.  ``file_system`` names what a path is on: where one read
    hangs no other is begun, in this look, and in all others for as long as that one waits."""

    def __init__(self, file_system: Callable[[str], str]) -> None:
        self._file_system = file_system
        # The read that is under way: its path, and since when.
        self._now: tuple[str, float] | None = None
        self._given_up: set[str] = set()
        self._spent = 0.0
        self._lock = threading.Lock()

    def spend(self, work: Callable[[], T]) -> T:
        """What ``work`` gives, or raises.  It reads through :meth:`reading`, and may be begun more than once."""
        while True:
            try:
                errand = Errand("patience", work)
            except RuntimeError:
                # No thread to be had on this host: better to wait than not to know.
                return work()
            while not self._left_behind(errand.thread):
                if errand.done(SECONDS / 8):
                    return errand.result()

    def reading(self, path: str, read: Callable[[], T]) -> T:
        """What ``read`` gives, or raises; :class:`Unreadable` at once where ``path`` is not waited for again."""
        if self._given_up or _behind:
            self._refuse(path)
        mine = (path, time.monotonic())
        self._now = mine
        try:
            return read()
        finally:
            self._over(mine)

    def _refuse(self, path: str) -> None:
        silent = self._given_up | {name for name, thread in _behind.copy().items() if thread.is_alive()}
        if self._file_system(path) in silent:
            raise Unreadable(path, "its file system does not answer in time")
        if len(silent) >= MOST:
            raise Unreadable(path, f"not asked for: {len(silent)} file systems do not answer in time")

    def _left_behind(self, worker: threading.Thread) -> bool:
        with self._lock:
            if self._now is None or time.monotonic() - self._now[1] < SECONDS:
                return False
            name = self._file_system(self._now[0])
            self._given_up.add(name)
            _behind[name] = worker
            self._now = None
            return True

    def _over(self, mine: tuple[str, float]) -> None:
        with self._lock:
            if self._now is not mine:
                raise _LeftBehind
            self._now = None
        self._spent += time.monotonic() - mine[1]
        if self._spent > TOGETHER:
            self._given_up.add(self._file_system(mine[0]))
            self._spent = 0.0
