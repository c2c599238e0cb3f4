"""What a container may do, and when it is called privileged."""

from __future__ import annotations

from typing import Any

import pytest

from nsinspect import security
from nsinspect.capabilities import MOBY_DEFAULT, mask_of
from nsinspect.namespaces import UNKNOWN
from nsinspect.procfs import IdMapLine, Ids, Mount, Status
from nsinspect.security import Outlier
from nsinspect.snapshot import Confinement, Process

ALL = 0x1FFFFFFFFFF
NET_ADMIN = mask_of(["NET_ADMIN"])


def status(**changes: Any) -> Status:
    """The status of an ordinary docker container's process."""
    masks = dict.fromkeys(("cap_prm", "cap_eff", "cap_bnd"), MOBY_DEFAULT)
    root = Ids(0, 0, 0, 0)
    known = {"uid": root, "gid": root, "nspid": (10, 1), "cap_inh": 0, "cap_amb": 0, **masks}
    return Status(**{**known, "no_new_privs": False, "seccomp": 2, "seccomp_filters": 1, **changes})


def process(pid: int, its: Status | None, state: str = "S") -> Process:
    """A process of the container."""
    return Process(pid=pid, ppid=1, starttime=pid, comm=b"sh", state=state, cgroup=(), namespaces=UNKNOWN, status=its)


def mount(point: str, options: str = "rw", fstype: str = "overlay") -> Mount:
    """A mount the container sees."""
    return Mount(b"0:50", b"/", point.encode(), options.encode(), b"", fstype.encode(), b"none", b"rw")


PLAIN = (mount("/"), mount("/proc", fstype="proc"), mount("/etc/hosts"))
MASKED = (*PLAIN, mount("/proc/kcore", fstype="tmpfs"))


def judge(**changes: Any) -> security.Security:
    """The verdict on a container that ``--privileged`` freed of everything, with some facts changed."""
    facts: dict[str, Any] = {"seccomp": 0, "mounts": PLAIN, "label": None, "everything": True, "host_user": True}
    facts |= {"label_known": True} | changes
    return security.security(
        status(seccomp=facts["seccomp"]),
        Confinement(facts["mounts"], None, None, facts["label"], facts["label_known"]),
        everything=facts["everything"],
        host_user_namespace=facts["host_user"],
    )


@pytest.mark.parametrize(
    "label",
    [None, b"unconfined", b"unconfined_u:unconfined_r:unconfined_t:s0", b"system_u:system_r:spc_t:s0"],
    ids=["no security module", "AppArmor", "SELinux", "SELinux, super privileged"],
)
def test_privileged_is_everything_lifted(label: bytes | None) -> None:
    """Only then is it true, and each reason is told."""
    found = judge(label=label)
    assert found.privileged is True
    assert len(found.privileged_why) == 5


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        pytest.param({"everything": False}, "not all capabilities of the host", id="a capability short"),
        pytest.param({"seccomp": 2}, "seccomp filter", id="a seccomp filter"),
        pytest.param({"seccomp": 1}, "seccomp strict", id="strict seccomp"),
        pytest.param({"mounts": MASKED}, "masked /proc paths", id="masked paths"),
        pytest.param({"label": b"docker-default (enforce)"}, "confined by a security module", id="AppArmor profile"),
        pytest.param(
            {"label": b"system_u:system_r:container_t:s0:c1,c2"}, "confined by a security module", id="SELinux domain"
        ),
        pytest.param({"host_user": False}, "a user namespace of its own", id="own user namespace"),
    ],
)
def test_one_restraint_left_shows_that_privileged_was_not_given(changes: dict[str, Any], why: str) -> None:
    """The verdict is false and names exactly that restraint, even if another fact is unknown."""
    found = judge(**changes)
    assert (found.privileged, found.privileged_why) == (False, (why,))
    other = {"everything": None} if "everything" not in changes else {"host_user": None}
    assert judge(**changes, **other).privileged is False


