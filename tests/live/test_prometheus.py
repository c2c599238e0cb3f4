"""A real Prometheus scrapes the exporter while real containers run, on this machine's v1 controllers.

The same on v2, and in a service, is in test_service.py.
"""

from __future__ import annotations

import math
import subprocess
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, NamedTuple

import pytest

from nsinspect.fields.scrape import SCRAPE
from nsinspect.views.metrics import PREFIX, families
from tests.live.docker import Docker
from tests.live.exporter import exporter, prometheus

MIB = 1 << 20
# Not on v1: weight, high and what pressure needs.
ONLY_V2 = {
    "container_cpu_weight",
    "container_memory_high_bytes",
    "container_pressure_stalled_seconds_total",
    "container_pressure_waiting_seconds_total",
}
# No samples unless something is odd.
ONLY_IF = {"container_drift", "read_issues"}


class Seen(NamedTuple):
    """What Prometheus knew."""

    first: list[dict[str, Any]]
    document: dict[str, Any]
    later: list[dict[str, Any]]
    counters: list[dict[str, Any]]
    worst: float | None
    text: str


def families_of() -> set[str]:
    """Every metric there is, by its whole name."""
    return {PREFIX + name for name in families()} | {PREFIX + metric.name for metric in SCRAPE}


def of(rows: list[dict[str, Any]], family: str, **labels: str) -> list[float]:
    """Values of a family's samples with these labels."""
    return [
        float(row["value"][1])
        for row in rows
        if row["metric"]["__name__"] == PREFIX + family
        and all(row["metric"].get(name, "") == value for name, value in labels.items())
    ]


@pytest.fixture(scope="module")
def seen(
    docker: Docker, tmp_path_factory: pytest.TempPathFactory, ask: Callable[..., dict[str, Any]]
) -> Iterator[Seen]:
    """Three scrapes and more; after the second a container goes."""
    folder = tmp_path_factory.mktemp("prometheus")
    limits = ("--memory", "64m", "--memory-swap", "128m", "--memory-reservation", "32m", "--cpus", "0.5")
    docker.run("prom-web", *limits, "--cpu-shares", "512", "--cpuset-cpus", "1", "--pids-limit", "50")
    docker.run("prom-open", "--net", "host", "--pid", "host", "--user", "1000", "--security-opt", "no-new-privileges")
    docker.run("prom-gone")
    every = '{__name__=~"nsinspect_.*"}'
    with exporter(folder) as served:
        config = (
            "global: {scrape_interval: 1s, scrape_timeout: 1s}\nscrape_configs:\n- job_name: nsinspect\n"
            f"  static_configs: [{{targets: ['127.0.0.1:{served.port}']}}]\n"
        )
        with prometheus(folder, config, 19091) as server:
            server.wait_for_scrapes(3)
            first, document = server.query(every), ask("list")
            docker("rm", "-f", "prom-gone")
            server.wait_for_scrapes(2)
            done = subprocess.run(
                ["curl", "-sS", f"http://127.0.0.1:{served.port}/metrics"], capture_output=True, check=True, timeout=30
            )
            yield Seen(
                first,
                document,
                server.query(every),
                server.query('{__name__=~"nsinspect_.*_total"}[10m]'),
                server.value('min_over_time(up{job="nsinspect"}[5m])'),
                done.stdout.decode(),
            )
    docker("rm", "-f", "prom-web", "prom-open")


def test_every_scrape_succeeded(seen: Seen):
    assert seen.worst == 1


def test_every_family_of_the_contract_arrives(seen: Seen):
    known = families_of()
    here = {row["metric"]["__name__"] for row in seen.first}

    assert here <= known
    assert known - here <= {PREFIX + name for name in ONLY_V2 | ONLY_IF}


def test_the_limits_are_those_that_docker_was_asked_for(seen: Seen):
    web = {"name": "prom-web"}
    assert of(seen.first, "container_memory_limit_bytes", **web) == [64 * MIB]
    assert of(seen.first, "container_memory_swap_limit_bytes", **web) == [64 * MIB]
    assert of(seen.first, "container_memory_reservation_bytes", **web) == [32 * MIB]
    assert of(seen.first, "container_cpu_limit_cores", **web) == [0.5]
    assert of(seen.first, "container_cpu_shares", **web) == [512]
    assert of(seen.first, "container_cpuset_cpus", **web) == [1]
    assert of(seen.first, "container_pids_limit", **web) == [50]
    assert of(seen.first, "container_memory_limit_bytes", name="prom-gone") == [math.inf]


def test_confinement_is_that_which_docker_was_asked_for(seen: Seen):
    host = {
        row["metric"]["namespace"]
        for row in seen.first
        if row["metric"]["__name__"] == "nsinspect_container_namespace_shared_with_host"
        and row["metric"]["name"] == "prom-open"
        and row["value"][1] == "1"
    }
    assert {"net", "pid"} <= host
    assert not {"mnt", "ipc"} & host
    assert of(seen.first, "container_root_user", name="prom-open") == [0]
    assert of(seen.first, "container_root_user", name="prom-web") == [1]
    assert of(seen.first, "container_no_new_privileges", name="prom-open") == [1]
    assert of(seen.first, "container_no_new_privileges", name="prom-web") == [0]
    assert len(of(seen.first, "container_capability", name="prom-web")) == 14


