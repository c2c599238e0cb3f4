"""One target under atheris: ``python -m fuzz.one NAME [libFuzzer's flags and folders]``."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["nsinspect", "tarfile", "urllib.parse"]):
    from fuzz.mutate import mutated
    from fuzz.targets import TARGETS


def _mutator(data: bytes, limit: int, seed: int) -> bytes:
    """JSON as JSON half of the time."""
    if seed % 2:
        return mutated(data, limit, seed)
    return bytes(atheris.Mutate(data, limit))


if __name__ == "__main__":
    target = TARGETS[sys.argv[1]]
    more = {"custom_mutator": _mutator} if target.json else {}
    atheris.Setup([sys.argv[0], *sys.argv[2:]], target.check, **more)
    atheris.Fuzz()
