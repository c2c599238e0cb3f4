"""What of the host is mounted in a container."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from nsinspect.collect import collect
from nsinspect.kernfs import Roots
from nsinspect.model import Container, build
from nsinspect.mounts import Visible, masked, visible
from nsinspect.procfs import Mount, host_path
from nsinspect.snapshot import Snapshot
from nsinspect.views import document, page
from tests.work import lines_run

HERE = Path(__file__).parent


def mount(
    root: str, point: str, *, device: str = "8:1", fstype: str = "ext4", options: str = "rw", tags: str = ""
) -> Mount:
    """One line of mountinfo."""
    return Mount(*(word.encode() for word in (device, root, point, options, tags, fstype, "none", "rw")))


HOST = (
    mount("/", "/", device="8:1"),
    mount("/", "/proc", device="0:5", fstype="proc"),
    mount("/", "/sys", device="0:6", fstype="sysfs"),
    mount("/", "/dev", device="0:7", fstype="devtmpfs"),
    mount("/", "/run", device="0:8", fstype="tmpfs"),
    mount("/docker", "/var/lib/docker", device="8:2"),
    mount("/", "/var/lib/docker/overlay2/abc/merged", device="0:90", fstype="overlay"),
)


def one(root: str, point: str, **more: str) -> Visible:
    """The only thing to be said of a container with one more mount."""
    usual = (
        mount("/", "/", device="0:90", fstype="overlay"),
        mount("/", "/proc", device="0:91", fstype="proc"),
        mount("/sys", "/proc/sys", device="0:91", fstype="proc", options="ro"),
        mount("/null", "/proc/kcore", device="0:92", fstype="tmpfs"),
        mount("/", "/dev", device="0:92", fstype="tmpfs"),
        mount("/", "/sys", device="0:6", fstype="sysfs", options="ro"),
        mount("/docker/x", "/sys/fs/cgroup", device="0:30", fstype="cgroup2", options="ro"),
        mount("/docker/containers/x/hostname", "/etc/hostname", device="8:2"),
    )
    (found,) = visible((*usual, mount(root, point, **more)), HOST)
    return found


def test_what_every_container_has_is_no_news():
    assert visible((mount("/", "/", device="0:90", fstype="overlay"),), HOST) == ()
    assert one("/srv/data", "/data").point == b"/data"


def test_a_path_of_the_host_is_named_as_the_host_names_it():
    assert one("/srv/data", "/data").host_path == "/srv/data"
    assert one("/docker/volumes/db/_data", "/var/lib/db", device="8:2").host_path == "/var/lib/docker/volumes/db/_data"
    assert one("/user/1000", "/mnt", device="0:8", fstype="tmpfs").host_path == "/run/user/1000"


@pytest.mark.parametrize(
    ("options", "read_only"), [("rw,relatime", False), ("ro,relatime", True), ("rw,errors=ro", False)]
)
def test_whether_it_may_be_written(options: str, read_only: bool):
    assert one("/srv", "/srv", options=options).read_only is read_only


@pytest.mark.parametrize(
    ("tags", "propagation"),
    [("", "private"), ("shared:3", "shared"), ("master:3", "slave"), ("shared:4 master:3", "shared")],
)
def test_how_mounts_propagate(tags: str, propagation: str):
    assert one("/srv", "/srv", tags=tags).propagation == propagation


@pytest.mark.parametrize(
    ("root", "device", "fstype", "why"),
    [
        ("/", "8:1", "ext4", "everything on the host"),
        ("/etc", "8:1", "ext4", "the host's configuration"),
        ("/root/.ssh", "8:1", "ext4", "the files of the host's root"),
        ("/", "0:5", "proc", "the host's processes"),
        ("/sysrq-trigger", "0:5", "proc", "the host's processes"),
        ("/kernel", "0:6", "sysfs", "the host's devices and cgroups"),
        ("/", "0:7", "devtmpfs", "the host's devices"),
        ("/docker", "8:2", "ext4", "every container's files"),
        ("/", "0:8", "tmpfs", "the host's sockets, engines' among them"),
        ("/docker.sock", "0:8", "tmpfs", "an engine's socket"),
        ("/containerd/containerd.sock", "0:8", "tmpfs", "an engine's socket"),
        ("/user/1000/podman/podman.sock", "0:8", "tmpfs", "an engine's socket"),
    ],
)
def test_what_gives_power_over_the_host_says_so(root: str, device: str, fstype: str, why: str):
    found = one(root, "/somewhere", device=device, fstype=fstype)
    assert found.why
    assert found.why.startswith(why)


@pytest.mark.parametrize("root", ["/srv/data", "/etc/localtime", "/home/u/project", "/usr/share/zoneinfo", "/etcetera"])
def test_an_ordinary_folder_is_no_more_than_that(root: str):
    assert one(root, "/somewhere").why is None


@pytest.mark.parametrize("point", ["/run/secrets", "/run/secrets/kubernetes.io/serviceaccount", "/var/run/secrets/x"])
def test_secrets_are_named_wherever_they_come_from(point: str):
    """A tmpfs of its own, or files of the engine's: named, and never read."""
    assert one("/", point, device="0:77", fstype="tmpfs") == Visible(
        point=point.encode(),
        host_path=None,
        fstype=b"tmpfs",
        read_only=False,
        propagation="private",
        secret=True,
        why=None,
    )
    assert one("/var/lib/kubelet/pods/1/volumes/token", point).secret


