# SPDX-License-Identifier: MIT
"""What waits for sockets and times, and for nothing else."""

from __future__ import annotations

import heapq
import itertools
import select
import time
from collections.abc import Callable
from typing import Protocol

from .http import NotHTTPError
from .streams import NoTLSError, Stream

SECOND = 1_000_000_000
TURN = 10_000_000  # ns: it turns round at least so often

now_ns = time.monotonic_ns


class Member(Protocol):
    """A client on a connection, as the loop sees it."""

    stream: Stream
    alarm: int
    progress: int

    def ready(self, events: int, now: int) -> None: ...
    def wake(self, now: int) -> None: ...
    def stall(self, now: int) -> None: ...
    def fail(self, error: Exception, now: int) -> None: ...
    def close(self) -> None: ...


class Loop:
    """Calls its members when they are ready, when their time has come, and when they are stuck."""

    def __init__(self, patience: int) -> None:
        #: ns without progress.
        self.patience = patience
        #: Who has a socket, by its descriptor.
        self.open: dict[int, Member] = {}
        #: Spans in which there was something to begin, and this process got no CPU.
        self.pauses: list[tuple[int, int]] = []
        self._poll = select.epoll()
        self._alarms: list[tuple[int, int, Member]] = []
        self._numbers = itertools.count()

    def watch(self, member: Member, events: int) -> None:
        stream = member.stream
        if not stream.watched:
            self._poll.register(stream.number, events)
        elif stream.watched != events:
            self._poll.modify(stream.number, events)
        stream.watched = events

    def unwatch(self, member: Member) -> None:
        self._poll.unregister(member.stream.number)
        member.stream.watched = 0

    def wake_at(self, when: int, member: Member) -> None:
        """Instead of the time before, if there is one."""
        member.alarm = when
        heapq.heappush(self._alarms, (when, next(self._numbers), member))

    def guarded(self, call: Callable[[int], None], member: Member, now: int) -> None:
        """What a call raises is the outcome of its member."""
        try:
            call(now)
        except (OSError, NotHTTPError, NoTLSError) as error:
            member.fail(error, now_ns())

    def pause(self, due: int, now: int) -> None:
        """Note that something was begun too late."""
        if self.pauses and due <= self.pauses[-1][1]:
            due = min(due, self.pauses.pop()[0])
        self.pauses.append((due, now))

    def turn(self, until: int) -> None:
        """Once round: whose time has come, and then who is ready, or will be until that moment."""
        alarms, now = self._alarms, now_ns()
        while alarms and alarms[0][0] <= now:
            when, _, member = heapq.heappop(alarms)
            if member.alarm == when:
                self.guarded(member.wake, member, now_ns())
        if alarms:
            until = min(until, alarms[0][0])
        for number, events in self._poll.poll(max(0, until - now_ns()) / SECOND):
            member, now = self.open[number], now_ns()
            try:  # as guarded(), without a call: this is every answer
                member.ready(events, now)
            except (OSError, NotHTTPError, NoTLSError) as error:
                member.fail(error, now)

    def sweep(self) -> None:
        """End what has made no progress for too long."""
        now = now_ns()
        oldest = now - self.patience
        for member in [member for member in self.open.values() if member.progress < oldest]:
            member.stall(now)

    def close(self) -> None:
        for member in list(self.open.values()):
            member.close()
        self._poll.close()
