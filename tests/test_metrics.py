"""The exporter's text: the contract's families with the document's values, and nothing a container can forge."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
import shutil
import subprocess
import unicodedata
from collections.abc import Callable, Iterable
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from nsinspect import safe
from nsinspect.cgroupfs import Pressure
from nsinspect.collect import collect
from nsinspect.declarations import Claim, Pod
from nsinspect.drift import Drift
from nsinspect.fields.scrape import SCRAPE, Part, Scrape
from nsinspect.kernfs import Roots
from nsinspect.limits import Bound, EffectiveCpu, EffectiveMemory, Usage
from nsinspect.model import Container, Model, build
from nsinspect.runtimes import recognise
from nsinspect.snapshot import Snapshot
from nsinspect.views import document
from nsinspect.views.metrics import Room, exposition, families
from tests.work import lines_run

HERE = Path(__file__).parent
HOSTS = sorted(path.name for path in (HERE / "fixtures/hosts").iterdir())
PLENTY = Room(containers=10**6, series=10**6)
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

# The contract's list, typed from it: family without nsinspect_, labels besides id and name.
ABOUT_CONTAINERS = {
    "container_info": ("kind", "runtime", "image", "pod", "namespace", "container", "cgroup"),
    "container_cpu_limit_cores": (),
    "container_cpu_shares": (),
    "container_cpu_weight": (),
    "container_cpuset_cpus": (),
    "container_memory_limit_bytes": (),
    "container_memory_swap_limit_bytes": (),
    "container_memory_reservation_bytes": (),
    "container_memory_high_bytes": (),
    "container_pids_limit": (),
    "container_cpu_usage_seconds_total": (),
    "container_cpu_throttled_seconds_total": (),
    "container_cpu_throttled_periods_total": (),
    "container_cpu_periods_total": (),
    "container_memory_usage_bytes": (),
    "container_memory_working_set_bytes": (),
    "container_memory_swap_usage_bytes": (),
    "container_memory_oom_kills_total": (),
    "container_pids": (),
    "container_processes": (),
    "container_start_time_seconds": (),
    "container_pressure_waiting_seconds_total": ("resource",),
    "container_pressure_stalled_seconds_total": ("resource",),
    "container_namespace_shared_with_host": ("namespace",),
    "container_namespace_inode": ("namespace",),
    "container_capability": ("capability",),
    "container_capabilities": ("set",),
    "container_privileged": (),
    "container_seccomp_filtered": (),
    "container_no_new_privileges": (),
    "container_root_user": (),
    "container_capability_outliers": (),
    "container_drift": ("field",),
}
ABOUT_SCRAPES = {
    "containers": ("runtime",),
    "containers_truncated": (),
    "read_issues": ("kind",),
    "vanished_total": (),
    "scrape_collector_success": ("collector",),
    "scrape_collector_duration_seconds": ("collector",),
    "build_info": ("version", "pythonversion"),
}
# What only cgroups tell.
OF_CGROUPS = {
    name
    for name in ABOUT_CONTAINERS
    if re.match(r"container_(cpu|cpuset|memory|pids|pressure)_", name) or name == "container_pids"
}

Json = dict[str, Any]


def at(path: str) -> Callable[[Json], list[tuple[tuple[str, ...], Any]]]:
    """The one sample at a dotted path of a container's JSON."""

    def get(container: Json) -> list[tuple[tuple[str, ...], Any]]:
        place: Any = container
        for key in path.split("."):
            place = place[key]
        return [((), place)]

    return get


def info(c: Json) -> list[tuple[tuple[str, ...], Any]]:
    pod = c["pod"] or {}
    texts = (c["kind"], c["runtime"], c["image"], pod.get("name"), pod.get("namespace"), pod.get("container"))
    return [((*(text or "" for text in texts), c["cgroup"]["path"]), 1)]


def how_many_cpus(c: Json) -> list[tuple[tuple[str, ...], Any]]:
    cpus = c["limits"]["cpu"]["effective"]["cpuset"]
    if cpus is None:
        return []
    ranges = [part.partition("-") for part in cpus.split(",") if part]
    return [((), sum(int(last or first) - int(first) + 1 for first, _, last in ranges))]


def pressures(key: str) -> Callable[[Json], list[tuple[tuple[str, ...], Any]]]:
    def get(c: Json) -> list[tuple[tuple[str, ...], Any]]:
        return [((name,), found[key]) for name, found in (c["usage"]["pressure"] or {}).items() if found]

    return get


