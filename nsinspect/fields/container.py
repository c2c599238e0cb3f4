"""Rows about one container."""

from __future__ import annotations

from nsinspect import capabilities, mounts, namespaces
from nsinspect.declarations import Pod
from nsinspect.fields import shapes
from nsinspect.fields.limits import LIMITS, USAGE
from nsinspect.fields.row import Field, Metric, Samples
from nsinspect.fields.schema import (
    CAPABILITY_SET,
    COUNT,
    DECLARED,
    EVIDENCE,
    FLAG,
    ID_MAP,
    KIND,
    MOUNT,
    NAMESPACE,
    PATH,
    PIDS,
    POD,
    TEXT,
    TEXTS,
    TIME,
    exactly,
    listed,
    mapping,
    nullable,
)
from nsinspect.model import Container


def _bits(mask: int | None) -> int | None:
    return None if mask is None else mask.bit_count()


_EACH = Metric[Container](
    "container_capability",
    "1 for each capability in init's effective set",
    ("capability",),
    lambda c: [((name,), 1) for name in capabilities.names(c.capabilities.effective or 0)],
)


def _namespace(kind: str) -> Field[Container]:
    def fact(container: Container, name: str) -> Samples:
        found = container.namespaces[kind]
        return [] if found is None else [((kind,), getattr(found, name))]

    return Field(
        f"namespaces.{kind}",
        NAMESPACE,
        f"init's {kind} namespace, whether it is the host's, and which containers share it",
        lambda c: shapes.namespace(c.namespaces[kind]),
        metrics=(
            Metric(
                "container_namespace_shared_with_host",
                "whether init's namespace is the host's",
                ("namespace",),
                lambda c: fact(c, "host"),
            ),
            Metric(
                "container_namespace_inode",
                "inode of init's namespace: containers with the same value share it",
                ("namespace",),
                lambda c: fact(c, "inode"),
            ),
        ),
    )


def _set(name: str) -> Field[Container]:
    def mask(container: Container) -> int | None:
        found: int | None = getattr(container.capabilities, name)
        return found

    count = Metric[Container](
        "container_capabilities",
        "how many capabilities each of init's sets has",
        ("set",),
        lambda c: [((name,), _bits(mask(c)))],
    )
    return Field(
        f"capabilities.{name}",
        CAPABILITY_SET,
        f"init's {name} set",
        lambda c: shapes.capability_set(mask(c)),
        metrics=(count, _EACH) if name == "effective" else (count,),
    )


def _info(container: Container) -> Samples:
    pod = container.pod or Pod()
    labels = (container.kind, container.runtime, container.image, pod.name, pod.namespace, pod.container)
    return [((*labels, container.cgroup_path), 1)]


