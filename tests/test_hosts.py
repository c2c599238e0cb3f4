"""Captured hosts, looked at as a user would: every view of each is kept, and its JSON obeys the shipped schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from nsinspect import kernfs
from nsinspect.cli import cli
from nsinspect.cli.common import Looked, find
from nsinspect.collect import collect
from nsinspect.diff import Side
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build
from nsinspect.views import document, page, table
from tests.runner import runner

HERE = Path(__file__).parent
HOSTS = sorted(path.name for path in (HERE / "fixtures/hosts").iterdir())


@cache
def model_of(host: str) -> Model:
    """The model of a bundled host."""
    return build(collect(Roots(root=str(HERE / "fixtures/hosts" / host))))


def containers_of(host: str) -> dict[str | None, object]:
    """JSON containers of a bundled host by name."""
    model = model_of(host)
    whole = json.loads(document.list_document(model, model.containers))
    return {container["name"]: container for container in whole["containers"]}


@pytest.fixture(scope="module")
def validator() -> jsonschema.Draft202012Validator:
    schema = json.loads((HERE.parent / "nsinspect/schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema, format_checker=jsonschema.FormatChecker())


@pytest.mark.parametrize("host", HOSTS)
def test_every_document_obeys_the_shipped_schema(host: str, validator: jsonschema.Draft202012Validator):
    """Every document there is, of every container, is valid."""
    for golden in (HERE / "golden" / host).glob("*.json"):
        validator.validate(json.loads(golden.read_text()))
    model = model_of(host)
    validator.validate(json.loads(document.list_document(model, model.containers)))
    for container in model.containers:
        validator.validate(json.loads(document.show_document(model, container, None, (), model.issues)))


@pytest.mark.parametrize("host", HOSTS)
@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_no_line_is_wider_than_the_terminal(host: str, width: int):
    """Whatever the width, nothing wraps and what is left out is said."""
    model = model_of(host)
    text = table.list_table(model, model.containers, width=width, colour=False)
    if width >= 60:
        assert max(map(len, text.splitlines())) <= width
    for container in model.containers:
        page_text = page.show_page(model, container, None, (), model.issues, width=width, colour=False)
        assert max(map(len, page_text.splitlines())) <= width


def test_colour_only_repeats_what_the_text_says():
    """Without colour the same words are there."""
    import re

    model = model_of("docker-hybrid")
    plain = page.show_page(model, model.containers[0], None, (), model.issues, width=100, colour=False)
    colourful = page.show_page(model, model.containers[0], None, (), model.issues, width=100, colour=True)

    assert "\x1b[" in colourful
    assert plain == "\n".join(line.rstrip() for line in re.sub(r"\x1b\[[0-9;]*m", "", colourful).splitlines())


@pytest.mark.parametrize("host", ["podman-v1", "podman-v2"])
def test_v1_and_v2_have_one_meaning(host: str):
    """The same podman flags give the same limits on a v1 and on a v2 kernel."""
    web = containers_of(host)["web"]

    assert {
        "cores": 0.5,
        "quota_us": 50000,
        "period_us": 100000,
    }.items() <= web["limits"]["cpu"]["own"].items()
    assert web["limits"]["memory"]["own"]["max_bytes"] == 64 << 20
    assert web["limits"]["memory"]["own"]["swap_max_bytes"] == 64 << 20
    assert web["limits"]["memory"]["own"]["reservation_bytes"] == 0
    assert web["limits"]["pids"]["own"] == {"max": 40}


def test_an_exec_with_privileges_stands_out():
    """podman exec --privileged in an ordinary container is an outlier with what it has more than init."""
    (outlier,) = containers_of("podman-v2")["web"]["capabilities"]["outliers"]

    assert "CAP_SYS_ADMIN" in outlier["extra"]
    assert outlier["missing"] == []


def test_privileged_is_told_from_its_parts():
    """A privileged container is one; all capabilities and no seccomp alone do not make one."""
    assert containers_of("podman-v2")["priv"]["security"]["privileged"] is True
    agent = containers_of("docker-hybrid")["agent"]["security"]
    assert agent["privileged"] is False
    assert "masked /proc paths" in agent["privileged_why"]


def test_namespaces_shared_with_the_host_and_with_another_container():
    """--net host and --net container:web are told apart."""
    docker = containers_of("docker-hybrid")

    assert docker["agent"]["namespaces"]["net"]["host"] is True
    assert docker["sidecar"]["namespaces"]["net"]["host"] is False
    assert docker["sidecar"]["namespaces"]["net"]["shared_with"] == [docker["web"]["id"]]


def ask(host: str, *words: str) -> dict[str, Any]:
    """The document of a command about a bundled host."""
    result = runner().invoke(cli, ["--root", str(HERE / "fixtures/hosts" / host), *words, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.output)
    return found


@pytest.mark.parametrize("host", HOSTS)
def test_show_says_of_a_container_what_list_says(host: str):
    """Though it looks at that one alone."""
    listed = ask(host, "list", "-a")["containers"]
    assert len(listed) >= 3
    for one in listed:
        assert ask(host, "show", one["id"])["container"] == one


def test_show_is_of_the_container_that_was_meant_where_another_calls_itself_by_its_id():
    """A container may make a cgroup inside its own that is named like any other; that one has no name."""
    snapshot = collect(Roots(root=str(HERE / "fixtures/hosts/podman-v2")))
    web, around, other = (next(c for c in build(snapshot).containers if c.name == n) for n in ("web", "priv", "plain"))
    forged = around.cgroup_path + b"/libpod-" + web.id.encode()
    processes = tuple(
        one._replace(cgroup=tuple(line._replace(path=forged) for line in one.cgroup)) if one.pid in other.pids else one
        for one in snapshot.processes
    )
    looked = Looked(replace(snapshot, processes=processes), isolates=True, limits=False, confinement=False)
    assert [one.id for one in looked.model.containers].count(web.id) == 2

    found = looked.deeper(find(looked.model, "web"))
    assert (found.name, found.init, found.limits, found.mount_table) == (
        web.name,
        web.init,
        web.limits,
        web.mount_table,
    )
    assert len({one.init.pid for one in looked.model.containers}) == len(looked.model.containers)
    assert Side(looked.snapshot).containers[web.id].init == web.init


class Paths:
    """A witness that keeps what was read: how a path goes on below the host."""

    def __init__(self, root: Path) -> None:
        self.root, self.found = str(root), set[str]()

    def watch(self, kind: str, path: str, work: Callable[[], Any]) -> Any:
        self.found.add(path.removeprefix(self.root))
        return work()

    def failed(self, path: str, number: int | None) -> None:
        pass


def test_show_reads_no_limits_and_no_mounts_of_others():
    root = HERE / "fixtures/hosts/podman-v2"
    model = model_of("podman-v2")
    (web,) = (one for one in model.containers if one.name == "web")
    others = [one for one in model.containers if one is not web]
    with kernfs.witnessed(paths := Paths(root)):
        ask("podman-v2", "show", "web")
    assert any(path.startswith("/sys/fs/cgroup") and web.id in path for path in paths.found)
    assert f"/proc/{web.init.pid}/mountinfo" in paths.found
    for one in others:
        assert not [path for path in paths.found if path.startswith("/sys/fs/cgroup") and one.id in path]
        assert f"/proc/{one.init.pid}/mountinfo" not in paths.found
