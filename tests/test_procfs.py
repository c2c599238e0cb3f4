"""Parsers of /proc: every text a kernel, an old kernel or a hostile process can produce."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect import procfs
from nsinspect.errors import Malformed
from nsinspect.procfs import CgroupLine, IdMapLine, Ids, Mount, Stat

FUZZ = settings(deadline=None, max_examples=80)
AFTER_FLAGS = b" 4194304 0 0 0 0 1 2 3 4 20 0 1 0 8812 1200 34 18446744073709551615 1 1\n"

STATUS = {
    "Name": "sleep",
    "Uid": "1000\t1001\t1002\t1003",
    "Gid": "0\t0\t0\t0",
    "NSpid": "4711\t1",
    "CapInh": "0000000000000000",
    "CapPrm": "00000000a80425fb",
    "CapEff": "00000000a80425fb",
    "CapBnd": "000001ffffffffff",
    "CapAmb": "0000000000000400",
    "NoNewPrivs": "1",
    "Seccomp": "2",
    "Seccomp_filters": "1",
}


def stat_of(comm: bytes) -> bytes:
    """A stat line as the kernel prints it, around a comm."""
    return b"4711 (" + comm + b") S 1 4711 4711 0 -1" + AFTER_FLAGS


def status_of(**changes: str | None) -> bytes:
    """A status file with some lines changed, or left out with ``None``."""
    lines = {**STATUS, **changes}
    return "".join(f"{key}:\t{value}\n" for key, value in lines.items() if value is not None).encode()


@pytest.mark.parametrize(
    "comm",
    [
        pytest.param(b"sleep", id="plain"),
        pytest.param(b"Web Content", id="comm with a space"),
        pytest.param(b"((x))", id="comm in parentheses"),
        pytest.param(b"x) S 1 (y", id="comm with ) S 1"),
        pytest.param(b") R 1 1 1 1 1", id="comm that begins like the rest"),
        pytest.param(b"a\nb", id="comm with a newline"),
        pytest.param(b"\xff\xfe\x9b", id="comm that is no UTF-8"),
        pytest.param(b"kworker/0:1", id="comm with a colon"),
        pytest.param(b"", id="empty comm"),
    ],
)
def test_a_stat_line_is_read_whatever_the_process_calls_itself(comm: bytes) -> None:
    """A comm is fifteen bytes of the process's own choice and moves no field.  Fails where a comm ends at its first
    parenthesis."""
    expected = Stat(pid=4711, comm=comm, state="S", ppid=1, starttime=8812)
    assert expected == procfs.parse_stat(stat_of(comm))


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty file"),
        pytest.param(b"\n", id="only a newline"),
        pytest.param(b"4711 (sleep", id="cut in the comm"),
        pytest.param(b"4711 (sleep) S 1 4711", id="cut before the start time"),
        pytest.param(stat_of(b"a").partition(b"12 1200")[0], id="cut inside the start time"),
        pytest.param(stat_of(b"a").partition(b" 1200")[0], id="cut after the start time, which may be longer"),
        pytest.param(stat_of(b"a").replace(b"(", b""), id="no opening parenthesis"),
        pytest.param(stat_of(b"a").replace(b" (a", b""), id="no comm at all"),
        pytest.param(stat_of(b"a").replace(b"8812", b"soon"), id="start time in words"),
        pytest.param(stat_of(b"a").replace(b"4711 (", b"init ("), id="pid in words"),
        pytest.param(stat_of(b"a").replace(b") S", b") \xff"), id="state that is no ASCII"),
        pytest.param(stat_of(b"a").replace(b"8812", b"-1"), id="negative start time"),
        pytest.param(stat_of(b"a").replace(b"8812", b"18446744073709551615"), id="start time beyond any clock"),
        pytest.param(stat_of(b"a").replace(b"8812", b"9" * 5000), id="start time of 5,000 digits"),
    ],
)
def test_a_broken_stat_line_is_malformed(data: bytes) -> None:
    """A line that cannot be understood is refused, never half understood."""
    with pytest.raises(Malformed, match="starttime"):
        procfs.parse_stat(data)


def test_status_gives_identity_and_confinement() -> None:
    """Every line that is used arrives in its field."""
    expected = procfs.Status(
        uid=Ids(1000, 1001, 1002, 1003),
        gid=Ids(0, 0, 0, 0),
        nspid=(4711, 1),
        cap_inh=0,
        cap_prm=0xA80425FB,
        cap_eff=0xA80425FB,
        cap_bnd=0x1FFFFFFFFFF,
        cap_amb=0x400,
        no_new_privs=True,
        seccomp=2,
        seccomp_filters=1,
    )
    assert expected == procfs.parse_status(status_of())


def test_the_order_of_status_lines_means_nothing() -> None:
    """A kernel may print its lines in another order, among lines nobody knows."""
    lines = status_of(VmRSS="12 kB", Fancy="new").splitlines(keepends=True)
    assert procfs.parse_status(status_of()) == procfs.parse_status(b"".join(reversed(lines)))


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("CapAmb", "cap_amb"),
        ("NSpid", "nspid"),
        ("NoNewPrivs", "no_new_privs"),
        ("Seccomp", "seccomp"),
        ("Seccomp_filters", "seccomp_filters"),
    ],
)
def test_a_line_that_an_old_kernel_lacks_is_none(line: str, field: str) -> None:
    """What this kernel does not tell is unknown, not zero."""
    assert getattr(procfs.parse_status(status_of(**{line: None})), field) is None


@pytest.mark.parametrize("line", ["Uid", "Gid", "CapInh", "CapPrm", "CapEff", "CapBnd"])
def test_a_status_without_a_line_every_kernel_has_is_malformed(line: str) -> None:
    """The complaint names the missing line."""
    with pytest.raises(Malformed, match=f"{line}: line"):
        procfs.parse_status(status_of(**{line: None}))


A_MASK = "expected a mask of 16 hexadecimal digits in a status line"
NUMBERS, FOUR_IDS, A_FLAG = (f"expected {what} in a status line" for what in ("numbers", "four ids", "0 or 1"))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"CapEff": "00000000a80425fg"}, A_MASK, id="non-hex capability mask"),
        pytest.param({"CapEff": "0000001ffffffffff"}, A_MASK, id="17 hex digits"),
        pytest.param({"CapEff": "-000000000000001"}, A_MASK, id="negative capability mask"),
        pytest.param({"CapEff": "0000_0000"}, A_MASK, id="mask with an underscore"),
        pytest.param({"CapEff": ""}, A_MASK, id="empty capability mask"),
        pytest.param({"CapEff": "0x000000a80425fb"}, A_MASK, id="mask with a prefix"),
        pytest.param({"CapAmb": "0x0"}, A_MASK, id="ambient mask with a prefix"),
        pytest.param({"Uid": "0\t0\t0"}, FOUR_IDS, id="three user ids"),
        pytest.param({"Uid": "root\t0\t0\t0"}, NUMBERS, id="user id in words"),
        pytest.param({"Uid": "1_000\t0\t0\t0"}, NUMBERS, id="user id with an underscore"),
        pytest.param({"Uid": "0\t+1000\t0\t0"}, NUMBERS, id="user id with a sign"),
        pytest.param({"Gid": "0\t0\t0\t-1"}, NUMBERS, id="negative group id"),
        pytest.param({"Gid": ""}, NUMBERS, id="no group id"),
        pytest.param({"NSpid": "4711\tone"}, NUMBERS, id="pid in words"),
        pytest.param({"NSpid": "4711\t18446744073709551616"}, NUMBERS, id="pid of 65 bits"),
        pytest.param({"Uid": "0\t18446744073709551616\t0\t0"}, NUMBERS, id="user id of 65 bits"),
        pytest.param({"NSpid": "4711\t" + "1" * 5000}, NUMBERS, id="pid of 5,000 digits"),
        pytest.param({"NoNewPrivs": "x"}, A_FLAG, id="flag in letters"),
        pytest.param({"NoNewPrivs": "2"}, A_FLAG, id="flag that is neither"),
        pytest.param({"Seccomp": "filter"}, NUMBERS, id="seccomp mode in words"),
        pytest.param({"Seccomp": "-1"}, NUMBERS, id="negative seccomp mode"),
    ],
)
def test_status_lines_that_are_no_numbers_are_malformed(changes: dict[str, str], expected: str) -> None:
    """A mask, number or flag of another shape is refused, not guessed, in whatever order the lines are."""
    status = status_of(**changes)
    for data in (status, b"".join(reversed(status.splitlines(keepends=True)))):
        with pytest.raises(Malformed, match=expected):
            procfs.parse_status(data)


def test_a_comm_cannot_forge_a_capability_line() -> None:
    """The kernel escapes a newline of Name:, and Name: comes first, so a forged line never counts.  Fails where the
    first line of a name counts."""
    forged = status_of(Name="x\\nCapEff:\t0").replace(b"Name:", b"Name:\tx\nCapEff:\t000001ffffffffff\nName:", 1)
    assert procfs.parse_status(forged).cap_eff == 0xA80425FB


def test_status_with_dos_line_ends_gives_no_wrong_mask() -> None:
    """A file that a tool rewrote is malformed rather than half read."""
    with pytest.raises(Malformed):
        procfs.parse_status(status_of().replace(b"\n", b"\r\n"))


ID = b"f" * 64


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        pytest.param(b"0::/", CgroupLine(0, (), b"/"), id="v2 root"),
        pytest.param(b"0::/a.scope/container", CgroupLine(0, (), b"/a.scope/container"), id="v2"),
        pytest.param(b"4:memory:/docker/" + ID, CgroupLine(4, ("memory",), b"/docker/" + ID), id="v1"),
        pytest.param(b"2:cpu,cpuacct:/x", CgroupLine(2, ("cpu", "cpuacct"), b"/x"), id="co-mounted controllers"),
        pytest.param(b"1:name=systemd:/x", CgroupLine(1, ("name=systemd",), b"/x"), id="named hierarchy"),
        pytest.param(b"0::/a:b:c", CgroupLine(0, (), b"/a:b:c"), id="path containing colons"),
        pytest.param(b"0::/cri-containerd:a:b", CgroupLine(0, (), b"/cri-containerd:a:b"), id="containerd's colons"),
        pytest.param(b"0::/\xff\x1b[31m", CgroupLine(0, (), b"/\xff\x1b[31m"), id="path that is no UTF-8"),
        pytest.param(b"0::/x (deleted)", CgroupLine(0, (), b"/x (deleted)"), id="removed cgroup"),
        pytest.param(b"0::/../..", CgroupLine(0, (), b"/../.."), id="outside the reader's cgroup namespace"),
        pytest.param(b"0::" + b"/a" * 2048, CgroupLine(0, (), b"/a" * 2048), id="the longest path"),
        pytest.param(b"0::/a b\tc", CgroupLine(0, (), b"/a b\tc"), id="path with blanks"),
    ],
)
def test_a_cgroup_line_keeps_its_path_as_it_is(line: bytes, expected: CgroupLine) -> None:
    """Only the first two colons separate; the path is the container's text and stays bytes."""
    assert (expected,) == procfs.parse_cgroup(line + b"\n")


