"""``show --as``: the flags, or the YAML, that would give what the kernel enforces now.

What cannot be known from the kernel is a comment, never a guess: the command, the network, and on v2 the shares that a
weight was made from.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator

from nsinspect import capabilities, safe, shares
from nsinspect.cgroupfs import format_cpu_list
from nsinspect.model import Container, Model
from nsinspect.views.words import full_name, plain_capabilities

ENGINES = ("docker", "podman", "k8s")
_DEFAULTS = {"docker": capabilities.MOBY_DEFAULT, "podman": capabilities.CONTAINERS_COMMON_DEFAULT}
_PODMANS_PIDS = 2048


def as_flags(model: Model, container: Container, engine: str) -> str:
    """A command for ``docker`` or ``podman``, or the parts of a pod's YAML for ``k8s``."""
    if engine == "k8s":
        return "\n".join(_yaml(container))
    comments = [f"# what the kernel enforces now for {full_name(container)}, as {engine} would be told"]
    comments += [f"# {one}" for one in _unknowable(container)]
    flags = [
        *_limit_flags(model, container, engine),
        *_namespace_flags(model, container),
        *_security_flags(container, engine),
    ]
    image = shlex.quote(safe.text(container.image)) if container.image else "IMAGE"
    return "\n".join([*comments, " \\\n    ".join([f"{engine} run --detach", *flags, image])])


def _unknowable(container: Container) -> Iterator[str]:
    yield "not read: the command and its environment, volumes, published ports, restart policy"
    if not container.image:
        yield "unknown: the image"
    net = container.namespaces["net"]
    if net is None or net.host is None:
        yield "unknown: the network namespace"
    elif not net.host and not net.shared_with:
        yield "a network namespace of its own; which network it is attached to is not read"
    cpu, memory = container.limits.cpu, container.limits.memory
    if cpu.weight is not None and cpu.weight != 100:
        meant = [
            f"{ends[0]}-{ends[1]} ({name})"
            for name, ends in shares.shares_meant(cpu.weight).items()
            if ends is not None
        ]
        yield f"cpu.weight is {cpu.weight}: --cpu-shares {' or '.join(meant)}, by the formula the engine uses"
    if memory.high_bytes not in (None, "max"):
        yield f"memory.high is {memory.high_bytes}: no flag sets it"
    if memory.swap_max_bytes is None and memory.max_bytes is not None:
        yield "unknown: swap (this kernel does not account it, or it could not be read)"
    for name, value in (("cpu", container.limits.effective_cpu), ("memory", container.limits.effective_memory.max)):
        if (
            value.imposed_by not in (None, *container.cgroup_paths.values())
            and value.imposed_by != container.cgroup_path
        ):
            yield f"{name} is limited further by {safe.text(value.imposed_by or b'')}"


def _limit_flags(model: Model, container: Container, engine: str) -> Iterator[str]:
    cpu, memory, pids = container.limits.cpu, container.limits.memory, container.limits.pids
    if isinstance(cpu.quota_us, int):
        if cpu.period_us == 100_000 and cpu.quota_us % 1000 == 0:
            yield f"--cpus {cpu.quota_us / 100_000:g}"
        else:
            yield f"--cpu-period {cpu.period_us} --cpu-quota {cpu.quota_us}"
    if cpu.shares is not None and cpu.shares != shares.DEFAULT:
        yield f"--cpu-shares {cpu.shares}"
    # v1 fills in the parent's CPUs where nobody asked for any, so all of them are worth a flag only when asked for.
    asked = container.declared is not None and container.declared.cpuset is not None
    if cpu.cpuset and (asked or len(cpu.cpuset) != model.host.cpus_online):
        yield f"--cpuset-cpus {format_cpu_list(cpu.cpuset)}"
    if isinstance(memory.max_bytes, int):
        yield f"--memory {memory.max_bytes}"
        if memory.swap_max_bytes == "max":
            yield "--memory-swap -1"
        elif memory.swap_max_bytes is not None:
            yield f"--memory-swap {memory.max_bytes + memory.swap_max_bytes}"
    if isinstance(memory.reservation_bytes, int) and memory.reservation_bytes:
        yield f"--memory-reservation {memory.reservation_bytes}"
    if engine == "podman":
        if pids is not None and pids != _PODMANS_PIDS:
            yield f"--pids-limit {-1 if pids == 'max' else pids}"
    elif isinstance(pids, int):
        yield f"--pids-limit {pids}"


def _namespace_flags(model: Model, container: Container) -> Iterator[str]:
    for kind, flag in (("pid", "--pid"), ("net", "--network"), ("ipc", "--ipc"), ("uts", "--uts")):
        namespace = container.namespaces[kind]
        if namespace is None:
            continue
        if namespace.host:
            yield f"{flag} host"
        elif namespace.shared_with and kind != "uts":
            # Containers are in the order of their start: the first that has a namespace made it.
            first = next(c for c in model.containers if c.id in (container.id, *namespace.shared_with))
            if first.id != container.id:
                yield f"{flag} container:{shlex.quote(safe.text(first.name or first.id))}"
    cgroup = container.namespaces["cgroup"]
    if cgroup is not None and cgroup.host is not None:
        usual = container.cgroup_version == 1
        if cgroup.host != usual:
            yield f"--cgroupns {'host' if cgroup.host else 'private'}"


