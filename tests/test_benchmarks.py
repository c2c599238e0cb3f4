"""What judges a benchmark: bounds, turns, and who is left out. Numbers are the machine's, see benchmarks/."""

from __future__ import annotations

import json
import sys
from typing import Any

import pytest

from benchmarks import page
from benchmarks.bounds import BOUNDS, MIB, Bound, judged
from benchmarks.floor import same
from benchmarks.load import obstacle
from benchmarks.turns import LEAST, Sample, TooSlow, command, ratio, turns


def results(held: float) -> dict[str, Any]:
    """Of a run where everything is at so many times its bound."""
    loads: dict[tuple[int, int], dict[str, Any]] = {}
    for bound in BOUNDS:
        where = (bound.containers, bound.processes)
        one = loads.setdefault(where, {"containers": where[0], "processes": where[1], "times": {}, "ratios": {}})
        value = bound.held * held
        if bound.against:
            one["ratios"][f"{bound.subject} / {bound.against}"] = {
                bound.clock: {"median": value, "lowest": value, "highest": value}
            }
        else:
            one["times"][bound.subject] = {"rss": value * MIB}
    return {"loads": list(loads.values())}


def test_what_is_within_its_bounds_passes():
    """And every bound is in the table, with its target."""
    table, bad = judged(results(0.99))

    assert bad == 0
    assert len(table.splitlines()) == 1 + len(BOUNDS)


@pytest.mark.parametrize("bound", BOUNDS, ids=lambda bound: bound.words)
def test_a_value_above_its_bound_fails(bound: Bound):
    """Any single one of them."""
    found = results(0.5)
    worse = results(1.01)
    for mine, theirs in zip(found["loads"], worse["loads"], strict=True):
        if (mine["containers"], mine["processes"]) == (bound.containers, bound.processes):
            part = "ratios" if bound.against else "times"
            name = f"{bound.subject} / {bound.against}" if bound.against else bound.subject
            mine[part][name] = theirs[part][name]

    table, bad = judged(found)

    assert bad == 1
    assert next(line for line in table.splitlines() if "NOT HELD" in line).startswith(bound.words)


def test_what_was_not_measured_does_not_pass():
    """A peer that is missing in CI must not look like a bound that holds."""
    found = results(0.5)
    for one in found["loads"]:
        one["ratios"].pop("list / lsns", None)

    assert judged(found)[1] == sum(bound.against == "lsns" for bound in BOUNDS)


def test_targets_are_stricter_than_what_is_held():
    """A bound that CI holds below the target would fail a run that is all right."""
    assert all(bound.target <= bound.held for bound in BOUNDS)


def test_everybody_takes_as_many_turns_and_the_first_does_not_count():
    """Every other round is backwards, so that nobody always comes after the same one."""
    calls: list[str] = []

    def taker(name: str) -> Any:
        def take() -> Sample:
            calls.append(name)
            return Sample(len(calls), 1, 0)

        return take

    samples, left_out = turns({"a": taker("a"), "b": taker("b")}, seconds=0)

    assert (len(samples["a"]), len(samples["b"]), left_out) == (LEAST, LEAST, {})
    assert calls == ["a", "b", "b", "a"] * ((LEAST + 1) // 2)


def test_who_is_too_slow_or_always_fails_is_left_out_with_the_reason():
    """And asked no more where it was too slow."""
    asked = []

    def slow() -> Sample:
        asked.append(1)
        raise TooSlow("took more than 30 s")

    samples, left_out = turns({"slow": slow, "broken": lambda: None, "good": lambda: Sample(1, 1, 0)}, seconds=0)

    assert list(samples) == ["good"]
    assert left_out == {"slow": "took more than 30 s", "broken": "failed each time"}
    assert len(asked) == 1


def test_a_ratio_is_of_medians_and_its_spread_of_rounds():
    """A round where one of them failed has no ratio."""
    mine = [Sample(2, 2, 0), Sample(4, 4, 0), None, Sample(9, 9, 0)]
    theirs = [Sample(1, 1, 0), Sample(4, 4, 0), Sample(4, 4, 0), Sample(3, 3, 0)]

    found = ratio(mine, theirs)

    assert found["wall"] == {"median": round(4 / 3.5, 3), "lowest": 1, "highest": 3}


def test_a_program_that_never_ends_is_ended():
    """As lsns on a large host would be."""
    with pytest.raises(TooSlow):
        command(sys.executable, "-c", "import signal; signal.pause()", limit=0.1)()


def test_a_program_that_fails_gives_no_sample():
    """What it took to fail is no time of its work."""
    assert command(sys.executable, "-c", "raise SystemExit(3)", limit=60)() is None


def test_a_load_with_more_processes_than_the_kernel_has_pids_is_refused():
    """Before anything was made."""
    most = 1 << 22  # no kernel has more

    assert "pid_max" in (obstacle(10, most) or "")


def test_a_plot_and_page_are_made_of_results_without_any_load_that_was_skipped():
    """A small machine has a page too, which says what was not measured and why."""
    found = json.loads(page.RESULTS.read_text())
    for number, one in enumerate(found["loads"]):
        if one["processes"] > 3000:
            skipped = {"containers": one["containers"], "processes": one["processes"], "skipped": "no room"}
            found["loads"][number] = skipped

    text = page.filled("<!-- results --><!-- end -->", found)

    assert "1,000 / 10,000 was skipped on this machine: no room." in text
    assert page.plot(found).startswith("<svg")


@pytest.mark.parametrize(("strays", "expected"), [(5, True), (6, False)])
def test_a_floor_that_read_something_else_is_no_floor(strays: int, expected: bool):
    """A few processes may come and go; with more of them the two did not do the same work."""
    read = {"processes": 100 + strays, "links": 800 + 8 * strays, "files": 300 + 3 * strays}

    assert same(read, {"processes": 100, "links": 800, "files": 300}) is expected
