"""What engines wrote down of their containers, found from a container's own mounts."""

from __future__ import annotations

import json
import math
import os
import sqlite3
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from nsinspect.capabilities import CONTAINERS_COMMON_DEFAULT, MOBY_DEFAULT, NAMES, mask_of, names
from nsinspect.declarations import Claim, Declaration, Pod, labels_or_none, rfc3339
from nsinspect.errors import Denied, KernelError, Malformed, Unreadable
from nsinspect.procfs import Mount
from nsinspect.runtimes import (
    BY_NAME,
    ENGINES,
    containerd,
    crio,
    crun,
    docker,
    libpod_db,
    lxc,
    nerdctl,
    nspawn,
    oci,
    podman,
    runc,
)
from nsinspect.runtimes.base import Traces
from tests.looks import HOSTS

ID, OTHER = "a" * 64, "b" * 64
DOCKER = f"/var/lib/docker/containers/{ID}/config.v2.json"
STORAGE = "/var/lib/containers/storage"


def told(declared: Declaration | None) -> Declaration | None:
    """A declaration without what was asked for, which has tests of its own."""
    return None if declared is None else declared._replace(wanted=None)


class Files:
    """State files in memory; bind mounts of device 8:1 are where their root says."""

    def __init__(self, content: dict[str, object]) -> None:
        self.content = content
        self.asked: list[str] = []
        self.complaints: list[KernelError] = []

    def read(self, path: str) -> bytes | None:
        """The content, as JSON unless it is bytes; an error is raised."""
        os.fsencode(path)  # else no file's
        self.asked.append(path)
        found = self.content.get(path)
        if isinstance(found, KernelError):
            raise found
        return found if isinstance(found, bytes | None) else json.dumps(found).encode()

    def complain(self, error: KernelError) -> None:
        """Remember what could be done without."""
        self.complaints.append(error)

    def entries(self, path: str) -> list[str]:
        """Names in a folder, which is there when something below it is."""
        os.fsencode(path)
        below = [known.removeprefix(f"{path}/") for known in self.content if known.startswith(f"{path}/")]
        return sorted({name.partition("/")[0] for name in below})

    def host_path(self, mount: Mount) -> str | None:
        """The mounted part, if it is on the host's disk."""
        return mount.root.decode() if mount.device == b"8:1" else None


def mount(point: str, root: str = "/", *, device: str = "8:1", options: str = "rw", kind: str = "ext4") -> Mount:
    """A mount that a container's init sees."""
    return Mount(device.encode(), root.encode(), point.encode(), b"rw", b"", kind.encode(), b"none", options.encode())


def traces(*mounts: Mount, name: str = ID, monitor: str | None = None) -> Traces:
    """What leads from a container to its files; without ``monitor`` its monitor tells nothing."""
    return Traces(name, 4711, lambda: mounts, monitor)


def docker_state(**changes: object) -> dict[str, Any]:
    """What dockerd writes down, as far as it is read."""
    state = {
        "ID": ID,
        "Name": "/web",
        "Created": "2024-05-06T07:08:09.123456789Z",
        "Config": {"Image": "nginx:1", "Labels": {"b": "2", "a": "1"}},
    }
    return {**state, **changes}


def declared(path: str, **changes: Any) -> Declaration:
    """What should be made of it."""
    said = {
        "name": "web",
        "image": "nginx:1",
        "labels": (("a", "1"), ("b", "2")),
        "created_at": "2024-05-06T07:08:09.123456Z",
    }
    return Declaration(source=path, runtime="docker", **{**said, **changes})


def test_docker_declares_name_image_labels_and_time() -> None:
    """The slash before a name is docker's own, and labels are in order."""
    assert declared(DOCKER) == docker.declaration(Files({DOCKER: docker_state()}), traces())


@pytest.mark.parametrize("file", ["hostname", "hosts", "resolv.conf"])
def test_dockers_folder_is_found_through_its_bind_mounts(file: str) -> None:
    """``--data-root`` may be anywhere: docker's own files over /etc say where, with nothing configured."""
    path = f"/data/docker/containers/{ID}/config.v2.json"
    mounts = (mount("/"), mount(f"/etc/{file}", f"/data/docker/containers/{ID}/{file}"))
    assert declared(path) == docker.declaration(Files({path: docker_state()}), traces(*mounts))


def test_what_a_container_sees_is_not_asked_where_the_usual_folder_knows() -> None:
    """Reading the mounts of every container would cost more than all else that a name needs."""

    def never() -> tuple[Mount, ...]:
        raise AssertionError("its mounts were read")

    found = docker.declaration(Files({DOCKER: docker_state()}), traces()._replace(mounts=never))
    assert declared(DOCKER) == found


def test_a_container_in_anothers_network_leads_to_the_same_folder() -> None:
    """Its /etc/hosts is the other's, and its own state is beside the other's."""
    path = f"/data/docker/containers/{ID}/config.v2.json"
    mounts = (mount("/etc/hosts", f"/data/docker/containers/{OTHER}/hosts"),)
    assert declared(path) == docker.declaration(Files({path: docker_state()}), traces(*mounts))


@pytest.mark.parametrize(
    "over",
    [
        pytest.param(mount("/etc/hostname", "/srv/evil/hostname"), id="a file of its own"),
        pytest.param(mount("/etc/hostname", f"/srv/{ID}/hostname"), id="no folder of containers"),
        pytest.param(mount("/etc/hostname", f"/x/containers/{ID[1:]}/hostname"), id="no id"),
        pytest.param(mount("/etc/hostname", f"/x/containers/{ID}/hostname", device="0:9"), id="on no disk of the host"),
        pytest.param(mount("/etc/passwd", f"/x/containers/{ID}/hostname"), id="another file"),
    ],
)
def test_a_mount_that_is_not_dockers_leads_nowhere(over: Mount) -> None:
    """Only the usual folder is asked then."""
    files = Files({})
    assert docker.declaration(files, traces(over)) is None
    assert files.asked == [DOCKER]


