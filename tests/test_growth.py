"""The check for leaks of the live tier finds one, and finds none where there is none."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

from tests.live.growth import growth

MIB = 1 << 20
# Works a while for each line that it is told, and keeps so much of it.
WORKER = """
import os, sys
kept = []
for line in sys.stdin:
    passing = [bytearray(1000) for _ in range(500)]
    kept.append(bytearray(b"x") * int(line))
    if sys.argv[1] == "descriptors":
        kept.append(os.open("/", os.O_RDONLY))
    print(flush=True)
"""


def measured(how: str, kept: int, times: int = 200) -> tuple[list[tuple[float, float]], list[tuple[float, float]]]:
    """Resident bytes and descriptors of a process that keeps so much each time."""
    command = [sys.executable, "-c", WORKER, how]
    resident: list[tuple[float, float]] = []
    descriptors: list[tuple[float, float]] = []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin
        assert process.stdout
        for number in range(times):
            process.stdin.write(f"{kept}\n".encode())
            process.stdin.flush()
            process.stdout.readline()
            own = Path(f"/proc/{process.pid}")
            pages = int((own / "statm").read_text().split()[1])
            resident.append((number, pages * os.sysconf("SC_PAGE_SIZE")))
            descriptors.append((number, len(os.listdir(own / "fd"))))
        process.stdin.close()
    return resident, descriptors


def test_a_process_that_keeps_memory_grows():
    resident, descriptors = measured("memory", 50_000)

    assert growth(resident).more_than(3 * MIB)
    assert not growth(descriptors).more_than(0)


def test_a_process_that_keeps_descriptors_grows():
    resident, descriptors = measured("descriptors", 0)

    assert growth(descriptors).more_than(50)
    assert not growth(resident).more_than(MIB)


def test_what_is_restless_does_not_grow():
    chance = random.Random(3)
    steps = [(second, 50 * MIB + chance.choice((0, 0, 4 * MIB)) + chance.gauss(0, MIB)) for second in range(100)]

    assert not growth(steps).more_than(2 * MIB)


def test_a_leak_is_found_below_the_restlessness():
    chance = random.Random(3)
    steps = [
        (second, 50 * MIB + 0.1 * MIB * second + chance.choice((0, 0, 4 * MIB)) + chance.gauss(0, MIB))
        for second in range(200)
    ]

    found = growth(steps)
    assert found.more_than(2 * MIB)
    assert 8 * MIB < found.rise < 12 * MIB


def test_what_grew_at_the_beginning_only_is_warm_now():
    steps = [(second, min(second, 60) * MIB) for second in range(200)]

    assert growth(steps) == (0, 0, 0)
