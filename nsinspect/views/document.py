"""The JSON document and its JSON Schema, both made from the rows of :mod:`nsinspect.fields`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from nsinspect import fields, safe
from nsinspect.changes import Change
from nsinspect.fields import Field, schema
from nsinspect.fields.schema import Schema
from nsinspect.fields.shapes import timestamp
from nsinspect.findings import Finding
from nsinspect.locate import Located
from nsinspect.membership import Membership
from nsinspect.model import Container, Model
from nsinspect.networks import Net
from nsinspect.powers import Power
from nsinspect.snapshot import FAILURES, Issue

T = TypeVar("T")
SCHEMA_VERSION = 1
_DRIFT_KEYS = ("id", "name", "runtime", "cgroup.path", "declared", "drift")


def list_document(model: Model, containers: Iterable[Container]) -> str:
    """What ``list --json`` prints."""
    return _document(model, {}, model.issues, containers=_objects(fields.CONTAINER, containers))


def show_document(
    model: Model, container: Container, network: Net | None, found: Iterable[Finding], issues: Iterable[Issue]
) -> str:
    """What ``show --json`` prints."""
    content = {
        "container": _object(fields.CONTAINER, container),
        "network": network and _object(fields.NETWORK, network),
        "findings": list(_objects(fields.FINDING, found)),
    }
    return _document(model, content, issues)


def findings_document(model: Model, found: Iterable[Finding], issues: Iterable[Issue]) -> str:
    """What ``findings --json`` prints."""
    return _document(model, {"findings": list(_objects(fields.FINDING, found))}, issues)


def net_document(model: Model, nets: Iterable[Net], issues: Iterable[Issue]) -> str:
    """What ``net --json`` prints."""
    return _document(model, {"networks": list(_objects(fields.NETWORK, nets))}, issues)


def drift_document(model: Model, containers: Iterable[Container], issues: Iterable[Issue]) -> str:
    """What ``drift --json`` prints: of each container who it is, what was declared and what drifted."""
    rows = [row for row in fields.CONTAINER if row.key in _DRIFT_KEYS]
    return _document(model, {"drift": list(_objects(rows, containers))}, issues)


def pid_document(model: Model, processes: Iterable[Located], issues: Iterable[Issue]) -> str:
    """What ``pid --json`` prints."""
    return _document(model, {"processes": list(_objects(fields.PROCESS, processes))}, issues)


def caps_document(model: Model, found: Iterable[Power]) -> str:
    """What ``caps --json`` prints."""
    return _document(model, {}, model.issues, tasks=_objects(fields.POWER, found))


def ns_document(model: Model, namespaces: Iterable[Membership]) -> str:
    """What ``ns --json`` prints."""
    return _document(model, {}, model.issues, namespaces=_objects(fields.NAMESPACE_ROWS, namespaces))


def diff_document(before: Model, after: Model, changes: Iterable[Change]) -> str:
    """What ``diff --json`` prints; ``captured_at`` and ``host`` are those of the second."""
    content = {
        "before": {"captured_at": timestamp(before.captured_at), "host": _object(fields.HOST, before.host)},
        "changes": list(_objects(fields.CHANGE, changes)),
    }
    return _document(after, content, after.issues)


def verify_document(files: int, seal: str, problems: Iterable[tuple[str, str]]) -> str:
    """What ``verify --json`` prints; it is about a capture, and no host is looked at."""
    found = [{"name": name, "problem": what} for name, what in problems]
    whole = {"schema_version": SCHEMA_VERSION, "files": files, "seal": seal, "problems": found}
    return json.dumps(made_safe(whole), ensure_ascii=False, allow_nan=False, indent=2)


def _document(model: Model, content: dict[str, Any], issues: Iterable[Issue], **rows: Iterable[dict[str, Any]]) -> str:
    """One document; ``rows`` are long lists of objects, one on a line."""
    whole = {
        "schema_version": SCHEMA_VERSION,
        "captured_at": timestamp(model.captured_at),
        "host": _object(fields.HOST, model.host),
        **content,
        "issues": [issue._asdict() for issue in issues],
    }
    text = json.dumps(made_safe(whole), ensure_ascii=False, allow_nan=False, indent=2)
    for name, objects in rows.items():
        lines = ",\n".join([f"    {_line(one)}" for one in objects])
        inside = f"\n{lines}\n  " if lines else ""
        text = f'{text[:-2]},\n  "{name}": [{inside}]\n}}'
    return text


def _object(rows: Iterable[Field[T]], subject: T) -> dict[str, Any]:
    return next(_objects(rows, (subject,)))


def _objects(rows: Iterable[Field[T]], subjects: Iterable[T]) -> Iterator[dict[str, Any]]:
    """What the rows say of each; keys are taken apart once for all of them."""
    plan = [(row.key.split("."), row.get) for row in rows]
    for subject in subjects:
        whole: dict[str, Any] = {}
        for (*above, last), get in plan:
            place = whole
            for name in above:
                place = place.setdefault(name, {})
            place[last] = get(subject)
        yield whole


# The encoder that is written in C, which knows no indentation; it escapes everything but visible ASCII.
_encode = json.JSONEncoder(default=safe.text, allow_nan=False, check_circular=False).encode
_ESCAPE = re.compile(r"\\[bfnrtu]")


def _line(value: dict[str, Any]) -> str:
    """An object on one line.  Where nothing in it had to be escaped all of it is safe, which is seen in a tenth of the
    time it takes to look at every string; what is left is made safe string by string."""
    line = _encode(value)
    return json.dumps(made_safe(value), ensure_ascii=False, allow_nan=False) if _ESCAPE.search(line) else line


def made_safe(value: Any) -> Any:
    """The same value with every string safe: the one edge through which JSON leaves."""
    if isinstance(value, str | bytes):
        return safe.text(value)
    if isinstance(value, dict):
        return {safe.text(key): made_safe(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        if value and type(value[0]) is int:  # pids, by the thousand
            return value
        return [made_safe(inner) for inner in value]
    return value


def json_schema() -> Schema:
    """The JSON Schema (draft 2020-12) of every document."""
    issue = schema.exactly(
        kind={"enum": [*sorted(FAILURES), "contradiction", "not_offered", "private_namespace", "spoofed"]},
        path=schema.TEXT,
        detail=schema.TEXT,
        pids=schema.PIDS,
    )
    common = {
        "schema_version": {"const": SCHEMA_VERSION},
        "captured_at": schema.TIME,
        "host": _schema(fields.HOST),
        "issues": schema.listed(issue),
    }
    container = {"$ref": "#/$defs/container"}
    network = {"$ref": "#/$defs/network"}
    findings = schema.listed({"$ref": "#/$defs/finding"})
    processes = schema.listed(_schema(fields.PROCESS))
    namespaces = schema.listed(_schema(fields.NAMESPACE_ROWS))
    drifts = _schema(row for row in fields.CONTAINER if row.key in _DRIFT_KEYS)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "urn:nsinspect:schema:1",
        "title": "nsinspect documents",
        "description": 'A number, "max" (the kernel says there is no limit) and null (unknown) never look alike.',
        "oneOf": [
            {"description": "nsinspect list", **schema.exactly(**common, containers=schema.listed(container))},
            {
                "description": "nsinspect show",
                **schema.exactly(**common, container=container, network=schema.nullable(network), findings=findings),
            },
            {"description": "nsinspect drift", **schema.exactly(**common, drift=schema.listed(drifts))},
            {"description": "nsinspect pid", **schema.exactly(**common, processes=processes)},
            {"description": "nsinspect ns", **schema.exactly(**common, namespaces=namespaces)},
            {"description": "nsinspect net", **schema.exactly(**common, networks=schema.listed(network))},
            {"description": "nsinspect findings", **schema.exactly(**common, findings=findings)},
            {
                "description": "nsinspect diff",
                **schema.exactly(
                    **common,
                    before=schema.exactly(captured_at=schema.TIME, host=_schema(fields.HOST)),
                    changes=schema.listed({"$ref": "#/$defs/change"}),
                ),
            },
            {
                "description": "nsinspect verify",
                **schema.exactly(
                    schema_version={"const": SCHEMA_VERSION},
                    files=schema.COUNT,
                    seal=schema.TEXT,
                    problems=schema.listed(schema.exactly(name=schema.TEXT, problem=schema.TEXT)),
                ),
            },
            {"description": "nsinspect caps", **schema.exactly(**common, tasks=schema.listed(_schema(fields.POWER)))},
        ],
        "$defs": {
            "container": _schema(fields.CONTAINER),
            "change": _schema(fields.CHANGE),
            "finding": _schema(fields.FINDING),
            "network": _schema(fields.NETWORK),
        },
    }


def _schema(rows: Iterable[Field[T]]) -> Schema:
    """The schema of the object that :func:`_object` makes: every key is always there."""
    whole = schema.exactly()
    for row in rows:
        *above, last = row.key.split(".")
        place = whole
        for name in above:
            place = _property(place, name, schema.exactly())
        described = row.schema if row.always else schema.nullable(row.schema)
        _property(place, last, {"description": row.help, **described})
    return whole


def _property(place: Schema, name: str, schema: Schema) -> Schema:
    if name not in place["properties"]:
        place["properties"][name] = schema
        place["required"].append(name)
    found: Schema = place["properties"][name]
    return found
