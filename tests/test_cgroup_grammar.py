"""How engines name cgroups: examples with their public source, what must not match, and paths made from the grammar."""

from __future__ import annotations

import gc
import re
import tracemalloc
from collections.abc import Callable
from string import ascii_letters, ascii_lowercase, digits
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect import safe
from nsinspect.hierarchies import ancestors
from nsinspect.runtimes import recognise

A, B, C = "0123456789abcdef" * 4, "b" * 64, "c" * 64
UID = "5fdde8d1-1a2f-4c1e-8f2b-1d2f3a4b5c6d"
UID_ = UID.replace("-", "_")
STATIC = "3e2d1c0b9a8f7e6d5c4b3a2918070605"
ALLOC = "8d0d5e2c-7c1f-4b0e-9a43-0f1e2d3c4b5a"
USER = "/user.slice/user-1000.slice/user@1000.service"
BURSTABLE = f"/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod{UID_}.slice"
KIND = (
    "kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-besteffort.slice"
    f"/kubelet-kubepods-besteffort-pod{UID_}.slice"
)
MISMATCH = f"kubepods-burstable-pod{UID_}.slice:cri-containerd:{A}"


class Row(NamedTuple):
    """A path, the containers it leads through from the outermost, the pod of the innermost, and who says so."""

    path: str
    chain: tuple[tuple[str, str], ...]
    source: str
    uid: str | None = None
    qos: str | None = None


def one(path: str, runtime: str, name: str, source: str, uid: str | None = None, qos: str | None = None) -> Row:
    """A row with one container."""
    return Row(path, ((runtime, name),), source, uid, qos)