@pytest.mark.parametrize(
    "changes",
    [{"everything": None}, {"seccomp": None}, {"mounts": None}, {"label_known": False}, {"host_user": None}],
    ids=["capabilities", "seccomp", "mounts", "label", "user namespace"],
)
def test_privileged_is_unknown_when_nothing_known_decides(changes: dict[str, Any]) -> None:
    """Unknown is neither privileged nor not."""
    found = judge(**changes)
    assert (found.privileged, found.privileged_why) == (None, ())


def test_a_refused_label_is_not_the_absence_of_a_security_module() -> None:
    """It cannot make a container privileged, and a restraint that is known still shows that it is not."""
    assert judge(label_known=False).privileged is None
    found = judge(label_known=False, seccomp=2)
    assert (found.privileged, found.privileged_why, found.lsm_label) == (False, ("seccomp filter",), None)


def test_nothing_is_known_of_a_process_that_could_not_be_read() -> None:
    """Every fact is None, and no verdict is made up."""
    found = security.security(None, None, everything=None, host_user_namespace=None)
    facts = {name: getattr(found, name) for name in security.Security._fields}
    assert facts == {**dict.fromkeys(facts), "privileged_why": ()}


def test_confinement_is_handed_on_as_it_is() -> None:
    """Label, maps and no_new_privs are facts, whatever the verdict is."""
    ids = (IdMapLine(0, 100000, 65536),)
    found = security.security(
        status(no_new_privs=True), Confinement(MASKED, ids, (), b"x", True), everything=False, host_user_namespace=False
    )
    assert (found.no_new_privs, found.seccomp, found.lsm_label) == (True, "filter", b"x")
    assert (found.uid_map, found.gid_map) == (ids, ())


def test_a_seccomp_mode_nobody_knows_keeps_its_number() -> None:
    """A newer kernel's mode is shown and counts as a restraint."""
    found = judge(seccomp=3)
    assert (found.seccomp, found.privileged) == ("mode 3", False)


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        pytest.param((mount("/", "ro,relatime"),), True, id="read-only"),
        pytest.param((mount("/", "rw,relatime"),), False, id="writable"),
        pytest.param((mount("/", "rw,errors=remount-ro"),), False, id="an option that only contains ro"),
        pytest.param((mount("/", "ro"), mount("/", "rw")), False, id="the last mount on / is the one that is seen"),
        pytest.param((mount("/", "rw"), mount("/etc", "ro")), False, id="another mount is read-only"),
        pytest.param((mount("/etc", "ro"),), None, id="no root mount"),
        pytest.param((), None, id="empty mount table"),
        pytest.param(None, None, id="mounts unknown"),
    ],
)
def test_the_root_file_system_is_read_only_when_its_mount_is(
    mounts: tuple[Mount, ...] | None, expected: bool | None
) -> None:
    """The mount's own option decides, not its super block's."""
    assert expected is judge(mounts=mounts).read_only_rootfs


@pytest.mark.parametrize(
    ("host", "last", "expected"),
    [
        pytest.param(ALL, 40, 0x3FFFFFFFFF, id="what the oldest engine knows"),
        pytest.param(0x1FFFEFFFFFF, 40, 0x3FFEFFFFFF, id="a host that lost CAP_SYS_RESOURCE"),
        pytest.param(None, 40, 0x3FFFFFFFFF, id="the host's set is unknown"),
        pytest.param(None, 36, 0x1FFFFFFFFF, id="an old kernel"),
        pytest.param(None, None, None, id="nothing known"),
        pytest.param(0x1FFFEFFFFFF, None, 0x3FFEFFFFFF, id="the last capability is unknown"),
    ],
)
def test_everything_is_what_this_host_can_give(host: int | None, last: int | None, expected: int | None) -> None:
    """Not a constant: an old engine knows 38, and nobody gives what PID 1 itself has lost."""
    assert expected == security.full_set(host, last)


