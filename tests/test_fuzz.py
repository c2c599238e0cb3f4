"""What ``make fuzz`` runs for hours holds for what it begins with, and leaves no parser out."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

import pytest

from fuzz import __main__ as driver
from fuzz.mutate import mutated
from fuzz.seeds import CORPUS, dictionary, seeds
from fuzz.targets import SEPARATOR, TARGETS
from tests.test_parsers import PARSERS

HERE = Path(__file__).parent.parent


@contextmanager
def called() -> Iterator[set[CodeType]]:
    """Everything that is called meanwhile."""
    found: set[CodeType] = set()

    def note(frame: FrameType, what: str, _: object) -> None:
        if what == "call":
            found.add(frame.f_code)

    sys.setprofile(note)
    try:
        yield found
    finally:
        sys.setprofile(None)


def test_no_target_fails_on_what_it_begins_with_and_together_they_reach_every_parser():
    """Captured files, and inputs that once led somewhere new."""
    with called() as found:
        for name, target in TARGETS.items():
            inputs = list(seeds(name))
            assert inputs, name
            for data in inputs:
                target.check(data)
    missed = [name for name, parser in PARSERS.items() if inspect.unwrap(parser.parse).__code__ not in found]
    assert missed == []


def test_every_target_covers_modules_that_exist():
    for target in TARGETS.values():
        for module in target.about:
            path = HERE / "nsinspect" / module.replace(".", "/")
            assert path.is_dir() or path.with_suffix(".py").exists()


def test_the_corpus_is_small_and_of_targets():
    """Enough to begin with; what a long run finds stays where it was found."""
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert {path.parent.name for path in files} <= TARGETS.keys()
    assert sum(path.stat().st_size for path in files) < 100_000


@pytest.mark.parametrize("seed", range(50))
def test_json_that_is_changed_is_json_still(seed: int):
    """And at most one of the parts is another."""
    parts = [b"1", json.dumps({"a": [1, {"b": "c"}], "d": None}).encode(), b"no JSON"]
    after = mutated(SEPARATOR.join(parts), 10_000, seed).split(SEPARATOR)
    assert len(after) == len(parts)
    assert after[2] == parts[2]
    for part in after[:2]:
        json.loads(part)
    assert sum(one != other for one, other in zip(parts, after, strict=True)) <= 1
    assert mutated(SEPARATOR.join(parts), 3, seed) == SEPARATOR.join(parts)


def test_a_dictionary_is_what_libfuzzer_reads():
    """A line for each word, every byte of it escaped."""
    for line in dictionary([b'a"b\\ memory.max 12']).splitlines():
        assert line[0] == line[-1] == '"'
        assert bytes.fromhex(line[1:-1].replace("\\x", ""))


@pytest.mark.parametrize(("code", "leaves", "expected"), [(0, False, 0), (77, True, 1), (1, False, 1)])
def test_a_crash_is_told_by_the_exit_code(
    code: int,
    leaves: bool,
    expected: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
):
    """One that leaves an input, and one that could not even begin."""

    def ran(command: list[str]) -> tuple[str, int]:
        if leaves:
            (tmp_path / "crashes/stat-crash-1").write_bytes(b"x")
        return "#2\tINITED cov: 1\n#5\tNEW cov: 2\nstat::number_of_executed_units: 4711\n", code

    monkeypatch.setattr(driver, "FOLDER", tmp_path)
    monkeypatch.setattr(driver, "_output", ran)
    monkeypatch.setattr(driver, "covered", lambda names: {"procfs": (1, 2)})
    assert driver.main(["stat"]) == expected
    told = capsys.readouterr().out
    assert "4711 executions" in told
    assert ("stat: crashed:" in told) == bool(expected)


def test_a_target_that_is_none_is_refused(capsys: pytest.CaptureFixture):
    assert driver.main(["stat", "nothing"]) == 2
    assert "no such target: nothing; there are stat, status" in capsys.readouterr().err