def test_a_forged_mount_does_not_hide_the_usual_folder() -> None:
    """A container with the right to mount cannot give itself another name."""
    forged = f"/tmp/containers/{ID}/config.v2.json"
    files = Files({forged: docker_state(Name="/forged"), DOCKER: docker_state()})
    mounts = (mount("/etc/hostname", f"/tmp/containers/{ID}/hostname"),)
    assert declared(DOCKER) == docker.declaration(files, traces(*mounts))


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff", b"[]", b"null", b'"x"', b"[" * 100_000], ids=lambda content: repr(content[:6])
)
def test_docker_state_that_is_no_json_object_is_malformed(content: bytes) -> None:
    """The complaint names the file; a deeply nested one does not exhaust the stack."""
    with pytest.raises(Malformed) as caught:
        docker.declaration(Files({DOCKER: content}), traces())
    assert caught.value.path == DOCKER


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        pytest.param({"Name": 5}, {"name": None}, id="name is a number"),
        pytest.param({"Name": ""}, {"name": None}, id="empty name"),
        pytest.param({"Name": "web"}, {}, id="name without a slash"),
        pytest.param({"Created": "yesterday"}, {"created_at": None}, id="time in words"),
        pytest.param({"Created": None}, {"created_at": None}, id="no time"),
        pytest.param({"Config": []}, {"image": None, "labels": None}, id="config is a list"),
        pytest.param({"Config": {"Image": {}, "Labels": None}}, {"image": None, "labels": None}, id="image is none"),
        pytest.param(
            {"Config": {"Image": "nginx:1", "Labels": {"a": "1", "b": 2, "c": None}}},
            {"labels": (("a", "1"),)},
            id="labels of other types",
        ),
        pytest.param({"Config": {"Image": "nginx:1", "Labels": {}}}, {"labels": ()}, id="no labels"),
    ],
)
def test_a_wrong_type_costs_only_its_field(state: dict[str, object], changes: dict[str, object]) -> None:
    """A newer engine that writes one thing otherwise does not hide the rest."""
    assert declared(DOCKER, **changes) == docker.declaration(Files({DOCKER: docker_state(**state)}), traces())


@pytest.mark.parametrize("engine", [docker, podman], ids=lambda engine: engine.NAME)
def test_state_that_may_not_be_read_is_denied(engine: Any) -> None:
    """Engines keep their state from ordinary users: unknown, which is not the same as nothing declared."""
    refused = Denied("x", "Permission denied")
    files = Files(dict.fromkeys((DOCKER, f"{STORAGE}/overlay-containers/containers.json"), refused))
    with pytest.raises(Denied):
        engine.declaration(files, traces())


@pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.NAME)
def test_a_container_without_state_has_no_declaration(engine: Any) -> None:
    """Files of other containers, or none at all, declare nothing."""
    files = Files({f"{STORAGE}/overlay-containers/containers.json": [{"id": OTHER}]})
    assert engine.declaration(files, traces()) is None


def podman_state(**changes: object) -> list[Any]:
    """What containers/storage writes down, among others and things nobody knows."""
    metadata = {"image-name": "docker.io/library/nginx:1", "name": "web"}
    entry = {
        "id": ID,
        "names": ["web", "alias"],
        "metadata": json.dumps(metadata),
        "created": "2024-05-06T09:08:09.5+02:00",
    }
    return [{"id": OTHER, "names": ["other"]}, 7, {}, {**entry, **changes}]


def podman_declared(path: str, **changes: Any) -> Declaration:
    """What should be made of it."""
    said = {"name": "web", "image": "docker.io/library/nginx:1", "created_at": "2024-05-06T07:08:09.500000Z"}
    return Declaration(source=path, runtime="podman", **{**said, **changes})


OVERLAY_OPTIONS = "rw,lowerdir=/data/s/overlay/l/X,upperdir=/data/s/overlay/L/diff,workdir=/data/s/overlay/L/work"


@pytest.mark.parametrize(
    ("root", "path"),
    [
        pytest.param((), f"{STORAGE}/overlay-containers/containers.json", id="the usual storage, overlay"),
        pytest.param((), f"{STORAGE}/vfs-containers/containers.json", id="the usual storage, vfs"),
        pytest.param(
            (mount("/", device="0:50", options=OVERLAY_OPTIONS, kind="overlay"),),
            "/data/s/overlay-containers/containers.json",
            id="where overlay's upperdir is",
        ),
        pytest.param(
            (mount("/", "/data/s/vfs/dir/L"),), "/data/s/vfs-containers/containers.json", id="where vfs's root is bound"
        ),
        pytest.param(
            (mount("/", device="0:50", options=r"rw,upperdir=/my\040data/a\134b/overlay/L/diff", kind="overlay"),),
            "/my data/a\\b/overlay-containers/containers.json",
            id="where overlay's upperdir is, escaped by the kernel",
        ),
        pytest.param(
            (mount("/", device="0:50", options="rw,upperdir=/data/overlay/overlay/L/diff", kind="overlay"),),
            "/data/overlay/overlay-containers/containers.json",
            id="a storage folder called overlay",
        ),
    ],
)
def test_podmans_storage_is_found_through_the_containers_root(root: tuple[Mount, ...], path: str) -> None:
    """``graphroot`` may be anywhere: the container's own root file system says where."""
    assert podman_declared(path) == podman.declaration(Files({path: podman_state()}), traces(*root))


@pytest.mark.parametrize(
    ("state", "changes"),
    [
        pytest.param({"names": None}, {"name": None}, id="no names"),
        pytest.param({"names": []}, {"name": None}, id="empty names"),
        pytest.param({"names": [5]}, {"name": None}, id="name is a number"),
        pytest.param({"names": "web"}, {"name": None}, id="names is no list"),
        pytest.param({"metadata": None}, {"image": None}, id="no metadata"),
        pytest.param({"metadata": "[]"}, {"image": None}, id="metadata is a list"),
        pytest.param({"metadata": '{"image-name": 5}'}, {"image": None}, id="image is a number"),
        pytest.param({"created": 5}, {"created_at": None}, id="time is a number"),
    ],
)
def test_a_wrong_type_in_podmans_list_costs_only_its_field(
    state: dict[str, object], changes: dict[str, object]
) -> None:
    """A newer storage that writes one thing otherwise does not hide the rest."""
    path = f"{STORAGE}/overlay-containers/containers.json"
    assert podman_declared(path, **changes) == podman.declaration(Files({path: podman_state(**state)}), traces())


