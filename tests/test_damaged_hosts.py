"""A host of every engine in which a few things are wrong at once, whatever they are: every command still answers.

``test_faults.py`` does one thing at a time to every file; here names, kinds, places and contents change together.
NSINSPECT_EXAMPLES=5000 looks at more of them.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from fuzz.mutate import mutated
from fuzz.oracles import kept, shown
from nsinspect import bundle, codec
from nsinspect.collect import Collector
from nsinspect.errors import RootError
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build
from nsinspect.verify import verify
from tests import motley
from tests.looks import EVERYTHING, take
from tests.motley import Resident

EXAMPLES = int(os.environ.get("NSINSPECT_EXAMPLES", "12"))
MANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
# In memory, where there is a place for that: a file system that waits for its disk makes this ten times as slow.
_PLACE = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None

NAMES = (
    *(b"0", b"1", b"007", b"5001", b"99999999999", "²".encode(), b"-1", b"self", b"...", b"a\nb", b"\x1b]0;x\x07"),
    *(b"\xff\xfe", "\u202e".encode(), b"config.json", b"state.json", b"fd", b"ns", b"task", b"x" * 255, b" (deleted)"),
    *(
        b"d" * 64,
        b"docker-" + b"e" * 64 + b".scope",
        b"libpod-" + b"e" * 64,
        rb"machine-lxc\x2d1\x2da\x2fb.scope",
        b"\\",
    ),
)
WORDS = (
    *(
        b"",
        b"\0",
        b"\n",
        b"max",
        b"-1",
        b"0",
        b"9" * 25,
        b"1e999",
        b"NaN",
        b"\xff",
        b"\xed\xa0\x80",
        rb'"\ud800"',
        b"/../..",
    ),
    *(
        b" (deleted)",
        b"0::/\n",
        b"0::/../x\n",
        b"net:[4026531840]",
        b"net:[1]",
        b"{}",
        b"[]",
        b"[" * 5000,
        b"a=b",
        b"2 2\n",
    ),
)


class Damage:
    """One thing that is wrong: what is done, where, and how exactly by chance."""

    def __init__(self, kind: str, place: Path, seed: int) -> None:
        self.kind, self.place, self.seed = kind, place, seed

    def __repr__(self) -> str:
        return f"Damage({self.kind!r}, {str(self.place)!r}, {self.seed})"

    def do(self, tree: Path) -> None:
        """Below ``tree``; nothing where an earlier one took it away."""
        path = tree / self.place
        if os.path.lexists(path) and _is_folder(path.parent):
            KINDS[self.kind](path, tree, random.Random(self.seed))


def _is_folder(path: Path) -> bool:
    return not path.is_symlink() and os.path.isdir(path)


def _is_small_file(path: Path) -> bool:
    return not path.is_symlink() and os.path.isfile(path) and path.stat().st_size < 1 << 20


def _new_content(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Files are links to those of other trees: replaced, and never written to."""
    if path.is_symlink():
        target = change(os.readlink(os.fsencode(path))).replace(b"\0", b"\1")[:4000]
        path.unlink()
        os.symlink(target or b" ", os.fsencode(path))
    elif _is_small_file(path):
        data = change(path.read_bytes())
        path.unlink()
        path.write_bytes(data)


def _bytes(path: Path, tree: Path, chance: random.Random) -> None:
    def change(data: bytes) -> bytes:
        at = chance.randrange(len(data) + 1)
        return data[:at] + chance.choice(WORDS) + data[at + chance.choice((0, 0, 1, 5, len(data))) :]

    _new_content(path, change)


def _json(path: Path, tree: Path, chance: random.Random) -> None:
    _new_content(path, lambda data: mutated(data, 1 << 20, chance.randrange(1 << 32)))


def _lines(path: Path, tree: Path, chance: random.Random) -> None:
    def change(data: bytes) -> bytes:
        lines = data.splitlines(keepends=True)
        chance.shuffle(lines)
        return b"".join(lines[chance.randrange(2) :] * chance.choice((1, 1, 2, 50)))

    _new_content(path, change)


def _another(path: Path, tree: Path, chance: random.Random) -> None:
    """The content of some other file or link."""
    others = sorted(one for one in tree.rglob("*") if one.is_symlink() == path.is_symlink() and not _is_folder(one))
    files = [one for one in others if one.is_symlink() or _is_small_file(one)]
    if files:
        one = chance.choice(files)
        data = os.readlink(os.fsencode(one)) if one.is_symlink() else one.read_bytes()
        _new_content(path, lambda _: data)


def _name(path: Path, tree: Path, chance: random.Random) -> None:
    new = os.fsencode(path.parent) + b"/" + chance.choice(NAMES)
    if not os.path.lexists(new):
        os.rename(os.fsencode(path), new)


def _copy(path: Path, tree: Path, chance: random.Random) -> None:
    new = Path(os.fsdecode(os.fsencode(path.parent) + b"/" + chance.choice(NAMES)))
    if os.path.lexists(new):
        return
    if _is_folder(path):
        shutil.copytree(path, new, symlinks=True, copy_function=os.link)
    else:
        os.link(path, new, follow_symlinks=False)


