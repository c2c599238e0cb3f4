"""Events as lines: for people, as JSON, and in the formats that other tools read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from nsinspect import __version__, safe
from nsinspect.changes import Change
from nsinspect.diff import Side
from nsinspect.fields.change import CHANGE
from nsinspect.fields.shapes import timestamp
from nsinspect.findings import CATALOGUE
from nsinspect.views.changes import change_words
from nsinspect.views.document import made_safe


def event(side: Side, before: Side, one: Change) -> dict[str, Any]:
    """One event, in types that JSON has, every text in it safe."""
    container = side.containers.get(one.container or "") or before.containers.get(one.container or "")
    pod = container.pod if container else None
    technique = one.finding.technique if one.finding else None
    found: dict[str, Any] = {
        "time": timestamp(side.snapshot.captured_at),
        "host": side.model.host.hostname,
        "boot_id": side.model.host.boot_id,
        "name": container.name if container else None,
        "runtime": container.runtime if container else None,
        "image": container.image if container else None,
        "pod": pod and pod.name,
        "namespace": pod and pod.namespace,
        "privileged": container.security.privileged if container else None,
        "technique": technique and {"id": technique, "catalogue": CATALOGUE},
        "message": change_words(side.model, before.model, one).plain,
    }
    found |= {row.key: row.get(one) for row in CHANGE if row.key not in ("noise", "follows")}
    safe_one: dict[str, Any] = made_safe(found)
    return safe_one


_TEXTS = ("time", "message", "kind", "field", "host", "boot_id", "name", "runtime", "image", "pod", "namespace")


def known(one: Mapping[str, Any]) -> dict[str, Any]:
    """An event as :func:`event` makes them, whatever was read from a file: somebody else may have written it."""

    def text(value: Any) -> str | None:
        return value if isinstance(value, str) else None

    evidence = one.get("evidence")
    technique = one.get("technique")
    names = one.get("capabilities")
    found = {key: text(one.get(key)) for key in (*_TEXTS, "container", "severity")}
    found |= {key: found[key] or "unknown" for key in ("time", "message", "kind", "field")}
    pid, privileged = one.get("pid"), one.get("privileged")
    whole = {
        **found,
        "before": one.get("before"),
        "after": one.get("after"),
        "pid": pid if type(pid) is int else None,
        "privileged": privileged if type(privileged) is bool else None,
        "capabilities": [name for name in names if isinstance(name, str)] if isinstance(names, list) else None,
        "technique": {"id": text(technique.get("id")), "catalogue": text(technique.get("catalogue"))}
        if isinstance(technique, dict)
        else None,
        "evidence": [
            {"says": text(row.get("says")) or "", "what": text(row.get("what")) or ""}
            for row in (evidence if isinstance(evidence, list) else ())
            if isinstance(row, dict)
        ],
    }
    safe_one: dict[str, Any] = made_safe(whole)
    return safe_one


def line(one: Mapping[str, Any], form: str) -> str:
    """One line of JSON; ``form`` is "json", "ecs" or "timesketch"."""
    one = known(one)
    whole = _ecs(one) if form == "ecs" else _timesketch(one) if form == "timesketch" else one
    return json.dumps(whole, ensure_ascii=False, allow_nan=False)


def words(one: Mapping[str, Any]) -> str:
    """One line for a person."""
    one = known(one)
    return safe.line(f"{one['time']}  {one['message']}")


def _ecs(one: Mapping[str, Any]) -> dict[str, Any]:
    """Elastic Common Schema 8 and later."""
    found: dict[str, Any] = {
        "@timestamp": one["time"],
        "ecs": {"version": "8.11"},
        "message": one["message"],
        "event": {
            "kind": "alert" if one["severity"] in ("high", "critical") else "event",
            "category": ["configuration" if one["severity"] is None else "process"],
            "type": ["change" if one["before"] is not None else "info"],
            "action": one["kind"],
            "module": "nsinspect",
            "provider": f"nsinspect {__version__}",
        },
        "host": {"hostname": one["host"], "boot": {"id": one["boot_id"]}},
    }
    if one["container"] is not None:
        found["container"] = {
            "id": one["container"],
            "name": one["name"],
            "runtime": one["runtime"],
            "image": {"name": one["image"]},
            "security_context": {"privileged": one["privileged"]},
        }
        if one["pod"] is not None:
            found["orchestrator"] = {"namespace": one["namespace"], "resource": {"name": one["pod"], "type": "pod"}}
    if one["pid"] is not None:
        found["process"] = {"pid": one["pid"]}
        if one["capabilities"]:
            found["process"]["thread"] = {"capabilities": {"effective": one["capabilities"]}}
    if one["technique"]:
        found["threat"] = {"framework": one["technique"]["catalogue"], "technique": {"id": [one["technique"]["id"]]}}
    keys = ("field", "before", "after", "severity", "evidence")
    found["nsinspect"] = {key: one[key] if key != "evidence" else _joined(one) for key in keys}
    # Of these two anything may be in them; an index wants one type for a name.
    for key in ("before", "after"):
        value = found["nsinspect"][key]
        found["nsinspect"][key] = value if value is None else value if isinstance(value, str) else json.dumps(value)
    return found


def _timesketch(one: Mapping[str, Any]) -> dict[str, Any]:
    """What Timesketch asks of a line of JSON, and the rest beside it, flat."""
    flat = {key: value for key, value in one.items() if not isinstance(value, dict | list) and value is not None}
    technique = one["technique"] or {}
    return {
        "message": one["message"],
        "datetime": one["time"],
        "timestamp_desc": one["kind"].replace("_", " "),
        "data_type": f"nsinspect:{one['kind']}",
        **{key: value for key, value in flat.items() if key not in ("message", "time", "kind")},
        "evidence": "; ".join(_joined(one)),
        **({"technique": technique["id"]} if technique else {}),
    }


def _joined(one: Mapping[str, Any]) -> list[str]:
    return [f"{found['says']}: {found['what']}" if found["what"] else found["says"] for found in one["evidence"]]
