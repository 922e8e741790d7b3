# SPDX-License-Identifier: MIT
"""``python -m tests.findings``: measure how often each finding shows here; write it to the pages."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from . import figures, pages
from .programs import FINDINGS, RACES


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.findings", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help="measure these; by default, all but races")
    parser.add_argument("--races", action="store_true", help="measure the races too, which takes minutes")
    parser.add_argument("--rounds", type=int, default=20, metavar="N", help="runs of each (default 20)")
    parser.add_argument("--kernels", type=Path, metavar="FILE", help="take the answers of other kernels from "
                        "FILE, which python -m tests.kernels --json wrote, and measure nothing")  # fmt: skip
    parser.add_argument(
        "--write", action="store_true", help="write docs/findings: findings.json and the pages"
    )
    options = parser.parse_args()
    unknown = set(options.names) - FINDINGS.keys()
    if unknown:
        parser.error(f"no such finding: {', '.join(sorted(unknown))}")
    found = figures.load()
    if options.kernels:
        found = figures.with_kernels(found, options.kernels)
    elif not options.write or options.names or options.races or options.rounds != 20:
        names = options.names or [name for name in FINDINGS if options.races or name not in RACES]
        for name in names:
            found = figures.remeasured(found, [name], options.rounds)
            print(f"{name}: {pages.rate(found['findings'][name])}", flush=True)
    if options.write:
        figures.FILE.write_text(figures.text_of(found))
        for path, text in pages.all_pages(found).items():
            path.write_text(text)
    return 0


sys.exit(main())
