# SPDX-License-Identifier: MIT
"""One loader for roll, fair and audit: many clients of several kinds, and what became of each."""

from .clients import Client, Plan, Target
from .engine import Report
from .http import Answer, NotHTTPError, Request
from .loader import Live, Loader, run_here
from .opening import speaks_tls
from .outcomes import CUT, PATIENCE, SLOW, Loss, Outcome, Tally, Where, attribute
from .run import PlanReport
from .servers import answer_as, be_patient

__all__ = [
    "CUT",
    "PATIENCE",
    "SLOW",
    "Answer",
    "Client",
    "Live",
    "Loader",
    "Loss",
    "NotHTTPError",
    "Outcome",
    "Plan",
    "PlanReport",
    "Report",
    "Request",
    "Tally",
    "Target",
    "Where",
    "answer_as",
    "attribute",
    "be_patient",
    "run_here",
    "speaks_tls",
]
