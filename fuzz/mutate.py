"""JSON changed as JSON: what changes single bytes of it rarely leaves any."""

from __future__ import annotations

import json
import random
from typing import Any

from fuzz.targets import SEPARATOR

ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 63, 64, 1 << 31, (1 << 32) - 1, 1 << 36, 1 << 53, (1 << 63) - 1, 1 << 63, 1 << 64),
    *(
        10**30,
        1.5,
        -0.0,
        1e308,
        float("inf"),
        "",
        "max",
        "0",
        "-1",
        "a" * 300,
        "\ud800",
        "\x1b[31m",
        "/",
        "/../..",
        "\0",
    ),
    *("host", "container:x", "0-3", "9999-", "2026-01-01T00:00:00Z", "0001-01-01T00:00:00+14:00", "\u202e", "x:y:z"),
    *([], {}, [[]], {"": 1}, {"a": {"b": None}}, ["x", 1]),
)


def mutated(data: bytes, limit: int, seed: int) -> bytes:
    """One of the parts with something in it changed; as it is where none is JSON."""
    chance = random.Random(seed)
    parts = data.split(SEPARATOR)
    at = chance.randrange(len(parts))
    try:
        value = json.loads(parts[at])
    except (ValueError, RecursionError):
        return data
    for _ in range(chance.randint(1, 3)):
        value = _changed(value, chance)
    try:
        parts[at] = json.dumps(value).encode()
    except (ValueError, RecursionError):
        return data
    whole = SEPARATOR.join(parts)
    return whole if len(whole) <= limit else data


def _changed(value: Any, chance: random.Random) -> Any:
    """The same with one thing in it another: the deeper, the likelier."""
    if isinstance(value, dict) and value and chance.random() < 0.9:
        key = chance.choice(list(value))
        roll = chance.random()
        if roll < 0.1:
            return {one: inner for one, inner in value.items() if one != key}
        if roll < 0.2:
            name = chance.choice([str(odd) for odd in ODD] + [key + "x", "5", "77"])
            return {**value, name: value[key]}
        if roll < 0.25:
            return {**value, key: value[chance.choice(list(value))]}
        return {**value, key: _changed(value[key], chance)}
    if isinstance(value, list) and value and chance.random() < 0.9:
        at = chance.randrange(len(value))
        roll = chance.random()
        if roll < 0.1:
            return value[:at] + value[at + 1 :]
        if roll < 0.2:
            return [*value, value[at]]
        return [*value[:at], _changed(value[at], chance), *value[at + 1 :]]
    if isinstance(value, int) and not isinstance(value, bool) and chance.random() < 0.3:
        return value + chance.choice([-1, 1, 1 << 32, -(1 << 32)])
    if isinstance(value, str) and value and chance.random() < 0.3:
        at = chance.randrange(len(value))
        return value[:at] + str(chance.choice(ODD)) + value[at:]
    return chance.choice(ODD)
