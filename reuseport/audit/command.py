# SPDX-License-Identifier: MIT
"""The command: parse, run the trial in a process of its own, judge, report."""

from __future__ import annotations

import sys

from mptcp_sockopt import testing
from mptcp_sockopt.cli import USAGE

from .._report import finish
from . import report
from .baseline import PATIENCE
from .listening import PATIENCE as UNTIL_IT_LISTENS
from .options import Options
from .trial import LONGER, trial


def run(options: Options) -> int:
    if mistake := options.mistake():
        print(f"reuseport audit: error: {mistake}", file=sys.stderr)
        return USAGE
    # However this ends, everything that CMD started ends with the child, and so do the namespaces.
    clients = 3 * max(plan.wait for plan in options.plans(()))  # for the baseline, and at the end
    limit = 60 + UNTIL_IT_LISTENS + PATIENCE + options.seconds + 3 * options.within + LONGER + clients
    judged = report.judge(options, testing.in_child(lambda: trial(options), within=limit))
    sentence, code = report.verdict(judged)
    return finish(options, report.for_json(judged), report.lines(judged), sentence, code)
