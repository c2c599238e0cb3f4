"""Write everything in the repository that is made from the program, or with ``--check`` say what is out of date.

The JSON Schema, the reference of JSON fields, and the help in the README come from here; goldens come from the bundled
hosts.  ``make generate`` after a change, and look at the difference: it is what users will see.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(HERE))

from click.testing import CliRunner

from benchmarks import page as performance
from nsinspect.cli import cli
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.finding import FINDING
from nsinspect.fields.host import HOST
from nsinspect.fields.namespace import NAMESPACE_ROWS
from nsinspect.fields.network import NETWORK
from nsinspect.fields.power import POWER
from nsinspect.fields.scrape import SCRAPE
from nsinspect.views import jsonschema
from nsinspect.views import metrics as metrics_view
from tests import fault_proofs, fault_table
from tests.live.flag_files import ROWS
from tests.live.readability import PRIVILEGES, TARGETS

HOSTS = HERE / "tests/fixtures/hosts"
GOLDEN = HERE / "tests/golden"

# What is asked of each bundled host, and which container is shown of it.
QUESTIONS: dict[str, list[str]] = {
    "list.txt": ["list"],
    "list.json": ["list", "--json"],
    "drift.txt": ["drift"],
    "drift.json": ["drift", "--json"],
    "pid.txt": ["pid", "1", "2"],
    "pid.json": ["pid", "1", "2", "--json"],
    "ns.txt": ["ns"],
    "ns.json": ["ns", "--json"],
    "caps.txt": ["caps"],
    "caps.json": ["caps", "--json"],
    "net.txt": ["net"],
    "net.json": ["net", "--json"],
    "findings.txt": ["findings"],
    "findings.json": ["findings", "--json"],
    "metrics.prom": ["serve", "--once"],
}
# Of docs/privileges.md: the columns in the order they are recorded in, and where they were measured.
PRIVILEGE_WORDS = dict(
    zip(PRIVILEGES, ("none", "`CAP_SYS_PTRACE`", "and `CAP_DAC_READ_SEARCH`", "root"), strict=True),
)
KERNELS = {"host": "a hybrid host", "uml": "user-mode Linux", "qemu": "Debian 12 under QEMU"}
NOTES = {"yes": "Told on", "no": "Not told on", "-": "Not to be had, so not measured, on"}
SHOWN = {
    "docker-hybrid": ("web", "sidecar", "agent", "locked"),
    "podman-v1": ("web", "priv"),
    "podman-v2": ("web", "priv", "plain"),
}


def run(*arguments: str) -> str:
    """What the program prints, as a user runs it, with no terminal."""
    # In this process, because there are sixty of them; what a shell adds is tested in tests/test_cli.py.
    done = CliRunner().invoke(cli, arguments, prog_name="nsinspect", terminal_width=100, catch_exceptions=False)
    # 1 is an answer too: something was found.
    if done.exit_code not in (0, 1):
        raise RuntimeError(f"nsinspect {' '.join(arguments)} exited with {done.exit_code}")
    # How long it took and on which Python is no part of a golden.
    return re.sub(r"(_duration_seconds\{.*\}|pythonversion=)[^}\n]*", r"\1 …", done.stdout)


def goldens() -> Iterable[tuple[Path, str]]:
    """Every view of every bundled host."""
    for host, names in SHOWN.items():
        root = ["--root", f"tests/fixtures/hosts/{host}"]
        for file, question in QUESTIONS.items():
            yield GOLDEN / host / file, run(*root, *question)
        for name in names:
            yield GOLDEN / host / f"show-{name}.txt", run(*root, "show", name)
            yield GOLDEN / host / f"show-{name}.json", run(*root, "show", name, "--json")
            for engine in ("docker", "podman", "k8s"):
                yield GOLDEN / host / f"as-{engine}-{name}.txt", run(*root, "show", name, "--as", engine)


def schema_file() -> tuple[Path, str]:
    """The JSON Schema that is shipped in the package."""
    return HERE / "nsinspect/schema.json", json.dumps(jsonschema.json_schema(), indent=2) + "\n"


def reference() -> tuple[Path, str]:
    """The page of JSON fields."""
    lines = [
        "# JSON fields",
        "",
        "Made from `nsinspect/fields/` by `make generate`. The JSON Schema is `nsinspect/schema.json`.",
        'A number, `"max"` (the kernel says there is no limit) and `null` (unknown, or not offered by this kernel:',
        "`issues` says why) never look alike. Text that a container chose is made safe: bytes that are no visible",
        "character are written as escapes.",
    ]
    for title, rows in (
        ("host", HOST),
        ("container", CONTAINER),
        ("namespace", NAMESPACE_ROWS),
        ("task", POWER),
        ("network", NETWORK),
        ("finding", FINDING),
    ):
        lines += ["", f"## {title}", "", "| key | type | what it is |", "| --- | --- | --- |"]
        lines += [
            f"| `{row.key}` | {type_name(row.schema)}{'' if row.always else ' or null'} | {row.help} |" for row in rows
        ]
    return HERE / "docs/json.md", "\n".join(lines) + "\n"


def metrics_page() -> tuple[Path, str]:
    """The page of metrics."""
    lines = [
        "# Metrics",
        "",
        "Made from `nsinspect/fields/` by `make generate`. **No limit is `+Inf`, unknown is no sample, zero is zero.**",
        "A dead container's series are gone at the next scrape; samples have no timestamps. Names and labels do not",
        "change within a major version.",
    ]
    about_containers = [(metrics[0], metrics[0].labels) for metrics in metrics_view.families().values()]
    identity = " and ".join(f"`{name}`" for name in metrics_view.IDENTITY)
    tables = (
        (
            "About a container",
            f"Every one has the labels {identity}: the engine's id, its first 12 characters where it is 64 hexadecimal",
            "digits, and the name a person gave.",
            about_containers,
        ),
        ("About the scrape", "", "", [(one, one.labels) for one in SCRAPE]),
    )
    for title, first, second, rows in tables:
        lines += ["", f"## {title}", "", *([first, second, ""] if first else [])]
        lines += ["| metric | type | labels | what it is |", "| --- | --- | --- | --- |"]
        for metric, labels in rows:
            kind = "counter" if metric.name.endswith("_total") else "gauge"
            named = ", ".join(f"`{label}`" for label in labels)
            lines.append(f"| `{metrics_view.PREFIX}{metric.name}` | {kind} | {named} | {metric.help} |")
    lines += [
        "",
        "`process_*` are about the exporter itself and come from prometheus-client; `--web.disable-exporter-metrics`",
        "leaves them out.",
    ]
    return HERE / "docs/metrics.md", "\n".join(lines) + "\n"


def engines_page() -> tuple[Path, str]:
    """The page of engines with what the last run of the systemd guest proved (``make matrix`` writes that down)."""
    path = HERE / "docs/engines.md"
    rows = json.loads((HERE / "tests/live/matrix.json").read_text())
    lines = ["| engine | version | kernel | proved |", "| --- | --- | --- | --- |"]
    lines += [f"| {r['engine']} | {r['version']} | {r['kernel']} | {', '.join(r['proved'])} |" for r in rows]
    block = "\n".join(["<!-- matrix -->", "", *lines, "", "<!-- end -->"])
    return path, re.sub(r"<!-- matrix -->.*?<!-- end -->", lambda _: block, path.read_text(), flags=re.DOTALL)


def privileges_page() -> tuple[Path, str]:
    """The page that says which fact needs which privilege, as it was measured (``make matrix`` measures again)."""
    record = json.loads((HERE / "tests/live/readability.json").read_text())
    kernels = [f"{KERNELS[name]} (Linux {one['kernel']})" for name, one in record.items()]
    lines = [
        "# Which fact needs which privilege",
        "",
        "Made from `tests/live/readability.json` by `make generate`; `make matrix` measures it anew, the live tests",
        "compare. Each command was run by uid 65534 with these capabilities and no others. A fact counts as told where",
        "its document says what root's says, of three containers each: with init as root, with init as uid 1000, and",
        "in a user namespace of its own. What is not told is `null` or left out, and `issues` says why.",
        "",
        f"Measured on {', '.join(kernels)}.",
        "",
        f"| fact | {' | '.join(PRIVILEGE_WORDS.values())} |",
        "| --- |" + " --- |" * len(PRIVILEGE_WORDS),
    ]
    notes: dict[str, None] = {}
    for fact in next(iter(record.values()))["facts"]:
        # By privilege, each answer and where it was given.
        places: list[dict[str, list[tuple[str, str]]]] = [{} for _ in PRIVILEGE_WORDS]
        for name, one in record.items():
            for target, words in one["facts"][fact].items():
                for column, word in zip(places, words.split(), strict=True):
                    column.setdefault(word, []).append((name, target))
        cells = []
        for column in places:
            usual = max((word for word in column if word != "-"), key=lambda word: len(column[word]), default="-")
            numbers = []
            for word in sorted(column.keys() - {usual}):
                note = f"{NOTES[word]} {_places(column[word], record)}."
                notes.setdefault(note)
                numbers.append(list(notes).index(note) + 1)
            cells.append(usual + "".join(f" ({number})" for number in numbers))
        lines.append(f"| {fact} | {' | '.join(cells)} |")
    lines += [""] * bool(notes) + [f"{number}. {note}" for number, note in enumerate(notes, 1)]
    return HERE / "docs/privileges.md", "\n".join(lines) + "\n"


def _places(found: list[tuple[str, str]], record: dict[str, Any]) -> str:
    """Where an answer was given: kernels, with the containers where it was not all of them."""
    by_kernel = {name: [target for kernel, target in found if kernel == name] for name in record}
    words = []
    for name, targets in by_kernel.items():
        whole = len(targets) == len(TARGETS)
        words += [KERNELS[name] + ("" if whole else f" ({', '.join(targets)})")] if targets else []
    return " and ".join(words)


def flags_page() -> tuple[Path, str]:
    """The page that says what each flag becomes; the live tier proves every row of it."""
    lines = [
        "# What a Docker flag becomes",
        "",
        "Made from `tests/live/flag_files.py` by `make generate`; the live tests start a container with each flag and",
        "compare the kernel's files, on v1 (Docker) and on v2 (podman), and the field. Swap is swap alone: v1 counts",
        "memory and swap together. A weight is made from shares by one of three formulas: 20 by the linear one, 59 by",
        "the one in use since 2025; `limits.cpu.own.weight_as_shares` says which shares it may have been.",
        "",
        "| flag | v1 | v2 | field | metric |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in ROWS:
        v1 = "<br>".join(f"`{file}` {value}" for file, value in row.v1)
        v2 = "<br>".join(f"`{file}` {' or '.join(values)}" for file, values in row.v2)
        lines.append(f"| `{row.flag}` | {v1} | {v2} | `{row.field}` = {json.dumps(row.value)} | `{row.metric}` |")
    return HERE / "docs/flags.md", "\n".join(lines) + "\n"


def faults_page() -> tuple[Path, str]:
    """The page of everything that was tried and what became of it; the tests go by the same tables."""
    lines = [
        "# What was tried, and what becomes of it",
        "",
        "Made from `tests/fault_table.py` and `tests/fault_proofs.py` by `make generate`. Whatever is wrong, the other",
        "facts and the other containers are told as before, there is no traceback, and the exit code is 0 (5 with",
        "`--strict` where an issue is `denied`, `malformed` or `unreadable`; 6 where there is no host to look at).",
        "",
        "## Files",
        "",
        "Every kind of file that is read of a host, times everything in the first line: `tests/test_faults.py`. The",
        "list of files is found by reading, so one that is missing here fails a test. `PID`, `TID`, `FD` and `ID`",
        "stand for any; `cgroup/` is a container's own, `above/` one above it. A number that is cut short is a shorter",
        "number: no kernel gives half of one, and of a capture `verify` tells.",
        "",
    ]
    lines += [f"- **{word}**: {meaning}." for word, meaning in fault_table.OUTCOMES.items()]
    lines += ["- **†**: the process is left out, because nothing else says that it is one."]
    faults = list(fault_table.USUAL)
    lines += ["", f"| file | {' | '.join(faults)} |", "| --- |" + " --- |" * len(faults)]
    # Files for which the same holds share a row.
    rows: dict[tuple[str, ...], list[str]] = {}
    for row in fault_table.TABLE:
        for file in row.files:
            cells = [row.outcome(file, fault) + " †" * (fault in row.drops) for fault in faults]
            rows.setdefault((*cells, row.files[0]), []).append(file)
    for outcomes, files in rows.items():
        lines.append(f"| {'<br>'.join(f'`{file}`' for file in files)} | {' | '.join(outcomes[:-1])} |")
    for title, proofs in fault_proofs.PROOFS.items():
        lines += ["", f"## {title}", "", "| what | becomes | proved by |", "| --- | --- | --- |"]
        lines += [f"| {one.fault} | {one.outcome} | `{one.test}` |" for one in proofs]
    return HERE / "docs/faults.md", "\n".join(lines) + "\n"


def type_name(schema: dict[str, Any]) -> str:
    """A schema in a word or two."""
    if "enum" in schema:
        return ", ".join(f"`{json.dumps(value)}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(type_name(one) for one in schema["anyOf"])
    if "const" in schema:
        return f"`{json.dumps(schema['const'])}`"
    if schema.get("format") == "date-time":
        return "time"
    if schema.get("type") == "array":
        return f"list of {type_name(schema['items'])}"
    if schema.get("type") == "object":
        keys = ", ".join(schema.get("properties", ()))
        return f"object ({keys})" if keys else "object"
    return str(schema.get("type", "any"))


def readme() -> tuple[Path, str]:
    """The README with today's help between its markers."""
    path = HERE / "README.md"
    text = path.read_text()
    for words in re.findall(r"<!-- help: (.*?) -->", text):
        block = f"<!-- help: {words} -->\n```text\n$ {words}\n{run(*words.split()[1:])}```\n<!-- end -->"
        text = re.sub(rf"<!-- help: {re.escape(words)} -->.*?<!-- end -->", lambda _, b=block: b, text, flags=re.DOTALL)  # type: ignore[misc]
    return path, text


def main() -> None:
    """Write, or check."""
    # Goldens name the bundled hosts by paths below the checkout.
    os.chdir(HERE)
    check = "--check" in sys.argv[1:]
    stale = []
    pages = [schema_file(), reference(), metrics_page(), flags_page(), engines_page(), privileges_page()]
    pages += [faults_page(), readme(), *performance.pages()]
    for path, text in [*pages, *goldens()]:
        if path.exists() and path.read_text() == text:
            continue
        stale.append(str(path.relative_to(HERE)))
        if not check:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    if check and stale:
        sys.exit("out of date, run make generate and look at the difference:\n  " + "\n  ".join(stale))
    print("\n".join(stale) or "everything is up to date")


if __name__ == "__main__":
    main()