def test_a_hybrid_host_has_lines_of_both_versions() -> None:
    """Every hierarchy keeps its line, in the kernel's order."""
    found = procfs.parse_cgroup(b"5:memory:/m\n1:name=systemd:/s\n0::/u\n")
    expected = [(5, b"/m"), (1, b"/s"), (0, b"/u")]
    assert expected == [(line.hierarchy, line.path) for line in found]


def test_a_last_cgroup_line_needs_no_newline() -> None:
    """The end of the file ends a line, and an empty file has none."""
    assert ((CgroupLine(0, (), b"/a"),), ()) == (procfs.parse_cgroup(b"0::/a"), procfs.parse_cgroup(b""))


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"0:/a", id="one colon"),
        pytest.param(b"garbage", id="no colon"),
        pytest.param(b"x::/a", id="hierarchy in words"),
        pytest.param(b"-1::/a", id="negative hierarchy"),
        pytest.param(b"9" * 5000 + b"::/a", id="hierarchy of 5,000 digits"),
        pytest.param(b"::/a", id="no hierarchy"),
        pytest.param(b"0::a", id="relative path"),
        pytest.param(b"0::", id="no path"),
        pytest.param(b"0::" + b"/a" * 2054, id="path longer than any kernel prints"),
    ],
)
def test_a_broken_cgroup_line_is_malformed(line: bytes) -> None:
    """One bad line makes the file doubtful; nothing of it is believed."""
    with pytest.raises(Malformed, match="hierarchy:controllers:/path"):
        procfs.parse_cgroup(b"1:cpu:/ok\n" + line + b"\n")


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param(b"", b"", id="no optional tag"),
        pytest.param(b" shared:7", b"shared:7", id="one optional tag"),
        pytest.param(b" shared:7 master:2", b"shared:7 master:2", id="several optional tags"),
    ],
)
def test_mountinfo_has_any_number_of_optional_tags(tags: bytes, expected: bytes) -> None:
    """The dash, not a count, ends the optional tags."""
    line = b"36 35 98:0 /root /mnt rw,noatime" + tags + b" - ext4 /dev/root rw,errors=continue\n"
    mount = Mount(b"98:0", b"/root", b"/mnt", b"rw,noatime", expected, b"ext4", b"/dev/root", b"rw,errors=continue")
    assert (mount,) == procfs.parse_mountinfo(line)