@pytest.mark.parametrize(
    "content",
    [b"", b"{}", b"null", b"[", json.dumps(podman_state(metadata="{")).encode()],
    ids=["empty", "object", "null", "cut", "metadata cut"],
)
def test_podmans_list_that_is_no_json_list_is_malformed(content: bytes) -> None:
    """The complaint names the file."""
    path = f"{STORAGE}/overlay-containers/containers.json"
    with pytest.raises(Malformed) as caught:
        podman.declaration(Files({path: content}), traces())
    assert caught.value.path == path


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("2024-05-06T07:08:09Z", "2024-05-06T07:08:09.000000Z", id="no fraction"),
        pytest.param("2024-05-06T07:08:09.123456789Z", "2024-05-06T07:08:09.123456Z", id="nanoseconds"),
        pytest.param("2024-05-06T09:08:09+02:00", "2024-05-06T07:08:09.000000Z", id="another zone"),
        pytest.param("2024-05-06T07:08:09", None, id="no zone"),
        pytest.param("2024-13-06T07:08:09Z", None, id="no such month"),
        pytest.param("0001-01-01T00:00:00+01:00", None, id="in the year 0 of UTC"),
        pytest.param("9999-12-31T23:59:59-01:00", None, id="in the year 10,000 of UTC"),
        pytest.param("", None, id="empty"),
        pytest.param(1714979289, None, id="a number"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_time_stamps_are_in_utc_to_the_microsecond(text: object, expected: str | None) -> None:
    """One spelling for all engines; what is no moment is unknown."""
    assert expected == rfc3339(text)


def test_labels_are_sorted_so_that_two_looks_are_equal() -> None:
    """The order in which an engine writes them means nothing."""
    assert labels_or_none({"b": "1", "a": "2"}) == labels_or_none({"a": "2", "b": "1"}) == (("a", "2"), ("b", "1"))


THREE = mask_of(("AUDIT_WRITE", "KILL", "NET_BIND_SERVICE"))
DEFAULTS = {
    "docker": MOBY_DEFAULT,
    "containerd": MOBY_DEFAULT,
    "nerdctl": MOBY_DEFAULT,
    "cri-o": mask_of(
        # crio.conf(5), default_capabilities
        ("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "SETGID", "SETUID", "SETPCAP", "NET_BIND_SERVICE", "KILL")
    ),
    "podman": CONTAINERS_COMMON_DEFAULT,
    "runc": THREE,  # runc spec
    "crun": THREE,  # crun spec
    "lxc": mask_of(NAMES),
    # libvirt src/lxc/lxc_container.c, policy "default"
    "libvirt-lxc": mask_of(
        set(NAMES) - {f"CAP_{n}" for n in ("SYS_MODULE", "SYS_TIME", "MKNOD", "AUDIT_CONTROL", "MAC_ADMIN")}
    ),
    # nomad drivers/shared/capabilities/defaults.go
    "nomad": MOBY_DEFAULT & ~mask_of(["NET_RAW"]),
    "garden": MOBY_DEFAULT,
    "unknown": MOBY_DEFAULT,
}


def test_every_engine_has_a_name_and_a_default() -> None:
    """A verdict on added and dropped capabilities needs what the engine gives when nobody asks."""
    assert {name: engine.DEFAULT_CAPABILITIES for name, engine in BY_NAME.items() if name != "nspawn"} == DEFAULTS
    assert len(BY_NAME) == len(ENGINES)


def test_nspawn_gives_what_its_manual_says() -> None:
    """systemd-nspawn(1), --capability=; what only some versions list is not among them."""
    given = set(names(nspawn.DEFAULT_CAPABILITIES))
    assert len(given) == 26
    assert {"CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_AUDIT_CONTROL"} <= given
    assert not {"CAP_NET_ADMIN", "CAP_SYS_MODULE", "CAP_SYS_TIME", "CAP_SYS_RAWIO", "CAP_IPC_LOCK"} & given


# -- Docker as Kubernetes' engine --------------------------------------------------------------------------------------

KUBELET_LABELS = {
    "io.kubernetes.pod.name": "web-0",
    "io.kubernetes.pod.namespace": "default",
    "io.kubernetes.pod.uid": "5fdde8d1-1a2f-4c1e-8f2b-1d2f3a4b5c6d",
    "io.kubernetes.container.name": "app",
}
POD = Pod("5fdde8d1-1a2f-4c1e-8f2b-1d2f3a4b5c6d", "web-0", "default", None, "app")


@pytest.mark.parametrize(
    ("labels", "pod", "pause"),
    [
        pytest.param({**KUBELET_LABELS, "io.kubernetes.docker.type": "container"}, POD, False, id="container"),
        pytest.param(
            {**KUBELET_LABELS, "io.kubernetes.docker.type": "podsandbox", "io.kubernetes.container.name": "POD"},
            POD._replace(container=None),
            True,
            id="sandbox",
        ),
        pytest.param({"io.kubernetes.container.name": "app"}, None, None, id="no pod in the labels"),
    ],
)
def test_dockers_labels_say_which_pod(labels: dict[str, str], pod: Pod | None, pause: bool | None) -> None:
    """cri-dockerd core/labels.go."""
    state = docker_state(Config={"Image": "nginx:1", "Labels": labels})
    found = docker.declaration(Files({DOCKER: state}), traces())
    assert found is not None
    assert (found.pod, found.pause, found.runtime) == (pod, pause, "docker")


def test_a_folder_that_denies_us_hides_no_other() -> None:
    """A user's own rootless Docker is found although root's folder may not be read."""
    path = f"/home/me/.local/share/docker/containers/{ID}/config.v2.json"
    files = Files({DOCKER: Denied(DOCKER, "Permission denied"), path: docker_state()})
    assert told(
        docker.declaration(files, traces(mount("/etc/hosts", path.replace("config.v2.json", "hosts"))))
    ) == declared(path)


def test_a_broken_file_is_not_replaced_by_what_a_mount_leads_to() -> None:
    """Else whoever may mount could wait for a half-written file."""
    forged = f"/tmp/containers/{ID}/config.v2.json"
    files = Files({DOCKER: b"{", forged: docker_state(Name="/forged")})
    with pytest.raises(Malformed):
        docker.declaration(files, traces(mount("/etc/hosts", f"/tmp/containers/{ID}/hosts")))


# -- containerd --------------------------------------------------------------------------------------------------------

TASKS = "/run/containerd/io.containerd.runtime.v2.task"
RUNC_STATE = {
    # As runc 1.1 writes it for containerd 1.6 on a hybrid host, shortened.
    "id": "redis",
    "init_process_pid": 20757,
    "init_process_start": 412850,
    "created": "2024-05-06T07:08:09.20669207Z",
    "cgroup_paths": {"": "/sys/fs/cgroup/unified/default/redis", "memory": "/sys/fs/cgroup/memory/x/default/redis"},
    "config": {"labels": ["k=v", "bundle=/srv/state/io.containerd.runtime.v2.task/default/redis"]},
}


def bundle(cgroup: str | None = "/default/redis", **annotations: str) -> dict[str, object]:
    """The part of a bundle's config.json that is read."""
    return {"annotations": annotations, "hostname": "h", "linux": {"cgroupsPath": cgroup}}


def cri(kind: str, **more: str) -> dict[str, str]:
    """containerd pkg/cri/annotations: what CRI writes for every container."""
    said = {
        "container-type": kind,
        "sandbox-id": OTHER,
        "sandbox-name": "web-0",
        "sandbox-namespace": "default",
        **more,
    }
    return {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in said.items()}


def test_ctrs_containers_are_claimed() -> None:
    """``ctr run … redis`` makes ``/default/redis``, which says nothing; a task of Docker's is Docker's."""
    files = Files(
        {
            f"{TASKS}/default/redis/config.json": bundle(),
            f"{TASKS}/default/redis/init.pid": b"20757",
            f"{TASKS}/k8s.io/{ID}/config.json": bundle(f"kubepods-pod1.slice:cri-containerd:{ID}"),
            f"{TASKS}/k8s.io/{ID}/init.pid": b"-1\n",
            f"{TASKS}/moby/{OTHER}/config.json": bundle(),
            f"{TASKS}/default/gone/init.pid": b"1",
        }
    )
    assert list(containerd.claims(files)) == [
        Claim("containerd", "redis", f"{TASKS}/default/redis/config.json", b"/default/redis", 20757),
        Claim(
            "containerd",
            ID,
            f"{TASKS}/k8s.io/{ID}/config.json",
            f"/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope".encode(),
            None,
        ),
    ]


def test_a_task_of_a_moved_state_folder_is_claimed_by_what_runc_wrote() -> None:
    """containerd's ``state`` may be anywhere, and runc's own folder for it stays in /run/containerd/runc."""
    path = "/run/containerd/runc/default/redis/state.json"
    assert list(containerd.claims(Files({path: RUNC_STATE}))) == [
        Claim("containerd", "redis", path, b"/default/redis", 20757, 412850)
    ]


@pytest.mark.parametrize("wrong", [b"", b"garbage", b"[]", Unreadable("x", "expected a regular file")], ids=repr)
def test_a_broken_bundle_costs_an_issue_and_no_container(wrong: object) -> None:
    """Its folder still says that there is a container, and containerd's default where; the others are not hidden."""
    files = Files(
        {
            f"{TASKS}/default/redis/config.json": wrong,
            f"{TASKS}/default/redis/init.pid": b"20757",
            f"{TASKS}/default/web/config.json": bundle("/default/web"),
        }
    )
    found = []
    with pytest.raises(KernelError):
        found += containerd.claims(files)
    assert [(claim.id, claim.cgroup, claim.pid) for claim in found] == [
        ("redis", b"/default/redis", 20757),
        ("web", b"/default/web", None),
    ]


@pytest.mark.parametrize(
    ("folder", "monitor"),
    [
        pytest.param(f"{TASKS}/k8s.io", None, id="the usual state folder"),
        pytest.param("/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io", None, id="k3s"),
        pytest.param(
            "/srv/state/io.containerd.runtime.v2.task/k8s.io",
            f"/srv/state/io.containerd.runtime.v2.task/k8s.io/{OTHER}",
            id="where the sandbox's shim works",
        ),
    ],
)
def test_cri_annotations_name_a_container(folder: str, monitor: str | None) -> None:
    """Name, image and pod; the shim is the sandbox's, and the container's bundle beside the sandbox's."""
    path = f"{folder}/{ID}/config.json"
    annotations = cri("container", sandbox_uid="u-1", container_name="app", image_name="docker.io/library/nginx:1")
    files = Files({path: bundle(**annotations), f"/run/containerd/runc/k8s.io/{ID}/state.json": RUNC_STATE})
    assert told(containerd.declaration(files, traces(monitor=monitor))) == Declaration(
        source=path,
        runtime="containerd",
        pause=False,
        pod=Pod("u-1", "web-0", "default", None, "app"),
        name="app",
        image="docker.io/library/nginx:1",
        labels=tuple(sorted(annotations.items())),
        created_at="2024-05-06T07:08:09.206692Z",
    )


def test_cris_sandbox_is_a_pause_container() -> None:
    """It has the pod's name only as its pod's; before containerd 1.7 there is no uid."""
    found = containerd.declaration(Files({f"{TASKS}/k8s.io/{ID}/config.json": bundle(**cri("sandbox"))}), traces())
    assert found is not None
    assert (found.pause, found.name, found.pod) == (True, None, Pod(None, "web-0", "default"))


def test_a_bundle_in_a_moved_state_folder_is_found_without_its_shim() -> None:
    """runc wrote down where the bundle is."""
    path = "/srv/state/io.containerd.runtime.v2.task/default/redis/config.json"
    files = Files({"/run/containerd/runc/default/redis/state.json": RUNC_STATE, path: bundle(k="v")})
    assert told(containerd.declaration(files, traces(name="redis"))) == Declaration(
        source=path, runtime="containerd", labels=(("k", "v"),), created_at="2024-05-06T07:08:09.206692Z"
    )


def test_dockers_tasks_are_not_containerds() -> None:
    """The namespace moby is dockerd's, and so is the shim that works in it."""
    files = Files({f"{TASKS}/moby/{ID}/config.json": bundle()})
    assert containerd.declaration(files, traces(monitor=f"{TASKS}/moby/{ID}")) is None


def test_nerdctls_name_is_among_the_annotations() -> None:
    """nerdctl pkg/labels: labels are passed on as annotations."""
    files = Files({f"{TASKS}/default/{ID}/config.json": bundle(**{"nerdctl/name": "web"})})
    found, same = nerdctl.declaration(files, traces()), containerd.declaration(files, traces())
    assert found is not None
    assert same is not None
    assert (found.name, found.runtime, same.name, same.runtime) == ("web", "nerdctl", "web", "containerd")
    assert nerdctl.declaration(Files({}), traces()) is None


# -- CRI-O: cannot run here; annotations as cri-o pkg/annotations and internal/factory/container write them ------------

CRIO_ANNOTATIONS = {
    "io.container.manager": "cri-o",
    "io.kubernetes.cri-o.ContainerType": "container",
    "io.kubernetes.cri-o.Created": "2024-05-06T09:08:09.5+02:00",
    "io.kubernetes.cri-o.Image": "nginx:1",
    "io.kubernetes.cri-o.ImageName": "docker.io/library/nginx:1",
    "io.kubernetes.cri-o.Labels": json.dumps(KUBELET_LABELS),
    "io.kubernetes.cri-o.Metadata": '{"name":"app","attempt":1}',
    "io.kubernetes.cri-o.Name": "k8s_app_web-0_default_5fdde8d1_0",
}
CRIO_RUN = "/run/containers/storage/overlay-containers"


def crio_declared(path: str, **changes: Any) -> Declaration:
    """What should be made of them."""
    said = {
        "pause": False,
        "pod": POD,
        "name": "app",
        "image": "docker.io/library/nginx:1",
        "labels": tuple(sorted(KUBELET_LABELS.items())),
        "created_at": "2024-05-06T07:08:09.500000Z",
    }
    return Declaration(source=path, runtime="cri-o", **{**said, **changes})


@pytest.mark.parametrize(
    ("folder", "found_by"),
    [
        pytest.param(CRIO_RUN, traces(), id="the usual run folder"),
        pytest.param("/var/lib/containers/storage/overlay-containers", traces(), id="the usual storage"),
        pytest.param(
            "/srv/run/overlay-containers", traces(monitor=f"/srv/run/overlay-containers/{ID}/userdata"), id="conmon"
        ),
        pytest.param(
            "/srv/run/overlay-containers",
            traces(mount("/etc/hostname", f"/srv/run/overlay-containers/{OTHER}/userdata/hostname")),
            id="the sandbox's hostname",
        ),
    ],
)
def test_crios_annotations_name_a_container(folder: str, found_by: Traces) -> None:
    """All of it is in the bundle, wherever the storage is."""
    path = f"{folder}/{ID}/userdata/config.json"
    assert told(crio.declaration(Files({path: {"annotations": CRIO_ANNOTATIONS}}), found_by)) == crio_declared(path)


@pytest.mark.parametrize(
    ("annotations", "changes"),
    [
        pytest.param({"ContainerType": "sandbox"}, {"pause": True, "name": None}, id="sandbox"),
        pytest.param({"Labels": ""}, {"labels": (), "pod": None, "name": "app"}, id="no labels"),
        pytest.param(
            {
                "Labels": "{}",
                "ContainerType": "sandbox",
                "Metadata": '{"name":"web-0","uid":"u","namespace":"d"}',
                "Namespace": "d",
            },
            {"labels": (), "pause": True, "name": None, "pod": Pod("u", "web-0", "d")},
            id="sandbox of crictl",
        ),
        pytest.param({"ImageName": ""}, {"image": "nginx:1"}, id="image without a name"),
    ],
)
def test_crios_containers_differ(annotations: dict[str, str], changes: dict[str, Any]) -> None:
    """Sandboxes, and containers that the kubelet did not make."""
    path = f"{CRIO_RUN}/{ID}/userdata/config.json"
    said = {**CRIO_ANNOTATIONS, **{f"io.kubernetes.cri-o.{key}": value for key, value in annotations.items()}}
    expected = crio_declared(path, **changes)
    if changes.get("pause") and "pod" not in changes:
        expected = crio_declared(path, **changes, pod=POD)
    assert told(crio.declaration(Files({path: {"annotations": said}}), traces())) == expected


def test_podmans_bundles_are_not_crios() -> None:
    """They share the storage; libpod writes one annotation of CRI-O's namespace only for its own use."""
    path = f"{CRIO_RUN}/{ID}/userdata/config.json"
    assert crio.declaration(Files({path: {"annotations": {"io.container.manager": "libpod"}}}), traces()) is None


# -- podman ------------------------------------------------------------------------------------------------------------

LIST = f"{STORAGE}/overlay-containers/containers.json"
SPEC = f"{STORAGE}/overlay-containers/{ID}/userdata/config.json"
DB = f"{STORAGE}/db.sql"
PODID = "d" * 64


def libpod_database(**changes: object) -> bytes:
    """podman libpod/sqlite_state_internal.go: the tables and columns that are read."""
    config = {
        "rootfsImageName": "localhost/db:1",
        "createdTime": "2024-05-06T09:08:09.5+02:00",
        "labels": {"b": "2", "a": "1"},
        **changes,
    }
    connection = sqlite3.connect(":memory:")
    connection.executescript(
        "CREATE TABLE PodConfig (ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, JSON TEXT NOT NULL);"
        "CREATE TABLE ContainerConfig "
        "(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, PodID TEXT, JSON TEXT NOT NULL);"
    )
    connection.execute("INSERT INTO PodConfig VALUES (?, 'mypod', '{}')", (PODID,))
    connection.execute(
        "INSERT INTO ContainerConfig VALUES (?, 'indb', ?, ?)", (ID, changes.get("pod"), json.dumps(config).encode())
    )
    connection.commit()
    return bytes(connection.serialize())


def test_podmans_volatile_containers_are_in_a_list_of_their_own() -> None:
    """``podman run --rm``; containers/storage containers.go."""
    path = LIST.replace("containers.json", "volatile-containers.json")
    assert told(podman.declaration(Files({LIST: [], path: podman_state()}), traces())) == podman_declared(path)


def test_podmans_storage_is_found_through_conmon() -> None:
    """A rootless one is in a home, which nobody walks."""
    folder = "/home/me/.local/share/containers/storage/overlay-containers"
    found = podman.declaration(
        Files({f"{folder}/containers.json": podman_state()}), traces(monitor=f"{folder}/{ID}/userdata")
    )
    assert found == podman_declared(f"{folder}/containers.json")


def test_a_users_storage_is_found_through_crun_when_conmon_is_gone() -> None:
    """The run folder is what the container's mounts lead to, and crun's beside it knows the bundle."""
    folder = "/home/me/.local/share/containers/storage/overlay-containers"
    files = Files(
        {
            f"{folder}/containers.json": podman_state(),
            f"/run/user/1000/crun/{ID}/status": {"bundle": f"{folder}/{ID}/userdata"},
        }
    )
    over = mount("/etc/hosts", f"/run/user/1000/containers/overlay-containers/{ID}/userdata/hosts")
    assert told(podman.declaration(files, traces(over))) == podman_declared(f"{folder}/containers.json")


def test_podmans_database_adds_labels_and_the_pod() -> None:
    """Neither is in the list."""
    files = Files({LIST: podman_state(), DB: libpod_database(pod=PODID)})
    assert told(podman.declaration(files, traces())) == podman_declared(
        LIST, labels=(("a", "1"), ("b", "2")), pod=Pod(PODID, "mypod"), pause=False
    )


def test_podmans_database_is_enough() -> None:
    """A container that the list has lost."""
    assert told(podman.declaration(Files({DB: libpod_database(pod=PODID, pause=True)}), traces())) == Declaration(
        source=DB,
        runtime="podman",
        name="indb",
        image="localhost/db:1",
        labels=(("a", "1"), ("b", "2")),
        created_at="2024-05-06T07:08:09.500000Z",
        pod=Pod(PODID, "mypod"),
        pause=True,
    )


@pytest.mark.parametrize(
    ("identity", "name", "labels", "pod", "infra"),
    [
        ("ebee582491df7e16870b948371f102eb0fb76e6a3fbfa8638bfacb250bef0b87", "plain", ("a", "b"), None, False),
        ("a94aa4861e1f301af8fc1054c12c1e3e1e7eccc355a00a1c1e51d211dee5a5b8", "member", ("c",), "mypod", False),
        ("3d743e36f1edf722601317a1a911c09331d744576143685bd2e287dc6ea76c7b", "577c379a455d-infra", (), "mypod", True),
    ],
)
def test_the_database_of_podman_5_is_understood(
    identity: str, name: str, labels: tuple[str, ...], pod: str | None, infra: bool
) -> None:
    """As podman 5.4.2 wrote it, which keeps the configuration as a blob."""
    data = (Path(__file__).parent / "fixtures/state/podman-5.4.2-db.sql").read_bytes()
    row = libpod_db.container(data, DB, identity)

    assert row is not None
    assert (row.name, row.image, row.pod_name, row.infra) == (name, "localhost/bb:latest", pod, infra)
    assert isinstance(row.labels, dict)
    assert tuple(row.labels) == labels
    assert row.pod is None or row.pod.startswith("577c379a455d")


ENDLESS = (
    "CREATE VIEW ContainerConfig AS WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "
    "SELECT i AS ID, 'x' AS Name, NULL AS PodID, '{}' AS JSON FROM n;"
)
# One call, which nothing interrupts: a second for so many zeros, and a hundred times that for ten times as many.
SLOW = "replace(hex(zeroblob(120000)), hex(zeroblob(60000)) || '1', '')"
VIEW = f"CREATE VIEW ContainerConfig AS SELECT '{ID}' AS ID, {SLOW} AS Name, NULL AS PodID, '{{}}' AS JSON;"
VIRTUAL = "CREATE VIRTUAL TABLE ContainerConfig USING fts5(ID, Name, PodID, JSON);"
# Each twice the one before: a million times the first, all of it before anything is looked for.
BOMB = "CREATE VIEW v0 AS SELECT 1 AS ID, '' AS Name, '' AS PodID, '{}' AS JSON;" + "".join(
    f"CREATE VIEW {name} AS SELECT a.* FROM v{number} a, v{number} b;"
    for number, name in enumerate([*(f"v{number}" for number in range(1, 20)), "ContainerConfig"])
)
GENERATED = (
    f"CREATE TABLE ContainerConfig (ID TEXT, PodID TEXT, JSON TEXT, Name TEXT AS ({SLOW}));"
    f"INSERT INTO ContainerConfig VALUES ('{ID}', NULL, '{{}}');"
)


def made_by(schema: str) -> bytes:
    """A database that a user wrote."""
    connection = sqlite3.connect(":memory:")
    connection.executescript(f"CREATE TABLE PodConfig (ID TEXT, Name TEXT); {schema}")
    return bytes(connection.serialize())


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 8192, id="zeros"),
        pytest.param(b"SQLite format 3\0" + b"\xff" * 5000, id="a header and garbage"),
        pytest.param(libpod_database()[:5000], id="cut"),
        pytest.param(made_by(ENDLESS), id="a view that never ends"),
        pytest.param(made_by(VIEW), id="a view that calls a function"),
        pytest.param(made_by(GENERATED), id="a column that calls a function"),
        pytest.param(made_by(VIRTUAL), id="a table that is a program"),
        pytest.param(made_by(BOMB), id="views of views"),
        pytest.param(libpod_database().replace(b"CREATE", b"CREA\xc4E"), id="a schema that is no text"),
    ],
)
def test_a_broken_database_is_malformed_and_costs_only_what_it_adds(content: bytes) -> None:
    """Nothing but ``Malformed``, quickly; and the list still names the container.  Fails without a look at
    what the schema would compute."""
    with pytest.raises(Malformed) as caught:
        libpod_db.container(content, DB, ID)
    assert caught.value.path == DB
    assert told(podman.declaration(Files({LIST: podman_state(), DB: content}), traces())) == podman_declared(LIST)


