"""The words that the schemas of fields are made of: JSON Schema, draft 2020-12."""

from __future__ import annotations

from typing import Any

from nsinspect.declarations import Pod

Schema = dict[str, Any]

TEXT: Schema = {"type": "string"}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
SECONDS: Schema = {"type": "number", "minimum": 0}
TIME: Schema = {"type": "string", "format": "date-time"}
PATH: Schema = {"type": "string", "pattern": "^/"}
TEXTS: Schema = {"type": "array", "items": TEXT}
PIDS: Schema = {"type": "array", "items": {"type": "integer", "minimum": 1}}
LIMIT: Schema = {"anyOf": [COUNT, {"const": "max"}]}
CORES: Schema = {"anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "max"}]}
CPU_LIST: Schema = {"type": "string", "pattern": r"^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$"}


def exactly(**properties: Schema) -> Schema:
    """An object that has these keys and no others."""
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def listed(item: Schema) -> Schema:
    """An array of one type."""
    return {"type": "array", "items": item}


def mapping(value: Schema) -> Schema:
    """An object with keys nobody can list beforehand."""
    return {"type": "object", "additionalProperties": value}


def nullable(schema: Schema) -> Schema:
    """The same, or ``null`` for unknown."""
    return {"anyOf": [schema, {"type": "null"}]}


CAPABILITY_SET = exactly(mask={"type": "string", "pattern": "^0x[0-9a-f]{16}$"}, names=TEXTS)
NAMESPACE = exactly(inode=COUNT, host=nullable(FLAG), shared_with=TEXTS)
KIND: Schema = {"enum": ["container", "pause", "isolate"]}
POD = exactly(**{key: nullable(TEXT) for key in Pod._fields})
EVIDENCE = listed(exactly(says=TEXT, what=TEXT))
MOUNT = exactly(
    point=TEXT,
    host_path=nullable(TEXT),
    fstype=TEXT,
    read_only=FLAG,
    propagation={"enum": ["private", "shared", "slave"]},
    secret=FLAG,
    why=nullable(TEXT),
)
ID_MAP = listed(exactly(inside=COUNT, outside=COUNT, count=COUNT))


DECLARED = exactly(
    source=TEXT,
    limits=exactly(
        cpu=exactly(cores=nullable(CORES), shares=nullable(COUNT), cpuset=nullable(CPU_LIST)),
        memory=exactly(max_bytes=nullable(LIMIT), swap_max_bytes=nullable(LIMIT), reservation_bytes=nullable(COUNT)),
        pids=exactly(max=nullable(LIMIT)),
    ),
    capabilities=exactly(bounding=nullable(CAPABILITY_SET)),
    security=exactly(
        privileged=nullable(FLAG),
        seccomp=nullable(TEXT),
        no_new_privs=nullable(FLAG),
        read_only_rootfs=nullable(FLAG),
    ),
    namespaces=mapping(TEXT),
    uid=nullable(COUNT),
)
