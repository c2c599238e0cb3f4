"""What an engine's own state files say of a container: claims, never what is enforced."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Declaration:
    """One container as its engine wrote it down.  ``source`` is the file; ``created_at`` RFC 3339 in UTC."""

    source: str
    name: str | None = None
    image: str | None = None
    labels: tuple[tuple[str, str], ...] | None = None
    created_at: str | None = None


def rfc3339(text: object) -> str | None:
    """An engine's time stamp as RFC 3339 in UTC to the microsecond, ``None`` when it is none."""
    if not isinstance(text, str):
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        return None
    try:
        return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    except OverflowError:  # the year 0 of another time zone
        return None


def text_or_none(value: object) -> str | None:
    """A string of a state file, ``None`` when it is absent, empty or something else."""
    return value if isinstance(value, str) and value else None


def labels_or_none(value: object) -> tuple[tuple[str, str], ...] | None:
    """Labels of a state file, sorted by key; what is no string on either side is left out."""
    if not isinstance(value, dict):
        return None
    return tuple(sorted((k, v) for k, v in value.items() if isinstance(k, str) and isinstance(v, str)))