@pytest.mark.parametrize(
    "cgroup",
    [
        f"machine-libpod_pod_{PODID}.slice:libpod:{ID}",
        f"/libpod_parent/{PODID}/libpod-{ID}",
        f"user-libpod_pod_{PODID}.slice:libpod:{ID}",
    ],
)
def test_without_a_database_the_bundle_says_the_pod(cgroup: str) -> None:
    """podman before 4.8: an infra container is called after its pod, and its hostname is the pod's name."""
    spec = {**bundle(cgroup), "hostname": "mypod"}
    files = Files({LIST: podman_state(), SPEC: spec})
    assert told(podman.declaration(files, traces())) == podman_declared(LIST, pod=Pod(PODID), pause=False)
    infra = f"{PODID[:12]}-infra"
    files = Files({LIST: podman_state(names=[infra]), SPEC: spec})
    expected = podman_declared(LIST, name=infra, pod=Pod(PODID, "mypod"), pause=True)
    assert told(podman.declaration(files, traces())) == expected


def test_a_name_alone_makes_no_infra_container() -> None:
    """Anybody may call a container so."""
    files = Files({LIST: podman_state(names=["eeeeeeeeeeee-infra"]), SPEC: bundle(f"machine.slice:libpod:{ID}")})
    found = podman.declaration(files, traces())
    assert found is not None
    assert (found.pod, found.pause) == (None, None)


