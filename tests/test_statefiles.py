"""Engines' state files: bounded, regular, never out of the root, and where a bind mount leads."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from nsinspect import statefiles
from nsinspect.errors import Unreadable
from nsinspect.kernfs import Roots
from nsinspect.procfs import Mount
from nsinspect.statefiles import Reader
from tests.links import a_users_link


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """A captured host beside something that is not part of it."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "config.json").write_bytes(b"outside")
    root = tmp_path / "host"
    (root / "var/lib").mkdir(parents=True)
    (root / "outside").mkdir()
    (root / "outside" / "config.json").write_bytes(b"inside")
    return root


@pytest.fixture(params=["captured", "live"])
def reader(request: pytest.FixtureRequest, host: Path) -> tuple[Reader, str]:
    """A reader below another root, and one of this machine, with the prefix of their paths."""
    if request.param == "live":
        return Reader(Roots(), (), NOBODY.append), str(host)
    return Reader(Roots(root=str(host)), (), NOBODY.append), ""


NOBODY: list[object] = []
"""Complaints nobody listens to."""


def test_a_regular_file_is_read_whole(reader: tuple[Reader, str], host: Path) -> None:
    """Larger than any one read, and exactly as it is."""
    content = os.urandom(700_000)
    (host / "state").write_bytes(content)
    assert content == reader[0].read(f"{reader[1]}/state")


def test_a_missing_file_is_none(reader: tuple[Reader, str]) -> None:
    """No file, or no folder, is no failure: the engine may keep its state elsewhere."""
    assert reader[0].read(f"{reader[1]}/nothing") is None
    assert reader[0].read(f"{reader[1]}/nothing/at/all") is None
    assert reader[0].read(f"{reader[1]}/outside/config.json/below") is None


@pytest.mark.parametrize("name", ["outside/config.json\0/x", "\ud800", "\udfff/config.json"])
def test_a_path_that_can_be_none_is_unreadable(reader: tuple[Reader, str], name: str) -> None:
    """A mount table or an engine's file may name what no file system can hold; it is refused, and not cut at a NUL."""
    for look in (reader[0].read, reader[0].entries):
        with pytest.raises(Unreadable, match="no path can hold a NUL or half of a surrogate pair"):
            look(f"{reader[1]}/{name}")


def make_directory(path: Path) -> None:
    """Something that opens and is no file."""
    path.mkdir()


def make_link(path: Path) -> None:
    """A link to a file that could be read."""
    path.symlink_to("outside/config.json")


@pytest.mark.parametrize("make", [os.mkfifo, make_directory, make_link], ids=["FIFO", "directory", "link"])
def test_only_a_regular_file_is_state(reader: tuple[Reader, str], host: Path, make: object) -> None:
    """Whatever else stands in its place is unreadable, at once.  Fails without O_NOFOLLOW, O_NONBLOCK or S_ISREG."""
    assert callable(make)
    make(host / "state")
    with pytest.raises(Unreadable) as caught:
        reader[0].read(f"{reader[1]}/state")
    assert caught.value.path == f"{reader[1]}/state"


def test_a_device_is_no_state() -> None:
    """A device could have no end."""
    with pytest.raises(Unreadable, match="expected a regular file"):
        Reader(Roots(), (), NOBODY.append).read("/dev/zero")


