"""What is compared with what, what it should be, and what it may be before a run in CI fails: all of it, here."""

from __future__ import annotations

from typing import Any, NamedTuple

MIB = 1 << 20
AS_IT_IS = (0, 0)
"""Containers and processes of no load."""

# Pairs of which a ratio is kept: measured in turn, on each load that has both.
PAIRS = (
    ("--version", "import click"),
    ("collect", "floor"),
    ("list", "lsns"),
    ("list", "ps"),
    ("show", "list"),
    ("ns", "lsns with owners"),
    ("serve", "floor"),
    ("serve", "process-exporter"),
    ("serve", "cAdvisor"),
)


class Bound(NamedTuple):
    """``target`` is what it should be, ``held`` what it may be on a busy machine before something must have doubled.

    ``subject`` is a program of its own where ``against`` is none: then ``clock`` is ``rss``, in bytes.
    """

    subject: str
    against: str
    clock: str
    containers: int
    processes: int
    target: float
    held: float

    @property
    def words(self) -> str:
        """What it is about, for people."""
        unit = {"wall": "wall time", "cpu": "CPU time", "rss": "RSS, MiB"}[self.clock]
        of = f"{self.subject} / {self.against}" if self.against else self.subject
        return f"{of}, {unit}"

    @property
    def where(self) -> str:
        """On which load."""
        return f"{self.containers:,} / {self.processes:,}" if self.processes else "no load"

    def value(self, results: dict[str, Any]) -> dict[str, float] | None:
        """What was measured of it, with its spread."""
        for one in results["loads"]:
            if (one["containers"], one["processes"]) != (self.containers, self.processes) or "times" not in one:
                continue
            if not self.against and self.subject in one["times"]:
                return {"median": one["times"][self.subject]["rss"] / MIB}
            if found := one["ratios"].get(f"{self.subject} / {self.against}"):
                return dict(found[self.clock])
        return None


# By CPU time, which other work on the machine changes least.
BOUNDS = (
    Bound("--version", "import click", "cpu", *AS_IT_IS, 2, 2.5),
    Bound("collect", "floor", "cpu", 300, 3000, 1.5, 4),
    Bound("list", "lsns", "cpu", 300, 3000, 0.25, 2.5),
    Bound("list", "lsns", "cpu", 100, 1000, 1, 5),
    Bound("show", "list", "cpu", 300, 3000, 0.35, 1.4),
    Bound("ns", "lsns with owners", "cpu", 300, 3000, 1, 2),
    Bound("serve", "floor", "cpu", 300, 3000, 2.5, 7),
    Bound("serve", "", "rss", 300, 3000, 64, 64),
)


def judged(results: dict[str, Any]) -> tuple[str, int]:
    """A table of every bound with what was measured, and how many do not hold or could not be measured."""
    lines = [f"{'':38} {'load':>14} {'measured':>9} {'target':>7} {'held':>6}"]
    bad = 0
    for bound in BOUNDS:
        found = bound.value(results)
        value = found["median"] if found else None
        holds = value is not None and value <= bound.held
        bad += not holds
        told = "unknown" if value is None else f"{value:.2f}"
        verdict = "" if holds else "  NOT HELD"
        met = "" if value is None or value <= bound.target else "  above target"
        numbers = f"{told:>9} {bound.target:7g} {bound.held:6g}"
        lines.append(f"{bound.words:38} {bound.where:>14} {numbers}{verdict or met}")
    return "\n".join(lines), bad