def _security_flags(container: Container, engine: str) -> Iterator[str]:
    found = container.security
    init = container.init
    if found.privileged:
        yield "--privileged"
    elif container.capabilities.bounding is not None:
        everything = container.capabilities.everything
        yield from _capability_flags(container.capabilities.bounding, _DEFAULTS[engine], everything=everything)
    if init.uid and found.host_user_namespace:
        yield f"--user {init.uid}:{init.gid}" if init.gid is not None else f"--user {init.uid}"
    if found.no_new_privs:
        yield "--security-opt no-new-privileges"
    if found.seccomp == "disabled" and not found.privileged:
        yield "--security-opt seccomp=unconfined"
    if found.lsm_label == b"unconfined" and not found.privileged:
        yield "--security-opt apparmor=unconfined"
    if found.masked_paths is False and not found.privileged:
        yield "--security-opt systempaths=unconfined" if engine == "docker" else "--security-opt unmask=ALL"
    if found.read_only_rootfs:
        yield "--read-only"


def _capability_flags(bounding: int, default: int, *, everything: bool | None) -> Iterator[str]:
    if everything:
        lacking = capabilities.OLDEST_FULL_SET & ~bounding
        yield "--cap-add ALL"
    elif not bounding:
        yield "--cap-drop ALL"
        return
    else:
        for name in plain_capabilities(bounding & ~default):
            yield f"--cap-add {name}"
        lacking = default & ~bounding
    for name in plain_capabilities(lacking):
        yield f"--cap-drop {name}"


def _yaml(container: Container) -> Iterator[str]:
    """``resources`` and ``securityContext`` of the container, and the pod's fields they go with."""
    yield f"# what the kernel enforces now for {full_name(container)}, as parts of a pod"
    for one in _unknowable(container):
        yield f"# {one}"
    for field, kind in (("hostPID", "pid"), ("hostNetwork", "net"), ("hostIPC", "ipc"), ("hostUsers", "user")):
        namespace = container.namespaces[kind]
        known = namespace is not None and namespace.host is not None
        yield f"{field}: {_yes(bool(namespace and namespace.host))}" if known else f"# {field}: unknown"
    yield "containers:"
    yield f"  - name: {_string(container.name or 'NAME')}"
    yield f"    image: {_string(container.image or 'IMAGE')}"
    yield from _yaml_resources(container)
    yield "    securityContext:"
    yield from (f"      {line}" for line in _yaml_security(container))


def _yaml_resources(container: Container) -> Iterator[str]:
    cpu, memory = container.limits.cpu, container.limits.memory
    yield "    resources:"
    # Requests choose the node and the CPU weight; of those the kernel keeps only the weight.
    limited = isinstance(cpu.quota_us, int) or isinstance(memory.max_bytes, int)
    yield "      limits:" if limited else "      limits: {}"
    if isinstance(cpu.quota_us, int) and cpu.period_us:
        yield f"        cpu: {round(1000 * cpu.quota_us / cpu.period_us)}m"
    if isinstance(memory.max_bytes, int):
        yield f"        memory: {memory.max_bytes}"


def _yaml_security(container: Container) -> Iterator[str]:
    found, init = container.security, container.init
    if found.privileged is not None:
        yield f"privileged: {_yes(found.privileged)}"
    if found.read_only_rootfs is not None:
        yield f"readOnlyRootFilesystem: {_yes(found.read_only_rootfs)}"
    if found.host_user_namespace and init.uid is not None and init.gid is not None:
        yield f"runAsUser: {init.uid}"
        yield f"runAsGroup: {init.gid}"
    if found.privileged:
        return
    if found.no_new_privs is not None:
        yield f"allowPrivilegeEscalation: {_yes(not found.no_new_privs)}"
    if found.seccomp == "disabled":
        yield "seccompProfile: {type: Unconfined}"
    elif found.seccomp is not None:
        yield "seccompProfile: {type: RuntimeDefault}  # there is a filter; which one, the kernel does not tell"
    bounding = container.capabilities.bounding
    if bounding is not None:
        added, dropped = bounding & ~capabilities.MOBY_DEFAULT, capabilities.MOBY_DEFAULT & ~bounding
        drop = ", ".join(plain_capabilities(dropped)) if bounding else "ALL"
        yield f"capabilities: {{add: [{', '.join(plain_capabilities(added))}], drop: [{drop}]}}"


def _yes(value: bool) -> str:
    return "true" if value else "false"


def _string(text: str) -> str:
    """A YAML string in double quotes, which is a JSON string."""
    return json.dumps(safe.text(text), ensure_ascii=False)
