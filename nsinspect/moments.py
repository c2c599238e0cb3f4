"""Moments as people write them: ``10m ago``, ``yesterday 03:14``, ``14:03``, RFC 3339."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_AGO = re.compile(r"([0-9]{1,9})\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?|w|weeks?)\s+ago")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_CLOCK = re.compile(r"(?:(today|yesterday)\s+)?([0-2]?[0-9]):([0-5][0-9])(?::([0-5][0-9]))?")
EXPECTED = '"10m ago", "yesterday 03:14", "14:03" or a time such as 2026-01-31T03:14:00Z'


def parse(text: str, now: datetime) -> datetime:
    """The moment meant; where no time zone is said, that of ``now`` counts, or this machine's where it has none.

    Raises ``ValueError``.
    """
    words = " ".join(text.lower().split())
    if words == "now":
        return now
    if match := _AGO.fullmatch(words):
        try:
            # In seconds that went by, not on the wall, where an hour may be there twice or never.
            seconds = timedelta(**{_UNITS[match[2][0]]: int(match[1])}).total_seconds()
            return datetime.fromtimestamp(now.timestamp() - seconds, now.tzinfo)
        except (OverflowError, OSError, ValueError):
            raise ValueError(f"expected {EXPECTED}, found {text!a}") from None
    if match := _CLOCK.fullmatch(words):
        if int(match[2]) > 23:
            raise ValueError(f"expected {EXPECTED}, found {text!a}")
        then = now.replace(hour=int(match[2]), minute=int(match[3]), second=int(match[4] or 0), microsecond=0)
        # A time of the day alone is the last one there was.
        late = match[1] == "yesterday" or (match[1] is None and then > now)
        return then - timedelta(days=1) if late else then
    try:
        then = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected {EXPECTED}, found {text!a}") from None
    return then if then.tzinfo is not None else then.replace(tzinfo=now.tzinfo)