def test_the_last_mount_on_a_point_is_the_one_that_is_seen():
    table = (mount("/etc", "/data"), mount("/srv", "/data"))
    assert [found.host_path for found in visible(table, HOST)] == ["/srv"]


def test_what_came_with_a_mount_is_no_news_unless_it_may_be_written():
    """``-v /:/host:ro`` brings everything below along, and leaves that writable."""
    table = (
        mount("/", "/host", options="ro"),
        mount("/", "/host/proc", device="0:5", fstype="proc", options="ro"),
        mount("/", "/host/run", device="0:8", fstype="tmpfs", options="rw"),
        mount("/user", "/host/sys", device="0:8", fstype="tmpfs", options="ro"),
    )
    assert [(found.point, found.read_only) for found in visible(table, HOST)] == [
        (b"/host", True),
        (b"/host/run", False),
        (b"/host/sys", True),
    ]


def test_what_the_host_has_in_two_places_came_with_a_mount_as_well():
    """Two engines, each of which keeps the host's network namespace."""
    places = ("/run/docker/netns/default", "/srv/docker/netns/default")
    host = (*HOST, *(mount("net:[1]", place, device="0:4", fstype="nsfs") for place in places))
    inside = [mount("net:[1]", f"/host{place}", device="0:4", fstype="nsfs") for place in places]
    moved = mount("net:[1]", "/host/elsewhere", device="0:4", fstype="nsfs")

    assert [one.point for one in visible((mount("/", "/host"), *inside), host)] == [b"/host"]
    assert [one.point for one in visible((mount("/", "/host"), moved), host)] == [b"/host", b"/host/elsewhere"]


def test_a_root_that_is_the_hosts_is_no_root_of_its_own():
    (found,) = visible((mount("/", "/"),), HOST)
    assert found.why == "everything on the host"
    assert visible((mount("/var/lib/machines/m1", "/"),), HOST) == ()


def test_a_proc_of_another_container_is_not_its_own():
    """``-v /proc:/host/proc`` is the host's, whatever it is called inside."""
    assert one("/", "/host/proc", device="0:5", fstype="proc").why == "the host's processes"


def test_masked_paths_are_those_that_are_mounted_over():
    table = [mount("/", point) for point in ("/proc", "/proc/kcore", "/proc/sys", "/sys", "/sys/firmware")]
    table.append(mount("/", "/sys/fs/cgroup/cpu"))
    assert masked(table) == (b"/proc/kcore", b"/proc/sys", b"/sys/firmware")


def test_a_path_on_no_mount_of_the_host_is_unknown():
    assert host_path(mount("/x", "/x", device="9:9"), HOST) is None
    assert host_path(mount("/dockerish", "/x", device="8:2"), HOST) is None


