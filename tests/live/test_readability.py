"""Which fact needs which privilege, on three kernels: measured again, and what the docs say of it still holds.

``readability.json`` is what was measured; with ``NSINSPECT_READABILITY`` naming a file it is written anew (``make
matrix``).  On QEMU it is a part of the boot that starts every engine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.live.readability import FACTS, PRIVILEGES, TARGETS
from tests.live.test_engines_systemd import ask_guest
from tests.live.uml import Uml

CHECKOUT = Path(__file__).parents[2]
RECORD = Path(__file__).with_name("readability.json")
COMMAND = [sys.executable, "tests/live/readability.py"]
Measured = dict[str, Any]


def on_host() -> Measured:
    """On this machine."""
    done = subprocess.run(
        COMMAND,
        cwd=CHECKOUT,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: Measured = json.loads(done.stdout)
    return found


def on_uml() -> Measured:
    """On user-mode Linux."""
    found: Measured = json.loads(Uml().run(f"PYTHONPATH=. {' '.join(COMMAND)}", timeout=180))
    return found


def on_qemu() -> Measured:
    """On Debian's kernel with its systemd."""
    found: Measured = ask_guest()["readability"]
    assert "failed" not in found, found["failed"]
    return found


KERNELS: dict[str, Callable[[], Measured]] = {"host": on_host, "uml": on_uml, "qemu": on_qemu}


@cache
def measured(kernel: str) -> Measured:
    """What was found just now."""
    return KERNELS[kernel]()


def cells(facts: dict[str, dict[str, str]]) -> dict[tuple[str, str, str], str]:
    """Each answer that there is, by fact, target and privilege."""
    return {
        (fact, target, privilege): word
        for fact, targets in facts.items()
        for target, words in targets.items()
        for privilege, word in zip(PRIVILEGES, words.split(), strict=True)
        if word != "-"
    }


@pytest.mark.parametrize("kernel", KERNELS)
def test_each_privilege_still_tells_what_the_record_says(kernel: str):
    """Of facts that there are here and were there: a machine may have a security module, or none."""
    now, then = (cells(facts) for facts in (measured(kernel)["facts"], recorded()[kernel]["facts"]))

    assert {cell: now[cell] for cell in now.keys() & then.keys()} == {c: then[c] for c in now.keys() & then.keys()}
    assert len({fact for fact, *_ in now.keys() & then.keys()}) >= len(FACTS) - 1


@pytest.mark.parametrize("kernel", KERNELS)
def test_every_fact_is_measured_of_every_container(kernel: str):
    """Root is told all of it, but for a security module where there is none."""
    facts = measured(kernel)["facts"]

    assert facts.keys() == FACTS.keys()
    assert all(targets.keys() == TARGETS.keys() for targets in facts.values())
    untold = {fact for fact, targets in facts.items() for words in targets.values() if "-" in words.split()}
    assert untold <= {"label of the security module"}


@pytest.mark.parametrize("kernel", KERNELS)
def test_whoever_may_more_is_told_no_less(kernel: str):
    found = cells(measured(kernel)["facts"])
    order = list(PRIVILEGES)
    lost = [cell for cell, word in found.items() if word == "no" and "yes" in earlier(found, cell, order)]
    assert lost == []


def earlier(found: dict[tuple[str, str, str], str], cell: tuple[str, str, str], order: list[str]) -> list[str]:
    """What those who may less were told."""
    fact, target, privilege = cell
    return [found[fact, target, one] for one in order[: order.index(privilege)]]


def recorded() -> dict[str, Measured]:
    """What the docs are made from; written anew where that is asked for."""
    if where := os.environ.get("NSINSPECT_READABILITY"):
        Path(where).write_text(json.dumps({kernel: measured(kernel) for kernel in KERNELS}, indent=1) + "\n")
    found: dict[str, Measured] = json.loads(RECORD.read_text())
    return found