# -- runc and crun -----------------------------------------------------------------------------------------------------

CRUN_STATUS = {
    # crun src/libcrun/status.c
    "pid": 77,
    "process-start-time": 4200,
    "cgroup-path": "/system.slice/crun-web.scope/container",
    "scope": "crun-web.scope",
    "rootfs": "/b/rootfs",
    "systemd-cgroup": True,
    "bundle": "/b",
    "created": "2024-05-06T07:08:09.5Z",
    "detached": True,
}


@pytest.mark.parametrize(
    ("paths", "cgroup"),
    [
        pytest.param({"": "/sys/fs/cgroup/system.slice/runc-web.scope"}, b"/system.slice/runc-web.scope", id="v2"),
        pytest.param({"": "/sys/fs/cgroup/unified/web", "pids": "/sys/fs/cgroup/pids/web"}, b"/web", id="hybrid"),
        pytest.param({"cpu": "/sys/fs/cgroup/cpu,cpuacct/web", "pids": "/sys/fs/cgroup/pids/web"}, b"/web", id="v1"),
        pytest.param({"": "/sys/fs/cgroup/"}, None, id="the root"),
        pytest.param({"": "/elsewhere/web"}, None, id="mounted elsewhere"),
        pytest.param({"": 5}, None, id="a number"),
        pytest.param([], None, id="a list"),
        pytest.param({}, None, id="none"),
    ],
)
def test_runcs_containers_are_claimed(paths: object, cgroup: bytes | None) -> None:
    """With pid, start and cgroup, as runc's libcontainer/container.go writes them."""
    path = "/run/runc/web/state.json"
    files = Files({path: {**RUNC_STATE, "cgroup_paths": paths}})
    assert list(runc.claims(files)) == [Claim("runc", "web", path, cgroup, 20757, 412850)]


