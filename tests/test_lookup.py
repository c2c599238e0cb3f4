"""Which container a person means."""

from __future__ import annotations

import pytest

from nsinspect.declarations import Declaration
from nsinspect.hierarchies import Hierarchy
from nsinspect.lookup import Ambiguous, NotFound, find
from nsinspect.model import Model, build
from nsinspect.namespaces import UNKNOWN
from nsinspect.procfs import parse_cgroup
from nsinspect.snapshot import HostFacts, Process, Snapshot

WEB = "abcd" + "1" * 60
DB = "abce" + "2" * 60
POD = "ffff" + "3" * 60
# Somebody named a container like the beginning, and another like the whole, of other containers' ids.
LIKE_A_PREFIX = "0a0a" + "4" * 60
LIKE_AN_ID = "0b0b" + "5" * 60


def process(pid: int, lines: str) -> Process:
    """A process with its cgroup lines."""
    cgroup = parse_cgroup(lines.encode())
    return Process(pid=pid, ppid=1, starttime=pid, comm=b"x", state="S", cgroup=cgroup, namespaces=UNKNOWN, status=None)


@pytest.fixture(scope="module")
def model() -> Model:
    """Five containers of two engines on a hybrid host."""
    names = {WEB: "web", DB: "db", LIKE_A_PREFIX: "ffff", LIKE_AN_ID: DB}
    facts = ("hostname", "boot_id", "kernel", "cpus_online", "memory_bytes", "cap_last_cap", "boot_time", "uptime")
    return build(
        Snapshot(
            captured_at=0.0,
            host=HostFacts(namespaces=UNKNOWN, capabilities=None, **dict.fromkeys(facts)),
            hierarchies=(
                Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory", b"/"),
                Hierarchy(1, ("cpuset",), "/sys/fs/cgroup/cpuset", b"/"),
                Hierarchy(2, (), "/sys/fs/cgroup/unified", b"/"),
            ),
            processes=(
                process(10, f"4:memory:/docker/{WEB}\n3:cpuset:/elsewhere/web\n0::/docker/{WEB}"),
                process(11, f"4:memory:/docker/{WEB}/sub\n0::/docker/{WEB}/sub"),
                process(20, f"4:memory:/docker/{DB}\n3:cpuset:/shared\n0::/docker/{DB}"),
                process(30, f"4:memory:/machine.slice/libpod-{POD}.scope\n3:cpuset:/shared\n0::/"),
                process(40, f"0::/docker/{LIKE_A_PREFIX}"),
                process(50, f"0::/docker/{LIKE_AN_ID}"),
            ),
            confinements={},
            cgroups={},
            claims=(),
            declarations={("docker", key): Declaration(source="", name=name) for key, name in names.items()},
        )
    )


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param("web", WEB, id="name"),
        pytest.param(WEB, WEB, id="whole id"),
        pytest.param("abcd", WEB, id="prefix of four"),
        pytest.param(WEB[:12], WEB, id="the engines' short id"),
        pytest.param(f"/docker/{WEB}", WEB, id="cgroup path"),
        pytest.param(f"/docker/{WEB}/", WEB, id="cgroup path with a slash at its end"),
        pytest.param("/elsewhere/web", WEB, id="cgroup path of another hierarchy"),
        pytest.param(f"/machine.slice/libpod-{POD}.scope", POD, id="cgroup path of v1 on a hybrid host"),
        pytest.param("pid:10", WEB, id="pid of its init"),
        pytest.param("pid:11", WEB, id="pid of another member"),
        pytest.param("pid:030", POD, id="pid with a leading zero"),
        pytest.param("ffff", LIKE_A_PREFIX, id="a name goes before a prefix"),
        pytest.param("ffff3", POD, id="a longer prefix"),
    ],
)
def test_a_container_is_found_by_what_people_have_at_hand(model: Model, wanted: str, expected: str) -> None:
    """Name, id, the beginning of an id, a cgroup path or a pid on the host."""
    assert expected == find(model, wanted).id


@pytest.mark.parametrize(
    "wanted",
    [
        pytest.param("", id="nothing"),
        pytest.param("abc", id="prefix of three"),
        pytest.param("abcf", id="prefix of nothing"),
        pytest.param("WEB", id="another case"),
        pytest.param("we", id="beginning of a name"),
        pytest.param("pid:1", id="process of the host"),
        pytest.param("pid:", id="pid without a number"),
        pytest.param("pid:-10", id="negative pid"),
        pytest.param("pid:1_0", id="pid with an underscore"),
        pytest.param("pid:" + "1" * 5000, id="pid of 5,000 digits"),
        pytest.param("pid:\u0661\u0660", id="pid in other digits"),
        pytest.param("10", id="number without pid:"),
        pytest.param("/docker", id="cgroup above"),
        pytest.param(f"/docker/{WEB}/sub", id="cgroup below"),
        pytest.param("\x1b[31m\udcff", id="hostile text"),
    ],
)
def test_what_names_no_container_is_not_found(model: Model, wanted: str) -> None:
    """Nothing is guessed, and the message is one printable line."""
    with pytest.raises(NotFound) as caught:
        find(model, wanted)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(("wanted", "hinted"), [("abc", True), ("abcf", False)])
def test_a_prefix_that_is_too_short_is_explained(model: Model, wanted: str, hinted: bool) -> None:
    """Somebody who typed three characters learns that four are needed."""
    with pytest.raises(NotFound) as caught:
        find(model, wanted)
    assert hinted is ("4 characters or more" in str(caught.value))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        pytest.param("/shared", {DB, POD}, id="a cgroup that two have"),
        pytest.param(DB, {DB, LIKE_AN_ID}, id="an id that is another's name"),
    ],
)
def test_what_names_several_is_refused_with_all_of_them(model: Model, wanted: str, expected: set[str]) -> None:
    """The person chooses, not the program."""
    with pytest.raises(Ambiguous, match="names 2 containers") as caught:
        find(model, wanted)
    assert expected == {container.id for container in caught.value.candidates}


def test_a_prefix_of_several_ids_is_ambiguous(model: Model) -> None:
    """Four characters are enough only while they are one container's."""
    twin = build_with_twin(model)
    with pytest.raises(Ambiguous, match="abcd names 2 containers"):
        find(twin, "abcd")
    assert find(twin, "abcd1").id == WEB


def build_with_twin(model: Model) -> Model:
    """The same host with one more container whose id begins alike."""
    web = find(model, "web")
    twin = web._replace(id="abcd" + "9" * 60, name="twin")
    return model._replace(containers=(*model.containers, twin))
