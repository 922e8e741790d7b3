# SPDX-License-Identifier: MIT
"""The kinds of client, each a small state machine on a connection."""

from __future__ import annotations

import random
import select
import socket
import struct
from typing import TYPE_CHECKING

import mptcp_sockopt

from .clients import Client, Target
from .http import NotHTTPError
from .outcomes import CUT, OUTCOMES, Loss, Outcome, Where
from .servers import REPLY, REQUEST
from .streams import NoTLSError, Stream, open_stream

if TYPE_CHECKING:
    from .engine import Run

IN, OUT = select.EPOLLIN, select.EPOLLOUT
AGAIN = 1_000_000  # ns until a full unix listener is asked again
NEVER = 1 << 62  # ns: an idle connection may be silent as long as it likes
SMALL = 4096  # bytes: a receive buffer that leaves a long answer with its server
RESET_AT_CLOSE = struct.pack("@ii", 1, 0)  # SO_LINGER


class Exchange:
    """A client on one connection, from connect(2) on.

    The engine calls begin(), then ready() when its socket is, and wake() at the time that it asked for.
    """

    __slots__ = ("alarm", "begun", "place", "progress", "run", "stream")

    stream: Stream

    def __init__(self, run: Run) -> None:
        self.run = run
        #: The target's place in the plan.
        self.place = run.next_place()
        self.begun = 0
        #: When something last happened; the engine ends what makes none for too long.
        self.progress = 0
        #: When the engine shall call wake().
        self.alarm = 0

    @property
    def target(self) -> Target:
        return self.run.plan.targets[self.place]

    # ---- what the kinds differ in

    def speak(self, now: int) -> None:
        """Connected, or about to be: send what can be sent."""
        raise NotImplementedError

    def take(self, data: bytes, now: int) -> bool:
        """What came in; whether the answer is whole."""
        raise NotImplementedError

    def ended(self, now: int) -> None:
        """Nothing more will come: without the whole answer."""
        self.lose(Outcome.EOF, now)

    def finish(self, now: int) -> None:
        """The answer is whole."""
        raise NotImplementedError

    def woken(self, now: int) -> None:
        """The time has come that wake() was asked for."""

    # ---- what they have in common

    def begin(self, now: int) -> None:
        self.begun = self.progress = now
        self.stream = stream = open_stream(self.target)
        self.run.engine.open[stream.sock.fileno()] = self
        self.prepare(stream.sock)
        self._connect(now)

    def prepare(self, sock: socket.socket) -> None:
        if source := self.run.next_source():
            sock.bind(source)

    def _connect(self, now: int) -> None:
        if self.stream.connect():
            self.speak(now)
            self.watch()
        else:
            self.run.engine.wake_at(now + AGAIN, self)

    def watch(self) -> None:
        self.run.engine.watch(self, IN | OUT if self.stream.waits_to_write else IN)

    def wake(self, now: int) -> None:
        if not self.stream.connecting:
            self.woken(now)
        elif now - self.begun > self.run.engine.patience:  # the queue of a unix listener is still full
            self.lose(Outcome.STALLED, now)
        else:
            self._connect(now)

    def ready(self, events: int, now: int) -> None:
        stream = self.stream
        if events & OUT:
            self.progress = now
            stream.flush()
        if events & ~OUT:
            self.read(now)
        if stream is self.stream and stream.watched and stream.waits_to_write != bool(stream.watched & OUT):
            self.watch()

    def read(self, now: int) -> None:
        while (data := self.stream.receive()) is not None:
            self.progress = now
            if not data:
                self.ended(now)
            elif self.take(data, now):
                self.finish(now)
            elif self.stream.ended:
                continue
            break

    def fail(self, error: Exception, now: int) -> None:
        """What any call of these raised is the outcome. What is none is raised again."""
        if isinstance(error, NotHTTPError):
            self.lose(Outcome.TLS if error.tls else Outcome.GARBAGE, now)
        elif isinstance(error, NoTLSError):
            self.lose(Outcome.NO_TLS, now)
        elif isinstance(error, OSError) and error.errno in OUTCOMES:
            self.lose(OUTCOMES[error.errno], now)
        else:
            raise error

    def stall(self, now: int) -> None:
        """There was no progress for too long."""
        self.lose(Outcome.STALLED, now)

    def asking(self) -> bool:
        """Whether the client has not said all yet."""
        return self.stream.waits_to_write

    def answering(self) -> bool:
        """Whether a part of the answer is here."""
        return False

    def where(self) -> Where | None:
        """How far it has come."""
        if self.answering():
            return Where.UNDER_WAY
        acked = self.stream.acknowledged()
        if acked is None:
            return None if self.stream.written else Where.HANDSHAKE
        if acked < 0 or (self.stream.written and not acked):
            return Where.HANDSHAKE
        return Where.ASKING if self.asking() else Where.QUEUE

    def loss(self, outcome: Outcome, now: int, status: int | None = None) -> Loss:
        at = self.progress if outcome is Outcome.STALLED else now
        client = self.run.plan.client
        return Loss(client, self.place, self.begun, now, at, outcome, self.where(), status)

    def lose(self, outcome: Outcome, now: int) -> None:
        loss = self.loss(outcome, now)
        self.alarm = 0
        self.close()
        self.run.lose(loss)

    def serve(self, now: int, status: int | None) -> None:
        """The answer is whole, and so is the connection."""
        if self.target.mptcp and not mptcp_sockopt.is_mptcp(self.stream.sock):
            self.lose(Outcome.FELL_BACK, now)
        else:
            self.alarm = 0
            self.close()
            self.run.serve(self, status, now)

    def close(self) -> None:
        del self.run.engine.open[self.stream.sock.fileno()]
        self.stream.watched = 0
        self.stream.close()


