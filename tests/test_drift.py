"""Declared against enforced: what is drift, and what is a legitimate rounding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from nsinspect import drift as drift_module
from nsinspect import shares
from nsinspect.capabilities import MOBY_DEFAULT, OLDEST_FULL_SET, mask_of
from nsinspect.collect import collect
from nsinspect.declarations import Wanted
from nsinspect.kernfs import Roots
from nsinspect.model import Container, build

HOSTS = Path(__file__).parent / "fixtures/hosts"


@pytest.fixture(scope="module")
def web() -> Container:
    """A container of a bundled host that runs as it was asked to."""
    model = build(collect(Roots(root=str(HOSTS / "docker-hybrid"))))
    return next(container for container in model.containers if container.name == "web")


def drifted(web: Container, wanted: Wanted, **changes: Any) -> list[tuple[str, object, object]]:
    """(field, declared, enforced) for a container like ``web`` that was asked for something else."""
    found = drift_module.drift(
        wanted,
        changes.get("limits", web.limits),
        changes.get("capabilities", web.capabilities),
        changes.get("security", web.security),
        host_namespaces={kind: n.host if n else None for kind, n in web.namespaces.items()},
        init_uid=changes.get("init_uid", web.init.uid),
        full=OLDEST_FULL_SET,
        cgroups=changes.get("cgroups", web.cgroup_paths),
    )
    return [(one.field, one.declared, one.enforced) for one in found]


@pytest.mark.parametrize("host", ["docker-hybrid", "podman-v1", "podman-v2"])
def test_containers_that_run_as_asked_do_not_drift(host: str):
    """Every container of every bundled host was declared, and none drifted."""
    containers = build(collect(Roots(root=str(HOSTS / host)))).containers

    assert [(c.name, c.drift) for c in containers] == [(c.name, ()) for c in containers]


def test_each_limit_that_differs_is_named_with_both_values(web: Container):
    """CPU, memory, swap, reservation and pids, and nothing else."""
    wanted = web.declared._replace(cores=2.0, memory_max=32 << 20, swap_max=0, reservation=0, pids="max")

    assert drifted(web, wanted) == [
        ("limits.cpu.own.cores", 2.0, 1.5),
        ("limits.memory.own.max_bytes", 32 << 20, 64 << 20),
        ("limits.memory.own.swap_max_bytes", 0, 64 << 20),
        ("limits.memory.own.reservation_bytes", 0, 32 << 20),
        ("limits.pids.own.max", "max", 40),
    ]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param({"cores": 1.491}, [], id="within systemd's step of 10 ms"),
        pytest.param({"cores": 1.48}, [("limits.cpu.own.cores", 1.48, 1.5)], id="beyond it"),
        pytest.param({"memory_max": (64 << 20) + 4095}, [], id="rounded down to a page"),
        pytest.param(
            {"memory_max": (64 << 20) - 1}, [("limits.memory.own.max_bytes", (64 << 20) - 1, 64 << 20)], id="rounded up"
        ),
        pytest.param({"shares": 512}, [("limits.cpu.own.shares", 512, 1024)], id="v1's shares are exact"),
    ],
)
def test_a_stated_tolerance_holds_and_no_more(web: Container, changes: dict[str, Any], expected: list[object]):
    """Each rounding is allowed up to its size."""
    assert drifted(web, web.declared._replace(**changes)) == expected


def test_systemds_default_for_pids_is_no_drift_in_a_scope(web: Container):
    """A scope gets systemd's TasksMax where the engine asked for no limit."""
    wanted = web.declared._replace(pids="max")

    assert drifted(web, wanted, cgroups={"pids": b"/system.slice/docker-x.scope"}) == []
    assert drifted(web, wanted) == [("limits.pids.own.max", "max", 40)]


