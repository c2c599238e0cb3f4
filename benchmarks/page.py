"""docs/performance.md and its plot, made from results.json: the page says nothing that was not measured."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.bounds import BOUNDS, MIB

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results.json"
PAGE = HERE.parent / "docs/performance.md"
PLOT = HERE.parent / "docs/performance.svg"

# In the order of the tables, with their colours in the plot.
COLOURS = {
    "floor": "#8a8f98",
    "collect": "#5aa9e6",
    "list": "#0b5fa5",
    "show": "#1b9e77",
    "ns": "#7b3294",
    "lsns": "#d7301f",
    "lsns with owners": "#f4a582",
    "ps": "#e6ab02",
    "pscap": "#a6761d",
    "psutil": "#666666",
}


def pages() -> list[tuple[Path, str]]:
    """What is made of the results, for whoever writes it or checks that it is what is there."""
    results = json.loads(RESULTS.read_text())
    return [(PAGE, filled(PAGE.read_text(), results)), (PLOT, plot(results))]


def filled(text: str, results: dict[str, Any]) -> str:
    """A page with these results between its markers."""
    block = "\n".join(["<!-- results -->", "", *_lines(results), "", "<!-- end -->"])
    return re.sub(r"<!-- results -->.*?<!-- end -->", lambda _: block, text, flags=re.DOTALL)


def _lines(results: dict[str, Any]) -> Iterable[str]:
    yield from _machine(results)
    loads = [one for one in results["loads"] if "times" in one]
    skipped = [one for one in results["loads"] if "skipped" in one]
    yield from ("", "## Targets", "", *_targets(results))
    for title, clock in (("Wall time", "wall"), ("CPU time", "cpu")):
        yield from ("", f"## {title}, seconds", "", *_seconds(loads, clock))
    yield from [""] * bool(skipped)
    yield from (f"{_load(one)} was skipped on this machine: {one['skipped']}.  " for one in skipped)
    yield from ("", "![wall time by number of processes](performance.svg)")
    yield from ("", "## Ratios", "", *_ratios(loads))
    if results["growth"]:
        grown = results["growth"]
        yield ""
        yield "From 100 containers with 1,000 processes to 1,000 with 10,000, CPU time of a collect grows with the"
        yield f"number of processes to the power of {grown['collect']:.2f}, that of the floor to {grown['floor']:.2f}:"
        yield "1 is in proportion."
    yield from _exporters(loads)
    for part, lines in (("many", _many), ("most", _many), ("endurance", _endurance), ("recording", _recording)):
        if part in results:
            yield from lines(results[part])
    for name, found in results.get("guests", {}).items():
        yield from ("", f"## {name}", "")
        if "skipped" in found:
            yield f"Skipped: {found['skipped']}."
            continue
        kernel, cgroups = (found["machine"][key] for key in ("kernel", "cgroups"))
        yield f"User-mode Linux {kernel}, cgroups {cgroups}, on the same machine:"
        yield from ("", *_ratios(found["loads"]))


def _machine(results: dict[str, Any]) -> Iterable[str]:
    one = results["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
    minutes = results["took_seconds"] // 60 + 1
    yield f"Measured on {results['measured_at']} at {one['nsinspect']} (`{results['mode']}`, {minutes} minutes):"
    yield f"{one['cpu']}, {one['cores']} cores, {one['memory_mib']:,} MiB,"
    yield f"Linux {one['kernel']}, cgroups {one['cgroups']},"
    yield f"{one['python']}, {one['python_build']} ({one['compiler']});"
    yield f"{versions}."


def _targets(results: dict[str, Any]) -> Iterable[str]:
    yield "| what | containers / processes | target | measured | lowest to highest | CI holds |"
    yield "| --- | --- | --- | --- | --- | --- |"
    for bound in BOUNDS:
        found = bound.value(results)
        measured = spread = "not measured"
        if found:
            met = "" if found["median"] <= bound.target else " (missed)"
            measured = f"**{found['median']:.2f}**{met}"
            spread = f"{found['lowest']:.2f} to {found['highest']:.2f}" if "lowest" in found else ""
        yield f"| {bound.words} | {bound.where} | {bound.target:g} | {measured} | {spread} | {bound.held:g} |"


def _load(one: dict[str, Any]) -> str:
    return f"{one['containers']:,} / {one['processes']:,}" if one["processes"] else "no load"


def _seconds(loads: Sequence[dict[str, Any]], clock: str) -> Iterable[str]:
    loaded = [one for one in loads if one["processes"]]
    yield f"| containers / processes | {' | '.join(map(_load, loaded))} |"
    yield "| --- |" + " --- |" * len(loaded)
    for name in COLOURS:
        if not any(name in one["times"] or name in one["left_out"] for one in loaded):
            continue
        cells = []
        for one in loaded:
            found = one["times"].get(name)
            cells.append(f"{found[clock]['median']:.3f}" if found else one["left_out"].get(name, ""))
        yield f"| {name} | {' | '.join(cells)} |"


def _ratios(loads: Sequence[dict[str, Any]]) -> Iterable[str]:
    yield "| ratio | containers / processes | wall | lowest to highest | CPU | lowest to highest |"
    yield "| --- | --- | --- | --- | --- | --- |"
    names = dict.fromkeys(name for one in loads for name in one["ratios"])
    for name in names:
        for one in loads:
            found = one["ratios"].get(name)
            if found:
                cells = [
                    f"{row['median']:.2f} | {row['lowest']:.2f} to {row['highest']:.2f}"
                    for row in (found["wall"], found["cpu"])
                ]
                yield f"| {name} | {_load(one)} | {' | '.join(cells)} |"


def _exporters(loads: Sequence[dict[str, Any]]) -> Iterable[str]:
    for one in loads:
        if not one["exporters"]:
            continue
        floor = one["times"].get("floor")
        yield from ("", f"## A scrape, {_load(one)}", "")
        yield "| exporter | CPU, s | times the floor | wall, s | RSS, MiB | series | answer, KiB |"
        yield "| --- | --- | --- | --- | --- | --- | --- |"
        for name, about in one["exporters"].items():
            row = one["times"].get(name)
            if not row or not floor:
                continue
            cpu, wall = row["cpu"]["median"], row["wall"]["median"]
            times = f"{cpu:.3f} | {cpu / floor['cpu']['median']:.2f} | {wall:.3f} | {row['rss'] / MIB:.0f}"
            yield f"| {name} | {times} | {about['series']:,} | {about['bytes'] >> 10} |"
        absent = [name for name, why in one["left_out"].items() if why == "not installed"]
        if absent:
            yield from ("", f"Not installed here, hence not measured: {', '.join(absent)}.")


def _many(found: dict[str, Any]) -> Iterable[str]:
    cgroups = found["containers"] * found["hierarchies"]
    yield from ("", f"## Memory with {cgroups:,} cgroups and {found['processes']:,} processes", "")
    yield f"{found['containers']:,} containers have as many cgroups in each of {found['hierarchies']} hierarchies.  "
    if "skipped" in found:
        yield f"Skipped on this machine: {found['skipped']}."
        return
    listed = found["list"]
    if "failed" in listed:
        yield f"`list --json`: {listed['failed']}."
    else:
        yield f"`list --json` takes {listed['wall']:.1f} s ({listed['cpu']:.1f} s of CPU)"
        yield f"and {_mib(listed['rss'])} at most (the target is 256 MiB),"
        yield f"and tells of {listed['told']:,} containers, with {listed['issues']} issues."
    yield from (
        "",
        "| `serve --scrape.timeout` | CPU, s | RSS at most, MiB | series | containers left out | parts done |",
    )
    yield "| --- | --- | --- | --- | --- | --- |"
    for one in found["serve"]:
        cells = one.get("failed", "")
        if not cells:
            counts = f"{one['series']:,} | {one['left_out']:,.0f} | {one['parts_done']:.0f} of 5"
            cells = f"{one['cpu']:.2f} | {one['rss'] / MIB:.0f} | {counts}"
        yield f"| {one['timeout']} | {cells} |"


def _endurance(found: dict[str, Any]) -> Iterable[str]:
    yield from ("", "## Memory of `serve`", "")
    yield f"{_mib(found['rss'])} after 1,000 scrapes, {_mib(found['rss_at_end'])} after {found['scrapes']:,}:"
    yield f"in between {found['slope_per_1000'] / 1024:+.1f} KiB for each 1,000 scrapes."


def _recording(found: dict[str, Any]) -> Iterable[str]:
    hours, opened = found["hours"], found["open"]
    look, store = (found["sample"][name]["cpu"] for name in ("look_and_compare", "store"))
    yield from ("", "## Recording", "")
    yield f"{found['containers']:,} containers with {found['processes']:,} processes, a look every 5 s,"
    yield f"{hours:g} h simulated:"
    yield from ("", "| | a look, KiB | a day, MiB |", "| --- | --- | --- |")
    for words, name in (("recorded", "bytes"), ("gzip of each look's JSON", "gzip"), ("JSON", "plain")):
        each, day = found[name] / found["looks"] / 1024, found[name] / hours * 24 / MIB
        yield f"| {words} | {each:,.0f} | {day:,.0f} |"
    yield ""
    yield f"Recorded is {found['ratio_to_gzip']:.1%} of the gzip. A look takes {look:.2f} s of CPU to take, understand"
    yield f"and compare, and {store:.2f} s to store. Any moment is opened in {opened['median']:.1f} s,"
    yield f"at worst {opened['worst']:.1f} s."


def _mib(size: float) -> str:
    return f"{size / MIB:.0f} MiB"


WIDTH, HEIGHT = 860, 520
LEFT, RIGHT, TOP, BOTTOM = 70, 150, 40, 50
LINE = 15


def plot(results: dict[str, Any]) -> str:
    """Wall time by number of processes, both on a logarithmic scale, as SVG."""
    loads = [one for one in results["loads"] if "times" in one and one["containers"] >= 100]
    series = {
        name: [(one["processes"], one["times"][name]["wall"]["median"]) for one in loads if name in one["times"]]
        for name in COLOURS
    }
    series.pop("lsns with owners")  # as lsns, within the width of a line
    series = {name: points for name, points in series.items() if points}
    values = [value for points in series.values() for _, value in points]
    sizes = [one["processes"] for one in loads]
    low, high = 10 ** math.floor(math.log10(min(values))), 10 ** math.ceil(math.log10(max(values)))

    def x(size: float) -> float:
        return LEFT + _share(size, min(sizes), max(sizes)) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return HEIGHT - BOTTOM - _share(value, low, high) * (HEIGHT - TOP - BOTTOM)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"',
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#fff"/>',
        f'<text x="{LEFT}" y="22" font-size="14">Wall time in seconds, by number of processes</text>',
    ]
    right = WIDTH - RIGHT
    value = low
    while value <= high * 1.001:
        lines.append(f'<path d="M{LEFT} {y(value):.1f}H{right}" stroke="#ddd"/>')
        lines.append(f'<text x="{LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">{value:g}</text>')
        value *= 10
    for one in loads:
        place = x(one["processes"])
        lines.append(f'<path d="M{place:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="#eee"/>')
        label = f"{one['processes']:,}", f"{one['containers']:,} containers"
        for row, words in enumerate(label):
            lines.append(
                f'<text x="{place:.1f}" y="{HEIGHT - BOTTOM + 18 + row * LINE}" text-anchor="middle">{words}</text>'
            )
    below = float(TOP)
    for name, points in sorted(series.items(), key=lambda item: -item[1][-1][1]):
        path = " ".join(f"{x(size):.1f},{y(value):.1f}" for size, value in points)
        colour = COLOURS[name]
        lines.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        lines += [f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}"/>' for size, value in points]
        # Names stand at the ends of their lines, one below the other where ends meet.
        end, height = x(points[-1][0]), y(points[-1][1])
        if points[-1][0] < max(sizes):
            lines.append(
                f'<text x="{end + 6:.1f}" y="{height - 8:.1f}" fill="{colour}">{name} takes too long beyond</text>'
            )
            continue
        at = max(below, height + 4)
        below = at + LINE
        lead = f"M{end:.1f} {height:.1f}L{right + 18} {at - 4:.1f}"
        lines.append(f'<path d="{lead}" stroke="{colour}" stroke-dasharray="2 2"/>')
        lines.append(f'<text x="{right + 22}" y="{at:.1f}" fill="{colour}">{name}</text>')
    return "\n".join([*lines, "</svg>"]) + "\n"


def _share(value: float, low: float, high: float) -> float:
    """Where between two others a number is, on a logarithmic scale."""
    return math.log(value / low) / math.log(high / low) if high > low else 0.5
