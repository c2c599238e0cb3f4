"""Recordings: looks at a host, one after the other, in files that are only ever appended to.

A file (a shard) is frames: a whole look (a key), the same once more, and then only what differs from that key.  Every
frame is checked by itself and found again by its first bytes, so damage costs the frame it is in: a broken key has its
copy, and nothing is built on the frame before.  What happened between two looks is in frames of its own.  See
docs/forensics.md for the layout.
"""

from __future__ import annotations

import os
import re
import stat
import struct
import weakref
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple

from nsinspect import codec
from nsinspect.errors import NsinspectError
from nsinspect.private import Folder
from nsinspect.snapshot import Snapshot

KEY_EVERY = 600.0
"""Seconds after which a whole look is written again."""

SHARD_SECONDS = 3600.0
SHARD_BYTES = 64 << 20
KEEP_SECONDS = 7 * 86_400.0
KEEP_BYTES = 1 << 30

_MAGIC = b"\x93nsrec\r\n"
# Magic, kind, length of what follows, time and the key's time in nanoseconds; then a checksum of these.
_HEADER = struct.Struct("<8scxxxIQQ")
_CHECK = struct.Struct("<I")
_KEY, _COPY, _DELTA, _EVENTS = b"K", b"C", b"D", b"E"
_UNTOLD = 1000
_LOOKS = (_KEY, _COPY, _DELTA)
_MAX_FRAME = 1 << 28
_MAX_PLAIN = 1 << 30
_NAME = re.compile(r"[0-9]{8}T[0-9]{6}\.[0-9]{6}Z\.nsrec")


class StoreError(NsinspectError):
    """A recording cannot be written, or cannot be read at all."""


class Frame(NamedTuple):
    """Where a frame is: times in nanoseconds since the epoch; ``key`` is that of the key it builds on."""

    shard: str
    kind: bytes
    time: int
    key: int
    offset: int
    length: int


