"""The JSON Schema of the documents, made from the same rows as they are."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from nsinspect.fields import schema
from nsinspect.fields.change import CHANGE
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.finding import FINDING
from nsinspect.fields.host import HOST, PROCESS
from nsinspect.fields.namespace import NAMESPACE_ROWS
from nsinspect.fields.network import NETWORK
from nsinspect.fields.power import POWER
from nsinspect.fields.row import Field
from nsinspect.fields.schema import Schema
from nsinspect.snapshot import FAILURES
from nsinspect.views.document import DRIFT_KEYS, SCHEMA_VERSION

T = TypeVar("T")


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
        "host": _schema(HOST),
        "issues": schema.listed(issue),
    }
    container = {"$ref": "#/$defs/container"}
    network = {"$ref": "#/$defs/network"}
    findings = schema.listed({"$ref": "#/$defs/finding"})
    processes = schema.listed(_schema(PROCESS))
    namespaces = schema.listed(_schema(NAMESPACE_ROWS))
    drifts = _schema(row for row in CONTAINER if row.key in DRIFT_KEYS)
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
                    before=schema.exactly(captured_at=schema.TIME, host=_schema(HOST)),
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
            {"description": "nsinspect caps", **schema.exactly(**common, tasks=schema.listed(_schema(POWER)))},
        ],
        "$defs": {
            "container": _schema(CONTAINER),
            "change": _schema(CHANGE),
            "finding": _schema(FINDING),
            "network": _schema(NETWORK),
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
