# SPDX-License-Identifier: MIT
"""``python -m tests.recipes``: run each recipe, and print the tables of docs/programs.md, or write them."""

from __future__ import annotations

import argparse
import sys

from . import table
from .stage import Stage


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.recipes", description=__doc__)
    parser.add_argument("--write", action="store_true", help="write docs/programs.md")
    options = parser.parse_args()
    made: dict[str, str] = {}
    with Stage() as stage:
        for name, row in table.rows(stage):
            print(row, end="", file=sys.stderr, flush=True)
            made[name] = made.get(name, table.HEAD) + str(row)
    if not options.write:
        print("\n".join(made.values()), end="")
        return 0
    page = table.PAGE.read_text()
    for name, text in made.items():
        page = table.written(page, name, text)
    table.PAGE.write_text(page)
    return 0


sys.exit(main())
