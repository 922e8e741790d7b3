# SPDX-License-Identifier: MIT
"""The words of an audit and its exit code: from loads as they may be reported, without a server."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from mptcp_sockopt.cli import CANNOT, FAIL, PASS
from reuseport.audit import report
from reuseport.audit.baseline import Verdict, judge, reason
from reuseport.audit.evidence import Restart
from reuseport.audit.listening import Place
from reuseport.audit.options import Options
from reuseport.audit.trial import Found
from reuseport.load import Client, Live, Loss, Outcome, Plan, PlanReport, Report, Tally, Target

from .test_audit import parsed

S = 1_000_000_000
TARGETS = (Target(("127.0.0.1", 80), socket.AF_INET), Target(("::1", 80), socket.AF_INET6))
PLAN = Plan(Client.PLAIN, TARGETS, 1000.0)
KEEPALIVE = Plan(Client.KEEPALIVE, TARGETS, 500.0)


def at(seconds: float) -> int:
    return round(seconds * S)


def loss(begun: float, when: float, outcome: Outcome = Outcome.RESET, **more: Any) -> Loss:
    return Loss(Client.PLAIN, 1, at(begun), at(when), at(when), outcome, None)._replace(**more)


def plan_report(*losses: Loss, unlike: tuple[Loss, ...] = (), plan: Plan = PLAN, **more: Any) -> PlanReport:
    """Of a load of 20 s."""
    tally = Tally()
    tally.started = 20_000
    for _ in range(100):
        tally.serve(0.001)
    tally.good, tally.reused = 100, 90
    tally.statuses[200] = 100
    for one in losses:
        tally.lose(one)
    for one in unlike:
        tally.statuses[one.status or 0] += 1
    found = PlanReport(plan, tally, losses, unlike, dict.fromkeys(range(2000), 10), 1003.0, 0, 0, 0.0)
    return found._replace(**more)


def found(*losses: Loss, restarts: int = 6, **more: Any) -> Found:
    """One restart a second, from 2 s on; each takes 0.4 s."""
    load = Report((plan_report(*losses),), 0, at(20), 1.0, ())
    return Found(
        place=Place(80),
        targets=TARGETS,
        restarts=tuple(Restart(at(2 + n), at(2.4 + n)) for n in range(restarts)),
        load=load,
        died=None,
        ending="",
        stopped="",
        harmed=False,
        protection={},
        sentence="CMD could write nothing",
        written={"changes": [], "more": 0},
    )._replace(**more)


OPTIONS: Options = parsed("--", "server", "x y")


def said(audit: Found, options: Options = OPTIONS) -> tuple[str, int]:
    return report.verdict(report.judge(options, audit))


def test_nobody_was_lost() -> None:
    """The bound is of restarts."""
    figures = "0 of 100 connections; 1,003/s of 1,000 asked; all 200"
    assert said(found()) == (f"0 of 6 restarts lost anybody (at most 39 % do, 95 %); {figures}", PASS)
    sentence, _ = said(found(restarts=60, load=Report((plan_report(),), 0, at(90), 1.0, ())))
    assert sentence.startswith("0 of 18 restarts lost anybody")  # nothing was begun at the others


def test_somebody_was_lost() -> None:
    """How many restarts do, and how many are lost where they do; at which address."""
    audit = found(loss(1.99, 2.01), loss(4.1, 4.2), loss(4.1, 4.2, Outcome.EOF), loss(4.1, 4.3))
    sentence, code = said(audit)
    assert code == FAIL
    assert sentence == (
        "2 of 6 restarts lost somebody (4.3-78 %, 95 %); where they did: median 2, most 3; "
        "4 of 104 connections; 1,003/s of 1,000 asked; all 200"
    )
    lines = report.lines(report.judge(OPTIONS, audit))
    assert "restart 3 lost 2 reset, 1 eof" in lines
    assert "lost at [::1]:80" in lines
    assert "asked: 127.0.0.1:80, [::1]:80" in lines
    assert not any("handshakes" in line for line in lines)


def test_an_answer_with_another_status_is_a_loss() -> None:
    """5xx at a restart is part of the verdict; so is an answer unlike those of the baseline."""
    other = loss(2.1, 2.2, Outcome.SERVED, status=503)
    unlike = loss(2.1, 2.2, Outcome.SERVED, status=200)
    audit = found(load=Report((plan_report(unlike=(other, other, unlike)),), 0, at(20), 1.0, ()))
    sentence, code = said(audit)
    assert code == FAIL
    assert sentence.endswith("101 x 200, 2 x 503")
    assert "restart 1 lost 2 status 503, 1 unlike" in report.lines(report.judge(OPTIONS, audit))


def test_what_was_asked_again_with_success_is_no_loss() -> None:
    """A request that crossed the end of an idle connection."""
    assert said(found(loss(2.1, 2.2, Outcome.CROSSED, lost=False)))[1] == PASS


def unfinished(*, begun: bool) -> Found:
    """After five good restarts, one that is never complete, and under which the load is lost."""
    good = tuple(Restart(at(2 + n), at(2.4 + n)) for n in range(5))
    stopped = "" if begun else "SIGHUP replaced nobody"
    last = Restart(at(7), begun=begun)
    return found(loss(7.1, 7.2), loss(9, 9.1), restarts=0)._replace(restarts=(*good, last), stopped=stopped)


@pytest.mark.parametrize(
    ("audit", "code", "words"),
    [
        (found(restarts=4), CANNOT, "only 4 of 4 restarts can be judged, and it takes 5: see --seconds"),
        (found(restarts=4, stopped="why"), CANNOT, "and it takes 5: why"),
        (found(loss(2.1, 2.2), restarts=4), FAIL, "1 of 4 restarts lost somebody"),
        (
            found(*(loss(n, n + 0.01) for n in range(1, 20))),
            CANNOT,
            "loses connections without a restart, too",
        ),
        (found(loss(1, 1.1), loss(1.1, 1.2)), CANNOT, "CMD lost 2 because it fell behind, or while nothing"),
        (unfinished(begun=True), FAIL, "1 of 6 restarts lost somebody"),
        (unfinished(begun=False), CANNOT, "replaced nobody, and 2 were lost meanwhile; 0 of 5 restarts"),
        (found(stopped="nobody listens 30 s after restart 6", harmed=True), FAIL, "nobody listens 30 s"),
        (
            found(loss(7.1, 7.2), loss(7.3, 7.3), died=at(7.25), ending="exit status 1: no\nconfig"),
            FAIL,
            r"CMD ended in restart 6 (exit status 1): 1 lost with it, and 1 found nobody afterwards; 1 of 6",
        ),
        (found(died=at(9), ending="killed by SIGSEGV"), CANNOT, "CMD ended by itself, and not in a restart"),
        (found(loss(2.1, 2.2), died=at(9), ending="killed"), FAIL, "; then CMD ended by itself (killed)"),
        (
            found(load=Report((plan_report(rate=300.0, skipped=9),), 0, at(20), 1.0, ())),
            CANNOT,
            "the loader was starved: 300/s of 1,000/s",
        ),
        (found(load=Report((plan_report(rate=300.0, held=9),), 0, at(20), 1.0, ())), PASS, "300/s of 1,000"),
        (
            found(load=Report((plan_report(plan=KEEPALIVE, rate=9.0, skipped=9),), 0, at(20), 1.0, ())),
            PASS,
            "9/s of 500",
        ),
    ],
    ids="few why lossy sick quiet unfinished deaf harmed dead crashed later starved slow keepalive".split(),
)
def test_verdicts(audit: Found, code: int, words: str) -> None:
    """What cannot be told is 3; a loss in a restart is a loss, however few restarts there were."""
    sentence, exit_code = said(audit)
    assert (exit_code, words in sentence) == (code, True), sentence


def test_json_has_what_was_found() -> None:
    """For all clients and for each; null for what did not happen."""
    audit = found(loss(2.1, 2.2), loss(1.0, 1.1))
    data = json.loads(json.dumps(report.for_json(report.judge(OPTIONS, audit))))
    assert data["cmd"] == ["server", "x y"]
    assert data["restarts"] == data["clients"]["plain"]["restarts"]
    assert data["restarts"]["losses"] == [1, 0, 0, 0, 0, 0]
    assert data["rate"] == {"asked": 1000, "achieved": 1003}
    assert (data["lost"], data["lost_without_restart"], data["connections"]) == (1, 1, 102)
    assert data["clients"]["plain"]["kinds"] == {"reset": 1}
    assert data["restart_seconds"] == [0.4] * 6
    assert (data["ended"], data["stopped"], data["ports"]) == (None, None, [80])


def test_lines_fit_the_screen() -> None:
    """80 columns, but for the verdict."""
    words = " ".join(["word"] * 100)
    audit = found(stopped=words, died=at(7.2), ending=f"exit status 1: {words}\n{words}")
    assert max(map(len, report.lines(report.judge(OPTIONS, audit)))) <= 80


# ------------------------------------------------------------------------------------------ baseline


def live(**figures: int) -> Live:
    return Live(**{**dict.fromkeys(Live._fields, 0), **figures})


NONE = live()


@pytest.mark.parametrize(
    ("now", "verdict"),
    [
        (live(started=1000, ended=990, good=990), Verdict.GOOD),
        (live(started=1000, ended=990, good=985, lost=5), Verdict.GOOD),
        (live(started=1000, ended=990, good=970, lost=20), Verdict.BAD),
        (live(started=1000, ended=990, good=900, other=90), Verdict.BAD),
        (live(started=1000, ended=600, good=600), Verdict.BAD),  # falls behind
        (live(started=300, ended=300, good=300), Verdict.BAD),  # the loader does
        (live(started=1000), Verdict.BAD),
        (live(started=1000, ended=990, other=990), Verdict.HOPELESS),
        (live(started=1000, ended=990, lost=990), Verdict.HOPELESS),
    ],
    ids="good nearly lossy statuses behind starved silent 404 refusing".split(),
)
def test_a_window_of_the_baseline(now: Live, verdict: Verdict) -> None:
    """Good answers, nearly all of them, as fast as they are asked for."""
    assert judge([PLAN], [NONE], [now], 1.0) is verdict


def test_every_client_needs_a_baseline() -> None:
    """One that keeps connections alive may ask less often, as the server lets it."""
    good = live(started=1000, ended=990, good=990)
    assert judge([PLAN, KEEPALIVE], [NONE] * 2, [good, NONE], 1.0) is Verdict.BAD
    few = live(started=20, ended=20, good=20)
    assert judge([PLAN, KEEPALIVE], [NONE] * 2, [good, few], 1.0) is Verdict.GOOD
    late = Plan(Client.LATE, TARGETS, 100.0, wait=1.0)
    assert judge([late], [NONE], [live(started=100, ended=5, good=5)], 1.0) is Verdict.GOOD


@pytest.mark.parametrize(
    ("outcomes", "statuses", "words"),
    [
        ({Outcome.TLS: 9}, {}, "this port speaks TLS: --tls"),
        ({Outcome.STALLED: 9}, {}, "(status 200 to 399 is good): 9 stalled"),
        ({}, {404: 9}, "9 x status 404; see --path and --expect"),
    ],
)
def test_why_there_is_no_baseline(
    outcomes: dict[Outcome, int], statuses: dict[int, int], words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What came instead."""
    monkeypatch.setattr("reuseport.audit.baseline.speaks_tls", lambda target: False)
    losses = [loss(1, 1, outcome) for outcome, count in outcomes.items() for _ in range(count)]
    one = plan_report(*losses)
    one.tally.cases, one.tally.statuses, one.tally.good = (
        one.tally.cases,
        type(one.tally.statuses)(statuses),
        0,
    )
    one.tally.served, one.tally.other = sum(statuses.values()), sum(statuses.values())
    now = live(started=1000, ended=990, lost=9)
    found = Report((one,), 0, at(1), 1.0, ())
    assert words in reason([PLAN], [NONE], [now], 1.0, found)


def test_a_server_that_falls_behind_is_told_from_a_loader_that_does() -> None:
    """By what was held, and what was skipped."""
    now = live(started=300, ended=200, good=200)
    starved = Report((plan_report(skipped=700),), 0, at(1), 1.0, ())
    assert "the loader is starved" in reason([PLAN], [NONE], [now], 1.0, starved)
    held = Report((plan_report(held=700),), 0, at(1), 1.0, ())
    assert "CMD falls behind without any restart: it answers 200/s of 1,000/s" in reason(
        [PLAN], [NONE], [now], 1.0, held
    )
    alone = plan_report(plan=KEEPALIVE)
    alone.tally.reused = 0
    few = live(started=1, ended=1, good=1)
    words = reason([KEEPALIVE], [NONE], [few], 1.0, Report((alone,), 0, at(1), 1.0, ()))
    assert words.startswith("CMD ends each connection after one answer")