def in_namespaces(key: str) -> Callable[[Json], list[tuple[tuple[str, ...], Any]]]:
    return lambda c: [((name,), found[key]) for name, found in c["namespaces"].items() if found]


def since_the_epoch(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


SETS = ("effective", "permitted", "inheritable", "bounding", "ambient")
JSON_OF: dict[str, Callable[[Json], list[tuple[tuple[str, ...], Any]]]] = {
    "container_info": info,
    "container_cpu_limit_cores": at("limits.cpu.effective.cores"),
    "container_cpu_shares": at("limits.cpu.own.shares"),
    "container_cpu_weight": at("limits.cpu.own.weight"),
    "container_cpuset_cpus": how_many_cpus,
    "container_memory_limit_bytes": at("limits.memory.effective.max_bytes"),
    "container_memory_swap_limit_bytes": at("limits.memory.effective.swap_max_bytes"),
    "container_memory_reservation_bytes": at("limits.memory.effective.reservation_bytes"),
    "container_memory_high_bytes": at("limits.memory.effective.high_bytes"),
    "container_pids_limit": at("limits.pids.effective.max"),
    "container_cpu_usage_seconds_total": at("usage.cpu_seconds"),
    "container_cpu_throttled_seconds_total": at("usage.cpu_throttled_seconds"),
    "container_cpu_throttled_periods_total": at("usage.cpu_throttled_periods"),
    "container_cpu_periods_total": at("usage.cpu_periods"),
    "container_memory_usage_bytes": at("usage.memory_bytes"),
    "container_memory_working_set_bytes": at("usage.memory_working_set_bytes"),
    "container_memory_swap_usage_bytes": at("usage.swap_bytes"),
    "container_memory_oom_kills_total": at("usage.oom_kills"),
    "container_pids": at("usage.pids"),
    "container_processes": lambda c: [((), len(c["pids"]))],
    "container_start_time_seconds": lambda c: [((), since_the_epoch(c["init"]["started_at"]))],
    "container_pressure_waiting_seconds_total": pressures("some_seconds"),
    "container_pressure_stalled_seconds_total": pressures("full_seconds"),
    "container_namespace_shared_with_host": in_namespaces("host"),
    "container_namespace_inode": in_namespaces("inode"),
    "container_capability": lambda c: [
        ((name,), 1) for name in (c["capabilities"]["effective"] or {"names": []})["names"]
    ],
    "container_capabilities": lambda c: [
        ((name,), c["capabilities"][name] and bin(int(c["capabilities"][name]["mask"], 16)).count("1")) for name in SETS
    ],
    "container_privileged": at("security.privileged"),
    "container_seccomp_filtered": lambda c: [
        ((), None if c["security"]["seccomp"] is None else c["security"]["seccomp"] == "filter")
    ],
    "container_no_new_privileges": at("security.no_new_privs"),
    "container_root_user": lambda c: [((), None if c["init"]["uid"] is None else c["init"]["uid"] == 0)],
    "container_capability_outliers": lambda c: [((), len(c["capabilities"]["outliers"]))],
    "container_drift": lambda c: [((one["field"],), 1) for one in c["drift"] or []],
}


@cache
def snapshot_of(host: str) -> Snapshot:
    return collect(Roots(root=str(HERE / "fixtures/hosts" / host)))


@cache
def model_of(host: str) -> Model:
    return build(snapshot_of(host))


def scrape_of(model: Model | None, **other: Any) -> Scrape:
    parts = tuple(Part(name, True, 0.25) for name in ("processes", "state_files", "confinement", "cgroups", "model"))
    usual: dict[str, Any] = {"parts": parts, "vanished": 3, "truncated": 0, "version": "1.2.3", "python": "3.11.7"}
    return Scrape(model=model, **{**usual, **other})


def with_containers(*containers: Container) -> Model:
    return model_of("podman-v2")._replace(containers=containers)


def a_container(**other: Any) -> Container:
    return model_of("podman-v2").containers[0]._replace(**other)


def text_of(model: Model | None, *, openmetrics: bool = False, room: Room = PLENTY) -> str:
    return exposition(scrape_of(model), openmetrics=openmetrics, room=room)


def samples_in(text: str, *, openmetrics: bool = False) -> Samples:
    """Every sample by name and labels; fails where one occurs twice."""
    found: Samples = {}
    for family in parse_openmetrics(text + "# EOF\n") if openmetrics else parse_text(text):
        for sample in family.samples:
            key = sample.name, frozenset(sample.labels.items())
            assert key not in found, key
            found[key] = sample.value
    return found


def both_ways(model: Model | None, room: Room = PLENTY) -> Samples:
    """What is said in the text format, which is what OpenMetrics says too."""
    text = samples_in(text_of(model, room=room))
    assert samples_in(text_of(model, openmetrics=True, room=room), openmetrics=True) == text
    return text


def about_containers(samples: Samples) -> Samples:
    return {key: value for key, value in samples.items() if key[0].startswith("nsinspect_container_")}


def ids_in(samples: Samples) -> list[str]:
    """The ids that have an info series, in order."""
    return [dict(labels)["id"] for name, labels in samples if name == "nsinspect_container_info"]


def names_in(samples: Samples) -> set[str]:
    return {name.removeprefix("nsinspect_") for name, _ in samples}


def expected_of(container: Json) -> Iterable[tuple[tuple[str, frozenset[tuple[str, str]]], float]]:
    """The samples that a container's JSON says there must be."""
    short = container["id"][:12] if re.fullmatch("[0-9a-f]{64}", container["id"]) else container["id"]
    who = (("id", short), ("name", container["name"] or ""))
    for name, get in JSON_OF.items():
        for texts, value in get(container):
            if value is not None:
                labels = frozenset((*who, *zip(ABOUT_CONTAINERS[name], texts, strict=True)))
                yield (f"nsinspect_{name}", labels), math.inf if value == "max" else float(value)


def test_the_families_are_the_contracts_with_its_labels():
    """None is missing, none is more than promised, and every row of one name has the same labels."""
    found = {name: {metric.labels for metric in metrics} for name, metrics in families().items()}

    assert found == {name: {labels} for name, labels in ABOUT_CONTAINERS.items()}
    assert {metric.name: metric.labels for metric in SCRAPE} == ABOUT_SCRAPES
    assert [metric.name for metric in SCRAPE] == list(dict.fromkeys(metric.name for metric in SCRAPE))
    assert JSON_OF.keys() == ABOUT_CONTAINERS.keys()


def test_every_family_has_a_help_of_its_own_in_one_line():
    """Rows that share a name share the help; no two names do."""
    helps = {name: {metric.help for metric in metrics} for name, metrics in families().items()}
    helps |= {metric.name: {metric.help} for metric in SCRAPE}
    texts = [text for found in helps.values() for text in found]

    assert {name: len(found) for name, found in helps.items()} == dict.fromkeys(helps, 1)
    assert len(set(texts)) == len(texts)
    assert all(text and text.isprintable() and "\\" not in text for text in texts)


def check_against_the_document(model: Model) -> Samples:
    whole = json.loads(document.list_document(model, model.containers))
    expected = dict(pair for container in whole["containers"] for pair in expected_of(container))
    found = about_containers(both_ways(model))

    assert found.keys() == expected.keys()
    for key, value in expected.items():
        # JSON has times to the millisecond.
        tolerance = 0.001 if key[0] == "nsinspect_container_start_time_seconds" else 0
        assert found[key] == pytest.approx(value, abs=tolerance, rel=0), key
    return found


@pytest.mark.parametrize("host", HOSTS)
def test_every_sample_is_what_the_document_says(host: str):
    """The numbers of the text are those of JSON: "max" is +Inf, null no sample, a flag 0 or 1, and nothing else."""
    check_against_the_document(model_of(host))


# What no bundled host has: pressure, drift.
PRESSURE = {"cpu": Pressure(1_500_000, None), "memory": Pressure(0, 0), "io": Pressure(7, 2**53)}
DRIFT = tuple(
    Drift(field=field, declared=1, enforced=2, tolerance=None) for field in ("limits.pids.own.max", "init.uid")
)


def limited(value: Any) -> Container:
    """A container whose every limit and usage is ``value``."""
    usual = a_container()
    cores = None if value == "max" else value
    number = None if value == "max" else value
    memory = {name: Bound(value=value, imposed_by=None) for name in ("max", "swap_max", "reservation", "high")}
    return usual._replace(
        limits=usual.limits._replace(
            cpu=usual.limits.cpu._replace(shares=number, weight=number),
            effective_cpu=EffectiveCpu(cores=cores and float(cores), cpuset=None, imposed_by=None),
            effective_memory=EffectiveMemory(**memory),
            effective_pids=Bound(value=value, imposed_by=None),
        ),
        usage=Usage(**{**dict.fromkeys(Usage._fields, number), "pressure": None}),
    )


def test_no_limit_is_infinite_unknown_is_no_sample_and_zero_is_zero():
    """Three different things never look alike."""
    limits = [
        name for name in ABOUT_CONTAINERS if re.fullmatch("container_(memory|pids).*(limit|reservation|high).*", name)
    ]
    found = {value: check_against_the_document(with_containers(limited(value))) for value in ("max", None, 0, 2**62)}

    assert len(limits) == 5
    for name in limits:
        values = {value: [v for (n, _), v in one.items() if n == f"nsinspect_{name}"] for value, one in found.items()}
        assert values == {"max": [math.inf], None: [], 0: [0], 2**62: [2**62]}
    assert not names_in(found[None]) & OF_CGROUPS
    assert names_in(found["max"]) & OF_CGROUPS == set(limits)


def test_pressure_and_drift_are_what_the_document_says():
    """A resource without a "full" line has no stalled time; a field that is as asked has no sample."""
    usual = a_container()
    usage = usual.usage._replace(pressure=PRESSURE)
    cpus = EffectiveCpu(cores=1.5, cpuset=(0, 1, 5), imposed_by=None)
    limits = usual.limits._replace(effective_cpu=cpus)
    found = check_against_the_document(
        with_containers(
            usual._replace(usage=usage, drift=DRIFT, limits=limits),
            a_container(id="without", drift=()),
            a_container(id="unknown", drift=None),
        )
    )
    waiting = {dict(at)["resource"]: v for (name, at), v in found.items() if name.endswith("_waiting_seconds_total")}
    stalled = {dict(at)["resource"]: v for (name, at), v in found.items() if name.endswith("_stalled_seconds_total")}
    drifted = {dict(at)["field"] for (name, at), _ in found.items() if name == "nsinspect_container_drift"}

    assert waiting == {"cpu": 1.5, "memory": 0, "io": 7e-06}
    assert stalled == {"memory": 0, "io": 2**53 / 1e6}
    assert drifted == {"limits.pids.own.max", "init.uid"}
    assert next(v for (name, _), v in found.items() if name == "nsinspect_container_cpuset_cpus") == 3


def test_all_hosts_together_have_almost_every_family():
    """So that the comparison above is not about nothing."""
    found = set().union(*(names_in(both_ways(model_of(host))) for host in HOSTS))

    assert {name for name in ABOUT_CONTAINERS if "drift" not in name and "pressure" not in name} <= found
    assert ABOUT_SCRAPES.keys() <= found


@pytest.mark.parametrize("host", HOSTS)
def test_samples_about_the_scrape(host: str):
    """They count what the document lists, and say how each part went."""
    model = model_of(host)
    whole = json.loads(document.list_document(model, model.containers))
    runtimes = [container["runtime"] for container in whole["containers"]]
    kinds = [issue["kind"] for issue in whole["issues"]]
    found = both_ways(model)
    found = {key: value for key, value in found.items() if key not in about_containers(found)}
    parts = ("processes", "state_files", "confinement", "cgroups", "model")
    expected: dict[tuple[str, tuple[tuple[str, str], ...]], float] = {
        ("containers_truncated", ()): 0,
        ("vanished_total", ()): 3,
        ("build_info", (("version", "1.2.3"), ("pythonversion", "3.11.7"))): 1,
        **{("containers", (("runtime", one),)): runtimes.count(one) for one in runtimes},
        **{("read_issues", (("kind", one),)): kinds.count(one) for one in kinds},
        **{("scrape_collector_success", (("collector", one),)): 1 for one in parts},
        **{("scrape_collector_duration_seconds", (("collector", one),)): 0.25 for one in parts},
    }

    assert found == {(f"nsinspect_{name}", frozenset(labels)): value for (name, labels), value in expected.items()}


def test_a_part_that_failed_is_shown_as_zero():
    """Zero is a sample, also where there is nothing else to tell."""
    parts = (Part("processes", False, 0.0), Part("cgroups", True, 1.5))
    for openmetrics in (False, True):
        text = exposition(scrape_of(None, parts=parts, vanished=0), openmetrics=openmetrics, room=PLENTY)
        found = samples_in(text, openmetrics=openmetrics)
        assert found["nsinspect_scrape_collector_success", frozenset({("collector", "processes")})] == 0
        assert found["nsinspect_scrape_collector_success", frozenset({("collector", "cgroups")})] == 1
        assert found["nsinspect_scrape_collector_duration_seconds", frozenset({("collector", "processes")})] == 0
        assert found["nsinspect_vanished_total", frozenset()] == 0
        assert found["nsinspect_containers_truncated", frozenset()] == 0
        assert not about_containers(found)


@pytest.mark.parametrize("openmetrics", [False, True], ids=["text", "openmetrics"])
@pytest.mark.parametrize("host", HOSTS)
def test_a_family_occurs_once_with_its_samples_together(host: str, openmetrics: bool):
    """HELP, TYPE, then every sample of it; counters and nothing else end in _total."""
    text = text_of(model_of(host), openmetrics=openmetrics)
    lines = text.splitlines()
    heads = [index for index, line in enumerate(lines) if line.startswith("# HELP ")]
    seen = []
    for begin, end in itertools.pairwise([*heads, len(lines)]):
        name = lines[begin].split(" ")[2]
        _, word, typed, kind = lines[begin + 1].split(" ")
        samples = {re.split("[ {]", line)[0] for line in lines[begin + 2 : end]}
        seen.append(name)
        assert (word, typed) == ("TYPE", name)
        suffix = {"counter": "_total", "info": "_info", "gauge": ""}[kind] if openmetrics else ""
        assert samples == {name + suffix}
        assert (kind == "counter") == next(iter(samples)).endswith("_total")
        assert not (openmetrics and (kind == "info") != (name + suffix).endswith("_info"))

    assert heads[0] == 0
    assert len(set(seen)) == len(seen)
    assert text.endswith("\n")
    # No timestamps, no exemplars: a name, labels and one number.
    assert all(re.fullmatch(r'\w+(\{.*"\})? [-+.\w]+', line) for line in lines if not line.startswith("#"))


@pytest.mark.parametrize("host", HOSTS)
def test_promtool_has_nothing_to_say(host: str):
    """The linter of Prometheus itself finds no fault."""
    promtool = shutil.which("promtool")
    if promtool is None:
        assert os.environ.get("NSINSPECT_LIVE") != "1", "the live tier needs promtool (Debian: prometheus)"
        pytest.skip("no promtool")
    done = subprocess.run(
        [promtool, "check", "metrics"],
        input=text_of(model_of(host)).encode(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=30,
    )

    assert (done.stdout.decode(), done.returncode) == ("", 0)


# -- who a series is about ---------------------------------------------------------------------------------------------


def test_a_hex_id_is_shown_short_and_any_other_whole():
    """12 characters are what docker ps shows; the name that somebody chose has no short form."""
    free = "a-name-of-lxc-that-is-longer-than-12"
    found = ids_in(both_ways(with_containers(a_container(id="0123456789ab" + "c" * 52), a_container(id=free))))

    assert found == ["0123456789ab", free]


A, B = "a" * 12 + "b" * 52, "a" * 12 + "c" * 52
LONG = "n" * 5000


@pytest.mark.parametrize(
    "ids",
    [
        pytest.param((A, B), id="the same first 12"),
        pytest.param((A, A), id="the same id"),
        pytest.param((A, B, A, B, A), id="again and again"),
        pytest.param((A, A[:12]), id="a name like a short id"),
        pytest.param((A[:12], A), id="a short id like a name"),
        pytest.param(("x", "x", "x~2", "x~2"), id="a name like a number given"),
        pytest.param(("a\x1b", r"a\x1b"), id="a name like another made safe"),
        pytest.param((LONG, LONG), id="the same long one"),
        pytest.param((LONG + "1", LONG + "2"), id="long ones that differ at their end"),
        pytest.param((LONG, LONG[:999] + "…"), id="one like another cut"),
    ],
)
def test_series_of_two_containers_are_never_the_same(ids: tuple[str, ...]):
    """Twice the same series would cost Prometheus the whole scrape; the first keeps the usual id."""
    inside = [a_container(id=one, parent=ids[0]) for one in ids[1:]]
    alone = both_ways(with_containers(a_container(id=ids[0])))
    found = both_ways(with_containers(a_container(id=ids[0]), *inside))

    assert len(set(ids_in(found))) == len(ids)
    assert len(about_containers(found)) == len(ids) * len(about_containers(alone))
    assert about_containers(alone).items() <= found.items()


def test_a_name_of_megabytes_takes_no_longer_than_one_that_is_cut():
    """A user's file may have it.  Fails where it is made safe before it is cut."""

    def work(length: int) -> int:
        model = with_containers(a_container(name="é\x1b" * length))
        return lines_run(lambda: text_of(model))

    work(1)  # what is remembered is so from now on
    assert work(100_000) < work(2_000) * 1.1


def test_names_of_255_bytes_that_differ_in_the_last_are_two_series():
    """A name below /lxc, which anybody inside a container may make, can be longer than a label once it is safe."""
    paths = [b"/lxc/" + b"\xff" * 254 + last for last in (b"a", b"b")]
    found = [
        a_container(id=match.id, name=match.id, cgroup_path=path, parent="p")
        for path in paths
        for match in recognise(path)
    ]

    assert len(found) == 2
    assert len(ids_in(both_ways(with_containers(*found)))) == 2


HOSTILE = [
    "\x1b[31mred\x1b[0m\x07",
    "one\ntwo\rthree\x0b\x0c\x1c\x85\u2028\u2029",
    'quo"te',
    "back\\slash\\",
    '\\"',
    '"} 1\nnsinspect_forged{x="',
    b"\xff\xfe\x80".decode("utf-8", "surrogateescape"),
    "\ud800\udfff",
    "\u202egnp.exe\u2066",
    "a,b={c} # HELP",
    "# EOF",
    "\0",
    "é漢字😀",
    "x" * 5000,
    '"' * 5000,
    "\\" * 999,
    "\x1b" * 300,
    "",
    " ",
]


def shown(value: str | bytes) -> str:
    """What a label says of a value: safe and at most 1,000 characters."""
    whole = safe.text(value)
    return whole if len(whole) <= 1000 else whole[:999] + "…"


def labels_of(samples: Samples) -> dict[str, str]:
    (labels,) = [dict(labels) for name, labels in samples if name == "nsinspect_container_info"]
    return labels


@cache
def usual_lengths() -> tuple[int, int]:
    """How many lines and samples a container with an ordinary name has."""
    model = with_containers(a_container())
    return len(text_of(model).split("\n")), len(both_ways(model))


def check_parses_back(name: str, image: str, path: bytes, comm: bytes) -> None:
    pod = Pod(uid=None, name=image, namespace=name, qos=None, container=image)
    usual = a_container()
    init = usual.init._replace(comm=comm)
    model = with_containers(usual._replace(name=name, image=image, cgroup_path=path, pod=pod, init=init))
    found = both_ways(model)
    labels = labels_of(found)

    assert (labels["name"], labels["image"], labels["cgroup"]) == (shown(name), shown(image), shown(path))
    assert (labels["pod"], labels["namespace"], labels["container"]) == (shown(image), shown(name), shown(image))
    # A space of another kind is no harm.
    assert not [
        one for text in labels.values() for one in text if unicodedata.category(one)[0] == "C" or one in "\u2028\u2029"
    ]
    # One line for each sample and one for each head, whatever was in a name.
    assert (len(text_of(model).split("\n")), len(found)) == usual_lengths()
    text_of(model).encode("utf-8")


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:12]))
def test_a_hostile_name_is_one_label_and_nothing_else(text: str):
    """It parses back as its safe form, and neither adds nor hides a sample.  Fails without ``safe.text`` or without
    the escapes of a label."""
    check_parses_back(text, text, b"/" + os.fsencode(text.encode("utf-8", "backslashreplace")), b"\xff\x1b\n")


