"""Rows about the host and about one process."""

from __future__ import annotations

from nsinspect import namespaces
from nsinspect.fields import shapes
from nsinspect.fields.row import Field
from nsinspect.fields.schema import COUNT, EVIDENCE, KIND, NAMESPACE, POD, TEXT
from nsinspect.locate import Located
from nsinspect.model import Host


def _namespace(kind: str) -> Field[Located]:
    return Field(
        f"namespaces.{kind}",
        NAMESPACE,
        f"its {kind} namespace, whether it is the host's, and which containers have it",
        lambda p: shapes.namespace(p.namespaces[kind]),
    )


HOST: tuple[Field[Host], ...] = (
    Field("hostname", TEXT, "/proc/sys/kernel/hostname", lambda h: h.hostname),
    Field("boot_id", TEXT, "/proc/sys/kernel/random/boot_id", lambda h: h.boot_id),
    Field("kernel", TEXT, "/proc/sys/kernel/osrelease", lambda h: h.kernel),
    Field(
        "cgroup", {"enum": ["v1", "v2", "hybrid"]}, "which cgroup versions hold controllers", lambda h: h.cgroup, True
    ),
    Field("cpus_online", COUNT, "how many CPUs are online", lambda h: h.cpus_online),
    Field("memory_bytes", COUNT, "MemTotal of /proc/meminfo", lambda h: h.memory_bytes),
    Field("cap_last_cap", COUNT, "the highest capability this kernel knows", lambda h: h.cap_last_cap),
)

PROCESS: tuple[Field[Located], ...] = (
    Field("pid", COUNT, "its host pid", lambda p: p.process.pid, True),
    Field("comm", TEXT, "its command name, which it chooses itself", lambda p: p.process.comm, True),
    Field(
        "container",
        TEXT,
        "id of the innermost container; null: the host",
        lambda p: p.container and p.container.id,
    ),
    Field("name", TEXT, "that container's name", lambda p: p.container and p.container.name),
    Field("kind", KIND, "what that container is", lambda p: p.container and p.container.kind),
    Field("runtime", TEXT, "that container's engine", lambda p: p.container and p.container.runtime),
    Field("pod", POD, "that container's pod", lambda p: p.container and p.container.pod and p.container.pod._asdict()),
    Field("parent", TEXT, "id of the container around that one", lambda p: p.container and p.container.parent),
    *(_namespace(kind) for kind in namespaces.TYPES),
    Field("evidence", EVIDENCE, "what says so, and what it says", lambda p: shapes.evidence(p.evidence), True),
)