class Recorder:
    """Appends looks to the recording below ``path``, which it makes where it is missing.

    Raises :class:`StoreError` where it is somebody else's, or is being written already.
    """

    def __init__(self, path: str, *, keep_seconds: float = KEEP_SECONDS, keep_bytes: int = KEEP_BYTES) -> None:
        self._path = path
        self._keep_seconds, self._keep_bytes = keep_seconds, keep_bytes
        self._shard_bytes = min(SHARD_BYTES, keep_bytes // 8)
        try:
            self._private = Folder(path)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        self._folder = self._private.fd
        self._shard: int | None = None
        self._began = self._last = 0.0
        self._untold: list[dict[str, Any]] = []
        self._size = 0
        self._key: Snapshot | None = None
        self._key_time = 0
        self._key_length = 0
        self._dictionary: Any = None

    def add(self, snapshot: Snapshot, events: list[dict[str, Any]] | None = None) -> int:
        """Append a look, and what happened since the one before; how many bytes that took.

        Raises :class:`StoreError` when it cannot be written; then nothing of it is, and the next may be.
        """
        now = snapshot.captured_at
        # A clock that was set back begins a new file, so that in each of them time goes on.
        stale = now - self._began > SHARD_SECONDS or now < self._last or self._size > self._shard_bytes
        try:
            if self._shard is None or (stale and self._size):
                self._new_shard(now)
            before = self._size
            try:
                self._append(snapshot, [*self._untold, *(events or [])])
            except OSError:
                # All of it or nothing: what is there of it would be damage to whoever reads.
                assert self._shard is not None
                os.ftruncate(self._shard, before)
                self._size = before
                raise
            self._last = now
            self._untold = []
            return self._size - before
        except OSError as error:
            # What happened is told with the next look that can be written, as far as there is room to remember it.
            self._untold = [*self._untold, *(events or [])][:_UNTOLD]
            raise StoreError(f"{self._path}: {error.strerror}") from error

    def _append(self, snapshot: Snapshot, events: list[dict[str, Any]]) -> None:
        import zstandard

        moment = _nanoseconds(snapshot.captured_at)
        if events:
            self._write(_EVENTS, moment, moment, zstandard.compress(codec.dumps(events)))
        if self._key is None or snapshot.captured_at - self._key_time / 1e9 > KEY_EVERY:
            self._write_key(snapshot, moment)
            return
        packed = zstandard.ZstdCompressor(level=3, dict_data=self._dictionary).compress(
            codec.dumps(codec.delta(self._key, snapshot))
        )
        # Where so much is different the next looks had better start from here.
        if len(packed) * 4 > self._key_length and len(packed) > 1 << 16:
            self._write_key(snapshot, moment)
        else:
            self._write(_DELTA, moment, self._key_time, packed)

    def close(self) -> None:
        """Nothing comes any more."""
        self._give_up_shard()
        self._private.close()

    def _write_key(self, snapshot: Snapshot, moment: int) -> None:
        import zstandard

        plain = codec.dumps(codec.encode(snapshot))
        packed = zstandard.compress(plain, 6)
        self._write(_KEY, moment, moment, packed)
        # Once more, because all that follows is built on it.
        self._write(_COPY, moment, moment, packed)
        self._key, self._key_time, self._key_length = snapshot, moment, len(packed)
        self._dictionary = zstandard.ZstdCompressionDict(plain, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        self._dictionary.precompute_compress(level=3)

    def _write(self, kind: bytes, moment: int, key: int, packed: bytes) -> None:
        assert self._shard is not None
        header = _HEADER.pack(_MAGIC, kind, len(packed), moment, key)
        frame = b"".join((header, _CHECK.pack(zlib.crc32(header)), packed, _CHECK.pack(zlib.crc32(packed))))
        written = 0
        while written < len(frame):
            written += os.write(self._shard, frame[written:])
        self._size += len(frame)

    def _new_shard(self, moment: float) -> None:
        self._give_up_shard()
        self._expire(moment)
        name = datetime.fromtimestamp(moment, UTC).strftime("%Y%m%dT%H%M%S.%fZ.nsrec")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self._shard = os.open(name, flags, 0o600, dir_fd=self._folder)
        self._began, self._size, self._key = moment, 0, None

    def _give_up_shard(self) -> None:
        if self._shard is not None:
            os.close(self._shard)
            self._shard = None

    def _expire(self, now: float) -> None:
        """Remove the oldest shards: those that are too old, and then as many as are too much."""
        shards = [(name, os.stat(name, dir_fd=self._folder, follow_symlinks=False)) for name in _shards(self._folder)]
        total = sum(status.st_size for _, status in shards)
        for name, status in shards:
            if status.st_mtime >= now - self._keep_seconds and total <= self._keep_bytes - self._shard_bytes:
                break
            os.unlink(name, dir_fd=self._folder)
            total -= status.st_size


class Recording:
    """A recording to be read.  ``losses`` are lines about what in it is damaged, as far as it was read."""

    def __init__(self, path: str) -> None:
        self._path = path
        self.losses: list[str] = []
        try:
            self._folder = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            weakref.finalize(self, os.close, self._folder)
            self._shards = _shards(self._folder)
        except OSError as error:
            raise StoreError(f"{path}: {error.strerror}") from error
        if not self._shards:
            raise StoreError(f"{path}: expected a recording, found none")

    def at(self, moment: float) -> Snapshot:
        """The last look that was taken at or before ``moment``.  Raises :class:`StoreError` where there is none."""
        until = _nanoseconds(moment)
        found: list[tuple[Frame, bytes, list[Frame]]] = []
        # A shard's name is rounded.
        candidates = [name for name in self._shards if _began(name) <= moment + 0.001]
        for shard in reversed(candidates):
            # Files overlap where a clock was set back: one that began long before can have nothing later.
            if found and (_began(shard) + 2 * SHARD_SECONDS) * 1e9 < max(one.time for one, _, _ in found):
                if (snapshot := self._last_of(found)) is not None:
                    return snapshot
                found = []
            data = self._read(shard)
            frames = [one for one in self._frames(shard, data) if one.kind in _LOOKS]
            found += [(one, data, frames) for one in frames if one.time <= until]
        if (snapshot := self._last_of(found)) is not None:
            return snapshot
        raise StoreError(f"{self._path}: nothing was recorded at or before that; it begins {self.first()}")

    def _last_of(self, found: list[tuple[Frame, bytes, list[Frame]]]) -> Snapshot | None:
        for frame, data, frames in sorted(found, key=lambda one: one[0].time, reverse=True):
            try:
                state = self._state(data, frame, frames)
                if state is not None:
                    return codec.decode(state)
            except (codec.NotASnapshot, AttributeError, TypeError, RecursionError):
                self._lost(frame, "not what a recorder writes")
        return None

    def first(self) -> str:
        """When it begins."""
        return _text(_began(self._shards[0]))

    def moments(self) -> list[float]:
        """The times of all looks."""
        found = {
            one.time / 1e9
            for shard in self._shards
            for one in self._frames(shard, self._read(shard))
            if one.kind in _LOOKS
        }
        return sorted(found)

    def events(self, since: float = 0.0) -> Iterator[dict[str, Any]]:
        """What happened from ``since`` on, in order."""
        for shard in self._shards:
            if _began(shard) + 2 * SHARD_SECONDS < since:
                continue
            data = self._read(shard)
            for frame in self._frames(shard, data):
                if frame.kind == _EVENTS and frame.time >= _nanoseconds(since):
                    found = self._plain(data, frame, None)
                    if isinstance(found, list):
                        yield from (one for one in found if isinstance(one, dict))

    def _state(self, data: bytes, frame: Frame, frames: list[Frame]) -> dict[str, Any] | None:
        if frame.kind != _DELTA:
            found: dict[str, Any] | None = self._plain(data, frame, None)
            return found
        for key in frames:
            if key.kind in (_KEY, _COPY) and key.time == frame.key:
                plain = self._unpacked(data, key, None)
                if plain is None:
                    continue
                changes = self._plain(data, frame, plain)
                if changes is None:
                    return None
                state: dict[str, Any] = codec.loads(plain)
                codec.apply(state, changes)
                return state
        self._lost(frame, "both copies of what it builds on are damaged")
        return None

    def _plain(self, data: bytes, frame: Frame, dictionary: bytes | None) -> Any:
        plain = self._unpacked(data, frame, dictionary)
        try:
            return None if plain is None else codec.loads(plain)
        except codec.NotASnapshot:
            self._lost(frame, "not what a recorder writes")
            return None

    def _unpacked(self, data: bytes, frame: Frame, dictionary: bytes | None) -> bytes | None:
        import zstandard

        packed = data[frame.offset : frame.offset + frame.length]
        known = None
        if dictionary is not None:
            known = zstandard.ZstdCompressionDict(dictionary, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
        try:
            if 0 <= zstandard.frame_content_size(packed) <= _MAX_PLAIN:
                return zstandard.ZstdDecompressor(dict_data=known).decompress(packed)
            self._lost(frame, "larger than any look")
        except zstandard.ZstdError as error:
            self._lost(frame, str(error))
        return None

    def _frames(self, shard: str, data: bytes) -> Iterator[Frame]:
        """Every frame whose header is whole; from damage on, the next one is looked for."""
        at, size = 0, _HEADER.size + _CHECK.size
        while at < len(data):
            header = data[at : at + _HEADER.size]
            whole = data[at + _HEADER.size : at + size] == _CHECK.pack(zlib.crc32(header)) and header[:8] == _MAGIC
            if whole:
                _, kind, length, moment, key = _HEADER.unpack(header)
                end = at + size + length + _CHECK.size
                if length <= _MAX_FRAME and end <= len(data):
                    frame = Frame(shard, kind, moment, key, at + size, length)
                    # Of every one, so that a broken copy is said before it is needed.
                    if data[end - _CHECK.size : end] == _CHECK.pack(zlib.crc32(data[at + size : end - _CHECK.size])):
                        yield frame
                    else:
                        self._lost(frame, "its checksum is wrong")
                    at = end
                    continue
            following = data.find(_MAGIC, at + 1)
            self._say(f"{self._path}/{shard}: damaged at byte {at}: at most one look is lost")
            at = len(data) if following < 0 else following

    def _lost(self, frame: Frame, why: str) -> None:
        if frame.kind in (_KEY, _COPY):
            what, outcome = "one copy of a whole look", "is damaged"
        else:
            what, outcome = "what happened" if frame.kind == _EVENTS else "the look", "is lost"
        self._say(f"{self._path}/{frame.shard}: {what} of {_text(frame.time / 1e9)} {outcome}: {why}")

    def _say(self, line: str) -> None:
        if line not in self.losses:
            self.losses.append(line)

    def _read(self, shard: str) -> bytes:
        try:
            fd = os.open(shard, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=self._folder)
            with os.fdopen(fd, "rb") as file:
                if not stat.S_ISREG(os.fstat(fd).st_mode):
                    raise OSError(0, "expected a regular file")
                return file.read(4 * SHARD_BYTES)
        except OSError as error:
            self._say(f"{self._path}/{shard}: {error.strerror}: all of it is lost")
            return b""


def _shards(folder: int) -> list[str]:
    return sorted(name for name in os.listdir(folder) if _NAME.fullmatch(name) and _began(name) >= 0)


def _began(shard: str) -> float:
    """By its name; of one that names no day, before all time."""
    try:
        return datetime.strptime(shard, "%Y%m%dT%H%M%S.%fZ.nsrec").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return -1.0


def _nanoseconds(moment: float) -> int:
    return int(moment * 1e9)


def _text(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
