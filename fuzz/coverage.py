"""Lines that kept inputs reach: ``python -m fuzz.coverage FOLDER NAME...`` prints [[module, reached, lines], ...].

In a process of its own, because a line is counted from when its module is imported on.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from pathlib import Path

from coverage import Coverage

PACKAGE = Path(__file__).parent.parent / "nsinspect"


def main(folder: Path, names: list[str]) -> None:
    """Run every input once."""
    coverage = Coverage(data_file=None, include=[f"{PACKAGE}/*"])
    coverage.start()
    targets = importlib.import_module("fuzz.targets").TARGETS
    for name in names:
        for path in sorted((folder / name).iterdir()):
            targets[name].check(path.read_bytes())
    coverage.stop()
    rows = []
    for module in sorted({module for name in names for module in targets[name].about}):
        path = PACKAGE / f"{module.replace('.', '/')}.py"
        _, lines, _, missing, shown = coverage.analysis2(
            str(path if path.exists() else PACKAGE / module / "__init__.py")
        )
        rows.append((module, len(lines) - len(missing), len(lines)))
        if os.environ.get("FUZZ_MISSING"):
            print(f"{module}: {shown}", file=sys.stderr)
    print(json.dumps(rows))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
