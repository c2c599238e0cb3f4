"""What is offered for Prometheus and Grafana parses, does what it says, and names only what nsinspect exports."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from nsinspect.fields.scrape import SCRAPE
from nsinspect.views.metrics import IDENTITY, PREFIX, families

CONTRIB = Path(__file__).parent.parent / "contrib/prometheus"
RULES = CONTRIB / "rules/nsinspect.rules.yml"
ALERTS = CONTRIB / "rules/nsinspect.alerts.yml"
DASHBOARD = json.loads((CONTRIB / "dashboards/nsinspect.json").read_text())

TARGET = {"job", "instance"}
"""The labels that Prometheus adds to every sample."""
GRAFANA = {"instance": ".*", "name": ".*", "__rate_interval": "2m", "__interval": "30s", "__range": "3h"}

OURS = re.compile(r"(?:\w+:)?nsinspect_\w+(?::\w+)?")
SELECTOR = re.compile(rf"({OURS.pattern})\{{([^}}]*)\}}")
MATCHER = re.compile(r'(\w+)\s*(?:=~|!~|!=|=)\s*"')
LABELS = re.compile(r"\b(?:by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
SHOWN = re.compile(r"\$labels\.(\w+)|\{\{\s*(\w+)\s*\}\}")

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None and os.environ.get("NSINSPECT_LIVE") != "1", reason="promtool is not installed"
)


def promtool(*arguments: str | Path) -> str:
    answer = subprocess.run(["promtool", *arguments], capture_output=True, check=False, text=True, timeout=60)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout + answer.stderr


def rules(path: Path) -> dict[str, str]:
    """The text of each rule by the name it records or alerts under, without comments."""
    text = re.sub(r"(?m)^ *(?:#|- name:).*\n", "", path.read_text())
    _, *parts = re.split(r"- (?:record|alert): ", text)
    return {part.split(maxsplit=1)[0]: part.split(maxsplit=1)[1] for part in parts}


def panels() -> list[dict[str, Any]]:
    """Those of the dashboard that ask something."""
    return [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]


def queries() -> Iterator[tuple[str, str]]:
    """The title of each panel with each of its queries, as Prometheus gets them."""
    for panel in panels():
        for target in panel["targets"]:
            yield panel["title"], re.sub(r"\$(\w+)", lambda found: GRAFANA[found[1]], target["expr"])


def exported() -> dict[str, set[str]]:
    """Every metric with its labels, Prometheus' own included."""
    labels: defaultdict[str, set[str]] = defaultdict(lambda: set(TARGET))
    for name, metrics in families().items():
        for metric in metrics:
            labels[PREFIX + name] |= {*IDENTITY, *metric.labels}
    for metric in SCRAPE:
        labels[PREFIX + metric.name] |= set(metric.labels)
    return dict(labels)


def known() -> dict[str, set[str]]:
    """Every metric that is exported or recorded, with its labels."""
    metrics = exported()
    for name, text in rules(RULES).items():
        kept = [set(re.findall(r"\w+", found)) for found in re.findall(r"\bby\s*\(([^)]*)\)", text)]
        metrics[name] = set.intersection(labels_of(metrics, text), *kept)
    return metrics


def labels_of(metrics: dict[str, set[str]], text: str) -> set[str]:
    """The labels of all metrics of a query."""
    return set(TARGET).union(*(metrics.get(name, set()) for name in OURS.findall(text)))


def unknown(metrics: dict[str, set[str]], text: str) -> list[str]:
    """The metrics of a query that nobody exports, and the labels that they do not have."""
    strange = [name for name in OURS.findall(text) if name not in metrics]
    for name, matchers in SELECTOR.findall(text):
        strange += [
            f"{name}{{{label}}}" for label in MATCHER.findall(matchers) if label not in metrics.get(name, set())
        ]
    labels = labels_of(metrics, text)
    named = {label for found in LABELS.findall(text) for label in re.findall(r"\w+", found)}
    named |= {label or legend for label, legend in SHOWN.findall(text)}
    return strange + sorted(named - labels)


@needs_promtool
def test_the_scrape_config_and_its_rule_files_are_valid():
    """It finds both rule files beside it."""
    assert "2 rule files found" in promtool("check", "config", CONTRIB / "prometheus.yml")


@needs_promtool
def test_the_scrape_config_with_tls_and_a_password_is_valid(tmp_path):
    """Uncommenting the variant is all it takes."""
    before, marker, variant = (CONTRIB / "prometheus.yml").read_text().partition("uncomment all of this:\n")
    uncommented = re.sub(r"(?m)^    # ", "    ", variant)
    assert marker
    assert "#" not in uncommented
    config = tmp_path / "prometheus.yml"
    config.write_text(before + marker + uncommented)

    promtool("check", "config", "--syntax-only", config)