ROWS = [
    # Docker
    one(f"/docker/{A}", "docker", A, "moby daemon/oci_linux.go"),
    one(f"/system.slice/docker-{A}.scope", "docker", A, "moby daemon/oci_linux.go"),
    one(f"{USER}/user.slice/docker-{A}.scope", "docker", A, "docker/docs#14545"),
    one(f"{USER}/app.slice/docker-{A}.scope", "docker", A, "docker/docs#14545"),
    one(f"/job.slice/job-1.slice/docker-{A}.scope", "docker", A, "google/cadvisor#3682"),
    one(f"/ecstasks.slice/ecstasks-{STATIC}.slice/docker-{A}.scope", "docker", A, "google/cadvisor#3523"),
    one(f"/ecs/{UID}/{A}", "docker", A, "netdata cgroup-name.sh"),
    one(f"/ecs/{STATIC}/{A}", "docker", A, "amazon-ecs-agent agent/engine (task cgroup)"),
    one(f"/ecs/cluster/{STATIC}/{A}", "docker", A, "netdata cgroup-name.sh"),
    one(f"/actions_job/{A}", "docker", A, "aquasecurity/tracee containers"),
    one(f"/wsl-user/distro-3/systemd/system.slice/docker-{A}.scope", "docker", A, "moby#53531"),
    one(f"/job/{A}", "unknown", A, "docker run --cgroup-parent, cgroupfs driver: moby daemon/oci_linux.go"),
    # Kubernetes on Docker, containerd, CRI-O
    one(f"/kubepods/burstable/pod{UID}/{A}", "unknown", A, "coroot cgroup_test.go", UID, "burstable"),
    one(f"/kubepods/pod{UID}/{A}", "unknown", A, "coroot cgroup_test.go", UID, "guaranteed"),
    one(f"/kubepods/besteffort/pod{STATIC}/{A}", "unknown", A, "aquasecurity/tracee#1786", STATIC, "besteffort"),
    one(f"{BURSTABLE}/docker-{A}.scope", "docker", A, "tkestack/vcuda-controller#19", UID, "burstable"),
    one(f"{BURSTABLE}/cri-containerd-{A}.scope", "containerd", A, "coroot cgroup_test.go", UID, "burstable"),
    one(f"{BURSTABLE}/crio-{A}.scope", "cri-o", A, "coroot cgroup_test.go", UID, "burstable"),
    one(
        f"/kubepods.slice/kubepods-pod{UID_}.slice/cri-containerd-{A}.scope",
        "containerd",
        A,
        "kubernetes pkg/kubelet/cm/cgroup_manager_linux.go",
        UID,
        "guaranteed",
    ),
    one(
        f"/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod{STATIC}.slice/crio-{A}.scope",
        "cri-o",
        A,
        "kubernetes pkg/kubelet/cm/cgroup_manager_linux.go, static pods",
        STATIC,
        "besteffort",
    ),
    one(
        f"/kubepods/burstable/pod{UID}/cri-containerd-{A}", "containerd", A, "falco libsinsp cri.cpp", UID, "burstable"
    ),
    one(f"/system.slice/containerd.service/{MISMATCH}", "containerd", A, "coroot cgroup_test.go", UID, "burstable"),
    one(f"/{MISMATCH}", "containerd", A, "kata-containers#11325", UID, "burstable"),
    one(f"/:cri-containerd:{A}", "containerd", A, "aquasecurity/tracee#1563"),
    one(f"/cri-containerd:{A}", "containerd", A, "aquasecurity/tracee#1563"),
    one(f"/kubepods/pod{UID}/crio-{A}", "cri-o", A, "cri-o internal/config/cgmgr", UID, "guaranteed"),
    one(f"{BURSTABLE}/crio-{A}.scope/container", "cri-o", A, "cri-o internal/config/cgmgr", UID, "burstable"),
    one(f"{BURSTABLE}/crio-{A}.scope/container/exec", "cri-o", A, "cri-o internal/config/cgmgr", UID, "burstable"),
    Row(
        f"/docker/{B}/{KIND}/cri-containerd-{A}.scope",
        (("docker", B), ("containerd", A)),
        "grafana/beyla#468",
        UID,
        "besteffort",
    ),
    Row(
        f"/kubepods/pod{STATIC}/{B}/kubepods/burstable/pod{UID}/{A}",
        (("unknown", B), ("unknown", A)),
        "kubernetes in a pod: the inner pod is the inner container's",
        UID,
        "burstable",
    ),
    # Docker in Docker
    Row(f"/docker/{A}/docker/{B}", (("docker", A), ("docker", B)), "aquasecurity/tracee#2925"),
    one(f"/docker/{A}/init.scope", "docker", A, "containers/podman#12400: systemd inside"),
    one(f"/docker/{A}/libpod-conmon-{B}", "docker", A, "a helper inside belongs to the container it is in"),
    # podman
    one(f"/machine.slice/libpod-{A}.scope", "podman", A, "podman libpod getOCICgroupPath"),
    one(f"/machine.slice/libpod-{A}.scope/container", "podman", A, "crun.1.md"),
    one(f"/machine.slice/libpod-{A}.scope/container/init.scope", "podman", A, "containers/podman#12403"),
    one(f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope", "podman", A, "podman libpod cGroupPath", B),
    one(f"{USER}/user.slice/user-libpod_pod_{B}.slice/libpod-{A}.scope/container", "podman", A, "podman libpod", B),
    one(f"/libpod_parent/libpod-{A}", "podman", A, "podman libpod getOCICgroupPath"),
    one(f"/libpod_parent/{B}/libpod-{A}", "podman", A, "podman 4.3 config.json, cgroupfs manager", B),
    one(f"/system.slice/web.service/libpod-payload-{A}", "podman", A, "podman libpod, --cgroups=split"),
    one(f"{USER}/user.slice/libpod-{A}.scope/container", "podman", A, "podman libpod, rootless"),
    one(f"{USER}/web.service/{A}", "unknown", A, "falcosecurity/libs#815"),
    # nerdctl, runc, crun
    one(f"/system.slice/nerdctl-{A}.scope", "nerdctl", A, "falco libsinsp containerd.cpp"),
    one("/system.slice/runc-my.web_1+a.scope", "runc", "my.web_1+a", "runc docs/systemd.md"),
    one(f"/system.slice/runc-{A}.scope", "runc", A, "runc docs/systemd.md"),
    one("/system.slice/crun-web.scope/container", "crun", "web", "crun src/libcrun/cgroup-systemd.c"),
    # LXC, LXD, Incus
    one("/lxc/web", "lxc", "web", "falco libsinsp lxc.cpp"),
    one("/lxc/101/ns/init.scope", "lxc", "101", "Proxmox VE pve-container"),
    one("/lxc.payload/web", "lxc", "web", "netdata cgroup-name.sh"),
    one("/lxc.payload.web/init.scope", "lxc", "web", "lxc src/lxc/cgroups/cgfsng.c"),
    one("/lxc.payload.project_web-1.2", "lxc", "project_web-1.2", "lxc src/lxc/cgroups/cgfsng.c"),
    Row("/lxc.payload.a/lxc.payload.b", (("lxc", "a"), ("lxc", "b")), "lxc: a container inside a container"),
    Row(f"/lxc/a/docker/{A}", (("lxc", "a"), ("docker", A)), "docker inside lxc: netdata cgroup-name.sh"),
    one("/lxc.payload.a/lxc.monitor.b", "lxc", "a", "lxc: the inner monitor is a process of the outer one"),
    # systemd
    one("/machine.slice/systemd-nspawn@deb.service", "nspawn", "deb", "systemd units/systemd-nspawn@.service.in"),
    one("/machine.slice/systemd-nspawn@deb.service/payload/init.scope", "nspawn", "deb", "netdata, systemd#5490"),
    one("/machine.slice/machine-deb.scope", "nspawn", "deb", "netdata cgroup-name.sh"),
    one(r"/machine.slice/machine-my\x2ddeb.scope/payload", "nspawn", "my-deb", "systemd src/machine/machine-dbus.c"),
    # libvirt-lxc
    one(
        r"/machine.slice/machine-lxc\x2d12\x2dmy\x2dweb.scope/libvirt", "libvirt-lxc", "my-web", "falco libvirt_lxc.cpp"
    ),
    one("/machine/web.libvirt-lxc", "libvirt-lxc", "web", "falco libsinsp libvirt_lxc.cpp"),
    one("/libvirt/lxc/web", "libvirt-lxc", "web", "falco libsinsp libvirt_lxc.cpp"),
    # Nomad
    one(f"/nomad.slice/{ALLOC}.redis.scope", "nomad", f"{ALLOC}.redis", "nomad-driver-containerd#133"),
    one(
        f"/nomad.slice/share.slice/{ALLOC}.a.b.scope", "nomad", f"{ALLOC}.a.b", "nomad client/lib/cgroupslib/editor.go"
    ),
    one(f"/nomad/{ALLOC}.redis", "nomad", f"{ALLOC}.redis", "nomad client/lib/cgroupslib/editor.go, v1"),
    # Garden and BPM
    one("/garden/0f1e2d3c-4b5a-6978-8796-a5b4", "garden", "0f1e2d3c-4b5a-6978-8796-a5b4", "tracee, guardian"),
    one("/system.slice/bpm-nats.scope", "garden", "bpm-nats", "falco libsinsp bpm.cpp"),
    one("/bpm-nats-tls", "garden", "bpm-nats-tls", "falco libsinsp bpm.cpp"),
    # a reader in a cgroup namespace of its own
    one(f"/../cri-containerd-{A}.scope", "containerd", A, "grafana/beyla#468"),
    one(
        f"/../../kubepods/pod{UID}/{A}",
        "unknown",
        A,
        "kernel Documentation/admin-guide/cgroup-v2.rst",
        UID,
        "guaranteed",
    ),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.path[:60]} [{row.source[:30]}]")
def test_an_example_leads_to_its_containers(row: Row) -> None:
    """Each is taken from the source that is named; ids are made up."""
    chain = recognise(row.path.encode())
    assert tuple((match.runtime, match.id) for match in chain) == row.chain
    pod = chain[-1].pod
    assert (pod and pod.uid, pod and pod.qos) == (row.uid, row.qos)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.path[:60])
