"""Notices of the process connector, byte by byte."""

from __future__ import annotations

import errno
import os
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nsinspect.kernfs import Roots
from nsinspect.procconn import Connector, ConnectorError, exec_of


def notice(what: int, pid: int, *, index: int = 1, value: int = 1) -> bytes:
    """As the kernel sends it: netlink's head, the connector's, the event's, the thread and the process."""
    event = struct.pack("=IIQII", what, 0, 123, pid, pid)
    connector = struct.pack("=IIIIHH", index, value, 7, 0, len(event), 0)
    return struct.pack("=IHHII", 16 + len(connector) + len(event), 3, 0, 0, 0) + connector + event


def test_a_program_that_started_is_its_process():
    assert exec_of(notice(2, 4242)) == 4242
    assert exec_of(notice(2, 4242) + bytes(100)) == 4242


@pytest.mark.parametrize("what", [0, 1, 4, 0x40000000, 0x80000000])
def test_other_notices_are_nothing_here(what: int):
    assert exec_of(notice(what, 4242)) is None


def test_another_connector_is_not_listened_to():
    assert exec_of(notice(2, 4242, index=3)) is None
    assert exec_of(notice(2, 4242, value=2)) is None


@pytest.mark.parametrize("length", [0, 1, 16, 35, 59])
def test_a_short_notice_is_nothing(length: int):
    assert exec_of(notice(2, 4242)[:length]) is None


@given(st.binary(max_size=200))
def test_no_bytes_break_it(data: bytes):
    found = exec_of(data)
    assert found is None or 0 <= found < 1 << 32


def test_a_kernel_that_refuses_is_one_line(monkeypatch: pytest.MonkeyPatch):
    """Before Linux 6.6 only CAP_NET_ADMIN may listen."""

    def refused(*_: object) -> socket.socket:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(ConnectorError, match="Operation not permitted: it needs CAP_NET_ADMIN"):
        Connector(Roots())