CONTAINER: tuple[Field[Container], ...] = (
    Field("id", TEXT, "the engine's full id", lambda c: c.id, True),
    Field("name", TEXT, "the name a person gave, from the engine's state files", lambda c: c.name),
    Field(
        "kind",
        KIND,
        "what it is",
        lambda c: c.kind,
        True,
        metrics=(
            Metric(
                "container_info",
                "what it is; 1",
                ("kind", "runtime", "image", "pod", "namespace", "container", "cgroup"),
                _info,
            ),
        ),
    ),
    Field("runtime", TEXT, "the engine, from the cgroup's name", lambda c: c.runtime, True),
    Field("image", TEXT, "image as it was asked for", lambda c: c.image),
    Field("labels", mapping(TEXT), "labels given to it", lambda c: None if c.labels is None else dict(c.labels)),
    Field("created_at", TIME, "when the engine created it", lambda c: c.created_at),
    Field(
        "pod",
        POD,
        "its Kubernetes or podman pod",
        lambda c: c.pod and c.pod._asdict(),
    ),
    Field("parent", TEXT, "id of the container it runs inside", lambda c: c.parent),
    Field(
        "evidence",
        EVIDENCE,
        "how we know: what the cgroup path, a state file or an ancestor says",
        lambda c: shapes.evidence(c.evidence),
        True,
    ),
    Field("cgroup.path", PATH, "its cgroup: on v2, else in v1's memory hierarchy", lambda c: c.cgroup_path, True),
    Field(
        "cgroup.version",
        {"enum": [1, 2]},
        "version of the hierarchy that limits its memory",
        lambda c: c.cgroup_version,
        True,
    ),
    Field(
        "cgroup.paths",
        mapping(PATH),
        "its cgroup by controller; '' is the v2 hierarchy",
        lambda c: c.cgroup_paths,
        True,
    ),
    Field("init.pid", COUNT, "host pid of its first process", lambda c: c.init.pid, True),
    Field("init.ns_pid", COUNT, "the pid it has inside", lambda c: c.init.ns_pid),
    Field(
        "init.started_at",
        TIME,
        "when it started",
        lambda c: shapes.timestamp(c.init.started_at),
        metrics=(
            Metric(
                "container_start_time_seconds",
                "when its init started, since the epoch",
                samples=lambda c: [((), c.init.started_at)],
            ),
        ),
    ),
    Field(
        "init.uid",
        COUNT,
        "effective uid, as the host counts",
        lambda c: c.init.uid,
        metrics=(
            Metric(
                "container_root_user",
                "whether its init runs as the host's uid 0",
                samples=lambda c: [((), None if c.init.uid is None else c.init.uid == 0)],
            ),
        ),
    ),
    Field("init.user", TEXT, "the host's name for that uid", lambda c: c.init.user),
    Field("init.comm", TEXT, "its command name, which the container chooses", lambda c: c.init.comm, True),
    Field(
        "pids",
        PIDS,
        "host pids of the cgroup's whole subtree, ascending",
        lambda c: list(c.pids),
        True,
        metrics=(
            Metric(
                "container_processes", "processes in its cgroup's whole subtree", samples=lambda c: [((), len(c.pids))]
            ),
        ),
    ),
    *(_namespace(kind) for kind in namespaces.TYPES),
    *(_set(name) for name in ("effective", "permitted", "inheritable", "bounding", "ambient")),
    Field(
        "capabilities.added",
        TEXTS,
        "in init's bounding set, not in the engine's default",
        lambda c: shapes.capability_names(c.capabilities.added),
    ),
    Field(
        "capabilities.dropped",
        TEXTS,
        "in the engine's default, not in init's bounding set",
        lambda c: shapes.capability_names(c.capabilities.dropped),
    ),
    Field(
        "capabilities.outliers",
        listed(exactly(pid=COUNT, comm=TEXT, extra=TEXTS, missing=TEXTS, bounding_extra=TEXTS)),
        "processes whose effective and permitted, or bounding, capabilities are not init's",
        lambda c: [shapes.outlier(o) for o in c.capabilities.outliers],
        True,
        metrics=(
            Metric(
                "container_capability_outliers",
                "processes whose capabilities are not init's",
                samples=lambda c: [((), len(c.capabilities.outliers))],
            ),
        ),
    ),
    Field(
        "security.privileged",
        FLAG,
        "whether nothing confines it",
        lambda c: c.security.privileged,
        metrics=(
            Metric(
                "container_privileged",
                "whether nothing confines it: every capability, no seccomp filter, no security module",
            ),
        ),
    ),
    Field(
        "security.privileged_why", TEXTS, "the facts that decide that", lambda c: list(c.security.privileged_why), True
    ),
    Field(
        "security.seccomp",
        TEXT,
        "disabled, strict or filter",
        lambda c: c.security.seccomp,
        metrics=(
            Metric(
                "container_seccomp_filtered",
                "whether a seccomp filter limits its system calls",
                samples=lambda c: [((), None if c.security.seccomp is None else c.security.seccomp == "filter")],
            ),
        ),
    ),
    Field(
        "security.no_new_privs",
        FLAG,
        "whether exec can never gain privileges",
        lambda c: c.security.no_new_privs,
        metrics=(Metric("container_no_new_privileges", "whether exec can never gain privileges"),),
    ),
    Field("security.lsm_label", TEXT, "AppArmor profile or SELinux context", lambda c: c.security.lsm_label),
    Field(
        "security.user_namespace.host",
        FLAG,
        "whether root inside is root outside",
        lambda c: c.security.host_user_namespace,
    ),
    Field(
        "security.user_namespace.uid_map",
        ID_MAP,
        "uids inside and outside",
        lambda c: shapes.id_map(c.security.uid_map),
    ),
    Field(
        "security.user_namespace.gid_map",
        ID_MAP,
        "gids inside and outside",
        lambda c: shapes.id_map(c.security.gid_map),
    ),
    Field(
        "security.user_namespace.root_uid",
        COUNT,
        "the host's uid of root inside; null where it is not mapped",
        lambda c: c.security.root_uid,
    ),
    Field("security.read_only_rootfs", FLAG, "whether / is mounted read-only", lambda c: c.security.read_only_rootfs),
    Field(
        "security.masked_paths",
        TEXTS,
        "paths of /proc and /sys that something is mounted over, to hide them or to keep them from being written",
        lambda c: None if c.mount_table is None else list(mounts.masked(c.mount_table)),
    ),
    Field("mounts", listed(MOUNT), "paths of the host that it sees, and secrets; never what is in them", shapes.mounts),
    *LIMITS,
    *USAGE,
    Field("declared", DECLARED, "what the engine's state files asked for, its defaults included", shapes.declared),
    Field(
        "drift",
        listed(exactly(field=TEXT, declared={}, enforced={}, tolerance=nullable(TEXT), where=nullable(PATH))),
        "where declared and enforced differ by more than the tolerance; null where nothing was declared",
        lambda c: None if c.drift is None else [shapes.drift(one) for one in c.drift],
        metrics=(
            Metric(
                "container_drift",
                "1 for each field that is not as its engine's state files asked; no sample for one that is",
                ("field",),
                lambda c: [((one.field,), 1) for one in c.drift or ()],
            ),
        ),
    ),
)
