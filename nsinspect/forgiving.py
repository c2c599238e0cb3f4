"""What a failure to read becomes: the only place that forgives.

Readers raise; here each outcome becomes data: unknown with an issue, absent, or counted as vanished.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from nsinspect.errors import KernelError, Vanished
from nsinspect.kernfs import Directory
from nsinspect.snapshot import Issue

T = TypeVar("T")
_THREAD = re.compile("/task/[0-9]+/")


class Forgiving:
    """Gathers issues and counts what vanished while its subclass reads."""

    def __init__(self) -> None:
        self.issues: list[Issue] = []
        # One issue for a file that many processes refuse, not one for each of them.
        self.refused: defaultdict[tuple[str, str, str], list[int]] = defaultdict(list)
        self.vanished = 0

    def complain(self, error: KernelError, pid: int | None = None) -> None:
        """Turn a failure into an issue; about a process, it is gathered with the same one of other processes."""
        if pid is None:
            issue = Issue(error.kind, error.path, error.detail)
            # One file may be asked for every container.
            if issue not in self.issues:
                self.issues.append(issue)
        else:
            general = _THREAD.sub("/task/<tid>/", error.path.replace(f"/{pid}/", "/<pid>/", 1))
            self.refused[error.kind, general, error.detail].append(pid)

    def all_issues(self) -> tuple[Issue, ...]:
        """Every issue so far, those of many processes as one."""
        # Copies: a part of a collection that was left behind may still complain.
        issues = list(self.issues)
        for (kind, general, detail), pids in self.refused.copy().items():
            its = tuple(dict.fromkeys(pids))
            path = general.replace("<pid>", str(its[0])) if len(its) == 1 else general
            issues.append(Issue(kind, path, detail, its))
        return tuple(issues)

    def fact(self, directory: Directory, name: str, parse: Callable[[bytes], T], pid: int | None = None) -> T | None:
        """A file the kernel renders in one piece, parsed; ``None`` with an issue when it cannot be had.

        Lets :class:`Vanished` through.
        """
        try:
            return directory.parsed(name, directory.read_rendered(name), parse)
        except Vanished:
            raise
        except KernelError as error:
            self.complain(error, pid)
            return None

    def records(
        self,
        directory: Directory,
        name: str,
        parse: Callable[[bytes], T],
        pid: int | None = None,
        read: Callable[[Directory, str], bytes | None] = Directory.read,
    ) -> T | None:
        """:meth:`fact` of a file of many records, however it is read."""
        try:
            return directory.parsed(name, read(directory, name), parse)
        except Vanished:
            raise
        except KernelError as error:
            self.complain(error, pid)
            return None