def test_mountinfo_escapes_are_undone_once() -> None:
    """Space, tab, newline and backslash of a path come back; an escaped backslash makes no new escape."""
    line = rb"36 35 0:1 /a\040b /c\011d\012e\134040 rw - fuse.\040 so\040urce rw" + b"\n"
    (mount,) = procfs.parse_mountinfo(line)
    expected = (b"/a b", b"/c\td\ne\\040", b"so urce")
    assert expected == (mount.root, mount.point, mount.source)


def test_a_mount_whose_source_is_empty_hides_no_other() -> None:
    """``mount("", ...)`` is nobody's to forbid who may mount at all, and the kernel writes two spaces."""
    table = b"37 36 0:5 / /tmp rw,relatime - tmpfs  rw\n36 35 98:0 / / rw shared:7 - ext4 /dev/root rw\n"
    assert [(one.point, one.source) for one in procfs.parse_mountinfo(table)] == [(b"/tmp", b""), (b"/", b"/dev/root")]


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(b"36 35 98:0 / / rw shared:7 ext4 /dev/root rw", id="no dash"),
        pytest.param(b"36 35 98:0 / / - ext4 /dev/root rw", id="too few fields before the dash"),
        pytest.param(b"36 35 98:0 / / rw - ext4", id="cut after the type"),
        pytest.param(b"\0", id="NUL"),
    ],
)
def test_a_broken_mountinfo_line_is_malformed(line: bytes) -> None:
    """A mount that cannot be understood could hide another, so the table is refused."""
    with pytest.raises(Malformed, match="source options"):
        procfs.parse_mountinfo(line + b"\n")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"", (), id="no map written yet"),
        pytest.param(b"         0          0 4294967295\n", (IdMapLine(0, 0, 4294967295),), id="initial namespace"),
        pytest.param(
            b"0 100000 1000\n1000 1000 1\n", (IdMapLine(0, 100000, 1000), IdMapLine(1000, 1000, 1)), id="two ranges"
        ),
    ],
)
def test_an_id_map_has_a_line_for_each_range(data: bytes, expected: tuple[IdMapLine, ...]) -> None:
    """Ranges arrive in the kernel's order; an unwritten map is empty, not unknown."""
    assert expected == procfs.parse_id_map(data)


