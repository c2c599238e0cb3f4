"""Names of users, from a service that may be slow, wrong or absent."""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Callable

import pytest

from nsinspect import users
from nsinspect.collect import Depth, collect
from nsinspect.kernfs import Roots


def served_by(monkeypatch: pytest.MonkeyPatch, answer: Callable[[int], str]) -> None:
    """A name service of our own."""
    monkeypatch.setattr(pwd, "getpwuid", lambda uid: pwd.struct_passwd((answer(uid), "x", uid, 0, "", "/", "/bin/sh")))


def test_names_are_those_of_the_system():
    assert users.names([0]) == {0: "root"}


def test_a_uid_without_a_name_is_left_out():
    assert users.names([0, 4294967294, 3999999]) == {0: "root"}


def test_a_directorys_names_are_taken_as_they_are(monkeypatch: pytest.MonkeyPatch):
    served_by(monkeypatch, lambda uid: f"CORP\\user{uid}@example.com")
    assert users.names([7]) == {7: "CORP\\user7@example.com"}


def test_where_no_thread_can_be_started_nobody_has_a_name(monkeypatch: pytest.MonkeyPatch):
    """The service may be slow, and without a thread it would have to be waited for."""

    def none(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    assert users.names([0]) == {}


def test_a_slow_service_costs_the_names_it_has_not_said_and_no_more(monkeypatch: pytest.MonkeyPatch):
    """Fails without a limit of time."""
    release = threading.Event()

    def slow(uid: int) -> str:
        if uid > 1:
            release.wait(30)
        return f"user{uid}"

    served_by(monkeypatch, slow)
    try:
        assert users.names([0, 1, 2, 3], seconds=0.2) == {0: "user0", 1: "user1"}
    finally:
        release.set()


@pytest.mark.parametrize("error", [KeyError("no"), OSError(5, "EIO"), OverflowError("uid")])
def test_a_service_that_fails_costs_one_name(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def failing(uid: int) -> str:
        if uid == 1:
            raise error
        return "somebody"

    served_by(monkeypatch, failing)
    assert users.names([0, 1, 2]) == {0: "somebody", 2: "somebody"}


def test_only_this_hosts_users_are_asked_for(monkeypatch: pytest.MonkeyPatch):
    """Another host's uid 1000 is somebody else."""
    served_by(monkeypatch, lambda uid: f"u{uid}")
    assert collect(Roots()).users[os.geteuid()] == f"u{os.geteuid()}"
    assert collect(Roots(root="tests/fixtures/hosts/docker-hybrid")).users == {}
    assert collect(Roots(), Depth(users=False)).users == {}
