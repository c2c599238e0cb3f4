"""What psutil knows of the host: boot time and memory, from the procfs that was given.

psutil is imported here, when asked, because importing it costs more than everything else a short command does.
"""

from __future__ import annotations

import warnings

from nsinspect.errors import KernelError, Malformed
from nsinspect.procfs import LARGEST, LATEST


def boot_time_and_memory(procfs: str) -> tuple[float | None, int | None, list[KernelError]]:
    """Seconds since the epoch at boot (``btime`` of ``<procfs>/stat``), bytes of memory (``MemTotal`` of
    ``<procfs>/meminfo``), and what went wrong where one is ``None``."""
    import psutil

    problems: list[KernelError] = []
    boot: float | None = None
    memory: int | None = None
    before = getattr(psutil, "PROCFS_PATH", "/proc")
    # psutil's documented way to look at another procfs; put back, because it is global to the interpreter.
    psutil.PROCFS_PATH = procfs
    try:
        seconds = float(psutil.boot_time())
        if not 0 <= seconds <= LATEST:
            raise ValueError(seconds)
        boot = seconds
    except (OSError, RuntimeError, ValueError, IndexError, OverflowError) as error:
        problems.append(Malformed(b"", f"a btime line ({error})", f"{procfs}/stat"))
    try:
        # It warns of fields that a short meminfo lacks; only the total is asked for.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            total = int(psutil.virtual_memory().total)
        if not 0 < total <= LARGEST:
            raise ValueError(total)
        memory = total
    except (OSError, KeyError, ValueError, IndexError, OverflowError, ZeroDivisionError) as error:
        problems.append(Malformed(b"", f"a MemTotal line ({error})", f"{procfs}/meminfo"))
    finally:
        psutil.PROCFS_PATH = before
    return boot, memory, problems
