"""Log lines for the journal and for people: one line each, whatever a container or a client put into it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime

from nsinspect import safe


class _Line(logging.Formatter):
    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        found = {
            "ts": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "msg": safe.line(record.getMessage()),
        }
        event = getattr(record, "event", None)
        if event is not None:
            keys = ("kind", "container", "name", "pid", "severity", "field")
            found |= {key: safe.line(str(event[key])) for key in keys if event[key] is not None}
        if record.exc_info:
            found["err"] = safe.line(self.formatException(record.exc_info).replace("\n", " | "))
        return found


class Logfmt(_Line):
    """``ts=… level=… msg="…"``, as Prometheus and its exporters write."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        return " ".join(f"{key}={_quoted(value)}" for key, value in self.fields(record).items())


class Json(_Line):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One record as one line."""
        return json.dumps(self.fields(record), ensure_ascii=False)


def _quoted(value: str) -> str:
    plain = value and not set(value) & set(' "=\\')
    return value if plain else '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'


def start(level: str, style: str) -> None:
    """Send this package's log to stderr, and what asyncio complains of: that would be lines as they come."""
    handler = logging.StreamHandler()
    handler.setFormatter(Json() if style == "json" else Logfmt())
    for name, least in (("nsinspect", level.upper()), ("asyncio", "WARNING")):
        log = logging.getLogger(name)
        log.addHandler(handler)
        log.setLevel(least)
        log.propagate = False
