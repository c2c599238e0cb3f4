"""Namespace links."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsinspect import namespaces
from nsinspect.errors import Malformed


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        pytest.param(b"net:[4026531840]", 4026531840, id="as the kernel writes it"),
        pytest.param(b"pid_for_children:[1]", 1, id="a longer type"),
        pytest.param(b"mnt:[18446744073709551615]", 2**64 - 1, id="largest inode"),
    ],
)
def test_a_link_gives_its_inode(link: bytes, expected: int) -> None:
    """The number between the brackets is the namespace's identity."""
    assert expected == namespaces.parse_link(link)


@pytest.mark.parametrize(
    "link",
    [
        b"net:[" + b"9" * 5000 + b"]",
        b"net:[18446744073709551616]",
        b"",
        b"net:",
        b"net:[]",
        b"net:[1",
        b"net:1]",
        b"net:[-1]",
        b"net:[1]x",
        b"/bin/sh",
        b"net:[\xb2]",
        b"[1]",
    ],
)
def test_a_link_of_another_shape_is_malformed(link: bytes) -> None:
    """A link that is none of the kernel's gives no identity at all."""
    with pytest.raises(Malformed, match="inode"):
        namespaces.parse_link(link)


@given(st.binary(max_size=40))
def test_no_link_makes_the_parser_raise_anything_but_malformed(link: bytes) -> None:
    """Any text gives a natural number or one known complaint."""
    try:
        inode = namespaces.parse_link(link)
    except Malformed:
        inode = 0
    assert inode >= 0


def test_types_links_and_record_are_in_one_order() -> None:
    """One loop over the links fills the record."""
    expected = tuple(f"ns/{name}".encode() for name in namespaces.Namespaces._fields)
    assert expected == namespaces.LINKS
    assert namespaces.Namespaces._fields == namespaces.TYPES


def test_the_links_of_this_process_are_understood() -> None:
    """What this very kernel writes is what the parser expects."""
    for link in namespaces.LINKS:
        path = b"/proc/self/" + link
        if os.path.lexists(path):
            assert os.stat(path).st_ino == namespaces.parse_link(os.readlink(path))


def test_nothing_is_known_of_unknown_namespaces() -> None:
    """Unknown is None for every type."""
    expected = {None}
    assert expected == set(namespaces.UNKNOWN)
