"""The program in this process, its two streams apart whichever click there is."""

from __future__ import annotations

import inspect

from click.testing import CliRunner

# Before 8.2 click joins them where it is not told otherwise; since then it cannot be told.
MIXES = "mix_stderr" in inspect.signature(CliRunner).parameters


def runner() -> CliRunner:
    """Runs the program as on the command line, and keeps what it says."""
    return CliRunner(mix_stderr=False) if MIXES else CliRunner()
