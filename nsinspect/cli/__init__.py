"""The command line: arguments, exit codes, and where text goes.  The only room that knows click.

Everything but click is imported when a command needs it, so that ``--version`` and ``--help`` cost next to nothing.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from nsinspect.cli import evidence, past, reading, serving
from nsinspect.cli.common import CANNOT_LOOK, cli, fail

__all__ = ["cli", "evidence", "main", "past", "reading", "serving"]


def main() -> NoReturn:
    """Entry point: :data:`cli`, silent when the reader of our output has gone, and 6 when nothing can be written: 1
    would say that something was found."""
    if sys.stdout is None:
        # Started without one: what is opened next would be it, whatever that is.
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        cli(prog_name="nsinspect")
    except BrokenPipeError:
        _write_no_more()
    except OSError as error:
        # Whoever opens a file says which one could not be; only what was to be printed has no name.
        if error.filename is not None:
            raise
        _write_no_more()
        fail(f"the answer could not be written: {error.strerror}", CANNOT_LOOK)
    sys.exit(0)


def _write_no_more() -> None:
    # Python would complain again while it flushes at exit.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
