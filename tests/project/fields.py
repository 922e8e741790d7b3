# SPDX-License-Identifier: MIT
"""docs/fields.md, from what the fields say of themselves: ``python -m tests.project.fields`` writes it."""

import inspect
from pathlib import Path

import mptcp_sockopt as mp

PAGE = Path(__file__).parents[2] / "docs" / "fields.md"
BEGIN = "<!-- begin: written by python -m tests.project.fields -->\n"
NONE = {2**64 - 1: "2^64-1", 2**32 - 1: "2^32-1", 2**31 - 1: "2^31-1"}
#: What readers return: every public class that can be made a dict.
RESULTS = [thing for thing in (getattr(mp, name) for name in mp.__all__) if hasattr(thing, "asdict")]


def prose(thing: object) -> str:
    """A docstring as Markdown, on one line."""
    return " ".join((inspect.getdoc(thing) or "").replace("``", "`").split())


def tables(of: type) -> list[str]:
    """The fields that the kernel has, and then what else a result has."""
    fields, others = ["field unit kind Linux meaning".split()], ["attribute meaning".split()]
    for name in dict.fromkeys([*vars(of)["__slots__"], *vars(of.__base__), *vars(of)]):
        thing = getattr(of, name, None)
        if name.startswith("_") or name == "raw" or not inspect.isdatadescriptor(thing):
            continue
        meaning = prose(thing)
        if isinstance(thing, mp.FieldOf):
            none = "" if thing.sentinel is None else f" None is {NONE.get(thing.sentinel, thing.sentinel)}."
            meaning = meaning.rpartition(" (")[0] + none
            fields.append([f"`{name}`", thing.unit, thing.kind, thing.since, meaning])
        else:
            others.append([f"`{name}`", meaning])
    found = [[rows[0], ["---"] * len(rows[0]), *rows[1:]] for rows in (fields, others) if rows[1:]]
    return ["".join(f"| {' | '.join(row)} |\n" for row in rows) for rows in found]


def written() -> str:
    """All below the marker."""
    parts = [[f"## {of.__name__}\n", f"{prose(of).split('. ')[0]}.\n", *tables(of)] for of in RESULTS]
    return "\n".join(line for lines in parts for line in lines)


if __name__ == "__main__":
    PAGE.write_text(f"{PAGE.read_text().partition(BEGIN)[0]}{BEGIN}\n{written()}")