def test_a_container_has_a_place_in_the_path(row: Row) -> None:
    """The cgroup that names it, and below that the one for its processes; a path below leads to the same."""
    path = row.path.encode()
    chain = recognise(path)
    for match in chain:
        assert match.payload.startswith(match.path)
        assert (path + b"/").startswith(match.payload + b"/")
    assert recognise(path + b"/init.scope")[: len(chain)] == chain
    assert recognise(b"/x.slice" + path)[-1].id == chain[-1].id, "no name is anchored at the root"


NO_CONTAINERS = [
    "",
    "/",
    "/..",
    "/init.scope",
    "/system.slice",
    "/system.slice/ssh.service",
    "/system.slice/docker.service",
    "/system.slice/containerd.service",
    "/system.slice/lxc.service",
    "/system.slice/bpm-x.service",
    "/machine.slice",
    "/docker",
    "/lxc",
    "/lxc.payload",
    "/kubepods.slice/kubepods-burstable.slice",
    BURSTABLE,
    f"/kubepods/pod{UID}",
    f"{USER}/app.slice/app-firefox-1234.scope",
    "/user.slice/user-1000.slice/session-2.scope",
    # helpers
    f"{BURSTABLE}/crio-conmon-{A}.scope",
    f"/kubepods/pod{UID}/crio-conmon-{A}",
    f"/machine.slice/libpod-conmon-{A}.scope",
    f"/libpod_parent/libpod-conmon-{A}",
    "/lxc.monitor.web",
    "/lxc.monitor/web",
    "/lxc.pivot",
    f"/kata_overhead/{A}",
    "/machine.slice/systemd-nspawn@deb.service/supervisor",
    "/machine.slice/machine-deb.scope/supervisor",
    "/system.slice/web.service/supervisor",
    # podman's pods, virtual machines
    f"/libpod_parent/{A}",
    f"/machine.slice/machine-libpod_pod_{A}.slice",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope",
    r"/machine.slice/machine-qemu\x2d1\x2dvm.scope/libvirt/emulator",
    # ids that are none
    f"/docker/{A[1:]}",
    f"/docker/{A}0",
    f"/docker/{A.upper()}",
    f"/docker/{A} (deleted)",
    f"/system.slice/docker-{A[1:]}.scope",
    f"/system.slice/docker-{A.upper()}.scope",
    f"/system.slice/docker-{A}.scope.d",
    f"/system.slice/docker-{A}",
    f"/system.slice/xdocker-{A}.scope",
    f"/system.slice/docker-{A}.scope\n",
    f"{BURSTABLE}/cri-containerd-{A[1:]}.scope",
    f"/kubepods/pod{UID}/{A[1:]}",
    "/system.slice/runc-.scope",
    "/system.slice/runc-..scope",
    "/system.slice/runc-a b.scope",
    "/lxc.payload.",
    "/lxc.payload...",
    "/lxc/.lxc",
    "/lxc/web (deleted)",
    "/machine/...libvirt-lxc",
    "/machine/..libvirt-lxc",
    "/libvirt/lxc/..",
    r"/machine.slice/machine-lxc\x2d7\x2dmy\x2fweb.scope",
    r"/machine.slice/machine-lxc\x2d7\x2dmy\x00web.scope",
    r"/machine.slice/machine-\x2e\x2e\x2fetc.scope",
    "/machine.slice/systemd-nspawn@.service",
    f"/nomad.slice/{ALLOC[1:]}.redis.scope",
    f"/system.slice/{ALLOC}.redis",
    "/garden/0f1e2d3c-4b5a-6978-8796",
    UID,
]