TEXTS = st.one_of(st.text(max_size=30), st.binary(max_size=30).map(lambda b: b.decode("utf-8", "surrogateescape")))


@settings(deadline=None, max_examples=20)
@given(name=TEXTS, image=TEXTS, path=st.binary(max_size=60), comm=st.binary(max_size=15))
def test_any_name_parses_back(name: str, image: str, path: bytes, comm: bytes):
    """The same, of names nobody thought of."""
    check_parses_back(name, image, path, comm)


# -- room --------------------------------------------------------------------------------------------------------------


def crowd() -> tuple[Model, list[str]]:
    """Containers of the host and inside those, by start, and the order in which they deserve room."""
    ids = ("h1", "n1", "h2", "n2", "h3", "n3")
    containers = [a_container(id=one, parent="h1" if one[0] == "n" else None) for one in ids]
    # Of different sizes.
    containers[2] = model_of("docker-hybrid").containers[0]._replace(id="h2")
    return with_containers(*containers), ["h1", "h2", "h3", "n1", "n2", "n3"]


def test_the_newest_go_first_and_nested_ones_before_any_of_the_host():
    """Whatever the limit of series is: whole containers, a beginning of one order, and how many are left out."""
    model, order = crowd()
    whole = about_containers(both_ways(model))
    sizes = {one: sum(("id", one) in labels for _, labels in whole) for one in order}
    ends = list(itertools.accumulate(sizes[one] for one in order))
    limits = sorted({0, 1, *(end + step for end in ends for step in (-1, 0, 1))})
    for limit in limits:
        found = samples_in(text_of(model, room=Room(series=limit)))
        series = about_containers(found)
        fitting = sum(end <= limit for end in ends)
        assert ids_in(found) == order[:fitting]
        assert series.items() <= whole.items()
        assert len(series) == sum(sizes[one] for one in order[:fitting]) <= limit
        assert found["nsinspect_containers_truncated", frozenset()] == len(order) - fitting
        # How many there are is not how many are shown.
        counted = sum(value for (name, _), value in found.items() if name == "nsinspect_containers")
        assert counted == len(order)


