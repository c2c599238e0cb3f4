"""The command line as an ordinary user: everything is imported first, because that user may not read this checkout."""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

import psutil  # noqa: F401
import rich.table  # noqa: F401

import nsinspect.cli

NOBODY = 65534

if __name__ == "__main__":
    for module in pkgutil.walk_packages(nsinspect.__path__, "nsinspect."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    sys.argv = ["nsinspect", *sys.argv[1:]]
    nsinspect.cli.main()
