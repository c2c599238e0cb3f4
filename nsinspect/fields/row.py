"""One row of the table of everything shown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from nsinspect.fields.schema import Schema

T = TypeVar("T")
Text = str | bytes | None
Number = int | float | bool | str | None
Samples = Iterable[tuple[tuple[Text, ...], Number]]


@dataclass(frozen=True)
class Metric(Generic[T]):
    """A family of samples about a ``T``, which Prometheus knows as ``nsinspect_`` and ``name``.

    A name that ends in ``_total`` is a counter, every other a gauge.  ``samples`` gives the values of ``labels`` and a
    number: ``"max"`` is no limit, ``None`` unknown.  Without ``help`` and ``samples`` they are those of the row it
    stands in.
    """

    name: str
    help: str = ""
    labels: tuple[str, ...] = ()
    samples: Callable[[T], Samples] | None = None


@dataclass(frozen=True)
class Field(Generic[T]):
    """One fact about a ``T``.  ``always`` is true where the value is never unknown."""

    key: str
    schema: Schema
    help: str
    get: Callable[[T], Any]
    always: bool = False
    metrics: tuple[Metric[T], ...] = ()

    def families(self) -> Iterator[Metric[T]]:
        """Its metrics, each with a help and samples."""
        for metric in self.metrics:
            samples = metric.samples or (lambda subject: (((), self.get(subject)),))
            yield replace(metric, help=metric.help or self.help, samples=samples)