@pytest.mark.parametrize("data", [b"0 0\n", b"0 0 all\n", b"0 0 1 1\n", b"\n", b"0 0 " + b"9" * 5000, b"0 -1 1\n"])
def test_a_broken_id_map_is_malformed(data: bytes) -> None:
    """A map says three numbers a line, or nothing at all."""
    with pytest.raises(Malformed, match="inside outside length"):
        procfs.parse_id_map(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"docker-default (enforce)\n", b"docker-default (enforce)"),
        (b"system_u:system_r:container_t:s0:c1,c2\0", b"system_u:system_r:container_t:s0:c1,c2"),
        (b"\n", None),
        (b"", None),
    ],
)
def test_a_label_ends_before_newline_or_nul(data: bytes, expected: bytes | None) -> None:
    """AppArmor ends its label with a newline and SELinux with a NUL; nothing is no label."""
    assert expected == procfs.parse_label(data)


@pytest.mark.parametrize("data", [b"", b"-1\n", b"4x\n", b"1 2\n", b"0x10\n", b"\xff"])
def test_a_file_of_one_number_holds_nothing_else(data: bytes) -> None:
    """Signs, prefixes and second words are malformed."""
    with pytest.raises(Malformed, match="a number"):
        procfs.parse_number(data)


@pytest.mark.parametrize("data", [b"", b"\n", b"soon 1.0\n", b"-1.0 0\n", b"nan 0\n", b"inf 0\n", b"9" * 400 + b" 0\n"])
def test_an_uptime_that_no_clock_shows_is_malformed(data: bytes) -> None:
    """What is computed from it would be no moment."""
    with pytest.raises(Malformed, match="seconds since boot"):
        procfs.parse_uptime(data)


