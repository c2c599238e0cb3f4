"""Control files of v1 and v2, and every spelling of "no limit"."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect import cgroupfs
from nsinspect.cgroupfs import CpuMax, Pressure
from nsinspect.errors import Malformed
from nsinspect.hierarchies import Hierarchy

FUZZ = settings(deadline=None, max_examples=80)

V2 = Hierarchy(2, (), "/sys/fs/cgroup", b"/")
MEMORY = Hierarchy(1, ("memory",), "/sys/fs/cgroup/memory", b"/")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"max\n", "max", id="no limit"),
        pytest.param(b"268435456\n", 268435456, id="a limit"),
        pytest.param(b"0\n", 0, id="nothing at all is a limit"),
        pytest.param(b"512", 512, id="no newline"),
        pytest.param(b"18446744073709551615\n", 2**64 - 1, id="largest number"),
    ],
)
def test_a_v2_limit_is_a_number_or_max(data: bytes, expected: object) -> None:
    """``max`` stays a word and is never a large number."""
    assert expected == cgroupfs.parse_limit(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"9223372036854771712\n", "max", id="4 KiB pages"),
        pytest.param(b"9223372036854710272\n", "max", id="64 KiB pages"),
        pytest.param(b"9223372036854775807\n", "max", id="old kernel"),
        pytest.param(b"-1\n", "max", id="minus one"),
        pytest.param(b"268435456\n", 268435456, id="a limit"),
        pytest.param(b"4611686018427387904\n", 2**62, id="a silly limit is still one"),
    ],
)
def test_every_v1_spelling_of_unlimited_is_max(data: bytes, expected: object) -> None:
    """v1 spells "no limit" as the largest number of pages this kernel can count."""
    assert expected == cgroupfs.parse_v1_limit(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"max 100000\n", CpuMax("max", 100000), id="no limit"),
        pytest.param(b"50000 100000\n", CpuMax(50000, 100000), id="half a core"),
        pytest.param(b"400000 50000", CpuMax(400000, 50000), id="eight cores"),
    ],
)
def test_cpu_max_is_a_quota_and_a_period(data: bytes, expected: CpuMax) -> None:
    """Both numbers are kept, because their quotient alone does not say how bursty the limit is."""
    assert expected == cgroupfs.parse_cpu_max(data)


USAGE_USEC = partial(cgroupfs.parse_flat_keyed, keys=(b"usage_usec",))
NO_NUMBERS = (b"", b"\n", b"garbage", b"-2", b"18446744073709551616", b"9" * 5000, b"1.5", b"0x10", b"1 2", b"\xff\0")


@pytest.mark.parametrize(
    ("parse", "data"),
    [
        *((cgroupfs.parse_limit, data) for data in (*NO_NUMBERS, b"MAX", b"-1")),
        *((cgroupfs.parse_v1_limit, data) for data in (*NO_NUMBERS, b"max")),
        *((cgroupfs.parse_cfs_quota, data) for data in (*NO_NUMBERS, b"max", b"0")),
        *((cgroupfs.parse_cfs_period, data) for data in (*NO_NUMBERS, b"-1", b"0")),
        *((cgroupfs.parse_cpu_max, data) for data in (b"50000", b"max", b"", b"0 100000", b"50000 0", b"max 0")),
        *((cgroupfs.parse_cpu_max, data) for data in (b"max max", b"1 2 3", b"-1 100000", b"18446744073709551616 1")),
        *((cgroupfs.parse_cpu_list, data) for data in (b"a", b"3-1", b"-1", b"0,,1", b"0-99999", b"0-3:1/2")),
        *((cgroupfs.parse_cpu_list, data) for data in (b"1-", b"+1_0", b"1_0", b"0-+1", b"9" * 5000)),
        *((cgroupfs.parse_pressure, data) for data in (b"", b"full avg10=0.00 total=1\n", b"some avg10=0.00\n")),
        *((USAGE_USEC, data) for data in (b"", b"garbage\n", b"usage_usec \n", b"usage_usec x\n", b"a 1\nusage_usec")),
        *((USAGE_USEC, b"nr_periods 1\nusage_usec " + n) for n in (b"", b"-1", b"9" * 25, b"9" * 5000)),
    ],
)
def test_a_control_file_of_another_shape_is_malformed(parse: Callable[[bytes], object], data: bytes) -> None:
    """Zero quotas and periods, overflow, signs and garbage are refused: a wrong limit is worse than none."""
    with pytest.raises(Malformed):
        parse(data)


@pytest.mark.parametrize(
    ("data", "quota"), [(b"-1\n", "max"), (b"50000\n", 50000), (b"18446744073709551615", 2**64 - 1)]
)
def test_a_v1_quota_of_minus_one_is_no_limit(data: bytes, quota: object) -> None:
    """v1 splits ``cpu.max`` over two files and spells unlimited -1."""
    assert quota == cgroupfs.parse_cfs_quota(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(b"\n", (), id="empty means as the parent"),
        pytest.param(b"0\n", (0,), id="one"),
        pytest.param(b"0-2,7\n", (0, 1, 2, 7), id="range and single"),
        pytest.param(b"7,0-1,1\n", (0, 1, 7), id="unsorted and twice"),
    ],
)
def test_a_cpu_list_is_every_cpu_once_in_order(data: bytes, expected: tuple[int, ...]) -> None:
    """Two spellings of one set are equal."""
    assert expected == cgroupfs.parse_cpu_list(data)


@FUZZ
@given(st.sets(st.integers(0, 300), max_size=40).map(sorted).map(tuple))
def test_a_cpu_list_survives_being_written(cpus: tuple[int, ...]) -> None:
    """What is shown is what the kernel would accept back."""
    assert cpus == cgroupfs.parse_cpu_list(cgroupfs.format_cpu_list(cpus).encode())


@pytest.mark.parametrize("end", [b"\n", b""])
def test_flat_keyed_files_give_the_keys_that_are_asked_for(end: bytes) -> None:
    """Unknown keys of a newer kernel are no error and no fact, and a key is no other that begins or ends like it."""
    data = b"usage_usec 12\nmy_oom_kill 4\nnr_periods 0\nfancy_new_key 9\noom_kill_disable 1\noom_kill 3" + end
    keys = (b"nr_periods", b"oom_kill", b"usage_usec", b"nr_throttled")
    expected = {"nr_periods": 0, "oom_kill": 3, "usage_usec": 12}
    assert expected == cgroupfs.parse_flat_keyed(data, keys)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(
            b"some avg10=1.00 avg60=0.50 avg300=0.00 total=12345\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=99\n",
            Pressure(12345, 99),
            id="some and full",
        ),
        pytest.param(
            b"some avg10=0.00 avg60=0.00 avg300=0.00 total=0\n", Pressure(0, None), id="cpu before Linux 5.13"
        ),
    ],
)
def test_pressure_without_a_full_line_is_none_there(data: bytes, expected: Pressure) -> None:
    """A line this kernel does not have is unknown, and zero stays zero."""
    assert expected == cgroupfs.parse_pressure(data)


@FUZZ
@given(
    st.binary()
    | st.sampled_from([b"usage_usec ", b"some avg10=0 total=", b"max ", b"0-"]).flatmap(
        lambda start: st.binary(max_size=9).map(lambda end: start + end)
    )
)
def test_no_bytes_make_a_parser_raise_anything_but_malformed(data: bytes) -> None:
    """Every parser of a control file answers with a value or one known complaint."""
    for hierarchy in (V2, MEMORY, Hierarchy(1, ("cpu", "cpuacct", "cpuset", "pids"), "", b"/")):
        for parse in cgroupfs.files_of(hierarchy, usage=True).values():
            try:
                parse(data)
            except Malformed:
                continue


@pytest.mark.parametrize(
    ("hierarchy", "usage", "present", "absent"),
    [
        (MEMORY, False, "memory.limit_in_bytes", "memory.usage_in_bytes"),
        (MEMORY, True, "memory.usage_in_bytes", "memory.max"),
        (V2, True, "cpu.stat", "cpu.weight"),
        (V2._replace(controllers=("memory", "cpu")), True, "memory.current", "pids.current"),
        (V2._replace(controllers=("memory", "cpu")), False, "cpu.max", "cpu.stat"),
    ],
)
def test_only_files_of_the_enabled_controllers_are_read(
    hierarchy: Hierarchy, usage: bool, present: str, absent: str
) -> None:
    """An ancestor is asked for its limits alone, and no controller for another's files."""
    files = cgroupfs.files_of(hierarchy, usage=usage)
    assert present in files
    assert absent not in files


def test_a_hierarchy_without_controllers_has_nothing_to_read() -> None:
    """A named v1 hierarchy holds no limits."""
    assert not cgroupfs.files_of(Hierarchy(1, ("name=systemd",), "", b"/"), usage=True)