@needs_promtool
def test_every_rule_is_valid():
    """Lint finds no fault with them either."""
    promtool("check", "rules", "--lint=all", "--lint-fatal", RULES, ALERTS)


@needs_promtool
def test_every_alert_fires_when_it_should_and_only_then():
    """The unit tests of the rules pass."""
    promtool("test", "rules", CONTRIB / "tests/rules_test.yml")


@needs_promtool
def test_every_query_of_the_dashboard_is_valid(tmp_path):
    """Each parses as the expression of a rule."""
    found = list(queries())
    record = [
        {"record": f"query:{number}:{re.sub(r'[^a-z]', '_', title.lower())}", "expr": query}
        for number, (title, query) in enumerate(found)
    ]
    file = tmp_path / "queries.yml"
    file.write_text(json.dumps({"groups": [{"name": "dashboard", "rules": record}]}))

    assert f"{len(found)} rules found" in promtool("check", "rules", file)


def test_every_rule_has_a_test():
    """Each alert is seen to fire and to be silent, each recording rule is asked for."""
    tests = (CONTRIB / "tests/rules_test.yml").read_text()
    for alert in rules(ALERTS):
        assert {"", " []"} == set(re.findall(rf"alertname: {alert}\n\s+exp_alerts:(.*)", tests)), alert
    for rule in rules(RULES):
        assert re.search(rf"expr: {rule}\b", tests), rule


def test_every_alert_says_how_bad_it_is_and_what_to_run():
    """On call at night, the text alone has to do."""
    for name, text in rules(ALERTS).items():
        assert re.search(r"severity: (warning|info)\n", text), name
        assert re.search(r'summary: "', text), name
        assert re.search(r"`nsinspect (list|show|drift)\b", text), name


def test_the_readme_has_every_alert():
    """With the severity that it has."""
    readme = (CONTRIB / "README.md").read_text()
    for name, text in rules(ALERTS).items():
        severity = re.search(r"severity: (\w+)", text)
        assert severity
        assert re.search(rf"^\|.*`{name}`.*\| {severity[1]} \|", readme, re.MULTILINE), name


@pytest.mark.parametrize("path", [RULES, ALERTS], ids=lambda path: path.name)
def test_rules_name_only_metrics_and_labels_that_exist(path):
    """Those exported, and those recorded."""
    metrics = known()

    assert [(name, found) for name, text in rules(path).items() for found in unknown(metrics, text)] == []


def test_the_dashboard_names_only_metrics_and_labels_that_exist():
    """Those exported alone: it works without the recording rules."""
    metrics = exported()
    found = []
    for panel in panels():
        texts = [f"{target['expr']} {target.get('legendFormat', '')}" for target in panel["targets"]]
        found += [(panel["title"], strange) for text in texts for strange in unknown(metrics, text)]
        labels = set().union(*(labels_of(metrics, text) for text in texts))
        for step in panel.get("transformations", ()):
            columns = {name for name in step["options"].get("indexByName", ()) if not name.startswith("Value")}
            found += [(panel["title"], column) for column in columns - labels]

    assert found == []


def test_the_variables_of_the_dashboard_name_only_metrics_and_labels_that_exist():
    """Their values come from the labels of a metric."""
    metrics = exported()
    _, *variables = DASHBOARD["templating"]["list"]
    for variable in variables:
        metric, matchers, label = re.fullmatch(
            r"label_values\((\w+)(\{.*\})?, (\w+)\)", variable["definition"]
        ).groups()
        assert label in metrics[metric]
        assert unknown(metrics, f"{metric}{matchers or ''}") == []
        assert variable["query"]["query"] == variable["definition"]
        assert variable["allValue"] == ".*", "a container without a name would be in no panel"


def test_the_panels_of_the_dashboard_have_their_own_id_and_place():
    """No two overlap, and all ask the data source that was chosen."""
    everything = DASHBOARD["panels"]
    taken = [
        (x, y)
        for place in (panel["gridPos"] for panel in everything)
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    _, *variables = DASHBOARD["templating"]["list"]
    asked = [about["datasource"]["uid"] for panel in panels() for about in (panel, *panel["targets"], *variables)]

    assert len(everything) == len({panel["id"] for panel in everything})
    assert len(taken) == len(set(taken))
    assert max(x for x, _ in taken) < 24
    assert set(asked) == {"${datasource}"}


def test_the_tests_of_the_rules_name_only_metrics_and_labels_that_exist():
    """No rule is proved on a metric that is not exported."""
    series = re.findall(r"series: '(nsinspect_.*)'", (CONTRIB / "tests/rules_test.yml").read_text())
    metrics = exported()

    assert series
    assert [found for one in series for found in unknown(metrics, one)] == []
