"""What rtnetlink(7) says of network namespaces: their links, addresses, and the other ends of veth pairs.

Only a process inside a namespace is told, so a short-lived child enters one after the other, with root and for the
command line alone.  It starts nothing there and asks for nothing but lists.  pyroute2 is known here only.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from nsinspect import nsfs
from nsinspect.errors import KernelError, Unreadable, Vanished
from nsinspect.forgiving import Forgiving
from nsinspect.kernfs import Directory, Roots
from nsinspect.procnet import Link, Links
from nsinspect.snapshot import Process
from nsinspect.tasks import Again

PATIENCE = 10.0
"""Seconds that a child gets; netlink waits for a lock that any program of the host may hold."""

_AT_ONCE = 200
_CLONE_NEWNET = 0x40000000


def links(
    asker: Forgiving, roots: Roots, processes: Iterable[Process], host: Process, again: Again
) -> dict[int, Links]:
    """By inode, the links of the network namespaces of ``processes``, of which each is in another, and of ``host``."""
    found: dict[int, Links] = {}
    others = [process for process in processes if process.namespaces.net != host.namespaces.net]
    # A descriptor for each namespace: not more at once than a process may have.
    for start in range(0, max(len(others), 1), _AT_ONCE):
        opened: dict[int, int] = {}
        try:
            with roots.open_procfs() as proc:
                for process in (host, *others[start : start + _AT_ONCE]):
                    inode, fd = process.namespaces.net, _opened(asker, proc, process, again)
                    if inode is not None and fd is not None:
                        opened[inode] = fd
            if host.namespaces.net in opened:
                found |= _asked(asker, proc.path, opened)
        finally:
            for fd in opened.values():
                os.close(fd)
    return found


def _opened(asker: Forgiving, proc: Directory, process: Process, again: Again) -> int | None:
    try:
        with again(proc, process) as directory:
            inode = process.namespaces.net
            return None if inode is None else nsfs.opened(directory, "net", inode)
    except Vanished:
        asker.vanished += 1
    except KernelError as error:
        asker.complain(error, process.pid)
    return None


def _asked(asker: Forgiving, path: str, opened: dict[int, int]) -> dict[int, Links]:
    """What a child says of these, the host's first."""
    fds = tuple(opened.values())
    # -P: not from the directory we happen to be in.
    command = [sys.executable, "-P", "-m", "nsinspect.netns", *map(str, fds)]
    try:
        done = subprocess.run(  # noqa: S603 - ourselves, with numbers
            command, stdin=subprocess.DEVNULL, capture_output=True, pass_fds=fds, timeout=PATIENCE, check=False
        )
        output, trouble = done.stdout, done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
    except subprocess.TimeoutExpired as late:
        output, trouble = late.stdout or b"", f"no answer within {PATIENCE:.0f} seconds"
    except OSError as error:
        output, trouble = b"", error.strerror or str(error)
    by_fd = {fd: inode for inode, fd in opened.items()}
    found = {}
    for line in output.splitlines(keepends=True):
        # A child that was killed may have left half a line.
        if not line.endswith(b"\n"):
            continue
        try:
            answer = json.loads(line)
            its = tuple(Link(**{**link, "addresses": tuple(link["addresses"])}) for link in answer["links"])
            found[by_fd[answer["fd"]]] = Links(answer["host_netnsid"], its)
        except (ValueError, KeyError, TypeError):
            trouble = trouble or "an answer that is none"
    if len(found) < len(opened):
        detail = f"of {len(opened)} network namespaces {len(found)} told of their links"
        asker.complain(Unreadable(f"{path}/<pid>/ns/net", f"{detail}: {trouble or 'the others refused'}"))
    return found


# -- the child ---------------------------------------------------------------------------------------------------------


def _answers(fds: Sequence[int]) -> Iterator[dict[str, Any]]:
    from pyroute2 import IPRoute  # type: ignore[import-untyped]

    # Python has os.setns from 3.12 on.
    libc = ctypes.CDLL(None, use_errno=True)
    for fd in fds:
        if libc.setns(fd, _CLONE_NEWNET) != 0:
            sys.stderr.write(f"setns: {os.strerror(ctypes.get_errno())}\n")
            continue
        with IPRoute() as route:
            its = list(_links(route))
            # Asked last: a namespace has a number for another from when one of its links leads there.
            told = route.get_netnsid(fd=fds[0]) if fd != fds[0] else None
            yield {"fd": fd, "host_netnsid": _netnsid(told), "links": its}


def _netnsid(told: Any) -> int | None:
    """A namespace has no number for another until one is given; the kernel says -1."""
    number = told.get("nsid") if isinstance(told, dict) else None
    return number if isinstance(number, int) and 0 <= number < 1 << 31 else None


def _links(route: Any) -> Iterator[dict[str, Any]]:
    addresses: dict[int, list[str]] = {}
    for message in route.get_addr():
        address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
        addresses.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
    for message in route.get_links():
        info = message.get_attr("IFLA_LINKINFO")
        yield {
            "ifindex": message["index"],
            "name": _text(message.get_attr("IFLA_IFNAME")),
            "kind": info.get_attr("IFLA_INFO_KIND") if info else None,
            "state": str(message.get_attr("IFLA_OPERSTATE")).lower(),
            "mac": message.get_attr("IFLA_ADDRESS"),
            "mtu": message.get_attr("IFLA_MTU"),
            "addresses": addresses.get(message["index"], []),
            "link": message.get_attr("IFLA_LINK"),
            "link_netnsid": message.get_attr("IFLA_LINK_NETNSID"),
        }


def _text(name: str | bytes) -> str:
    """A container may give its interfaces names that are no text."""
    return name.decode("utf-8", "surrogateescape") if isinstance(name, bytes) else name


def _main(arguments: Sequence[str]) -> None:
    for answer in _answers([int(argument) for argument in arguments]):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    _main(sys.argv[1:])