def _gone(path: Path, tree: Path, chance: random.Random) -> None:
    if _is_folder(path):
        shutil.rmtree(path)
    else:
        path.unlink()


def _no_file(path: Path, tree: Path, chance: random.Random) -> None:
    _gone(path, tree, chance)
    make: tuple[Callable[[Path], object], ...] = (
        os.mkfifo,
        os.mkdir,
        Path.touch,
        lambda one: one.symlink_to(one.name),
        lambda one: one.symlink_to("/etc/passwd"),
        lambda one: one.symlink_to(tree / "proc/1"),
        lambda one: one.symlink_to("../" * 30 + "dev/zero"),
        lambda one: (one.touch(), os.truncate(one, 1 << 40)),
    )
    chance.choice(make)(path)


KINDS: dict[str, Callable[[Path, Path, random.Random], None]] = {
    "bytes": _bytes,
    "json": _json,
    "lines": _lines,
    "another's": _another,
    "name": _name,
    "copy": _copy,
    "gone": _gone,
    "no file": _no_file,
}


@pytest.fixture(scope="module")
def host() -> Iterator[tuple[Path, tuple[Resident, ...]]]:
    """The host before anything is wrong."""
    with TemporaryDirectory(dir=_PLACE) as folder:
        yield Path(folder, "host"), motley.build(Path(folder, "host"))


@contextmanager
def damaged(host: Path, damages: list[Damage]) -> Iterator[Path]:
    """It with all that is wrong, in this order."""
    with TemporaryDirectory(dir=_PLACE) as folder:
        tree = motley.again(host, Path(folder, "host"))
        for one in damages:
            one.do(tree)
        yield tree


def places(host: Path) -> list[Path]:
    """Everything that is there."""
    return sorted(path.relative_to(host) for path in host.rglob("*"))


def of(resident: Resident) -> tuple[str, ...]:
    """Where everything begins that is one container's own, or that its engine has of it alone."""
    return (f"proc/{resident.pid}", f"sys/fs/cgroup{resident.cgroup}", *resident.files)


def state_of(model: Model, resident: Resident) -> object:
    """What must be known of a container whatever is wrong with another."""
    (one,) = (one for one in model.containers if (one.runtime, one.id) == (resident.runtime, resident.id))
    return one.init.pid, resident.pid in one.pids, one.name, one.limits, one.capabilities, one.image, one.cgroup_paths


def test_the_host_has_a_container_of_every_engine_with_files(host: tuple[Path, tuple[Resident, ...]]):
    """Else what follows would prove little."""
    root, residents = host
    model = build(Collector(Roots(root=str(root)), EVERYTHING).run()[0])
    assert {issue.kind for issue in model.issues} == {"not_offered"}
    assert all(state_of(model, one) for one in residents)
    engines = {"docker", "containerd", "cri-o", "podman", "runc", "crun", "lxc", "nspawn"}
    assert {one.runtime for one in residents} == engines


@MANY
@given(data=st.data())
def test_whatever_is_wrong_is_shown_and_kept(host: tuple[Path, tuple[Resident, ...]], data: st.DataObject):
    """A capture is taken and holds, what is in it can be read again and shown in every view, or there is no host."""
    root, _ = host
    damage = st.builds(Damage, st.sampled_from(sorted(KINDS)), st.sampled_from(places(root)), st.integers(0, 1 << 32))
    damages = data.draw(st.lists(damage, min_size=1, max_size=6))
    with damaged(root, damages) as tree:
        try:
            done, path = take(tree, tree.parent / "capture")
        except RootError:
            event("no host")
            return
        assert verify(str(path)).problems == ()
        assert codec.decode(codec.loads(bundle.read(str(path), bundle.SNAPSHOT))) == done.snapshot
        shown(kept(done.snapshot))
        event(f"issues: {min(3, len(done.snapshot.issues))}")


@MANY
@given(data=st.data())
def test_what_is_wrong_with_one_container_is_not_wrong_with_another(
    host: tuple[Path, tuple[Resident, ...]], data: st.DataObject
):
    """Whatever is done to the process, the cgroup and the files of one, what is known of all others stays."""
    root, residents = host
    whole = build(Collector(Roots(root=str(root)), EVERYTHING).run()[0])
    victim = data.draw(st.sampled_from(residents))
    own = [path for path in places(root) if f"{path}/".startswith(tuple(f"{one}/" for one in of(victim)))]
    kinds = sorted(KINDS.keys() - {"another's"})
    damage = st.builds(Damage, st.sampled_from(kinds), st.sampled_from(own), st.integers(0, 1 << 32))
    damages = data.draw(st.lists(damage, min_size=1, max_size=6))
    with damaged(root, damages) as tree:
        model = build(Collector(Roots(root=str(tree)), EVERYTHING).run()[0])
        for one in residents:
            if one != victim:
                assert state_of(model, one) == state_of(whole, one)
