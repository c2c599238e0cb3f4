"""Passwords: who is let in, what is remembered, and what nobody can make us compute."""

from __future__ import annotations

import asyncio
import base64
import os
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import bcrypt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nsinspect.serve import auth
from nsinspect.serve.auth import Busy, Passwords

FUZZ = settings(deadline=None, max_examples=100)


def hashed(password: bytes) -> str:
    """The cheapest hash there is."""
    return bcrypt.hashpw(password, bcrypt.gensalt(4)).decode()


USERS = {"alice": hashed(b"right"), "böb": hashed("pässword".encode()), "colons": hashed(b"a:b:c"), "": hashed(b"x")}


def basic(user: str | bytes, password: str | bytes) -> bytes:
    """The header that a client sends."""
    pair = [part.encode() if isinstance(part, str) else part for part in (user, password)]
    return b"Basic " + base64.b64encode(b":".join(pair))


NOBODY = auth._NOBODY


@pytest.fixture(autouse=True)
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """The password nobody has costs what the others here cost."""
    monkeypatch.setattr(auth, "_NOBODY", hashed(os.urandom(8).hex().encode()))


def ask(*questions: tuple[dict[str, str], bytes | None], passwords: Passwords | None = None) -> list[bool]:
    """The answers to questions that one after the other are put to one object."""
    asked = passwords or Passwords()

    async def all_of_them() -> list[bool]:
        async with asyncio.timeout(20):
            return [await asked.right(users, header) for users, header in questions]

    return asyncio.run(all_of_them())


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[bytes, bytes]]:
    """Every password that bcrypt was asked about, with its hash."""
    calls: list[tuple[bytes, bytes]] = []
    real = bcrypt.checkpw

    def counting(password: bytes, hashed_password: bytes) -> bool:
        calls.append((password, hashed_password))
        return real(password, hashed_password)

    monkeypatch.setattr(bcrypt, "checkpw", counting)
    return calls