PARSERS = [
    procfs.parse_stat,
    procfs.parse_status,
    procfs.parse_cgroup,
    procfs.parse_mountinfo,
    procfs.parse_id_map,
    procfs.parse_label,
    procfs.parse_number,
    procfs.parse_uptime,
    procfs.parse_word,
    procfs.unescape,
]
PIECES = st.sampled_from([b"0::/", b"Uid:\t0 0 0 0\n", b"CapEff:\t", b" - ", b"(", b") ", b"\\777", b"\n", b"1 ", b":"])


@FUZZ
@given(st.binary() | st.lists(PIECES | st.binary(max_size=3), max_size=30).map(b"".join))
def test_no_bytes_make_a_parser_raise_anything_but_malformed(data: bytes) -> None:
    """Whatever a file holds, the collector meets a record or one known complaint of one printable line."""
    complaints = []
    for parse in PARSERS:
        try:
            parse(data)
        except Malformed as error:
            complaints.append(str(error))
    assert all(complaint.isprintable() for complaint in complaints)


@FUZZ
@given(st.binary(max_size=15).filter(lambda comm: b"\0" not in comm), st.integers(0, 2**22), st.integers(0, 2**42))
def test_a_generated_stat_line_comes_back(comm: bytes, ppid: int, starttime: int) -> None:
    """For every comm a process can have, parent and start time are found."""
    line = b"7 (%b) R %d 1 1 0 -1 64%b %d 0\n" % (comm, ppid, b" 0" * 12, starttime)
    expected = Stat(pid=7, comm=comm, state="R", ppid=ppid, starttime=starttime)
    assert expected == procfs.parse_stat(line)


NAMES = st.binary(min_size=1, max_size=20).filter(lambda name: not set(name) & set(b"\n\0"))


@FUZZ
@given(st.lists(st.tuples(st.integers(0, 99), st.sampled_from([(), ("cpu", "cpuacct"), ("name=x",)]), NAMES)))
def test_generated_cgroup_lines_come_back(rows: list[tuple[int, tuple[str, ...], bytes]]) -> None:
    """Every name a cgroup can have survives, byte for byte."""
    lines = tuple(CgroupLine(number, controllers, b"/" + name) for number, controllers, name in rows)
    text = b"".join(b"%d:%b:%b\n" % (line.hierarchy, ",".join(line.controllers).encode(), line.path) for line in lines)
    assert lines == procfs.parse_cgroup(text)


@FUZZ
@given(NAMES.map(lambda name: b"/" + name))
def test_a_generated_mount_point_comes_back(point: bytes) -> None:
    """What the kernel escapes (blank, tab, newline, backslash) is unescaped to the same bytes."""
    escaped = b"".join(b"\\%03o" % byte if byte in b" \t\n\\" else bytes([byte]) for byte in point)
    (mount,) = procfs.parse_mountinfo(b"1 0 0:9 / " + escaped + b" rw - tmpfs none rw\n")
    assert point == mount.point


def test_a_complaint_names_the_file_once_the_reader_knows_it() -> None:
    """A parser opens nothing; ``at`` adds where the text came from and keeps what was found, in printable form."""
    with pytest.raises(Malformed) as caught:
        procfs.parse_number(b"\x1b]0;x\xff\n")
    assert str(caught.value.at("/proc/1/x")) == r"/proc/1/x: expected a number, found '\x1b]0;x\xff\n'"