def test_a_file_beyond_the_limit_is_refused(
    reader: tuple[Reader, str], host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's state is some kilobytes, and our memory is bounded.  Fails without ``MAX_BYTES``."""
    monkeypatch.setattr(statefiles, "MAX_BYTES", 99)
    (host / "state").write_bytes(b"x" * 100)
    (host / "fits").write_bytes(b"x" * 99)
    with pytest.raises(Unreadable, match="larger than 99 bytes"):
        reader[0].read(f"{reader[1]}/state")
    assert reader[0].read(f"{reader[1]}/fits") == b"x" * 99


def of_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each file is that of the user whom its name begins with."""

    def owned(fd: int) -> SimpleNamespace:
        uid = os.path.basename(os.readlink(f"/proc/self/fd/{fd}")).partition("-")[0]
        return SimpleNamespace(st_mode=os.fstat(fd).st_mode, st_uid=int(uid))

    monkeypatch.setattr(statefiles, "_fstat", owned)


def test_nobodys_files_fill_our_memory(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One user has so much room and all together have, whatever is in it; what is root's is not counted.  Fails without
    ``Reader._room``: a user with a cgroup for each of 200 files of 8 MiB ended the exporter."""
    of_users(monkeypatch)
    monkeypatch.setattr(statefiles, "EACH_USER", 100)
    monkeypatch.setattr(statefiles, "ALL_USERS", 250)
    names = [f"{uid}-{one}" for uid in (1000, 1001, 1002) for one in range(4)]
    for name in [*names, "0-a", "0-b"]:
        (host / name).write_bytes(b"x" * (400 if name.startswith("0") else 40))
    reader = Reader(Roots(), (), NOBODY.append)
    found: dict[str, int | str] = {}
    for name in [*names, "0-a", "0-b"]:
        try:
            found[name] = len(reader.read(f"{host}/{name}") or b"")
        except Unreadable as error:
            found[name] = str(error).partition(" larger")[0].rpartition(": ")[2]
    assert list(found.values()) == [
        *(40, 40, "with those before it of uid 1000", "with those before it of uid 1000"),
        *(40, 40, "with those before it of uid 1001", "with those before it of uid 1001"),
        *(40, "with those before it of all users", *["with those before it of all users"] * 2),
        *(400, 400),
    ]
    # Of what was read nothing is read again, and it is still the answer.
    assert reader.read(f"{host}/1000-0") == b"x" * 40


def test_a_copys_files_do_not_fill_our_memory(host: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever made it has all of them, and may have made a million.  Fails without ``A_COPY``."""
    monkeypatch.setattr(statefiles, "A_COPY", 100)
    for name in "abc":
        (host / name).write_bytes(b"x" * 40)
    reader = Reader(Roots(root=str(host)), (), NOBODY.append)
    assert [len(reader.read(name) or b"") for name in ("/a", "/b")] == [40, 40]
    with pytest.raises(Unreadable, match="/c: with those before it larger than 100 bytes"):
        reader.read("/c")


@pytest.mark.parametrize(
    "target", ["/outside", "../../../outside", "../../../../../../outside"], ids=["absolute", "up", "far up"]
)
def test_a_link_of_a_captured_host_stays_inside_it(host: Path, target: str) -> None:
    """A folder that links out of the captured host leads to the same path inside it.  Fails without RESOLVE_IN_ROOT."""
    (host / "var/lib/docker").symlink_to(target)
    assert Reader(Roots(root=str(host)), (), NOBODY.append).read("/var/lib/docker/config.json") == b"inside"


@pytest.mark.parametrize("path", ["/../outside/config.json", "/var/lib/../../../outside/config.json"])
def test_a_path_of_a_captured_host_stays_inside_it(host: Path, path: str) -> None:
    """Two dots in what a file says lead nowhere outside."""
    assert Reader(Roots(root=str(host)), (), NOBODY.append).read(path) == b"inside"


def test_the_magic_links_of_proc_are_not_followed(host: Path) -> None:
    """A link of /proc that jumps to another root is refused below a root of our own.  Fails without
    RESOLVE_NO_MAGICLINKS."""
    reader = Reader(Roots(root="/proc"), (), NOBODY.append)
    with pytest.raises(Unreadable):
        reader.read("/self/root/etc/hostname")


def test_a_linked_folder_of_this_machine_is_followed(host: Path) -> None:
    """An administrator may have moved /var/lib/docker behind a link."""
    (host / "var/lib/docker").symlink_to("../../outside")
    assert Reader(Roots(), (), NOBODY.append).read(f"{host}/var/lib/docker/config.json") == b"inside"


LINKS = [
    pytest.param("folder", "/etc", "folder/passwd", id="absolute"),
    pytest.param("folder", "../" * 30 + "etc", "folder/passwd", id="relative"),
    pytest.param("deep/folder", "/etc", "deep/folder/passwd", id="below a folder"),
    pytest.param("folder", "/proc/self/root/etc", "folder/passwd", id="through another"),
]


@pytest.mark.parametrize(("link", "target", "path"), LINKS)
def test_a_link_of_a_user_leads_to_nothing_of_somebody_else(tmp_path: Path, link: str, target: str, path: str) -> None:
    """A user's state may be behind links that he made; what root keeps is not his to have opened.  Fails where folders'
    links are followed whoever made them."""
    a_users_link(tmp_path / link, target)
    reader = Reader(Roots(), (), NOBODY.append)

    with pytest.raises(Unreadable, match=r"behind a link of uid \d+ that leads to what is uid 0's"):
        reader.read(f"{tmp_path}/{path}")


def test_nor_is_a_folder_listed_for_him(tmp_path: Path) -> None:
    """What there is in a folder would be told."""
    a_users_link(tmp_path / "crun", "/etc")
    with pytest.raises(Unreadable, match="behind a link"):
        Reader(Roots(), (), NOBODY.append).entries(f"{tmp_path}/crun")


@pytest.mark.parametrize(
    ("link", "target"),
    [
        ("moved", "{}/outside"),
        ("moved", "outside"),
        ("moved", "./nowhere/..//outside/"),
        ("var/moved", "../outside"),
        ("moved", "{}/again"),
    ],
)
def test_links_of_one_owner_lead_anywhere(host: Path, link: str, target: str) -> None:
    """Relative, absolute, one to another; for files and for folders."""
    (host / "nowhere").mkdir()
    (host / "again").symlink_to("outside")
    (host / link).symlink_to(target.format(host))
    reader = Reader(Roots(), (), NOBODY.append)
    before = os.listdir("/proc/self/fd")

    assert reader.read(f"{host}/{link}/config.json") == b"inside"
    assert reader.entries(f"{host}/{link}") == ["config.json"]
    assert reader.entries(f"{host}/{link}/") == ["config.json"]
    assert before == os.listdir("/proc/self/fd")


def test_links_without_end_are_unreadable(host: Path) -> None:
    """Also where they came to be between two looks at them."""
    (host / "first").symlink_to("second")
    (host / "second").symlink_to("first")
    with pytest.raises(OSError, match="symbolic links"):
        statefiles._open_part_by_part(f"{host}/first/config.json", statefiles.FLAGS)


def test_each_file_is_read_once(reader: tuple[Reader, str], host: Path) -> None:
    """A list of all containers is not read again for each of them; neither is an absence or a failure."""
    here, prefix = reader
    (host / "state").write_bytes(b"first")
    (host / "bad").mkdir()
    before = here.read(f"{prefix}/state"), here.read(f"{prefix}/late")
    with pytest.raises(Unreadable):
        here.read(f"{prefix}/bad")
    (host / "state").write_bytes(b"second")
    (host / "late").write_bytes(b"late")
    (host / "bad").rmdir()
    (host / "bad").write_bytes(b"good")
    after = here.read(f"{prefix}/state"), here.read(f"{prefix}/late")
    assert (b"first", None) == before == after
    with pytest.raises(Unreadable):
        here.read(f"{prefix}/bad")


def test_reading_leaves_no_descriptor_open(reader: tuple[Reader, str], host: Path) -> None:
    """Neither success nor failure keeps a file or a root open."""
    (host / "directory").mkdir()
    before = os.listdir("/proc/self/fd")
    assert reader[0].read(f"{reader[1]}/outside/config.json") == b"inside"
    with pytest.raises(Unreadable):
        reader[0].read(f"{reader[1]}/directory")
    assert before == os.listdir("/proc/self/fd")


def mount(root: str, point: str, device: bytes = b"8:1") -> Mount:
    """A mount of a part of a disk."""
    return Mount(device, root.encode(), point.encode(), b"rw", b"", b"ext4", b"/dev/sda1", b"rw")


@pytest.mark.parametrize(
    ("hosts", "root", "expected"),
    [
        pytest.param([mount("/", "/")], "/var/lib/x", "/var/lib/x", id="the root file system"),
        pytest.param([mount("/", "/")], "/", "/", id="the root file system itself"),
        pytest.param([mount("/vol", "/")], "/vol", "/", id="the part that is the host's root"),
        pytest.param([mount("/", "/data")], "/docker/x", "/data/docker/x", id="a disk of its own"),
        pytest.param([mount("/vol", "/srv")], "/vol/docker/x", "/srv/docker/x", id="a part of a disk"),
        pytest.param([mount("/vol", "/srv")], "/vol", "/srv", id="exactly that part"),
        pytest.param([mount("/vol", "/srv")], "/volume/x", None, id="a sister of that part"),
        pytest.param([mount("/", "/", b"8:2")], "/x", None, id="another device"),
        pytest.param([mount("/", "/", b"8:2"), mount("/", "/d")], "/x", "/d/x", id="the right device of several"),
        pytest.param([mount("/a", "/1"), mount("/b", "/2")], "/b/x", "/2/x", id="the right part of several"),
        pytest.param([], "/x", None, id="no mounts"),
    ],
)
def test_a_bind_mount_leads_to_its_place_on_the_host(hosts: list[Mount], root: str, expected: str | None) -> None:
    """Device and mounted part of a container's mount, looked up in the host's own mounts."""
    assert expected == Reader(Roots(), hosts, NOBODY.append).host_path(mount(root, "/etc/hostname"))


def test_a_place_that_is_no_utf_8_survives() -> None:
    """File names are bytes, and come back as the very bytes when they are opened."""
    odd = mount("/", "/")._replace(root=b"/\xff")
    assert os.fsencode(Reader(Roots(), [mount("/", "/")], NOBODY.append).host_path(odd) or "") == b"/\xff"