def test_the_number_of_containers_is_limited_too():
    """The same order, by number."""
    model, order = crowd()
    for limit in range(len(order) + 2):
        found = both_ways(model, Room(containers=limit))
        assert ids_in(found) == order[:limit]
        assert found["nsinspect_containers_truncated", frozenset()] == max(0, len(order) - limit)


def test_nobody_inside_a_container_can_displace_another():
    """A thousand containers more inside one change nothing about those that had room, nor about their ids."""
    model, order = crowd()
    room = Room(containers=4)
    before = about_containers(samples_in(text_of(model, room=room)))
    others = [a_container(id="h2", parent="h1"), *(a_container(id=f"x{n}", parent="h1") for n in range(50))]
    later = model._replace(containers=(*model.containers, *others))

    assert ids_in(before) == order[:4]
    assert about_containers(samples_in(text_of(later, room=room))) == before


# -- unknown -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("host", HOSTS)
def test_without_cgroups_there_are_no_limits_and_no_usage(host: str):
    """Where cgroups could not be read in time nothing is known of them: no CPU limit is made of the CPUs online, no
    field drifted for want of a value, and what processes tell is all there."""
    model = build(dataclasses.replace(snapshot_of(host), cgroups={}))
    found = about_containers(both_ways(model))
    whole = about_containers(both_ways(model_of(host)))

    assert names_in(whole) & OF_CGROUPS
    assert not names_in(found) & OF_CGROUPS
    assert found == {key: value for key, value in whole.items() if key[0].removeprefix("nsinspect_") not in OF_CGROUPS}