@pytest.mark.parametrize("path", NO_CONTAINERS, ids=lambda path: ascii(path)[:60])
def test_what_is_no_container(path: str) -> None:
    """Units of the host, sessions of users, engines' helpers and slices, and names that only look like one."""
    assert recognise(path.encode()) == ()


# -- paths made from the grammar ---------------------------------------------------------------------------------------

HEX = st.binary(min_size=32, max_size=32).map(bytes.hex)
UUID = st.uuids().map(str)
# Text, not a regular expression: those are drawn letter by letter, which took most of the time here.
OCI_NAME = st.text(f"{ascii_letters}{digits}_+.-", min_size=1, max_size=31).filter(lambda name: name[0] != ".")
HOSTNAME = st.text(f"{ascii_lowercase}{digits}-", min_size=1, max_size=22).filter(
    lambda name: "-" not in (name[0], name[-1]) and not name.startswith("qemu-")
)
QOS = st.sampled_from(("guaranteed", "burstable", "besteffort"))
ROOTS = st.sampled_from(
    ("", "/system.slice", "/job.slice/job-1.slice", f"{USER}/app.slice", "/wsl-user/distro-1/systemd", "/..", "/a:b")
)
BELOW = st.sampled_from(("", "/container", "/payload", "/init.scope", "/system.slice/cron.service", "/container/exec"))


