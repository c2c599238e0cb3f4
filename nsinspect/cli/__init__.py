"""The command line: arguments, exit codes, and where text goes.  The only room that knows click.

Everything but click is imported when a command needs it, so that ``--version`` and ``--help`` cost next to nothing.
"""

from __future__ import annotations

import os
import sys
from typing import NoReturn

from nsinspect.cli import evidence, past, reading, serving
from nsinspect.cli.common import cli

__all__ = ["cli", "evidence", "main", "past", "reading", "serving"]


def main() -> NoReturn:
    """Entry point: :data:`cli`, silent when the reader of our output has gone."""
    try:
        cli(prog_name="nsinspect")
    except BrokenPipeError:
        # Python would complain again while it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(0)
