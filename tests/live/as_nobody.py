"""The command line as an ordinary user: everything is imported first, because that user may not read this checkout."""

from __future__ import annotations

import os
import sys

import psutil  # noqa: F401
import rich.table  # noqa: F401

import nsinspect.cli
import nsinspect.collect
import nsinspect.lookup
import nsinspect.model
import nsinspect.views.document
import nsinspect.views.page
import nsinspect.views.table

NOBODY = 65534

if __name__ == "__main__":
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    sys.argv = ["nsinspect", *sys.argv[1:]]
    nsinspect.cli.main()