class Made(NamedTuple):
    """A path and what it was made from."""

    path: str
    runtime: str
    id: str
    uid: str | None = None
    qos: str | None = None


@st.composite
def pods(draw: st.DrawFn) -> tuple[str, str, str]:
    """The part of a path that the kubelet makes, the pod's uid and its class."""
    uid = draw(UUID | st.binary(min_size=16, max_size=16).map(bytes.hex))
    qos, systemd, prefix = draw(QOS), draw(st.booleans()), draw(st.sampled_from(("", "kubelet-")))
    level = [] if qos == "guaranteed" else [qos]
    if not systemd:
        return "/" + "/".join(["kubepods", *level, f"pod{uid}"]), uid, qos
    names = ["kubepods", *level, f"pod{uid.replace('-', '_')}"]
    slices = [f"{prefix}{'-'.join(names[: end + 1])}.slice" for end in range(len(names))]
    return "/" + "/".join([*([] if not prefix else ["kubelet.slice"]), *slices]), uid, qos


@st.composite
def in_pods(draw: st.DrawFn) -> Made:
    """Containers of Kubernetes."""
    (above, uid, qos), name, root = draw(pods()), draw(HEX), draw(ROOTS)
    forms = {
        f"docker-{name}.scope": "docker",
        f"cri-containerd-{name}.scope": "containerd",
        f"cri-containerd-{name}": "containerd",
        f"crio-{name}.scope": "cri-o",
        f"crio-{name}": "cri-o",
        name: "unknown",
    }
    form = draw(st.sampled_from(sorted(forms)))
    below = draw(BELOW)
    if above.endswith(".slice") and draw(st.booleans()):
        word, runtime = draw(
            st.sampled_from((("cri-containerd", "containerd"), ("docker", "docker"), ("crio", "cri-o")))
        )
        return Made(f"{root}/{above.rpartition('/')[2]}:{word}:{name}{below}", runtime, name, uid, qos)
    return Made(f"{root}{above}/{form}{below}", forms[form], name, uid, qos)


@st.composite
def elsewhere(draw: st.DrawFn) -> Made:
    """Containers of an engine used without Kubernetes."""
    root, name, pod, free = draw(ROOTS), draw(HEX), draw(HEX), draw(OCI_NAME)
    host, alloc = draw(HOSTNAME), draw(UUID)
    escaped = host.replace("-", r"\x2d")
    form, runtime, found, uid = draw(
        st.sampled_from(
            (
                (f"docker/{name}", "docker", name, None),
                (f"docker-{name}.scope", "docker", name, None),
                (f"ecs/{alloc}/{name}", "docker", name, None),
                (f"actions_job/{name}", "docker", name, None),
                (f"x/{name}", "unknown", name, None),
                (f"nerdctl-{name}.scope", "nerdctl", name, None),
                (f"libpod-{name}.scope", "podman", name, None),
                (f"web.service/libpod-payload-{name}", "podman", name, None),
                (f"libpod_parent/libpod-{name}", "podman", name, None),
                (f"libpod_parent/{pod}/libpod-{name}", "podman", name, pod),
                (f"machine-libpod_pod_{pod}.slice/libpod-{name}.scope", "podman", name, pod),
                (f"user-libpod_pod_{pod}.slice/libpod-{name}.scope", "podman", name, pod),
                (f"runc-{free}.scope", "runc", free, None),
                (f"crun-{free}.scope", "crun", free, None),
                (f"lxc/{host}", "lxc", host, None),
                (f"lxc.payload/{host}", "lxc", host, None),
                (f"lxc.payload.{host}", "lxc", host, None),
                (f"systemd-nspawn@{host}.service", "nspawn", host, None),
                (f"machine-{escaped}.scope", "nspawn", host, None),
                (rf"machine-lxc\x2d7\x2d{escaped}.scope", "libvirt-lxc", host, None),
                (f"{host}.libvirt-lxc", "libvirt-lxc", host, None),
                (f"libvirt/lxc/{host}", "libvirt-lxc", host, None),
                (f"nomad.slice/{alloc}.{host}.scope", "nomad", f"{alloc}.{host}", None),
                (f"nomad/{alloc}.{host}", "nomad", f"{alloc}.{host}", None),
                (f"garden/{alloc[:28]}", "garden", alloc[:28], None),
                (f"bpm-{host}.scope", "garden", f"bpm-{host}", None),
            )
        )
    )
    return Made(f"{root}/{form}{draw(BELOW)}", runtime, found, uid)


