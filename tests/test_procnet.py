"""Parsers of /proc/<pid>/net: every text that a kernel, a hostile container or a torn copy can give."""

from __future__ import annotations

import socket
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect import procnet
from nsinspect.errors import Malformed
from nsinspect.procnet import Interface, Listener

FUZZ = settings(deadline=None, max_examples=80)

HEADING_4 = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode"
    b"                                                     \n"
)
HEADING_6 = (
    b"  sl  local_address                         remote_address                        st tx_queue rx_queue tr "
    b"tm->when retrnsmt   uid  timeout inode\n"
)
UDP_HEADING = (
    b"   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer "
    b"drops             \n"
)
LISTENS = (
    b"   0: 0100007F:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 7532106 1 "
    b"0000000000000000 100 0 0 10 0                      \n"
)
TALKS = (
    b"  12: 0E00020A:0016 0200020A:D431 01 00000000:00000000 02:000A0A6B 00000000  1000        0 8812 2 "
    b"0000000000000000 20 4 29 10 -1                     \n"
)
WAS_CLOSED = (
    b"  13: 0100007F:1F90 0100007F:A0E2 06 00000000:00000000 03:0000176E 00000000     0        0 0 3 0000000000000000"
    b"                                      \n"
)
SIX = (
    b"   0: 00000000000000000000000001000000:0053 00000000000000000000000000000000:0000 0A 00000000:00000000 "
    b"00:00000000 00000000     0        0 7532109 1 0000000000000000 100 0 0 10 0\n"
)
UDP = (
    b"  345: 00000000:0044 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 1543 2 "
    b"0000000000000000 0         \n"
)
UDP_WITH_PEER = UDP.replace(b"00000000:0000 07", b"0100007F:0035 01")

DEV = (
    b"Inter-|   Receive                                                |  Transmit\n"
    b" face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier "
    b"compressed\n"
)
LO = b"    lo: 1242186    4711    1    2    0     0          0         0  1242187    4712    3    4    0     0       0"
LO += b"          0\n"


def line_of(address: bytes = b"0100007F", port: bytes = b"0050", state: bytes = b"0A", inode: bytes = b"77") -> bytes:
    """A line of net/tcp, or of tcp6, as the kernel prints it."""
    remote = b"0" * len(address)
    return b"   0: %b:%b %b:0000 %b 0:0 00:0 0     0        0 %b 1 0 100 0 0 10 0\n" % (
        address,
        port,
        remote,
        state,
        inode,
    )


def test_those_that_wait_are_given_and_others_are_not() -> None:
    """LISTEN of TCP; of UDP what has no peer."""
    assert procnet.parse_sockets(HEADING_4 + LISTENS + TALKS + WAS_CLOSED, "tcp") == (
        Listener("tcp", "127.0.0.1", 80, 7532106),
    )
    assert procnet.parse_sockets(HEADING_6 + SIX, "tcp") == (Listener("tcp", "::1", 83, 7532109),)
    assert procnet.parse_sockets(UDP_HEADING + UDP + UDP_WITH_PEER, "udp") == (Listener("udp", "0.0.0.0", 68, 1543),)


@pytest.mark.parametrize("data", [HEADING_4, HEADING_6, UDP_HEADING])
def test_nothing_listens_where_there_is_no_line(data: bytes) -> None:
    """A heading alone."""
    assert procnet.parse_sockets(data, "tcp") == ()


