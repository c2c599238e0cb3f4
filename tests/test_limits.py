"""Limits and usage: one meaning for v1 and v2, from cgroups made by hand."""

from __future__ import annotations

from typing import Any

import pytest

from nsinspect import limits
from nsinspect.cgroupfs import Cgroup, CpuMax, Pressure
from nsinspect.limits import Bound, Chain, EffectiveCpu, Levels, Limits, OwnCpu, OwnMemory, Usage

G = 1 << 30


def cgroup(path: str, /, *unknown: str, **files: object) -> Cgroup:
    """A cgroup with these control files; ``memory_max`` stands for ``memory.max``."""
    named: Any = {name.replace("_", ".", 1) if name not in SHORT else SHORT[name]: v for name, v in files.items()}
    return Cgroup(path.encode(), f"/sys/fs/cgroup{path}", 1, named, unknown)


SHORT = {
    "quota": "cpu.cfs_quota_us",
    "period": "cpu.cfs_period_us",
    "limit": "memory.limit_in_bytes",
    "memsw": "memory.memsw.limit_in_bytes",
    "soft": "memory.soft_limit_in_bytes",
    "swap_max": "memory.swap.max",
    "cpus": "cpuset.cpus.effective",
    "v1_cpus": "cpuset.effective_cpus",
}


def chain_of(levels: Levels) -> Chain:
    """The first is the container's own, the others are above it."""
    return Chain(own=tuple(levels[:1]), above=tuple(levels[1:]))


def of(
    *, cpu: Levels = (), cpuset: Levels = (), memory: Levels = (), pids: Levels = (), online: int | None = 8
) -> Limits:
    """Limits from the levels that matter to a test, innermost first."""
    online_cpus = None if online is None else tuple(range(online))
    return limits.limits(
        chain_of(cpu), chain_of(cpuset), chain_of(memory), chain_of(pids), cpus_online=online_cpus, host_memory=None
    )


@pytest.mark.parametrize(
    ("chain", "expected"),
    [
        pytest.param([cgroup("/a/b", memory_max=G)], Bound(value=G, imposed_by=b"/a/b"), id="own limit"),
        pytest.param(
            [cgroup("/a/b", memory_max=4 * G), cgroup("/a", memory_max=G)],
            Bound(value=G, imposed_by=b"/a"),
            id="parent tighter than own",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max=G), cgroup("/a", memory_max=4 * G)],
            Bound(value=G, imposed_by=b"/a/b"),
            id="own tighter than parent",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max=G), cgroup("/a", memory_max=G), cgroup("/", memory_max="max")],
            Bound(value=G, imposed_by=b"/a"),
            id="equal limits, the outermost imposes",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max="max"), cgroup("/a", memory_max=G)],
            Bound(value=G, imposed_by=b"/a"),
            id="own is max, parent binds",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max="max"), cgroup("/")], Bound(value="max", imposed_by=None), id="nobody limits"
        ),
        pytest.param(
            [cgroup("/a/b"), cgroup("/a", memory_max=G)],
            Bound(value=G, imposed_by=b"/a"),
            id="controller missing at the leaf",
        ),
        pytest.param([cgroup("/a/b"), cgroup("/")], Bound(value=None, imposed_by=None), id="controller nowhere"),
        pytest.param([], Bound(value=None, imposed_by=None), id="no hierarchy"),
        pytest.param([cgroup("/a", memory_max=0)], Bound(value=0, imposed_by=b"/a"), id="zero is the tightest"),
        pytest.param(
            [cgroup("/a/b", memory_max=G), cgroup("/a", "memory.max")],
            Bound(value=None, imposed_by=None),
            id="unreadable level",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max=G), cgroup("/a", "memory.high"), cgroup("/")],
            Bound(value=G, imposed_by=b"/a/b"),
            id="another file unreadable",
        ),
        pytest.param(
            [cgroup("/a/b", memory_max=G), None, cgroup("/")], Bound(value=None, imposed_by=None), id="level missing"
        ),
        pytest.param([None], Bound(value=None, imposed_by=None), id="own cgroup missing"),
        pytest.param(
            [cgroup("/d/x", limit="max"), cgroup("/d", limit=G), cgroup("/", limit="max")],
            Bound(value=G, imposed_by=b"/d"),
            id="v1",
        ),
    ],
)
def test_the_tightest_memory_limit_on_the_way_up_binds(chain: Levels, expected: Bound) -> None:
    """Effective is the smallest of a cgroup and all above it; what cannot be seen could be smaller still."""
    assert expected == of(memory=chain).effective_memory.max


