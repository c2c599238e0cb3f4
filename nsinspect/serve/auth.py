"""Who may ask: HTTP's Basic authentication against bcrypt hashes, RFC 7617."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import hmac
import os
from collections.abc import Mapping

# Of a password nobody has: whoever asks as an unknown user waits as long as one who is known.
_NOBODY = "$2b${cost}$C6UzMDM.H6dfI/f/IKcxee7uOaQz8jUXGvaMV1p0lRhYYXIvZ1mJu"
_REMEMBERED = 64
_WAITING = 16


class Busy(Exception):
    """So many passwords wait to be checked that one more would wait too long."""


class Passwords:
    """Checks one password at a time, because bcrypt is meant to cost, and remembers those that were right.

    What is remembered is a keyed digest of user, hash and password, each with its length: two of them can never run
    together into the key of a third (CVE-2022-46146), a changed hash is a new question, and no password is kept.
    """

    def __init__(self) -> None:
        self._key = os.urandom(32)
        self._right: dict[bytes, None] = {}
        self._turn = asyncio.Lock()
        self._waiting = 0

    async def right(self, users: Mapping[str, str], authorization: bytes | None) -> bool:
        """Whether an ``Authorization`` header names one of ``users`` with its password.  Raises :class:`Busy`."""
        credentials = _credentials(authorization)
        if credentials is None:
            return False
        user, password = credentials
        hashed = users.get(user.decode("utf-8", "surrogateescape"))
        known = self._digest(user, (hashed or "").encode(), password)
        if known in self._right:
            return hashed is not None
        if self._waiting >= _WAITING:
            raise Busy
        cost = next(iter(users.values()), "$2b$10$")[4:6]
        if not await self._check(password, hashed or _NOBODY.format(cost=cost)) or hashed is None:
            return False
        self._right[known] = None
        if len(self._right) > _REMEMBERED:
            del self._right[next(iter(self._right))]
        return True

    async def _check(self, password: bytes, hashed: str) -> bool:
        self._waiting += 1
        try:
            await self._turn.acquire()
        except asyncio.CancelledError:
            self._waiting -= 1
            raise
        # bcrypt cannot be interrupted: who goes away now does not end its turn before it has ended.
        return await asyncio.shield(asyncio.create_task(self._compute(password, hashed)))

    async def _compute(self, password: bytes, hashed: str) -> bool:
        try:
            return await asyncio.to_thread(_matches, password, hashed)
        finally:
            self._turn.release()
            self._waiting -= 1

    def _digest(self, *parts: bytes) -> bytes:
        digest = hmac.new(self._key, digestmod=hashlib.sha256)
        for part in parts:
            digest.update(len(part).to_bytes(8, "big") + part)
        return digest.digest()


def _credentials(authorization: bytes | None) -> tuple[bytes, bytes] | None:
    scheme, _, encoded = (authorization or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except (binascii.Error, ValueError):
        return None
    return (user, password) if colon else None


def _matches(password: bytes, hashed: str) -> bool:
    import bcrypt

    try:
        # What follows a NUL would not count.
        return b"\0" not in password and bcrypt.checkpw(password, hashed.encode())
    except ValueError:  # longer than bcrypt takes
        return False
