"""The JSON documents, made from the rows of :mod:`nsinspect.fields`; each document imports the rows it needs."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from nsinspect import safe
from nsinspect.fields.container import CONTAINER
from nsinspect.fields.host import HOST
from nsinspect.fields.shapes import timestamp

if TYPE_CHECKING:
    from nsinspect.changes import Change
    from nsinspect.fields.row import Field
    from nsinspect.findings import Finding
    from nsinspect.locate import Located
    from nsinspect.membership import Membership
    from nsinspect.model import Container, Model
    from nsinspect.networks import Net
    from nsinspect.powers import Power
    from nsinspect.snapshot import Issue

T = TypeVar("T")
SCHEMA_VERSION = 1
DRIFT_KEYS = ("id", "name", "runtime", "cgroup.path", "declared", "drift")


def list_document(model: Model, containers: Iterable[Container]) -> str:
    """What ``list --json`` prints."""
    return _document(model, {}, model.issues, containers=_objects(CONTAINER, containers))


def show_document(
    model: Model, container: Container, network: Net | None, found: Iterable[Finding], issues: Iterable[Issue]
) -> str:
    """What ``show --json`` prints."""
    from nsinspect.fields.finding import FINDING
    from nsinspect.fields.network import NETWORK

    content = {
        "container": _object(CONTAINER, container),
        "network": network and _object(NETWORK, network),
        "findings": list(_objects(FINDING, found)),
    }
    return _document(model, content, issues)


def findings_document(model: Model, found: Iterable[Finding], issues: Iterable[Issue]) -> str:
    """What ``findings --json`` prints."""
    from nsinspect.fields.finding import FINDING

    return _document(model, {"findings": list(_objects(FINDING, found))}, issues)


def net_document(model: Model, nets: Iterable[Net], issues: Iterable[Issue]) -> str:
    """What ``net --json`` prints."""
    from nsinspect.fields.network import NETWORK

    return _document(model, {"networks": list(_objects(NETWORK, nets))}, issues)


def drift_document(model: Model, containers: Iterable[Container], issues: Iterable[Issue]) -> str:
    """What ``drift --json`` prints: of each container who it is, what was declared and what drifted."""
    rows = [row for row in CONTAINER if row.key in DRIFT_KEYS]
    return _document(model, {"drift": list(_objects(rows, containers))}, issues)


def pid_document(model: Model, processes: Iterable[Located], issues: Iterable[Issue]) -> str:
    """What ``pid --json`` prints."""
    from nsinspect.fields.host import PROCESS

    return _document(model, {"processes": list(_objects(PROCESS, processes))}, issues)


def caps_document(model: Model, found: Iterable[Power]) -> str:
    """What ``caps --json`` prints."""
    from nsinspect.fields.power import POWER

    return _document(model, {}, model.issues, tasks=_objects(POWER, found))


def ns_document(model: Model, namespaces: Iterable[Membership]) -> str:
    """What ``ns --json`` prints."""
    from nsinspect.fields.namespace import NAMESPACE_ROWS

    return _document(model, {}, model.issues, namespaces=_objects(NAMESPACE_ROWS, namespaces))


def diff_document(before: Model, after: Model, changes: Iterable[Change]) -> str:
    """What ``diff --json`` prints; ``captured_at`` and ``host`` are those of the second."""
    from nsinspect.fields.change import CHANGE

    content = {
        "before": {"captured_at": timestamp(before.captured_at), "host": _object(HOST, before.host)},
        "changes": list(_objects(CHANGE, changes)),
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
        "host": _object(HOST, model.host),
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
