"""Where each controller lives, on v1, v2 and hybrid hosts, and where a path leads."""

from __future__ import annotations

import pytest

from nsinspect.hierarchies import Hierarchy, ancestors, hierarchies_in, paths_in, relative
from nsinspect.procfs import CgroupLine, Mount

V2 = Hierarchy(2, (), "/sys/fs/cgroup", b"/")
MEMORY = Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory", b"/")


def mount(point: str, options: str = "rw", *, root: str = "/", kind: str = "cgroup") -> Mount:
    """One mount, as mountinfo tells it."""
    return Mount(b"0:30", root.encode(), point.encode(), b"rw", b"", kind.encode(), b"none", options.encode())


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        pytest.param(
            [mount("/c/cpu", "rw,cpu"), mount("/c/memory", "rw,memory"), mount("/c/systemd", "rw,xattr,name=systemd")],
            [("/c/cpu", 1, ("cpu",)), ("/c/memory", 1, ("memory",)), ("/c/systemd", 1, ("name=systemd",))],
            id="v1, one mount each",
        ),
        pytest.param(
            [mount("/c/cpu,cpuacct", "rw,cpu,cpuacct"), mount("/c/net", "ro,net_cls,net_prio")],
            [("/c/cpu,cpuacct", 1, ("cpu", "cpuacct")), ("/c/net", 1, ("net_cls", "net_prio"))],
            id="v1, co-mounted",
        ),
        pytest.param(
            [mount("/c/cpuset", "rw,noprefix,cpuset,clone_children,release_agent=/sbin/x")],
            [("/c/cpuset", 1, ("cpuset",))],
            id="v1, options that are no controllers",
        ),
        pytest.param(
            [mount("/c/memory", "rw,seclabel,memory"), mount("/c/systemd", "rw,seclabel,xattr,name=systemd")],
            [("/c/memory", 1, ("memory",)), ("/c/systemd", 1, ("name=systemd",))],
            id="v1 with SELinux",
        ),
        pytest.param(
            [mount("/c/pids", 'rw,context="system_u:object_r:cgroup_t:s0:c1,c2",pids')],
            [("/c/pids", 1, ("pids",))],
            id="v1 with SELinux, a label for all of it",
        ),
        pytest.param(
            [mount("/c/memory", "rw,memory"), mount("/c/unified", "rw,nsdelegate", kind="cgroup2")],
            [("/c/memory", 1, ("memory",)), ("/c/unified", 2, ())],
            id="hybrid",
        ),
        pytest.param(
            [mount("/", kind="ext4"), mount("/c", "rw,nsdelegate,memory_recursiveprot", kind="cgroup2")],
            [("/c", 2, ())],
            id="v2 only",
        ),
        pytest.param([mount("/", kind="ext4"), mount("/proc", kind="proc")], [], id="none"),
        pytest.param(
            [mount("/c", "rw,memory"), mount("/c", "rw,pids")], [("/c", 1, ("pids",))], id="the last mount hides others"
        ),
        pytest.param([mount("/c", "rw,memory"), mount("/c", kind="tmpfs")], [], id="hidden by a tmpfs"),
        pytest.param(
            [mount("/chroot/c", "rw,memory", root="/docker/x"), mount("/c", "rw,memory"), mount("/d", "rw,memory")],
            [("/c", 1, ("memory",))],
            id="several mounts of one hierarchy, the widest counts",
        ),
    ],
)
def test_hierarchies_are_found_controller_by_controller(mounts: list[Mount], expected: list[object]) -> None:
    """mountinfo, not a guess about the host as a whole, says where each controller lives."""
    assert expected == [(h.point, h.version, h.controllers) for h in hierarchies_in(mounts)]


LINES = (
    CgroupLine(4, ("memory",), b"/m"),
    CgroupLine(3, ("cpu", "cpuacct"), b"/c"),
    CgroupLine(1, ("name=systemd",), b"/s"),
    CgroupLine(0, (), b"/u"),
)


@pytest.mark.parametrize(
    ("hierarchy", "expected"),
    [
        pytest.param(V2, b"/u", id="v2"),
        pytest.param(V2._replace(controllers=("hugetlb",)), b"/u", id="v2 with its controllers"),
        pytest.param(MEMORY, b"/m", id="v1"),
        pytest.param(Hierarchy(1, ("cpuacct", "cpu"), "", b"/"), b"/c", id="co-mounted, other order"),
        pytest.param(Hierarchy(1, ("name=systemd",), "", b"/"), b"/s", id="named"),
        pytest.param(Hierarchy(1, ("pids",), "", b"/"), None, id="not there"),
    ],
)
def test_a_process_has_one_path_in_each_hierarchy(hierarchy: Hierarchy, expected: bytes | None) -> None:
    """Paths may differ between hierarchies of one process."""
    assert [expected] == paths_in([hierarchy], LINES)


def test_an_unreadable_cgroup_file_leads_nowhere() -> None:
    """Without lines there is no path, on either version."""
    assert paths_in([V2, MEMORY], ()) == [None, None]


@pytest.mark.parametrize(
    ("root", "path", "expected"),
    [
        pytest.param(b"/", b"/", ".", id="the mount itself"),
        pytest.param(b"/", b"/docker/x", "docker/x", id="below it"),
        pytest.param(b"/docker/x", b"/docker/x/y", "y", id="a mount of a part"),
        pytest.param(b"/docker/x", b"/docker/x", ".", id="exactly the mounted part"),
        pytest.param(b"/docker/x", b"/docker/xy", None, id="a sister of the mounted part"),
        pytest.param(b"/docker/x", b"/", None, id="above the mounted part"),
        pytest.param(b"/", b"/../..", None, id="outside the cgroup namespace"),
        pytest.param(b"/", b"/a/../../etc", None, id="leading out of the mount"),
        pytest.param(b"/", b"/..a/b..", "..a/b..", id="dots in a name"),
        pytest.param(b"/", b"/a\0b", None, id="a NUL, which no name can hold"),
        pytest.param(b"/", b"/a (deleted)", "a (deleted)", id="removed"),
        pytest.param(b"/", b"/\xff", "\udcff", id="no UTF-8"),
    ],
)
def test_only_what_a_mount_shows_has_a_directory(root: bytes, path: bytes, expected: str | None) -> None:
    """A path outside the mounted part, or out of the reader's view, is None and never a wrong directory."""
    assert expected == relative(V2._replace(root=root), path)


@pytest.mark.parametrize(
    ("path", "expected"),
    [(b"/", [b"/"]), (b"/a", [b"/a", b"/"]), (b"/a/b:c/d", [b"/a/b:c/d", b"/a/b:c", b"/a", b"/"])],
)
def test_ancestors_lead_up_to_the_root(path: bytes, expected: list[bytes]) -> None:
    """The cgroup itself first, the root last, each once."""
    assert tuple(expected) == ancestors(path)