@pytest.mark.parametrize(
    "data", [b"", b"\n", b"\xff\xfe\n", LISTENS, DEV], ids=["", "\\n", "bytes", "no heading", "dev"]
)
def test_a_file_without_its_heading_is_not_one_where_nothing_listens(data: bytes) -> None:
    """An empty or another file says nothing about sockets."""
    with pytest.raises(Malformed):
        procnet.parse_sockets(data, "tcp")


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (b"00000000", "0.0.0.0"),
        (b"0100007F", "127.0.0.1"),
        (b"0E00020A", "10.2.0.14"),
        (b"FFFFFFFF", "255.255.255.255"),
        (b"0" * 32, "::"),
        (b"00000000000000000000000001000000", "::1"),
        (b"B80D0120000000000000000001000000", "2001:db8::1"),
        (b"000080FE00000000FF00FC0001000000", "fe80::fc:ff:0:1"),
        (b"0000000000000000FFFF00000100007F", "::ffff:127.0.0.1"),
        (b"0000000000000000FFFF000000000000", "::ffff:0.0.0.0"),
        (b"00000000000000000000FFFF0100007F", "::ffff:0:7f00:1"),
    ],
)
def test_an_address_is_written_as_everybody_writes_it(address: bytes, expected: str) -> None:
    """Words as a little-endian machine holds them; an IPv4 address in IPv6 keeps its dots."""
    (found,) = procnet.parse_sockets(HEADING_4 + line_of(address), "tcp")
    assert found.address == expected


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(LISTENS.rstrip(b"\n"), id="no end of line"),
        pytest.param(LISTENS[:20] + b"\n", id="cut in the addresses"),
        pytest.param(LISTENS[:80] + b"\n", id="cut before the inode"),
        pytest.param(line_of(address=b"0100007G"), id="address that is no hex"),
        pytest.param(line_of(address=b"0100007f"), id="hex in small letters, which no kernel prints"),
        pytest.param(line_of(address=b"0100007"), id="address of 7 digits"),
        pytest.param(line_of(address=b"0" * 16), id="address of 16 digits"),
        pytest.param(line_of(address=b"0" * 24), id="address of 24 digits"),
        pytest.param(line_of(address=b"0" * 40), id="address of 40 digits"),
        pytest.param(line_of(port=b"10050"), id="port of 5 digits"),
        pytest.param(line_of(port=b"-050"), id="negative port"),
        pytest.param(line_of(state=b"A"), id="state of one digit"),
        pytest.param(line_of(inode=b"-1"), id="negative inode"),
        pytest.param(line_of(inode=b"9" * 21), id="inode of 21 digits"),
        pytest.param(line_of(inode=b"0x10"), id="inode with a prefix"),
        pytest.param(line_of(inode=b"1_0"), id="inode with an underscore"),
        pytest.param(line_of().replace(b"   0:", b"  -1:"), id="negative number of the line"),
        pytest.param(line_of().replace(b"0050", b"00\x000"), id="NUL"),
        pytest.param(b"\0" * 80 + b"\n", id="nothing but NUL"),
        pytest.param(line_of().replace(b"0050", "００５０".encode()), id="digits that are no ASCII"),
        pytest.param(b"\n", id="empty line"),
    ],
)
def test_a_broken_line_is_malformed(line: bytes) -> None:
    """A listener that is half understood would be at the wrong address; the others are not believed either."""
    after = (HEADING_4 + line + LISTENS,) if line.endswith(b"\n") else ()
    for data in (HEADING_4 + line, HEADING_4 + LISTENS + line, *after):
        with pytest.raises(Malformed):
            procnet.parse_sockets(data, "tcp")


def test_a_complaint_is_one_printable_line() -> None:
    """What a torn copy holds reaches a terminal as an escape."""
    with pytest.raises(Malformed) as caught:
        procnet.parse_sockets(HEADING_4 + b"\x1b]0;x\xff\n", "tcp")
    assert str(caught.value).isprintable()
    assert r"\x1b]0;x\xff" in str(caught.value)


def test_the_largest_numbers_there_are() -> None:
    """The last port, and an inode of 20 digits."""
    (found,) = procnet.parse_sockets(HEADING_4 + line_of(port=b"FFFF", inode=b"18446744073709551615"), "tcp")
    assert (found.port, found.inode) == (65535, 18446744073709551615)


def test_an_inode_of_more_than_64_bits_is_malformed() -> None:
    """No kernel has one, and no recording could be read again with it."""
    with pytest.raises(Malformed, match="64 bits"):
        procnet.parse_sockets(HEADING_4 + line_of(inode=b"18446744073709551616"), "tcp")