class Gate:
    """A bcrypt that answers only when it is let, and counts how many ask it at once."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.at_once = self.most = self.calls = 0
        self._lock = threading.Lock()

    def __call__(self, password: bytes, hashed_password: bytes) -> bool:
        """Stands in for ``checkpw``."""
        with self._lock:
            self.calls += 1
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self.open.wait(10)
        with self._lock:
            self.at_once -= 1
        return password == b"right"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    """Every password waits until the test opens it."""
    made = Gate()
    monkeypatch.setattr(bcrypt, "checkpw", made)
    yield made
    made.open.set()


async def until(condition: Callable[[], bool]) -> None:
    """Let others run until it holds."""
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.001)


def run(test: Callable[[], Awaitable[None]]) -> None:
    """One asynchronous test, bounded."""

    async def bounded() -> None:
        async with asyncio.timeout(10):
            await test()

    asyncio.run(bounded())


# -- who is let in -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password", "may"),
    [
        ("alice", "right", True),
        ("böb", "pässword", True),
        ("colons", "a:b:c", True),
        ("", "x", True),
        ("alice", "wrong", False),
        ("alice", "", False),
        ("alice", "Right", False),
        ("alice", "right ", False),
        ("Alice", "right", False),
        ("alice ", "right", False),
        ("böb", "pässword".encode("latin-1"), False),
        ("böb".encode("latin-1"), "pässword", False),
        (b"\xff\xfe", "right", False),
        ("nobody", "right", False),
    ],
)
def test_a_user_comes_in_with_the_password_and_nobody_else(user: str | bytes, password: str | bytes, may: bool):
    """UTF-8, and a password may have colons."""
    assert ask((USERS, basic(user, password))) == [may]


@pytest.mark.parametrize(
    "header",
    [
        None,
        b"",
        b"Basic",
        b"Basic ",
        b"Basic " + base64.b64encode(b"alice"),
        b"Basic " + base64.b64encode(b"alice:right")[:-1],
        b"Basic !" + base64.b64encode(b"alice:right"),
        b"Basic " + base64.b64encode(b"alice:right") + b" x",
        b"Basic \xe4\xff",
        b"Basic alice:right",
        b"Bearer " + base64.b64encode(b"alice:right"),
        b"Digest username=alice",
        base64.b64encode(b"alice:right"),
        b"Basic" + base64.b64encode(b"alice:right"),
        b"\xffasic " + base64.b64encode(b"alice:right"),
    ],
)
def test_a_malformed_header_is_refused_without_asking_bcrypt(header: bytes | None, checked: list[Any]):
    """There is no password to check."""
    assert ask((USERS, header)) == [False]
    assert checked == []


@pytest.mark.parametrize("scheme", [b"basic ", b"BASIC ", b"Basic   "])
def test_the_scheme_has_no_case(scheme: bytes):
    """RFC 7617 says so, and more than one space may follow (RFC 9110)."""
    assert ask((USERS, scheme + base64.b64encode(b"alice:right"))) == [True]


@FUZZ
@given(st.binary(max_size=40))
def test_arbitrary_headers_are_only_ever_refused(header: bytes):
    """No exception comes out."""
    assert ask(({}, header), ({}, b"Basic " + header)) == [False, False]


@pytest.mark.parametrize(
    "password",
    [b"x" * 73, b"x" * 15_000, b"right\0", b"\0", b"right\0right", b"\xff" * 80],
    ids=["73 bytes", "15000 bytes", "NUL at the end", "only NUL", "NUL within", "no UTF-8"],
)
def test_a_password_that_bcrypt_cannot_take_is_wrong(password: bytes):
    """Whether bcrypt raises for it (5.0) or cuts it (3.2)."""
    assert ask((USERS, basic("alice", password)), (USERS, basic("alice", "right"))) == [False, True]


# -- what is computed --------------------------------------------------------------------------------------------------


def test_an_unknown_user_costs_as_much_as_a_known_one(checked: list[tuple[bytes, bytes]]):
    """Otherwise the time would tell which users exist."""
    ask((USERS, basic("alice", "wrong")), (USERS, basic("nobody", "wrong")), ({}, basic("nobody", "wrong")))

    assert [password for password, _ in checked] == [b"wrong"] * 3
    assert {asked for _, asked in checked[1:]} == {auth._NOBODY.encode()}


def test_the_hash_of_nobody_is_a_hash():
    """One that bcrypt cannot parse would be answered at once, and give every unknown user away."""
    assert bcrypt.checkpw(b"x", NOBODY.format(cost="04").encode()) is False


def test_nobodys_hash_costs_what_the_users_do(monkeypatch: pytest.MonkeyPatch):
    """Or the time of an answer would tell who is known."""
    asked: list[str] = []
    monkeypatch.setattr(auth, "_NOBODY", NOBODY)
    monkeypatch.setattr(auth, "_matches", lambda _, hashed: bool(asked.append(hashed)))
    dear = {"alice": "$2y$12$" + USERS["alice"][7:]}

    assert ask((dear, basic("nobody", "guess"))) == [False]
    assert asked[0].startswith("$2b$12$")


def test_a_right_password_is_not_hashed_again(checked: list[Any]):
    """Prometheus asks every few seconds."""
    assert ask(*[(USERS, basic("alice", "right"))] * 5) == [True] * 5
    assert len(checked) == 1


def test_a_wrong_password_is_hashed_every_time(checked: list[Any]):
    """It is never remembered, neither as right nor as wrong."""
    assert ask(*[(USERS, basic("alice", "wrong"))] * 3) == [False] * 3
    assert len(checked) == 3


def test_the_oldest_of_many_is_forgotten(checked: list[Any]):
    """What is remembered is bounded; being forgotten only costs one hash."""
    users = {f"user{number}": USERS["alice"] for number in range(65)}
    passwords = Passwords()
    ask(*((users, basic(user, "right")) for user in users), passwords=passwords)
    assert len(checked) == 65
    assert ask((users, basic("user64", "right")), passwords=passwords) == [True]
    assert len(checked) == 65
    assert ask((users, basic("user0", "right")), passwords=passwords) == [True]

    assert len(checked) == 66
    assert len(passwords._right) == 64


def test_a_changed_hash_asks_again(checked: list[Any]):
    """A remembered password ends with the hash it was right for."""
    same, other = {"alice": hashed(b"right")}, {"alice": hashed(b"changed")}
    right = basic("alice", "right")

    assert ask((USERS, right), (other, right), (same, right), (USERS, right)) == [True, False, True, True]
    assert len(checked) == 3


def test_a_removed_user_is_refused_though_remembered(checked: list[Any]):
    """And comes in again when put back."""
    right = basic("alice", "right")

    assert ask((USERS, right), ({}, right), ({"bob": USERS["alice"]}, right), (USERS, right)) == [
        *(True, False, False, True)
    ]


def test_a_remembered_password_is_not_kept():
    """Neither it nor its hash nor the user is in what is remembered."""
    passwords = Passwords()
    ask((USERS, basic("alice", "right")), passwords=passwords)
    (known,) = passwords._right

    assert len(known) == 32
    assert Passwords()._digest(b"alice", USERS["alice"].encode(), b"right") != known


# -- CVE-2022-46146 ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "password"),
    [
        ("", "alice{hash}right"),
        ("a", "lice{hash}right"),
        ("alice", "{hash}right"),
        ("alice{hash}", "right"),
        ("alice{hash}r", "ight"),
        ("alice{hash}right", ""),
        ("alice:{hash}", "right"),
        ("616c696365", "right"),
        ("nobody", "right"),
    ],
)
def test_no_other_user_and_password_run_together_into_one_remembered(user: str, password: str, checked: list[Any]):
    """Whoever knows a hash could otherwise come in with it."""
    hashes = {"hash": USERS["alice"]}
    users = {"alice": USERS["alice"]}
    answers = ask((users, basic("alice", "right")), (users, basic(user.format(**hashes), password.format(**hashes))))

    assert answers == [True, False]
    assert len(checked) == 2


def test_a_colon_belongs_to_the_password():
    """User ``a`` with ``b:c`` is remembered; user ``a:b`` with ``c`` is someone else, whom Basic cannot name."""
    one, other = {"a": hashed(b"b:c")}, {"a:b": hashed(b"c")}

    assert ask((one, basic("a", "b:c")), (other, basic("a:b", "c")), (one, basic("a:b", "c"))) == [True, False, True]
    passwords = Passwords()
    assert passwords._digest(b"a", b"", b"b:c") != passwords._digest(b"a:b", b"", b"c")


PARTS = st.tuples(*[st.text(alphabet="a:$\0", max_size=4).map(str.encode)] * 3)


@FUZZ
@given(PARTS, PARTS)
def test_digests_are_equal_for_equal_parts_only(one: tuple[bytes, ...], other: tuple[bytes, ...]):
    """However the same bytes are divided."""
    passwords = Passwords()

    assert (passwords._digest(*one) == passwords._digest(*other)) == (one == other)


# -- many at once ------------------------------------------------------------------------------------------------------


def test_one_password_is_checked_at_a_time(gate: Gate):
    """A burst keeps one processor busy, not all of them."""

    async def test() -> None:
        passwords = Passwords()
        burst = [asyncio.create_task(passwords.right(USERS, basic("alice", f"{n}"))) for n in range(8)]
        await until(lambda: gate.calls == 1)
        gate.open.set()
        assert await asyncio.gather(*burst) == [False] * 8

    run(test)
    assert (gate.calls, gate.most) == (8, 1)


def test_too_many_waiting_is_busy_and_who_is_remembered_still_comes_in(gate: Gate):
    """Guessing passwords does not keep Prometheus out; and it ends when the guesses are done."""

    async def test() -> None:
        passwords = Passwords()
        gate.open.set()
        assert await passwords.right(USERS, basic("alice", "right"))
        gate.open.clear()
        guesses = [asyncio.create_task(passwords.right(USERS, basic("nobody", f"{n}"))) for n in range(16)]
        await until(lambda: gate.at_once == 1)
        for user in ("nobody", "böb"):
            with pytest.raises(Busy):
                await passwords.right(USERS, basic(user, "one more"))
        assert await passwords.right(USERS, basic("alice", "right"))
        assert not await passwords.right(USERS, b"Basic nonsense")
        gate.open.set()
        assert await asyncio.gather(*guesses) == [False] * 16
        assert not await passwords.right(USERS, basic("nobody", "one more"))

    run(test)


def test_one_who_goes_away_while_waiting_makes_room(gate: Gate):
    """A place in the queue is given back."""

    async def test() -> None:
        passwords = Passwords()
        guesses = [asyncio.create_task(passwords.right(USERS, basic("nobody", f"{n}"))) for n in range(16)]
        await until(lambda: gate.at_once == 1)
        guesses[-1].cancel()
        await asyncio.wait(guesses[-1:])
        last = asyncio.create_task(passwords.right(USERS, basic("alice", "right")))
        await asyncio.sleep(0)
        assert not last.done()
        gate.open.set()
        assert await last

    run(test)


def test_one_who_goes_away_while_checked_does_not_let_two_be_checked_at_once(gate: Gate):
    """bcrypt cannot be interrupted: who takes the turn of one that left would compute beside it, and so on."""

    async def test() -> None:
        passwords = Passwords()
        left = asyncio.create_task(passwords.right(USERS, basic("nobody", "guess")))
        await until(lambda: gate.at_once == 1)
        left.cancel()
        following = asyncio.create_task(passwords.right(USERS, basic("alice", "right")))
        await asyncio.wait([following], timeout=0.2)
        gate.open.set()
        assert await following
        with pytest.raises(asyncio.CancelledError):
            await left

    run(test)
    assert gate.most == 1
