"""One collection for each scrape, in parts that are left behind when they take too long."""

from __future__ import annotations

import contextlib
import gc
import logging
import platform
import threading
import time
from collections.abc import Callable, Iterator
from typing import TypeVar

from nsinspect import __version__
from nsinspect.collect import PARTS, Depth, collect_and_group
from nsinspect.errors import RootError
from nsinspect.fields.scrape import Part, Scrape
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build
from nsinspect.patience import Errand
from nsinspect.serve.lending import Borrower

T = TypeVar("T")
log = logging.getLogger(__name__)

# What no metric comes from is not read.
_DEPTH = Depth(others=False, users=False)
# Of the time that is left when it begins: whatever hangs, those after it still have some. Engines' files lie on disks.
_SHARES = {"processes": 0.5, "state_files": 0.25, "confinement": 0.5, "cgroups": 0.5, "model": 1.0}


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """No looking for cycles meanwhile: a scrape makes hundreds of thousands of objects and hardly one, and looking
    would cost a tenth of its time.  Connections make some, so it is never off for longer."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


class Scraper:
    """Collects on demand.  ``scrape`` is called by one thread at a time."""

    def __init__(self, roots: Roots, lender: str | None = None) -> None:
        """``lender``: the socket of :mod:`nsinspect.serve.lending`."""
        self._roots = roots
        self._lender = lender
        self._vanished = 0
        # By part, the thread that was left behind with it: it is not begun again before that one is done.
        self._behind: dict[str, threading.Thread] = {}

    def scrape(self, seconds: float) -> Scrape:
        """What could be had within ``seconds``.  Never raises for what a host does."""
        with uncollected():
            return self._scrape(seconds)

    def _scrape(self, seconds: float) -> Scrape:
        attempt = _Attempt(self._behind, time.monotonic() + seconds)
        borrower = Borrower(self._lender) if self._lender else None
        model: Model | None = None
        try:
            snapshot, grouping = collect_and_group(self._roots, _DEPTH, attempt=attempt, borrow=borrower)
            model = attempt("model", lambda: build(snapshot, grouping), None)
            self._vanished += snapshot.vanished
        except RootError as error:
            log.error("%s", error)
        finally:
            if borrower is not None:
                borrower.close()
        return Scrape(
            model=model,
            parts=attempt.parts(),
            vanished=self._vanished,
            truncated=0,
            version=__version__,
            python=platform.python_version(),
        )


class _Attempt:
    """Runs each part in a thread of its own until ``deadline`` (monotonic seconds); one that fails or is late gives
    its default."""

    def __init__(self, behind: dict[str, threading.Thread], deadline: float) -> None:
        self._behind = behind
        self._deadline = deadline
        self._seconds: dict[str, float] = {}
        self._failed: set[str] = set()

    def __call__(self, name: str, work: Callable[[], T], default: T, /) -> T:
        """See :class:`nsinspect.collect.Attempt`.  ``RootError`` is passed on."""
        begun = time.monotonic()
        left = max(0.0, self._deadline - begun) * _SHARES[name]
        try:
            return self._within(left, name, work)
        except RootError:
            self._failed.add(name)
            raise
        except TimeoutError as error:
            log.error("%s", error)
        except Exception:
            # Whatever is wrong with one part, the others are still worth having.
            log.exception("collector %s failed", name)
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - begun
        self._failed.add(name)
        return default

    def _within(self, seconds: float, name: str, work: Callable[[], T]) -> T:
        behind = self._behind.get(name)
        if behind is not None and behind.is_alive():
            raise TimeoutError(f"collector {name} still waits for what it began in an earlier scrape")
        errand = Errand(name, work)
        if not errand.done(seconds):
            self._behind[name] = errand.thread
            raise TimeoutError(f"collector {name} was not finished within {seconds:.1f} seconds, and was left behind")
        return errand.result()

    def parts(self) -> tuple[Part, ...]:
        """How each part went; one that was never begun failed."""
        return tuple(
            Part(name, name in self._seconds and name not in self._failed, self._seconds.get(name, 0.0))
            for name in (*PARTS, "model")
        )
