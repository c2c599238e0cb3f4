"""The exporter as a systemd service, under a real systemd, on pure cgroup v2, scraped by a real Prometheus.

One boot answers everything (service_guest.py).
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from tests.live.qemu import Qemu
from tests.live.test_prometheus import ONLY_IF, assert_labelled_families_agree, expected, families_of, of, of_rows

CHECKOUT = Path(__file__).parents[2]
MIB = 1 << 20
ONLY_V1 = {"nsinspect_container_cpu_shares"}
STEPS = (
    "containers",
    "install",
    "facts",
    "without_lender",
    "killed",
    "frozen",
    "rotated",
    "reloaded",
    "activated",
    "prometheus",
    "checkout",
    "stopped",
)
# What moves between two looks, is about the look itself, or about the process that looked.
MOVING = re.compile(r"_usage_|_working_set_|_cpu_|_pressure_|_duration_|vanished|^process_|container_pids |_processes")


@cache
def ask_guest(folder: Path) -> dict[str, Any]:
    """Everything that the guest tells; it boots once."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(CHECKOUT)]
    subprocess.run(command, check=True, timeout=300)
    (wheel,) = folder.glob("*.whl")
    files = {f"/opt/wheel/{wheel.name}": wheel.read_bytes()}
    found: dict[str, Any] = json.loads(
        Qemu().run("python3 /opt/nsinspect/tests/live/service_guest.py", timeout=900, files=files)
    )
    print(found["seconds"])
    return found


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What one boot told."""
    return ask_guest(tmp_path_factory.mktemp("wheel"))


def samples(text: str) -> dict[str, str]:
    """Values by series."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return {series: value for series, _, value in (line.rpartition(" ") for line in lines)}


@pytest.mark.parametrize("step", STEPS)
def test_every_step_was_taken(guest: dict[str, Any], step: str):
    assert guest["failed"].get(step) is None


def test_it_is_installed_from_the_wheel_and_from_a_checkout(guest: dict[str, Any]):
    assert guest["unit"] == "/usr/local/lib/systemd/system/nsinspect.service"
    assert guest["active"] == "active"
    assert guest["checkout"]["unit"] == "/etc/systemd/system/nsinspect.service"
    assert 'name="web"' in guest["checkout"]["scrape"]


def test_it_runs_as_a_user_of_its_own_with_one_capability(guest: dict[str, Any]):
    status = dict(line.split(":\t", 1) for line in guest["status"].splitlines() if ":\t" in line)
    ptrace = f"{1 << 19:016x}"
    assert guest["user"] == "nsinspect"
    assert "0" not in status["Uid"].split()
    assert {status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {ptrace}
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")


def test_it_sees_every_fact_of_every_container_that_root_sees(guest: dict[str, Any]):
    """Names, images and drift among them, which are in files of root's."""
    service, root = samples(guest["scrape"]), samples(guest["root"])
    still = {series: value for series, value in root.items() if not MOVING.search(series)}

    assert len(still) > 150
    assert {series: value for series, value in service.items() if not MOVING.search(series)} == still
    own = {series for series in service if series.startswith("process_")}
    assert service.keys() - own == root.keys()
    assert guest["list"]["issues"] == [one for one in guest["list"]["issues"] if one["kind"] == "not_offered"]


def test_without_the_lender_only_what_engines_wrote_is_unknown(guest: dict[str, Any]):
    service, alone = samples(guest["scrape"]), samples(guest["alone"])
    ids = {re.search(r'id="(\w+)"', series)[1] for series in service if "container_info" in series}  # type: ignore[index]

    assert {re.search(r'id="(\w+)"', series)[1] for series in alone if "container_info" in series} == ids  # type: ignore[index]
    nameless = {re.sub(r'name="\w*"', 'name=""', series) for series in service if "container_info" not in series}
    told = {series for series in nameless if not series.startswith(("process_", "nsinspect_read_issues"))}
    assert told - alone.keys() == set()
    assert any("read_issues" in series and "denied" in series for series in alone)
    assert service.keys() - samples(guest["again"]).keys() == set()


def test_systemd_calls_it_secure(guest: dict[str, Any]):
    assert guest["security"]["nsinspect.service"] <= 2.0
    assert guest["security"]["nsinspect-files.service"] <= 1.0
    assert guest["socket"]["security"] <= 1.2


def test_it_comes_back_after_kill_9(guest: dict[str, Any]):
    before, after = guest["killed"]
    assert after not in (0, before)


def test_the_watchdog_is_fed_without_scrapes_and_brings_a_frozen_one_back(guest: dict[str, Any]):
    before, after, restarts, restarts_after = guest["fed"]
    assert (before, restarts) == (after, restarts_after)
    assert "Watchdog timeout" in guest["frozen"]


def test_certificates_rotate_under_load_without_a_failed_scrape(guest: dict[str, Any]):
    rotated = guest["rotated"]
    assert rotated["answers"].keys() == {"ok"}
    assert rotated["answers"]["ok"] >= 8
    assert rotated["served_last"]
    assert rotated["pids"][0] == rotated["pids"][1]


def test_a_reload_reads_the_configuration_and_a_broken_one_changes_nothing(guest: dict[str, Any]):
    assert guest["reloaded"] == 401
    assert guest["broken"] == 401
    assert "web.yml: expected YAML" in guest["journal"]


def test_the_socket_unit_serves_from_a_service_without_a_network(guest: dict[str, Any]):
    socket = guest["socket"]
    assert socket["before"] == 0
    assert 'name="web"' in socket["scrape"]
    assert [line.split(":")[0].strip() for line in socket["devices"].splitlines() if ":" in line] == ["lo"]
    assert socket["net"][0] != socket["net"][1]


def test_prometheus_scrapes_it_and_gets_every_family(guest: dict[str, Any]):
    told = guest["prometheus"]
    assert [row["value"][1] for row in told["up"]] == ["1"]
    assert [row["value"][1] for row in told["scrapes"]] == ["1"]
    here = {row["metric"]["__name__"] for row in told["all"]}
    assert families_of() - here <= ONLY_V1 | {f"nsinspect_{name}" for name in ONLY_IF}
    assert here <= families_of()


def test_prometheus_knows_what_list_says(guest: dict[str, Any]):
    told = guest["prometheus"]
    names = set()
    for one in told["list"]["containers"]:
        labels = {"id": one["id"][:12], "name": one["name"]}
        names.add(one["name"])
        for family, value in expected(one).items():
            wanted = [] if value is None else [math.inf if value == "max" else float(value)]
            assert of(told["all"], family, **labels) == wanted, (family, one["name"])
        assert_labelled_families_agree(told["all"], one, labels)
        assert len(of_rows(told["all"], "container_pressure_waiting_seconds_total", labels)) == 3
    assert names == {"web", "agent", "gone", "pod1"}
    assert of(told["all"], "container_memory_limit_bytes", name="web") == [64 * MIB]
    assert of(told["all"], "container_privileged", name="agent") == [1]


def test_counters_only_grow(guest: dict[str, Any]):
    for row in guest["prometheus"]["counters"]:
        values = [float(value) for _, value in row["values"]]
        assert values == sorted(values), row["metric"]


def test_a_removed_containers_series_are_gone(guest: dict[str, Any]):
    told = guest["prometheus"]
    assert [row for row in told["all"] if row["metric"].get("name") == "gone"]
    assert not [row for row in told["later"] if row["metric"].get("name") == "gone"]


def test_it_uses_little_and_ends_when_told(guest: dict[str, Any]):
    assert guest["memory"] < 64 * MIB
    assert guest["stopped"]["result"] == "success"
    assert guest["stopped"]["left"] == ""
