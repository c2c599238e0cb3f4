"""The program in this process, its two streams apart whichever click there is."""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Iterator

from click.testing import CliRunner

# Before 8.2 click joins them where it is not told otherwise; since then it cannot be told.
MIXES = "mix_stderr" in inspect.signature(CliRunner).parameters


def runner() -> CliRunner:
    """Runs the program as on the command line, and keeps what it says."""
    return CliRunner(mix_stderr=False) if MIXES else CliRunner()


@contextlib.contextmanager
def loggers_as_they_were() -> Iterator[None]:
    """What `serve` does to the loggers of this process is undone."""
    both = [logging.getLogger(name) for name in ("nsinspect", "asyncio")]
    before = [(one.handlers[:], one.level, one.propagate) for one in both]
    try:
        yield
    finally:
        for one, (handlers, level, propagate) in zip(both, before, strict=True):
            one.handlers[:], one.propagate = handlers, propagate
            one.setLevel(level)