def test_runc_has_no_process_yet() -> None:
    """runc PR 5257 writes -1 first."""
    files = Files({"/run/runc/web/state.json": {**RUNC_STATE, "init_process_pid": -1, "init_process_start": 0}})
    assert [(claim.pid, claim.starttime) for claim in runc.claims(files)] == [(None, None)]


@pytest.mark.parametrize(
    ("status", "cgroup"),
    [
        pytest.param({}, b"/system.slice/crun-web.scope", id="systemd driver, with crun's own cgroup below"),
        pytest.param({"cgroup-path": "/system.slice/crun-web.scope"}, b"/system.slice/crun-web.scope", id="without it"),
        pytest.param({"cgroup-path": "/web", "scope": ""}, b"/web", id="cgroupfs driver"),
        pytest.param({"cgroup-path": "web", "scope": None}, b"/web", id="no slash"),
        pytest.param({"cgroup-path": "", "scope": ""}, None, id="no cgroup"),
        pytest.param({"cgroup-path": "/", "scope": ""}, None, id="the root"),
        pytest.param({"cgroup-path": 5}, None, id="a number"),
    ],
)
def test_cruns_containers_are_claimed(status: dict[str, object], cgroup: bytes | None) -> None:
    """Those without a cgroup too (``podman --cgroups=disabled``)."""
    path = "/run/crun/web/status"
    files = Files({path: {**CRUN_STATUS, **status}, "/run/crun/.empty-directory/x": b""})
    assert list(crun.claims(files)) == [Claim("crun", "web", path, cgroup, 77, 4200)]


