# SPDX-License-Identifier: MIT
"""Before the first restart, every client must get good answers, as fast as it asks; or else why not."""

from __future__ import annotations

import enum
from collections.abc import Sequence

from ..load import Client, Live, Outcome, Plan, Report, speaks_tls

PATIENCE = 10.0  # seconds until answers must be good, besides those that clients take by themselves
GOOD = 0.99  # the share of good answers
KEEPS_UP = 0.9  # of what is begun, the share that must end
HALF = 0.5  # of the rate that was asked for: what a loader must reach
_SURE = 50  # answers or losses, of which none is good: no need to wait for more


class Verdict(enum.Enum):
    """What a window of the load shows."""

    GOOD = enum.auto()
    BAD = enum.auto()
    """It may become better: programs warm up."""
    HOPELESS = enum.auto()


def judge(plans: Sequence[Plan], before: Sequence[Live], now: Sequence[Live], seconds: float) -> Verdict:
    """Whether the answers of a window were good, for each client."""
    verdict = Verdict.GOOD
    for plan, old, new in zip(plans, before, now, strict=True):
        good, bad = new.good - old.good, new.other - old.other + new.lost - old.lost
        started, ended = new.started - old.started, new.ended - old.ended
        if not new.good and new.other + new.lost > _SURE:
            return Verdict.HOPELESS
        behind = started - ended
        slack = max(5.0, (1 - KEEPS_UP) * started) + (plan.rate or 0.0) * longest(plan)
        if not good or good < GOOD * (good + bad) or behind > slack:
            verdict = Verdict.BAD
        if _is_starved(plan, started, seconds):
            verdict = Verdict.BAD
    return verdict


def _is_starved(plan: Plan, started: int, seconds: float) -> bool:
    """Whether less than half is begun. (How much KEEPALIVE asks depends on the server.)"""
    wanted = 0.0 if plan.client is Client.KEEPALIVE else (plan.rate or 0.0) * seconds
    return started < HALF * wanted - 5


def longest(plan: Plan) -> float:
    """How many seconds a connection of this client takes by itself."""
    return plan.wait if plan.client in (Client.LATE, Client.SLOW) else 0.0


def reason(
    plans: Sequence[Plan], before: Sequence[Live], now: Sequence[Live], seconds: float, report: Report
) -> str:
    """Why there is no baseline, as a sentence."""
    tally = report.tally
    outcomes = {kind: count for kind, count in tally.outcomes.items() if count and kind is not Outcome.SERVED}
    target = plans[0].targets[0]
    if not target.tls and (outcomes.get(Outcome.TLS) or (not tally.good and speaks_tls(target))):
        return "no good answer before the first restart: this port speaks TLS: --tls"
    if outcomes.get(Outcome.NO_TLS) and not tally.good:
        return "no good answer before the first restart: this port does not speak TLS"
    came = [f"{count:,} x status {status}" for status, count in sorted(tally.statuses.items())]
    came += [f"{count:,} {kind.value}" for kind, count in outcomes.items()]
    heard = ", ".join(came) or "nothing"
    wanted = "status 200 to 399" if plans[0].expect is None else f"status {plans[0].expect}"
    for plan, done in zip(plans, report.plans, strict=True):
        if plan.client is Client.KEEPALIVE and done.tally.good and not done.tally.reused:
            return "CMD ends each connection after one answer: nothing is kept alive; leave --keepalive out"
    for plan, old, new, done in zip(plans, before, now, report.plans, strict=True):
        if _is_starved(plan, new.started - old.started, seconds) and done.skipped >= done.held:
            rate = (new.started - old.started) / seconds
            return f"the load comes to {rate:,.0f}/s of {plan.rate:,.0f}/s: the loader is starved; see --rate"
    if tally.good < GOOD * (tally.total or 1):
        sentence = f"no good baseline before the first restart ({wanted} is good): {heard}"
        return f"{sentence}; see --path and --expect" if tally.other else sentence
    good = sum(new.good - old.good for old, new in zip(before, now, strict=True)) / seconds
    asked = sum(plan.rate or 0.0 for plan in plans)
    return f"CMD falls behind without any restart: it answers {good:,.0f}/s of {asked:,.0f}/s; see --rate"
