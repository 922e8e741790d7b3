# SPDX-License-Identifier: MIT
"""A client that keeps its connection, and what it makes of the end of one."""

from __future__ import annotations

import random

import mptcp_sockopt

from .exchanges import Plain
from .outcomes import CUT, OUTCOMES, Loss, Outcome, Where
from .run import Run

NEVER = 1 << 62  # ns: an idle connection may be silent as long as it likes


class KeepAlive(Plain):
    """Asks many times on one connection, and is silent between.

    A connection that ended in order while it was idle is no loss, as long as the client sees that before it
    asks. If it could not see it, the kernel tells whether the request arrived.
    """

    __slots__ = ("_busy", "_cut", "_served", "idle")

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        #: Whether there is a connection, and nothing asked on it.
        self.idle = False
        self._busy = False
        #: How many requests this connection has served.
        self._served = 0
        #: What happened to this request on the connection before.
        self._cut: Loss | None = None

    def wake(self, now: int) -> None:
        if self._busy:
            super().wake(now)
            return
        if self.idle:
            self._look(now)  # the end may have come meanwhile
        if self.run.may_begin:
            self.run.late(self.alarm, now)
            self.run.begin(now)
            self._ask(now)

    def _ask(self, now: int) -> None:
        """The next request, on the connection that there is or a new one."""
        self._busy = True
        if self.idle:
            self.idle = False
            self.run.tally.reused += 1
            self.begun = now
            self.speak(now)
            self.watch()
        else:
            self._served = 0
            self.begin(now)

    def speak(self, now: int) -> None:
        self.answer = self.run.new_answer()
        self.progress = now
        super().speak(now)

    def read(self, now: int) -> None:
        if self.idle:
            self._look(now)
        else:
            super().read(now)

    def _look(self, now: int) -> None:
        """Whether an idle connection has ended. Data that nobody asked for announces the end, as 408 does."""
        try:
            over = self.stream.receive() is not None
        except OSError:
            over = True
        if over:
            self.run.tally.idle_ended += 1
            self.idle = False
            self.close()

    def ended(self, now: int) -> None:
        if self._is_cut():
            # The end acknowledges all that came before it.
            acked = self.stream.acknowledged()
            dropped = acked is None or acked >= self.stream.written
            self.lose(Outcome.DROPPED if dropped else Outcome.CROSSED, now)
        else:
            super().ended(now)

    def fail(self, error: Exception, now: int) -> None:
        if self._is_cut() and isinstance(error, OSError) and OUTCOMES.get(error.errno or 0) is Outcome.RESET:
            # If it could not even be sent, the reset was there before.
            self.lose(Outcome.CROSSED if self.stream.outgoing else Outcome.UNREAD, now)
        else:
            super().fail(error, now)

    def _is_cut(self) -> bool:
        """Whether the connection has served before, and not a byte of this answer has come."""
        return bool(self._served) and not self.answer.begun

    def lose(self, outcome: Outcome, now: int) -> None:
        loss = self.loss(outcome, now)
        self.close()
        if outcome in CUT:
            loss = loss._replace(where=None if outcome is Outcome.CROSSED else Where.QUEUE)
        if outcome in CUT and self.run.plan.request.idempotent:
            # Ask again at once on a new connection, as clients do.
            self._cut = loss
            self._served = 0
            self.run.loop.guarded(self.begin, self, now)
            return
        if self._cut:
            loss = self._cut._replace(retried=False)
        self.run.lose(loss)
        self._rest(now)

    def finish(self, now: int) -> None:
        if self.target.mptcp and not mptcp_sockopt.is_mptcp(self.stream.sock):
            self.lose(Outcome.FELL_BACK, now)
            return
        self._served += 1
        answer = self.answer
        if self._cut:
            good = self.run.plan.is_good(answer.status or 0)
            self.run.lose(self._cut._replace(retried=good, lost=not good))
        else:
            self.run.serve(self.begun, self.place, answer.status, now)
        if answer.keep and not answer.excess and self._served < self.run.plan.most:
            self.idle = True
            self.progress = NEVER
        else:
            self.close()
        self._rest(now)

    def _rest(self, now: int) -> None:
        """Until the next request."""
        self._busy = False
        self._cut = None
        if wait := self.run.wait:  # what it would have asked meanwhile
            self.run.held += (now - self.begun) // wait
        self.run.loop.wake_at(now + round(self.run.wait * random.uniform(0.5, 1.5)), self)