@pytest.mark.parametrize(("engine", "path"), [(runc, "/run/runc/{}/state.json"), (crun, "/run/crun/{}/status")])
def test_a_broken_state_costs_an_issue_and_no_container(engine: Any, path: str) -> None:
    """Then it is looked for where the runtime puts it when nobody asks."""
    good = RUNC_STATE if engine is runc else CRUN_STATUS
    files = Files({path.format("a"): b"garbage", path.format("b"): good})
    found: list[Claim] = []
    with pytest.raises(Malformed) as caught:
        found += engine.claims(files)
    assert caught.value.path == path.format("a")
    assert (found[0].id, found[0].cgroup, found[0].pid) == ("a", b"/a", None)
    assert [claim.id for claim in found] == ["a", "b"]


def test_what_a_user_writes_claims_nothing() -> None:
    """Any process could be called a container so."""
    files = Files({"/run/user/1000/crun/x/status": CRUN_STATUS, "/run/user/1000/runc/x/state.json": RUNC_STATE})
    assert [*runc.claims(files), *crun.claims(files)] == []


def test_runc_and_crun_declare_time_and_annotations() -> None:
    """A bundle has no name but the id."""
    files = Files({"/run/runc/web/state.json": RUNC_STATE})
    assert told(runc.declaration(files, traces(name="web"))) == Declaration(
        source="/run/runc/web/state.json",
        runtime="runc",
        labels=(("k", "v"),),
        created_at="2024-05-06T07:08:09.206692Z",
    )
    files = Files({"/run/user/1000/crun/web/status": CRUN_STATUS, "/run/user/1000/crun/web/config.json": bundle(q="r")})
    assert told(crun.declaration(files, traces(name="web"))) == Declaration(
        source="/run/user/1000/crun/web/status",
        runtime="crun",
        labels=(("q", "r"),),
        created_at="2024-05-06T07:08:09.500000Z",
    )


@pytest.mark.parametrize("engine", [runc, crun], ids=lambda engine: engine.NAME)
def test_what_runc_and_crun_claim_may_be_podmans(engine: Any) -> None:
    """Without a cgroup only the runtime's file tells of it, and its annotations tell whose it is."""
    userdata = SPEC.removesuffix("/config.json")
    manager = {"io.container.manager": "libpod"}
    labels = [f"bundle={userdata}", "io.container.manager=libpod"]
    files = Files(
        {
            LIST: podman_state(),
            f"/run/runc/{ID}/state.json": {**RUNC_STATE, "config": {"labels": labels}},
            f"/run/crun/{ID}/status": {**CRUN_STATUS, "bundle": userdata},
            f"/run/crun/{ID}/config.json": bundle(**manager),
        }
    )
    assert told(engine.declaration(files, traces())) == podman_declared(LIST)


