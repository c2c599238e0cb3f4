"""Text that a container chose, made safe for a terminal, a label, a log or JSON.

A container names its processes, its cgroups, its host and itself.  Escape sequences, line breaks, bidirectional
overrides and bytes that are no UTF-8 would move a cursor, forge a line, reorder what is read or break an encoder, so
everything that is no visible character of a line is written as an escape.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

# Cc controls (C0, DEL, C1), Cf formats (bidi, zero width), Cs surrogates, Zl/Zp line separators, Co and Cn unassigned.
_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


LONGEST = 4096
"""Characters of a text that a person is shown: PATH_MAX of Linux."""
# Longer texts are not remembered: a container's labels may have megabytes.
_REMEMBERED = 200


def text(chosen: bytes | str) -> str:
    r"""One line of visible text: ``b"a\x1b[31m\xff"`` becomes ``a\x1b[31m\xff`` spelled out.

    Always valid UTF-8, always one line, and the same for the same input.  A backslash stays as it is, so that
    systemd's own ``\x2d`` can be recognised.
    """
    return _known(chosen) if len(chosen) <= _REMEMBERED else _safe(chosen)


def line(chosen: bytes | str) -> str:
    """:func:`text` for a person: of what is longer than any path, the beginning and how long it is.

    An engine's name for a container may have megabytes, in files that users write, and is in many lines.  JSON has all.
    """
    whole = text(chosen[:LONGEST])
    if len(chosen) <= LONGEST and len(whole) <= LONGEST:
        return whole
    return f"{whole[:LONGEST]}… of {len(chosen)} {'bytes' if isinstance(chosen, bytes) else 'characters'}"


@lru_cache(maxsize=4096)  # ids, names and commands recur
def _known(chosen: bytes | str) -> str:
    return _safe(chosen)


def _safe(chosen: bytes | str) -> str:
    if isinstance(chosen, bytes):
        if chosen.isascii() and (whole := chosen.decode("ascii")).isprintable():
            return whole
        chosen = chosen.decode("utf-8", "surrogateescape")
    elif chosen.isascii() and chosen.isprintable():
        return chosen
    return "".join(map(_visible, chosen))


def _visible(character: str) -> str:
    if unicodedata.category(character) not in _UNSAFE:
        # A space that is no space (no-break, ideographic) hides where a word ends, but breaks nothing.
        return character
    number = ord(character)
    if 0xDC80 <= number <= 0xDCFF:  # a byte that is no UTF-8, as surrogateescape carries it
        return f"\\x{number - 0xDC00:02x}"
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"
