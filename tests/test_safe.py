"""Text a container chose, made safe."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect import safe

FUZZ = settings(deadline=None, max_examples=300)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        pytest.param(b"web-1", "web-1", id="plain"),
        pytest.param(b"", "", id="empty"),
        pytest.param(b"a\x1b[31mb", r"a\x1b[31mb", id="ESC, a colour"),
        pytest.param(b"\x1b]0;title\x07", r"\x1b]0;title\x07", id="OSC, a window title"),
        pytest.param(b"\x9b31m", r"\x9b31m", id="C1 byte that is no UTF-8"),
        pytest.param("\x9b31m", r"\x9b31m", id="C1 character"),
        pytest.param("\x85", r"\x85", id="next line"),
        pytest.param(b"ok\rfail", r"ok\x0dfail", id="carriage return"),
        pytest.param(b"a\nCapEff:\t0", r"a\x0aCapEff:\x090", id="newline and tab"),
        pytest.param(b"a\x08\x7f", r"a\x08\x7f", id="backspace and delete"),
        pytest.param(b"a\0b", r"a\x00b", id="NUL"),
        pytest.param("\u202egnp.exe", r"\u202egnp.exe", id="right-to-left override"),
        pytest.param("pay\u200bpal", r"pay\u200bpal", id="zero width space"),
        pytest.param("a\u2066b\u2069", r"a\u2066b\u2069", id="bidirectional isolates"),
        pytest.param("a\u2028b\u2029", r"a\u2028b\u2029", id="line and paragraph separators"),
        pytest.param("\ufeffx\u00ad", r"\ufeffx\xad", id="byte order mark and soft hyphen"),
        pytest.param("\U000e0041", r"\U000e0041", id="tag character"),
        pytest.param(b"\xff\xfe", r"\xff\xfe", id="bytes that are no UTF-8"),
        pytest.param(b"\xed\xa0\x80", r"\xed\xa0\x80", id="a surrogate in UTF-8's clothes"),
        pytest.param(b"\xe2\x82", r"\xe2\x82", id="half a character"),
        pytest.param("\ud800", r"\ud800", id="lone surrogate, as JSON can hold"),
        pytest.param("\udcff", r"\xff", id="a byte as os.fsdecode carries it"),
        pytest.param("\u0378\ufffe", r"\u0378\ufffe", id="unassigned"),
        pytest.param("\ue000", r"\ue000", id="private use"),
        pytest.param("数据库", "数据库", id="CJK is kept"),
        pytest.param("naïve Ω עברית", "naïve Ω עברית", id="other scripts are kept"),
        pytest.param("\U0001f433", "\U0001f433", id="emoji is kept"),
        pytest.param(r"dev-a\x2db", r"dev-a\x2db", id="systemd's own escape is kept"),
    ],
)
def test_hostile_text_is_spelled_out_and_honest_text_kept(chosen: bytes | str, expected: str) -> None:
    """What would move a cursor, forge a line or reorder reading is shown as an escape."""
    assert expected == safe.text(chosen)


TEXTS = st.binary() | st.text(st.characters(exclude_categories=()), max_size=40)


@FUZZ
@given(TEXTS)
def test_any_text_becomes_one_visible_line_of_valid_utf_8(chosen: bytes | str) -> None:
    """No line break, no control, no format character survives, and every encoder accepts the rest."""
    shown = safe.text(chosen)
    visible = all(unicodedata.category(c) not in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in shown)
    assert visible
    assert len(shown.splitlines()) <= 1
    assert shown == shown.encode("utf-8").decode("utf-8")


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ("a" * 4096, "a" * 4096),
        ("a" * 4097, "a" * 4096 + "… of 4097 characters"),
        (b"a" * 5000, "a" * 4096 + "… of 5000 bytes"),
        ("\x1b" * 4000, ("\\x1b" * 1024) + "… of 4000 characters"),
        ("\x1b" * 3, "\\x1b" * 3),
    ],
    ids=["as long as a path", "longer", "bytes", "longer once it is safe", "short"],
)
def test_a_person_is_shown_as_much_as_a_path_has(chosen: bytes | str, shown: str) -> None:
    """And told how long it is; nothing that is not shown is made safe, of megabytes."""
    assert safe.line(chosen) == shown


@FUZZ
@given(TEXTS)
def test_safe_text_stays_as_it_is(chosen: bytes | str) -> None:
    """Made safe twice is made safe once, whether it travels as bytes or as text."""
    once = safe.text(chosen)
    assert once == safe.text(once)
    assert once == safe.text(once.encode("utf-8"))


@FUZZ
@given(st.text(max_size=40))
def test_bytes_and_text_of_the_same_name_look_the_same(chosen: str) -> None:
    """It does not matter whether a name came from the kernel or from JSON."""
    assert safe.text(chosen) == safe.text(chosen.encode("utf-8"))