@FUZZ
@given(st.lists(st.tuples(st.ip_addresses(), st.integers(0, 65535), st.integers(0, 2**64 - 1)), max_size=5))
def test_generated_sockets_come_back(rows: list[tuple[object, int, int]]) -> None:
    """Every address that a socket can be bound to, as the kernel prints it."""
    text = b""
    expected = []
    for address, port, inode in rows:
        family = socket.AF_INET6 if ":" in str(address) else socket.AF_INET
        packed = socket.inet_pton(family, str(address))
        words = b"".join(b"%08X" % word for (word,) in struct.iter_unpack("<I", packed))
        text += line_of(words, b"%04X" % port, b"0A", b"%d" % inode)
        expected.append((packed, port, inode))
    found = procnet.parse_sockets(HEADING_4 + text, "tcp")
    assert expected == [
        (socket.inet_pton(socket.AF_INET6 if ":" in one.address else socket.AF_INET, one.address), one.port, one.inode)
        for one in found
    ]


@pytest.mark.parametrize(
    ("chunk", "expected"),
    [
        pytest.param(HEADING_4, False, id="nothing yet"),
        pytest.param(HEADING_4 + LISTENS, False, id="listeners so far"),
        pytest.param(HEADING_4 + LISTENS + TALKS, True, id="the first that does not listen"),
        pytest.param(LISTENS + TALKS, True, id="a chunk in the midst"),
        pytest.param(WAS_CLOSED, True, id="one line"),
        pytest.param(LISTENS, False, id="one line that listens"),
        pytest.param(LISTENS + TALKS[:60], False, id="ends within the first that does not"),
        pytest.param(TALKS + LISTENS[:60], True, id="ends within a line after one that does not"),
        pytest.param(LISTENS[60:] + TALKS, True, id="begins within a line"),
        pytest.param(LISTENS[60:], False, id="the end of a line"),
        pytest.param(TALKS[60:], False, id="the end of one that does not listen"),
        pytest.param(LISTENS[:60], False, id="the beginning of a line"),
        pytest.param(b"\n", False, id="an end of line"),
        pytest.param(b"", False, id="nothing"),
        pytest.param(TALKS + b"garbage\n", False, id="what cannot be understood is read on"),
        pytest.param(HEADING_6 + SIX + SIX.replace(b" 0A ", b" 01 "), True, id="version 6"),
    ],
)
def test_it_is_enough_when_a_whole_line_does_not_listen(chunk: bytes, expected: bool) -> None:
    """Listeners come first; a chunk may begin and end anywhere."""
    assert procnet.no_more_listeners(chunk) is expected


@pytest.mark.parametrize("size", range(1, 700, 23))
def test_wherever_chunks_end_no_listener_is_missed(size: int) -> None:
    """Read piece by piece until it is enough, then as far as lines are whole."""
    whole = HEADING_4 + LISTENS * 3 + TALKS * 5
    read = b""
    for start in range(0, len(whole), size):
        chunk = whole[start : start + size]
        read += chunk
        if procnet.no_more_listeners(chunk):
            read = read[: read.rfind(b"\n") + 1]
            break
    assert len(procnet.parse_sockets(read, "tcp")) == 3


def test_interfaces_have_counters_of_both_ways() -> None:
    """Four of the eight numbers of each."""
    wide = b"  eth0:18446744073709551615 1 0 0 0 0 0 0 18446744073709551615 2 0 0 0 0 0 0\n"
    found = procnet.parse_interfaces(DEV + LO + wide.replace(b"eth0:", b"eth0: "))
    assert found == (
        Interface(b"lo", 1242186, 4711, 1, 2, 1242187, 4712, 3, 4),
        Interface(b"eth0", 2**64 - 1, 1, 0, 0, 2**64 - 1, 2, 0, 0),
    )
    assert procnet.parse_interfaces(DEV) == ()


