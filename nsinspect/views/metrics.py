"""Prometheus' text format and OpenMetrics, from the metrics of :mod:`nsinspect.fields`.

Written here and not by prometheus-client, which takes ten times as long for ten thousand series; the tests read every
answer with its parser.  https://prometheus.io/docs/instrumenting/exposition_formats/ and
https://prometheus.io/docs/specs/om/open_metrics_spec/
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from nsinspect import safe
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.row import Metric, Samples, T, Text
from nsinspect.fields.scrape import SCRAPE, Scrape
from nsinspect.model import Container

PREFIX = "nsinspect_"
IDENTITY = ("id", "name")
"""The labels of every sample about a container."""
SHORT_ID = 12
MAX_LABEL = 1000
"""Longer values are cut, with an ellipsis: a cgroup's path can have 4,095 bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """How much one answer may hold."""

    containers: int = 1000
    series: int = 10_000


def families() -> dict[str, list[Metric[Container]]]:
    """The metrics of containers by name; one name may stand in several rows, as of each namespace."""
    found: defaultdict[str, list[Metric[Container]]] = defaultdict(list)
    for row in CONTAINER:
        for metric in row.families():
            found[metric.name].append(metric)
    return dict(found)


_FAMILIES = families()


def exposition(scrape: Scrape, *, openmetrics: bool, room: Room) -> str:
    """One answer to Prometheus, without OpenMetrics' ``# EOF``; what does not fit in ``room`` is left out and said.

    Containers of the host come before those inside containers, the older before the younger, so that nobody inside a
    container can displace another, and what is left out stays the same from scrape to scrape.
    """
    lines: dict[str, list[str]] = {name: [] for name in _FAMILIES}
    containers = _in_order(scrape.model.containers if scrape.model else ())
    left = room.series
    shown = 0
    for identity, container in _identified(containers):
        its = [
            (name, _samples(metric, container, identity)) for name, metrics in _FAMILIES.items() for metric in metrics
        ]
        left -= sum(len(samples) for _, samples in its)
        if left < 0 or shown == room.containers:
            break
        shown += 1
        for name, samples in its:
            lines[name] += samples
    scrape = replace(scrape, truncated=len(containers) - shown)
    text = []
    for name, metrics in _FAMILIES.items():
        text += _family(metrics[0], lines[name], openmetrics=openmetrics)
    for about in SCRAPE:
        text += _family(about, _samples(about, scrape, ""), openmetrics=openmetrics)
    return "".join(text)


def _in_order(containers: Iterable[Container]) -> list[Container]:
    return sorted(containers, key=lambda one: one.parent is not None)


def _identified(containers: Iterable[Container]) -> Iterator[tuple[str, Container]]:
    """Each container with the labels that tell it from all others.

    An id inside a container is whatever somebody there calls a cgroup.  Where it begins like one that came before, it
    is written in full, and numbered where that is the same too: two series of one name would cost the whole scrape.
    """
    taken: set[str] = set()
    for container in containers:
        whole = _cut(safe.text(container.id))
        label = whole[:SHORT_ID] if _is_hex(whole) else whole
        if label in taken:
            label = whole
        number = 1
        while label in taken:
            number += 1
            label = f"{whole[: MAX_LABEL - 10]}~{number}"
        taken.add(label)
        yield f'id="{_escaped(label)}",name="{_label(container.name)}"', container


def _is_hex(text: str) -> bool:
    return len(text) == 64 and not text.strip("0123456789abcdef")


def _samples(metric: Metric[T], subject: T, identity: str) -> list[str]:
    """Its lines, without those whose value is unknown."""
    assert metric.samples is not None
    found: Samples = metric.samples(subject)
    # Most of the time it takes to write a scrape is this loop: what is the same for all lines is written before it.
    start = f"{PREFIX}{metric.name}{{{identity}"
    comma = "," if identity else ""
    names = metric.labels
    lines = []
    for values, value in found:
        if value is None:
            continue
        number = "1" if value is True else "0" if value is False else "+Inf" if value == "max" else repr(value)
        if values:
            labels = _known_labels(names, values) if len(values) < 3 else _labels(names, values)
            lines.append(f"{start}{comma}{labels}}} {number}\n")
        elif identity:
            lines.append(f"{start}}} {number}\n")
        else:
            lines.append(f"{PREFIX}{metric.name} {number}\n")
    return lines


# The same few names of capabilities, namespaces and sets recur in every container; what a container chose is its own,
# and may be long.
@lru_cache(maxsize=4096)
def _known_labels(names: tuple[str, ...], values: tuple[Text, ...]) -> str:
    return _labels(names, values)


def _labels(names: tuple[str, ...], values: tuple[Text, ...]) -> str:
    return ",".join(f'{name}="{_label(value)}"' for name, value in zip(names, values, strict=True))


def _family(metric: Metric[T], samples: list[str], *, openmetrics: bool) -> list[str]:
    if not samples:
        return []
    name, kind = PREFIX + metric.name, "gauge"
    if name.endswith("_total"):
        kind = "counter"
        name = name.removesuffix("_total") if openmetrics else name
    elif name.endswith("_info") and openmetrics:
        kind = "info"
        name = name.removesuffix("_info")
    return [f"# HELP {name} {metric.help}\n# TYPE {name} {kind}\n", *samples]


def _label(value: Text) -> str:
    if value is None:
        return ""
    # A name from a user's file may have megabytes: what would be cut off is not made safe first.
    return _escaped(_cut(safe.text(value[: MAX_LABEL + 1] if isinstance(value, str) else value)))


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LABEL else text[: MAX_LABEL - 1] + "…"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"")
