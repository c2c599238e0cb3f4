"""Reading what may never answer: a disk that is gone, a server that is down, a file system that a user serves himself.

Such a read cannot be interrupted.  So a thread does the work, and is left behind with the read that does not come back;
what it was doing is begun again without that one, by another thread.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

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
            results: list[T] = []
            errors: list[BaseException] = []
            worker = threading.Thread(target=_run, args=(work, results, errors), name="patience", daemon=True)
            try:
                worker.start()
            except RuntimeError:
                # No thread to be had on this host: better to wait than not to know.
                return work()
            while worker.is_alive() and not self._left_behind(worker):
                worker.join(SECONDS / 8)
            if errors and not isinstance(errors[0], _LeftBehind):
                raise errors[0]
            if results:
                return results[0]

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


def _run(work: Callable[[], T], results: list[T], errors: list[BaseException]) -> None:
    try:
        results.append(work())
    except BaseException as error:  # noqa: BLE001 - raised again by whoever waits
        errors.append(error)
