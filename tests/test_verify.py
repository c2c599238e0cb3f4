"""Whatever was altered in a capture is named, wherever it is; and what was not is not."""

from __future__ import annotations

import io
import json
import os
import random
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jsonschema
import pytest
import zstandard
from click.testing import Result

from nsinspect.bundle import LOG, MANIFEST, SNAPSHOT, SUMS, BundleError
from nsinspect.cli import cli
from nsinspect.verify import verify
from tests.looks import HOSTILE, HOSTS, take
from tests.runner import runner

HERE = Path(__file__).parent
OURS = (SNAPSHOT, MANIFEST, LOG, SUMS)
CHANCE = random.Random(3)


def run(*arguments: str) -> Result:
    """The program, in this process."""
    return runner().invoke(cli, arguments, prog_name="nsinspect")


@pytest.fixture(scope="module")
def taken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A capture that tests alter and put right again, and its seal."""
    done, path = take(HOSTS / "podman-v2", tmp_path_factory.mktemp("verify") / "c")
    return path, done.seal


@pytest.fixture
def whole(taken: tuple[Path, str]) -> Iterator[Path]:
    """It, as it was before and after."""
    yield taken[0]
    assert verify(str(taken[0]), taken[1]).problems == ()


def files(capture: Path) -> list[Path]:
    """Every file in it."""
    return [path for path in sorted(capture.rglob("*")) if path.is_file() and not path.is_symlink()]


def links(capture: Path) -> list[Path]:
    """Every link."""
    return [path for path in sorted(capture.rglob("*")) if path.is_symlink()]


def named(capture: Path, seal: str | None = None) -> dict[str, set[str]]:
    """By name, what verify says is wrong with it."""
    found: dict[str, set[str]] = {}
    for name, what in verify(str(capture), seal).problems:
        found.setdefault(name, set()).add(what)
    return found


def mentioned(capture: Path) -> str:
    """Everything that verify says."""
    return "\n".join(f"{name}: {what}" for name, what in verify(str(capture)).problems)


def flipped(data: bytes, offset: int, bit: int | None = None) -> bytes:
    """The same with one bit of one byte another."""
    altered = bytearray(data)
    altered[offset] ^= 1 << (CHANCE.randrange(8) if bit is None else bit)
    return bytes(altered)


@contextmanager
def altered(path: Path, offset: int, bit: int | None = None) -> Iterator[None]:
    """A file with one byte another, for a while."""
    data = path.read_bytes()
    path.write_bytes(flipped(data, offset, bit))
    try:
        yield
    finally:
        path.write_bytes(data)


def test_what_is_as_it_was_is_said_to_be(whole: Path, taken: tuple[Path, str]):
    """All of its files and links are counted."""
    verdict = verify(str(whole), taken[1].upper())
    assert verdict.problems == ()
    assert verdict.seal == taken[1]
    assert verdict.files == len(files(whole)) + len(links(whole))
    answer = run("verify", str(whole), "--seal", taken[1])
    assert (answer.exit_code, answer.output) == (0, f"all {verdict.files} files are as they were\n")


@pytest.mark.parametrize("where", ["first", "last", "any", "any other"])
def test_a_byte_of_any_file_is_named(whole: Path, where: str):
    """One in each of all of them at once, so that it takes one look; those that speak of others have tests below."""
    paths = [path for path in files(whole) if path.name not in OURS and path.stat().st_size]
    kept = {path: path.read_bytes() for path in paths}
    assert len(kept) > 50
    try:
        for path, data in kept.items():
            offset = {"first": 0, "last": len(data) - 1}.get(where, CHANCE.randrange(len(data)))
            path.write_bytes(flipped(data, offset))
        assert named(whole).keys() == {str(path.relative_to(whole)) for path in paths}
    finally:
        for path, data in kept.items():
            path.write_bytes(data)


def test_a_byte_of_any_one_file_is_the_only_one_named(whole: Path):
    for path in CHANCE.sample(files(whole), 10):
        data = path.read_bytes()
        if path.name not in OURS and data:
            with altered(path, CHANCE.randrange(len(data))):
                assert named(whole).keys() == {str(path.relative_to(whole))}


@pytest.mark.parametrize("name", OURS)
def test_a_byte_of_what_speaks_of_others_is_named(whole: Path, name: str):
    """First, last, and all over; that of the sums may be where the sum of a file is, which is said so too."""
    path = whole / name
    size = path.stat().st_size
    for offset in {0, 1, size // 2, size - 2, size - 1, *CHANCE.sample(range(size), 15)}:
        with altered(path, offset):
            try:
                said = mentioned(whole)
            except BundleError as error:
                said = str(error)
            assert name in said, (name, offset, said)


def test_any_byte_of_the_sums_breaks_the_seal(whole: Path, taken: tuple[Path, str]):
    path = whole / SUMS
    for offset in CHANCE.sample(range(path.stat().st_size), 10):
        with altered(path, offset):
            assert SUMS in named(whole, taken[1])


def test_a_byte_of_any_links_target_is_named(whole: Path):
    """Of every link, at one place in all of them, and of one at every place."""
    kept = {path: os.readlink(os.fsencode(path)) for path in links(whole)}
    assert len(kept) > 50

    def put(path: Path, target: bytes) -> None:
        path.unlink()
        os.symlink(target, os.fsencode(path))

    for _ in range(3):
        for path, target in kept.items():
            put(path, flipped(target, CHANCE.randrange(len(target)), 0))
        found = named(whole)
        for path, target in kept.items():
            put(path, target)
        assert found == {str(path.relative_to(whole)): {"altered: a link to somewhere else"} for path in kept}
    path, target = max(kept.items(), key=lambda pair: len(pair[1]))
    for offset in range(len(target)):
        put(path, flipped(target, offset, 0))
        assert named(whole).keys() == {str(path.relative_to(whole))}
    put(path, target)


def test_what_was_removed_is_named(whole: Path, tmp_path: Path):
    paths = [*CHANCE.sample([path for path in files(whole) if path.name not in OURS], 8), *links(whole)[:3]]
    for path in paths:
        path.rename(tmp_path / "aside")
        found = named(whole)
        (tmp_path / "aside").rename(path)
        name = str(path.relative_to(whole))
        assert any("missing" in what for what in found[name]), name
        assert found.keys() <= {name, SUMS}


@pytest.mark.parametrize("name", OURS)
def test_without_what_speaks_of_others_it_is_no_capture(whole: Path, tmp_path: Path, name: str):
    (whole / name).rename(tmp_path / "aside")
    try:
        answer = run("verify", str(whole))
        assert answer.exit_code == 6
        assert answer.stderr == f"nsinspect: {whole}: expected a capture, found no {name}\n"
    finally:
        (tmp_path / "aside").rename(whole / name)


@pytest.mark.parametrize("name", ["more", "proc/1/more", "proc/99/stat", "sys/fs/cgroup/more\n", "\udcff"])
@pytest.mark.parametrize("what", ["file", "empty file", "link", "fifo"])
def test_what_was_added_is_named(whole: Path, name: str, what: str):
    path = whole / name
    made = not path.parent.exists()
    path.parent.mkdir(exist_ok=True)
    if what == "fifo":
        os.mkfifo(path)
    elif what == "link":
        path.symlink_to("/etc/passwd")
    else:
        path.write_bytes(b"x" if what == "file" else b"")
    try:
        assert name in named(whole)
        answer = run("verify", str(whole))
        assert answer.exit_code == 1
        assert all(line.isprintable() for line in answer.output.splitlines())
        assert json.loads(run("verify", str(whole), "--json").output)["problems"]
    finally:
        path.unlink()
        if made:
            path.parent.rmdir()


def test_two_that_changed_places_are_both_named(whole: Path):
    """Files, links, and a file and a link."""
    some, other = (path for path in files(whole) if path.name == "mountinfo" and path.parent.name in ("1", "715"))
    first, *_, last = links(whole)
    assert os.readlink(first) != os.readlink(last)
    for one, two in ((some, other), (first, last), (some, last)):
        aside = whole / "aside"

        def swap(one: Path = one, two: Path = two, aside: Path = aside) -> None:
            one.rename(aside)
            two.rename(one)
            aside.rename(two)

        swap()
        found = named(whole)
        swap()
        assert {str(one.relative_to(whole)), str(two.relative_to(whole))} <= found.keys()


def test_a_file_that_has_another_ones_name_is_named(whole: Path):
    path = whole / "proc/meminfo"
    path.rename(whole / "proc/memInfo")
    found = named(whole)
    (whole / "proc/memInfo").rename(path)
    assert {"proc/meminfo", "proc/memInfo"} <= found.keys()


def test_another_seal_is_named(whole: Path, taken: tuple[Path, str]):
    """Whoever alters a file and all that speaks of it does not know how to keep the seal."""
    wrong = "0" * 64
    ((name, what),) = verify(str(whole), wrong).problems
    assert name == SUMS
    assert taken[1] in what
    assert wrong in what
    answer = run("verify", str(whole), "--seal", wrong)
    assert answer.exit_code == 1


def test_a_forged_capture_is_known_by_its_seal_alone(taken: tuple[Path, str], tmp_path: Path):
    """Taken anew of an altered host, everything fits; but not to the seal that was written down elsewhere."""
    root = Path(shutil.copytree(HOSTS / "podman-v2", tmp_path / "host", symlinks=True))
    (root / "proc/sys/kernel/hostname").write_text("forged\n")
    _, forged = take(root, tmp_path / "c")
    assert verify(str(forged)).problems == ()
    assert [name for name, _ in verify(str(forged), taken[1]).problems] == [SUMS]


@pytest.mark.parametrize(
    "manifest",
    [b"", b"{", b"[]", b"null", b'{"files": 1}', b'{"files": [1]}', b'{"files": [{}]}', b"[" * 100_000, b"\xff"],
)
def test_a_manifest_that_is_none_is_named(whole: Path, manifest: bytes):
    data = (whole / MANIFEST).read_bytes()
    (whole / MANIFEST).write_bytes(manifest)
    try:
        assert MANIFEST in named(whole)
    finally:
        (whole / MANIFEST).write_bytes(data)


@pytest.mark.parametrize("odd", [None, 1, [], {}, "", "x", "../../etc/passwd", "\ud800", HOSTILE.decode("latin-1")])
@pytest.mark.parametrize("key", ["file", "link", "sha256"])
def test_a_manifest_that_says_anything_is_named(whole: Path, key: str, odd: object):
    """And it is never taken at its word without a look at the sums."""
    data = (whole / MANIFEST).read_bytes()
    changed = json.loads(data)
    entry = next(one for one in changed["files"] if one["link" if key == "link" else "file"])
    entry[key] = odd
    (whole / MANIFEST).write_text(json.dumps(changed))
    try:
        answer = run("verify", str(whole))
        assert answer.exit_code == 1, answer.exc_info
        assert MANIFEST in answer.output
        assert "\x1b" not in answer.output
    finally:
        (whole / MANIFEST).write_bytes(data)


@pytest.mark.parametrize("sums", [b"", b"\n", b"x", b"\xff" * 100, b"\0" * 100, b"\r" * 10])
def test_sums_that_are_none_are_named(whole: Path, sums: bytes):
    data = (whole / SUMS).read_bytes()
    (whole / SUMS).write_bytes(sums)
    try:
        assert SUMS in named(whole)
    finally:
        (whole / SUMS).write_bytes(data)


def test_lines_more_less_or_twice_in_the_sums_are_named(whole: Path):
    data = (whole / SUMS).read_bytes()
    lines = data.splitlines(keepends=True)
    for other in (
        data + b"\n",
        data + b"0" * 64 + b"  proc/nothing\n",
        data + lines[0],
        data[:-1],
        b"".join(lines[1:]),
        b"".join([*lines[1:], lines[1]]),
        data.replace(b"  proc", b" *proc", 1),
        data.replace(b"\n", b"\r\n", 1),
    ):
        (whole / SUMS).write_bytes(other)
        try:
            assert SUMS in mentioned(whole), other[-90:]
        finally:
            (whole / SUMS).write_bytes(data)


def test_what_verify_says_obeys_the_schema(whole: Path):
    """With nothing wrong and with something."""
    schema = json.loads((HERE.parent / "nsinspect/schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(run("verify", str(whole), "--json").output))
    with altered(whole / "proc/meminfo", 3):
        answer = run("verify", str(whole), "--json")
        assert answer.exit_code == 1
        found = json.loads(answer.output)
        validator.validate(found)
        assert {one["name"] for one in found["problems"]} == {"proc/meminfo"}
        assert "proc/meminfo: altered" in run("verify", str(whole)).output


# -- as an archive -----------------------------------------------------------------------------------------------------


def test_any_byte_of_an_archive_is_named(tmp_path: Path):
    """Its header and its checksum bit by bit, and all over: one in a thousand only says the very same in other words,
    a reference to the other of two places that are alike."""

    def content(archive: bytes) -> bytes:
        return zstandard.ZstdDecompressor(max_window_size=1 << 27).stream_reader(io.BytesIO(archive)).read()

    done, path = take(HOSTS / "podman-v2", tmp_path / "c.tar.zst")
    data = path.read_bytes()
    assert verify(str(path), done.seal).problems == ()
    bits = [(offset, bit) for offset in (*range(8), *range(len(data) - 4, len(data))) for bit in range(8)]
    bits += [(offset, CHANCE.randrange(8)) for offset in CHANCE.sample(range(len(data)), 30)]
    unnoticed, said = [], set()
    for offset, bit in bits:
        path.write_bytes(flipped(data, offset, bit))
        try:
            verdict = verify(str(path))
        except BundleError as error:
            said.add(str(error).startswith(f"{path}: "))
        else:
            if not verdict.problems and content(flipped(data, offset, bit)) != content(data):
                unnoticed.append((offset, bit))
    assert unnoticed == []
    assert said == {True}