# -- the others --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "content", "name"),
    [
        pytest.param("/var/lib/lxc/101/config", b"lxc.uts.name = c1\n", "101", id="LXC"),
        pytest.param("/etc/pve/lxc/101.conf", b"arch: amd64\nhostname: web\n", "web", id="Proxmox VE"),
        pytest.param("/etc/pve/lxc/101.conf", b"[snap]\nhostname: old\n", "101", id="a snapshot's hostname"),
        pytest.param("/etc/pve/lxc/101.conf", b"\xff\0hostname:\n", "101", id="garbage"),
    ],
)
def test_lxcs_name_is_the_id_or_what_proxmox_says(path: str, content: bytes, name: str) -> None:
    """pct.conf(5), lxc.container.conf(5)."""
    found = lxc.declaration(Files({path: content}), traces(name="101"))
    assert found == Declaration(source=path, name=name)


@pytest.mark.parametrize(
    ("content", "image", "created_at"),
    [
        pytest.param(
            b"# This is private data. Do not parse.\nNAME=deb\nROOT=/var/lib/machines/deb\nREALTIME=1714979289500000\n",
            "/var/lib/machines/deb",
            "2024-05-06T07:08:09.500000Z",
            id="as machined 252 writes it",
        ),
        pytest.param(b"", None, None, id="empty"),
        pytest.param(b"\xff\xfe=\nREALTIME=9" + b"9" * 40, None, None, id="garbage"),
        pytest.param("REALTIME=\u0661".encode(), None, None, id="digits of another script"),
    ],
)
def test_machined_says_where_a_machine_runs_from(content: bytes, image: str | None, created_at: str | None) -> None:
    """systemd src/machine/machine.c, machine_save()."""
    path = "/run/systemd/machines/deb"
    found = nspawn.declaration(Files({path: content}), traces(name="deb"))
    assert found == Declaration(source=path, name="deb", image=image, created_at=created_at)


@pytest.mark.parametrize(
    ("text", "cgroup"),
    [
        pytest.param("", None, id="unset"),
        pytest.param("/a/b", b"/a/b", id="a path"),
        pytest.param("a", b"/a", id="without a slash"),
        pytest.param(":cri-containerd:x", b"/system.slice/cri-containerd-x.scope", id="no slice"),
        pytest.param("a-b.slice:runc:x", b"/a.slice/a-b.slice/runc-x.scope", id="a slice below another"),
        pytest.param("-.slice:runc:x", b"/runc-x.scope", id="the root slice"),
        pytest.param("a.slice:p:b.slice", b"/a.slice/b.slice", id="a slice as the name"),
    ],
)
def test_cgroupspath_leads_to_a_cgroup(text: str, cgroup: bytes | None) -> None:
    """OCI runtime specification config-linux.md, runc docs/systemd.md."""
    assert oci.cgroup_of(text) == cgroup


@pytest.mark.parametrize(
    ("data", "value"),
    [
        pytest.param(rb'"a\ud800b"', "a\ufffdb", id="high"),
        pytest.param(rb'{"\uDFFF": ["\udc80"]}', {"\ufffd": ["\ufffd"]}, id="low"),
        pytest.param(rb'"\ud83d\ude00"', "\U0001f600", id="a whole pair"),
        pytest.param(rb'"\\ud800"', r"\ud800", id="a backslash"),
        pytest.param(rb'["\ud800", 1e999, 12345678901234567890123]', ["\ufffd", math.inf, 12345678901234567890123]),
    ],
)
def test_a_state_file_holds_text_that_a_path_can_hold(data: bytes, value: object) -> None:
    """Fails where half of a surrogate pair is left in it: whoever makes a path or a cgroup of that cannot encode it."""
    assert ascii(oci.parse_json(data, "/x")) == ascii(value)


@pytest.mark.parametrize("data", [b'"\xed\xa0\x80"', b'"\xff"', b"\xff\xfe[\0]\0", b"[" * 60_000])
def test_a_state_file_is_json_in_utf_8(data: bytes) -> None:
    """No encoding is guessed, no depth breaks anything."""
    with pytest.raises(Malformed, match="JSON in UTF-8 of a reasonable depth"):
        oci.parse_json(data, "/x")


@pytest.mark.parametrize("piece", [b"{},", b"[],", b'{"a":1},', b'"k%d",'])
def test_a_state_file_of_more_values_than_memory_is_none(piece: bytes) -> None:
    """Eight megabytes of them were two hundred in memory, of each file of each user."""
    with pytest.raises(Malformed, match="JSON of at most 65536 values"):
        oci.parse_json(b"[" + piece * (1 << 17) + b"1]", "/x")


def test_podman_may_have_four_thousand_containers() -> None:
    """Of what it writes for one in its list."""
    (listed,) = (HOSTS / "podman-v2").glob("**/containers.json")
    (first, *_) = json.loads(listed.read_bytes())
    assert oci.parse_json(json.dumps([first] * 4_000).encode(), "/x") == [first] * 4_000


JUNK: list[object] = [None, 5, 5.5, True, "", "x", "\ud800", [], ["x"], {}, {"x": 5}, -(10**30)]


@pytest.mark.parametrize("junk", JUNK, ids=repr)
def test_no_type_in_a_state_file_raises_anything_else(junk: object) -> None:
    """Every field of every file, one at a time, replaced by something that is none."""
    spec = {**bundle(), "annotations": {**CRIO_ANNOTATIONS, **cri("container"), "nerdctl/name": "x"}}
    whole: dict[str, Any] = {
        DOCKER: docker_state(),
        LIST: [podman_state()[-1]],
        SPEC: spec,
        f"{TASKS}/k8s.io/{ID}/config.json": spec,
        f"/run/runc/{ID}/state.json": RUNC_STATE,
        f"/run/crun/{ID}/status": CRUN_STATUS,
        f"/run/crun/{ID}/config.json": spec,
    }
    for path, content in whole.items():
        for changed in replaced(content, junk):
            files = Files({**whole, path: changed})
            for engine in ENGINES:
                with suppress(KernelError):
                    list(engine.claims(files))
                with suppress(KernelError):
                    engine.declaration(files, traces())


def replaced(value: Any, junk: object) -> list[Any]:
    """``value`` with each of its parts, and itself, replaced by ``junk``."""
    found = [junk]
    if isinstance(value, dict):
        for key in value:
            found += [{**value, key: inner} for inner in replaced(value[key], junk)]
    elif isinstance(value, list):
        for index in range(len(value)):
            found += [[*value[:index], inner, *value[index + 1 :]] for inner in replaced(value[index], junk)]
    return found
