"""Build what is published into a folder, ``dist`` or the one that is named: sdist, wheel, and its bill of materials.

The same commit gives the same bytes on every machine: whatever takes part in it has the version that is locked, and
the time in all of it is the commit's, or ``SOURCE_DATE_EPOCH``.
"""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.contrib.this.builders import this_component
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentScope, ComponentType
from cyclonedx.model.tool import ToolRepository
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

HERE = Path(__file__).resolve().parent.parent
# Markers are evaluated for one Python, so that it does not matter which one builds.
ENVIRONMENT = {"python_version": "3.11", "python_full_version": "3.11.0", "extra": ""}


def strangers() -> list[str]:
    """What is installed in another version than the locked one."""
    lock = (HERE / "requirements-dev.lock").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==(\S+)", lock, re.MULTILINE))
    installed = {canonicalize_name(one.metadata["Name"]): one.version for one in metadata.distributions()}
    return sorted(name for name, version in pins.items() if installed.get(name, version) != version)


def requires(distribution: metadata.Distribution) -> list[str]:
    """The names of what a distribution needs to run."""
    needed = (Requirement(line) for line in distribution.requires or ())
    return sorted(
        canonicalize_name(one.name) for one in needed if one.marker is None or one.marker.evaluate({**ENVIRONMENT})
    )


def licence(distribution: metadata.Distribution) -> str | None:
    """What a distribution says of its licence; a classifier where it says nothing shorter, or all of its text."""
    said = distribution.metadata
    classified = [line.rpartition(" :: ")[2] for line in said.get_all("Classifier") or () if line.startswith("License")]
    stated = [said[field] for field in ("License-Expression", "License") if field in said]
    return next((text for text in (*stated, *classified) if text and "\n" not in text), None)


def row(distribution: metadata.Distribution, kind: ComponentType, hashes: Iterable[HashType] = ()) -> Component:
    """A distribution in the bill."""
    said = distribution.metadata
    name = canonicalize_name(said["Name"])
    purl = PackageURL("pypi", None, name, distribution.version)
    text = licence(distribution)
    return Component(
        name=name,
        version=distribution.version,
        type=kind,
        purl=purl,
        bom_ref=str(purl),
        description=said["Summary"],
        scope=ComponentScope.REQUIRED,
        licenses=[LicenseFactory().make_from_string(text)] if text else (),
        hashes=hashes,
    )


def bill_of_materials(wheel: Path, epoch: int) -> str:
    """A wheel, and all that it needs to run in the versions that it was tested with, as CycloneDX."""
    (inside,) = (one for one in zipfile.Path(wheel).iterdir() if one.name.endswith(".dist-info"))
    ours = metadata.PathDistribution(inside)
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    root = row(ours, ComponentType.APPLICATION, [HashType(alg=HashAlgorithm.SHA_256, content=digest)])
    rows, needs, todo = {root.name: root}, {root.name: requires(ours)}, requires(ours)
    while todo:
        name = todo.pop()
        if name not in rows:
            installed = metadata.distribution(name)
            rows[name], needs[name] = row(installed, ComponentType.LIBRARY), requires(installed)
            todo += needs[name]
    bom = Bom(
        # A random one would say that each build is another one.
        serial_number=uuid5(NAMESPACE_URL, f"{root.purl}#{digest}"),
        components=[one for one in rows.values() if one is not root],
        metadata=BomMetaData(
            component=root,
            timestamp=datetime.fromtimestamp(epoch, UTC),
            tools=ToolRepository(components=[this_component()]),
        ),
    )
    for name, needed in needs.items():
        bom.register_dependency(rows[name], [rows[other] for other in needed])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=2) + "\n"


def time_of_commit() -> int:
    """What the environment says, or git."""
    if said := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(said)
    return int(subprocess.check_output(["git", "log", "-1", "--format=%ct"], cwd=HERE, text=True))


def main(folder: Path) -> int:
    """Build, or refuse to."""
    if others := strangers():
        print(f"not in the locked version: {', '.join(others)}; make .venv/ready", file=sys.stderr)
        return 1
    epoch = time_of_commit()
    for old in folder.glob("nsinspect-*"):
        old.unlink()
    command = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-t", "wheel", "-d", str(folder.absolute())]
    subprocess.run(command, cwd=HERE, env={**os.environ, "SOURCE_DATE_EPOCH": str(epoch)}, check=True)
    (wheel,) = folder.glob("nsinspect-*.whl")
    bill = folder / f"{wheel.name.removesuffix('-py3-none-any.whl')}.cdx.json"
    bill.write_text(bill_of_materials(wheel, epoch), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(Path(*sys.argv[1:] or ["dist"])))