def test_prometheus_knows_what_show_says(seen: Seen):
    """Every value that does not move, of every container."""
    compared = 0
    for one in seen.document["containers"]:
        if one["name"] not in ("prom-web", "prom-open", "prom-gone"):
            continue
        labels = {"id": one["id"][:12], "name": one["name"]}
        for family, value in expected(one).items():
            wanted = [] if value is None else [math.inf if value == "max" else float(value)]
            assert of(seen.first, family, **labels) == wanted, (family, one["name"])
            compared += 1
        assert_labelled_families_agree(seen.first, one, labels)
    assert compared == 3 * len(expected(seen.document["containers"][0]))


def of_rows(rows: list[dict[str, Any]], family: str, labels: dict[str, str]) -> list[dict[str, Any]]:
    """Samples of a family with these labels."""
    return [
        row for row in rows if row["metric"]["__name__"] == PREFIX + family and labels.items() <= row["metric"].items()
    ]


def how_many(cpus: str | None) -> int | None:
    """CPUs of a list such as ``0-2,5``."""
    if cpus is None:
        return None
    pairs = [part.split("-") for part in cpus.split(",") if part]
    return sum(int(pair[-1]) - int(pair[0]) + 1 for pair in pairs)


def assert_labelled_families_agree(rows: list[dict[str, Any]], one: dict[str, Any], labels: dict[str, str]) -> None:
    """Namespaces, capability sets, capabilities, drift and info of one container, against JSON."""
    for kind, namespace in one["namespaces"].items():
        inode = [] if namespace is None else [namespace["inode"]]
        host = [] if namespace is None or namespace["host"] is None else [namespace["host"]]
        assert of(rows, "container_namespace_inode", namespace=kind, **labels) == inode
        assert of(rows, "container_namespace_shared_with_host", namespace=kind, **labels) == host
    for name in ("effective", "permitted", "inheritable", "bounding", "ambient"):
        count = [] if one["capabilities"][name] is None else [len(one["capabilities"][name]["names"])]
        assert of(rows, "container_capabilities", set=name, **labels) == count
    names = {row["metric"]["capability"] for row in of_rows(rows, "container_capability", labels)}
    assert names == set(one["capabilities"]["effective"]["names"])
    drifted = {row["metric"]["field"] for row in of_rows(rows, "container_drift", labels)}
    assert drifted == {drift["field"] for drift in one["drift"] or ()}
    (info,) = of_rows(rows, "container_info", labels)
    assert (info["metric"]["kind"], info["metric"]["runtime"]) == (one["kind"], one["runtime"])
    assert info["metric"]["image"] == one["image"]
    assert info["metric"]["cgroup"] == one["cgroup"]["path"]
    started = datetime.fromisoformat(one["init"]["started_at"]).timestamp()
    # The kernel's boot time, from which both are made, moves with the clock.
    assert of(rows, "container_start_time_seconds", **labels) == pytest.approx([started], abs=2)


def expected(one: dict[str, Any]) -> dict[str, Any]:
    """From JSON, what each family must say; typed here, not taken from the program."""
    memory, security = one["limits"]["memory"]["effective"], one["security"]
    return {
        "container_cpu_limit_cores": one["limits"]["cpu"]["effective"]["cores"],
        "container_cpu_shares": one["limits"]["cpu"]["own"]["shares"],
        "container_cpu_weight": one["limits"]["cpu"]["own"]["weight"],
        "container_cpuset_cpus": how_many(one["limits"]["cpu"]["effective"]["cpuset"]),
        "container_memory_limit_bytes": memory["max_bytes"],
        "container_memory_swap_limit_bytes": memory["swap_max_bytes"],
        "container_memory_reservation_bytes": memory["reservation_bytes"],
        "container_memory_high_bytes": memory["high_bytes"],
        "container_pids_limit": one["limits"]["pids"]["effective"]["max"],
        "container_processes": len(one["pids"]),
        "container_privileged": security["privileged"],
        "container_seccomp_filtered": None if security["seccomp"] is None else security["seccomp"] == "filter",
        "container_no_new_privileges": security["no_new_privs"],
        "container_root_user": one["init"]["uid"] == 0,
        "container_capability_outliers": len(one["capabilities"]["outliers"]),
        "container_memory_oom_kills_total": one["usage"]["oom_kills"],
    }


def test_counters_only_grow(seen: Seen):
    assert seen.counters
    for row in seen.counters:
        values = [float(value) for _, value in row["values"]]
        assert values == sorted(values), row["metric"]


def test_a_removed_containers_series_are_gone_at_the_next_scrape(seen: Seen):
    assert [row for row in seen.first if row["metric"].get("name") == "prom-gone"]
    assert not [row for row in seen.later if row["metric"].get("name") == "prom-gone"]
    assert [row for row in seen.later if row["metric"].get("name") == "prom-web"]


def test_promtool_has_nothing_to_say(seen: Seen):
    mine = "".join(line for line in seen.text.splitlines(keepends=True) if "process_" not in line.split("{")[0])
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=mine.encode(), capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
