# SPDX-License-Identifier: MIT
"""How connections end, and the counts of it."""

from __future__ import annotations

import bisect
import enum
import errno
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from .clients import Client

PATIENCE = 5.0  # seconds without progress: stalled
SLOW = 0.5  # seconds; a SYN that has to be sent again takes one


class Outcome(enum.Enum):
    """The outcome of a connection, or of a request if the client keeps it alive. All but SERVED are losses.

    The three last are of a connection that had served before, and was cut before the first byte of this
    answer. They are no loss if asking again on a new connection is allowed, and is served.
    """

    SERVED = "served"
    REFUSED = "refused"
    RESET = "reset"
    EOF = "eof"
    """An end before the whole answer."""
    STALLED = "stalled"
    FELL_BACK = "fell back"
    """An MPTCP client that was served over TCP."""
    TLS = "speaks TLS"
    """In answer to a request in clear."""
    NO_TLS = "no TLS"
    """In answer to a request over TLS."""
    GARBAGE = "not HTTP"
    CROSSED = "crossed"
    """The request met the end that was on its way: it was never acknowledged."""
    DROPPED = "dropped"
    """The request was acknowledged, and then came the end in order."""
    UNREAD = "unread"
    """The request lay unread when the server closed: a reset."""


CUT = frozenset((Outcome.CROSSED, Outcome.DROPPED, Outcome.UNREAD))

#: The outcome by errno: the first error of any call decides. Any other errno is no loss, but an error.
OUTCOMES = {
    errno.ECONNREFUSED: Outcome.REFUSED,
    errno.ENOENT: Outcome.REFUSED,  # the path of a unix socket
    errno.ECONNRESET: Outcome.RESET,
    errno.ECONNABORTED: Outcome.RESET,
    errno.EPIPE: Outcome.RESET,
    errno.ENOTCONN: Outcome.RESET,
    errno.ETIMEDOUT: Outcome.STALLED,
}


class Where(enum.Enum):
    """How far a connection had come when it was lost, as its client can tell."""

    HANDSHAKE = "handshake"
    """It was not established, or not a byte of the request was acknowledged."""
    ASKING = "asking"
    """The client had not sent the whole request yet."""
    QUEUE = "queue"
    """The request was acknowledged, no byte of the answer has come: it waited to be accepted, or was being
    worked on. A client cannot tell which."""
    UNDER_WAY = "under way"
    """A part of the answer has come."""


class Loss(NamedTuple):
    """A connection that was lost, or a request that was cut; times are of time.monotonic_ns()."""

    client: Client
    target: int
    """Its place among the targets of the plan."""
    begun: int
    ended: int
    at: int
    """When it happened: when it ended, or its last progress if it stalled."""
    outcome: Outcome
    where: Where | None
    """None: cannot be told (MPTCP)."""
    status: int | None = None
    retried: bool | None = None
    """Of a cut one: whether it was served when asked again. None: it was not asked again."""
    lost: bool = True


def attribute(losses: Iterable[Loss], moments: Sequence[int]) -> list[list[Loss]]:
    """The losses by the last of these sorted moments before each. [0]: before the first.

    One that stalled may have been quiet before its moment, so it belongs to the nearest.
    """
    found: list[list[Loss]] = [[] for _ in range(len(moments) + 1)]
    for loss in losses:
        place = bisect.bisect_right(moments, loss.at)
        if loss.outcome is Outcome.STALLED and place < len(moments):
            ahead = moments[place] - loss.at
            if moments[place] <= loss.ended and (not place or ahead < loss.at - moments[place - 1]):
                place += 1
        found[place].append(loss)
    return found


class Tally:
    """Counts of one load. Add them up with +=. What was served is slow after so many seconds."""

    def __init__(self, slow_after: float = SLOW) -> None:
        self.slow_after = slow_after
        #: What was begun. All other counts are of what has ended.
        self.started = 0
        self.served = 0
        #: All that was not served.
        self.cases: Counter[Outcome] = Counter()
        #: By the number of the server, or the HTTP status.
        self.statuses: Counter[int] = Counter()
        #: How far the lost ones had come.
        self.where: Counter[Where] = Counter()
        #: What was served, with an expected status or another one.
        self.good = self.other = 0
        self.slow = 0
        self.slowest = 0.0
        #: How many took how long, by bucket(); see seconds_at().
        self.times: Counter[int] = Counter()
        #: Requests on a connection that had served before.
        self.reused = 0
        #: Connections that ended in order while they were idle. No loss.
        self.idle_ended = 0
        #: Requests that were cut, and served when asked again. No loss.
        self.retried = 0
        #: Under way when the load was over, and getting on. No loss.
        self.unfinished = 0

    def serve(self, seconds: float) -> None:
        """Count one that was served."""
        self.served += 1
        self.times[bucket(seconds)] += 1
        self.slow += seconds > self.slow_after
        self.slowest = max(self.slowest, seconds)

    def lose(self, loss: Loss) -> None:
        """Count one that was lost or cut."""
        self.cases[loss.outcome] += 1
        self.retried += not loss.lost
        if loss.lost and loss.where:
            self.where[loss.where] += 1

    def __iadd__(self, other: Tally) -> Tally:
        for name, value in vars(other).items():
            if name == "slowest":
                self.slowest = max(self.slowest, value)
            elif name != "slow_after":
                setattr(self, name, getattr(self, name) + value)
        return self

    @property
    def outcomes(self) -> Counter[Outcome]:
        """How many had which."""
        return self.cases + Counter({Outcome.SERVED: self.served})

    @property
    def total(self) -> int:
        return self.served + self.cases.total()

    @property
    def lost(self) -> int:
        return self.cases.total() - self.retried

    def losses(self) -> dict[str, int]:
        """All that was not served, by outcome; cut ones also if asking again was served."""
        return {kind.value: self.cases[kind] for kind in Outcome if kind is not Outcome.SERVED}

    def seconds_at(self, quantile: float) -> float:
        """What was served took at most so long, in this share of the cases; 7 % exact."""
        left = quantile * self.times.total()
        for place, count in sorted(self.times.items()):
            left -= count
            if left <= 0:
                return min(self.slowest, 2 ** ((place + 1) / 10) * 1e-6)
        return self.slowest


def bucket(seconds: float) -> int:
    """Of a histogram: ten to a doubling, from a microsecond on."""
    return int(10 * math.log2(max(seconds * 1e6, 1.0)))