class Who(Exchange):
    """Asks who serves."""

    __slots__ = ("_answer",)

    def speak(self, now: int) -> None:
        self._answer = b""
        self.stream.send(REQUEST)

    def take(self, data: bytes, now: int) -> bool:
        self._answer += data
        return len(self._answer) >= REPLY.size

    def answering(self) -> bool:
        return bool(self._answer)

    def finish(self, now: int) -> None:
        # Nothing more will come, and a reset leaves nothing behind. Closed in order, MPTCP connections stay
        # on the server: after some ten thousand the kernel finds no token for a new one, which falls back.
        self.stream.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
        self.serve(now, REPLY.unpack(self._answer)[0])


class Raw(Exchange):
    """Waits for a first byte."""

    __slots__ = ()

    def speak(self, now: int) -> None:
        if self.target.tls:
            self.stream.send(b"")

    def take(self, data: bytes, now: int) -> bool:
        return True

    def finish(self, now: int) -> None:
        self.serve(now, None)


class Plain(Exchange):
    """Asks at once, and reads the answer."""

    __slots__ = ("answer",)

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.answer = run.new_answer()

    def speak(self, now: int) -> None:
        self.stream.send(self.run.wire)

    def take(self, data: bytes, now: int) -> bool:
        return self.answer.feed(data)

    def answering(self) -> bool:
        return self.answer.begun

    def ended(self, now: int) -> None:
        if self.answer.end() and self.run.is_like(self.answer):
            self.finish(now)
        else:
            self.lose(Outcome.EOF, now)

    def finish(self, now: int) -> None:
        self.serve(now, self.answer.status)

    def loss(self, outcome: Outcome, now: int, status: int | None = None) -> Loss:
        return super().loss(outcome, now, self.answer.status)


class Late(Plain):
    """Is silent for a while, and then asks."""

    __slots__ = ("_silent",)

    def speak(self, now: int) -> None:
        self._silent = True
        self.progress = now + self.run.wait
        if self.target.tls:
            self.stream.send(b"")
        self.run.engine.wake_at(self.progress, self)

    def woken(self, now: int) -> None:
        self._silent = False
        self.progress = now
        super().speak(now)
        self.watch()

    def asking(self) -> bool:
        return self._silent or super().asking()

    def read(self, now: int) -> None:
        super().read(now)
        if self._silent:
            self.progress = max(self.progress, self.alarm)


class Slow(Plain):
    """Takes its time to ask, and then to read the answer."""

    __slots__ = ("_asking", "_reading")

    def prepare(self, sock: socket.socket) -> None:
        super().prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)

    def speak(self, now: int) -> None:
        self._asking, self._reading = True, False
        self.stream.send(self.run.wire[:-1])
        self.progress = now + self.run.wait // 2
        self.run.engine.wake_at(self.progress, self)

    def woken(self, now: int) -> None:
        self.progress = now
        if self._asking:
            self._asking = False
            self.stream.send(self.run.wire[-1:])
        self.watch()

    def asking(self) -> bool:
        return self._asking or super().asking()

    def read(self, now: int) -> None:
        if self._asking or self._reading:
            super().read(now)
        elif (data := self.stream.receive(1)) is None:
            self.progress = now
        elif not data:
            self.ended(now)
        elif self.take(data, now):
            self.finish(now)
        else:
            # The rest is left for a while: the kernel takes no more than SMALL of it.
            self._reading = True
            self.progress = now + self.run.wait // 2
            self.run.engine.unwatch(self)
            self.run.engine.wake_at(self.progress, self)


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
        self.run.ask(self, now)

    def ask(self, now: int) -> None:
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
            self.lose(Outcome.CROSSED if self.stream.waits_to_write else Outcome.UNREAD, now)
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
            self.run.engine.guarded(self.begin, self, now)
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
            self.run.serve(self, answer.status, now)
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
        self.run.engine.wake_at(now + round(self.run.wait * random.uniform(0.5, 1.5)), self)


KINDS: dict[Client, type[Exchange]] = {
    Client.WHO: Who,
    Client.PLAIN: Plain,
    Client.RAW: Raw,
    Client.LATE: Late,
    Client.SLOW: Slow,
    Client.KEEPALIVE: KeepAlive,
}
