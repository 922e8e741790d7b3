# SPDX-License-Identifier: MIT
"""The programs of docs/findings, and one run of each."""

from __future__ import annotations

import contextlib
import io
import runpy
import sys
from pathlib import Path
from typing import NamedTuple

from mptcp_sockopt import testing

FOLDER = Path(__file__).parents[2] / "docs" / "findings"

#: By name, in the order of the index, the gravest first: words for a run that shows it for sure.
FINDINGS: dict[str, tuple[str, ...]] = {
    "bytes_again": (),
    "first_byte_lost": (),
    "writes_into_nothing": (),
    "dead_in_the_queue": (),
    "mptcp_turned_off": (),
    "closing_listener": ("20",),
    "reply_lost": ("200000",),
    "incoming_cpu": (),
    "listeners_untold": (),
    "queued_as_acked": (),
    "send_queue_zero": (),
    "fast_open_uncounted": (),
    "outq_of_a_listener": (),
    "refused_yet_set": (),
    "cookie_shared": (),
    "owner_ignored": (),
    "removed_subflow_counted": (),
    "join_counted": (),
    "closed_uncreated": (),
    "length_of_info": (),
}
#: A race, which a run sees or not.
RACES = frozenset({"closing_listener", "reply_lost"})
#: Three lost SYNs take three seconds, twice.
SLOW = frozenset({"mptcp_turned_off"}) | RACES

SHOWN, NOT_SHOWN, CANNOT = 1, 0, 3


class Seen(NamedTuple):
    """A run: its exit status, and what it printed."""

    status: int
    text: str


def run(name: str, *words: str, within: float = 120, folder: Path = FOLDER) -> Seen:
    """One run of a program, as if called with these words; in a child, which leaves nothing behind."""

    def inside() -> Seen:
        sys.path.insert(0, str(FOLDER))
        sys.argv = [name, *words]
        printed, status = io.StringIO(), 0
        with contextlib.redirect_stdout(printed):
            try:
                runpy.run_path(str(folder / f"{name}.py"), run_name="__main__")
            except SystemExit as end:
                status = int(end.code or 0)
        return Seen(status, printed.getvalue())

    return testing.in_child(inside, within=within)
