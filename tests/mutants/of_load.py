# SPDX-License-Identifier: MIT
"""Mutations of the loader of reuseport, and of what it says about restarts."""

from . import Mutation, of

MUTATIONS: tuple[Mutation, ...] = (
    *of(
        "reuseport/_statistics.py",
        "reuseport/statistics",
        (
            "return 0.0, at_most(0, self.judged, self.confidence)",
            "return clopper_pearson(0, self.judged, self.confidence)",
        ),
        ("side = (1 + confidence) / 2", "side = confidence"),
        ("return _tail(hits, trials, p)", "return math.fsum([_tail(hits, trials, p), 0.001])"),
        ("where = [count for count in self.losses if count]", "where = list(self.losses)"),
    ),
    *of(
        "reuseport/load/http.py",
        "reuseport/load_http",
        ("if head.status < 200:", "if head.status < 100:"),
        ("self._head or head.status in (204, 304)", "head.status in (204, 304)"),
        ("0 <= alone < at else", "False else"),
        ('return True if line in (b"\\r", b"") else None', "return True"),
        ("if len(lengths) > 1 or not all(", "if not all("),
        ('and self._buffer[1:2] in (b"\\x03", b"")', ""),
    ),
    *of(
        "reuseport/load/exchanges.py",
        "reuseport/load reuseport/load_clients reuseport/load_streams",
        ("elif self.stream.ended:", "elif False:"),
        ("if self.answer.end() and self.run.is_like(self.answer):", "if self.answer.end():"),
        ("at = self.progress if outcome is Outcome.STALLED else now", "at = now"),
        ("return Where.ASKING if self.asking() else Where.QUEUE", "return Where.QUEUE"),
        ("if acked < 0 or (not acked and", "if acked < 1 or (not acked and"),
        ("self.lose(Outcome.FELL_BACK, now)", "self.run.serve(self.begun, self.place, status, now)"),
    ),
    *of(
        "reuseport/load/keepalive.py",
        "reuseport/load_clients",
        ("self._look(now)  # the end may have come meanwhile", "pass"),
        ("Outcome.DROPPED if dropped else Outcome.CROSSED", "Outcome.DROPPED"),
        ("Outcome.CROSSED if self.stream.outgoing else Outcome.UNREAD", "Outcome.CROSSED"),
        ("and self.run.plan.request.idempotent:", ":"),
        ("return bool(self._served) and not self.answer.begun", "return bool(self._served)"),
        ("loss = self._cut._replace(retried=False)", "pass"),
        ("retried=good, lost=not good", "retried=True, lost=False"),
        ("if answer.keep and not", "if not"),
    ),
    *of(
        "reuseport/load/run.py",
        "reuseport/load reuseport/load_clients reuseport/load_streams",
        ("return answer.length >= shortest", "return True"),
        ("self._like = False  # until it is counted, which is next", "pass"),
        ("self.loop.pause(due, now)", "pass"),
    ),
    *of(
        "reuseport/load/engine.py",
        "reuseport/load",
        ("if late > LATEST:", "if False:"),
        ("if run.under_way < run.plan.at_once:", "if True:"),
        ("self._due += self._interval", "self._due += 0"),
    ),
    *of(
        "reuseport/load/outcomes.py",
        "reuseport/load",
        ("place = bisect.bisect_right(moments, loss.at)", "place = bisect.bisect_left(moments, loss.at)"),
        ("if moments[place] <= loss.ended and", "if"),
        ("return self.cases.total() - self.retried", "return self.cases.total()"),
    ),
    *of(
        "reuseport/load/tls.py",
        "reuseport/load_streams",
        ("if not self.ended:  # an end in the middle", "if True:  # an end in the middle"),
    ),
    *of(
        "reuseport/roll.py",
        "reuseport/roll",
        ("tuple(map(len, losses[1:]))", "tuple(map(len, losses))"),
        ("due = (len(moments) + 0.5) *", "due = len(moments) *"),
    ),
)
