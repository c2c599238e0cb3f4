"""Something done at a chosen moment of a scan: between the reader and the kernel."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from nsinspect import kernfs


@contextlib.contextmanager
def before_call(number: int, do: Callable[[], None]) -> Iterator[Callable[[], int]]:
    """Do something just before the ``number``-th system call that the reader makes; gives how many it made."""
    calls = 0
    names = ("_open", "_read", "_readlink")
    real = {name: getattr(kernfs, name) for name in names}

    def counting(name: str) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls == number:
                do()
            return real[name](*arguments, **options)

        return call

    for name in names:
        setattr(kernfs, name, counting(name))
    try:
        yield lambda: calls
    finally:
        for name in names:
            setattr(kernfs, name, real[name])