@pytest.mark.parametrize(
    "name",
    [
        b"\x1b[31m\xff",
        b"\xe2\x80\xae",
        b"\x85",
        b"\x1c",
        b"\x7f",
        b"\xed\xb2\x80",
        b"a.b@c",
        b"[bold]",
        b"fifteen-bytes-x",
    ],
)
def test_an_interface_may_be_called_almost_anything(name: bytes) -> None:
    """What the kernel lets it be called: anything but blanks, slashes and colons; it stays bytes."""
    assert [one.name for one in procnet.parse_interfaces(DEV + LO.replace(b"lo", name))] == [name]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(DEV.partition(b"\n")[0], id="half a heading"),
        pytest.param(DEV.partition(b"\n")[0] + b"\n", id="one line of headings"),
        pytest.param(DEV + LO[:40] + b"\n", id="cut in the counters"),
        pytest.param(DEV + LO[:-4] + b"\n", id="fifteen counters"),
        pytest.param(DEV + LO.replace(b"\n", b" 1\n"), id="seventeen counters"),
        pytest.param(DEV + LO.replace(b"4711", b"-1"), id="negative counter"),
        pytest.param(DEV + LO.replace(b"4711", b"0x11"), id="hexadecimal counter"),
        pytest.param(DEV + LO.replace(b"4711", b"9" * 21), id="counter of 21 digits"),
        pytest.param(DEV + LO.replace(b"4711", b"18446744073709551616"), id="counter beyond 64 bits"),
        pytest.param(DEV + LO.replace(b"4711", b"47\x0011"), id="NUL"),
        pytest.param(DEV + LO.replace(b"lo:", b":"), id="no name"),
        pytest.param(DEV + LO.replace(b"lo:", b"lo"), id="no colon"),
        pytest.param(DEV + LO.replace(b"lo:", b"l o:x"), id="name with a blank"),
        pytest.param(DEV + b"\n" + LO, id="empty line"),
    ],
)
def test_a_broken_line_of_an_interface_is_malformed(data: bytes) -> None:
    """One bad line makes the file doubtful."""
    with pytest.raises(Malformed):
        procnet.parse_interfaces(data)


@pytest.mark.parametrize(
    ("link", "expected"),
    [
        (b"socket:[12345]", 12345),
        (b"socket:[0]", 0),
        (b"socket:[" + b"9" * 20 + b"]", None),
        (b"socket:[" + b"9" * 21 + b"]", None),
        (b"socket:[]", None),
        (b"socket:[-1]", None),
        (b"socket:[1_0]", None),
        (b"socket:[ 1]", None),
        (b"socket:[\xb2]", None),
        (b"socket:[18446744073709551615]", (1 << 64) - 1),
        (b"socket:[18446744073709551616]", None),
        (b"socket:[12345", None),
        (b"socket:12345]", None),
        (b"socket:[12345] (deleted)", None),
        (b"/socket:[12345]", None),
        (b"pipe:[12345]", None),
        (b"anon_inode:[eventpoll]", None),
        (b"/dev/null", None),
        (b"", None),
    ],
)
def test_a_descriptor_is_a_sockets_or_none(link: bytes, expected: int | None) -> None:
    """A file may be called like one, and has a slash before its name."""
    assert procnet.parse_socket_link(link) == expected


@FUZZ
@given(st.lists(st.one_of(st.binary(max_size=20), st.sampled_from([HEADING_4, LISTENS, TALKS, SIX, UDP, DEV, LO]))))
def test_no_bytes_break_a_parser(pieces: list[bytes]) -> None:
    """Whatever is read gives records, or one known complaint of one printable line."""
    data = b"".join(pieces)
    complaints = []
    for parse in (lambda: procnet.parse_sockets(data, "tcp"), lambda: procnet.parse_interfaces(data)):
        try:
            parse()
        except Malformed as error:
            complaints.append(str(error))
    procnet.no_more_listeners(data)
    procnet.parse_socket_link(data)
    assert all(complaint.isprintable() for complaint in complaints)
