"""Metrics about a scrape itself: how many containers there are, and what could not be had."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from nsinspect.fields.row import Metric, Samples
from nsinspect.model import Model


@dataclass(frozen=True, slots=True)
class Part:
    """How one part of a collection went."""

    name: str
    success: bool
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Scrape:
    """What one answer to Prometheus is made from.

    ``model`` is ``None`` when no process table could be had in time.  ``vanished`` counts since the exporter started.
    ``truncated`` is how many containers are left out for lack of room.
    """

    model: Model | None
    parts: tuple[Part, ...]
    vanished: int
    truncated: int
    version: str
    python: str


def _containers(scrape: Scrape) -> Samples:
    counts = Counter(one.runtime for one in scrape.model.containers) if scrape.model else {}
    return [((runtime,), count) for runtime, count in sorted(counts.items())]


def _issues(scrape: Scrape) -> Samples:
    counts = Counter(one.kind for one in scrape.model.issues) if scrape.model else {}
    return [((kind,), count) for kind, count in sorted(counts.items())]


SCRAPE: tuple[Metric[Scrape], ...] = (
    Metric("containers", "containers on this host, those left out of this answer included", ("runtime",), _containers),
    Metric(
        "containers_truncated",
        "containers left out because the limit of containers or of series was reached, the newest first",
        samples=lambda s: [((), s.truncated)],
    ),
    Metric("read_issues", "what could not be learnt in this scrape, or is not what it seems", ("kind",), _issues),
    Metric(
        "vanished_total",
        "processes and cgroups that went away while they were read",
        samples=lambda s: [((), s.vanished)],
    ),
    Metric(
        "scrape_collector_success",
        "whether a part of this scrape was finished in time and without a failure",
        ("collector",),
        lambda s: [((part.name,), part.success) for part in s.parts],
    ),
    Metric(
        "scrape_collector_duration_seconds",
        "how long that part took",
        ("collector",),
        lambda s: [((part.name,), part.seconds) for part in s.parts],
    ),
    Metric(
        "build_info",
        "version of nsinspect and of Python; 1",
        ("version", "pythonversion"),
        lambda s: [((s.version, s.python), 1)],
    ),
)