@pytest.mark.parametrize(("weight", "drifts"), [(20, False), (59, False), (50, False), (58, True), (100, True)])
def test_a_weight_may_come_from_any_of_the_formulas(web: Container, weight: int, drifts: bool):
    """512 shares are 20 by the linear formula, 59 by the quadratic, 50 by systemd's."""
    limits = web.limits._replace(cpu=web.limits.cpu._replace(shares=None, weight=weight))
    wanted = web.declared._replace(shares=512)

    assert bool(drifted(web, wanted, limits=limits)) == drifts


def test_more_capabilities_than_asked_for_drift_and_fewer_do_not(web: Container):
    """A process may give up what it was given, never take what it was not."""
    asked = web.declared.bounding
    more = web.capabilities._replace(bounding=asked | mask_of(["SYS_ADMIN"]))
    fewer = web.capabilities._replace(bounding=asked & ~mask_of(["KILL"]))

    assert [field for field, _, _ in drifted(web, web.declared, capabilities=more)] == ["capabilities.bounding"]
    assert drifted(web, web.declared, capabilities=fewer) == []


def test_privileged_on_a_newer_kernel_than_the_engine_knows_does_not_drift(web: Container):
    """All is what the engine knows, and newer capabilities beside it."""
    everything = web.capabilities._replace(bounding=(1 << 41) - 1)
    wanted = web.declared._replace(bounding=OLDEST_FULL_SET, privileged=True)

    assert drifted(web, wanted, capabilities=everything) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"seccomp": "disabled"}, ("security.seccomp", "filter", "disabled")),
        ({"no_new_privs": False}, ("security.no_new_privs", True, False)),
        ({"read_only_rootfs": False}, ("security.read_only_rootfs", True, False)),
    ],
)
def test_a_protection_that_is_gone_drifts(web: Container, changes: dict[str, Any], expected: tuple[object, ...]):
    """What was asked for and is not there is named."""
    wanted = web.declared._replace(seccomp=True, no_new_privs=True, read_only_rootfs=True)
    confined = web.security._replace(seccomp="filter", no_new_privs=True, read_only_rootfs=True)

    assert drifted(web, wanted, security=confined) == []
    assert drifted(web, wanted, security=confined._replace(**changes)) == [expected]


def test_a_namespace_that_is_not_as_asked_drifts(web: Container):
    """Asked for the host's and got its own, or the reverse; a joined one is not compared."""
    modes = (("pid", "host"), ("net", "private"), ("ipc", "container:abc"), ("uts", "joined"))
    wanted = web.declared._replace(namespaces=modes)

    assert drifted(web, wanted) == [("namespaces.pid", "host", "private")]


def test_root_where_another_user_was_asked_for_drifts(web: Container):
    """A process may become another user than it was started as, but not root."""
    wanted = web.declared._replace(uid=1000)

    assert drifted(web, wanted, init_uid=0) == [("init.uid", 1000, 0)]
    assert drifted(web, wanted, init_uid=999) == []


@pytest.mark.parametrize(
    ("number", "expected"),
    [(2, (1, 1, 1)), (512, (20, 59, 50)), (1024, (39, 100, 100)), (2048, (79, 174, 200)), (262_144, (10_000,) * 3)],
)
def test_shares_become_weights_as_published(number: int, expected: tuple[int, ...]):
    """The three formulas at values that the engines' own documents and issues give."""
    assert tuple(shares.weights_of(number).values()) == expected


def test_shares_that_a_weight_was_made_from_are_a_range():
    """Going back never gives one number, and every number in the range gives that weight."""
    for weight in (1, 20, 39, 59, 100, 9_999, 10_000):
        for name, ends in shares.shares_meant(weight).items():
            if ends is not None:
                assert [shares.FORMULAS[name](end) for end in ends] == [weight, weight]


def test_dockers_default_is_what_it_gives_when_nobody_asks(web: Container):
    """The bundled host's plain container declares Docker's default set and no limit."""
    model = build(collect(Roots(root=str(HOSTS / "docker-hybrid"))))
    (plain,) = [container for container in model.containers if container.name == "plain"]

    assert plain.declared.bounding == MOBY_DEFAULT
    assert (plain.declared.memory_max, plain.declared.swap_max, plain.declared.cores) == ("max", "max", "max")
