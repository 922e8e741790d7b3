# SPDX-License-Identifier: MIT
"""Which of the programs of docs/findings show their fault on this kernel: python -m tests.kernels.faults.

Prints one JSON object, "findings": by program its exit status; and what those printed that showed nothing.
"""

from __future__ import annotations

import json

from ..findings.programs import FINDINGS, RACES, SHOWN, run


def main() -> None:
    runs = {name: run(name) for name in FINDINGS if name not in RACES}
    found = {name: seen.status for name, seen in runs.items()}
    print(json.dumps({"kind": "findings", "found": found}), flush=True)
    quiet = {name: seen.text for name, seen in runs.items() if seen.status != SHOWN}
    print(json.dumps({"kind": "not shown", "texts": quiet}), flush=True)


if __name__ == "__main__":
    main()
