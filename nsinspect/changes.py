"""What may be different between two looks: the vocabulary of `diff` and of events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from nsinspect.findings import Finding

KINDS = (
    "host_changed",
    "container_started",
    "container_stopped",
    "container_restarted",
    "container_came_and_went",
    "notices_lost",
    "identity_changed",
    "limit_changed",
    "capability_gained",
    "capability_lost",
    "confinement_changed",
    "namespace_changed",
    "namespace_joined",
    "namespace_left",
    "mount_added",
    "mount_removed",
    "listening_began",
    "listening_ended",
    "process_stood_out",
    "process_no_longer_stands_out",
    "declared_changed",
    "drift_began",
    "drift_ended",
    "oom_kill",
    "throttling_began",
    "throttling_ended",
    "usage_changed",
    "process_started",
    "process_ended",
)
"""Every kind of change."""

_NOISE = ("usage_changed", "process_started", "process_ended")
# A port that nobody chose: where a client waits for its answer.
_EPHEMERAL = 32768


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference.  ``container`` is an id, ``None`` for the host; ``field`` is the key of the document it is about.
    ``evidence``: what shows it, and what that says.  ``follows``: from another one in the same list.  ``noise``: it
    changes all the time."""

    kind: str
    container: str | None
    field: str
    before: Any
    after: Any
    evidence: tuple[tuple[str, str | bytes], ...] = ()
    pid: int | None = None
    finding: Finding | None = None
    follows: bool = False

    @property
    def noise(self) -> bool:
        """Whether it says little, because it happens all the time."""
        port = self.after or self.before
        listens = self.kind in ("listening_began", "listening_ended") and isinstance(port, tuple)
        return self.kind in _NOISE or (listens and port[0] == "udp" and port[2] >= _EPHEMERAL)
