"""CPU shares and weight: what an engine could have meant.

Docker's ``--cpu-shares`` is v1's ``cpu.shares`` (2 to 262,144).  On v2 there is only ``cpu.weight`` (1 to 10,000), and
engines have turned one into the other in three ways, none of which can be undone exactly:

- *linear*, until 2025: 1 + (shares - 2) * 9999 / 262142, rounded down (runc before 1.3.2, crun before 1.23);
- *quadratic*, since then: ceil(10 ** ((log2(s) ** 2 + 125 * log2(s)) / 612 - 7 / 34)), so that 1024 gives 100;
- *systemd*'s own, for ``CPUShares=``: shares * 100 / 1024, within 1 and 10,000.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from math import ceil, log2

LEAST, MOST, DEFAULT = 2, 262_144, 1024


def linear(shares: int) -> int:
    """Weight by the formula in use until 2025."""
    return 1 + (min(max(shares, LEAST), MOST) - 2) * 9999 // 262_142


def quadratic(shares: int) -> int:
    """Weight by the formula in use since 2025."""
    if shares <= LEAST:
        return 1
    if shares >= MOST:
        return 10_000
    power = log2(shares)
    return ceil(10 ** ((power * power + 125 * power) / 612 - 7 / 34))


def systemd(shares: int) -> int:
    """Weight by systemd's ``CPUShares=``."""
    return min(max(shares * 100 // 1024, 1), 10_000)


FORMULAS = {"linear": linear, "quadratic": quadratic, "systemd": systemd}


@lru_cache(maxsize=1024)
def shares_meant(weight: int) -> dict[str, tuple[int, int] | None]:
    """By formula: the smallest and largest shares that give this weight; ``None`` where none do."""
    return {name: _inverse(formula, weight) for name, formula in FORMULAS.items()}


def weights_of(shares: int) -> dict[str, int]:
    """By formula: the weight these shares give."""
    return {name: formula(shares) for name, formula in FORMULAS.items()}


def _inverse(formula: Callable[[int], int], weight: int) -> tuple[int, int] | None:
    """All three never fall, so both ends are found by halving."""
    first, after = _first_at_least(formula, weight), _first_at_least(formula, weight + 1)
    return (first, after - 1) if first < after and first <= MOST else None


def _first_at_least(formula: Callable[[int], int], weight: int) -> int:
    low, high = LEAST, MOST + 1
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if formula(middle) >= weight else (middle + 1, high)
    return low
