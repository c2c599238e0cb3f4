"""The live tier runs when it is asked for, and then never skips."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator

import pytest

# What is collected stays until the end: nobody need look through it for cycles meanwhile, and again and again after.
gc.disable()


def pytest_collection_finish() -> None:
    """From here on there is garbage."""
    gc.enable()


@pytest.fixture(scope="module", autouse=True)
def _what_stays_is_looked_through_once() -> None:
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _processes_compile_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Where no bytecode may be written beside the sources, each of dozens of processes would compile all of them."""
    with pytest.MonkeyPatch.context() as patch:
        if sys.dont_write_bytecode and os.environ.get("NSINSPECT_LIVE") != "1":
            patch.delenv("PYTHONDONTWRITEBYTECODE", raising=False)
            patch.setenv("PYTHONPYCACHEPREFIX", str(tmp_path_factory.mktemp("bytecode")))
        yield


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without NSINSPECT_LIVE=1, leave the tests that need root and real engines out."""
    for item in items:
        if "tests/live" in str(item.path):
            item.add_marker(pytest.mark.live)
    if os.environ.get("NSINSPECT_LIVE") == "1":
        return
    live = [item for item in items if item.get_closest_marker("live")]
    if live:
        config.hook.pytest_deselected(items=live)
        items[:] = [item for item in items if not item.get_closest_marker("live")]
