# SPDX-License-Identifier: MIT
"""``python -m tests.servers``: audit each set-up, and print its row, or write docs/servers.json and .md."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from . import page, samples
from .measured import COMMON, measure, surroundings
from .setups import SETUPS


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="only these set-ups; --list lists them")
    parser.add_argument("--list", action="store_true", help="list the names, and end")
    parser.add_argument(
        "--write", action="store_true", help="write the rows to docs/servers.json, and the page"
    )
    parser.add_argument(
        "--page", action="store_true", help="write docs/servers.md from docs/servers.json, and end"
    )
    parser.add_argument(
        "--install", action="store_true", help="as root: install Debian's packages that are missing"
    )
    parser.add_argument("--samples", action="store_true", help="write the samples of docs/audit.md, and end")
    parser.add_argument(
        "--audit", default=COMMON, metavar="OPTIONS", help=f"of each audit (default: {COMMON!r})"
    )
    parser.add_argument("--remark", default="", help="a sentence for the page: how busy was the machine?")
    options = parser.parse_args()
    known = {setup.name: setup for setup in SETUPS}
    if unknown := set(options.names) - set(known):
        parser.error(f"no set-up has this name: {' '.join(sorted(unknown))}")
    if options.list:
        print("\n".join(known))
        return 0
    if options.page:
        page.write(page.load())
        return 0
    if options.samples:
        samples.PAGE.write_text(samples.written(samples.PAGE.read_text()))
        return 0
    found: dict[str, Any] = page.load() if page.JSON.exists() else {"schema": 1, "rows": {}}
    found["measured"] = {**surroundings(), "remark": options.remark}
    for name in options.names or known:
        print(f"== {name}", file=sys.stderr, flush=True)
        row = found["rows"][name] = measure(known[name], options.audit, install=options.install)
        print("\n".join(row.get("said") or [row["missing"]]), flush=True)
        if options.write:  # after each: it takes long, and may be stopped
            page.write(found)
    return 0


sys.exit(main())
