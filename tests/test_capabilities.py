"""Capability masks and names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsinspect import capabilities
from nsinspect.capabilities import CONTAINERS_COMMON_DEFAULT, MOBY_DEFAULT


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        pytest.param(0, (), id="nothing"),
        pytest.param(1, ("CAP_CHOWN",), id="lowest"),
        pytest.param(1 << 40, ("CAP_CHECKPOINT_RESTORE",), id="highest known"),
        pytest.param(1 << 12 | 1 << 21, ("CAP_NET_ADMIN", "CAP_SYS_ADMIN"), id="lowest bit first"),
        pytest.param(1 << 41 | 1 << 63, ("cap_41", "cap_63"), id="newer than this program"),
    ],
)
def test_a_mask_becomes_names(mask: int, expected: tuple[str, ...]) -> None:
    """Every bit has a name; one that nobody knows yet keeps its number."""
    assert expected == capabilities.names(mask)


@given(st.integers(0, 2**64 - 1))
def test_names_become_the_mask_again(mask: int) -> None:
    """No bit is lost on the way to a person and back."""
    assert mask == capabilities.mask_of(capabilities.names(mask))


@pytest.mark.parametrize("spelling", ["CAP_NET_ADMIN", "NET_ADMIN", "net_admin", "cap_net_admin", "CAP_12", "12"])
def test_names_are_understood_as_people_write_them(spelling: str) -> None:
    """With and without CAP_, in any case, or by number."""
    assert capabilities.mask_of([spelling]) == 1 << 12


@pytest.mark.parametrize("name", ["", "CAP_", "CAP_NOTHING", "ALL", "CAP_NET ADMIN", "CAP_64", "CAP_99999999999999"])
def test_a_name_that_is_none_is_refused_by_name(name: str) -> None:
    """A misspelt capability is an error, never no capability."""
    with pytest.raises(ValueError, match=re.escape(repr(name))):
        capabilities.mask_of(["CHOWN", name])


def test_engine_defaults_are_the_masks_seen_in_proc() -> None:
    """The 14 of Docker and the 11 of podman, as status shows them."""
    expected = (0xA80425FB, 14, 0x800405FB, 11)
    found = (
        MOBY_DEFAULT,
        len(capabilities.names(MOBY_DEFAULT)),
        CONTAINERS_COMMON_DEFAULT,
        len(capabilities.names(CONTAINERS_COMMON_DEFAULT)),
    )
    assert expected == found


@pytest.mark.parametrize(("last", "expected"), [(40, 0x1FFFFFFFFFF), (37, 0x3FFFFFFFFF), (36, 0x1FFFFFFFFF), (0, 1)])
def test_all_capabilities_end_at_the_last_of_the_kernel(last: int, expected: int) -> None:
    """``cap_last_cap`` is a bit number, not a count."""
    assert expected == capabilities.all_of(last)


def test_this_kernel_has_no_capability_fewer_than_the_oldest_full_set() -> None:
    """The full set of an old engine is part of what any kernel since 3.16 has."""
    last = int(Path("/proc/sys/kernel/cap_last_cap").read_text(encoding="ascii"))
    assert capabilities.OLDEST_FULL_SET & ~capabilities.all_of(last) == 0
