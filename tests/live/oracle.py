"""Compare what nsinspect reads of every process of every container with what lsns and getpcaps say of it.

Run on any kernel; prints one JSON object: how many processes were compared, and every difference.
"""

from __future__ import annotations

import json
import re
import subprocess

from nsinspect.capabilities import all_of, mask_of
from nsinspect.collect import collect
from nsinspect.grouping import group
from nsinspect.kernfs import Roots
from nsinspect.namespaces import TYPES


def namespaces_by_lsns(pid: int) -> dict[str, int]:
    """Inode by type, as util-linux sees them."""
    answer = subprocess.run(
        ["lsns", "-J", "-l", "-p", str(pid)], capture_output=True, text=True, check=True, timeout=30
    )
    return {row["type"]: int(row["ns"]) for row in json.loads(answer.stdout)["namespaces"]}


def effective_by_getpcaps(pid: int, everything: int) -> int:
    """The effective set, as libcap tells it: clauses such as ``=ep``, ``cap_kill,cap_chown=ep`` or ``cap_bpf-ep``."""
    answer = subprocess.run(["getpcaps", str(pid)], capture_output=True, text=True, check=True, timeout=30)
    text = (answer.stdout + answer.stderr).strip().partition(":")[2]
    found = 0
    for clause in text.split():
        names, operator, flags = re.fullmatch(r"([a-z_0-9,]*)([=+-])([eip]*)", clause).groups()  # type: ignore[union-attr]
        mask = mask_of(names.split(",")) if names not in ("", "all") else everything
        if operator == "=":
            found = (found & ~mask) | (mask if "e" in flags else 0)
        elif "e" in flags:
            found = found | mask if operator == "+" else found & ~mask
    return found


def main() -> None:
    """Compare, and say what differs."""
    snapshot = collect(Roots())
    assert snapshot.host.cap_last_cap
    everything = all_of(snapshot.host.cap_last_cap)
    compared, differences = 0, []
    for container in group(snapshot.processes, snapshot.claims, snapshot.host.namespaces).groups:
        for process in container.processes:
            compared += 1
            ours = {kind: inode for kind, inode in zip(TYPES, process.namespaces, strict=True) if inode is not None}
            theirs = namespaces_by_lsns(process.pid)
            if ours != theirs:
                differences.append({"pid": process.pid, "nsinspect": ours, "lsns": theirs})
            effective = process.status.cap_eff if process.status else None
            by_libcap = effective_by_getpcaps(process.pid, everything)
            if effective != by_libcap:
                differences.append({"pid": process.pid, "nsinspect": effective, "getpcaps": by_libcap})
    print(json.dumps({"compared": compared, "differences": differences}))


if __name__ == "__main__":
    main()
