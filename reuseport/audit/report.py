# SPDX-License-Identifier: MIT
"""What an audit found, in words and for JSON, and its verdict."""

from __future__ import annotations

import os
import platform
import shlex
import textwrap
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from mptcp_sockopt import __version__
from mptcp_sockopt.cli import CANNOT, FAIL, PASS

from .._statistics import Restarts
from ..load import Client, Outcome, PlanReport
from .baseline import HALF
from .evidence import Event, Evidence, Run, weigh
from .options import Options
from .trial import Found

LEAST = 5  # complete restarts, for a verdict
QUIET = 0.01  # a server that loses more than this share without a restart is not acquitted
WIDTH = 80


class Judged(NamedTuple):
    """An audit, weighed."""

    options: Options
    found: Found
    run: Run
    evidence: Evidence
    restarts: Restarts


def judge(options: Options, found: Found) -> Judged:
    """Weigh what was found."""
    events = [event for plan in found.load.plans for event in _events(plan)]
    run = Run(
        begun=found.load.begun,
        ended=found.load.ended,
        restarts=found.restarts,
        events=tuple(events),
        died=found.died,
        begun_at=sum((Counter(plan.begun_at) for plan in found.load.plans), Counter[int]()),
        rate=sum(plan.plan.rate or 0.0 for plan in found.load.plans),
        pauses=found.load.pauses,
        respawned=options.respawn,
    )
    evidence = weigh(run)
    return Judged(options, found, run, evidence, _restarts(found, evidence))


def _restarts(found: Found, evidence: Evidence, client: str | None = None) -> Restarts:
    return Restarts(
        len(found.restarts),
        tuple(
            sum(client in (None, event.client) for event in evidence.losses[number])
            for number in evidence.judged
        ),
    )


def _events(plan: PlanReport) -> Iterator[Event]:
    client = plan.plan.client.value
    for loss in plan.losses:
        if loss.lost:
            target = str(plan.plan.targets[loss.target])
            yield Event(loss.begun, loss.at, loss.outcome.value, client, target)
    for loss in plan.unlike:
        target = str(plan.plan.targets[loss.target])
        kind = f"status {loss.status}" if not plan.plan.is_good(loss.status or 0) else "unlike"
        yield Event(loss.begun, loss.at, kind, client, target)


# --------------------------------------------------------------------------------------------- verdict


def verdict(judged: Judged) -> tuple[str, int]:
    """The sentence of the verdict line, and the exit code."""
    found, evidence, restarts = judged.found, judged.evidence, judged.restarts
    figures = f"{restarts.sentence()}; {_connections(judged)}"
    if found.died is not None:
        return _of_a_death(judged, figures)
    if found.harmed:
        return f"{found.stopped}; {figures}", FAIL
    if restarts.losing and not evidence.blamed:
        return (
            f"CMD loses connections without a restart, too: {len(evidence.quiet):,} while nothing was "
            f"restarted; {figures}",
            CANNOT,
        )
    if restarts.losing:
        return figures, FAIL
    if unproven := sum(map(len, evidence.losses)):
        return f"{found.stopped}, and {unproven:,} were lost meanwhile; {figures}", CANNOT
    if starved := _starved(judged):
        return f"{starved}; {figures}", CANNOT
    idle = len(evidence.quiet) + len(evidence.waited)
    if idle > QUIET * max(1, found.load.tally.total):
        return f"CMD lost {idle:,} because it fell behind, or while nothing was restarted; {figures}", CANNOT
    if restarts.judged < LEAST:
        why = found.stopped or ("CMD fell behind; see --rate" if evidence.waited else "see --seconds")
        few = f"only {restarts.judged} of {restarts.asked} restarts can be judged, and it takes {LEAST}"
        return f"{few}: {why}", CANNOT
    return figures, PASS


def _of_a_death(judged: Judged, figures: str) -> tuple[str, int]:
    found, evidence = judged.found, judged.evidence
    assert found.died is not None
    how = found.ending.partition(":")[0]
    number = len(found.restarts)
    after = f", and {evidence.after_death:,} found nobody afterwards" if evidence.after_death else ""
    if number and found.died <= found.restarts[-1].end:
        lost = len(evidence.losses[-1])
        return f"CMD ended in restart {number} ({how}): {lost:,} lost with it{after}; {figures}", FAIL
    if judged.restarts.losing and evidence.blamed:
        return f"{figures}; then CMD ended by itself ({how})", FAIL
    return f"CMD ended by itself, and not in a restart ({how}){after}; {figures}", CANNOT


