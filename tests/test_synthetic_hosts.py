"""Random hosts of every layout: the document says of them what is true, by how they were made.

NSINSPECT_EXAMPLES=5000 looks at more of them.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, event, given, settings

from nsinspect import codec
from nsinspect.collect import collect
from nsinspect.kernfs import Roots
from nsinspect.model import Model, build, innermost
from nsinspect.views import document
from tests.synthetic import TYPES, Host, holders, hosts, snapshot, truth, write

EXAMPLES = int(os.environ.get("NSINSPECT_EXAMPLES", "100"))
MANY = settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
FEW = settings(MANY, max_examples=max(12, EXAMPLES // 20))


def said(model: Model) -> dict[str, dict[str, Any]]:
    """The same of the document."""
    whole = json.loads(document.list_document(model, model.containers))
    found = {}
    for one in whole["containers"]:
        limits = one["limits"]
        memory, pids, cpu = (limits[name]["effective"] for name in ("memory", "pids", "cpu"))
        found[one["id"]] = {
            "runtime": one["runtime"],
            "parent": one["parent"],
            "pids": one["pids"],
            "init": one["init"]["pid"],
            "memory": (memory["max_bytes"], memory["imposed_by"]),
            "own memory": limits["memory"]["own"]["max_bytes"],
            "tasks": (pids["max"], pids["imposed_by"]),
            "cpu": (cpu["cores"], cpu["imposed_by"]),
            "namespaces": {kind: sharing(one["namespaces"][kind]) for kind in TYPES},
            "capabilities": one["capabilities"]["effective"]["names"],
        }
    return found


def sharing(namespace: Any) -> Any:
    if namespace is None:
        return None
    return "host" if namespace["host"] else set(namespace["shared_with"])


def about(host: Host) -> None:
    """For ``--hypothesis-show-statistics``: that what is hard comes up."""
    event(f"on v1: {','.join(host.v1) or 'nothing'}")
    event("containers in containers" if any(one.outer is not None for one in host.containers) else "side by side")


@MANY
@given(hosts())
def test_the_document_of_a_random_host_is_true(host: Host):
    """Who is in which container, what limits it and where, what it shares, what it can do."""
    about(host)
    model = build(snapshot(host))
    assert said(model) == truth(host)
    version = "hybrid" if host.v1 and len(host.v1) < 3 else "v1" if host.v1 else "v2"
    assert model.host.cgroup == version


@MANY
@given(hosts())
def test_every_process_is_in_the_container_it_was_put_into(host: Host):
    """Whatever a container calls its own cgroups."""
    found = innermost(build(snapshot(host)).containers)
    expected = {task.pid: host.containers[holders(host, task)[0]].id for task in host.tasks if holders(host, task)}
    assert {pid: one.id for pid, one in found.items()} == expected


@FEW
@given(hosts())
def test_a_random_host_survives_being_written_down(host: Host):
    """As a capture or a recording has it."""
    look = snapshot(host)
    again = codec.decode(codec.loads(codec.dumps(codec.encode(look))))
    assert again == look
    assert said(build(again)) == truth(host)


@FEW
@given(host=hosts())
def test_a_random_host_is_read_from_its_files_as_it_is(host: Host, tmp_path: Path):
    """The same through the reader, the parsers and the collector."""
    root = tmp_path / "host"
    write(host, root)
    try:
        model = build(collect(Roots(root=str(root))))
    finally:
        shutil.rmtree(root)
    assert {issue.kind for issue in model.issues} <= {"not_offered", "spoofed"}
    assert said(model) == truth(host)