@settings(max_examples=500, deadline=None)
@given(made=in_pods() | elsewhere())
def test_a_path_leads_back_to_what_it_was_made_from(made: Made) -> None:
    """Engine x parent x pod x id, and whatever the container makes below."""
    match = recognise(made.path.encode())[0]
    pod = match.pod
    assert (match.runtime, match.id) == (made.runtime, made.id)
    assert (pod and pod.uid, pod and pod.qos) == (made.uid, made.qos)


@settings(max_examples=200, deadline=None)
@given(outer=elsewhere(), inner=in_pods() | elsewhere())
def test_a_container_inside_another_is_the_second(outer: Made, inner: Made) -> None:
    """Every name is kept, outermost first."""
    chain = recognise(f"{outer.path}{inner.path}".encode())
    assert [(match.runtime, match.id) for match in (chain[0], chain[-1])] == [
        (outer.runtime, outer.id),
        (inner.runtime, inner.id),
    ]


@settings(max_examples=500, deadline=None)
@given(data=st.binary(max_size=300))
def test_random_bytes_never_raise(data: bytes) -> None:
    """Anybody with a cgroup of his own names what is below it."""
    assert isinstance(recognise(data), tuple)


WORDS = st.sampled_from(
    [piece.encode() for row in ROWS for piece in re.split(r"([/:.@-])", row.path) if piece]
    + [b"/", b"\xff", b"\n", b"-", rb"\x2f", rb"\x00", b"."]
)


@settings(max_examples=500, deadline=None)
@given(words=st.lists(WORDS, max_size=30))
def test_pieces_of_the_grammar_never_raise(words: list[bytes]) -> None:
    """Nearer to a name than random bytes; what is found is in the path, and its id is no way out of a folder."""
    path = b"/" + b"".join(words)
    for match in recognise(path):
        assert (path + b"/").startswith(match.path + b"/")
        assert match.id not in ("", ".", "..")
        assert not {"/", "\0"} & set(match.id)


# -- names that a container chose to fill memory with ------------------------------------------------------------------


def kept_of(work: Callable[[], object]) -> int:
    """Bytes that are still held after some work."""
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()


def test_cgroups_that_are_made_to_be_remembered_are_forgotten():
    """Paths of 4,096 bytes, 2,000 deep or with long names, a new one in each scrape: megabytes each, once."""
    container = b"/docker/" + b"c" * 64
    deep = [container + b"/%d" % number + b"/x" * 2000 for number in range(4)]
    long = [container + b"/%d" % number + (b"/" + b"y" * 250) * 15 for number in range(400)]

    def work() -> None:
        for path in (*deep, *long):
            (found,) = recognise(path)
            assert found.path == container
            assert ancestors(path)[-2:] == (b"/docker", b"/")

    assert kept_of(work) < 1 << 20


def test_texts_that_are_made_to_be_remembered_are_forgotten():
    """A label of a container may have megabytes, and every one be another."""

    def work() -> None:
        for number in range(50):
            assert len(safe.text(b"%d" % number + b"x" * 200_000)) > 200_000

    assert kept_of(work) < 1 << 20


def test_below_so_many_cgroups_nobody_keeps_containers():
    """The container around is known however deep its processes are."""
    inner = b"/docker/" + b"d" * 64
    outer = b"/docker/" + b"c" * 64
    assert [one.id[:1] for one in recognise(outer + b"/a" * 30 + inner)] == ["c", "d"]
    assert [one.id[:1] for one in recognise(outer + b"/a" * 100 + inner)] == ["c"]
