"""Whether a capture is what it was when it was taken."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass

from nsinspect import bundle
from nsinspect.bundle import LOG, MANIFEST, SNAPSHOT, SUMS, BundleError, digest_of, sums_line

_OURS = (SNAPSHOT, MANIFEST, LOG)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """``problems``: (name, what is wrong with it).  ``seal``: SHA-256 of the file of sums as it is now."""

    files: int
    seal: str
    problems: tuple[tuple[str, str], ...]


class _Contents:
    """What is in a capture now: sums of files, targets of links, and the two files that speak of the others."""

    def __init__(self, path: str) -> None:
        self.found: dict[str, str] = {}
        self.links: dict[str, bytes] = {}
        self.kept: dict[str, bytes] = {}
        self.problems: list[tuple[str, str]] = []
        with bundle.guarded(path):
            for item in bundle.items(path):
                self._add(item)

    def _add(self, item: bundle.Item) -> None:
        name = item.name
        if name in self.found or name in self.links:
            self.problems.append((name, "there twice"))
        elif item.data is not None and name in (MANIFEST, SUMS):
            self.kept[name] = item.data.read()
            self.found[name] = hashlib.sha256(self.kept[name]).hexdigest()
        elif item.data is not None:
            self.found[name], _ = digest_of(item.data)
        elif item.target is not None:
            self.links[name] = item.target
        else:
            self.problems.append((name, "neither a file nor a link"))


def verify(path: str, seal: str | None = None) -> Verdict:
    """Compare every file and link of a capture with what its manifest and its sums say, and the sums with ``seal``.

    Raises :class:`nsinspect.bundle.BundleError` when it cannot be read at all.
    """
    contents = _Contents(path)
    found, links, kept = contents.found, contents.links, contents.kept
    problems = contents.problems
    missing = [name for name in (*_OURS, SUMS) if name not in found]
    if missing:
        raise BundleError(f"{path}: expected a capture, found no {' and no '.join(missing)}")
    digest = found[SUMS]
    if seal is not None and seal.lower() != digest:
        problems.append((SUMS, f"altered: its SHA-256 is {digest}, and was {seal}"))
    try:
        files, told = _told(kept[MANIFEST])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        problems.append((MANIFEST, "altered: it is no manifest any more"))
        problems += _against_sums(found, kept[SUMS], {})
    else:
        problems += _against_sums(found, kept[SUMS], files)
        problems += _against_manifest(found, files)
        elsewhere = [name for name, target in links.items() if told.get(name) != hashlib.sha256(target).hexdigest()]
        problems += [(name, "altered: a link to somewhere else") for name in elsewhere]
        problems += [(name, "missing: a link") for name in told if name not in links]
    return Verdict(files=len(found) + len(links), seal=digest, problems=tuple(_once(problems)))


def _once(problems: list[tuple[str, str]]) -> Iterable[tuple[str, str]]:
    """The first that is said of each."""
    return {name: (name, what) for name, what in reversed(problems)}.values()


def _told(manifest: bytes) -> tuple[dict[str, str], dict[str, str]]:
    """Of files and of links: the sums by name."""
    entries = json.loads(manifest)["files"]
    files = {str(one["file"]): str(one["sha256"]) for one in entries if one["file"] is not None}
    for name, digest in files.items():
        sums_line(digest, os.fsencode(name))  # what can be none of its lines is no manifest's
    return files, {str(one["link"]): str(one["sha256"]) for one in entries if one["link"] is not None}


def _against_sums(found: dict[str, str], sums: bytes, manifest: dict[str, str]) -> list[tuple[str, str]]:
    """By whole lines, so that nothing in the file of sums goes unread.  Where the manifest has a file as it is, it is
    the sums that were altered; where it has one as the sums have it, it is the file."""
    expected = {sums_line(digest, os.fsencode(name)): name for name, digest in found.items() if name != SUMS}
    vouched = {sums_line(digest, os.fsencode(name)) for name, digest in manifest.items()}
    lines = sums.splitlines(keepends=True)
    problems = []
    unvouched = 0
    for line in expected.keys() - set(lines):
        name = expected[line]
        if name not in manifest and name not in _OURS:
            continue  # the manifest's to say
        if manifest.get(name) == found[name]:
            problems.append((SUMS, f"altered: what it says of {name}"))
        else:
            problems.append((name, "altered: not what SHA256SUMS says"))
            unvouched += name in _OURS
    # Of our own files the manifest says nothing: a line of each that differs is theirs.
    strange = [line for line in lines if line not in expected and line not in vouched]
    if len(strange) > unvouched or len(lines) != len(set(lines)):
        problems.append((SUMS, "altered: it has lines that are of no file"))
    return problems


def _against_manifest(found: dict[str, str], files: dict[str, str]) -> list[tuple[str, str]]:
    problems = []
    for name, digest in found.items():
        if name not in (*_OURS, SUMS):
            if name not in files:
                problems.append((name, "added: the manifest does not know it"))
            elif files[name] != digest:
                problems.append((name, "altered: not what the manifest says"))
    return problems + [(name, "missing") for name in files if name not in found]