@pytest.mark.parametrize("host", HOSTS)
def test_without_the_cgroups_above_nothing_effective_is_known(host: str):
    """A limit above that nobody could read may be the tightest."""
    snapshot = snapshot_of(host)
    cgroups = {key: cgroup for key, cgroup in snapshot.cgroups.items() if key[1] != b"/"}
    found = names_in(both_ways(build(dataclasses.replace(snapshot, cgroups=cgroups))))

    assert not found & {
        "container_cpu_limit_cores",
        "container_memory_limit_bytes",
        "container_memory_swap_limit_bytes",
        "container_pids_limit",
    }
    assert "container_memory_usage_bytes" in found


def test_a_container_whose_cgroup_is_unknown_has_no_cpu_limit():
    """A state file tells of it by its pid, and /proc/<pid>/cgroup could not be read: what limits it is not known."""
    snapshot = snapshot_of("podman-v2")
    init = model_of("podman-v2").containers[0].init.pid
    processes = tuple(p._replace(cgroup=()) if p.pid == init else p for p in snapshot.processes)
    claim = Claim(runtime="podman", id="e" * 64, source="/a/file", cgroup=None, pid=init)
    model = build(dataclasses.replace(snapshot, processes=processes, claims=(claim,)))
    (container,) = [one for one in model.containers if one.id == claim.id]
    found = about_containers(both_ways(model._replace(containers=(container,))))

    assert not names_in(found) & OF_CGROUPS