def _connections(judged: Judged) -> str:
    found, evidence = judged.found, judged.evidence
    lost = sum(map(len, evidence.losses))
    total = found.load.tally.total - evidence.after_death - evidence.unheard
    asked = sum(plan.plan.rate or 0.0 for plan in found.load.plans)
    reached = sum(plan.rate for plan in found.load.plans)
    return f"{lost:,} of {total:,} connections; {reached:,.0f}/s of {asked:,.0f} asked; {_statuses(judged)}"


def _statuses(judged: Judged) -> str:
    """``all 200``, or each status with its count."""
    statuses = judged.found.load.tally.statuses
    if len(statuses) <= 1:
        return f"all {next(iter(statuses))}" if statuses else "all answered"
    return ", ".join(f"{count:,} x {status}" for status, count in statuses.most_common())


def _starved(judged: Judged) -> str:
    """Whether the loader, and not the server, was too slow."""
    for plan in judged.found.load.plans:
        if plan.plan.client is Client.KEEPALIVE:  # it depends on the server how much is asked there
            continue
        if plan.plan.rate and plan.rate < HALF * plan.plan.rate and plan.skipped >= plan.held:
            return f"the loader was starved: {plan.rate:,.0f}/s of {plan.plan.rate:,.0f}/s"
    return ""


# ----------------------------------------------------------------------------------------------- text


def lines(judged: Judged) -> list[str]:
    """The report, above the verdict line."""
    return [line for text in _texts(judged) for line in _wrapped(text)]


def _wrapped(text: str) -> list[str]:
    return [
        line
        for part in text.splitlines()
        for line in textwrap.wrap(part, WIDTH, subsequent_indent="    ", break_on_hyphens=False) or [""]
    ]


