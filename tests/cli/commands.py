# SPDX-License-Identifier: MIT
"""Commands called in this process, which may be one in a private network."""

from __future__ import annotations

import contextlib
import io
import json
import re
from collections.abc import Callable
from typing import Any, NamedTuple

from mptcp_sockopt import cli


class Outcome(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def outcome(*words: object, main: Callable[[list[str]], int] = cli.main) -> Outcome:
    """Call mptcp-sockopt, or another program, with these words."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main([str(word) for word in words])
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), err.getvalue())


def attempt_of(found: Outcome) -> dict[str, Any]:
    """The only address that `check --json` tried."""
    (attempt,) = found.json["peer"]["attempts"]
    return dict(attempt)


def fits(text: str) -> bool:
    """Whether it fits 79 columns; the address of a page, on a line by itself, cannot be broken."""
    return all(len(line) <= 79 or re.fullmatch(r"https://\S+", line) for line in text.splitlines())
