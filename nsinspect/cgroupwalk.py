"""The cgroups of containers and all above them, in every hierarchy."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import cast

from nsinspect import cgroupfs
from nsinspect.cgroupfs import Cgroup, ControlFiles, Parsers
from nsinspect.errors import KernelError, Malformed, RootError, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.grouping import Group, own_cgroups
from nsinspect.hierarchies import Hierarchy, relative
from nsinspect.kernfs import Directory, Roots
from nsinspect.snapshot import Issue


def cgroups(
    asker: Forgiving, roots: Roots, hierarchies: tuple[Hierarchy, ...], groups: Iterable[Group], *, others: bool
) -> dict[tuple[int, bytes], Cgroup]:
    """The cgroup of every container in every hierarchy that has a file for us, and all cgroups above."""
    found: dict[tuple[int, bytes], Cgroup] = {}
    levels = [own_cgroups(one, hierarchies) for one in groups]
    for index, hierarchy in enumerate(hierarchies):
        usage = cgroupfs.files_of(hierarchy, usage=True)
        more = cgroupfs.others_of(hierarchy) if others else {}
        if not usage and not more:
            continue
        limits = cgroupfs.files_of(hierarchy, usage=False)
        own: set[bytes] = set()
        above: set[bytes] = set()
        for each in levels:
            its_own, its_ancestors = each[index]
            own.update(its_own)
            above.update(its_ancestors)
        try:
            with roots.open_cgroup(hierarchy.point) as top:
                for path in sorted(own | above if limits else own):
                    files, rest = (usage, more) if path in own else (limits, {})
                    cgroup = _cgroup(asker, top, hierarchy, path, files, rest)
                    if cgroup is not None:
                        found[index, path] = cgroup
        except RootError as error:
            asker.issues.append(Issue("unreadable", roots.cgroup(hierarchy.point), str(error)))
    return found


def of_the_living(
    found: dict[tuple[int, bytes], Cgroup],
    hierarchies: tuple[Hierarchy, ...],
    groups: Sequence[Group],
    alive: Container[int],
) -> dict[tuple[int, bytes], Cgroup]:
    """What :func:`cgroups` found, without the cgroups of containers whose init is not among the ``alive``."""
    gone = [one for one in groups if one.init.pid not in alive]
    if not gone:
        return found

    def own(some: Iterable[Group]) -> set[tuple[int, bytes]]:
        each = (own_cgroups(group, hierarchies) for group in some)
        return {(index, path) for levels in each for index, (mine, _) in enumerate(levels) for path in mine}

    dropped = own(gone) - own(one for one in groups if one.init.pid in alive)
    return {key: cgroup for key, cgroup in found.items() if key not in dropped}


def _cgroup(
    asker: Forgiving,
    top: Directory,
    hierarchy: Hierarchy,
    path: bytes,
    files: Parsers,
    others: Mapping[str, bytes | None],
) -> Cgroup | None:
    """One cgroup's control files; ``None``, counted, when it was removed at any moment of this."""
    name = relative(hierarchy, path)
    if name is None:
        return None
    try:
        with top.open(name) as directory:
            values, unknown = _values(asker, directory, files)
            more = _set(asker, directory, others) if others else ()
            read = cast("ControlFiles", values)
            return Cgroup(path, directory.path, directory.inode(), read, unknown, more)
    except Vanished:
        asker.vanished += 1
    except KernelError as error:
        asker.complain(error)
    return None


def _values(asker: Forgiving, directory: Directory, files: Parsers) -> tuple[dict[str, object], tuple[str, ...]]:
    """What the files hold, and those of which that could not be learnt."""
    data = directory.all_rendered(files)
    if data is not None:
        try:
            read = zip(files.items(), data, strict=True)
            return {file: parse(text) for (file, parse), text in read if text is not None}, ()
        except Malformed:
            pass  # which of them is, and what it says, is told below
    values: dict[str, object] = {}
    unknown = []
    for file, parse in files.items():
        try:
            value = directory.parsed(file, directory.read_rendered(file), parse)
        except Vanished:
            raise
        except KernelError as error:
            asker.complain(error)
            unknown.append(file)
        else:
            if value is not None:
                values[file] = value
    return values, tuple(unknown)


def _set(
    asker: Forgiving, directory: Directory, others: Mapping[str, bytes | None]
) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    """Those of the files in which something is set, as lines."""
    data = directory.all_rendered(others)
    found = []
    for number, (file, unset) in enumerate(others.items()):
        if data is None:
            lines = asker.fact(directory, file, cgroupfs.parse_lines)
        else:
            text = data[number]
            # Nearly always: nothing is set, and so there is nothing to parse.
            if text is None or text.rstrip(b"\n") == unset:
                continue
            lines = cgroupfs.parse_lines(text)
        if lines is not None and b"\n".join(lines) != unset:
            found.append((file, lines))
    return tuple(found)