def test_pids_are_bound_like_memory() -> None:
    """The parent's limit counts, and own is told apart from effective."""
    found = of(pids=[cgroup("/a/b", pids_max="max"), cgroup("/a", pids_max=100)])
    assert (found.pids, found.effective_pids) == ("max", Bound(value=100, imposed_by=b"/a"))


def test_own_memory_on_v2_is_what_its_files_say() -> None:
    """Swap alone, a reservation from memory.low, and the throttling limit that v1 has not."""
    own = of(memory=[cgroup("/a", memory_max=G, swap_max=0, memory_low=G // 2, memory_high="max")]).memory
    expected = OwnMemory(max_bytes=G, swap_max_bytes=0, reservation_bytes=G // 2, high_bytes="max")
    assert expected == own


@pytest.mark.parametrize(
    ("memory", "both", "swap"),
    [
        pytest.param(G, 2 * G, G, id="as much swap as memory"),
        pytest.param(G, G, 0, id="no swap"),
        pytest.param(2 * G, G, 0, id="never negative"),
        pytest.param("max", "max", "max", id="no limit"),
        pytest.param(G, "max", "max", id="memory alone is limited"),
        pytest.param("max", 3 * G, 3 * G, id="all of it may be swap"),
        pytest.param(G, None, None, id="swap accounting is off"),
    ],
)
def test_v1_counts_memory_and_swap_together(memory: object, both: object, swap: object) -> None:
    """Swap alone is the difference, which is what v2 says directly."""
    files = {"limit": memory} | ({} if both is None else {"memsw": both})
    assert swap == of(memory=[cgroup("/d/x", **files)]).memory.swap_max_bytes


def test_swap_is_bound_by_the_level_that_leaves_least() -> None:
    """An ancestor's swap limit counts as its memory limit does."""
    chain = [cgroup("/d/x", limit=G, memsw=3 * G), cgroup("/d", limit=G, memsw=2 * G)]
    expected = Bound(value=G, imposed_by=b"/d")
    assert expected == of(memory=chain).effective_memory.swap_max


def test_swap_is_unknown_where_the_memory_limit_is() -> None:
    """On v1 a difference with one side unknown is no number."""
    chain = [cgroup("/d/x", "memory.limit_in_bytes", memsw=3 * G)]
    expected = Bound(value=None, imposed_by=None)
    assert expected == of(memory=chain).effective_memory.swap_max


@pytest.mark.parametrize(
    ("chain", "own", "expected"),
    [
        pytest.param([cgroup("/d", soft="max")], 0, Bound(value=0, imposed_by=None), id="v1, endless is none"),
        pytest.param([cgroup("/d", soft=G)], G, Bound(value=G, imposed_by=b"/d"), id="v1, a soft limit"),
        pytest.param(
            [cgroup("/d/x", soft=G), cgroup("/d", soft="max")],
            G,
            Bound(value=G, imposed_by=b"/d/x"),
            id="v1, ancestors do not take it away",
        ),
        pytest.param(
            [cgroup("/a/b", memory_low=G), cgroup("/a", memory_low=0), cgroup("/")],
            G,
            Bound(value=0, imposed_by=None),
            id="v2, an unprotected ancestor takes it away",
        ),
        pytest.param([cgroup("/a", memory_low="max")], "max", Bound(value="max", imposed_by=None), id="v2, all of it"),
        pytest.param([cgroup("/a")], None, Bound(value=None, imposed_by=None), id="not offered"),
    ],
)
def test_a_reservation_of_nothing_is_zero_on_both_versions(chain: Levels, own: object, expected: Bound) -> None:
    """v1 spells "no reservation" as a soft limit without end, v2 as zero."""
    found = of(memory=chain)
    assert (own, expected) == (found.memory.reservation_bytes, found.effective_memory.reservation)


FOUR, TWO = (0, 1, 2, 3), (0, 1)
FULL = tuple(range(8))


@pytest.mark.parametrize(
    ("cpu", "cpuset", "expected"),
    [
        pytest.param([], [], EffectiveCpu(cores=8.0, cpuset=None, imposed_by=None), id="only the machine limits"),
        pytest.param(
            [cgroup("/a", cpu_max=CpuMax(150_000, 100_000))],
            [cgroup("/a", cpus=FULL), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=1.5, cpuset=FULL, imposed_by=b"/a"),
            id="the quota is smallest",
        ),
        pytest.param(
            [cgroup("/a", cpu_max=CpuMax(300_000, 100_000))],
            [cgroup("/a", cpus=TWO), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=2.0, cpuset=TWO, imposed_by=b"/a"),
            id="the cpuset is smallest",
        ),
        pytest.param(
            [cgroup("/a", cpu_max=CpuMax(9_000_000, 100_000))],
            [],
            EffectiveCpu(cores=8.0, cpuset=None, imposed_by=None),
            id="a quota larger than the machine",
        ),
        pytest.param(
            [cgroup("/a/b", quota="max", period=100_000), cgroup("/a", quota=50_000, period=100_000)],
            [],
            EffectiveCpu(cores=0.5, cpuset=None, imposed_by=b"/a"),
            id="v1, the parent's quota",
        ),
        pytest.param(
            [cgroup("/a/b", cpu_max=CpuMax(10_000, 10_000)), cgroup("/a", cpu_max=CpuMax(100_000, 100_000))],
            [],
            EffectiveCpu(cores=1.0, cpuset=None, imposed_by=b"/a"),
            id="equal cores of unequal periods, the outermost imposes",
        ),
        pytest.param(
            [cgroup("/a/b"), cgroup("/a", cpu_max=CpuMax(100_000, 100_000))],
            [],
            EffectiveCpu(cores=1.0, cpuset=None, imposed_by=b"/a"),
            id="controller missing at the leaf",
        ),
        pytest.param(
            [cgroup("/a", "cpu.max")], [], EffectiveCpu(cores=None, cpuset=None, imposed_by=None), id="unreadable"
        ),
        pytest.param(
            [cgroup("/a", cpu_max=CpuMax(1, 1)), None],
            [],
            EffectiveCpu(cores=None, cpuset=None, imposed_by=None),
            id="a level is missing",
        ),
        pytest.param(
            [cgroup("/a", "cpu.max"), cgroup("/", cpu_max=CpuMax(1, 1))],
            [cgroup("/a", cpus=TWO), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=None, cpuset=TWO, imposed_by=None),
            id="quota unknown, cpuset known",
        ),
        pytest.param(
            [cgroup("/a", quota=1, period=1), cgroup("/", "cpu.cfs_period_us", quota=1)],
            [],
            EffectiveCpu(cores=None, cpuset=None, imposed_by=None),
            id="v1, an ancestor's period unknown",
        ),
        pytest.param(
            [cgroup("/a", cpu_max=CpuMax(150_000, 100_000))],
            [cgroup("/a", "cpuset.cpus.effective"), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=None, cpuset=None, imposed_by=None),
            id="cpuset unknown, quota known",
        ),
        pytest.param(
            [],
            [cgroup("/a", v1_cpus=TWO), cgroup("/", "cpuset.effective_cpus")],
            EffectiveCpu(cores=None, cpuset=None, imposed_by=None),
            id="v1, an ancestor's cpuset unknown",
        ),
        pytest.param(
            [],
            [None, cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=None, cpuset=None, imposed_by=None),
            id="a level of cpuset is missing",
        ),
        pytest.param(
            [],
            [cgroup("/a/b", v1_cpus=TWO), cgroup("/a", v1_cpus=TWO), cgroup("/", v1_cpus=FULL)],
            EffectiveCpu(cores=2.0, cpuset=TWO, imposed_by=b"/a"),
            id="v1, the outermost that narrowed the cpuset imposes",
        ),
        pytest.param(
            [],
            [cgroup("/a/b", cpus=TWO), cgroup("/a", cpus=FOUR), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=2.0, cpuset=TWO, imposed_by=b"/a/b"),
            id="narrowed twice, the innermost counts",
        ),
        pytest.param(
            [],
            [cgroup("/a/b"), cgroup("/a", cpus=FOUR), cgroup("/", cpus=FULL)],
            EffectiveCpu(cores=4.0, cpuset=FOUR, imposed_by=b"/a"),
            id="cpuset missing at the leaf",
        ),
    ],
)
def test_effective_cores_are_the_least_of_quota_cpuset_and_machine(
    cpu: Levels, cpuset: Levels, expected: EffectiveCpu
) -> None:
    """And the cgroup that imposes them is named, unless it is the machine."""
    assert expected == of(cpu=cpu, cpuset=cpuset).effective_cpu


def test_cores_are_unknown_where_nothing_is_known() -> None:
    """Without a quota, a cpuset and the machine's CPUs there is no number to give."""
    expected = EffectiveCpu(cores=None, cpuset=None, imposed_by=None)
    assert expected == of(cpu=[cgroup("/a", cpu_max=CpuMax("max", 100_000))], online=None).effective_cpu


def own_cpu(**known: Any) -> OwnCpu:
    """An OwnCpu with everything else unknown."""
    return OwnCpu(**dict.fromkeys(("cores", "quota_us", "period_us", "cpuset", "shares", "weight")) | known)


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param(
            {"cpu_max": CpuMax(50_000, 100_000), "cpu_weight": 100},
            own_cpu(cores=0.5, quota_us=50_000, period_us=100_000, weight=100),
            id="v2",
        ),
        pytest.param(
            {"cpu_max": CpuMax("max", 100_000)}, own_cpu(cores="max", quota_us="max", period_us=100_000), id="v2, max"
        ),
        pytest.param(
            {"quota": 200_000, "period": 50_000, "cpu_shares": 1024},
            own_cpu(cores=4.0, quota_us=200_000, period_us=50_000, shares=1024),
            id="v1",
        ),
        pytest.param(
            {"quota": "max", "period": 100_000}, own_cpu(cores="max", quota_us="max", period_us=100_000), id="v1, -1"
        ),
        pytest.param(
            {"quota": 50_000},
            own_cpu(quota_us=50_000),
            id="v1, period unreadable",
        ),
        pytest.param({}, own_cpu(), id="no controller"),
    ],
)
def test_own_cpu_is_what_the_containers_cgroup_sets(files: dict[str, object], expected: OwnCpu) -> None:
    """Quota, period and their quotient; shares stay v1's and weight v2's, because neither converts exactly."""
    assert expected == of(cpu=[cgroup("/a", **files)]).cpu


def test_two_own_cgroups_are_one_container() -> None:
    """crun may set limits on the scope, on the cgroup below it, or on both: the tightest of the two is its own."""
    own = (cgroup("/s/container", memory_max=G, memory_low=0), cgroup("/s", memory_max="max", memory_low=G // 2))
    both = Chain(own=own, above=(cgroup("/", pids_max="max"),))
    found = limits.limits(Chain(), Chain(), both, Chain(), cpus_online=None, host_memory=None)
    assert (found.memory.max_bytes, found.memory.reservation_bytes) == (G, G // 2)
    assert found.effective_memory.max == Bound(value=G, imposed_by=b"/s/container")
    cpu = Chain(own=(cgroup("/s/container", cpu_max=CpuMax("max", 100)), cgroup("/s", cpu_max=CpuMax(50, 100))))
    assert limits.limits(cpu, Chain(), Chain(), Chain(), cpus_online=FULL, host_memory=None).cpu.cores == 0.5


def own_cores(inner: Cgroup | None, outer: Cgroup | None) -> object:
    """Own cores of a container with two cgroups of its own."""
    return limits.limits(
        Chain(own=(inner, outer)), Chain(), Chain(), Chain(), cpus_online=FULL, host_memory=None
    ).cpu.cores


def test_an_own_cgroup_without_the_controller_leaves_the_word_to_the_other() -> None:
    """systemd need not enable the cpu controller below the scope."""
    assert own_cores(cgroup("/s/container"), cgroup("/s", cpu_max=CpuMax("max", 100))) == "max"
    assert own_cores(cgroup("/s/container"), cgroup("/s", cpu_max=CpuMax(50, 100))) == 0.5


@pytest.mark.parametrize(
    ("inner", "outer"),
    [
        pytest.param(cgroup("/s/c", "cpu.max"), cgroup("/s", cpu_max=CpuMax(50, 100)), id="inner unreadable"),
        pytest.param(cgroup("/s/c", cpu_max=CpuMax(50, 100)), cgroup("/s", "cpu.max"), id="outer unreadable"),
        pytest.param(cgroup("/s/c", "cpu.cfs_period_us", quota=1), cgroup("/s", quota=1, period=1), id="v1"),
        pytest.param(None, cgroup("/s", cpu_max=CpuMax(50, 100)), id="inner missing"),
    ],
)
def test_own_cores_are_unknown_where_one_of_two_own_cgroups_is(inner: Cgroup | None, outer: Cgroup | None) -> None:
    """The one that could not be read could be the tighter."""
    assert own_cores(inner, outer) is None


def test_own_cpuset_is_the_configured_one() -> None:
    """An empty cpuset is "as the parent", which is another fact than unknown."""
    assert of(cpuset=[cgroup("/a", cpuset_cpus=())]).cpu.cpuset == ()
    assert of(cpuset=[cgroup("/a")]).cpu.cpuset is None


def raw(files: Any) -> Chain:
    """A chain of one cgroup with the kernel's file names as they are."""
    return chain_of([Cgroup(b"/a", "", 1, files)])


def test_usage_on_v2() -> None:
    """Microseconds become seconds; cache that can be dropped is no working set."""
    files = {
        "cpu.stat": {"usage_usec": 1_500_000, "nr_periods": 10, "nr_throttled": 3, "throttled_usec": 250_000},
        "memory.current": 1000,
        "memory.stat": {"inactive_file": 300, "total_inactive_file": 999},
        "memory.swap.current": 7,
        "memory.events": {"oom_kill": 2},
        "pids.current": 4,
        "cpu.pressure": Pressure(5, None),
        "io.pressure": Pressure(0, 0),
    }
    expected = Usage(
        cpu_seconds=1.5,
        cpu_throttled_seconds=0.25,
        cpu_throttled_periods=3,
        cpu_periods=10,
        memory_bytes=1000,
        memory_working_set_bytes=700,
        swap_bytes=7,
        oom_kills=2,
        oom_kills_local=None,
        pids=4,
        pressure={"cpu": Pressure(5, None), "io": Pressure(0, 0)},
    )
    chain = raw(files)
    assert expected == limits.usage(chain, Chain(), chain, chain)


def test_usage_is_counted_on_the_outermost_own_cgroup() -> None:
    """Its counters cover the whole subtree; what is above is not the container's."""
    inner, outer = cgroup("/s/container", pids_current=1), cgroup("/s", pids_current=3)
    chain = Chain(own=(inner, outer), above=(cgroup("/", pids_current=99),))
    assert limits.usage(Chain(), Chain(), Chain(), chain).pids == 3


def test_usage_on_v1() -> None:
    """Nanoseconds become seconds; swap is what memory and swap together are more than memory."""
    cpu = raw({"cpu.stat": {"nr_periods": 10, "nr_throttled": 3, "throttled_time": 250_000_000}})
    cpuacct = raw({"cpuacct.usage": 1_500_000_000})
    memory = raw(
        {
            "memory.usage_in_bytes": 1000,
            "memory.memsw.usage_in_bytes": 1010,
            "memory.stat": {"inactive_file": 1, "total_inactive_file": 300},
            "memory.oom_control": {"oom_kill": 2},
        }
    )
    expected = Usage(
        cpu_seconds=1.5,
        cpu_throttled_seconds=0.25,
        cpu_throttled_periods=3,
        cpu_periods=10,
        memory_bytes=1000,
        memory_working_set_bytes=700,
        swap_bytes=10,
        oom_kills=2,
        oom_kills_local=None,
        pids=4,
        pressure=None,
    )
    assert expected == limits.usage(cpu, cpuacct, memory, raw({"pids.current": 4}))


@pytest.mark.parametrize(
    "files",
    [
        {"memory.current": 10, "memory.stat": {"inactive_file": 11}},
        {"memory.usage_in_bytes": 10, "memory.stat": {"total_inactive_file": 11}, "memory.memsw.usage_in_bytes": 9},
    ],
    ids=["v2", "v1"],
)
def test_what_is_counted_is_never_negative(files: dict[str, object]) -> None:
    """Two files read one after the other may disagree by a page."""
    found = limits.usage(Chain(), Chain(), raw(files), Chain())
    assert found.memory_working_set_bytes == 0
    assert found.swap_bytes in (0, None)


@pytest.mark.parametrize("chain", [Chain(), Chain(own=(None,)), raw({})], ids=["no hierarchy", "no cgroup", "no files"])
def test_what_was_not_counted_is_unknown(chain: Chain) -> None:
    """Missing is never zero."""
    expected = dict.fromkeys(Usage._fields)
    found = limits.usage(chain, chain, chain, chain)
    assert expected == {name: getattr(found, name) for name in expected}


def test_a_limit_above_the_hosts_memory_limits_nothing_more_than_the_host():
    """A terabyte on a machine of a gigabyte is that gigabyte, and no cgroup imposes it."""
    own = cgroup("/a", memory_max=1 << 40)
    found = limits.limits(Chain(), Chain(), Chain(own=(own,)), Chain(), cpus_online=None, host_memory=1 << 30)

    assert found.effective_memory.max == Bound(value=1 << 30, imposed_by=None)
    assert found.memory.max_bytes == 1 << 40


@pytest.mark.parametrize(("told", "contradicts"), [(64 << 20, False), (32 << 20, True), ((1 << 63) - 4096, True)])
def test_v1s_own_account_of_the_limit_is_checked(told: int, contradicts: bool):
    """hierarchical_memory_limit agrees, or it is said that it does not."""
    stat = {"hierarchical_memory_limit": told}
    own = cgroup("/a", limit=64 << 20, memory_stat=stat)
    chain = Chain(own=(own,))
    effective = limits.tightest(chain.levels, *limits._MEMORY)

    assert (limits.contradicted(chain, effective) is not None) == contradicts