def container_with(*more: Mount) -> tuple[Snapshot, Container]:
    """A bundled container with more mounts."""
    snapshot = collect(Roots(root=str(HERE / "fixtures/hosts/docker-hybrid")))
    pid = next(one.init.pid for one in build(snapshot).containers if one.name == "plain")
    its = snapshot.confinements[pid]
    assert its.mounts is not None
    confinements = {**snapshot.confinements, pid: its._replace(mounts=(*its.mounts, *more))}
    changed = dataclasses.replace(snapshot, confinements=confinements, mounts=(*snapshot.mounts, *HOST))
    return changed, next(one for one in build(changed).containers if one.name == "plain")


def shown(*more: Mount) -> str:
    """The page of that container."""
    snapshot, container = container_with(*more)
    return page.show_page(build(snapshot), container, None, (), (), width=None, colour=False)


def test_the_page_says_what_matters_first():
    lines = shown(mount("/srv", "/data", options="ro"), mount("/docker.sock", "/s", device="0:8")).splitlines()
    (first,) = [number for number, line in enumerate(lines) if line.startswith("Sees")]
    assert "/run/docker.sock of the host at /s, read-write: an engine's socket" in lines[first]
    assert lines[first + 1].strip() == "/srv of the host at /data, read-only"


def test_hostile_points_reach_neither_terminal_nor_json():
    hostile = mount("/srv", "/\x1b[31m\n")
    assert all(line.isprintable() for line in shown(hostile).splitlines())
    snapshot, container = container_with(hostile)
    found: dict[str, Any] = json.loads(document.show_document(build(snapshot), container, None, (), ()))
    assert [one["point"] for one in found["container"]["mounts"]] == ["/\\x1b[31m\\x0a"]


def test_a_mount_table_that_could_not_be_read_is_unknown_and_not_empty():
    snapshot, container = container_with()
    confinements = {
        **snapshot.confinements,
        container.init.pid: snapshot.confinements[container.init.pid]._replace(mounts=None),
    }
    unknown = build(dataclasses.replace(snapshot, confinements=confinements))
    same = next(one for one in unknown.containers if one.id == container.id)
    found: dict[str, Any] = json.loads(document.show_document(unknown, same, None, (), ()))

    assert found["container"]["mounts"] is None
    assert found["container"]["security"]["masked_paths"] is None
    assert "unknown: its mounts could not be read" in page.show_page(
        unknown, same, None, (), (), width=None, colour=False
    )


SHAPES = {
    "side by side": lambda number: mount(f"/a{number}", f"/m/{number}"),
    "below many others": lambda number: mount(
        f"/a{number}", "/x" * min(number + 1, 70) + (f"/{number}" if number >= 70 else "")
    ),
    "one folder in many places": lambda number: mount("/a", f"/m/{number}/x"),
    "one folder at the end of many": lambda number: mount("/a", f"/{number}" + "/x" * 20),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_ten_times_the_mounts_are_ten_times_the_work(shape: str):
    """Whoever may mount in a container may do so 100,000 times.  Fails where each is compared with all others."""

    def work(count: int) -> int:
        mounts = [SHAPES[shape](number) for number in range(count)]
        return lines_run(lambda: visible(mounts, HOST))

    # More than are looked at above one, or the first ten times would be another kind of work.
    assert work(3000) < 12 * work(300)


def test_a_page_has_an_end_and_says_so():
    """What matters comes first, and the document has all."""
    many = [mount(f"/srv/{number}", f"/data/{number}") for number in range(300)]
    lines = shown(*many, mount("/docker.sock", "/s", device="0:8")).splitlines()
    (first,) = [number for number, line in enumerate(lines) if line.startswith("Sees")]

    assert "an engine's socket" in lines[first]
    assert lines[first + 100].strip() == "and 201 more, which --json has"
    assert lines[first + 101].startswith("Listens")


def test_its_own_mounts_seen_again_through_the_hosts_root_are_no_news():
    table = (
        mount("/", "/host"),
        mount("/srv", "/data", options="ro"),
        mount("/srv", "/host/var/lib/docker/overlay2/abc/merged/data", options="ro"),
        mount("/srv", "/writable/data", options="rw"),
    )
    assert [found.point for found in visible(table, HOST)] == [b"/data", b"/host", b"/writable/data"]
