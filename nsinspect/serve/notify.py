"""systemd's side of a service: sd_notify(3) and sd_listen_fds(3), which are a datagram and two variables."""

from __future__ import annotations

import os
import socket
import time

from nsinspect.errors import NsinspectError

FIRST_FD = 3


def notify(**fields: str | int) -> None:
    """Tell systemd, if it listens: ``notify(READY=1, STATUS="…")``.  Never raises: a service that cannot report still
    works."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    message = "\n".join(f"{name}={value}" for name, value in fields.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.sendto(message.encode("utf-8", "backslashreplace"), address)
    except OSError:
        pass


def reloading() -> None:
    """Say that the configuration is being read again; ``READY=1`` ends it."""
    notify(RELOADING=1, MONOTONIC_USEC=time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000)


def watchdog_seconds() -> float | None:
    """How long systemd waits for a sign of life; ``None`` where it does not."""
    wait = os.environ.get("WATCHDOG_USEC", "")
    ours = os.environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(wait) / 1e6 if ours and wait.isdecimal() and int(wait) else None


class CannotServe(NsinspectError):
    """Nothing to listen on, or an address that cannot be had; one line."""


def passed_sockets() -> list[socket.socket]:
    """The listening sockets that systemd opened for us.  Raises :class:`CannotServe` when there is none."""
    count = os.environ.get("LISTEN_FDS", "")
    if os.environ.get("LISTEN_PID") != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise CannotServe("expected a listening socket from systemd's socket unit, found none")
    found = []
    for fd in range(FIRST_FD, FIRST_FD + int(count)):
        try:
            one = socket.socket(fileno=fd)
            listens = one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError as error:
            raise CannotServe(f"descriptor {fd} from systemd: expected a listening socket: {error.strerror}") from error
        if not listens:
            one.detach()
            raise CannotServe(f"descriptor {fd} from systemd: expected a listening socket, found one that is not")
        found.append(one)
    return found
