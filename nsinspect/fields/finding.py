"""Rows about one finding."""

from __future__ import annotations

from nsinspect.fields import shapes
from nsinspect.fields.row import Field
from nsinspect.fields.schema import COUNT, EVIDENCE, PIDS, TEXT, TEXTS, exactly
from nsinspect.findings import CATALOGUE, KINDS, SEVERITIES, TECHNIQUES, Finding

FINDING: tuple[Field[Finding], ...] = (
    Field("kind", {"enum": list(KINDS)}, "what stands out", lambda f: f.kind, True),
    Field("severity", {"enum": list(SEVERITIES)}, "how much it matters", lambda f: f.severity, True),
    Field("summary", TEXT, "the same in words", lambda f: KINDS[f.kind], True),
    Field("container", TEXT, "id of the container it is about", lambda f: f.container, True),
    Field("pid", COUNT, "host pid of the process", lambda f: f.pid, True),
    Field("tid", COUNT, "the thread it is about; the pid where it is the process", lambda f: f.tid, True),
    Field("comm", TEXT, "its command name, which it chooses itself", lambda f: f.comm, True),
    Field("pids", PIDS, "it, and those below it of which the same is true", lambda f: list(f.pids), True),
    Field(
        "capabilities",
        TEXTS,
        "those it has and its init, or for a thread its leader, has not",
        lambda f: shapes.capability_names(f.gained),
        True,
    ),
    Field("evidence", EVIDENCE, "which file shows it, and what it says", lambda f: shapes.evidence(f.evidence), True),
    Field(
        "technique",
        exactly(id=TEXT, name=TEXT, catalogue=TEXT),
        "what the catalogue calls it, where something there fits",
        lambda f: f.technique and {"id": f.technique, "name": TECHNIQUES[f.technique], "catalogue": CATALOGUE},
    ),
)
