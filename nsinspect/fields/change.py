"""Rows about one change."""

from __future__ import annotations

from typing import Any

from nsinspect.changes import KINDS, Change
from nsinspect.fields import shapes
from nsinspect.fields.row import Field
from nsinspect.fields.schema import COUNT, EVIDENCE, FLAG, TEXT
from nsinspect.findings import SEVERITIES


def _value(change: Change, value: Any) -> Any:
    """Numbers, words and lists of words as they are; a moment as the document writes it, a port as people do."""
    if change.field == "init.started_at":
        return shapes.timestamp(value)
    if change.field == "network.listening" and value is not None:
        protocol, address, port = value
        return f"{protocol} {f'[{address}]' if ':' in address else address}:{port}"
    return value


CHANGE: tuple[Field[Change], ...] = (
    Field("kind", {"enum": list(KINDS)}, "what happened", lambda c: c.kind, True),
    Field("container", TEXT, "id of the container it is about; null: the host", lambda c: c.container),
    Field("field", TEXT, "key of what it is about, as in the other documents", lambda c: c.field, True),
    Field("before", {}, "what it was; null: nothing", lambda c: _value(c, c.before), True),
    Field("after", {}, "what it is; null: nothing", lambda c: _value(c, c.after), True),
    Field("pid", COUNT, "the process it is about", lambda c: c.pid),
    Field(
        "severity",
        {"enum": list(SEVERITIES)},
        "of what stands out, how much it matters",
        lambda c: c.finding and c.finding.severity,
    ),
    Field(
        "capabilities",
        {"type": "array", "items": TEXT},
        "of what stands out, those that init has not",
        lambda c: None if c.finding is None else shapes.capability_names(c.finding.gained),
    ),
    Field("evidence", EVIDENCE, "what shows it, and what that says", lambda c: shapes.evidence(c.evidence), True),
    Field("follows", FLAG, "whether another change in the list has said it", lambda c: c.follows, True),
    Field("noise", FLAG, "whether it changes all the time", lambda c: c.noise, True),
)