def _texts(judged: Judged) -> Iterator[str]:
    options, found, evidence = judged.options, judged.found, judged.evidence
    yield f"asked: {', '.join(_targets(found))}"
    complete = [restart.complete - restart.signal for restart in found.restarts if restart.complete]
    if complete:
        middle = sorted(complete)[len(complete) // 2] / 1e9
        yield (
            f"restarts: {len(found.restarts)} by {options.way}, {middle:.2f} s each (median), "
            f"{max(complete) / 1e9:.2f} s the longest"
        )
    for plan in found.load.plans:
        yield f"{plan.plan.client.value}: {_plan_words(plan, evidence)}"
    for number, events in enumerate(evidence.losses, 1):
        if events and judged.restarts.losing <= 10:
            yield f"restart {number} lost {_counted(event.kind for event in events)}"
    targets = {event.target for events in evidence.losses for event in events}
    if targets and len(found.targets) > 1:
        yield f"lost at {', '.join(sorted(targets))}"
    if evidence.quiet:
        yield f"lost while nothing was restarted: {_counted(event.kind for event in evidence.quiet)}"
    if evidence.waited:
        yield (
            f"not held against restarts: {len(evidence.waited):,} stalled, while CMD had fallen behind "
            "before the signal, or the machine was busy"
        )
    if evidence.nobody:
        yield (
            f"nobody listened for {max(evidence.nobody):.2f} s at most in a restart; "
            f"{evidence.unheard:,} clients found that, and are not counted as lost"
        )
    if evidence.blind:
        yield f"restarts that the load did not see, because it got no CPU: {evidence.blind}"
    if found.stopped:
        yield found.stopped
    if found.died is not None:
        yield f"CMD's end: {found.ending}"
    yield f"{found.sentence}{_written(found)}"
    if options.rtt:
        flying = found.load.plans[0].rate * options.rtt / 1000
        yield f"handshakes in flight at a signal: {flying:.0f} (rate x round trip)"
    elif not judged.restarts.losing:
        yield "handshakes in flight were not tested: there are none without --rtt"


def _targets(found: Found) -> list[str]:
    """As the command sees them."""
    return [f"unix:{found.place.path}"] if found.place.path else [str(target) for target in found.targets]


def _plan_words(plan: PlanReport, evidence: Evidence) -> str:
    tally = plan.tally
    events = [e for events in evidence.losses for e in events if e.client == plan.plan.client.value]
    words = [f"{len(events):,} of {tally.total:,} lost in restarts"]
    if events:
        words.append(_counted(event.kind for event in events))
    if plan.plan.client not in (Client.LATE, Client.SLOW):  # they take their time
        words.append(f"{tally.slow:,} took over {tally.slow_after:g} s, the slowest {tally.slowest:.2f} s")
    if plan.plan.client is Client.KEEPALIVE and not tally.reused:
        words.append("CMD ended each connection after one answer, so nothing was kept alive")
    if plan.plan.rate and plan.rate < 0.9 * plan.plan.rate:
        words.append(f"{plan.rate:,.0f}/s of {plan.plan.rate:,.0f}/s")
    if tally.idle_ended:
        words.append(f"{tally.idle_ended:,} ended in order while idle")
    if tally.retried:
        words.append(f"{tally.retried:,} cut before an answer, and served when asked again")
    if plan.held:
        words.append(f"{plan.held:,} not begun, as CMD had too many open")
    return "; ".join(words)


def _counted(kinds: Iterable[str]) -> str:
    return ", ".join(f"{count:,} {kind}" for kind, count in Counter(kinds).most_common())


def _written(found: Found) -> str:
    changes = found.written["changes"]
    count = len(changes) + found.written["more"]
    if not count:
        return ""
    paths = ", ".join(change["path"] for change in changes[:5])
    files = "1 file" if count == 1 else f"{count:,} files"
    return f". It wrote {files}: {paths}{', ...' if count > 5 else ''}"


# ----------------------------------------------------------------------------------------------- JSON


def for_json(judged: Judged) -> dict[str, Any]:
    """Stable keys; null for what does not apply."""
    options, found, evidence = judged.options, judged.found, judged.evidence
    signalled = [restart for restart in found.restarts if restart.complete]
    return {
        "cmd": options.words,
        "shell_command": shlex.join(options.words),
        "restart": str(options.way),
        "ports": sorted(
            {target.address[1] for target in found.targets if not isinstance(target.address, str)}
        ),
        "targets": _targets(found),
        "versions": {"mptcp_sockopt": __version__, "python": platform.python_version()},
        "kernel": os.uname().release,
        "rate": {
            "asked": sum(plan.plan.rate or 0.0 for plan in found.load.plans),
            "achieved": round(sum(plan.rate for plan in found.load.plans), 1),
        },
        "seconds": round((found.load.ended - found.load.begun) / 1e9, 3),
        "restarts": judged.restarts.asdict(),
        "restart_seconds": [round((one.complete or 0) / 1e9 - one.signal / 1e9, 3) for one in signalled],
        "connections": found.load.tally.total,
        "lost": sum(map(len, evidence.losses)),
        "lost_without_restart": len(evidence.quiet),
        "waited": len(evidence.waited),
        "statuses": {str(status): count for status, count in sorted(found.load.tally.statuses.items())},
        "clients": {plan.plan.client.value: _client(judged, plan) for plan in found.load.plans},
        "nobody_listened_seconds": [round(seconds, 3) for seconds in evidence.nobody],
        "ended": None
        if found.died is None
        else {"how": found.ending, "refused_afterwards": evidence.after_death},
        "stopped": found.stopped or None,
        "rtt_ms": options.rtt,
        "protection": found.protection,
        "written": found.written,
    }


def _client(judged: Judged, plan: PlanReport) -> dict[str, Any]:
    name = plan.plan.client.value
    events = [event for events in judged.evidence.losses for event in events if event.client == name]
    tally = plan.tally
    return {
        "conns": tally.total,
        "lost": len(events),
        "kinds": dict(Counter(event.kind for event in events)),
        "restarts": _restarts(judged.found, judged.evidence, name).asdict(),
        "rate": {"asked": plan.plan.rate, "achieved": round(plan.rate, 1)},
        "outcomes": {kind.value: tally.outcomes[kind] for kind in Outcome if tally.outcomes[kind]},
        "slow": tally.slow,
        "slowest_seconds": round(tally.slowest, 3),
        "idle_ended": tally.idle_ended,
        "retried": tally.retried,
        "skipped": plan.skipped,
        "held": plan.held,
    }
