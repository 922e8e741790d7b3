# SPDX-License-Identifier: MIT
"""Mutations of the audit: what is evidence, who is told, what is said."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "reuseport/audit/evidence.py",
        "reuseport/audit_evidence",
        ("latest = event.at + SLACK if event.stalled else event.at", "latest = event.at + 50 * SLACK"),
        ("if event.begun <= restart.end:", "if event.at <= restart.end:"),
        ("if run.died is not None and event.begun >= run.died:", "if False:"),
        ("elif run.respawned and event.begun >= run.restarts[number].signal:", "elif run.respawned:"),
        ("elif event.stalled and hampered[number]:", "elif False:"),
        ("if restart.behind or restart.complete is None:", "if restart.complete is None:"),
        ("share = min(1.0, busy / max(1.0, end - run.begun))", "share = 0.001"),
        ("reach = sum(SLACK if event.stalled else", "reach = sum(0 if event.stalled else"),
        ("return begun < run.rate * FIRST / 1e9 / 4 - 1", "return False"),
    ),
    *of(
        "reuseport/audit/evidence.py",
        "reuseport/audit_report",
        ("return bool(losses) and restart.begun if", "return False if"),
        ("return bool(losses) and restart.begun if", "return bool(losses) if"),
    ),
    *of(
        "reuseport/audit/trial.py",
        "reuseport/audit",
        ("if nobody and self._load.live(0).last_good > half:", "if False:"),
        ("self.harmed = not self.restarts[-1].behind", "self.harmed = False"),
    ),
    *of(
        "reuseport/_report.py",
        "reuseport/report",
        ("print(escaped(text)", "print((text)"),
        ('.encode(encoding, "replace").decode(encoding)', ""),
        ("{name.upper()}: {_WORDS[code]}: {sentence}", "{name.upper()}: {sentence}: {_WORDS[code]}"),
    ),
    *of(
        "reuseport/audit/replaced.py",
        "reuseport/audit_replaced",
        ("chain[self.level] not in alive for chain in chains", "False for chain in chains"),
        ("                row = 0\n                continue", "                continue"),
        ("if row >= max(ENOUGH, min(200, _PER_ACCEPTOR * len(acceptors))):", "if row >= ENOUGH:"),
        ("elif probe.begun > self._signal:", "else:"),
    ),
    *of(
        "reuseport/audit/restarts.py",
        "reuseport/audit_restarts",
        ("while pid not in listening:", "while False:"),
        ("if len(children) == 1 and (is_shell or", "if len(children) == 1 and (True or"),
        ("if self._master.poll() is None:", "if False:"),
    ),
    *of(
        "reuseport/audit/listening.py",
        "reuseport/audit_restarts",
        ("if listener.family == socket.AF_INET6 and listener.v6only is False:", "if False:"),
        ("while not found or time.monotonic() < since + CALM:", "while not found:"),
    ),
    *of(
        "reuseport/audit/probes.py",
        "reuseport/audit_restarts",
        ("if last := self._holder(inode):", "if last := None:"),
    ),
    *of(
        "reuseport/audit/report.py",
        "reuseport/audit_report",
        ("if loss.lost:", "if True:"),
        ("for loss in plan.unlike:", "for loss in ():"),
        ("if restarts.losing and not evidence.blamed:", "if False:"),
        ("if restarts.judged < LEAST:", "if False:"),
        ("if unproven := sum(map(len, evidence.losses)):", "if unproven := 0:"),
        ("and plan.skipped >= plan.held:", "and True:"),
    ),
    *of(
        "reuseport/audit/baseline.py",
        "reuseport/audit_report",
        ("or behind > slack:", "or False:"),
        ("return started < HALF * wanted - 5", "return False"),
        ("if not good or good < GOOD * (good + bad)", "if not good"),
    ),
)