@pytest.mark.parametrize(
    ("bounding", "host", "expected"),
    [
        pytest.param(ALL, ALL, True, id="all 41"),
        pytest.param(0x3FFFFFFFFF, ALL, True, id="an old engine's 38"),
        pytest.param(0x1FFFEFFFFFF, 0x1FFFEFFFFFF, True, id="all that the host has left"),
        pytest.param(0x1FFFEFFFFFF, ALL, False, id="one fewer than the host"),
        pytest.param(MOBY_DEFAULT, ALL, False, id="docker's default"),
    ],
)
def test_a_bounding_set_is_everything_or_not(bounding: int, host: int, expected: bool) -> None:
    """Measured against the host, so that one lost capability of the host is not the container's restraint."""
    init = process(10, status(cap_bnd=bounding))
    full = security.full_set(host, 40)
    assert expected is security.capabilities(init, [init], default=MOBY_DEFAULT, full=full).everything


def test_added_and_dropped_are_told_against_the_engines_default() -> None:
    """The bounding set is compared, because an unprivileged user's effective set is empty."""
    bounding = MOBY_DEFAULT & ~mask_of(["CHOWN"]) | NET_ADMIN
    init = process(10, status(cap_bnd=bounding, cap_eff=0, cap_prm=0))
    found = security.capabilities(init, [init], default=MOBY_DEFAULT, full=None)
    assert (found.added, found.dropped) == (NET_ADMIN, mask_of(["CHOWN"]))
    assert (found.effective, found.everything, found.outliers) == (0, None, ())


def test_capabilities_of_an_unread_init_are_unknown() -> None:
    """Other members are no outliers of something unknown."""
    found = security.capabilities(process(10, None), [process(11, status())], default=MOBY_DEFAULT, full=ALL)
    facts = {name: getattr(found, name) for name in security.Capabilities._fields}
    assert facts == {**dict.fromkeys(facts), "outliers": ()}


@pytest.mark.parametrize(
    ("changes", "state", "expected"),
    [
        pytest.param({}, "S", None, id="like init"),
        pytest.param({"cap_eff": MOBY_DEFAULT | NET_ADMIN}, "S", (NET_ADMIN, 0, 0), id="exec --privileged"),
        pytest.param({"cap_prm": MOBY_DEFAULT | NET_ADMIN}, "S", (NET_ADMIN, 0, 0), id="permitted, not yet effective"),
        pytest.param({"cap_eff": 0}, "S", None, id="may take back what it has laid down"),
        pytest.param({"cap_eff": 0, "cap_prm": 0}, "S", (0, MOBY_DEFAULT, 0), id="an unprivileged user"),
        pytest.param({"cap_bnd": ALL}, "S", (0, 0, ALL & ~MOBY_DEFAULT), id="could gain more"),
        pytest.param({"cap_bnd": 0}, "S", None, id="could gain less"),
        pytest.param({"cap_eff": 0, "cap_prm": 0, "cap_bnd": ALL}, "Z", None, id="zombie"),
        pytest.param({"cap_eff": 0, "cap_prm": 0}, "X", None, id="dead"),
    ],
)
def test_a_process_that_can_do_other_things_than_init_stands_out(
    changes: dict[str, int], state: str, expected: tuple[int, int, int] | None
) -> None:
    """More, fewer, or more to be gained; a zombie has no power left to speak of."""
    init, member = process(10, status()), process(11, status(**changes), state)
    found = security.capabilities(init, [init, member, process(12, None)], default=MOBY_DEFAULT, full=ALL).outliers
    assert expected == (_differences(found[0]) if found else None)


def _differences(outlier: Outlier) -> tuple[int, int, int]:
    assert (outlier.pid, outlier.comm) == (11, b"sh")
    return outlier.extra, outlier.missing, outlier.bounding_extra
